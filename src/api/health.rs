//! Whether a load balancer should send work here.

use crate::cluster::State;
use tokio::sync::watch;

/// What readiness depends on.
pub(super) struct Health {
    pub(super) state: watch::Receiver<State>,
    pub(super) draining: watch::Receiver<bool>,
}

impl Health {
    /// Whether the node is about to stop.
    pub(super) fn is_draining(&self) -> bool {
        *self.draining.borrow()
    }

    /// Why the node is not ready; `None` where it is.
    pub(super) fn unready(&self) -> Option<String> {
        if self.is_draining() {
            return Some("stopping".to_owned());
        }
        match &*self.state.borrow() {
            State::Ready => None,
            State::Recovering(why) => Some(format!("recovering: {why}")),
            State::Away(why) => Some(why.clone()),
        }
    }
}
