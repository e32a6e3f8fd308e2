//! What an owning node does when it is asked to act.

use super::{Act, Cluster, Outcome};
use crate::hub::Hub;
use crate::model::Audience;

/// Carries out `act` on the local sockets; done means written to the directory, and subscribed where that is meant.
pub async fn carry_out(hub: &Hub, cluster: &dyn Cluster, act: &Act) -> Outcome {
    let (affected, subscribed): (Option<u64>, &[Audience]) = match act {
        Act::Close { connection, code, reason } => (hub.close(*connection, *code, reason).then_some(1), &[]),
        Act::CloseAudience { audience, code, reason } => (Some(hub.close_audience(audience, *code, reason)), &[]),
        Act::Join { connection, audiences } => (hub.join(*connection, audiences), audiences),
        Act::Leave { connection, audiences } => (hub.leave(*connection, audiences), &[]),
    };
    let Some(affected) = affected else { return Outcome::Unknown };
    match cluster.settle(subscribed).await {
        Ok(()) => Outcome::Done(affected),
        Err(error) => Outcome::Failed(error.to_string()),
    }
}
