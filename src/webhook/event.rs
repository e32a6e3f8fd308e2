//! What a request to the application says.

use crate::hub::End;
use crate::model::{HexId, Name, Opcode};
use crate::session::hooks::{Call, Memberships, Occasion, Said};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;
use std::fmt::Display;
use std::time::{SystemTime, UNIX_EPOCH};

/// What has happened.
pub(super) enum Event<'a> {
    Open,
    Message(&'a Said),
    Close(&'a End),
}

impl Event<'_> {
    const fn name(&self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Message(_) => "message",
            Self::Close(_) => "close",
        }
    }
}

/// The id of an event, the same however often it is sent and whoever sends it: what the cluster's connection and the place of the
/// event in its life make of it.
pub(super) fn delivery(connection: HexId, place: impl Display) -> String {
    format!("{connection}-{place}")
}

/// The request's body. Nothing in it is left out where there is none of it, but what belongs to other events.
#[derive(Serialize)]
struct Body<'a> {
    event: &'static str,
    delivery: &'a str,
    time: f64,
    node: String,
    connection: u64,
    _id: String,
    profile: &'a str,
    user: Option<&'a str>,
    groups: Vec<&'a str>,
    channels: Option<Vec<&'a str>>,
    close_keys: Vec<&'a str>,
    close_controllers: Vec<&'a str>,
    claims: &'a Value,
    address: &'a str,
    path: &'a str,
    query: &'a Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    call: Option<&'a Call>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
}

/// The request's body where a channel got its first member in the cluster, or lost its last.
#[derive(Serialize)]
struct ChannelBody<'a> {
    event: &'static str,
    delivery: &'a str,
    time: f64,
    channel: &'a str,
    version: u64,
}

/// A channel event's JSON.
pub(super) fn channel_json(event: &'static str, delivery: &str, channel: &Name, version: u64) -> Bytes {
    let body = ChannelBody { event, delivery, time: seconds(now()), channel: channel.as_str(), version };
    // See below.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// An event's JSON.
pub(super) fn json(occasion: &Occasion, delivery: &str, event: &Event<'_>) -> Bytes {
    let Occasion { node, id, channels, details } = occasion;
    let Memberships { groups, close_keys, close_controllers } = occasion.memberships();
    let said = match event {
        Event::Message(said) => Some(text(said)),
        Event::Open | Event::Close(_) => None,
    };
    let end = match event {
        Event::Close(end) => Some(end),
        Event::Open | Event::Message(_) => None,
    };
    let (message, encoding) = said.unzip();
    let body = Body {
        event: event.name(),
        delivery,
        time: seconds(end.map_or_else(now, |end| end.at)),
        node: node.to_string(),
        connection: id.connection().get(),
        _id: id.to_string(),
        profile: &details.profile,
        user: details.user.as_deref(),
        groups,
        channels: channels.as_ref().map(|channels| channels.iter().map(Name::as_str).collect()),
        close_keys,
        close_controllers,
        claims: &details.claims,
        address: &details.address,
        path: &details.path,
        query: &details.query,
        message,
        encoding,
        call: match event {
            Event::Message(said) => said.call.as_ref(),
            Event::Open | Event::Close(_) => None,
        },
        code: end.map(|end| end.code),
        reason: end.map(|end| end.reason.as_str()),
        cause: end.map(|end| end.cause.as_str()),
    };
    // Texts, numbers and lists of them: there is nothing that could not be written.
    serde_json::to_vec(&body).unwrap_or_default().into()
}

/// A message as JSON can hold it, and how it is written there.
fn text(said: &Said) -> (String, &'static str) {
    match (said.opcode, std::str::from_utf8(&said.payload)) {
        (Opcode::Text, Ok(text)) => (text.to_owned(), "text"),
        // What a method's data were made of is text again, however it came.
        (Opcode::Binary, Ok(text)) if said.call.is_some() => (text.to_owned(), "text"),
        (Opcode::Text | Opcode::Binary, _) => (STANDARD.encode(&said.payload), "base64"),
    }
}

/// Milliseconds since 1970.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds of milliseconds.
fn seconds(milliseconds: u64) -> f64 {
    milliseconds as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Details;
    use crate::model::{ConnectionId, NodeId};
    use serde_json::json;

    fn occasion() -> Occasion {
        let node: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let details = r#"{"profile":"method","address":"::1","path":"/live","query":{"a":"1"},"claims":{"id":"5"},
            "user":"5","groups":["room1","close_key:B","close_key:A","close_controller:Live.User"]}"#;
        Occasion {
            node,
            id: HexId::new(node.tag(), ConnectionId::from_u64(7).unwrap()),
            channels: Some(vec![Name::new("news").unwrap()]),
            details: Details::parse(details),
        }
    }

    fn shown(event: &Event<'_>) -> Value {
        let occasion = occasion();
        let body = json(&occasion, &delivery(occasion.id, event.name()), event);
        let mut body: Value = serde_json::from_slice(&body).unwrap();
        assert!(body["time"].as_f64().unwrap() > 1.7e9);
        body.as_object_mut().unwrap().remove("time");
        body
    }

    #[test]
    fn an_event_tells_of_its_connection() {
        let common = json!({
            "event": "open",
            "delivery": "98b95842c9e26e8f0000000000000007-open",
            "node": "98b95842c9e26e8fb113cf8342526f5d",
            "connection": 7,
            "_id": "98b95842c9e26e8f0000000000000007",
            "profile": "method",
            "user": "5",
            "groups": ["room1"],
            "channels": ["news"],
            "close_keys": ["A", "B"],
            "close_controllers": ["Live.User"],
            "claims": { "id": "5" },
            "address": "::1",
            "path": "/live",
            "query": { "a": "1" },
        });
        assert_eq!(shown(&Event::Open), common);

        let end = End { code: 4000, reason: "bye".to_owned(), cause: "client".to_owned(), at: 1_800_000_000_000 };
        let close = shown(&Event::Close(&end));
        assert_eq!(
            (&close["code"], &close["reason"], &close["cause"]),
            (&json!(4000), &json!("bye"), &json!("client"))
        );
    }

    #[test]
    fn a_message_is_text_or_base64() {
        let call = || Some(Call { module: "A".into(), controller: "B".into(), method: "c".into() });
        let said = |opcode, payload: &'static [u8], call| {
            let said = Said { number: 1, opcode, payload: Bytes::from_static(payload), call };
            let body = shown(&Event::Message(&said));
            (body["message"].clone(), body["encoding"].clone(), body["call"].clone())
        };
        assert_eq!(said(Opcode::Text, b"hi", None), (json!("hi"), json!("text"), Value::Null));
        assert_eq!(said(Opcode::Binary, b"hi\xff", None), (json!("aGn/"), json!("base64"), Value::Null));
        assert_eq!(said(Opcode::Binary, b"hi", None).1, "base64");
        let called = json!({ "module": "A", "controller": "B", "method": "c" });
        assert_eq!(said(Opcode::Binary, b"{}", call()), (json!("{}"), json!("text"), called));
    }
}
