//! A connection's place in the hub, given back in every case.

use super::Sessions;
use super::device::MayJoin;
use super::profile::Profile;
use crate::auth::ChannelPatterns;
use crate::hub::{CloseReason, Full, Opening, Socket, frame};
use crate::model::{ConnectionId, HexId, Opcode};
use crate::peer::Place;
use bytes::Bytes;
use std::sync::Arc;
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
        Ok(Self { sessions, id, profile, allowed: None, reason: CloseReason::Handshake, _place: place })
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
        self.sessions.hub.attach(self.id, socket);
        self.reason = CloseReason::Lost;
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
    pub(super) fn end(&self, frames: Bytes, reason: CloseReason) -> oneshot::Receiver<()> {
        self.sessions.hub.end(self.id, frames, reason)
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.sessions.hub.forget(self.id, self.reason);
    }
}
