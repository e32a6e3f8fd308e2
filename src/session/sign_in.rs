//! Who has to show a token at the handshake, where it is, and what it opens.

use super::profile::Profile;
use super::refusal::Refusal;
use crate::auth::{ChannelPatterns, Claims, Rejection, Verifier, bearer};
use crate::model::{Audience, AudienceKind, Name};
use crate::query::{Query, Value};
use hyper::HeaderMap;
use std::time::SystemTime;

/// The rules for signing in, which may change while the node runs.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SignIn {
    /// What tokens are checked with. Without any key they are ignored.
    pub verifier: Verifier,
    /// The query parameter that holds a token, by the name that PHP reads it under. A bearer token is taken where the query
    /// has none.
    pub parameter: String,
    /// The profiles whose clients have to show a token.
    pub required: Vec<Profile>,
    /// Channels that may be subscribed to by those alone whose token allows it.
    pub private_channels: ChannelPatterns,
}

impl SignIn {
    /// Whether something that these rules guard would be open to everybody by `other` in their place, as there is no key any more,
    /// or no private channel.
    pub fn would_open(&self, other: &Self) -> bool {
        let keys = self.verifier.has_keys() && !other.verifier.has_keys();
        keys || (!self.private_channels.is_empty() && other.private_channels.is_empty())
    }

    /// What the client's token says; `None` where it has none and needs none, or tokens are ignored.
    pub(super) fn claims(
        &self,
        profile: Profile,
        query: &Query,
        headers: &HeaderMap,
        now: SystemTime,
    ) -> Result<Option<Claims>, Refusal> {
        if !self.verifier.has_keys() {
            // Configuration doesn't ask for a token that nothing could check; who does all the same lets nobody in.
            return if self.required.contains(&profile) { Err(Refusal::NoToken) } else { Ok(None) };
        }
        let token = match query.get(&self.parameter) {
            Some(Value::Text(token)) if token.is_empty() => bearer(headers),
            Some(Value::Text(token)) => Some(token.as_ref()),
            Some(Value::Array(_)) => return Err(Rejection::Malformed("its parameter is a list").into()),
            None => bearer(headers),
        };
        match token {
            Some(token) => Ok(Some(self.verifier.verify(token, now)?)),
            None if self.required.contains(&profile) => Err(Refusal::NoToken),
            None => Ok(None),
        }
    }

    /// The stable id that a device has: the one that it has brought, or where tokens are looked at, the one that its token names,
    /// and then it can have brought no other.
    pub(super) fn device(&self, brought: Option<Name>, claims: Option<&Claims>) -> Result<Option<Name>, Refusal> {
        if !self.verifier.has_keys() {
            return Ok(brought);
        }
        let named = claims.map(Claims::device).transpose()?.flatten();
        match brought {
            Some(brought) if named.as_ref() != Some(&brought) => Err(Refusal::ForeignDevice(brought)),
            Some(_) | None => Ok(named),
        }
    }

    /// Whether a channel may be subscribed to by whoever has a token that allows these private ones.
    pub(super) fn is_open(&self, channel: &Name, allowed: Option<&ChannelPatterns>) -> bool {
        !self.private_channels.contain(channel) || allowed.is_some_and(|allowed| allowed.contain(channel))
    }

    /// Whether these may be subscribed to with these claims.
    pub(super) fn check(&self, claims: Option<&Claims>, audiences: &[Audience]) -> Result<(), Refusal> {
        let allowed = claims.map(|claims| &claims.channels);
        let closed =
            |audience: &&Audience| audience.kind == AudienceKind::Channel && !self.is_open(&audience.name, allowed);
        match audiences.iter().find(closed) {
            Some(channel) => Err(Refusal::PrivateChannel(channel.name.clone())),
            None => Ok(()),
        }
    }
}

/// What a token makes its connection a member of.
pub(super) fn audiences(claims: &Claims) -> impl Iterator<Item = Audience> {
    let user = claims.user.clone().map(Audience::user);
    user.into_iter().chain(claims.group.clone().map(Audience::group))
}
