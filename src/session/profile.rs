//! Client profiles: what a client is told on open and what its messages mean.
//!
//! Rules as plain functions, a client's message in, effects out; sockets, Redis and the hub are unknown here.

use super::message::Message;
use bytes::Bytes;

/// How a WebSocket client is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing is said on open; a message is echoed to its sender alone.
    Channel,
}

/// What a message brings about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect<'a> {
    /// Its sender gets this message, in order with what is pushed to it.
    Reply(Message<'a>),
}

impl Profile {
    /// Every profile, in the order in which messages to people list them.
    pub const ALL: [Profile; 1] = [Self::Channel];

    /// The name that configuration and directory have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
        }
    }

    /// The frames that a client gets before any push.
    pub fn greeting(self) -> Vec<Bytes> {
        match self {
            Self::Channel => Vec::new(),
        }
    }

    /// What comes of a client's message.
    pub fn on_message(self, message: Message<'_>) -> Effect<'_> {
        match self {
            Self::Channel => Effect::Reply(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Opcode;

    #[test]
    fn a_channel_client_is_told_nothing_on_open_and_gets_its_messages_back_as_they_were() {
        assert!(Profile::Channel.greeting().is_empty());
        for opcode in [Opcode::Text, Opcode::Binary] {
            let message = Message { opcode, payload: b"{\"method\":\"ping\"}" };
            assert_eq!(Profile::Channel.on_message(message), Effect::Reply(message));
        }
    }
}
