//! What the directory's answers and the nodes' outcomes mean to an event.

use super::value::Value;
use crate::cluster::{Answer, Outcome};
use crate::model::Name;
use std::sync::Arc;

/// A value that needs no asking, as nobody has what the event is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Known {
    /// A number.
    Number(u64),
    /// False.
    False,
    /// An empty list or map, which look alike.
    Empty,
}

impl From<Known> for Value {
    fn from(known: Known) -> Self {
        match known {
            Known::Number(number) => Self::Number(number),
            Known::False => Self::Flag(false),
            Known::Empty => Self::NameMap(Vec::new()),
        }
    }
}

/// What an answer of the directory means to an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Meaning {
    /// The number itself.
    Number,
    /// Whether it is more than none.
    IsAny,
    /// The list itself.
    List,
    /// The list, each entry under itself.
    Map,
    /// How long the list is.
    Length,
    /// The sum of its numbers.
    Sum,
    /// Whether the connection is there.
    IsThere,
    /// What it connected with.
    Query,
    /// Its user, or 0.
    User,
    /// Its groups, each under itself.
    Groups,
    /// How many groups it is in.
    GroupCount,
    /// The group's name if it is in it, else false.
    InGroup(Name),
}

impl Meaning {
    /// The value that an answer gives.
    pub(super) fn value(&self, answer: &Arc<Answer>) -> Value {
        let count = || match &**answer {
            Answer::Count(count) => *count,
            Answer::Ids(ids) => ids.len() as u64,
            Answer::Names(names) => names.len() as u64,
            Answer::Details(details) => u64::from(details.is_some()),
        };
        let details = match &**answer {
            Answer::Details(details) => details.as_deref(),
            Answer::Count(_) | Answer::Ids(_) | Answer::Names(_) => None,
        };
        match self {
            Self::Number | Self::Length => Value::Number(count()),
            Self::IsAny | Self::IsThere => Value::Flag(count() > 0),
            Self::List => Value::List(answer.clone()),
            Self::Map => Value::Map(answer.clone()),
            Self::Sum => Value::Number(match &**answer {
                Answer::Names(names) => names.iter().map(|(_, members)| members).sum(),
                Answer::Count(_) | Answer::Ids(_) | Answer::Details(_) => count(),
            }),
            Self::Query => match details.map(|details| &details.query) {
                Some(serde_json::Value::Object(query)) if !query.is_empty() => Value::Json(query.clone().into()),
                Some(serde_json::Value::Array(query)) => Value::Json(query.clone().into()),
                Some(_) | None => Known::Empty.into(),
            },
            Self::User => match details.and_then(|details| details.user.clone()) {
                Some(user) => Value::Text(user),
                None => Value::Number(0),
            },
            Self::Groups => {
                let mut groups = details.map_or_else(Vec::new, |details| details.groups.clone());
                groups.sort_unstable();
                Value::NameMap(groups)
            }
            Self::GroupCount => Value::Number(details.map_or(0, |details| details.groups.len() as u64)),
            Self::InGroup(group) => match details {
                Some(details) if details.groups.iter().any(|name| name == group.as_str()) => {
                    Value::Text(group.to_string())
                }
                Some(_) | None => Value::Flag(false),
            },
        }
    }
}

/// What an outcome means to an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codes {
    /// 0 where anything has changed, 1 where nothing has; this where nobody is there.
    Changed(u64),
    /// 0 where it is so now, 1 where there is no such group; 2 where nobody is there.
    Left,
    /// 0, whatever it was.
    Zero,
    /// How many.
    Count,
    /// Whether there was anybody.
    IsAny,
    /// True, so many times.
    Trues,
}

impl Codes {
    /// The value that an outcome gives; an error with the reason where it was not carried out, and whether a limit stands
    /// against it.
    pub(super) fn value(self, outcome: &Outcome) -> Result<Value, NotDone<'_>> {
        Ok(match (outcome, self) {
            (Outcome::Failed(why) | Outcome::NoAnswer(why), _) => return Err(NotDone::Trouble(why)),
            (Outcome::Refused(why), _) => return Err(NotDone::Limit(why)),
            (Outcome::Done(count), Self::Changed(_)) => Value::Number(u64::from(*count == 0)),
            (Outcome::Unknown | Outcome::NoAudience, Self::Changed(nobody)) => Value::Number(nobody),
            (Outcome::Done(_), Self::Left) | (_, Self::Zero) => Value::Number(0),
            (Outcome::NoAudience, Self::Left) => Value::Number(1),
            (Outcome::Unknown, Self::Left) => Value::Number(2),
            (Outcome::Done(count), Self::Count) => Value::Number(*count),
            (Outcome::Done(count), Self::IsAny) => Value::Flag(*count > 0),
            (Outcome::Done(count), Self::Trues) => Value::Trues(*count),
            (Outcome::Unknown | Outcome::NoAudience, Self::Count) => Value::Number(0),
            (Outcome::Unknown | Outcome::NoAudience, Self::IsAny) => Value::Flag(false),
            (Outcome::Unknown | Outcome::NoAudience, Self::Trues) => Value::Trues(0),
        })
    }
}

/// Why an act was not carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum NotDone<'a> {
    /// A node or Redis did not do it.
    Trouble(&'a str),
    /// A limit stands against it.
    Limit(&'a str),
}
