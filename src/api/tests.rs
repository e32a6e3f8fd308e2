//! The server as a client sees it: bytes over TCP.

use super::fixture::{failing, limited, service};
use super::*;
use crate::cluster::State;
use crate::hub::Traffic;
use crate::model::Limits;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Longer than anything here takes.
const DEADLINE: Duration = Duration::from_secs(20);

struct Server {
    address: SocketAddr,
    shutdown: watch::Sender<bool>,
    draining: watch::Sender<bool>,
    secrets: watch::Sender<Secrets>,
    ended: JoinHandle<()>,
}

async fn start(service: Arc<Service>, surface: Surface, max_connections: u32) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (shutdown, told) = watch::channel(false);
    let (draining, is_draining) = watch::channel(false);
    let (secrets, current) = watch::channel(Secrets::default());
    let facts = NodeFacts { ws_port: Some(8090), start_time: 7, traffic: Arc::new(Traffic::default) };
    let cors = watch::channel(CorsOrigins::default()).1;
    let token_param = "hash".to_owned();
    let config = ApiConfig {
        token_param,
        secrets: current,
        cors,
        draining: is_draining,
        tls: None,
        peers: Arc::default(),
        orders: tokio::sync::mpsc::channel(1).0,
        max_connections,
        facts,
    };
    let api = Api::new(service, config, &Registry::new()).unwrap();
    let ended = tokio::spawn(api.serve(listener, surface, told));
    Server { address, shutdown, draining, secrets, ended }
}

async fn full() -> Server {
    start(service(), Surface::Full(None), 16).await
}

impl Server {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a request and everything that comes back until the server closes.
    async fn raw(&self, request: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect().await;
        stream.write_all(request.as_ref()).await.unwrap();
        read_all(&mut stream).await
    }

    async fn get(&self, target: &str, headers: &str) -> String {
        self.raw(format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")).await
    }

    async fn post(&self, target: &str, media_type: &str, body: &str) -> String {
        let length = body.len();
        let head = format!("POST {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: {media_type}\r\n");
        self.raw(format!("{head}content-length: {length}\r\n\r\n{body}")).await
    }
}

async fn read_all(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    // A reset after the answer is an end as well.
    let _ = timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn message(answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let reply: serde_json::Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"));
    reply.get("message").map_or_else(|| reply["status"].to_string(), |message| message.as_str().unwrap().to_owned())
}

#[tokio::test]
async fn requests_go_where_their_query_body_and_path_say() {
    let server = full().await;
    for (target, start) in [
        ("/livez", "HTTP/1.1 200 OK\r\ncontent-type: text/plain"),
        ("/readyz", "HTTP/1.1 200 OK\r\ncontent-type: text/plain"),
        ("/metrics", "HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4"),
        ("/metrics?action=unknown", "HTTP/1.1 200 OK\r\ncontent-type: application/json"),
        ("/livez?event=x", "HTTP/1.1 200 OK\r\ncontent-type: application/json"),
        ("/any/path?action=stats", "HTTP/1.1 200 OK\r\ncontent-type: application/json"),
        ("/", "HTTP/1.1 200 OK\r\ncontent-type: application/json"),
    ] {
        let answer = server.get(target, "").await;
        assert!(answer.starts_with(start), "{target}: {answer}");
    }
    assert_eq!(message(&server.get("/", "").await), "action param must be set");
    assert_eq!(message(&server.get("/?action=x", "").await), "wrong x action");
    assert_eq!(message(&server.post("/?x=1", "application/json", r#"{"action":"y"}"#).await), "wrong y action");
    assert_eq!(
        message(&server.post("/?action=push&to=all", "text/plain", "message=y").await),
        "body of type text/plain is not taken: send a form (application/x-www-form-urlencoded) or JSON"
    );
    let untyped = server.raw("POST / HTTP/1.0\r\ncontent-length: 14\r\n\r\n{\"action\":\"z\"}").await;
    assert_eq!(message(&untyped), "wrong z action");
    assert_eq!(
        message(&server.post("/", "application/json", "[").await).split(':').next(),
        Some("body is not a JSON object")
    );
    let put = server.raw("PUT /?action=x HTTP/1.0\r\ncontent-length: 8\r\n\r\naction=y").await;
    assert_eq!(message(&put), "wrong x action");
    let options = server.raw("OPTIONS /?action=push HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(options.starts_with("HTTP/1.1 204 No Content\r\n") && !options.contains("access-control"), "{options}");
    let deep = server.get(&format!("/?a{}=1", "[b]".repeat(65)), "").await;
    assert_eq!(message(&deep), "query has a parameter nests deeper than 64 levels");
}

#[tokio::test]
async fn a_token_opens_the_api_from_query_body_or_header_and_is_not_echoed() {
    let server = full().await;
    let api = Tokens::new(Some("s3cret"), Some("other"));
    server.secrets.send_replace(Secrets { api, metrics: Tokens::new(Some("m"), None) });
    let denied = server.get("/?action=stats&hash=wrong&token=shown", "").await;
    let expected = "{\n    \"status\": false,\n    \"message\": \"access deny\",\n    \"request\": {\n        \
                    \"action\": \"stats\",\n        \"token\": \"shown\"\n    }\n}";
    assert!(denied.ends_with(expected), "{denied}");
    let nothing = "access deny";
    let unknown = "wrong x action";
    for (target, headers, body, expected) in [
        ("/?action=x", "", "", nothing),
        ("/", "", "", nothing),
        ("/?action=x&hash[]=s3cret", "", "", nothing),
        ("/?action=x", "authorization: Bearer wrong\r\n", "", nothing),
        ("/?action=x", "authorization: Basic s3cret\r\n", "", nothing),
        ("/?action=x&hash=s3cret", "", "", unknown),
        ("/?action=x&hash=other", "", "", unknown),
        ("/?action=x", "authorization: bearer s3cret\r\n", "", unknown),
        ("/?action=x", "", "hash=s3cret", unknown),
        ("/", "", "hash=s3cret&action=x", unknown),
    ] {
        let answer =
            if body.is_empty() { server.get(target, headers).await } else { server.post(target, "", body).await };
        assert_eq!(message(&answer), expected, "{target} {headers} {body}");
        assert!(!answer.contains("s3cret"), "{answer}");
    }
    assert!(server.get("/metrics", "").await.starts_with("HTTP/1.1 401 "));
    assert!(server.get("/metrics", "authorization: Bearer s3cret\r\n").await.starts_with("HTTP/1.1 401 "));
    assert!(server.get("/metrics", "authorization: Bearer m\r\n").await.starts_with("HTTP/1.1 200 "));
    assert!(server.get("/livez", "").await.starts_with("HTTP/1.1 200 "));
    server.secrets.send_replace(Secrets::default());
    assert_eq!(message(&server.get("/?action=x", "").await), unknown);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let head = |coding: &str| format!("POST /?action=push HTTP/1.1\r\nhost: x\r\n{coding}\r\n\r\n");
    for (limit, chunks) in [(1000, 1), (1000, 3), (8 << 20, 9)] {
        let limits = Limits { max_body: limit, ..Limits::default() };
        let server = start(limited(limits), Surface::Full(None), 16).await;
        let size = limit + 1;
        let announced = server.raw(head(&format!("content-length: {size}"))).await;
        let expected = format!("body of {size} bytes is longer than MAX_BODY, {limit} bytes");
        assert_eq!(message(&announced), expected);

        let mut request = head("transfer-encoding: chunked").into_bytes();
        let chunk = size.div_ceil(chunks);
        for _ in 0..chunks {
            request.extend_from_slice(format!("{chunk:x}\r\n").as_bytes());
            request.resize(request.len() + chunk, b'a');
            request.extend_from_slice(b"\r\n");
        }
        let mut stream = server.connect().await;
        let (mut read, mut write) = stream.split();
        // The server may stop reading at the limit, and reset what comes after its answer.
        let (answer, _) = tokio::join!(read_all(&mut read), write.write_all(&request));
        assert_eq!(message(&answer), format!("body is longer than MAX_BODY, {limit} bytes"), "{chunks} chunks");
    }
}

#[tokio::test]
async fn a_body_at_the_limit_is_read() {
    for limit in [1000, 8 << 20] {
        let limits = Limits { max_body: limit, ..Limits::default() };
        let server = start(limited(limits), Surface::Full(None), 16).await;
        let body = format!("action=x&y={}", "y".repeat(limit - "action=x&y=".len()));
        assert_eq!(message(&server.post("/", "", &body).await), "wrong x action");
    }
}

#[tokio::test]
async fn requests_in_one_segment_are_answered_one_after_the_other() {
    let server = full().await;
    let one = |action: &str, more: &str| format!("GET /?action={action} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    let answers = server.raw([one("a", ""), one("b", ""), one("c", "connection: close\r\n")].concat()).await;
    let places: Vec<_> = ["wrong a", "wrong b", "wrong c"].iter().map(|text| answers.find(text)).collect();
    assert!(places.is_sorted() && places.iter().all(Option::is_some), "{answers}");
}

#[tokio::test]
async fn a_listing_that_fails_half_way_has_no_last_chunk() {
    let server = start(failing(2), Surface::Full(None), 16).await;
    let answer = server.get("/?action=getConnections", "").await;
    let head = answer.split("\r\n\r\n").next().unwrap();
    assert!(head.contains("transfer-encoding: chunked") && answer.contains("19999"), "{head}");
    assert!(!answer.ends_with("\r\n0\r\n\r\n"));
    let failed_at_once = start(failing(0), Surface::Full(None), 16).await;
    assert_eq!(message(&failed_at_once.get("/?action=getConnections", "").await), "not available: redis is away");
}

#[tokio::test]
async fn readiness_says_why_not_and_liveness_stays() {
    let server = full().await;
    server.draining.send_replace(true);
    let unready = server.get("/readyz", "").await;
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.ends_with("not ready: stopping\n"), "{unready}");
    assert!(server.get("/livez", "").await.starts_with("HTTP/1.1 200 "));
    let metrics = server.get("/metrics", "").await;
    assert!(metrics.contains("\ncarillon_ready 0\n") && metrics.contains("\ncarillon_draining 1\n"), "{metrics}");

    for (state, why) in [
        (State::Away("redis refuses writes".to_owned()), Some("redis refuses writes")),
        (State::Recovering("2 nodes are not back".to_owned()), Some("recovering: 2 nodes are not back")),
        (State::Ready, None),
    ] {
        let health = Health { state: watch::channel(state).1, draining: watch::channel(false).1 };
        assert_eq!(health.unready().as_deref(), why);
    }
}

#[tokio::test]
async fn metrics_show_server_process_and_cluster() {
    let server = full().await;
    assert_eq!(message(&server.get("/?action=push&to=channel&channel=a", "").await), "true");
    assert_eq!(message(&server.get("/?action=push&to=connection&connection=99", "").await), "false");
    let metrics = server.get("/metrics", "").await;
    for line in [
        "carillon_build_info{",
        "carillon_http_requests_total 3\n",
        "carillon_http_requests_active 1\n",
        "carillon_cluster_channels 2\n",
        "carillon_cluster_nodes 1\n",
        "carillon_draining 0\n",
        "carillon_store_hits_total 5\n",
        "carillon_store_misses_total 6\n",
        "carillon_store_memory_bytes ",
        "carillon_tasks ",
        "carillon_worker_threads ",
        "process_resident_memory_bytes ",
        "process_open_fds ",
        "process_start_time_seconds ",
        "process_cpu_seconds_total ",
    ] {
        assert!(metrics.contains(&format!("\n{line}")), "{line} is missing in {metrics}");
    }
}

#[tokio::test]
async fn a_port_for_operations_has_no_api() {
    let server = start(service(), Surface::Operations, 16).await;
    for other in ["/?action=stats", "/console/", "/console/node"] {
        assert!(server.get(other, "").await.starts_with("HTTP/1.1 404 "), "{other}");
    }
    assert!(server.get("/livez", "").await.starts_with("HTTP/1.1 200 "));
    assert!(server.get("/metrics", "").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn connections_over_the_limit_are_answered_503() {
    let server = start(service(), Surface::Full(None), 1).await;
    let mut first = server.connect().await;
    first.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut byte = [0];
    first.read_exact(&mut byte).await.unwrap();
    let mut second = server.connect().await;
    let refused = read_all(&mut second).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
}

#[tokio::test]
async fn a_server_that_stops_closes_idle_connections_and_refuses_new_ones() {
    let server = full().await;
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut byte = [0];
    idle.read_exact(&mut byte).await.unwrap();
    server.shutdown.send_replace(true);
    assert!(read_all(&mut idle).await.ends_with("alive\n"));
    timeout(DEADLINE, server.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}

#[tokio::test]
async fn an_upgrade_on_a_shared_port_leaves_http() {
    let upgrade: Upgrade = Arc::new(|_, _| Box::pin(async { answer::text(hyper::StatusCode::IM_A_TEAPOT, "ws") }));
    let server = start(service(), Surface::Full(Some(upgrade)), 16).await;
    let headers = "upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: x\r\n";
    let handshake = format!("GET /?channel=a HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\n{headers}\r\n");
    assert!(server.raw(handshake).await.starts_with("HTTP/1.1 418 "));
    assert_eq!(message(&server.get("/?action=x", "").await), "wrong x action");
}
