//! Listings that are long: streamed, never held, broken off rather than cut short in silence.

mod support;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;
use support::http::request;
use support::proxy::Proxy;
use support::raw::Raw;
use support::resp::Resp;
use support::{Listener, Node, RedisServer};
use tokio::time::interval;

/// Connections of the node that the test invents.
const INVENTED: u64 = 100_000;

/// How many of them are in channel `some` as well.
const SOME: u64 = 10_000;

/// The invented node's number, registration and life.
const NUMBER: u64 = 77;
const REGISTRATION: &str = "carillon:{n77}:00112233445566ff:";
const LIFE: &str = "00000000000000000000000000000077";

/// A registration with many connections, written as a node writes it; live as long as its inbox is subscribed to, which
/// the connection that is given back does.
async fn invent_a_node(port: u16) -> Resp {
    let mut resp = Resp::connect(port).await;
    let [node, connections, channels, members, some_members] =
        ["node", "connections", "channels", "channel:all", "channel:some"].map(|what| format!("{REGISTRATION}{what}"));
    let counters: Vec<String> = (1..=INVENTED).map(|counter| counter.to_string()).collect();
    for some in counters.chunks(5000) {
        let mut fields = vec!["HSET", connections.as_str()];
        fields.extend(some.iter().flat_map(|counter| [counter.as_str(), "{}"]));
        let mut set = vec!["SADD", members.as_str()];
        set.extend(some.iter().map(String::as_str));
        resp.pipeline(&[fields, set]).await;
    }
    let mut some = vec!["SADD", some_members.as_str()];
    some.extend(counters[..SOME as usize].iter().map(String::as_str));
    resp.command(&some).await;
    resp.command(&["HSET", &channels, "all", &INVENTED.to_string(), "some", &SOME.to_string()]).await;
    resp.command(&["HSET", &node, "id", LIFE, "batch", "1"]).await;
    resp.command(&["HSET", "carillon:{nodes}:seqs", "77", LIFE]).await;
    let mut inbox = Resp::connect(port).await;
    inbox.run("SUBSCRIBE carillon:node:{n77}").await;
    resp.command(&["HSET", "carillon:{nodes}:leases", "77:00112233445566ff", "1"]).await;
    inbox
}

struct Stage {
    node: Node,
    proxy: Proxy,
    _inbox: Resp,
    _redis: RedisServer,
}

/// The invented node and a real one, each way of which to Redis is so much longer.
async fn stage(delay: Duration) -> Stage {
    let redis = RedisServer::start().await;
    let inbox = invent_a_node(redis.port()).await;
    let proxy = Proxy::to_redis(redis.port()).await;
    // Nobody renews the invented lease. The allocator keeps some megabytes for each thread, which are no listing's.
    let node = Node::start(&[("REDIS_URL", &proxy.redis_url()), ("NODE_LEASE", "10min"), ("WORKERS", "1")]).await;
    proxy.set(|rules| rules.delay = delay);
    Stage { node, proxy, _inbox: inbox, _redis: redis }
}

#[tokio::test]
async fn a_hundred_thousand_connections_are_listed_without_holding_twice_their_size() {
    let stage = stage(Duration::ZERO).await;
    let node = &stage.node;
    let api = node.api();
    let own = Listener::crowd(node.ws(), "/?channel[]=all", 10).await;
    let whole = INVENTED as usize + own.len();
    assert_eq!(node.api().count().await.unwrap(), whole as u64);
    assert_eq!(node.api().count_members("all").await.unwrap(), whole as u64);
    let invented: BTreeSet<u64> = (1..=INVENTED).map(|counter| NUMBER << 32 | counter).collect();
    // A listing that is a tenth as long takes what any listing takes: connections to Redis, and what the allocator keeps.
    assert_eq!(api.members("some").await.unwrap().len(), SOME as usize);
    for query in [
        "action=getConnections",
        "action=getConnections&channel=all",
        "action=getChannels",
        "action=getChannels&channel=all",
    ] {
        let before = node.resident();
        let mut most = before;
        let mut sample = interval(Duration::from_millis(1));
        let mut asking = pin!(api.ask(query));
        let answer = loop {
            tokio::select! {
                answer = &mut asking => break answer.unwrap(),
                _ = sample.tick() => most = most.max(node.resident()),
            }
        };
        let grown = most - before;
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"), "{query}");
        let limit = 2 * answer.body.len() as u64;
        eprintln!("{query}: {grown} bytes more for an answer of {} bytes", answer.body.len());
        assert!(grown < limit, "{query}: {grown} bytes more for an answer of {}", answer.body.len());
    }
    for listed in [
        node.api().connections().await.unwrap(),
        node.api().members("all").await.unwrap(),
        node.api().channels().await.unwrap().remove("all").unwrap(),
    ] {
        assert_eq!(listed.len(), whole);
        assert!(listed.is_superset(&invented));
    }
}

#[tokio::test]
async fn clients_that_do_not_read_their_listings_cost_little_and_hold_up_nobody() {
    let stage = stage(Duration::ZERO).await;
    let answer = stage.node.api().ask("action=getConnections").await.unwrap().body.len() as u64;
    let before = stage.node.resident();
    let mut unread = Vec::new();
    for _ in 0..20 {
        let mut raw = Raw::connect(stage.node.http()).await;
        raw.send(&request("GET", "/?action=getConnections", &[], b"")).await;
        raw.until(b"\r\n").await;
        unread.push(raw);
    }
    stage.node.api().push("all", "meanwhile").await.unwrap();
    assert_eq!(stage.node.api().count().await.unwrap(), INVENTED);
    let grown = stage.node.resident().saturating_sub(before);
    assert!(grown < 10 * answer, "{grown} bytes for twenty answers of {answer} that nobody reads");
}

#[tokio::test]
async fn a_listing_that_breaks_off_half_way_is_seen_to_be_broken_off() {
    // Page by page it takes a while, so that the end is far when the beginning has come.
    let stage = stage(Duration::from_millis(5)).await;
    let mut raw = Raw::connect(stage.node.http()).await;
    raw.send(&request("GET", "/?action=getConnections", &[], b"")).await;
    let begin = raw.until(b"\"connections\": [").await;
    assert!(begin.starts_with(b"HTTP/1.1 200 OK\r\n"));
    stage.proxy.set(|rules| rules.refuse = true);
    stage.proxy.cut();
    let rest = raw.rest().await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "the answer looks whole, with {} bytes", rest.len());
}
