//! The events API, as a backend would use it, and its rows as data.
//!
//! A file of rows has these lines:
//!
//! - `event NAME PARAMETER…`: an event's parameters in their order, for calls that give them by position.
//! - `# …`: a title; told when the test fails.
//! - `open NAME TARGET`: a client connects; `leave NAME`: it disconnects.
//! - `NAME {…}`: an event with its parameters as JSON, where `{a}` is the `_id` of the client `a`. The next line is what comes
//!   of it: `= each V` (V on every node), `= at a,b V else W` (V on the nodes of these clients, W on others), `= sum N`
//!   (numbers on all nodes together), `= all V` (the entries of lists or maps on all nodes together), `= fault TEXT` (an error
//!   with this text on every node).
//! - `NAME hears TEXT`: a message that came of the event before. Nothing else is heard by anybody.
//!
//! Requests go to the first node, clients are on the other ones if there are any.

use super::api::quoted;
use super::http::{Answer, Http, request};
use super::{DEADLINE, Heard, Listener, Node, eventually};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// What the runner sends to see that nothing else came.
const END: &str = "end of what was heard";

/// How an event's parameters are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// `E[name]=value` in the query.
    QueryByName,
    /// `E[0]=value` in the query.
    QueryByPlace,
    /// `{"E":{"name":value}}`.
    BodyByName,
    /// `{"E":[value]}`.
    BodyByPlace,
}

impl Way {
    /// Every way there is.
    pub const ALL: [Self; 4] = [Self::QueryByName, Self::QueryByPlace, Self::BodyByName, Self::BodyByPlace];
}

/// Calls that ask a node over a connection each.
#[derive(Clone, Copy, Debug)]
pub struct Events(pub SocketAddr);

impl Events {
    /// Asks for `/?query`.
    pub async fn get(self, query: &str) -> Answer {
        let mut http = Http::connect(self.0).await.unwrap();
        http.get(&format!("/?{query}")).await.unwrap()
    }

    /// Posts a body.
    pub async fn post(self, query: &str, body: &str) -> Answer {
        let mut http = Http::connect(self.0).await.unwrap();
        http.request(&request("POST", &format!("/?{query}"), &[], body.as_bytes())).await.unwrap()
    }

    /// One event, its parameters as JSON: its value on each node.
    pub async fn values(self, event: &str, parameters: &Value) -> BTreeMap<String, Value> {
        let answer = self.post("", &json!({ "event": event, event: parameters }).to_string()).await;
        by_node(&answer.json(), event)
    }

    /// The nodes that answer.
    pub async fn nodes(self) -> Vec<String> {
        let reply = self.get("event=getConnectionCount").await.json();
        reply["master_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap().to_owned()).collect()
    }

    /// Every `_id`, with its node.
    pub async fn ids(self) -> BTreeMap<String, String> {
        let mut ids = BTreeMap::new();
        for (node, list) in self.values("get_Ids", &json!({})).await {
            for id in list.as_array().unwrap() {
                assert!(ids.insert(id.as_str().unwrap().to_owned(), node.clone()).is_none(), "{id} is listed twice");
            }
        }
        ids
    }
}

/// An event's values in a reply.
pub fn by_node(reply: &Value, event: &str) -> BTreeMap<String, Value> {
    assert_eq!((&reply["code"], &reply["msg"]), (&json!(0), &json!("ok")), "{reply}");
    let values = reply["data"][event].as_object().unwrap_or_else(|| panic!("no values of {event}: {reply}"));
    values.iter().map(|(node, value)| (node.clone(), value.clone())).collect()
}

/// What a refused call is answered, byte for byte.
pub fn refusal(why: &str) -> String {
    format!("{{\n    \"code\": 1,\n    \"msg\": \"{why}\",\n    \"data\": []\n}}\n")
}

/// The request that gives an event its parameters one way: a query and a body.
pub fn call(event: &str, parameters: &Value, order: &[&str], way: Way) -> (String, String) {
    let given = parameters.as_object().unwrap();
    let extra = given.keys().map(String::as_str).filter(|name| !order.contains(name));
    let names = order.iter().copied().chain(extra.clone());
    let by_place: Vec<&Value> = names.map(|name| given.get(name).unwrap_or(&Value::Null)).collect();
    match way {
        Way::QueryByName | Way::QueryByPlace => {
            let mut query = format!("event={}", quoted(event));
            if way == Way::QueryByName {
                given.iter().for_each(|(name, value)| place(&mut query, &format!("{event}[{name}]"), value));
            } else {
                let placed = by_place.iter().enumerate();
                placed.for_each(|(at, value)| place(&mut query, &format!("{event}[{at}]"), value));
            }
            (query, String::new())
        }
        Way::BodyByName => (String::new(), json!({ "event": event, event: parameters }).to_string()),
        Way::BodyByPlace => (String::new(), json!({ "event": event, event: by_place }).to_string()),
    }
}

/// A value in a query, as PHP's `http_build_query` puts it there.
fn place(query: &mut String, key: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| place(query, &format!("{key}[{at}]"), value));
        }
        Value::Object(map) => map.iter().for_each(|(name, value)| place(query, &format!("{key}[{name}]"), value)),
        Value::Bool(flag) => *query += &format!("&{}={}", quoted(key), u8::from(*flag)),
        Value::Number(number) => *query += &format!("&{}={number}", quoted(key)),
        Value::String(text) => *query += &format!("&{}={}", quoted(key), quoted(text)),
    }
}

struct Client {
    id: String,
    node: String,
    listener: Listener,
}

struct Runner<'a> {
    nodes: &'a [Node],
    events: Events,
    orders: BTreeMap<String, Vec<&'a str>>,
    way: Way,
    clients: BTreeMap<String, Client>,
    opened: usize,
    at: String,
}

/// Runs rows one way; nothing but it may use the nodes. Every client is gone afterwards.
pub async fn run(rows: &str, nodes: &[Node], way: Way) {
    let events = Events(nodes[0].http());
    let (orders, clients) = (BTreeMap::new(), BTreeMap::new());
    let mut runner = Runner { nodes, events, orders, way, clients, opened: 0, at: String::new() };
    let mut lines = rows.lines().filter(|line| !line.is_empty()).peekable();
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "#" => runner.at = format!("{rest} ({way:?})"),
            "event" => {
                let mut words = rest.split(' ');
                runner.orders.insert(words.next().unwrap().to_lowercase(), words.collect());
            }
            "open" => {
                let (name, target) = rest.split_once(' ').unwrap();
                runner.open(name, target).await;
            }
            "leave" => runner.leave(rest).await,
            event => {
                let wanted =
                    lines.next_if(|line| line.starts_with("= ")).unwrap_or_else(|| panic!("{line}: no result"));
                let parameters = if rest.is_empty() { "{}" } else { rest };
                runner.event(event, parameters, &wanted[2..]).await;
                let mut heard: BTreeMap<&str, Vec<Heard>> = BTreeMap::new();
                while let Some(line) = lines.next_if(|line| line.contains(" hears ")) {
                    let (name, text) = line.split_once(" hears ").unwrap();
                    heard.entry(name).or_default().push(Heard::Text(text.to_owned()));
                }
                runner.heard(&heard).await;
            }
        }
    }
    for name in runner.clients.keys().cloned().collect::<Vec<_>>() {
        runner.leave(&name).await;
    }
}

impl Runner<'_> {
    async fn open(&mut self, name: &str, target: &str) {
        let before = self.events.ids().await;
        let others = self.nodes.len().saturating_sub(1).max(1);
        let node = &self.nodes[(self.nodes.len() - others) + self.opened % others];
        self.opened += 1;
        let listener = Listener::connect(node.ws(), target).await;
        let mut new = self.events.ids().await;
        new.retain(|id, _| !before.contains_key(id));
        assert_eq!(new.len(), 1, "{}: {name} is listed as soon as its handshake is answered", self.at);
        let (id, node) = new.pop_first().unwrap();
        self.clients.insert(name.to_owned(), Client { id, node, listener });
    }

    async fn leave(&mut self, name: &str) {
        let client = self.clients.remove(name).unwrap();
        client.listener.close().await;
        eventually("a client that has left is in no listing", DEADLINE, async || {
            if self.events.ids().await.contains_key(&client.id) { Err("it is listed") } else { Ok(()) }
        })
        .await;
    }

    async fn event(&self, event: &str, parameters: &str, wanted: &str) {
        let parameters: Value = serde_json::from_str(&self.with_ids(parameters)).unwrap();
        let order = self.orders.get(&event.to_lowercase()).unwrap_or_else(|| panic!("no line for the event {event}"));
        let (query, body) = call(event, &parameters, order, self.way);
        let answer =
            if body.is_empty() { self.events.get(&query).await } else { self.events.post(&query, &body).await };
        let asked = format!("{}: {event} {parameters}", self.at);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{asked}");
        let values = by_node(&answer.json(), event);
        assert_eq!(values.len(), self.nodes.len(), "{asked}");
        self.compare(&values, &self.with_ids(wanted), &asked);
    }

    fn compare(&self, values: &BTreeMap<String, Value>, wanted: &str, asked: &str) {
        let json = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_else(|_| panic!("{asked}: {text:?}"));
        let (kind, rest) = wanted.split_once(' ').unwrap();
        match kind {
            "each" => values.values().for_each(|value| assert_eq!(ordered(value), ordered(&json(rest)), "{asked}")),
            "fault" => {
                let wanted = json!({ "code": 1, "msg": rest, "data": [] });
                values.values().for_each(|value| assert_eq!(*value, wanted, "{asked}"));
            }
            "at" => {
                let (names, rest) = rest.split_once(' ').unwrap();
                let (here, elsewhere) = rest.split_once(" else ").unwrap();
                let nodes: BTreeSet<&String> = names.split(',').map(|name| &self.clients[name].node).collect();
                for (node, value) in values {
                    let wanted = json(if nodes.contains(node) { here } else { elsewhere });
                    assert_eq!(ordered(value), ordered(&wanted), "{asked}");
                }
            }
            "sum" => {
                let sum: u64 =
                    values.values().map(|value| value.as_u64().unwrap_or_else(|| panic!("{asked}: {value}"))).sum();
                assert_eq!(sum, rest.parse::<u64>().unwrap(), "{asked}: {values:?}");
            }
            "all" => {
                let mut all = json(rest);
                let empty = if all.is_array() { json!([]) } else { json!({}) };
                let together = values.values().fold(empty, |mut together, value| {
                    match (&mut together, value) {
                        (Value::Array(all), Value::Array(list)) => all.extend(list.iter().cloned()),
                        (Value::Object(all), Value::Object(map)) => all.extend(map.clone()),
                        // An empty map is a list.
                        (Value::Object(_), Value::Array(list)) => assert!(list.is_empty(), "{asked}: {value}"),
                        _ => panic!("{asked}: {value}"),
                    }
                    together
                });
                all = ordered(&all);
                assert_eq!(ordered(&together), all, "{asked}");
            }
            _ => panic!("{asked}: not a result: {wanted}"),
        }
    }

    async fn heard(&mut self, wanted: &BTreeMap<&str, Vec<Heard>>) {
        for (name, client) in &mut self.clients {
            let parameters = json!({ "_id": client.id, "msg": END });
            let sent = self.events.values("sendMessageTo_Id", &parameters).await;
            assert_eq!(sent[&client.node], 1, "{}", self.at);
            let found = client.listener.hears_until(END).await;
            assert_eq!(
                found,
                wanted.get(name.as_str()).cloned().unwrap_or_default(),
                "{}: what {name} has heard",
                self.at
            );
        }
    }

    fn with_ids(&self, text: &str) -> String {
        let clients = self.clients.iter();
        clients.fold(text.to_owned(), |text, (name, client)| text.replace(&format!("{{{name}}}"), &client.id))
    }
}

/// The value with its list in order, as lists of ids have none.
fn ordered(value: &Value) -> Value {
    let mut value = value.clone();
    if let Value::Array(list) = &mut value {
        list.sort_by_key(Value::to_string);
    }
    value
}
