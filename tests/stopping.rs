//! What a node does when it is told to stop.

mod support;

use rustix::process::Signal;
use support::device::metric;
use support::raw::Raw;
use support::{DEADLINE, Fleet, Heard, Listener, Node, eventually};

/// A time over which sockets are closed that no test waits for.
const FOREVER: &str = "1h";

#[tokio::test]
async fn clients_are_closed_with_1001_spread_over_the_drain_period_and_the_exit_code_is_0() {
    let mut node = Node::start(&[("DRAIN_PERIOD", "5s")]).await;
    let mut crowd = Listener::crowd(node.ws(), "/?channel[]=news", 300).await;
    node.terminate();
    let hearing = crowd.iter_mut().map(|listener| Box::pin(listener.hears()));
    let (first, gone, others) = futures_util::future::select_all(hearing).await;
    drop(others);
    assert!(matches!(first, Heard::Closed(1001, _)), "{first:?}");
    // The others are still there, and so is the API.
    node.api().push("news", "still here").await.unwrap();
    let mut still_there = 0;
    for (index, listener) in crowd.iter_mut().enumerate().filter(|(index, _)| *index != gone) {
        let mut heard = listener.hears().await;
        if heard == Heard::Text("still here".to_owned()) {
            still_there += 1;
            heard = listener.hears().await;
        }
        assert!(matches!(heard, Heard::Closed(1001, _)), "client {index}: {heard:?}");
    }
    assert!(still_there > 0, "all were closed at once");
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn while_it_drains_it_is_alive_not_ready_and_takes_nobody_new() {
    let mut node = Node::start(&[("DRAIN_PERIOD", FOREVER)]).await;
    let mut crowd = Listener::crowd(node.ws(), "/", 2).await;
    node.terminate();
    eventually("/readyz says that it stops", DEADLINE, async || {
        let answer = support::http::get(node.http(), "/readyz").await.unwrap();
        if answer.status == 503 { Ok(()) } else { Err(answer.status) }
    })
    .await;
    eventually("nobody new is taken", DEADLINE, async || match Listener::try_connect(node.ws(), "/").await {
        Ok(_) => Err("a handshake was answered with 101"),
        Err(refused) if refused.status == 0 || refused.status == 503 => Ok(()),
        Err(_) => Err("refused for another reason"),
    })
    .await;
    assert_eq!(support::http::get(node.http(), "/livez").await.unwrap().status, 200);
    assert!(!crowd[1].is_gone().await || !crowd[0].is_gone().await);
    node.kill();
}

#[tokio::test]
async fn half_a_request_holds_nobody_up() {
    let mut node = Node::start(&[]).await;
    let mut half = Raw::connect(node.http()).await;
    half.send(b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 100\r\n\r\naction=").await;
    eventually("the node has it", DEADLINE, async || {
        support::eventually::same(metric(&node, "carillon_http_requests_active").await, 2)
    })
    .await;
    node.terminate();
    assert_eq!(node.ended().await.code(), Some(0));
    // Had the node waited for the rest, it would have said that it never came.
    assert_eq!(String::from_utf8_lossy(&half.rest().await), "");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [(Signal::TERM, Signal::TERM), (Signal::INT, Signal::TERM), (Signal::TERM, Signal::INT)] {
        let mut node = Node::start(&[("DRAIN_PERIOD", FOREVER)]).await;
        let _crowd = Listener::crowd(node.ws(), "/", 10).await;
        node.signal(first);
        eventually("it has taken the first signal", DEADLINE, async || {
            if node.api().is_ready().await { Err("it is ready") } else { Ok(()) }
        })
        .await;
        node.signal(second);
        node.ended().await;
    }
}

#[tokio::test]
async fn without_sockets_it_ends_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut node = Node::start(&[("DRAIN_PERIOD", FOREVER)]).await;
        node.signal(signal);
        assert_eq!(node.ended().await.code(), Some(0));
    }
}

#[tokio::test]
async fn it_ends_when_its_last_client_has_left_before_the_period_is_over() {
    let mut node = Node::start(&[("DRAIN_PERIOD", FOREVER)]).await;
    let listener = Listener::connect(node.ws(), "/").await;
    node.terminate();
    eventually("it has taken the signal", DEADLINE, async || {
        if node.api().is_ready().await { Err("it is ready") } else { Ok(()) }
    })
    .await;
    // It may be closed by the node as well: with one client, any moment of the period is its own.
    drop(listener);
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn clients_that_answer_no_close_frame_do_not_hold_it() {
    let mut node = Node::start(&[("DRAIN_PERIOD", "1s")]).await;
    let mut deaf = Vec::new();
    for _ in 0..20 {
        deaf.push(Raw::upgraded(node.ws(), "/").await);
    }
    node.terminate();
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn during_the_drain_delay_it_is_not_ready_but_still_serves() {
    // Without a client, as a load balancer that has not noticed yet may send the first one now.
    let mut node = Node::start(&[("DRAIN_DELAY", FOREVER)]).await;
    node.terminate();
    eventually("/readyz says that it stops", DEADLINE, async || {
        if node.api().is_ready().await { Err("it is ready") } else { Ok(()) }
    })
    .await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    node.api().push("news", "served").await.unwrap();
    listener.hears_text("served").await;
    node.terminate();
    node.ended().await;
}

#[tokio::test]
async fn it_leaves_redis_and_its_last_clients_are_in_no_listing() {
    let mut fleet = Fleet::start(2, &[("DRAIN_PERIOD", "1s")]).await;
    let _leaving = Listener::crowd(fleet.nodes[0].ws(), "/?channel[]=news", 50).await;
    let _staying = Listener::crowd(fleet.nodes[1].ws(), "/?channel[]=news", 5).await;
    fleet.nodes[0].terminate();
    assert_eq!(fleet.nodes[0].ended().await.code(), Some(0));
    // Nothing has to be waited for: what the node did before it ended, it did in Redis.
    let mut resp = fleet.resp().await;
    assert_eq!(resp.run("HLEN carillon:{nodes}:leases").await.number(), 1);
    assert_eq!(fleet.nodes[1].api().count_members("news").await.unwrap(), 5);
    assert_eq!(fleet.nodes[1].api().members("news").await.unwrap().len(), 5);

    fleet.nodes[1].terminate();
    assert_eq!(fleet.nodes[1].ended().await.code(), Some(0));
    assert_eq!(resp.run("EXISTS carillon:{nodes}:leases").await.number(), 0);
    let left = resp.keys("carillon:{n*").await;
    assert!(left.iter().all(|key| key.starts_with("carillon:{nodes}:")), "{left:?}");
}
