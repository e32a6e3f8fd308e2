//! A connection's stream, and why connections end.

use super::tls::Tls;
use bytes::Bytes;
use rustls::ServerConnection;
use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::TcpStream;

/// Buffers handed to one `writev`; more are written by the next.
pub(super) const MAX_SLICES: usize = 64;

/// A connection's stream, shared by its shard (which writes) and its session (which reads): TCP, perhaps with TLS on it.
pub struct Socket {
    stream: TcpStream,
    tls: Option<Box<Mutex<Tls>>>,
    heard: AtomicBool,
    /// Its session does not read just now.
    paused: AtomicBool,
    /// It was ended in both directions.
    shut: AtomicBool,
    /// When its client last sent a message, by the clock of whoever notes it.
    spoke: AtomicU32,
}

impl Socket {
    /// Takes the stream over.
    pub fn new(stream: TcpStream) -> Arc<Self> {
        Arc::new(Self {
            stream,
            tls: None,
            heard: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            spoke: AtomicU32::new(0),
        })
    }

    /// Takes a stream over whose TLS handshake is done.
    pub fn with_tls(stream: TcpStream, connection: ServerConnection) -> Arc<Self> {
        let tls = Some(Box::new(Mutex::new(Tls::new(connection))));
        Arc::new(Self {
            stream,
            tls,
            heard: AtomicBool::new(true),
            paused: AtomicBool::new(false),
            shut: AtomicBool::new(false),
            spoke: AtomicU32::new(0),
        })
    }

    /// Whether there is TLS on it.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The TCP stream, to wait on.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Reads what is there now, without waiting. 0 is the end. After something was read there may be more without the
    /// stream becoming readable again: read until [`io::ErrorKind::WouldBlock`].
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match &self.tls {
            None => self.stream.try_read(buffer),
            Some(tls) => tls.lock().unwrap_or_else(PoisonError::into_inner).read(&self.stream, buffer),
        }
    }

    /// The session has read something: the connection is alive, whatever pings say.
    pub fn heard(&self) {
        if !self.heard.load(Ordering::Relaxed) {
            self.heard.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the session does not read for a while, because of something that it waits for: pings are not missed then, and the
    /// client is not silent.
    pub fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
    }

    /// See [`pause`](Self::pause).
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether it was [`shutdown`](Self::shutdown).
    pub fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }

    /// Whether something was heard since the last call.
    pub(super) fn was_heard(&self) -> bool {
        self.heard.swap(false, Ordering::Relaxed)
    }

    /// Notes when the client has sent a message.
    pub fn spoke(&self, at: u32) {
        self.spoke.store(at, Ordering::Relaxed);
    }

    /// When the client last sent a message, as it was noted; 0 before the first.
    pub fn last_spoke(&self) -> u32 {
        self.spoke.load(Ordering::Relaxed)
    }

    /// Writes what the kernel takes now, without waiting. The reactor is asked only after the kernel refused. What was not
    /// written has to be offered again, before anything else.
    pub(super) fn write(&self, buffers: &[Bytes]) -> io::Result<usize> {
        if let Some(tls) = &self.tls {
            return tls.lock().unwrap_or_else(PoisonError::into_inner).write(&self.stream, buffers);
        }
        if let [only] = buffers {
            return self.stream.try_write(only);
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let count = buffers.len().min(MAX_SLICES);
        for (slice, buffer) in slices.iter_mut().zip(buffers) {
            *slice = IoSlice::new(buffer);
        }
        self.stream.try_write_vectored(&slices[..count])
    }

    /// Bytes from the start of what was not written that must be offered again: they are encrypted already.
    pub(super) fn begun(&self) -> usize {
        self.tls.as_ref().map_or(0, |tls| tls.lock().unwrap_or_else(PoisonError::into_inner).begun())
    }

    /// Ends the stream in both directions; the session's reader wakes up with its end.
    pub fn shutdown(&self) {
        self.shut.store(true, Ordering::Relaxed);
        // The only error is that it has ended already, which is what is wanted.
        let _ = socket2::SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }

    /// Ends what we send; the peer reads up to the end, and may still send.
    pub fn shutdown_write(&self) {
        if let Some(tls) = &self.tls {
            tls.lock().unwrap_or_else(PoisonError::into_inner).say_goodbye(&self.stream);
        }
        let _ = socket2::SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }
}

/// Why a connection ended; the label `reason` of `carillon_connections_closed_total`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseReason {
    /// The client sent a close frame.
    Client,
    /// The stream ended or broke without one.
    Lost,
    /// The client broke RFC 6455, or sent what its profile can't take (1002, 1003, 1007).
    Protocol,
    /// A message over the limit (1009).
    TooBig,
    /// Closed through an API.
    Api,
    /// It did not read what it was sent (4008).
    SlowConsumer,
    /// It answered no ping.
    PingTimeout,
    /// It sent no message for longer than its profile allows (4010).
    Idle,
    /// It may have missed a push and was configured to be closed for it (4009).
    Gap,
    /// The node is shutting down (1001).
    GoingAway,
    /// Another life was found under the node's number (1012).
    Restart,
    /// The handler that served it has failed (1011).
    Handler,
    /// The connection was taken in, but its handshake did not come to an end.
    Handshake,
}

impl CloseReason {
    /// Every reason, for a metric that shows zeros from the start.
    pub const ALL: [CloseReason; 13] = [
        Self::Client,
        Self::Lost,
        Self::Protocol,
        Self::TooBig,
        Self::Api,
        Self::SlowConsumer,
        Self::PingTimeout,
        Self::Idle,
        Self::Gap,
        Self::GoingAway,
        Self::Restart,
        Self::Handler,
        Self::Handshake,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Lost => "lost",
            Self::Protocol => "protocol_error",
            Self::TooBig => "message_too_big",
            Self::Api => "api",
            Self::SlowConsumer => "slow_consumer",
            Self::PingTimeout => "ping_timeout",
            Self::Idle => "idle",
            Self::Gap => "gap",
            Self::GoingAway => "going_away",
            Self::Restart => "restart",
            Self::Handler => "handler_failed",
            Self::Handshake => "handshake",
        }
    }
}
