//! What an application, elsewhere or in this program, is told of connections, and what it may answer.
//!
//! A session calls these and knows nothing of who is behind them. For each connection `open` comes first, then each
//! `message` after the answer to the one before it, then `close`, once.

use super::profile::Profile;
use crate::cluster::Details;
use crate::hub::{End, Hub, Portrait};
use crate::model::{ConnectionId, HexId, Name, NodeId, Opcode};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the names of groups begin with that stand for close keys: sets that a connection is in until it ends. The group ends with
/// the connection, whoever ends it, and its name is told to whoever has to clear the key.
pub const CLOSE_KEY: &str = "close_key:";

/// The same for close controllers, which are told of the connection's end.
pub const CLOSE_CONTROLLER: &str = "close_controller:";

/// Why connections ended whose node is not there to say it.
const NODE_DIED: &str = "node_died";

/// Which events are wanted of a profile's connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Wanted(u8);

impl Wanted {
    /// None of them.
    pub const NOTHING: Self = Self(0);
    /// That a connection opens.
    pub const OPEN: Self = Self(1);
    /// That a client sends a message.
    pub const MESSAGE: Self = Self(2);
    /// That a connection has closed.
    pub const CLOSE: Self = Self(4);
    /// All of them.
    pub const ALL: Self = Self(7);

    /// Whether all of `other` are among these.
    pub const fn includes(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These and `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These but not `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// A connection at the moment of an event.
#[derive(Clone, PartialEq, Debug)]
pub struct Occasion {
    /// The node that has it, or had it.
    pub node: NodeId,
    /// Its id.
    pub id: HexId,
    /// Its channels, sorted; `None` where a node died that had the connection in more than are kept.
    pub channels: Option<Vec<Name>>,
    /// What the directory keeps of it.
    pub details: Details,
}

impl Occasion {
    /// A connection of this node, as the hub has it or had it.
    pub fn new(node: NodeId, id: HexId, portrait: Portrait) -> Self {
        let Portrait { details, channels } = portrait;
        Self { node, id, channels: Some(channels), details: Details::parse(&details) }
    }

    /// A connection whose node has died before it told its end, and that end: as the directory has kept `details` of it, which were
    /// found to be owed at `found`, in milliseconds since 1970.
    pub fn owed(connection: ConnectionId, node: NodeId, details: &str, found: u64) -> (Self, End) {
        let mut details = Details::parse(details);
        let died = || End { code: End::NO_FRAME, reason: String::new(), cause: NODE_DIED.to_owned(), at: found };
        let end = details.ended.take().unwrap_or_else(died);
        let names = |channels: Vec<String>| channels.iter().filter_map(|name| Name::new(name).ok()).collect();
        let channels = details.channels.take().map(names);
        (Self { node, id: HexId::new(node.tag(), connection), channels, details }, end)
    }

    /// What the connection's groups are, each kind sorted.
    pub fn memberships(&self) -> Memberships<'_> {
        let mut all = Memberships::default();
        for group in &self.details.groups {
            if let Some(key) = group.strip_prefix(CLOSE_KEY) {
                all.close_keys.push(key);
            } else if let Some(controller) = group.strip_prefix(CLOSE_CONTROLLER) {
                all.close_controllers.push(controller);
            } else {
                all.groups.push(group);
            }
        }
        [&mut all.groups, &mut all.close_keys, &mut all.close_controllers]
            .into_iter()
            .for_each(|names| names.sort_unstable());
        all
    }
}

/// A connection's groups by what they stand for, each name without what it begins with for that.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Memberships<'a> {
    /// Those that stand for nothing else.
    pub groups: Vec<&'a str>,
    /// Sets that it is in until it ends.
    pub close_keys: Vec<&'a str>,
    /// Who is to hear of its end.
    pub close_controllers: Vec<&'a str>,
}

/// A client's message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Said {
    /// Which of the connection's messages that are told it is: 1, 2, 3 ….
    pub number: u32,
    /// Text or binary.
    pub opcode: Opcode,
    /// The message; with [`Opcode::Text`] UTF-8.
    pub payload: Bytes,
    /// What it calls, where its profile gives messages such a meaning.
    pub call: Option<Call>,
}

/// What a message of the profile `method` calls, each name as PHP writes it: `Live`, `User`, `join`.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Call {
    /// The module.
    pub module: String,
    /// The controller in it.
    pub controller: String,
    /// The controller's method.
    pub method: String,
}

/// What is kept of a closed connection until its end is told, here or by another node after this one has died.
pub struct Receipt {
    hub: Arc<Hub>,
    connection: ConnectionId,
    /// Whether the other half of it is settled, where it has one.
    half: Option<Arc<AtomicBool>>,
}

impl Receipt {
    pub(super) fn new(hub: Arc<Hub>, connection: ConnectionId) -> Self {
        Self { hub, connection, half: None }
    }

    /// Its end was told, or is given up.
    pub fn settle(self) {
        if self.half.is_none_or(|half| half.swap(true, Ordering::AcqRel)) {
            self.hub.told(self.connection);
        }
    }

    /// For two that are told: it is settled when both halves are. Of a half nothing more can be made.
    pub fn halves(self) -> (Self, Self) {
        let half = Some(Arc::new(AtomicBool::new(false)));
        let one = Self { hub: self.hub.clone(), connection: self.connection, half: half.clone() };
        (one, Self { half, ..self })
    }
}

/// What the application wants done with the connection that it was told of. What it wants done with others it does itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Answer {
    /// Text messages for the client.
    pub replies: Vec<String>,
    /// Code and reason of a close frame that ends the connection, behind the replies.
    pub close: Option<(u16, String)>,
}

/// What came of `open`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Opened {
    /// The connection is welcome.
    Accepted(Answer),
    /// It is not: the handshake is answered with this status, 400 to 599, and text.
    Refused(u16, String),
    /// Whether it is could not be found out, for the reason given, and it may not open without that: 503.
    Failed(String),
}

/// There was no answer, or none that makes sense; whoever could not get one has counted and logged it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered;

/// Whoever tells the application. Waiting is bounded: each call ends by itself.
#[async_trait]
pub trait Hooks: Send + Sync + 'static {
    /// Which events are wanted of connections of this profile; the others are not told.
    fn wanted(&self, profile: Profile) -> Wanted;

    /// A connection opens: it is in the directory, and its handshake is not answered yet.
    async fn open(&self, occasion: Occasion) -> Opened;

    /// A client has sent a message. `None`: that is nobody's business here, and its profile's rules are for it, as if nobody had
    /// been told.
    async fn message(&self, occasion: Occasion, said: Said) -> Result<Option<Answer>, Unanswered>;

    /// A connection has closed. Never waits.
    fn close(&self, occasion: Occasion, end: End, receipt: Receipt);

    /// The node stops, and no connection is left: waits, not for ever, until all ends are told. What is left then is left to the
    /// other nodes, or given up.
    async fn drain(&self) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{GapPolicy, Opening, Watch};
    use crate::model::Limits;

    #[tokio::test]
    async fn an_end_that_two_are_told_is_settled_by_both() {
        let registry = prometheus::Registry::new();
        let hub = Hub::start(Arc::new(Limits::default()), GapPolicy::Count, 1, &registry).unwrap();
        hub.start_journal();
        let opening = Opening { details: "{}".into(), watch: Watch::Kept, ..Opening::default() };
        let id = hub.open(opening, |_| Vec::new()).unwrap();
        hub.close(id, 1000, "");
        let (one, other) = Receipt::new(hub.clone(), id).halves();
        one.settle();
        assert_eq!(hub.snapshot().untold.len(), 1);
        other.settle();
        assert!(hub.snapshot().untold.is_empty());
    }

    #[test]
    fn wanted_events_are_a_set() {
        let two = Wanted::OPEN.with(Wanted::CLOSE);
        assert!(two.includes(Wanted::OPEN) && two.includes(Wanted::CLOSE) && !two.includes(Wanted::MESSAGE));
        assert_eq!(two.without(Wanted::OPEN), Wanted::CLOSE);
        assert!(two.includes(Wanted::NOTHING) && !Wanted::default().includes(Wanted::OPEN));
        assert_eq!(two.with(Wanted::MESSAGE), Wanted::ALL);
    }
}
