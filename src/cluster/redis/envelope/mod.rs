//! What travels on the bus: a small binary header with a version, and the payload as it came.
//!
//! The first byte, 0xC1, is one that UTF-8 never has: fred tries every message as text first, and gives up at once.
//! Integers are big-endian; texts have their length in front. A receiver skips versions and kinds that it does not
//! know, so that nodes of two versions can share a cluster while one replaces the other.

mod read;
mod write;

use crate::cluster::{Act, Outcome};
use crate::model::{Push, Seq};
use bytes::{BufMut, Bytes, BytesMut};
use read::Reader;

const MAGIC: u8 = 0xC1;
const VERSION: u8 = 1;

const PUSH: u8 = 1;
const ACT: u8 = 2;
const ANSWER: u8 = 3;
const PROBE: u8 = 4;

/// One message of the bus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Envelope {
    /// A push and when its publisher took it, in microseconds of the cluster's clock.
    Push { push: Push, taken_at: u64 },
    /// A request to act.
    Act(Request),
    /// The answer to one.
    Answer(Answer),
    /// A node's message to itself, through one of its links.
    Probe { link: u64, number: u64 },
}

/// A request to act.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Request {
    /// The asker's number for it.
    pub(super) id: u64,
    /// Who asks; the answer goes to that node's inbox.
    pub(super) asker: Seq,
    /// When it was asked, in microseconds of the cluster's clock.
    pub(super) asked_at: u64,
    /// When it is over, in microseconds of the cluster's clock: later it must not be carried out.
    pub(super) deadline: u64,
    /// What is wanted, one after the other.
    pub(super) acts: Vec<Act>,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// The asker's number of the request.
    pub(super) id: u64,
    /// Who answers.
    pub(super) node: Seq,
    /// What came of each act.
    pub(super) outcomes: Vec<Outcome>,
}

/// Why bytes from the bus are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum Unreadable {
    #[error("message ends early")]
    Truncated,
    #[error("not a message of this program")]
    Foreign,
    #[error("version {0} is not known")]
    Version(u8),
    #[error("{what} {value} is not known")]
    Unknown { what: &'static str, value: u8 },
    #[error("name or id breaks its rules")]
    Value,
}

impl Envelope {
    /// The message as bytes; the payload of a push is copied once, behind its header.
    pub(super) fn encode(&self) -> Bytes {
        let payload = match self {
            Self::Push { push, .. } => push.payload.len(),
            Self::Act(request) => request.acts.iter().map(write::size).sum(),
            Self::Answer(answer) => answer.outcomes.len() * 9,
            Self::Probe { .. } => 0,
        };
        let mut out = BytesMut::with_capacity(64 + payload);
        out.put_slice(&[MAGIC, VERSION]);
        match self {
            Self::Push { push, taken_at } => {
                out.put_u8(PUSH);
                out.put_u64(*taken_at);
                write::push(&mut out, push);
                out.put_slice(&push.payload);
            }
            Self::Act(request) => {
                out.put_u8(ACT);
                out.put_u64(request.id);
                out.put_u32(request.asker.get());
                out.put_u64(request.asked_at);
                out.put_u64(request.deadline);
                write::list(&mut out, &request.acts, write::act);
            }
            Self::Answer(answer) => {
                out.put_u8(ANSWER);
                out.put_u64(answer.id);
                out.put_u32(answer.node.get());
                write::list(&mut out, &answer.outcomes, write::outcome);
            }
            Self::Probe { link, number } => {
                out.put_u8(PROBE);
                out.put_u64(*link);
                out.put_u64(*number);
            }
        }
        out.freeze()
    }

    /// Reads a message; the payload of a push shares `bytes`.
    pub(super) fn decode(bytes: Bytes) -> Result<Self, Unreadable> {
        let mut input = Reader::new(bytes);
        if input.u8()? != MAGIC {
            return Err(Unreadable::Foreign);
        }
        match input.u8()? {
            VERSION => {}
            other => return Err(Unreadable::Version(other)),
        }
        match input.u8()? {
            PUSH => {
                let taken_at = input.u64()?;
                let mut push = input.push()?;
                push.payload = input.rest();
                Ok(Self::Push { push, taken_at })
            }
            ACT => {
                let (id, asker, asked_at, deadline) = (input.u64()?, input.seq()?, input.u64()?, input.u64()?);
                Ok(Self::Act(Request { id, asker, asked_at, deadline, acts: input.list(Reader::act)? }))
            }
            ANSWER => Ok(Self::Answer(Answer {
                id: input.u64()?,
                node: input.seq()?,
                outcomes: input.list(Reader::outcome)?,
            })),
            PROBE => Ok(Self::Probe { link: input.u64()?, number: input.u64()? }),
            value => Err(Unreadable::Unknown { what: "kind", value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Audience, AudienceKind, ConnectionId, Exclusions, Name, Opcode, Target, Who};

    fn audience(kind: AudienceKind, name: &str) -> Audience {
        Audience { kind, name: Name::new(name).unwrap() }
    }

    fn id(value: u64) -> ConnectionId {
        ConnectionId::from_u64(value).unwrap()
    }

    fn push(target: Target) -> Envelope {
        let exclude =
            Exclusions { connections: vec![id(1), id((1 << 53) - 1)], users: vec![Name::new("ann").unwrap()] };
        Envelope::Push {
            push: Push { target, exclude, payload: Bytes::from_static(b"\0payload\xff"), opcode: Opcode::Binary },
            taken_at: 1_700_000_000_000_000,
        }
    }

    fn request(acts: Vec<Act>) -> Envelope {
        Envelope::Act(Request { id: 5, asker: Seq::new(7).unwrap(), asked_at: 8, deadline: 9, acts })
    }

    fn answer(outcomes: Vec<Outcome>) -> Envelope {
        Envelope::Answer(Answer { id: u64::MAX, node: Seq::new(0).unwrap(), outcomes })
    }

    fn one_of_each() -> Vec<Envelope> {
        let both = vec![audience(AudienceKind::Group, "g"), audience(AudienceKind::Device, &"d".repeat(200))];
        let (connection, reason) = (id(77), "bye".to_owned());
        vec![
            push(Target::All),
            push(Target::Audience(audience(AudienceKind::User, "їжак"))),
            push(Target::Audiences(both.clone())),
            push(Target::Connection(id(42))),
            Envelope::Push { push: Push::text(Target::All, ""), taken_at: 0 },
            request(vec![Act::Close { who: connection.into(), code: 1000, reason: reason.clone() }]),
            request(vec![Act::Close { who: audience(AudienceKind::Channel, "c").into(), code: 4000, reason }]),
            request(vec![
                Act::Join { who: connection.into(), audiences: both.clone() },
                Act::Leave { who: Who::Members(audience(AudienceKind::User, "u")), audiences: both.clone() },
                Act::LeaveAll { who: connection.into(), kind: AudienceKind::Group },
                Act::Bind { connection, user: Name::new("ann").unwrap() },
                Act::Deliver(Push::text(Target::Audiences(both), "text")),
                Act::DeliverToOne(Push::text(Target::All, "")),
                Act::DeliverToOneOfEach {
                    kind: AudienceKind::Group,
                    payload: Bytes::from_static(b"\xff"),
                    opcode: Opcode::Binary,
                },
            ]),
            request(Vec::new()),
            answer(vec![
                Outcome::Done(3),
                Outcome::Unknown,
                Outcome::NoAudience,
                Outcome::Failed("no".to_owned()),
                Outcome::Refused("too many".to_owned()),
            ]),
            Envelope::Probe { link: 1, number: 2 },
        ]
    }

    #[test]
    fn what_is_encoded_is_read_back() {
        for envelope in one_of_each() {
            assert_eq!(Envelope::decode(envelope.encode()), Ok(envelope));
        }
    }

    #[test]
    fn the_first_byte_is_never_text() {
        for envelope in one_of_each() {
            assert!(std::str::from_utf8(&envelope.encode()[..1]).is_err());
        }
    }

    #[test]
    fn a_message_cut_anywhere_is_an_error_or_a_push_with_less_payload() {
        for envelope in one_of_each() {
            let bytes = envelope.encode();
            let header = match &envelope {
                Envelope::Push { push, .. } => bytes.len() - push.payload.len(),
                _ => bytes.len(),
            };
            for end in 0..header {
                assert_eq!(Envelope::decode(bytes.slice(..end)), Err(Unreadable::Truncated), "{envelope:?} at {end}");
            }
        }
    }

    #[test]
    fn any_flipped_byte_is_read_or_refused_without_a_panic() {
        for envelope in one_of_each() {
            let bytes = envelope.encode();
            for position in 0..bytes.len() {
                for value in [0, 1, 0x7f, 0x80, 0xff] {
                    let mut changed = bytes.to_vec();
                    changed[position] = value;
                    let _ = Envelope::decode(changed.into());
                }
            }
        }
    }

    #[test]
    fn other_versions_and_programs_are_told_apart() {
        assert_eq!(Envelope::decode(Bytes::from_static(b"{\"a\":1}")), Err(Unreadable::Foreign));
        assert_eq!(Envelope::decode(Bytes::from_static(&[MAGIC, 9, 0])), Err(Unreadable::Version(9)));
        let kind = Envelope::decode(Bytes::from_static(&[MAGIC, VERSION, 200]));
        assert_eq!(kind, Err(Unreadable::Unknown { what: "kind", value: 200 }));
    }
}
