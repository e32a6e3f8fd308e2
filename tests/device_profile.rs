//! Client profile `device` as devices meet it, and heartbeats of any profile.

mod support;

use futures_util::future::join_all;
use std::collections::HashSet;
use support::api::Publisher;
use support::device::{Backend, DEVICES, Place, device, metric, refused};
use support::raw::{Raw, handshake_with};
use support::{DEADLINE, Fleet, Heard, Listener, Node, eventually};

/// What devices hear of a heartbeat.
const HEARTBEAT: &str = r#"{"action":"hb"}"#;

#[tokio::test]
async fn the_device_id_is_told_on_open_before_any_push() {
    let node = Node::start(&[DEVICES]).await;
    let mut publisher = Publisher::connect(node.http()).await.unwrap();
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let pushing = tokio::spawn(async move {
        while stopped.try_recv().is_err() {
            publisher.push("news", "pushed").await.unwrap();
        }
    });
    let clients = join_all((0..50).map(|_| device(&node, "/?channel[]=news"))).await;
    let ids: HashSet<&String> = clients.iter().map(|(_, id)| id).collect();
    assert_eq!(ids.len(), 50);
    for (mut client, _) in clients {
        client.hears_text("pushed").await;
    }
    stop.send(()).unwrap();
    pushing.await.unwrap();
}

#[tokio::test]
async fn a_stable_id_reaches_every_connection_that_brought_it() {
    let place = Place::new();
    let path = place.text();
    let fleet = Fleet::start(2, &[DEVICES]).await;
    let url = fleet.redis.url();
    let node = Node::start(&[("REDIS_URL", &url), DEVICES, ("UNIX_SOCKET", &path)]).await;
    let mut backend = Backend::connect(&place.path()).await;
    let push = r#"{"action":"sendToDevice","device":"kitchen ї","data":1}"#;
    let target = "/?device=kitchen+%D1%97";
    let mut same = Vec::new();
    for node in [&fleet.nodes[0], &fleet.nodes[0], &fleet.nodes[1], &node] {
        let (mut listener, _) = device(node, target).await;
        // Who has been answered 101 is reached.
        assert_eq!(backend.ask(push).await, "OK");
        listener.hears_text("1").await;
        same.push(listener);
    }
    let (mut other, _) = device(&fleet.nodes[0], "/?device=kitchen").await;
    assert_eq!(backend.ask(r#"{"action":"multicast","data":"next"}"#).await, "OK");
    other.hears_text("\"next\"").await;
    for (at, listener) in same.iter_mut().enumerate() {
        let heard = listener.hears_until("\"next\"").await;
        assert_eq!(heard, vec![Heard::Text("1".to_owned()); 3 - at]);
    }
}

#[tokio::test]
async fn a_stable_id_that_can_not_be_is_refused() {
    let node = Node::start(&[("CLIENT_PROFILES", "/device=device,/=channel")]).await;
    let (_first, id) = device(&node, "/device").await;
    let long = "x".repeat(201);
    for (device, why) in [
        (id.as_str(), "connection's own"),
        ("AbCdEfGhIjKlMn_", "connection's own"),
        ("a%00b", "control character"),
        (long.as_str(), "longer than 200 bytes"),
        ("%FF", "not utf-8"),
    ] {
        let refused = Listener::try_connect(node.ws(), &format!("/device?device={device}")).await.err().unwrap();
        assert!(refused.status == 400 && refused.body.contains(why), "{device}: {refused:?}");
    }
    let refused = Listener::try_connect(node.ws(), "/device?device[]=a").await.err().unwrap();
    assert_eq!(refused.status, 400);
    assert_eq!(metric(&node, r#"carillon_connections_refused_total{reason="device"}"#).await, 6);
    // A serial number of 15 digits is nobody's id, and elsewhere the parameter is nothing special.
    device(&node, "/device?device=359881030314356").await;
    device(&node, "/device?device=").await;
    Listener::connect(node.ws(), &format!("/?device={id}")).await;
}

#[tokio::test]
async fn messages_of_devices_are_ignored() {
    let node = Node::start(&[DEVICES]).await;
    let (mut client, id) = device(&node, "/?channel[]=news").await;
    client.say(r#"{"action":"multicast","data":1}"#).await;
    client.say(&format!(r#"{{"action":"subscribe","device":"{id}","channel":"more"}}"#)).await;
    client.say("ping").await;
    node.api().push("news", "hello").await.unwrap();
    client.hears_text("hello").await;
    assert_eq!(node.api().count_members("more").await.unwrap(), 0);
    assert_eq!(refused(&node, "client", "malformed").await, 0);
}

#[tokio::test]
async fn devices_may_be_allowed_to_send_documents() {
    let node = Node::start(&[DEVICES, ("DEVICE_CLIENT_ACTIONS", "true")]).await;
    assert!(node.log().iter().any(|line| line.contains("WARN") && line.contains("DEVICE_CLIENT_ACTIONS")));
    let (mut sender, _) = device(&node, "/").await;
    let (mut receiver, id) = device(&node, "/?device=1234567").await;
    for wrong in ["", "ping", "{}", "null", "{\"action\":"] {
        sender.say(wrong).await;
    }
    sender.say(&format!(r#"{{"action":"subscribe","device":"{id}","channel":"news"}}"#)).await;
    sender.say(r#"{"action":"sendToChannel","channel":"news","data":1}"#).await;
    sender.say(r#"{"action":"unsubscribe","device":"1234567","channel":"news"}"#).await;
    sender.say(r#"{"action":"sendToChannel","channel":"news","data":2}"#).await;
    sender.say(r#"{"action":"sendToDevice","device":"1234567","data":3}"#).await;
    for number in 4..300 {
        sender.say(&format!(r#"{{"action":"multicast","data":{number}}}"#)).await;
    }
    receiver.hears_text("1").await;
    receiver.hears_text("3").await;
    for number in 4..300 {
        // Nothing but this came to the sender: no answers.
        sender.hears_text(&number.to_string()).await;
        receiver.hears_text(&number.to_string()).await;
    }
    assert_eq!(refused(&node, "client", "malformed").await, 1);
    assert_eq!(refused(&node, "client", "missing").await, 1);
    assert_eq!(refused(&node, "client", "null").await, 1);
    assert_eq!(refused(&node, "client", "empty").await, 1);
    assert_eq!(refused(&node, "client", "incomplete").await, 1);
}

#[tokio::test]
async fn what_a_device_sends_before_it_leaves_is_carried_out() {
    let node = Node::start(&[DEVICES, ("DEVICE_CLIENT_ACTIONS", "true")]).await;
    let (mut receiver, _) = device(&node, "/").await;
    for number in 0..20 {
        let (mut sender, _) = device(&node, "/").await;
        sender.say(&format!(r#"{{"action":"multicast","data":{number}}}"#)).await;
        sender.close().await;
        receiver.hears_text(&number.to_string()).await;
    }
}

#[tokio::test]
async fn an_unknown_subprotocol_is_passed_over() {
    let node = Node::start(&[DEVICES]).await;
    let mut raw = Raw::connect(node.ws()).await;
    raw.send(handshake_with("/", "Sec-WebSocket-Protocol: chat, superchat\r\n").as_bytes()).await;
    let head = String::from_utf8(raw.until(b"\r\n\r\n").await).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 ") && !head.contains("sec-websocket-protocol"), "{head}");
    assert_eq!(raw.frame().await.0, 0x81);
}

#[tokio::test]
async fn every_device_has_a_heartbeat_an_interval_and_others_have_none() {
    let profiles = ("CLIENT_PROFILES", "/device=device,/center=center,/=channel");
    let own = ("HEARTBEAT_MESSAGE_CENTER", "still there");
    let intervals = [("HEARTBEAT_INTERVAL_DEVICE", "500ms"), ("HEARTBEAT_INTERVAL_CENTER", "500ms")];
    let node = Node::start(&[profiles, own, intervals[0], intervals[1]]).await;
    let mut devices = join_all((0..100).map(|_| device(&node, "/device?channel[]=news"))).await;
    let mut channel = Listener::connect(node.ws(), "/?channel[]=news").await;
    let mut center = Listener::connect(node.ws(), "/center").await;
    for _ in 0..3 {
        for (listener, _) in &mut devices {
            listener.hears_text(HEARTBEAT).await;
        }
    }
    assert!(matches!(center.hears().await, Heard::Text(open) if open.contains("open")));
    center.hears_text("still there").await;
    node.api().push("news", "next").await.unwrap();
    channel.hears_text("next").await;
    // Even: in as many intervals as one device has heard heartbeats, no other has heard many more.
    let counts = join_all(devices.iter_mut().map(|(listener, _)| listener.hears_until("next"))).await;
    let counts: Vec<usize> = counts.iter().map(Vec::len).collect();
    let (fewest, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    assert!(most - fewest <= 2, "{counts:?}");
    assert!(metric(&node, "carillon_heartbeats_total").await >= 300);
}

#[tokio::test]
async fn heartbeats_of_all_profiles_have_one_setting() {
    let profiles = ("CLIENT_PROFILES", "/device=device,/=channel");
    let settings =
        [("HEARTBEAT_INTERVAL", "500ms"), ("HEARTBEAT_MESSAGE", "tick"), ("HEARTBEAT_INTERVAL_CHANNEL", "0")];
    let node = Node::start(&[profiles, settings[0], settings[1], settings[2]]).await;
    let mut channel = Listener::connect(node.ws(), "/?channel[]=news").await;
    let (mut device, _) = device(&node, "/device").await;
    for _ in 0..2 {
        device.hears_text("tick").await;
    }
    node.api().push("news", "next").await.unwrap();
    channel.hears_text("next").await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_sent_no_heartbeats() {
    let place = Place::new();
    let path = place.text();
    let settings = [("HEARTBEAT_INTERVAL", "500ms"), ("MAX_UNSENT", "64MiB"), ("UNIX_SOCKET", path.as_str())];
    let node = Node::start(&[DEVICES, settings[0], settings[1], settings[2]]).await;
    let (mut reader, _) = device(&node, "/").await;
    let mut blocked = Raw::upgraded(node.ws(), "/?channel[]=news").await;
    // With its quotation marks as long as a push may be.
    let large = "x".repeat((1 << 20) - 2);
    let push = format!(r#"{{"action":"sendToChannel","channel":"news","data":"{large}"}}"#);
    let mut backend = Backend::connect(&place.path()).await;
    for _ in 0..16 {
        assert_eq!(backend.ask(&push).await, "OK");
    }
    eventually("the client's buffers are full", DEADLINE, async || {
        if metric(&node, "carillon_unsent_bytes").await > 0 { Ok(()) } else { Err("they are not") }
    })
    .await;
    for _ in 0..5 {
        reader.hears_text(HEARTBEAT).await;
    }
    let last = r#"{"action":"sendToChannel","channel":"news","data":"last"}"#;
    assert_eq!(backend.ask(last).await, "OK");
    let mut heard = Vec::new();
    while heard.last().is_none_or(|payload: &Vec<u8>| payload != b"\"last\"") {
        heard.push(blocked.frame().await.1);
    }
    // One may have come before the buffers were full; what is sent to them after that stands between the long messages and the
    // last of all.
    let lengths: Vec<usize> = heard[heard.len() - 9..].iter().map(Vec::len).collect();
    assert_eq!(lengths, [vec![large.len() + 2; 8], vec![6]].concat());
}
