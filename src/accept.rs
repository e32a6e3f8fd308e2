//! Listeners that can't accept: what is said of it, and how long it is waited.

use std::io;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long nothing is accepted after the system could not give another socket, so that those who hold some can get on. Who
/// waits is in the listener's backlog.
const PAUSE: Duration = Duration::from_millis(100);

/// How long there must have been no such error for the next one to be news. While the system is short of sockets each one
/// that is closed is taken by the next client, and then it fails again.
const EPISODE: Duration = Duration::from_secs(60);

/// The failures of one listener.
#[derive(Debug)]
pub(crate) struct Failures {
    /// What can't be accepted, for the log.
    of: &'static str,
    last: Option<Instant>,
}

impl Failures {
    /// None yet; `of` are the connections that the listener accepts, in the words of the log.
    pub(crate) const fn new(of: &'static str) -> Self {
        Self { of, last: None }
    }

    /// Says that accepting has failed, once for as long as that lasts, and waits until it can be tried again. What is wrong
    /// with the one connection that would have been accepted is nothing to wait for.
    pub(crate) async fn wait(&mut self, error: &io::Error) {
        if is_the_clients(error) {
            return;
        }
        if self.is_news() {
            tracing::error!(%error, "no {} can be accepted; trying again", self.of);
        }
        sleep(PAUSE).await;
    }

    fn is_news(&mut self) -> bool {
        let now = Instant::now();
        self.last.replace(now).is_none_or(|last| now - last > EPISODE)
    }
}

/// Whether the connection failed that would have been accepted, and not accepting itself.
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_episode_is_said_once_though_now_and_then_one_is_accepted() {
        let mut failures = Failures::new("connection");
        assert!(failures.is_news());
        for _ in 0..100 {
            sleep(EPISODE - Duration::from_secs(1)).await;
            assert!(!failures.is_news());
        }
        sleep(EPISODE + Duration::from_secs(1)).await;
        assert!(failures.is_news());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_has_gone_keeps_nobody_waiting() {
        let mut failures = Failures::new("connection");
        let start = Instant::now();
        failures.wait(&io::ErrorKind::ConnectionAborted.into()).await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        failures.wait(&io::Error::from_raw_os_error(24)).await;
        assert_eq!(start.elapsed(), PAUSE);
    }
}
