use crate::running::{Running, lender, quiet};
use crate::support::raw::Raw;
use crate::support::{DEADLINE, Heard, Listener};
use carillon::{Accept, Handshake, Limits, Outcome, Server, StatusCode, channel};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, oneshot};
use tokio::time::timeout;

/// The end of every connection that a server closes because it stops.
fn stopping() -> Heard {
    Heard::Closed(1001, "node is stopping".to_owned())
}

#[tokio::test]
async fn a_server_that_stops_waits_for_handlers_which_may_still_publish() {
    let (go, gone) = oneshot::channel::<()>();
    let (gone, done) = (Arc::new(Mutex::new(Some(gone))), Arc::new(AtomicBool::new(false)));
    let (gate, flag) = (gone.clone(), done.clone());
    let handler = move |handshake: Handshake| {
        let (gate, flag) = (gate.clone(), flag.clone());
        async move {
            let mut connection = handshake.accept().await?;
            assert_eq!(connection.recv().await?, None);
            gate.lock().await.take().unwrap().await?;
            connection.cluster().broadcast("somebody has left").await?;
            flag.store(true, Ordering::Release);
            Ok(())
        }
    };
    let server = Server::builder().drain(Duration::ZERO, Duration::ZERO).handle("/", handler).start().await.unwrap();
    let mut client = Listener::connect(server.address(), "/").await;
    let mut run = tokio::spawn(server.run_until(std::future::ready(())));
    assert_eq!(client.hears().await, stopping());
    drop(client);
    assert!(timeout(Duration::from_millis(300), &mut run).await.is_err(), "it has not waited");
    go.send(()).unwrap();
    timeout(DEADLINE, run).await.expect("the server does not stop").unwrap();
    assert!(done.load(Ordering::Acquire), "the handler has not come to its end");
}

#[tokio::test]
async fn handlers_that_do_not_end_are_waited_for_as_long_as_was_said() {
    async fn deaf(handshake: Handshake) -> Outcome {
        let _connection = handshake.accept().await?;
        std::future::pending().await
    }
    async fn mute(_request: carillon::Request) -> StatusCode {
        std::future::pending().await
    }
    let builder = Server::builder().handle("/", deaf).handle_http("/", mute).handler_grace(Duration::from_millis(50));
    let server = Running::start(builder).await;
    let mut client = Listener::connect(server.address, "/").await;
    let mut asking = Raw::connect(server.address).await;
    asking.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n").await;
    // Its request was read when one that came later has been answered.
    let mut other = Listener::connect(server.address, "/").await;
    let stopped = tokio::spawn(server.stopped());
    assert_eq!((client.hears().await, other.hears().await), (stopping(), stopping()));
    drop((client, other));
    timeout(DEADLINE, stopped).await.expect("the server does not stop").unwrap();
    assert_eq!(asking.rest().await, b"");
}

#[tokio::test]
async fn a_server_that_is_dropped_closes_its_ports_and_its_connections() {
    let (handler, mut lent) = lender(Accept::new().join(channel("news").unwrap()));
    let builder = Server::builder().handle("/", handler).profile("/built-in", carillon::Profile::Channel);
    let server = builder.limits(quiet()).start().await.unwrap();
    let address = server.address();
    let mut client = Listener::connect(address, "/").await;
    let mut built_in = Listener::connect(address, "/built-in").await;
    let mut connection = lent.recv().await.unwrap();
    drop(server);
    assert_eq!((client.hears().await, built_in.hears().await), (stopping(), stopping()));
    drop((client, built_in));
    assert_eq!(timeout(DEADLINE, connection.recv()).await.expect("it hears nothing"), Ok(None));
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn times_may_be_for_ever() {
    const MAX: Duration = Duration::MAX;
    let limits = Limits {
        handshake_timeout: MAX,
        ping_interval: MAX,
        act_timeout: MAX,
        connect_timeout: MAX,
        ..Limits::default()
    };
    for (delay, period) in [(Duration::ZERO, MAX), (MAX, Duration::ZERO)] {
        let (handler, mut lent) = lender(Accept::new());
        let builder = Server::builder().limits(limits.clone()).idle_timeout(MAX).hook_timeout(MAX).handler_grace(MAX);
        let server = builder.drain(delay, period).handle("/", handler).start().await.unwrap();
        let mut client = Listener::connect(server.address(), "/").await;
        let mut connection = lent.recv().await.unwrap();
        client.say("hi").await;
        assert_eq!(connection.recv_timeout(MAX).await, Ok(Some("hi".into())));
        let run = tokio::spawn(server.run_until(std::future::ready(())));
        if delay.is_zero() {
            assert_eq!(client.hears().await, stopping());
        } else {
            // Without connections there is nothing to wait for.
            connection.close(1000, "").await;
            assert_eq!(client.hears().await, Heard::Closed(1000, String::new()));
        }
        drop(client);
        timeout(DEADLINE, run).await.expect("the server does not stop").unwrap();
    }
}
