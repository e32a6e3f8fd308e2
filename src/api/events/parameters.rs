//! What a call was given: the members of its JSON body, the query's parameters behind them.

use super::super::shown::shown;
use super::php;
use crate::model::{Name, NameError};
use crate::query::{MAX_VALUES, Query, Value};
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

/// The most parameters that an event has; what comes behind them in a list is ignored.
pub(super) const MOST_PARAMETERS: usize = 4;

/// The members of a JSON object as they were written; of two with one name the last.
#[derive(Default)]
pub(in crate::api) struct Members<'a>(HashMap<String, &'a RawValue>);

impl<'a> Members<'a> {
    fn get(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|value| value.get() != "null")
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = HashMap::new();
        deserializer.deserialize_map(Each(|key: Key, value: &'de RawValue| {
            if let Key::Name(name) = key {
                members.insert(name, value);
            }
            members.len() <= MAX_VALUES
        }))?;
        Ok(Self(members))
    }
}

/// Where a value stands in what it is a member of.
enum Key {
    /// In a list, at this place.
    Place(usize),
    /// In an object, under this name.
    Name(String),
}

/// Hands each member of a list or object over, until it is told that it were too many.
struct Each<F>(F);

impl<'de, F: FnMut(Key, &'de RawValue) -> bool> Visitor<'de> for Each<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list or an object")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        for place in 0.. {
            let Some(value) = list.next_element::<&'de RawValue>()? else { break };
            if !self.0(Key::Place(place), value) {
                return Err(A::Error::custom(format_args!("it has more than {MAX_VALUES} members")));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value::<&'de RawValue>()?;
            if !self.0(Key::Name(name), value) {
                return Err(A::Error::custom(format_args!("it has more than {MAX_VALUES} members")));
            }
        }
        Ok(())
    }
}

/// What a body is to a call.
pub(in crate::api) enum Body<'a> {
    /// No parameters: empty, not JSON, `null` or `[]`.
    Nothing,
    /// Those of an object.
    Object(Members<'a>),
    /// Another list or scalar, which is a fault.
    Other,
    /// An object that is beyond a limit, which the text names.
    Unreadable(String),
}

impl<'a> Body<'a> {
    /// Reads a body as JSON, whatever its media type.
    pub(in crate::api) fn parse(bytes: &'a [u8]) -> Self {
        let Ok(json) = serde_json::from_slice::<&RawValue>(bytes) else { return Self::Nothing };
        match json.get().as_bytes() {
            b"null" => Self::Nothing,
            [b'[', inner @ .., b']'] if inner.trim_ascii().is_empty() => Self::Nothing,
            [b'{', ..] => match serde_json::from_str(json.get()) {
                Ok(members) => Self::Object(members),
                Err(error) => Self::Unreadable(format!("body can't be read: {error}")),
            },
            _ => Self::Other,
        }
    }

    /// Whether it names an event, even an empty one.
    pub(in crate::api) fn has_event(&self) -> bool {
        matches!(self, Self::Object(members) if members.get("event").is_some())
    }
}

/// The parameters of a call; the body's win over the query's, and null is missing.
pub(in crate::api) struct Parameters<'a> {
    /// From the query.
    pub(in crate::api) query: &'a Query,
    /// From the body.
    pub(in crate::api) body: Body<'a>,
}

impl<'a> Parameters<'a> {
    pub(super) fn get(&self, name: &str) -> Option<Given<'a>> {
        let member = match &self.body {
            Body::Object(members) => members.get(name),
            Body::Nothing | Body::Other | Body::Unreadable(_) => None,
        };
        member.map(Given::Json).or_else(|| self.query.get(name).map(Given::Query))
    }

    /// The token that was given, if it is a single value.
    pub(in crate::api) fn token(&self) -> Option<Cow<'a, [u8]>> {
        self.get("token")?.single()
    }

    /// Whether this node alone is asked.
    pub(in crate::api) fn is_for_node(&self) -> bool {
        self.get("scope").and_then(|scope| scope.single()).is_some_and(|scope| *scope == *b"node")
    }

    /// The names of the events, between commas and not trimmed; `None` where there are none, or it is no text.
    pub(super) fn events(&self) -> Option<Vec<String>> {
        let text = match self.get("event")? {
            Given::Json(json) => serde_json::from_str::<String>(json.get()).ok()?,
            // What is not UTF-8 is no event's name, and shown as well as it can be.
            Given::Query(value) => String::from_utf8_lossy(value.as_text()?).into_owned(),
        };
        (!text.is_empty()).then(|| text.split(',').map(str::to_owned).collect())
    }

    /// What an event was given, under the name that the caller spelled.
    pub(super) fn of_event(&self, spelled: &str) -> Result<Arguments<'a>, Fault> {
        let none = Arguments::Named(Members::default());
        match self.get(spelled) {
            None => Ok(none),
            Some(Given::Query(Value::Array(array))) => Ok(Arguments::Query(array)),
            Some(Given::Json(json)) if json.get().starts_with(['{', '[']) => {
                let mut members = Members::default();
                let mut reader = serde_json::Deserializer::from_str(json.get());
                let read = reader.deserialize_any(Each(|key, value| match key {
                    Key::Name(name) => {
                        members.0.insert(name, value);
                        members.0.len() <= MAX_VALUES
                    }
                    Key::Place(place) if place < MOST_PARAMETERS => {
                        members.0.insert(place.to_string(), value);
                        true
                    }
                    Key::Place(_) => true,
                }));
                read.map_err(|error| Fault::Wrong(format!("parameters can't be read: {error}")))?;
                Ok(Arguments::Named(members))
            }
            // Nothing at all, in a query.
            Some(Given::Query(Value::Text(text))) if text.is_empty() => Ok(none),
            Some(Given::Query(Value::Text(_)) | Given::Json(_)) => {
                Err(Fault::Wrong("parameters must be a list or an object".to_owned()))
            }
        }
    }
}

/// Why an event can't be carried out with what it was given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// There is no such event.
    UnknownEvent,
    /// This parameter is missing.
    Missing(&'static str),
    /// A parameter is not what it must be; the text names it.
    Wrong(String),
}

/// What one event was given.
pub(super) enum Arguments<'a> {
    /// A JSON object, or a list as an object with numbers for names.
    Named(Members<'a>),
    /// An array in the query.
    Query(&'a crate::query::Array),
}

impl<'a> Arguments<'a> {
    fn member(&self, name: &str) -> Option<Given<'a>> {
        match self {
            Self::Named(members) => members.get(name).map(Given::Json),
            Self::Query(array) => array.get(name).map(Given::Query),
        }
    }

    /// The parameter of that name and place. Places count where the first one is filled.
    pub(super) fn get(&self, name: &'static str, place: usize) -> Option<Parameter<'a>> {
        let at_place = || self.member("0").and_then(|_| self.member(&place.to_string()));
        at_place().or_else(|| self.member(name)).map(|given| Parameter { name, given })
    }
}

/// A value as it was given.
#[derive(Clone, Copy)]
pub(super) enum Given<'a> {
    /// JSON, not null.
    Json(&'a RawValue),
    /// From the query.
    Query(&'a Value),
}

impl<'a> Given<'a> {
    /// A single value as text, by PHP's conversions; `None` where it is a list or an object, or no text.
    fn single(self) -> Option<Cow<'a, [u8]>> {
        let json = match self {
            Self::Query(value) => return value.as_text().map(|text| Cow::Borrowed(text.as_ref())),
            Self::Json(json) => json.get(),
        };
        Some(match json.as_bytes().first()? {
            b'"' => Cow::Owned(serde_json::from_str::<String>(json).ok()?.into_bytes()),
            b'[' | b'{' => return None,
            b't' => Cow::Borrowed(b"1"),
            b'f' | b'n' => Cow::Borrowed(b""),
            _ => Cow::Owned(php::number(json).into_bytes()),
        })
    }
}

/// One parameter of an event.
#[derive(Clone, Copy)]
pub(super) struct Parameter<'a> {
    name: &'static str,
    given: Given<'a>,
}

impl<'a> Parameter<'a> {
    fn wrong(self, why: impl fmt::Display) -> Fault {
        Fault::Wrong(format!("parameter {} {why}", self.name))
    }

    /// Its single value; what is not UTF-8 stays as it is, and is nobody's id.
    pub(super) fn single(self) -> Result<Cow<'a, [u8]>, Fault> {
        self.given.single().ok_or_else(|| self.wrong("must be a single value"))
    }

    /// An id that somebody may have; `None` where nobody can.
    pub(super) fn name(self) -> Result<Option<Name>, Fault> {
        Ok(name(&self.single()?).ok())
    }

    /// An id that somebody is to get.
    pub(super) fn new_name(self) -> Result<Name, Fault> {
        let text = self.single()?;
        name(&text).map_err(|error| self.wrong_name(&text, &error))
    }

    /// Ids between commas that somebody may have, at most [`MAX_VALUES`].
    pub(super) fn names(self) -> Result<Vec<Name>, Fault> {
        let text = self.single()?;
        let mut parts = text.split(|&byte| byte == b',');
        let names = parts.by_ref().take(MAX_VALUES).filter_map(|part| name(part).ok()).collect();
        match parts.next() {
            None => Ok(names),
            Some(_) => Err(self.wrong(format_args!("has more than {MAX_VALUES} names"))),
        }
    }

    /// Ids between commas that somebody is to get.
    pub(super) fn new_names(self) -> Result<Vec<Name>, Fault> {
        let text = self.single()?;
        let parts = text.split(|&byte| byte == b',');
        parts.map(|part| name(part).map_err(|error| self.wrong_name(part, &error))).collect()
    }

    fn wrong_name(self, text: &[u8], error: &dyn fmt::Display) -> Fault {
        Fault::Wrong(format!("parameter {}: {error}: {}", self.name, shown(text)))
    }

    /// A message: text as it is, a number as text, a list or object as compact JSON.
    pub(super) fn message(self) -> Result<Bytes, Fault> {
        let not_utf8 = || self.wrong("is not UTF-8");
        if let Some(text) = self.given.single() {
            return match std::str::from_utf8(&text) {
                Ok(_) => Ok(Bytes::from(text.into_owned())),
                Err(_) => Err(not_utf8()),
            };
        }
        let json = match self.given {
            Given::Query(value) if value.is_utf8() => serde_json::to_string(value),
            Given::Query(_) => return Err(not_utf8()),
            Given::Json(json) => php::compact(json.get()),
        };
        json.map(Bytes::from).map_err(|error| self.wrong(format_args!("can't be read: {error}")))
    }

    /// Takes each element of a list, which are single values.
    pub(super) fn each(self, mut take: impl FnMut(&[u8])) -> Result<(), Fault> {
        let not_a_list = || self.wrong("must be a list");
        let mut all_single = true;
        let mut element = |given: Given<'_>| match given.single() {
            Some(text) => take(&text),
            None => all_single = false,
        };
        match self.given {
            Given::Query(Value::Array(array)) => array.values().for_each(|value| element(Given::Query(value))),
            Given::Query(Value::Text(_)) => return Err(not_a_list()),
            Given::Json(json) if json.get().starts_with(['[', '{']) => {
                let mut reader = serde_json::Deserializer::from_str(json.get());
                let read = reader.deserialize_any(Each(|_, value| {
                    element(Given::Json(value));
                    true
                }));
                read.map_err(|error| self.wrong(format_args!("can't be read: {error}")))?;
            }
            Given::Json(_) => return Err(not_a_list()),
        }
        if all_single { Ok(()) } else { Err(self.wrong("must be a list of single values")) }
    }
}

/// Why a text can't be a name.
#[derive(Debug, thiserror::Error)]
enum NotAName {
    #[error("name is not UTF-8")]
    NotUtf8,
    #[error(transparent)]
    Rule(#[from] NameError),
}

fn name(text: &[u8]) -> Result<Name, NotAName> {
    let text = std::str::from_utf8(text).map_err(|_| NotAName::NotUtf8)?;
    Ok(Name::new(text)?)
}
