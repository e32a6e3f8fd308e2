//! Controllers: what clients of the profile `method` call by name.

use super::client::Client;
use super::message::Closed;
use super::middleware::Outcome;
use crate::auth;
use crate::session::hooks;
use crate::session::method;
use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The status of a call that was carried out.
const OK: i64 = 200;

/// What clients are told: `{"status":…,"event":…,"info":…,"param":…}`, in this order; `param` is left out where PHP would call it
/// empty (`null`, `false`, 0, `""`, `"0"`, `[]`, `{}`). Its text ([`to_string`](ToString::to_string)) can be published to anybody.
///
/// ```
/// use carillon::Reply;
/// use serde_json::json;
///
/// let reply = Reply::success("userSaySuccess", "waiting for approval").param(json!({ "id": 7 }));
/// assert_eq!(reply.to_string(), r#"{"status":200,"event":"userSaySuccess","info":"waiting for approval","param":{"id":7}}"#);
/// let refused = Reply::new(403, "mustBeWall", "walls only");
/// assert_eq!(refused.to_string(), r#"{"status":403,"event":"mustBeWall","info":"walls only"}"#);
/// ```
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Reply {
    status: i64,
    event: String,
    info: String,
    #[serde(skip_serializing_if = "is_empty")]
    param: Value,
}

impl Reply {
    /// With any status.
    pub fn new(status: i64, event: impl Into<String>, info: impl Into<String>) -> Self {
        Self { status, event: event.into(), info: info.into(), param: Value::Null }
    }

    /// With the status 200.
    pub fn success(event: impl Into<String>, info: impl Into<String>) -> Self {
        Self::new(OK, event, info)
    }

    /// With this as its `param`.
    #[must_use]
    pub fn param(mut self, param: impl Into<Value>) -> Self {
        self.param = param.into();
        self
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// What PHP calls empty.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty() || text == "0",
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

/// What came of a call.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub enum Called {
    /// The client gets this.
    Replied(Reply),
    /// The client gets nothing, or has been told already.
    Done,
    /// There is no such method: [`Controller::on_message`] is asked, and if it doesn't know either, the client is told 405
    /// `methodNotFound`.
    Unknown,
}

impl From<Reply> for Called {
    fn from(reply: Reply) -> Self {
        Self::Replied(reply)
    }
}

/// The call of a method by a client of the profile `method`, which was told already that its message has come.
pub struct Call {
    client: Client,
    called: hooks::Call,
    data: Map<String, Value>,
}

impl Call {
    pub(super) fn new(client: Client, called: hooks::Call, data: Map<String, Value>) -> Self {
        Self { client, called, data }
    }

    /// Who calls.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The module, as PHP writes a class: `Live`.
    pub fn module(&self) -> &str {
        &self.called.module
    }

    /// The controller in it: `User`.
    pub fn controller(&self) -> &str {
        &self.called.controller
    }

    /// The method, in small letters: `join`.
    pub fn method(&self) -> &str {
        &self.called.method
    }

    /// The client's message; `code` and `auth` in it are the token's, `fd` is the connection's id, whatever the client wrote there.
    pub fn data(&self) -> &Map<String, Value> {
        &self.data
    }

    /// A member of the message that is a text, or a whole number, as a text.
    pub fn text(&self, name: &str) -> Option<String> {
        auth::text(self.data.get(name)?)
    }
}

impl fmt::Debug for Call {
    /// Without the message, in which the client's token is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call").field("client", &self.client).field("called", &self.called).finish_non_exhaustive()
    }
}

/// Carries out methods that clients of the profile `method` call, `{"method":"module.controller.method"}`: see
/// [`Builder::controller`](super::Builder::controller). One value serves all calls, at the same time.
///
/// A call is ended after [`Builder::hook_timeout`](super::Builder::hook_timeout). The calls of one connection come one after the other.
///
/// ```
/// use carillon::{Call, Called, Controller, Profile, Reply, Server, close_key, Push};
/// use std::error::Error;
///
/// struct Room;
///
/// #[carillon::async_trait]
/// impl Controller for Room {
///     async fn call(&self, call: &Call) -> Result<Called, Box<dyn Error + Send + Sync>> {
///         let client = call.client();
///         match call.method() {
///             "join" => {
///                 client.add_close_key("room").await?;
///                 Ok(Reply::success("joined", "welcome").into())
///             }
///             "say" => {
///                 let said = Reply::success("said", "somebody speaks").param(call.text("say").unwrap_or_default());
///                 client.cluster().publish(Push::text(close_key("room")?, said.to_string())).await?;
///                 Ok(Called::Done)
///             }
///             _ => Ok(Called::Unknown),
///         }
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn Error>> {
/// // Clients send {"method":"chat.room.join"}.
/// let server =
///     Server::builder().profile("/", Profile::Method).controller("Chat.Room", Room).start().await?;
/// # server.run_until(async {}).await;
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Controller: Send + Sync + 'static {
    /// Carries out a call, by its [method](Call::method).
    ///
    /// # Errors
    /// It has failed: the client is told 500 `controllerError`, and the error logged. So it is with a panic, and a call that takes too
    /// long.
    async fn call(&self, call: &Call) -> Result<Called, Box<dyn Error + Send + Sync>>;

    /// Carries out a call of a method that [`call`](Self::call) doesn't know.
    ///
    /// # Errors
    /// As for [`call`](Self::call).
    async fn on_message(&self, call: &Call) -> Result<Called, Box<dyn Error + Send + Sync>> {
        let _ = call;
        Ok(Called::Unknown)
    }

    /// A connection has ended that has this controller among its [close controllers](Client::add_close_controller). Called at least
    /// once, its node's crash included, as [`Hooks::on_close`](super::Hooks::on_close).
    ///
    /// # Errors
    /// As for [`Hooks::on_close`](super::Hooks::on_close).
    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        let _ = (client, how);
        Ok(())
    }
}

/// Controllers by module and name.
#[derive(Default)]
pub(super) struct Controllers(HashMap<(String, String), Arc<dyn Controller>>);

impl Controllers {
    /// Takes one in, in place of another one of this name; false where the name is none.
    pub(super) fn insert(&mut self, name: &str, controller: Arc<dyn Controller>) -> bool {
        method::controller(name).is_some_and(|name| {
            self.0.insert(name, controller);
            true
        })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that a message calls.
    pub(super) fn called(&self, call: &hooks::Call) -> Option<&Arc<dyn Controller>> {
        self.0.get(&(call.module.clone(), call.controller.clone()))
    }

    /// The one of this name, however it is written.
    pub(super) fn named(&self, name: &str) -> Option<&Arc<dyn Controller>> {
        self.0.get(&method::controller(name)?)
    }
}

/// Carries out a call: by its method, or as what is for none.
pub(super) async fn carry_out(
    controller: &dyn Controller,
    call: &Call,
) -> Result<Option<String>, Box<dyn Error + Send + Sync>> {
    let called = match controller.call(call).await? {
        Called::Unknown => controller.on_message(call).await?,
        known => known,
    };
    Ok(match called {
        Called::Replied(reply) => Some(reply.to_string()),
        Called::Done => None,
        Called::Unknown => Some(method::NO_METHOD.to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reply_has_its_keys_in_order_and_leaves_out_what_php_calls_empty() {
        let reply = |param: Value| Reply::success("e", "信息 \"1\"").param(param).to_string();
        for empty in [json!(null), json!(false), json!(0), json!(0.0), json!(""), json!("0"), json!([]), json!({})] {
            assert_eq!(reply(empty.clone()), r#"{"status":200,"event":"e","info":"信息 \"1\""}"#, "{empty}");
        }
        let full = reply(json!({ "z": 1, "a": [] }));
        assert_eq!(full, r#"{"status":200,"event":"e","info":"信息 \"1\"","param":{"z":1,"a":[]}}"#);
        for full in [json!(true), json!(1), json!("a"), json!([null])] {
            assert!(reply(full.clone()).ends_with(&format!(r#""param":{full}}}"#)));
        }
    }
}
