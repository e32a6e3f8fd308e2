//! What an operator tells this node: `POST /admin/OPERATION`, and the management port's WebSocket (see `port`).
//!
//! Who may: whoever has a token of the APIs, as `Authorization: Bearer` or in the query. Where no token is set, only who is on
//! this machine, not passed on by a proxy, and no web page: a browser names its page in `Origin`, and every page that
//! somebody on this machine opens could ask otherwise.

mod port;
mod request;

use super::Api;
use super::answer::{self, Answer};
use crate::auth::bearer;
use crate::hub::Traffic;
use crate::model::{Error, Push, Target};
use crate::operator::{Language, Operation, Order, Phrase};
use crate::peer::Peer;
use crate::query::Query;
use crate::service::Dialect;
use hyper::body::Incoming;
use hyper::header::{ALLOW, HeaderName, HeaderValue, ORIGIN, REFERER, WWW_AUTHENTICATE};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use port::Port;
use request::Asked;
use serde::Serialize;
use serde_json::value::RawValue;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

/// Where the operations are.
const PATH: &str = "/admin/";

/// How long a reload is waited for: shorter than the command waits for its answer.
const RELOADING: Duration = Duration::from_secs(5);

/// Headers by which a browser shows itself. `Origin` is in whatever a page may send but GET (Fetch, section 3.2); the others are
/// for browsers and reports of theirs that leave it out.
const OF_BROWSERS: [HeaderName; 3] = [ORIGIN, REFERER, HeaderName::from_static("sec-fetch-site")];

/// The parameter that holds a token whatever `HTTP_PARAM` says.
const TOKEN: &str = "token";

/// The way to whoever runs the node.
pub(super) struct Operator {
    orders: mpsc::Sender<Order>,
    port: Port,
}

impl Operator {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders, port: Port::new() }
    }
}

/// What everybody is told; the order of the members is the contract's.
#[derive(Serialize)]
struct Broadcast<'a> {
    status: u16,
    event: &'static str,
    info: &'static str,
    param: &'a RawValue,
}

impl Api {
    /// Answers what is for `/admin/`; gives the body back where the path is another one.
    pub(super) async fn admin(&self, parts: &Parts, body: Incoming, peer: Peer) -> Result<Answer, Incoming> {
        match parts.uri.path().strip_prefix(PATH) {
            Some(name) => Ok(self.operate(name, parts, body, peer).await),
            None => Err(body),
        }
    }

    async fn operate(&self, name: &str, parts: &Parts, body: Incoming, peer: Peer) -> Answer {
        if parts.method != Method::POST {
            let mut refused = answer::text(StatusCode::METHOD_NOT_ALLOWED, "operations are asked for with POST\n");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return refused;
        }
        // Before the body: who may not has nothing read. The language is in there.
        if !self.admits_operator(parts, peer) {
            return denied();
        }
        let body = match self.bodies.read(body).await {
            Ok(body) => body,
            Err(error) => return answer::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        };
        let asked = match Asked::by_http(name, &body) {
            Ok(asked) => asked,
            Err(error) => return answer::text(StatusCode::BAD_REQUEST, format!("body is not taken: {error}\n")),
        };
        let phrase = match &asked.operation {
            Ok(operation) => self.answer(*operation, asked.say.as_deref(), peer).await,
            Err(phrase) => phrase.clone(),
        };
        if asked.operation == Ok(Operation::Stop) {
            self.stop().await;
        }
        answer::text(status(&phrase), phrase.in_language(asked.language))
    }

    /// Whether this request may tell the node what to do.
    fn admits_operator(&self, parts: &Parts, peer: Peer) -> bool {
        let secrets = self.secrets.borrow();
        if secrets.api.is_open() {
            return peer.is_local(&parts.headers) && !OF_BROWSERS.iter().any(|name| parts.headers.contains_key(name));
        }
        if bearer(&parts.headers).is_some_and(|token| secrets.api.accept(token)) {
            return true;
        }
        let query = Query::parse(parts.uri.query().unwrap_or_default().as_bytes()).unwrap_or_default();
        [self.token_param.as_str(), TOKEN].iter().any(|name| {
            query.get(name).and_then(|value| value.as_text()).is_some_and(|token| secrets.api.accept(token))
        })
    }

    /// What is answered to an operation. All but stopping is done here: that may end the connection that is asked over, so it
    /// is left to [`stop`](Self::stop), after the answer.
    async fn answer(&self, operation: Operation, say: Option<&RawValue>, peer: Peer) -> Phrase {
        tracing::info!(%peer, operation = operation.as_str(), "an operator asks");
        match operation {
            Operation::Reload => self.reload().await,
            Operation::Stop => Phrase::Stopping,
            Operation::Status => {
                let Traffic { connections, .. } = (self.console.facts().traffic)();
                Phrase::Status { connections, pid: std::process::id(), resident: resident() }
            }
            Operation::Say => match say {
                Some(text) => self.say(text).await,
                None => Phrase::NoText,
            },
        }
    }

    /// Has the node read its configuration again, and waits for what becomes of that.
    async fn reload(&self) -> Phrase {
        let (waiting, reloaded) = oneshot::channel();
        let reloaded = async {
            // An error here and there: the node has ended, or is about to.
            self.operator.orders.send(Order::Reload(Some(waiting))).await.ok()?;
            reloaded.await.ok()
        };
        match timeout(RELOADING, reloaded).await {
            Ok(Some(Ok(()))) => Phrase::Reloading,
            Ok(Some(Err(why))) => Phrase::NotReloaded(why),
            Ok(None) => Phrase::NotReloaded("node is stopping".to_owned()),
            Err(_) => Phrase::NotReloaded(format!("not done within {} s, the log will say", RELOADING.as_secs())),
        }
    }

    /// Tells every client of the cluster.
    async fn say(&self, text: &RawValue) -> Phrase {
        let broadcast =
            Broadcast { status: 200, event: "serverBroadcast", info: "收到服务广播内容", param: text };
        let message = match serde_json::to_string(&broadcast) {
            Ok(message) => message,
            Err(error) => return Phrase::NotSaid(Error::Unavailable(error.to_string())),
        };
        match self.service.push(Dialect::Operator, Push::text(Target::All, message)).await {
            Ok(_) => Phrase::Said,
            Err(error) => Phrase::NotSaid(error),
        }
    }

    /// Gives the order to stop.
    async fn stop(&self) {
        // An error: the node has ended already.
        let _ = self.operator.orders.send(Order::Stop).await;
    }
}

fn status(phrase: &Phrase) -> StatusCode {
    match phrase {
        Phrase::NotAnOperation | Phrase::NoOperation => StatusCode::NOT_FOUND,
        Phrase::NoText | Phrase::NotSaid(Error::Limit(_)) => StatusCode::BAD_REQUEST,
        Phrase::NotSaid(Error::Unavailable(_) | Error::NoAnswer { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        Phrase::NotReloaded(_) => StatusCode::INTERNAL_SERVER_ERROR,
        Phrase::Denied => StatusCode::UNAUTHORIZED,
        _ => StatusCode::OK,
    }
}

fn denied() -> Answer {
    let text = format!("{}\n", Phrase::Denied.in_language(Language::English));
    let mut denied = answer::text(status(&Phrase::Denied), text);
    denied.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    denied
}

/// Whether a request is for somebody who speaks WebSocket, and may.
fn is_handshake(request: &Request<Incoming>) -> bool {
    fastwebsockets::upgrade::is_upgrade_request(request)
}

/// Bytes of memory that this process has resident (`VmRSS`, proc(5)).
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
