//! Which interface a request is for.
//!
//! A query with `action` is for the actions API. The fixed paths come next, where the query has neither `action` nor
//! `event`; then an `event` in the query or the JSON body, even an empty one; then an `action` in the body. What names none
//! is answered by the actions API, which says what is missing.

use super::actions::{self, Refusal};
use super::answer::{self, Answer};
use super::body::{self, BodyError};
use super::events::{self, Scope};
use super::{Api, Surface};
use crate::auth::bearer;
use crate::peer::Peer;
use crate::query::Query;
use crate::service::Dialect;
use bytes::Bytes;
use fastwebsockets::upgrade::is_upgrade_request;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};

impl Api {
    /// Answers one request. Every one has an answer; what can go wrong is in it.
    pub(super) async fn handle(&self, request: Request<Incoming>, peer: Peer, surface: &Surface) -> Answer {
        match surface {
            // The one place where WebSockets leave HTTP, if they share this port. Not counted as an HTTP request.
            Surface::Full(Some(upgrade)) if is_upgrade_request(&request) => upgrade(request, peer).await,
            Surface::Management(answer) => answer(request, peer).await,
            Surface::Full(_) => {
                let _counted = self.http.request();
                self.route(request, peer).await
            }
            Surface::Operations => {
                let _counted = self.http.request();
                let (parts, _) = request.into_parts();
                let answer = self.fixed_path(&parts).await;
                answer.unwrap_or_else(|| answer::text(StatusCode::NOT_FOUND, "no such page\n"))
            }
        }
    }

    async fn route(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let (parts, mut body) = request.into_parts();
        let query = Query::parse(parts.uri.query().unwrap_or_default().as_bytes());
        let named = match &query {
            Ok(query) => named(|name| query.get(name).is_some()),
            // It is too large to be read, not to be looked into.
            Err(_) => named(|name| begins_a_parameter(&parts, name)),
        };
        if parts.method == Method::OPTIONS {
            // The body of the request to come is not known yet.
            let dialect = named.unwrap_or(Dialect::Events);
            return self.with_cors(dialect, &parts, answer::bare(StatusCode::NO_CONTENT));
        }
        if named.is_none() && query.is_ok() {
            if let Some(answer) = self.fixed_path(&parts).await {
                return answer;
            }
            if let Some(answer) = self.console(&parts).await {
                return answer;
            }
            body = match self.admin(&parts, body, peer).await {
                Ok(answer) => return answer,
                Err(body) => body,
            };
        }
        let query = match query {
            Ok(query) => query,
            Err(error) => {
                let why = format!("query has {error}");
                let dialect = named.unwrap_or(Dialect::Actions);
                return self.with_cors(dialect, &parts, self.refuse(dialect, Query::default(), why).await);
            }
        };
        let body = self.body(&parts, body).await;
        let (dialect, answer) = self.call(&parts, query, named, body).await;
        self.with_cors(dialect, &parts, answer)
    }

    /// Answers a request as on the HTTP port, on whatever port it came in.
    pub async fn mounted(&self, request: Request<Incoming>, peer: Peer) -> Answer {
        let _counted = self.http.request();
        self.route(request, peer).await
    }

    /// Answers what the events API is asked for of this node alone, on whatever path: for a port that has no other API.
    pub async fn node_events(&self, request: Request<Incoming>) -> Answer {
        let _counted = self.http.request();
        let (parts, body) = request.into_parts();
        let answer = if parts.method == Method::OPTIONS {
            answer::bare(StatusCode::NO_CONTENT)
        } else {
            match Query::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
                Ok(query) => match self.body(&parts, body).await {
                    Ok(body) => self.events(&parts, &query, events::Body::parse(&body), Scope::Node).await,
                    Err(error) => events::refuse(&error.to_string()),
                },
                Err(error) => events::refuse(&format!("query has {error}")),
            }
        };
        self.with_cors(Dialect::Events, &parts, answer)
    }

    /// The bytes of a body that parameters may be in.
    async fn body(&self, parts: &Parts, body: Incoming) -> Result<Bytes, BodyError> {
        if parts.method == Method::POST { self.bodies.read(body).await } else { Ok(Bytes::new()) }
    }

    fn with_cors(&self, dialect: Dialect, parts: &Parts, mut answer: Answer) -> Answer {
        self.cors.borrow().apply(dialect, &parts.headers, &mut answer);
        answer
    }

    /// Refuses a call that could not be read, before its token is looked at, which may be in what could not be read.
    async fn refuse(&self, dialect: Dialect, query: Query, why: String) -> Answer {
        match dialect {
            Dialect::Events => events::refuse(&why),
            // None comes here: three of them are not for HTTP requests, and what is for an operator has its own path.
            Dialect::Actions | Dialect::Device | Dialect::Webhook | Dialect::Operator | Dialect::Library => {
                let parameters = actions::Parameters { query, body: Query::default() };
                actions::refuse(Refusal::Message(why), &parameters, &self.token_param).await
            }
        }
    }

    /// Answers a call of whichever API; `named` is the one that its query names.
    async fn call(
        &self,
        parts: &Parts,
        query: Query,
        named: Option<Dialect>,
        body: Result<Bytes, BodyError>,
    ) -> (Dialect, Answer) {
        let body = match body {
            Ok(body) => body,
            Err(error) => {
                // Whoever puts even the name of the call into the body is a client of the events API.
                let dialect = named.unwrap_or(Dialect::Events);
                return (dialect, self.refuse(dialect, query, error.to_string()).await);
            }
        };
        if named != Some(Dialect::Actions) {
            let body = events::Body::parse(&body);
            if named == Some(Dialect::Events) || body.has_event() {
                return (Dialect::Events, self.events(parts, &query, body, Scope::Cluster).await);
            }
        }
        (Dialect::Actions, self.actions(parts, query, &body).await)
    }

    async fn actions(&self, parts: &Parts, query: Query, body: &[u8]) -> Answer {
        let body = match body::parse(&parts.headers, body) {
            Ok(body) => body,
            Err(error) => return self.refuse(Dialect::Actions, query, error.to_string()).await,
        };
        let parameters = actions::Parameters { query, body };
        let token = parameters.text(&self.token_param).ok().flatten();
        if self.admits(parts, token.map(Bytes::as_ref)) {
            actions::call(&self.service, &parameters, &self.token_param).await
        } else {
            actions::refuse(Refusal::Message("access deny".to_owned()), &parameters, &self.token_param).await
        }
    }

    async fn events(&self, parts: &Parts, query: &Query, body: events::Body<'_>, scope: Scope) -> Answer {
        let parameters = events::Parameters { query, body };
        if !self.admits(parts, parameters.token().as_deref()) {
            return events::refuse("token error");
        }
        let scope = if parameters.is_for_node() { Scope::Node } else { scope };
        events::call(&self.service, &parameters, scope).await
    }

    /// Whether a request may use the APIs, with the token that is its parameter or one in a header.
    fn admits(&self, parts: &Parts, token: Option<&[u8]>) -> bool {
        let secrets = self.secrets.borrow();
        secrets.api.is_open()
            || token.is_some_and(|token| secrets.api.accept(token))
            || bearer(&parts.headers).is_some_and(|token| secrets.api.accept(token))
    }

    async fn fixed_path(&self, parts: &Parts) -> Option<Answer> {
        match parts.uri.path() {
            "/livez" => Some(answer::text(StatusCode::OK, "alive\n")),
            "/readyz" => Some(match self.health.unready() {
                None => answer::text(StatusCode::OK, "ready\n"),
                Some(why) => answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
            }),
            "/metrics" => Some(if self.admits_metrics(parts) {
                self.metrics.answer(&self.health).await
            } else {
                let mut denied = answer::text(StatusCode::UNAUTHORIZED, "a bearer token is needed\n");
                denied.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
                denied
            }),
            _ => None,
        }
    }

    fn admits_metrics(&self, parts: &Parts) -> bool {
        let secrets = self.secrets.borrow();
        secrets.metrics.is_open() || bearer(&parts.headers).is_some_and(|token| secrets.metrics.accept(token))
    }
}

/// Which API a query names, by which parameters it has.
fn named(has: impl Fn(&str) -> bool) -> Option<Dialect> {
    match (has("action"), has("event")) {
        (true, _) => Some(Dialect::Actions),
        (false, true) => Some(Dialect::Events),
        (false, false) => None,
    }
}

/// Whether a part of the query between two `&` begins with a parameter's plain name.
fn begins_a_parameter(parts: &Parts, name: &str) -> bool {
    let mut query = parts.uri.query().unwrap_or_default().split('&');
    query.any(|part| part.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
}
