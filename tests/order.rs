//! One publisher's pushes arrive in their order, once.

mod support;

use futures_util::future::join_all;
use support::api::{Publisher, push, quoted};
use support::http::Http;
use support::{Fleet, Heard, Listener, Node};

const PUBLISHERS: usize = 5;
const MESSAGES: usize = 400;
const LISTENERS_OF_A_NODE: usize = 20;

#[tokio::test]
async fn each_publishers_pushes_arrive_in_order_and_once_at_every_listener_on_three_nodes() {
    let fleet = Fleet::start(3, &[]).await;
    let mut listeners = Vec::new();
    for node in &fleet.nodes {
        listeners.extend(Listener::crowd(node.ws(), "/?channel[]=news", LISTENERS_OF_A_NODE).await);
    }
    let publishers = (0..PUBLISHERS).map(|publisher| publish(&fleet.nodes[publisher % fleet.nodes.len()], publisher));
    let hearing = listeners.iter_mut().map(hear_everything);
    futures_util::future::join(join_all(publishers), join_all(hearing)).await;
    // Whatever came twice would come before this.
    fleet.nodes[0].api().push("news", "the end").await.unwrap();
    support::ws::all_hear(&mut listeners, "the end").await;
}

async fn publish(node: &Node, publisher: usize) {
    let mut connection = Publisher::connect(node.http()).await.unwrap();
    for message in 0..MESSAGES {
        connection.push("news", &format!("{publisher}:{message}")).await.unwrap();
    }
}

async fn hear_everything(listener: &mut Listener) {
    let mut next = [0; PUBLISHERS];
    while next.iter().sum::<usize>() < PUBLISHERS * MESSAGES {
        let heard = listener.hears().await;
        let Heard::Text(text) = &heard else { panic!("{heard:?}") };
        let (publisher, message) = text.split_once(':').unwrap();
        let next = &mut next[publisher.parse::<usize>().unwrap()];
        assert_eq!(message.parse(), Ok(*next), "publisher {publisher}");
        *next += 1;
    }
}

#[tokio::test]
async fn pushes_to_a_channel_to_others_to_all_and_to_the_connection_itself_keep_one_order() {
    let fleet = Fleet::start(3, &[]).await;
    for node in &fleet.nodes {
        let before = node.api().connections().await.unwrap();
        let mut listener = Listener::connect(node.ws(), "/?channel[]=news&channel[]=sport").await;
        let after = node.api().connections().await.unwrap();
        let id = after.difference(&before).next().unwrap();
        // All by one connection to one node, without waiting for answers.
        let mut http = Http::connect(fleet.nodes[0].http()).await.unwrap();
        let queries = (0..400).map(|n| match n % 4 {
            0 => push("news", &n.to_string()),
            1 => format!("action=push&to=all&message={n}"),
            2 => format!("action=push&to=connection&connection={id}&message={n}"),
            _ => format!("action=push&to=channel&channel[]=sport&channel[]={}&message={n}", quoted("нічого")),
        });
        for query in queries {
            assert_eq!(http.get(&format!("/?{query}")).await.unwrap().json()["status"], true);
        }
        for n in 0..400 {
            listener.hears_text(&n.to_string()).await;
        }
    }
}
