//! "101 means subscribed": a push sent by anybody after a client's handshake was answered reaches it.

mod support;

use futures_util::stream::{StreamExt, TryStreamExt};
use std::net::SocketAddr;
use std::time::Duration;
use support::api::Publisher;
use support::proxy::Proxy;
use support::{Fleet, Heard, Listener, Node, RedisServer};

/// Clients that share a channel; so a channel's first and last member on a node come and go all the time.
const SHARING: usize = 7;

/// Client after client connects to one node after the other and is pushed to from the next one at once.
async fn nobody_misses_what_is_pushed_after_its_handshake(nodes: &[Node], clients: usize, at_once: usize) {
    let ports: Vec<(SocketAddr, SocketAddr)> =
        (0..nodes.len()).map(|at| (nodes[at].ws(), nodes[(at + 1) % nodes.len()].http())).collect();
    futures_util::stream::iter(0..clients)
        .map(|client| {
            let (ws, http) = ports[client % ports.len()];
            tokio::spawn(connect_and_hear(client, ws, http))
        })
        .buffer_unordered(at_once)
        .try_collect::<Vec<()>>()
        .await
        .unwrap();
}

async fn connect_and_hear(client: usize, ws: SocketAddr, http: SocketAddr) {
    let mut publisher = Publisher::connect(http).await.unwrap();
    let (own, shared) = (format!("own-{client}"), format!("shared-{}", client / SHARING));
    let mut listener = Listener::connect(ws, &format!("/?channel[]={own}&channel[]={shared}")).await;
    publisher.push(&own, &own).await.unwrap();
    publisher.push(&shared, &format!("to {own} and others")).await.unwrap();
    let (mut own_heard, mut shared_heard) = (0, 0);
    while (own_heard, shared_heard) != (1, 1) {
        let heard = listener.hears().await;
        let Heard::Text(text) = &heard else { panic!("client {client} heard {heard:?}") };
        own_heard += usize::from(*text == own);
        shared_heard += usize::from(*text == format!("to {own} and others"));
        assert!(own_heard <= 1 && shared_heard <= 1, "client {client} heard {text} twice");
    }
}

#[tokio::test]
async fn a_push_from_another_node_reaches_each_of_3000_clients_once_its_handshake_is_answered() {
    let fleet = Fleet::start(3, &[]).await;
    nobody_misses_what_is_pushed_after_its_handshake(&fleet.nodes, 3000, 100).await;
}

#[tokio::test]
async fn so_it_does_where_the_way_of_the_clients_node_to_redis_is_50_ms_longer() {
    let redis = RedisServer::start().await;
    let proxy = Proxy::to_redis(redis.port()).await;
    let slow = Node::on(&proxy.redis_url()).await;
    let fast = Node::on(&redis.url()).await;
    proxy.set(|rules| rules.delay = Duration::from_millis(50));
    // The first of two nodes is the slow one; its clients are pushed to through the fast one, and the other way round.
    nobody_misses_what_is_pushed_after_its_handshake(&[slow, fast], 1500, 100).await;
}

#[tokio::test]
async fn on_one_embedded_node_as_well() {
    let node = Node::start(&[]).await;
    nobody_misses_what_is_pushed_after_its_handshake(&[node], 1000, 50).await;
}
