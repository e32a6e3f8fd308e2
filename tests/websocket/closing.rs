//! How connections end.

use crate::client::{CLOSE, PING, PONG, TEXT, close, frame, head};
use crate::server::Server;
use carillon::model::ConnectionId;

#[tokio::test]
async fn a_close_is_echoed_with_its_code_and_the_stream_ends() {
    let server = Server::start().await;
    for (sent, echoed) in [(close(1000, "bye"), close(1000, "")), (close(4321, ""), close(4321, "")), (vec![], vec![])]
    {
        let mut client = server.client("/?channel=news").await;
        client.say([frame(PING, b"p"), frame(CLOSE, &sent), frame(TEXT, b"never answered")].concat()).await;
        assert_eq!(client.frame().await, Some((PONG, b"p".to_vec())));
        assert_eq!(client.frame().await, Some((CLOSE, echoed)));
        // It is out of the listings before its client knows, not when the last of the stream is gone.
        assert_eq!(server.hub.count(), 0);
        assert_eq!(client.frame().await, None);
    }
    assert_eq!(server.counted("carillon_connections_closed_total", "client"), 3.0);
}

#[tokio::test]
async fn what_breaks_the_protocol_is_answered_with_its_code_and_a_reason() {
    let cases: [(Vec<u8>, u16, &str); 7] = [
        (vec![TEXT, 0x02, b'h', b'i'], 1002, "frame is not masked"),
        (frame(0xc1, b"x"), 1002, "reserved bit is set"),
        (frame(0x83, b"x"), 1002, "opcode is reserved"),
        (head(TEXT, 1 << 63), 1002, "length has its highest bit set"),
        (frame(0x80, b"x"), 1002, "continuation without a message"),
        (frame(CLOSE, &999_u16.to_be_bytes()), 1002, "close code is not allowed"),
        (frame(0x01, b"\xf4\x90"), 1007, "text is not utf-8"),
    ];
    let server = Server::start().await;
    let mut bystander = server.client("/?channel=news").await;
    let count = cases.len();
    for (bytes, code, reason) in cases {
        let mut client = server.client("/?channel=news").await;
        client.say([frame(TEXT, b"before"), bytes].concat()).await;
        assert_eq!(client.frame().await, Some((TEXT, b"before".to_vec())), "{reason}");
        assert_eq!(client.frame().await, Some((CLOSE, close(code, reason))));
        assert_eq!(client.frame().await, None, "{reason}");
    }
    assert_eq!(server.counted("carillon_connections_closed_total", "protocol_error"), count as f64);
    server.push("news", "still here").await;
    assert_eq!(bystander.frame().await, Some((TEXT, b"still here".to_vec())));
    assert_eq!(server.hub.count(), 1);
}

#[tokio::test]
async fn a_connection_that_the_api_closes_gets_one_close_frame_whatever_its_client_says() {
    let server = Server::start().await;
    let mut client = server.client("/?channel=news").await;
    let id = ConnectionId::new(server.hub.seq(), server.hub.connections()[0]);
    assert!(server.hub.close(id, 1000, "closed"));
    assert_eq!(client.frame().await, Some((CLOSE, close(1000, "closed"))));
    client.say([frame(TEXT, b"unheard"), frame(PING, b""), frame(CLOSE, &close(1000, ""))].concat()).await;
    assert_eq!(client.frame().await, None);
    assert_eq!(server.counted("carillon_connections_closed_total", "api"), 1.0);
    assert_eq!(server.counted("carillon_connections_closed_total", "client"), 0.0);
}

#[tokio::test]
async fn a_client_that_vanishes_is_forgotten() {
    let server = Server::start().await;
    let client = server.client("/?channel=news").await;
    let mut half = server.client("/?channel=news").await;
    server.has(2).await;
    drop(client);
    server.has(1).await;
    half.say(head(TEXT, 100)).await;
    half.writer.finish().await;
    server.has(0).await;
    assert_eq!(server.counted("carillon_connections_closed_total", "lost"), 2.0);
}

#[tokio::test]
async fn sessions_outlive_the_port() {
    let server = Server::start().await;
    let mut client = server.client("/").await;
    let mut waiting = server.connect().await;
    waiting.say("GET / HTTP/1.1\r\n").await;
    let address = server.address;
    let hub = server.stop().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    waiting.reader.end().await;
    client.say(frame(TEXT, b"hi")).await;
    assert_eq!(client.frame().await, Some((TEXT, b"hi".to_vec())));
    assert_eq!(hub.close_all(1001, "going away"), 1);
    assert_eq!(client.frame().await, Some((CLOSE, close(1001, "going away"))));
}
