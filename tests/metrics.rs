//! `/metrics` of real nodes: what is there before anything has happened, and what an event changes.

mod support;

use support::http::get;
use support::{DEADLINE, Fleet, Listener, Node, eventually};

async fn page(node: &Node) -> String {
    get(node.http(), "/metrics").await.unwrap().text().to_owned()
}

/// The value of a series, which is spelled as on the page.
fn value(page: &str, series: &str) -> f64 {
    let found = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{series} is missing in {page}")).parse().unwrap()
}

#[tokio::test]
async fn series_with_labels_are_there_before_their_first_event() {
    let fleet = Fleet::start(1, &[]).await;
    let page = page(&fleet.nodes[0]).await;
    let targets = ["all", "channel", "user", "group", "device", "several", "connection"];
    let pushes = targets.map(|target| format!(r#"carillon_pushes_total{{dialect="actions",target="{target}"}}"#));
    let refusals = ["unknown_connection", "unavailable", "no_answer", "limit"];
    let refused = refusals.map(|why| format!(r#"carillon_pushes_refused_total{{dialect="actions",reason="{why}"}}"#));
    let losses = ["lost", "deaf", "miscounted"];
    let lost = losses.map(|why| format!(r#"carillon_bus_link_losses_total{{reason="{why}"}}"#));
    for series in pushes.iter().chain(&refused).chain(&lost) {
        assert_eq!(value(&page, series), 0.0, "{series}");
    }
}

#[tokio::test]
async fn a_push_from_another_node_has_a_lag_and_what_a_client_sends_is_counted() {
    let fleet = Fleet::start(2, &[]).await;
    let (publisher, receiver) = (&fleet.nodes[0], &fleet.nodes[1]);
    let mut listener = Listener::connect(receiver.ws(), "/?channel[]=news").await;
    assert_eq!(value(&page(receiver).await, "carillon_received_bytes_total"), 0.0);
    publisher.api().push("news", "1").await.unwrap();
    listener.hears_text("1").await;
    listener.say("hello").await;
    listener.hears_text("hello").await;
    let page = page(receiver).await;
    assert_eq!(value(&page, "carillon_bus_lag_seconds_count"), 1.0);
    assert!(value(&page, "carillon_received_bytes_total") >= "hello".len() as f64);
}

#[tokio::test]
async fn a_lost_subscriber_is_counted_by_its_reason() {
    let fleet = Fleet::start(1, &[]).await;
    fleet.redis.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    eventually("the loss is counted", DEADLINE, async || {
        let lost = value(&page(&fleet.nodes[0]).await, r#"carillon_bus_link_losses_total{reason="lost"}"#);
        if lost >= 1.0 { Ok(()) } else { Err(lost) }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_drains_says_so_and_how_many_connections_are_left() {
    let node = Node::start(&[("DRAIN_DELAY", "60s")]).await;
    let _listener = Listener::connect(node.ws(), "/").await;
    assert_eq!(value(&page(&node).await, "carillon_draining"), 0.0);
    node.terminate();
    eventually("it drains", DEADLINE, async || {
        let page = page(&node).await;
        assert_eq!(value(&page, "carillon_connections_open"), 1.0);
        if value(&page, "carillon_draining") == 1.0 { Ok(()) } else { Err("it does not yet") }
    })
    .await;
}
