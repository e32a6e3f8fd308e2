//! A connection, in the hands of its handler.

use super::handle::Handle;
use super::message::{Closed, Message, PushError, RecvError, close_code};
use super::request::Asking;
use crate::hub::{CloseReason, Part, frame};
use crate::model::{Audience, ConnectionId, Error, Name, Opcode};
use crate::session::handler::{Asked, Incoming, Stream};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// A WebSocket connection. Receives, sends, and is a member of audiences. Dropping it closes it: with 1000, or with 1011 where its
/// handler panics or returns an error.
///
/// Pings are answered and close frames replied to while the handler does something else. The client is read from as long as
/// there is room for its next message; a client that sends faster than the handler receives is slowed down. So a handler that never
/// receives does not see a client leave that has sent something: what it pushes fails once the client's stream has ended.
///
/// One that waits for several things receives in a `select!`, as [`recv`](Self::recv) is cancel-safe:
///
/// ```
/// use carillon::{Handshake, Outcome};
/// use std::time::Duration;
///
/// async fn clock(handshake: Handshake) -> Outcome {
///     let mut connection = handshake.accept().await?;
///     let mut ticks = tokio::time::interval(Duration::from_secs(1));
///     loop {
///         tokio::select! {
///             received = connection.recv() => match received? {
///                 Some(message) => connection.push(message).await?,
///                 None => return Ok(()),
///             },
///             _ = ticks.tick() => connection.push("tick").await?,
///         }
///     }
/// }
/// ```
///
/// Other tasks reach it by its [`id`](Self::id) through the [`cluster`](Self::cluster).
pub struct Connection {
    stream: Stream,
    asked: Arc<Asked>,
    handle: Handle,
    /// The kind of the message in fragments that has begun.
    fragments: Option<Opcode>,
}

impl Connection {
    pub(super) fn new(stream: Stream, asked: Arc<Asked>, handle: Handle) -> Self {
        Self { stream, asked, handle, fragments: None }
    }

    /// The connection's id, by which anybody in the cluster reaches it.
    pub fn id(&self) -> ConnectionId {
        self.stream.id()
    }

    /// What the client asked for when it connected.
    pub fn request(&self) -> Asking<'_> {
        Asking::new(&self.asked)
    }

    /// The cluster that it is a connection of.
    pub fn cluster(&self) -> &Handle {
        &self.handle
    }

    /// What the client sends next; `Ok(None)` once the connection has ended, see [`closed`](Self::closed). Cancel-safe: if the
    /// future is dropped, nothing of what the client has sent is lost.
    ///
    /// # Errors
    /// [`RecvError::Violation`] where it has ended because of what the client sent.
    pub async fn recv(&mut self) -> Result<Option<Message>, RecvError> {
        match self.stream.recv().await {
            Some(Incoming::Message(Opcode::Text, bytes)) => {
                // Checked when it came; what is not UTF-8 never comes here.
                Ok(Some(Message::Text(String::from_utf8_lossy(&bytes).into_owned())))
            }
            Some(Incoming::Message(Opcode::Binary, bytes)) => Ok(Some(Message::Binary(bytes))),
            Some(Incoming::Ping(bytes)) => Ok(Some(Message::Ping(bytes))),
            Some(Incoming::Pong(bytes)) => Ok(Some(Message::Pong(bytes))),
            None => match self.closed() {
                Some(closed) if is_violation(&closed) => Err(RecvError::Violation(closed)),
                Some(_) | None => Ok(None),
            },
        }
    }

    /// The same, for so long. Cancel-safe as well: a message that is on its way when the time is over is received by the next call.
    ///
    /// # Errors
    /// [`RecvError::TimedOut`], and those of [`recv`](Self::recv).
    pub async fn recv_timeout(&mut self, limit: Duration) -> Result<Option<Message>, RecvError> {
        timeout(limit, self.recv()).await.unwrap_or(Err(RecvError::TimedOut))
    }

    /// Sends a message, in order with what is published to the connection. Returns when the kernel has it, so that a client that
    /// reads slowly slows its handler down. If the future is dropped the message is sent all the same, unless it was still waiting
    /// behind another one that was dropped before; never a part of it.
    ///
    /// # Errors
    /// [`PushError`]; nothing was sent then, or the connection has ended.
    pub async fn push(&mut self, message: impl Into<Message>) -> Result<(), PushError> {
        let message = message.into();
        let frame = match &message {
            Message::Text(_) | Message::Binary(_) if self.fragments.is_some() => return Err(PushError::Unfinished),
            Message::Text(text) => {
                self.fits(text.len())?;
                frame::message(Opcode::Text, text.as_bytes())
            }
            Message::Binary(bytes) => {
                self.fits(bytes.len())?;
                frame::message(Opcode::Binary, bytes)
            }
            Message::Ping(bytes) => frame::ping_with(control(bytes)?),
            Message::Pong(bytes) => frame::pong(control(bytes)?),
            Message::Close(code, reason) => {
                // Whatever was sent before goes before it; whether that succeeds says whether it has ended already.
                self.stream.ready().await.map_err(|_| PushError::Ended)?;
                self.close(*code, reason).await;
                return Ok(());
            }
        };
        self.stream.ready().await.map_err(|_| PushError::Ended)?;
        self.stream.send(frame, Part::Whole).await.map_err(|_| PushError::Ended)
    }

    /// Sends a fragment of a message (RFC 6455, section 5.4), the last one with `finish`. The first one begins the message; the
    /// others have to be of its kind. What is published to the connection meanwhile waits for the last one.
    ///
    /// # Errors
    /// [`PushError`]. A control frame is [`PushError::OtherKind`].
    pub async fn push_fragment(&mut self, fragment: impl Into<Message>, finish: bool) -> Result<(), PushError> {
        let fragment = fragment.into();
        let kind = fragment.opcode().ok_or(PushError::OtherKind)?;
        if self.fragments.is_some_and(|begun| begun != kind) {
            return Err(PushError::OtherKind);
        }
        self.fits(fragment.as_bytes().len())?;
        let first = self.fragments.is_none().then_some(kind);
        let part = match (finish, first) {
            (true, Some(_)) => Part::Whole,
            (true, None) => Part::Last,
            (false, _) => Part::More,
        };
        let frame = frame::fragment(first, finish, fragment.as_bytes());
        self.stream.ready().await.map_err(|_| PushError::Ended)?;
        self.fragments = (!finish).then_some(kind);
        self.stream.send(frame, part).await.map_err(|_| PushError::Ended)
    }

    fn fits(&self, size: usize) -> Result<(), PushError> {
        let limit = self.stream.max_push();
        if size > limit { Err(PushError::TooBig { size, limit }) } else { Ok(()) }
    }

    /// Closes the connection with a close frame, and waits for a short while until that is written. Where it has ended before this
    /// does nothing: there is never a second close frame. A reason over 123 bytes is cut at a character. What the client has sent and
    /// nobody has received is thrown away.
    ///
    /// `code` is 1000 where the connection has fulfilled its purpose, or one of 3000 to 4999 (RFC 6455, section 7.4). One that may
    /// not be sent (1005, 1006, 1015 and those that are not defined) is sent as 1000. If the future is dropped it is closed all the
    /// same.
    pub async fn close(&mut self, code: u16, reason: &str) {
        self.stream.end(close_code(code), reason).await;
    }

    /// Ends the connection's stream at once, without a close frame and whatever waits to be written.
    pub fn abort(&mut self) {
        self.stream.abort();
    }

    /// How the connection has ended; `None` before [`recv`](Self::recv) has said so, or [`close`](Self::close) or
    /// [`abort`](Self::abort) has returned.
    pub fn closed(&self) -> Option<Closed> {
        self.stream.ended().map(Closed::from)
    }

    /// Makes the connection a member of an audience: see [`channel`](super::channel), [`group`](super::group). Returns when
    /// whatever anybody in the cluster publishes there reaches it. So it is with all that follow: if the future is dropped it is
    /// done all the same, and only its confirmation is not waited for.
    ///
    /// # Errors
    /// [`Error::Limit`] where it is in too many, or has ended; [`Error::Unavailable`] while Redis is away.
    pub async fn join(&self, audience: Audience) -> Result<(), Error> {
        self.stream.join(vec![audience]).await
    }

    /// The opposite.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while Redis is away: it is out of it on this node all the same.
    pub async fn leave(&self, audience: Audience) -> Result<(), Error> {
        self.stream.leave(&[audience]).await
    }

    /// Makes the connection one of a user's, and of nobody else's.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn bind(&self, user: Name) -> Result<(), Error> {
        self.stream.bind(user).await
    }

    /// Makes the connection nobody's.
    ///
    /// # Errors
    /// As for [`leave`](Self::leave).
    pub async fn unbind(&self) -> Result<(), Error> {
        self.stream.unbind().await
    }
}

fn control(payload: &[u8]) -> Result<&[u8], PushError> {
    let (size, limit) = (payload.len(), frame::MAX_CONTROL);
    if size > limit { Err(PushError::TooBig { size, limit }) } else { Ok(payload) }
}

fn is_violation(closed: &Closed) -> bool {
    [CloseReason::Protocol, CloseReason::TooBig].iter().any(|reason| reason.as_str() == closed.cause)
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Connection");
        shown.field("id", &self.id()).field("request", &self.request()).field("closed", &self.closed());
        shown.finish_non_exhaustive()
    }
}
