//! Counts the frames of a server's stream (RFC 6455, section 5.2) by their headers.

/// What a stream's frames amount to; told in the order of the stream.
pub trait Sink {
    /// A message began, with these bytes in the buffer that is being read: all of it, or what has come of it. Not told
    /// where a header ended with the buffer.
    fn began(&mut self, start: &[u8]);
    /// A whole control frame: its opcode and its payload.
    fn control(&mut self, opcode: u8, payload: &[u8]);
}

/// A stream broke the framing: a masked frame, or a control frame that is too long.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// The longest header of an unmasked frame: two bytes and a length of eight.
const HEADER_LEN: usize = 10;
const CONTROL: u8 = 0x8;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;

/// Where one stream stands.
#[derive(Default)]
pub struct FrameCounter {
    header: [u8; HEADER_LEN],
    header_have: usize,
    /// Payload that is still to come; 0 while a header is being read.
    left: u64,
    /// Of the control frame that is being read.
    control: Vec<u8>,
}

impl FrameCounter {
    /// Goes over the next bytes of the stream and says how many messages ended in them.
    pub fn feed(&mut self, mut bytes: &[u8], sink: &mut impl Sink) -> Result<u64, Malformed> {
        let mut messages = 0;
        loop {
            if self.left == 0 && self.header_have == 0 {
                bytes = Self::skip_short(bytes, &mut messages, sink);
            }
            if self.left == 0 {
                let Some(after) = self.read_header(bytes)? else { return Ok(messages) };
                bytes = after;
                if !self.is_control() && !bytes.is_empty() {
                    sink.began(&bytes[..bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX))]);
                }
            }
            let here = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            if self.is_control() {
                self.control.extend_from_slice(&bytes[..here]);
            }
            self.left -= here as u64;
            bytes = &bytes[here..];
            if self.left > 0 {
                return Ok(messages);
            }
            if self.is_control() {
                sink.control(self.header[0] & 0xf, &self.control);
                self.control = Vec::new();
            } else if self.header[0] & FIN != 0 {
                messages += 1;
            }
            self.header_have = 0;
        }
    }

    /// Goes over the short whole messages that the bytes begin with: nearly all there is while a server is being loaded.
    fn skip_short<'a>(mut bytes: &'a [u8], messages: &mut u64, sink: &mut impl Sink) -> &'a [u8] {
        while let [first, length @ 1..126, rest @ ..] = bytes {
            let length = usize::from(*length);
            if first & CONTROL != 0 || rest.len() < length {
                break;
            }
            sink.began(&rest[..length]);
            *messages += u64::from(first & FIN != 0);
            bytes = &rest[length..];
        }
        bytes
    }

    /// Completes the header and returns what follows it, or keeps what there is of it.
    fn read_header<'a>(&mut self, mut bytes: &'a [u8]) -> Result<Option<&'a [u8]>, Malformed> {
        loop {
            let want = match (self.header_have, self.header[1] & !MASKED) {
                (0 | 1, _) => 2,
                (_, 126) => 4,
                (_, 127) => HEADER_LEN,
                _ => 2,
            };
            if self.header_have == want {
                break;
            }
            let here = bytes.len().min(want - self.header_have);
            if here == 0 {
                return Ok(None);
            }
            self.header[self.header_have..self.header_have + here].copy_from_slice(&bytes[..here]);
            self.header_have += here;
            bytes = &bytes[here..];
        }
        let length = self.header[1] & !MASKED;
        if self.header[1] & MASKED != 0 || self.is_control() && length > 125 {
            return Err(Malformed);
        }
        self.left = match length {
            126 | 127 => self.header[2..self.header_have].iter().fold(0, |left, byte| left << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        Ok(Some(bytes))
    }

    fn is_control(&self) -> bool {
        self.header[0] & CONTROL != 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default, PartialEq, Eq, Debug)]
    struct Seen {
        began: usize,
        controls: Vec<(u8, Vec<u8>)>,
    }

    impl Sink for Seen {
        fn began(&mut self, _start: &[u8]) {
            self.began += 1;
        }
        fn control(&mut self, opcode: u8, payload: &[u8]) {
            self.controls.push((opcode, payload.to_vec()));
        }
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
            medium @ 126..65_536 => {
                frame.push(126);
                frame.extend(u16::try_from(medium).unwrap().to_be_bytes());
            }
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn counts_the_same_however_the_stream_is_cut() {
        let stream = [
            frame(0x81, b"text"),
            frame(0x82, b""),
            frame(0x89, b"ping"),
            frame(0x81, &[b'x'; 300]),
            frame(0x01, b"half "),
            frame(0x8a, b""),
            frame(0x80, b"and half"),
            frame(0x82, &[b'y'; 70_000]),
            frame(0x88, &[0x03, 0xe8]),
        ]
        .concat();
        for cut in [1, 2, 3, 7, 64, 4_096, stream.len()] {
            let (mut counter, mut seen) = (FrameCounter::default(), Seen::default());
            let messages: u64 = stream.chunks(cut).map(|bytes| counter.feed(bytes, &mut seen).unwrap()).sum();
            assert_eq!(messages, 5, "cut into {cut}");
            let controls = vec![(0x9, b"ping".to_vec()), (0xa, Vec::new()), (0x8, vec![0x03, 0xe8])];
            assert_eq!(seen.controls, controls, "cut into {cut}");
        }
    }

    #[test]
    fn a_masked_frame_is_malformed() {
        let mut counter = FrameCounter::default();
        assert_eq!(counter.feed(&[0x81, 0x81, 0, 0, 0, 0, b'x'], &mut Seen::default()), Err(Malformed));
    }
}
