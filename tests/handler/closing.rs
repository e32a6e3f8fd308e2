use crate::receiving::next;
use crate::running::{Lending, quiet};
use crate::support::raw::{Raw, masked};
use crate::support::{DEADLINE, eventually, eventually::same};
use carillon::{Closed, Connection, Message, PushError};

fn closed(code: u16, reason: &str, cause: &str) -> Option<Closed> {
    Some(Closed { code, reason: reason.to_owned(), cause: cause.to_owned() })
}

fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    masked(0x88, &[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// The client's answer to a close frame, and then nothing more from the server.
async fn nothing_follows(raw: &mut Raw) {
    raw.send(&close_frame(1000, "")).await;
    assert_eq!(raw.rest().await, b"");
}

#[tokio::test]
async fn code_and_reason_of_the_client_reach_the_handler() {
    let mut lending = Lending::start(quiet()).await;
    let long = format!("{}ї", "r".repeat(121));
    assert_eq!(long.len(), 123);
    for (code, reason) in [(1000, ""), (1001, "leaving"), (1011, "x"), (3000, "ї"), (4999, &*long)] {
        let (mut raw, mut connection) = lending.raw().await;
        raw.send(&[masked(0x81, b"bye"), close_frame(code, reason)].concat()).await;
        assert_eq!(next(&mut connection).await, Ok(Some("bye".into())));
        assert_eq!(next(&mut connection).await, Ok(None));
        assert_eq!(connection.closed(), closed(code, reason, "client"));
        assert_eq!(raw.close_code().await, Some((code, String::new())));
        assert_eq!(raw.rest().await, b"");
    }
    let (mut raw, mut connection) = lending.raw().await;
    raw.send(&masked(0x88, b"")).await;
    assert_eq!(next(&mut connection).await, Ok(None));
    assert_eq!(connection.closed(), closed(1005, "", "client"));
    assert_eq!(raw.frame().await, (0x88, Vec::new()));

    let (raw, mut connection) = lending.raw().await;
    drop(raw);
    assert_eq!(next(&mut connection).await, Ok(None));
    assert_eq!(connection.closed(), closed(1006, "", "lost"));
}

#[tokio::test]
async fn code_and_reason_of_the_handler_reach_the_client() {
    let mut lending = Lending::start(quiet()).await;
    let long = format!("{}ї", "r".repeat(121));
    let longer = format!("{}ї", "r".repeat(122));
    let cut = "r".repeat(122);
    let mut cases =
        vec![(1000, "", 1000, ""), (1011, "x", 1011, "x"), (3000, "ї", 3000, "ї"), (4999, &*long, 4999, &*long)];
    cases.push((4000, &longer, 4000, &cut));
    // What may not be sent (RFC 6455, section 7.4).
    cases.extend([0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535].map(|code| (code, "r", 1000, "r")));
    for (code, reason, sent, sent_reason) in cases {
        let (mut raw, mut connection) = lending.raw().await;
        connection.close(code, reason).await;
        assert_eq!(connection.closed(), closed(sent, sent_reason, "api"));
        assert_eq!(raw.close_code().await, Some((sent, sent_reason.to_owned())), "{code}");
        nothing_follows(&mut raw).await;

        let (mut raw, mut connection) = lending.raw().await;
        assert_eq!(connection.push(Message::Close(code, reason.to_owned())).await, Ok(()));
        assert_eq!(connection.push(Message::Close(code, reason.to_owned())).await, Err(PushError::Ended));
        assert_eq!(connection.closed(), closed(sent, sent_reason, "api"));
        assert_eq!(raw.close_code().await, Some((sent, sent_reason.to_owned())), "{code}");
        nothing_follows(&mut raw).await;

        let (mut raw, mut connection) = lending.raw().await;
        assert!(lending.server.cluster.close(connection.id(), code, reason).await.unwrap());
        assert_eq!(raw.close_code().await, Some((sent, sent_reason.to_owned())), "{code}");
        nothing_follows(&mut raw).await;
        assert_eq!(next(&mut connection).await, Ok(None));
        assert_eq!(connection.closed(), closed(sent, sent_reason, "api"));
    }
}

#[tokio::test]
async fn whatever_is_done_twice_there_is_one_close_frame() {
    let mut lending = Lending::start(quiet()).await;
    let cluster = lending.server.cluster.clone();

    let (mut raw, mut connection) = lending.raw().await;
    connection.close(4000, "first").await;
    connection.close(4001, "second").await;
    assert!(!cluster.close(connection.id(), 4002, "third").await.unwrap());
    connection.abort();
    drop(connection);
    assert_eq!(raw.close_code().await, Some((4000, "first".to_owned())));
    nothing_follows(&mut raw).await;

    let (mut raw, mut connection) = lending.raw().await;
    assert!(cluster.close(connection.id(), 4000, "by another").await.unwrap());
    raw.close_code().await.unwrap();
    nothing_follows(&mut raw).await;
    connection.close(4001, "late").await;
    assert_eq!(connection.closed(), closed(4000, "by another", "api"));

    // The client was faster.
    let (mut raw, mut connection) = lending.raw().await;
    raw.send(&close_frame(4003, "by the client")).await;
    assert_eq!(raw.close_code().await, Some((4003, String::new())));
    connection.close(4001, "late").await;
    assert_eq!(connection.closed(), closed(4003, "by the client", "client"));
    assert_eq!(raw.rest().await, b"");

    let (raw, mut connection) = lending.raw().await;
    drop(raw);
    gone(&lending).await;
    connection.close(4001, "late").await;
    assert_eq!(connection.closed(), closed(1006, "", "lost"));
    connection.abort();
    assert_eq!(connection.closed(), closed(1006, "", "lost"));
}

#[tokio::test]
async fn an_abort_sends_no_close_frame() {
    let mut lending = Lending::start(quiet()).await;
    let (mut raw, mut connection) = lending.raw().await;
    connection.push("before").await.unwrap();
    connection.abort();
    connection.abort();
    assert_eq!(connection.closed(), closed(1006, "", "api"));
    assert_eq!(next(&mut connection).await, Ok(None));
    connection.close(4000, "late").await;
    assert_eq!(connection.closed(), closed(1006, "", "api"));
    assert_eq!(raw.frame().await, (0x81, b"before".to_vec()));
    assert_eq!(raw.rest().await, b"");
    // The connection is still in a hand, but nobody finds it.
    gone(&lending).await;

    let (mut raw, connection) = lending.raw().await;
    drop(connection);
    assert_eq!(raw.close_code().await, Some((1000, String::new())));
    nothing_follows(&mut raw).await;
}

/// Nobody is connected any more.
async fn gone(lending: &Lending) {
    eventually("nobody is there", DEADLINE, async || {
        same(lending.server.cluster.count().await.map_err(|error| error.to_string())?, 0)
    })
    .await;
}

#[tokio::test]
async fn what_was_not_received_is_not_in_the_way_of_an_end() {
    let mut lending = Lending::start(quiet()).await;
    let ends: [fn(&mut Connection) -> bool; 2] = [
        |_| true,
        |connection| {
            connection.abort();
            false
        },
    ];
    for end in ends {
        let (mut raw, mut connection) = lending.raw().await;
        let many: Vec<u8> = (0..5).flat_map(|_| masked(0x81, b"for nobody")).collect();
        raw.send(&many).await;
        let first = next(&mut connection).await.unwrap();
        assert_eq!(first.as_ref().and_then(Message::as_text), Some("for nobody"));
        if end(&mut connection) {
            connection.close(4000, "enough").await;
            assert_eq!(raw.close_code().await, Some((4000, "enough".to_owned())));
            raw.send(&close_frame(4000, "")).await;
        }
        // It ends although nobody has dropped the connection.
        assert_eq!(raw.rest().await, b"");
        assert_eq!(next(&mut connection).await, Ok(None));
    }
}
