//! The parts of a message, read back. Nothing is believed: a length reserves no memory before its bytes are seen.

use super::Unreadable;
use crate::cluster::{Act, Outcome};
use crate::model::{Audience, AudienceKind, ConnectionId, Exclusions, Name, Opcode, Push, Seq, Target, Who};
use bytes::Bytes;

/// Takes values off the front; what is left at the end is a push's payload.
pub(super) struct Reader {
    bytes: Bytes,
}

impl Reader {
    pub(super) fn new(bytes: Bytes) -> Self {
        Self { bytes }
    }

    /// All that is left.
    pub(super) fn rest(self) -> Bytes {
        self.bytes
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], Unreadable> {
        let head = self.bytes.first_chunk::<N>().copied().ok_or(Unreadable::Truncated)?;
        self.bytes = self.bytes.slice(N..);
        Ok(head)
    }

    pub(super) fn u8(&mut self) -> Result<u8, Unreadable> {
        self.take().map(u8::from_be_bytes)
    }

    pub(super) fn u16(&mut self) -> Result<u16, Unreadable> {
        self.take().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Unreadable> {
        self.take().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Unreadable> {
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

    pub(super) fn seq(&mut self) -> Result<Seq, Unreadable> {
        Seq::new(self.u32()?).ok_or(Unreadable::Value)
    }

    fn connection(&mut self) -> Result<ConnectionId, Unreadable> {
        ConnectionId::from_u64(self.u64()?).ok_or(Unreadable::Value)
    }

    fn kind(&mut self) -> Result<AudienceKind, Unreadable> {
        match self.u8()? {
            0 => Ok(AudienceKind::Channel),
            1 => Ok(AudienceKind::User),
            2 => Ok(AudienceKind::Group),
            3 => Ok(AudienceKind::Device),
            value => Err(Unreadable::Unknown { what: "audience kind", value }),
        }
    }

    fn audience(&mut self) -> Result<Audience, Unreadable> {
        Ok(Audience { kind: self.kind()?, name: self.name()? })
    }

    fn who(&mut self) -> Result<Who, Unreadable> {
        match self.u8()? {
            0 => Ok(Who::Connection(self.connection()?)),
            1 => Ok(Who::Members(self.audience()?)),
            value => Err(Unreadable::Unknown { what: "who", value }),
        }
    }

    fn opcode(&mut self) -> Result<Opcode, Unreadable> {
        match self.u8()? {
            1 => Ok(Opcode::Text),
            2 => Ok(Opcode::Binary),
            value => Err(Unreadable::Unknown { what: "opcode", value }),
        }
    }

    fn payload(&mut self) -> Result<Bytes, Unreadable> {
        let length = self.u32()? as usize;
        if self.bytes.len() < length {
            return Err(Unreadable::Truncated);
        }
        Ok(self.bytes.split_to(length))
    }

    /// A list with its length in front. The length is not trusted with memory: each entry must be there to be counted.
    pub(super) fn list<T>(&mut self, entry: impl Fn(&mut Self) -> Result<T, Unreadable>) -> Result<Vec<T>, Unreadable> {
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

    /// A push without its payload, which follows.
    pub(super) fn push(&mut self) -> Result<Push, Unreadable> {
        let opcode = self.opcode()?;
        let (target, exclude) = (self.target()?, self.exclusions()?);
        Ok(Push { target, exclude, payload: Bytes::new(), opcode })
    }

    fn whole_push(&mut self) -> Result<Push, Unreadable> {
        let push = self.push()?;
        Ok(Push { payload: self.payload()?, ..push })
    }

    pub(super) fn act(&mut self) -> Result<Act, Unreadable> {
        match self.u8()? {
            0 => Ok(Act::Close { who: self.who()?, code: self.u16()?, reason: self.text()? }),
            1 => Ok(Act::Join { who: self.who()?, audiences: self.list(Self::audience)? }),
            2 => Ok(Act::Leave { who: self.who()?, audiences: self.list(Self::audience)? }),
            3 => Ok(Act::LeaveAll { who: self.who()?, kind: self.kind()? }),
            4 => Ok(Act::Bind { connection: self.connection()?, user: self.name()? }),
            5 => Ok(Act::Deliver(self.whole_push()?)),
            6 => Ok(Act::DeliverToOne(self.whole_push()?)),
            7 => {
                let (kind, opcode) = (self.kind()?, self.opcode()?);
                Ok(Act::DeliverToOneOfEach { kind, payload: self.payload()?, opcode })
            }
            value => Err(Unreadable::Unknown { what: "act", value }),
        }
    }

    pub(super) fn outcome(&mut self) -> Result<Outcome, Unreadable> {
        match self.u8()? {
            0 => Ok(Outcome::Done(self.u64()?)),
            1 => Ok(Outcome::Unknown),
            2 => Ok(Outcome::NoAudience),
            3 => Ok(Outcome::Failed(self.text()?)),
            4 => Ok(Outcome::Refused(self.text()?)),
            5 => Ok(Outcome::NoAnswer(self.text()?)),
            value => Err(Unreadable::Unknown { what: "outcome", value }),
        }
    }
}
