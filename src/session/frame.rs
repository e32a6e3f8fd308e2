//! Headers of client-to-server frames (RFC 6455, section 5.2).
//!
//! A header is refused at the first byte that can't be right, before any memory is reserved for what it announces.

use super::close::Violation;
use fastwebsockets::{OpCode, unmask};

/// The longest header: two bytes, eight of length, four of masking key.
pub(super) const MAX_HEADER: usize = 14;

/// The longest payload of a control frame (section 5.5).
pub(super) const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;

/// A frame's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    /// Whether it is the last frame of its message.
    pub(super) fin: bool,
    /// What kind of frame it is.
    pub(super) opcode: OpCode,
    /// Bytes of payload.
    pub(super) length: u64,
    /// The masking key.
    mask: [u8; 4],
}

impl Header {
    /// Reads the header that `bytes` begin with and says how many bytes it has; `None` where more bytes are needed.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let fin = first & FIN != 0;
        let opcode = opcode(first)?;
        if is_control(opcode) && !fin {
            return Err(Violation::Protocol("control frame is fragmented"));
        }

        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & MASKED == 0 {
            return Err(Violation::Protocol("frame is not masked"));
        }
        let short = second & LENGTH;
        if is_control(opcode) && usize::from(short) > MAX_CONTROL {
            return Err(Violation::Protocol("control frame is longer than 125 bytes"));
        }

        let (length, mask_at) = match short {
            126 => match bytes.get(2..4) {
                Some(&[a, b]) => (u16::from_be_bytes([a, b]).into(), 4),
                _ => return Ok(None),
            },
            127 => match bytes.get(2..10) {
                Some(&[a, b, c, d, e, f, g, h]) => (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 10),
                _ => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        if (short == 126 && length < 126) || (short == 127 && length <= u64::from(u16::MAX)) {
            return Err(Violation::Protocol("length is not in its shortest form"));
        }
        if length >> 63 != 0 {
            return Err(Violation::Protocol("length has its highest bit set"));
        }

        let Some(&[a, b, c, d]) = bytes.get(mask_at..mask_at + 4) else { return Ok(None) };
        Ok(Some((Self { fin, opcode, length, mask: [a, b, c, d] }, mask_at + 4)))
    }

    /// Takes the mask off `payload`, which begins `offset` bytes after the start of the frame's payload (section 5.3).
    pub(super) fn unmask(&self, payload: &mut [u8], offset: u64) {
        let mut mask = self.mask;
        mask.rotate_left((offset % 4) as usize);
        unmask(payload, mask);
    }
}

fn opcode(first: u8) -> Result<OpCode, Violation> {
    if first & RESERVED != 0 {
        return Err(Violation::Protocol("reserved bit is set"));
    }
    OpCode::try_from(first & OPCODE).map_err(|_| Violation::Protocol("opcode is reserved"))
}

/// Whether frames of that kind stand between the frames of a message (section 5.5).
pub(super) fn is_control(opcode: OpCode) -> bool {
    matches!(opcode, OpCode::Close | OpCode::Ping | OpCode::Pong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: [u8; 4] = [1, 2, 3, 4];

    /// `start` with the masking key behind it.
    fn masked(start: &[u8]) -> Vec<u8> {
        [start, &MASK].concat()
    }

    #[test]
    fn a_header_is_read_when_its_last_byte_is_there() {
        let cases: [(&[u8], bool, OpCode, u64); 8] = [
            (&[0x81, 0x80], true, OpCode::Text, 0),
            (&[0x02, 0xfd], false, OpCode::Binary, 125),
            (&[0x80, 0xfe, 0, 126], true, OpCode::Continuation, 126),
            (&[0x00, 0xfe, 0xff, 0xff], false, OpCode::Continuation, 65_535),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0], true, OpCode::Binary, 65_536),
            (&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], true, OpCode::Binary, u64::MAX >> 1),
            (&[0x89, 0xfd], true, OpCode::Ping, 125),
            (&[0x88, 0x82], true, OpCode::Close, 2),
        ];
        for (start, fin, opcode, length) in cases {
            let bytes = masked(start);
            for part in 0..bytes.len() {
                assert_eq!(Header::parse(&bytes[..part]), Ok(None), "{part} bytes of {bytes:x?}");
            }
            let header = Header { fin, opcode, length, mask: MASK };
            assert_eq!(Header::parse(&bytes), Ok(Some((header, bytes.len()))));
            assert_eq!(Header::parse(&[&bytes[..], b"payload"].concat()), Ok(Some((header, bytes.len()))));
        }
    }

    #[test]
    fn a_wrong_header_is_refused_at_its_first_wrong_byte() {
        let cases: [(&[u8], &str); 18] = [
            (&[0xc1], "reserved bit is set"),
            (&[0xa1], "reserved bit is set"),
            (&[0x91], "reserved bit is set"),
            (&[0x83], "opcode is reserved"),
            (&[0x87], "opcode is reserved"),
            (&[0x8b], "opcode is reserved"),
            (&[0x8f], "opcode is reserved"),
            (&[0x08], "control frame is fragmented"),
            (&[0x09], "control frame is fragmented"),
            (&[0x0a], "control frame is fragmented"),
            (&[0x81, 0x00], "frame is not masked"),
            (&[0x89, 0x7e], "frame is not masked"),
            (&[0x89, 0xfe], "control frame is longer than 125 bytes"),
            (&[0x88, 0xff], "control frame is longer than 125 bytes"),
            (&[0x81, 0xfe, 0, 125], "length is not in its shortest form"),
            (&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], "length is not in its shortest form"),
            (&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], "length has its highest bit set"),
            (&[0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], "length has its highest bit set"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Header::parse(&bytes[..bytes.len() - 1]), Ok(None), "before the last byte of {bytes:x?}");
            assert_eq!(Header::parse(bytes), Err(Violation::Protocol(text)), "{bytes:x?}");
        }
    }

    #[test]
    fn a_payload_is_unmasked_alike_in_any_pieces() {
        let (header, _) = Header::parse(&masked(&[0x82, 0x8a])).unwrap().unwrap();
        let mut whole: Vec<u8> = (0..10).collect();
        header.unmask(&mut whole, 0);
        assert_eq!(whole, [1, 3, 1, 7, 5, 7, 5, 3, 9, 11]);
        for split in 0..=10 {
            let mut pieces: Vec<u8> = (0..10).collect();
            let (front, back) = pieces.split_at_mut(split);
            header.unmask(front, 0);
            header.unmask(back, split as u64);
            assert_eq!(pieces, whole, "split at {split}");
        }
    }
}
