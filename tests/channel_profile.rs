//! Client profile `channel`: what a browser sees.

mod support;

use support::http::request;
use support::raw::{Raw, handshake, masked};
use support::{Heard, Listener, Node};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn nothing_is_sent_on_open_and_a_push_arrives_as_it_was_given() {
    let node = Node::start(&[]).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    for message in ["first", "", "{\"a\": 1}", "Повідомлення 🔔", " \t\n"] {
        node.api().push("news", message).await.unwrap();
        listener.hears_text(message).await;
    }
}

#[tokio::test]
async fn channels_are_subscribed_to_on_any_path_in_each_of_phps_spellings() {
    let node = Node::start(&[]).await;
    for (target, channels) in [
        ("/?channel[]=a&channel[]=b", &["a", "b"][..]),
        ("/?channel%5B%5D=a&channel%5B%5D=b", &["a", "b"]),
        ("/?channel[0]=a&channel[1]=b", &["a", "b"]),
        ("/?channel[]=a&channel[]=a", &["a"]),
        ("/?channel=a", &["a"]),
        ("/?channel=a&channel=b", &["b"]),
        ("/some/path?x=1&channel[]=a", &["a"]),
        ("/?channel[]=a+b&channel[]=%F0%9F%94%94", &["a b", "🔔"]),
        ("/?channel[]=новини", &["новини"]),
        ("/", &[]),
        ("/?other=1", &[]),
    ] {
        let mut raw = Raw::upgraded(node.ws(), target).await;
        let found = node.api().channels().await.unwrap();
        let mut wanted = channels.to_vec();
        wanted.sort_unstable();
        assert_eq!(found.keys().map(String::as_str).collect::<Vec<_>>(), wanted, "{target}");
        assert!(found.values().all(|members| members.len() == 1), "{target}: {found:?}");
        raw.send(&masked(0x88, &1000u16.to_be_bytes())).await;
        assert_eq!(raw.close_code().await.map(|(code, _)| code), Some(1000), "{target}");
        support::eventually("the client is in no listing", support::DEADLINE, async || {
            support::eventually::same(node.api().count().await.unwrap(), 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_message_is_echoed_to_its_sender_alone_text_as_text_and_binary_as_binary() {
    let node = Node::start(&[]).await;
    let mut speaker = Listener::connect(node.ws(), "/?channel[]=news").await;
    let mut other = Listener::connect(node.ws(), "/?channel[]=news").await;
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::binary(vec![0xff, 0x00, 0xc1]),
        Message::binary(Vec::new()),
        Message::text("ї".repeat(100_000)),
    ] {
        let wanted = match &message {
            Message::Binary(bytes) => Heard::Binary(bytes.to_vec()),
            text => Heard::Text(text.to_text().unwrap().to_owned()),
        };
        speaker.send(message).await;
        assert_eq!(speaker.hears().await, wanted);
    }
    node.api().push("news", "for both").await.unwrap();
    speaker.hears_text("for both").await;
    other.hears_text("for both").await;
}

#[tokio::test]
async fn a_ping_is_answered_with_its_payload() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::upgraded(node.ws(), "/").await;
    for payload in [&b""[..], b"are you there", &[0xff; 125]] {
        raw.send(&masked(0x89, payload)).await;
        assert_eq!(raw.frame().await, (0x8a, payload.to_vec()));
    }
}

#[tokio::test]
async fn a_message_of_2_mib_passes_and_one_byte_more_closes_with_1009() {
    let node = Node::start(&[]).await;
    const LIMIT: usize = 2 << 20;
    for pieces in [1, 4] {
        let mut raw = Raw::upgraded(node.ws(), "/").await;
        let message = vec![b'm'; LIMIT];
        send_in_pieces(&mut raw, &message, pieces).await;
        let (first, echo) = raw.frame().await;
        assert!(first == 0x81 && echo == message, "a message of {} bytes comes back as {}", LIMIT, echo.len());

        let message = vec![b'm'; LIMIT + 1];
        send_in_pieces(&mut raw, &message, pieces).await;
        assert_eq!(raw.close_code().await.map(|(code, _)| code), Some(1009), "in {pieces} pieces");
    }
}

async fn send_in_pieces(raw: &mut Raw, message: &[u8], pieces: usize) {
    let size = message.len().div_ceil(pieces);
    for (index, piece) in message.chunks(size).enumerate() {
        let last = (index + 1) * size >= message.len();
        let first = if last { 0x80 } else { 0 } | if index == 0 { 1 } else { 0 };
        raw.send(&masked(first, piece)).await;
    }
}

#[tokio::test]
async fn fragments_with_a_ping_between_them_are_one_message() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::upgraded(node.ws(), "/").await;
    raw.send(&[masked(0x01, "при".as_bytes()), masked(0x89, b"!"), masked(0x80, "віт".as_bytes())].concat()).await;
    assert_eq!(raw.frame().await, (0x8a, b"!".to_vec()));
    assert_eq!(raw.frame().await, (0x81, "привіт".as_bytes().to_vec()));
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_and_ends_the_connection() {
    let node = Node::start(&[]).await;
    for (payload, code) in [(1000u16.to_be_bytes().to_vec(), Some(1000)), (4321u16.to_be_bytes().to_vec(), Some(4321))]
    {
        let mut raw = Raw::upgraded(node.ws(), "/").await;
        raw.send(&masked(0x88, &payload)).await;
        assert_eq!(raw.close_code().await.map(|(code, _)| code), code);
        assert_eq!(raw.rest().await, b"");
    }
}

#[tokio::test]
async fn closing_through_the_api_sends_a_close_frame_before_the_connection_ends() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::upgraded(node.ws(), "/?channel[]=news").await;
    node.api().response("action=close&to=channel&channel=news").await.unwrap();
    assert_eq!(raw.close_code().await.map(|(code, _)| code), Some(1000));
    raw.send(&masked(0x88, &1000u16.to_be_bytes())).await;
    assert_eq!(raw.rest().await, b"");
}

#[tokio::test]
async fn what_a_client_sends_with_its_handshake_is_not_lost() {
    let node = Node::start(&[]).await;
    let mut raw = Raw::connect(node.ws()).await;
    raw.send(&[handshake("/").as_bytes(), &masked(0x81, b"early")].concat()).await;
    let head = raw.until(b"\r\n\r\n").await;
    assert!(head.starts_with(b"HTTP/1.1 101 "));
    assert_eq!(raw.frame().await, (0x81, b"early".to_vec()));
}

#[tokio::test]
async fn plain_http_on_the_websocket_port_is_refused() {
    let node = Node::start(&[]).await;
    for method in ["GET", "POST"] {
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(&request(method, "/?action=stats", &[], b"")).await;
        let answer = raw.answer().await.unwrap();
        assert!(matches!(answer.status, 400 | 426), "{method}: {answer:?}");
    }
}

#[tokio::test]
async fn one_port_serves_both_where_it_is_asked_to() {
    let port = support::redis::free_port().to_string();
    let node = Node::start(&[("WS_PORT", &port), ("HTTP_PORT", &port)]).await;
    assert_eq!(node.ws(), node.http());
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    node.api().push("news", "hello").await.unwrap();
    listener.hears_text("hello").await;
}
