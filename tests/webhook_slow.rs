//! An application that takes its time: what waits for it, what it costs, and who goes on meanwhile.

mod support;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::json;
use support::backend::{Backend, Reply};
use support::device::metric;
use support::eventually::same;
use support::raw::{Raw, handshake, masked};
use support::{DEADLINE, Heard, Listener, Node, eventually};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::Frame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};

const RECEIVED: &str = r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#;

async fn node(backend: &Backend, environment: &[(&str, &str)]) -> Node {
    let mut variables = vec![("WEBHOOK_URL", backend.url()), ("WEBHOOK_TIMEOUT", "300s")];
    variables.push(("CLIENT_PROFILES", "/live=method,/=channel"));
    variables.extend_from_slice(environment);
    Node::start(&variables).await
}

async fn calls(node: &Node, event: &str, outcome: &str) -> u64 {
    metric(node, &format!(r#"carillon_webhook_calls_total{{event="{event}",outcome="{outcome}"}}"#)).await
}

/// How many connections open at once.
const CROWD: usize = 3000;

/// How many pushes are sent meanwhile.
const PUSHES: usize = 300;

#[tokio::test]
async fn thousands_that_open_at_once_keep_no_push_waiting() {
    let backend = Backend::silent().await;
    let node = node(&backend, &[]).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    backend.now(|event| if event["event"] == "open" { Reply::Held } else { Reply::Status(204) });
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(handshake("/?channel[]=crowd").as_bytes()).await;
        crowd.push(raw);
    }
    let counted = async || metric(&node, "carillon_connections_open").await as usize;
    eventually("all of them are asked about, or wait for that", DEADLINE, async || match counted().await {
        open if open == CROWD + 1 => Ok(()),
        open => Err(open),
    })
    .await;
    for number in 0..PUSHES {
        node.api().push("news", &number.to_string()).await.unwrap();
        listener.hears_text(&number.to_string()).await;
    }
    // All of that came while nobody of the crowd was let in.
    assert_eq!((calls(&node, "open", "answered").await, backend.received().len()), (1, 1 + 64));
    assert_eq!(metric(&node, "carillon_webhook_in_flight").await, 64);

    node.api().push("crowd", "to all of you").await.unwrap();
    backend.now(|_| Reply::Json(json!({ "reply": "welcome" })));
    backend.release();
    let mut greeted = crowd
        .into_iter()
        .map(|mut raw| async move {
            let head = raw.until(b"\r\n\r\n").await;
            (String::from_utf8_lossy(&head[..12]).into_owned(), raw.frame().await)
        })
        .collect::<FuturesUnordered<_>>();
    let mut count = 0;
    while let Some((head, (_, first))) = greeted.next().await {
        assert_eq!((head.as_str(), first.as_slice()), ("HTTP/1.1 101", &b"to all of you"[..]));
        count += 1;
    }
    assert_eq!(count, CROWD);
}

#[tokio::test]
async fn a_connection_that_finds_no_room_is_refused_and_may_come_again() {
    let backend = Backend::start(|_| Reply::Held).await;
    let environment = [("WEBHOOK_CONCURRENCY", "1"), ("WEBHOOK_QUEUE", "64KiB"), ("WEBHOOK_EVENTS", "open")];
    let node = node(&backend, &environment).await;
    // The connect query is told; this one's event is a good deal of the room.
    let long = format!("/?q={}", "x".repeat(4000));
    let mut waiting = Vec::new();
    let refused = loop {
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(handshake(&long).as_bytes()).await;
        waiting.push(raw);
        assert!(waiting.len() < 100, "all of them find room");
        eventually("it is asked about", DEADLINE, async || {
            let known = metric(&node, "carillon_connections_open").await as usize;
            let refused = calls(&node, "open", "overflow").await as usize;
            if known + refused == waiting.len() { Ok(()) } else { Err(format!("{known} and {refused}")) }
        })
        .await;
        if calls(&node, "open", "overflow").await > 0 {
            break waiting.pop().unwrap().answer().await.unwrap();
        }
    };
    assert_eq!((refused.status, refused.header("retry-after")), (503, Some("2")));
    assert_eq!(refused.text(), "application can't be asked: too many events wait for the application\n");
    assert!(waiting.len() >= 10, "{}", waiting.len());
    assert_eq!(metric(&node, r#"carillon_connections_refused_total{reason="no_answer"}"#).await, 1);
}

/// Connections that send a read's worth of small messages.
const FLOODS: usize = 100;

#[tokio::test]
async fn what_waits_for_a_slow_application_takes_no_more_memory_than_its_bytes() {
    let backend = Backend::start(|_| Reply::Held).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "message")]).await;
    let mut clients = Vec::new();
    for _ in 0..FLOODS {
        clients.push(Raw::upgraded(node.ws(), "/live").await);
    }
    let flood = masked(0x81, b"[]").repeat(8000);
    let before = node.resident();
    for client in &mut clients {
        client.send(&flood).await;
        // The acknowledgement of the first.
        client.frame().await;
    }
    let sent = (FLOODS * flood.len()) as u64;
    let took = node.resident().saturating_sub(before);
    assert!(took < 3 * sent, "{took} bytes for {sent}");
}

#[tokio::test]
async fn messages_of_one_read_are_told_one_after_the_other_and_what_follows_them_counts() {
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["delivery"] }))).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "message")]).await;
    let mut client = Raw::upgraded(node.ws(), "/live").await;
    let all =
        [masked(0x81, b"2"), masked(0x81, b"{}"), masked(0x89, b"ping"), masked(0x01, b"{\"a\""), masked(0x81, b"2")];
    // A text within a message is a violation, which comes last.
    client.send(&all.concat()).await;
    let mut heard = Vec::new();
    for _ in 0..5 {
        let (first, payload) = client.frame().await;
        heard.push((first, payload.escape_ascii().to_string()));
    }
    assert_eq!(heard[0], (0x81, "3".to_owned()));
    assert_eq!(heard[1], (0x81, RECEIVED.as_bytes().escape_ascii().to_string()));
    assert!(heard[2].1.ends_with("-1"), "{heard:?}");
    assert_eq!(heard[3], (0x8a, "ping".to_owned()));
    assert_eq!(heard[4], (0x88, "\\x03\\xeamessage begins within another".to_owned()));
}

#[tokio::test]
async fn whoever_goes_while_its_message_waits_is_told_of_behind_it() {
    let backend = Backend::silent().await;
    let node = node(&backend, &[]).await;
    let (mut closed, mut lost) =
        (Listener::connect(node.ws(), "/live?channel[]=a").await, Listener::connect(node.ws(), "/live").await);
    let opened = backend.has("open", 2).await;
    backend.now(|event| if event["event"] == "message" { Reply::Held } else { Reply::Status(204) });
    for client in [&mut closed, &mut lost] {
        client.say("{}").await;
        client.hears_text(RECEIVED).await;
    }
    backend.has("message", 2).await;
    drop(lost);
    // A backend that closes it does not wait for the application.
    let id = opened.iter().find(|event| event["channels"] == json!(["a"])).unwrap()["connection"].to_string();
    node.api().response(&format!("action=close&to=connection&connection={id}")).await.unwrap();
    assert!(matches!(closed.hears().await, Heard::Closed(..)));
    assert_eq!(backend.received().len(), 4, "nobody is told of the end before the message was answered");
    backend
        .now(|_| Reply::Json(json!({ "reply": "too late", "operations": [{ "do": "push", "message": "as well" }] })));
    backend.release();
    let mut ends: Vec<_> = backend.has("close", 2).await.iter().map(|event| event["cause"].to_string()).collect();
    ends.sort();
    assert_eq!(ends, [r#""api""#, r#""lost""#]);
    backend.now(|_| Reply::Json(json!({ "reply": "welcome" })));
    Listener::connect(node.ws(), "/live").await.hears_text("welcome").await;
}

#[tokio::test]
async fn a_client_that_waits_for_its_answer_is_not_silent() {
    let backend = Backend::start(|event| match event["path"].as_str() {
        Some("/live/slow") => Reply::Held,
        _ => Reply::Status(204),
    })
    .await;
    let environment = [("WEBHOOK_EVENTS", "message"), ("IDLE_TIMEOUT_METHOD", "1s"), ("PING_INTERVAL", "500ms")];
    let node = node(&backend, &environment).await;
    let mut waiting = Listener::connect(node.ws(), "/live/slow").await;
    waiting.say("{}").await;
    waiting.hears_text(RECEIVED).await;
    backend.has("message", 1).await;
    // Both limits pass for others: one is silent, one answers no ping.
    let mut silent = Listener::connect(node.ws(), "/live").await;
    assert_eq!(silent.hears().await, Heard::Closed(4010, "idle timeout".to_owned()));
    let mut deaf = Raw::upgraded(node.ws(), "/").await;
    deaf.rest().await;
    let timeouts = r#"carillon_connections_closed_total{reason="ping_timeout"}"#;
    eventually("it was deaf", DEADLINE, async || same(metric(&node, timeouts).await, 1)).await;
    backend.now(|_| Reply::Json(json!({ "reply": "at last" })));
    backend.release();
    waiting.say("{}").await;
    waiting.hears_text(RECEIVED).await;
    waiting.hears_text("at last").await;
}

#[tokio::test]
async fn a_message_that_comes_in_parts_is_no_silence_and_pings_are() {
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["message"] }))).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "message"), ("IDLE_TIMEOUT_METHOD", "3s")]).await;
    let part = |text: &str, opcode, fin| Message::Frame(Frame::message(text.to_owned(), OpCode::Data(opcode), fin));
    let mut slow = Listener::connect(node.ws(), "/live").await;
    slow.send(part("{\"x\":\"", Data::Text, false)).await;
    let mut pinging = Listener::connect(node.ws(), "/live").await;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(100));
    let closed = loop {
        tokio::select! {
            heard = pinging.heard() => break heard,
            _ = ticks.tick() => {
                slow.send(part("x", Data::Continue, false)).await;
                pinging.send(Message::Ping("here".into())).await;
            }
        }
    };
    assert_eq!(closed, Heard::Closed(4010, "idle timeout".to_owned()));
    slow.send(part("\"}", Data::Continue, true)).await;
    slow.hears_text(RECEIVED).await;
    let Heard::Text(text) = slow.hears().await else { panic!("no answer") };
    assert!(text.starts_with(r#"{"x":"xxx"#), "{text}");
}
