//! Client profile `center`: what a browser sees, and what the directory keeps of it.

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashSet;
use support::api::Publisher;
use support::raw::{Raw, masked};
use support::redis::RedisServer;
use support::{Heard, Listener, Node};
use tokio_tungstenite::tungstenite::Message;

const CENTER: (&str, &str) = ("CLIENT_PROFILES", "/=center");

/// The id in a text that has to be `{"cmd":"…","_id":"…"}`, byte for byte.
fn id_in(heard: &Heard, command: &str) -> String {
    let Heard::Text(text) = heard else { panic!("not a text: {heard:?}") };
    let id = text.strip_prefix(&format!(r#"{{"cmd":"{command}","_id":""#)).and_then(|rest| rest.strip_suffix(r#""}"#));
    let id = id.unwrap_or_else(|| panic!("not {command}: {text}"));
    assert!(id.len() == 32 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    id.to_owned()
}

/// A client that was told its id.
async fn opened(node: &Node, target: &str) -> (Listener, String) {
    let mut listener = Listener::connect(node.ws(), target).await;
    let id = id_in(&listener.hears().await, "open");
    (listener, id)
}

#[tokio::test]
async fn the_id_is_told_on_open_before_any_push() {
    let node = Node::start(&[CENTER]).await;
    let mut publisher = Publisher::connect(node.http()).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let pushing = tokio::spawn(async move {
        let mut count = 0;
        while stopped.try_recv().is_err() {
            publisher.push("news", "pushed").await.unwrap();
            count += 1;
        }
        count
    });
    let clients = join_all((0..50).map(|_| opened(&node, "/?channel[]=news"))).await;
    for (mut client, _) in clients {
        client.hears_text("pushed").await;
    }
    stop.send(()).unwrap();
    assert!(pushing.await.unwrap() > 0);
}

#[tokio::test]
async fn ids_differ_between_connections_and_between_lives_of_a_node() {
    let mut ids = HashSet::new();
    for _ in 0..2 {
        let node = Node::start(&[CENTER]).await;
        for (_client, id) in join_all((0..3).map(|_| opened(&node, "/"))).await {
            assert!(ids.insert(id), "an id is given twice: {ids:?}");
        }
    }
    assert_eq!(ids.len(), 6);
}

#[tokio::test]
async fn a_ping_in_text_or_binary_is_answered_in_text_and_all_else_is_ignored() {
    let node = Node::start(&[CENTER]).await;
    let (mut client, id) = opened(&node, "/?channel[]=news").await;
    for ping in [Message::text("ping"), Message::binary(&b"ping"[..])] {
        for other in ["", "hello", "PING", " ping", "ping\n", "{\"cmd\":\"ping\"}"] {
            client.say(other).await;
            client.send(Message::binary(other.as_bytes().to_vec())).await;
        }
        client.send(ping).await;
        assert_eq!(id_in(&client.hears().await, "pong"), id);
    }
    node.api().push("news", "hello").await.unwrap();
    client.hears_text("hello").await;
}

#[tokio::test]
async fn many_pings_at_once_have_an_answer_each() {
    let node = Node::start(&[CENTER]).await;
    let mut raw = Raw::upgraded(node.ws(), "/").await;
    let (_, open) = raw.frame().await;
    let pong = String::from_utf8(open).unwrap().replace("open", "pong").into_bytes();
    // One of them in two fragments.
    let fragments = [masked(0x01, b"pi"), masked(0x80, b"ng")].concat();
    raw.send(&[masked(0x81, b"ping").repeat(500), fragments, masked(0x82, b"ping").repeat(500)].concat()).await;
    for _ in 0..1001 {
        assert_eq!(raw.frame().await, (0x81, pong.clone()));
    }
}

#[tokio::test]
async fn a_close_is_answered_with_its_code() {
    let node = Node::start(&[CENTER]).await;
    for code in [1000_u16, 1001, 3000, 4999] {
        let mut raw = Raw::upgraded(node.ws(), "/").await;
        raw.frame().await;
        raw.send(&masked(0x88, &code.to_be_bytes())).await;
        assert_eq!(raw.close_code().await, Some((code, String::new())));
        assert_eq!(raw.rest().await, b"");
    }
}

#[tokio::test]
async fn one_node_has_several_profiles_by_path() {
    let node = Node::start(&[("CLIENT_PROFILES", "/app=center,/app/raw=channel,/live=channel")]).await;
    for target in ["/app?channel[]=news", "/app/?channel[]=news", "/app/x?channel[]=news"] {
        let (mut client, _) = opened(&node, target).await;
        node.api().push("news", target).await.unwrap();
        client.hears_text(target).await;
    }
    for target in ["/app/raw", "/app/raw/x", "/live"] {
        let mut client = Listener::connect(node.ws(), target).await;
        client.say("ping").await;
        client.hears_text("ping").await;
    }
    for target in ["/", "/apple", "/lively"] {
        let refused = Listener::try_connect(node.ws(), target).await.err().unwrap();
        assert_eq!(refused.status, 404, "{target}");
    }
}

#[tokio::test]
async fn the_directory_has_the_query_without_tokens_in_either_profile() {
    let redis = RedisServer::start().await;
    let profiles = ("CLIENT_PROFILES", "/app=center,/=channel");
    let node = Node::start(&[("REDIS_URL", &redis.url()), ("HTTP_PARAM", "my-key"), profiles]).await;
    let secrets = "token=hunter2&auth[]=hunter2&my-key=hunter2";
    let (_center, _) = opened(&node, &format!("/app?user=5&room[]=%D1%97&{secrets}&x[k]=a+b")).await;
    let _channel = Listener::connect(node.ws(), &format!("/?channel[]=news&{secrets}")).await;
    let _nothing_left = Listener::connect(node.ws(), &format!("/?{secrets}")).await;
    let _too_long = Listener::connect(node.ws(), &format!("/?a={}", "x".repeat(5000))).await;

    let mut queries = Vec::new();
    for key in redis.cli(&["--scan", "--pattern", "*:connections"]).await.lines() {
        for details in redis.cli(&["HVALS", key]).await.lines() {
            assert!(!details.contains("hunter2"), "{details}");
            let details: Value = serde_json::from_str(details).unwrap();
            assert_eq!(details["address"], "127.0.0.1");
            queries.push((details["profile"].as_str().unwrap().to_owned(), details.get("query").cloned()));
        }
    }
    queries.sort_by_key(|(profile, query)| (profile.clone(), query.is_none()));
    let channel = || "channel".to_owned();
    let wanted = [
        ("center".to_owned(), Some(json!({ "user": "5", "room": ["ї"], "x": { "k": "a b" } }))),
        (channel(), Some(json!({ "channel": ["news"] }))),
        (channel(), None),
        (channel(), None),
    ];
    assert_eq!(queries, wanted);
}
