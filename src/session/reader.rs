//! The task of one connection: reads what the client sends, has the hub answer, and ends the connection.
//!
//! Between messages a connection is this task's future and nothing else: no read buffer (all connections of a worker
//! thread share one), no decoder state. What is needed rarely is boxed.

use super::decoder::{Decoder, Event};
use super::handler::{Hand, Incoming};
use super::hooks::{Answer, Unanswered, Wanted};
use super::member::Member;
use super::steps::{Ending, Rules, Step, Told};
use crate::hub::{CloseReason, Socket, frame};
use crate::model::Opcode;
use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::upgrade::UpgradeFut;
use hyper::upgrade::{Parts, Upgraded};
use hyper_util::rt::TokioIo;
use prometheus::IntCounter;
use socket2::SockRef;
use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;

/// Bytes that one read takes at most.
const SCRATCH: usize = 64 << 10;

/// How long a last frame may take to be written, and after it how long the client may take to end the stream.
const LINGER: Duration = Duration::from_secs(2);

/// Bytes that are read and thrown away after the last frame. Closing a stream with unread bytes resets it, which can
/// destroy the close frame before the client reads it; this is as much as a client may still have on its way.
const LINGER_BYTES: usize = 16 << 20;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// One connection.
struct Session {
    member: Member,
    socket: Arc<Socket>,
    decoder: Decoder,
    /// The handler that has the connection.
    hand: Option<Box<Hand>>,
}

/// What one read has brought about, and what has to be waited for because of it.
enum Turn {
    /// Nothing.
    Wait,
    /// The hub has frames for the client; reading goes on when they are with the kernel.
    Replied(oneshot::Receiver<()>),
    /// The hub has the client's last frames.
    Ended(oneshot::Receiver<()>),
    /// Not everything can be done at once. Boxed, as few connections ever have any.
    Work(Box<Work>),
    /// The stream is at its end, or broken.
    Lost,
}

/// What one read has brought about, to be taken step by step.
struct Work {
    steps: Vec<Step>,
    /// Bytes that come after those: they stay bytes until their turn, as what they mean can be many times as big.
    rest: BytesMut,
}

/// Serves a connection whose handshake is being answered, until it is over.
pub(super) fn run(
    member: Member,
    upgrade: UpgradeFut,
    hand: Option<Box<Hand>>,
) -> impl Future<Output = ()> + Send + 'static {
    let hand_over = Box::pin(take_over(member, upgrade, hand));
    async {
        let Some((mut session, mut turn)) = hand_over.await else { return };
        loop {
            match turn {
                Turn::Wait => {}
                Turn::Work(work) => {
                    // One read's at a time: who sends more than is worked off is not read from.
                    session.socket.pause(true);
                    turn = Box::pin(session.work(work)).await;
                    // What it sent meanwhile, its pongs among that, nobody has read.
                    session.socket.heard();
                    session.member.sessions().idle.spoke(&session.socket);
                    session.socket.pause(false);
                    continue;
                }
                Turn::Replied(written) => {
                    // An error: the hub has closed the connection and will end the stream, which the next read finds.
                    let _ = written.await;
                }
                Turn::Ended(written) => return Box::pin(session.finish(written)).await,
                Turn::Lost => return session.lose(),
            }
            turn = match readable(&session.socket).await {
                Ok(()) => session.read(),
                Err(_) => Turn::Lost,
            };
        }
    }
}

/// Takes the TCP stream out of hyper, and reads what the client sent before the handshake was answered.
async fn take_over(mut member: Member, upgrade: UpgradeFut, hand: Option<Box<Hand>>) -> Option<(Session, Turn)> {
    let upgraded = match upgrade.await {
        Ok(websocket) => websocket.into_inner().into_inner(),
        Err(error) => {
            tracing::debug!(%error, "client gone before its handshake was answered");
            return None;
        }
    };
    let (socket, read_buf) = match socket_of(upgraded) {
        Ok(taken) => taken,
        Err(error) => {
            tracing::error!(error, "websocket can't be taken over");
            return None;
        }
    };
    if member.sessions().has_plain_http() {
        // What a WebSocket leaves unread has limits of its own. An error: it is gone, which the next read finds.
        let _ = SockRef::from(socket.stream()).set_tcp_user_timeout(None);
    }
    let mut early = BytesMut::from(read_buf);
    // What TLS has decrypted already makes the stream readable no more.
    READ.with_borrow_mut(|scratch| {
        if let Some(Ok(length)) = socket.is_tls().then(|| socket.read(scratch)) {
            early.extend_from_slice(&scratch[..length]);
        }
    });
    member.attach(socket.clone());
    let mut session = Session { member, socket, decoder: Decoder::default(), hand };
    let turn = session.digest(&mut early);
    Some((session, turn))
}

/// The connection's stream, and what was read of it already.
fn socket_of(upgraded: Upgraded) -> Result<(Arc<Socket>, Bytes), &'static str> {
    let upgraded = match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(Parts { io, read_buf, .. }) => return Ok((Socket::new(io.into_inner()), read_buf)),
        Err(other) => other,
    };
    match upgraded.downcast::<TokioIo<TlsStream<TcpStream>>>() {
        Ok(Parts { io, read_buf, .. }) => {
            let (stream, connection) = io.into_inner().into_inner();
            Ok((Socket::with_tls(stream, connection), read_buf))
        }
        Err(_) => Err("upgraded connection is neither tcp nor tls"),
    }
}

impl Session {
    /// Reads once, into the worker thread's buffer.
    fn read(&mut self) -> Turn {
        READ.with_borrow_mut(|scratch| match self.socket.read(scratch) {
            Ok(0) => Turn::Lost,
            Ok(length) => self.digest(&mut scratch[..length]),
            Err(error) if is_transient(&error) => Turn::Wait,
            Err(_) => Turn::Lost,
        })
    }

    /// What the client's next bytes bring about. All answers to one read become one buffer and so one write.
    fn digest(&mut self, bytes: &mut [u8]) -> Turn {
        if bytes.is_empty() {
            return Turn::Wait;
        }
        self.socket.heard();
        self.member.sessions().received.inc_by(bytes.len() as u64);
        let (steps, left) = self.decode(bytes);
        if steps.iter().any(|step| matches!(step, Step::Tell(_) | Step::Document(_) | Step::Hand(_))) {
            let rest = BytesMut::from(&bytes[bytes.len() - left..]);
            return Turn::Work(Box::new(Work { steps, rest }));
        }
        let mut frames = Vec::with_capacity(steps.len());
        for step in steps {
            match step {
                Step::Send(frame) => frames.push(frame),
                Step::End(ending) => return self.end(frames, ending),
                Step::Tell(_) | Step::Document(_) | Step::Hand(_) => {}
            }
        }
        self.answer(frames)
    }

    /// What the client's next bytes mean, up to the first message that the application or a handler is to be told of, and how many
    /// bytes come after that.
    fn decode(&mut self, bytes: &mut [u8]) -> (Vec<Step>, usize) {
        let settings = &self.member.sessions().settings;
        let rules = Rules {
            profile: self.member.profile(),
            id: self.member.spelled_id(),
            told: self.member.wants(Wanted::MESSAGE),
            documents: settings.client_documents.is_some(),
        };
        let max_message = self.member.sessions().limits.max_message;
        let (mut steps, mut spoke, mut refused) = (Vec::new(), false, None);
        let hand = self.hand.as_deref();
        let decoded = self.decoder.decode(bytes, max_message, |event| {
            spoke |= matches!(event, Event::Message(_) | Event::Part);
            if let Some(incoming) = hand.and_then(|hand| hand.takes(&event)) {
                steps.push(Step::Hand(incoming));
                return ControlFlow::Break(());
            }
            match event {
                Event::Message(message) => refused = rules.message(message, &mut steps).err(),
                Event::Ping(payload) => steps.push(Step::Send(frame::pong(payload))),
                Event::Pong(_) | Event::Part => {}
                Event::Close(close) => steps.push(Step::End(Ending::by_client(close))),
            }
            match steps.last() {
                Some(Step::Tell(_) | Step::End(_)) => ControlFlow::Break(()),
                _ if refused.is_some() => ControlFlow::Break(()),
                Some(Step::Send(_) | Step::Document(_) | Step::Hand(_)) | None => ControlFlow::Continue(()),
            }
        });
        if spoke {
            self.member.sessions().idle.spoke(&self.socket);
        }
        let left = match (decoded, refused) {
            (Ok(left), None) => left,
            (Err(violation), _) | (Ok(_), Some(violation)) => {
                steps.push(Step::End(violation.into()));
                0
            }
        };
        (steps, left)
    }

    /// Hands over what the client gets.
    fn answer(&self, frames: Vec<Bytes>) -> Turn {
        if frames.is_empty() { Turn::Wait } else { Turn::Replied(self.member.send(joined(frames))) }
    }

    /// Ends the connection behind these frames, in the same write.
    fn end(&self, mut frames: Vec<Bytes>, ending: Ending) -> Turn {
        frames.push(ending.frame);
        Turn::Ended(self.member.end(Ending { frame: joined(frames), ..ending }))
    }

    /// Takes one step after the other; what is left of them after the hub has ended the connection is left out.
    async fn work(&mut self, mut work: Box<Work>) -> Turn {
        let mut frames = Vec::new();
        loop {
            if let Some(turn) = self.take(std::mem::take(&mut work.steps), &mut work.rest, &mut frames).await {
                return turn;
            }
            if work.rest.is_empty() {
                break;
            }
            let (steps, left) = self.decode(&mut work.rest);
            work.rest.advance(work.rest.len() - left);
            work.steps = steps;
        }
        self.answer(frames)
    }

    /// Takes these steps, the last ones before `rest`, and gathers what the client gets next; what follows for the connection where it
    /// ends.
    async fn take(&mut self, steps: Vec<Step>, rest: &mut BytesMut, frames: &mut Vec<Bytes>) -> Option<Turn> {
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            match step {
                Step::Send(frame) => frames.push(frame),
                Step::End(ending) => return Some(self.end(std::mem::take(frames), ending)),
                Step::Document(document) => {
                    let mut documents = vec![document];
                    while let Some(Step::Document(next)) = steps.next_if(|step| matches!(step, Step::Document(_))) {
                        documents.push(next);
                    }
                    if let Some(carry_out) = self.member.sessions().settings.client_documents.clone() {
                        carry_out(documents, self.member.may_join()).await;
                    }
                }
                Step::Hand(incoming) => {
                    self.send_now(frames).await;
                    if let Some(hand) = &self.hand
                        && let Err(incoming) = hand.pass(incoming, || self.is_over()).await
                    {
                        return Some(self.leave(incoming, std::mem::take(rest)));
                    }
                }
                Step::Tell(told) => {
                    self.send_now(frames).await;
                    let Some(answer) = self.tell(told).await else { return Some(Turn::Wait) };
                    frames.extend(answer.replies.iter().map(|text| frame::message(Opcode::Text, text.as_bytes())));
                    if let Some((code, reason)) = answer.close {
                        let ending = Ending::new(code, &reason, CloseReason::Api);
                        return Some(self.end(std::mem::take(frames), ending));
                    }
                }
            }
        }
        None
    }

    /// Sends what was gathered, and waits until the kernel has it.
    async fn send_now(&self, frames: &mut Vec<Bytes>) {
        if !frames.is_empty() {
            // An error: the connection has ended, as is found out next.
            let _ = self.member.send(joined(std::mem::take(frames))).await;
        }
    }

    /// Whether the hub has ended the connection, or found its stream broken.
    fn is_over(&self) -> bool {
        self.socket.is_shut() || !self.member.sessions().hub.exists(self.member.id())
    }

    /// What has to be done with a connection that is over while its handler has not received what was read of it; the handler may do
    /// that later.
    fn leave(&mut self, incoming: Incoming, rest: BytesMut) -> Turn {
        if let Some(hand) = self.hand.take() {
            let max_message = self.member.sessions().limits.max_message;
            tokio::spawn(hand.leave(incoming, std::mem::take(&mut self.decoder), rest, max_message));
        }
        if self.socket.is_shut() {
            return Turn::Lost;
        }
        // The close frame is the hub's, and was written before.
        let (done, written) = oneshot::channel();
        let _ = done.send(());
        Turn::Ended(written)
    }

    /// Tells the application of a message; `None` where the connection has ended.
    async fn tell(&mut self, told: Told) -> Option<Answer> {
        let occasion = self.member.occasion()?;
        let untold = told.untold();
        let said = self.member.said(told, &occasion);
        let hooks = self.member.hooks()?;
        let profile = self.member.profile();
        let answer = match hooks.message(occasion, said).await {
            Ok(Some(answer)) => return Some(answer),
            Ok(None) => {
                if let Some(frame) = untold.reply(profile, self.member.spelled_id()) {
                    // An error: the connection has ended, as is found out next.
                    let _ = self.member.send(frame).await;
                }
                Answer::default()
            }
            Err(Unanswered) => {
                let reply = Told::unanswered(profile);
                Answer { replies: reply.into_iter().map(str::to_owned).collect(), close: None }
            }
        };
        Some(answer)
    }

    /// The client has ended the stream, or it broke. A client that said so in TLS is told the same (RFC 8446, section 6.1).
    fn lose(self) {
        if self.socket.is_tls() {
            self.socket.shutdown_write();
        }
    }

    /// Ends the stream after the last frames: first our half, then, when the client has ended its own, the rest (RFC 6455,
    /// section 7.1.1). If the hub closed the connection before, its close frame was the last.
    async fn finish(mut self, written: oneshot::Receiver<()>) {
        // The handler need not wait for the client to end its half.
        self.member.tell_handler();
        self.hand = None;
        if !matches!(timeout(LINGER, written).await, Ok(Ok(()))) {
            return;
        }
        self.socket.shutdown_write();
        // Over the time: the client does not end its half, so it is ended for it.
        let _ = timeout(LINGER, drain(&self.socket, &self.member.sessions().received)).await;
    }
}

/// Waits until there is something to read. By `poll_read_ready`, as the future of `TcpStream::readable` would keep a
/// list node in every idle connection.
async fn readable(socket: &Socket) -> io::Result<()> {
    poll_fn(|context| socket.stream().poll_read_ready(context)).await
}

/// Reads and throws away, up to the end of the stream or [`LINGER_BYTES`].
async fn drain(socket: &Socket, received: &IntCounter) {
    let mut drained = 0;
    while drained < LINGER_BYTES && readable(socket).await.is_ok() {
        match READ.with_borrow_mut(|scratch| socket.read(scratch)) {
            Ok(0) => return,
            Ok(length) => {
                drained += length;
                received.inc_by(length as u64);
            }
            Err(error) if is_transient(&error) => {}
            Err(_) => return,
        }
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn joined(mut frames: Vec<Bytes>) -> Bytes {
    match frames.pop() {
        Some(only) if frames.is_empty() => only,
        Some(last) => {
            frames.push(last);
            frames.concat().into()
        }
        None => Bytes::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_is_a_small_future() {
        fn size<A, B, C, F>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(run) <= 160, "{} bytes", size(run));
    }

    #[test]
    fn several_answers_are_one_buffer() {
        let frames =
            |texts: &[&'static str]| joined(texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect());
        assert_eq!(frames(&[]), "");
        assert_eq!(frames(&["a"]), "a");
        assert_eq!(frames(&["a", "b", "c"]), "abc");
    }
}
