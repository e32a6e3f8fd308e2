//! Follows the files that the configuration comes from, as a mounted secret changes without a word to anybody.

use crate::config::{Config, Faults, Fixed, Reloadable};
use std::time::Duration;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(2);

/// What reads the configuration again.
pub(super) type Read = fn() -> Result<Config, Faults>;

/// What a look at the files has found, as far as a node that runs could do something about it.
type Content = Result<(Reloadable, Fixed), String>;

fn content(read: &Result<Config, Faults>) -> Content {
    match read {
        Ok(config) => Ok((config.reloadable.clone(), config.fixed.clone())),
        Err(faults) => Err(faults.to_string()),
    }
}

/// Looks at the files.
pub(super) struct Follower {
    read: Option<Read>,
    /// What the node knows.
    known: Content,
    /// What the last look found: a file that is being written is another one at the next.
    found: Option<Content>,
}

impl Follower {
    /// For a node that was started with this; without anything that reads, nothing ever changes.
    pub(super) fn new(read: Option<Read>, started_with: &Config) -> Self {
        let known = Ok((started_with.reloadable.clone(), started_with.fixed.clone()));
        Self { read, known, found: None }
    }

    /// Reads the files now, for a node that was told to; `None` where there is nothing to read.
    pub(super) async fn now(&mut self) -> Option<Result<Config, Faults>> {
        let read = look(self.read?).await?;
        self.known = content(&read);
        Some(read)
    }

    /// Waits until the files say something else than what the node knows, in two looks, and gives that. A fault is
    /// given once, and what was there before it, if that comes back. Cancel safe: what a look has found is found by the next.
    pub(super) async fn changed(&mut self) -> Result<Config, Faults> {
        let Some(read) = self.read else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let Some(read) = look(read).await else { continue };
            let found = Some(content(&read));
            let is_settled = self.found == found;
            self.found = found;
            if let Some(found) = self.found.take_if(|found| is_settled && *found != self.known) {
                self.known = found;
                return read;
            }
        }
    }
}

/// Files may block.
async fn look(read: Read) -> Option<Result<Config, Faults>> {
    tokio::task::spawn_blocking(read)
        .await
        .inspect_err(|error| tracing::error!(%error, "the configuration could not be read again"))
        .ok()
}
