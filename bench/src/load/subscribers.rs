//! Many WebSocket clients on one thread: they connect, count what they are sent, and answer pings.

use super::frames::{FrameCounter, Sink};
use super::handshake::{self, Answer};
use super::stream::Stream;
use crate::clock::{now, read_stamp};
use crate::histogram::{Histogram, Quantiles};
use anyhow::{Context, Result, anyhow, bail};
use mio::{Events, Poll, Token};
use rustls::ClientConfig;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Room for some 800 short messages in one read.
const READ_BUFFER: usize = 64 * 1024;
/// How often a thread without events looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long all of the clients together may take to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(120);

/// Whom to listen to, and with how many clients.
#[derive(Clone, Debug)]
pub struct Listen {
    /// Where the server accepts WebSocket connections.
    pub address: SocketAddr,
    /// The path and query of the handshake, which subscribe the client.
    pub target: String,
    /// With what to speak TLS, where the server does.
    pub tls: Option<Arc<ClientConfig>>,
    /// Number of clients.
    pub clients: usize,
    /// How many handshakes may be under way at once.
    pub in_flight: usize,
    /// Every so-manieth client's messages go into the histogram of latencies.
    pub sample_every: usize,
}

#[derive(Default)]
struct Shared {
    messages: AtomicU64,
    closed: AtomicU64,
    stop: AtomicBool,
    latencies: Histogram,
}

/// Connected clients; they disconnect when this is dropped.
pub struct Subscribers {
    shared: Arc<Shared>,
    clients: usize,
    thread: Option<JoinHandle<()>>,
}

impl Subscribers {
    /// Connects all clients and returns when each one's handshake is answered.
    pub fn connect(listen: Listen) -> Result<Self> {
        let (done, connected) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let clients = listen.clients;
        let mut work = Loop::new(listen, Arc::clone(&shared))?;
        let thread = std::thread::Builder::new().name("subscribers".into()).spawn(move || work.run(done))?;
        let subscribers = Self { shared, clients, thread: Some(thread) };
        connected.recv().context("the subscribers' thread ended")??;
        Ok(subscribers)
    }

    /// How many messages came up to now, over all clients.
    pub fn messages(&self) -> u64 {
        self.shared.messages.load(Relaxed)
    }

    /// How many clients have lost their connection.
    pub fn closed(&self) -> u64 {
        self.shared.closed.load(Relaxed)
    }

    /// Number of clients.
    pub fn clients(&self) -> u64 {
        self.clients as u64
    }

    /// Latencies from stamp to reading since they were last taken, of the clients that are sampled.
    pub fn take_latencies(&self) -> Quantiles {
        self.shared.latencies.take()
    }

    /// Waits until so many messages have come, or no longer than a limit; how many have.
    pub fn wait_for(&self, messages: u64, limit: Duration) -> u64 {
        let end = Instant::now() + limit;
        while self.messages() < messages && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.messages()
    }

    /// Waits a moment in which more than was owed would show; how many messages have come.
    pub fn messages_at_rest(&self) -> u64 {
        std::thread::sleep(LOOK);
        self.messages()
    }
}

impl Drop for Subscribers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed already.
            let _ = thread.join();
        }
    }
}

enum State {
    Handshake(Vec<u8>),
    Open(FrameCounter),
    Closed,
}

struct Client {
    stream: Stream,
    state: State,
}

struct Loop {
    listen: Listen,
    shared: Arc<Shared>,
    poll: Poll,
    clients: Vec<Client>,
    open: usize,
}

impl Loop {
    fn new(listen: Listen, shared: Arc<Shared>) -> Result<Self> {
        let clients = Vec::with_capacity(listen.clients);
        Ok(Self { listen, shared, poll: Poll::new()?, clients, open: 0 })
    }

    fn run(&mut self, done: SyncSender<Result<()>>) {
        let mut buffer = vec![0; READ_BUFFER];
        let mut events = Events::with_capacity(1_024);
        let connected = self.connect_all(&mut events, &mut buffer);
        let failed = connected.is_err();
        // The receiver waits for exactly this.
        let _ = done.send(connected);
        while !failed && !self.shared.stop.load(Relaxed) {
            if let Err(error) = self.turn(&mut events, &mut buffer) {
                eprintln!("subscribers: {error:#}");
                return;
            }
        }
    }

    fn connect_all(&mut self, events: &mut Events, buffer: &mut [u8]) -> Result<()> {
        let request = handshake::request(self.listen.address, &self.listen.target);
        let end = Instant::now() + CONNECT_LIMIT;
        while self.open < self.listen.clients {
            while self.clients.len() < self.listen.clients && self.clients.len() - self.open < self.listen.in_flight {
                self.connect_one(&request).with_context(|| format!("client {}", self.clients.len()))?;
            }
            self.turn(events, buffer)?;
            if self.shared.closed.load(Relaxed) > 0 {
                bail!("a connection was closed while others were being opened");
            }
            if Instant::now() > end {
                bail!("{} of {} clients connected in {CONNECT_LIMIT:?}", self.open, self.listen.clients);
            }
        }
        Ok(())
    }

    fn connect_one(&mut self, request: &[u8]) -> Result<()> {
        let mut stream = Stream::connect(self.listen.address, self.listen.tls.clone(), request)?;
        stream.register(self.poll.registry(), Token(self.clients.len()))?;
        self.clients.push(Client { stream, state: State::Handshake(Vec::new()) });
        Ok(())
    }

    /// Waits for events and handles them.
    fn turn(&mut self, events: &mut Events, buffer: &mut [u8]) -> Result<()> {
        match self.poll.poll(events, Some(LOOK)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        let mut messages = 0;
        for event in &*events {
            let Token(index) = event.token();
            let Some(client) = self.clients.get_mut(index) else { continue };
            let latencies = index.is_multiple_of(self.listen.sample_every).then_some(&self.shared.latencies);
            let before = matches!(client.state, State::Open(_));
            messages += client.read(buffer, latencies)?;
            match (before, &client.state) {
                (false, State::Open(_)) => self.open += 1,
                (_, State::Closed) => {
                    client.stream.deregister(self.poll.registry())?;
                    self.shared.closed.fetch_add(1, Relaxed);
                }
                _ => {}
            }
        }
        if messages > 0 {
            self.shared.messages.fetch_add(messages, Relaxed);
        }
        Ok(())
    }
}

impl Client {
    /// Reads what there is; how many messages ended in it.
    fn read(&mut self, buffer: &mut [u8], latencies: Option<&Histogram>) -> Result<u64> {
        let mut messages = 0;
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => {
                    self.state = State::Closed;
                    return Ok(messages);
                }
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(messages),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => {
                    self.state = State::Closed;
                    return Ok(messages);
                }
            };
            messages += self.take(&buffer[..read], latencies)?;
            if self.stream.is_empty_after(read, buffer.len()) {
                return Ok(messages);
            }
        }
    }

    fn take(&mut self, bytes: &[u8], latencies: Option<&Histogram>) -> Result<u64> {
        match &mut self.state {
            State::Closed => Ok(0),
            State::Open(counter) => count(counter, bytes, &mut self.stream, latencies),
            State::Handshake(answer) => {
                answer.extend_from_slice(bytes);
                match handshake::judge(answer) {
                    Answer::Partial => Ok(0),
                    Answer::Refused(line) => Err(anyhow!("the handshake was answered with {line:?}")),
                    Answer::Accepted(head) => {
                        let mut counter = FrameCounter::default();
                        let messages = count(&mut counter, &answer[head..], &mut self.stream, latencies)?;
                        self.state = State::Open(counter);
                        Ok(messages)
                    }
                }
            }
        }
    }
}

fn count(counter: &mut FrameCounter, bytes: &[u8], stream: &mut Stream, latencies: Option<&Histogram>) -> Result<u64> {
    let mut reader = Reader { stream, latencies: latencies.map(|latencies| (now(), latencies)) };
    counter.feed(bytes, &mut reader).map_err(|_| anyhow!("the server sent a malformed frame"))
}

/// What a client does with the frames that it counts.
struct Reader<'a> {
    stream: &'a mut Stream,
    latencies: Option<(u64, &'a Histogram)>,
}

impl Sink for Reader<'_> {
    fn began(&mut self, start: &[u8]) {
        if let Some((now, latencies)) = self.latencies
            && let Some(stamp) = read_stamp(start)
        {
            latencies.record(now.saturating_sub(stamp));
        }
    }

    fn control(&mut self, opcode: u8, payload: &[u8]) {
        const PING: u8 = 0x9;
        if opcode == PING {
            // A client sends nothing else, so there is room; a broken connection shows at the next read.
            let _ = self.stream.write(&handshake::pong(payload));
        }
    }
}
