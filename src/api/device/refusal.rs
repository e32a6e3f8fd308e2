//! Why a document is not carried out.

use super::documents::MAX_DOCUMENT;
use super::scanner::Malformed;
use crate::model::{Error, Name, NameError};

/// Why a document is not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// It can't become a document.
    #[error("{0}")]
    Malformed(Malformed),
    /// Nothing of it followed for a while, or the stream has ended.
    #[error("document is incomplete")]
    Incomplete,
    /// There is nothing.
    #[error("document is empty")]
    Nothing,
    /// It is `null`.
    #[error("document is null")]
    Null,
    /// It is over the limit.
    #[error("document is longer than {MAX_DOCUMENT} bytes")]
    TooLong,
    /// Other documents take the memory that there is for them.
    #[error("too many long documents at once")]
    Busy,
    /// The cluster did not take it.
    #[error("not accepted: {0}")]
    NotAccepted(Error),
    /// A client wants somebody subscribed to a private channel that its token doesn't allow.
    #[error("channel {0:?} is private, and the client has no token that allows it")]
    PrivateChannel(Name),
    /// It is no object.
    #[error("document is not an object")]
    NotAnObject,
    /// An action that there is not.
    #[error("action {0:?} is unknown; known are: multicast, sendToChannel, sendToDevice, subscribe, unsubscribe")]
    UnknownAction(String),
    /// A member is not there, or `null`.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A member is no text.
    #[error("{0} is not a text")]
    NotAText(&'static str),
    /// A member is no name.
    #[error("{0}: {1}")]
    BadName(&'static str, NameError),
    /// No connection has this id.
    #[error("device {0:?} is unknown")]
    UnknownDevice(String),
}

impl Refusal {
    /// What [`label`](Self::label) can be.
    pub(super) const LABELS: [&str; 16] = [
        "malformed",
        "incomplete",
        "empty",
        "null",
        "too_long",
        "busy",
        "unavailable",
        "no_answer",
        "limit",
        "private_channel",
        "not_an_object",
        "unknown_action",
        "missing",
        "not_a_text",
        "bad_name",
        "unknown_device",
    ];

    /// The word for it in metrics.
    pub(super) const fn label(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Incomplete => "incomplete",
            Self::Nothing => "empty",
            Self::Null => "null",
            Self::TooLong => "too_long",
            Self::Busy => "busy",
            Self::NotAccepted(Error::Unavailable(_)) => "unavailable",
            Self::NotAccepted(Error::NoAnswer { .. }) => "no_answer",
            Self::NotAccepted(Error::Limit(_)) => "limit",
            Self::PrivateChannel(_) => "private_channel",
            Self::NotAnObject => "not_an_object",
            Self::UnknownAction(_) => "unknown_action",
            Self::Missing(_) => "missing",
            Self::NotAText(_) => "not_a_text",
            Self::BadName(..) => "bad_name",
            Self::UnknownDevice(_) => "unknown_device",
        }
    }

    /// Whether the answer is `OK` all the same, unless the operator wants it strict: what backends write that were made for a
    /// server which takes every document for good, whatever is in it.
    pub(super) const fn is_overlooked(&self) -> bool {
        match self {
            Self::NotAnObject
            | Self::UnknownAction(_)
            | Self::Missing(_)
            | Self::NotAText(_)
            | Self::BadName(..)
            | Self::UnknownDevice(_) => true,
            Self::Malformed(_)
            | Self::Incomplete
            | Self::Nothing
            | Self::Null
            | Self::TooLong
            | Self::Busy
            | Self::NotAccepted(_)
            | Self::PrivateChannel(_) => false,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::NotAccepted(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn every_refusal_has_a_label_and_those_that_are_overlooked_are_the_last() {
        let no_answer = Error::NoAnswer { node: String::new(), waited: Duration::ZERO };
        let all = [
            Refusal::Malformed(Malformed::Syntax),
            Refusal::Incomplete,
            Refusal::Nothing,
            Refusal::Null,
            Refusal::TooLong,
            Refusal::Busy,
            Error::Unavailable(String::new()).into(),
            no_answer.into(),
            Error::Limit(String::new()).into(),
            Refusal::PrivateChannel(Name::new("x").unwrap()),
            Refusal::NotAnObject,
            Refusal::UnknownAction(String::new()),
            Refusal::Missing("data"),
            Refusal::NotAText("device"),
            Refusal::BadName("channel", NameError::Empty),
            Refusal::UnknownDevice(String::new()),
        ];
        assert_eq!(all.each_ref().map(Refusal::label), Refusal::LABELS);
        let first = all.iter().position(Refusal::is_overlooked);
        assert_eq!(first, Some(10));
        assert!(all[10..].iter().all(Refusal::is_overlooked));
    }
}
