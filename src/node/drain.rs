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

impl Node {
    /// Not ready but still accepting for `DRAIN_DELAY`, for load balancers, which send clients and pushes to a node without
    /// sockets too; then nobody new, and everybody closed over `DRAIN_PERIOD`, or as soon as nobody is there; then out of the
    /// cluster; HTTP answers until the end.
    pub(super) async fn drain(&mut self) {
        let connections = self.hub.count();
        tracing::info!(connections, delay = ?self.config.drain_delay, period = ?self.config.drain_period, "stopping");
        self.draining.send_replace(true);
        sleep(self.config.drain_delay).await;
        self.ws_closed.send_replace(true);
        self.close_sockets().await;
        let last_bytes = Instant::now() + LAST_BYTES;
        while (self.hub.held() > 0 || self.sessions.count() > 0) && Instant::now() < last_bytes {
            sleep(DRAIN_SLICE / 10).await;
        }
        if let Some(hooks) = &self.hooks {
            hooks.drain().await;
        }
        self.cluster.leave().await;
        self.http_closed.send_replace(true);
        let last_answers = last_bytes.max(Instant::now() + LAST_ANSWERS);
        let ended = async { while self.tasks.join_next().await.is_some() {} };
        if timeout_at(last_answers, ended).await.is_err() {
            tracing::warn!("http requests are cut off: they were not whole, or not answered, in time");
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
            self.hub.close_each(&open[..slice], 1001, "node is stopping", CloseReason::GoingAway);
            if slice == open.len() {
                return;
            }
            sleep(DRAIN_SLICE).await;
        }
    }
}
