//! A WebSocket as a client: the handshake, whole messages instead of frames, and what has to be answered.

use super::failure::Failure;
use super::http::{Http, is, said, shown};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use fastwebsockets::handshake::generate_key;
use fastwebsockets::{
    Frame, OpCode, Payload, Role, WebSocketError, WebSocketRead, WebSocketWrite, after_handshake_split,
};
use http_body_util::Full;
use hyper::header::{
    CONNECTION, HeaderMap, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::http::response::Parts;
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use sha1::{Digest, Sha1};
use std::time::Duration;
use tokio::io::{ReadHalf, WriteHalf};
use url::Url;

/// Bytes of a message that are taken at most, fragments together; a server that sends more is left.
const MAX_MESSAGE: usize = 64 << 20;
/// What a server appends to the key before hashing it (RFC 6455, section 1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// What came of trying to connect.
pub(super) enum Opened {
    /// The handshake was accepted: what can be read, what can be written.
    Socket(Reader, Writer),
    /// The server answered with anything but 101.
    Refused {
        /// Whether asking again would be answered the same.
        for_good: bool,
        /// When the server wants to be asked again, if it said so (`Retry-After` in seconds).
        retry_after: Option<Duration>,
        /// Status and what the server said about it.
        message: String,
    },
}

/// Something that arrived.
pub(super) enum Event {
    /// A whole text message.
    Text(String),
    /// A whole binary message.
    Binary(Vec<u8>),
    /// A ping, which wants its payload back in a pong.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The server closes; 1005 stands for a frame without a code (RFC 6455, section 7.1.5).
    Close {
        /// The code.
        code: u16,
        /// The reason, possibly empty.
        reason: String,
    },
    /// The connection is over without a close frame.
    Lost {
        /// How that was noticed.
        why: String,
        /// The code to leave with where the server broke the protocol.
        code: Option<u16>,
    },
}

/// Connects to `url`, whose scheme is `ws` or `wss`, and does the handshake of RFC 6455, section 4.1.
pub(super) async fn open(url: &Url, timeout: Duration) -> Result<Opened, Failure> {
    let http = Http::new(url.scheme() == "wss", timeout)?;
    let key = generate_key();
    // An HTTP client knows the two schemes by their HTTP names only.
    let target = format!("http{}", url.as_str().strip_prefix("ws").unwrap_or_default());
    let request = Request::get(target)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, &key)
        .body(Full::<Bytes>::default())
        .map_err(|error| Failure::Usage(format!("can't make a request of {}: {error}", shown(url))))?;
    let response = http.send(url, request).await?;
    let status = response.status();
    if status != StatusCode::SWITCHING_PROTOCOLS {
        let (head, body) = response.into_parts();
        let body = http.body(url, body).await.unwrap_or_default();
        let for_good = !(status.is_server_error() || matches!(status.as_u16(), 408 | 429));
        return Ok(Opened::Refused {
            for_good,
            retry_after: seconds(&head.headers),
            message: format!("{} {}", shown(url), refusal(&head, &body)),
        });
    }
    if response.headers().get(SEC_WEBSOCKET_ACCEPT).is_none_or(|accept| accept.as_bytes() != accept_of(&key).as_bytes())
    {
        return Err(Failure::refused(format!("{} accepted another handshake than this one", shown(url))));
    }
    let upgraded = hyper::upgrade::on(response)
        .await
        .map_err(|error| Failure::unreachable(format!("lost {} in the handshake: {error}", shown(url))))?;
    let (read, write) = tokio::io::split(TokioIo::new(upgraded));
    let (mut frames, writer) = after_handshake_split(read, write, Role::Client);
    frames.set_auto_close(false);
    frames.set_auto_pong(false);
    frames.set_max_message_size(MAX_MESSAGE + 1);
    Ok(Opened::Socket(Reader { frames, partial: None }, Writer(writer)))
}

/// `Sec-WebSocket-Accept` for a key: fastwebsockets' client doesn't look at it.
fn accept_of(key: &str) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_SUFFIX).finalize())
}

/// What an answer other than 101 means to somebody who wanted a WebSocket.
fn refusal(head: &Parts, body: &[u8]) -> String {
    let status = head.status;
    match said(&head.headers, body) {
        Some(text) => format!("refused the connection: {status}: {text}"),
        None if is_error_auth(head) => {
            format!(
                "refused the connection: {status}: its token is missing or not taken, which the query holds (?auth=…)"
            )
        }
        None if is_api(&head.headers, body) => {
            "is a node's HTTP API; its WebSockets are on another port, 8090 unless WS_PORT says otherwise".into()
        }
        None if status.is_server_error() => format!("refused the connection: {status}"),
        None => format!("answered {status}: no WebSocket server answers there"),
    }
}

/// Whether it is the answer of a node to a client without the right token.
fn is_error_auth(head: &Parts) -> bool {
    head.status == StatusCode::FORBIDDEN && head.headers.get("message").is_some_and(|text| text == "error auth")
}

/// Whether it is an answer of the actions API, which has one for every request.
fn is_api(headers: &HeaderMap, body: &[u8]) -> bool {
    is(headers, "application/json")
        && serde_json::from_slice::<Value>(body).is_ok_and(|answer| answer["status"].is_boolean())
}

fn seconds(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

/// The half that is written.
pub(super) struct Writer(WebSocketWrite<WriteHalf<TokioIo<Upgraded>>>);

impl Writer {
    /// Answers a ping.
    pub(super) async fn pong(&mut self, payload: Vec<u8>) -> Result<(), WebSocketError> {
        self.0.write_frame(Frame::pong(Payload::Owned(payload))).await
    }

    /// Asks whether the server is still there.
    pub(super) async fn ping(&mut self) -> Result<(), WebSocketError> {
        self.0.write_frame(Frame::new(true, OpCode::Ping, None, Payload::Owned(Vec::new()))).await
    }

    /// Says goodbye with a code.
    pub(super) async fn close(&mut self, code: u16) -> Result<(), WebSocketError> {
        self.0.write_frame(Frame::close(code, b"")).await
    }
}

/// The half that is read.
pub(super) struct Reader {
    frames: WebSocketRead<ReadHalf<TokioIo<Upgraded>>>,
    partial: Option<Partial>,
}

/// The beginning of a message in several frames.
struct Partial {
    text: bool,
    data: Vec<u8>,
}

impl Reader {
    /// The next event. Not cancel-safe: dropping the future in the middle of a frame loses it.
    pub(super) async fn next(&mut self) -> Event {
        loop {
            // Nothing is ever sent from within a read, as answering is the owner's.
            let frame = self.frames.read_frame(&mut |_| async { Ok::<(), WebSocketError>(()) }).await;
            let (fin, opcode, payload) = match frame {
                Ok(frame) => (frame.fin, frame.opcode, Vec::from(frame.payload)),
                Err(error) => return lost(&error),
            };
            match opcode {
                OpCode::Ping => return Event::Ping(payload),
                OpCode::Pong => return Event::Pong,
                OpCode::Close => return close(&payload),
                OpCode::Text | OpCode::Binary | OpCode::Continuation => {
                    match assemble(&mut self.partial, opcode, fin, payload) {
                        Ok(Some(message)) => return message,
                        Ok(None) => {}
                        Err((code, why)) => return Event::Lost { why: why.into(), code: Some(code) },
                    }
                }
            }
        }
    }
}

/// Takes in one data frame; the message where it was the last one, the code to leave with where it breaks a rule.
fn assemble(
    partial: &mut Option<Partial>,
    opcode: OpCode,
    fin: bool,
    payload: Vec<u8>,
) -> Result<Option<Event>, (u16, &'static str)> {
    let mut message = match (opcode, partial.take()) {
        (OpCode::Continuation, Some(message)) => message,
        (OpCode::Continuation, None) => return Err((1002, "the server continued a message that it had not begun")),
        (_, Some(_)) => return Err((1002, "the server began a message within another")),
        (opcode, None) => Partial { text: opcode == OpCode::Text, data: Vec::new() },
    };
    if message.data.len() + payload.len() > MAX_MESSAGE {
        return Err((1009, "the server sent a message of more than 64 MiB"));
    }
    if message.data.is_empty() {
        message.data = payload;
    } else {
        message.data.extend_from_slice(&payload);
    }
    if !fin {
        *partial = Some(message);
        return Ok(None);
    }
    if !message.text {
        return Ok(Some(Event::Binary(message.data)));
    }
    String::from_utf8(message.data)
        .map(|text| Some(Event::Text(text)))
        .map_err(|_| (1007, "the server sent a text that is not utf-8"))
}

fn close(payload: &[u8]) -> Event {
    match payload {
        [high, low, reason @ ..] => Event::Close {
            code: u16::from_be_bytes([*high, *low]),
            reason: String::from_utf8_lossy(reason).into_owned(),
        },
        _ => Event::Close { code: 1005, reason: String::new() },
    }
}

fn lost(error: &WebSocketError) -> Event {
    match error {
        WebSocketError::UnexpectedEOF => Event::Lost { why: "the server hung up".into(), code: None },
        WebSocketError::IoError(error) => Event::Lost { why: error.to_string(), code: None },
        WebSocketError::InvalidUTF8 => {
            Event::Lost { why: "the server sent a text that is not utf-8".into(), code: Some(1007) }
        }
        WebSocketError::FrameTooLarge => {
            Event::Lost { why: "the server sent a frame of more than 64 MiB".into(), code: Some(1009) }
        }
        broken => Event::Lost { why: format!("the server broke the protocol: {broken}"), code: Some(1002) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_of("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_refusal_says_what_answered() {
        let cases = [
            (404, "text/plain", "no client profile", "refused the connection: 404 Not Found: no client profile"),
            (404, "text/html", "<html>", "answered 404 Not Found: no WebSocket server answers there"),
            (502, "text/html", "<html>", "refused the connection: 502 Bad Gateway"),
            (
                200,
                "application/json",
                r#"{"status":false}"#,
                "is a node's HTTP API; its WebSockets are on another port, 8090 unless WS_PORT says otherwise",
            ),
            (200, "application/json", "{}", "answered 200 OK: no WebSocket server answers there"),
        ];
        for (status, media_type, body, message) in cases {
            let head = hyper::Response::builder().status(status).header("content-type", media_type).body(()).unwrap();
            assert_eq!(refusal(&head.into_parts().0, body.as_bytes()), message);
        }
        let head = hyper::Response::builder().status(403).header("message", "error auth").body(()).unwrap();
        let message = refusal(&head.into_parts().0, b"");
        assert!(message.starts_with("refused the connection: 403 Forbidden: its token"), "{message}");
    }

    #[test]
    fn fragments_become_one_message() {
        let mut partial = None;
        let half = "сло".as_bytes();
        assert!(matches!(assemble(&mut partial, OpCode::Text, false, half[..3].to_vec()), Ok(None)));
        assert!(matches!(assemble(&mut partial, OpCode::Continuation, false, Vec::new()), Ok(None)));
        let whole = assemble(&mut partial, OpCode::Continuation, true, half[3..].to_vec());
        assert!(matches!(whole, Ok(Some(Event::Text(text))) if text == "сло"));
        assert!(partial.is_none());
    }

    #[test]
    fn a_broken_sequence_of_frames_has_its_close_code() {
        let begun = || Some(Partial { text: true, data: vec![b'a'] });
        let cases = [
            (None, OpCode::Continuation, 0, 1002),
            (begun(), OpCode::Text, 0, 1002),
            (begun(), OpCode::Continuation, MAX_MESSAGE, 1009),
        ];
        for (mut partial, opcode, length, code) in cases {
            let result = assemble(&mut partial, opcode, true, vec![b'a'; length]);
            assert_eq!(result.map(|_| ()).unwrap_err().0, code);
        }
        assert_eq!(assemble(&mut None, OpCode::Text, true, vec![0xff]).map(|_| ()).unwrap_err().0, 1007);
    }

    #[test]
    fn a_close_frame_without_a_code_is_1005() {
        assert!(matches!(close(b""), Event::Close { code: 1005, .. }));
        assert!(matches!(close(b"\x03\xe9bye"), Event::Close { code: 1001, reason } if reason == "bye"));
    }
}
