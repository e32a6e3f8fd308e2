//! Taking a node apart without losing a client.

use super::Node;
use crate::hub::CloseReason;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// How often a slice of the sockets is closed while a node drains.
const DRAIN_SLICE: Duration = Duration::from_millis(100);

/// How long closed sockets may take for their last bytes: what the hub gives a peer to answer its close frame, and a bit.
const LAST_BYTES: Duration = Duration::from_secs(6);

/// How long HTTP requests under way may at least take for their answers: longer than a push takes, shorter than half a
/// request that never becomes a whole one.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// How long requests on the WebSocket port may go on where no program says it; they are over before the node ends.
pub(super) const GRACE: Duration = LAST_BYTES.saturating_sub(LAST_ANSWERS);

/// What clients are told that a node closes as it goes.
const STOPPING: &str = "node is stopping";

impl Node {
    /// Not ready but still accepting for `DRAIN_DELAY`, for load balancers, which send clients and pushes to a node without
    /// sockets too; then nobody new, and everybody closed over `DRAIN_PERIOD`, or as soon as nobody is there; then a program's
    /// handlers come to their end, which may still publish; then out of the cluster; HTTP answers until the end.
    pub(super) async fn drain(&mut self) {
        let connections = self.hub.count();
        tracing::info!(connections, delay = ?self.config.drain_delay, period = ?self.config.drain_period, "stopping");
        self.draining.send_replace(true);
        sleep(self.config.drain_delay).await;
        self.ws_closed.send_replace(true);
        let grace = Instant::now() + self.sessions.grace();
        self.close_sockets().await;
        let last_bytes = Instant::now() + LAST_BYTES;
        while (self.hub.held() > 0 || self.sessions.count() > 0) && Instant::now() < last_bytes {
            sleep(DRAIN_SLICE / 10).await;
        }
        self.await_handlers().await;
        if let Some(hooks) = &self.hooks {
            hooks.drain().await;
        }
        self.cluster.leave().await;
        self.http_closed.send_replace(true);
        let last_answers = last_bytes.max(grace.max(Instant::now()) + LAST_ANSWERS);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(last_answers, ended).await.is_err() {
            tracing::warn!("http requests are cut off: they were not whole, or not answered, in time");
        }
    }

    /// Waits for handlers, which have heard that their connections are over.
    async fn await_handlers(&self) {
        let end = Instant::now() + self.sessions.grace();
        while self.sessions.handlers() > 0 {
            if Instant::now() >= end {
                let handlers = self.sessions.handlers();
                return tracing::warn!(handlers, "handlers go on though the connections are over, and are left behind");
            }
            sleep(DRAIN_SLICE / 10).await;
        }
    }

    /// Closes all sockets, a slice at a time, so that their clients don't all come back to the other nodes at once.
    async fn close_sockets(&self) {
        let end = Instant::now() + self.config.drain_period;
        loop {
            let open = self.hub.connections();
            if open.is_empty() {
                return;
            }
            let slices_left = end.saturating_duration_since(Instant::now()).as_millis() / DRAIN_SLICE.as_millis();
            let slice = open.len().div_ceil(slices_left as usize + 1);
            self.hub.close_each(&open[..slice], 1001, STOPPING, CloseReason::GoingAway);
            if slice == open.len() {
                return;
            }
            sleep(DRAIN_SLICE).await;
        }
    }
}

impl Drop for Node {
    /// Whoever has not been drained is closed all the same, without anybody waiting for it.
    fn drop(&mut self) {
        self.ws_closed.send_replace(true);
        self.hub.close_all(1001, STOPPING);
    }
}
