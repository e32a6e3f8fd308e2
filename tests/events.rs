//! The events API, as backends use it: the contract's rows as data, and what a row can't say.

mod support;

use serde_json::{Value, json};
use support::events::{self, Events, Way, by_node};
use support::http::{Http, request};
use support::{DEADLINE, Fleet, Heard, Listener, Node, eventually};

const ROWS: &str = include_str!("data/events.txt");

#[tokio::test]
async fn every_row_of_the_page_holds_on_one_embedded_node() {
    let node = [Node::start(&[]).await];
    for way in Way::ALL {
        events::run(ROWS, &node, way).await;
    }
}

#[tokio::test]
async fn every_row_of_the_page_holds_on_three_nodes_with_requests_and_sockets_apart() {
    let fleet = Fleet::start(3, &[]).await;
    for way in Way::ALL {
        events::run(ROWS, &fleet.nodes, way).await;
    }
}
