//! The actions API, as a backend would use it.

use super::http::{Answer, Http, get};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;

/// A text as it stands in a query.
pub fn quoted(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

/// Calls that ask a node over a connection each; an error is a refused or broken one.
#[derive(Clone, Copy, Debug)]
pub struct Api(pub SocketAddr);

impl Api {
    /// Asks for `/?query`.
    pub async fn ask(self, query: &str) -> io::Result<Answer> {
        get(self.0, &format!("/?{query}")).await
    }

    /// The answer's JSON.
    pub async fn call(self, query: &str) -> io::Result<Value> {
        Ok(self.ask(query).await?.json())
    }

    /// The answer's `response`; an error with the message where the call was refused.
    pub async fn response(self, query: &str) -> io::Result<Value> {
        let mut reply = self.call(query).await?;
        if reply["status"] != true {
            return Err(io::Error::other(format!("{query}: {}", reply["message"])));
        }
        Ok(reply["response"].take())
    }

    /// Pushes to a channel; an error with the message where the push was refused.
    pub async fn push(self, channel: &str, message: &str) -> io::Result<()> {
        self.response(&push(channel, message)).await.map(drop)
    }

    /// Whether `/readyz` says 200.
    pub async fn is_ready(self) -> bool {
        get(self.0, "/readyz").await.is_ok_and(|answer| answer.status == 200)
    }

    /// All connections; a doubled one fails the test.
    pub async fn connections(self) -> io::Result<BTreeSet<u64>> {
        Ok(ids(&self.response("action=getConnections").await?["connections"]))
    }

    /// The members of a channel.
    pub async fn members(self, channel: &str) -> io::Result<BTreeSet<u64>> {
        let query = format!("action=getConnections&channel={}", quoted(channel));
        Ok(ids(&self.response(&query).await?["connections"]))
    }

    /// All channels with their members.
    pub async fn channels(self) -> io::Result<BTreeMap<String, BTreeSet<u64>>> {
        let response = self.response("action=getChannels").await?;
        let Some(channels) = response["channels"].as_object() else { return Ok(BTreeMap::new()) };
        Ok(channels.iter().map(|(name, members)| (name.clone(), ids(members))).collect())
    }

    /// Number of all connections.
    pub async fn count(self) -> io::Result<u64> {
        count(&self.response("action=countConnections").await?)
    }

    /// Number of a channel's members.
    pub async fn count_members(self, channel: &str) -> io::Result<u64> {
        count(&self.response(&format!("action=countConnections&channel={}", quoted(channel))).await?)
    }
}

/// A backend that pushes over one connection, which keeps its pushes in order.
pub struct Publisher(Http);

impl Publisher {
    /// Connects to a node.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        Http::connect(to).await.map(Self)
    }

    /// Pushes and waits for the answer; an error with the message where the push was refused.
    pub async fn push(&mut self, channel: &str, message: &str) -> io::Result<()> {
        let answer = self.0.get(&format!("/?{}", push(channel, message))).await?.json();
        if answer["status"] == true { Ok(()) } else { Err(io::Error::other(answer["message"].to_string())) }
    }
}

/// The query of a push to a channel.
pub fn push(channel: &str, message: &str) -> String {
    format!("action=push&to=channel&channel={}&message={}", quoted(channel), quoted(message))
}

/// A list of ids that must have no duplicates.
fn ids(list: &Value) -> BTreeSet<u64> {
    let list = list.as_array().unwrap_or_else(|| panic!("not a list of ids: {list}"));
    let ids: BTreeSet<u64> = list.iter().map(|id| id.as_u64().unwrap()).collect();
    assert_eq!(ids.len(), list.len(), "an id is listed twice");
    ids
}

/// The one number in a response, whatever it is called.
fn count(response: &Value) -> io::Result<u64> {
    let number = response.as_object().and_then(|map| map.values().find_map(Value::as_u64));
    number.ok_or_else(|| io::Error::other(format!("no number in {response}")))
}
