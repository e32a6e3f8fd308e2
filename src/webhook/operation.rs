//! What an answer wants done.

use super::answer::text;
use super::fitting;
use super::metrics::{Outcome, WebhookMetrics};
use crate::cluster::Published;
use crate::model::{Audience, ConnectionId, Error, HexId, Name, Push, Result, Target};
use crate::service::{Dialect, Service};
use crate::session::hooks::{CLOSE_CONTROLLER, CLOSE_KEY};
use fastwebsockets::CloseCode;
use serde_json::{Map, Value};
use tokio::time::{Instant, timeout_at};

/// The code of a close frame that an operation gives none for (RFC 6455, section 7.4.1).
const CLOSE_NORMALLY: u16 = 1000;

/// Operations of one answer that are carried out; more are wrong.
const MAX_OPERATIONS: usize = 1000;

/// Something to be done.
#[derive(Clone, PartialEq, Debug)]
enum Operation {
    Push(Push),
    Join(Whose, Vec<Audience>),
    Leave(Whose, Vec<Audience>),
    Bind(Whose, Name),
    Unbind(Whose),
    Close(Whose, u16, String),
}

/// A connection, by either of its spellings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Whose {
    Id(ConnectionId),
    Hex(HexId),
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
    let subject = subject.map(HexId::connection);
    let mut close = None;
    for (at, value) in operations.into_iter().enumerate() {
        let operation = if at < MAX_OPERATIONS {
            parse(value, subject)
        } else {
            Err(format!("an answer has more than {MAX_OPERATIONS} operations"))
        };
        let operation = match operation {
            Ok(Operation::Close(Whose::Id(id), code, reason)) if Some(id) == subject => {
                metrics.operated(Outcome::Done, "");
                close.get_or_insert((code, reason));
                continue;
            }
            Ok(operation) => operation,
            Err(wrong) => {
                metrics.operated(Outcome::Wrong, &format!("operation {}: {wrong}", at + 1));
                continue;
            }
        };
        match timeout_at(deadline, carry_out_one(service, operation)).await {
            Ok(Ok(true)) => metrics.operated(Outcome::Done, ""),
            Ok(Ok(false)) => metrics.operated(Outcome::Nobody, ""),
            Ok(Err(error)) => metrics.operated(Outcome::Failed, &format!("operation {}: {error}", at + 1)),
            Err(_) => metrics.operated(Outcome::Late, &format!("operation {}: its time is over", at + 1)),
        }
    }
    close
}

/// Whether there is a connection that it could be done to.
async fn carry_out_one(service: &Service, operation: Operation) -> Result<bool> {
    let connection = match &operation {
        Operation::Push(_) => None,
        Operation::Join(whose, _)
        | Operation::Leave(whose, _)
        | Operation::Bind(whose, _)
        | Operation::Unbind(whose)
        | Operation::Close(whose, ..) => match whose {
            Whose::Id(id) => Some(*id),
            Whose::Hex(hex) => match service.spelled_hex(*hex).await? {
                Some(id) => Some(id),
                None => return Ok(false),
            },
        },
    };
    let Some(connection) = connection else {
        let Operation::Push(push) = operation else { return Ok(false) };
        return Ok(service.push(Dialect::Webhook, push).await? == Published::Taken);
    };
    Ok(match operation {
        Operation::Push(_) => false,
        Operation::Join(_, audiences) => service.join(connection, audiences).await?.is_some(),
        Operation::Leave(_, audiences) => service.leave(connection, audiences).await?.is_some(),
        Operation::Bind(_, user) => match service.bind(connection, user.clone()).await? {
            Some(false) => return Err(Error::Limit(format!("connection {connection} has another user than {user}"))),
            bound => bound.is_some(),
        },
        Operation::Unbind(_) => service.unbind(connection).await?.is_some(),
        Operation::Close(_, code, reason) => service.close_with(connection, code, reason).await?,
    })
}

fn parse(value: Value, subject: Option<ConnectionId>) -> Result<Operation, Wrong> {
    let Value::Object(mut fields) = value else { return Err("it is no object".to_owned()) };
    let what = match fields.remove("do") {
        Some(Value::String(what)) => what,
        Some(_) | None => return Err("do is no text".to_owned()),
    };
    if what == "push" {
        return push(fields, subject).map(Operation::Push);
    }
    let whose = match fields.get("connection") {
        None | Some(Value::Null) => Whose::Id(subject.ok_or(NO_SUBJECT)?),
        Some(value) => connection(value)?,
    };
    let mut audiences = |field: &str, prefix: &str, make: fn(Name) -> Audience| {
        let names = names(fields.remove(field), field, prefix)?;
        Ok::<_, Wrong>(names.into_iter().map(make).collect())
    };
    match what.as_str() {
        "join" => Ok(Operation::Join(whose, audiences("group", "", Audience::group)?)),
        "leave" => Ok(Operation::Leave(whose, audiences("group", "", Audience::group)?)),
        "subscribe" => Ok(Operation::Join(whose, audiences("channel", "", Audience::channel)?)),
        "unsubscribe" => Ok(Operation::Leave(whose, audiences("channel", "", Audience::channel)?)),
        "add_close_key" => Ok(Operation::Join(whose, audiences("key", CLOSE_KEY, Audience::group)?)),
        "remove_close_key" => Ok(Operation::Leave(whose, audiences("key", CLOSE_KEY, Audience::group)?)),
        "add_close_controller" => {
            Ok(Operation::Join(whose, audiences("controller", CLOSE_CONTROLLER, Audience::group)?))
        }
        "remove_close_controller" => {
            Ok(Operation::Leave(whose, audiences("controller", CLOSE_CONTROLLER, Audience::group)?))
        }
        "bind" => Ok(Operation::Bind(whose, one_name(fields.remove("user"), "user")?)),
        "unbind" => Ok(Operation::Unbind(whose)),
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
                Some(reason) => fitting(text(reason)),
            };
            Ok(Operation::Close(whose, code, reason))
        }
        _ => Err(format!("do is {:?}, which is none of the operations", shortened(&what))),
    }
}

fn push(mut fields: Map<String, Value>, subject: Option<ConnectionId>) -> Result<Push, Wrong> {
    let message = fields.remove("message").ok_or("message is missing")?;
    let given: Vec<&str> = ["channel", "user", "group", "connection", "all"]
        .into_iter()
        .filter(|field| fields.get(*field).is_some_and(|value| !matches!(value, Value::Null | Value::Bool(false))))
        .collect();
    let target = match given[..] {
        [] => Target::Connection(subject.ok_or(NO_SUBJECT)?),
        ["all"] => Target::All,
        ["connection"] => match connection(&fields["connection"])? {
            Whose::Id(id) => Target::Connection(id),
            // Only its owner could say whether the life that it was spelled in goes on.
            Whose::Hex(_) => return Err("connection of a push is not a whole number".to_owned()),
        },
        ["channel"] => Target::Audience(Audience::channel(one_name(fields.remove("channel"), "channel")?)),
        ["user"] => Target::Audience(Audience::user(one_name(fields.remove("user"), "user")?)),
        ["group"] => {
            let mut groups: Vec<Audience> =
                names(fields.remove("group"), "group", "")?.into_iter().map(Audience::group).collect();
            if groups.len() == 1 { Target::Audience(groups.remove(0)) } else { Target::Audiences(groups) }
        }
        _ => return Err(format!("it has several targets: {}", given.join(", "))),
    };
    Ok(Push::text(target, text(message)))
}

/// A connection: its number, as such or as a text, or its `_id`.
fn connection(value: &Value) -> Result<Whose, Wrong> {
    let id = match value {
        Value::Number(number) => number.as_u64().and_then(ConnectionId::from_u64).map(Whose::Id),
        Value::String(text) => text.parse().map(Whose::Id).or_else(|()| text.parse().map(Whose::Hex)).ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    id.ok_or_else(|| format!("connection {} is no id", shortened(&value.to_string())))
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
        .map_err(|error| format!("{field} {:?}: {error}", shortened(&text)))
}

/// A value as a message shows it: its beginning.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
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
            (json!({ "do": "join", "group": "a" }), Operation::Join(mine, vec![group("a")])),
            (json!({ "do": "join", "group": ["a", 5] }), Operation::Join(mine, vec![group("a"), group("5")])),
            (json!({ "do": "leave", "group": "a", "connection": 9 }), {
                Operation::Leave(Whose::Id(id(9)), vec![group("a")])
            }),
            (json!({ "do": "leave", "group": "a", "connection": "9" }), {
                Operation::Leave(Whose::Id(id(9)), vec![group("a")])
            }),
            (json!({ "do": "subscribe", "channel": "a" }), Operation::Join(mine, vec![channel("a")])),
            (json!({ "do": "unsubscribe", "channel": "a" }), Operation::Leave(mine, vec![channel("a")])),
            (json!({ "do": "add_close_key", "key": "R" }), Operation::Join(mine, vec![group("close_key:R")])),
            (json!({ "do": "remove_close_key", "key": "R" }), Operation::Leave(mine, vec![group("close_key:R")])),
            (json!({ "do": "add_close_controller", "controller": "Live.User" }), {
                Operation::Join(mine, vec![group("close_controller:Live.User")])
            }),
            (json!({ "do": "remove_close_controller", "controller": "Live.User" }), {
                Operation::Leave(mine, vec![group("close_controller:Live.User")])
            }),
            (json!({ "do": "bind", "user": 5 }), Operation::Bind(mine, Name::new("5").unwrap())),
            (json!({ "do": "unbind", "connection": null }), Operation::Unbind(mine)),
            (json!({ "do": "unbind", "connection": "98b95842c9e26e8f0000000000000009" }), {
                Operation::Unbind(Whose::Hex("98b95842c9e26e8f0000000000000009".parse().unwrap()))
            }),
            (json!({ "do": "close" }), Operation::Close(mine, 1000, String::new())),
            (json!({ "do": "close", "code": 4001, "reason": "bye" }), Operation::Close(mine, 4001, "bye".to_owned())),
        ] {
            assert_eq!(parsed(value.clone()), Ok(operation), "{value}");
        }
    }

    #[test]
    fn a_push_has_one_target() {
        let audience = |make: fn(Name) -> Audience| Target::Audience(make(Name::new("a").unwrap()));
        for (value, target) in [
            (json!({}), Target::Connection(id(7))),
            (json!({ "channel": "a" }), audience(Audience::channel)),
            (json!({ "user": "a" }), audience(Audience::user)),
            (json!({ "group": "a" }), audience(Audience::group)),
            (json!({ "group": ["a"] }), audience(Audience::group)),
            (json!({ "connection": 9, "channel": null, "all": false }), Target::Connection(id(9))),
            (json!({ "all": true }), Target::All),
        ] {
            let mut push = value.clone();
            push["do"] = json!("push");
            push["message"] = json!({ "z": 1, "a": 2 });
            assert_eq!(parsed(push), Ok(Operation::Push(Push::text(target, r#"{"z":1,"a":2}"#))), "{value}");
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
