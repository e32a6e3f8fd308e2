//! The client's half of the opening handshake (RFC 6455, section 4.1), as far as counting needs it.

use std::net::SocketAddr;

/// An answer that is longer than this is not a handshake.
const MAX_ANSWER: usize = 16 * 1024;

/// The request that asks for an upgrade. The key is always the same: nothing here is a secret from proxies.
pub fn request(address: SocketAddr, target: &str) -> Vec<u8> {
    format!(
        "GET {target} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    .into_bytes()
}

/// What a server has answered up to now.
pub enum Answer {
    /// The head is not whole yet.
    Partial,
    /// 101; so many bytes of head, frames may follow.
    Accepted(usize),
    /// Anything else; its first line.
    Refused(String),
}

/// Judges the answer by its status.
pub fn judge(answer: &[u8]) -> Answer {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        if answer.len() < MAX_ANSWER {
            return Answer::Partial;
        }
        return Answer::Refused(format!("a head of more than {MAX_ANSWER} bytes"));
    };
    if answer.starts_with(b"HTTP/1.1 101") {
        return Answer::Accepted(end + 4);
    }
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    Answer::Refused(String::from_utf8_lossy(line).into_owned())
}

/// The pong that a ping must be answered with, masked as a client's frames are (with a key of zeros, which leaves the
/// payload as it is).
pub fn pong(payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len().min(125)).unwrap_or(125);
    [&[0x8a, 0x80 | length, 0, 0, 0, 0][..], &payload[..usize::from(length)]].concat()
}
