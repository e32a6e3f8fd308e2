//! The client profile `method`: a client's messages call methods, and each is told at once that its message has come.
//!
//! Rules as plain functions. Texts, numbers and the order of keys are the contract's; clients compare them.

use super::close::Violation;
use super::hooks::Call;
use super::message::Message;
use crate::model::{ConnectionId, Opcode, json};
use serde_json::{Map, Value};

/// What a client sends to keep its connection.
const KEEP_ALIVE: &[u8] = b"2";

/// What it gets for it.
pub(super) const KEPT_ALIVE: &str = "3";

/// Told at once of every message that calls a method.
pub(super) const RECEIVED: &str = r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#;

/// Whoever carries methods out has failed, or can't be reached.
pub(crate) const FAILED: &str = r#"{"status":500,"event":"controllerError","info":"程序错误"}"#;

const DONE: &str = r#"{"status":200,"event":"success","info":"执行完成"}"#;
const NO_CONTROLLER: &str = r#"{"status":404,"event":"controllerNotFound","info":"您请求的控制器不存在"}"#;
/// The controller that a message calls has no such method.
pub(crate) const NO_METHOD: &str = r#"{"status":405,"event":"methodNotFound","info":"您请求的method方法不存在"}"#;

/// The name of module and controller where a message gives none.
const INDEX: &str = "Index";

/// The name of the method where a message gives none.
const METHOD: &str = "index";

/// What a message is.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Spoken {
    /// It only keeps the connection.
    KeepAlive,
    /// It calls a method, with these data.
    Call(Call, Map<String, Value>),
}

/// Reads a message.
///
/// # Errors
/// It is neither a JSON object nor a list.
pub(super) fn read(message: Message<'_>) -> Result<Spoken, Violation> {
    if message.opcode == Opcode::Text && message.payload == KEEP_ALIVE {
        return Ok(Spoken::KeepAlive);
    }
    let data = match json::parse(message.payload) {
        Ok(Value::Object(data)) => data,
        // As in PHP, where a list is an array whose keys count.
        Ok(Value::Array(list)) => list.into_iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        Ok(_) | Err(_) => return Err(Violation::NotJson(message.opcode)),
    };
    Ok(Spoken::Call(call(data.get("method")), data))
}

/// What a message calls by its `method`. What is missing, or empty, is `Index`, of the method `index`.
fn call(method: Option<&Value>) -> Call {
    let method = match method {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        None | Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) => String::new(),
    };
    let parts: Vec<&str> = method.trim_matches('.').split('.').collect();
    let (module, controller, method) = match parts[..] {
        [method] => ("", "", method),
        [controller, method] => ("", controller, method),
        [module, controller, method] => (module, controller, method),
        _ => ("", "", ""),
    };
    let method = if method.is_empty() { METHOD } else { method };
    Call { module: class(module), controller: class(controller), method: method.to_ascii_lowercase() }
}

/// Module and controller that a text names, as a call has them: `Module.Controller` in any case, or `Controller` in the module
/// `Index`. `None` where it is of another form.
pub(crate) fn controller(name: &str) -> Option<(String, String)> {
    let parts: Vec<&str> = name.split('.').collect();
    let (module, controller) = match parts[..] {
        [controller] => (INDEX, controller),
        [module, controller] => (module, controller),
        _ => return None,
    };
    let is_name = |name: &str| !name.is_empty() && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    (is_name(module) && is_name(controller)).then(|| (class(module), class(controller)))
}

/// A name as classes have it: a capital, then small letters.
fn class(name: &str) -> String {
    let name = if name.is_empty() { INDEX } else { name };
    let mut name = name.to_ascii_lowercase();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    name
}

/// The reply where nobody but this node carries methods out: it has one method.
pub(super) fn built_in(call: &Call) -> &'static str {
    match (call.module.as_str(), call.controller.as_str(), call.method.as_str()) {
        (INDEX, INDEX, METHOD) => DONE,
        (INDEX, INDEX, _) => NO_METHOD,
        _ => NO_CONTROLLER,
    }
}

/// A message's data for whoever carries the method out. What says whose the message is comes from the connection and its
/// token (`claims`, `null` where it has none), whatever the client wrote there.
pub(super) fn data(
    mut data: Map<String, Value>,
    connection: ConnectionId,
    claims: &Value,
    escape_html: bool,
) -> String {
    data.insert("code".to_owned(), claims.get("code").cloned().unwrap_or_default());
    data.insert("auth".to_owned(), claims.clone());
    data.insert("fd".to_owned(), connection.get().into());
    let mut data = Value::Object(data);
    if escape_html {
        escape(&mut data);
    }
    data.to_string()
}

/// Escapes every string in it, keys left as they are.
fn escape(value: &mut Value) {
    match value {
        Value::String(text) => {
            if text.contains(['&', '<', '>', '"']) {
                // The ampersand first: the others bring some of their own.
                *text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
            }
        }
        Value::Array(list) => list.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn text(payload: &str) -> Result<Spoken, Violation> {
        read(Message { opcode: Opcode::Text, payload: payload.as_bytes() })
    }

    fn called(method: &Value) -> String {
        let Ok(Spoken::Call(Call { module, controller, method }, _)) = text(&json!({ "method": method }).to_string())
        else {
            panic!("no call: {method}")
        };
        format!("{module}.{controller}.{method}")
    }

    #[test]
    fn a_method_has_up_to_three_parts() {
        for (method, name) in [
            (json!("join"), "Index.Index.join"),
            (json!("user.join"), "Index.User.join"),
            (json!("live.user.join"), "Live.User.join"),
            (json!("LIVE.uSER.Join"), "Live.User.join"),
            (json!("..live.user.join."), "Live.User.join"),
            (json!("a.b.c.d"), "Index.Index.index"),
            (json!("live..join"), "Live.Index.join"),
            (json!(""), "Index.Index.index"),
            (json!("..."), "Index.Index.index"),
            (json!(null), "Index.Index.index"),
            (json!(["a"]), "Index.Index.index"),
            (json!(5), "Index.Index.5"),
            (json!("їжак.їжак"), "Index.їжак.їжак"),
        ] {
            assert_eq!(called(&method), name, "{method}");
        }
        assert!(matches!(text("{}"), Ok(Spoken::Call(call, _)) if built_in(&call) == DONE));
        assert!(matches!(text("[]"), Ok(Spoken::Call(call, _)) if built_in(&call) == DONE));
    }

    #[test]
    fn a_controller_is_named_with_its_module_or_without() {
        let named = |name: &str| controller(name).map(|(module, controller)| format!("{module}.{controller}"));
        for (name, wanted) in
            [("Live.User", "Live.User"), ("live.USER", "Live.User"), ("room", "Index.Room"), ("їжак", "Index.їжак")]
        {
            assert_eq!(named(name).as_deref(), Some(wanted));
        }
        for bad in ["", ".", "a.", ".a", "a.b.c", "a b", "a.\n"] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_a_text_that_is_a_two_keeps_the_connection_and_only_objects_and_lists_are_messages() {
        assert_eq!(text("2"), Ok(Spoken::KeepAlive));
        for bad in ["", "3", " 2", "2.0", "\"2\"", "null", "true", "hello", "{", "{}{}"] {
            assert_eq!(text(bad), Err(Violation::NotJson(Opcode::Text)), "{bad}");
        }
        for bad in [&b"2"[..], b"\xff", b"null"] {
            let message = Message { opcode: Opcode::Binary, payload: bad };
            assert_eq!(read(message), Err(Violation::NotJson(Opcode::Binary)), "{bad:?}");
        }
        let message = Message { opcode: Opcode::Binary, payload: b"{\"method\":\"a\"}" };
        assert!(matches!(read(message), Ok(Spoken::Call(..))));
    }

    #[test]
    fn without_anybody_else_one_method_is_there() {
        for (method, reply) in [
            ("index.index.index", DONE),
            ("Index", DONE),
            ("other", NO_METHOD),
            ("index.other", NO_METHOD),
            ("other.index", NO_CONTROLLER),
            ("live.user.join", NO_CONTROLLER),
        ] {
            assert_eq!(built_in(&call(Some(&json!(method)))), reply, "{method}");
        }
    }

    #[test]
    fn whose_a_message_is_says_the_connection() {
        let with = |message: &str, claims: Value| {
            let Ok(Spoken::Call(_, map)) = text(message) else { panic!("no call: {message}") };
            data(map, ConnectionId::from_u64(7).unwrap(), &claims, false)
        };
        let claims = json!({ "id": "1", "code": "room1" });
        assert_eq!(
            with(r#"{"method":"a","code":"forged","auth":{"id":"9"},"fd":1,"say":"hi"}"#, claims.clone()),
            r#"{"method":"a","code":"room1","auth":{"id":"1","code":"room1"},"fd":7,"say":"hi"}"#
        );
        assert_eq!(with(r#"{"code":"forged"}"#, Value::Null), r#"{"code":null,"auth":null,"fd":7}"#);
        let list = r#"{"0":"a","1":"b","code":"room1","auth":{"id":"1","code":"room1"},"fd":7}"#;
        assert_eq!(with(r#"["a","b"]"#, claims), list);
    }

    #[test]
    fn strings_are_escaped_where_that_is_asked_for_and_keys_are_not() {
        let Ok(Spoken::Call(_, map)) = text(r#"{"<k>":"<b>&\"'","l":[{"m":"&amp;"}],"n":1}"#) else {
            panic!("no call")
        };
        let escaped = data(map, ConnectionId::from_u64(7).unwrap(), &json!({ "code": "<c>" }), true);
        assert_eq!(
            escaped,
            r#"{"<k>":"&lt;b&gt;&amp;&quot;'","l":[{"m":"&amp;amp;"}],"n":1,"code":"&lt;c&gt;","auth":{"code":"&lt;c&gt;"},"fd":7}"#
        );
    }
}
