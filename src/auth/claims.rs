//! What a token says of its bearer.

use super::patterns::ChannelPatterns;
use super::rejection::Rejection;
use crate::model::{DeviceId, Name};
use serde_json::{Map, Value};

/// The most levels of objects and lists, as in a connect query: what tokens say stands in other JSON as one of its members,
/// whose readers have limits of their own.
const MAX_DEPTH: usize = 64;

/// What a token says of its bearer, once it is known to be genuine.
#[derive(Clone, PartialEq, Debug)]
pub struct Claims {
    /// `id`: the user that the connection is one of.
    pub user: Option<Name>,
    /// `code`: the group that it is in.
    pub group: Option<Name>,
    /// `channels`: private channels that may be subscribed to.
    pub channels: ChannelPatterns,
    object: Map<String, Value>,
}

/// When a token may be used, in seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Times {
    /// The oldest that it may be, counted from its `ctime`, or its `iat` where it has none; `None`: any age, and neither is
    /// looked at.
    pub max_age: Option<u64>,
    /// By how much the issuer's clock may differ from this one.
    pub leeway: u64,
}

impl Claims {
    /// Reads a token's object. Names may be texts or, as PHP's values often are, whole numbers; what is `null`, empty or not
    /// there is none.
    pub fn new(object: Map<String, Value>) -> Result<Self, Rejection> {
        if object.values().any(|value| is_deeper(value, MAX_DEPTH - 1)) {
            return Err(Rejection::Claim("one nests too deep"));
        }
        Ok(Self {
            user: name(object.get("id")).ok_or(Rejection::Claim("id is no name"))?,
            group: name(object.get("code")).ok_or(Rejection::Claim("code is no name"))?,
            channels: channels(object.get("channels")).ok_or(Rejection::Claim("channels is no list of patterns"))?,
            object,
        })
    }

    /// `device`: the stable id that a client of the profile `device` has. Looked at for those alone, as other clients' tokens may
    /// say anything under that name.
    ///
    /// One that spells a connection's id is refused, as it is in a connect query.
    pub fn device(&self) -> Result<Option<Name>, Rejection> {
        match name(self.object.get("device")).ok_or(Rejection::Claim("device is no name"))? {
            Some(name) if name.as_str().parse::<DeviceId>().is_ok() => {
                Err(Rejection::Claim("device is of the form of a connection's own id"))
            }
            device => Ok(device),
        }
    }

    /// All of it, as it came.
    pub fn object(&self) -> &Map<String, Value> {
        &self.object
    }

    /// The text of a claim that is a text or a number, such as `type` or `nickname`.
    pub fn text(&self, claim: &str) -> Option<String> {
        text(self.object.get(claim)?)
    }

    /// Whether it may be used at `now`, in seconds since 1970: `exp`, `nbf` (RFC 7519, section 4.1) and its age.
    pub(super) fn check_times(&self, now: f64, times: Times) -> Result<(), Rejection> {
        let leeway = times.leeway as f64;
        if self.time("exp")?.is_some_and(|expires| now >= expires + leeway) {
            return Err(Rejection::Expired);
        }
        if self.time("nbf")?.is_some_and(|begins| now + leeway < begins) {
            return Err(Rejection::NotYet);
        }
        let Some(max_age) = times.max_age else { return Ok(()) };
        let issued = match self.time("ctime")? {
            None => self.time("iat")?,
            issued => issued,
        };
        let issued = issued.ok_or(Rejection::Claim("its age counts and ctime is missing"))?;
        if now + leeway < issued {
            Err(Rejection::NotYet)
        } else if now > issued + max_age as f64 + leeway {
            Err(Rejection::Expired)
        } else {
            Ok(())
        }
    }

    /// A time in seconds since 1970, which PHP may have made a text.
    fn time(&self, claim: &str) -> Result<Option<f64>, Rejection> {
        let seconds = match self.object.get(claim) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Number(number)) => number.as_f64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(Value::Bool(_) | Value::Array(_) | Value::Object(_)) => None,
        };
        match seconds.filter(|seconds| seconds.is_finite()) {
            Some(seconds) => Ok(Some(seconds)),
            None => Err(Rejection::Claim("exp, nbf, ctime or iat is no time")),
        }
    }
}

/// Whether a value has more than `levels` levels of objects and lists. Its depth is bounded by what reads JSON.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let mut below: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(list) => Box::new(list.iter()),
        Value::Object(object) => Box::new(object.values()),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return false,
    };
    levels == 0 || below.any(|value| is_deeper(value, levels - 1))
}

/// A text, or a whole number as one.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) if !number.is_f64() => Some(number.to_string()),
        Value::Number(_) | Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `None` where it can't be a name; `Some(None)` where there is none.
fn name(value: Option<&Value>) -> Option<Option<Name>> {
    match value {
        None | Some(Value::Null) => Some(None),
        Some(value) => match text(value)?.as_str() {
            "" => Some(None),
            text => Name::new(text).ok().map(Some),
        },
    }
}

fn channels(value: Option<&Value>) -> Option<ChannelPatterns> {
    match value {
        None | Some(Value::Null) => Some(ChannelPatterns::default()),
        Some(Value::Array(list)) => {
            let texts: Option<Vec<String>> = list.iter().map(text).collect();
            ChannelPatterns::new(texts?.iter().map(String::as_str)).ok()
        }
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn claims(object: Value) -> Result<Claims, Rejection> {
        match object {
            Value::Object(object) => Claims::new(object),
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn names_are_texts_or_whole_numbers_and_nothing_is_no_name() {
        let user = |id: Value| claims(json!({ "id": id })).unwrap().user.map(|name| name.to_string());
        for (id, name) in [
            (json!("5"), Some("5")),
            (json!(5), Some("5")),
            (json!(0), Some("0")),
            (json!(-7), Some("-7")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!("Їжак 1"), Some("Їжак 1")),
            (json!(""), None),
            (json!(null), None),
        ] {
            assert_eq!(user(id.clone()).as_deref(), name, "{id}");
        }
        assert_eq!(claims(json!({})).unwrap().user, None);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let long = "n".repeat(201);
        for bad in [json!(1.5), json!(1e30), json!(true), json!([]), json!({}), json!("a\u{0}b"), json!(long)] {
            assert_eq!(claims(json!({ "id": bad })), Err(Rejection::Claim("id is no name")), "{bad}");
            assert_eq!(claims(json!({ "code": bad })), Err(Rejection::Claim("code is no name")), "{bad}");
        }
    }

    #[test]
    fn channels_are_a_list_of_names_and_prefixes() {
        let allowed = claims(json!({ "channels": ["a", "room:*", 7] })).unwrap().channels;
        for (channel, allows) in [("a", true), ("room:1", true), ("7", true), ("b", false)] {
            assert_eq!(allowed.contain(&Name::new(channel).unwrap()), allows, "{channel}");
        }
        for bad in [json!("a"), json!({ "1": "a" }), json!([["a"]]), json!([""]), json!(["a\n"]), json!([true])] {
            let refused = claims(json!({ "channels": bad }));
            assert_eq!(refused, Err(Rejection::Claim("channels is no list of patterns")), "{bad}");
        }
    }

    #[test]
    fn a_device_is_a_name_that_spells_no_connection() {
        let device = |device: Value| claims(json!({ "device": device })).unwrap().device();
        for (value, found) in [
            (json!("kitchen ї"), Some("kitchen ї")),
            (json!("359881030314356"), Some("359881030314356")),
            (json!(1234567), Some("1234567")),
            (json!(""), None),
            (json!(null), None),
        ] {
            assert_eq!(device(value.clone()).unwrap().map(|name| name.to_string()).as_deref(), found, "{value}");
        }
        for bad in [json!(1.5), json!(true), json!(["a"]), json!({ "os": "x" }), json!("a\n"), json!("x".repeat(201))] {
            assert_eq!(device(bad.clone()), Err(Rejection::Claim("device is no name")), "{bad}");
        }
        let spelled = Err(Rejection::Claim("device is of the form of a connection's own id"));
        assert_eq!(device(json!("AbCdEfGhIjKlMn_")), spelled);
        assert_eq!(claims(json!({})).unwrap().device(), Ok(None));
    }

    #[test]
    fn what_nests_too_deep_is_refused() {
        let nested = |levels: usize| {
            (0..levels).fold(json!(1), |inner, at| match at % 2 {
                0 => json!([inner]),
                _ => json!({ "a": inner }),
            })
        };
        assert!(claims(json!({ "x": nested(MAX_DEPTH - 1), "y": [[], {}] })).is_ok());
        assert_eq!(claims(json!({ "x": 1, "y": nested(MAX_DEPTH) })), Err(Rejection::Claim("one nests too deep")));
    }

    #[test]
    fn all_of_it_is_kept_as_it_came() {
        let object = json!({ "z": [1, { "k": null }], "id": 5, "type": "wall", "nickname": "Ж", "a": 1.5 });
        let claims = claims(object.clone()).unwrap();
        assert_eq!(serde_json::to_string(claims.object()).unwrap(), object.to_string());
        assert_eq!((claims.text("type").as_deref(), claims.text("nickname").as_deref()), (Some("wall"), Some("Ж")));
        assert_eq!((claims.text("z"), claims.text("missing")), (None, None));
    }

    #[test]
    fn times_are_kept_to_with_an_allowance() {
        let any = Times { max_age: None, leeway: 10 };
        let young = Times { max_age: Some(100), leeway: 10 };
        let malformed = Err(Rejection::Claim("exp, nbf, ctime or iat is no time"));
        for (object, times, found) in [
            (json!({}), any, Ok(())),
            (json!({ "exp": 1000 }), any, Ok(())),
            (json!({ "exp": 991 }), any, Ok(())),
            (json!({ "exp": 990 }), any, Err(Rejection::Expired)),
            (json!({ "exp": "990" }), any, Err(Rejection::Expired)),
            (json!({ "exp": 989.5 }), any, Err(Rejection::Expired)),
            (json!({ "exp": -1 }), any, Err(Rejection::Expired)),
            (json!({ "exp": null }), any, Ok(())),
            (json!({ "exp": "soon" }), any, malformed.clone()),
            (json!({ "exp": "inf" }), any, malformed.clone()),
            (json!({ "exp": [2000] }), any, malformed.clone()),
            (json!({ "exp": true }), any, malformed.clone()),
            (json!({ "nbf": 1010 }), any, Ok(())),
            (json!({ "nbf": 1011 }), any, Err(Rejection::NotYet)),
            (json!({ "nbf": "later" }), any, malformed),
            (json!({ "ctime": "whenever" }), any, Ok(())),
            (json!({ "ctime": 890 }), young, Ok(())),
            (json!({ "ctime": "890" }), young, Ok(())),
            (json!({ "ctime": 889 }), young, Err(Rejection::Expired)),
            (json!({ "ctime": 1010 }), young, Ok(())),
            (json!({ "ctime": 1011 }), young, Err(Rejection::NotYet)),
            (json!({ "iat": 950 }), young, Ok(())),
            (json!({ "iat": 800 }), young, Err(Rejection::Expired)),
            (json!({ "ctime": 800, "iat": 950 }), young, Err(Rejection::Expired)),
            (json!({ "exp": 2000 }), young, Err(Rejection::Claim("its age counts and ctime is missing"))),
        ] {
            assert_eq!(claims(object.clone()).unwrap().check_times(1000.0, times), found, "{object}");
        }
    }
}
