//! What the cluster owes is told: channels occupied and vacated, and the closes of a node that died, whatever happens to
//! nodes, to Redis and to whoever is told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "cluster_contract/node.rs"]
#[allow(dead_code, reason = "it is made for another suite, of which this is a part")]
mod node;
#[path = "support/redis.rs"]
mod redis;

#[path = "told/on_redis.rs"]
mod on_redis;
#[path = "told/recorder.rs"]
mod recorder;

use node::{Node, channel, group, until, user};
use recorder::Recorder;

macro_rules! told {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let recorder = crate::recorder::Recorder::new();
                let node = crate::node::Node::embedded_telling(Some(recorder.clone()));
                super::$name(node.clone(), node, recorder).await;
            })*
        }
        mod on_single_redis {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let recorder = crate::recorder::Recorder::new();
                let (a, b) = recorder.two(crate::node::single().await).await;
                super::$name(a, b, recorder).await;
            })*
        }
        mod on_redis_cluster {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let recorder = crate::recorder::Recorder::new();
                let (a, b) = recorder.two(crate::node::sharded().await).await;
                super::$name(a, b, recorder).await;
            })*
        }
    };
}

told! {
    the_first_and_the_last_member_are_told_and_nobody_else,
    what_is_not_taken_is_offered_again_under_the_same_id,
    a_receiver_that_never_answers_is_in_nobody_s_way,
}

type Told = std::sync::Arc<Recorder>;

async fn the_first_and_the_last_member_are_told_and_nobody_else(a: Node, b: Node, told: Told) {
    let (news, chat) = (channel("news {x} ї"), channel("chat"));
    let first = a.connect(&[news.clone(), user("ann"), group("g")]).await;
    let second = b.connect(&[news.clone(), chat.clone()]).await;
    told.comes_to("news {x} ї", &["channel_occupied"]).await;
    told.comes_to("chat", &["channel_occupied"]).await;
    a.hub.close(first.id, 1000, "");
    a.cluster.settle(&[]).await.unwrap();
    b.hub.close(second.id, 1000, "");
    told.comes_to("news {x} ї", &["channel_occupied", "channel_vacated"]).await;
    told.comes_to("chat", &["channel_occupied", "channel_vacated"]).await;
    for _ in 0..3 {
        let again = a.connect(std::slice::from_ref(&chat)).await;
        a.hub.close(again.id, 1000, "");
    }
    let _last = b.connect(std::slice::from_ref(&chat)).await;
    until("chat is told to be occupied", || async { told.story("chat").last() == Some(&"channel_occupied") }).await;
    told.has_only_whole_stories();
    assert!(told.channels().iter().all(|channel| channel == "chat" || channel == "news {x} ї"), "{told:?}");
}

async fn what_is_not_taken_is_offered_again_under_the_same_id(a: Node, b: Node, told: Told) {
    told.refuse_next(3);
    let first = a.connect(&[channel("news")]).await;
    told.comes_to("news", &["channel_occupied"]).await;
    assert_eq!(told.refused(), 3);
    told.refuse_next(2);
    a.hub.close(first.id, 1000, "");
    told.comes_to("news", &["channel_occupied", "channel_vacated"]).await;
    let refused = told.refused_ids();
    assert!(refused.iter().all(|id| told.ids().contains(id)), "{refused:?} were offered, {:?} taken", told.ids());
    drop(b);
}

async fn a_receiver_that_never_answers_is_in_nobody_s_way(a: Node, b: Node, told: Told) {
    told.hang(true);
    for number in 0..50 {
        let name = channel(&format!("news {number}"));
        let mut client = a.connect(std::slice::from_ref(&name)).await;
        b.push(carillon::model::Target::Audience(name), "hello").await;
        assert_eq!(client.text().await, "hello");
        a.hub.close(client.id, 1000, "");
    }
    a.cluster.settle(&[]).await.unwrap();
    assert_eq!(told.story("news 0"), [""; 0]);
}
