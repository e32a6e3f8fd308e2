use crate::running::{Lending, Running, quiet};
use crate::support::http::get;
use crate::support::raw::{Raw, masked};
use crate::support::{DEADLINE, Heard, Listener, eventually, eventually::same};
use carillon::{Handshake, Message, Middleware, Next, Outcome, Response, Server};
use futures_util::future::BoxFuture;

#[tokio::test]
async fn a_handler_that_panics_or_fails_closes_its_own_connection_with_1011() {
    let server = Running::start(Server::builder().handle("/", |handshake: Handshake| async move {
        let mut connection = handshake.accept().await?;
        match connection.recv().await?.as_ref().and_then(Message::as_text) {
            Some("panic") => panic!("as the client wished"),
            Some("fail") => Err("as the client wished".into()),
            Some("return") => Ok(()),
            Some("fail at the end") => {
                connection.close(4000, "done").await;
                Err("after the end".into())
            }
            _ => {
                connection.push("still here").await?;
                Ok(())
            }
        }
    }))
    .await;
    let mut other = Listener::connect(server.address, "/").await;
    for (says, code, reason) in [
        ("panic", 1011, "internal error"),
        ("fail", 1011, "internal error"),
        ("return", 1000, ""),
        ("fail at the end", 4000, "done"),
    ] {
        let mut client = Listener::connect(server.address, "/").await;
        client.say(says).await;
        assert_eq!(client.hears().await, Heard::Closed(code, reason.to_owned()), "{says}");
    }
    other.say("hi").await;
    other.hears_text("still here").await;
}

/// A middleware that panics before it has given anything to wait for.
struct Hasty;

impl Middleware for Hasty {
    fn handle(&self, handshake: Handshake, next: Next) -> BoxFuture<'static, Outcome> {
        assert!(handshake.request().path() != "/hasty", "in the middleware, at once");
        next.run(handshake)
    }
}

#[tokio::test]
async fn who_panics_before_the_answer_is_answered_for() {
    let server = Running::start(
        Server::builder()
            .middleware(Hasty)
            .middleware(|handshake: Handshake, next: Next| async move {
                assert!(handshake.request().path() != "/middleware", "in the middleware");
                next.run(handshake).await
            })
            .handle("/", |handshake: Handshake| async move {
                match handshake.request().path() {
                    "/handler" => panic!("in the handler"),
                    "/fails" => return Err("in the handler".into()),
                    _ => {}
                }
                let mut connection = handshake.accept().await?;
                while let Some(message) = connection.recv().await? {
                    connection.push(message).await?;
                }
                Ok(())
            })
            .handle_http("/", |request: carillon::Request| async move {
                assert!(request.path() != "/panic", "in the http handler");
                Response::html("here")
            }),
    )
    .await;
    let mut other = Listener::connect(server.address, "/").await;
    for path in ["/hasty", "/middleware", "/handler", "/fails"] {
        let refused = Listener::refused(server.address, path).await;
        assert_eq!((refused.status, refused.body.as_str()), (500, "handler gave no answer\n"), "{path}");
    }
    assert!(get(server.address, "/panic").await.is_err(), "an answer out of a panic");
    assert_eq!(get(server.address, "/page").await.unwrap().text(), "here");
    other.say("still here").await;
    other.hears_text("still here").await;
    eventually("nothing remains of them", DEADLINE, async || {
        same(server.cluster.count().await.map_err(|error| error.to_string())?, 1)
    })
    .await;
}

#[tokio::test]
async fn a_task_that_panics_with_a_connection_closes_it_with_1011() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    let (mut other, mut spared) = lending.raw().await;
    let task = tokio::spawn(async move {
        let _ = connection.recv().await;
        panic!("in a task of its own");
    });
    raw.send(&masked(0x81, b"go on")).await;
    assert_eq!(raw.close_code().await, Some((1011, "internal error".to_owned())));
    assert!(task.await.unwrap_err().is_panic());
    spared.push("still here").await.unwrap();
    assert_eq!(other.frame().await, (0x81, b"still here".to_vec()));
}

#[tokio::test]
async fn a_connection_that_a_handler_drops_and_goes_on_is_closed_at_once() {
    let server = Running::start(Server::builder().limits(quiet()).handle("/", |handshake: Handshake| async move {
        drop(handshake.accept().await?);
        std::future::pending().await
    }))
    .await;
    let mut raw = Raw::upgraded(server.address, "/").await;
    assert_eq!(raw.close_code().await, Some((1000, String::new())));
}
