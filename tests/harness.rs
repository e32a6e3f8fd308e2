//! The harness itself: a proxy that did not do what it says would make other tests prove nothing.

mod support;

use std::time::Duration;
use support::proxy::Proxy;
use support::resp::{Reply, Resp};
use support::{DEADLINE, RedisServer, eventually};
use tokio::time::{Instant, timeout};

/// A command through the proxy, which has no answer in time or none at all.
async fn unanswered(resp: &mut Resp, command: &str) -> bool {
    timeout(Duration::from_millis(100), resp.run(command)).await.is_err()
}

fn port(proxy: &Proxy) -> u16 {
    proxy.redis_url().rsplit_once(':').unwrap().1.parse().unwrap()
}

#[tokio::test]
async fn the_proxy_passes_on_and_delays_each_way() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let mut resp = Resp::connect(port(&proxy)).await;
    assert_eq!(resp.run("SET key value").await, Reply::Text("OK".to_owned()));
    proxy.set(|rules| rules.delay = Duration::from_millis(50));
    let start = Instant::now();
    assert_eq!(resp.run("GET key").await, Reply::Text("value".to_owned()));
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn held_requests_do_not_arrive_and_held_answers_are_carried_out() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let mut direct = Resp::connect(redis.port()).await;
    let mut resp = Resp::connect(port(&proxy)).await;

    proxy.set(|rules| rules.hold_answers = true);
    assert!(unanswered(&mut resp, "SET first 1").await);
    assert_eq!(direct.run("GET first").await.text(), "1");
    proxy.cut();
    proxy.set(|rules| rules.hold_answers = false);

    let mut resp = Resp::connect(port(&proxy)).await;
    proxy.set(|rules| rules.hold_requests = true);
    assert!(unanswered(&mut resp, "SET second 2").await);
    eventually("the proxy has it", DEADLINE, async || if proxy.holds("second") { Ok(()) } else { Err("not yet") })
        .await;
    assert_eq!(direct.run("GET second").await, Reply::Nil);

    // The client gives up and connects again, and then what it had sent arrives.
    let late = proxy.abandon();
    let mut resp = Resp::connect(port(&proxy)).await;
    assert_eq!(resp.run("GET second").await, Reply::Nil);
    late.arrives().await;
    eventually("what was late arrives", DEADLINE, async || match resp.run("GET second").await {
        Reply::Text(value) if value == "2" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

#[tokio::test]
async fn a_cut_connection_ends_and_a_refused_one_is_none() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let mut raw = support::raw::Raw::connect(([127, 0, 0, 1], port(&proxy)).into()).await;
    raw.send(b"PING\r\n").await;
    assert_eq!(raw.until(b"\r\n").await, b"+PONG\r\n");
    proxy.cut();
    assert_eq!(raw.rest().await, b"");
    proxy.set(|rules| rules.refuse = true);
    let mut raw = support::raw::Raw::connect(([127, 0, 0, 1], port(&proxy)).into()).await;
    assert_eq!(raw.rest().await, b"");
}
