//! Client profiles: what a client is told on open and what its messages mean.
//!
//! Rules as plain functions, a client's message in, effects out; sockets, Redis and the hub are unknown here.

use super::message::Message;
use crate::model::{DeviceId, HexId, Opcode};
use std::borrow::Cow;

/// What a client of the profile `center` sends to learn whether somebody is there.
const PING: &[u8] = b"ping";

/// How a WebSocket client is spoken to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Profile {
    /// Nothing is said on open; a message is echoed to its sender alone.
    Channel,
    /// The client is told its id on open and with each answer to `ping`; everything else that it says is ignored.
    Center,
    /// The client is told its device id on open, and may bring a stable one; what it says is ignored, unless the operator lets
    /// its messages be what backends write to the device socket.
    Device,
    /// The client calls methods, and each call is acknowledged at once; see `method`.
    Method,
    /// What a program's own handler makes of it; not one that can be configured.
    Handler,
}

/// What a message brings about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<'a> {
    /// Nothing.
    Ignored,
    /// Its sender gets a message, in order with what is pushed to it.
    Reply {
        /// How it is framed.
        opcode: Opcode,
        /// The message.
        payload: Cow<'a, [u8]>,
        /// Whether the client has only asked if somebody is there.
        keeps_alive: bool,
    },
    /// It is a document as backends write them to the device socket, for whoever carries those out; nothing where clients may
    /// not do that. Nobody gets an answer.
    Document(&'a [u8]),
}

impl Profile {
    /// Every profile that can be configured, in the order in which messages to people list them.
    pub const ALL: [Profile; 4] = [Self::Channel, Self::Center, Self::Device, Self::Method];

    /// The name that configuration and directory have for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::Center => "center",
            Self::Device => "device",
            Self::Method => "method",
            Self::Handler => "handler",
        }
    }

    /// The one of this name, of those that can be configured.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == name)
    }

    /// The text message that the client with this id gets before any push, where there is one.
    pub(crate) fn greeting(self, id: HexId) -> Option<String> {
        match self {
            Self::Channel | Self::Method | Self::Handler => None,
            Self::Center => Some(command("open", id)),
            Self::Device => {
                let id = DeviceId::new(id.life(), id.connection());
                Some(format!(r#"{{"action":"setDeviceId","data":{{"device_id":"{id}"}}}}"#))
            }
        }
    }

    /// What comes of a message of the client with this id; of `method` nothing, as its messages have rules of their own.
    pub(crate) fn on_message(self, id: HexId, message: Message<'_>) -> Effect<'_> {
        match self {
            Self::Channel => {
                Effect::Reply { opcode: message.opcode, payload: message.payload.into(), keeps_alive: false }
            }
            Self::Center if message.payload == PING => {
                let pong = command("pong", id).into_bytes();
                Effect::Reply { opcode: Opcode::Text, payload: pong.into(), keeps_alive: true }
            }
            Self::Center | Self::Method | Self::Handler => Effect::Ignored,
            Self::Device => Effect::Document(message.payload),
        }
    }
}

/// What a client of the profile `center` is told, with its id.
fn command(name: &str, id: HexId) -> String {
    format!(r#"{{"cmd":"{name}","_id":"{id}"}}"#)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionId, NodeId, Seq};

    fn id() -> HexId {
        let life: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        HexId::new(life.tag(), ConnectionId::new(Seq::new(5).unwrap(), 7))
    }

    #[test]
    fn a_channel_client_is_told_nothing_on_open_and_gets_its_messages_back_as_they_were() {
        assert_eq!(Profile::Channel.greeting(id()), None);
        for opcode in [Opcode::Text, Opcode::Binary] {
            let payload = b"{\"method\":\"ping\"}";
            let effect = Profile::Channel.on_message(id(), Message { opcode, payload });
            assert_eq!(effect, Effect::Reply { opcode, payload: payload.into(), keeps_alive: false });
        }
    }

    #[test]
    fn a_center_client_is_told_its_id_on_open_and_for_each_ping() {
        let open = r#"{"cmd":"open","_id":"98b95842c9e26e8f0000000500000007"}"#;
        assert_eq!(Profile::Center.greeting(id()).as_deref(), Some(open));
        let pong = br#"{"cmd":"pong","_id":"98b95842c9e26e8f0000000500000007"}"#;
        for opcode in [Opcode::Text, Opcode::Binary] {
            let effect = Profile::Center.on_message(id(), Message { opcode, payload: b"ping" });
            assert_eq!(effect, Effect::Reply { opcode: Opcode::Text, payload: pong.into(), keeps_alive: true });
            for payload in [&b""[..], b"PING", b"ping ", b"\"ping\"", b"{\"cmd\":\"ping\"}", b"pong"] {
                let effect = Profile::Center.on_message(id(), Message { opcode, payload });
                assert_eq!(effect, Effect::Ignored, "{payload:?}");
            }
        }
    }

    #[test]
    fn a_device_client_is_told_its_device_id_on_open_and_what_it_says_is_a_document() {
        let open = r#"{"action":"setDeviceId","data":{"device_id":"TFysIWAAAUAAAAH"}}"#;
        assert_eq!(Profile::Device.greeting(id()).as_deref(), Some(open));
        for payload in [&b""[..], b"ping", b"{\"action\":\"multicast\"}"] {
            let message = Message { opcode: Opcode::Text, payload };
            assert_eq!(Profile::Device.on_message(id(), message), Effect::Document(payload));
        }
    }
}
