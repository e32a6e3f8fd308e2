//! The management port: a WebSocket that takes `{"method":"reload|stop|status|say","say":…}` and answers each in a text.
//!
//! `lang` in a message asks for the answer's language, `zh` or `en`. What is no JSON object closes the connection (1007, binary
//! 1003), a message over `MAX_MESSAGE` does (1009), and so do [`IDLE`] without one (1000) and the end of the node (1001).

use super::request::Asked;
use super::{Api, PATH, denied, is_handshake};
use crate::api::answer::{self, Answer};
use crate::api::server::told_to_stop;
use crate::operator::Operation;
use crate::peer::Peer;
use bytes::Bytes;
use fastwebsockets::upgrade::UpgradeFut;
use fastwebsockets::{Frame, OpCode, Payload, WebSocket, WebSocketError};
use hyper::body::Incoming;
use hyper::header::{HeaderValue, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

/// WebSockets that are open at the same time; each may be sending `MAX_MESSAGE`.
const CONNECTIONS: u32 = 16;

/// How long a connection may be without a message.
const IDLE: Duration = Duration::from_secs(300);

/// How long a last frame may take.
const LAST_FRAME: Duration = Duration::from_secs(2);

/// The places of the port's WebSockets.
pub(super) struct Port {
    places: Arc<Semaphore>,
}

impl Port {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(CONNECTIONS as usize)) }
    }
}

/// Why a connection is closed: code and reason (RFC 6455, section 7.4).
type Close = (u16, &'static str);

const IDLE_FOR_LONG: Close = (1000, "no message for 300 s");
const GOING_AWAY: Close = (1001, "node is stopping");
const NOT_TEXT: Close = (1003, "message is not a json object");
const NOT_JSON: Close = (1007, "message is not a json object");
const TOO_BIG: Close = (1009, "message is longer than MAX_MESSAGE");
const BROKEN: Close = (1002, "protocol error");

type Socket = WebSocket<TokioIo<Upgraded>>;

impl Api {
    /// Answers a request on the management port: a WebSocket handshake on any path, or an operation below `/admin/`.
    /// Connections are closed once `closed` is true.
    pub async fn manage(
        self: Arc<Self>,
        mut request: Request<Incoming>,
        peer: Peer,
        closed: watch::Receiver<bool>,
    ) -> Answer {
        let _counted = self.http.request();
        if !is_handshake(&request) {
            let (parts, body) = request.into_parts();
            return self.admin(&parts, body, peer).await.unwrap_or_else(|_| {
                let text = format!("this port speaks websocket, and http below {PATH}\n");
                let mut refused = answer::text(StatusCode::UPGRADE_REQUIRED, text);
                refused.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
                refused
            });
        }
        let (parts, body) = request.into_parts();
        if !self.admits_operator(&parts, peer) {
            tracing::warn!(%peer, "operator without a right to the management port refused");
            return denied();
        }
        request = Request::from_parts(parts, body);
        let Ok(place) = self.operator.port.places.clone().try_acquire_owned() else {
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{CONNECTIONS} operators are connected\n"));
        };
        match fastwebsockets::upgrade::upgrade(&mut request) {
            Ok((response, upgrade)) => {
                tokio::spawn(self.clone().converse(upgrade, peer, closed, place));
                response.map(|_| Bytes::new().into())
            }
            Err(error) => answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        }
    }

    /// Returns when `closed` is true and the last connection of the management port has ended.
    pub async fn managed(self: Arc<Self>, mut closed: watch::Receiver<bool>) {
        told_to_stop(&mut closed).await;
        // An error would mean that the semaphore is closed, which it never is.
        let _ = self.operator.port.places.acquire_many(CONNECTIONS).await;
    }

    async fn converse(
        self: Arc<Self>,
        upgrade: UpgradeFut,
        peer: Peer,
        mut closed: watch::Receiver<bool>,
        _place: OwnedSemaphorePermit,
    ) {
        let mut socket = match timeout(self.service.limits().handshake_timeout, upgrade).await {
            Ok(Ok(socket)) => socket,
            Ok(Err(_)) | Err(_) => return,
        };
        // The last byte of the limit is for telling a message that is too long from one that just fits.
        socket.set_max_message_size(self.service.limits().max_message + 1);
        let close = loop {
            let message = tokio::select! {
                message = timeout(IDLE, self.message(&mut socket)) => message,
                () = told_to_stop(&mut closed) => break Some(GOING_AWAY),
            };
            match message {
                Ok(Ok((opcode, message))) => match self.reply(&mut socket, opcode, &message, peer).await {
                    Ok(()) => {}
                    Err(close) => break close,
                },
                Ok(Err(close)) => break close,
                Err(_) => break Some(IDLE_FOR_LONG),
            }
        };
        if let Some((code, reason)) = close {
            // What keeps it from arriving keeps everything else from arriving too.
            let _ = timeout(LAST_FRAME, socket.write_frame(Frame::close(code, reason.as_bytes()))).await;
        }
    }

    /// The next whole message. An error where the connection is over, with what it is to be closed with if it is there yet.
    async fn message(&self, socket: &mut Socket) -> Result<(OpCode, Vec<u8>), Option<Close>> {
        let limit = self.service.limits().max_message;
        let mut begun: Option<(OpCode, Vec<u8>)> = None;
        loop {
            let frame = socket.read_frame().await.map_err(|error| match error {
                WebSocketError::FrameTooLarge => Some(TOO_BIG),
                WebSocketError::IoError(_) | WebSocketError::UnexpectedEOF | WebSocketError::ConnectionClosed => None,
                _ => Some(BROKEN),
            })?;
            match (frame.opcode, &mut begun) {
                (OpCode::Text | OpCode::Binary, None) => begun = Some((frame.opcode, frame.payload.to_vec())),
                (OpCode::Continuation, Some((_, message))) => message.extend_from_slice(&frame.payload),
                // It has been answered.
                (OpCode::Close, _) => return Err(None),
                (OpCode::Ping | OpCode::Pong, _) => continue,
                (OpCode::Text | OpCode::Binary, Some(_)) | (OpCode::Continuation, None) => return Err(Some(BROKEN)),
            }
            if begun.as_ref().is_some_and(|(_, message)| message.len() > limit) {
                return Err(Some(TOO_BIG));
            }
            if frame.fin
                && let Some(message) = begun.take()
            {
                return Ok(message);
            }
        }
    }

    async fn reply(
        &self,
        socket: &mut Socket,
        opcode: OpCode,
        message: &[u8],
        peer: Peer,
    ) -> Result<(), Option<Close>> {
        let asked =
            Asked::by_message(message).map_err(|_| Some(if opcode == OpCode::Binary { NOT_TEXT } else { NOT_JSON }))?;
        let phrase = match &asked.operation {
            Ok(operation) => self.answer(*operation, asked.say.as_deref(), peer).await,
            Err(phrase) => phrase.clone(),
        };
        let text = phrase.in_language(asked.language);
        let written = timeout(LAST_FRAME, socket.write_frame(Frame::text(Payload::Borrowed(text.as_bytes())))).await;
        // After the answer, as a node without clients ends at once. Whether the answer was taken makes no difference to it.
        if asked.operation == Ok(Operation::Stop) {
            self.stop().await;
        }
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(None),
        }
    }
}
