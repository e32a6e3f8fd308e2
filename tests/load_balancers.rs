//! Three nodes behind nginx and behind haproxy, with the configurations in `deploy/`: through which everything goes, which
//! notice a node that is killed, and which lose nobody when one stops.

mod support;

use futures_util::future::join_all;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::balancer::{Balancer, Kind};
use support::device::metric;
use support::eventually::{meanwhile, same};
use support::http::{Http, get, request};
use support::raw::{Raw, handshake_with};
use support::ws::{all_hear, nobody_is_gone};
use support::{DEADLINE, Fleet, Heard, Listener, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Clients of a test: some for each node.
const CROWD: usize = 12;

/// A push by POST, as backends should send it through a load balancer.
async fn push(http: SocketAddr, message: &str) {
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = format!("action=push&to=channel&channel=news&message={message}");
    let answer =
        Http::connect(http).await.unwrap().request(&request("POST", "/", &form, body.as_bytes())).await.unwrap();
    assert_eq!(answer.json()["status"], true, "{}", answer.text());
}

/// How many connections each node has.
async fn connections(fleet: &Fleet) -> Vec<u64> {
    join_all(fleet.nodes.iter().map(|node| metric(node, "carillon_connections_open"))).await
}

/// A crowd in one channel, some of it on each node.
async fn crowd(balancer: &Balancer, fleet: &Fleet) -> Vec<Listener> {
    let crowd = Listener::crowd(balancer.ws, "/?channel[]=news", CROWD).await;
    let spread = connections(fleet).await;
    assert!(spread.iter().all(|count| *count > 0) && spread.iter().sum::<u64>() == CROWD as u64, "{spread:?}");
    crowd
}

async fn clients_and_backends_are_spread_over_the_nodes(kind: Kind) {
    let fleet = Fleet::start(3, &[]).await;
    let balancer = Balancer::before(kind, &fleet.nodes).await;
    let mut crowd = crowd(&balancer, &fleet).await;
    for number in 0..CROWD {
        push(balancer.http, &number.to_string()).await;
        all_hear(&mut crowd, &number.to_string()).await;
    }
    for node in &fleet.nodes {
        let pushed = metric(node, r#"carillon_pushes_total{dialect="actions",target="channel"}"#).await;
        assert!(pushed > 0, "a node was asked for nothing");
    }
    crowd[0].say("and back").await;
    crowd[0].hears_text("and back").await;
    // What is no upgrade does not look like one to the node.
    let page = get(balancer.ws, "/").await.unwrap();
    assert!((400..500).contains(&page.status), "{page:?}");
    for own in ["/metrics", "/livez", "/readyz", "/admin/status", "/admin/stop"] {
        assert_eq!(get(balancer.http, own).await.unwrap().status, 404, "{own}");
    }
    nobody_is_gone(&mut crowd).await;
}

async fn a_killed_nodes_clients_come_back_to_the_others(kind: Kind) {
    let mut fleet = Fleet::start(3, &[]).await;
    let balancer = Balancer::before(kind, &fleet.nodes).await;
    let mut crowd = crowd(&balancer, &fleet).await;
    let lost = usize::try_from(connections(&fleet).await[0]).unwrap();
    fleet.nodes[0].kill();
    let mut came_back = 0;
    eventually("who was connected to it has come back", DEADLINE, async || {
        for listener in &mut crowd {
            if listener.is_gone().await {
                // At once, and at the first attempt: the load balancer finds a node that lives.
                *listener = Listener::connect(balancer.ws, "/?channel[]=news").await;
                came_back += 1;
            }
        }
        same(came_back, lost)
    })
    .await;
    fleet.nodes.remove(0);
    same(connections(&fleet).await.iter().sum(), CROWD as u64).unwrap();
    for number in 0..CROWD {
        push(balancer.http, &number.to_string()).await;
        all_hear(&mut crowd, &number.to_string()).await;
    }
}

async fn a_node_that_stops_refuses_nobody(kind: Kind) {
    let mut fleet = Fleet::start(3, &[("DRAIN_DELAY", "3s"), ("DRAIN_PERIOD", "1s")]).await;
    let balancer = Balancer::before(kind, &fleet.nodes).await;
    let mut crowd = crowd(&balancer, &fleet).await;
    let leaving = usize::try_from(connections(&fleet).await[0]).unwrap();
    let mut stopping = fleet.nodes.remove(0);
    stopping.terminate();
    let mut newcomers = 0;
    meanwhile(async { assert!(stopping.ended().await.success()) }, async || {
        // One that is refused fails the test.
        Listener::connect(balancer.ws, "/?channel[]=elsewhere").await.close().await;
        newcomers += 1;
    })
    .await;
    assert!(newcomers > 0);
    let mut sent_away = 0;
    eventually("who was connected to it was sent away", DEADLINE, async || {
        for listener in &mut crowd {
            if let Some(heard) = futures_util::future::poll_immediate(listener.heard()).await {
                assert!(matches!(&heard, Heard::Closed(1001, _)), "{heard:?}");
                *listener = Listener::connect(balancer.ws, "/?channel[]=news").await;
                sent_away += 1;
            }
        }
        same(sent_away, leaving)
    })
    .await;
    for number in 0..CROWD {
        push(balancer.http, &number.to_string()).await;
        all_hear(&mut crowd, &number.to_string()).await;
    }
}

/// Something in a node's place that is well, takes each request whole, and hangs up without an answer: as a node does that is
/// killed in that moment. It counts what it took.
async fn takes_and_says_nothing(taken: Arc<AtomicUsize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let taken = Arc::clone(&taken);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await? == 0 {
                        return Ok(());
                    }
                }
                if head.starts_with(b"GET /livez ") || head.starts_with(b"GET /readyz ") {
                    return stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
                taken.fetch_add(1, Ordering::SeqCst);
                Ok::<_, io::Error>(())
            });
        }
    });
    address
}

async fn a_push_is_never_sent_twice(kind: Kind) {
    let taken = Arc::new(AtomicUsize::new(0));
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let address = takes_and_says_nothing(Arc::clone(&taken)).await;
        nodes.push((address, address));
    }
    // Each of them fails, and none is given up for it.
    let balancer = Balancer::at(kind, &nodes, |configuration| match kind {
        Kind::Nginx => configuration.with("max_fails=1", "max_fails=0"),
        Kind::Haproxy => configuration,
    })
    .await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let requests = [
        request("POST", "/", &form, b"action=push&to=all&message=once"),
        request("POST", "/?action=push&to=all&message=once", &[], b""),
        request(
            "POST",
            "/",
            &[("content-type", "application/json")],
            br#"{"event":"broadcast","broadcast":{"msg":"once"}}"#,
        ),
        request("GET", "/?action=push&to=all&message=once", &[], b""),
        request("PUT", "/?to=all&message=once&action=push", &[], b""),
        request("GET", "/?event=broadcast&broadcast%5Bmsg%5D=once", &[], b""),
        request("GET", "/?broadcast[msg]=once&event=getIds,broadcast", &[], b""),
    ];
    for sent in requests {
        let answer = Http::connect(balancer.http).await.unwrap().request(&sent).await.unwrap();
        let sent = String::from_utf8_lossy(&sent);
        assert_eq!(answer.status, 502, "{sent}");
        assert_eq!(taken.swap(0, Ordering::SeqCst), 1, "{sent}");
    }
    // What only reads is asked of another node, where the load balancer can tell.
    let answer = get(balancer.http, "/?action=countConnections").await.unwrap();
    assert_eq!(answer.status, 502);
    let tried = taken.load(Ordering::SeqCst);
    assert_eq!(tried, if matches!(kind, Kind::Nginx) { 3 } else { 1 });
}

async fn only_the_silent_are_cut_off(kind: Kind) {
    let shorter = |configuration: support::balancer::Configuration| match kind {
        Kind::Nginx => configuration
            .with("proxy_read_timeout 75s", "proxy_read_timeout 2s")
            .with("proxy_send_timeout 75s", "proxy_send_timeout 2s"),
        Kind::Haproxy => configuration.with("timeout tunnel 75s", "timeout tunnel 2s"),
    };
    let pinging = Fleet::start(1, &[("PING_INTERVAL", "500ms")]).await;
    let silent = Fleet::start(1, &[("PING_INTERVAL", "0")]).await;
    let before_pinging = Balancer::changed(kind, &pinging.nodes, shorter).await;
    let before_silent = Balancer::changed(kind, &silent.nodes, shorter).await;
    // As long as the other one is not cut off, this one may be younger than the time-out.
    let mut kept = Listener::connect(before_pinging.ws, "/?channel[]=news").await;
    let mut silent = Listener::connect(before_silent.ws, "/").await;
    // A client answers pings while it listens.
    tokio::select! {
        heard = kept.heard() => panic!("who is pinged heard {heard:?}"),
        heard = silent.hears() => assert!(matches!(heard, Heard::Lost), "{heard:?}"),
    }
    push(before_pinging.http, "still here").await;
    kept.hears_text("still here").await;
}

/// Where clients are, as the directory knows it.
async fn addresses(fleet: &Fleet) -> Vec<String> {
    let mut resp = fleet.resp().await;
    let mut found = Vec::new();
    for key in &resp.keys("carillon:{n*}:*:connections").await {
        for details in resp.command(&["HVALS", key]).await.texts() {
            let details: serde_json::Value = serde_json::from_str(&details).unwrap();
            found.push(details["address"].as_str().unwrap().to_owned());
        }
    }
    found
}

/// A client at `from` that says it was elsewhere is known to be there.
async fn the_client_is_known(fleet: &Fleet, balancer: &Balancer, from: &str) {
    let mut raw = Raw::connect_from(from.parse::<IpAddr>().unwrap(), balancer.ws).await;
    let forged = "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n";
    raw.send(handshake_with("/", forged).as_bytes()).await;
    let head = raw.until(b"\r\n\r\n").await;
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
    assert_eq!(addresses(fleet).await, [from]);
}

async fn clients_are_known_by_either_header(kind: Kind) {
    for header in ["auto", "x-forwarded-for"] {
        let fleet = Fleet::start(1, &[("TRUSTED_PROXIES", "127.0.0.1"), ("CLIENT_ADDRESS_HEADER", header)]).await;
        let balancer = Balancer::before(kind, &fleet.nodes).await;
        the_client_is_known(&fleet, &balancer, "127.0.0.7").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn haproxy_names_its_clients_by_the_proxy_protocol() {
    let fleet = Fleet::start(3, &[("PROXY_PROTOCOL", "true"), ("TRUSTED_PROXIES", "127.0.0.9")]).await;
    let balancer = Balancer::changed(Kind::Haproxy, &fleet.nodes, |configuration| {
        // As docs/load-balancers.md says, from an address of its own.
        configuration
            .with("default-server check", "source 127.0.0.9\n    default-server send-proxy-v2 check-send-proxy check")
            .with("http-request set-header X-Real-IP %[src]", "")
            .with("option forwardfor", "")
    })
    .await;
    // Checks of health that could not be read would have taken all nodes out by then.
    let mut listener = Listener::connect(balancer.ws, "/?channel[]=news").await;
    push(balancer.http, "hello").await;
    listener.hears_text("hello").await;
    listener.close().await;
    eventually("the directory is empty", DEADLINE, async || same(addresses(&fleet).await, Vec::new())).await;
    the_client_is_known(&fleet, &balancer, "127.0.0.7").await;
}

/// The tests of this file for one program each.
macro_rules! behind {
    ($($test:ident: $nginx:ident, $haproxy:ident;)*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $nginx() {
            $test(Kind::Nginx).await;
        }

        #[tokio::test(flavor = "multi_thread")]
        async fn $haproxy() {
            $test(Kind::Haproxy).await;
        }
    )*};
}

behind! {
    clients_and_backends_are_spread_over_the_nodes: nginx_spreads_clients_and_backends, haproxy_spreads_clients_and_backends;
    a_killed_nodes_clients_come_back_to_the_others: nginx_notices_a_killed_node, haproxy_notices_a_killed_node;
    a_push_is_never_sent_twice: nginx_sends_no_push_twice, haproxy_sends_no_push_twice;
    a_node_that_stops_refuses_nobody: nginx_refuses_nobody_while_a_node_stops, haproxy_refuses_nobody_while_a_node_stops;
    only_the_silent_are_cut_off: nginx_cuts_off_the_silent_only, haproxy_cuts_off_the_silent_only;
    clients_are_known_by_either_header: nginx_tells_where_clients_are, haproxy_tells_where_clients_are;
}
