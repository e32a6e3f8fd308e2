//! Nodes that die, seem to, or come back: no answer ever shows half of one, and nothing of them is left.

mod support;

use futures_util::future::{join, join_all};
use std::time::Duration;
use support::proxy::Proxy;
use support::resp::Resp;
use support::ws::{all_hear, nobody_is_gone};
use support::{Census, DEADLINE, Fleet, Listener, Node, RedisServer, eventually};
use tokio::time::{Instant, sleep_until};

/// A lease that outlasts every test: nobody is taken for dead.
const LONG_LEASE: (&str, &str) = ("NODE_LEASE", "10min");

/// The default of `NODE_LEASE`, and a bit for starting.
const LEASE: Duration = Duration::from_secs(11);

/// The shortest sensible lease.
const SHORT_LEASE: (&str, &str) = ("NODE_LEASE", "2s");

/// How long the clean-up after a death may take that has to be begun twice.
const REAPING: Duration = Duration::from_secs(150);

/// Waits until Redis has no key of a node and no registration of it that is to be reaped.
async fn nothing_is_left_of(node: u64, resp: &mut Resp) {
    eventually("the keys of a dead node are gone", REAPING, async || {
        let keys = resp.keys(&format!("carillon:{{n{node}}}:*")).await;
        let reaping = resp.run("ZRANGE carillon:{nodes}:reaping 0 -1").await.texts();
        let due = reaping.iter().filter(|of| of.starts_with(&format!("{node}:"))).count();
        if keys.is_empty() && due == 0 { Ok(()) } else { Err(format!("{} keys, {due} registrations", keys.len())) }
    })
    .await;
}

/// The one key of a node's registration that ends so.
async fn key_of(node: u64, end: &str, resp: &mut Resp) -> String {
    let keys = resp.keys(&format!("carillon:{{n{node}}}:*:{end}")).await;
    assert_eq!(keys.len(), 1, "{keys:?}");
    keys[0].clone()
}

/// Channels of a node whose reaping takes a while, as its keys go some at a time.
const CHANNELS: usize = 6000;

/// Clients in so many channels, and all in channel `all`.
async fn in_many_channels(node: &Node) -> Vec<Listener> {
    let channels: Vec<String> = (0..CHANNELS).map(|channel| format!("&channel[]=c{channel}")).collect();
    let targets = channels.chunks(500).map(|some| format!("/?channel[]=all{}", some.concat()));
    let targets: Vec<String> = targets.collect();
    join_all(targets.iter().map(|target| Listener::connect(node.ws(), target))).await
}

/// Waits until some of the node's many channels are gone from Redis.
async fn is_reaped_half_way(node: u64, resp: &mut Resp) {
    eventually("some of its keys are gone", REAPING, async || {
        let left = resp.keys(&format!("carillon:{{n{node}}}:*:channel:c*")).await.len();
        if left < CHANNELS { Ok(()) } else { Err("all of them are there") }
    })
    .await;
}

#[tokio::test]
async fn a_killed_node_with_thousands_of_sockets_is_gone_from_every_answer_at_once_and_its_keys_soon() {
    let start = Instant::now();
    let mut fleet = Fleet::start(3, &[]).await;
    let _dying = Listener::crowd(fleet.nodes[0].ws(), "/?channel[]=all&channel[]=even&channel[]=more", 2999).await;
    // Enough channels for a death to fall into the midst of a listing of them.
    let many: Vec<String> = (0..600).map(|channel| format!("c{channel}")).collect();
    let target = format!("/?channel[]=all&channel[]=even&channel[]=more&channel[]={}", many.join("&channel[]="));
    let _dying_in_many = Listener::connect(fleet.nodes[0].ws(), &target).await;
    let dying = Census::of(fleet.nodes[1].api()).await.only_node();
    let mut staying = Listener::crowd(fleet.nodes[1].ws(), "/?channel[]=all&channel[]=even", 1000).await;
    staying.extend(Listener::crowd(fleet.nodes[2].ws(), "/?channel[]=all&channel[]=odd", 1000).await);
    let everybody = Census::of(fleet.nodes[1].api()).await;
    assert_eq!(everybody.size(), 5000);

    // Until a node has watched for as long as a lease, a missing subscription proves nothing to it.
    sleep_until(start + LEASE).await;
    let [dead, first, second] = &mut fleet.nodes[..] else { panic!("three nodes") };
    let killing = async {
        first.api().count().await.unwrap();
        dead.kill();
    };
    let channels: Vec<&str> = ["all", "even", "more"].into_iter().chain(many.iter().map(String::as_str)).collect();
    let watching = [first.api(), second.api()].map(|api| everybody.loses(dying, api, &channels));
    let killed = Instant::now();
    join(join_all(watching), killing).await;
    eprintln!("gone from every answer {:?} after kill -9", killed.elapsed());

    first.api().push("all", "after").await.unwrap();
    all_hear(&mut staying, "after").await;
    nothing_is_left_of(dying, &mut fleet.resp().await).await;
    everybody.without(dying).is_listed(fleet.nodes[1].api()).await;
}

/// When a node that was taken for dead goes on, seen from its reaping.
#[derive(Clone, Copy, Debug)]
enum GoesOn {
    Before,
    Meanwhile,
    Afterwards,
}

async fn a_node_that_was_stopped_comes_back_whole(when: GoesOn) {
    let redis = RedisServer::start().await;
    let stopped = Node::start(&[("REDIS_URL", &redis.url()), SHORT_LEASE]).await;
    // The other node reaps through a long way to Redis, so that it takes its time.
    let proxy = Proxy::to_redis(redis.port()).await;
    let other = Node::start(&[("REDIS_URL", &proxy.redis_url()), ("NODE_LEASE", "3s")]).await;
    let mut crowd = Listener::crowd(stopped.ws(), "/?channel[]=all", 2000).await;
    crowd.extend(in_many_channels(&stopped).await);
    let number = Census::of(other.api()).await.only_node();
    crowd.extend(Listener::crowd(other.ws(), "/?channel[]=all", 10).await);
    let everybody = Census::of(other.api()).await;
    let mut resp = Resp::connect(redis.port()).await;
    let members = key_of(number, "channel:all", &mut resp).await;

    stopped.freeze();
    everybody.loses(number, other.api(), &["all"]).await;
    match when {
        GoesOn::Before => {}
        GoesOn::Meanwhile => {
            proxy.set(|rules| rules.delay = Duration::from_millis(50));
            is_reaped_half_way(number, &mut resp).await;
        }
        GoesOn::Afterwards => nothing_is_left_of(number, &mut resp).await,
    }
    stopped.thaw();
    proxy.set(|rules| rules.delay = Duration::ZERO);

    everybody.is_listed(other.api()).await;
    nobody_is_gone(&mut crowd).await;
    other.api().push("all", "welcome back").await.unwrap();
    all_hear(&mut crowd, "welcome back").await;
    eventually("nothing is left of what was taken for dead", REAPING, async || {
        let left = resp.command(&["EXISTS", &members]).await.number();
        if left == 0 { Ok(()) } else { Err("the old members are there") }
    })
    .await;
    everybody.is_listed(stopped.api()).await;
}

#[tokio::test]
async fn a_node_stopped_past_its_lease_that_goes_on_before_it_is_reaped_comes_back_whole() {
    a_node_that_was_stopped_comes_back_whole(GoesOn::Before).await;
}

#[tokio::test]
async fn a_node_stopped_past_its_lease_that_goes_on_while_it_is_reaped_comes_back_whole() {
    a_node_that_was_stopped_comes_back_whole(GoesOn::Meanwhile).await;
}

#[tokio::test]
async fn a_node_stopped_past_its_lease_that_goes_on_after_it_was_reaped_comes_back_whole() {
    a_node_that_was_stopped_comes_back_whole(GoesOn::Afterwards).await;
}

#[tokio::test]
async fn when_a_reaper_is_killed_half_way_another_one_finishes() {
    let redis = RedisServer::start().await;
    let mut dying = Node::start(&[("REDIS_URL", &redis.url())]).await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let mut reaper = Node::start(&[("REDIS_URL", &proxy.redis_url())]).await;
    let _crowd = in_many_channels(&dying).await;
    let number = Census::of(reaper.api()).await.only_node();
    let mut resp = Resp::connect(redis.port()).await;

    // The reaper is the only node left; each of its steps takes a while.
    dying.kill();
    eventually("the death is written", DEADLINE, async || {
        let leases = resp.run("HKEYS carillon:{nodes}:leases").await.texts();
        if leases.len() == 1 { Ok(()) } else { Err(format!("{leases:?}")) }
    })
    .await;
    proxy.set(|rules| rules.delay = Duration::from_millis(50));
    is_reaped_half_way(number, &mut resp).await;
    reaper.kill();
    assert!(!resp.keys(&format!("carillon:{{n{number}}}:*")).await.is_empty(), "it was too fast to be killed half way");

    let last = Node::start(&[("REDIS_URL", &redis.url())]).await;
    let mut listener = Listener::connect(last.ws(), "/?channel[]=all").await;
    assert_eq!(last.api().members("all").await.unwrap().len(), 1);
    nothing_is_left_of(number, &mut resp).await;
    last.api().push("all", "clean").await.unwrap();
    listener.hears_text("clean").await;
    eventually("the reaper's own death is cleaned up as well", REAPING, async || {
        let reaping = resp.run("ZCARD carillon:{nodes}:reaping").await.number();
        if reaping == 0 { Ok(()) } else { Err(format!("{reaping} registrations")) }
    })
    .await;
}

/// A node behind a proxy, another one beside it, and clients of the first that have been connected before.
struct Unreliable {
    node: Node,
    other: Node,
    proxy: Proxy,
    resp: Resp,
    _redis: RedisServer,
    crowd: Vec<Listener>,
    number: u64,
}

impl Unreliable {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let proxy = Proxy::to_redis(redis.port()).await;
        let patient = ("CONNECT_TIMEOUT", "20s");
        let node = Node::start(&[("REDIS_URL", &proxy.redis_url()), LONG_LEASE, patient]).await;
        let other = Node::start(&[("REDIS_URL", &redis.url()), LONG_LEASE]).await;
        let crowd = Listener::crowd(node.ws(), "/?channel[]=all", 50).await;
        let number = Census::of(other.api()).await.only_node();
        Self { node, other, proxy, resp: Resp::connect(redis.port()).await, _redis: redis, crowd, number }
    }

    /// So many clients connect to the node, meanwhile something happens; afterwards exactly those whose handshake was
    /// answered with 101, and those from before, are listed, counted and reached.
    async fn connecting(&mut self, clients: usize, meanwhile: impl AsyncFnOnce(&Proxy, &mut Resp)) {
        let connects = join_all((0..clients).map(|_| Listener::try_connect(self.node.ws(), "/?channel[]=all")));
        let (connected, ()) = tokio::join!(connects, meanwhile(&self.proxy, &mut self.resp));
        self.crowd.extend(connected.into_iter().filter_map(Result::ok));
        let (api, size) = (self.other.api(), self.crowd.len());
        eventually("exactly those who are connected are listed", DEADLINE, async || {
            let found = (api.count().await?, api.members("all").await?.len(), api.connections().await?.len());
            support::eventually::same(found, (size as u64, size, size)).map_err(std::io::Error::other)
        })
        .await;
        nobody_is_gone(&mut self.crowd).await;
        eventually("the node is ready", DEADLINE, async || {
            if self.node.api().is_ready().await { Ok(()) } else { Err("/readyz does not say 200") }
        })
        .await;
        api.push("all", "everybody").await.unwrap();
        all_hear(&mut self.crowd, "everybody").await;
    }

    /// So many clients connect while what Redis answers is held; goes on to `then` when a batch with some of them is written.
    /// Held before the first of them connects: the batch may be all of them.
    async fn connecting_unanswered(&mut self, clients: usize, then: impl FnOnce(&Proxy)) {
        self.only_one_registration_is_left().await;
        let members = key_of(self.number, "channel:all", &mut self.resp).await;
        let before = self.resp.command(&["SCARD", &members]).await.number();
        self.proxy.set(|rules| rules.hold_answers = true);
        self.connecting(clients, async |proxy, resp| {
            eventually("a batch is written", DEADLINE, async || {
                let members = resp.command(&["SCARD", &members]).await.number();
                if members > before { Ok(()) } else { Err("nobody new in Redis") }
            })
            .await;
            then(proxy);
        })
        .await;
    }

    /// Everything there is in Redis of the node belongs to one registration, the one in `leases`.
    async fn only_one_registration_is_left(&mut self) {
        let number = self.number;
        eventually("only the live registration has keys", REAPING, async || {
            let leases = self.resp.run("HKEYS carillon:{nodes}:leases").await.texts();
            let live: Vec<&String> = leases.iter().filter(|of| of.starts_with(&format!("{number}:"))).collect();
            let [live] = live[..] else { return Err(format!("{leases:?}")) };
            let prefix = format!("carillon:{{n{number}}}:{}:", live.split_once(':').unwrap().1);
            let keys = self.resp.keys(&format!("carillon:{{n{number}}}:*")).await;
            match keys.iter().find(|key| !key.starts_with(&prefix)) {
                None => Ok(()),
                Some(stray) => Err(format!("{stray} is there, {live} is live")),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_far_from_redis_that_loses_its_subscriber_is_not_dead() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let patient = ("CONNECT_TIMEOUT", "20s");
    let far = Node::start(&[("REDIS_URL", &proxy.redis_url()), SHORT_LEASE, patient]).await;
    let other = Node::start(&[("REDIS_URL", &redis.url()), SHORT_LEASE]).await;
    let _crowd = Listener::crowd(far.ws(), "/?channel[]=all", 50).await;
    proxy.set(|rules| rules.delay = Duration::from_millis(150));
    let mut resp = Resp::connect(redis.port()).await;
    // Silence proves nothing to a node that has just begun: three deaths would have been seen after that.
    let begin = Instant::now();
    let mut kills = 0;
    while begin.elapsed() < Duration::from_secs(12) {
        if begin.elapsed() > Duration::from_secs(3) * (kills + 1) && kills < 3 {
            resp.run("CLIENT KILL TYPE pubsub").await;
            kills += 1;
        }
        // Refused while the other one subscribes again itself.
        if let Ok(count) = other.api().count().await {
            assert_eq!(count, 50, "after {kills} losses of the subscriber");
        }
        sleep_until(Instant::now() + Duration::from_millis(20)).await;
    }
    assert_eq!(kills, 3);
}

#[tokio::test]
async fn a_batch_whose_acknowledgement_is_lost_counts_once() {
    let mut unreliable = Unreliable::start().await;
    unreliable
        .connecting_unanswered(40, |proxy| {
            proxy.cut();
            proxy.set(|rules| rules.hold_answers = false);
        })
        .await;
    unreliable.only_one_registration_is_left().await;
}

#[tokio::test]
async fn a_write_that_hung_and_arrives_late_changes_nothing() {
    let mut unreliable = Unreliable::start().await;
    let mut late = None;
    unreliable
        .connecting(40, async |proxy, _| {
            proxy.set(|rules| rules.hold_requests = true);
            eventually("a batch is on its way", DEADLINE, async || {
                if proxy.holds("channel:all") { Ok(()) } else { Err("nothing about the channel is held") }
            })
            .await;
            late = Some(proxy.abandon());
        })
        .await;
    // The node has registered anew by now; what hung belongs to a registration that is dead.
    late.unwrap().arrives().await;
    unreliable.connecting(10, async |_, _| {}).await;
    unreliable.only_one_registration_is_left().await;
}

#[tokio::test]
async fn a_redis_that_hangs_for_a_moment_loses_nobody() {
    let mut unreliable = Unreliable::start().await;
    for _ in 0..3 {
        unreliable.connecting_unanswered(20, |proxy| proxy.set(|rules| rules.hold_answers = false)).await;
    }
    unreliable.only_one_registration_is_left().await;
}
