//! A client of a built-in profile, as hooks and controllers see it.

use super::handle::Handle;
use super::profile::Profile;
use crate::auth;
use crate::model::{Audience, ConnectionId, Error, Name, NameError, Push};
use crate::session::hooks::{CLOSE_CONTROLLER, CLOSE_KEY, Occasion};
use crate::session::method;
use bytes::Bytes;
use serde_json::{Map, Value};
use std::fmt;
use std::net::IpAddr;

/// A client of a built-in profile: what it is at the moment of an event, and what can be done with it. What it is told goes through
/// the cluster, in order with everything else that the program publishes.
pub struct Client {
    occasion: Occasion,
    profile: Profile,
    handle: Handle,
}

impl Client {
    pub(super) fn new(occasion: Occasion, profile: Profile, handle: Handle) -> Self {
        Self { occasion, profile, handle }
    }

    pub(super) fn into_occasion(self) -> Occasion {
        self.occasion
    }

    /// The connection's id, by which anybody in the cluster reaches it.
    pub fn id(&self) -> ConnectionId {
        self.occasion.id.connection()
    }

    /// Its profile.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The user whose connection it is.
    pub fn user(&self) -> Option<&str> {
        self.occasion.details.user.as_deref()
    }

    /// The groups that it is in, sorted; close keys are not among them.
    pub fn groups(&self) -> Vec<&str> {
        self.occasion.memberships().groups
    }

    /// The channels that it is in, sorted; `None` where its node has died and they were more than the directory keeps (16 KiB of
    /// names).
    pub fn channels(&self) -> Option<&[Name]> {
        self.occasion.channels.as_deref()
    }

    /// Its close keys, sorted; see [`add_close_key`](Self::add_close_key).
    pub fn close_keys(&self) -> Vec<&str> {
        self.occasion.memberships().close_keys
    }

    /// Its close controllers, sorted; see [`add_close_controller`](Self::add_close_controller).
    pub fn close_controllers(&self) -> Vec<&str> {
        self.occasion.memberships().close_controllers
    }

    /// What its token says, where it has shown one that is good.
    pub fn claims(&self) -> Option<&Map<String, Value>> {
        self.occasion.details.claims.as_object()
    }

    /// One claim of its token that is a text, or a whole number, as a text.
    pub fn claim(&self, name: &str) -> Option<String> {
        auth::text(self.claims()?.get(name)?)
    }

    /// Its address, behind proxies that are trusted; `None` where a node of another version has written it and this one can't read
    /// it.
    pub fn address(&self) -> Option<IpAddr> {
        self.occasion.details.address.parse().ok()
    }

    /// The path that it connected to; empty where that has more than 1 KiB.
    pub fn path(&self) -> &str {
        &self.occasion.details.path
    }

    /// The query that it connected with, by PHP's rules and without tokens: an object, a list or, where there was nothing, or more
    /// than 4 KiB, `null`.
    pub fn query(&self) -> &Value {
        &self.occasion.details.query
    }

    /// A parameter of that query; `None` where there is none of that name, or a list.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query().get(name)?.as_str()
    }

    /// The cluster that it is a connection of.
    pub fn cluster(&self) -> &Handle {
        &self.handle
    }

    /// Sends it a text; false where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::publish`].
    pub async fn push(&self, text: impl Into<String>) -> Result<bool, Error> {
        self.handle.publish(Push::text(self.id(), text)).await
    }

    /// Sends it bytes; false where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::publish`].
    pub async fn push_binary(&self, bytes: impl Into<Bytes>) -> Result<bool, Error> {
        self.handle.publish(Push::binary(self.id(), bytes)).await
    }

    /// Closes it; false where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::join`]; so it is with all that follow.
    pub async fn close(&self, code: u16, reason: &str) -> Result<bool, Error> {
        self.handle.close(self.id(), code, reason).await
    }

    /// Makes it a member of an audience; false where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::join`].
    pub async fn join(&self, audience: Audience) -> Result<bool, Error> {
        self.handle.join(self.id(), audience).await
    }

    /// Takes it out of an audience; false where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::join`].
    pub async fn leave(&self, audience: Audience) -> Result<bool, Error> {
        self.handle.leave(self.id(), audience).await
    }

    /// Makes it one of a user's; false where it is gone, or another user's.
    ///
    /// # Errors
    /// As for [`Handle::join`].
    pub async fn bind(&self, user: Name) -> Result<bool, Error> {
        self.handle.bind(self.id(), user).await
    }

    /// Makes it nobody's; false where it is gone, or was nobody's.
    ///
    /// # Errors
    /// As for [`Handle::join`].
    pub async fn unbind(&self) -> Result<bool, Error> {
        self.handle.unbind(self.id()).await
    }

    /// Puts it into a set in which it is until it ends, whoever ends it, its node's crash included: [`close_key`] is the audience
    /// of all that are in it. Whoever is told of its end is told its keys. False where it is gone.
    ///
    /// # Errors
    /// As for [`Handle::join`], and [`Error::Limit`] where the key is no name: empty, with control characters, or over 190 bytes.
    pub async fn add_close_key(&self, key: &str) -> Result<bool, Error> {
        self.join(close_key(key).map_err(|error| no_name("close key", key, error))?).await
    }

    /// Takes it out of that set; false where it is gone.
    ///
    /// # Errors
    /// As for [`add_close_key`](Self::add_close_key).
    pub async fn remove_close_key(&self, key: &str) -> Result<bool, Error> {
        self.leave(close_key(key).map_err(|error| no_name("close key", key, error))?).await
    }

    /// Has this controller, `Module.Controller`, told of its end: [`Controller::on_close`](super::Controller::on_close) is called once it
    /// is gone. False where it is gone already.
    ///
    /// # Errors
    /// As for [`add_close_key`](Self::add_close_key).
    pub async fn add_close_controller(&self, name: &str) -> Result<bool, Error> {
        self.join(close_controller(name)?).await
    }

    /// Has it not told any more; false where it is gone.
    ///
    /// # Errors
    /// As for [`add_close_key`](Self::add_close_key).
    pub async fn remove_close_controller(&self, name: &str) -> Result<bool, Error> {
        self.leave(close_controller(name)?).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("id", &self.id()).field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The audience of all connections that have this close key; see [`Client::add_close_key`].
///
/// # Errors
/// [`NameError`]: it is empty, longer than 190 bytes, or has control characters.
pub fn close_key(key: &str) -> Result<Audience, NameError> {
    Name::new(key).and_then(|_| Name::new(&format!("{CLOSE_KEY}{key}"))).map(Audience::group)
}

/// By the name that calls have for it, so that it is one however it is written.
fn close_controller(name: &str) -> Result<Audience, Error> {
    let full = match method::controller(name) {
        Some((module, controller)) => format!("{CLOSE_CONTROLLER}{module}.{controller}"),
        None => {
            return Err(Error::Limit(format!("close controller {name:?}: it is not of the form Module.Controller")));
        }
    };
    Name::new(&full).map(Audience::group).map_err(|error| no_name("close controller", name, error))
}

fn no_name(what: &str, name: &str, error: NameError) -> Error {
    Error::Limit(format!("{what} {:?}: {error}", crate::model::beginning(name, 40)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_keys_and_controllers_are_groups_by_which_they_are_known_everywhere() {
        assert_eq!(close_key("room 1").unwrap().to_string(), "group:close_key:room 1");
        assert_eq!(close_key(""), Err(NameError::Empty));
        assert_eq!(close_key(&"k".repeat(191)), Err(NameError::TooLong));
        for name in ["Live.User", "live.user", "LIVE.USER"] {
            assert_eq!(close_controller(name).unwrap().to_string(), "group:close_controller:Live.User");
        }
        let wrong = close_controller("a.b.c").unwrap_err().to_string();
        assert_eq!(wrong, "close controller \"a.b.c\": it is not of the form Module.Controller");
    }
}
