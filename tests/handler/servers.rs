use crate::receiving::next;
use crate::running::{Lending, Running, lender, quiet};
use crate::support::certificates::Certificates;
use crate::support::http::{Http, get, request};
use crate::support::raw::masked;
use crate::support::redis::free_port;
use crate::support::{DEADLINE, Heard, Listener, eventually};
use carillon::{
    Accept, BuildError, Builder, Error, Handshake, Limits, Outcome, Push, RedisConfig, Server, Target, channel,
};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

const LOOPBACK: Ipv4Addr = Ipv4Addr::LOCALHOST;

async fn echo(handshake: Handshake) -> Outcome {
    let mut connection = handshake.accept().await?;
    while let Some(message) = connection.recv().await? {
        connection.push(message).await?;
    }
    Ok(())
}

#[tokio::test]
async fn backends_push_through_an_api_that_is_mounted_or_has_a_port() {
    let accept = Accept::new().join(channel("news").unwrap());
    let builder = Server::builder().limits(quiet()).token("s3cret").mount_api("/api").api((LOOPBACK, 0));
    let mut lending = Lending::with(builder, accept).await;
    let (mut raw, connection) = lending.raw().await;
    let (clients, port) = (lending.server.address, lending.server.api.unwrap());
    for (to, path) in [(clients, "/api/"), (clients, "/API"), (port, "/")] {
        let push = format!("{path}?action=push&to=channel&channel=news&message=by{path}");
        let refused = get(to, &push).await.unwrap();
        assert!(refused.text().contains("access deny"), "{}", refused.text());
        let taken = get(to, &format!("{push}&token=s3cret")).await.unwrap();
        assert_eq!(taken.status, 200, "{}", taken.text());
        assert_eq!(raw.frame().await, (0x81, format!("by{path}").into_bytes()));
    }
    let body = br#"{"event":"get_IdCount,broadcast","broadcast":{"msg":"by an event"}}"#;
    let mut http = Http::connect(clients).await.unwrap();
    let answer = http.request(&request("POST", "/api", &[("Authorization", "Bearer s3cret")], body)).await.unwrap();
    assert_eq!(answer.json()["code"], 0, "{}", answer.text());
    assert_eq!(raw.frame().await, (0x81, b"by an event".to_vec()));
    for path in ["/livez", "/readyz"] {
        assert_eq!(get(port, path).await.unwrap().status, 200);
        assert_eq!(get(clients, path).await.unwrap().status, 426);
    }
    let page = get(port, "/metrics?token=s3cret").await.unwrap();
    assert!(page.text().contains("carillon_connections_open 1\n"), "{}", page.text());
    drop(connection);
}

#[tokio::test]
async fn an_api_for_everybody_needs_a_token() {
    let open = || Server::builder().mount_api("/api");
    let everywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let refused = open().listen(everywhere).start().await.err();
    assert!(matches!(refused, Some(BuildError::OpenApi(address)) if address == everywhere), "{refused:?}");
    let listener = TcpListener::bind(everywhere).unwrap();
    let address = listener.local_addr().unwrap();
    let refused = open().listener(listener).start().await.err();
    assert!(matches!(refused, Some(BuildError::OpenApi(of)) if of == address), "{refused:?}");
    let server = Running::start(open()).await;
    assert_eq!(get(server.address, "/api?action=stats").await.unwrap().status, 200);
    server.stopped().await;
    assert!(open().listen(everywhere).token("s3cret").start().await.is_ok());
}

#[tokio::test]
async fn what_would_leave_something_open_unnoticed_is_refused() {
    let start = async |builder: Builder| builder.start().await.unwrap_err();
    let builder = Server::builder;
    for (empty, what) in [
        (builder().token("").api((LOOPBACK, 0)), "token"),
        (builder().trusted_proxies(""), "trusted_proxies"),
        (builder().jwt_secret(""), "JWT_SECRET"),
        (builder().auth_key(""), "AUTH_KEY"),
        (builder().webhook("http://127.0.0.1:1/", ""), "WEBHOOK_SECRET"),
        (builder().webhook("", "secret"), "WEBHOOK_URL"),
        (builder().variable("JWT_PUBLIC_KEY_FILE", ""), "JWT_PUBLIC_KEY_FILE"),
    ] {
        let refused = start(empty).await;
        assert!(matches!(&refused, BuildError::Empty(name) if name == what), "{refused:?}");
        assert_eq!(refused.to_string(), format!("{what} is empty: leave it out where there is none"));
    }
    for name in ["HTTP_TOKEN", "TOKEN_FILE", "WS_PORT", "REDIS_URL", "MAX_MESSAGE", "TLS_CERT", "LOG"] {
        let refused = start(builder().variable(name, "1")).await;
        assert!(matches!(&refused, BuildError::OwnMethod(of) if of == name), "{refused:?}");
    }
    // With nothing at any path there is nothing, and not what the binary has.
    let server = Running::start(builder()).await;
    assert_eq!(Listener::refused(server.address, "/?channel[]=a").await.status, 404);
}

#[tokio::test]
async fn a_server_speaks_tls_and_reads_a_certificate_that_changes() {
    let files = Certificates::new();
    let client = files.client(&[&rustls::version::TLS12, &rustls::version::TLS13]);
    // As text, and as files, which are followed.
    let text = Server::builder().tls(files.read("server.pem"), files.read("server.key")).handle("/", echo);
    let text = Running::start(text).await;
    let paths = Server::builder().tls(files.path("server.pem"), files.path("server.key")).handle("/", echo);
    let paths = Running::start(paths).await;
    let mut shown = Vec::new();
    for server in [&text, &paths] {
        let (mut socket, certificate) = Listener::try_connect_tls(server.address, "/", client.clone())
            .await
            .unwrap_or_else(|refused| panic!("{refused:?}"));
        socket.say("hi").await;
        socket.hears_text("hi").await;
        socket.close().await;
        shown.push(certificate);
    }
    assert_eq!(shown[0], shown[1]);
    assert!(Listener::try_connect(text.address, "/").await.is_err());
    let refused = Server::builder().tls("/no/such.pem", "/no/such.key").start().await.err();
    assert!(refused.is_some_and(|error| error.to_string().contains("/no/such.pem")));
}

#[tokio::test]
async fn a_server_takes_sockets_that_are_open() {
    let (ws, api) = (TcpListener::bind((LOOPBACK, 0)).unwrap(), TcpListener::bind((LOOPBACK, 0)).unwrap());
    let (at, api_at) = (ws.local_addr().unwrap(), api.local_addr().unwrap());
    let server = Running::start(Server::builder().listener(ws).api_listener(api).handle("/", echo)).await;
    assert_eq!((server.address, server.api), (at, Some(api_at)));
    let mut client = Listener::connect(at, "/").await;
    client.say("hi").await;
    client.hears_text("hi").await;
    assert_eq!(get(api_at, "/livez").await.unwrap().status, 200);

    let taken = Server::builder().listen(at).handle("/", echo).start().await.err().unwrap();
    assert!(matches!(taken, BuildError::Start(_)) && taken.to_string().contains(&at.to_string()), "{taken}");
}

#[tokio::test]
async fn two_servers_of_one_program_are_two() {
    let one = Running::start(Server::builder().handle("/", echo)).await;
    let two = Running::start(Server::builder().handle("/", echo)).await;
    let mut client = Listener::connect(one.address, "/").await;
    assert_eq!(one.cluster.count().await.unwrap(), 1);
    assert_eq!(two.cluster.count().await.unwrap(), 0);
    const OPEN: &str = "carillon_connections_open";
    assert_eq!((one.metric(OPEN), two.metric(OPEN)), (1.0, 0.0));
    // One registry can't have the metrics of both.
    let refused = Server::builder().registry(one.registry.clone()).start().await.err();
    assert!(matches!(refused, Some(BuildError::Start(_))));
    two.stopped().await;
    client.say("still here").await;
    client.hears_text("still here").await;
}

#[tokio::test]
async fn a_server_serves_from_its_start_and_ends_in_order_when_it_runs() {
    let server = Server::builder().drain(Duration::ZERO, Duration::ZERO).handle("/", echo).start().await.unwrap();
    let address = server.address();
    let mut client = Listener::connect(address, "/").await;
    client.say("hi").await;
    client.hears_text("hi").await;
    let run = tokio::spawn(server.run_until(std::future::ready(())));
    assert_eq!(client.hears().await, Heard::Closed(1001, "node is stopping".to_owned()));
    drop(client);
    timeout(DEADLINE, run).await.expect("the server does not stop").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[test]
fn a_server_that_is_told_to_stop_by_its_program_touches_no_signals() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    runtime.block_on(async {
        let server = Server::builder().handle("/", echo).start().await.unwrap();
        server.run_until(std::future::ready(())).await;
    });
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT] {
        assert_eq!(caught >> (signal.as_raw() - 1) & 1, 0, "{signal:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_under_load_leaves_nobody_without_a_word() {
    const CLIENTS: usize = 100;
    let ended = Arc::new(AtomicUsize::new(0));
    let count = ended.clone();
    let mut server = Running::start(Server::builder().handle("/", move |handshake: Handshake| {
        let ended = count.clone();
        async move {
            let mut connection = handshake.accept().await?;
            while let Some(message) = connection.recv().await? {
                // An error: it is being closed, as is heard next.
                let _ = connection.push(message).await;
            }
            assert_eq!(connection.closed().map(|closed| closed.code), Some(1001));
            ended.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }
    }))
    .await;
    let crowd = Listener::crowd(server.address, "/", CLIENTS).await;
    // Everybody talks, and is talked to, until the end.
    let talking: Vec<_> = crowd
        .into_iter()
        .map(|mut client| {
            tokio::spawn(async move {
                let mut heard = 0u64;
                client.say("hi").await;
                loop {
                    match client.hears().await {
                        Heard::Text(text) => {
                            heard += 1;
                            if text == "hi" {
                                client.try_say("hi").await;
                            }
                        }
                        end => return (heard, end),
                    }
                }
            })
        })
        .collect();
    let publisher = {
        let cluster = server.cluster.clone();
        tokio::spawn(async move {
            while cluster.publish(Push::text(Target::All, "to all")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    eventually("there is traffic", DEADLINE, async || {
        if server.metric("carillon_deliveries_total") > 20.0 * CLIENTS as f64 { Ok(()) } else { Err("too little") }
    })
    .await;
    let address = server.address;
    server.stop();
    for client in talking {
        let (heard, end) = timeout(DEADLINE, client).await.expect("a client is left alone").unwrap();
        assert_eq!(end, Heard::Closed(1001, "node is stopping".to_owned()), "after {heard} messages");
    }
    publisher.abort();
    server.stopped().await;
    assert_eq!(ended.load(Ordering::Relaxed), CLIENTS, "handlers that have ended");
    assert!(Listener::try_connect(address, "/").await.is_err());
}

#[tokio::test]
async fn only_messages_keep_a_client_from_being_idle() {
    let builder = Server::builder().limits(quiet()).idle_timeout(Duration::from_secs(1));
    let mut lending = Lending::with(builder, Accept::new()).await;
    let (mut pinging, mut pinged) = lending.raw().await;
    let (mut speaking, mut spoken_to) = lending.raw().await;
    // What it is sent does not count either.
    let end = async {
        loop {
            pinging.send(&masked(0x89, b"")).await;
            pinged.push("for a silent client").await.ok();
            if let Ok(None) = pinged.recv_timeout(Duration::from_millis(50)).await {
                return;
            }
            speaking.send(&masked(0x81, b"here")).await;
            spoken_to.recv().await.unwrap().unwrap();
        }
    };
    timeout(DEADLINE, end).await.expect("nobody is idle");
    assert_eq!(pinged.closed().map(|closed| (closed.code, closed.cause)), Some((4010, "idle".to_owned())));
    assert_eq!(spoken_to.closed(), None);
    let (last, reason) = speaking.close_code().await.unwrap();
    assert_eq!((last, reason.as_str()), (4010, "idle timeout"));
}

#[tokio::test]
async fn clients_are_pinged_and_those_that_do_not_answer_end() {
    let limits = Limits { ping_interval: Duration::from_millis(200), ..Limits::default() };
    let mut lending = Lending::start(limits).await;
    let (mut raw, mut connection) = lending.raw().await;
    for _ in 0..5 {
        assert_eq!(raw.frame().await, (0x89, Vec::new()));
        raw.send(&masked(0x8a, b"")).await;
    }
    assert_eq!(connection.closed(), None);
    assert_eq!(next(&mut connection).await, Ok(None));
    assert_eq!(connection.closed().map(|closed| (closed.code, closed.cause)), Some((1006, "ping_timeout".to_owned())));
}

#[tokio::test]
async fn a_server_starts_without_its_redis_and_lets_nobody_in() {
    let config = RedisConfig { url: format!("redis://127.0.0.1:{}", free_port()), ..RedisConfig::default() };
    let limits = Limits { connect_timeout: Duration::from_millis(100), ..quiet() };
    let (handler, mut lent) = lender(Accept::new());
    let builder = Server::builder().limits(limits).redis_config(config).api((LOOPBACK, 0)).handle("/", handler);
    let server = Running::start(builder).await;
    assert_eq!(Listener::refused(server.address, "/").await.status, 503);
    assert!(lent.try_recv().is_err());
    assert!(matches!(server.cluster.count().await, Err(Error::Unavailable(_))));
    assert!(matches!(server.cluster.broadcast("x").await, Err(Error::Unavailable(_))));
    assert_eq!(get(server.api.unwrap(), "/readyz").await.unwrap().status, 503);
    assert_eq!(get(server.api.unwrap(), "/livez").await.unwrap().status, 200);
    assert!(matches!(carillon::Handle::default().count().await, Err(Error::Unavailable(_))));
}

#[tokio::test]
async fn a_stop_waits_for_the_delay_and_not_for_a_handler_that_hears_nothing() {
    let (stop, stopped) = oneshot::channel::<()>();
    let (handler, mut lent) = lender(Accept::new());
    let builder = Server::builder().limits(quiet()).handle("/", handler).drain(Duration::from_secs(60), Duration::ZERO);
    let server = builder.start().await.unwrap();
    let address = server.address();
    let run = tokio::spawn(server.run_until(async {
        let _ = stopped.await;
    }));
    let mut client = Listener::connect(address, "/").await;
    let connection = lent.recv().await.unwrap();
    drop(stop);
    // Within the delay everything goes on.
    let mut other = Listener::connect(address, "/").await;
    let mut heard = lent.recv().await.unwrap();
    other.say("hi").await;
    assert_eq!(next(&mut heard).await, Ok(Some("hi".into())));
    heard.push("hello").await.unwrap();
    other.hears_text("hello").await;
    // With nobody left there is nothing to wait for.
    heard.close(1000, "").await;
    assert_eq!(other.hears().await, Heard::Closed(1000, String::new()));
    drop(other);
    for _ in 0..5 {
        client.say("nobody listens").await;
    }
    assert!(connection.cluster().close(connection.id(), 1000, "").await.unwrap());
    assert_eq!(client.hears().await, Heard::Closed(1000, String::new()));
    drop(client);
    timeout(DEADLINE, run).await.expect("the server does not stop").unwrap();
    drop(connection);
}
