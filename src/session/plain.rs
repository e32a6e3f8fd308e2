//! Requests on the WebSocket port that are no handshake.
//!
//! Where the path's profile is `center` the node may have an answer to them; everywhere else they are refused.

use super::Sessions;
use super::profile::Profile;
use crate::model::Error;
use crate::peer::Peer;
use bytes::Bytes;
use fastwebsockets::upgrade::is_upgrade_request;
use futures_util::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::{Request, Response};
use std::sync::Arc;
use std::time::Duration;

/// How long data may stay unacknowledged before the kernel gives a connection up that is not a WebSocket yet: a client that
/// asks for a long answer and doesn't read it.
pub(super) const UNREAD: Duration = Duration::from_secs(30);

/// What a request on the WebSocket port is answered with.
pub type PortAnswer = Response<UnsyncBoxBody<Bytes, Error>>;

/// Answers requests that are no WebSocket handshake. It has to end by itself, its reading of the request's body included.
pub type PlainHttp = Arc<dyn Fn(Request<Incoming>, Peer) -> BoxFuture<'static, PortAnswer> + Send + Sync>;

impl Sessions {
    /// Whoever answers this request, if it is no handshake and is not to be refused as one.
    pub(super) fn plain_http<B>(&self, request: &Request<B>) -> Option<&PlainHttp> {
        let (path, is_handshake) = (request.uri().path(), is_upgrade_request(request));
        if let Some(handler) = self.settings.routes.plain(path, is_handshake) {
            return Some(handler);
        }
        let plain = self.settings.plain_http.as_ref()?;
        let center = self.settings.profiles.choose(path) == Some(Profile::Center);
        (center && !is_handshake).then_some(plain)
    }

    /// Whether anything but handshakes is answered on the WebSocket port.
    pub(super) fn has_plain_http(&self) -> bool {
        self.settings.plain_http.is_some() || self.settings.routes.have_http()
    }
}

/// An answer that is there as a whole.
pub(super) fn whole(answer: Response<Bytes>) -> PortAnswer {
    answer.map(|bytes| Full::new(bytes).map_err(|never| match never {}).boxed_unsync())
}
