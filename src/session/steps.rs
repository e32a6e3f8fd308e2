//! What a client's bytes bring about, step by step, in the order in which it sent them.

use super::close::Violation;
use super::handler::Incoming;
use super::hooks::{Call, Said};
use super::message::Message;
use super::method::{self, Spoken};
use super::profile::{Effect, Profile};
use crate::hub::{CloseReason, frame};
use crate::model::{HexId, Opcode};
use bytes::Bytes;
use serde_json::{Map, Value};

/// One thing that is brought about.
#[derive(Debug)]
pub(super) enum Step {
    /// The client gets this frame.
    Send(Bytes),
    /// The application is told of this message, and the client gets what it answers.
    Tell(Told),
    /// A document is carried out as if a backend had sent it.
    Document(Bytes),
    /// The handler that has the connection gets this.
    Hand(Incoming),
    /// The connection ends with this frame. Nothing follows.
    End(Ending),
}

/// A message for the application.
#[derive(Debug)]
pub(super) enum Told {
    /// As it came.
    Message(Opcode, Bytes),
    /// The call of a method, with the message's data.
    Call(Opcode, Call, Map<String, Value>),
}

/// How a session ends its connection.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Ending {
    /// The close frame.
    pub(super) frame: Bytes,
    /// Its code and reason, where it has a code.
    pub(super) said: Option<(u16, String)>,
    pub(super) why: CloseReason,
}

impl Ending {
    /// With this close frame.
    pub(super) fn new(code: u16, reason: &str, why: CloseReason) -> Self {
        Self { frame: frame::close(code, reason), said: Some((code, reason.to_owned())), why }
    }

    /// The answer to a client's close frame: its own code (RFC 6455, section 5.5.1).
    pub(super) fn by_client(close: Option<(u16, &str)>) -> Self {
        Self {
            frame: close.map_or_else(frame::close_empty, |(code, _)| frame::close(code, "")),
            said: close.map(|(code, reason)| (code, reason.to_owned())),
            why: CloseReason::Client,
        }
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        Self::new(violation.code(), &violation.to_string(), violation.into())
    }
}

/// What decides about the meaning of a connection's messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    pub(super) profile: Profile,
    pub(super) id: HexId,
    /// Whether the application is told of messages; it answers them in the profile's stead then, keep-alives left out.
    pub(super) told: bool,
    /// Whether documents are carried out.
    pub(super) documents: bool,
}

impl Rules {
    /// What a message brings about.
    ///
    /// # Errors
    /// It is nothing that a client of this profile may send.
    pub(super) fn message(self, message: Message<'_>, steps: &mut Vec<Step>) -> Result<(), Violation> {
        if self.profile == Profile::Method {
            return self.method(message, steps);
        }
        let effect = self.profile.on_message(self.id, message);
        match effect {
            Effect::Reply { opcode, payload, keeps_alive } if keeps_alive || !self.told => {
                steps.push(Step::Send(frame::message(opcode, &payload)));
                return Ok(());
            }
            Effect::Document(document) if self.documents => {
                steps.push(Step::Document(Bytes::copy_from_slice(document)));
            }
            Effect::Reply { .. } | Effect::Document(_) | Effect::Ignored => {}
        }
        if self.told {
            steps.push(Step::Tell(Told::Message(message.opcode, Bytes::copy_from_slice(message.payload))));
        }
        Ok(())
    }

    fn method(self, message: Message<'_>, steps: &mut Vec<Step>) -> Result<(), Violation> {
        let mut send = |text: &str| steps.push(Step::Send(frame::message(Opcode::Text, text.as_bytes())));
        match method::read(message)? {
            Spoken::KeepAlive => send(method::KEPT_ALIVE),
            Spoken::Call(call, data) => {
                send(method::RECEIVED);
                if self.told {
                    steps.push(Step::Tell(Told::Call(message.opcode, call, data)));
                } else {
                    send(method::built_in(&call));
                }
            }
        }
        Ok(())
    }
}

/// A message that the application is told of, as the profile's own rules would have it.
#[derive(Debug)]
pub(super) enum Untold {
    Message(Opcode, Bytes),
    Call(Call),
}

impl Untold {
    /// What the client gets by its profile's rules.
    pub(super) fn reply(&self, profile: Profile, id: HexId) -> Option<Bytes> {
        match self {
            Self::Message(opcode, payload) => match profile.on_message(id, Message { opcode: *opcode, payload }) {
                Effect::Reply { opcode, payload, keeps_alive: _ } => Some(frame::message(opcode, &payload)),
                // Carried out already, whoever is told.
                Effect::Document(_) | Effect::Ignored => None,
            },
            Self::Call(call) => Some(frame::message(Opcode::Text, method::built_in(call).as_bytes())),
        }
    }
}

impl Told {
    /// The same for the profile's own rules, should nobody care for it. Copies nothing that is long.
    pub(super) fn untold(&self) -> Untold {
        match self {
            Self::Message(opcode, payload) => Untold::Message(*opcode, payload.clone()),
            Self::Call(_, call, _) => Untold::Call(call.clone()),
        }
    }

    /// The message as the application is told it, as the connection's `number`th; `claims` and `escape_html` as for
    /// [`method::data`].
    pub(super) fn said(self, number: u32, id: HexId, claims: &Value, escape_html: bool) -> Said {
        match self {
            Self::Message(opcode, payload) => Said { number, opcode, payload, call: None },
            Self::Call(opcode, call, data) => {
                let payload = method::data(data, id.connection(), claims, escape_html).into();
                Said { number, opcode, payload, call: Some(call) }
            }
        }
    }

    /// What the client is told where the application could not be.
    pub(super) fn unanswered(profile: Profile) -> Option<&'static str> {
        match profile {
            Profile::Method => Some(method::FAILED),
            Profile::Channel | Profile::Center | Profile::Device | Profile::Handler => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionId, NodeId};

    /// The steps as texts: `> frame` for what is sent, `! message` for what is told.
    fn steps(profile: Profile, told: bool, documents: bool, text: &str) -> Result<Vec<String>, Violation> {
        let life: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let id = HexId::new(life.tag(), ConnectionId::from_u64(7).unwrap());
        let rules = Rules { profile, id, told, documents };
        let mut steps = Vec::new();
        rules.message(Message { opcode: Opcode::Text, payload: text.as_bytes() }, &mut steps)?;
        let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok(steps
            .into_iter()
            .map(|step| match step {
                Step::Send(frame) => format!("> {}", shown(&frame[2..])),
                Step::Tell(told) => format!("! {}", shown(&told.said(1, id, &Value::Null, false).payload)),
                Step::Document(document) => format!("= {}", shown(&document)),
                Step::Hand(incoming) => format!("{incoming:?}"),
                Step::End(_) => "end".to_owned(),
            })
            .collect())
    }

    #[test]
    fn whoever_is_told_answers_in_the_profiles_stead_but_keep_alives() {
        let pong = r#"> {"cmd":"pong","_id":"98b95842c9e26e8f0000000000000007"}"#;
        for (profile, told, text, expected) in [
            (Profile::Channel, false, "hi", vec!["> hi"]),
            (Profile::Channel, true, "hi", vec!["! hi"]),
            (Profile::Center, false, "hi", vec![]),
            (Profile::Center, true, "hi", vec!["! hi"]),
            (Profile::Center, true, "ping", vec![pong]),
            (Profile::Device, false, "hi", vec![]),
            (Profile::Device, true, "hi", vec!["! hi"]),
            (Profile::Method, true, "2", vec!["> 3"]),
        ] {
            assert_eq!(steps(profile, told, false, text).unwrap(), expected, "{profile:?} {told} {text}");
        }
        assert_eq!(steps(Profile::Device, true, true, "{}").unwrap(), ["= {}", "! {}"]);
    }

    #[test]
    fn what_nobody_cares_for_is_the_profile_s() {
        let life: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let id = HexId::new(life.tag(), ConnectionId::from_u64(7).unwrap());
        let reply = |profile, told: Told| told.untold().reply(profile, id);
        let binary = || Told::Message(Opcode::Binary, Bytes::from_static(b"\xff"));
        assert_eq!(reply(Profile::Channel, binary()), Some(frame::message(Opcode::Binary, b"\xff")));
        assert_eq!(reply(Profile::Center, binary()), None);
        assert_eq!(reply(Profile::Device, binary()), None);
        let call = Call { module: "Index".into(), controller: "Index".into(), method: "index".into() };
        let done = frame::message(Opcode::Text, method::built_in(&call).as_bytes());
        assert_eq!(reply(Profile::Method, Told::Call(Opcode::Text, call, Map::new())), Some(done));
    }

    #[test]
    fn a_method_is_acknowledged_first() {
        let received = format!("> {}", method::RECEIVED);
        let all = steps(Profile::Method, true, false, r#"{"method":"a"}"#).unwrap();
        assert_eq!(all, [received.as_str(), r#"! {"method":"a","code":null,"auth":null,"fd":7}"#]);
        let all = steps(Profile::Method, false, false, r#"{"method":"a.b"}"#).unwrap();
        assert_eq!(
            all,
            [
                received,
                format!(
                    "> {}",
                    method::built_in(&Call {
                        module: "Index".to_owned(),
                        controller: "A".to_owned(),
                        method: "b".to_owned()
                    })
                )
            ]
        );
        assert_eq!(steps(Profile::Method, true, false, "hi"), Err(Violation::NotJson(Opcode::Text)));
    }
}
