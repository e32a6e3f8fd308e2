//! What the application answers.

use super::backend::Failure;
use crate::model::json;
use serde_json::{Map, Value};

/// An answer, its operations not looked at yet.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Answered {
    /// Text messages for the client.
    pub(super) replies: Vec<String>,
    /// What it wants done, in order.
    pub(super) operations: Vec<Value>,
    /// Of `open`: whether the connection is welcome.
    pub(super) accept: bool,
    /// Of `open`: the status of a refused handshake.
    pub(super) status: Option<u16>,
    /// Of `open`: the text of a refused handshake.
    pub(super) message: Option<String>,
}

impl Answered {
    /// Reads an answer's body: a JSON object, or nothing. An empty list is an empty object: PHP writes it so.
    pub(super) fn parse(body: &[u8]) -> Result<Self, Failure> {
        let garbage = |why: &str| Failure::Garbage(why.to_owned());
        let mut map = if body.trim_ascii().is_empty() {
            Map::new()
        } else {
            match json::parse(body).map_err(|error| Failure::Garbage(error.to_string()))? {
                Value::Object(map) => map,
                Value::Array(list) if list.is_empty() => Map::new(),
                _ => return Err(garbage("it is no json object")),
            }
        };
        let replies = match map.remove("reply") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list.into_iter().map(text).collect(),
            Some(one) => vec![text(one)],
        };
        let operations = match map.remove("operations") {
            None | Some(Value::Null) => Vec::new(),
            Some(Value::Array(list)) => list,
            Some(_) => return Err(garbage("operations is no list")),
        };
        let accept = match map.remove("accept") {
            None | Some(Value::Null | Value::Bool(true)) => true,
            Some(Value::Bool(false)) => false,
            Some(_) => return Err(garbage("accept is neither true nor false")),
        };
        let status = map.remove("status").and_then(|status| status.as_u64()).and_then(|s| u16::try_from(s).ok());
        let message = map.remove("message").map(text);
        Ok(Self { replies, operations, accept, status, message })
    }
}

/// A message as it is sent: a text as it is, anything else as compact JSON.
pub(super) fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_answer_may_say_nothing() {
        let nothing = Answered { replies: vec![], operations: vec![], accept: true, status: None, message: None };
        for body in ["", " \n", "{}", "[]", r#"{"reply":null,"operations":null,"accept":null,"other":1}"#] {
            assert_eq!(Answered::parse(body.as_bytes()).unwrap(), nothing, "{body}");
        }
    }

    #[test]
    fn replies_are_one_or_several_texts_or_json() {
        for (reply, texts) in [
            (json!("hi"), vec!["hi"]),
            (json!(["a", { "z": 1, "a": [true] }, 5]), vec!["a", r#"{"z":1,"a":[true]}"#, "5"]),
            (json!({ "status": 200 }), vec![r#"{"status":200}"#]),
            (json!([]), vec![]),
        ] {
            let body = json!({ "reply": reply }).to_string();
            assert_eq!(Answered::parse(body.as_bytes()).unwrap().replies, texts, "{body}");
        }
    }

    #[test]
    fn a_refusal_has_a_status_and_a_text() {
        let refused = Answered::parse(br#"{"accept":false,"status":402,"message":"pay first"}"#).unwrap();
        assert_eq!((refused.accept, refused.status, refused.message.as_deref()), (false, Some(402), Some("pay first")));
    }

    #[test]
    fn what_is_no_answer_is_said_to_be_none() {
        for body in ["<html>", "5", "null", "[1]", "\"\"", "{", r#"{"operations":{}}"#, r#"{"accept":"no"}"#] {
            assert!(matches!(Answered::parse(body.as_bytes()), Err(Failure::Garbage(_))), "{body}");
        }
    }
}
