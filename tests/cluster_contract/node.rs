//! Nodes as the suite sees them: a hub, a cluster, and clients that read frames off TCP.

use crate::redis::{RedisCluster, RedisServer};
use carillon::cluster::embedded::Embedded;
use carillon::cluster::redis::{RedisCluster as OverRedis, RedisConfig};
use carillon::cluster::{About, Act, Answer, Cluster, Outcome, Owing, Pages, Published, Question, Sink, State};
use carillon::hub::{GapPolicy, Hub, Opening, Socket};
use carillon::model::{Audience, AudienceKind, ConnectionId, Limits, Name, NodeId, Opcode, Push, Seq, Target};
use futures_util::StreamExt;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

/// How long anything that must happen may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// One node: its hub and its view of the cluster.
#[derive(Clone)]
pub(crate) struct Node {
    pub(crate) hub: Arc<Hub>,
    pub(crate) cluster: Arc<dyn Cluster>,
}

pub(crate) fn hub() -> Arc<Hub> {
    let limits = Arc::new(Limits { ping_interval: Duration::ZERO, ..Limits::default() });
    Hub::start(limits, GapPolicy::Count, 2, &prometheus::Registry::new()).unwrap()
}

pub(crate) fn about(hub: &Arc<Hub>) -> About {
    // Weak, as a node does not live on by being described.
    let hub = Arc::downgrade(hub);
    About {
        id: NodeId::random().unwrap(),
        address: "127.0.0.1:8080".to_owned(),
        start_time: 1_700_000_000,
        counters: Arc::new(move || hub.upgrade().map(|hub| hub.counters()).unwrap_or_default()),
    }
}

impl Node {
    pub(crate) fn embedded() -> Self {
        Self::embedded_telling(None)
    }

    /// A node alone that tells of channel events.
    pub(crate) fn embedded_telling(sink: Option<Arc<dyn Sink>>) -> Self {
        let hub = hub();
        let owing = Owing::new(sink, &prometheus::Registry::new()).unwrap();
        Self { cluster: Embedded::owing(hub.clone(), about(&hub), owing), hub }
    }

    /// A node that has begun to join.
    pub(crate) fn joining(config: RedisConfig) -> Self {
        Self::telling(config, None)
    }

    /// The same, which tells of channel events and dead nodes' closes.
    pub(crate) fn telling(config: RedisConfig, sink: Option<Arc<dyn Sink>>) -> Self {
        let hub = hub();
        let (about, registry) = (about(&hub), prometheus::Registry::new());
        let owing = Owing::new(sink, &registry).unwrap();
        let cluster = OverRedis::start(config, hub.clone(), about, owing, &registry).unwrap();
        Self { cluster, hub }
    }

    /// A node that has joined.
    pub(crate) async fn joined(config: RedisConfig) -> Self {
        let node = Self::joining(config);
        node.ready().await;
        node
    }

    pub(crate) async fn ready(&self) {
        let mut state = self.cluster.state();
        let ready = timeout(PATIENCE, state.wait_for(|state| *state == State::Ready)).await;
        assert!(ready.is_ok(), "not ready: {:?}", self.cluster.state().borrow());
    }

    /// A connection that is a member of these, settled as for a 101.
    pub(crate) async fn connect(&self, audiences: &[Audience]) -> Client {
        let client = self.open(audiences).await;
        timeout(PATIENCE, self.cluster.settle(audiences)).await.expect("settles").unwrap();
        client
    }

    pub(crate) async fn open(&self, audiences: &[Audience]) -> Client {
        self.open_with("{}", audiences).await
    }

    /// A connection of which the directory keeps these details.
    pub(crate) async fn open_with(&self, details: &str, audiences: &[Audience]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let opening = Opening { details: details.into(), audiences: audiences.to_vec(), ..Opening::default() };
        let id = self.hub.open(opening, |_| Vec::new()).unwrap();
        self.hub.attach(id, Socket::new(server));
        Client { id, stream }
    }

    pub(crate) async fn push(&self, target: Target, text: impl Into<String>) -> Published {
        self.cluster.publish(Push::text(target, text)).await.unwrap()
    }

    pub(crate) async fn act(&self, act: Act) -> Outcome {
        self.cluster.request(act, PATIENCE).await.unwrap()
    }

    /// What each node says to each of these acts.
    pub(crate) async fn act_each(&self, acts: &[Act]) -> BTreeMap<Seq, Vec<Outcome>> {
        let lives = self.cluster.lives().await.unwrap();
        let outcomes = self.cluster.act(&lives, acts, PATIENCE).await;
        assert!(outcomes.iter().all(|outcomes| outcomes.len() == acts.len()), "{outcomes:?}");
        lives.iter().map(|life| life.seq).zip(outcomes).collect()
    }

    /// What each node says to one act.
    pub(crate) async fn act_one(&self, act: Act) -> BTreeMap<Seq, Outcome> {
        let all = self.act_each(&[act]).await;
        all.into_iter().map(|(seq, mut outcomes)| (seq, outcomes.pop().unwrap())).collect()
    }

    /// What the directory says of each node.
    pub(crate) async fn look(&self, question: Question) -> BTreeMap<Seq, Answer> {
        let lives = self.cluster.lives().await.unwrap();
        let answers = self.cluster.look(&lives, &[question]).await.unwrap();
        lives.iter().map(|life| life.seq).zip(answers.into_iter().map(|mut answers| answers.pop().unwrap())).collect()
    }

    pub(crate) fn seq(&self) -> Seq {
        self.cluster.seq()
    }

    pub(crate) async fn members(&self, audience: &Audience) -> BTreeSet<ConnectionId> {
        ids(self.cluster.members(audience).await.unwrap()).await
    }

    /// Channels with their members; panics where a channel's pages are not together.
    pub(crate) async fn listing(&self, names: Option<Vec<Name>>) -> Vec<(String, BTreeSet<ConnectionId>)> {
        let mut pages = self.cluster.listing(AudienceKind::Channel, names).await.unwrap();
        let mut all: Vec<(String, BTreeSet<ConnectionId>)> = Vec::new();
        while let Some(page) = pages.next().await {
            let (name, ids) = page.unwrap();
            match all.iter_mut().find(|(known, _)| *known == name.as_str()) {
                Some((_, members)) => ids.into_iter().for_each(|id| assert!(members.insert(id), "{id} twice")),
                None => all.push((name.to_string(), ids.into_iter().collect())),
            }
            assert_eq!(all.last().unwrap().0, name.as_str(), "its pages are not together");
        }
        all
    }

    pub(crate) async fn connections(&self) -> BTreeSet<ConnectionId> {
        ids(self.cluster.connections().await.unwrap()).await
    }
}

/// All ids of a listing; panics at an error or a double.
pub(crate) async fn ids(mut pages: Pages) -> BTreeSet<ConnectionId> {
    let mut all = BTreeSet::new();
    while let Some(page) = pages.next().await {
        let page = page.unwrap();
        assert!(page.len() <= 1000, "a page of {}", page.len());
        for id in page {
            assert!(all.insert(id), "{id} twice");
        }
    }
    all
}

/// The client's end of a connection: reads frames off TCP.
pub(crate) struct Client {
    pub(crate) id: ConnectionId,
    stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Message(Opcode, String),
    Close(u16, String),
}

impl Client {
    pub(crate) async fn frame(&mut self) -> Frame {
        timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| panic!("nothing arrives for {}", self.id))
    }

    pub(crate) async fn read(&mut self) -> Frame {
        let head = self.stream.read_u8().await.unwrap();
        let length = match self.stream.read_u8().await.unwrap() {
            126 => u64::from(self.stream.read_u16().await.unwrap()),
            127 => self.stream.read_u64().await.unwrap(),
            short => u64::from(short),
        };
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match head {
            0x81 => Frame::Message(Opcode::Text, text(&payload)),
            0x82 => Frame::Message(Opcode::Binary, text(&payload)),
            0x88 => Frame::Close(u16::from_be_bytes([payload[0], payload[1]]), text(&payload[2..])),
            other => panic!("frame {other:#x}"),
        }
    }

    pub(crate) async fn text(&mut self) -> String {
        match self.frame().await {
            Frame::Message(Opcode::Text, text) => text,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn channel(name: &str) -> Audience {
    Audience::channel(Name::new(name).unwrap())
}

pub(crate) fn user(name: &str) -> Audience {
    Audience::user(Name::new(name).unwrap())
}

pub(crate) fn group(name: &str) -> Audience {
    Audience::group(Name::new(name).unwrap())
}

/// Looks at a condition until it holds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

// ---- where they run ----

pub(crate) static SINGLE: OnceCell<RedisServer> = OnceCell::const_new();
pub(crate) static SHARDED: OnceCell<RedisCluster> = OnceCell::const_new();

/// A configuration of its own: tests that share a server don't meet.
pub(crate) fn config(url: String) -> RedisConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test{}:", NEXT.fetch_add(1, Ordering::Relaxed));
    RedisConfig { url, prefix, ..RedisConfig::default() }
}

pub(crate) async fn single() -> RedisConfig {
    config(SINGLE.get_or_init(RedisServer::start).await.url())
}

pub(crate) async fn sharded() -> RedisConfig {
    config(SHARDED.get_or_init(|| RedisCluster::start(3, 0)).await.url())
}

pub(crate) async fn two(config: RedisConfig) -> (Node, Node) {
    (Node::joined(config.clone()).await, Node::joined(config).await)
}
