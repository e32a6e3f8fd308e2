use super::super::connect::Connector;
use super::super::{RedisConfig, metrics::RedisMetrics};
use super::*;
use crate::hub::GapPolicy;
use crate::model::{Limits, Name};

struct World {
    subscriber: Subscriber,
    hub: Arc<Hub>,
}

impl World {
    fn new(sharded: bool) -> Self {
        let url = if sharded { "redis-cluster://a:1" } else { "redis://a:1" };
        let registry = prometheus::Registry::new();
        let metrics = Arc::new(RedisMetrics::new(&registry).unwrap());
        let config = RedisConfig { url: url.to_owned(), ..RedisConfig::default() };
        let topology = Topology::new(&Connector::new(&config, metrics.clone()).unwrap());
        let hub = Hub::start(Arc::new(Limits::default()), GapPolicy::Count, 1, &registry).unwrap();
        let subscriber = Subscriber::new(Keys::new(&config.prefix), sharded, topology, metrics);
        Self { subscriber, hub }
    }

    /// A link that has done all its work; its epoch.
    fn link(&self, place: &Place, run_id: &str) -> u64 {
        let (epoch, _) = self.subscriber.link_begins(place, (1, run_id.into()), &self.hub);
        self.work(place, epoch);
        epoch
    }

    /// Does what the link has to do; what is regained by it.
    fn work(&self, place: &Place, epoch: u64) -> Vec<Topic> {
        loop {
            let work = self.subscriber.next_work(place, epoch, 10);
            if work.subscribe.is_empty() && work.unsubscribe.is_empty() {
                return work.regained;
            }
            self.subscriber.acknowledge(place, epoch, &work.subscribe);
        }
    }

    fn servers(&self, names: &[&str]) {
        self.subscriber.topology.set_evenly(names);
        self.subscriber.moved();
    }

    fn want(&self, name: &str) -> (Arc<str>, Topic) {
        let audience = Audience::channel(Name::new(name).unwrap());
        let topic: Arc<str> = self.subscriber.keys.audience_topic(&audience).into();
        let (mut table, map) = self.subscriber.table();
        table.want(topic.clone(), Topic::Audience(audience.clone()), &map);
        (topic, Topic::Audience(audience))
    }
}

fn place(host: &str) -> Place {
    Place { host: host.into(), port: 1 }
}

#[tokio::test]
async fn a_gap_is_told_once_and_when_it_is_over() {
    let world = World::new(true);
    world.servers(&["a"]);
    let (_, news) = world.want("news");
    let first = world.link(&place("a"), "life");
    world.subscriber.link_ended(&place("a"), first);
    let (second, _) = world.subscriber.link_begins(&place("a"), (2, "life".into()), &world.hub);
    let all = world.subscriber.next_work(&place("a"), second, 10);
    world.subscriber.acknowledge(&place("a"), second, &all.subscribe[1..]);
    assert_eq!(all.regained, []);
    // It ends before it is told: nothing of it is forgotten.
    world.subscriber.link_ended(&place("a"), second);
    let (third, _) = world.subscriber.link_begins(&place("a"), (3, "life".into()), &world.hub);
    let regained = world.work(&place("a"), third);
    assert_eq!(regained.len(), 2, "{regained:?}");
    assert!(regained.contains(&news) && regained.contains(&Topic::All), "{regained:?}");
    assert_eq!(world.work(&place("a"), third), []);
}

#[tokio::test]
async fn what_moves_to_another_server_is_a_gap_when_it_is_heard_there() {
    let world = World::new(true);
    world.servers(&["a"]);
    let (_, news) = world.want("news");
    let old = world.link(&place("a"), "life");
    world.servers(&["b"]);
    world.subscriber.link_ended(&place("a"), old);
    let (new, _) = world.subscriber.link_begins(&place("b"), (2, "other".into()), &world.hub);
    let regained = world.work(&place("b"), new);
    assert!(regained.len() == 2 && regained.contains(&news), "{regained:?}");
}

#[tokio::test]
async fn an_acknowledgement_by_the_server_that_had_the_slot_before_counts_for_nothing() {
    let world = World::new(true);
    world.servers(&["a"]);
    let (old, new) = (world.link(&place("a"), "life"), world.link(&place("b"), "other"));
    let (name, topic) = world.want("news");
    let late = world.subscriber.next_work(&place("a"), old, 10).subscribe;
    assert_eq!(late, std::slice::from_ref(&name));
    world.servers(&["b"]);
    world.work(&place("b"), new);
    world.subscriber.acknowledge(&place("a"), old, &late);
    assert!(world.subscriber.all_acknowledged(&[(name, topic)]));
    assert_eq!(world.subscriber.held(&place("a"), old), Some(0));
}

#[tokio::test]
async fn a_name_that_is_dropped_while_its_slot_moves_is_taken_off_the_link_that_held_it() {
    let world = World::new(true);
    world.servers(&["a"]);
    let (name, _) = world.want("news");
    let link = world.link(&place("a"), "life");
    assert_eq!(world.subscriber.held(&place("a"), link), Some(2));
    world.subscriber.topology.set_evenly(&["b"]);
    let (mut table, map) = world.subscriber.table();
    table.drop_name(&name, &map);
    drop(table);
    world.subscriber.moved();
    assert_eq!(world.subscriber.held(&place("a"), link), Some(0));
}

#[tokio::test]
async fn a_link_to_a_server_that_was_replaced_does_not_count_as_hearing() {
    let world = World::new(false);
    world.subscriber.set_inbox(Seq::new(7).unwrap());
    world.subscriber.served_by(&"first".into());
    let old = world.link(&place("a"), "first");
    assert!(world.subscriber.hears());
    world.subscriber.served_by(&"second".into());
    assert!(!world.subscriber.hears());
    world.subscriber.link_ended(&place("a"), old);
    world.link(&place("a"), "second");
    assert!(world.subscriber.hears());
}
