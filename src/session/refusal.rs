//! Why a handshake is refused, and what its client is answered then.

use super::handshake::shown;
use crate::auth::Rejection;
use crate::model::Name;
use bytes::Bytes;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Response, StatusCode};
use std::net::IpAddr;

/// Seconds after which a client that was refused because of the node's state may come again.
const RETRY_AFTER: &str = "2";

/// The reason by which `carillon_tokens_refused_total` has tokens that are missing.
pub(super) const NO_TOKEN: &str = "missing";

/// Why a handshake is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Refusal {
    /// Not a WebSocket handshake at all. 426.
    #[error("this port speaks websocket: connect with ws:// or wss://, not http")]
    NotWebSocket,
    /// A handshake that breaks RFC 6455. 400.
    #[error("{0}")]
    Malformed(&'static str),
    /// A version of the protocol other than 13. 426, which names the one that is spoken (section 4.4).
    #[error("only version 13 of the websocket protocol is spoken")]
    Version,
    /// The same where a handler would have served the connection. 400, by its contract.
    #[error("only version 13 of the websocket protocol is spoken")]
    BadVersion,
    /// The handler that was to answer has not. 500.
    #[error("handler gave no answer")]
    Unanswered,
    /// A page that may not connect. 403.
    #[error("origin {0:?} is not allowed")]
    Origin(String),
    /// A path that no profile is for. 404.
    #[error("no client profile is configured for path {0:?}")]
    Path(String),
    /// A token that is not taken. 403, in the form that the contract has for it, which doesn't tell the client why.
    #[error("{0}")]
    Auth(#[from] Rejection),
    /// No token where one is needed. 403, the same.
    #[error("no token, and one is needed")]
    NoToken,
    /// A private channel that the client's token doesn't allow, if it has one. 403.
    #[error("channel {:?} is private: a token that allows it is needed", shown(.0.as_str().as_bytes()))]
    PrivateChannel(Name),
    /// A stable device id that the client's token doesn't name, if it has one. 403.
    #[error("device {:?} is not this client's: a token that names it is needed", shown(.0.as_str().as_bytes()))]
    ForeignDevice(Name),
    /// Channels that can't be. 400.
    #[error("{0}")]
    Channels(String),
    /// A stable device id that can't be. 400.
    #[error("{0}")]
    Device(String),
    /// The node has as many connections as it may have. 503.
    #[error("this node has as many connections as it may have")]
    Full,
    /// The client's address has as many connections as it may have. 429 (RFC 6585, section 4): another node would have no
    /// other answer, so it is not the 503 that a load balancer passes on to the next.
    #[error("{0} has as many connections as one address may have")]
    Crowded(IpAddr),
    /// The application does not want the connection. The status that it gives.
    #[error("{1}")]
    Application(u16, String),
    /// The application, which has to be asked, has not said whether it wants the connection. 503.
    #[error("application can't be asked: {0}")]
    NoAnswer(String),
    /// The cluster did not confirm the connection. 503.
    #[error("connection can't be registered: {0}")]
    Unavailable(String),
}

impl Refusal {
    /// What [`label`](Self::label) can be.
    pub const LABELS: [&str; 16] = [
        "not_websocket",
        "malformed",
        "version",
        "origin",
        "path",
        "auth",
        "private_channel",
        "foreign_device",
        "channels",
        "device",
        "full",
        "address",
        "application",
        "no_answer",
        "unavailable",
        "unanswered",
    ];

    /// The label `reason` of `carillon_connections_refused_total`.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::NotWebSocket => "not_websocket",
            Self::Malformed(_) => "malformed",
            Self::Version | Self::BadVersion => "version",
            Self::Unanswered => "unanswered",
            Self::Origin(_) => "origin",
            Self::Path(_) => "path",
            Self::Auth(_) | Self::NoToken => "auth",
            Self::PrivateChannel(_) => "private_channel",
            Self::ForeignDevice(_) => "foreign_device",
            Self::Channels(_) => "channels",
            Self::Device(_) => "device",
            Self::Full => "full",
            Self::Crowded(_) => "address",
            Self::Application(..) => "application",
            Self::NoAnswer(_) => "no_answer",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// What of `carillon_tokens_refused_total` counts it, where it is about a token.
    pub(super) fn token_label(&self) -> Option<&'static str> {
        match self {
            Self::Auth(rejection) => Some(rejection.label()),
            Self::NoToken => Some(NO_TOKEN),
            Self::NotWebSocket
            | Self::Malformed(_)
            | Self::Version
            | Self::BadVersion
            | Self::Unanswered
            | Self::Origin(_)
            | Self::Path(_)
            | Self::PrivateChannel(_)
            | Self::ForeignDevice(_)
            | Self::Channels(_)
            | Self::Device(_)
            | Self::Full
            | Self::Crowded(_)
            | Self::Application(..)
            | Self::NoAnswer(_)
            | Self::Unavailable(_) => None,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::NotWebSocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Malformed(_) | Self::BadVersion | Self::Channels(_) | Self::Device(_) => StatusCode::BAD_REQUEST,
            Self::Unanswered => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Origin(_) | Self::Auth(_) | Self::NoToken | Self::PrivateChannel(_) | Self::ForeignDevice(_) => {
                StatusCode::FORBIDDEN
            }
            Self::Path(_) => StatusCode::NOT_FOUND,
            Self::Crowded(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Application(status, _) => StatusCode::from_u16(*status).unwrap_or(StatusCode::FORBIDDEN),
            Self::Full | Self::NoAnswer(_) | Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Its answer: a status, and a line of text for whoever looks for the cause.
    pub(super) fn response(&self) -> Response<Bytes> {
        if matches!(self, Self::Auth(_) | Self::NoToken) {
            return error_auth();
        }
        let mut response = Response::new(Bytes::from(format!("{self}\n")));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let mut set = |name: HeaderName, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
        set(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        // Whoever is refused has no second request for this connection.
        set(header::CONNECTION, "close");
        match self {
            Self::NotWebSocket | Self::Version => {
                // RFC 9110, section 15.5.22: 426 says what to upgrade to.
                set(header::CONNECTION, "upgrade, close");
                set(header::UPGRADE, "websocket");
                set(header::SEC_WEBSOCKET_VERSION, "13");
            }
            Self::BadVersion => {
                set(header::SEC_WEBSOCKET_VERSION, "13");
            }
            Self::Full | Self::Crowded(_) | Self::NoAnswer(_) | Self::Unavailable(_) => {
                set(header::RETRY_AFTER, RETRY_AFTER);
            }
            Self::Malformed(_)
            | Self::Unanswered
            | Self::Origin(_)
            | Self::Path(_)
            | Self::Auth(_)
            | Self::NoToken
            | Self::PrivateChannel(_)
            | Self::ForeignDevice(_)
            | Self::Channels(_)
            | Self::Device(_)
            | Self::Application(..) => {}
        }
        response
    }
}

/// What a client without the right token is answered, by the contract's profile `method`, whatever the profile.
fn error_auth() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::FORBIDDEN;
    let headers = response.headers_mut();
    headers.insert("message", HeaderValue::from_static("error auth"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_label_and_status() {
        let all = [
            (Refusal::NotWebSocket, 426),
            (Refusal::Malformed("x"), 400),
            (Refusal::Version, 426),
            (Refusal::Origin(String::new()), 403),
            (Refusal::Path(String::new()), 404),
            (Refusal::Auth(Rejection::Expired), 403),
            (Refusal::PrivateChannel(Name::new("x").unwrap()), 403),
            (Refusal::ForeignDevice(Name::new("x").unwrap()), 403),
            (Refusal::Channels(String::new()), 400),
            (Refusal::Device(String::new()), 400),
            (Refusal::Full, 503),
            (Refusal::Crowded(IpAddr::from([192, 0, 2, 1])), 429),
            (Refusal::Application(402, String::new()), 402),
            (Refusal::NoAnswer(String::new()), 503),
            (Refusal::Unavailable(String::new()), 503),
            (Refusal::Unanswered, 500),
        ];
        assert_eq!(all.each_ref().map(|(refusal, _)| refusal.label()), Refusal::LABELS);
        for (refusal, status) in all {
            let response = refusal.response();
            assert_eq!(response.status(), status, "{refusal:?}");
            assert_eq!(
                response.headers().contains_key(header::RETRY_AFTER),
                matches!(status, 429 | 503),
                "{refusal:?}"
            );
        }
    }
}
