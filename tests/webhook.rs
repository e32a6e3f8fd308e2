//! An application behind HTTP: what it is told, what it may answer, and what happens when it doesn't.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeMap;
use support::backend::{Backend, Reply, SECRET};
use support::device::metric;
use support::redis::free_port;
use support::{DEADLINE, Heard, Listener, Node, eventually};
use tokio_tungstenite::tungstenite::Message;

/// A node whose clients call methods, with an application and these further variables.
async fn node(backend: &Backend, environment: &[(&str, &str)]) -> Node {
    let mut variables = vec![("WEBHOOK_URL", backend.url()), ("WEBHOOK_SECRET", SECRET)];
    variables.push(("CLIENT_PROFILES", "/live=method,/app=center,/=channel"));
    variables.extend_from_slice(environment);
    Node::start(&variables).await
}

/// What the profile `method` says of a message that nobody could be told.
const FAILED: &str = r#"{"status":500,"event":"controllerError","info":"程序错误"}"#;

/// Calls a method and gives what comes after the acknowledgement.
async fn call(client: &mut Listener) -> Heard {
    client.say(r#"{"method":"a"}"#).await;
    client.hears_text(r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#).await;
    client.hears().await
}

async fn calls(node: &Node, event: &str, outcome: &str) -> u64 {
    metric(node, &format!(r#"carillon_webhook_calls_total{{event="{event}",outcome="{outcome}"}}"#)).await
}

#[tokio::test]
async fn events_are_signed_and_tell_of_their_connection() {
    let backend = Backend::start(|event| match event["event"].as_str() {
        Some("open") => Reply::Json(json!({ "reply": "welcome" })),
        Some("message") => Reply::Json(json!({ "reply": [event["message"], { "n": 1 }] })),
        _ => Reply::Status(204),
    })
    .await;
    let node = node(&backend, &[]).await;
    let mut client = Listener::connect(node.ws(), "/some/where?channel[]=b&channel[]=a&room=5&token=secret").await;
    client.hears_text("welcome").await;
    client.say("hi").await;
    client.hears_text("hi").await;
    client.hears_text(r#"{"n":1}"#).await;
    client.send(Message::binary(&b"\xff\x00"[..])).await;
    client.hears_text("/wA=").await;
    client.hears_text(r#"{"n":1}"#).await;
    client.close().await;
    backend.has("close", 1).await;

    let received = backend.received();
    assert!(received.iter().all(|received| received.is_signed()));
    let connection = received[0].event["connection"].as_u64().unwrap();
    let id = received[0].event["_id"].as_str().unwrap().to_owned();
    let places = ["open", "1", "2", "close"];
    for (received, (kind, place)) in
        received.iter().zip(["open", "message", "message", "close"].into_iter().zip(places))
    {
        let mut event = received.event.clone();
        assert_eq!(received.headers["carillon-delivery"], format!("{id}-{place}").as_str());
        assert_eq!(event["delivery"], format!("{id}-{place}"));
        assert_eq!(event["node"].as_str().unwrap()[..16], id[..16]);
        let event = event.as_object_mut().unwrap();
        event.retain(|field, _| !["delivery", "node", "time", "message", "encoding"].contains(&field.as_str()));
        let mut wanted = json!({
            "event": kind, "connection": connection, "_id": id, "profile": "channel", "user": null, "groups": [],
            "channels": ["a", "b"], "close_keys": [], "close_controllers": [], "claims": null, "address": "127.0.0.1",
            "path": "/some/where", "query": { "channel": ["b", "a"], "room": "5" },
        });
        if kind == "close" {
            wanted["code"] = json!(1005);
            wanted["reason"] = json!("");
            wanted["cause"] = json!("client");
        }
        assert_eq!(Value::Object(event.clone()), wanted);
    }
    let said = |at: usize| (received[at].event["message"].clone(), received[at].event["encoding"].clone());
    assert_eq!(said(1), (json!("hi"), json!("text")));
    assert_eq!(said(2), (json!("/wA="), json!("base64")));
}

#[tokio::test]
async fn events_of_a_connection_come_in_order_and_one_at_a_time() {
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["message"] }))).await;
    let node = node(&backend, &[("WEBHOOK_CONCURRENCY", "3")]).await;
    let clients = Listener::crowd(node.ws(), "/", 8).await;
    let talks = clients.into_iter().map(|mut client| async move {
        for number in 0..30 {
            client.say(&number.to_string()).await;
        }
        for number in 0..30 {
            client.hears_text(&number.to_string()).await;
        }
        client.close().await;
    });
    futures_util::future::join_all(talks).await;
    backend.has("close", 8).await;

    let mut lives: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for event in backend.received().into_iter().map(|received| received.event) {
        let what = event["message"].as_str().or(event["event"].as_str()).unwrap().to_owned();
        lives.entry(event["connection"].as_u64().unwrap()).or_default().push(what);
    }
    let mut wanted = vec!["open".to_owned()];
    wanted.extend((0..30).map(|number| number.to_string()));
    wanted.push("close".to_owned());
    assert_eq!(lives.len(), 8);
    assert!(lives.values().all(|life| *life == wanted), "{lives:?}");
}

#[tokio::test]
async fn open_may_refuse_greet_and_put_into_audiences() {
    let backend = Backend::start(|event| match event["query"]["who"].as_str() {
        Some("nobody") => Reply::Json(json!({ "accept": false })),
        Some("poor") => Reply::Json(json!({ "accept": false, "status": 402, "message": "pay first" })),
        Some("odd") => Reply::Json(json!({ "accept": false, "status": 200 })),
        Some("brief") => Reply::Json(json!({ "reply": "bye", "operations": [{ "do": "close", "code": 4001, "reason": "enough" }] })),
        _ => Reply::Json(json!({
            "reply": "hello",
            "operations": [{ "do": "subscribe", "channel": "news" }, { "do": "bind", "user": 7 }, { "do": "join", "group": ["g", "h"] }],
        })),
    })
    .await;
    let node = node(&backend, &[]).await;
    for (who, status, text) in [
        ("nobody", 403, "connection is refused\n"),
        ("poor", 402, "pay first\n"),
        ("odd", 403, "connection is refused\n"),
    ] {
        let refused = Listener::try_connect(node.ws(), &format!("/?who={who}")).await.err().unwrap();
        assert_eq!((refused.status, refused.body.as_str()), (status, text));
    }
    let mut brief = Listener::connect(node.ws(), "/?who=brief").await;
    brief.hears_text("bye").await;
    assert_eq!(brief.hears().await, Heard::Closed(4001, "enough".to_owned()));

    let mut client = Listener::connect(node.ws(), "/").await;
    client.hears_text("hello").await;
    node.api().push("news", "pushed").await.unwrap();
    client.hears_text("pushed").await;
    client.close().await;
    let mut closes = backend.has("close", 2).await;
    closes.sort_by_key(|event| event["cause"].as_str().map(str::to_owned));
    let [by_api, by_client] = &closes[..] else { panic!("a refused connection has no end: {closes:?}") };
    assert_eq!((&by_api["code"], &by_api["reason"], &by_api["cause"]), (&json!(4001), &json!("enough"), &json!("api")));
    let audiences = (&by_client["user"], &by_client["groups"], &by_client["channels"]);
    assert_eq!(audiences, (&json!("7"), &json!(["g", "h"]), &json!(["news"])));
}

#[tokio::test]
async fn operations_are_carried_out_in_order_and_wrong_ones_left_out() {
    let backend = Backend::start(|event| match event["message"].as_str() {
        Some(text) if text.starts_with('[') => {
            let operations: Value = serde_json::from_str(text).unwrap();
            Reply::Json(json!({ "operations": operations, "reply": "done" }))
        }
        _ => Reply::Status(204),
    })
    .await;
    let node = node(&backend, &[]).await;
    let (mut one, mut other) = (Listener::connect(node.ws(), "/").await, Listener::connect(node.ws(), "/").await);
    let opened = backend.has("open", 2).await;
    let other_id = opened[1]["connection"].clone();
    let do_all = json!([
        { "do": "dance" },
        { "do": "push", "channel": "nobody's", "user": "either", "message": "m" },
        { "do": "bind", "connection": other_id, "user": "u" },
        { "do": "join", "connection": opened[1]["_id"], "group": "g" },
        { "do": "subscribe", "group": "not a channel" },
        { "do": "subscribe", "connection": other_id, "channel": "c" },
        { "do": "push", "user": "u", "message": "to the user" },
        { "do": "push", "group": "g", "message": "to the group" },
        { "do": "push", "channel": "c", "message": { "to": "the channel" } },
        { "do": "push", "connection": other_id, "message": "to the connection" },
        { "do": "leave", "connection": other_id, "group": "g" },
        { "do": "push", "group": "g", "message": "nobody hears this" },
        { "do": "unbind", "connection": other_id },
        { "do": "push", "user": "u", "message": "nor this" },
        { "do": "push", "all": true, "message": "to all" },
        { "do": "push", "message": "to myself" },
        { "do": "join", "connection": 999, "group": "g" },
        { "do": "close", "connection": other_id, "code": 4002, "reason": "go" },
    ]);
    one.say(&do_all.to_string()).await;
    for text in ["to the user", "to the group", r#"{"to":"the channel"}"#, "to the connection", "to all"] {
        other.hears_text(text).await;
    }
    assert_eq!(other.hears().await, Heard::Closed(4002, "go".to_owned()));
    for text in ["to all", "to myself", "done"] {
        one.hears_text(text).await;
    }
    for (outcome, count) in [("wrong", 3), ("nobody", 1), ("done", 14), ("failed", 0)] {
        let series = format!(r#"carillon_webhook_operations_total{{outcome="{outcome}"}}"#);
        assert_eq!(metric(&node, &series).await, count, "{outcome}");
    }
    let closed = backend.has("close", 1).await;
    assert_eq!((&closed[0]["connection"], &closed[0]["code"]), (&other_id, &json!(4002)));
}

#[tokio::test]
async fn close_keys_and_controllers_are_told_at_the_end() {
    let backend = Backend::start(|event| match event["message"].as_str() {
        Some("add") => Reply::Json(json!({ "reply": "ok", "operations": [
            { "do": "add_close_key", "key": "ROOM_1" },
            { "do": "add_close_key", "key": "ROOM_2" },
            { "do": "add_close_controller", "controller": "Live.User" },
            { "do": "add_close_controller", "controller": "Live.Wall" },
        ] })),
        Some("remove") => Reply::Json(json!({ "reply": "ok", "operations": [
            { "do": "remove_close_key", "key": "ROOM_1" },
            { "do": "remove_close_controller", "controller": "Live.Wall" },
        ] })),
        _ => Reply::Status(204),
    })
    .await;
    let node = node(&backend, &[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for text in ["add", "remove"] {
        client.say(text).await;
        client.hears_text("ok").await;
    }
    drop(client);
    let closed = &backend.has("close", 1).await[0];
    assert_eq!((&closed["close_keys"], &closed["close_controllers"]), (&json!(["ROOM_2"]), &json!(["Live.User"])));
    assert_eq!((&closed["groups"], &closed["code"], &closed["cause"]), (&json!([]), &json!(1006), &json!("lost")));
}

#[tokio::test]
async fn an_application_that_fails_is_a_reply_that_says_so_and_pushes_go_on() {
    let backend = Backend::silent().await;
    let node = node(&backend, &[("WEBHOOK_TIMEOUT", "300ms"), ("WEBHOOK_EVENTS", "message")]).await;
    let mut client = Listener::connect(node.ws(), "/live?channel[]=news").await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;

    backend.now(|_| Reply::Status(500));
    assert_eq!(call(&mut client).await, Heard::Text(FAILED.to_owned()));
    backend.now(|_| Reply::Raw(b"<html>oops</html>".to_vec()));
    assert_eq!(call(&mut client).await, Heard::Text(FAILED.to_owned()));
    backend.now(|_| Reply::Raw(vec![b'['; 10 << 20]));
    assert_eq!(call(&mut client).await, Heard::Text(FAILED.to_owned()));
    backend.now(|_| Reply::Held);
    client.say(r#"{"method":"a"}"#).await;
    backend.has("message", 4).await;
    node.api().push("news", "meanwhile").await.unwrap();
    listener.hears_text("meanwhile").await;
    let mut heard = Vec::new();
    while heard.last() != Some(&Heard::Text(FAILED.to_owned())) {
        heard.push(client.hears().await);
    }
    assert!(heard.contains(&Heard::Text("meanwhile".to_owned())));
    for outcome in ["status", "garbage", "too_long", "timeout"] {
        assert_eq!(calls(&node, "message", outcome).await, 1, "{outcome}");
    }

    backend.release();
    backend.now(|_| Reply::Json(json!({ "reply": "back" })));
    assert_eq!(call(&mut client).await, Heard::Text("back".to_owned()));
}

#[tokio::test]
async fn an_application_that_is_not_there_is_one_that_fails() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let variables = [("WEBHOOK_URL", url.as_str()), ("WEBHOOK_EVENTS", "message"), ("CLIENT_PROFILES", "/=method")];
    let node = Node::start(&variables).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    assert_eq!(call(&mut client).await, Heard::Text(FAILED.to_owned()));
    assert_eq!(calls(&node, "message", "unreachable").await, 1);
}

#[tokio::test]
async fn a_connection_may_not_open_unasked_unless_that_is_configured() {
    let backend =
        Backend::start(|event| if event["event"] == "open" { Reply::Status(500) } else { Reply::Status(204) }).await;
    let strict = node(&backend, &[]).await;
    let refused = Listener::try_connect(strict.ws(), "/").await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(refused.body, "application can't be asked: application answered with status 500\n");
    assert!(refused.headers.contains(&("retry-after".to_owned(), "2".to_owned())));
    // It may have taken it for open.
    assert_eq!(backend.has("close", 1).await[0]["cause"], "handshake");

    let lenient = node(&backend, &[("WEBHOOK_OPEN_REQUIRED", "false")]).await;
    Listener::connect(lenient.ws(), "/").await.close().await;
}

#[tokio::test]
async fn each_profile_has_its_own_events() {
    let backend = Backend::start(|event| Reply::Json(json!({ "reply": event["event"] }))).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "none"), ("WEBHOOK_EVENTS_METHOD", "message")]).await;
    let mut channel = Listener::connect(node.ws(), "/").await;
    channel.say("echo").await;
    channel.hears_text("echo").await;
    let mut method = Listener::connect(node.ws(), "/live").await;
    assert_eq!(call(&mut method).await, Heard::Text("message".to_owned()));
    let received = backend.received();
    assert_eq!(received.len(), 1);
    let event = &received[0].event;
    assert_eq!(event["call"], json!({ "module": "Index", "controller": "Index", "method": "a" }));
    let data: Value = serde_json::from_str(event["message"].as_str().unwrap()).unwrap();
    assert_eq!(data, json!({ "method": "a", "code": null, "auth": null, "fd": event["connection"] }));
}

#[tokio::test]
async fn a_close_is_sent_again_with_the_same_id_until_it_is_taken() {
    let backend = Backend::start(|_| Reply::Status(503)).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "close")]).await;
    let client = Listener::connect(node.ws(), "/").await;
    client.close().await;
    backend.has("close", 3).await;
    backend.now(|_| Reply::Status(204));
    eventually("it is taken", DEADLINE, async || match metric(&node, "carillon_webhook_closes_waiting").await {
        0 => Ok(()),
        waiting => Err(waiting),
    })
    .await;
    let received = backend.received();
    let first = &received[0].raw;
    assert!(received.iter().all(|again| again.is_signed() && again.raw == *first));
    assert_eq!(calls(&node, "close", "answered").await, 1);
    assert_eq!(calls(&node, "close", "status").await, received.len() as u64 - 1);
}

#[tokio::test]
async fn a_close_that_grows_too_old_is_given_up_and_counted() {
    let backend = Backend::start(|_| Reply::Status(503)).await;
    let node = node(&backend, &[("WEBHOOK_EVENTS", "close"), ("WEBHOOK_CLOSE_MAX_AGE", "1s")]).await;
    Listener::connect(node.ws(), "/").await.close().await;
    eventually("it is given up", DEADLINE, async || {
        match metric(&node, r#"carillon_webhook_closes_given_up_total{reason="age"}"#).await {
            1 => Ok(()),
            count => Err(count),
        }
    })
    .await;
    node.logs("close event given up").await;
}

#[tokio::test]
async fn messages_that_find_no_room_fail_at_once() {
    let backend = Backend::start(|_| Reply::Held).await;
    let node = node(
        &backend,
        &[
            ("WEBHOOK_EVENTS", "message"),
            ("WEBHOOK_CONCURRENCY", "1"),
            ("WEBHOOK_QUEUE", "64KiB"),
            ("WEBHOOK_TIMEOUT", "60s"),
        ],
    )
    .await;
    let long = format!(r#"{{"method":"a","x":"{}"}}"#, "x".repeat(50_000));
    let (mut first, mut second) =
        (Listener::connect(node.ws(), "/live").await, Listener::connect(node.ws(), "/live").await);
    first.say(&long).await;
    backend.has("message", 1).await;
    second.say(&long).await;
    second.hears().await;
    second.hears_text(FAILED).await;
    assert_eq!(calls(&node, "message", "overflow").await, 1);
    backend.release();
}

#[tokio::test]
async fn a_node_that_stops_tells_of_all_its_connections_first() {
    let backend = Backend::silent().await;
    let mut node = node(&backend, &[("DRAIN_PERIOD", "0s")]).await;
    let crowd = Listener::crowd(node.ws(), "/", 20).await;
    node.terminate();
    for mut client in crowd {
        while !client.is_gone().await {
            tokio::task::yield_now().await;
        }
    }
    assert!(node.ended().await.success());
    let closed = backend.has("close", 20).await;
    assert!(closed.iter().all(|event| event["code"] == 1001 && event["cause"] == "going_away"), "{closed:?}");
}
