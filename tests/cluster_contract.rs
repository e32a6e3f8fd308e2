//! One contract, three implementations: what `Cluster` promises is checked on the embedded one, on a single Redis and on
//! a Redis Cluster of three primaries, each time from two nodes (the embedded one is both).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/redis.rs"]
mod redis;

use carillon::cluster::embedded::Embedded;
use carillon::cluster::redis::{RedisCluster as OverRedis, RedisConfig};
use carillon::cluster::{About, Act, Cluster, Outcome, Pages, Published, State};
use carillon::hub::{GapPolicy, Hub, Opening, Socket};
use carillon::model::{
    Audience, AudienceKind, ConnectionId, Error, Exclusions, Limits, Name, NodeId, Opcode, Push, Seq, Target,
};
use futures_util::StreamExt;
use redis::{RedisCluster, RedisSentinel, RedisServer};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;
use tokio::time::{Instant, sleep, timeout};

/// How long anything that must happen may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

// ---- nodes and their clients ----

/// One node: its hub and its view of the cluster.
#[derive(Clone)]
struct Node {
    hub: Arc<Hub>,
    cluster: Arc<dyn Cluster>,
}

fn hub() -> Arc<Hub> {
    let limits = Arc::new(Limits { ping_interval: Duration::ZERO, ..Limits::default() });
    Hub::start(limits, GapPolicy::Count, 2, &prometheus::Registry::new()).unwrap()
}

fn about(hub: &Arc<Hub>) -> About {
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
    fn embedded() -> Self {
        let hub = hub();
        Self { cluster: Embedded::new(hub.clone(), about(&hub)), hub }
    }

    /// A node that has begun to join.
    fn joining(config: RedisConfig) -> Self {
        let hub = hub();
        let cluster = OverRedis::start(config, hub.clone(), about(&hub), &prometheus::Registry::new()).unwrap();
        Self { cluster, hub }
    }

    /// A node that has joined.
    async fn joined(config: RedisConfig) -> Self {
        let node = Self::joining(config);
        node.ready().await;
        node
    }

    async fn ready(&self) {
        let mut state = self.cluster.state();
        let ready = timeout(PATIENCE, state.wait_for(|state| *state == State::Ready)).await;
        assert!(ready.is_ok(), "not ready: {:?}", self.cluster.state().borrow());
    }

    /// A connection that is a member of these, settled as for a 101.
    async fn connect(&self, audiences: &[Audience]) -> Client {
        let client = self.open(audiences).await;
        timeout(PATIENCE, self.cluster.settle(audiences)).await.expect("settles").unwrap();
        client
    }

    async fn open(&self, audiences: &[Audience]) -> Client {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        let opening = Opening { details: "{}".into(), audiences: audiences.to_vec(), greeting: Vec::new() };
        let id = self.hub.open(opening).unwrap();
        self.hub.attach(id, Socket::new(server));
        Client { id, stream }
    }

    async fn push(&self, target: Target, text: impl Into<String>) -> Published {
        self.cluster.publish(Push::text(target, text)).await.unwrap()
    }

    async fn act(&self, act: Act) -> Outcome {
        self.cluster.request(act, PATIENCE).await.unwrap()
    }

    async fn members(&self, audience: &Audience) -> BTreeSet<ConnectionId> {
        ids(self.cluster.members(audience).await.unwrap()).await
    }

    async fn connections(&self) -> BTreeSet<ConnectionId> {
        ids(self.cluster.connections().await.unwrap()).await
    }
}

/// All ids of a listing; panics at an error or a double.
async fn ids(mut pages: Pages) -> BTreeSet<ConnectionId> {
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
struct Client {
    id: ConnectionId,
    stream: TcpStream,
}

#[derive(Debug, PartialEq, Eq)]
enum Frame {
    Message(Opcode, String),
    Close(u16, String),
}

impl Client {
    async fn frame(&mut self) -> Frame {
        timeout(PATIENCE, self.read()).await.unwrap_or_else(|_| panic!("nothing arrives for {}", self.id))
    }

    async fn read(&mut self) -> Frame {
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

    async fn text(&mut self) -> String {
        match self.frame().await {
            Frame::Message(Opcode::Text, text) => text,
            other => panic!("{other:?}"),
        }
    }
}

fn channel(name: &str) -> Audience {
    Audience::channel(Name::new(name).unwrap())
}

fn user(name: &str) -> Audience {
    Audience { kind: AudienceKind::User, name: Name::new(name).unwrap() }
}

/// Looks at a condition until it holds.
async fn until<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

// ---- where they run ----

static SINGLE: OnceCell<RedisServer> = OnceCell::const_new();
static SHARDED: OnceCell<RedisCluster> = OnceCell::const_new();

/// A configuration of its own: tests that share a server don't meet.
fn config(url: String) -> RedisConfig {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("test{}:", NEXT.fetch_add(1, Ordering::Relaxed));
    RedisConfig { url, prefix, ..RedisConfig::default() }
}

async fn single() -> RedisConfig {
    config(SINGLE.get_or_init(RedisServer::start).await.url())
}

async fn sharded() -> RedisConfig {
    config(SHARDED.get_or_init(|| RedisCluster::start(3, 0)).await.url())
}

async fn two(config: RedisConfig) -> (Node, Node) {
    (Node::joined(config.clone()).await, Node::joined(config).await)
}

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let node = super::Node::embedded();
                super::$name(node.clone(), node).await;
            })*
        }
        mod on_single_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (a, b) = super::two(super::single().await).await;
                super::$name(a, b).await;
            })*
        }
        mod on_redis_cluster {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (a, b) = super::two(super::sharded().await).await;
                super::$name(a, b).await;
            })*
        }
    };
}

contract! {
    what_is_settled_is_in_every_read,
    pushes_arrive_once_and_in_order,
    several_audiences_and_everybody_are_reached_once,
    exclusions_are_left_out,
    a_push_to_a_connection_reaches_it_alone,
    connections_that_are_not_there_are_unknown,
    a_node_joins_and_leaves_for_another,
    a_close_follows_the_pushes_before_it,
    an_audience_is_closed_on_all_nodes,
    a_moment_after_settling_a_push_arrives,
    nodes_and_store_tell_of_themselves,
}

// ---- the contract ----

async fn what_is_settled_is_in_every_read(a: Node, b: Node) {
    let (news, ann) = (channel("news {x} ї"), user("ann"));
    let first = a.connect(&[news.clone(), ann.clone()]).await;
    let second = b.connect(std::slice::from_ref(&news)).await;
    for node in [&a, &b] {
        assert!(node.cluster.exists(first.id).await.unwrap());
        assert_eq!(node.cluster.count_connections().await.unwrap(), 2);
        assert_eq!(node.cluster.count_members(&news).await.unwrap(), 2);
        assert_eq!(node.cluster.count_members(&ann).await.unwrap(), 1);
        assert_eq!(node.cluster.count_members(&channel("ann")).await.unwrap(), 0);
        assert_eq!(node.cluster.audiences(AudienceKind::Channel).await.unwrap(), [(news.name.clone(), 2)]);
        assert_eq!(node.cluster.audiences(AudienceKind::Group).await.unwrap(), []);
        assert_eq!(node.connections().await, BTreeSet::from([first.id, second.id]));
        assert_eq!(node.members(&news).await, BTreeSet::from([first.id, second.id]));
        assert_eq!(node.members(&ann).await, BTreeSet::from([first.id]));
        assert_eq!(node.members(&channel("nobody")).await, BTreeSet::new());
    }
    assert!(a.hub.close(first.id, 1000, ""));
    a.cluster.settle(&[]).await.unwrap();
    for node in [&a, &b] {
        assert!(!node.cluster.exists(first.id).await.unwrap());
        assert_eq!(node.members(&news).await, BTreeSet::from([second.id]));
        assert_eq!(node.cluster.count_members(&ann).await.unwrap(), 0);
        assert_eq!(node.cluster.audiences(AudienceKind::User).await.unwrap(), []);
    }
}

async fn pushes_arrive_once_and_in_order(a: Node, b: Node) {
    let news = channel("news");
    let mut on_a = a.connect(std::slice::from_ref(&news)).await;
    let mut on_b = b.connect(std::slice::from_ref(&news)).await;
    let publishers = [a.clone(), b.clone()].into_iter().enumerate().map(|(publisher, node)| {
        let target = Target::Audience(news.clone());
        tokio::spawn(async move {
            for number in 0..200 {
                assert_eq!(node.push(target.clone(), format!("{publisher} {number}")).await, Published::Taken);
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    a.push(Target::Audience(news), "end").await;
    for client in [&mut on_a, &mut on_b] {
        let mut next = [0, 0];
        for _ in 0..400 {
            let text = client.text().await;
            let (publisher, number) = text.split_once(' ').unwrap();
            let next = &mut next[publisher.parse::<usize>().unwrap()];
            assert_eq!(number.parse(), Ok(*next), "{text}");
            *next += 1;
        }
        assert_eq!(client.text().await, "end");
    }
}

async fn several_audiences_and_everybody_are_reached_once(a: Node, b: Node) {
    let (red, blue) = (channel("red"), channel("blue"));
    let mut both = a.connect(&[red.clone(), blue.clone()]).await;
    let mut one = b.connect(std::slice::from_ref(&blue)).await;
    let mut none = b.connect(&[]).await;
    b.push(Target::Audiences(vec![red.clone(), blue.clone(), channel("green")]), "several").await;
    b.push(Target::All, "all").await;
    for client in [&mut both, &mut one] {
        assert_eq!(client.text().await, "several");
        assert_eq!(client.text().await, "all");
    }
    assert_eq!(none.text().await, "all");
}

async fn exclusions_are_left_out(a: Node, b: Node) {
    let (news, ann) = (channel("news"), user("ann"));
    let mut plain = a.connect(std::slice::from_ref(&news)).await;
    let mut by_id = b.connect(std::slice::from_ref(&news)).await;
    let mut by_user = a.connect(&[news.clone(), ann.clone()]).await;
    let exclude = Exclusions { connections: vec![by_id.id], users: vec![ann.name] };
    let push = Push { exclude, opcode: Opcode::Binary, ..Push::text(Target::Audience(news.clone()), "not for all") };
    b.cluster.publish(push).await.unwrap();
    b.push(Target::Audience(news), "for all").await;
    assert_eq!(plain.frame().await, Frame::Message(Opcode::Binary, "not for all".to_owned()));
    for client in [&mut plain, &mut by_id, &mut by_user] {
        assert_eq!(client.text().await, "for all");
    }
}

async fn a_push_to_a_connection_reaches_it_alone(a: Node, b: Node) {
    let mut wanted = a.connect(&[]).await;
    let mut other = a.connect(&[]).await;
    for node in [&a, &b] {
        assert_eq!(node.push(Target::Connection(wanted.id), "you").await, Published::Taken);
        assert_eq!(wanted.text().await, "you");
    }
    b.push(Target::Connection(other.id), "the other").await;
    assert_eq!(other.text().await, "the other");
}

async fn connections_that_are_not_there_are_unknown(a: Node, b: Node) {
    let gone = a.connect(&[]).await;
    assert!(a.hub.close(gone.id, 1000, ""));
    a.cluster.settle(&[]).await.unwrap();
    let nobody_s = Seq::new(a.cluster.seq().get() ^ 1).unwrap();
    for id in [gone.id, ConnectionId::new(nobody_s, 5)] {
        assert_eq!(b.push(Target::Connection(id), "?").await, Published::UnknownConnection);
        assert!(!b.cluster.exists(id).await.unwrap());
        let close = Act::Close { connection: id, code: 1000, reason: String::new() };
        assert_eq!(b.act(close).await, Outcome::Unknown);
        assert_eq!(b.act(Act::Join { connection: id, audiences: vec![channel("x")] }).await, Outcome::Unknown);
    }
}

async fn a_node_joins_and_leaves_for_another(a: Node, b: Node) {
    let mut client = a.connect(&[]).await;
    let (red, blue) = (channel("red"), channel("blue"));
    let join = Act::Join { connection: client.id, audiences: vec![red.clone(), blue.clone()] };
    assert_eq!(b.act(join.clone()).await, Outcome::Done(2));
    assert_eq!(b.members(&red).await, BTreeSet::from([client.id]));
    b.push(Target::Audience(red.clone()), "joined").await;
    assert_eq!(client.text().await, "joined");
    assert_eq!(b.act(join).await, Outcome::Done(0));
    let leave = Act::Leave { connection: client.id, audiences: vec![red.clone()] };
    assert_eq!(b.act(leave).await, Outcome::Done(1));
    assert_eq!(b.cluster.count_members(&red).await.unwrap(), 0);
    b.push(Target::Audience(red), "nobody is in here").await;
    b.push(Target::Audience(blue), "still in here").await;
    assert_eq!(client.text().await, "still in here");
}

async fn a_close_follows_the_pushes_before_it(a: Node, b: Node) {
    let news = channel("news");
    let mut by_id = a.connect(&[]).await;
    let mut by_channel = a.connect(std::slice::from_ref(&news)).await;
    for number in 0..50 {
        b.push(Target::Connection(by_id.id), number.to_string()).await;
        b.push(Target::Audience(news.clone()), number.to_string()).await;
    }
    let close = Act::Close { connection: by_id.id, code: 4001, reason: "enough".to_owned() };
    assert_eq!(b.act(close).await, Outcome::Done(1));
    let close = Act::CloseAudience { audience: news, code: 4002, reason: String::new() };
    assert_eq!(b.act(close).await, Outcome::Done(1));
    for number in 0..50 {
        assert_eq!(by_id.text().await, number.to_string());
        assert_eq!(by_channel.text().await, number.to_string());
    }
    assert_eq!(by_id.frame().await, Frame::Close(4001, "enough".to_owned()));
    assert_eq!(by_channel.frame().await, Frame::Close(4002, String::new()));
    assert_eq!(b.connections().await, BTreeSet::new());
}

async fn an_audience_is_closed_on_all_nodes(a: Node, b: Node) {
    let news = channel("news");
    let mut clients = vec![a.connect(std::slice::from_ref(&news)).await, b.connect(std::slice::from_ref(&news)).await];
    let stays = b.connect(&[channel("other")]).await;
    let close = Act::CloseAudience { audience: news.clone(), code: 1000, reason: String::new() };
    assert_eq!(a.act(close.clone()).await, Outcome::Done(2));
    for client in &mut clients {
        assert_eq!(client.frame().await, Frame::Close(1000, String::new()));
    }
    for node in [&a, &b] {
        assert_eq!(node.connections().await, BTreeSet::from([stays.id]));
    }
    assert_eq!(b.act(close).await, Outcome::Done(0));
}

async fn a_moment_after_settling_a_push_arrives(a: Node, b: Node) {
    for number in 0..100 {
        let audiences = [channel(&format!("new {number}")), user(&number.to_string())];
        let mut client = a.connect(&audiences).await;
        let [channel, user] = audiences;
        b.push(Target::Audience(channel), "channel").await;
        assert_eq!(client.text().await, "channel");
        b.push(Target::Audience(user), "user").await;
        assert_eq!(client.text().await, "user");
        b.push(Target::Connection(client.id), "connection").await;
        assert_eq!(client.text().await, "connection");
    }
}

async fn nodes_and_store_tell_of_themselves(a: Node, b: Node) {
    let nodes = b.cluster.nodes().await.unwrap();
    let ids: BTreeSet<String> = nodes.iter().map(|node| node.id.clone()).collect();
    let expected = [&a, &b].map(|node| node.cluster.node_id().to_string());
    assert_eq!(ids, BTreeSet::from(expected));
    assert!(nodes.iter().all(|node| node.start_time == 1_700_000_000 && node.address == "127.0.0.1:8080"));
    let _client = a.connect(&[]).await;
    until("the counters of another node are seen", || async {
        b.cluster.nodes().await.unwrap().iter().map(|node| node.counters.connections).sum::<u64>() == 1
    })
    .await;
    let store = b.cluster.store().await.unwrap();
    assert!(store.memory > 0 && store.start_time > 0, "{store:?}");
}

// ---- what only Redis can do ----

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_members_is_not_subscribed() {
    let server = RedisServer::start().await;
    let config = config(server.url());
    let topic = format!("{}channel:news", config.prefix);
    let (a, _b) = two(config).await;
    let news = channel("news");
    let subscribers = || async {
        let answer = server.cli(&["PUBSUB", "NUMSUB", &topic]).await;
        answer.lines().last().unwrap().to_owned()
    };
    let client = a.connect(std::slice::from_ref(&news)).await;
    assert_eq!(subscribers().await, "1");
    a.hub.close(client.id, 1000, "");
    until("the last member's node lets the name go", || async { subscribers().await == "0" }).await;
    let mut again = a.connect(std::slice::from_ref(&news)).await;
    a.push(Target::Audience(news), "again").await;
    assert_eq!(again.text().await, "again");
}

/// Writes a registration with so many connections, all of them in one channel, as a node would have.
async fn write_registration(server: &RedisServer, prefix: &str, count: u32) {
    let keys = ["connections", "channel:big", "channels"].map(|what| format!("{prefix}{{n5}}:feed:{what}"));
    let script = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i, '{}') redis.call('SADD', KEYS[2], i) end \
                  redis.call('HSET', KEYS[3], 'big', ARGV[1]) return 1";
    server.cli(&["-c", "EVAL", script, "3", &keys[0], &keys[1], &keys[2], &count.to_string()]).await;
    server.cli(&["-c", "HSET", &format!("{prefix}{{nodes}}:leases"), "5:feed", "1"]).await;
}

async fn a_big_listing_is_whole(server: &RedisServer, config: RedisConfig) {
    const COUNT: u32 = 100_000;
    let prefix = config.prefix.clone();
    let node = Node::joined(config).await;
    let own = node.connect(&[channel("big")]).await;
    write_registration(server, &prefix, COUNT).await;
    let mut expected: BTreeSet<ConnectionId> =
        (1..=COUNT).map(|counter| ConnectionId::new(Seq::new(5).unwrap(), counter)).collect();
    expected.insert(own.id);
    // assert! rather than assert_eq!, which would print both.
    assert!(node.connections().await == expected);
    assert!(node.members(&channel("big")).await == expected);
    assert_eq!(node.cluster.count_members(&channel("big")).await.unwrap(), u64::from(COUNT) + 1);
    assert_eq!(node.cluster.count_connections().await.unwrap(), u64::from(COUNT) + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_listing_is_whole_on_single_redis() {
    let config = single().await;
    a_big_listing_is_whole(SINGLE.get().unwrap(), config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_listing_is_whole_on_redis_cluster() {
    let config = sharded().await;
    a_big_listing_is_whole(&SHARDED.get().unwrap().servers[0], config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_flushall_everything_is_there_again() {
    let server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let news = channel("news");
    let mut clients = Vec::new();
    for node in [&a, &b] {
        for _ in 0..50 {
            clients.push(node.connect(std::slice::from_ref(&news)).await);
        }
    }
    server.cli(&["FLUSHALL"]).await;
    until("both nodes have registered anew", || async {
        server.cli(&["--raw", "HLEN", "nothing"]).await == "0" && a.cluster.count_connections().await.ok() == Some(100)
    })
    .await;
    for node in [&a, &b] {
        node.ready().await;
        assert_eq!(node.members(&news).await.len(), 100);
    }
    b.push(Target::Audience(news), "still here").await;
    for client in &mut clients {
        assert_eq!(client.text().await, "still here");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_is_filled_again() {
    let mut server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let news = channel("news");
    let mut on_a = a.connect(std::slice::from_ref(&news)).await;
    let mut on_b = b.connect(std::slice::from_ref(&news)).await;
    server.kill();
    for node in [&a, &b] {
        let mut state = node.cluster.state();
        timeout(PATIENCE, state.wait_for(|state| matches!(state, State::Away(_)))).await.unwrap().unwrap();
        let refused = node.cluster.publish(Push::text(Target::All, "into the void")).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    server.run_again().await;
    for node in [&a, &b] {
        node.ready().await;
    }
    // Ready means that the other one hears as well: one push is enough.
    a.push(Target::Audience(news.clone()), "back").await;
    for client in [&mut on_a, &mut on_b] {
        assert_eq!(client.text().await, "back");
    }
    assert_eq!(b.members(&news).await, BTreeSet::from([on_a.id, on_b.id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_subscriber_subscribes_again_and_no_listing_flickers() {
    let server = RedisServer::start().await;
    let config = RedisConfig { node_lease: Duration::from_secs(2), ..config(server.url()) };
    let (a, b) = two(config).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    let started = Instant::now();
    let mut kills = 0;
    while started.elapsed() < Duration::from_secs(4) {
        if started.elapsed() > Duration::from_secs(2) && kills < 3 {
            server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            kills += 1;
        }
        assert_eq!(b.members(&news).await, BTreeSet::from([client.id]));
        sleep(Duration::from_millis(50)).await;
    }
    timeout(PATIENCE, a.cluster.settle(std::slice::from_ref(&news))).await.unwrap().unwrap();
    b.push(Target::Audience(news), "heard").await;
    assert_eq!(client.text().await, "heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_gone_from_every_answer_and_then_from_redis() {
    let server = RedisServer::start().await;
    let config =
        RedisConfig { node_lease: Duration::from_secs(2), reap_delay: Duration::from_secs(1), ..config(server.url()) };
    let (a, b) = two(config).await;
    let news = channel("news");
    let stays = b.connect(std::slice::from_ref(&news)).await;
    let mut dies = Vec::new();
    for _ in 0..200 {
        dies.push(a.open(std::slice::from_ref(&news)).await);
    }
    a.cluster.settle(std::slice::from_ref(&news)).await.unwrap();
    assert_eq!(b.members(&news).await.len(), 201);
    let pattern = format!("*{{n{}}}*", a.cluster.seq());
    let id = dies[0].id;
    // Its tasks end and its connections close, without a word.
    drop(a);
    until("half of a dead node is never listed, and then nothing", || async {
        let listed = b.members(&news).await.len();
        assert!(listed == 201 || listed == 1, "{listed}");
        listed == 1
    })
    .await;
    assert_eq!(b.connections().await, BTreeSet::from([stays.id]));
    assert_eq!(b.push(Target::Connection(id), "?").await, Published::UnknownConnection);
    until("its keys are removed", || async { server.cli(&["--raw", "KEYS", &pattern]).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_leaves_nothing() {
    let server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let client = a.connect(&[channel("news")]).await;
    a.hub.close(client.id, 1001, "");
    a.cluster.leave().await;
    assert_eq!(b.cluster.nodes().await.unwrap().len(), 1);
    let pattern = format!("*{{n{}}}*", a.cluster.seq());
    assert_eq!(server.cli(&["--raw", "KEYS", &pattern]).await, "");
    assert!(matches!(a.cluster.count_connections().await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_slot_takes_its_channel_along() {
    let servers = RedisCluster::start(3, 0).await;
    let config = config(servers.url());
    let topic = format!("{}channel:news", config.prefix);
    let (a, b) = two(config).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    let slot = servers.servers[0].cli(&["CLUSTER", "KEYSLOT", &topic]).await;
    let mut ids = Vec::new();
    for server in &servers.servers {
        ids.push(server.cli(&["CLUSTER", "MYID"]).await);
    }
    // To each of the three in turn, so at least twice away from where it is.
    for (number, id) in ids.iter().enumerate() {
        for server in &servers.servers {
            server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", id]).await;
        }
        let text = number.to_string();
        let received = async {
            loop {
                // Refused or lost while the slot moves; what counts is that it comes through again.
                let _ = b.cluster.publish(Push::text(Target::Audience(news.clone()), text.clone())).await;
                if let Ok(frame) = timeout(Duration::from_millis(100), client.read()).await
                    && frame == Frame::Message(Opcode::Text, text.clone())
                {
                    break;
                }
            }
        };
        timeout(PATIENCE, received).await.expect("the channel is reached again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_lead_to_the_primary() {
    let servers = RedisSentinel::start().await;
    let (a, b) = two(config(servers.url())).await;
    let mut client = a.connect(&[channel("news")]).await;
    b.push(Target::Audience(channel("news")), "through the primary").await;
    assert_eq!(client.text().await, "through the primary");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_redis_is_named_in_the_state() {
    let evicting = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let locked = RedisServer::start_with(&["--requirepass", "right"]).await;
    let cases = [
        (evicting.url(), "allkeys-lru"),
        (locked.url(), "NOAUTH"),
        (locked.url().replace("redis://", "redis://:wrong@"), "WRONGPASS"),
        (format!("redis-cluster://127.0.0.1:{}", locked.port()), "NOAUTH"),
    ];
    for (url, word) in cases {
        let node = Node::joining(config(url));
        let mut state = node.cluster.state();
        let told = state.wait_for(|state| matches!(state, State::Away(why) if why.contains(word)));
        let told = timeout(PATIENCE, told).await.is_ok();
        let state = node.cluster.state().borrow().clone();
        assert!(told, "{word}: {state:?}");
        assert!(!format!("{state:?}").contains("wrong@"), "{state:?}");
    }
    let url = evicting.url();
    Node::joined(RedisConfig { allow_eviction: true, ..config(url) }).await;
}
