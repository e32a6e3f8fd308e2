//! What an answer wants done.

use super::answer::text;
use super::metrics::{Outcome, WebhookMetrics};
use crate::cluster::Published;
use crate::hub::frame::close_reason;
use crate::model::{Audience, ConnectionId, Error, HexId, Name, Push, Result, Target, beginning};
use crate::service::{Dialect, Service};
use crate::session::hooks::{CLOSE_CONTROLLER, CLOSE_KEY};
use fastwebsockets::CloseCode;
use serde_json::{Map, Value};
use std::fmt::Display;
use tokio::time::{Instant, timeout_at};

/// The code of a close frame that an operation gives none for (RFC 6455, section 7.4.1).
const CLOSE_NORMALLY: u16 = 1000;

/// Characters of a value that a message shows.
const SHOWN: usize = 40;

/// Operations of one answer that are carried out; more are wrong.
const MAX_OPERATIONS: usize = 1000;

/// Something to be done.
#[derive(Clone, PartialEq, Debug)]
enum Operation {
    /// A push to other than a single connection.
    Push(Push),
    /// What is to be done with a connection.
    With(Whose, Deed),
}

#[derive(Clone, PartialEq, Debug)]
enum Deed {
    Push(String),
    Join(Vec<Audience>),
    Leave(Vec<Audience>),
    Bind(Name),
    Unbind,
    Close(u16, String),
}

/// A connection, by either of its spellings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Id(ConnectionId),
    Hex(HexId),
}

impl Whose {
    fn is(self, connection: HexId) -> bool {
        match self {
            Self::Id(id) => id == connection.connection(),
            Self::Hex(hex) => hex == connection,
        }
    }
}

/// Of an operation in the answer to an event that is about no connection.
const NO_SUBJECT: &str = "it names no connection, and the event is about none";

/// Why an operation can't be read.
type Wrong = String;

/// Carries operations out, in order, those that are wrong left out, until `deadline`. Operations are about `subject` where they
/// name no other connection; without one they have to. That it be closed is not done here but given back, as its replies go before.
pub(super) async fn carry_out(
    service: &Service,
    metrics: &WebhookMetrics,
    subject: Option<HexId>,
    operations: Vec<Value>,
    deadline: Instant,
) -> Option<(u16, String)> {
    let mut close = None;
    let whose = subject.map_or_else(String::new, |subject| format!(" for connection {subject}"));
    let fault = |at: usize, why: &dyn Display| format!("operation {}{whose}: {why}", at + 1);
    for (at, value) in operations.into_iter().enumerate() {
        let operation = if at < MAX_OPERATIONS {
            parse(value, subject.map(HexId::connection))
        } else {
            Err(format!("an answer has more than {MAX_OPERATIONS} operations"))
        };
        let operation = match operation {
            Ok(Operation::With(whose, Deed::Close(code, reason))) if subject.is_some_and(|own| whose.is(own)) => {
                metrics.operated(Outcome::Done, "");
                close.get_or_insert((code, reason));
                continue;
            }
            Ok(operation) => operation,
            Err(wrong) => {
                metrics.operated(Outcome::Wrong, &fault(at, &wrong));
                continue;
            }
        };
        match timeout_at(deadline, carry_out_one(service, operation)).await {
            Ok(Ok(true)) => metrics.operated(Outcome::Done, ""),
            Ok(Ok(false)) => metrics.operated(Outcome::Nobody, ""),
            Ok(Err(error)) => metrics.operated(Outcome::Failed, &fault(at, &error)),
            Err(_) => metrics.operated(Outcome::Late, &fault(at, &"its time is over")),
        }
    }
    close
}

/// Whether there is a connection that it could be done to.
async fn carry_out_one(service: &Service, operation: Operation) -> Result<bool> {
    let push = async |push| Ok(service.push(Dialect::Webhook, push).await? == Published::Taken);
    let (whose, deed) = match operation {
        Operation::Push(all) => return push(all).await,
        Operation::With(whose, deed) => (whose, deed),
    };
    let connection = match whose {
        Whose::Id(id) => id,
        Whose::Hex(hex) => match service.spelled_hex(hex).await? {
            Some(id) => id,
            None => return Ok(false),
        },
    };
    Ok(match deed {
        Deed::Push(text) => push(Push::text(Target::Connection(connection), text)).await?,
        Deed::Join(audiences) => service.join(connection, audiences).await?.is_some(),
        Deed::Leave(audiences) => service.leave(connection, audiences).await?.is_some(),
        Deed::Bind(user) => match service.bind(connection, user.clone()).await? {
            Some(false) => return Err(Error::Limit(format!("connection {connection} has another user than {user}"))),
            bound => bound.is_some(),
        },
        Deed::Unbind => service.unbind(connection).await?.is_some(),
        Deed::Close(code, reason) => service.close_with(connection, code, reason).await?,
    })
}

fn parse(value: Value, subject: Option<ConnectionId>) -> Result<Operation, Wrong> {
    let Value::Object(mut fields) = value else { return Err("it is no object".to_owned()) };
    let what = match fields.remove("do") {
        Some(Value::String(what)) => what,
        Some(_) | None => return Err("do is no text".to_owned()),
    };
    if what == "push" {
        return push(fields, subject);
    }
    let whose = match fields.get("connection") {
        None | Some(Value::Null) => Whose::Id(subject.ok_or(NO_SUBJECT)?),
        Some(value) => connection(value)?,
    };
    let mut audiences = |field: &str, prefix: &str, make: fn(Name) -> Audience| {
        let names = names(fields.remove(field), field, prefix)?;
        Ok::<_, Wrong>(names.into_iter().map(make).collect())
    };
    let deed = match what.as_str() {
        "join" => Deed::Join(audiences("group", "", Audience::group)?),
        "leave" => Deed::Leave(audiences("group", "", Audience::group)?),
        "subscribe" => Deed::Join(audiences("channel", "", Audience::channel)?),
        "unsubscribe" => Deed::Leave(audiences("channel", "", Audience::channel)?),
        "add_close_key" => Deed::Join(audiences("key", CLOSE_KEY, Audience::group)?),
        "remove_close_key" => Deed::Leave(audiences("key", CLOSE_KEY, Audience::group)?),
        "add_close_controller" => Deed::Join(audiences("controller", CLOSE_CONTROLLER, Audience::group)?),
        "remove_close_controller" => Deed::Leave(audiences("controller", CLOSE_CONTROLLER, Audience::group)?),
        "bind" => Deed::Bind(one_name(fields.remove("user"), "user")?),
        "unbind" => Deed::Unbind,
        "close" => {
            let code = match fields.remove("code") {
                None | Some(Value::Null) => CLOSE_NORMALLY,
                Some(code) => {
                    let code = code.as_u64().and_then(|code| u16::try_from(code).ok());
                    code.filter(|code| CloseCode::from(*code).is_allowed()).ok_or("code is no close code")?
                }
            };
            let reason = match fields.remove("reason") {
                None | Some(Value::Null) => String::new(),
                Some(reason) => close_reason(&text(reason)).to_owned(),
            };
            Deed::Close(code, reason)
        }
        _ => return Err(format!("do is {:?}, which is none of the operations", beginning(&what, SHOWN))),
    };
    Ok(Operation::With(whose, deed))
}

fn push(mut fields: Map<String, Value>, subject: Option<ConnectionId>) -> Result<Operation, Wrong> {
    let message = text(fields.remove("message").ok_or("message is missing")?);
    let given: Vec<&str> = ["channel", "user", "group", "connection", "all"]
        .into_iter()
        .filter(|field| fields.get(*field).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))))
        .collect();
    let target = match given[..] {
        [] => return Ok(Operation::With(Whose::Id(subject.ok_or(NO_SUBJECT)?), Deed::Push(message))),
        ["connection"] => return Ok(Operation::With(connection(&fields["connection"])?, Deed::Push(message))),
        ["all"] => Target::All,
        ["channel"] => Target::Audience(Audience::channel(one_name(fields.remove("channel"), "channel")?)),
        ["user"] => Target::Audience(Audience::user(one_name(fields.remove("user"), "user")?)),
        ["group"] => {
            let mut groups: Vec<Audience> =
                names(fields.remove("group"), "group", "")?.into_iter().map(Audience::group).collect();
            if groups.len() == 1 { Target::Audience(groups.remove(0)) } else { Target::Audiences(groups) }
        }
        _ => return Err(format!("it has several targets: {}", given.join(", "))),
    };
    Ok(Operation::Push(Push::text(target, message)))
}

/// A connection: its number, as such or as a text, or its `_id`.
fn connection(value: &Value) -> Result<Whose, Wrong> {
    let id = match value {
        Value::Number(number) => number.as_u64().and_then(ConnectionId::from_u64).map(Whose::Id),
        Value::String(text) => text.parse().map(Whose::Id).or_else(|()| text.parse().map(Whose::Hex)).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    id.ok_or_else(|| format!("connection {} is no id", beginning(&value.to_string(), SHOWN)))
}

/// One name or a list of them, at least one.
fn names(value: Option<Value>, field: &str, prefix: &str) -> Result<Vec<Name>, Wrong> {
    let values = match value {
        Some(Value::Array(values)) if !values.is_empty() => values,
        Some(value @ (Value::String(_) | Value::Number(_))) => vec![value],
        Some(_) | None => return Err(format!("{field} is neither a name nor a list of names")),
    };
    values.into_iter().map(|value| name(value, field, prefix)).collect()
}

fn one_name(value: Option<Value>, field: &str) -> Result<Name, Wrong> {
    value.ok_or_else(|| format!("{field} is missing")).and_then(|value| name(value, field, ""))
}

/// A text, or a whole number as one.
fn name(value: Value, field: &str, prefix: &str) -> Result<Name, Wrong> {
    let text = match value {
        Value::String(text) => text,
        Value::Number(number) if !number.is_f64() => number.to_string(),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err(format!("{field} is no name"));
        }
    };
    Name::new(&text)
        .and_then(|_| Name::new(&format!("{prefix}{text}")))
        .map_err(|error| format!("{field} {:?}: {error}", beginning(&text, SHOWN)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn id(id: u64) -> ConnectionId {
        ConnectionId::from_u64(id).unwrap()
    }

    fn parsed(value: Value) -> Result<Operation, Wrong> {
        parse(value, Some(id(7)))
    }

    #[test]
    fn operations_are_about_the_connection_of_the_event_unless_they_name_another() {
        let mine = Whose::Id(id(7));
        let group = |name: &str| Audience::group(Name::new(name).unwrap());
        let channel = |name: &str| Audience::channel(Name::new(name).unwrap());
        for (value, operation) in [
            (json!({ "do": "join", "group": "a" }), Operation::With(mine, Deed::Join(vec![group("a")]))),
            (
                json!({ "do": "join", "group": ["a", 5] }),
                Operation::With(mine, Deed::Join(vec![group("a"), group("5")])),
            ),
            (json!({ "do": "leave", "group": "a", "connection": 9 }), {
                Operation::With(Whose::Id(id(9)), Deed::Leave(vec![group("a")]))
            }),
            (json!({ "do": "leave", "group": "a", "connection": "9" }), {
                Operation::With(Whose::Id(id(9)), Deed::Leave(vec![group("a")]))
            }),
            (json!({ "do": "subscribe", "channel": "a" }), Operation::With(mine, Deed::Join(vec![channel("a")]))),
            (json!({ "do": "unsubscribe", "channel": "a" }), Operation::With(mine, Deed::Leave(vec![channel("a")]))),
            (
                json!({ "do": "add_close_key", "key": "R" }),
                Operation::With(mine, Deed::Join(vec![group("close_key:R")])),
            ),
            (
                json!({ "do": "remove_close_key", "key": "R" }),
                Operation::With(mine, Deed::Leave(vec![group("close_key:R")])),
            ),
            (json!({ "do": "add_close_controller", "controller": "Live.User" }), {
                Operation::With(mine, Deed::Join(vec![group("close_controller:Live.User")]))
            }),
            (json!({ "do": "remove_close_controller", "controller": "Live.User" }), {
                Operation::With(mine, Deed::Leave(vec![group("close_controller:Live.User")]))
            }),
            (json!({ "do": "bind", "user": 5 }), Operation::With(mine, Deed::Bind(Name::new("5").unwrap()))),
            (json!({ "do": "unbind", "connection": null }), Operation::With(mine, Deed::Unbind)),
            (json!({ "do": "unbind", "connection": "98b95842c9e26e8f0000000000000009" }), {
                Operation::With(Whose::Hex("98b95842c9e26e8f0000000000000009".parse().unwrap()), Deed::Unbind)
            }),
            (json!({ "do": "close" }), Operation::With(mine, Deed::Close(1000, String::new()))),
            (
                json!({ "do": "close", "code": 4001, "reason": "bye" }),
                Operation::With(mine, Deed::Close(4001, "bye".to_owned())),
            ),
        ] {
            assert_eq!(parsed(value.clone()), Ok(operation), "{value}");
        }
    }

    #[test]
    fn a_push_has_one_target() {
        let audience = |make: fn(Name) -> Audience| Target::Audience(make(Name::new("a").unwrap()));
        for (value, target) in [
            (json!({ "channel": "a" }), audience(Audience::channel)),
            (json!({ "user": "a" }), audience(Audience::user)),
            (json!({ "group": "a" }), audience(Audience::group)),
            (json!({ "group": ["a"] }), audience(Audience::group)),
            (json!({ "all": true, "connection": null }), Target::All),
        ] {
            let mut push = value.clone();
            push["do"] = json!("push");
            push["message"] = json!({ "z": 1, "a": 2 });
            assert_eq!(parsed(push), Ok(Operation::Push(Push::text(target, r#"{"z":1,"a":2}"#))), "{value}");
        }
    }

    #[test]
    fn a_push_is_to_the_connection_of_the_event_unless_it_has_a_target() {
        let hex = "98b95842c9e26e8f0000000000000009";
        for (value, whose) in [
            (json!({}), Whose::Id(id(7))),
            (json!({ "connection": 9, "channel": null, "all": false }), Whose::Id(id(9))),
            (json!({ "connection": hex }), Whose::Hex(hex.parse().unwrap())),
        ] {
            let mut push = value.clone();
            push["do"] = json!("push");
            push["message"] = json!("m");
            assert_eq!(parsed(push), Ok(Operation::With(whose, Deed::Push("m".to_owned()))), "{value}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (value, wrong) in [
            (json!(5), "it is no object"),
            (json!({}), "do is no text"),
            (json!({ "do": "dance" }), "do is \"dance\", which is none of the operations"),
            (json!({ "do": "push" }), "message is missing"),
            (json!({ "do": "push", "message": "m", "user": "a", "all": true }), "it has several targets: user, all"),
            (json!({ "do": "push", "message": "m", "channel": "" }), "channel \"\": name is empty"),
            (json!({ "do": "join" }), "group is neither a name nor a list of names"),
            (json!({ "do": "join", "group": [] }), "group is neither a name nor a list of names"),
            (json!({ "do": "join", "group": [[]] }), "group is no name"),
            (json!({ "do": "join", "group": "a", "connection": -1 }), "connection -1 is no id"),
            (json!({ "do": "bind" }), "user is missing"),
            (json!({ "do": "close", "code": 1006 }), "code is no close code"),
            (json!({ "do": "add_close_key", "key": "" }), "key \"\": name is empty"),
        ] {
            assert_eq!(parsed(value.clone()), Err(wrong.to_owned()), "{value}");
        }
    }
}
