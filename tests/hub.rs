//! The hub over real loopback sockets: who gets what, in which order, and what a bad reader costs.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends at its first surprise")]

use bytes::{Buf, Bytes, BytesMut};
use carillon::hub::{CloseReason, Delivery, GapPolicy, Hub, Opening, Socket, frame};
use carillon::model::{Audience, AudienceKind, ConnectionId, Exclusions, Limits, Name, Opcode, Push, Target};
use prometheus::Registry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

/// Longer than anything here takes, however busy the machine.
const DEADLINE: Duration = Duration::from_secs(20);

struct World {
    hub: Arc<Hub>,
    registry: Registry,
    listener: TcpListener,
}

/// The client's end of a connection.
struct Client {
    id: ConnectionId,
    stream: TcpStream,
    buffer: BytesMut,
}

fn channel(name: &str) -> Audience {
    Audience::channel(Name::new(name).unwrap())
}

fn user(name: &str) -> Audience {
    Audience { kind: AudienceKind::User, name: Name::new(name).unwrap() }
}

impl World {
    async fn with(limits: Limits, gap: GapPolicy) -> Self {
        let registry = Registry::new();
        let hub = Hub::start(Arc::new(limits), gap, 2, &registry).unwrap();
        Self { hub, registry, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
    }

    async fn new() -> Self {
        Self::with(Limits::default(), GapPolicy::Count).await
    }

    fn open(&self, audiences: &[Audience]) -> ConnectionId {
        let opening = Opening { details: "{}".into(), audiences: audiences.to_vec(), heartbeat: None };
        self.hub.open(opening, |_| Vec::new()).unwrap()
    }

    async fn attach(&self, id: ConnectionId) -> (Client, Arc<Socket>) {
        let stream = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = self.listener.accept().await.unwrap();
        server.set_nodelay(true).unwrap();
        let socket = Socket::new(server);
        self.hub.attach(id, socket.clone());
        (Client { id, stream, buffer: BytesMut::new() }, socket)
    }

    async fn client(&self, audiences: &[Audience]) -> Client {
        self.attach(self.open(audiences)).await.0
    }

    fn push(&self, target: Target, text: &str) {
        self.push_excluding(target, Exclusions::default(), text);
    }

    fn push_excluding(&self, target: Target, exclude: Exclusions, text: &str) {
        let payload = Bytes::copy_from_slice(text.as_bytes());
        self.hub.deliver(Delivery { push: Push { target, exclude, payload, opcode: Opcode::Text }, taken_at: 0 });
    }

    fn metric(&self, name: &str) -> f64 {
        let family = self.registry.gather().into_iter().find(|family| family.name() == name).unwrap();
        let metric = &family.get_metric()[0];
        metric.get_counter().get_value() + metric.get_gauge().get_value()
    }

    async fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let waited = timeout(DEADLINE, async {
            while !holds() {
                tokio::task::yield_now().await;
            }
        });
        assert!(waited.await.is_ok(), "not within the deadline: {what}");
    }
}

/// Opcode and payload of the next frame; `None` at the end of the stream.
async fn next(client: &mut Client) -> Option<(u8, Bytes)> {
    timeout(DEADLINE, async {
        loop {
            if let Some(frame) = cut(&mut client.buffer) {
                return Some(frame);
            }
            if client.stream.read_buf(&mut client.buffer).await.unwrap_or(0) == 0 {
                return None;
            }
        }
    })
    .await
    .expect("a frame or the end within the deadline")
}

fn cut(buffer: &mut BytesMut) -> Option<(u8, Bytes)> {
    let (head, length) = match buffer.get(1)? {
        126 => (4, u16::from_be_bytes([*buffer.get(2)?, *buffer.get(3)?]) as usize),
        127 => (10, u64::from_be_bytes(buffer.get(2..10)?.try_into().ok()?) as usize),
        length => (2, *length as usize),
    };
    if buffer.len() < head + length {
        return None;
    }
    let opcode = buffer[0] & 0x0f;
    buffer.advance(head);
    Some((opcode, buffer.split_to(length).freeze()))
}

async fn text(client: &mut Client) -> String {
    let (opcode, payload) = next(client).await.expect("a frame");
    assert_eq!(opcode, 1);
    String::from_utf8(payload.to_vec()).unwrap()
}

fn code(payload: &[u8]) -> u16 {
    u16::from_be_bytes([payload[0], payload[1]])
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_deliver_exactly_what_a_plain_model_says() {
    for seed in 1..=20_u64 {
        let world = World::new().await;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        };
        let names = ["a", "b", "c", "d"];
        let mut clients: BTreeMap<ConnectionId, (Client, BTreeSet<usize>, Vec<String>)> = BTreeMap::new();
        for step in 0..400 {
            let ids: Vec<ConnectionId> = clients.keys().copied().collect();
            let name = random(names.len());
            match random(12) {
                0 | 1 if ids.len() < 12 => {
                    let client = world.client(&[channel(names[name])]).await;
                    clients.insert(client.id, (client, BTreeSet::from([name]), Vec::new()));
                }
                2 if !ids.is_empty() => {
                    let id = ids[random(ids.len())];
                    world.hub.join(&id.into(), &[channel(names[name])]).unwrap();
                    clients.get_mut(&id).unwrap().1.insert(name);
                }
                3 if !ids.is_empty() => {
                    let id = ids[random(ids.len())];
                    world.hub.leave(&id.into(), &[channel(names[name])]).unwrap();
                    clients.get_mut(&id).unwrap().1.remove(&name);
                }
                4 if !ids.is_empty() => {
                    let id = ids[random(ids.len())];
                    assert!(world.hub.close(id, 1000, ""));
                    let (mut client, _, expected) = clients.remove(&id).unwrap();
                    for expected in expected {
                        assert_eq!(text(&mut client).await, expected, "seed {seed}");
                    }
                    assert_eq!(
                        next(&mut client).await.unwrap().0,
                        8,
                        "seed {seed}: nothing but the close frame follows"
                    );
                }
                5 => {
                    let message = format!("all {step}");
                    world.push(Target::All, &message);
                    clients.values_mut().for_each(|(_, _, expected)| expected.push(message.clone()));
                }
                6 if !ids.is_empty() => {
                    let id = ids[random(ids.len())];
                    let message = format!("one {step}");
                    world.push(Target::Connection(id), &message);
                    clients.get_mut(&id).unwrap().2.push(message);
                }
                7 => {
                    let other = random(names.len());
                    let excluded = ids.get(random(ids.len().max(1))).copied();
                    let message = format!("several {step}");
                    let exclude = Exclusions { connections: excluded.into_iter().collect(), users: Vec::new() };
                    let target = Target::Audiences(vec![channel(names[name]), channel(names[other])]);
                    world.push_excluding(target, exclude, &message);
                    for (id, (_, channels, expected)) in &mut clients {
                        if Some(*id) != excluded && (channels.contains(&name) || channels.contains(&other)) {
                            expected.push(message.clone());
                        }
                    }
                }
                _ => {
                    let message = format!("{} {step}", names[name]);
                    world.push(Target::Audience(channel(names[name])), &message);
                    for (_, channels, expected) in clients.values_mut() {
                        if channels.contains(&name) {
                            expected.push(message.clone());
                        }
                    }
                }
            }
        }
        for (mut client, _, expected) in clients.into_values() {
            for expected in expected {
                assert_eq!(text(&mut client).await, expected, "seed {seed}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_pushed_before_the_socket_comes_waits_behind_the_greeting() {
    let world = World::new().await;
    let greeting = vec![frame::message(Opcode::Text, b"hello")];
    let opening = Opening { details: "{}".into(), audiences: vec![channel("a")], heartbeat: None };
    let id = world.hub.open(opening, |_| greeting).unwrap();
    world.push(Target::Audience(channel("a")), "1");
    world.push(Target::Connection(id), "2");
    let (mut client, _socket) = world.attach(id).await;
    world.push(Target::All, "3");
    for expected in ["hello", "1", "2", "3"] {
        assert_eq!(text(&mut client).await, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_excluded_user_gets_nothing_on_any_of_its_connections() {
    let world = World::new().await;
    let mut first = world.client(&[channel("a"), user("u")]).await;
    let mut second = world.client(&[channel("a"), user("u")]).await;
    let mut other = world.client(&[channel("a"), user("v")]).await;
    let exclude = Exclusions { connections: Vec::new(), users: vec![Name::new("u").unwrap()] };
    world.push_excluding(Target::Audience(channel("a")), exclude, "not for u");
    world.push(Target::All, "for all");
    assert_eq!(text(&mut first).await, "for all");
    assert_eq!(text(&mut second).await, "for all");
    assert_eq!(text(&mut other).await, "not for u");
    assert_eq!(text(&mut other).await, "for all");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_is_closed_with_4008_and_the_others_miss_nothing() {
    let limits = Limits { max_unsent: 256 << 10, ..Limits::default() };
    let world = World::with(limits, GapPolicy::Count).await;
    let mut slow = world.client(&[channel("a")]).await;
    let mut good = world.client(&[channel("a")]).await;
    let big = "x".repeat(64 << 10);
    // More than the kernel's two buffers and ours together can hold.
    let count = 400;
    for _ in 0..count {
        world.push(Target::Audience(channel("a")), &big);
        assert_eq!(text(&mut good).await.len(), 64 << 10);
    }
    world.until("the slow one is out of the roster", || world.hub.count() == 1).await;
    assert_eq!(world.metric("carillon_slow_consumers_total"), 1.0);
    let mut last = None;
    while let Some((opcode, payload)) = next(&mut slow).await {
        assert!(last.is_none(), "nothing follows a close frame");
        if opcode == 8 {
            last = Some(code(&payload));
        }
    }
    assert_eq!(last, Some(4008), "whole frames up to the close frame");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_that_catches_up_gets_everything_in_order() {
    let limits = Limits { max_unsent: 64 << 20, ..Limits::default() };
    let world = World::with(limits, GapPolicy::Count).await;
    let mut slow = world.client(&[channel("a")]).await;
    let count = 300;
    for at in 0..count {
        world.hub.has_room().await;
        world.push(Target::Audience(channel("a")), &format!("{at} {}", "x".repeat(64 << 10)));
    }
    world.until("bytes wait for the socket", || world.metric("carillon_unsent_bytes") > 0.0).await;
    for at in 0..count {
        assert!(text(&mut slow).await.starts_with(&format!("{at} ")));
    }
    world.until("nothing is owed any more", || world.metric("carillon_unsent_bytes") == 0.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_reply_behind_a_push_that_is_half_way_is_no_slow_consumer() {
    let world = World::with(Limits { max_unsent: 64 << 10, ..Limits::default() }, GapPolicy::Count).await;
    let mut client = world.client(&[channel("a")]).await;
    world.push(Target::Audience(channel("a")), &"x".repeat(16 << 20));
    world.until("the push is half way", || world.metric("carillon_unsent_bytes") > 0.0).await;
    let written = world.hub.send(client.id, frame::message(Opcode::Text, &[b'y'; 2 << 20]));
    world.push(Target::Audience(channel("a")), "after");
    assert_eq!(text(&mut client).await.len(), 16 << 20);
    assert_eq!(text(&mut client).await.len(), 2 << 20);
    assert_eq!(text(&mut client).await, "after");
    written.await.unwrap();
    assert_eq!(world.metric("carillon_slow_consumers_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_answers_no_ping_is_dead() {
    let limits = Limits { ping_interval: Duration::from_millis(400), ..Limits::default() };
    let world = World::with(limits, GapPolicy::Count).await;
    let id = world.open(&[]);
    let (mut silent, _silent_socket) = world.attach(id).await;
    let (_alive, alive_socket) = world.attach(world.open(&[])).await;
    let alive = tokio::spawn(async move {
        loop {
            alive_socket.heard();
            tokio::task::yield_now().await;
        }
    });
    let mut pings = 0;
    while let Some((opcode, _)) = next(&mut silent).await {
        assert_eq!(opcode, 9);
        pings += 1;
    }
    assert!(pings >= 2, "{pings} pings went unanswered");
    assert!(!world.hub.exists(id));
    assert_eq!(world.hub.count(), 1, "the one that is heard stays");
    alive.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_over_the_queues_limit_is_dropped_and_counted_and_told() {
    let limits = Limits { hub_queue: 64 << 10, ..Limits::default() };
    let world = World::with(limits, GapPolicy::Tell(frame::message(Opcode::Text, b"gap"))).await;
    let mut client = world.client(&[channel("a")]).await;
    let payload = "x".repeat(30 << 10);
    world
        .until("something is dropped", || {
            world.push(Target::Audience(channel("a")), &payload);
            world.metric("carillon_hub_dropped_total") > 0.0
        })
        .await;
    while text(&mut client).await != "gap" {}
    assert_eq!(world.metric("carillon_bus_gaps_total"), 1.0);
}

#[tokio::test]
async fn changes_that_wait_to_be_written_are_counted() {
    let world = World::new().await;
    let waiting = || world.metric("carillon_registration_queue_changes");
    world.open(&[channel("a")]);
    assert_eq!(waiting(), 0.0, "nobody writes them");
    world.hub.start_journal();
    world.open(&[channel("a"), channel("b")]);
    assert_eq!(waiting(), 3.0);
    drop(world.hub.take_changes(1));
    assert_eq!(waiting(), 2.0);
    drop(world.hub.snapshot());
    assert_eq!(waiting(), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_may_close_whom_it_concerns() {
    let world = World::with(Limits::default(), GapPolicy::Close).await;
    let mut concerned = world.client(&[channel("a")]).await;
    let mut other = world.client(&[channel("b")]).await;
    world.hub.gap(Some(&[channel("a")]));
    let (opcode, payload) = next(&mut concerned).await.unwrap();
    assert_eq!((opcode, code(&payload)), (8, 4009));
    world.push(Target::All, "still here");
    assert_eq!(text(&mut other).await, "still here");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_connection_gets_one_close_frame_behind_its_pushes() {
    let world = World::new().await;
    let mut client = world.client(&[channel("a")]).await;
    world.push(Target::Audience(channel("a")), "before");
    let written = world.hub.end(client.id, frame::close(1001, ""), CloseReason::Client);
    assert!(!world.hub.exists(client.id));
    assert!(!world.hub.close(client.id, 1000, ""));
    world.push(Target::All, "after");
    written.await.unwrap();
    assert_eq!(text(&mut client).await, "before");
    let (opcode, payload) = next(&mut client).await.unwrap();
    assert_eq!((opcode, code(&payload)), (8, 1001));
    world.hub.forget(client.id, CloseReason::Lost);
    assert!(next(&mut client).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_node_takes_nobody_in_until_somebody_leaves() {
    let world = World::with(Limits { max_connections: 1, ..Limits::default() }, GapPolicy::Count).await;
    let id = world.open(&[]);
    let opening = Opening { details: "{}".into(), audiences: Vec::new(), heartbeat: None };
    assert!(world.hub.open(opening.clone(), |_| Vec::new()).is_err());
    world.hub.forget(id, CloseReason::Handshake);
    assert!(world.hub.open(opening, |_| Vec::new()).is_ok());
}
