//! What goes over a connection, and what can go wrong with it.

use crate::hub::End;
use crate::model::Opcode;
use bytes::Bytes;
use fastwebsockets::CloseCode;

/// One thing that a client sends or is sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Message {
    /// A text.
    Text(String),
    /// Any bytes.
    Binary(Bytes),
    /// A ping, of at most 125 bytes. Received only where control frames were asked for; else it is answered by itself.
    Ping(Bytes),
    /// A pong, of at most 125 bytes. Received only where control frames were asked for.
    Pong(Bytes),
    /// A close frame, with its code and reason: pushed, it is what [`Connection::close`](super::Connection::close) does. It is
    /// never received; how a client has closed is told by [`Connection::closed`](super::Connection::closed).
    Close(u16, String),
}

impl Message {
    /// The text; `None` of anything else.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            Self::Binary(_) | Self::Ping(_) | Self::Pong(_) | Self::Close(..) => None,
        }
    }

    /// Its bytes, whatever it is; of a close frame those of the reason.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(bytes) | Self::Ping(bytes) | Self::Pong(bytes) => bytes,
            Self::Close(_, reason) => reason.as_bytes(),
        }
    }

    /// Its kind where it is a data message; `None` of a control frame.
    pub(super) fn opcode(&self) -> Option<Opcode> {
        match self {
            Self::Text(_) => Some(Opcode::Text),
            Self::Binary(_) => Some(Opcode::Binary),
            Self::Ping(_) | Self::Pong(_) | Self::Close(..) => None,
        }
    }
}

impl From<&str> for Message {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Bytes> for Message {
    fn from(bytes: Bytes) -> Self {
        Self::Binary(bytes)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes.into())
    }
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// The code of the close frame that ended it, the client's or the server's; 1005 where that had none, 1006 where there was
    /// no close frame (RFC 6455, section 7.4.1).
    pub code: u16,
    /// That frame's reason.
    pub reason: String,
    /// Why it ended, in the words of the metric `carillon_connections_closed_total`: `client`, `lost`, `protocol_error`,
    /// `message_too_big`, `api`, `slow_consumer`, `ping_timeout`, `idle`, `gap`, `going_away`, `restart`, `handler_failed`.
    pub cause: String,
}

impl From<&End> for Closed {
    fn from(end: &End) -> Self {
        Self { code: end.code, reason: end.reason.clone(), cause: end.cause.clone() }
    }
}

/// The code of a close frame that a program wants sent: 1000 in place of those that may not be (RFC 6455, section 7.4).
pub(super) fn close_code(wanted: u16) -> u16 {
    if CloseCode::from(wanted).is_allowed() { wanted } else { 1000 }
}

/// Why nothing was received.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The time was over. What comes later is received by the next call.
    #[error("nothing was received in time")]
    TimedOut,
    /// The client broke the protocol, and was closed for it (1002, 1007), or sent a message over the limit (1009).
    #[error("client was closed with {} for what it sent: {}", .0.code, .0.reason)]
    Violation(Closed),
}

/// Why something was not sent.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// The connection has ended, or is about to.
    #[error("connection has ended")]
    Ended,
    /// It is larger than one message may be.
    #[error("message of {size} bytes is longer than {limit} bytes")]
    TooBig {
        /// Its bytes.
        size: usize,
        /// How many it may have: `Limits::max_push`, or 125 for a ping or pong.
        limit: usize,
    },
    /// A message in fragments has begun, and no other can be sent before its last one.
    #[error("a message in fragments is not finished")]
    Unfinished,
    /// A fragment of another kind than the message's first.
    #[error("fragment is not of the kind of its message")]
    OtherKind,
}
