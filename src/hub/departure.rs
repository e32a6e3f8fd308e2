//! How connections ended, kept for their sessions: only of those that were opened as watched.
//!
//! A connection may be ended by anybody, and what it was a member of is gone in the same moment. Whoever has to tell of its
//! end finds here what it was until then.

use super::CloseReason;
use super::inbox::Command;
use super::roster::Roster;
use crate::model::{AudienceKind, Name};
use std::collections::HashMap;
use std::sync::Arc;

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
    /// Why it ended.
    pub reason: CloseReason,
    /// Code and reason of the close frame that ended it, its client's or the one that it was sent, where there was one
    /// (RFC 6455, section 7.4).
    pub frame: Option<(u16, String)>,
}

/// The watched connections by their counters. An entry goes when its session takes it, so there are no more than the hub
/// holds connections.
#[derive(Default)]
pub(super) struct Departures(HashMap<u32, Watched>);

enum Watched {
    /// It is here; with the close frame that its session says will end it.
    Here(Option<Box<(u16, String)>>),
    Gone(Box<Departure>),
}

impl Departures {
    pub(super) fn watch(&mut self, counter: u32) {
        self.0.insert(counter, Watched::Here(None));
    }

    pub(super) fn announce(&mut self, counter: u32, code: u16, reason: &str) {
        if let Some(Watched::Here(frame)) = self.0.get_mut(&counter) {
            *frame = Some(Box::new((code, reason.to_owned())));
        }
    }

    pub(super) fn take(&mut self, counter: u32) -> Option<Departure> {
        match self.0.remove(&counter)? {
            Watched::Here(_) => None,
            Watched::Gone(departure) => Some(*departure),
        }
    }
}

impl Roster {
    /// What a connection is; `None` where it isn't here.
    pub(super) fn portrait(&self, counter: u32) -> Option<Portrait> {
        let details = self.details(counter)?;
        let channels = self.audiences_of_kind(counter, AudienceKind::Channel);
        let mut channels: Vec<Name> = channels.into_iter().map(|audience| audience.name).collect();
        channels.sort_unstable();
        Some(Portrait { details, channels })
    }

    /// Notes how a watched connection ends, before it is taken out.
    pub(super) fn departs(&mut self, counter: u32, reason: CloseReason, command: Option<&Command>) {
        let Some(Watched::Here(announced)) = self.departures.0.get_mut(&counter) else { return };
        let frame = match (announced.take(), command) {
            (Some(announced), _) => Some(*announced),
            (None, Some(Command::Close { frame, .. })) => super::frame::read_close(frame),
            (None, _) => None,
        };
        let Some(portrait) = self.portrait(counter) else { return };
        self.departures.0.insert(counter, Watched::Gone(Box::new(Departure { portrait, reason, frame })));
    }
}
