//! Sets of channels, as texts give them.

use crate::model::{Name, NameError};
use std::str::FromStr;

/// Channels by exact name, or by the beginning of their names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ChannelPatterns(Vec<Pattern>);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Pattern {
    Exact(Name),
    /// Every name that begins like this; empty: every name.
    Prefix(String),
}

/// A text that no channel can match.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("channel pattern {text:?}: {error}")]
pub struct PatternError {
    text: String,
    error: NameError,
}

impl ChannelPatterns {
    /// One pattern for each text: a channel's name, or with `*` at the end the beginning of names.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let pattern = |text: &str| match text.strip_suffix('*') {
            Some("") => Ok(Pattern::Prefix(String::new())),
            Some(prefix) => Name::new(prefix).map(|_| Pattern::Prefix(prefix.to_owned())),
            None => Name::new(text).map(Pattern::Exact),
        };
        let named = |text: &str| pattern(text).map_err(|error| PatternError { text: text.to_owned(), error });
        texts.into_iter().map(named).collect::<Result<_, _>>().map(Self)
    }

    /// Whether no channel can be among them.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a channel is among them.
    pub fn contain(&self, channel: &Name) -> bool {
        self.0.iter().any(|pattern| match pattern {
            Pattern::Exact(name) => name == channel,
            Pattern::Prefix(prefix) => channel.as_str().starts_with(prefix.as_str()),
        })
    }
}

impl FromStr for ChannelPatterns {
    type Err = PatternError;

    /// A list with commas between its patterns.
    fn from_str(text: &str) -> Result<Self, PatternError> {
        Self::new(text.split(',').map(str::trim).filter(|text| !text.is_empty()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_as_a_whole_and_prefixes_what_begins_with_them() {
        let patterns: ChannelPatterns = "news, room:* ,a*b,,ї*".parse().unwrap();
        for (channel, contained) in [
            ("news", true),
            ("news2", false),
            ("new", false),
            ("News", false),
            ("room:", true),
            ("room:7", true),
            ("room", false),
            ("a*b", true),
            ("axb", false),
            ("їжак", true),
        ] {
            assert_eq!(patterns.contain(&Name::new(channel).unwrap()), contained, "{channel}");
        }
        let none: ChannelPatterns = " ,".parse().unwrap();
        assert!(none.is_empty() && !none.contain(&Name::new("news").unwrap()));
        let all: ChannelPatterns = "*".parse().unwrap();
        assert!(all.contain(&Name::new("news").unwrap()));
    }

    #[test]
    fn what_no_channel_can_be_is_named() {
        let long = "n".repeat(201);
        for text in ["a\0", "a\n*", &long] {
            let error = text.parse::<ChannelPatterns>().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
        assert!(ChannelPatterns::new([""]).is_err());
    }
}
