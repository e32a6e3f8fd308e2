//! The events API, `/?event=…`: one call may name many events, and each has a value on each node.
//!
//! [`parameters`] reads what a call was given, [`table`] knows the events, [`plan`] makes of each what is asked of the
//! nodes, [`windows`] asks it in few rounds, [`meaning`] reads the answers, [`value`] and [`reply`] write what came of it. [`php`] has the conversions
//! that the events' clients count on.

mod meaning;
mod parameters;
mod php;
mod plan;
mod reply;
mod table;
#[cfg(test)]
mod tests;
mod value;
mod windows;

use super::answer::Answer;
use crate::cluster::Life;
use crate::service::Service;
use indexmap::IndexMap;
use parameters::Fault;
pub(super) use parameters::{Body, Parameters};
use plan::Plan;
use value::Value;

/// The most events in one call.
const MOST_EVENTS: usize = 1000;

/// What the originals call the class that has the events; clients may look for it in what they are told.
const CLASS: &str = r"ReactphpX\ConnectionGroup\ConnectionGroup";

/// Who answers a call.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scope {
    /// Every live node.
    Cluster,
    /// This node alone, in a form of its own.
    Node,
}

/// Refuses a whole call.
pub(super) fn refuse(why: &str) -> Answer {
    reply::refusal(why)
}

/// Answers a call that is allowed.
pub(super) async fn call(service: &Service, parameters: &Parameters<'_>, scope: Scope) -> Answer {
    let events = match &parameters.body {
        Body::Other => None,
        Body::Unreadable(why) => return refuse(why),
        Body::Nothing | Body::Object(_) => parameters.events(),
    };
    match events {
        Some(events) if events.len() <= MOST_EVENTS => match scope {
            Scope::Cluster => in_cluster(service, parameters, &events).await,
            Scope::Node => on_node(service, parameters, &events).await,
        },
        Some(_) | None => refuse("event error"),
    }
}

/// The events of a call: each spelling once, in the order of its first time.
type Planned<'a> = IndexMap<&'a str, Result<Plan, Fault>>;

fn plan_all<'a>(service: &Service, parameters: &Parameters<'_>, events: &'a [String], lives: &[Life]) -> Planned<'a> {
    let mut planned = Planned::new();
    for event in events {
        planned.entry(event).or_insert_with(|| {
            let given = parameters.of_event(event)?;
            plan::plan(event, given, lives, service.limits().max_groups)
        });
    }
    planned
}

/// Carries out those that can be; the values of each spelling.
async fn carry_out(
    service: &Service,
    lives: &[Life],
    events: &[String],
    planned: Planned<'_>,
    fault: impl Fn(&str, &Fault) -> String,
) -> Vec<reply::Valued> {
    let (mut plans, mut places) = (Vec::new(), IndexMap::new());
    for (event, plan) in planned {
        let place = match plan {
            Ok(plan) => {
                plans.push(plan);
                Ok(plans.len() - 1)
            }
            Err(why) => Err(fault(event, &why)),
        };
        places.insert(event, place);
    }
    let steps = events.iter().filter_map(|event| places.get(event.as_str())?.as_ref().ok().copied());
    let steps: Vec<usize> = steps.collect();
    let mut values = windows::run(service, lives, &plans, &steps).await;
    let valued = |(event, place): (&str, Result<usize, String>)| {
        let values = match place {
            Ok(place) => std::mem::take(&mut values[place]),
            Err(why) => vec![Value::Fault(why.into()); lives.len()],
        };
        (event.to_owned(), values)
    };
    places.into_iter().map(valued).collect()
}

/// Every live node answers; what is wrong with an event is said in its place.
async fn in_cluster(service: &Service, parameters: &Parameters<'_>, events: &[String]) -> Answer {
    let lives = match service.lives().await {
        Ok(lives) => lives,
        Err(error) => {
            let pushes = events.iter().any(|event| table::find(event).is_some_and(|(event, _)| event.is_push()));
            return refuse(&if pushes { windows::not_accepted(&error) } else { windows::not_available(&error) });
        }
    };
    let planned = plan_all(service, parameters, events, &lives);
    let fault = |event: &str, why: &Fault| match why {
        Fault::UnknownEvent => format!("Method '{event}' not found in service 'websocket'"),
        Fault::Missing(name) => format!("{CLASS} {}", missing(event, name)),
        Fault::Wrong(why) => format!("{event}: {why}"),
    };
    reply::of_lives(&lives, carry_out(service, &lives, events, planned, fault).await)
}

/// This node alone answers. Nothing is done where any event misses a parameter, or has one that is wrong.
async fn on_node(service: &Service, parameters: &Parameters<'_>, events: &[String]) -> Answer {
    let life = service.own_life();
    let mut planned = plan_all(service, parameters, events, &[life]);
    let mut extra = Vec::new();
    // One after the other: what is wrong with the first one is what is told.
    for event in events {
        match planned.get(event.as_str()) {
            Some(Err(Fault::Missing(name))) => return refuse(&missing(event, name)),
            Some(Err(Fault::Wrong(why))) => return refuse(&format!("{event}: {why}")),
            Some(Err(Fault::UnknownEvent)) => extra.push(format!("方法 {event} 不存在 或 缺少参数")),
            Some(Ok(_)) | None => {}
        }
    }
    planned.retain(|_, plan| plan.is_ok());
    if planned.is_empty() {
        return refuse(&extra.join(","));
    }
    reply::of_node(life, carry_out(service, &[life], events, planned, |_, _| String::new()).await, &extra)
}

fn missing(event: &str, parameter: &str) -> String {
    format!("方法 {event} 缺少 {parameter} 参数")
}
