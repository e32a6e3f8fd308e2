//! Request bodies: reading them within limits, and the parameters in them.

use crate::query::{Array, MAX_DEPTH, MAX_VALUES, Query, QueryError, Value};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::CONTENT_TYPE;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long a client may take to send its body: 8 MiB at 280 KB/s.
const PATIENCE: Duration = Duration::from_secs(30);

/// What all bodies that are being read may take together beyond [`SMALL`] each; those that would go over it wait.
const ALL_BODIES: usize = 256 << 20;

/// Bodies up to this size are not counted: the limit on connections bounds them.
const SMALL: usize = 64 << 10;

/// Bytes in a unit of the semaphore, which counts in 32 bits.
const UNIT: usize = 1 << 10;

/// Why a body has no parameters to offer.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// It is over the limit: so many bytes, where it said so beforehand.
    #[error("body {}is longer than MAX_BODY, {limit} bytes", .size.map_or_else(String::new, |size| format!("of {size} bytes ")))]
    TooLong { size: Option<u64>, limit: usize },
    /// It did not come to its end in time.
    #[error("body was not complete after {} s", PATIENCE.as_secs())]
    TooSlow,
    /// The connection broke, or its chunks are malformed.
    #[error("body could not be read: {0}")]
    Broken(hyper::Error),
    /// Its media type is none that parameters can be in.
    #[error("body of type {0} is not taken: send a form (application/x-www-form-urlencoded) or JSON")]
    Unsupported(String),
    /// It is not a JSON object.
    #[error("body is not a JSON object: {0}")]
    Json(serde_json::Error),
    /// It is a form beyond the limits of one.
    #[error("body has {0}")]
    Form(QueryError),
}

/// The memory that bodies share.
pub(super) struct Bodies {
    limit: usize,
    units: Semaphore,
}

impl Bodies {
    /// For bodies of up to `limit` bytes each.
    pub(super) fn new(limit: usize) -> Self {
        Self { limit, units: Semaphore::new(ALL_BODIES.max(limit) / UNIT + 1) }
    }

    /// Reads a body.
    pub(super) async fn read(&self, body: Incoming) -> Result<Bytes, BodyError> {
        if body.is_end_stream() {
            return Ok(Bytes::new());
        }
        let announced = body.size_hint().exact();
        if announced.is_some_and(|size| size > self.limit as u64) {
            return Err(BodyError::TooLong { size: announced, limit: self.limit });
        }
        // An announced length is within the limit, so it fits; chunked bodies announce none.
        let most = announced.map_or(self.limit, |size| size as usize);
        tokio::time::timeout(PATIENCE, self.collect(body, most)).await.unwrap_or(Err(BodyError::TooSlow))
    }

    /// Reads a body of up to `most` bytes.
    async fn collect(&self, mut body: Incoming, most: usize) -> Result<Bytes, BodyError> {
        let mut first = Bytes::new();
        let mut all = Vec::new();
        let mut held = None;
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame.map_err(BodyError::Broken)?.into_data() else { continue };
            let size = all.len().max(first.len()) + data.len();
            if size > self.limit {
                return Err(BodyError::TooLong { size: None, limit: self.limit });
            }
            if first.is_empty() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            if size > SMALL && held.is_none() {
                // All that it may become at once: bodies that wait for each other half read would wait for ever. The
                // semaphore is never closed; were it, reading on would be right.
                held = self.units.acquire_many((most / UNIT) as u32).await.ok();
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.into() })
    }
}

/// The parameters in a body, by its media type (RFC 9110, section 8.3):
///
/// - JSON (`application/json`, `…+json`): the members of an object.
/// - A form, or no type at all: the members of an object where it begins with `{`, as `curl -d` and PHP's stream wrapper
///   call everything a form for which nobody named a type; else a form.
/// - Anything else is refused. A call carried out without what is in its body, a push without its message, would look
///   done to its caller.
///
/// Nothing but white space is no parameters, whatever its type.
pub(super) fn parse(headers: &HeaderMap, body: &[u8]) -> Result<Query, BodyError> {
    let media_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    let media_type = media_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let media_type = media_type.to_ascii_lowercase();
    let text = body.trim_ascii();
    if text.is_empty() {
        return Ok(Query::default());
    }
    if media_type.ends_with(b"/json") || media_type.ends_with(b"+json") {
        return parse_json(text).map_err(BodyError::Json);
    }
    match media_type.as_slice() {
        b"" | b"application/x-www-form-urlencoded" if text.starts_with(b"{") => {
            parse_json(text).map_err(BodyError::Json)
        }
        b"" | b"application/x-www-form-urlencoded" => Query::parse(text).map_err(BodyError::Form),
        other => Err(BodyError::Unsupported(String::from_utf8_lossy(other).into_owned())),
    }
}

/// The members of a JSON object, as if they had come in a query: numbers in their own spelling, `true` as `1`, `false` as
/// `0`; a member that is null is missing.
fn parse_json(text: &[u8]) -> Result<Query, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let budget = Cell::new(MAX_VALUES);
    let value = Seed { budget: &budget, depth: 0 }.deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Some(Value::Array(object)) if text.starts_with(b"{") => Ok(Query::from(*object)),
        _ => Err(serde_json::Error::custom("it is another kind of value")),
    }
}

/// Reads one JSON value, `None` for null, within what is left of the number of values.
#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Cell<usize>,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth > MAX_DEPTH {
            Err(E::custom(QueryError::TooDeep))
        } else {
            Ok(Self { depth: self.depth + 1, ..self })
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let left = self.budget.get().checked_sub(1).ok_or_else(|| D::Error::custom(QueryError::TooMany))?;
        self.budget.set(left);
        deserializer.deserialize_any(self)
    }
}

fn scalar(text: String) -> Option<Value> {
    Some(Value::Text(text.into()))
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(scalar(u8::from(value).to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(scalar(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(scalar(value))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let seed = self.deeper()?;
        let mut array = Array::default();
        while let Some(value) = list.next_element_seed(seed)? {
            array.insert(None, value.unwrap_or(Value::Text(Bytes::new())));
        }
        Ok(Some(Value::Array(Box::new(array))))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let seed = self.deeper()?;
        let mut array = Array::default();
        while let Some(key) = map.next_key::<String>()? {
            if let Some(value) = map.next_value_seed(seed)? {
                array.insert(Some(key.as_bytes()), value);
            }
        }
        Ok(Some(Value::Array(Box::new(array))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    fn read(media_type: &'static str, body: &str) -> Result<String, String> {
        let mut headers = HeaderMap::new();
        if !media_type.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        }
        let query = parse(&headers, body.as_bytes()).map_err(|error| error.to_string())?;
        Ok(serde_json::to_string(&query).unwrap())
    }

    #[test]
    fn forms_and_json_objects_are_parameters() {
        let form = "application/x-www-form-urlencoded";
        for (media_type, body, expected) in [
            (form, "a=1&b[]=x+y", r#"{"a":"1","b":["x y"]}"#),
            ("", "a=1", r#"{"a":"1"}"#),
            ("", "", "[]"),
            ("application/json", " \n", "[]"),
            ("application/json; charset=utf-8", r#"{"a":"ї/"}"#, r#"{"a":"ї/"}"#),
            (
                form,
                r#" {"a":1,"b":-2,"c":true,"d":false,"e":null,"f":[1,null],"g":{"h":{}},"i":1.5}"#,
                r#"{"a":"1","b":"-2","c":"1","d":"0","f":["1",""],"g":{"h":[]},"i":"1.5"}"#,
            ),
            ("application/vnd.api+json", "{}", "[]"),
            ("Application/X-WWW-Form-Urlencoded;charset=UTF-8", "a=1", r#"{"a":"1"}"#),
            ("Application/JSON", "{}", "[]"),
            ("text/plain", " ", "[]"),
        ] {
            assert_eq!(read(media_type, body).as_deref(), Ok(expected), "{body}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_an_error_that_says_why() {
        for (media_type, body, expected) in [
            ("application/json", "[1]", "body is not a JSON object: it is another kind of value"),
            ("application/json", "a=1", "body is not a JSON object: expected value at line 1 column 1"),
            ("", r#"{"a":1"#, "body is not a JSON object: EOF while parsing an object at line 1 column 6"),
            ("", r#"{"a":1} x"#, "body is not a JSON object: trailing characters at line 1 column 9"),
        ] {
            assert_eq!(read(media_type, body), Err(expected.to_owned()), "{body}");
        }
    }

    #[test]
    fn what_is_neither_a_form_nor_json_is_refused_by_its_type() {
        for (media_type, shown, body) in [
            ("multipart/form-data; boundary=x", "multipart/form-data", "--x"),
            ("text/plain", "text/plain", "a=1"),
            ("Text/Plain;charset=UTF-8", "text/plain", r#"{"a":1}"#),
            ("application/octet-stream", "application/octet-stream", "a=1"),
            ("json", "json", "{}"),
        ] {
            let why = "is not taken: send a form (application/x-www-form-urlencoded) or JSON";
            assert_eq!(read(media_type, body), Err(format!("body of type {shown} {why}")), "{media_type}");
        }
    }

    #[test]
    fn json_has_the_limits_of_a_query() {
        let many = |count| format!(r#"{{"a":[1{}]}}"#, ",1".repeat(count));
        assert!(read("", &many(MAX_VALUES - 3)).is_ok());
        assert!(read("", &many(MAX_VALUES - 2)).unwrap_err().contains("more than 32768 parameters"));
        let deep = |depth| format!(r#"{{"a":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(read("", &deep(MAX_DEPTH)).is_ok());
        assert!(read("", &deep(MAX_DEPTH + 1)).unwrap_err().contains("nests deeper than 64 levels"));
    }
}
