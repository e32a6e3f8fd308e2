//! What a call was given: the query's parameters, the body's behind them, and their meanings.

use super::super::shown::shown;
use super::reply::Refusal;
use crate::model::{Audience, AudienceKind, ConnectionId, Exclusions, Name};
use crate::query::{Query, Value};
use bytes::Bytes;
use std::collections::HashSet;
use std::fmt;

/// The parameters of a call; the query's win over the body's.
pub(in crate::api) struct Parameters {
    /// From the query, which answers echo.
    pub(in crate::api) query: Query,
    /// From the body, which they don't.
    pub(in crate::api) body: Query,
}

impl Parameters {
    pub(super) fn value(&self, name: &str) -> Option<&Value> {
        self.query.get(name).or_else(|| self.body.get(name))
    }

    /// A parameter that has one value; `None` where it is missing.
    pub(in crate::api) fn text(&self, name: &str) -> Result<Option<&Bytes>, Refusal> {
        self.value(name).map(|value| value.as_text().ok_or_else(|| single(name))).transpose()
    }

    /// The audience of a kind, by the parameter of that name. `None` where it is missing or empty.
    pub(super) fn audience(&self, kind: AudienceKind) -> Result<Option<Audience>, Refusal> {
        let mut audiences = self.audiences(kind)?;
        let audience = audiences.pop();
        if audiences.is_empty() { Ok(audience) } else { Err(single(kind.as_str())) }
    }

    /// The audiences of a kind that a parameter names, alone or as a list, each once, in their order.
    pub(super) fn audiences(&self, kind: AudienceKind) -> Result<Vec<Audience>, Refusal> {
        let mut seen = HashSet::new();
        let names = self.texts(kind.as_str())?;
        let names = names.into_iter().filter(|name| seen.insert(*name));
        names.map(|name| Ok(Audience { kind, name: parse_name(kind, name)? })).collect()
    }

    /// At least one audience of a kind.
    pub(super) fn need_audiences(&self, kind: AudienceKind) -> Result<Vec<Audience>, Refusal> {
        let audiences = self.audiences(kind)?;
        if audiences.is_empty() { Err(need(kind)) } else { Ok(audiences) }
    }

    /// The connection that the call is about; [`Refusal::Bare`] where it is missing or no id.
    pub(super) fn connection(&self) -> Result<ConnectionId, Refusal> {
        self.text("connection")?.and_then(|id| parse_id(id)).ok_or(Refusal::Bare)
    }

    /// Whom a push leaves out.
    pub(super) fn exclusions(&self) -> Result<Exclusions, Refusal> {
        let ids = self.texts("exclude")?.into_iter().map(|id| {
            parse_id(id).ok_or_else(|| message(format_args!("exclude param is no connection id: {}", shown(id))))
        });
        Ok(Exclusions { connections: ids.collect::<Result<_, _>>()?, users: Vec::new() })
    }

    /// The values of a parameter, alone or as a list; a single empty one counts as missing, as in PHP's `empty`.
    fn texts(&self, name: &str) -> Result<Vec<&Bytes>, Refusal> {
        match self.value(name) {
            None => Ok(Vec::new()),
            Some(Value::Text(text)) if text.is_empty() => Ok(Vec::new()),
            Some(value) => value
                .as_texts()
                .ok_or_else(|| message(format_args!("{name} param must be one value or a list of values"))),
        }
    }
}

pub(super) fn need(kind: AudienceKind) -> Refusal {
    message(format_args!("need {kind} param for this action"))
}

fn single(name: &str) -> Refusal {
    message(format_args!("{name} param must be a single value"))
}

fn parse_id(text: &[u8]) -> Option<ConnectionId> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn parse_name(kind: AudienceKind, text: &[u8]) -> Result<Name, Refusal> {
    let refuse = |why: &dyn fmt::Display| message(format_args!("{kind} param: {why}: {}", shown(text)));
    let text = std::str::from_utf8(text).map_err(|_| refuse(&"name is not UTF-8"))?;
    Name::new(text).map_err(|error| refuse(&error))
}

fn message(text: fmt::Arguments<'_>) -> Refusal {
    Refusal::Message(text.to_string())
}
