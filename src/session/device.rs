//! What is particular to clients of the profile `device`: the stable id that one may bring, and documents that it may send.

use super::handshake::shown;
use crate::model::{DeviceId, Name};
use crate::query::Query;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::sync::Arc;

/// The parameter with a client's stable id.
const PARAMETER: &str = "device";

/// Carries out what clients of the profile send, as if a backend had written it to the device socket: document after document,
/// nobody is answered. It has to end by itself. A connection hands over what one read brought it, and reads on afterwards.
pub type ClientDocuments = Arc<dyn Fn(Vec<Bytes>, MayJoin) -> BoxFuture<'static, ()> + Send + Sync>;

/// Whether a client may have connections subscribed to a channel: private ones are for those whose token allows them, however
/// they are asked for.
pub type MayJoin = Box<dyn Fn(&Name) -> bool + Send + Sync>;

/// The stable id that a connect query brings (`?device=1234567`), if it does; an empty one is none. The error is for people.
///
/// One that spells a connection's id is refused: else its client would be reached by what is meant for another.
pub(super) fn stable_id(query: &Query) -> Result<Option<Name>, String> {
    let Some(value) = query.get(PARAMETER) else { return Ok(None) };
    let Some(bytes) = value.as_text() else { return Err("device is not one id".to_owned()) };
    if bytes.is_empty() {
        return Ok(None);
    }
    let refuse = |why: &dyn std::fmt::Display| format!("device {:?}: {why}", shown(bytes));
    let text = std::str::from_utf8(bytes).map_err(|_| refuse(&"id is not utf-8"))?;
    if text.parse::<DeviceId>().is_ok() {
        return Err(refuse(&"an id of this form is a connection's own and can't be brought"));
    }
    Name::new(text).map(Some).map_err(|error| refuse(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(query: &str) -> Result<Option<String>, String> {
        let query = Query::parse(query.as_bytes()).unwrap();
        stable_id(&query).map(|name| name.map(|name| name.to_string()))
    }

    #[test]
    fn a_stable_id_is_a_name_that_spells_no_connection() {
        let long = "x".repeat(201);
        for (query, found) in [
            ("", Ok(None)),
            ("device=", Ok(None)),
            ("device=1234567", Ok(Some("1234567"))),
            ("device=359881030314356", Ok(Some("359881030314356"))),
            ("device=a&device=%D1%97+b", Ok(Some("ї b"))),
            ("device[]=a", Err("device is not one id")),
            ("device=%FF", Err("device \"\u{fffd}\": id is not utf-8")),
            ("device=a%00", Err("device \"a\\0\": name has a control character")),
            (
                "device=AbCdEfGhIjKlMn_",
                Err("device \"AbCdEfGhIjKlMn_\": an id of this form is a connection's own and can't be brought"),
            ),
        ] {
            let found = found.map(|name: Option<&str>| name.map(str::to_owned)).map_err(str::to_owned);
            assert_eq!(id(query), found, "{query}");
        }
        assert!(id(&format!("device={long}")).unwrap_err().ends_with("name is longer than 200 bytes"));
    }
}
