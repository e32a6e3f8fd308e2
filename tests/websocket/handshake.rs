//! From a request to 101, or to a refusal that says why.

use crate::client::{Raw, TEXT, eventually};
use crate::gate::Settling;
use crate::server::Server;
use carillon::model::{Audience, Limits, Name};
use std::time::Duration;

const REFUSED: &str = "carillon_connections_refused_total";

#[tokio::test]
async fn a_handshake_is_answered_as_the_rfc_says_and_subprotocols_are_passed_over() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.say(Raw::handshake("/any/path", "Sec-WebSocket-Protocol: chat, superchat\r\n")).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 101);
    assert_eq!(answer.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(answer.header("upgrade"), Some("websocket"));
    assert_eq!(answer.header("sec-websocket-protocol"), None);
}

#[tokio::test]
async fn what_can_not_be_is_refused_with_a_status_and_a_line_that_says_why() {
    let limits = Limits { max_channels: 2, ..Limits::default() };
    let server = Server::with_profiles(limits, "/ws=channel".parse().unwrap()).await;
    server.allowed_origins.send_replace("https://good.example".parse().unwrap());
    let good = Raw::handshake("/ws", "Origin: https://good.example\r\n");
    let cases = [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), 426, "not_websocket", "this port speaks websocket"),
        (good.replace("Version: 13", "Version: 8"), 426, "version", "only version 13"),
        (good.replace("Sec-WebSocket-Version: 13\r\n", ""), 400, "malformed", "version is missing"),
        (good.clone(), 101, "", ""),
        (good.replace("Key: dGhl", "Key: "), 400, "malformed", "sec-websocket-key"),
        (good.replace("GET", "POST"), 400, "malformed", "GET"),
        (good.replace("\r\n\r\n", "\r\nContent-Length: 2\r\n\r\n{}"), 400, "malformed", "no body"),
        (good.replace("good.example", "evil.example"), 403, "origin", "\"https://evil.example\" is not allowed"),
        (good.replace("/ws", "/wsx"), 404, "path", "\"/wsx\""),
        (good.replace("/ws", "/ws?channel=%FF"), 400, "channels", "not utf-8"),
        (good.replace("/ws", "/ws?channel=a%0Ab"), 400, "channels", "control character"),
        (good.replace("/ws", &format!("/ws?channel={}", "n".repeat(201))), 400, "channels", "longer than 200 bytes"),
        (good.replace("/ws", "/ws?channel[]=1&channel[]=2&channel[]=3"), 400, "channels", "more than 2 channels"),
        (good.replace("/ws", "/ws?channel[]=1&channel[]=2&channel[]=2"), 101, "", ""),
        // Cut where it becomes too long, so that nothing is unread when the connection ends.
        (format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(100_000))[..72 << 10].to_owned(), 431, "", ""),
    ];
    for (request, status, label, text) in cases {
        let before = if label.is_empty() { 0.0 } else { server.counted(REFUSED, label) };
        let mut client = server.connect().await;
        client.say(&request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{request}{}", answer.body);
        assert!(answer.body.contains(text), "{} does not say {text:?}", answer.body);
        if status == 426 {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
            assert_eq!(answer.header("upgrade"), Some("websocket"));
        }
        if !label.is_empty() {
            assert_eq!(server.counted(REFUSED, label), before + 1.0, "{label}");
            assert_eq!(client.frame().await, None, "the connection ends: {request}");
        }
    }
}

#[tokio::test]
async fn the_answer_waits_until_the_cluster_has_confirmed_the_connection() {
    let server = Server::start().await;
    server.settling(Settling::Waiting);
    let mut client = server.connect().await;
    client.say(Raw::handshake("/?channel[]=a&channel[]=b&channel[]=a", "")).await;
    server.has(1).await;
    for name in ["a", "b"] {
        assert_eq!(server.hub.local_members(&Audience::channel(Name::new(name).unwrap())), 1, "{name}");
    }
    server.push("a", "pushed before the answer").await;
    server.settling(Settling::Confirmed);
    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.frame().await, Some((TEXT, b"pushed before the answer".to_vec())));
}

#[tokio::test]
async fn a_client_that_goes_while_its_handshake_waits_leaves_nothing() {
    let server = Server::start().await;
    server.settling(Settling::Waiting);
    let mut client = server.connect().await;
    client.say(Raw::handshake("/?channel=a", "")).await;
    server.has(1).await;
    drop(client);
    server.has(0).await;
    server.has_closed("handshake").await;
    eventually(|| server.hub.local_audiences().is_empty()).await;
}

#[tokio::test]
async fn a_connection_that_can_not_be_registered_is_told_to_come_again() {
    let limits = Limits { connect_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(limits).await;
    for (settling, text) in [
        (Settling::Failing, "connection can't be registered: redis is away\n"),
        (Settling::Waiting, "connection can't be registered: no confirmation within 50 ms\n"),
    ] {
        server.settling(settling);
        let mut client = server.connect().await;
        client.say(Raw::handshake("/?channel=a", "")).await;
        let answer = client.answer().await;
        assert_eq!((answer.status, answer.body.as_str()), (503, text));
        assert!(answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok()));
        assert_eq!(server.hub.count(), 0);
    }
    assert_eq!(server.counted(REFUSED, "unavailable"), 2.0);
}

#[tokio::test]
async fn a_full_node_refuses_until_somebody_goes() {
    let server = Server::with(Limits { max_connections: 1, ..Limits::default() }).await;
    let first = server.client("/").await;
    let mut second = server.connect().await;
    second.say(Raw::handshake("/", "")).await;
    let answer = second.answer().await;
    assert_eq!(answer.status, 503);
    assert!(answer.header("retry-after").is_some());
    assert_eq!(server.counted(REFUSED, "full"), 1.0);
    drop(first);
    server.has(0).await;
    server.client("/").await;
}

#[tokio::test]
async fn half_a_handshake_is_not_waited_for_longer_than_the_limit() {
    let limits = Limits { handshake_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = Server::with(limits).await;
    let mut silent = server.connect().await;
    let mut half = server.connect().await;
    half.say("GET / HTTP/1.1\r\nHost: x\r\nUpgr").await;
    silent.reader.end().await;
    half.reader.end().await;
    assert_eq!(server.hub.count(), 0);
}

#[tokio::test]
async fn the_default_number_of_channels_fits_into_a_request() {
    let server = Server::start().await;
    let names = |count: usize| {
        let names: Vec<String> = (0..count).map(|i| format!("channel[]=a-channel-of-a-usual-length-{i:010}")).collect();
        format!("/?{}", names.join("&"))
    };
    let mut client = server.client(&names(1000)).await;
    server.push("a-channel-of-a-usual-length-0000000999", "hi").await;
    assert_eq!(client.frame().await, Some((TEXT, b"hi".to_vec())));
    let mut client = server.connect().await;
    client.say(Raw::handshake(&names(1001), "")).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (400, "more than 1000 channels\n"));
}
