//! Requests on the WebSocket port that are no handshake.

use crate::client::Raw;
use crate::server::Server;
use bytes::Bytes;
use carillon::model::Limits;
use carillon::session::PlainHttp;
use http_body_util::{BodyExt, Full};
use hyper::Response;
use std::sync::Arc;
use tokio::sync::watch;

/// A handler that answers with what it was asked, as soon as `open` is true.
fn echo(open: watch::Receiver<bool>) -> PlainHttp {
    Arc::new(move |request, peer| {
        let mut open = open.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let text = format!("{} {} {:?} from {}", parts.method, parts.uri, body, peer.address.ip());
            open.wait_for(|open| *open).await.unwrap();
            Response::new(Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync())
        })
    })
}

async fn server(open: watch::Receiver<bool>) -> Server {
    let profiles = "/app=center,/=channel".parse().unwrap();
    Server::with_plain_http(Limits::default(), profiles, Some(echo(open))).await
}

const GET: &str = "GET /app?event=getIds HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn they_are_answered_where_the_profile_is_center_one_after_the_other() {
    let (_open, is_open) = watch::channel(true);
    let server = server(is_open).await;
    let mut client = server.connect().await;
    client.say(GET).await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"GET /app?event=getIds b"" from 127.0.0.1"#));
    client.say("POST /app/x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}").await;
    let answer = client.answer().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"POST /app/x b"{}" from 127.0.0.1"#));
    // The same connection may still become a WebSocket.
    client.upgrade("/app").await;
    let (first, open) = client.frame().await.unwrap();
    assert!(first == 0x81 && open.starts_with(br#"{"cmd":"open","_id":""#), "{open:?}");
    server.has(1).await;
}

#[tokio::test]
async fn elsewhere_they_are_refused_and_a_bad_handshake_is_one_everywhere() {
    let (_open, is_open) = watch::channel(true);
    let server = server(is_open).await;
    let bad_handshake = Raw::handshake("/app", "").replace("Key: dGhl", "Key: ");
    for (request, status) in
        [(GET.replace("/app", "/apple"), 426), (GET.replace("/app", "/"), 426), (bad_handshake, 400)]
    {
        let mut client = server.connect().await;
        client.say(&request).await;
        assert_eq!(client.answer().await.status, status, "{request}");
        assert_eq!(client.frame().await, None, "the connection ends: {request}");
    }
}

#[tokio::test]
async fn a_port_without_a_handler_refuses_them_all() {
    let server = Server::with_profiles(Limits::default(), "/=center".parse().unwrap()).await;
    let mut client = server.connect().await;
    client.say(GET).await;
    assert_eq!(client.answer().await.status, 426);
}

#[tokio::test]
async fn one_that_is_under_way_when_the_port_stops_is_answered_before_it_has() {
    let (open, is_open) = watch::channel(false);
    let server = server(is_open).await;
    let mut client = server.connect().await;
    client.say(GET).await;
    // The handler is there when somebody else than this test holds a receiver for this request: two, with its own.
    crate::client::eventually(|| open.receiver_count() == 2).await;
    let mut stopping = tokio::spawn(server.stop());
    assert!(futures_util::future::poll_immediate(&mut stopping).await.is_none());
    open.send_replace(true);
    assert_eq!(client.answer().await.status, 200);
    assert_eq!(client.frame().await, None, "the connection ends");
    stopping.await.unwrap();
}
