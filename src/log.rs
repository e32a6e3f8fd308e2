//! Log lines: text for people on a terminal, JSON for machines otherwise; the level can change while the node runs.

use crate::config::LogFormat;
use std::io::IsTerminal;
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
    let lines = fmt::layer().with_writer(std::io::stderr);
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
