//! What an owning node does when it is asked to act.

use super::{Act, Cluster, Outcome};
use crate::hub::Hub;
use crate::model::Audience;

/// Carries out `act` on the local sockets; done means written to the directory, and subscribed where that is meant.
pub async fn carry_out(hub: &Hub, cluster: &dyn Cluster, act: &Act) -> Outcome {
    let Some(affected) = apply(hub, act) else { return Outcome::Unknown };
    match cluster.settle(subscribed(act)).await {
        Ok(()) => Outcome::Done(affected),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}

/// The part that touches the sockets: at once, in order with the pushes before it. How many connections were affected;
/// `None` where the connection isn't here.
pub(super) fn apply(hub: &Hub, act: &Act) -> Option<u64> {
    match act {
        Act::Close { connection, code, reason } => hub.close(*connection, *code, reason).then_some(1),
        Act::CloseAudience { audience, code, reason } => Some(hub.close_audience(audience, *code, reason)),
        Act::Join { connection, audiences } => hub.join(*connection, audiences),
        Act::Leave { connection, audiences } => hub.leave(*connection, audiences),
    }
}

/// What has to be subscribed before the act is done.
pub(super) fn subscribed(act: &Act) -> &[Audience] {
    match act {
        Act::Join { audiences, .. } => audiences,
        Act::Close { .. } | Act::CloseAudience { .. } | Act::Leave { .. } => &[],
    }
}
