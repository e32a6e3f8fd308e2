//! What travels on the bus: a small binary header with a version, and the payload as it came.
//!
//! The first byte, 0xC1, is one that UTF-8 never has: fred tries every message as text first, and gives up at once.
//! Integers are big-endian; texts have their length in front. A receiver skips versions and kinds that it does not
//! know, so that nodes of two versions can share a cluster while one replaces the other.

use crate::cluster::{Act, Outcome};
use crate::model::{Audience, AudienceKind, ConnectionId, Exclusions, Name, Opcode, Push, Seq, Target};
use bytes::{BufMut, Bytes, BytesMut};

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
    /// When it is over, in microseconds of the cluster's clock: later it must not be carried out.
    pub(super) deadline: u64,
    /// What is wanted.
    pub(super) act: Act,
}

/// The answer to a [`Request`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Answer {
    /// The asker's number of the request.
    pub(super) id: u64,
    /// Who answers.
    pub(super) node: Seq,
    /// What came of it.
    pub(super) outcome: Outcome,
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
        let payload = if let Self::Push { push, .. } = self { push.payload.len() } else { 0 };
        let mut out = BytesMut::with_capacity(64 + payload);
        out.put_slice(&[MAGIC, VERSION]);
        match self {
            Self::Push { push, taken_at } => {
                out.put_u8(PUSH);
                out.put_u64(*taken_at);
                out.put_u8(match push.opcode {
                    Opcode::Text => 1,
                    Opcode::Binary => 2,
                });
                put_target(&mut out, &push.target);
                put_exclusions(&mut out, &push.exclude);
                out.put_slice(&push.payload);
            }
            Self::Act(request) => {
                out.put_u8(ACT);
                out.put_u64(request.id);
                out.put_u32(request.asker.get());
                out.put_u64(request.deadline);
                put_act(&mut out, &request.act);
            }
            Self::Answer(answer) => {
                out.put_u8(ANSWER);
                out.put_u64(answer.id);
                out.put_u32(answer.node.get());
                put_outcome(&mut out, &answer.outcome);
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
        let mut input = Reader { bytes };
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
                let opcode = match input.u8()? {
                    1 => Opcode::Text,
                    2 => Opcode::Binary,
                    value => return Err(Unreadable::Unknown { what: "opcode", value }),
                };
                let target = input.target()?;
                let exclude = input.exclusions()?;
                Ok(Self::Push { push: Push { target, exclude, payload: input.bytes, opcode }, taken_at })
            }
            ACT => {
                let (id, asker, deadline) = (input.u64()?, input.seq()?, input.u64()?);
                Ok(Self::Act(Request { id, asker, deadline, act: input.act()? }))
            }
            ANSWER => Ok(Self::Answer(Answer { id: input.u64()?, node: input.seq()?, outcome: input.outcome()? })),
            PROBE => Ok(Self::Probe { link: input.u64()?, number: input.u64()? }),
            value => Err(Unreadable::Unknown { what: "kind", value }),
        }
    }
}

fn put_text(out: &mut BytesMut, text: &str) {
    // Longer texts do not occur: names have at most 200 bytes, reasons 123; an error's text may be cut.
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    out.put_u16(end as u16);
    out.put_slice(&text.as_bytes()[..end]);
}

fn kind_number(kind: AudienceKind) -> u8 {
    match kind {
        AudienceKind::Channel => 0,
        AudienceKind::User => 1,
        AudienceKind::Group => 2,
        AudienceKind::Device => 3,
    }
}

fn put_audience(out: &mut BytesMut, audience: &Audience) {
    out.put_u8(kind_number(audience.kind));
    put_text(out, audience.name.as_str());
}

fn put_audiences(out: &mut BytesMut, audiences: &[Audience]) {
    out.put_u32(audiences.len() as u32);
    audiences.iter().for_each(|audience| put_audience(out, audience));
}

fn put_target(out: &mut BytesMut, target: &Target) {
    match target {
        Target::All => out.put_u8(0),
        Target::Audience(audience) => {
            out.put_u8(1);
            put_audience(out, audience);
        }
        Target::Audiences(audiences) => {
            out.put_u8(2);
            put_audiences(out, audiences);
        }
        Target::Connection(id) => {
            out.put_u8(3);
            out.put_u64(id.get());
        }
    }
}

fn put_exclusions(out: &mut BytesMut, exclude: &Exclusions) {
    out.put_u32(exclude.connections.len() as u32);
    exclude.connections.iter().for_each(|id| out.put_u64(id.get()));
    out.put_u32(exclude.users.len() as u32);
    exclude.users.iter().for_each(|user| put_text(out, user.as_str()));
}

fn put_act(out: &mut BytesMut, act: &Act) {
    match act {
        Act::Close { connection, code, reason } => {
            out.put_u8(0);
            out.put_u64(connection.get());
            out.put_u16(*code);
            put_text(out, reason);
        }
        Act::CloseAudience { audience, code, reason } => {
            out.put_u8(1);
            put_audience(out, audience);
            out.put_u16(*code);
            put_text(out, reason);
        }
        Act::Join { connection, audiences } => {
            out.put_u8(2);
            out.put_u64(connection.get());
            put_audiences(out, audiences);
        }
        Act::Leave { connection, audiences } => {
            out.put_u8(3);
            out.put_u64(connection.get());
            put_audiences(out, audiences);
        }
    }
}

fn put_outcome(out: &mut BytesMut, outcome: &Outcome) {
    match outcome {
        Outcome::Done(affected) => {
            out.put_u8(0);
            out.put_u64(*affected);
        }
        Outcome::Unknown => out.put_u8(1),
        Outcome::Failed(why) => {
            out.put_u8(2);
            put_text(out, why);
        }
        Outcome::Refused(why) => {
            out.put_u8(3);
            put_text(out, why);
        }
    }
}

/// Takes values off the front; what is left at the end is a push's payload.
struct Reader {
    bytes: Bytes,
}

impl Reader {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let head = self.bytes.first_chunk::<N>().copied().ok_or(Unreadable::Truncated)?;
        self.bytes = self.bytes.slice(N..);
        Ok(head)
    }

    fn u8(&mut self) -> Result<u8, Unreadable> {
        self.take().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Result<u16, Unreadable> {
        self.take().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, Unreadable> {
        self.take().map(u64::from_be_bytes)
    }

    fn text(&mut self) -> Result<String, Unreadable> {
        let length = usize::from(self.u16()?);
        if self.bytes.len() < length {
            return Err(Unreadable::Truncated);
        }
        let text = self.bytes.split_to(length);
        String::from_utf8(text.into()).map_err(|_| Unreadable::Value)
    }

    fn name(&mut self) -> Result<Name, Unreadable> {
        Name::new(&self.text()?).map_err(|_| Unreadable::Value)
    }

    fn seq(&mut self) -> Result<Seq, Unreadable> {
        Seq::new(self.u32()?).ok_or(Unreadable::Value)
    }

    fn connection(&mut self) -> Result<ConnectionId, Unreadable> {
        ConnectionId::from_u64(self.u64()?).ok_or(Unreadable::Value)
    }

    fn audience(&mut self) -> Result<Audience, Unreadable> {
        let kind = match self.u8()? {
            0 => AudienceKind::Channel,
            1 => AudienceKind::User,
            2 => AudienceKind::Group,
            3 => AudienceKind::Device,
            value => return Err(Unreadable::Unknown { what: "audience kind", value }),
        };
        Ok(Audience { kind, name: self.name()? })
    }

    /// A list with its length in front. The length is not trusted with memory: each entry must be there to be counted.
    fn list<T>(&mut self, entry: impl Fn(&mut Self) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
        let length = self.u32()?;
        let mut entries = Vec::new();
        for _ in 0..length {
            entries.push(entry(self)?);
        }
        Ok(entries)
    }

    fn target(&mut self) -> Result<Target, Unreadable> {
        match self.u8()? {
            0 => Ok(Target::All),
            1 => Ok(Target::Audience(self.audience()?)),
            2 => Ok(Target::Audiences(self.list(Self::audience)?)),
            3 => Ok(Target::Connection(self.connection()?)),
            value => Err(Unreadable::Unknown { what: "target", value }),
        }
    }

    fn exclusions(&mut self) -> Result<Exclusions, Unreadable> {
        Ok(Exclusions { connections: self.list(Self::connection)?, users: self.list(Self::name)? })
    }

    fn act(&mut self) -> Result<Act, Unreadable> {
        match self.u8()? {
            0 => Ok(Act::Close { connection: self.connection()?, code: self.u16()?, reason: self.text()? }),
            1 => Ok(Act::CloseAudience { audience: self.audience()?, code: self.u16()?, reason: self.text()? }),
            2 => Ok(Act::Join { connection: self.connection()?, audiences: self.list(Self::audience)? }),
            3 => Ok(Act::Leave { connection: self.connection()?, audiences: self.list(Self::audience)? }),
            value => Err(Unreadable::Unknown { what: "act", value }),
        }
    }

    fn outcome(&mut self) -> Result<Outcome, Unreadable> {
        match self.u8()? {
            0 => Ok(Outcome::Done(self.u64()?)),
            1 => Ok(Outcome::Unknown),
            2 => Ok(Outcome::Failed(self.text()?)),
            3 => Ok(Outcome::Refused(self.text()?)),
            value => Err(Unreadable::Unknown { what: "outcome", value }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn request(act: Act) -> Envelope {
        Envelope::Act(Request { id: 5, asker: Seq::new(7).unwrap(), deadline: 9, act })
    }

    fn answer(outcome: Outcome) -> Envelope {
        Envelope::Answer(Answer { id: u64::MAX, node: Seq::new(0).unwrap(), outcome })
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
            request(Act::Close { connection, code: 1000, reason: reason.clone() }),
            request(Act::CloseAudience { audience: audience(AudienceKind::Channel, "c"), code: 4000, reason }),
            request(Act::Join { connection, audiences: both.clone() }),
            request(Act::Leave { connection, audiences: both }),
            answer(Outcome::Done(3)),
            answer(Outcome::Unknown),
            answer(Outcome::Failed("no".to_owned())),
            answer(Outcome::Refused("too many".to_owned())),
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
