//! Every operation of a webhook's answer, its effect seen by the sockets that it is about: here and on another node.

mod support;

use futures_util::future::join_all;
use serde_json::{Value, json};
use support::backend::{Backend, Reply};
use support::device::metric;
use support::redis::RedisCluster;
use support::{Heard, Listener, Node};

/// An application that does what clients tell it to, and says `done`.
async fn obedient() -> Backend {
    Backend::start(|event| match event["message"].as_str() {
        Some(operations) => {
            let operations: Value = serde_json::from_str(operations).unwrap();
            Reply::Json(json!({ "operations": operations, "reply": "done" }))
        }
        None => Reply::Status(204),
    })
    .await
}

/// Has these operations carried out in the answer to a message of this client.
async fn has(client: &mut Listener, operations: Value) {
    client.say(&operations.to_string()).await;
    client.hears_text("done").await;
}

/// Hears these texts next, in whatever order: a reply does not travel through Redis, a push does.
async fn hears_all(client: &mut Listener, texts: &[&str]) {
    let mut heard = Vec::new();
    for _ in texts {
        match client.hears().await {
            Heard::Text(text) => heard.push(text),
            other => panic!("no text: {other:?}"),
        }
    }
    heard.sort();
    let mut wanted = texts.to_vec();
    wanted.sort_unstable();
    assert_eq!(heard, wanted);
}

async fn operated(node: &Node, outcome: &str) -> u64 {
    metric(node, &format!(r#"carillon_webhook_operations_total{{outcome="{outcome}"}}"#)).await
}

/// The story, with a client of `here` that has things done to one of `there`.
async fn every_operation(backend: &Backend, here: &Node, there: &Node) {
    let mut speaker = Listener::connect(here.ws(), "/?name=speaker").await;
    let mut other = Listener::connect(there.ws(), "/?name=other").await;
    let opened = backend.has("open", 2).await;
    let [own, other_id] = ["speaker", "other"].map(|name| {
        let event = opened.iter().find(|event| event["query"]["name"] == name).unwrap();
        (event["connection"].clone(), event["_id"].clone())
    });
    assert_eq!(opened[0]["node"] == opened[1]["node"], std::ptr::eq(here, there));
    let (id, hex) = &other_id;

    for (operation, push) in [
        (json!({ "do": "bind", "user": "u" }), json!({ "user": "u" })),
        (json!({ "do": "join", "group": ["g", "h"] }), json!({ "group": "g" })),
        (json!({ "do": "subscribe", "channel": "c" }), json!({ "channel": "c" })),
        (json!({ "do": "add_close_key", "key": ["K", "L"] }), json!({ "group": "close_key:K" })),
        (
            json!({ "do": "add_close_controller", "controller": ["Live.User", "Live.Wall"] }),
            json!({ "connection": id }),
        ),
        (json!({ "do": "remove_close_key", "key": "L" }), json!({ "connection": hex })),
        (json!({ "do": "remove_close_controller", "controller": "Live.Wall" }), json!({ "group": ["g", "h"] })),
        (json!({ "do": "leave", "group": "h" }), json!({ "all": true })),
    ] {
        let (mut operation, mut push) = (operation, push);
        operation["connection"] = id.clone();
        push["do"] = json!("push");
        push["message"] = operation.clone();
        let text = operation.to_string();
        speaker.say(&json!([operation, push]).to_string()).await;
        other.hears_text(&text).await;
        let all = [text.as_str(), "done"];
        hears_all(&mut speaker, if push["all"] == true { &all } else { &all[1..] }).await;
    }
    has(
        &mut speaker,
        json!([
            { "do": "leave", "connection": hex, "group": "g" },
            { "do": "unsubscribe", "connection": hex, "channel": "c" },
            { "do": "unbind", "connection": hex },
            { "do": "push", "group": ["g", "h"], "message": "never heard" },
            { "do": "push", "channel": "c", "message": "never heard" },
            { "do": "push", "user": "u", "message": "never heard" },
            { "do": "push", "connection": hex, "message": "the last" },
            { "do": "close", "connection": hex, "code": 4003, "reason": "go" },
        ]),
    )
    .await;
    other.hears_text("the last").await;
    assert_eq!(other.hears().await, Heard::Closed(4003, "go".to_owned()));
    let closed = &backend.has("close", 1).await[0];
    let left = (&closed["_id"], &closed["user"], &closed["groups"], &closed["channels"]);
    assert_eq!(left, (hex, &Value::Null, &json!([]), &json!([])));
    assert_eq!((&closed["close_keys"], &closed["close_controllers"]), (&json!(["K"]), &json!(["Live.User"])));

    assert_eq!([operated(here, "nobody").await, operated(here, "wrong").await, operated(here, "failed").await], [0; 3]);
    // What is about somebody who has gone keeps nothing from being done.
    speaker
        .say(&json!([{ "do": "join", "connection": id, "group": "g" }, { "do": "push", "message": "on" }]).to_string())
        .await;
    hears_all(&mut speaker, &["on", "done"]).await;
    assert_eq!(operated(here, "nobody").await, 1);

    // Its own end comes behind the replies, however it is named.
    speaker.say(&json!([{ "do": "close", "connection": own.1, "code": 4004 }]).to_string()).await;
    speaker.hears_text("done").await;
    assert_eq!(speaker.hears().await, Heard::Closed(4004, String::new()));
    let mut again = Listener::connect(here.ws(), "/").await;
    again.say(&json!([{ "do": "push", "connection": own.0, "message": "gone" }]).to_string()).await;
    again.hears_text("done").await;
}

#[tokio::test]
async fn every_operation_on_one_node() {
    let backend = obedient().await;
    let node = Node::start(&[("WEBHOOK_URL", backend.url())]).await;
    every_operation(&backend, &node, &node).await;
}

#[tokio::test]
async fn every_operation_on_another_node_of_a_redis_cluster() {
    let redis = RedisCluster::start(3, 0).await;
    let (backend, url) = (obedient().await, redis.url());
    let variables = [("WEBHOOK_URL", backend.url()), ("REDIS_URL", url.as_str())];
    let nodes = join_all((0..2).map(|_| Node::start(&variables))).await;
    every_operation(&backend, &nodes[0], &nodes[1]).await;
}

#[tokio::test]
async fn an_answer_has_a_thousand_operations_at_most_and_says_whose_were_wrong() {
    let backend = obedient().await;
    let node = Node::start(&[("WEBHOOK_URL", backend.url())]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    let id = backend.has("open", 1).await[0]["_id"].as_str().unwrap().to_owned();
    let mut operations = vec![json!({ "do": "push", "group": "nobody's", "message": "m" }); 999];
    operations.push(json!({ "do": "push", "message": "the thousandth" }));
    operations.push(json!({ "do": "push", "message": "one more" }));
    client.say(&json!(operations).to_string()).await;
    client.hears_text("the thousandth").await;
    client.hears_text("done").await;
    assert_eq!((operated(&node, "done").await, operated(&node, "wrong").await), (1000, 1));
    node.logs(&format!("operation 1001 for connection {id}: an answer has more than 1000 operations")).await;
}
