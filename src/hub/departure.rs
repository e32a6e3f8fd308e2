//! How connections ended, kept until that is told: only of those that were opened as watched.
//!
//! A connection may be ended by anybody, and what it was a member of is gone in the same moment. Whoever has to tell of its
//! end finds here what it was until then. Where there is a directory it keeps that as well, so that another node can tell it
//! should this one die first.

use super::inbox::Command;
use super::journal::Change;
use super::roster::Roster;
use super::{CloseReason, Hub, frame};
use crate::model::{AudienceKind, ConnectionId, Name, Seq};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// What a connection is at a moment, or was when it ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Portrait {
    /// What the directory keeps of it: a compact JSON object, its user and groups among it.
    pub details: Arc<str>,
    /// Its channels, sorted.
    pub channels: Vec<Name>,
}

/// How a connection ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Departure {
    /// What it was in that moment.
    pub portrait: Portrait,
    /// How it ended.
    pub end: End,
}

/// The end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub struct End {
    /// The code of the close frame that ended it, its client's or the one that it was sent; 1005 where that had none, 1006
    /// where there was no frame (RFC 6455, section 7.4.1).
    pub code: u16,
    /// The close frame's reason.
    pub reason: String,
    /// Why, in the words of the metrics.
    pub cause: String,
    /// When, in milliseconds since 1970.
    pub at: u64,
}

/// What a close frame without a code counts as (RFC 6455, section 7.4.1).
const NO_CODE: u16 = 1005;

impl End {
    /// What a stream that ended without a close frame counts as (RFC 6455, section 7.4.1).
    pub const NO_FRAME: u16 = 1006;

    /// An end at this moment, by this close frame, if there was one.
    fn now(cause: CloseReason, frame: Option<(u16, String)>) -> Self {
        let (code, reason) = match (frame, cause) {
            (Some(frame), _) => frame,
            (None, CloseReason::Client) => (NO_CODE, String::new()),
            // The hub writes these frames by itself.
            (None, CloseReason::SlowConsumer) => (4008, "slow consumer".to_owned()),
            (None, CloseReason::Gap) => (4009, "messages may have been missed".to_owned()),
            (None, _) => (Self::NO_FRAME, String::new()),
        };
        let at = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        Self { code, reason, cause: cause.as_str().to_owned(), at }
    }
}

/// What becomes of a connection's end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Watch {
    /// Nothing.
    #[default]
    No,
    /// It is there for [`Hub::departed`].
    Here,
    /// The directory keeps it as well, until [`Hub::told`].
    Kept,
}

/// The watched connections by their counters. An entry goes when its session takes it, so there are no more than the hub
/// holds connections.
#[derive(Default)]
pub(super) struct Departures {
    watched: HashMap<u32, Watched>,
    /// Those whose end is not told yet, as the directory keeps them. Whoever tells them bounds them.
    pub(super) untold: HashMap<u32, Arc<str>>,
}

enum Watched {
    /// It is here; with the close frame that its session says will end it. `kept` by the directory as well, under this number of the
    /// node.
    Here {
        announced: Option<Box<(u16, String)>>,
        kept: Option<Seq>,
    },
    Gone(Box<Departure>),
}

impl Departures {
    pub(super) fn watch(&mut self, counter: u32, watch: Watch, seq: Seq) {
        let kept = match watch {
            Watch::No => return,
            Watch::Here => None,
            Watch::Kept => Some(seq),
        };
        self.watched.insert(counter, Watched::Here { announced: None, kept });
    }

    /// Whether the directory keeps the connection's end.
    pub(super) fn keeps(&self, counter: u32) -> bool {
        matches!(self.watched.get(&counter), Some(Watched::Here { kept: Some(_), .. }))
    }

    fn kept(&self) -> impl Iterator<Item = u32> {
        self.watched.keys().copied().filter(|counter| self.keeps(*counter))
    }

    fn announce(&mut self, counter: u32, code: u16, reason: &str) {
        if let Some(Watched::Here { announced, .. }) = self.watched.get_mut(&counter) {
            *announced = Some(Box::new((code, reason.to_owned())));
        }
    }

    fn take(&mut self, counter: u32) -> Option<Departure> {
        match self.watched.remove(&counter)? {
            Watched::Here { .. } => None,
            Watched::Gone(departure) => Some(*departure),
        }
    }
}

/// A JSON object with one more member.
pub(super) fn with_member(object: &str, name: &str, value: &str) -> String {
    let open = object.trim_end().strip_suffix('}').unwrap_or("{");
    let comma = if open.ends_with('{') { "" } else { "," };
    format!("{open}{comma}\"{name}\":{value}}}")
}

impl Roster {
    /// What a connection is; `None` where it isn't here.
    fn portrait(&self, counter: u32) -> Option<Portrait> {
        let details = self.details(counter)?;
        let channels = self.audiences_of_kind(counter, AudienceKind::Channel);
        let mut channels: Vec<Name> = channels.into_iter().map(|audience| audience.name).collect();
        channels.sort_unstable();
        Some(Portrait { details, channels })
    }

    /// Notes how a watched connection ends, before it is taken out.
    pub(super) fn departs(&mut self, counter: u32, reason: CloseReason, command: Option<&Command>) {
        let Some(Watched::Here { announced, kept }) = self.departures.watched.get_mut(&counter) else { return };
        let kept = *kept;
        let frame = match (announced.take(), command) {
            (Some(announced), _) => Some(*announced),
            (None, Some(Command::Close { frame, .. })) => frame::read_close(frame),
            (None, _) => None,
        };
        let Some(portrait) = self.portrait(counter) else { return };
        let end = End::now(reason, frame);
        // Under another number the directory would take it for another connection.
        if kept == Some(self.seq())
            && self.journal.is_some()
            && let Ok(ended) = serde_json::to_string(&end)
        {
            self.departures.untold.insert(counter, with_member(&portrait.details, "ended", &ended).into());
        }
        self.departures.watched.insert(counter, Watched::Gone(Box::new(Departure { portrait, end })));
    }

    /// The end of a connection has not to be kept any more.
    fn told(&mut self, counter: u32) -> bool {
        let was_kept = self.departures.untold.remove(&counter).is_some();
        if was_kept {
            self.note(Change::Told { counter });
        }
        was_kept
    }
}

impl Hub {
    /// What a connection is at this moment; `None` where it isn't here.
    pub fn portrait(&self, connection: ConnectionId) -> Option<Portrait> {
        let roster = self.inner.roster();
        if connection.seq() == roster.seq() { roster.portrait(connection.counter()) } else { None }
    }

    /// Says with which close frame the session of a watched connection is about to [`end`](Self::end) it.
    pub fn announce_end(&self, connection: ConnectionId, code: u16, reason: &str) {
        self.inner.roster().departures.announce(connection.counter(), code, reason);
    }

    /// Closes every connection whose end the directory keeps; how many.
    pub fn close_kept(&self, code: u16, reason: &str) -> u64 {
        let kept: Vec<u32> = self.inner.roster().departures.kept().collect();
        self.close_each(&kept, code, reason, CloseReason::Restart)
    }

    /// How a connection ended that was opened as watched; once, and only after it has. Where a directory is written it is kept
    /// there until [`told`](Self::told) is called.
    pub fn departed(&self, connection: ConnectionId) -> Option<Departure> {
        self.inner.roster().departures.take(connection.counter())
    }

    /// The end of a watched connection was told, or never will be.
    pub fn told(&self, connection: ConnectionId) {
        let mut roster = self.inner.roster();
        if connection.seq() == roster.seq() && roster.told(connection.counter()) {
            self.inner.changed(&roster);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Changes, GapPolicy, Opening};
    use crate::model::{Audience, Limits};
    use serde_json::Value;

    fn hub() -> Arc<Hub> {
        let hub = Hub::start(Arc::new(Limits::default()), GapPolicy::Count, 1, &prometheus::Registry::new()).unwrap();
        hub.start_journal();
        hub
    }

    fn open(hub: &Hub, watch: Watch) -> ConnectionId {
        let name = |name: &str| Name::new(name).unwrap();
        let audiences = vec![Audience::channel(name("b")), Audience::channel(name("a")), Audience::user(name("7"))];
        hub.open(Opening { details: "{}".into(), audiences, watch, ..Opening::default() }, |_| Vec::new()).unwrap()
    }

    fn changes(hub: &Hub) -> Vec<Change> {
        match hub.take_changes(usize::MAX) {
            Changes::Some { changes, .. } => changes,
            Changes::Overflow => panic!("there is room"),
        }
    }

    fn untold(changes: &[Change]) -> Option<Value> {
        changes.iter().find_map(|change| match change {
            Change::Closed { untold, .. } => untold.as_deref().map(|json| serde_json::from_str(json).unwrap()),
            _ => None,
        })
    }

    #[tokio::test]
    async fn the_end_of_a_watched_connection_is_kept_until_it_is_told() {
        let hub = hub();
        let id = open(&hub, Watch::Kept);
        let opened = changes(&hub);
        let last = opened.iter().rev().find_map(|change| match change {
            Change::Described { details, .. } => Some(details.to_string()),
            _ => None,
        });
        assert_eq!(last.unwrap(), r#"{"user":"7","channels":["a","b"]}"#);
        hub.close(id, 4000, "bye");
        let kept = untold(&changes(&hub)).unwrap();
        assert_eq!((&kept["user"], &kept["channels"]), (&"7".into(), &serde_json::json!(["a", "b"])));
        let end: End = serde_json::from_value(kept["ended"].clone()).unwrap();
        assert_eq!((end.code, end.reason.as_str(), end.cause.as_str()), (4000, "bye", CloseReason::Api.as_str()));
        assert_eq!(hub.snapshot().untold.len(), 1, "a directory that is written anew has it as well");
        assert_eq!(hub.departed(id).unwrap().end, end);
        hub.told(id);
        hub.told(id);
        assert_eq!(changes(&hub), [Change::Told { counter: id.counter() }]);
        assert!(hub.snapshot().untold.is_empty());
    }

    #[tokio::test]
    async fn under_another_number_of_the_node_nothing_is_kept_of_its_earlier_connections() {
        let hub = hub();
        let id = open(&hub, Watch::Kept);
        hub.set_seq(Seq::new(5).unwrap(), 1000);
        assert_eq!(hub.close_all(1012, "node restarted"), 1);
        assert_eq!(
            untold(&changes(&hub)),
            None,
            "the directory would take it for connection {} of node 5",
            id.counter()
        );
        assert!(hub.snapshot().untold.is_empty());
        assert_eq!(hub.departed(id).unwrap().end.code, 1012, "its node tells it all the same");
    }

    #[tokio::test]
    async fn those_are_closed_whose_end_the_directory_keeps_and_no_others() {
        let hub = hub();
        let (kept, other, gone) = (open(&hub, Watch::Kept), open(&hub, Watch::Here), open(&hub, Watch::Kept));
        hub.close(gone, 4000, "bye");
        assert_eq!(hub.close_kept(1012, "over"), 1);
        assert!(!hub.exists(kept) && hub.exists(other));
        assert_eq!(hub.departed(gone).unwrap().end.code, 4000);
        assert_eq!(hub.departed(kept).unwrap().end.code, 1012);
    }

    #[tokio::test]
    async fn of_other_connections_nothing_is_kept() {
        let hub = hub();
        let id = open(&hub, Watch::No);
        hub.close(id, 4000, "bye");
        assert_eq!(untold(&changes(&hub)), None);
        assert_eq!(hub.departed(id), None);
        let id = open(&hub, Watch::Here);
        hub.close(id, 4000, "bye");
        assert_eq!(untold(&changes(&hub)), None);
        assert_eq!(hub.departed(id).unwrap().end.code, 4000);
    }

    #[test]
    fn a_member_is_put_at_an_object_s_end() {
        assert_eq!(with_member("{}", "a", "1"), r#"{"a":1}"#);
        assert_eq!(with_member(r#"{"b":2} "#, "a", "[1]"), r#"{"b":2,"a":[1]}"#);
    }
}
