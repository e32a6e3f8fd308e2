//! A data message while its frames arrive (RFC 6455, sections 5.4 and 5.6).

use super::close::Violation;
use crate::model::Opcode;

/// A whole data message; the bytes of a text were checked to be UTF-8.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Message<'a> {
    /// Text or binary.
    pub opcode: Opcode,
    /// Its bytes, unmasked, fragments together.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// A message that came in one piece.
    pub(super) fn whole(opcode: Opcode, payload: &'a [u8]) -> Result<Self, Violation> {
        if opcode == Opcode::Text && std::str::from_utf8(payload).is_err() {
            return Err(Violation::NotUtf8);
        }
        Ok(Self { opcode, payload })
    }
}

/// A message of which a part is there. Its memory grows with the bytes that came, whatever its headers announce.
#[derive(Debug)]
pub(super) struct Assembly {
    opcode: Opcode,
    bytes: Vec<u8>,
    /// So many bytes from the start are whole characters; unused where the message is binary.
    checked: usize,
}

impl Assembly {
    pub(super) fn new(opcode: Opcode) -> Self {
        Self { opcode, bytes: Vec::new(), checked: 0 }
    }

    /// Bytes that are there.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes that are reserved.
    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Adds what came. A text that can't become UTF-8 any more, whatever follows, is refused at once.
    pub(super) fn extend(&mut self, payload: &[u8]) -> Result<(), Violation> {
        self.bytes.extend_from_slice(payload);
        if self.opcode == Opcode::Text {
            match std::str::from_utf8(&self.bytes[self.checked..]) {
                Ok(_) => self.checked = self.bytes.len(),
                // No length of the error: the bytes end within a character.
                Err(error) if error.error_len().is_none() => self.checked += error.valid_up_to(),
                Err(_) => return Err(Violation::NotUtf8),
            }
        }
        Ok(())
    }

    /// The message, now that its last byte is there.
    pub(super) fn finish(&self) -> Result<Message<'_>, Violation> {
        if self.opcode == Opcode::Text && self.checked < self.bytes.len() {
            return Err(Violation::NotUtf8);
        }
        Ok(Message { opcode: self.opcode, payload: &self.bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assembled(pieces: &[&[u8]]) -> Result<Vec<u8>, (usize, Violation)> {
        let mut text = Assembly::new(Opcode::Text);
        for (index, piece) in pieces.iter().enumerate() {
            text.extend(piece).map_err(|violation| (index, violation))?;
        }
        text.finish().map(|message| message.payload.to_vec()).map_err(|violation| (pieces.len(), violation))
    }

    #[test]
    fn a_text_may_be_cut_within_its_characters() {
        let text = "aї€😀\0".as_bytes();
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                assert_eq!(assembled(&pieces).as_deref(), Ok(text), "cut at {first} and {second}");
            }
        }
    }

    #[test]
    fn a_text_is_refused_at_the_first_piece_that_can_not_be_utf_8() {
        let cases: [(&[&[u8]], usize); 8] = [
            (&[b"a", b"\xff", b"b"], 1),
            (&[b"\xf4", b"\x90", b"\x80\x80"], 1),
            (&[b"\xed", b"\xa0", b"\x80"], 1),
            (&[b"\xe2\x82", b"a"], 1),
            (&[b"\xc0"], 0),
            (&[b"\x80"], 0),
            (&[b"\xf0\x9f\x98"], 1),
            (&[b"ok", b"\xc3"], 2),
        ];
        for (pieces, at) in cases {
            assert_eq!(assembled(pieces), Err((at, Violation::NotUtf8)), "{pieces:x?}");
        }
    }

    #[test]
    fn binary_is_taken_as_it_is() {
        let mut binary = Assembly::new(Opcode::Binary);
        binary.extend(b"\xff\xc3").unwrap();
        assert_eq!(binary.finish(), Ok(Message { opcode: Opcode::Binary, payload: b"\xff\xc3" }));
        assert!(Message::whole(Opcode::Binary, b"\xff").is_ok());
        assert_eq!(Message::whole(Opcode::Text, b"\xff"), Err(Violation::NotUtf8));
    }
}
