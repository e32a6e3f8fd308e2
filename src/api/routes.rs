//! Which interface a request is for.
//!
//! A query with `action` is for the actions API. The fixed paths come next, where the query has neither `action` nor
//! `event`; then an `action` in the body. What names none is answered by the actions API, which says what is missing.

use super::actions::{self, Parameters, Refusal};
use super::answer::{self, Answer};
use super::tokens::bearer;
use super::{Api, Surface};
use crate::query::Query;
use fastwebsockets::upgrade::is_upgrade_request;
use hyper::body::Incoming;
use hyper::header::{HeaderValue, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use std::net::SocketAddr;

impl Api {
    /// Answers one request. Every one has an answer; what can go wrong is in it.
    pub(super) async fn handle(&self, request: Request<Incoming>, peer: SocketAddr, surface: &Surface) -> Answer {
        match surface {
            // The one place where WebSockets leave HTTP, if they share this port. Not counted as an HTTP request.
            Surface::Full(Some(upgrade)) if is_upgrade_request(&request) => upgrade(request, peer).await,
            Surface::Full(_) => {
                let _counted = self.http.request();
                self.route(request).await
            }
            Surface::Operations => {
                let _counted = self.http.request();
                let (parts, _) = request.into_parts();
                let answer = self.fixed_path(&parts).await;
                answer.unwrap_or_else(|| answer::text(StatusCode::NOT_FOUND, "no such page\n"))
            }
        }
    }

    async fn route(&self, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        if parts.method == Method::OPTIONS {
            return answer::bare(StatusCode::NO_CONTENT);
        }
        let (query, unread) = match Query::parse(parts.uri.query().unwrap_or_default().as_bytes()) {
            Ok(query) => (query, None),
            Err(error) => (Query::default(), Some(format!("query has {error}"))),
        };
        if unread.is_none() && query.get("action").is_none() && query.get("event").is_none() {
            if let Some(answer) = self.fixed_path(&parts).await {
                return answer;
            }
            if let Some(answer) = self.console(&parts).await {
                return answer;
            }
        }
        let mut parameters = Parameters { query, body: Query::default() };
        let mut fault = unread;
        if fault.is_none() && parts.method == Method::POST {
            match self.bodies.read(&parts.headers, body).await {
                Ok(body) => parameters.body = body,
                Err(error) => fault = Some(error.to_string()),
            }
        }
        let hidden = &self.token_param;
        match fault {
            // Before the token is looked at, as it may be in what could not be read.
            Some(fault) => actions::refuse(Refusal::Message(fault), &parameters, hidden).await,
            None if !self.admits(&parts, &parameters) => {
                actions::refuse(Refusal::Message("access deny".to_owned()), &parameters, hidden).await
            }
            None => actions::call(&self.service, &parameters, hidden).await,
        }
    }

    /// Whether the request has a token that opens the API, as a parameter or as a header.
    fn admits(&self, parts: &Parts, parameters: &Parameters) -> bool {
        let secrets = self.secrets.borrow();
        let parameter = parameters.text(&self.token_param).ok().flatten();
        secrets.api.is_open()
            || parameter.is_some_and(|token| secrets.api.accept(token))
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
