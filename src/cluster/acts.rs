//! What an owning node does when it is asked to act.

use super::{Act, Cluster, Outcome};
use crate::hub::{Hub, JoinError};
use crate::model::Audience;

/// Carries out `act` on the local sockets; done means written to the directory, and subscribed where that is meant.
pub async fn carry_out(hub: &Hub, cluster: &dyn Cluster, act: &Act) -> Outcome {
    let affected = match apply(hub, act) {
        Ok(affected) => affected,
        Err(outcome) => return outcome,
    };
    match cluster.settle(subscribed(act)).await {
        Ok(()) => Outcome::Done(affected),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The part that touches the sockets: at once, in order with the pushes before it. How many connections were affected;
/// what is to be answered where none could be.
pub(super) fn apply(hub: &Hub, act: &Act) -> Result<u64, Outcome> {
    match act {
        Act::Close { connection, code, reason } => {
            hub.close(*connection, *code, reason).then_some(1).ok_or(Outcome::Unknown)
        }
        Act::CloseAudience { audience, code, reason } => Ok(hub.close_audience(audience, *code, reason)),
        Act::Join { connection, audiences } => hub.join(*connection, audiences).map_err(|error| match error {
            JoinError::Unknown => Outcome::Unknown,
            JoinError::TooMany { .. } => Outcome::Refused(format!("connection {connection}: {error}")),
        }),
        Act::Leave { connection, audiences } => hub.leave(*connection, audiences).ok_or(Outcome::Unknown),
    }
}

/// What has to be subscribed before the act is done.
pub(super) fn subscribed(act: &Act) -> &[Audience] {
    match act {
        Act::Join { audiences, .. } => audiences,
        Act::Close { .. } | Act::CloseAudience { .. } | Act::Leave { .. } => &[],
    }
}
