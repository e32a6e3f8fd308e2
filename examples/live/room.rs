//! Rooms: who calls, what of a history is asked for, and telling everybody who is there.

use carillon::{Call, Called, NameError, Push, Reply, close_key};
use serde_json::{Value, json};
use std::error::Error;
use std::fmt;

/// Entries on a page, unless a call says otherwise, and at most.
const COUNT: (u64, u64) = (10, 20);

/// What a method comes to.
pub(crate) type Result<T = Called> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What a caller is told who may not do what it asks for, or asks for what can't be.
#[derive(Debug)]
struct Refusal(Reply);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Refusal {}

/// Ends a method with a refusal.
pub(crate) fn refuse<T>(status: i64, event: &str, info: &str) -> Result<T> {
    Err(Refusal(Reply::new(status, event, info)).into())
}

/// The same result, a refusal being a reply like others: nothing has failed.
pub(crate) fn settled(result: Result) -> Result {
    result.or_else(|error| error.downcast::<Refusal>().map(|refusal| refusal.0.into()))
}

/// Ends a method well.
pub(crate) fn done(event: &str, info: &str, param: impl Into<Value>) -> Result {
    Ok(Reply::success(event, info).param(param).into())
}

/// The two halves of a room.
#[derive(Clone, Copy)]
pub(crate) enum Audience {
    Users,
    Walls,
}

impl Audience {
    /// The close key that a connection is in it by.
    pub(crate) fn key(self, code: &str) -> String {
        match self {
            Self::Users => format!("live:users:{code}"),
            Self::Walls => format!("live:walls:{code}"),
        }
    }

    /// All who are in it.
    pub(crate) fn of(self, code: &str) -> std::result::Result<carillon::Audience, NameError> {
        close_key(&self.key(code))
    }
}

/// Tells one half of a room, on whatever node they are.
pub(crate) async fn tell(
    call: &Call,
    audience: Audience,
    code: &str,
    event: &str,
    info: &str,
    param: impl Into<Value>,
) -> Result<()> {
    let reply = Reply::success(event, info).param(param);
    call.client().cluster().publish(Push::text(audience.of(code)?, reply.to_string())).await?;
    Ok(())
}

/// What the caller's token says under this name; `null` where it says nothing.
pub(crate) fn claim(call: &Call, name: &str) -> Value {
    call.data().get("auth").and_then(|auth| auth.get(name)).cloned().unwrap_or_default()
}

/// The room that the caller's token is for.
pub(crate) fn code(call: &Call) -> Result<String> {
    match call.text("code") {
        Some(code) if !code.is_empty() => Ok(code),
        _ => refuse(999, "codeIsEmpty", "code不能为空"),
    }
}

/// What a caller says, with who that is, under a number that no other message of the room has.
pub(crate) fn message(call: &Call, code: &str, id: u64) -> Value {
    let say = call.text("say").unwrap_or_default();
    json!({ "code": code, "nickname": claim(call, "nickname"), "say": say, "user_id": claim(call, "id"), "id": id })
}

/// The same as it is shown where it is a user's.
pub(crate) fn users_words(message: &Value) -> Value {
    json!({ "id": message["id"], "nickname": message["nickname"], "say": message["say"] })
}

/// Which entries of a history are asked for: `page`, from 1, of `count`.
pub(crate) fn page(call: &Call) -> (u64, u64) {
    let number = |name: &str| call.text(name).and_then(|text| text.parse::<u64>().ok()).filter(|number| *number > 0);
    let count = number("count").unwrap_or(COUNT.0).min(COUNT.1);
    let first = (number("page").unwrap_or(1) - 1).saturating_mul(count);
    (first, count)
}

/// Whether a member of the message is there and not what PHP calls empty.
pub(crate) fn is_set(call: &Call, name: &str) -> bool {
    match call.data().get(name) {
        None | Some(Value::Null | Value::Bool(false)) => false,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty() && text != "0",
        Some(Value::Array(list)) => !list.is_empty(),
        Some(Value::Bool(true) | Value::Object(_)) => true,
    }
}
