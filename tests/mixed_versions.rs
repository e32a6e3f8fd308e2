//! Nodes of two versions in one cluster: what one doesn't know it skips and counts, and all else goes on.

mod support;

use support::http::get;
use support::resp::Resp;
use support::{DEADLINE, Heard, Listener, Node, RedisServer, eventually};

/// A metric of a node, the first with that name.
async fn metric(node: &Node, name: &str) -> f64 {
    let page = get(node.http(), "/metrics").await.unwrap();
    let text = page.text();
    let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name)).expect("the metric is there");
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// Publishes bytes as a node of another version might: the bus's first byte, then these.
async fn publish(redis: &mut Resp, topic: &str, rest: &[u8]) -> i64 {
    let bytes: String = rest.iter().map(|byte| format!("\\{byte:03}")).collect();
    let script = format!("return redis.call('PUBLISH', KEYS[1], '\\193{bytes}')");
    redis.command(&["EVAL", &script, "1", topic]).await.number()
}

#[tokio::test]
async fn what_a_newer_version_says_on_the_bus_is_skipped_counted_and_in_nobody_s_way() {
    let server = RedisServer::start().await;
    let (one, other) = (Node::on(&server.url()).await, Node::on(&server.url()).await);
    let mut listener = Listener::connect(one.ws(), "/?channel[]=news").await;
    let mut redis = Resp::connect(server.port()).await;
    // A push of the version after this one, as it might look; a message of this version, of a kind that comes later; and one
    // of this version and kind, with a target that comes later.
    for rest in
        [&b"\x02\x01what this version cannot know"[..], b"\x01\xc8later", b"\x01\x01\0\0\0\0\0\0\0\0\x01\xc8later"]
    {
        assert_eq!(publish(&mut redis, "carillon:channel:news", rest).await, 1, "the node is subscribed");
    }
    eventually("they are counted", DEADLINE, async || {
        support::eventually::same(metric(&one, "carillon_bus_unreadable_total").await, 3.0)
    })
    .await;
    other.api().response("action=push&to=channel&channel=news&message=after").await.unwrap();
    assert!(matches!(listener.hears().await, Heard::Text(text) if text == "after"), "nothing came before");
    assert!(one.api().is_ready().await);
}

#[tokio::test]
async fn what_a_newer_version_writes_to_redis_beside_what_is_known_does_no_harm() {
    let server = RedisServer::start().await;
    let (one, other) = (Node::on(&server.url()).await, Node::on(&server.url()).await);
    let _listener = Listener::connect(one.ws(), "/?channel[]=news").await;
    let mut redis = Resp::connect(server.port()).await;
    let registrations = redis.keys("carillon:{n*}:*:node").await;
    assert_eq!(registrations.len(), 2, "{registrations:?}");
    for node in &registrations {
        redis.command(&["HSET", node, "version", "99.0.0", "of_a_later_version", "1"]).await;
        let more = node.replace(":node", ":of_a_later_version");
        redis.command(&["SADD", &more, "member"]).await;
    }
    // Asked of the other one, which has to read what is written of both.
    assert_eq!(other.api().count_members("news").await.unwrap(), 1);
    assert_eq!(other.api().connections().await.unwrap().len(), 1);
    // What nodes count themselves is up to a second old.
    eventually("the other one knows of the connection", DEADLINE, async || {
        let stats = other.api().response("action=stats").await.unwrap();
        support::eventually::same(stats["ws_server"]["connection_num"].clone(), 1.into())
    })
    .await;
}
