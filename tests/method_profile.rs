//! Client profile `method`: what a browser sends and hears, row by row, and how long it may be silent.

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::backend::{Backend, Reply};
use support::device::metric;
use support::{Heard, Listener, Node};
use tokio_tungstenite::tungstenite::Message;

const METHOD: (&str, &str) = ("CLIENT_PROFILES", "/=method");

/// The bytes that a text writes in hex.
fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[at * 2..at * 2 + 2], 16).unwrap()).collect()
}

/// Runs the lines of one row with a client of its own.
async fn run(node: &Node, row: &str) {
    let title = row.lines().next().unwrap_or_default();
    let mut client = Listener::connect(node.ws(), "/any/path").await;
    for line in row.lines().filter(|line| !line.starts_with('#')) {
        let (what, rest) = line.split_once(' ').unwrap_or((line, ""));
        match what {
            ">" => client.say(rest).await,
            ">>" => client.send(Message::binary(bytes(rest))).await,
            "<" => assert_eq!(client.hears().await, Heard::Text(rest.to_owned()), "{title}"),
            "x" => match client.hears().await {
                Heard::Closed(code, _) => assert_eq!(code.to_string(), rest, "{title}"),
                other => panic!("{title}: {other:?}"),
            },
            _ => panic!("not a line of a row: {line}"),
        }
    }
}

#[tokio::test]
async fn every_row() {
    let node = Node::start(&[METHOD]).await;
    let rows: Vec<&str> = include_str!("data/method.txt").split("\n\n").collect();
    assert!(rows.len() > 20);
    for row in rows {
        run(&node, row).await;
    }
}

#[tokio::test]
async fn strings_are_escaped_where_that_is_configured() {
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["message"] }))).await;
    let environment =
        [METHOD, ("METHOD_ESCAPE_HTML", "true"), ("WEBHOOK_URL", backend.url()), ("WEBHOOK_EVENTS", "message")];
    let node = Node::start(&environment).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    client.say(r#"{"say":"<b>\"Q&A\"</b>","list":["<",1]}"#).await;
    client.hears().await;
    let Heard::Text(text) = client.hears().await else { panic!("no text") };
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(data["say"], "&lt;b&gt;&quot;Q&amp;A&quot;&lt;/b&gt;");
    assert_eq!(data["list"], json!(["&lt;", 1]));
}

#[tokio::test]
async fn a_client_that_sends_nothing_is_closed_and_pushes_do_not_count() {
    let environment = [("CLIENT_PROFILES", "/live=method,/=channel"), ("IDLE_TIMEOUT_METHOD", "2s")];
    let node = Node::start(&environment).await;
    let mut silent = Listener::connect(node.ws(), "/live?channel[]=news").await;
    let mut other = Listener::connect(node.ws(), "/?channel[]=news").await;
    let mut lively = Listener::connect(node.ws(), "/live").await;
    let (mut ticks, begun) = (tokio::time::interval(Duration::from_millis(200)), tokio::time::Instant::now());
    let closed = loop {
        tokio::select! {
            heard = silent.heard() => match heard {
                Heard::Text(text) => assert_eq!(text, "pushed"),
                closed => break closed,
            },
            _ = ticks.tick() => {
                node.api().push("news", "pushed").await.unwrap();
                lively.say("2").await;
                lively.hears_text("3").await;
            }
        }
        assert!(begun.elapsed() < support::DEADLINE, "it is not closed");
    };
    assert_eq!(closed, Heard::Closed(4010, "idle timeout".to_owned()));
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert!(!lively.is_gone().await && !other.is_gone().await);
    assert_eq!(metric(&node, r#"carillon_connections_closed_total{reason="idle"}"#).await, 1);
}

#[tokio::test]
async fn a_token_is_needed_once_there_is_a_key_and_says_whose_messages_are() {
    // The token that the contract gives for this key.
    const KEY: &str = "kfw001-websocket";
    const TOKEN: &str =
        "bTF2BGJT*b3mGOqrYAI7qEm72yKdkkH*SQGCe0*UHexy8S6Wj3M0R89HVUWxv3jk*c9jf8N85tUzkcJvj5QZPwilZcPwOXMV:JPCNAdrrA4_";
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["message"] }))).await;
    let environment = [METHOD, ("AUTH_KEY", KEY), ("WEBHOOK_URL", backend.url())];
    let node = Node::start(&environment).await;
    for target in ["/live", "/live?auth=", "/live?auth=forged"] {
        let refused = Listener::try_connect(node.ws(), target).await.err().unwrap();
        assert_eq!((refused.status, refused.body.as_str()), (403, ""), "{target}");
        assert!(refused.headers.contains(&("message".to_owned(), "error auth".to_owned())), "{target}");
    }
    let mut client = Listener::connect(node.ws(), &format!("/live?auth={TOKEN}")).await;
    client.say(r#"{"method":"a.b.c","code":"forged","auth":null,"fd":0,"x":1}"#).await;
    client.hears().await;
    let Heard::Text(text) = client.hears().await else { panic!("no text") };
    let claims = json!({ "id": "1", "type": "wall", "code": "room1", "nickname": "n", "ctime": 1_503_650_000 });
    let event = backend.has("message", 1).await.remove(0);
    let fd = event["connection"].clone();
    let data: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(data, json!({ "method": "a.b.c", "code": "room1", "auth": claims, "fd": fd, "x": 1 }));
    assert_eq!((&event["claims"], &event["user"], &event["groups"]), (&claims, &json!("1"), &json!(["room1"])));
    assert_eq!((&event["path"], &event["query"]), (&json!("/live"), &Value::Null));
    assert_eq!(event["call"], json!({ "module": "A", "controller": "B", "method": "c" }));
}
