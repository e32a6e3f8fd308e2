//! A handshake that waits for a handler's answer.

use super::hand::Hand;
use super::run::{AtWork, Dropped, run};
use super::stream::{Incoming, Stream, WAITING};
use super::{Handler, Outcome};
use crate::auth::Claims;
use crate::hub::{Opening, Watch};
use crate::model::Audience;
use crate::peer::Crowded;
use crate::query::Query;
use crate::session::details::{Told, details};
use crate::session::handshake::{admit, check, settle};
use crate::session::member::Member;
use crate::session::profile::Profile;
use crate::session::refusal::Refusal;
use crate::session::{Sessions, reader, sign_in};
use bytes::Bytes;
use fastwebsockets::WebSocketError;
use fastwebsockets::upgrade::UpgradeFut;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Request, Response};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;
use tokio::sync::{mpsc, oneshot};

/// What a client has asked for. A connection has it until its end, so it is a copy of what matters: what came from hyper keeps the
/// buffer that the request was read into.
#[derive(Debug)]
pub struct Asked {
    /// The path, as it was sent.
    pub path: Box<str>,
    /// The query as it was sent, without its `?`.
    pub query_text: Option<Box<str>>,
    /// The headers.
    pub headers: HeaderMap,
    /// Where the client is, behind proxies that are trusted.
    pub address: IpAddr,
    /// The query, by PHP's rules.
    pub query: Query,
    /// What its token says, where it has shown one.
    pub claims: Option<Claims>,
}

/// A handshake that is in order, of a client that a handler may let in. Dropped without an answer it is answered with 500.
pub struct Offer(Box<Parts>);

/// Boxed, as a handler's future has room for it to the end.
struct Parts {
    asked: Arc<Asked>,
    response: Response<Bytes>,
    upgrade: UpgradeFut,
    sessions: Arc<Sessions>,
    answer: oneshot::Sender<Result<Response<Bytes>, Refusal>>,
    dropped: Option<Arc<Dropped>>,
}

/// How a client is let in.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// What the connection is a member of before the client knows that it is let in.
    pub audiences: Vec<Audience>,
    /// The subprotocol that is spoken (RFC 6455, section 1.9), one of those that the client has named.
    pub subprotocol: Option<HeaderValue>,
    /// Further headers of the answer.
    pub headers: HeaderMap,
    /// Whether the handler gets the client's pings and pongs, and answers the pings.
    pub control_frames: bool,
}

/// Why a client could not be let in; it has its answer.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotAccepted {
    /// The client has left before.
    #[error("client has gone")]
    Gone,
    /// The node or the cluster refuses it, for the reason given.
    #[error("{0}")]
    Refused(String),
}

/// Answers a handshake as a handler says.
pub(in crate::session) async fn offer<B>(
    mut request: Request<B>,
    address: IpAddr,
    sessions: &Arc<Sessions>,
    handler: Arc<dyn Handler>,
) -> Result<Response<Bytes>, Refusal> {
    check(&request)?;
    let (query, sign_in) = admit(&request, sessions)?;
    let claims = sign_in.claims(Profile::Handler, &query, request.headers(), SystemTime::now())?;
    let (response, upgrade) = fastwebsockets::upgrade::upgrade(&mut request).map_err(|error| match error {
        WebSocketError::InvalidSecWebsocketVersion => Refusal::BadVersion,
        _ => Refusal::Malformed("websocket handshake is malformed"),
    })?;
    let (answer, answered) = oneshot::channel();
    let response = response.map(|_| Bytes::new());
    let sessions = sessions.clone();
    let asked = Arc::new(Asked {
        path: request.uri().path().into(),
        query_text: request.uri().query().map(Into::into),
        headers: copied(request.headers()),
        address,
        query,
        claims,
    });
    let offer = Parts { asked, response, upgrade, sessions, answer, dropped: None };
    let at_work = AtWork::new(offer.sessions.handlers.clone());
    tokio::spawn(run(handler, Offer(Box::new(offer)), at_work));
    answered.await.unwrap_or(Err(Refusal::Unanswered))
}

impl Offer {
    /// The same, in the hands of this handler.
    pub(super) fn of(mut self, dropped: Arc<Dropped>) -> Self {
        self.0.dropped = Some(dropped);
        self
    }

    /// What the client has asked for.
    pub fn asked(&self) -> &Arc<Asked> {
        &self.0.asked
    }

    /// Answers with something else than a WebSocket.
    pub fn refuse(self, response: Response<Bytes>) {
        // An error: the client has gone.
        let _ = self.0.answer.send(Ok(response));
    }

    /// Lets the client in: hub first, then the cluster, then the answer.
    ///
    /// # Errors
    /// [`NotAccepted`]; the client was told then.
    pub async fn accept(self, acceptance: Acceptance) -> Result<Stream, NotAccepted> {
        let Parts { asked, mut response, upgrade, sessions, answer, dropped } = *self.0;
        let Asked { path, address, query, claims, .. } = &*asked;
        let address = *address;
        let Acceptance { mut audiences, subprotocol, headers, control_frames } = acceptance;
        audiences.extend(claims.iter().flat_map(sign_in::audiences));
        let (ended, end) = oneshot::channel();
        let member = async {
            let place = sessions.places.take(address).map_err(|Crowded| Refusal::Crowded(address))?;
            let told = Told { profile: Profile::Handler, address, query, path: Some(path), claims: claims.as_ref() };
            let parameter = sessions.settings.sign_in.borrow().parameter.clone();
            let opening = Opening {
                details: details(&told, [sessions.token_param.as_str(), parameter.as_str()]),
                audiences: audiences.clone(),
                watch: Watch::Here,
                heartbeat: None,
            };
            let mut member =
                Member::open(sessions.clone(), Profile::Handler, place, opening).map_err(|_| Refusal::Full)?;
            member.tells_end(ended);
            let limit = sessions.limits.connect_timeout;
            settle(&sessions, &audiences, limit).await.map_err(Refusal::Unavailable)?;
            Ok::<_, Refusal>(member)
        };
        let member = match member.await {
            Ok(member) => member,
            Err(refusal) => {
                let why = refusal.to_string();
                let _ = answer.send(Err(refusal));
                return Err(NotAccepted::Refused(why));
            }
        };
        if let Some(subprotocol) = subprotocol {
            response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, subprotocol);
        }
        for (name, value) in &headers {
            if !is_of_the_handshake(name) {
                response.headers_mut().append(name, value.clone());
            }
        }
        let id = member.id();
        if answer.send(Ok(response)).is_err() {
            return Err(NotAccepted::Gone);
        }
        let (messages, received) = mpsc::channel::<Incoming>(WAITING);
        let hand = Hand::new(messages, control_frames);
        tokio::spawn(reader::run(member, upgrade, Some(Box::new(hand))));
        let dropped = dropped.ok_or(NotAccepted::Gone)?;
        Ok(Stream::new(sessions, id, received, end, dropped))
    }
}

/// The same headers, in memory of their own.
fn copied(headers: &HeaderMap) -> HeaderMap {
    let mut copies = HeaderMap::with_capacity(headers.len());
    for (name, value) in headers {
        // It was one before: there is no error.
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            copies.append(name, copy);
        }
    }
    copies
}

/// Headers that the handshake itself has, which a handler does not change.
fn is_of_the_handshake(name: &HeaderName) -> bool {
    let own = [header::CONNECTION, header::UPGRADE, header::SEC_WEBSOCKET_ACCEPT, header::SEC_WEBSOCKET_PROTOCOL];
    own.contains(name) || *name == header::SEC_WEBSOCKET_EXTENSIONS
}

/// A handler that is a closure.
impl<F, R> Handler for F
where
    F: Fn(Offer) -> R + Send + Sync + 'static,
    R: Future<Output = Outcome> + Send + 'static,
{
    fn handle(&self, offer: Offer) -> futures_util::future::BoxFuture<'static, Outcome> {
        Box::pin(self(offer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_headers_have_memory_of_their_own() {
        let buffer = Bytes::from("one two three".repeat(100));
        let mut headers = HeaderMap::new();
        for (at, name) in [(0, "x-a"), (4, "x-a"), (8, "accept")] {
            let value = HeaderValue::from_maybe_shared(buffer.slice(at..at + 3)).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers.get_mut("accept").unwrap().set_sensitive(true);
        let copies = copied(&headers);
        assert_eq!(copies, headers);
        assert!(copies["accept"].is_sensitive() && !copies["x-a"].is_sensitive());
        assert_eq!(copies.get_all("x-a").iter().collect::<Vec<_>>(), ["one", "two"]);
        assert!(copies.values().all(|value| !buffer.as_ptr_range().contains(&value.as_bytes().as_ptr())));
    }
}
