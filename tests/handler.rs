//! Programs that serve WebSocket connections themselves, over real sockets.

mod support;

use carillon::{Closed, Handshake, Message, Outcome, PushError, RecvError, Response, Server, StatusCode, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use support::{Heard, Listener, eventually};
use tokio::sync::{mpsc, oneshot};

/// A server that runs until the test is over.
struct Running {
    address: std::net::SocketAddr,
    cluster: carillon::Handle,
    stop: Option<oneshot::Sender<()>>,
}

impl Running {
    async fn start(builder: carillon::Builder) -> Self {
        let server = builder.drain(Duration::ZERO, Duration::ZERO).start().await.unwrap();
        let (address, cluster) = (server.address(), server.cluster().clone());
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(server.run_until(async {
            let _ = stopped.await;
        }));
        Self { address, cluster, stop: Some(stop) }
    }
}

#[tokio::test]
async fn a_handler_greets_whoever_says_a_name() {
    async fn greet(handshake: Handshake) -> Outcome {
        let mut connection = handshake.accept().await?;
        while let Some(message) = connection.recv().await? {
            connection.push(format!("hello, {}", message.as_text().unwrap_or("you"))).await?;
        }
        Ok(())
    }
    let server = Running::start(Server::builder().handle("/greet", greet)).await;
    let mut client = Listener::connect(server.address, "/GREET/x").await;
    client.say("ann").await;
    client.hears_text("hello, ann").await;
    let refused = Listener::try_connect(server.address, "/other").await.err().unwrap();
    assert_eq!(refused.status, 404);
    client.close().await;
}

#[tokio::test]
async fn a_handler_that_panics_or_fails_closes_its_own_connection_with_1011() {
    let server = Running::start(Server::builder().handle("/", |handshake: Handshake| async move {
        let mut connection = handshake.accept().await?;
        match connection.recv().await?.as_ref().and_then(Message::as_text) {
            Some("panic") => panic!("as the client wished"),
            Some("fail") => Err("as the client wished".into()),
            Some("return") => Ok(()),
            _ => {
                connection.push("still here").await?;
                Ok(())
            }
        }
    }))
    .await;
    let mut other = Listener::connect(server.address, "/").await;
    for (says, code, reason) in
        [("panic", 1011, "internal error"), ("fail", 1011, "internal error"), ("return", 1000, "")]
    {
        let mut client = Listener::connect(server.address, "/").await;
        client.say(says).await;
        assert_eq!(client.hears().await, Heard::Closed(code, reason.to_owned()), "{says}");
    }
    other.say("hi").await;
    other.hears_text("still here").await;
}

#[tokio::test]
async fn fragments_go_out_one_by_one_and_pushes_wait_for_the_last() {
    let (go_on, mut told) = mpsc::channel::<()>(1);
    let told = Arc::new(Mutex::new(Some({
        let (sender, receiver) = mpsc::channel::<()>(1);
        drop(sender);
        std::mem::replace(&mut told, receiver)
    })));
    let server = Running::start(Server::builder().handle("/", move |handshake: Handshake| {
        let told = told.lock().unwrap().take();
        async move {
            let mut told = told.ok_or("one client only")?;
            let mut connection = handshake.accept().await?;
            connection.join(channel("news")?).await?;
            connection.push_fragment("one ", false).await?;
            assert_eq!(connection.push("whole").await, Err(PushError::Unfinished));
            assert_eq!(connection.push_fragment(vec![1], true).await, Err(PushError::OtherKind));
            connection.push(Message::Ping("p".into())).await?;
            told.recv().await;
            connection.push_fragment("two ", false).await?;
            connection.push_fragment("three", true).await?;
            connection.push("four").await?;
            connection.recv().await?;
            Ok(())
        }
    }))
    .await;
    let mut raw = support::raw::Raw::upgraded(server.address, "/").await;
    assert_eq!(raw.frame().await, (0x01, b"one ".to_vec()));
    assert_eq!(raw.frame().await, (0x89, b"p".to_vec()));
    let news = carillon::Push::text(channel("news").unwrap(), "news");
    server.cluster.publish(news).await.unwrap();
    go_on.send(()).await.unwrap();
    assert_eq!(raw.frame().await, (0x00, b"two ".to_vec()));
    assert_eq!(raw.frame().await, (0x80, b"three".to_vec()));
    let mut rest = vec![raw.frame().await, raw.frame().await];
    rest.sort();
    assert_eq!(rest, [(0x81, b"four".to_vec()), (0x81, b"news".to_vec())]);
}

#[tokio::test]
async fn a_timeout_loses_nothing_and_an_end_is_told() {
    let (tell, mut told) = mpsc::channel::<Result<Option<Message>, RecvError>>(10);
    let (tell_end, mut ends) = mpsc::channel::<Option<Closed>>(10);
    let server = Running::start(Server::builder().handle("/", move |handshake: Handshake| {
        let (tell, tell_end) = (tell.clone(), tell_end.clone());
        async move {
            let mut connection = handshake.accept().await?;
            loop {
                let received = connection.recv_timeout(Duration::from_millis(50)).await;
                let over = !matches!(received, Ok(Some(_)) | Err(RecvError::TimedOut));
                if received != Err(RecvError::TimedOut) {
                    tell.send(received).await?;
                }
                if over {
                    tell_end.send(connection.closed()).await?;
                    return Ok(());
                }
            }
        }
    }))
    .await;
    let mut client = Listener::connect(server.address, "/").await;
    for text in ["a", "b"] {
        tokio::time::sleep(Duration::from_millis(120)).await;
        client.say(text).await;
        assert_eq!(told.recv().await.unwrap(), Ok(Some(Message::from(text))));
    }
    client.close().await;
    assert_eq!(told.recv().await.unwrap(), Ok(None));
    assert_eq!(ends.recv().await.unwrap().unwrap().code, 1005);
    let mut raw = support::raw::Raw::upgraded(server.address, "/").await;
    raw.send(&[0xc1, 0x80, 0, 0, 0, 0]).await;
    let Err(RecvError::Violation(closed)) = told.recv().await.unwrap() else { panic!("a violation") };
    assert_eq!(closed.code, 1002);
}

#[tokio::test]
async fn requests_that_are_no_handshakes_have_handlers_of_their_own() {
    let server = Running::start(
        Server::builder()
            .handle("/ws", |handshake: Handshake| async move {
                handshake.refuse(Response::text(StatusCode::PAYMENT_REQUIRED, "pay first"));
                Ok(())
            })
            .handle("/silent", |_: Handshake| async { Ok(()) })
            .handle_http("/", |request: carillon::Request| async move {
                let path = request.path().to_owned();
                let body = request.body().await.unwrap();
                Response::text(StatusCode::OK, format!("{path} {}", String::from_utf8_lossy(&body)))
            }),
    )
    .await;
    let page = support::http::get(server.address, "/page").await.unwrap();
    assert_eq!((page.status, page.text()), (200, "/page "));
    for (path, status) in [("/ws", 402), ("/silent", 500), ("/page", 200)] {
        assert_eq!(Listener::try_connect(server.address, path).await.err().unwrap().status, status, "{path}");
    }
}

#[tokio::test]
async fn a_server_that_stops_closes_its_connections() {
    let mut server = Running::start(Server::builder().handle("/", |handshake: Handshake| async move {
        let mut connection = handshake.accept().await?;
        assert_eq!(connection.recv().await?, None);
        Ok(())
    }))
    .await;
    let mut client = Listener::connect(server.address, "/").await;
    drop(server.stop.take());
    assert_eq!(client.hears().await, Heard::Closed(1001, "node is stopping".to_owned()));
    eventually("nobody is there", support::DEADLINE, async || {
        server
            .cluster
            .count()
            .await
            .map_err(|error| error.to_string())
            .and_then(|count| support::eventually::same(count, 0))
    })
    .await;
}
