//! The cluster, from a program's side.

use super::message::close_code;
use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, Push, Target};
use crate::service::{Dialect, Service};
use futures_util::TryStreamExt;
use std::fmt;
use std::sync::{Arc, OnceLock};

/// The cluster that a [`Server`](super::Server) is a node of, or the one node that is all of it without Redis. Cheap to clone.
///
/// What is asked here is answered from Redis, for the whole cluster; nodes are asked only to act. Before the server has started
/// everything is [`Error::Unavailable`].
#[derive(Clone, Default)]
pub struct Handle(pub(super) Arc<OnceLock<Arc<Service>>>);

impl Handle {
    fn service(&self) -> Result<&Arc<Service>, Error> {
        self.0.get().ok_or_else(|| Error::Unavailable("server has not started".to_owned()))
    }

    /// Publishes a message to everybody, an audience or a connection, wherever in the cluster they are: `Push::text(target, text)`.
    /// One publisher's messages arrive in their order. False where the target is a connection that is not there.
    ///
    /// # Errors
    /// [`Error::Limit`] for what is longer than `Limits::max_push`; [`Error::Unavailable`] where Redis has not taken it.
    pub async fn publish(&self, push: Push) -> Result<bool, Error> {
        let published = self.service()?.push(Dialect::Library, push).await?;
        Ok(published == crate::cluster::Published::Taken)
    }

    /// Publishes a text to everybody.
    ///
    /// # Errors
    /// As for [`publish`](Self::publish).
    pub async fn broadcast(&self, text: impl Into<String>) -> Result<(), Error> {
        self.publish(Push::text(Target::All, text)).await.map(drop)
    }

    /// Makes a connection, on whichever node, a member of an audience; false where there is none.
    ///
    /// # Errors
    /// [`Error::Limit`] where it is in too many; [`Error::Unavailable`], [`Error::NoAnswer`] where its node or Redis is away.
    pub async fn join(&self, connection: ConnectionId, audience: Audience) -> Result<bool, Error> {
        Ok(self.service()?.join(connection, vec![audience]).await?.is_some())
    }

    /// Takes a connection out of an audience; false where there is no such connection.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn leave(&self, connection: ConnectionId, audience: Audience) -> Result<bool, Error> {
        Ok(self.service()?.leave(connection, vec![audience]).await?.is_some())
    }

    /// Makes a connection one of a user's; false where there is none, or it is another user's, whose it stays.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn bind(&self, connection: ConnectionId, user: Name) -> Result<bool, Error> {
        Ok(self.service()?.bind(connection, user).await?.unwrap_or(false))
    }

    /// Makes a connection nobody's; false where there is none, or it was nobody's.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn unbind(&self, connection: ConnectionId) -> Result<bool, Error> {
        Ok(self.service()?.unbind(connection).await?.unwrap_or(false))
    }

    /// Closes a connection, with a code and a reason as [`Connection::close`](super::Connection::close) does; false where there is none.
    ///
    /// # Errors
    /// As for [`join`](Self::join).
    pub async fn close(&self, connection: ConnectionId, code: u16, reason: &str) -> Result<bool, Error> {
        self.service()?.close_with(connection, close_code(code), reason.to_owned()).await
    }

    /// Whether a connection is there.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while Redis is away; so it is with all that follow.
    pub async fn exists(&self, connection: ConnectionId) -> Result<bool, Error> {
        self.service()?.exists(connection).await
    }

    /// Number of connections. Costs by nodes.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn count(&self) -> Result<u64, Error> {
        self.service()?.count_connections().await
    }

    /// All connections, in no order. Costs by their number.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn connections(&self) -> Result<Vec<ConnectionId>, Error> {
        self.service()?.connections().await?.try_concat().await
    }

    /// Number of an audience's members. Costs by nodes.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn count_members(&self, audience: &Audience) -> Result<u64, Error> {
        self.service()?.count_members(audience).await
    }

    /// An audience's members, in no order. Costs by their number.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn members(&self, audience: &Audience) -> Result<Vec<ConnectionId>, Error> {
        self.service()?.members(audience).await?.try_concat().await
    }

    /// The channels that have members, sorted, each with their number.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn channels(&self) -> Result<Vec<(Name, u64)>, Error> {
        self.service()?.audiences(AudienceKind::Channel).await
    }

    /// The groups that have members, sorted, each with their number.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn groups(&self) -> Result<Vec<(Name, u64)>, Error> {
        self.service()?.audiences(AudienceKind::Group).await
    }

    /// The users that have connections, sorted, each with their number.
    ///
    /// # Errors
    /// As for [`exists`](Self::exists).
    pub async fn users(&self) -> Result<Vec<(Name, u64)>, Error> {
        self.service()?.audiences(AudienceKind::User).await
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("has_started", &self.0.get().is_some()).finish_non_exhaustive()
    }
}
