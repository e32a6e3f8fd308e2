//! The parts of a message as bytes.

use crate::cluster::{Act, Outcome};
use crate::model::{Audience, AudienceKind, Exclusions, Name, Opcode, Push, Target, Who};
use bytes::{BufMut, Bytes, BytesMut};

/// Bytes of an act that are worth reserving: its payload, and a little.
pub(super) fn size(act: &Act) -> usize {
    32 + match act {
        Act::Deliver(push) | Act::DeliverToOne(push) => push.payload.len(),
        Act::DeliverToOneOfEach { payload, .. } => payload.len(),
        Act::Close { .. } | Act::Join { .. } | Act::Leave { .. } | Act::LeaveAll { .. } | Act::Bind { .. } => 0,
    }
}

/// A list, its length in front.
pub(super) fn list<T>(out: &mut BytesMut, entries: &[T], entry: impl Fn(&mut BytesMut, &T)) {
    out.put_u32(entries.len() as u32);
    entries.iter().for_each(|it| entry(out, it));
}

fn text(out: &mut BytesMut, text: &str) {
    // Longer texts do not occur: names have at most 200 bytes, reasons 123; an error's text may be cut.
    let end = text.floor_char_boundary(usize::from(u16::MAX));
    out.put_u16(end as u16);
    out.put_slice(&text.as_bytes()[..end]);
}

fn name(out: &mut BytesMut, name: &Name) {
    text(out, name.as_str());
}

fn payload(out: &mut BytesMut, payload: &Bytes) {
    out.put_u32(payload.len() as u32);
    out.put_slice(payload);
}

fn kind(out: &mut BytesMut, kind: AudienceKind) {
    out.put_u8(match kind {
        AudienceKind::Channel => 0,
        AudienceKind::User => 1,
        AudienceKind::Group => 2,
        AudienceKind::Device => 3,
    });
}

fn opcode(out: &mut BytesMut, opcode: Opcode) {
    out.put_u8(match opcode {
        Opcode::Text => 1,
        Opcode::Binary => 2,
    });
}

fn audience(out: &mut BytesMut, audience: &Audience) {
    kind(out, audience.kind);
    name(out, &audience.name);
}

fn who(out: &mut BytesMut, who: &Who) {
    match who {
        Who::Connection(id) => {
            out.put_u8(0);
            out.put_u64(id.get());
        }
        Who::Members(of) => {
            out.put_u8(1);
            audience(out, of);
        }
    }
}

fn target(out: &mut BytesMut, target: &Target) {
    match target {
        Target::All => out.put_u8(0),
        Target::Audience(one) => {
            out.put_u8(1);
            audience(out, one);
        }
        Target::Audiences(all) => {
            out.put_u8(2);
            list(out, all, audience);
        }
        Target::Connection(id) => {
            out.put_u8(3);
            out.put_u64(id.get());
        }
    }
}

fn exclusions(out: &mut BytesMut, exclude: &Exclusions) {
    list(out, &exclude.connections, |out, id| out.put_u64(id.get()));
    list(out, &exclude.users, name);
}

/// A push without its payload, which the caller puts behind it.
pub(super) fn push(out: &mut BytesMut, push: &Push) {
    opcode(out, push.opcode);
    target(out, &push.target);
    exclusions(out, &push.exclude);
}

pub(super) fn act(out: &mut BytesMut, act: &Act) {
    match act {
        Act::Close { who: of, code, reason } => {
            out.put_u8(0);
            who(out, of);
            out.put_u16(*code);
            text(out, reason);
        }
        Act::Join { who: of, audiences } => {
            out.put_u8(1);
            who(out, of);
            list(out, audiences, audience);
        }
        Act::Leave { who: of, audiences } => {
            out.put_u8(2);
            who(out, of);
            list(out, audiences, audience);
        }
        Act::LeaveAll { who: of, kind: all } => {
            out.put_u8(3);
            who(out, of);
            kind(out, *all);
        }
        Act::Bind { connection, user } => {
            out.put_u8(4);
            out.put_u64(connection.get());
            name(out, user);
        }
        Act::Deliver(it) => {
            out.put_u8(5);
            push(out, it);
            payload(out, &it.payload);
        }
        Act::DeliverToOne(it) => {
            out.put_u8(6);
            push(out, it);
            payload(out, &it.payload);
        }
        Act::DeliverToOneOfEach { kind: of, payload: bytes, opcode: framed } => {
            out.put_u8(7);
            kind(out, *of);
            opcode(out, *framed);
            payload(out, bytes);
        }
    }
}

pub(super) fn outcome(out: &mut BytesMut, outcome: &Outcome) {
    match outcome {
        Outcome::Done(count) => {
            out.put_u8(0);
            out.put_u64(*count);
        }
        Outcome::Unknown => out.put_u8(1),
        Outcome::NoAudience => out.put_u8(2),
        Outcome::Failed(why) => {
            out.put_u8(3);
            text(out, why);
        }
        Outcome::Refused(why) => {
            out.put_u8(4);
            text(out, why);
        }
        Outcome::NoAnswer(why) => {
            out.put_u8(5);
            text(out, why);
        }
    }
}
