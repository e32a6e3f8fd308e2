//! What a batch of a thousand events costs Redis: rounds by its length over hundreds, not by its length.

mod support;

use serde_json::{Value, json};
use support::resp::Resp;
use support::{Events, Fleet, Listener};

/// The largest batch.
const EVENTS: usize = 1000;

/// Times that Redis may have something to read for one batch. A single event makes eight or so; what goes out together is
/// read in some steps, and nodes that renew their leases meanwhile add some.
const MOST_READS: u64 = 1000;

/// Publications for one batch: four lists of acts to each of three nodes, as many answers, and the nodes' own.
const MOST_PUBLISHED: u64 = 100;

/// How often Redis found something to read on any connection, and how often it was asked to publish.
async fn cost(resp: &mut Resp) -> (u64, u64) {
    let stats = resp.command(&["INFO", "stats"]).await;
    let commands = resp.command(&["INFO", "commandstats"]).await;
    let reads = stats.text().lines().find_map(|line| line.strip_prefix("total_reads_processed:")).unwrap();
    let published =
        commands.text().lines().find_map(|line| line.strip_prefix("cmdstat_publish:calls=")?.split(',').next());
    (reads.trim().parse().unwrap(), published.unwrap_or("0").parse().unwrap())
}

/// The same event's name in many spellings, so that each has parameters of its own.
fn spelled(event: &str, number: usize) -> String {
    let mut bit = 0;
    let spell = |letter: char| {
        bit += u32::from(letter.is_ascii_alphabetic());
        if bit > 0 && number >> (bit - 1) & 1 == 1 { letter.to_ascii_uppercase() } else { letter }
    };
    event.chars().map(spell).collect()
}

/// A batch of the largest size.
fn batch(event: &str, parameters: impl Fn(usize) -> Value) -> String {
    let names: Vec<String> = (0..EVENTS).map(|number| spelled(event, number)).collect();
    let given = names.iter().enumerate().map(|(number, name)| (name.clone(), parameters(number)));
    let event = [("event".to_owned(), names.join(",").into())];
    Value::Object(event.into_iter().chain(given).collect()).to_string()
}

#[tokio::test]
async fn a_thousand_events_cost_redis_by_hundreds() {
    let fleet = Fleet::start(3, &[]).await;
    let api = Events(fleet.nodes[0].http());
    let mut resp = fleet.resp().await;
    let mut listeners = Vec::new();
    for node in &fleet.nodes {
        listeners.push(Listener::connect(node.ws(), "/").await);
    }
    let ids: Vec<String> = api.ids().await.into_keys().collect();
    for (event, body, last) in [
        ("isonlineid", batch("isonlineid", |number| json!([format!("user {number}")])), json!(false)),
        ("getgroup_idcount", batch("getgroup_idcount", |number| json!([format!("group {number}")])), json!(0)),
        ("sendmessageto_id", batch("sendmessageto_id", |number| json!([ids[number % 3], "m"])), Value::Null),
        (
            "joingroupby_id",
            batch("joingroupby_id", |number| json!([format!("g{}", number % 50), ids[number % 3]])),
            Value::Null,
        ),
        ("sendtogroup", batch("sendtogroup", |number| json!([format!("g{}", number % 50), "m"])), Value::Null),
        (
            "sendmessagetogroupbyonly_id",
            batch("sendmessagetogroupbyonly_id", |number| json!([ids[number % 3], "m"])),
            json!(1),
        ),
    ] {
        let before = cost(&mut resp).await;
        let reply = api.post("", &body).await.json();
        let after = cost(&mut resp).await;
        let values = reply["data"].as_object().unwrap();
        assert_eq!(values.len(), EVENTS, "{event}");
        let (_, of_last) = values.iter().next_back().unwrap();
        assert!(
            last.is_null() || of_last.as_object().unwrap().values().all(|value| *value == last),
            "{event}: {of_last}"
        );
        let (reads, published) = (after.0 - before.0, after.1 - before.1);
        assert!(reads < MOST_READS && published < MOST_PUBLISHED, "{event}: {reads} reads, {published} publications");
    }
}

/// Clients of one node, fewer than one step looks at.
const CLIENTS: usize = 60;

/// Bytes of details that one step reads at most, but for the last connection's.
const STEP_BYTES: usize = 32 << 10;

#[tokio::test]
async fn long_queries_of_a_groups_members_are_read_in_short_steps() {
    let fleet = Fleet::start(1, &[]).await;
    let api = Events(fleet.nodes[0].http());
    let mut resp = fleet.resp().await;
    let query = "x".repeat(4000);
    let mut listeners = Vec::new();
    for _ in 0..CLIENTS {
        listeners.push(Listener::connect(fleet.nodes[0].ws(), &format!("/?a={query}")).await);
    }
    for (number, id) in api.ids().await.into_keys().enumerate() {
        api.values("bindId", &json!([format!("user {}", number % 50), id])).await;
        api.values("joinGroupBy_Id", &json!(["g", id])).await;
    }
    let scripts = async |resp: &mut Resp| -> u64 {
        let commands = resp.command(&["INFO", "commandstats"]).await;
        let calls = |line: &str| Some(line.strip_prefix("cmdstat_evalsha:calls=")?.split(',').next()?.parse().unwrap());
        commands.text().lines().find_map(calls).unwrap_or(0)
    };
    let before = scripts(&mut resp).await;
    let users = api.values("getGroupIdCount", &json!(["g"])).await;
    let steps = scripts(&mut resp).await - before;
    assert_eq!(users.into_values().collect::<Vec<_>>(), [json!(50)]);
    let least = CLIENTS * query.len() / (STEP_BYTES + query.len() + 1000);
    assert!(steps >= least as u64, "{steps} steps, not {least}");
}
