//! The same on a Redis Cluster, whose slots move while everybody is connected.

mod support;

use futures_util::future::join_all;
use std::time::Duration;
use support::api::Api;
use support::redis::{RedisCluster, RedisServer};
use support::ws::nobody_is_gone;
use support::{Census, DEADLINE, Heard, Listener, Node, eventually};
use tokio::time::timeout;

/// Enough channels for every primary to have many.
const CHANNELS: usize = 60;

/// Two nodes on a Cluster of three primaries; each channel has a client on each node.
struct Stage {
    nodes: Vec<Node>,
    listeners: Vec<Listener>,
    everybody: Census,
    cluster: RedisCluster,
}

impl Stage {
    async fn set(replicas: usize) -> Self {
        let cluster = RedisCluster::start(3, replicas).await;
        let url = cluster.url();
        let nodes = join_all((0..2).map(|_| Node::on(&url))).await;
        let mut listeners = Vec::new();
        for channel in 0..CHANNELS {
            for node in &nodes {
                listeners.push(Listener::connect(node.ws(), &format!("/?channel[]=c{channel}&channel[]=all")).await);
            }
        }
        let everybody = Census::of(nodes[0].api()).await;
        assert_eq!(everybody.size(), 2 * CHANNELS);
        Self { nodes, listeners, everybody, cluster }
    }

    /// Every client hears, sooner or later, what is pushed to its channel from the other node and from its own.
    async fn every_channel_is_reached(&mut self, message: &str) {
        let apis = [self.nodes[0].api(), self.nodes[1].api()];
        let reaching = self.listeners.iter_mut().enumerate().map(|(index, listener)| async move {
            for from in apis {
                reaches(from, &format!("c{}", index / 2), listener, message).await;
            }
        });
        join_all(reaching).await;
        let all: Vec<&mut Listener> = self.listeners.iter_mut().collect();
        join_all(all.into_iter().map(|listener| reaches(apis[0], "all", listener, "to all"))).await;
    }

    async fn everybody_is_there(&mut self) {
        nobody_is_gone(&mut self.listeners).await;
        for node in &self.nodes {
            self.everybody.is_listed(node.api()).await;
            eventually("everybody is counted", DEADLINE, async || {
                support::eventually::same(node.api().count_members("all").await.unwrap_or(0), 2 * CHANNELS as u64)
            })
            .await;
        }
    }
}

/// Pushes again and again until the client hears it.
async fn reaches(api: Api, channel: &str, listener: &mut Listener, message: &str) {
    eventually("a client is reached by a push to its channel", DEADLINE, async || {
        api.push(channel, message).await.map_err(|refusal| refusal.to_string())?;
        let heard = timeout(Duration::from_millis(200), async {
            while listener.heard().await != Heard::Text(message.to_owned()) {}
        });
        heard.await.map_err(|_| format!("nothing heard in channel {channel}"))
    })
    .await;
}

#[tokio::test]
async fn pushes_listings_and_acts_cross_between_nodes() {
    let mut stage = Stage::set(0).await;
    let [first, second] = [stage.nodes[0].api(), stage.nodes[1].api()];
    // Each push arrives once and, of one audience, in order; so the last is the last.
    for channel in 0..CHANNELS {
        for message in ["one", "two", "three"] {
            first.push(&format!("c{channel}"), message).await.unwrap();
        }
    }
    for listener in &mut stage.listeners {
        for message in ["one", "two", "three"] {
            listener.hears_text(message).await;
        }
    }
    assert_eq!(second.channels().await.unwrap().len(), CHANNELS + 1);
    assert_eq!(second.count().await.unwrap(), 2 * CHANNELS as u64);
    assert_eq!(first.members("c7").await.unwrap(), second.members("c7").await.unwrap());

    for (api, listener) in [(first, 1), (second, 0)] {
        let ids = api.members("c0").await.unwrap();
        let mut heard = Vec::new();
        for id in ids {
            api.response(&format!("action=push&to=connection&connection={id}&message={id}")).await.unwrap();
            heard.push(id);
        }
        let Heard::Text(id) = stage.listeners[listener].hears().await else { panic!("no text") };
        assert!(heard.contains(&id.parse().unwrap()), "{id} was not pushed");
        let Heard::Text(other) = stage.listeners[1 - listener].hears().await else { panic!("no text") };
        assert_ne!(id, other);
    }
    first.response("action=push&to=all&message=everybody").await.unwrap();
    support::ws::all_hear(&mut stage.listeners, "everybody").await;
    second.response("action=push&to=channel&channel[]=c1&channel[]=c2&channel[]=all&message=once").await.unwrap();
    support::ws::all_hear(&mut stage.listeners, "once").await;

    first.response("action=close&to=channel&channel=c5").await.unwrap();
    assert!(second.members("c5").await.unwrap().is_empty());
    for listener in &mut stage.listeners[10..12] {
        assert!(matches!(listener.hears().await, Heard::Closed(1000, _)));
    }
}

#[tokio::test]
async fn a_planned_failover_of_every_primary_leaves_every_channel_reachable() {
    let mut stage = Stage::set(1).await;
    for replica in 3..6 {
        promote(&stage.cluster.servers[replica]).await;
        stage.every_channel_is_reached(&format!("after the failover to {replica}")).await;
    }
    stage.everybody_is_there().await;
}

/// Makes a replica the primary of its slots, as an operator does before an upgrade.
async fn promote(replica: &RedisServer) {
    eventually("the replica is the primary", DEADLINE, async || {
        if replica.cli(&["ROLE"]).await.starts_with("master") {
            return Ok(());
        }
        Err(replica.cli(&["CLUSTER", "FAILOVER"]).await)
    })
    .await;
}

/// Has another one of three primaries take over the slot of a channel.
async fn move_slot_of(channel: &str, servers: &[RedisServer]) {
    let slot = servers[0].cli(&["CLUSTER", "KEYSLOT", &format!("carillon:channel:{channel}")]).await;
    let slot = slot.trim();
    let owner = owner_of(slot, servers).await;
    let (old, new) = (&servers[owner], &servers[(owner + 1) % servers.len()]);
    let (old_id, new_id) = (old.cli(&["CLUSTER", "MYID"]).await, new.cli(&["CLUSTER", "MYID"]).await);
    // In this order, as only an importing server takes a new epoch with the slot. Without one the old owner's next heartbeat
    // may take the slot back, and each of the two names the other from then on.
    let steps: [(&RedisServer, &[&str]); 5] = [
        (new, &["IMPORTING", old_id.trim()]),
        (old, &["MIGRATING", new_id.trim()]),
        // No key has this slot: nodes' keys carry the tag of their number.
        (new, &["NODE", new_id.trim()]),
        (old, &["NODE", new_id.trim()]),
        (&servers[(owner + 2) % servers.len()], &["NODE", new_id.trim()]),
    ];
    for (server, step) in steps {
        let command = [&["CLUSTER", "SETSLOT", slot], step].concat();
        assert_eq!(server.cli(&command).await.trim(), "OK", "{command:?}");
    }
}

#[tokio::test]
async fn clients_whose_channel_moves_to_another_primary_are_told_of_a_gap() {
    let cluster = RedisCluster::start(3, 0).await;
    let node = Node::start(&[("REDIS_URL", &cluster.url()), ("GAP_MESSAGE", "gap")]).await;
    let mut client = Listener::connect(node.ws(), "/?channel[]=c0").await;
    move_slot_of("c0", &cluster.servers).await;
    client.hears_text("gap").await;
    reaches(node.api(), "c0", &mut client, "after the move").await;
}

#[tokio::test]
async fn slots_that_move_to_another_primary_leave_every_channel_reachable() {
    let mut stage = Stage::set(0).await;
    for channel in ["c0", "c1", "c2", "c3"] {
        move_slot_of(channel, &stage.cluster.servers).await;
    }
    stage.every_channel_is_reached("after the move").await;
    stage.everybody_is_there().await;
}

/// Which of the servers has the slot.
async fn owner_of(slot: &str, servers: &[RedisServer]) -> usize {
    let slot: u16 = slot.parse().unwrap();
    for (index, server) in servers.iter().enumerate() {
        let nodes = server.cli(&["CLUSTER", "NODES"]).await;
        let myself = nodes.lines().find(|line| line.contains("myself")).unwrap();
        let ranges = myself.split(' ').skip(8).filter(|range| !range.starts_with('['));
        let mut ranges = ranges.map(|range| range.split_once('-').unwrap_or((range, range)));
        if ranges.any(|(from, to)| (from.parse::<u16>().unwrap()..=to.parse().unwrap()).contains(&slot)) {
            return index;
        }
    }
    panic!("nobody has slot {slot}");
}
