//! A TCP proxy between a node and Redis that delays, holds back, cuts and lets things arrive late.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// Pieces of a direction that may be under way; then its sender is not read from.
const PIECES: usize = 4096;

/// What happens to the bytes of a connection.
#[derive(Clone, Copy, Default)]
pub struct Rules {
    /// How much later everything arrives, each way.
    pub delay: Duration,
    /// What the client sends stays with the proxy until this is false again.
    pub hold_requests: bool,
    /// What the server sends stays with the proxy until this is false again.
    pub hold_answers: bool,
    /// New connections are closed at once.
    pub refuse: bool,
    /// A connection is closed when its client sends this text.
    pub close_at: Option<&'static str>,
    /// The client's side is closed; what is under way to the server still arrives.
    abandoned: bool,
}

/// A running proxy; ends with all its connections when dropped.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    server: SocketAddr,
    state: Mutex<State>,
    /// What clients have sent while requests were held.
    held: Mutex<Vec<u8>>,
}

#[derive(Default)]
struct State {
    /// For the connections to come.
    rules: Rules,
    connections: Vec<Connection>,
}

struct Connection {
    rules: watch::Sender<Rules>,
    pumps: JoinSet<()>,
}

impl Proxy {
    /// A proxy to a server, with no rules yet.
    pub async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared { server, state: Mutex::default(), held: Mutex::default() });
        Self { address, shared: shared.clone(), accepting: tokio::spawn(accept(listener, shared)) }
    }

    /// A proxy to a Redis on this machine.
    pub async fn to_redis(port: u16) -> Self {
        Self::to(SocketAddr::from(([127, 0, 0, 1], port))).await
    }

    /// What `REDIS_URL` names it by.
    pub fn redis_url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Changes the rules, for the connections there are and those to come.
    pub fn set(&self, change: impl Fn(&mut Rules)) {
        let mut state = self.shared.state.lock().unwrap();
        change(&mut state.rules);
        state.connections.iter().for_each(|connection| connection.rules.send_modify(&change));
    }

    /// Whether a client has sent this text while requests were held.
    pub fn holds(&self, text: &str) -> bool {
        contains(&self.shared.held.lock().unwrap(), text)
    }

    /// Closes all connections on both sides; what was under way is lost.
    pub fn cut(&self) {
        self.shared.state.lock().unwrap().connections.clear();
    }

    /// Closes the clients' side of all connections and forgets the rules for new ones. What the clients have sent
    /// goes on to the server once the rules that hold it are lifted by [`Late::arrives`].
    pub fn abandon(&self) -> Late {
        let mut state = self.shared.state.lock().unwrap();
        state.rules = Rules::default();
        let connections = std::mem::take(&mut state.connections);
        connections.iter().for_each(|connection| connection.rules.send_modify(|rules| rules.abandoned = true));
        Late(connections)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

/// What is still under way on connections that the clients have given up.
pub struct Late(Vec<Connection>);

impl Late {
    /// Lets it arrive, and returns when the server has been sent everything.
    pub async fn arrives(self) {
        for mut connection in self.0 {
            connection.rules.send_modify(|rules| rules.hold_requests = false);
            while connection.pumps.join_next().await.is_some() {}
        }
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        if shared.state.lock().unwrap().rules.refuse {
            continue;
        }
        let Ok(server) = TcpStream::connect(shared.server).await else { continue };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let mut state = shared.state.lock().unwrap();
        state.connections.retain_mut(|connection| {
            while connection.pumps.try_join_next().is_some() {}
            !connection.pumps.is_empty()
        });
        let (rules, follow) = watch::channel(state.rules);
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let mut pumps = JoinSet::new();
        pumps.spawn(pump(from_client, to_server, follow.clone(), Direction::Requests, shared.clone()));
        pumps.spawn(pump(from_server, to_client, follow, Direction::Answers, shared.clone()));
        state.connections.push(Connection { rules, pumps });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Requests,
    Answers,
}

/// Carries one direction until it ends; the end is carried over as well.
async fn pump(
    from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut rules: watch::Receiver<Rules>,
    direction: Direction,
    shared: Arc<Shared>,
) {
    let (pieces, mut arriving) = mpsc::channel::<(Instant, Vec<u8>)>(PIECES);
    let reading = read(from, pieces, rules.clone(), |piece, rules| {
        if direction == Direction::Answers {
            return true;
        }
        if rules.hold_requests {
            shared.held.lock().unwrap().extend_from_slice(piece);
        }
        rules.close_at.is_none_or(|text| !contains(piece, text))
    });
    let writing = async {
        while let Some((due, piece)) = arriving.recv().await {
            sleep_until(due).await;
            let free = rules.wait_for(|rules| match direction {
                Direction::Requests => !rules.hold_requests,
                Direction::Answers => !rules.hold_answers || rules.abandoned,
            });
            match free.await.map(|rules| *rules) {
                Ok(rules) if rules.abandoned && direction == Direction::Answers => return,
                Ok(_) => {}
                Err(_) => return,
            }
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

/// Takes what comes until the stream ends, the client's side is given up, or `goes_on` says no.
async fn read(
    mut from: OwnedReadHalf,
    pieces: mpsc::Sender<(Instant, Vec<u8>)>,
    mut rules: watch::Receiver<Rules>,
    goes_on: impl Fn(&[u8], Rules) -> bool,
) {
    loop {
        let mut piece = vec![0; 16 * 1024];
        let length = tokio::select! {
            read = from.read(&mut piece) => read.unwrap_or(0),
            _ = rules.wait_for(|rules| rules.abandoned) => 0,
        };
        if length == 0 {
            return;
        }
        piece.truncate(length);
        let now = *rules.borrow();
        if !goes_on(&piece, now) {
            return;
        }
        let due = Instant::now() + now.delay;
        if pieces.send((due, piece)).await.is_err() {
            return;
        }
    }
}
