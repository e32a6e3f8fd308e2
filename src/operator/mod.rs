//! What an operator can tell a running node, and the words in which it is answered.
//!
//! The node answers, the command asks and checks beforehand: both take the words from here.

mod last_reload;
mod phrases;

pub use last_reload::LastReload;
pub use phrases::{Language, Phrase, UnknownLanguage};

use std::str::FromStr;
use tokio::sync::oneshot;

/// What a running node can be told; `start` is not one of them, as nobody is there to hear it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// Read again what can change.
    Reload,
    /// Drain and end.
    Stop,
    /// Say how things are.
    Status,
    /// Tell every client of the cluster something.
    Say,
}

/// It is none of the operations.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("operation is not reload, stop, status or say")]
pub struct UnknownOperation;

impl Operation {
    /// Its name, as it is typed and sent.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::Status => "status",
            Self::Say => "say",
        }
    }
}

impl FromStr for Operation {
    type Err = UnknownOperation;

    fn from_str(text: &str) -> Result<Self, UnknownOperation> {
        [Self::Reload, Self::Stop, Self::Status, Self::Say]
            .into_iter()
            .find(|operation| operation.as_str() == text)
            .ok_or(UnknownOperation)
    }
}

/// What brings a node to reload or to end; signals give the same.
#[derive(Debug)]
pub enum Order {
    /// Drain and end, as an operator asks; a second time it changes nothing.
    Stop,
    /// The same by a signal; a second one: end at once. The first one after an operator's order is not the second: whoever runs
    /// the node sends it when the command for stopping has returned.
    Terminate,
    /// Read again what can change, and tell whoever waits for it. A node that is stopping drops the order.
    Reload(Option<oneshot::Sender<Reloaded>>),
}

/// What has become of a reload: an error says what is not as the configuration wants it.
pub type Reloaded = Result<(), String>;
