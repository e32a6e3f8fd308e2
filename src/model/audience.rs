//! Named sets of connections.

use super::ConnectionId;
use std::fmt;
use std::sync::Arc;

/// The longest name, in bytes of UTF-8: names become Redis keys and subscriptions, each held for as long as it has members.
const MAX_NAME: usize = 200;

/// The name of an audience: 1 to 200 bytes of UTF-8 without control characters. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Arc<str>);

/// Why a text can't be a name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NameError {
    /// It has no bytes.
    #[error("name is empty")]
    Empty,
    /// It has more than 200 bytes.
    #[error("name is longer than {MAX_NAME} bytes")]
    TooLong,
    /// It has a control character (Unicode category Cc).
    #[error("name has a control character")]
    Control,
}

impl Name {
    /// Checks `text` against the rules of a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.is_empty() {
            Err(NameError::Empty)
        } else if text.len() > MAX_NAME {
            Err(NameError::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(NameError::Control)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// The name as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The four kinds of one thing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum AudienceKind {
    /// What a client subscribes to by name.
    Channel,
    /// The connections of one signed-in user.
    User,
    /// A set of connections that a backend puts together.
    Group,
    /// The connections of one stable device id.
    Device,
}

impl AudienceKind {
    /// Every kind, in the order of their numbers on the bus.
    pub const ALL: [AudienceKind; 4] = [Self::Channel, Self::User, Self::Group, Self::Device];

    /// The word for it in Redis keys, metrics and messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Channel => "channel",
            Self::User => "user",
            Self::Group => "group",
            Self::Device => "device",
        }
    }
}

impl fmt::Display for AudienceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A named set of connections: a channel, a user, a group or a stable device id.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Audience {
    /// What kind of set it is; the same name in two kinds is two audiences.
    pub kind: AudienceKind,
    /// Its name.
    pub name: Name,
}

impl Audience {
    /// The channel of that name.
    pub fn channel(name: Name) -> Self {
        Self { kind: AudienceKind::Channel, name }
    }
}

impl Audience {
    /// The connections of that user.
    pub fn user(name: Name) -> Self {
        Self { kind: AudienceKind::User, name }
    }

    /// The group of that name.
    pub fn group(name: Name) -> Self {
        Self { kind: AudienceKind::Group, name }
    }

    /// The connections of that stable device id.
    pub fn device(name: Name) -> Self {
        Self { kind: AudienceKind::Device, name }
    }
}

/// Connections that something is done to.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Who {
    /// This one.
    Connection(ConnectionId),
    /// All that are members at that moment.
    Members(Audience),
}

impl From<ConnectionId> for Who {
    fn from(connection: ConnectionId) -> Self {
        Self::Connection(connection)
    }
}

impl From<Audience> for Who {
    fn from(audience: Audience) -> Self {
        Self::Members(audience)
    }
}

impl fmt::Display for Audience {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_1_to_200_bytes_without_control_characters() {
        for good in ["a", "канал", "a b:{c}/d", &"n".repeat(200)] {
            assert_eq!(Name::new(good).unwrap().as_str(), good);
        }
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new(&"ї".repeat(101)), Err(NameError::TooLong));
        for bad in ["a\0", "\n", "a\u{7f}", "\u{85}"] {
            assert_eq!(Name::new(bad), Err(NameError::Control), "{bad:?}");
        }
    }
}
