//! Server-to-client frames as bytes (RFC 6455, section 5.2): unmasked.

use crate::model::Opcode;
use bytes::{BufMut, Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload};

/// A close frame's reason has at most this many bytes (RFC 6455, section 5.5).
const MAX_CLOSE_REASON: usize = 123;

/// A control frame's payload has at most this many bytes (RFC 6455, section 5.5).
pub const MAX_CONTROL: usize = 125;

/// Room for the longest header: two bytes, and eight of length.
const MAX_HEADER: usize = 16;

fn encode(opcode: OpCode, payload: &[u8]) -> Bytes {
    encode_part(true, opcode, payload)
}

fn encode_part(last: bool, opcode: OpCode, payload: &[u8]) -> Bytes {
    let mut head = [0; MAX_HEADER];
    let length = Frame::new(last, opcode, None, Payload::Borrowed(payload)).fmt_head(&mut head);
    let mut bytes = BytesMut::with_capacity(length + payload.len());
    bytes.put_slice(&head[..length]);
    bytes.put_slice(payload);
    bytes.freeze()
}

/// A data message in one frame.
pub fn message(opcode: Opcode, payload: &[u8]) -> Bytes {
    match opcode {
        Opcode::Text => encode(OpCode::Text, payload),
        Opcode::Binary => encode(OpCode::Binary, payload),
    }
}

/// A fragment of a data message (RFC 6455, section 5.4): the first one with the message's `opcode`, the others without.
pub fn fragment(opcode: Option<Opcode>, last: bool, payload: &[u8]) -> Bytes {
    let opcode = match opcode {
        Some(Opcode::Text) => OpCode::Text,
        Some(Opcode::Binary) => OpCode::Binary,
        None => OpCode::Continuation,
    };
    encode_part(last, opcode, payload)
}

/// A ping without payload.
pub fn ping() -> Bytes {
    ping_with(&[])
}

/// A ping with a payload of at most [`MAX_CONTROL`] bytes.
pub fn ping_with(payload: &[u8]) -> Bytes {
    encode(OpCode::Ping, payload)
}

/// The answer to a ping: the same payload, of at most 125 bytes.
pub fn pong(payload: &[u8]) -> Bytes {
    encode(OpCode::Pong, payload)
}

/// What fits into a close frame of a reason: at most 123 bytes, cut at a character.
pub fn close_reason(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(MAX_CLOSE_REASON)]
}

/// A close frame, with as much of the reason as [fits](close_reason).
pub fn close(code: u16, reason: &str) -> Bytes {
    let reason = close_reason(reason);
    let mut payload = Vec::with_capacity(2 + reason.len());
    payload.extend_from_slice(&code.to_be_bytes());
    payload.extend_from_slice(reason.as_bytes());
    encode(OpCode::Close, &payload)
}

/// A close frame without a code, the answer to one that had none.
pub fn close_empty() -> Bytes {
    encode(OpCode::Close, &[])
}

/// Code and reason of a frame that [`close`] has made; `None` of any other bytes.
pub(super) fn read_close(frame: &[u8]) -> Option<(u16, String)> {
    match frame {
        [0x88, length, high, low, reason @ ..] if usize::from(*length) == reason.len() + 2 => {
            Some((u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_takes_the_shortest_of_its_three_forms() {
        for (length, head) in [
            (0, &[0x81, 0][..]),
            (125, &[0x81, 125]),
            (126, &[0x81, 126, 0, 126]),
            (65535, &[0x81, 126, 0xff, 0xff]),
            (65536, &[0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let frame = message(Opcode::Text, &vec![b'x'; length]);
            assert_eq!(&frame[..head.len()], head);
            assert_eq!(frame.len(), head.len() + length);
        }
    }

    #[test]
    fn control_frames_are_as_the_rfc_writes_them() {
        assert_eq!(&ping()[..], [0x89, 0]);
        assert_eq!(&pong(b"ab")[..], [0x8a, 2, b'a', b'b']);
        assert_eq!(&close(1000, "ok")[..], [0x88, 4, 3, 0xe8, b'o', b'k']);
        assert_eq!(&close_empty()[..], [0x88, 0]);
        assert_eq!(read_close(&close(4000, "її")), Some((4000, "її".to_owned())));
        assert_eq!(
            [close_empty(), ping(), message(Opcode::Text, b"text")].map(|frame| read_close(&frame)),
            [None, None, None]
        );
        assert_eq!(&message(Opcode::Binary, b"a")[..], [0x82, 1, b'a']);
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let frame = close(1000, &format!("{}ї", "x".repeat(122)));
        assert_eq!(frame.len(), 2 + 2 + 122);
    }
}
