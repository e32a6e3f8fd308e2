//! Carries a batch out as if its events had been done one after the other, in as few rounds as that allows.
//!
//! Events that follow each other and only read are one look, those that follow each other and act are one act. Which groups
//! a message goes to is looked up before the acts among which it is sent; where one of them may have changed the groups,
//! they are carried out first.

use super::plan::{Codes, NotDone, Plan, to_groups};
use super::value::Value;
use crate::cluster::{Act, Answer, Life, Outcome, Question};
use crate::model::{Audience, Error, Name, Push};
use crate::service::{Dialect, Service};
use indexmap::IndexSet;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What the acts of one window may weigh: payloads, names and ids of those who are left out. A repeated event counts each
/// time, as each is an act of its own.
const WINDOW_BYTES: usize = 4 << 20;

/// What an act weighs beside that.
const ACT_BYTES: usize = 64;

/// The values of planned events, each with one for every life.
pub(super) struct Batch<'a> {
    service: &'a Service,
    lives: &'a [Life],
    plans: &'a [Plan],
    values: Vec<Vec<Value>>,
    window: Window,
}

/// Events that wait for being done together.
enum Window {
    /// They read.
    Reads(IndexSet<usize>),
    /// They act.
    Acts {
        /// Which.
        events: Vec<usize>,
        /// Whether one of them may change who is in what.
        changes: bool,
        /// What they weigh.
        bytes: usize,
    },
}

/// Carries out `steps`, each the place of one of `plans`; the values by plan and life, the last ones where a plan was
/// carried out more than once.
pub(super) async fn run(service: &Service, lives: &[Life], plans: &[Plan], steps: &[usize]) -> Vec<Vec<Value>> {
    let values = vec![Vec::new(); plans.len()];
    let mut batch = Batch { service, lives, plans, values, window: Window::Reads(IndexSet::new()) };
    for &step in steps {
        batch.take(step).await;
    }
    batch.flush().await;
    batch.values
}

impl Batch<'_> {
    /// Takes one event into the window, after what had to be done before it.
    async fn take(&mut self, step: usize) {
        let plan = &self.plans[step];
        match (plan, &self.window) {
            (Plan::Known(known), _) => {
                self.values[step] = vec![(*known).into(); self.lives.len()];
                return;
            }
            (Plan::Read(..), Window::Reads(_)) => {}
            (Plan::Read(..), Window::Acts { .. }) | (Plan::Act(..) | Plan::SendToGroupsOf(..), Window::Reads(_)) => {
                self.flush().await;
            }
            (Plan::Act(..), Window::Acts { bytes, .. }) => {
                if *bytes > WINDOW_BYTES {
                    self.flush().await;
                }
            }
            (Plan::SendToGroupsOf(..), Window::Acts { changes, bytes, .. }) => {
                if *changes || *bytes > WINDOW_BYTES {
                    self.flush().await;
                }
            }
        }
        match (plan, &mut self.window) {
            (Plan::Known(_), _) => {}
            (Plan::Read(..), Window::Reads(events)) => {
                events.insert(step);
            }
            (Plan::Act(..) | Plan::SendToGroupsOf(..), Window::Acts { events, changes, bytes }) => {
                events.push(step);
                *changes |= plan.changes();
                *bytes += plan.weight();
            }
            (Plan::Read(..), window @ Window::Acts { .. }) => *window = Window::Reads(IndexSet::from([step])),
            (Plan::Act(..) | Plan::SendToGroupsOf(..), window @ Window::Reads(_)) => {
                *window = Window::Acts { events: vec![step], changes: plan.changes(), bytes: plan.weight() };
            }
        }
    }

    /// Does what waits in the window.
    async fn flush(&mut self) {
        match std::mem::replace(&mut self.window, Window::Reads(IndexSet::new())) {
            Window::Reads(events) => self.read(events).await,
            Window::Acts { events, .. } => self.act(events).await,
        }
    }

    async fn read(&mut self, events: IndexSet<usize>) {
        let reads = events.into_iter().filter_map(|event| match &self.plans[event] {
            Plan::Read(question, meaning) => Some((event, question, meaning)),
            Plan::Known(_) | Plan::Act(..) | Plan::SendToGroupsOf(..) => None,
        });
        let reads: Vec<_> = reads.collect();
        let questions: IndexSet<&Question> = reads.iter().map(|(_, question, _)| *question).collect();
        let answers = self.look(&questions).await;
        for (event, question, meaning) in reads {
            let place = questions.get_index_of(question);
            self.values[event] = match &answers {
                Ok(answers) => {
                    let of_life =
                        |answers: &Vec<Arc<Answer>>| place.and_then(|at| Some(meaning.value(answers.get(at)?)));
                    // A question has an answer from each life; none would be an empty list's.
                    answers.iter().map(|answers| of_life(answers).unwrap_or(Value::Number(0))).collect()
                }
                Err(error) => vec![Value::Fault(not_available(error)); self.lives.len()],
            };
        }
    }

    /// What each life says to each question.
    async fn look(&self, questions: &IndexSet<&Question>) -> Result<Vec<Vec<Arc<Answer>>>, Error> {
        if questions.is_empty() || self.lives.is_empty() {
            return Ok(Vec::new());
        }
        let questions: Vec<Question> = questions.iter().copied().cloned().collect();
        let answers = self.service.look(self.lives, &questions).await?;
        Ok(answers.into_iter().map(|answers| answers.into_iter().map(Arc::new).collect()).collect())
    }

    async fn act(&mut self, events: Vec<usize>) {
        let groups = self.look_up_groups(&events).await;
        let (mut acts, mut acting) = (Vec::with_capacity(events.len()), Vec::with_capacity(events.len()));
        for event in events {
            let act = match &self.plans[event] {
                Plan::Act(act, codes) => Ok(Some((act.clone(), *codes))),
                Plan::SendToGroupsOf(question, message, exclude) => match &groups {
                    Ok(groups) => {
                        let act = to_groups(groups.of(question), message.clone(), exclude.clone());
                        Ok(act.map(|act| (act, Codes::Count)))
                    }
                    Err(error) => Err(Value::Fault(not_accepted(error))),
                },
                Plan::Known(_) | Plan::Read(..) => continue,
            };
            match act {
                Ok(Some((act, codes))) => {
                    acting.push((event, codes, is_push(&act)));
                    acts.push(act);
                }
                Ok(None) => self.values[event] = vec![Value::Number(0); self.lives.len()],
                Err(fault) => self.values[event] = vec![fault; self.lives.len()],
            }
        }
        if acts.is_empty() {
            return;
        }
        let outcomes = self.service.act(Dialect::Events, self.lives, &acts).await;
        for (at, (event, codes, is_push)) in acting.into_iter().enumerate() {
            let nothing = acts[at].nobody();
            let values = outcomes.iter().map(|outcomes| value(codes, is_push, outcomes.get(at).unwrap_or(&nothing)));
            self.values[event] = values.collect();
        }
    }

    /// The groups that messages of these events go to, in one look.
    async fn look_up_groups(&self, events: &[usize]) -> Result<Groups, Error> {
        let questions = events.iter().filter_map(|event| match &self.plans[*event] {
            Plan::SendToGroupsOf(question, ..) => Some(question),
            Plan::Known(_) | Plan::Read(..) | Plan::Act(..) => None,
        });
        let questions: IndexSet<&Question> = questions.collect();
        let answers = self.look(&questions).await?;
        let groups = (0..questions.len()).map(|at| {
            let of_lives = answers.iter().filter_map(|answers| answers.get(at));
            of_lives.flat_map(|answer| names(answer)).map(Audience::group).collect()
        });
        let groups = groups.collect();
        Ok(Groups { questions: questions.into_iter().cloned().collect(), groups })
    }
}

/// What was looked up for messages to groups.
struct Groups {
    questions: IndexSet<Question>,
    groups: Vec<BTreeSet<Audience>>,
}

impl Groups {
    fn of(&self, question: &Question) -> Vec<Audience> {
        let groups = self.questions.get_index_of(question).and_then(|at| self.groups.get(at));
        groups.map_or_else(Vec::new, |groups| groups.iter().cloned().collect())
    }
}

/// The groups in an answer.
fn names(answer: &Answer) -> Vec<Name> {
    match answer {
        Answer::Names(names) => names.iter().map(|(name, _)| name.clone()).collect(),
        Answer::Details(details) => {
            let groups = details.iter().flat_map(|details| &details.groups);
            groups.filter_map(|group| Name::new(group).ok()).collect()
        }
        Answer::Count(_) | Answer::Ids(_) => Vec::new(),
    }
}

fn is_push(act: &Act) -> bool {
    match act {
        Act::Deliver(_) | Act::DeliverToOne(_) | Act::DeliverToOneOfEach { .. } => true,
        Act::Close { .. } | Act::Join { .. } | Act::Leave { .. } | Act::LeaveAll { .. } | Act::Bind { .. } => false,
    }
}

/// What a node's outcome is to the event.
fn value(codes: Codes, is_push: bool, outcome: &Outcome) -> Value {
    codes.value(outcome).unwrap_or_else(|why| match why {
        NotDone::Trouble(why) if is_push => Value::Fault(format!("push not accepted: {why}")),
        NotDone::Trouble(why) => Value::Fault(format!("not available: {why}")),
        NotDone::Limit(why) => Value::Fault(why.to_owned()),
    })
}

/// A read that could not be answered.
pub(super) fn not_available(error: &Error) -> String {
    format!("not available: {error}")
}

/// A push that was not taken.
pub(super) fn not_accepted(error: &Error) -> String {
    format!("push not accepted: {error}")
}

impl Plan {
    /// Whether it may change who is in what.
    fn changes(&self) -> bool {
        match self {
            Self::Act(act, _) => !is_push(act),
            Self::Known(_) | Self::Read(..) | Self::SendToGroupsOf(..) => false,
        }
    }

    /// Bytes of memory that carrying it out takes, roughly.
    fn weight(&self) -> usize {
        let named =
            |audiences: &[Audience]| audiences.iter().map(|it| it.name.as_str().len() + ACT_BYTES).sum::<usize>();
        let exclusions = |connections: usize, users: &[Name]| {
            connections * size_of::<u64>() + users.iter().map(|user| user.as_str().len() + ACT_BYTES).sum::<usize>()
        };
        let pushed = |push: &Push| push.payload.len() + exclusions(push.exclude.connections.len(), &push.exclude.users);
        ACT_BYTES
            + match self {
                Self::Act(Act::Deliver(push) | Act::DeliverToOne(push), _) => pushed(push),
                Self::Act(Act::DeliverToOneOfEach { payload, .. }, _) => payload.len(),
                Self::Act(Act::Join { audiences, .. } | Act::Leave { audiences, .. }, _) => named(audiences),
                Self::SendToGroupsOf(_, message, exclude) => {
                    message.len() + exclusions(exclude.connections.len(), &exclude.users)
                }
                Self::Act(Act::Close { .. } | Act::LeaveAll { .. } | Act::Bind { .. }, _)
                | Self::Known(_)
                | Self::Read(..) => 0,
            }
    }
}
