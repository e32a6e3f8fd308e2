//! Random operations of all interfaces on three nodes, with kills in between, against plain rules: after each step the
//! cluster's answers and what the clients heard are what the rules say.
//!
//! A failure prints its seed; `MODEL_SEED=… cargo test --test model` runs it again, and `MODEL_STEPS` makes it longer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod rules;
#[path = "../support/mod.rs"]
mod support;

use carillon::model::{DeviceId, HexId};
use rules::{Connection, Rules, integer};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use support::api::quoted;
use support::device::{Place, send};
use support::http::{Http, request};
use support::{DEADLINE, Heard, Listener, Node, RedisServer, eventually};

const USERS: [&str; 4] = ["ann", "7", "їжак", "o'neil & co"];
const GROUPS: [&str; 4] = ["red", "42", "房间 1", "-5"];
const CHANNELS: [&str; 3] = ["news", "a b", "канал"];

/// What the nodes of this test are told.
const ENVIRONMENT: [(&str, &str); 2] = [("CLIENT_PROFILES", "/=channel,/center=center"), ("DRAIN_PERIOD", "0s")];

const READS_OF_ALL: [&str; 9] = [
    "getConnectionCount",
    "get_IdCount",
    "get_Ids",
    "getIds",
    "getIdCount",
    "getBind_Ids",
    "getBind_IdCount",
    "getGroupIds",
    "getBindIds",
];
const READS_OF_ONE: [&str; 13] = [
    "isOnlineId",
    "isOnline_Id",
    "getIdBy_Id",
    "getBind_IdsById",
    "getGroupIdsById",
    "getGroupCountById",
    "getGroupIdsBy_Id",
    "getGroupCountBy_Id",
    "isInGroupById",
    "isInGroupBy_Id",
    "getGroupIdCount",
    "getGroup_IdCount",
    "getBindIdCount",
];
const ACTS: [&str; 15] = [
    "bindId",
    "unBindId",
    "unBind_Id",
    "joinGroupById",
    "joinGroupBy_Id",
    "leaveGroupById",
    "leaveGroupBy_Id",
    "leaveAllGroupById",
    "leaveAllGroupBy_Id",
    "sendMessageToId",
    "sendMessageTo_Id",
    "sendToGroup",
    "broadcast",
    "sendMessageToGroupByOnlyId",
    "sendMessageToGroupByOnly_Id",
];

/// A small repeatable generator (xorshift).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % limit
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

struct World {
    random: Random,
    redis: RedisServer,
    nodes: Vec<Node>,
    /// Where each node's device socket is.
    sockets: Vec<Place>,
    /// The first half of the `_id`s of each node's life, which is that of the node's own id.
    lives: Vec<String>,
    rules: Rules,
    clients: BTreeMap<String, Listener>,
    messages: u64,
}

impl World {
    async fn start(seed: u64) -> Self {
        let redis = RedisServer::start().await;
        let mut world = Self {
            random: Random(seed),
            redis,
            nodes: Vec::new(),
            sockets: Vec::new(),
            lives: Vec::new(),
            rules: Rules::default(),
            clients: BTreeMap::new(),
            messages: 0,
        };
        for place in 0..3 {
            world.start_node(place).await;
        }
        world
    }

    async fn start_node(&mut self, place: usize) {
        let url = self.redis.url();
        if self.sockets.len() == place {
            self.sockets.push(Place::new());
        }
        // A node in the place of a killed one finds its socket's file.
        let socket = self.sockets[place].text();
        let mut variables = vec![("REDIS_URL", url.as_str()), ("UNIX_SOCKET", &socket)];
        variables.extend_from_slice(&ENVIRONMENT);
        let node = Node::start(&variables).await;
        if place < self.nodes.len() {
            self.nodes[place] = node;
            self.lives[place].clear();
        } else {
            self.nodes.push(node);
            self.lives.push(String::new());
        }
        // A first client, which tells the node's life.
        self.connect(place).await;
    }

    async fn connect(&mut self, place: usize) {
        let channels: BTreeSet<String> =
            (0..self.random.below(3)).map(|_| self.random.of(&CHANNELS).to_owned()).collect();
        let query: Vec<String> = channels.iter().map(|channel| format!("channel[]={}", quoted(channel))).collect();
        let mut client = Listener::connect(self.nodes[place].ws(), &format!("/center?{}", query.join("&"))).await;
        let Heard::Text(opened) = client.hears().await else { panic!("no open message") };
        let opened: Value = serde_json::from_str(&opened).unwrap();
        assert_eq!(opened["cmd"], "open");
        let id = opened["_id"].as_str().unwrap().to_owned();
        self.lives[place] = id[..16].to_owned();
        self.rules.connections.insert(id.clone(), Connection { node: place, channels, ..Connection::default() });
        self.clients.insert(id, client);
    }

    fn any_node(&mut self) -> usize {
        self.random.below(self.nodes.len())
    }

    /// An `_id`: mostly of a connection that is there.
    fn any_id(&mut self) -> String {
        let ids: Vec<&String> = self.rules.connections.keys().collect();
        if ids.is_empty() || self.random.below(12) == 0 {
            return self
                .random
                .of(&["", "0", "98b95842c9e26e8f0000000500000007", "ffffffffffffffffffffffffffffffff"])
                .to_owned();
        }
        ids[self.random.below(ids.len())].clone()
    }

    fn ids(&mut self, at_most: usize) -> Vec<String> {
        (0..self.random.below(at_most + 1)).map(|_| self.any_id()).collect()
    }

    fn message(&mut self) -> String {
        self.messages += 1;
        format!("{} ї", self.messages)
    }

    // ---- the events API ----

    fn parameters(&mut self, event: &str) -> Value {
        let mut p = serde_json::Map::new();
        let mut set = |name: &str, value: Value| drop(p.insert(name.to_owned(), value));
        if event.contains("_Id") && !event.ends_with("Ids") && event != "getGroup_IdCount" || event == "bindId" {
            let id = self.any_id();
            // Those that are said of every connection have no parameter, and ignore one.
            set("_id", id.into());
        }
        if event.ends_with("Id") && !event.ends_with("_Id") || event.ends_with("ById") {
            set("id", self.random.of(&USERS).into());
        }
        if event.contains("Group") {
            let mut group = self.random.of(&GROUPS).to_owned();
            if matches!(event, "joinGroupById" | "leaveGroupById") && self.random.below(2) == 0 {
                group = format!("{group},{}", self.random.of(&GROUPS));
            }
            set("groupId", group.into());
        }
        if event.starts_with("send") || event == "broadcast" {
            set("msg", self.message().into());
            set("exclude_Ids", self.ids(2).into());
            if event == "sendToGroup" && self.random.below(2) == 0 {
                set("excludeIds", json!([self.random.of(&USERS)]));
            }
        }
        p.into()
    }

    async fn events(&mut self, events: &[&str]) {
        let mut body = serde_json::Map::new();
        body.insert("event".to_owned(), events.join(",").into());
        for event in events {
            let parameters = self.parameters(event);
            body.insert((*event).to_owned(), parameters);
        }
        let asked = self.any_node();
        let text = Value::from(body.clone()).to_string();
        let headers = [("content-type", "application/json")];
        let mut http = Http::connect(self.nodes[asked].http()).await.unwrap();
        let answer = http.request(&request("POST", "/", &headers, text.as_bytes())).await.unwrap().json();
        assert_eq!((&answer["code"], &answer["msg"]), (&json!(0), &json!("ok")), "{text}: {answer:#}");
        let ids: Vec<&str> = answer["master_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
        assert_eq!(ids.len(), self.nodes.len(), "{answer:#}");
        for event in events {
            for place in 0..self.nodes.len() {
                let expected = self.rules.event(place, event, &body[*event]);
                let id = ids.iter().find(|id| id.starts_with(&self.lives[place])).expect("every node is listed");
                let found = &answer["data"][event][*id];
                assert_eq!(sorted(found), sorted(&expected), "{event} on node {place} of {text}: {answer:#}");
            }
        }
    }

    async fn batch(&mut self) {
        let mut events: Vec<&str> = Vec::new();
        for _ in 0..=self.random.below(6) {
            let event = match self.random.below(10) {
                0 | 1 => self.random.of(&READS_OF_ALL),
                2 | 3 => self.random.of(&READS_OF_ONE),
                _ => self.random.of(&ACTS),
            };
            if !events.contains(&event) {
                events.push(event);
            }
        }
        self.events(&events).await;
    }

    // ---- the actions API ----

    async fn action(&mut self, query: &str) -> Value {
        let asked = self.any_node();
        self.nodes[asked].api().call(query).await.unwrap()
    }

    async fn actions(&mut self) {
        let id = self.any_id();
        let there = self.rules.connections.contains_key(&id);
        let decimal = if there { integer(&id) } else { 5 };
        let channel = self.random.of(&CHANNELS);
        let message = self.message();
        let said = quoted(&message);
        match self.random.below(9) {
            0 => {
                let query = format!("action=push&to=channel&channel={}&message={said}", quoted(channel));
                assert_eq!(self.action(&query).await["status"], true);
                self.rules.push(&message, |_, it| it.channels.contains(channel));
            }
            1 => {
                let query = format!("action=push&to=connection&connection={decimal}&message={said}");
                assert_eq!(self.action(&query).await["status"], there);
                self.rules.push(&message, |other, _| other == id);
            }
            2 => {
                let user = self.random.of(&USERS);
                let query = format!("action=push&to=user&user={}&message={said}", quoted(user));
                assert_eq!(self.action(&query).await["status"], true);
                self.rules.push(&message, |_, it| it.user.as_deref() == Some(user));
            }
            3 => {
                let group = self.random.of(&GROUPS);
                let query = format!("action=push&to=group&group={}&message={said}&exclude[]={decimal}", quoted(group));
                assert_eq!(self.action(&query).await["status"], true);
                self.rules.push(&message, |other, it| it.groups.contains(group) && other != id);
            }
            4 => {
                assert_eq!(self.action(&format!("action=push&to=all&message={said}")).await["status"], true);
                self.rules.push(&message, |_, _| true);
            }
            5 | 6 => {
                let query = format!("action=subscribe&connection={decimal}&channel[]={}", quoted(channel));
                assert_eq!(self.action(&query).await["status"], there);
                if let Some(connection) = self.rules.connections.get_mut(&id) {
                    connection.channels.insert(channel.to_owned());
                }
            }
            7 => {
                let query = format!("action=unsubscribe&connection={decimal}&channel[]={}", quoted(channel));
                assert_eq!(self.action(&query).await["status"], there);
                if let Some(connection) = self.rules.connections.get_mut(&id) {
                    connection.channels.remove(channel);
                }
            }
            _ => {
                let query = format!("action=close&to=connection&connection={decimal}");
                assert_eq!(self.action(&query).await["status"], there);
                if there {
                    self.hears_what_it_is_owed(&id).await;
                    self.rules.connections.remove(&id);
                    let mut client = self.clients.remove(&id).unwrap();
                    assert_eq!(client.hears().await, Heard::Closed(1000, String::new()));
                }
            }
        }
    }

    // ---- the device socket ----

    async fn device(&mut self) {
        let id = self.any_id();
        let device = id
            .parse::<HexId>()
            .map_or_else(|()| "nobody".to_owned(), |id| DeviceId::new(id.life(), id.connection()).to_string());
        let channel = self.random.of(&CHANNELS);
        let message = json!({ "said": self.message() });
        let heard = message.to_string();
        let document = match self.random.below(5) {
            0 => {
                self.rules.push(&heard, |_, _| true);
                json!({ "action": "multicast", "data": message })
            }
            1 => {
                self.rules.push(&heard, |_, it| it.channels.contains(channel));
                json!({ "action": "sendToChannel", "channel": channel, "data": message })
            }
            2 => {
                self.rules.push(&heard, |other, _| other == id);
                json!({ "action": "sendToDevice", "device": device, "data": message })
            }
            3 => {
                if let Some(connection) = self.rules.connections.get_mut(&id) {
                    connection.channels.insert(channel.to_owned());
                }
                json!({ "action": "subscribe", "device": device, "channel": channel })
            }
            _ => {
                if let Some(connection) = self.rules.connections.get_mut(&id) {
                    connection.channels.remove(channel);
                }
                json!({ "action": "unsubscribe", "device": device, "channel": channel })
            }
        };
        let asked = self.any_node();
        assert_eq!(send(&self.sockets[asked].path(), document.to_string()).await, "OK", "{document}");
    }

    // ---- clients and nodes ----

    async fn hears_what_it_is_owed(&mut self, id: &str) {
        let owed = std::mem::take(&mut self.rules.connections.get_mut(id).unwrap().owed);
        let client = self.clients.get_mut(id).unwrap();
        for message in owed {
            assert_eq!(client.hears().await, Heard::Text(message), "{id}");
        }
    }

    async fn everybody_hears(&mut self) {
        for id in self.clients.keys().cloned().collect::<Vec<_>>() {
            self.hears_what_it_is_owed(&id).await;
        }
    }

    /// A client leaves by itself; its node learns of it when the closing handshake is over.
    async fn leave(&mut self) {
        let id = self.any_id();
        if let Some(client) = self.clients.remove(&id) {
            client.close().await;
            self.rules.connections.remove(&id);
            self.settled().await;
        }
    }

    /// `kill -9`, and another node in its place.
    async fn kill(&mut self) {
        let place = self.any_node();
        self.nodes[place].kill();
        self.rules.connections.retain(|_, connection| connection.node != place);
        self.clients.retain(|id, _| self.rules.connections.contains_key(id));
        self.settled_without(&[place]).await;
        self.start_node(place).await;
    }

    async fn settled(&mut self) {
        self.settled_without(&[]).await;
    }

    /// Every node that lives lists those that live, and the connections that the rules have.
    async fn settled_without(&mut self, dead: &[usize]) {
        let expected: BTreeSet<u64> = self.rules.connections.keys().map(|id| integer(id)).collect();
        for (place, node) in self.nodes.iter().enumerate().filter(|(place, _)| !dead.contains(place)) {
            eventually(&format!("node {place} lists who is there"), DEADLINE, async || {
                let answer = node.api().call("event=getConnectionCount").await.map_err(|error| error.to_string())?;
                let living = answer["master_ids"].as_array().map_or(0, Vec::len);
                if living != self.nodes.len() - dead.len() {
                    return Err(format!("{living} nodes live: {answer}"));
                }
                match node.api().connections().await {
                    Ok(found) if found == expected => Ok(()),
                    other => Err(format!("{other:?} instead of {expected:?}")),
                }
            })
            .await;
        }
    }

    async fn census(&mut self) {
        self.events(&READS_OF_ALL).await;
        let asked = self.any_node();
        let mut expected: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for (id, connection) in &self.rules.connections {
            for channel in &connection.channels {
                expected.entry(channel.clone()).or_default().insert(integer(id));
            }
        }
        assert_eq!(self.nodes[asked].api().channels().await.unwrap(), expected);
        let everybody: BTreeSet<u64> = self.rules.connections.keys().map(|id| integer(id)).collect();
        assert_eq!(self.nodes[asked].api().connections().await.unwrap(), everybody);
    }
}

/// A value whose lists have no order.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(list) => {
            let mut list = list.clone();
            list.sort_by_key(Value::to_string);
            list.into()
        }
        other => other.clone(),
    }
}

async fn run(seed: u64, steps: usize) {
    eprintln!("MODEL_SEED={seed}");
    let mut world = World::start(seed).await;
    let mut kills = 0;
    for _ in 0..steps {
        match world.random.below(20) {
            0 | 1 if world.clients.len() < 16 => {
                let place = world.any_node();
                world.connect(place).await;
            }
            2 => world.leave().await,
            3 if kills < steps.div_ceil(60) => {
                kills += 1;
                world.kill().await;
            }
            4..=7 => world.actions().await,
            8..=10 => world.device().await,
            _ => world.batch().await,
        }
        world.everybody_hears().await;
        world.census().await;
    }
    // Nobody was sent anything else: this is the next that everybody hears.
    world.events(&["broadcast"]).await;
    world.everybody_hears().await;
}

#[expect(clippy::disallowed_methods, reason = "how long and from where a test runs is no setting of a node")]
fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn random_operations_of_all_interfaces_are_answered_as_the_rules_say() {
    let steps = from_environment("MODEL_STEPS").unwrap_or(150) as usize;
    match from_environment("MODEL_SEED") {
        Some(seed) => run(seed, steps).await,
        None => {
            for seed in [0x9e37_79b9, 0x1234_5678_9abc] {
                run(seed, steps).await;
            }
        }
    }
}
