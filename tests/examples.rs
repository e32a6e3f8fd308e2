//! The examples as their users run them: as processes, over real sockets.

mod support;

use serde_json::{Value, json};
use std::net::SocketAddr;
use support::http::get;
use support::{DEADLINE, Example, Heard, Listener, RedisServer, eventually};

/// Connects as soon as the node is in its cluster.
async fn connected(to: SocketAddr, target: &str) -> Listener {
    eventually("the node lets clients in", DEADLINE, async || {
        Listener::try_connect(to, target).await.map_err(|refused| format!("{refused:?}"))
    })
    .await
}

#[tokio::test]
async fn the_greeting_greets_from_its_page_and_over_its_socket() {
    let mut greeting = Example::start("greeting", &["127.0.0.1:0"]).await;
    let page = get(greeting.address(), "/").await.unwrap();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    // Where the page connects to, and what it says there.
    assert!(page.text().contains("new WebSocket(`ws://${location.host}/websocket`)"), "{}", page.text());
    assert!(page.text().contains("socket.send('world')"), "{}", page.text());
    let mut client = Listener::connect(greeting.address(), "/websocket").await;
    let mut other = Listener::connect(greeting.address(), "/websocket").await;
    for name in ["world", "ann"] {
        client.say(name).await;
        client.hears_text(&format!("Hello, {name}!")).await;
        client.hears_text(&format!("How are you, {name}?")).await;
    }
    client.say("close").await;
    assert_eq!(client.hears().await, Heard::Closed(1000, "bye".to_owned()));
    greeting.terminate();
    assert_eq!(other.hears().await, Heard::Closed(1001, "node is stopping".to_owned()));
    drop(other);
    assert!(greeting.ended().await.success());
}

#[tokio::test]
async fn the_broadcast_reaches_everybody_on_every_node() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let one = Example::start("broadcast", &["127.0.0.1:0", &url]).await;
    let two = Example::start("broadcast", &["127.0.0.1:0", &url]).await;
    let mut clients = Vec::new();
    for node in [&one, &two, &one] {
        clients.push(connected(node.address(), "/websocket").await);
    }
    for (speaker, text) in [(0, "from one"), (1, "from two"), (2, "from one again")] {
        clients[speaker].say(text).await;
        support::ws::all_hear(&mut clients, &format!("server: {text}")).await;
    }
    clients[1].say("close").await;
    assert_eq!(clients[1].hears().await, Heard::Closed(1000, String::new()));
    clients.remove(1);
    clients[0].say("without two").await;
    support::ws::all_hear(&mut clients, "server: without two").await;
}

/// Somebody in the chat.
struct Person(Listener);

impl Person {
    async fn enters(node: &Example, room: &str, name: &str) -> Self {
        Self(connected(node.address(), &format!("/chat?room={room}&name={name}")).await)
    }

    async fn hears(&mut self) -> Value {
        match self.0.hears().await {
            Heard::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    async fn hears_this(&mut self, event: Value) {
        assert_eq!(self.hears().await, event);
    }

    async fn says(&mut self, what: Value) {
        self.0.say(&what.to_string()).await;
    }

    async fn who(&mut self) -> Value {
        self.says(json!({"who": true})).await;
        self.hears().await
    }
}

fn here(names: &[&str]) -> Value {
    json!({"event": "here", "names": names})
}

#[tokio::test]
async fn the_chat_is_one_on_three_nodes_and_goes_on_when_one_is_killed() {
    let redis = RedisServer::start().await;
    let url = redis.url();
    let start = async || Example::start("chat", &["127.0.0.1:0", &url]).await;
    let (one, two, mut three) = (start().await, start().await, start().await);
    assert!(get(one.address(), "/").await.unwrap().text().contains("<title>Chat</title>"));

    let mut ann = Person::enters(&one, "lobby", "ann").await;
    ann.hears_this(here(&["ann"])).await;
    let mut bob = Person::enters(&two, "lobby", "bob").await;
    bob.hears_this(here(&["ann", "bob"])).await;
    ann.hears_this(json!({"event": "joined", "name": "bob"})).await;
    let mut cy = Person::enters(&three, "lobby", "cy").await;
    cy.hears_this(here(&["ann", "bob", "cy"])).await;
    for person in [&mut ann, &mut bob] {
        person.hears_this(json!({"event": "joined", "name": "cy"})).await;
    }
    let mut dan = Person::enters(&three, "kitchen", "dan").await;
    dan.hears_this(here(&["dan"])).await;

    // To the room, and no further.
    cy.says(json!({"say": "hello"})).await;
    for person in [&mut ann, &mut bob, &mut cy] {
        person.hears_this(json!({"event": "said", "name": "cy", "text": "hello"})).await;
    }
    // To one alone, wherever; and to the one who said it.
    ann.says(json!({"say": "psst", "to": "dan"})).await;
    for person in [&mut ann, &mut dan] {
        person.hears_this(json!({"event": "whispered", "name": "ann", "to": "dan", "text": "psst"})).await;
    }
    bob.says(json!({"say": "psst", "to": "eve"})).await;
    bob.hears_this(json!({"event": "error", "text": "nobody of that name is here"})).await;
    bob.says(json!("what?")).await;
    assert_eq!(bob.hears().await["event"], "error");

    // By a second window, of which nobody is told.
    let mut again = Person::enters(&two, "lobby", "ann").await;
    again.hears_this(here(&["ann", "bob", "cy"])).await;
    again.0.close().await;
    assert_eq!(bob.who().await, here(&["ann", "bob", "cy"]));

    // A node is killed, and with it cy; dan as well, elsewhere.
    three.kill();
    eventually("cy is not here any more", DEADLINE, async || {
        let found = ann.who().await;
        if found == here(&["ann", "bob"]) { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
    assert_eq!(bob.who().await, here(&["ann", "bob"]));
    bob.says(json!({"say": "still here"})).await;
    for person in [&mut ann, &mut bob] {
        person.hears_this(json!({"event": "said", "name": "bob", "text": "still here"})).await;
    }
    // They come back to another node.
    let mut cy = Person::enters(&one, "lobby", "cy").await;
    cy.hears_this(here(&["ann", "bob", "cy"])).await;
    for person in [&mut ann, &mut bob] {
        person.hears_this(json!({"event": "joined", "name": "cy"})).await;
    }
    bob.0.close().await;
    for person in [&mut ann, &mut cy] {
        person.hears_this(json!({"event": "left", "name": "bob"})).await;
    }
    assert_eq!(cy.who().await, here(&["ann", "cy"]));
}

#[tokio::test]
async fn the_chat_wants_names_that_can_be() {
    let chat = Example::start("chat", &["127.0.0.1:0"]).await;
    let long = "n".repeat(41);
    for query in ["", "?room=lobby", "?name=ann", "?room=a/b&name=ann", &format!("?room=lobby&name={long}")] {
        let refused = Listener::refused(chat.address(), &format!("/chat{query}")).await;
        assert_eq!(refused.status, 400, "{query}: {}", refused.body);
    }
    let mut ann = Person::enters(&chat, "lobby", "%D1%97").await;
    ann.hears_this(here(&["ї"])).await;
}
