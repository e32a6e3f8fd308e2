//! One contract, three implementations: what `Cluster` promises is checked on the embedded one, on a single Redis and on
//! a Redis Cluster of three primaries, each time from two nodes (the embedded one is both).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cluster_contract/each_node.rs"]
mod each_node;
#[path = "cluster_contract/node.rs"]
mod node;
#[path = "cluster_contract/on_redis.rs"]
mod on_redis;
#[path = "support/redis.rs"]
mod redis;

use carillon::cluster::{Act, Outcome, Published};
use carillon::model::{AudienceKind, ConnectionId, Exclusions, Opcode, Push, Seq, Target};
use each_node::{
    a_batch_is_carried_out_one_after_the_other, a_life_is_known_by_its_number,
    connections_are_bound_and_unbound_from_any_node, deliveries_are_counted_node_by_node,
    groups_are_joined_by_connection_and_by_user, long_lists_are_told_whole,
    more_acts_and_questions_than_fit_one_message, one_connection_of_each_node_is_reached,
    what_each_node_holds_is_told_node_by_node,
};
use node::{Frame, Node, channel, until, user};
use std::collections::BTreeSet;

macro_rules! contract {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let node = crate::node::Node::embedded();
                super::$name(node.clone(), node).await;
            })*
        }
        mod on_single_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (a, b) = crate::node::two(crate::node::single().await).await;
                super::$name(a, b).await;
            })*
        }
        mod on_redis_cluster {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (a, b) = crate::node::two(crate::node::sharded().await).await;
                super::$name(a, b).await;
            })*
        }
    };
}

contract! {
    what_is_settled_is_in_every_read,
    audiences_are_listed_with_their_members,
    pushes_arrive_once_and_in_order,
    several_audiences_and_everybody_are_reached_once,
    exclusions_are_left_out,
    a_push_to_a_connection_reaches_it_alone,
    connections_that_are_not_there_are_unknown,
    a_node_joins_and_leaves_for_another,
    a_close_follows_the_pushes_before_it,
    an_audience_is_closed_on_all_nodes,
    a_moment_after_settling_a_push_arrives,
    nodes_and_store_tell_of_themselves,
    connections_are_bound_and_unbound_from_any_node,
    groups_are_joined_by_connection_and_by_user,
    a_batch_is_carried_out_one_after_the_other,
    what_each_node_holds_is_told_node_by_node,
    deliveries_are_counted_node_by_node,
    one_connection_of_each_node_is_reached,
    long_lists_are_told_whole,
    more_acts_and_questions_than_fit_one_message,
    a_life_is_known_by_its_number,
}

// ---- the contract ----

async fn what_is_settled_is_in_every_read(a: Node, b: Node) {
    let (news, ann) = (channel("news {x} ї"), user("ann"));
    let first = a.connect(&[news.clone(), ann.clone()]).await;
    let second = b.connect(std::slice::from_ref(&news)).await;
    for node in [&a, &b] {
        assert!(node.cluster.exists(first.id).await.unwrap());
        assert_eq!(node.cluster.count_connections().await.unwrap(), 2);
        assert_eq!(node.cluster.count_members(&news).await.unwrap(), 2);
        assert_eq!(node.cluster.count_members(&ann).await.unwrap(), 1);
        assert_eq!(node.cluster.count_members(&channel("ann")).await.unwrap(), 0);
        assert_eq!(node.cluster.audiences(AudienceKind::Channel).await.unwrap(), [(news.name.clone(), 2)]);
        assert_eq!(node.cluster.audiences(AudienceKind::Group).await.unwrap(), []);
        assert_eq!(node.connections().await, BTreeSet::from([first.id, second.id]));
        assert_eq!(node.members(&news).await, BTreeSet::from([first.id, second.id]));
        assert_eq!(node.members(&ann).await, BTreeSet::from([first.id]));
        assert_eq!(node.members(&channel("nobody")).await, BTreeSet::new());
    }
    assert!(a.hub.close(first.id, 1000, ""));
    a.cluster.settle(&[]).await.unwrap();
    for node in [&a, &b] {
        assert!(!node.cluster.exists(first.id).await.unwrap());
        assert_eq!(node.members(&news).await, BTreeSet::from([second.id]));
        assert_eq!(node.cluster.count_members(&ann).await.unwrap(), 0);
        assert_eq!(node.cluster.audiences(AudienceKind::User).await.unwrap(), []);
    }
}

async fn audiences_are_listed_with_their_members(a: Node, b: Node) {
    let channels = ["a", "b", "c {x}"].map(channel);
    let first = a.connect(&[channels[0].clone(), channels[2].clone()]).await;
    let second = b.connect(&[channels[0].clone(), channels[1].clone(), user("u")]).await;
    let listed = |ids: &[&node::Client]| ids.iter().map(|client| client.id).collect::<BTreeSet<_>>();
    let all = [
        ("a".to_owned(), listed(&[&first, &second])),
        ("b".to_owned(), listed(&[&second])),
        ("c {x}".to_owned(), listed(&[&first])),
    ];
    let name = |name: &str| channel(name).name;
    for node in [&a, &b] {
        assert_eq!(node.listing(None).await, all);
        let some = node.listing(Some(vec![name("c {x}"), name("nobody"), name("a")])).await;
        assert_eq!(some, [all[2].clone(), all[0].clone()]);
        assert_eq!(node.listing(Some(vec![name("nobody")])).await, []);
    }
}

async fn pushes_arrive_once_and_in_order(a: Node, b: Node) {
    let news = channel("news");
    let mut on_a = a.connect(std::slice::from_ref(&news)).await;
    let mut on_b = b.connect(std::slice::from_ref(&news)).await;
    let publishers = [a.clone(), b.clone()].into_iter().enumerate().map(|(publisher, node)| {
        let target = Target::Audience(news.clone());
        tokio::spawn(async move {
            for number in 0..200 {
                assert_eq!(node.push(target.clone(), format!("{publisher} {number}")).await, Published::Taken);
            }
        })
    });
    for publisher in publishers.collect::<Vec<_>>() {
        publisher.await.unwrap();
    }
    a.push(Target::Audience(news), "end").await;
    for client in [&mut on_a, &mut on_b] {
        let mut next = [0, 0];
        for _ in 0..400 {
            let text = client.text().await;
            let (publisher, number) = text.split_once(' ').unwrap();
            let next = &mut next[publisher.parse::<usize>().unwrap()];
            assert_eq!(number.parse(), Ok(*next), "{text}");
            *next += 1;
        }
        assert_eq!(client.text().await, "end");
    }
}

async fn several_audiences_and_everybody_are_reached_once(a: Node, b: Node) {
    let (red, blue) = (channel("red"), channel("blue"));
    let mut both = a.connect(&[red.clone(), blue.clone()]).await;
    let mut one = b.connect(std::slice::from_ref(&blue)).await;
    let mut none = b.connect(&[]).await;
    b.push(Target::Audiences(vec![red.clone(), blue.clone(), channel("green")]), "several").await;
    b.push(Target::All, "all").await;
    for client in [&mut both, &mut one] {
        assert_eq!(client.text().await, "several");
        assert_eq!(client.text().await, "all");
    }
    assert_eq!(none.text().await, "all");
}

async fn exclusions_are_left_out(a: Node, b: Node) {
    let (news, ann) = (channel("news"), user("ann"));
    let mut plain = a.connect(std::slice::from_ref(&news)).await;
    let mut by_id = b.connect(std::slice::from_ref(&news)).await;
    let mut by_user = a.connect(&[news.clone(), ann.clone()]).await;
    let exclude = Exclusions { connections: vec![by_id.id], users: vec![ann.name] };
    let push = Push { exclude, opcode: Opcode::Binary, ..Push::text(Target::Audience(news.clone()), "not for all") };
    b.cluster.publish(push).await.unwrap();
    b.push(Target::Audience(news), "for all").await;
    assert_eq!(plain.frame().await, Frame::Message(Opcode::Binary, "not for all".to_owned()));
    for client in [&mut plain, &mut by_id, &mut by_user] {
        assert_eq!(client.text().await, "for all");
    }
}

async fn a_push_to_a_connection_reaches_it_alone(a: Node, b: Node) {
    let mut wanted = a.connect(&[]).await;
    let mut other = a.connect(&[]).await;
    for node in [&a, &b] {
        assert_eq!(node.push(Target::Connection(wanted.id), "you").await, Published::Taken);
        assert_eq!(wanted.text().await, "you");
    }
    b.push(Target::Connection(other.id), "the other").await;
    assert_eq!(other.text().await, "the other");
}

async fn connections_that_are_not_there_are_unknown(a: Node, b: Node) {
    let gone = a.connect(&[]).await;
    assert!(a.hub.close(gone.id, 1000, ""));
    a.cluster.settle(&[]).await.unwrap();
    let nobody_s = Seq::new(a.cluster.seq().get() ^ 1).unwrap();
    for id in [gone.id, ConnectionId::new(nobody_s, 5)] {
        assert_eq!(b.push(Target::Connection(id), "?").await, Published::UnknownConnection);
        assert!(!b.cluster.exists(id).await.unwrap());
        let close = Act::Close { who: id.into(), code: 1000, reason: String::new() };
        assert_eq!(b.act(close).await, Outcome::Unknown);
        assert_eq!(b.act(Act::Join { who: id.into(), audiences: vec![channel("x")] }).await, Outcome::Unknown);
    }
}

async fn a_node_joins_and_leaves_for_another(a: Node, b: Node) {
    let mut client = a.connect(&[]).await;
    let (red, blue) = (channel("red"), channel("blue"));
    let join = Act::Join { who: client.id.into(), audiences: vec![red.clone(), blue.clone()] };
    assert_eq!(b.act(join.clone()).await, Outcome::Done(2));
    assert_eq!(b.members(&red).await, BTreeSet::from([client.id]));
    b.push(Target::Audience(red.clone()), "joined").await;
    assert_eq!(client.text().await, "joined");
    assert_eq!(b.act(join).await, Outcome::Done(0));
    let leave = Act::Leave { who: client.id.into(), audiences: vec![red.clone()] };
    assert_eq!(b.act(leave).await, Outcome::Done(1));
    assert_eq!(b.cluster.count_members(&red).await.unwrap(), 0);
    b.push(Target::Audience(red), "nobody is in here").await;
    b.push(Target::Audience(blue), "still in here").await;
    assert_eq!(client.text().await, "still in here");
}

async fn a_close_follows_the_pushes_before_it(a: Node, b: Node) {
    let news = channel("news");
    let mut by_id = a.connect(&[]).await;
    let mut by_channel = a.connect(std::slice::from_ref(&news)).await;
    for number in 0..50 {
        b.push(Target::Connection(by_id.id), number.to_string()).await;
        b.push(Target::Audience(news.clone()), number.to_string()).await;
    }
    let close = Act::Close { who: by_id.id.into(), code: 4001, reason: "enough".to_owned() };
    assert_eq!(b.act(close).await, Outcome::Done(1));
    let close = Act::Close { who: news.into(), code: 4002, reason: String::new() };
    assert_eq!(b.act(close).await, Outcome::Done(1));
    for number in 0..50 {
        assert_eq!(by_id.text().await, number.to_string());
        assert_eq!(by_channel.text().await, number.to_string());
    }
    assert_eq!(by_id.frame().await, Frame::Close(4001, "enough".to_owned()));
    assert_eq!(by_channel.frame().await, Frame::Close(4002, String::new()));
    assert_eq!(b.connections().await, BTreeSet::new());
}

async fn an_audience_is_closed_on_all_nodes(a: Node, b: Node) {
    let news = channel("news");
    let mut clients = vec![a.connect(std::slice::from_ref(&news)).await, b.connect(std::slice::from_ref(&news)).await];
    let stays = b.connect(&[channel("other")]).await;
    let close = Act::Close { who: news.clone().into(), code: 1000, reason: String::new() };
    assert_eq!(a.act(close.clone()).await, Outcome::Done(2));
    for client in &mut clients {
        assert_eq!(client.frame().await, Frame::Close(1000, String::new()));
    }
    for node in [&a, &b] {
        assert_eq!(node.connections().await, BTreeSet::from([stays.id]));
    }
    assert_eq!(b.act(close).await, Outcome::Done(0));
}

async fn a_moment_after_settling_a_push_arrives(a: Node, b: Node) {
    for number in 0..100 {
        let audiences = [channel(&format!("new {number}")), user(&number.to_string())];
        let mut client = a.connect(&audiences).await;
        let [channel, user] = audiences;
        b.push(Target::Audience(channel), "channel").await;
        assert_eq!(client.text().await, "channel");
        b.push(Target::Audience(user), "user").await;
        assert_eq!(client.text().await, "user");
        b.push(Target::Connection(client.id), "connection").await;
        assert_eq!(client.text().await, "connection");
    }
}

async fn nodes_and_store_tell_of_themselves(a: Node, b: Node) {
    let nodes = b.cluster.nodes().await.unwrap();
    let ids: BTreeSet<String> = nodes.iter().map(|node| node.id.clone()).collect();
    let expected = [&a, &b].map(|node| node.cluster.node_id().to_string());
    assert_eq!(ids, BTreeSet::from(expected));
    assert!(nodes.iter().all(|node| node.start_time == 1_700_000_000 && node.address == "127.0.0.1:8080"));
    let _client = a.connect(&[]).await;
    until("the counters of another node are seen", || async {
        b.cluster.nodes().await.unwrap().iter().map(|node| node.counters.connections).sum::<u64>() == 1
    })
    .await;
    let store = b.cluster.store().await.unwrap();
    assert!(store.memory > 0 && store.start_time > 0, "{store:?}");
}
