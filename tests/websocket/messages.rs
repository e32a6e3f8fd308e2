//! What a connected client sends and gets.

use crate::client::{BINARY, CLOSE, PING, PONG, Raw, TEXT, close, eventually, frame, head};
use crate::server::Server;
use carillon::model::Limits;
use futures_util::{SinkExt, StreamExt};
use tokio_tungstenite::tungstenite::Message;

#[tokio::test]
async fn a_message_comes_back_to_its_sender_alone_in_its_own_kind() {
    let server = Server::start().await;
    let mut sender = server.client("/?channel[]=news").await;
    let mut other = server.client("/?channel[]=news").await;
    let long = vec![0xff; 70_000];
    for (kind, payload) in [(TEXT, "grüße".as_bytes()), (TEXT, b""), (BINARY, b"\xff\x00"), (BINARY, &long)] {
        sender.say(frame(kind, payload)).await;
        assert!(sender.frame().await == Some((kind, payload.to_vec())), "{kind:x} of {} bytes", payload.len());
    }
    server.push("news", "pushed").await;
    assert_eq!(other.frame().await, Some((TEXT, b"pushed".to_vec())));
    assert_eq!(sender.frame().await, Some((TEXT, b"pushed".to_vec())));
}

#[tokio::test]
async fn frames_that_came_with_the_handshake_are_answered() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let early = [frame(0x01, b"ear"), frame(PING, b"p"), frame(0x80, b"ly"), head(TEXT, 4)].concat();
    let late = [&[0, 0, 0, 0], &b"late"[..]].concat();
    let size = early.len() + late.len();
    client.say([Raw::handshake("/", "").into_bytes(), early].concat()).await;
    assert_eq!(client.answer().await.status, 101);
    assert_eq!(client.frame().await, Some((PONG, b"p".to_vec())));
    assert_eq!(client.frame().await, Some((TEXT, b"early".to_vec())));
    client.say(late).await;
    assert_eq!(client.frame().await, Some((TEXT, b"late".to_vec())));
    assert_eq!(server.figure("carillon_received_bytes_total"), size as f64, "the handshake is left out");
}

#[tokio::test]
async fn many_frames_in_one_write_are_answered_in_their_order() {
    let server = Server::start().await;
    let mut client = server.client("/").await;
    let frames: Vec<Vec<u8>> =
        (0..3000).map(|i| frame(if i % 3 == 0 { PING } else { TEXT }, i.to_string().as_bytes())).collect();
    client.say(frames.concat()).await;
    for i in 0..3000 {
        let kind = if i % 3 == 0 { PONG } else { TEXT };
        assert_eq!(client.frame().await, Some((kind, i.to_string().into_bytes())));
    }
}

#[tokio::test]
async fn a_message_of_exactly_the_limit_passes_in_one_frame_and_in_many() {
    let server = Server::start().await;
    let limit = Limits::default().max_message;
    let mut client = server.client("/").await;
    let payload = vec![b'x'; limit];
    client.say(frame(TEXT, &payload)).await;
    assert!(client.frame().await == Some((TEXT, payload.clone())));

    let mut pieces = payload.chunks(limit / 7).enumerate().peekable();
    while let Some((index, piece)) = pieces.next() {
        let fin = if pieces.peek().is_none() { 0x80 } else { 0 };
        let opcode = if index == 0 { 0x02 } else { 0x00 };
        client.say(frame(fin | opcode, piece)).await;
    }
    assert!(client.frame().await == Some((BINARY, payload)));
}

#[tokio::test]
async fn a_message_over_the_limit_is_refused_by_its_header_and_the_close_frame_arrives_while_the_client_still_sends() {
    let limit = Limits::default().max_message;
    let reason = format!("message is longer than {limit} bytes");
    let server = Server::start().await;

    let mut client = server.client("/").await;
    client.say(head(BINARY, limit as u64 + 1)).await;
    client.say([0; 4]).await;
    assert_eq!(client.frame().await, Some((CLOSE, close(1009, &reason))));

    let mut client = server.client("/").await;
    client.say(frame(0x02, &vec![0; limit])).await;
    client.say(frame(0x80, &vec![0; limit])).await;
    assert_eq!(client.frame().await, Some((CLOSE, close(1009, &reason))));
    assert_eq!(client.frame().await, None);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_echoes_is_not_read_from() {
    const COUNT: usize = 64;
    const SIZE: usize = 1 << 20;
    let server = Server::with(Limits { max_unsent: 1 << 16, ..Limits::default() }).await;
    let Raw { mut reader, mut writer } = server.client("/").await;
    let sender = tokio::spawn(async move {
        let message = frame(BINARY, &vec![7; SIZE]);
        for _ in 0..COUNT {
            writer.say(&message).await;
        }
        writer
    });
    // The kernel takes no more of the echoes. If more messages were read now, their echoes would be over the limit.
    eventually(|| server.figure("carillon_unsent_bytes") > 0.0).await;
    for _ in 0..COUNT {
        let (kind, payload) = reader.frame().await.expect("an echo");
        assert_eq!((kind, payload.len()), (BINARY, SIZE));
    }
    sender.await.unwrap();
    assert_eq!(server.counted("carillon_connections_closed_total", "slow_consumer"), 0.0);
}

#[tokio::test]
async fn another_implementation_of_the_protocol_understands_the_server() {
    let server = Server::start().await;
    let url = format!("ws://{}/any/path?channel[]=news", server.address);
    let (mut client, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for message in [Message::text("ї"), Message::binary(vec![0, 255]), Message::text("x".repeat(100_000))] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(client.next().await.unwrap().unwrap(), message);
    }
    client.send(Message::Ping(b"p".to_vec().into())).await.unwrap();
    assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(b"p".to_vec().into()));
    server.push("news", "pushed").await;
    assert_eq!(client.next().await.unwrap().unwrap(), Message::text("pushed"));
    client.close(None).await.unwrap();
    while let Some(message) = client.next().await {
        assert!(message.unwrap().is_close());
    }
    server.has_closed("client").await;
}
