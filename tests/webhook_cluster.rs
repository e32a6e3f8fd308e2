//! What a cluster owes to the application behind HTTP: the `close` of connections whose node is gone, and what happens to
//! channels.

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::backend::{Backend, Reply, SECRET};
use support::device::metric;
use support::eventually::same;
use support::node::{carillon, finish};
use support::{DEADLINE, Fleet, Heard, Listener, Node, eventually};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// Deaths are seen and settled soon.
const HASTY: (&str, &str) = ("NODE_LEASE", "2s");

/// Three nodes with an application and these further variables.
async fn fleet(backend: &Backend, environment: &[(&str, &str)]) -> Fleet {
    let mut variables = vec![("WEBHOOK_URL", backend.url()), ("WEBHOOK_SECRET", SECRET), HASTY];
    variables.extend_from_slice(environment);
    Fleet::start(3, &variables).await
}

/// What the application was told of this kind, by delivery id; the same id always with the same content.
fn told(backend: &Backend, kind: &str) -> BTreeMap<String, Value> {
    let mut told: BTreeMap<String, Value> = BTreeMap::new();
    for received in backend.received() {
        if received.event["event"] == kind {
            assert!(received.is_signed());
            let id = received.event["delivery"].as_str().unwrap().to_owned();
            assert_eq!(received.headers["carillon-delivery"], id.as_str());
            let before = told.insert(id, received.event.clone());
            assert!(before.is_none_or(|before| before == received.event), "{}", received.event);
        }
    }
    told
}

/// Waits until all of these connections are told to have closed; what was told of each.
async fn closes(backend: &Backend, connections: &BTreeSet<u64>) -> BTreeMap<u64, Value> {
    eventually("all closes are told", DEADLINE, async || {
        let told = told(backend, "close");
        let told: BTreeMap<u64, Value> =
            told.into_values().map(|event| (event["connection"].as_u64().unwrap(), event)).collect();
        if told.keys().copied().collect::<BTreeSet<_>>() == *connections {
            Ok(told)
        } else {
            Err(format!("{} of {}", told.len(), connections.len()))
        }
    })
    .await
}

/// Refuses every `close`, and takes the rest.
fn refusing(event: &Value) -> Reply {
    Reply::Status(if event["event"] == "close" { 500 } else { 204 })
}

async fn ids(node: &Node) -> BTreeSet<u64> {
    node.api().connections().await.unwrap()
}

#[tokio::test]
async fn a_killed_node_s_closes_are_told_by_another_one() {
    let backend = Backend::start(|event| match event["event"].as_str() {
        Some("close") => Reply::Status(503),
        _ => Reply::Json(json!({ "operations": [
            { "do": "join", "group": "g" }, { "do": "bind", "user": 7 }, { "do": "add_close_key", "key": "online" },
        ] })),
    })
    .await;
    let mut fleet = fleet(&backend, &[]).await;
    let dying = fleet.nodes.remove(0);
    // One that has ended, and whose end nobody took before the node was killed.
    let mut ended = Listener::connect(dying.ws(), "/live?channel[]=b").await;
    let ended_id = *ids(&dying).await.first().unwrap();
    let frame = CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
    ended.send(Message::Close(Some(frame))).await;
    eventually("its end was refused", DEADLINE, async || {
        let outcome = r#"carillon_webhook_calls_total{event="close",outcome="status"}"#;
        if metric(&dying, outcome).await > 0 { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;
    let _open = Listener::crowd(dying.ws(), "/there?channel[]=b&channel[]=a&room=5", 300).await;
    let mut all = ids(&dying).await;
    assert_eq!(all.len(), 300);
    all.insert(ended_id);
    let mut dying = dying;
    dying.kill();
    backend.now(|_| Reply::Status(204));

    let told = closes(&backend, &all).await;
    for (connection, event) in &told {
        assert_eq!(event["delivery"], format!("{}-close", event["_id"].as_str().unwrap()));
        assert_eq!(event["_id"].as_str().unwrap()[..16], event["node"].as_str().unwrap()[..16]);
        let was = ["user", "groups", "channels", "close_keys", "profile", "address", "path", "query", "claims"];
        let was: Vec<Value> = was.iter().map(|field| event[*field].clone()).collect();
        let how = [&event["code"], &event["reason"], &event["cause"]];
        if *connection == ended_id {
            assert_eq!(how, [&json!(4001), &json!("enough"), &json!("client")]);
            assert_eq!(event["channels"], json!(["b"]));
        } else {
            assert_eq!(how, [&json!(1006), &json!(""), &json!("node_died")]);
            let query = json!({ "channel": ["b", "a"], "room": "5" });
            let wanted = json!(["7", ["g"], ["a", "b"], ["online"], "channel", "127.0.0.1", "/there", query, null]);
            assert_eq!(Value::from(was), wanted);
        }
    }
}

#[tokio::test]
async fn closes_that_a_stopping_node_could_not_tell_are_told_by_another_one() {
    let backend = Backend::start(refusing).await;
    let mut fleet = fleet(&backend, &[("WEBHOOK_TIMEOUT", "500ms"), ("DRAIN_PERIOD", "100ms")]).await;
    let mut stopping = fleet.nodes.remove(0);
    let _clients = Listener::crowd(stopping.ws(), "/", 50).await;
    let all = ids(&stopping).await;
    stopping.terminate();
    assert!(stopping.ended().await.success());
    stopping.logs("left to the other nodes").await;
    backend.now(|_| Reply::Status(204));
    let told = closes(&backend, &all).await;
    assert!(told.values().all(|event| event["code"] == 1001 && event["cause"] == "going_away"), "{told:?}");
}

#[tokio::test]
async fn a_close_that_is_refused_for_ever_is_not_in_the_way_of_the_others() {
    let backend = Backend::start(refusing).await;
    let mut fleet = fleet(&backend, &[]).await;
    let mut dying = fleet.nodes.remove(0);
    let _clients = Listener::crowd(dying.ws(), "/", 400).await;
    let mut all = ids(&dying).await;
    // In each of the places where they wait there is one of these before others.
    let refused: BTreeSet<u64> = all.iter().copied().take(100).collect();
    all.retain(|id| !refused.contains(id));
    let kept = refused.clone();
    backend.now(move |event| {
        let kept = event["event"] == "close" && kept.contains(&event["connection"].as_u64().unwrap());
        Reply::Status(if kept { 500 } else { 204 })
    });
    dying.kill();
    let taken = || {
        let told = told(&backend, "close").into_values().map(|event| event["connection"].as_u64().unwrap());
        told.filter(|id| all.contains(id)).count()
    };
    eventually("all others are told", DEADLINE, async || same(taken(), all.len())).await;
    backend.now(|_| Reply::Status(204));
    all.extend(refused);
    closes(&backend, &all).await;
}

#[tokio::test]
async fn closes_that_are_taken_leave_nothing_behind() {
    let backend = Backend::silent().await;
    let mut fleet = fleet(&backend, &[]).await;
    let clients = Listener::crowd(fleet.nodes[0].ws(), "/?channel[]=a", 20).await;
    let all = ids(&fleet.nodes[0]).await;
    join_all(clients.into_iter().map(Listener::close)).await;
    closes(&backend, &all).await;
    let mut resp = fleet.resp().await;
    eventually("nothing is kept of them", DEADLINE, async || same(resp.keys("carillon:{n*}:*:untold").await, vec![]))
        .await;
    fleet.nodes.remove(0).kill();
    // Whoever looks after the dead finds none; the next connection's close is the only one that comes.
    let last = Listener::connect(fleet.nodes[0].ws(), "/").await;
    let id = *ids(&fleet.nodes[0]).await.first().unwrap();
    eventually("the dead one is cleaned up", DEADLINE, async || {
        let left = resp.keys("carillon:{n*}:*:node").await.len();
        same(left, 2)
    })
    .await;
    last.close().await;
    let mut with_last = all.clone();
    with_last.insert(id);
    closes(&backend, &with_last).await;
    let times = backend.received().iter().filter(|received| received.event["event"] == "close").count();
    assert_eq!(times, 21, "each was told once");
}

#[tokio::test]
async fn connections_whose_close_was_told_are_closed_where_their_node_comes_back_from_the_dead() {
    let backend = Backend::silent().await;
    let fleet = fleet(&backend, &[]).await;
    let mut client = Listener::connect(fleet.nodes[0].ws(), "/?channel[]=a").await;
    let all = ids(&fleet.nodes[0]).await;
    fleet.nodes[0].freeze();
    let told = closes(&backend, &all).await;
    assert!(told.values().all(|event| event["cause"] == "node_died"), "{told:?}");
    fleet.nodes[0].thaw();
    assert_eq!(client.hears().await, Heard::Closed(1012, "node was taken for dead".to_owned()));
    // It goes on as a node without connections.
    let mut again = Listener::connect(fleet.nodes[0].ws(), "/?channel[]=a").await;
    let new = ids(&fleet.nodes[0]).await;
    assert!(new.len() == 1 && new.is_disjoint(&all), "{new:?} {all:?}");
    // And as one that is alive: the next time that it registers anew nobody is closed.
    let mut resp = fleet.resp().await;
    let lease = format!("{}:", new.first().unwrap() >> 32);
    let leases = resp.run("HKEYS carillon:{nodes}:leases").await.texts();
    let old = leases.into_iter().find(|field| field.starts_with(&lease)).unwrap();
    resp.command(&["HDEL", "carillon:{nodes}:leases", &old]).await;
    eventually("it has registered anew", DEADLINE, async || {
        let leases = resp.run("HKEYS carillon:{nodes}:leases").await.texts();
        let anew = leases.iter().any(|field| field.starts_with(&lease) && *field != old);
        if anew { Ok(()) } else { Err(format!("{leases:?}")) }
    })
    .await;
    assert_eq!(ids(&fleet.nodes[0]).await, new);
    fleet.nodes[0].api().push("a", "hello").await.unwrap();
    again.hears_text("hello").await;
    again.close().await;
    closes(&backend, &all.union(&new).copied().collect()).await;
}

/// The story of each channel as the application was told it, by version.
fn stories(backend: &Backend) -> BTreeMap<String, BTreeMap<u64, String>> {
    let mut stories: BTreeMap<String, BTreeMap<u64, String>> = BTreeMap::new();
    for kind in ["channel_occupied", "channel_vacated"] {
        for (delivery, event) in told(backend, kind) {
            let (channel, version) = (event["channel"].as_str().unwrap(), event["version"].as_u64().unwrap());
            assert_eq!(delivery, format!("{version}:{channel}"));
            let what = kind.strip_prefix("channel_").unwrap().to_owned();
            let before = stories.entry(channel.to_owned()).or_default().insert(version, what);
            assert_eq!(before, None, "{channel} {version}");
        }
    }
    stories
}

async fn story_is(backend: &Backend, channel: &str, wanted: &[&str]) {
    eventually(&format!("the story of {channel}"), DEADLINE, async || {
        let story: Vec<String> = stories(backend).remove(channel).unwrap_or_default().into_values().collect();
        same(story, wanted.iter().map(|what| (*what).to_owned()).collect())
    })
    .await;
}

const CHANNELS: (&str, &str) = ("WEBHOOK_EVENTS", "channel_occupied,channel_vacated");

#[tokio::test]
async fn a_channel_is_occupied_and_vacated_once_in_the_whole_cluster() {
    let backend = Backend::silent().await;
    let mut fleet = fleet(&backend, &[CHANNELS]).await;
    let first = Listener::connect(fleet.nodes[0].ws(), "/?channel[]=news").await;
    let second = Listener::connect(fleet.nodes[1].ws(), "/?channel[]=news&channel[]=other").await;
    story_is(&backend, "news", &["occupied"]).await;
    story_is(&backend, "other", &["occupied"]).await;
    first.close().await;
    second.close().await;
    story_is(&backend, "news", &["occupied", "vacated"]).await;
    story_is(&backend, "other", &["occupied", "vacated"]).await;

    let _dies = Listener::connect(fleet.nodes[2].ws(), "/?channel[]=news").await;
    story_is(&backend, "news", &["occupied", "vacated", "occupied"]).await;
    fleet.nodes.remove(2).kill();
    story_is(&backend, "news", &["occupied", "vacated", "occupied", "vacated"]).await;
    assert!(told(&backend, "close").is_empty() && told(&backend, "open").is_empty(), "only channels were asked for");
}

#[tokio::test]
async fn what_is_told_of_channels_is_for_the_node_to_say_that_decides_it() {
    let (refusing, backend) = (Backend::start(|_| Reply::Status(500)).await, Backend::silent().await);
    let common = [("WEBHOOK_SECRET", SECRET), HASTY];
    // As while the nodes are restarted one by one with more in WEBHOOK_EVENTS.
    let before = [common[0], common[1], ("WEBHOOK_URL", backend.url()), ("WEBHOOK_EVENTS", "close")];
    let mut fleet = Fleet::start(1, &before).await;
    let redis = fleet.redis.url();
    let after = [common[0], common[1], ("WEBHOOK_URL", refusing.url()), CHANNELS, ("REDIS_URL", &redis)];
    fleet.nodes.push(Node::start(&after).await);
    let _client = Listener::connect(fleet.nodes[1].ws(), "/?channel[]=news").await;
    refusing.has("channel_occupied", 1).await;
    fleet.nodes[1].terminate();
    story_is(&backend, "news", &["occupied", "vacated"]).await;
}

#[tokio::test]
async fn a_node_alone_tells_of_its_channels_and_the_answer_may_push() {
    let backend = Backend::start(|event| {
        Reply::Json(json!({ "operations": [
            { "do": "push", "channel": "lobby", "message": format!("{} {}", event["channel"].as_str().unwrap(), event["event"]) },
            { "do": "join", "group": "of nobody" },
        ] }))
    })
    .await;
    let variables = [("WEBHOOK_URL", backend.url()), ("WEBHOOK_SECRET", SECRET), CHANNELS];
    let node = Node::start(&variables).await;
    let mut lobby = Listener::connect(node.ws(), "/?channel[]=lobby").await;
    lobby.hears_text(r#"lobby "channel_occupied""#).await;
    let guest = Listener::connect(node.ws(), "/?channel[]=news").await;
    lobby.hears_text(r#"news "channel_occupied""#).await;
    guest.close().await;
    lobby.hears_text(r#"news "channel_vacated""#).await;
    let wrong = metric(&node, r#"carillon_webhook_operations_total{outcome="wrong"}"#).await;
    assert_eq!(wrong, 3, "an operation on a connection that the event does not name");
}

#[tokio::test]
async fn channels_of_a_profile_s_own_events_are_a_fault() {
    let finished = finish(carillon(&[], &[("WEBHOOK_EVENTS_DEVICE", "channel_vacated")])).await;
    assert_ne!(finished.code, 0);
    assert!(finished.stderr.contains("WEBHOOK_EVENTS_DEVICE"), "{}", finished.stderr);
}
