//! Why a client command did not do what it was asked, and what its user can do about it.

use super::http::shown;
use super::output;
use hyper::StatusCode;
use std::error::Error;
use std::io;
use std::process::ExitCode;
use url::Url;

/// Why a command failed. Which variant it is decides the exit code.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The server was reached and said no.
    #[error("{message}")]
    Refused {
        /// What it said.
        message: String,
        /// What to do about it, where that is known.
        advice: Option<&'static str>,
    },
    /// What was typed can't be carried out.
    #[error("{0}")]
    Usage(String),
    /// No server there, no answer in time, or the connection was lost.
    #[error("{message}")]
    Unreachable {
        /// What was tried and how it ended.
        message: String,
        /// What to do about it, where that is known.
        advice: Option<&'static str>,
    },
    /// What the console command has to say, in its own words.
    #[error("{said}")]
    Operator {
        /// Those words.
        said: String,
        /// What is behind them, where they don't say it.
        because: Option<String>,
        /// The exit code.
        code: u8,
    },
    /// Standard output did not take the result.
    #[error("can't write to standard output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    /// A refusal about which nothing more is known than its text.
    pub(super) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), advice: None }
    }

    /// Something else than Carillon's HTTP API answered at `url`; `said` is its plain text, if it had any.
    pub(super) fn stranger(url: &Url, status: StatusCode, said: Option<&str>) -> Self {
        let said = said.map(|text| format!(" ({text})")).unwrap_or_default();
        Self::Refused {
            message: format!("{} answered {status}{said}: no Carillon HTTP API answers there", shown(url)),
            advice: Some(
                "--api names a node's HTTP port, 8080 unless HTTP_PORT says otherwise; WebSockets have another",
            ),
        }
    }

    /// A failure to reach the server about which nothing more is known than its text.
    pub(super) fn unreachable(message: impl Into<String>) -> Self {
        Self::Unreachable { message: message.into(), advice: None }
    }

    /// Whether the reader of a pipe went away: it has what it wanted, so that is an end and not an error.
    fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Writes it to standard error, with the advice on a line of its own.
    pub(super) fn tell(&self) {
        if self.is_closed_pipe() {
            return;
        }
        if let Self::Operator { said, because, .. } = self {
            // As they are: scripts know them.
            output::plain_note(said);
            if let Some(because) = because {
                output::note(because);
            }
            return;
        }
        output::note(&self.to_string());
        if let Self::Refused { advice: Some(advice), .. } | Self::Unreachable { advice: Some(advice), .. } = self {
            output::note(advice);
        }
    }

    /// The exit code that `carillon --help` documents for it.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Output(_) if self.is_closed_pipe() => ExitCode::SUCCESS,
            Self::Refused { .. } | Self::Output(_) => ExitCode::from(1),
            Self::Operator { code, .. } => ExitCode::from(*code),
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable { .. } => ExitCode::from(3),
        }
    }
}

/// The innermost cause of an error: HTTP libraries wrap "connection refused" in layers that only say "connect error".
pub(super) fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
