//! Log lines: text for people on a terminal, JSON for machines otherwise; the level can change while the node runs.

use crate::config::LogFormat;
use std::io::IsTerminal;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Changes what is logged.
pub struct LogLevel(Handle<Targets, Registry>);

/// Why logging could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter's text is not one.
    #[error("log filter: {0}")]
    Filter(#[from] ParseError),
    /// The program has a logger already.
    #[error("logger: {0}")]
    Taken(#[from] TryInitError),
}

/// Sets up the program's logger on standard error. `filter` as in `LOG`: a level, or a list of `module=level`.
pub fn init(format: LogFormat, filter: &str) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(filter.parse::<Targets>()?);
    let text = match format {
        LogFormat::Auto => std::io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    // Colours are for terminals: in a file or a journal they are only in the way of whoever searches it.
    let lines = fmt::layer().with_writer(std::io::stderr);
    let lines = if std::io::stderr().is_terminal() { lines } else { lines.with_ansi(false) };
    let lines = if text { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    tracing_subscriber::registry().with(filter).with(lines).try_init()?;
    Ok(LogLevel(handle))
}

impl LogLevel {
    /// Logs by this filter from now on.
    pub fn set(&self, filter: &str) -> Result<(), LogError> {
        let filter = filter.parse::<Targets>()?;
        // The only error is that the logger is gone, and then there is nothing to be said.
        let _ = self.0.reload(filter);
        Ok(())
    }
}
/// The shortest time between two lines about one thing that can happen thousands of times a second.
const BETWEEN_LINES: Duration = Duration::from_secs(1);

/// Lines of log about one thing, at most one in a while.
#[derive(Default)]
pub struct Seldom(Mutex<(Option<Instant>, u64)>);

impl Seldom {
    /// Whether it is time for a line; with it, how many there would have been since the last.
    pub fn line(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, left_out) = &mut *state;
        if last.is_some_and(|last| last.elapsed() < BETWEEN_LINES) {
            *left_out += 1;
            return None;
        }
        *last = Some(Instant::now());
        Some(std::mem::take(left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_of_log_are_one_a_second_and_tell_how_many_were_left_out() {
        let log = Seldom::default();
        assert_eq!([log.line(), log.line(), log.line()], [Some(0), None, None]);
        tokio::time::advance(BETWEEN_LINES).await;
        assert_eq!([log.line(), log.line()], [Some(2), None]);
    }
}
