//! Redis loses its data, goes away, comes back empty or cuts a node off: nobody is disconnected, nothing that was
//! accepted is lost in silence, no answer leaves somebody out, and everything is listed again.

mod support;

use futures_util::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use support::api::{Api, Publisher};
use support::http::get;
use support::proxy::Proxy;
use support::ws::nobody_is_gone;
use support::{Census, DEADLINE, Fleet, Heard, Listener, Node, RedisServer, eventually};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Silent clients of each node, so that there is something to register again.
const CROWD: usize = 500;

/// Clients of each node whose every message is looked at.
const WITNESSES: usize = 5;

/// Three nodes with clients, all in channel `all`.
struct Stage {
    fleet: Fleet,
    crowd: Vec<Listener>,
    witnesses: Vec<Listener>,
    everybody: Census,
}

impl Stage {
    async fn set() -> Self {
        let fleet = Fleet::start(3, &[]).await;
        let (mut crowd, mut witnesses) = (Vec::new(), Vec::new());
        for node in &fleet.nodes {
            crowd.extend(Listener::crowd(node.ws(), "/?channel[]=all&channel[]=quiet", CROWD).await);
            witnesses.extend(Listener::crowd(node.ws(), "/?channel[]=all&channel[]=load", WITNESSES).await);
        }
        let everybody = Census::of(fleet.nodes[0].api()).await;
        assert_eq!(everybody.size(), 3 * (CROWD + WITNESSES));
        Self { fleet, crowd, witnesses, everybody }
    }

    /// Everybody is there, listed and counted on every node, and nobody was disconnected.
    async fn is_whole_again(&mut self) {
        for node in &self.fleet.nodes {
            self.everybody.is_listed(node.api()).await;
            let size = self.everybody.size() as u64;
            eventually("everybody is counted", DEADLINE, async || {
                let api = node.api();
                let found = (api.count().await?, api.count_members("all").await?);
                support::eventually::same(found, (size, size)).map_err(std::io::Error::other)
            })
            .await;
            eventually("every node is ready", DEADLINE, async || {
                if node.api().is_ready().await { Ok(()) } else { Err("/readyz does not say 200") }
            })
            .await;
        }
        nobody_is_gone(&mut self.crowd).await;
    }

    /// Every witness has heard every accepted push and, of one publisher, in order; then the given last one.
    async fn witnesses_heard(&mut self, accepted: &BTreeSet<String>, last: &str) {
        self.fleet.nodes[0].api().push("load", last).await.unwrap();
        let hearing = self.witnesses.iter_mut().map(|witness| witness.hears_until(last));
        for heard in join_all(hearing).await {
            let mut once = BTreeSet::new();
            let mut latest = vec![0; self.fleet.nodes.len()];
            for message in heard {
                let Heard::Text(text) = message else { panic!("a witness heard {message:?}") };
                let (publisher, number) = text.split_once(':').unwrap();
                let (publisher, number): (usize, u64) = (publisher.parse().unwrap(), number.parse().unwrap());
                assert!(number > latest[publisher], "{text} came after {publisher}:{}", latest[publisher]);
                latest[publisher] = number;
                once.insert(text);
            }
            let lost: Vec<&String> = accepted.difference(&once).collect();
            assert!(lost.is_empty(), "of {} accepted pushes a witness missed {lost:?}", accepted.len());
        }
    }
}

/// Asks every node over and over who is there. An answer shows everybody, or it is a refusal.
struct Watch {
    stop: Arc<AtomicBool>,
    watchers: Vec<JoinHandle<u64>>,
}

impl Watch {
    fn start(nodes: &[Node], everybody: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let watchers = nodes.iter().map(|node| tokio::spawn(watch(node.api(), everybody, stop.clone()))).collect();
        Self { stop, watchers }
    }

    /// Stops; fails the test where an answer was not whole, or there was none.
    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for answers in join_all(self.watchers).await {
            assert!(answers.unwrap() > 0, "no node has answered");
        }
    }
}

async fn watch(api: Api, everybody: usize, stop: Arc<AtomicBool>) -> u64 {
    let mut answers = 0;
    let mut pace = tokio::time::interval(Duration::from_millis(5));
    while !stop.load(Ordering::Relaxed) {
        let found = [
            api.count().await.ok().map(|count| count as usize),
            api.count_members("all").await.ok().map(|count| count as usize),
            api.members("all").await.ok().map(|members| members.len()),
            api.connections().await.ok().map(|connections| connections.len()),
        ];
        for (index, found) in found.into_iter().flatten().enumerate() {
            assert_eq!(found, everybody, "answer {index} of a node is not whole");
            answers += 1;
        }
        pace.tick().await;
    }
    answers
}

/// A publisher on each node that goes on pushing numbered messages to channel `load`, refused or not.
struct Load {
    stop: Arc<AtomicBool>,
    publishers: Vec<JoinHandle<(BTreeSet<String>, u64)>>,
}

impl Load {
    fn start(nodes: &[Node], from: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let publishers = nodes.iter().enumerate();
        let publishers =
            publishers.map(|(at, node)| tokio::spawn(publish(at, node.http(), from, stop.clone()))).collect();
        Self { stop, publishers }
    }

    /// Stops; which messages were accepted, and how many were refused.
    async fn stop(self) -> (BTreeSet<String>, u64) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut accepted, mut refused) = (BTreeSet::new(), 0);
        for publisher in join_all(self.publishers).await {
            let (more, no) = publisher.unwrap();
            accepted.extend(more);
            refused += no;
        }
        (accepted, refused)
    }
}

async fn publish(at: usize, to: std::net::SocketAddr, from: u64, stop: Arc<AtomicBool>) -> (BTreeSet<String>, u64) {
    let mut publisher = Publisher::connect(to).await.unwrap();
    let (mut accepted, mut refused, mut number) = (BTreeSet::new(), 0, from);
    // Enough for a load, and leaves the machine to the others.
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    while !stop.load(Ordering::Relaxed) {
        number += 1;
        let message = format!("{at}:{number}");
        match publisher.push("load", &message).await {
            Ok(()) => {
                accepted.insert(message);
            }
            Err(refusal) => {
                assert!(refusal.to_string().contains("push not accepted: "), "{refusal}");
                refused += 1;
            }
        }
        pace.tick().await;
    }
    (accepted, refused)
}

#[tokio::test]
async fn after_flushall_under_load_everybody_is_registered_again_and_no_accepted_push_is_lost() {
    let mut stage = Stage::set().await;
    let load = Load::start(&stage.fleet.nodes, 0);
    let mut resp = stage.fleet.resp().await;
    for _ in 0..3 {
        resp.run("FLUSHALL").await;
        eventually("every node has registered again", DEADLINE, async || {
            support::eventually::same(resp.run("HLEN carillon:{nodes}:leases").await.number(), 3)
        })
        .await;
        stage.is_whole_again().await;
    }
    let (accepted, _) = load.stop().await;
    assert!(!accepted.is_empty());
    stage.witnesses_heard(&accepted, "the end").await;
}

/// Pushes to live connections of other nodes, over and over; refused or taken, but never said to be unknown.
async fn push_to_connections(api: Api, ids: Vec<String>, stop: Arc<AtomicBool>) {
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    for id in ids.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed)) {
        let Ok(reply) = api.call(&format!("action=push&to=connection&connection={id}&message=hello")).await else {
            continue;
        };
        assert!(reply["status"] == true || reply["message"].is_string(), "to {id}, which is there: {reply}");
        pace.tick().await;
    }
}

#[tokio::test]
async fn after_flushall_no_answer_is_short_and_no_live_connection_is_unknown() {
    let stage = Stage::set().await;
    let load = Load::start(&stage.fleet.nodes, 0);
    let watch = Watch::start(&stage.fleet.nodes, stage.everybody.size());
    let ids = stage.fleet.nodes[0].api().members("quiet").await.unwrap();
    let ids: Vec<String> = ids.into_iter().step_by(7).map(|id| id.to_string()).collect();
    let stop = Arc::new(AtomicBool::new(false));
    let nodes = stage.fleet.nodes.iter();
    let pushing: Vec<_> =
        nodes.map(|node| tokio::spawn(push_to_connections(node.api(), ids.clone(), stop.clone()))).collect();
    let mut resp = stage.fleet.resp().await;
    for _ in 0..5 {
        resp.run("FLUSHALL").await;
        eventually("every node has registered again", DEADLINE, async || {
            support::eventually::same(resp.run("HLEN carillon:{nodes}:leases").await.number(), 3)
        })
        .await;
        for node in &stage.fleet.nodes {
            stage.everybody.is_listed(node.api()).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for pushing in join_all(pushing).await {
        pushing.unwrap();
    }
    watch.stop().await;
    load.stop().await;
}

#[tokio::test]
async fn while_redis_is_away_pushes_are_refused_and_when_it_is_back_empty_none_that_is_accepted_is_lost() {
    let mut stage = Stage::set().await;
    let load = Load::start(&stage.fleet.nodes, 0);
    eventually("the load runs", DEADLINE, async || {
        let heard = futures_util::future::poll_immediate(stage.witnesses[0].heard()).await;
        heard.ok_or("nothing heard")
    })
    .await;
    // What Redis has answered but not yet sent to subscribers when it is killed is lost with it: the load rests for that moment.
    let (accepted, refused) = load.stop().await;
    assert_eq!(refused, 0);
    // It has heard what it will not hear again.
    let _heard_already = stage.witnesses.remove(0);
    stage.witnesses_heard(&accepted, "before").await;

    stage.fleet.redis.kill();
    let load = Load::start(&stage.fleet.nodes, 1_000_000);
    for node in &stage.fleet.nodes {
        eventually("/readyz says that Redis is away", DEADLINE, async || {
            let answer = get(node.http(), "/readyz").await.unwrap();
            if answer.status == 503 && !answer.body.is_empty() { Ok(()) } else { Err(answer.status) }
        })
        .await;
        assert_eq!(get(node.http(), "/livez").await.unwrap().status, 200);
        assert!(node.api().push("load", "nobody hears this").await.is_err());
    }
    // They are served as far as it goes without Redis.
    stage.crowd[0].say("echo").await;
    stage.crowd[0].hears_text("echo").await;

    let watch = Watch::start(&stage.fleet.nodes, stage.everybody.size());
    stage.fleet.redis.run_again().await;
    stage.is_whole_again().await;
    watch.stop().await;
    let (accepted, refused) = load.stop().await;
    assert!(refused > 0);
    stage.witnesses_heard(&accepted, "after").await;
}

#[tokio::test]
async fn a_redis_that_comes_back_at_once_is_no_different() {
    let mut stage = Stage::set().await;
    let watch = Watch::start(&stage.fleet.nodes, stage.everybody.size());
    stage.fleet.redis.kill();
    stage.fleet.redis.run_again().await;
    let load = Load::start(&stage.fleet.nodes, 0);
    stage.is_whole_again().await;
    watch.stop().await;
    let (accepted, _) = load.stop().await;
    stage.witnesses_heard(&accepted, "after").await;
}

#[tokio::test]
async fn a_redis_that_hangs_is_away_within_seconds_and_then_everything_goes_on() {
    let mut stage = Stage::set().await;
    stage.fleet.redis.freeze();
    for node in &stage.fleet.nodes {
        eventually("/readyz says that Redis is away", DEADLINE, async || {
            support::eventually::same(get(node.http(), "/readyz").await.unwrap().status, 503)
        })
        .await;
        assert_eq!(get(node.http(), "/livez").await.unwrap().status, 200);
        assert!(node.api().push("load", "0:1").await.is_err());
    }
    stage.fleet.redis.thaw();
    stage.is_whole_again().await;
    stage.fleet.nodes[1].api().push("quiet", "hello").await.unwrap();
    support::ws::all_hear(&mut stage.crowd, "hello").await;
}

#[tokio::test]
async fn when_the_subscribers_connections_are_killed_no_listing_flickers_and_pushes_arrive_again() {
    let mut stage = Stage::set().await;
    let mut resp = stage.fleet.resp().await;
    for round in 0..3 {
        let watch = Watch::start(&stage.fleet.nodes, stage.everybody.size());
        let killed = resp.run("CLIENT KILL TYPE pubsub").await.number();
        assert!(killed >= 3, "{killed} subscribers were killed");
        eventually("every node is subscribed again", DEADLINE, async || {
            let counts = resp.run("PUBSUB NUMSUB carillon:channel:all carillon:channel:quiet carillon:all").await;
            let support::resp::Reply::List(counts) = counts else { panic!("{counts:?}") };
            let counts: Vec<i64> = counts.iter().skip(1).step_by(2).map(|count| count.number()).collect();
            support::eventually::same(counts, vec![3; 3])
        })
        .await;
        stage.is_whole_again().await;
        watch.stop().await;
        let message = format!("round {round}");
        stage.fleet.nodes[round].api().push("quiet", &message).await.unwrap();
        support::ws::all_hear(&mut stage.crowd, &message).await;
    }
}

/// The sum of a metric over its labels.
async fn metric(node: &Node, name: &str) -> f64 {
    let answer = get(node.http(), "/metrics").await.unwrap();
    let values = answer.text().lines().filter_map(|line| {
        let (metric, value) = line.rsplit_once(' ')?;
        (metric.split('{').next() == Some(name)).then(|| value.parse::<f64>().unwrap())
    });
    values.sum()
}

async fn links_are_lost(node: &Node, at_least: f64) {
    eventually("so many of the subscriber's connections were lost", DEADLINE, async || {
        let lost = metric(node, "carillon_bus_link_losses_total").await;
        if lost >= at_least { Ok(()) } else { Err(format!("{lost} were lost")) }
    })
    .await;
}

#[tokio::test]
async fn clients_are_told_of_a_gap_when_it_is_over_and_hear_everything_after_it() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let node = Node::start(&[("REDIS_URL", &proxy.redis_url()), ("GAP_MESSAGE", "gap")]).await;
    let other = Node::on(&redis.url()).await;
    let mut client = Listener::connect(node.ws(), "/?channel[]=news&channel[]=more").await;
    proxy.set(|rules| rules.refuse = true);
    proxy.cut();
    links_are_lost(&node, 1.0).await;
    other.api().push("news", "lost").await.unwrap();
    // Had it been told already, it would hear that first.
    client.say("nothing yet").await;
    client.hears_text("nothing yet").await;
    proxy.set(|rules| rules.refuse = false);
    client.hears_text("gap").await;
    other.api().push("news", "after").await.unwrap();
    client.hears_text("after").await;
    support::eventually::same(metric(&node, "carillon_bus_gaps_total").await, 1.0).unwrap();
}

#[tokio::test]
async fn a_server_that_ends_every_subscription_is_not_asked_without_a_pause() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let node = Node::on(&proxy.redis_url()).await;
    let started = Instant::now();
    proxy.set(|rules| rules.close_at = Some("SUBSCRIBE"));
    proxy.cut();
    links_are_lost(&node, 8.0).await;
    // The pauses between them: from 20 ms on, each twice the last.
    assert!(started.elapsed() >= Duration::from_secs(1), "8 attempts in {:?}", started.elapsed());
    proxy.set(|rules| rules.close_at = None);
    eventually("the node is ready again", DEADLINE, async || {
        if node.api().is_ready().await { Ok(()) } else { Err("/readyz does not say 200") }
    })
    .await;
}
