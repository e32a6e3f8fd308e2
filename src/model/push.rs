//! What a backend wants delivered, and to whom.

use super::{Audience, ConnectionId, Name};
use bytes::Bytes;

/// Whom a push is for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// Every connection of the cluster.
    All,
    /// The members of one audience.
    Audience(Audience),
    /// The members of any of several audiences, each connection once.
    Audiences(Vec<Audience>),
    /// One connection.
    Connection(ConnectionId),
}

impl Target {
    /// What [`kind`](Self::kind) can be.
    pub const KINDS: [&str; 7] = ["all", "channel", "user", "group", "device", "several", "connection"];

    /// The word for it in metrics.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Audience(audience) => audience.kind.as_str(),
            Self::Audiences(_) => "several",
            Self::Connection(_) => "connection",
        }
    }
}

/// Whom a push leaves out although its target names them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Exclusions {
    /// These connections.
    pub connections: Vec<ConnectionId>,
    /// Every connection of these users.
    pub users: Vec<Name>,
}

impl Exclusions {
    /// Whether nobody is left out.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.users.is_empty()
    }
}

/// The two kinds of WebSocket data message (RFC 6455, section 5.6).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opcode {
    /// UTF-8 text; a browser closes a connection that gets anything else in one.
    Text,
    /// Any bytes.
    Binary,
}

/// One message for a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Push {
    /// Whom it is for.
    pub target: Target,
    /// Whom it leaves out.
    pub exclude: Exclusions,
    /// The message as it was given; with [`Opcode::Text`] checked to be UTF-8 by whoever made the push.
    pub payload: Bytes,
    /// How it is framed.
    pub opcode: Opcode,
}

impl From<Audience> for Target {
    /// Its members.
    fn from(audience: Audience) -> Self {
        Self::Audience(audience)
    }
}

impl From<ConnectionId> for Target {
    /// That one.
    fn from(connection: ConnectionId) -> Self {
        Self::Connection(connection)
    }
}

impl Push {
    /// A binary message that leaves nobody out.
    pub fn binary(target: impl Into<Target>, payload: impl Into<Bytes>) -> Self {
        Self { target: target.into(), exclude: Exclusions::default(), payload: payload.into(), opcode: Opcode::Binary }
    }

    /// The same, leaving out this connection too.
    #[must_use]
    pub fn except(mut self, connection: ConnectionId) -> Self {
        self.exclude.connections.push(connection);
        self
    }

    /// The same, leaving out every connection of this user too.
    #[must_use]
    pub fn except_user(mut self, user: Name) -> Self {
        self.exclude.users.push(user);
        self
    }

    /// A text message that leaves nobody out.
    pub fn text(target: impl Into<Target>, payload: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            exclude: Exclusions::default(),
            payload: Bytes::from(payload.into().into_bytes()),
            opcode: Opcode::Text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::AudienceKind;

    #[test]
    fn every_target_has_one_of_the_words_for_it() {
        let audience = |kind| Audience { kind, name: Name::new("a").unwrap() };
        let audiences = AudienceKind::ALL.map(|kind| Target::Audience(audience(kind)));
        let connection = Target::Connection(ConnectionId::from_u64(1).unwrap());
        let all = [Target::All].into_iter().chain(audiences).chain([Target::Audiences(Vec::new()), connection]);
        assert_eq!(all.map(|target| target.kind()).collect::<Vec<_>>(), Target::KINDS);
    }
}
