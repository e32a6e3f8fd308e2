//! What a client can do against the protocol, and the close code each has (RFC 6455, section 7.4.1).

use crate::hub::CloseReason;
use crate::model::Opcode;
use fastwebsockets::CloseCode;

/// Why the server ends a connection because of what its client sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Violation {
    /// The frames break RFC 6455; the text says where. Close code 1002.
    #[error("{0}")]
    Protocol(&'static str),
    /// A text message or a close frame's reason is not UTF-8. Close code 1007.
    #[error("text is not utf-8")]
    NotUtf8,
    /// A message that has to be JSON, an object or a list, is not. Close code 1007 for text, 1003 for binary.
    #[error("message is not a json object or list")]
    NotJson(Opcode),
    /// A message, fragments together, is over the limit. Close code 1009.
    #[error("message is longer than {limit} bytes")]
    TooBig {
        /// The limit in bytes.
        limit: usize,
    },
}

impl Violation {
    /// The code of the close frame that answers it.
    pub fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => CloseCode::Protocol,
            Self::NotUtf8 | Self::NotJson(Opcode::Text) => CloseCode::Invalid,
            Self::NotJson(Opcode::Binary) => CloseCode::Unsupported,
            Self::TooBig { .. } => CloseCode::Size,
        }
        .into()
    }
}

impl From<Violation> for CloseReason {
    fn from(violation: Violation) -> Self {
        match violation {
            Violation::Protocol(_) | Violation::NotUtf8 | Violation::NotJson(_) => Self::Protocol,
            Violation::TooBig { .. } => Self::TooBig,
        }
    }
}
