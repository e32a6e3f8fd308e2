//! Where clients are, behind proxies and without: what is believed, what is not, and how many connections an address has.

mod support;

use std::net::{IpAddr, SocketAddr};
use support::balancer::Balancer;
use support::http::{Answer, get};
use support::raw::{Raw, handshake, handshake_with};
use support::redis::free_port;
use support::{DEADLINE, Fleet, Listener, Node, eventually};

/// The only proxy that the nodes of these tests trust.
const PROXY: &str = "127.0.0.9";
/// Somebody else on this machine.
const STRANGER: &str = "127.0.0.7";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A node that tells each address once it has a second connection, by refusing that.
async fn telling(more: &[(&str, &str)]) -> Node {
    let mut environment = vec![("TRUSTED_PROXIES", PROXY), ("MAX_CONNECTIONS_PER_ADDRESS", "1")];
    environment.extend_from_slice(more);
    Node::start(&environment).await
}

/// One handshake, from an address, with bytes in front and header lines. An answer of 101 goes with its connection.
async fn shake(node: SocketAddr, from: &str, before: &[u8], lines: &str) -> Result<Raw, Answer> {
    let mut raw = Raw::connect_from(ip(from), node).await;
    raw.send(&[before, handshake_with("/", lines).as_bytes()].concat()).await;
    let head = raw.until(b"\r\n\r\n").await;
    if head.starts_with(b"HTTP/1.1 101 ") {
        return Ok(raw);
    }
    let head = String::from_utf8(head).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = head.lines().filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let mut answer = Answer { status, headers, body: Vec::new() };
    // A refusal is a line; a proxy keeps the connection after it.
    if answer.header("content-length") != Some("0") {
        answer.body = raw.until(b"\n").await;
    }
    Err(answer)
}

/// The address that a node takes a client for.
async fn taken_for(node: SocketAddr, from: &str, before: &[u8], lines: &str) -> String {
    // Where the address was another case's, until that connection's end was seen.
    let held = eventually("the address has a place", DEADLINE, async || {
        shake(node, from, before, lines).await.map_err(|answer| format!("{answer:?}"))
    })
    .await;
    let refused = shake(node, from, before, lines).await.err().expect("a second connection was taken");
    drop(held);
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.header("retry-after").is_some(), "{refused:?}");
    let text = refused.text().trim_end();
    text.strip_suffix(" has as many connections as one address may have").unwrap_or_else(|| panic!("{text}")).to_owned()
}

#[tokio::test]
async fn headers_count_from_a_trusted_proxy_alone() {
    let node = telling(&[]).await;
    for (from, lines, wanted) in [
        (STRANGER, "", STRANGER),
        (STRANGER, "X-Real-IP: 192.0.2.1\r\nX-Forwarded-For: 192.0.2.2\r\n", STRANGER),
        (PROXY, "", PROXY),
        (PROXY, "X-Real-IP: 192.0.2.3\r\n", "192.0.2.3"),
        (PROXY, "x-real-ip: ::ffff:192.0.2.4\r\n", "192.0.2.4"),
        (PROXY, "X-Forwarded-For: 6.6.6.6, 192.0.2.5, 127.0.0.9\r\n", "192.0.2.5"),
        (PROXY, "X-Forwarded-For: 6.6.6.6\r\nX-Real-IP: 192.0.2.6\r\n", "192.0.2.6"),
        (PROXY, "X-Forwarded-For: 2001:db8::1\r\n", "2001:db8::1"),
    ] {
        assert_eq!(taken_for(node.ws(), from, b"", lines).await, wanted, "{from} {lines}");
    }
}

#[tokio::test]
async fn the_header_can_be_named() {
    let node = telling(&[("CLIENT_ADDRESS_HEADER", "x-forwarded-for")]).await;
    let lines = "X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.1\r\n";
    assert_eq!(taken_for(node.ws(), PROXY, b"", lines).await, "192.0.2.1");
}

#[tokio::test]
async fn the_directory_is_told_the_clients_address() {
    let fleet = Fleet::start(1, &[("TRUSTED_PROXIES", PROXY)]).await;
    let _held = shake(fleet.nodes[0].ws(), PROXY, b"", "X-Real-IP: 192.0.2.77\r\n").await.unwrap();
    let mut resp = fleet.resp().await;
    let keys = resp.keys("carillon:{n*}:*:connections").await;
    let mut kept = Vec::new();
    for key in &keys {
        kept.extend(resp.command(&["HVALS", key]).await.texts());
    }
    assert!(kept.iter().any(|details| details.contains(r#""address":"192.0.2.77""#)), "{kept:?}");
}

/// Version 2 of the PROXY protocol, for a TCP client over IPv4.
fn version_2(client: [u8; 4]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend_from_slice(&client);
    header.extend_from_slice(&[127, 0, 0, 1, 0x12, 0x34, 0, 80]);
    header
}

#[tokio::test]
async fn the_proxy_protocol_names_the_client_on_both_ports() {
    let node = telling(&[("PROXY_PROTOCOL", "true")]).await;
    let version_1 = b"PROXY TCP4 192.0.2.1 127.0.0.1 4660 80\r\n";
    let own_check = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
    for (before, lines, wanted) in [
        (&version_1[..], "", "192.0.2.1"),
        (&version_2([192, 0, 2, 2]), "", "192.0.2.2"),
        // Its client is no proxy that is trusted.
        (&version_2([192, 0, 2, 3]), "X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n", "192.0.2.3"),
        (own_check, "", PROXY),
        (b"PROXY UNKNOWN\r\n", "", PROXY),
    ] {
        assert_eq!(taken_for(node.ws(), PROXY, before, lines).await, wanted, "{before:?}");
    }
    // However it is cut into pieces on its way.
    for before in [&version_1[..], &version_2([192, 0, 2, 1])] {
        let mut raw = Raw::connect_from(ip(PROXY), node.http()).await;
        for byte in [before, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"].concat() {
            raw.send(&[byte]).await;
            tokio::task::yield_now().await;
        }
        assert_eq!(raw.answer().await.unwrap().status, 200, "{before:?}");
    }
    let mut http = Raw::connect_from(ip(PROXY), node.http()).await;
    http.send(&version_2([192, 0, 2, 1])).await;
    http.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(http.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn a_client_whose_proxy_does_not_know_it_is_not_believed() {
    let node = telling(&[("PROXY_PROTOCOL", "true")]).await;
    let unix = [b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\xd8", &[b'x'; 216][..]].concat();
    let unspecified = b"\r\n\r\n\0\r\nQUIT\n\x21\0\0\0";
    for before in [&b"PROXY UNKNOWN\r\n"[..], &unix, unspecified] {
        let forged = "X-Real-IP: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n";
        assert_eq!(taken_for(node.ws(), PROXY, before, forged).await, PROXY, "{before:?}");
    }
}

#[tokio::test]
async fn no_client_of_a_proxy_is_an_operator_of_this_machine() {
    // Its address may be the proxy's own loopback, on whichever machine that is.
    let node = Node::start(&[("TRUSTED_PROXIES", PROXY), ("PROXY_PROTOCOL", "true")]).await;
    let named = version_2([127, 0, 0, 1]);
    for before in [&b"PROXY TCP4 127.0.0.1 127.0.0.1 4660 80\r\n"[..], b"PROXY UNKNOWN\r\n", &named] {
        let mut raw = Raw::connect_from(ip(PROXY), node.http()).await;
        raw.send(&[before, b"POST /admin/status HTTP/1.1\r\nHost: x\r\n\r\n"].concat()).await;
        assert_eq!(raw.answer().await.unwrap().status, 401, "{before:?}");
    }
    let mut raw = Raw::connect_from(ip(STRANGER), node.http()).await;
    raw.send(b"POST /admin/status HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert_eq!(raw.answer().await.unwrap().status, 200);
}

#[tokio::test]
async fn who_is_no_trusted_proxy_has_no_header_read_and_needs_none() {
    let node = telling(&[("PROXY_PROTOCOL", "true")]).await;
    assert_eq!(taken_for(node.ws(), STRANGER, b"", "").await, STRANGER);
    let refused = shake(node.ws(), STRANGER, b"PROXY TCP4 6.6.6.6 127.0.0.1 1 2\r\n", "").await.err().unwrap();
    assert_eq!(refused.status, 400);
}

#[tokio::test]
async fn a_trusted_proxy_without_its_header_is_hung_up_on() {
    let node = telling(&[("PROXY_PROTOCOL", "true"), ("HANDSHAKE_TIMEOUT", "1s")]).await;
    let long = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
    for port in [node.ws(), node.http()] {
        // The last one says nothing, until its time is over.
        for bytes in [handshake("/").as_bytes(), b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff", &long, b"PROXY", b""] {
            let mut raw = Raw::connect_from(ip(PROXY), port).await;
            raw.send(bytes).await;
            assert_eq!(raw.rest().await, b"", "{bytes:?}");
        }
    }
    assert_eq!(get(node.http(), "/livez").await.unwrap().status, 200);
}

#[tokio::test]
async fn an_address_gets_its_places_back_however_its_connections_end() {
    let node = telling(&[]).await;
    let first = Listener::connect(node.ws(), "/").await;
    let refused = Listener::try_connect(node.ws(), "/").await.err().unwrap();
    assert_eq!(refused.status, 429);
    // Another address isn't concerned.
    drop(shake(node.ws(), STRANGER, b"", "").await.unwrap());
    first.close().await;
    eventually("the closed connection's place is free", DEADLINE, async || {
        Listener::try_connect(node.ws(), "/").await.map(drop).map_err(|refused| refused.status)
    })
    .await;
    let page = get(node.http(), "/metrics").await.unwrap();
    let counted = page.text().lines().find_map(|line| {
        line.strip_prefix("carillon_connections_refused_total{reason=\"address\"} ")?.parse::<u64>().ok()
    });
    assert!(counted >= Some(1), "{counted:?}");
}

#[tokio::test]
async fn a_handshake_that_fails_keeps_no_place() {
    let away = format!("redis://127.0.0.1:{}", free_port());
    let mut node =
        Node::spawn(&[("REDIS_URL", &away), ("CONNECT_TIMEOUT", "50ms"), ("MAX_CONNECTIONS_PER_ADDRESS", "1")]);
    node.listening().await;
    for _ in 0..3 {
        assert_eq!(Listener::try_connect(node.ws(), "/").await.err().unwrap().status, 503);
    }
}

/// What the replaced server's users have in front of it, but for the numbers of the ports.
const NGINX: &str = "\
server {
        listen       127.0.0.1:LISTEN;
        server_name  server_name.com;

        location / {
            proxy_pass http://127.0.0.1:20000;
            proxy_redirect off;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection \"upgrade\";
            proxy_set_header X-real-ip $remote_addr;
            proxy_set_header APP_ID MSwoole;
        }
}
";

/// A real nginx with that.
async fn nginx_before(node: SocketAddr) -> Balancer {
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = NGINX.replace("LISTEN", &address.port().to_string()).replace("20000", &node.port().to_string());
    Balancer::nginx(&format!("events {{}}\nhttp {{ access_log off;\n{server}}}\n"), address, address).await
}

#[tokio::test]
async fn behind_nginx_as_the_replaced_server_was_the_client_is_known_and_can_not_forge_its_address() {
    let node = Node::start(&[("TRUSTED_PROXIES", "127.0.0.1"), ("MAX_CONNECTIONS_PER_ADDRESS", "1")]).await;
    let nginx = nginx_before(node.ws()).await;
    for forged in
        ["", "X-Real-IP: 6.6.6.6\r\n", "X-Forwarded-For: 6.6.6.6\r\nX-real-ip: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n"]
    {
        assert_eq!(taken_for(nginx.ws, STRANGER, b"", forged).await, STRANGER, "{forged}");
    }
    // Another client has places of its own, and messages go both ways.
    let mut listener = Listener::connect(nginx.ws, "/?channel[]=news").await;
    node.api().push("news", "hello").await.unwrap();
    listener.hears_text("hello").await;
    listener.say("back").await;
    listener.hears_text("back").await;
}
