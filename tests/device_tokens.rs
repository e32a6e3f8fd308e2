//! Devices that sign in with a token: the stable id that it names, and what their documents can't open.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use support::device::{Backend, DEVICES, Place, device, metric, refused as not_carried_out};
use support::tokens::{JWT_SECRET, SECRET, TRIPLE_DES, jwt};
use support::{DEADLINE, Listener, Node, eventually};

#[tokio::test]
async fn a_device_has_the_stable_id_that_its_token_names_and_no_other() {
    let place = Place::new();
    let path = place.text();
    let profiles = ("CLIENT_PROFILES", "/device=device,/=channel");
    let node = Node::start(&[JWT_SECRET, profiles, ("UNIX_SOCKET", &path), ("AUTH_KEY", "kfw001-websocket")]).await;
    let token = |claims: Value| jwt(SECRET, &claims);
    let (own, other) = (token(json!({ "device": "kitchen" })), token(json!({ "device": "hall" })));
    let (nobody, number) = (token(json!({ "id": "kitchen", "code": "kitchen" })), token(json!({ "device": 1234567 })));
    let foreign = ["device=kitchen".to_owned()];
    let by_others = [&other, &nobody, &TRIPLE_DES.to_owned()].map(|token| format!("device=kitchen&auth={token}"));
    let spellings = [
        format!("device=hall&device=kitchen&auth={other}"),
        format!("%64evice=%6Bitchen&auth={other}"),
        format!("+device=kitchen&auth={other}"),
        format!("device=kitchen+&auth={own}"),
        format!("device=Kitchen&auth={own}"),
    ];
    let all = [&foreign[..], &by_others, &spellings].concat();
    for query in &all {
        let refused = Listener::refused(node.ws(), &format!("/device?{query}")).await;
        assert!(
            refused.status == 403 && refused.body.contains("a token that names it is needed"),
            "{query} {refused:?}"
        );
        assert!(!refused.body.contains("hall"), "{refused:?}");
    }
    assert_eq!(metric(&node, r#"carillon_connections_refused_total{reason="foreign_device"}"#).await, all.len() as u64);
    for device in [json!("AbCdEfGhIjKlMn_"), json!(["kitchen"]), json!("a\n"), json!(1.5)] {
        let refused =
            Listener::refused(node.ws(), &format!("/device?auth={}", token(json!({ "device": device })))).await;
        assert!(refused.status == 403 && refused.body.is_empty(), "{device}: {refused:?}");
    }
    // What can't be one at all is not the token's affair.
    assert_eq!(Listener::refused(node.ws(), &format!("/device?device=AbCdEfGhIjKlMn_&auth={own}")).await.status, 400);

    // With the parameter and without; other profiles' tokens may say what they like under that name.
    let mut kitchen = Vec::new();
    for query in [format!("device=kitchen&auth={own}"), format!("auth={own}"), format!("device=&auth={own}")] {
        kitchen.push(device(&node, &format!("/device?{query}")).await.0);
    }
    let (mut serial, _) = device(&node, &format!("/device?device=1234567&auth={number}")).await;
    let (mut without, _) = device(&node, &format!("/device?auth={nobody}")).await;
    let mut elsewhere = Listener::connect(node.ws(), &format!("/?device=x&auth={own}")).await;
    let odd = token(json!({ "device": { "os": "x" } }));
    let _odd = Listener::connect(node.ws(), &format!("/?auth={odd}")).await;
    let mut backend = Backend::connect(&place.path()).await;
    for push in [
        r#"{"action":"sendToDevice","device":"kitchen","data":1}"#,
        r#"{"action":"sendToDevice","device":1234567,"data":2}"#,
        r#"{"action":"multicast","data":3}"#,
    ] {
        assert_eq!(backend.ask(push).await, "OK");
    }
    for listener in &mut kitchen {
        listener.hears_text("1").await;
    }
    serial.hears_text("2").await;
    for listener in [&mut without, &mut elsewhere] {
        listener.hears_text("3").await;
    }
}

#[tokio::test]
async fn documents_of_clients_open_no_private_channel_that_their_token_does_not_allow() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("private");
    fs::write(&file, "staff,room:*").unwrap();
    let (private, place) = (("PRIVATE_CHANNELS_FILE", file.to_str().unwrap()), Place::new());
    let (actions, path) = (("DEVICE_CLIENT_ACTIONS", "true"), place.text());
    let node = Node::start(&[JWT_SECRET, DEVICES, private, actions, ("UNIX_SOCKET", &path)]).await;
    let token = jwt(SECRET, &json!({ "device": "kitchen", "channels": ["room:7"] }));
    let (mut stranger, id) = device(&node, "/").await;
    let (mut kitchen, kitchen_id) = device(&node, &format!("/?auth={token}")).await;
    let subscribe = |device: &str, channel: &str| {
        format!(r#"{{"action":"subscribe","device":"{device}","channel":"{channel}","data":1}}"#)
    };
    for document in [
        subscribe(&id, "staff"),
        subscribe(&id, "room:7"),
        subscribe("kitchen", "staff"),
        subscribe(&id, r"\u0073taff"),
        format!(r#"{{"channel":"news","action":"subscribe","device":"{id}","channel":"staff"}}"#),
    ] {
        stranger.say(&document).await;
    }
    stranger.say(&subscribe(&id, "news")).await;
    kitchen.say(&subscribe(&kitchen_id, "staff")).await;
    kitchen.say(&subscribe(&kitchen_id, "room:8")).await;
    kitchen.say(&subscribe("kitchen", "room:7")).await;
    // What was said before is done, as both are heard by both.
    for client in [&mut stranger, &mut kitchen] {
        client.say(r#"{"action":"multicast","data":"done"}"#).await;
    }
    for _ in 0..2 {
        stranger.hears_text("\"done\"").await;
        kitchen.hears_text("\"done\"").await;
    }
    for (channel, members) in [("staff", 0), ("room:7", 1), ("room:8", 0), ("news", 1)] {
        assert_eq!(node.api().count_members(channel).await.unwrap(), members, "{channel}");
    }
    assert_eq!(not_carried_out(&node, "client", "private_channel").await, 7);

    // A backend may have anybody subscribed to anything, and the rule is the one of the moment.
    assert_eq!(Backend::connect(&place.path()).await.ask(subscribe(&id, "staff")).await, "OK");
    fs::write(&file, "news,staff,room:*").unwrap();
    node.signal(Signal::HUP);
    eventually("the list is read again", DEADLINE, async || {
        match Listener::try_connect(node.ws(), "/?channel=news").await {
            Ok(_) => Err("it is not"),
            Err(_) => Ok(()),
        }
    })
    .await;
    kitchen.say(&subscribe("kitchen", "news")).await;
    kitchen.say(r#"{"action":"multicast","data":"again"}"#).await;
    kitchen.hears_text("\"again\"").await;
    assert_eq!(not_carried_out(&node, "client", "private_channel").await, 8);
    assert_eq!(node.api().count_members("staff").await.unwrap(), 1);
}

#[tokio::test]
async fn without_a_key_a_device_may_bring_any_stable_id() {
    let node = Node::start(&[DEVICES]).await;
    device(&node, "/?device=kitchen&auth=whatever").await;
}
