//! What an owning node does when it is asked to act.

use super::{Act, Outcome};
use crate::hub::{Delivery, Hub, JoinError, Left, Overflow};
use crate::model::{Audience, ConnectionId, Seq, Target, Who};

impl Act {
    /// What a node says that has nothing of what the act is about.
    pub fn nobody(&self) -> Outcome {
        match self {
            Self::Close { who: Who::Connection(_), .. }
            | Self::Join { .. }
            | Self::Leave { .. }
            | Self::LeaveAll { .. }
            | Self::Bind { .. } => Outcome::Unknown,
            Self::Close { who: Who::Members(_), .. }
            | Self::Deliver(_)
            | Self::DeliverToOne(_)
            | Self::DeliverToOneOfEach { .. } => Outcome::Done(0),
        }
    }

    /// Whom it is about.
    pub(super) fn subject(&self) -> Subject<'_> {
        match self {
            Self::Close { who, .. } | Self::Join { who, .. } | Self::Leave { who, .. } | Self::LeaveAll { who, .. } => {
                match who {
                    Who::Connection(connection) => Subject::Connection(*connection),
                    Who::Members(audience) => Subject::Audience(audience),
                }
            }
            Self::Bind { connection, .. } => Subject::Connection(*connection),
            Self::Deliver(push) | Self::DeliverToOne(push) => match &push.target {
                Target::Connection(connection) => Subject::Connection(*connection),
                Target::Audience(audience) => Subject::Audience(audience),
                Target::All | Target::Audiences(_) => Subject::Everybody,
            },
            Self::DeliverToOneOfEach { .. } => Subject::Everybody,
        }
    }

    /// Whether it changes what the directory has to hold.
    pub(super) fn is_written(&self) -> bool {
        match self {
            Self::Close { .. } | Self::Join { .. } | Self::Leave { .. } | Self::LeaveAll { .. } | Self::Bind { .. } => {
                true
            }
            Self::Deliver(_) | Self::DeliverToOne(_) | Self::DeliverToOneOfEach { .. } => false,
        }
    }

    /// What has to be subscribed before it is done.
    pub(super) fn subscribed(&self) -> Vec<Audience> {
        match self {
            Self::Join { audiences, .. } => audiences.clone(),
            Self::Bind { user, .. } => vec![Audience::user(user.clone())],
            Self::Close { .. }
            | Self::Leave { .. }
            | Self::LeaveAll { .. }
            | Self::Deliver(_)
            | Self::DeliverToOne(_)
            | Self::DeliverToOneOfEach { .. } => Vec::new(),
        }
    }
}

/// Whom an act is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Subject<'a> {
    /// One connection: only its owner is concerned.
    Connection(ConnectionId),
    /// An audience: the nodes that have members.
    Audience(&'a Audience),
    /// Every node.
    Everybody,
}

impl Subject<'_> {
    /// The node that owns the connection that it is about, if it is about one.
    pub(super) fn owner(self) -> Option<Seq> {
        match self {
            Self::Connection(connection) => Some(connection.seq()),
            Self::Audience(_) | Self::Everybody => None,
        }
    }
}

/// Carries acts out on the local sockets, at once and in order with the pushes before them. What is written for them, and
/// subscribed, comes after: see [`to_settle`].
pub(super) fn apply(hub: &Hub, acts: &[Act], taken_at: u64) -> Vec<Outcome> {
    acts.iter().map(|act| apply_one(hub, act, taken_at).unwrap_or_else(|outcome| outcome)).collect()
}

fn apply_one(hub: &Hub, act: &Act, taken_at: u64) -> Result<Outcome, Outcome> {
    let full = |error: Overflow| Outcome::Failed(error.to_string());
    let done = match act {
        Act::Close { who: Who::Connection(connection), code, reason } => {
            hub.close(*connection, *code, reason).then_some(1).ok_or(Outcome::Unknown)?
        }
        Act::Close { who: Who::Members(audience), code, reason } => hub.close_audience(audience, *code, reason),
        Act::Join { who, audiences } => hub.join(who, audiences).map_err(|error| match error {
            JoinError::Unknown => Outcome::Unknown,
            JoinError::TooMany { .. } => Outcome::Refused(match who {
                Who::Connection(connection) => format!("connection {connection}: {error}"),
                Who::Members(audience) => format!("a connection of {audience}: {error}"),
            }),
        })?,
        Act::Leave { who, audiences } => match hub.leave(who, audiences).ok_or(Outcome::Unknown)? {
            Left::Memberships(left) => left,
            Left::NoAudience => return Err(Outcome::NoAudience),
        },
        Act::LeaveAll { who, kind } => hub.leave_all(who, *kind).ok_or(Outcome::Unknown)?,
        Act::Bind { connection, user } => u64::from(hub.bind(*connection, user).ok_or(Outcome::Unknown)?),
        Act::Deliver(push) => hub.deliver_counted(Delivery { push: push.clone(), taken_at }).map_err(full)?,
        Act::DeliverToOne(push) => hub.deliver_to_one(Delivery { push: push.clone(), taken_at }).map_err(full)?,
        Act::DeliverToOneOfEach { kind, payload, opcode } => {
            hub.deliver_to_one_of_each(*kind, payload, *opcode, taken_at).map_err(full)?
        }
    };
    Ok(Outcome::Done(done))
}

/// What has to be settled before anybody is told the outcomes; `None` where nothing has.
pub(super) fn to_settle(acts: &[Act], outcomes: &[Outcome]) -> Option<Vec<Audience>> {
    let done =
        acts.iter().zip(outcomes).filter(|(act, outcome)| act.is_written() && matches!(outcome, Outcome::Done(_)));
    let mut any = false;
    let mut audiences: Vec<Audience> = done.inspect(|_| any = true).flat_map(|(act, _)| act.subscribed()).collect();
    audiences.sort_unstable();
    audiences.dedup();
    any.then_some(audiences)
}

/// The outcomes of acts that could not be settled: what was done is not known to be written.
pub(super) fn unsettled(acts: &[Act], outcomes: Vec<Outcome>, why: &str) -> Vec<Outcome> {
    let one = |(act, outcome): (&Act, Outcome)| match outcome {
        Outcome::Done(_) if act.is_written() => Outcome::Failed(why.to_owned()),
        other => other,
    };
    acts.iter().zip(outcomes).map(one).collect()
}
