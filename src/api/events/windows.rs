//! Carries a batch out as if its events had been done one after the other, in as few rounds as that allows.
//!
//! Events that follow each other and only read are one look, those that follow each other and act are one act. Which groups
//! a message goes to is looked up before the acts among which it is sent; where one of them may have changed the groups,
//! they are carried out first.

use super::meaning::{Codes, NotDone};
use super::plan::{Plan, to_groups};
use super::value::Value;
use crate::cluster::{Act, Answer, Life, Outcome, Question, impatience};
use crate::model::{Audience, ConnectionId, Error, Name, Push, Target};
use crate::service::{Dialect, Service};
use indexmap::IndexSet;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// What the acts that are handed over at once may weigh, which each take memory of their own: a repeated event as often as
/// it is repeated. More go one after the other.
const MOST_BYTES: usize = 4 << 20;

/// What an act, and each name in it, weighs beside its bytes.
const OVERHEAD: usize = 64;

/// The values of planned events, each with one for every life.
struct Batch<'a> {
    service: &'a Service,
    lives: &'a [Life],
    plans: &'a [Plan],
    values: Vec<Vec<Value>>,
    window: Window,
    /// How long a node is waited for.
    patience: Duration,
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
    },
}

/// Carries out `steps`, each the place of one of `plans`; the values by plan and life, the last ones where a plan was
/// carried out more than once.
pub(super) async fn run(service: &Service, lives: &[Life], plans: &[Plan], steps: &[usize]) -> Vec<Vec<Value>> {
    let values = vec![Vec::new(); plans.len()];
    let patience = service.limits().act_timeout;
    let mut batch = Batch { service, lives, plans, values, window: Window::Reads(IndexSet::new()), patience };
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
        let fits = match (plan, &self.window) {
            (Plan::Known(known), _) => {
                self.values[step] = vec![(*known).into(); self.lives.len()];
                return;
            }
            (Plan::Read(..), Window::Reads(_)) | (Plan::Act(..), Window::Acts { .. }) => true,
            (Plan::SendToGroupsOf(..), Window::Acts { changes, .. }) => !changes,
            (Plan::Read(..), Window::Acts { .. }) | (Plan::Act(..) | Plan::SendToGroupsOf(..), Window::Reads(_)) => {
                false
            }
        };
        if !fits {
            self.flush().await;
            if !matches!(plan, Plan::Read(..)) {
                self.window = Window::Acts { events: Vec::new(), changes: false };
            }
        }
        match &mut self.window {
            Window::Reads(events) => {
                // What was asked already in this window has the same answer.
                events.insert(step);
            }
            Window::Acts { events, changes } => {
                events.push(step);
                *changes |= plan.changes();
            }
        }
    }

    /// Does what waits in the window, and leaves one for reads.
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
                    // The directory has an answer of each life to each question, so that nothing is left out.
                    answers.iter().map(|answers| of_life(answers).unwrap_or(Value::Number(0))).collect()
                }
                Err(error) => vec![Value::Fault(not_available(error).into()); self.lives.len()],
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
        let mut acts = Acts::default();
        for event in events {
            let (act, codes) = match (&self.plans[event], &groups) {
                (Plan::Act(act, codes), _) => (act.clone(), *codes),
                (Plan::SendToGroupsOf(question, message, exclude), Ok(groups)) => {
                    match to_groups(groups.of(question), message.clone(), exclude.clone()) {
                        Some(act) => (act, Codes::Count),
                        None => {
                            self.values[event] = vec![Value::Number(0); self.lives.len()];
                            continue;
                        }
                    }
                }
                (Plan::SendToGroupsOf(..), Err(error)) => {
                    self.values[event] = vec![Value::Fault(not_accepted(error).into()); self.lives.len()];
                    continue;
                }
                (Plan::Known(_) | Plan::Read(..), _) => continue,
            };
            acts.bytes += weight(&act);
            acts.of_events.push((event, codes));
            acts.acts.push(act);
            if acts.bytes > MOST_BYTES {
                self.hand_over(std::mem::take(&mut acts)).await;
            }
        }
        self.hand_over(acts).await;
    }

    async fn hand_over(&mut self, Acts { acts, of_events, .. }: Acts) {
        if acts.is_empty() {
            return;
        }
        let outcomes = self.service.act(Dialect::Events, self.lives, &acts, self.patience).await;
        if outcomes.iter().flatten().any(|outcome| matches!(outcome, Outcome::NoAnswer(_))) {
            self.patience = self.patience.min(impatience(self.service.limits().act_timeout));
        }
        for (at, ((event, codes), act)) in of_events.into_iter().zip(&acts).enumerate() {
            let nothing = act.nobody();
            let values = outcomes.iter().map(|outcomes| value(codes, act, outcomes.get(at).unwrap_or(&nothing)));
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

/// Acts that are handed over at once, each with its event and what its outcome means to that.
#[derive(Default)]
struct Acts {
    acts: Vec<Act>,
    of_events: Vec<(usize, Codes)>,
    bytes: usize,
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
fn value(codes: Codes, act: &Act, outcome: &Outcome) -> Value {
    codes.value(outcome).unwrap_or_else(|why| match why {
        NotDone::Trouble(why) if is_push(act) => Value::Fault(format!("push not accepted: {why}").into()),
        NotDone::Trouble(why) => Value::Fault(format!("not available: {why}").into()),
        NotDone::Limit(why) => Value::Fault(why.into()),
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
}

/// Bytes of memory that an act takes, roughly.
fn weight(act: &Act) -> usize {
    let audiences = |all: &[Audience]| all.iter().map(|it| it.name.as_str().len() + OVERHEAD).sum::<usize>();
    let push = |push: &Push| {
        let target = match &push.target {
            Target::Audiences(all) => audiences(all),
            Target::All | Target::Audience(_) | Target::Connection(_) => 0,
        };
        let users = push.exclude.users.iter().map(|user| user.as_str().len() + OVERHEAD).sum::<usize>();
        push.payload.len() + target + users + push.exclude.connections.len() * size_of::<ConnectionId>()
    };
    OVERHEAD
        + match act {
            Act::Deliver(it) | Act::DeliverToOne(it) => push(it),
            Act::DeliverToOneOfEach { payload, .. } => payload.len(),
            Act::Join { audiences: all, .. } | Act::Leave { audiences: all, .. } => audiences(all),
            Act::Close { .. } | Act::LeaveAll { .. } | Act::Bind { .. } => 0,
        }
}
