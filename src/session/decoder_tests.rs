//! The decoder's table: streams of frames, whole, in every two pieces, and byte by byte.

use super::*;

const LIMIT: usize = 300;

/// An [`Event`] that owns what it says, for comparing.
#[derive(Clone, PartialEq, Debug)]
enum Seen {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    Close(Option<u16>),
    Refused(Violation),
}

fn text(text: &str) -> Seen {
    Seen::Text(text.to_owned())
}

/// A masked frame.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x5a, 0x01, 0xff, 0x80];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..126 => bytes.push(0x80 | short as u8),
        medium @ 126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0xff);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What the decoder makes of a stream that is read in these pieces; it stops at a close or violation, as a session does.
fn seen<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Seen> {
    let mut decoder = Decoder::default();
    let mut events = Vec::new();
    for piece in pieces {
        let decoded = decoder.decode(&mut piece.to_vec(), LIMIT, |event| {
            events.push(match event {
                Event::Part => return ControlFlow::Continue(()),
                Event::Message(Message { opcode: Opcode::Text, payload }) => {
                    Seen::Text(String::from_utf8(payload.to_vec()).unwrap())
                }
                Event::Message(Message { opcode: Opcode::Binary, payload }) => Seen::Binary(payload.to_vec()),
                Event::Ping(payload) => Seen::Ping(payload.to_vec()),
                Event::Pong(_) => Seen::Pong,
                Event::Close(close) => Seen::Close(close.map(|(code, _)| code)),
            });
            if matches!(events.last(), Some(Seen::Close(_))) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        if let Err(violation) = decoded {
            events.push(Seen::Refused(violation));
        }
        if matches!(events.last(), Some(Seen::Close(_) | Seen::Refused(_))) {
            return events;
        }
    }
    events
}

#[track_caller]
fn assert_seen(stream: &[u8], expected: &[Seen]) {
    assert_eq!(seen([stream]), expected, "in one piece: {stream:x?}");
    assert_eq!(seen(stream.chunks(1)), expected, "byte by byte: {stream:x?}");
    for split in 0..=stream.len() {
        let (front, back) = stream.split_at(split);
        assert_eq!(seen([front, back]), expected, "split at {split}: {stream:x?}");
    }
}

fn protocol(text: &'static str) -> Seen {
    Seen::Refused(Violation::Protocol(text))
}

#[test]
fn every_kind_of_frame_is_told_alike_in_whatever_pieces_it_comes() {
    let ping_125 = vec![7; 125];
    let cases: Vec<(Vec<Vec<u8>>, Vec<Seen>)> = vec![
        (vec![frame(0x81, b"hi")], vec![text("hi")]),
        (vec![frame(0x81, b"")], vec![text("")]),
        (vec![frame(0x82, b"\xff\x00")], vec![Seen::Binary(b"\xff\x00".to_vec())]),
        (vec![frame(0x82, &[9; 126])], vec![Seen::Binary(vec![9; 126])]),
        (vec![frame(0x89, b"")], vec![Seen::Ping(vec![])]),
        (vec![frame(0x89, &ping_125)], vec![Seen::Ping(ping_125.clone())]),
        (vec![frame(0x8a, b"late")], vec![Seen::Pong]),
        (vec![frame(0x88, b"")], vec![Seen::Close(None)]),
        (vec![frame(0x88, b"\x03\xe8")], vec![Seen::Close(Some(1000))]),
        (vec![frame(0x88, b"\x0f\xa0bye")], vec![Seen::Close(Some(4000))]),
        (
            vec![frame(0x01, b"a\xd1"), frame(0x89, b"p"), frame(0x00, b""), frame(0x8a, b""), frame(0x80, b"\x97")],
            vec![Seen::Ping(b"p".to_vec()), Seen::Pong, text("aї")],
        ),
        (vec![frame(0x02, b""), frame(0x00, b""), frame(0x80, b"")], vec![Seen::Binary(vec![])]),
        (
            vec![frame(0x81, b"1"), frame(0x82, b"2"), frame(0x81, b"3")],
            vec![text("1"), Seen::Binary(b"2".to_vec()), text("3")],
        ),
        (
            vec![frame(0x81, b"1"), frame(0x88, b"\x03\xe9"), frame(0x81, b"never")],
            vec![text("1"), Seen::Close(Some(1001))],
        ),
    ];
    for (frames, expected) in cases {
        assert_seen(&frames.concat(), &expected);
    }
}

#[test]
fn what_breaks_the_protocol_is_refused_after_what_came_before_it() {
    let cases: Vec<(Vec<u8>, Seen)> = vec![
        (frame(0x80, b"x"), protocol("continuation without a message")),
        ([frame(0x01, b"a"), frame(0x81, b"b")].concat(), protocol("message begins within another")),
        ([frame(0x01, b"a"), frame(0x02, b"b")].concat(), protocol("message begins within another")),
        (frame(0x09, b""), protocol("control frame is fragmented")),
        (frame(0x89, &[0; 126]), protocol("control frame is longer than 125 bytes")),
        (frame(0xc1, b"x"), protocol("reserved bit is set")),
        (frame(0x83, b"x"), protocol("opcode is reserved")),
        (vec![0x81, 0x01, b'x'], protocol("frame is not masked")),
        (frame(0x88, b"\x03"), protocol("close frame has half a code")),
        (frame(0x88, b"\x03\xe8\xff"), Seen::Refused(Violation::NotUtf8)),
        (frame(0x81, b"\xff"), Seen::Refused(Violation::NotUtf8)),
        (frame(0x81, b"\xd1"), Seen::Refused(Violation::NotUtf8)),
        ([frame(0x01, b"\xd1"), frame(0x80, b"x")].concat(), Seen::Refused(Violation::NotUtf8)),
    ];
    for (stream, refused) in cases {
        assert_seen(&[frame(0x81, b"before"), stream].concat(), &[text("before"), refused]);
    }
}

#[test]
fn a_close_frame_has_one_of_the_codes_for_the_wire() {
    for code in (0..=5000).chain([u16::MAX]) {
        let allowed = matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999);
        let expected = if allowed { Seen::Close(Some(code)) } else { protocol("close code is not allowed") };
        assert_eq!(seen([&frame(0x88, &code.to_be_bytes())[..]]), [expected], "{code}");
    }
}

#[test]
fn a_message_at_the_limit_passes_and_one_above_is_refused_by_its_header_alone() {
    let too_big = Seen::Refused(Violation::TooBig { limit: LIMIT });
    assert_seen(&frame(0x82, &[1; LIMIT - 1]), &[Seen::Binary(vec![1; LIMIT - 1])]);
    assert_seen(&frame(0x82, &[1; LIMIT]), &[Seen::Binary(vec![1; LIMIT])]);
    let announced = |length: usize| frame(0x82, &vec![1; length])[..8].to_vec();
    assert_seen(&announced(LIMIT + 1), std::slice::from_ref(&too_big));

    let half = frame(0x02, &[1; LIMIT / 2]);
    assert_seen(&[half.clone(), frame(0x80, &[1; LIMIT / 2])].concat(), &[Seen::Binary(vec![1; LIMIT])]);
    let over =
        [half, announced(LIMIT / 2 + 1).into_iter().enumerate().map(|(i, b)| if i == 0 { 0x00 } else { b }).collect()];
    assert_seen(&over.concat(), std::slice::from_ref(&too_big));

    let huge = [vec![0x82, 0xff, 0x7f], vec![0xff; 7], vec![0; 4]].concat();
    assert_seen(&huge, &[too_big]);
}

#[test]
fn an_idle_decoder_keeps_nothing_and_an_announced_length_reserves_nothing() {
    let mut decoder = Decoder::default();
    let mut decode = |bytes: &[u8]| decoder.decode(&mut bytes.to_vec(), 1 << 30, |_| ControlFlow::Continue(()));
    let announced = [0x82, 0xff, 0, 0, 0, 0, 0x3f, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert!(decode(&announced).is_ok());
    assert!(decode(&[0; 1000]).is_ok());
    let reserved = |decoder: &Decoder| {
        let message = decoder.pending.as_ref().and_then(|pending| pending.message.as_ref());
        message.map(Assembly::capacity)
    };
    assert!(reserved(&decoder).is_some_and(|bytes| bytes < 4096), "{decoder:?}");

    let mut decoder = Decoder::default();
    let stream = [frame(0x01, b"a"), frame(0x89, b"p"), frame(0x80, b"b")].concat();
    for byte in stream {
        assert!(decoder.decode(&mut [byte], LIMIT, |_| ControlFlow::Continue(())).is_ok());
    }
    assert!(decoder.pending.is_none(), "{decoder:?}");
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

#[test]
fn after_a_break_the_rest_is_taken_as_if_there_had_been_none() {
    let frames = [frame(0x81, b"a"), frame(0x01, b"b"), frame(0x89, b"p"), frame(0x80, b"c"), frame(0x81, b"d")];
    let whole = seen([&frames.concat()[..]]);
    for piece in 1..frames.concat().len() {
        let (mut decoder, mut told) = (Decoder::default(), Vec::new());
        for bytes in frames.concat().chunks(piece) {
            let mut bytes = bytes.to_vec();
            let mut next = &mut bytes[..];
            while !next.is_empty() {
                let left = decoder.decode(next, LIMIT, |event| {
                    told.push(format!("{event:?}"));
                    ControlFlow::Break(())
                });
                let from = next.len() - left.unwrap();
                next = &mut next[from..];
            }
        }
        told.retain(|event| event != "Part");
        assert_eq!(told.len(), whole.len(), "{told:?}");
        assert!(decoder.pending.is_none(), "{decoder:?}");
    }
}

#[test]
fn a_part_of_a_message_is_told_as_soon_as_any_of_it_came() {
    let parts = |bytes: &[u8]| {
        let (mut decoder, mut parts) = (Decoder::default(), 0);
        let decoded = decoder.decode(&mut bytes.to_vec(), LIMIT, |event| {
            parts += usize::from(event == Event::Part);
            ControlFlow::Continue(())
        });
        decoded.map(|_| parts)
    };
    assert_eq!(parts(&frame(0x01, b"first")), Ok(1));
    assert_eq!(parts(&frame(0x81, b"long")[..8]), Ok(1));
    assert_eq!(parts(&frame(0x81, b"whole")), Ok(0));
    assert_eq!(parts(&[frame(0x89, b"ping"), frame(0x8a, b"pong")].concat()), Ok(0));
    assert_eq!(parts(&frame(0x89, b"ping")[..8]), Ok(0));
}

/// A small generator (xorshift64*), so that a failure is repeated by its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.below(256) as u8).collect()
    }
}

/// Cuts a stream at random places.
fn cut<'a>(random: &mut Random, mut stream: &'a [u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    while !stream.is_empty() {
        let (piece, rest) = stream.split_at(1 + random.below(stream.len()));
        pieces.push(piece);
        stream = rest;
    }
    pieces
}

#[test]
fn any_bytes_at_all_are_told_alike_in_whatever_pieces_they_come() {
    for seed in 1..=3000 {
        let mut random = Random(seed);
        let mut stream = Vec::new();
        for _ in 0..random.below(8) {
            let first = [0x01, 0x02, 0x00, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8a][random.below(9)];
            let length = [0, 1, 2, 125, 126, 200][random.below(6)];
            let payload = if random.below(3) > 0 { vec![b'x'; length] } else { random.bytes(length) };
            stream.extend(frame(first, &payload));
        }
        if random.below(2) == 0 {
            let length = random.below(40);
            stream.extend(random.bytes(length));
        }
        let whole = seen([&stream[..]]);
        let pieces = cut(&mut random, &stream);
        assert_eq!(seen(pieces), whole, "seed {seed}");
    }
}

#[test]
fn garbage_is_refused_or_waited_for_but_never_a_panic() {
    for seed in 1..=20_000 {
        let mut random = Random(seed);
        let length = random.below(64);
        let garbage = random.bytes(length);
        let pieces = cut(&mut random, &garbage);
        assert_eq!(seen([&garbage[..]]), seen(pieces), "seed {seed}");
    }
}
