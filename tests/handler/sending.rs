use crate::receiving::next;
use crate::running::{Lending, quiet};
use crate::support::raw::{Raw, masked};
use crate::support::{DEADLINE, eventually};
use carillon::{Connection, Limits, Message, Push, PushError, channel};
use futures_util::future::poll_immediate;
use std::time::Duration;
use tokio::time::timeout;

const UNSENT: &str = "carillon_unsent_bytes";

#[tokio::test]
async fn what_is_pushed_arrives_as_it_is_and_in_order_with_what_is_published() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    let long = "ї".repeat(50_000);
    let cluster = connection.cluster().clone();
    connection.push("text").await.unwrap();
    assert!(cluster.publish(Push::text(connection.id(), "published")).await.unwrap());
    connection.push(vec![0, 0xff]).await.unwrap();
    assert!(cluster.publish(Push::binary(connection.id(), vec![1])).await.unwrap());
    connection.push("").await.unwrap();
    connection.push(Message::Ping("ping".into())).await.unwrap();
    let pushed = tokio::spawn(async move {
        connection.push(long.clone()).await.unwrap();
        (connection, long)
    });
    for (first, payload) in
        [(0x81, &b"text"[..]), (0x81, b"published"), (0x82, &[0, 0xff]), (0x82, &[1]), (0x81, b""), (0x89, b"ping")]
    {
        assert_eq!(raw.frame().await, (first, payload.to_vec()));
    }
    let (first, payload) = raw.frame().await;
    let (mut connection, long) = pushed.await.unwrap();
    assert!((first, payload) == (0x81, long.into_bytes()));

    let limit = quiet().max_push;
    let (over, text) = (vec![0; limit + 1], "t".repeat(limit + 1));
    let too_big = Err(PushError::TooBig { size: limit + 1, limit });
    assert_eq!(connection.push(over.clone()).await, too_big);
    assert_eq!(connection.push(text).await, too_big);
    assert_eq!(connection.push_fragment(over, true).await, too_big);
    connection.push("still here").await.unwrap();
    assert_eq!(raw.frame().await, (0x81, b"still here".to_vec()));
}

#[tokio::test]
async fn fragments_go_out_one_by_one_and_pushes_wait_for_the_last() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    let news = channel("news").unwrap();
    connection.join(news.clone()).await.unwrap();
    connection.push_fragment("one ", false).await.unwrap();
    assert_eq!(raw.frame().await, (0x01, b"one ".to_vec()));
    assert_eq!(connection.push("whole").await, Err(PushError::Unfinished));
    assert_eq!(connection.push(vec![1]).await, Err(PushError::Unfinished));
    assert_eq!(connection.push_fragment(vec![1], true).await, Err(PushError::OtherKind));
    assert_eq!(connection.push_fragment(Message::Ping("p".into()), true).await, Err(PushError::OtherKind));

    let publish = async |text: &str| lending.server.cluster.publish(Push::text(news.clone(), text)).await.unwrap();
    publish("news").await;
    // Control frames go between (RFC 6455, section 5.4), the server's as the client's answer.
    connection.push(Message::Ping("p".into())).await.unwrap();
    assert_eq!(raw.frame().await, (0x89, b"p".to_vec()));
    raw.send(&masked(0x89, b"q")).await;
    assert_eq!(raw.frame().await, (0x8a, b"q".to_vec()));
    publish("more news").await;
    connection.push_fragment("", false).await.unwrap();
    assert_eq!(raw.frame().await, (0x00, b"".to_vec()));
    connection.push_fragment("three", true).await.unwrap();
    connection.push("four").await.unwrap();
    for (first, text) in [(0x80, "three"), (0x81, "news"), (0x81, "more news"), (0x81, "four")] {
        assert_eq!(raw.frame().await, (first, text.as_bytes().to_vec()));
    }

    // One alone is a message, and binary ones are as good.
    connection.push_fragment("alone", true).await.unwrap();
    connection.push_fragment(vec![1], false).await.unwrap();
    connection.push_fragment(vec![2], true).await.unwrap();
    for (first, payload) in [(0x81, &b"alone"[..]), (0x02, &[1]), (0x80, &[2])] {
        assert_eq!(raw.frame().await, (first, payload.to_vec()));
    }
}

/// A client that has the first fragment of a message, and that a message was published to since.
async fn within_a_message(lending: &mut Lending) -> (Raw, Connection) {
    let (mut raw, mut connection) = lending.raw().await;
    connection.push_fragment("begun", false).await.unwrap();
    assert_eq!(raw.frame().await, (0x01, b"begun".to_vec()));
    lending.server.cluster.publish(Push::text(connection.id(), "waits")).await.unwrap();
    (raw, connection)
}

#[tokio::test]
async fn a_message_in_fragments_that_is_not_finished_holds_no_close_frame_up() {
    let mut lending = Lending::start(quiet()).await;
    let closed = async |mut raw: Raw, code: u16, reason: &str| {
        assert_eq!(raw.close_code().await, Some((code, reason.to_owned())));
        raw.send(&masked(0x88, &code.to_be_bytes())).await;
        assert_eq!(raw.rest().await, b"");
    };
    let (raw, mut connection) = within_a_message(&mut lending).await;
    connection.close(4000, "enough").await;
    assert_eq!(connection.push_fragment("late", true).await, Err(PushError::Ended));
    closed(raw, 4000, "enough").await;

    let (raw, connection) = within_a_message(&mut lending).await;
    drop(connection);
    closed(raw, 1000, "").await;

    let (raw, mut connection) = within_a_message(&mut lending).await;
    assert!(lending.server.cluster.close(connection.id(), 4001, "by another").await.unwrap());
    closed(raw, 4001, "by another").await;
    assert_eq!(next(&mut connection).await, Ok(None));
    assert_eq!(connection.push_fragment("late", true).await, Err(PushError::Ended));

    let (mut raw, mut connection) = within_a_message(&mut lending).await;
    connection.abort();
    assert_eq!(raw.rest().await, b"");
    assert_eq!(lending.server.metric(UNSENT), 0.0);
}

#[tokio::test]
async fn what_waits_for_the_last_fragment_is_unread() {
    let mut lending = Lending::start(Limits { max_unsent: 10_000, ..quiet() }).await;
    let (mut raw, mut connection) = within_a_message(&mut lending).await;
    let text = "t".repeat(1000);
    for _ in 0..9 {
        lending.server.cluster.publish(Push::text(connection.id(), text.clone())).await.unwrap();
    }
    // Up to the limit it waits.
    connection.push_fragment("", false).await.unwrap();
    assert_eq!(raw.frame().await, (0x00, b"".to_vec()));
    assert!(lending.server.metric(UNSENT) > 9000.0);
    lending.server.cluster.publish(Push::text(connection.id(), text)).await.unwrap();
    assert_eq!(raw.close_code().await, Some((4008, "slow consumer".to_owned())));
    raw.send(&masked(0x88, &4008u16.to_be_bytes())).await;
    assert_eq!(raw.rest().await, b"");
    assert_eq!(next(&mut connection).await, Ok(None));
    let closed = connection.closed().unwrap();
    assert_eq!((closed.code, closed.cause.as_str()), (4008, "slow_consumer"));
    assert_eq!(connection.push_fragment("late", true).await, Err(PushError::Ended));
    assert_eq!(lending.server.metric(UNSENT), 0.0);
}

/// A numbered message.
fn numbered(number: u32, size: usize) -> Message {
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(size, 0);
    Message::from(payload)
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_its_handler_up_and_loses_nothing() {
    const SIZE: usize = 100_000;
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    let mut count = 0;
    while timeout(Duration::from_millis(500), connection.push(numbered(count, SIZE))).await.is_ok() {
        count += 1;
        assert!(count < 10_000, "the client's kernel takes whatever it is sent");
    }
    // That one's future was dropped while it was being written: it arrives all the same. Those behind it wait for it in the handler's
    // hands and not in memory, and are not sent where they are dropped as well.
    count += 1;
    for _ in 0..1000 {
        assert_eq!(poll_immediate(connection.push(numbered(u32::MAX, SIZE))).await, None);
        assert_eq!(poll_immediate(connection.push_fragment(numbered(u32::MAX, SIZE), false)).await, None);
    }
    let unsent = lending.server.metric(UNSENT);
    assert!(unsent <= SIZE as f64 + 14.0, "{unsent} bytes wait");
    let pushing = tokio::spawn(async move {
        connection.push("last").await.unwrap();
        connection
    });
    for number in 0..count {
        let (first, payload) = raw.frame().await;
        assert!((first, &payload[..]) == (0x82, numbered(number, SIZE).as_bytes()), "message {number}");
    }
    assert_eq!(raw.frame().await, (0x81, b"last".to_vec()));
    drop(pushing.await.unwrap());
}

#[tokio::test]
async fn nothing_is_pushed_to_a_connection_that_has_ended() {
    let mut lending = Lending::start(quiet()).await;
    // By somebody else, whose close frame the client has not answered.
    let (mut raw, mut connection) = lending.raw().await;
    assert!(connection.cluster().close(connection.id(), 4000, "over").await.unwrap());
    assert_eq!(connection.push("late").await, Err(PushError::Ended));
    assert_eq!(connection.push_fragment("late", false).await, Err(PushError::Ended));
    assert_eq!(raw.close_code().await, Some((4000, "over".to_owned())));
    raw.send(&masked(0x88, &4000u16.to_be_bytes())).await;
    assert_eq!(raw.rest().await, b"");
    assert!(connection.join(channel("news").unwrap()).await.is_err());
    assert!(!connection.cluster().publish(Push::text(connection.id(), "late")).await.unwrap());

    // By itself.
    let (_raw, mut connection) = lending.raw().await;
    connection.close(1000, "").await;
    assert_eq!(connection.push("late").await, Err(PushError::Ended));
    assert_eq!(next(&mut connection).await, Ok(None));

    // By its client, without a word.
    let (raw, mut connection) = lending.raw().await;
    drop(raw);
    eventually("the end is noticed", DEADLINE, async || match connection.push("is anybody there?").await {
        Ok(()) => Err("it is sent"),
        Err(error) => Ok(assert_eq!(error, PushError::Ended)),
    })
    .await;
}

/// A client that sends without reading, until its handler, which answers, neither sends nor receives any more.
async fn stuck(lending: &mut Lending) -> (Raw, tokio::task::JoinHandle<Connection>) {
    let (mut raw, mut connection) = lending.raw().await;
    let echo = tokio::spawn(async move {
        while let Ok(Some(message)) = connection.recv().await {
            if let Err(error) = connection.push(message).await {
                assert_eq!(error, PushError::Ended);
                break;
            }
        }
        connection
    });
    let frame = masked(0x82, &[7; 60_000]);
    while timeout(Duration::from_millis(500), raw.send(&frame)).await.is_ok() {}
    (raw, echo)
}

#[tokio::test]
async fn a_client_that_only_sends_keeps_nothing_alive_when_it_is_over() {
    let mut lending = Lending::start(quiet()).await;
    let cluster = lending.server.cluster.clone();
    // It goes away.
    let (raw, echo) = stuck(&mut lending).await;
    drop(raw);
    let mut connection = timeout(DEADLINE, echo).await.expect("the handler hears nothing of it").unwrap();
    while let Some(message) = next(&mut connection).await.unwrap() {
        assert_eq!(message.as_bytes().len(), 60_000);
    }
    assert_eq!(connection.closed().map(|closed| (closed.code, closed.cause)), Some((1006, "lost".to_owned())));
    // It is closed, and does not notice.
    let (raw, echo) = stuck(&mut lending).await;
    let ids = cluster.connections().await.unwrap();
    assert!(cluster.close(ids[0], 4000, "enough").await.unwrap());
    let mut connection = timeout(DEADLINE, echo).await.expect("the handler hears nothing of it").unwrap();
    while next(&mut connection).await.unwrap().is_some() {}
    assert_eq!(connection.closed().map(|closed| (closed.code, closed.cause)), Some((4000, "api".to_owned())));
    drop(raw);
    assert_eq!(lending.server.metric(UNSENT), 0.0);
}
