//! A connection's place in the hub, given back in every case.

use super::Sessions;
use super::device::MayJoin;
use super::hooks::{Hooks, Occasion, Receipt, Said, Wanted};
use super::profile::Profile;
use super::steps::{Ending, Told};
use crate::auth::ChannelPatterns;
use crate::hub::{CloseReason, End, Full, Opening, Socket, frame};
use crate::model::{ConnectionId, HexId, Opcode};
use crate::peer::Place;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// A connection that the hub knows. Dropping it makes the hub forget the connection, however its session ended: refused
/// while its handshake was waiting, gone before the answer reached it, closed, or cut off with its task.
pub(super) struct Member {
    sessions: Arc<Sessions>,
    id: ConnectionId,
    profile: Profile,
    /// Private channels that its token allows, where it can ask for more after its handshake. Boxed, as few have any.
    allowed: Option<Box<ChannelPatterns>>,
    /// What it counts as if it ends now and nobody said why.
    reason: CloseReason,
    /// What the hooks are told of it from now on.
    wanted: Wanted,
    /// Whether they may know of it: it was opened, or they were asked whether it may be.
    known: bool,
    /// How many of its messages they were told.
    told: u32,
    /// A handler that has it, and is to hear how it has ended.
    ended: Option<oneshot::Sender<End>>,
    /// Its address's, given back with it.
    _place: Option<Box<Place>>,
}

impl Member {
    /// Takes a connection into the hub; `Err` where the node is full.
    pub(super) fn open(
        sessions: Arc<Sessions>,
        profile: Profile,
        place: Option<Box<Place>>,
        opening: Opening,
    ) -> Result<Self, Full> {
        let id = sessions.hub.open(opening, |id| {
            let greeting = profile.greeting(sessions.spelled(id));
            greeting.map(|text| frame::message(Opcode::Text, text.as_bytes())).into_iter().collect()
        })?;
        let wanted = sessions.wanted(profile);
        sessions.members.fetch_add(1, Ordering::AcqRel);
        let reason = CloseReason::Handshake;
        Ok(Self {
            sessions,
            id,
            profile,
            allowed: None,
            reason,
            wanted,
            known: false,
            told: 0,
            ended: None,
            _place: place,
        })
    }

    /// Tells this handler how it has ended.
    pub(super) fn tells_end(&mut self, ended: oneshot::Sender<End>) {
        self.ended = Some(ended);
    }

    /// Tells the handler that has it how it has ended, where it has.
    pub(super) fn tell_handler(&mut self) {
        if let Some(ended) = self.ended.take()
            && let Some(departure) = self.sessions.hub.departed(self.id)
        {
            // The handler may be over.
            let _ = ended.send(departure.end);
        }
    }

    /// Its id.
    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Keeps which private channels its token allows.
    pub(super) fn allow(&mut self, channels: Option<Box<ChannelPatterns>>) {
        self.allowed = channels;
    }

    /// Which channels it may have connections subscribed to, as the rules are at that moment.
    pub(super) fn may_join(&self) -> MayJoin {
        let (sign_in, allowed) = (self.sessions.settings.sign_in.clone(), self.allowed.clone());
        Box::new(move |channel| sign_in.borrow().is_open(channel, allowed.as_deref()))
    }

    /// Brings the connection's socket.
    pub(super) fn attach(&mut self, socket: Arc<Socket>) {
        self.sessions.idle.watch(self.profile, self.id, &socket);
        self.sessions.hub.attach(self.id, socket);
        self.reason = CloseReason::Lost;
        self.known = true;
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) fn profile(&self) -> Profile {
        self.profile
    }

    /// Its id as clients are told it.
    pub(super) fn spelled_id(&self) -> HexId {
        self.sessions.spelled(self.id)
    }

    /// See [`Hub::send`](crate::hub::Hub::send).
    pub(super) fn send(&self, frames: Bytes) -> oneshot::Receiver<()> {
        self.sessions.hub.send(self.id, frames)
    }

    /// See [`Hub::end`](crate::hub::Hub::end).
    pub(super) fn end(&self, ending: Ending) -> oneshot::Receiver<()> {
        let Ending { frame, said, why } = ending;
        if let Some((code, reason)) = said
            && (self.wanted.includes(Wanted::CLOSE) || self.ended.is_some())
        {
            self.sessions.hub.announce_end(self.id, code, &reason);
        }
        self.sessions.hub.end(self.id, frame, why)
    }

    /// Whether the hooks are told of such an event.
    pub(super) fn wants(&self, event: Wanted) -> bool {
        self.wanted.includes(event)
    }

    /// The hooks are being asked whether it may open.
    pub(super) fn asked(&mut self) {
        self.known = true;
    }

    /// They have turned it away, and are told of it no more.
    pub(super) fn refused(&mut self) {
        self.known = false;
    }

    /// The connection as it is now; `None` where the hub has ended it.
    pub(super) fn occasion(&self) -> Option<Occasion> {
        let portrait = self.sessions.hub.portrait(self.id)?;
        Some(Occasion::new(self.sessions.cluster.node_id(), self.spelled_id(), portrait))
    }

    /// Makes a message one that the hooks can be told.
    pub(super) fn said(&mut self, told: Told, occasion: &Occasion) -> Said {
        self.told = self.told.wrapping_add(1);
        told.said(self.told, occasion.id, &occasion.details.claims, self.sessions.settings.escape_html)
    }

    /// Tells the hooks that it has ended, if they may know of it.
    fn tell_end(&self) {
        let Sessions { hub, cluster, settings, .. } = &*self.sessions;
        let Some(hooks) = &settings.hooks else { return };
        let Some(departure) = hub.departed(self.id) else { return };
        let receipt = Receipt::new(hub.clone(), self.id);
        if self.known {
            let occasion = Occasion::new(cluster.node_id(), self.spelled_id(), departure.portrait);
            hooks.close(occasion, departure.end, receipt);
        } else {
            receipt.settle();
        }
    }

    /// Whoever is told.
    pub(super) fn hooks(&self) -> Option<Arc<dyn Hooks>> {
        self.sessions.settings.hooks.clone()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sessions.hub.forget(self.id, self.reason);
        self.tell_handler();
        self.tell_end();
        self.sessions.members.fetch_sub(1, Ordering::AcqRel);
    }
}
