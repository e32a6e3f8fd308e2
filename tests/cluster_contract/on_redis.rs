//! What only Redis can do to a cluster: be flushed, restarted empty, fail over, lose a node.

use crate::node::{Client, Frame, Node, PATIENCE, SHARDED, SINGLE, channel, config, sharded, single, two, until};
use crate::redis::{RedisCluster, RedisSentinel, RedisServer};
use carillon::cluster::redis::RedisConfig;
use carillon::cluster::{Published, State};
use carillon::model::{Audience, ConnectionId, Error, Opcode, Push, Seq, Target};
use futures_util::StreamExt;
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_members_is_not_subscribed() {
    let server = RedisServer::start().await;
    let config = config(server.url());
    let topic = format!("{}channel:news", config.prefix);
    let (a, _b) = two(config).await;
    let news = channel("news");
    let subscribers = || async {
        let answer = server.cli(&["PUBSUB", "NUMSUB", &topic]).await;
        answer.lines().last().unwrap().to_owned()
    };
    let client = a.connect(std::slice::from_ref(&news)).await;
    assert_eq!(subscribers().await, "1");
    a.hub.close(client.id, 1000, "");
    until("the last member's node lets the name go", || async { subscribers().await == "0" }).await;
    let mut again = a.connect(std::slice::from_ref(&news)).await;
    a.push(Target::Audience(news), "again").await;
    assert_eq!(again.text().await, "again");
}

/// Writes a registration with so many connections, all of them in one channel, as a node would have.
async fn write_registration(server: &RedisServer, prefix: &str, count: u32) {
    let keys = ["connections", "channel:big", "channels"].map(|what| format!("{prefix}{{n5}}:feed:{what}"));
    let script = "for i = 1, ARGV[1] do redis.call('HSET', KEYS[1], i, '{}') redis.call('SADD', KEYS[2], i) end \
                  redis.call('HSET', KEYS[3], 'big', ARGV[1]) return 1";
    server.cli(&["-c", "EVAL", script, "3", &keys[0], &keys[1], &keys[2], &count.to_string()]).await;
    server.cli(&["-c", "HSET", &format!("{prefix}{{nodes}}:leases"), "5:feed", "1"]).await;
}

async fn a_big_listing_is_whole(server: &RedisServer, config: RedisConfig) {
    const COUNT: u32 = 100_000;
    let prefix = config.prefix.clone();
    let node = Node::joined(config).await;
    let own = node.connect(&[channel("big")]).await;
    write_registration(server, &prefix, COUNT).await;
    let mut expected: BTreeSet<ConnectionId> =
        (1..=COUNT).map(|counter| ConnectionId::new(Seq::new(5).unwrap(), counter)).collect();
    expected.insert(own.id);
    // assert! rather than assert_eq!, which would print both.
    assert!(node.connections().await == expected);
    assert!(node.members(&channel("big")).await == expected);
    assert_eq!(node.cluster.count_members(&channel("big")).await.unwrap(), u64::from(COUNT) + 1);
    assert_eq!(node.cluster.count_connections().await.unwrap(), u64::from(COUNT) + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_listing_is_whole_on_single_redis() {
    let config = single().await;
    a_big_listing_is_whole(SINGLE.get().unwrap(), config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_big_listing_is_whole_on_redis_cluster() {
    let config = sharded().await;
    a_big_listing_is_whole(&SHARDED.get().unwrap().servers[0], config).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_flushall_everything_is_there_again() {
    let server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let news = channel("news");
    let mut clients = Vec::new();
    for node in [&a, &b] {
        for _ in 0..50 {
            clients.push(node.connect(std::slice::from_ref(&news)).await);
        }
    }
    server.cli(&["FLUSHALL"]).await;
    until("both nodes have registered anew", || async {
        server.cli(&["--raw", "HLEN", "nothing"]).await == "0" && a.cluster.count_connections().await.ok() == Some(100)
    })
    .await;
    for node in [&a, &b] {
        node.ready().await;
        assert_eq!(node.members(&news).await.len(), 100);
    }
    b.push(Target::Audience(news), "still here").await;
    for client in &mut clients {
        assert_eq!(client.text().await, "still here");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_comes_back_empty_is_filled_again() {
    let mut server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let news = channel("news");
    let mut on_a = a.connect(std::slice::from_ref(&news)).await;
    let mut on_b = b.connect(std::slice::from_ref(&news)).await;
    server.kill();
    for node in [&a, &b] {
        let mut state = node.cluster.state();
        timeout(PATIENCE, state.wait_for(|state| matches!(state, State::Away(_)))).await.unwrap().unwrap();
        let refused = node.cluster.publish(Push::text(Target::All, "into the void")).await;
        assert!(matches!(refused, Err(Error::Unavailable(_))), "{refused:?}");
    }
    server.run_again().await;
    for node in [&a, &b] {
        node.ready().await;
    }
    // Ready means that the other one hears as well: one push is enough.
    a.push(Target::Audience(news.clone()), "back").await;
    for client in [&mut on_a, &mut on_b] {
        assert_eq!(client.text().await, "back");
    }
    assert_eq!(b.members(&news).await, BTreeSet::from([on_a.id, on_b.id]));
}

#[tokio::test(flavor = "multi_thread")]
async fn audiences_left_while_redis_was_away_are_let_go_when_it_is_back() {
    let mut server = RedisServer::start().await;
    let config = config(server.url());
    let names = format!("{}channel:", config.prefix);
    let a = Node::joined(config).await;
    let _stays = a.connect(&[channel("stays")]).await;
    let mut leave = Vec::new();
    for number in 0..20 {
        leave.push(a.connect(&[channel(&format!("left{number}"))]).await);
    }
    // Every name is looked at once soon after it came: those above before this one.
    let later = a.connect(&[channel("later")]).await;
    a.hub.close(later.id, 1000, "");
    let subscribed = || async { server.cli(&["--raw", "PUBSUB", "CHANNELS", &format!("{names}*")]).await };
    until("the later name is let go", || async { !subscribed().await.contains("later") }).await;
    server.kill();
    let mut state = a.cluster.state();
    timeout(PATIENCE, state.wait_for(|state| matches!(state, State::Away(_)))).await.unwrap().unwrap();
    // Not all at once: the first change that can't be written is the last one that is looked at.
    let mut pace = tokio::time::interval(Duration::from_millis(10));
    for client in leave {
        pace.tick().await;
        a.hub.close(client.id, 1000, "");
    }
    server.run_again().await;
    a.ready().await;
    until("only the audience with a member is subscribed", || async {
        server.cli(&["--raw", "PUBSUB", "CHANNELS", &format!("{names}*")]).await == format!("{names}stays")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_subscriber_subscribes_again_and_no_listing_flickers() {
    let server = RedisServer::start().await;
    let config = RedisConfig { node_lease: Duration::from_secs(2), ..config(server.url()) };
    let (a, b) = two(config).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    let started = Instant::now();
    let mut kills = 0;
    while started.elapsed() < Duration::from_secs(4) {
        if started.elapsed() > Duration::from_secs(2) && kills < 3 {
            server.cli(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
            kills += 1;
        }
        assert_eq!(b.members(&news).await, BTreeSet::from([client.id]));
        sleep(Duration::from_millis(50)).await;
    }
    timeout(PATIENCE, a.cluster.settle(std::slice::from_ref(&news))).await.unwrap().unwrap();
    b.push(Target::Audience(news), "heard").await;
    assert_eq!(client.text().await, "heard");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_gone_from_every_answer_and_then_from_redis() {
    let server = RedisServer::start().await;
    let config =
        RedisConfig { node_lease: Duration::from_secs(2), reap_delay: Duration::from_secs(1), ..config(server.url()) };
    let (a, b) = two(config).await;
    let news = channel("news");
    let stays = b.connect(std::slice::from_ref(&news)).await;
    let mut dies = Vec::new();
    for _ in 0..200 {
        dies.push(a.open(std::slice::from_ref(&news)).await);
    }
    a.cluster.settle(std::slice::from_ref(&news)).await.unwrap();
    assert_eq!(b.members(&news).await.len(), 201);
    let pattern = format!("*{{n{}}}*", a.cluster.seq());
    let id = dies[0].id;
    // Its tasks end and its connections close, without a word.
    drop(a);
    until("half of a dead node is never listed, and then nothing", || async {
        let listed = b.members(&news).await.len();
        assert!(listed == 201 || listed == 1, "{listed}");
        listed == 1
    })
    .await;
    assert_eq!(b.connections().await, BTreeSet::from([stays.id]));
    assert_eq!(b.push(Target::Connection(id), "?").await, Published::UnknownConnection);
    until("its keys are removed", || async { server.cli(&["--raw", "KEYS", &pattern]).await.is_empty() }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_reaper_left_half_done_is_finished() {
    let server = RedisServer::start().await;
    let config = config(server.url());
    let (prefix, reaping) = (config.prefix.clone(), format!("{}{{nodes}}:reaping", config.prefix));
    // Fenced, and one of two channels removed already: its index still has both. The time of its reaper is over.
    write_registration(&server, &prefix, 1000).await;
    server.cli(&["HDEL", &format!("{prefix}{{nodes}}:leases"), "5:feed"]).await;
    server.cli(&["HSET", &format!("{prefix}{{n5}}:feed:channels"), "removed", "7"]).await;
    server.cli(&["HSET", &format!("{prefix}{{n5}}:feed:node"), "id", "life"]).await;
    server.cli(&["HSET", &format!("{prefix}{{nodes}}:seqs"), "5", "life"]).await;
    server.cli(&["ZADD", &reaping, "1", "5:feed"]).await;
    // This one's time is not over.
    server.cli(&["ZADD", &reaping, "99999999999", "6:feed"]).await;
    let node = Node::joined(config).await;
    until("nothing is left of it", || async {
        server.cli(&["--raw", "KEYS", &format!("{prefix}{{n5}}*")]).await.is_empty()
            && server.cli(&["--raw", "ZRANGE", &reaping, "0", "-1"]).await == "6:feed"
    })
    .await;
    let life = server.cli(&["--raw", "HGET", &format!("{prefix}{{nodes}}:seqs"), "5"]).await;
    assert!(life.starts_with("life|"), "the number is kept with the time of the end: {life}");
    assert_eq!(node.cluster.count_connections().await.unwrap(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_leaves_leaves_nothing() {
    let server = RedisServer::start().await;
    let (a, b) = two(config(server.url())).await;
    let client = a.connect(&[channel("news")]).await;
    a.hub.close(client.id, 1001, "");
    a.cluster.leave().await;
    assert_eq!(b.cluster.nodes().await.unwrap().len(), 1);
    let pattern = format!("*{{n{}}}*", a.cluster.seq());
    assert_eq!(server.cli(&["--raw", "KEYS", &pattern]).await, "");
    assert!(matches!(a.cluster.count_connections().await, Err(Error::Unavailable(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_moved_slot_takes_its_channel_along() {
    let servers = RedisCluster::start(3, 0).await;
    let config = config(servers.url());
    let topic = format!("{}channel:news", config.prefix);
    let (a, b) = two(config).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    let slot = servers.servers[0].cli(&["CLUSTER", "KEYSLOT", &topic]).await;
    let mut ids = Vec::new();
    for server in &servers.servers {
        ids.push(server.cli(&["CLUSTER", "MYID"]).await);
    }
    // To each of the three in turn, so at least twice away from where it is.
    for (number, id) in ids.iter().enumerate() {
        for server in &servers.servers {
            server.cli(&["CLUSTER", "SETSLOT", &slot, "NODE", id]).await;
        }
        reaches(&b, &news, &number.to_string(), &mut client).await;
    }
}

/// Pushes until the client gets it: refused or lost while servers change, but soon through again.
async fn reaches(node: &Node, audience: &Audience, text: &str, client: &mut Client) {
    let wanted = Frame::Message(Opcode::Text, text.to_owned());
    let reached = async {
        loop {
            let _ = node.cluster.publish(Push::text(Target::Audience(audience.clone()), text)).await;
            // A frame is short and written at once, so that giving up never tears one apart.
            if timeout(Duration::from_millis(100), client.read()).await.as_ref() == Ok(&wanted) {
                return;
            }
        }
    };
    timeout(PATIENCE, reached).await.unwrap_or_else(|_| panic!("{audience} is not reached again"));
}

#[tokio::test(flavor = "multi_thread")]
async fn planned_failovers_are_followed() {
    let servers = RedisCluster::start(3, 1).await;
    let (a, b) = two(config(servers.url())).await;
    let mut clients = Vec::new();
    for number in 0..12 {
        let audience = channel(&format!("news {number}"));
        clients.push((a.connect(std::slice::from_ref(&audience)).await, audience));
    }
    let listed = a.connections().await;
    for replica in &servers.servers[3..] {
        until("the replica is in step", || async { replica.cli(&["ROLE"]).await.contains("connected") }).await;
        replica.cli(&["CLUSTER", "FAILOVER"]).await;
        until("the replica is the primary", || async { replica.cli(&["ROLE"]).await.starts_with("master") }).await;
        for (client, audience) in &mut clients {
            reaches(&b, audience, &replica.port().to_string(), client).await;
        }
        until("the listing is whole", || async {
            match b.cluster.connections().await {
                Ok(pages) => pages.all(async |page| page.is_ok()).await && b.connections().await == listed,
                Err(_) => false,
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sentinels_lead_to_the_primary_and_to_the_next_one() {
    let mut servers = RedisSentinel::start().await;
    let (a, b) = two(config(servers.url())).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    b.push(Target::Audience(news.clone()), "through the primary").await;
    assert_eq!(client.text().await, "through the primary");
    servers.servers[0].kill();
    let mut state = b.cluster.state();
    timeout(PATIENCE, state.wait_for(|state| matches!(state, State::Away(_)))).await.unwrap().unwrap();
    a.ready().await;
    b.ready().await;
    b.push(Target::Audience(news), "through the next one").await;
    assert_eq!(client.text().await, "through the next one");
}

/// Waits until the node says that it is without Redis, for a reason with this text.
async fn is_away_because(node: &Node, text: &str) {
    let mut state = node.cluster.state();
    let told = state.wait_for(|state| matches!(state, State::Away(why) if why.contains(text)));
    let told = timeout(PATIENCE, told).await.is_ok();
    assert!(told, "{text}: {:?}", node.cluster.state().borrow());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_redis_kills_nobody_and_when_it_has_room_everything_goes_on() {
    let server = RedisServer::start().await;
    let config = RedisConfig { node_lease: Duration::from_secs(2), ..config(server.url()) };
    let leases = format!("{}{{nodes}}:leases", config.prefix);
    let (a, b) = two(config.clone()).await;
    let news = channel("news");
    let mut client = a.connect(std::slice::from_ref(&news)).await;
    server.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let mut late = a.open(std::slice::from_ref(&news)).await;
    is_away_because(&a, "maxmemory").await;
    // A node that began now would be a third one: it says what is wrong, too.
    let third = Node::joining(config);
    is_away_because(&third, "maxmemory").await;
    let full_since = Instant::now();
    while full_since.elapsed() < Duration::from_secs(5) {
        assert_eq!(server.cli(&["--raw", "HLEN", &leases]).await, "2", "somebody was buried");
        if let Ok(count) = b.cluster.count_connections().await {
            assert_eq!(count, 1);
        }
        sleep(Duration::from_millis(50)).await;
    }
    server.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
    for node in [&a, &b, &third] {
        node.ready().await;
    }
    timeout(PATIENCE, a.cluster.settle(std::slice::from_ref(&news))).await.unwrap().unwrap();
    assert_eq!(b.members(&news).await, BTreeSet::from([client.id, late.id]));
    third.push(Target::Audience(news), "room again").await;
    for client in [&mut client, &mut late] {
        assert_eq!(client.text().await, "room again");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_may_not_subscribe_is_told_so() {
    let server = RedisServer::start().await;
    server.cli(&["ACL", "SETUSER", "mute", "on", ">p", "~*", "+@all", "resetchannels"]).await;
    let node = Node::joining(config(server.url().replace("redis://", "redis://mute:p@")));
    is_away_because(&node, "no subscription to redis: NOPERM").await;
    server.cli(&["ACL", "SETUSER", "mute", "allchannels"]).await;
    node.ready().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfit_redis_is_named_in_the_state() {
    let evicting = RedisServer::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"]).await;
    let locked = RedisServer::start_with(&["--requirepass", "right"]).await;
    let cases = [
        (evicting.url(), "allkeys-lru"),
        (locked.url(), "NOAUTH"),
        (locked.url().replace("redis://", "redis://:wrong@"), "WRONGPASS"),
        (format!("redis-cluster://127.0.0.1:{}", locked.port()), "NOAUTH"),
    ];
    for (url, word) in cases {
        let node = Node::joining(config(url));
        let mut state = node.cluster.state();
        let told = state.wait_for(|state| matches!(state, State::Away(why) if why.contains(word)));
        let told = timeout(PATIENCE, told).await.is_ok();
        let state = node.cluster.state().borrow().clone();
        assert!(told, "{word}: {state:?}");
        assert!(!format!("{state:?}").contains("wrong@"), "{state:?}");
    }
    let url = evicting.url();
    Node::joined(RedisConfig { allow_eviction: true, ..config(url) }).await;
}
