//! The actions API, `/?action=…`: what each action needs, does and answers.
//!
//! Replies always have status 200; `status` in the body tells success from failure. [`parameters`] reads what a call was
//! given, [`reply`] has the form of every reply, [`listing`] the replies that are sent while they are read, [`stats`] the
//! largest one.

mod listing;
mod parameters;
mod reply;
mod stats;

#[cfg(test)]
mod tests;

use super::answer::Answer;
use crate::cluster::Published;
use crate::model::{Audience, AudienceKind, Error, Opcode, Push, Target};
use crate::service::{Dialect, Service};
use futures_util::stream::{self, TryStreamExt};
use listing::Listing;
pub(super) use parameters::Parameters;
pub(super) use reply::Refusal;
use reply::Reply;
use serde_json::json;
use stats::StatsResponse;
use std::sync::Arc;

/// Channels that one call asks the cluster about at the same time.
const CONCURRENT: usize = 32;

/// Answers a call that is allowed and could be read.
pub(super) async fn call(service: &Arc<Service>, parameters: &Parameters, hidden: &str) -> Answer {
    let reply = carry_out(service, parameters).await;
    reply::answer(reply, reply::request(&parameters.query.without(hidden))).await
}

/// Answers a call that is not to be carried out.
pub(super) async fn refuse(why: Refusal, parameters: &Parameters, hidden: &str) -> Answer {
    reply::answer(Err(why), reply::request(&parameters.query.without(hidden))).await
}

async fn carry_out(service: &Arc<Service>, parameters: &Parameters) -> Result<Reply, Refusal> {
    let action = parameters.text("action")?.map(|action| action.as_ref()).unwrap_or_default();
    match action {
        b"" => Err(Refusal::Message("action param must be set".to_owned())),
        b"push" => push(service, parameters).await,
        b"close" => close(service, parameters).await,
        b"getChannels" => get_channels(service, parameters).await,
        b"getConnections" => get_connections(service, parameters).await,
        b"countConnections" => count_connections(service, parameters).await,
        b"subscribe" => subscribe(service, parameters).await,
        b"unsubscribe" => unsubscribe(service, parameters).await,
        b"stats" => {
            let stats = service.stats().await.map_err(unavailable)?;
            Ok(Reply::response(&StatsResponse::from(&stats)))
        }
        unknown => Err(Refusal::Message(format!("wrong {} action", String::from_utf8_lossy(unknown)))),
    }
}

async fn push(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let target = match parameters.text("to")?.map(|to| to.as_ref()) {
        Some(b"connection") => Target::Connection(parameters.connection()?),
        Some(b"channel") => to_audiences(parameters.need_audiences(AudienceKind::Channel)?),
        Some(b"user") => to_audiences(parameters.need_audiences(AudienceKind::User)?),
        Some(b"group") => to_audiences(parameters.need_audiences(AudienceKind::Group)?),
        Some(b"all") => Target::All,
        _ => return Err(wrong_to("channel, connection, all, user or group")),
    };
    let payload = parameters.text("message")?.cloned().unwrap_or_default();
    if std::str::from_utf8(&payload).is_err() {
        return Err(Refusal::Message("message is not UTF-8".to_owned()));
    }
    let push = Push { target, exclude: parameters.exclusions()?, payload, opcode: Opcode::Text };
    match service.push(Dialect::Actions, push).await {
        Ok(Published::Taken) => Ok(Reply::Done),
        Ok(Published::UnknownConnection) => Err(Refusal::Bare),
        Err(error) => Err(Refusal::of_push(&error)),
    }
}

/// One audience is a target of its own, as its pushes keep their order on its own way through the bus.
fn to_audiences(mut audiences: Vec<Audience>) -> Target {
    match audiences.pop() {
        Some(only) if audiences.is_empty() => Target::Audience(only),
        last => {
            audiences.extend(last);
            Target::Audiences(audiences)
        }
    }
}

async fn close(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    match parameters.text("to")?.map(|to| to.as_ref()) {
        Some(b"connection") => {
            let closed = service.close_connection(parameters.connection()?).await.map_err(unavailable)?;
            if closed { Ok(Reply::Done) } else { Err(Refusal::Bare) }
        }
        Some(b"channel") => {
            let channels = stream::iter(parameters.need_audiences(AudienceKind::Channel)?.into_iter().map(Ok));
            let close = |channel| async { service.close_audience(channel).await.map(|_| ()) };
            channels.try_for_each_concurrent(CONCURRENT, close).await.map_err(unavailable)?;
            Ok(Reply::Done)
        }
        _ => Err(wrong_to("channel or connection")),
    }
}

async fn get_channels(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let channels = parameters.audiences(AudienceKind::Channel)?;
    let names: Vec<_> = channels.into_iter().map(|channel| channel.name).collect();
    let asked = (!names.is_empty()).then(|| names.clone());
    let pages = service.channels(asked).await.map_err(unavailable)?;
    Ok(Reply::Listing(Listing::Channels { pages, shown: names.into() }))
}

async fn get_connections(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let pages = match parameters.audience(AudienceKind::Channel)? {
        Some(channel) => service.members(&channel).await,
        None => service.connections().await,
    };
    Ok(Reply::Listing(Listing::Connections(pages.map_err(unavailable)?)))
}

async fn count_connections(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let count = match parameters.audience(AudienceKind::Channel)? {
        Some(channel) => service.count_members(&channel).await,
        None => service.count_connections().await,
    };
    Ok(Reply::response(&json!({ "count": count.map_err(unavailable)? })))
}

async fn subscribe(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let channels = parameters.need_audiences(AudienceKind::Channel)?;
    let joined = service.join(parameters.connection()?, channels).await.map_err(unavailable)?;
    joined.map(|_| Reply::Done).ok_or(Refusal::Bare)
}

async fn unsubscribe(service: &Service, parameters: &Parameters) -> Result<Reply, Refusal> {
    let channels = parameters.need_audiences(AudienceKind::Channel)?;
    let left = service.leave(parameters.connection()?, channels).await.map_err(unavailable)?;
    left.map(|_| Reply::Done).ok_or(Refusal::Bare)
}

fn wrong_to(allowed: &str) -> Refusal {
    Refusal::Message(format!("to param must be {allowed}"))
}

#[expect(clippy::needless_pass_by_value, reason = "it is what map_err hands over")]
fn unavailable(error: Error) -> Refusal {
    Refusal::of_call(&error)
}
