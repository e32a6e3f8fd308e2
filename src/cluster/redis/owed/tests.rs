//! Single cases of the scripts and the table, against a real Redis.

use super::delivery::{Handed, again, next, taken};
use super::estate::{Closes, Estate, Facts, Of};
use super::holding::Answer;
use super::model::{connect, nodes::TOLD, server::RedisServer};
use super::table::{Table, Went};
use super::{MOST_WAITING, bucket};
use crate::cluster::Details;
use crate::cluster::owed::Owed;
use crate::cluster::redis::keys::{Keys, Registration};
use crate::cluster::redis::reaper::{begin, remove};
use crate::cluster::redis::scripts;
use crate::cluster::redis::wire::{Command, Wire, fields};
use crate::hub::{Change, Snapshot};
use crate::model::{Audience, Name, NodeId, Seq};
use std::time::Duration;
use tokio::time::Instant;

fn registration(seq: u32) -> Registration {
    Registration::new(Seq::new(seq).unwrap()).unwrap()
}

fn name() -> Name {
    Name::new("news").unwrap()
}

fn joined(members: u64) -> Change {
    Change::Joined { counter: 1, audience: Audience::channel(name()), members }
}

fn left(members: u64) -> Change {
    Change::Left { counter: 1, audience: Audience::channel(name()), members }
}

/// A table whose registration stands and which has held the channel.
async fn holding(wire: &Wire, keys: &Keys) -> Table {
    let mut table = Table::new();
    assert!(table.begin(&Snapshot::default()).is_empty());
    table.stands(registration(1));
    table.follow(&[joined(1)]);
    assert_eq!(calls(&mut table, wire, keys, Duration::ZERO).await, [Went::Done]);
    table
}

/// Makes all calls that are due, until none is or one has to wait; how they went.
async fn calls(table: &mut Table, wire: &Wire, keys: &Keys, youth: Duration) -> Vec<Went> {
    let mut all = Vec::new();
    while let Some(call) = table.call(bucket::bucket_of(&name()), Instant::now()) {
        let answer = wire.run(&call.command(keys, youth, TOLD)).await.unwrap();
        let answer = Answer::parse(&answer).unwrap();
        table.went(&call, answer.went, &answer.born, Instant::now());
        all.push(answer.went);
    }
    all
}

async fn handed(wire: &Wire, keys: &Keys, again_after: Duration) -> Vec<(String, Option<Owed>)> {
    let command = next(keys, bucket::bucket_of(&name()), "", again_after);
    Handed::parse(wire.run(&command).await.unwrap()).unwrap().entries
}

/// The events that wait, all of them taken out.
async fn told(wire: &Wire, keys: &Keys) -> Vec<&'static str> {
    let entries = handed(wire, keys, Duration::ZERO).await;
    let ids: Vec<String> = entries.iter().map(|(id, _)| id.clone()).collect();
    if !ids.is_empty() {
        wire.run(&taken(keys, bucket::bucket_of(&name()), &ids)).await.unwrap();
    }
    entries.into_iter().map(|(_, owed)| owed.unwrap().event()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_is_given_up_where_too_much_waits_and_what_was_handed_out_of_it_hinders_nobody() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let bucket = bucket::bucket_of(&name());
    let (who, forever) = (registration(1), Duration::from_secs(3600));
    let mut given_up = 0;
    let mut first = Vec::new();
    let rounds = MOST_WAITING / 100 + 2;
    for number in 1..=rounds {
        let mut command = Command::script(&scripts::OCCUPY, &keys.of_channels(bucket, ["news"; 100].into_iter()));
        for argument in [&*who.to_string(), &number.to_string(), "0", "", "0", &MOST_WAITING.to_string(), TOLD] {
            command.push(argument);
        }
        for operation in ["+", "-"].repeat(50) {
            command.push(operation);
            command.push("news");
        }
        let answer = Answer::parse(&wire.run(&command).await.unwrap()).unwrap();
        assert_eq!((answer.went, answer.changes), (Went::Done, 100));
        given_up += answer.given_up;
        if number == 1 {
            first = handed(&wire, &keys, forever).await;
            assert!(!first.is_empty() && handed(&wire, &keys, forever).await.is_empty(), "handed out to one at a time");
        }
    }
    assert_eq!(given_up as usize, rounds * 100 - MOST_WAITING);
    let waiting = wire.run(&Command::keyed("XLEN", &keys.out(bucket))).await.unwrap();
    assert_eq!(waiting.as_u64(), Some(MOST_WAITING as u64));
    // The first look finds that what was handed out is gone, the next one goes on.
    let mut after = handed(&wire, &keys, forever).await;
    if after.is_empty() {
        after = handed(&wire, &keys, forever).await;
    }
    assert!(!after.is_empty() && after[0].0 > first[0].0);
}

/// What Redis has of a dead registration: these connections as open, and these as ended.
async fn dead(wire: &Wire, keys: &Keys, open: &[u32], ended: &[u32]) -> (Registration, Facts) {
    let who = registration(7);
    let id = NodeId::random().unwrap().to_string();
    wire.run(&Command::keyed("HSET", &keys.node(&who)).arg("id").arg(id).arg("batch").arg("3")).await.unwrap();
    for (hash, counters, details) in
        [(keys.connections(&who), open, r#"{"user":"open"}"#), (keys.untold(&who), ended, r#"{"user":"ended"}"#)]
    {
        for counter in counters {
            let owing = Details::owing_close(details);
            wire.run(&Command::keyed("HSET", &hash).arg(counter.to_string()).arg(owing)).await.unwrap();
        }
    }
    let facts = fields(wire.run(&begin(keys, &who)).await.unwrap());
    (who, facts)
}

async fn found(wire: &Wire, keys: &Keys, estate: &Estate<'_>, of: Of) -> Vec<(u32, Option<String>)> {
    let Closes { next, mut closes } = Closes::parse(wire.run(&estate.closes(keys, of, "0")).await.unwrap()).unwrap();
    assert_eq!(next, "0");
    closes.sort_unstable();
    closes.into_iter().map(|(counter, details)| (counter, Details::parse(&details).user)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_that_was_noted_is_told_and_not_that_the_node_died() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    // The node died between noting that 2 has ended and taking it out of those that are open.
    let (who, facts) = dead(&wire, &keys, &[1, 2], &[2, 3]).await;
    let estate = Estate::new(&who, &facts).unwrap();
    let (open, ended) = (Some("open".to_owned()), Some("ended".to_owned()));
    assert_eq!(found(&wire, &keys, &estate, Of::Ended).await, [(2, ended.clone()), (3, ended)]);
    assert_eq!(found(&wire, &keys, &estate, Of::Open).await, [(1, open.clone())]);
    // Nor by a reaper that takes over when those that had ended are collected.
    for strike in estate.collected(&keys, &[2, 3]) {
        wire.run(&strike).await.unwrap();
    }
    assert_eq!(found(&wire, &keys, &estate, Of::Ended).await, []);
    assert_eq!(found(&wire, &keys, &estate, Of::Open).await, [(1, open)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_says_the_same_whoever_collects_it() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let (who, first) = dead(&wire, &keys, &[1], &[]).await;
    let second = fields(wire.run(&begin(&keys, &who)).await.unwrap());
    assert!(first == second && !first.contains_key("batch"), "{first:?} {second:?}");
    let bucket = bucket::bucket_of(&name());
    for facts in [&first, &second] {
        let estate = Estate::new(&who, facts).unwrap();
        wire.run(&estate.owe(&keys, bucket, &[(1, "{}".to_owned())], 10)).await.unwrap();
    }
    let entries = handed(&wire, &keys, Duration::ZERO).await;
    assert!(entries.len() == 2 && entries[0].1 == entries[1].1, "{entries:?}");
    // One that comes when all is gone leaves nothing behind.
    wire.run(&remove(&keys, &who)).await.unwrap();
    assert!(fields(wire.run(&begin(&keys, &who)).await.unwrap()).is_empty());
    assert_eq!(wire.run(&Command::keyed("EXISTS", &keys.node(&who))).await.unwrap().as_u64(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn closes_wait_where_they_are_while_there_is_no_room_and_none_is_given_up_for_another() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let (who, facts) = dead(&wire, &keys, &[], &[]).await;
    let estate = Estate::new(&who, &facts).unwrap();
    let bucket = bucket::bucket_of(&name());
    let closes: Vec<(u32, String)> = (0..5).map(|counter| (counter, "{}".to_owned())).collect();
    let owe = async |closes: &[(u32, String)]| wire.run(&estate.owe(&keys, bucket, closes, 3)).await.unwrap().as_u64();
    assert_eq!(owe(&closes).await, Some(3));
    assert_eq!(owe(&closes[3..]).await, Some(0));
    // What is refused goes behind the others, as it was.
    let entries = handed(&wire, &keys, Duration::ZERO).await;
    let ids: Vec<String> = entries.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(wire.run(&again(&keys, bucket, &ids[..1])).await.unwrap().as_u64(), Some(1));
    assert_eq!(wire.run(&again(&keys, bucket, &ids[..1])).await.unwrap().as_u64(), Some(0), "it is there once");
    wire.run(&taken(&keys, bucket, &ids[1..2])).await.unwrap();
    assert_eq!(owe(&closes[3..]).await, Some(1));
    wire.run(&taken(&keys, bucket, &ids[2..])).await.unwrap();
    let left: Vec<Owed> = handed(&wire, &keys, Duration::ZERO).await.into_iter().filter_map(|(_, owed)| owed).collect();
    let connection = |owed: &Owed| match owed {
        Owed::Closed { connection, .. } => connection.counter(),
        Owed::Occupied { .. } | Owed::Vacated { .. } => panic!("{owed:?}"),
    };
    assert_eq!(left.iter().map(connection).collect::<Vec<_>>(), [0, 3]);
    assert_eq!(Some(&left[0]), entries[0].1.as_ref());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_redis_has_lost_is_held_again_silently_and_what_changed_since_is_told_later() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let mut table = holding(&wire, &keys).await;
    assert_eq!(told(&wire, &keys).await, ["channel_occupied"]);
    server.cli(&["FLUSHALL"]).await;
    let long = Duration::from_secs(3600);
    table.follow(&[left(0)]);
    assert_eq!(calls(&mut table, &wire, &keys, long).await, [Went::Lost, Went::Young]);
    assert!(table.call(bucket::bucket_of(&name()), Instant::now()).is_none(), "it is tried again at once");
    assert!(told(&wire, &keys).await.is_empty());
    // The pause is over, and the bucket no longer young.
    let call = table.call(bucket::bucket_of(&name()), Instant::now() + long).unwrap();
    let answer = wire.run(&call.command(&keys, Duration::ZERO, TOLD)).await.unwrap();
    assert_eq!(Answer::parse(&answer).unwrap().went, Went::Done);
    assert_eq!(told(&wire, &keys).await, ["channel_vacated"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_lagged_is_told_all_again() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let bucket = bucket::bucket_of(&name());
    let mut table = holding(&wire, &keys).await;
    let who = table.registration().unwrap();
    // As if nothing of the last call, nor what it decided, had come to the replica.
    for key in [keys.of_channels(bucket, ["news"].into_iter()).pop().unwrap(), keys.calls(bucket), keys.out(bucket)] {
        wire.run(&Command::keyed("DEL", &key)).await.unwrap();
    }
    let answer = wire.run(&next(&keys, bucket, &who.to_string(), Duration::ZERO)).await.unwrap();
    let Handed { born, number, .. } = Handed::parse(answer).unwrap();
    assert!(table.seen(bucket, &who, &born, number));
    assert_eq!(calls(&mut table, &wire, &keys, Duration::ZERO).await, [Went::Lost, Went::Done]);
    assert_eq!(told(&wire, &keys).await, ["channel_occupied"]);
    assert!(!table.seen(bucket, &who, &born, 3), "now it is as it was told");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_is_struck_off_the_list_a_while_after_it_was_let_go_and_not_if_it_is_wanted_again() {
    let server = RedisServer::start().await;
    let wire = connect(&server).await;
    let keys = Keys::new("t:");
    let mut table = holding(&wire, &keys).await;
    let much_later = || Instant::now() + Duration::from_secs(3600);
    table.follow(&[left(0)]);
    assert!(table.strike(10, much_later()).is_empty(), "it is held yet");
    assert_eq!(calls(&mut table, &wire, &keys, Duration::ZERO).await, [Went::Done]);
    assert!(table.strike(10, Instant::now()).is_empty());
    table.follow(&[joined(1)]);
    assert!(table.strike(10, much_later()).is_empty(), "it is wanted again");
    assert_eq!(calls(&mut table, &wire, &keys, Duration::ZERO).await, [Went::Done]);
    table.follow(&[left(0)]);
    assert!(table.strike(10, much_later()).is_empty(), "it is held again");
    calls(&mut table, &wire, &keys, Duration::ZERO).await;
    assert_eq!(table.strike(10, much_later()), [name()]);
    assert_eq!(table.strike(10, much_later()), []);
}
