//! A push as an HTTP request that is written once and stamped anew each time, and the reading of its answer.

use crate::clock::{STAMP_LEN, write_stamp};
use anyhow::{Result, bail};
use std::net::SocketAddr;

/// What a push's request looks like at the server that is measured.
#[derive(Clone)]
pub struct PushRequest {
    bytes: Vec<u8>,
    stamp_at: usize,
    accepted: &'static str,
}

impl PushRequest {
    /// A push of so many bytes by `GET` of a target that ends where the message goes. `accepted` is what an answer
    /// contains when the push was taken. A message is a stamp and padding, at least as long as a stamp.
    pub fn get(host: SocketAddr, target: &str, message_len: usize, accepted: &'static str) -> Self {
        let message = message(message_len);
        let head = format!("GET {target}");
        let stamp_at = head.len();
        Self { bytes: format!("{head}{message} HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes(), stamp_at, accepted }
    }

    /// The same with the message as the body of a `POST`.
    pub fn post(host: SocketAddr, target: &str, message_len: usize, accepted: &'static str) -> Self {
        let message = message(message_len);
        let head = format!("POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {}\r\n\r\n", message.len());
        let stamp_at = head.len();
        Self { bytes: (head + &message).into_bytes(), stamp_at, accepted }
    }

    /// The same with a connection of its own for each push.
    pub fn closing(&self) -> Self {
        let first_line = self.bytes.windows(2).position(|window| window == b"\r\n").unwrap_or(self.bytes.len());
        let (line, rest) = self.bytes.split_at(first_line);
        let header = b"\r\nConnection: close";
        let moved = if self.stamp_at > first_line { header.len() } else { 0 };
        Self { bytes: [line, header, rest].concat(), stamp_at: self.stamp_at + moved, accepted: self.accepted }
    }

    /// The request, stamped with a time of the clock of [`crate::clock`].
    pub fn stamped(&mut self, nanos: u64) -> &[u8] {
        if let Some(stamp) = self.bytes[self.stamp_at..].first_chunk_mut::<STAMP_LEN>() {
            write_stamp(nanos, stamp);
        }
        &self.bytes
    }

    /// Whether a whole answer says that the push was taken.
    pub fn is_accepted(&self, answer: &[u8]) -> bool {
        answer.windows(self.accepted.len()).any(|window| window == self.accepted.as_bytes())
    }
}

fn message(len: usize) -> String {
    format!("{:0>STAMP_LEN$}{:x<padding$}", "", "", padding = len.saturating_sub(STAMP_LEN))
}

const LENGTH: &[u8] = b"content-length:";

/// How long the answer is that these bytes begin; `None` while the head is not whole. Only answers with a
/// `Content-Length` are understood.
pub fn answer_len(bytes: &[u8]) -> Result<Option<usize>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let length = bytes[..head].split(|byte| *byte == b'\n').find_map(|line| {
        let (name, value) = line.split_at_checked(LENGTH.len())?;
        name.eq_ignore_ascii_case(LENGTH).then(|| std::str::from_utf8(value).ok()?.trim().parse::<usize>().ok())?
    });
    match length {
        Some(length) => Ok(Some(head + 4 + length)),
        None => bail!("an answer without a length: {}", String::from_utf8_lossy(&bytes[..head])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_stamped_where_its_message_begins() {
        let host = "127.0.0.1:80".parse().unwrap();
        let get = PushRequest::get(host, "/?message=", 20, "yes");
        let post = PushRequest::post(host, "/pub", 20, "yes");
        for mut request in [get.clone(), get.closing(), post.clone(), post.closing()] {
            let text = String::from_utf8(request.stamped(0xabc).to_vec()).unwrap();
            assert!(text.contains("0000000000000abcxxxx"), "{text}");
        }
        assert!(get.is_accepted(b"say yes") && !get.is_accepted(b"no"));
    }

    #[test]
    fn an_answer_is_as_long_as_it_says() {
        assert_eq!(answer_len(b"HTTP/1.1 200 OK\r\nContent-Le").unwrap(), None);
        assert_eq!(answer_len(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap(), Some(40));
        assert!(answer_len(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n").is_err());
    }
}
