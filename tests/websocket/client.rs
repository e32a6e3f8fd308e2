//! A client that says what it is told to, byte by byte, and hides nothing of what it hears.

use bytes::{Buf, BytesMut};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

/// Longer than anything here takes, however busy the machine.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

pub(crate) const TEXT: u8 = 0x81;
pub(crate) const BINARY: u8 = 0x82;
pub(crate) const CLOSE: u8 = 0x88;
pub(crate) const PING: u8 = 0x89;
pub(crate) const PONG: u8 = 0x8a;

/// Polls a condition until it is true.
pub(crate) async fn eventually(condition: impl Fn() -> bool) {
    let polling = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(DEADLINE, polling).await.expect("the condition becomes true within the deadline");
}

/// A masked frame; `first` is its first byte.
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x12, 0x34, 0x56, 0x78];
    let mut bytes = head(first, payload.len() as u64);
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// The start of a masked frame: what comes before the masking key.
pub(crate) fn head(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..=125 => bytes.push(0x80 | length as u8),
        126..=0xffff => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes
}

/// The payload of a close frame.
pub(crate) fn close(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// An HTTP response.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|h| h.1)
    }
}

/// A client, whose halves can be used at the same time.
pub(crate) struct Raw {
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
}

pub(crate) struct Reader {
    stream: OwnedReadHalf,
    heard: BytesMut,
}

pub(crate) struct Writer(OwnedWriteHalf);

impl Raw {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (stream, writer) = stream.into_split();
        Self { reader: Reader { stream, heard: BytesMut::new() }, writer: Writer(writer) }
    }

    /// The bytes of a good handshake for this path and query, with more header lines.
    pub(crate) fn handshake(target: &str, more: &str) -> String {
        format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
        )
    }

    /// Asks for a WebSocket and is answered 101.
    pub(crate) async fn upgrade(&mut self, target: &str) {
        self.say(Self::handshake(target, "")).await;
        let answer = self.answer().await;
        assert_eq!(answer.status, 101, "{} {}", answer.head, answer.body);
    }

    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        self.writer.say(bytes).await;
    }

    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        self.reader.frame().await
    }

    pub(crate) async fn answer(&mut self) -> Answer {
        self.reader.answer().await
    }
}

impl Writer {
    pub(crate) async fn say(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(DEADLINE, self.0.write_all(bytes.as_ref())).await.expect("written within the deadline").unwrap();
    }

    /// Ends our half of the stream.
    pub(crate) async fn finish(&mut self) {
        self.0.shutdown().await.unwrap();
    }
}

impl Reader {
    /// The next response, with the body that its length announces.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(end) = self.heard.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break String::from_utf8(self.heard.split_to(end + 4).to_vec()).unwrap();
            }
            assert!(self.hear().await, "the stream ended in a response: {:?}", self.heard);
        };
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer { status, head, body: String::new() };
        let length = answer.header("content-length").map_or(0, |length| length.parse().unwrap());
        while self.heard.len() < length {
            assert!(self.hear().await, "the stream ended in a body");
        }
        answer.body = String::from_utf8(self.heard.split_to(length).to_vec()).unwrap();
        answer
    }

    /// The next frame: its first byte and its payload. `None` at the end of the stream.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        loop {
            if let Some(frame) = cut(&mut self.heard) {
                return Some(frame);
            }
            if !self.hear().await {
                assert!(self.heard.is_empty(), "the stream ended in a frame: {:?}", self.heard);
                return None;
            }
        }
    }

    /// Waits for the end of the stream, whatever comes before it; a reset is one too.
    pub(crate) async fn end(&mut self) {
        let reading = async { while matches!(self.stream.read_buf(&mut self.heard).await, Ok(1..)) {} };
        timeout(DEADLINE, reading).await.expect("the stream ends within the deadline");
    }

    /// Reads once; false at the end of the stream. A reset is no end: it may destroy what was not read yet.
    async fn hear(&mut self) -> bool {
        let read = timeout(DEADLINE, self.stream.read_buf(&mut self.heard)).await.expect("heard within the deadline");
        read.unwrap() > 0
    }
}

/// Takes a whole frame off the front; a server's frames have no mask.
fn cut(heard: &mut BytesMut) -> Option<(u8, Vec<u8>)> {
    let short = *heard.get(1)?;
    let (head, length) = match short {
        126 => (4, usize::from(u16::from_be_bytes(heard.get(2..4)?.try_into().unwrap()))),
        127 => (10, u64::from_be_bytes(heard.get(2..10)?.try_into().unwrap()) as usize),
        short => (2, usize::from(short)),
    };
    if heard.len() < head + length {
        return None;
    }
    let first = heard[0];
    heard.advance(head);
    Some((first, heard.split_to(length).to_vec()))
}
