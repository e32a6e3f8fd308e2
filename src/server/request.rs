//! What clients ask for: WebSocket handshakes, and other requests.

use super::connection::Connection;
use super::handle::Handle;
use crate::model::{Audience, Limits, Name};
use crate::peer::Peers;
use crate::query::Query;
use crate::session::handler::{Acceptance, Asked, Offer};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Request as HyperRequest, Response as HyperResponse, StatusCode};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// What a client asked for when it connected.
#[derive(Clone, Copy)]
pub struct Asking<'a>(&'a Asked);

impl<'a> Asking<'a> {
    pub(super) fn new(asked: &'a Asked) -> Self {
        Self(asked)
    }

    /// The path, as it was sent.
    pub fn path(self) -> &'a str {
        &self.0.path
    }

    /// The query as it was sent, without its `?`.
    pub fn query(self) -> Option<&'a str> {
        self.0.query_text.as_deref()
    }

    /// A parameter of the query, decoded; `None` where there is none of that name, or a list. What is not UTF-8 is replaced.
    pub fn parameter(self, name: &str) -> Option<Cow<'a, str>> {
        self.0.query.get(name)?.as_text().map(|text| String::from_utf8_lossy(text))
    }

    /// The headers.
    pub fn headers(self) -> &'a HeaderMap {
        &self.0.headers
    }

    /// The client's address, behind proxies that are trusted.
    pub fn address(self) -> IpAddr {
        self.0.address
    }

    /// What its token says, where it has shown one that is good.
    pub fn claims(self) -> Option<&'a Map<String, Value>> {
        self.0.claims.as_ref().map(|claims| claims.object())
    }

    /// The subprotocols that the client speaks, the one that it likes most first (RFC 6455, section 1.9).
    pub fn subprotocols(self) -> impl Iterator<Item = &'a str> {
        let lines = self.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
        lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
    }
}

/// A client that wants a WebSocket connection. A handler lets it in, or refuses it; one that drops the handshake has the client
/// answered with 500. The client waits for as long as the handler does; to bound that is the handler's business.
pub struct Handshake {
    offer: Offer,
    handle: Handle,
}

impl Handshake {
    pub(super) fn new(offer: Offer, handle: Handle) -> Self {
        Self { offer, handle }
    }

    /// What the client asks for.
    pub fn request(&self) -> Asking<'_> {
        Asking::new(self.offer.asked())
    }

    /// The cluster that the connection would be one of.
    pub fn cluster(&self) -> &Handle {
        &self.handle
    }

    /// Lets the client in. If the future is dropped it is not let in, and answered with 500.
    ///
    /// # Errors
    /// [`NotAccepted`]: it has left, or the node is full, or Redis is away. The client was told.
    pub async fn accept(self) -> Result<Connection, NotAccepted> {
        self.accept_with(Accept::new()).await
    }

    /// Lets the client in, with a subprotocol, headers, memberships from the start.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub async fn accept_with(self, accept: Accept) -> Result<Connection, NotAccepted> {
        let asked = self.offer.asked().clone();
        // Boxed, as a handler's future has room for it to the end.
        let stream = Box::pin(self.offer.accept(accept.0)).await?;
        Ok(Connection::new(stream, asked, self.handle))
    }

    /// Answers with an HTTP response instead.
    pub fn refuse(self, response: impl Into<Response>) {
        self.offer.refuse(response.into().0);
    }
}

pub use crate::session::handler::NotAccepted;

/// How a client is let in.
#[derive(Clone, Debug, Default)]
pub struct Accept(Acceptance);

impl Accept {
    /// With nothing special.
    pub fn new() -> Self {
        Self::default()
    }

    /// Speaking this subprotocol, one of [`Asking::subprotocols`]; a client closes the connection where it is none of them. A name
    /// that no header can have is left out.
    #[must_use]
    pub fn subprotocol(mut self, name: &str) -> Self {
        self.0.subprotocol = HeaderValue::from_str(name).ok();
        self
    }

    /// With this header in the answer. Those of the handshake itself stay as they are.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.append(name, value);
        self
    }

    /// A member of this audience before the client knows that it is let in, so that nothing is missed.
    #[must_use]
    pub fn join(mut self, audience: Audience) -> Self {
        self.0.audiences.push(audience);
        self
    }

    /// One of this user's connections.
    #[must_use]
    pub fn bind(self, user: Name) -> Self {
        self.join(Audience::user(user))
    }

    /// Whether pings and pongs are received. Pings are answered by the handler then.
    #[must_use]
    pub fn control_frames(mut self, received: bool) -> Self {
        self.0.control_frames = received;
        self
    }
}

/// A request that is no WebSocket handshake.
pub struct Request {
    head: Parts,
    body: Incoming,
    address: IpAddr,
    limit: usize,
    handle: Handle,
}

/// How long a client may take to send a body, as with the HTTP APIs.
const BODY_PATIENCE: Duration = Duration::from_secs(30);

/// Why there is no body. It makes a [`Response`] of 413, 408 or 400.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than `Limits::max_body`.
    #[error("body is longer than {limit} bytes")]
    TooLong {
        /// How many bytes it may have.
        limit: usize,
    },
    /// It was not complete after half a minute.
    #[error("body was not complete after {} s", BODY_PATIENCE.as_secs())]
    TooSlow,
    /// The client broke off, or what it sent is malformed.
    #[error("body can't be read: {0}")]
    Broken(Box<dyn std::error::Error + Send + Sync>),
}

impl From<BodyError> for Response {
    /// The status that says so, with the error as the text.
    fn from(error: BodyError) -> Self {
        let status = match error {
            BodyError::TooLong { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::TooSlow => StatusCode::REQUEST_TIMEOUT,
            BodyError::Broken(_) => StatusCode::BAD_REQUEST,
        };
        Self::text(status, format!("{error}\n"))
    }
}

impl Request {
    pub(super) fn new(
        request: HyperRequest<Incoming>,
        peer: crate::peer::Peer,
        peers: &Peers,
        limits: &Limits,
        handle: Handle,
    ) -> Self {
        let (head, body) = request.into_parts();
        let address = peers.address(peer, &head.headers);
        Self { head, body, address, limit: limits.max_body, handle }
    }

    /// The request's line and headers.
    pub fn head(&self) -> &Parts {
        &self.head
    }

    /// The path, as it was sent.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// A parameter of the query, decoded; `None` where there is none of that name, or a list. What is not UTF-8 is replaced.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let query = Query::parse(self.head.uri.query().unwrap_or_default().as_bytes()).ok()?;
        query.get(name)?.as_text().map(|text| String::from_utf8_lossy(text).into_owned())
    }

    /// The client's address, behind proxies that are trusted.
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// The cluster.
    pub fn cluster(&self) -> &Handle {
        &self.handle
    }

    /// The body, up to `Limits::max_body`, for which the client has half a minute.
    ///
    /// # Errors
    /// [`BodyError`].
    pub async fn body(self) -> Result<Bytes, BodyError> {
        let limit = self.limit;
        let body = timeout(BODY_PATIENCE, Limited::new(self.body, limit).collect());
        match body.await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLong { limit }),
            Ok(Err(error)) => Err(BodyError::Broken(error)),
            Err(_) => Err(BodyError::TooSlow),
        }
    }
}

/// An HTTP response: a status, headers, a body that is there as a whole.
#[derive(Clone, Debug)]
pub struct Response(pub(super) HyperResponse<Bytes>);

impl Response {
    /// A text in plain.
    pub fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self::of(status, "text/plain; charset=utf-8", text.into().into())
    }

    /// A page.
    pub fn html(page: impl Into<String>) -> Self {
        Self::of(StatusCode::OK, "text/html; charset=utf-8", page.into().into())
    }

    /// JSON.
    pub fn json(value: &Value) -> Self {
        Self::of(StatusCode::OK, "application/json", value.to_string().into())
    }

    fn of(status: StatusCode, content_type: &'static str, body: Bytes) -> Self {
        let mut response = HyperResponse::new(body);
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Self(response)
    }

    /// With this header in place of what there was of it.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers_mut().insert(name, value);
        self
    }
}

impl From<StatusCode> for Response {
    /// The status with its own words as the text.
    fn from(status: StatusCode) -> Self {
        Self::text(status, format!("{}\n", status.canonical_reason().unwrap_or("no reason")))
    }
}

impl From<HyperResponse<Bytes>> for Response {
    fn from(response: HyperResponse<Bytes>) -> Self {
        Self(response)
    }
}

/// The limits and rules that requests are read by.
#[derive(Clone)]
pub(super) struct Reading {
    pub(super) peers: Arc<Peers>,
    pub(super) limits: Arc<Limits>,
    pub(super) handle: Handle,
}

impl fmt::Debug for Asking<'_> {
    /// Without query and headers, in which tokens are.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Asking");
        shown.field("path", &self.path()).field("address", &self.address()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("request", &self.request()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (method, path) = (&self.head.method, self.path());
        let mut shown = f.debug_struct("Request");
        shown.field("method", method).field("path", &path).field("address", &self.address).finish_non_exhaustive()
    }
}
