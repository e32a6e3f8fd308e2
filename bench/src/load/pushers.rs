//! HTTP clients that push as fast as answers come, all on one thread.

use super::request::{PushRequest, answer_len};
use crate::clock::now;
use crate::histogram::{Histogram, Quantiles};
use anyhow::{Context, Result, anyhow, bail};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often a thread without events looks whether it should stop.
const LOOK: Duration = Duration::from_millis(50);
/// How long an answer may take when no new pushes follow.
const LAST_ANSWERS: Duration = Duration::from_secs(10);
/// Connections that were closed keep their port for a while, and an address has some 28,000: so many addresses of the
/// loopback network are used in turn.
const SOURCES: u32 = 32;
/// An answer to a push is some hundred bytes.
const READ_BUFFER: usize = 4 * 1024;

/// What becomes of a connection when its push is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reuse {
    /// It carries the next one.
    KeepAlive,
    /// It is closed, and the next push has a new one.
    NewEach,
}

#[derive(Default)]
struct Shared {
    accepted: AtomicU64,
    refused: AtomicU64,
    stop: AtomicBool,
    latencies: Histogram,
}

/// Clients at work, until they are stopped.
pub struct Pushers {
    shared: Arc<Shared>,
    thread: JoinHandle<Result<()>>,
}

impl Pushers {
    /// Starts so many clients, each of which pushes whenever its last push was answered.
    pub fn start(address: SocketAddr, request: &PushRequest, clients: usize, reuse: Reuse) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let request = if reuse == Reuse::NewEach { request.closing() } else { request.clone() };
        let mut work = Loop {
            address,
            request,
            reuse,
            shared: Arc::clone(&shared),
            poll: Poll::new()?,
            clients: Vec::new(),
            opened: 0,
        };
        let thread = std::thread::Builder::new().name("pushers".into()).spawn(move || work.run(clients))?;
        Ok(Self { shared, thread })
    }

    /// How many pushes the server has taken up to now.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Relaxed)
    }

    /// Times from request to answer since they were last taken.
    pub fn take_latencies(&self) -> Quantiles {
        self.shared.latencies.take()
    }

    /// Waits for the last answers; how many pushes were taken in all, and how many were answered otherwise.
    pub fn stop(self) -> Result<(u64, u64)> {
        self.shared.stop.store(true, Relaxed);
        self.thread.join().map_err(|_| anyhow!("the pushers' thread panicked"))??;
        Ok((self.shared.accepted.load(Relaxed), self.shared.refused.load(Relaxed)))
    }
}

struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
    sent_at: u64,
}

struct Loop {
    address: SocketAddr,
    request: PushRequest,
    reuse: Reuse,
    shared: Arc<Shared>,
    poll: Poll,
    /// Each client's current connection; `None` when it has stopped.
    clients: Vec<Option<Client>>,
    opened: u32,
}

impl Loop {
    fn run(&mut self, clients: usize) -> Result<()> {
        let mut events = Events::with_capacity(clients);
        for index in 0..clients {
            let client = self.open(index)?;
            self.clients.push(Some(client));
        }
        let mut end = None;
        while self.clients.iter().any(Option::is_some) {
            match self.poll.poll(&mut events, Some(LOOK)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
                _ => {}
            }
            let stopping = self.shared.stop.load(Relaxed);
            for event in &events {
                self.step(event.token().0, stopping)?;
            }
            if stopping && Instant::now() > *end.get_or_insert_with(|| Instant::now() + LAST_ANSWERS) {
                bail!("a push was not answered in {LAST_ANSWERS:?}");
            }
        }
        Ok(())
    }

    /// Reads a client's answer; where it is whole, the client pushes again or stops.
    fn step(&mut self, index: usize, stopping: bool) -> Result<()> {
        let Some(client) = self.clients.get_mut(index).and_then(Option::as_mut) else { return Ok(()) };
        if !client.answered()? {
            return Ok(());
        }
        let counter =
            if self.request.is_accepted(&client.answer) { &self.shared.accepted } else { &self.shared.refused };
        counter.fetch_add(1, Relaxed);
        self.shared.latencies.record(now().saturating_sub(client.sent_at));
        client.answer.clear();
        match self.reuse {
            _ if stopping => self.clients[index] = None,
            Reuse::KeepAlive => client.push(&mut self.request)?,
            Reuse::NewEach => {
                self.clients[index] = None;
                self.clients[index] = Some(self.open(index)?);
            }
        }
        Ok(())
    }

    /// Connects and sends the first push. Connecting blocks: on loopback it is done when the call returns.
    fn open(&mut self, index: usize) -> Result<Client> {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        if self.reuse == Reuse::NewEach && self.address.ip().is_loopback() {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::LOCALHOST) + self.opened % SOURCES);
            socket.bind(&SocketAddr::from((source, 0)).into()).with_context(|| format!("source address {source}"))?;
        }
        self.opened += 1;
        socket.connect(&self.address.into()).with_context(|| self.address.to_string())?;
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(&mut stream, Token(index), Interest::READABLE)?;
        let mut client = Client { stream, answer: Vec::new(), sent_at: 0 };
        client.push(&mut self.request)?;
        Ok(client)
    }
}

impl Client {
    fn push(&mut self, request: &mut PushRequest) -> Result<()> {
        self.sent_at = now();
        // A request is far smaller than a send buffer that is empty, and it is: the last push was answered.
        Ok(self.stream.write_all(request.stamped(self.sent_at))?)
    }

    /// Whether the answer is whole.
    fn answered(&mut self) -> Result<bool> {
        let mut buffer = [0; READ_BUFFER];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => bail!("the server closed a connection before it had answered a push"),
                Ok(read) => self.answer.extend_from_slice(&buffer[..read]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("reading the answer to a push"),
            }
            if answer_len(&self.answer)?.is_some_and(|whole| self.answer.len() >= whole) {
                return Ok(true);
            }
        }
    }
}
