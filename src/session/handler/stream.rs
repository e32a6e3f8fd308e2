//! A connection in a handler's hands.

use super::run::Dropped;
use crate::hub::{CloseReason, End, Hub, Part, frame};
use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, Opcode, Who};
use crate::session::Sessions;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Messages that may wait for the handler. The client is not read from while one does not fit, so that a connection holds no more
/// than this, the one that waits for its place, and what has come of the next.
pub(super) const WAITING: usize = 1;

/// How long the close frame may take to be written that a handler sends.
const LAST_FRAME: Duration = Duration::from_secs(2);

/// Something that a client has sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// A message, fragments together; of a text its bytes were checked to be UTF-8.
    Message(Opcode, Bytes),
    /// A ping.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
}

/// The connection has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("connection has ended")]
pub struct Gone;

/// The connection. Dropping it closes it.
pub struct Stream {
    sessions: Arc<Sessions>,
    id: ConnectionId,
    messages: mpsc::Receiver<Incoming>,
    /// How it has ended, once that is known.
    end: Result<End, oneshot::Receiver<End>>,
    /// It was ended from here.
    over: bool,
    /// A frame that is perhaps not with the kernel yet.
    sending: Option<oneshot::Receiver<()>>,
    dropped: Arc<Dropped>,
}

/// A connection that is to be closed.
pub(super) struct Ending {
    hub: Arc<Hub>,
    id: ConnectionId,
}

impl Ending {
    /// Closes it, with 1011 where its handler has failed.
    pub(super) fn end(self, failed: bool) {
        let (code, reason, why) =
            if failed { (1011, "internal error", CloseReason::Handler) } else { (1000, "", CloseReason::Api) };
        self.hub.announce_end(self.id, code, reason);
        drop(self.hub.end(self.id, frame::close(code, reason), why));
    }
}

impl Stream {
    pub(super) fn new(
        sessions: Arc<Sessions>,
        id: ConnectionId,
        messages: mpsc::Receiver<Incoming>,
        end: oneshot::Receiver<End>,
        dropped: Arc<Dropped>,
    ) -> Self {
        Self { sessions, id, messages, end: Err(end), over: false, sending: None, dropped }
    }

    /// Its id.
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// What the client has sent next; `None` once the connection has ended. If the future is dropped nothing is lost.
    pub async fn recv(&mut self) -> Option<Incoming> {
        if self.over {
            return None;
        }
        let message = self.messages.recv().await;
        if message.is_none() {
            self.learn_end().await;
        }
        message
    }

    async fn learn_end(&mut self) {
        if let Err(end) = &mut self.end {
            let lost = || End {
                code: End::NO_FRAME,
                reason: String::new(),
                cause: CloseReason::Lost.as_str().to_owned(),
                at: 0,
            };
            self.end = Ok(end.await.unwrap_or_else(|_| lost()));
        }
    }

    /// How it has ended, once [`recv`](Self::recv) has returned `None`, or [`end`](Self::end) or [`abort`](Self::abort) has returned.
    pub fn ended(&self) -> Option<&End> {
        self.end.as_ref().ok()
    }

    /// Waits until the frame before is with the kernel, if whoever sent it has not: one at a time waits in memory.
    pub async fn ready(&mut self) -> Result<(), Gone> {
        if self.over {
            return Err(Gone);
        }
        if let Some(sending) = &mut self.sending {
            let sent = sending.await;
            self.sending = None;
            sent.map_err(|_| Gone)?;
        }
        Ok(())
    }

    /// Sends a frame, in order with what is pushed to the connection, once it is [`ready`](Self::ready). Returns when the kernel
    /// has it.
    pub async fn send(&mut self, frame: Bytes, part: Part) -> Result<(), Gone> {
        self.sending = Some(self.sessions.hub.send_part(self.id, frame, part));
        self.ready().await
    }

    /// Closes it with a close frame, if it hasn't ended yet, and waits for a short while until that is with the kernel. What the
    /// client has sent and nobody has received is thrown away.
    pub async fn end(&mut self, code: u16, reason: &str) {
        if std::mem::replace(&mut self.over, true) {
            return;
        }
        // The session waits no more for a place for its next message, and hears the client's own close frame.
        self.messages.close();
        let reason = frame::close_reason(reason);
        self.sessions.hub.announce_end(self.id, code, reason);
        let written = self.sessions.hub.end(self.id, frame::close(code, reason), CloseReason::Api);
        if let Ok(Err(_)) = timeout(LAST_FRAME, written).await {
            // It had ended before, or while this was written: the session says how.
            let _ = timeout(LAST_FRAME, self.learn_end()).await;
        }
        // Over the time: the client doesn't read. The hub ends the stream by itself then.
        self.note_end(code, reason);
    }

    /// Ends its stream at once, without a close frame.
    pub fn abort(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.messages.close();
            self.sessions.hub.abort(self.id);
            self.note_end(End::NO_FRAME, "");
        }
    }

    /// How it has ended: as the session says, or else so, from here.
    fn note_end(&mut self, code: u16, reason: &str) {
        if let Err(told) = &mut self.end {
            let cause = CloseReason::Api.as_str().to_owned();
            let end = told.try_recv().unwrap_or_else(|_| End { code, reason: reason.to_owned(), cause, at: 0 });
            self.end = Ok(end);
        }
    }

    /// Makes it a member of audiences, all or none. What anybody pushes to them after this returned reaches it.
    ///
    /// # Errors
    /// [`Error::Limit`] where it would be in too many, or has ended; [`Error::Unavailable`] where the cluster can't confirm it.
    pub async fn join(&self, audiences: Vec<Audience>) -> Result<(), Error> {
        let joined = self.sessions.hub.join(&Who::Connection(self.id), &audiences);
        joined.map_err(|error| Error::Limit(error.to_string()))?;
        self.sessions.cluster.settle(&audiences).await
    }

    /// Takes it out of audiences.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where the cluster can't confirm it.
    pub async fn leave(&self, audiences: &[Audience]) -> Result<(), Error> {
        self.sessions.hub.leave(&Who::Connection(self.id), audiences);
        self.sessions.cluster.settle(&[]).await
    }

    /// Makes it one of a user's, and of nobody else's.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn bind(&self, user: Name) -> Result<(), Error> {
        self.sessions.hub.leave_all(&Who::Connection(self.id), AudienceKind::User);
        self.join(vec![Audience::user(user)]).await
    }

    /// Makes it nobody's.
    ///
    /// # Errors
    /// As for [`leave`](Self::leave).
    pub async fn unbind(&self) -> Result<(), Error> {
        self.sessions.hub.leave_all(&Who::Connection(self.id), AudienceKind::User);
        self.sessions.cluster.settle(&[]).await
    }

    /// Bytes that one message to the client may have.
    pub fn max_push(&self) -> usize {
        self.sessions.limits.max_push
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.over {
            self.dropped.add(Ending { hub: self.sessions.hub.clone(), id: self.id });
        }
    }
}
