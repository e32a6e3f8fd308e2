use crate::running::{Lending, quiet};
use crate::support::certificates::Certificates;
use crate::support::raw::{Raw, masked};
use crate::support::{DEADLINE, eventually, eventually::same};
use carillon::{Accept, Builder, Connection, Limits, Message, PushError, RecvError, Server};
use futures_util::future::poll_immediate;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

const RECEIVED: &str = "carillon_received_bytes_total";

/// What comes next, or the failure of the test.
pub(crate) async fn next(connection: &mut Connection) -> Result<Option<Message>, RecvError> {
    timeout(DEADLINE, connection.recv()).await.expect("nothing is received")
}

/// Waits until the server has read so many bytes.
async fn until_read(lending: &Lending, bytes: f64) {
    let end = Instant::now() + DEADLINE;
    while lending.server.metric(RECEIVED) < bytes {
        assert!(Instant::now() < end, "the server has not read {bytes} bytes");
        sleep(Duration::from_millis(1)).await;
    }
}

/// Sends messages byte by byte. After each byte, once the server has it, a `recv` begins and is dropped.
async fn cancels_at_every_byte<S: AsyncRead + AsyncWrite + Unpin>(
    mut raw: Raw<S>,
    mut connection: Connection,
    lending: &Lending,
) {
    let long = "ї".repeat(100);
    let mut bytes = masked(0x81, b"first");
    // In three fragments, one of them empty, a character in two of them, and pings between.
    bytes.extend(masked(0x01, &"fragїment".as_bytes()[..5]));
    bytes.extend(masked(0x89, b"one"));
    bytes.extend(masked(0x00, b""));
    bytes.extend(masked(0x89, b""));
    bytes.extend(masked(0x80, &"fragїment".as_bytes()[5..]));
    bytes.extend(masked(0x82, long.as_bytes()));
    bytes.extend(masked(0x81, b""));
    bytes.extend(masked(0x8a, b"a pong for nobody"));
    bytes.extend(masked(0x81, b"last"));
    let mut received = Vec::new();
    for (number, byte) in bytes.iter().enumerate() {
        raw.send(&[*byte]).await;
        until_read(lending, (number + 1) as f64).await;
        let message = if number % 2 == 0 {
            poll_immediate(connection.recv()).await
        } else {
            match connection.recv_timeout(Duration::ZERO).await {
                Err(RecvError::TimedOut) => None,
                received => Some(received),
            }
        };
        received.extend(message.map(|message| message.unwrap().unwrap()));
    }
    while received.len() < 5 {
        received.push(next(&mut connection).await.unwrap().unwrap());
    }
    let wanted = ["first".into(), "fragїment".into(), Message::Binary(long.into()), "".into(), "last".into()];
    assert_eq!(received, wanted);
    for payload in [&b"one"[..], b""] {
        assert_eq!(raw.frame().await, (0x8a, payload.to_vec()));
    }
    assert_eq!(poll_immediate(connection.recv()).await, None);
}

#[tokio::test]
async fn a_recv_that_is_dropped_at_any_byte_loses_nothing() {
    let mut lending = Lending::start(quiet()).await;
    let (raw, connection) = lending.raw().await;
    cancels_at_every_byte(raw, connection, &lending).await;
}

#[tokio::test]
async fn nor_does_one_over_tls() {
    let files = Certificates::new();
    let builder = Server::builder().limits(quiet()).tls(files.path("server.pem"), files.path("server.key"));
    let mut lending = Lending::with(builder, Accept::new()).await;
    let raw = Raw::connect(lending.server.address).await.tls(files.client(&[&rustls::version::TLS13])).await;
    let raw = raw.upgrade("/").await;
    let connection = lending.lent().await;
    cancels_at_every_byte(raw, connection, &lending).await;
}

#[tokio::test]
async fn a_timeout_loses_nothing() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    for text in ["a", "b"] {
        assert_eq!(connection.recv_timeout(Duration::from_millis(20)).await, Err(RecvError::TimedOut));
        raw.send(&masked(0x81, text.as_bytes())).await;
        let received = eventually("it comes", DEADLINE, async || {
            connection.recv_timeout(Duration::from_millis(1)).await.map_err(|error| error.to_string())
        });
        assert_eq!(received.await, Some(text.into()));
    }
    assert_eq!(connection.closed(), None);
}

#[tokio::test]
async fn fragments_are_received_as_one_message() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    for (opcode, wanted) in [(1, Message::from("a thousand fragments".repeat(50))), (2, vec![0xff; 1000].into())] {
        raw.send(&masked(opcode, b"")).await;
        for (number, byte) in wanted.as_bytes().iter().enumerate() {
            raw.send(&masked(0, &[*byte])).await;
            if number % 100 == 0 {
                raw.send(&masked(0x89, &[number as u8])).await;
                assert_eq!(raw.frame().await, (0x8a, vec![number as u8]));
                assert_eq!(poll_immediate(connection.recv()).await, None);
            }
        }
        raw.send(&masked(0x80, b"")).await;
        assert_eq!(next(&mut connection).await, Ok(Some(wanted)));
    }
}

#[tokio::test]
async fn control_frames_are_received_where_they_are_asked_for() {
    let builder = Server::builder().limits(quiet());
    let mut lending = Lending::with(builder, Accept::new().control_frames(true)).await;
    let (mut raw, mut connection) = lending.raw().await;
    raw.send(&[masked(0x01, b"in "), masked(0x89, b"ping"), masked(0x8a, b"pong"), masked(0x80, b"parts")].concat())
        .await;
    assert_eq!(next(&mut connection).await, Ok(Some(Message::Ping("ping".into()))));
    assert_eq!(next(&mut connection).await, Ok(Some(Message::Pong("pong".into()))));
    assert_eq!(next(&mut connection).await, Ok(Some("in parts".into())));
    connection.push(Message::Ping("from here".into())).await.unwrap();
    // Nobody has answered the client's ping.
    assert_eq!(raw.frame().await, (0x89, b"from here".to_vec()));
    connection.push(Message::Pong("late".into())).await.unwrap();
    assert_eq!(raw.frame().await, (0x8a, b"late".to_vec()));
    let long = vec![0; 126];
    let too_big = Err(PushError::TooBig { size: 126, limit: 125 });
    assert_eq!(connection.push(Message::Ping(long.clone().into())).await, too_big);
    assert_eq!(connection.push(Message::Pong(long.into())).await, too_big);
}

#[tokio::test]
async fn a_message_may_have_so_many_bytes_and_no_more() {
    let mut lending = Lending::start(Limits { max_message: 1000, ..quiet() }).await;
    let half = vec![7; 500];
    let (mut raw, mut connection) = lending.raw().await;
    raw.send(&[masked(0x82, &[7; 1000]), masked(0x02, &half), masked(0x80, &half)].concat()).await;
    for _ in 0..2 {
        assert_eq!(next(&mut connection).await, Ok(Some(vec![7; 1000].into())));
    }
    let over: [Vec<u8>; 2] =
        [masked(0x82, &[7; 1001]), [masked(0x02, &half), masked(0x00, &half), masked(0x80, &[7])].concat()];
    for bytes in over {
        let (mut raw, mut connection) = lending.raw().await;
        raw.send(&bytes).await;
        let reason = "message is longer than 1000 bytes";
        assert_eq!(raw.close_code().await, Some((1009, reason.to_owned())));
        let Err(RecvError::Violation(closed)) = next(&mut connection).await else { panic!("no violation") };
        assert_eq!((closed.code, closed.reason.as_str(), closed.cause.as_str()), (1009, reason, "message_too_big"));
        // And again, whoever asks.
        assert_eq!(next(&mut connection).await, Err(RecvError::Violation(closed)));
        assert_eq!(connection.push("late").await, Err(PushError::Ended));
    }
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_is_a_violation() {
    let mut lending = Lending::start(quiet()).await;
    let cases: [(&[u8], u16); 4] = [
        (&masked(0xc1, b"a reserved bit"), 1002),
        (&masked(0x80, b"no message to continue"), 1002),
        (&masked(0x81, &[0xff]), 1007),
        (&[0x81, 0x01, b'a'], 1002),
    ];
    for (bytes, code) in cases {
        let (mut raw, mut connection) = lending.raw().await;
        raw.send(&[&masked(0x81, b"good"), bytes].concat()).await;
        assert_eq!(next(&mut connection).await, Ok(Some("good".into())));
        let Err(RecvError::Violation(closed)) = next(&mut connection).await else { panic!("no violation") };
        assert_eq!((closed.code, closed.cause.as_str()), (code, "protocol_error"));
        assert_eq!(raw.close_code().await.map(|(code, _)| code), Some(code));
        assert_eq!(connection.closed(), Some(closed));
    }
}

/// Sends numbered messages until the server takes no more; how many, and the rest of the last one.
async fn fill(raw: &mut Raw, size: usize) -> (u32, Vec<u8>) {
    for number in 0u32.. {
        assert!(number < 100_000, "the server takes whatever it is sent");
        let mut payload = number.to_be_bytes().to_vec();
        payload.resize(size, 0);
        let frame = masked(0x82, &payload);
        let mut sent = 0;
        let sending = timeout(Duration::from_millis(500), async {
            while sent < frame.len() {
                sent += raw.send_some(&frame[sent..]).await;
            }
        });
        if sending.await.is_err() {
            return (number + 1, frame[sent..].to_vec());
        }
    }
    unreachable!()
}

/// A client sends more than is received, and has to wait until it is. Meanwhile one that does nothing at all is closed for `cause`,
/// and this one is not.
async fn waits_and_is_not_closed(builder: Builder, cause: &str) {
    const SIZE: usize = 60_000;
    let mut lending = Lending::with(builder, Accept::new()).await;
    let (mut raw, mut connection) = lending.raw().await;
    let (count, rest) = fill(&mut raw, SIZE).await;
    // The one that waits to be received, and what was read with it or behind it.
    let read = lending.server.metric(RECEIVED);
    assert!(read < 5.0 * SIZE as f64, "{read} bytes were read that nobody has received");

    for _ in 0..2 {
        let (silent, mut other) = lending.raw().await;
        assert_eq!(next(&mut other).await, Ok(None));
        assert_eq!(other.closed().unwrap().cause, cause);
        drop(silent);
    }
    assert!(lending.server.cluster.exists(connection.id()).await.unwrap());
    assert_eq!(lending.server.metric(RECEIVED), read);

    let sending = tokio::spawn(async move {
        raw.send(&rest).await;
        raw
    });
    for number in 0..count {
        let message = next(&mut connection).await.unwrap().unwrap();
        assert_eq!((message.as_bytes().len(), &message.as_bytes()[..4]), (SIZE, &number.to_be_bytes()[..]));
    }
    drop(sending.await.unwrap());
    assert_eq!(next(&mut connection).await, Ok(None));
}

#[tokio::test]
async fn a_client_that_has_to_wait_misses_no_ping() {
    let limits = Limits { ping_interval: Duration::from_millis(200), ..Limits::default() };
    waits_and_is_not_closed(Server::builder().limits(limits), "ping_timeout").await;
}

#[tokio::test]
async fn a_client_that_has_to_wait_is_not_idle() {
    waits_and_is_not_closed(Server::builder().limits(quiet()).idle_timeout(Duration::from_secs(1)), "idle").await;
}

#[tokio::test]
async fn who_receives_late_hears_everything_and_then_the_end() {
    let mut lending = Lending::start(quiet()).await;
    let texts = ["one", "two", "three", "four"];
    let said: Vec<u8> = texts.iter().flat_map(|text| masked(0x81, text.as_bytes())).collect();
    let ends: [(Vec<u8>, u16, &str, &str); 2] =
        [(masked(0x88, b"\x0f\xa1bye"), 4001, "bye", "client"), (Vec::new(), 1006, "", "lost")];
    for (end, code, reason, cause) in ends {
        let (mut raw, mut connection) = lending.raw().await;
        let before = lending.server.metric(RECEIVED);
        raw.send(&[said.clone(), end.clone()].concat()).await;
        until_read(&lending, before + said.len() as f64).await;
        drop(raw);
        // It has not heard yet that the client is gone, nor has anybody.
        assert_eq!(connection.closed(), None);
        for text in texts {
            assert_eq!(next(&mut connection).await, Ok(Some(text.into())));
        }
        for _ in 0..2 {
            assert_eq!(next(&mut connection).await, Ok(None));
        }
        let closed = connection.closed().unwrap();
        assert_eq!((closed.code, closed.reason.as_str(), closed.cause.as_str()), (code, reason, cause));
    }
    eventually("both are gone", DEADLINE, async || {
        same(lending.server.cluster.count().await.map_err(|error| error.to_string())?, 0)
    })
    .await;
}
