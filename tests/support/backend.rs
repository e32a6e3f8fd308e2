//! An application behind HTTP that does what a test tells it to: answers, refuses, is slow, talks nonsense.

use super::{DEADLINE, eventually};
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// What nodes are told to sign with.
pub const SECRET: &str = "a shared secret";

/// How the application answers an event.
#[derive(Clone)]
pub enum Reply {
    /// 200 and this JSON.
    Json(Value),
    /// 200 and these bytes.
    Raw(Vec<u8>),
    /// This status and nothing else.
    Status(u16),
    /// 200 and nothing, once the test releases it.
    Held,
}

type Rule = Arc<dyn Fn(&Value) -> Reply + Send + Sync>;

/// An event, as it came.
#[derive(Clone)]
pub struct Received {
    /// The request's headers.
    pub headers: HeaderMap,
    /// Its body, byte by byte.
    pub raw: Bytes,
    /// Its body.
    pub event: Value,
}

impl Received {
    /// Whether it was signed with [`SECRET`].
    pub fn is_signed(&self) -> bool {
        let header = |name: &str| self.headers.get(name).map_or("", |value| value.to_str().unwrap());
        let Some(signature) = header("carillon-signature").strip_prefix("v1=") else { return false };
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(header("carillon-timestamp").as_bytes());
        mac.update(b".");
        mac.update(&self.raw);
        let bytes: Vec<u8> = (0..signature.len() / 2)
            .map(|at| u8::from_str_radix(&signature[at * 2..at * 2 + 2], 16).unwrap())
            .collect();
        mac.verify_slice(&bytes).is_ok()
    }
}

struct Shared {
    rule: Mutex<Rule>,
    received: Mutex<Vec<Received>>,
    /// Connections of the cluster that an event is under way of.
    busy: Mutex<HashSet<u64>>,
    released: watch::Sender<u64>,
}

/// The application.
pub struct Backend {
    url: String,
    shared: Arc<Shared>,
    task: tokio::task::JoinHandle<()>,
}

impl Backend {
    /// Starts one that answers by this rule.
    pub async fn start(rule: impl Fn(&Value) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hooks?app=1", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            rule: Mutex::new(Arc::new(rule)),
            received: Mutex::default(),
            busy: Mutex::default(),
            released: watch::channel(0).0,
        });
        let task = {
            let shared = shared.clone();
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let shared = shared.clone();
                    tokio::spawn(async move {
                        let service = service_fn(|request| answer(request, shared.clone()));
                        // An error: the node has gone away.
                        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                    });
                }
            })
        };
        Self { url, shared, task }
    }

    /// One that answers nothing at all, politely.
    pub async fn silent() -> Self {
        Self::start(|_| Reply::Status(204)).await
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Answers by another rule from now on.
    pub fn now(&self, rule: impl Fn(&Value) -> Reply + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
    }

    /// Lets go of all that is held.
    pub fn release(&self) {
        self.shared.released.send_modify(|count| *count += 1);
    }

    /// All events so far.
    pub fn received(&self) -> Vec<Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// Waits until it has had so many events of this kind, and gives them.
    pub async fn has(&self, kind: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} times {kind}"), DEADLINE, async || {
            let all = self.received().into_iter().map(|received| received.event);
            let found: Vec<Value> = all.filter(|event| event["event"] == kind).collect();
            if found.len() >= count { Ok(found) } else { Err(format!("{} so far", found.len())) }
        })
        .await
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An event under way; not any more when it was answered, or the node has given it up.
struct Busy {
    shared: Arc<Shared>,
    connection: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.shared.busy.lock().unwrap().remove(&self.connection);
    }
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let raw = body.collect().await.unwrap().to_bytes();
    let event: Value = serde_json::from_slice(&raw).unwrap_or(json!(null));
    // What happens to a channel is of no connection.
    let _busy = event["connection"].as_u64().map(|connection| {
        let first = shared.busy.lock().unwrap().insert(connection);
        assert!(first, "two events of connection {connection} at once");
        Busy { shared: shared.clone(), connection }
    });
    let mut released = shared.released.subscribe();
    shared.received.lock().unwrap().push(Received { headers: parts.headers, raw, event: event.clone() });
    let rule = shared.rule.lock().unwrap().clone();
    let reply = rule(&event);
    let (status, body) = match reply {
        Reply::Json(value) => (200, value.to_string().into_bytes()),
        Reply::Raw(bytes) => (200, bytes),
        Reply::Status(status) => (status, Vec::new()),
        Reply::Held => {
            let _ = released.changed().await;
            (200, Vec::new())
        }
    };
    Ok(Response::builder().status(status).body(Full::new(body.into())).unwrap())
}
