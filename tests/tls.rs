//! TLS on the node's own ports: who is let in, how the certificate is exchanged, what is said of a wrong one.

mod support;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use support::certificates::Certificates;
use support::http::Http;
use support::node::{Finished, carillon, finish};
use support::redis::free_port;
use support::{DEADLINE, Heard, Listener, Node, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// A node whose WebSocket port speaks TLS.
async fn node(certificates: &Certificates, more: &[(&str, &str)]) -> Node {
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let mut variables = vec![("TLS_CERT", certificate.as_str()), ("TLS_KEY", key.as_str())];
    variables.extend_from_slice(more);
    Node::start(&variables).await
}

async fn connect(node: &Node, target: &str, tls: &Arc<ClientConfig>) -> (Listener, Vec<u8>) {
    Listener::try_connect_tls(node.ws(), target, tls.clone()).await.unwrap_or_else(|refused| panic!("{refused:?}"))
}

async fn metric(node: &Node, line: &str) -> Option<String> {
    let page = support::http::get(node.http(), "/metrics").await.unwrap();
    page.text().lines().find_map(|found| Some(found.strip_prefix(line)?.trim().to_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_both_versions_connect_get_pushes_and_are_answered() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[]).await;
    for version in [&TLS12, &TLS13] {
        let (mut client, _) = connect(&node, "/?channel[]=news", &certificates.client(&[version])).await;
        node.api().push("news", "first").await.unwrap();
        client.hears_text("first").await;
        // Many records in both directions.
        let long = "ї".repeat(500_000);
        client.say(&long).await;
        client.hears_text(&long).await;
        for number in 0..200 {
            node.api().push("news", &number.to_string()).await.unwrap();
        }
        for number in 0..200 {
            client.hears_text(&number.to_string()).await;
        }
        client.close().await;
    }
    eventually("both are gone", DEADLINE, async || match node.api().count().await {
        Ok(0) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
}

/// Connects, has a whole request answered, and says what kind of TLS handshake it was.
async fn come_and_go(node: &Node, tls: &Arc<ClientConfig>) -> Option<HandshakeKind> {
    let stream = TcpStream::connect(node.ws()).await.unwrap();
    let mut stream = TlsConnector::from(tls.clone()).connect(node.ws().ip().into(), stream).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
    // Tickets come before the answer.
    stream.read_to_end(&mut Vec::new()).await.unwrap();
    stream.get_ref().1.handshake_kind()
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_come_back_with_what_they_were_given_as_long_as_the_certificate_stays() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[]).await;
    // Once more of them than rustls would remember without tickets.
    for (version, year, clients) in [(&TLS12, 4000, 2), (&TLS13, 4001, 300)] {
        let clients: Vec<_> = (0..clients).map(|_| certificates.client(&[version])).collect();
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed] {
            for tls in &clients {
                assert_eq!(come_and_go(&node, tls).await, Some(expected), "{version:?}");
            }
        }
        certificates.renew("server", year);
        node.signal(rustix::process::Signal::HUP);
        eventually("the certificate is exchanged", DEADLINE, async || {
            // Somebody who was here before is shown the new one.
            match come_and_go(&node, &clients[0]).await {
                Some(HandshakeKind::Full) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_version_and_what_is_no_tls_are_refused_and_counted() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[]).await;
    // A ClientHello of TLS 1.1 (RFC 4346, section 7.4.1.2) with one cipher suite.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(hello);
    let mut stream = TcpStream::connect(node.ws()).await.unwrap();
    stream.write_all(&record).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    // A fatal alert, and no handshake message.
    assert_eq!((answer.first(), answer.get(5)), (Some(&21), Some(&2)), "{answer:x?}");

    let mut stream = TcpStream::connect(node.ws()).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:x?}");
    eventually("both are counted", DEADLINE, async || {
        match metric(&node, "carillon_tls_handshakes_failed_total").await.as_deref() {
            Some("2") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_certificate_is_taken_under_load_and_nobody_is_dropped() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[]).await;
    let tls = certificates.client(&[&TLS13]);
    let (mut old, first) = connect(&node, "/?channel[]=news", &tls).await;
    let api = node.api();
    let pushing = tokio::spawn(async move {
        for number in 0.. {
            api.push("news", &number.to_string()).await.unwrap();
            if number == 500 {
                return;
            }
        }
    });
    // Once the files are looked at by themselves, once because somebody says so.
    let mut shown = vec![first];
    for (year, told) in [(4000, true), (4001, false)] {
        certificates.renew("server", year);
        if told {
            node.signal(rustix::process::Signal::HUP);
        }
        let fresh = eventually("a new client is shown the new certificate", DEADLINE, async || {
            let (_, fresh) = connect(&node, "/", &tls).await;
            if shown.contains(&fresh) { Err("an older one") } else { Ok(fresh) }
        })
        .await;
        shown.push(fresh);
    }
    pushing.await.unwrap();
    for number in 0..=500 {
        old.hears_text(&number.to_string()).await;
    }
    // The first second of 4001.
    let expiry = metric(&node, "carillon_tls_certificate_expiry_timestamp_seconds").await;
    assert_eq!(expiry.as_deref(), Some("64092211200"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_pair_is_named_at_start_and_refused_later() {
    let certificates = Certificates::new();
    certificates.renew("other", 4000);
    certificates.write("text", "no pem at all");
    certificates.write("empty", "");
    let path = |name: &str| certificates.path(name);
    let cases = [
        ("server.pem", "", "TLS_KEY"),
        ("", "server.key", "TLS_CERT"),
        ("server.pem", "missing", "No such file"),
        ("missing", "server.key", "No such file"),
        ("text", "server.key", "no certificate in PEM form"),
        ("empty", "server.key", "no certificate in PEM form"),
        ("server.pem", "text", "no private key in PEM form"),
        ("server.pem", "server.pem", "no private key in PEM form"),
        ("server.pem", "other.key", "can't be used together"),
    ];
    for (certificate, key, expected) in cases {
        let full = |name: &str| if name.is_empty() { String::new() } else { path(name) };
        let (certificate, key) = (full(certificate), full(key));
        let ports = [("WS_PORT", "0"), ("HTTP_PORT", "0"), ("TLS_CERT", &certificate), ("TLS_KEY", &key)];
        let Finished { code, stdout, stderr } = finish(carillon(&[], &ports)).await;
        let said = format!("{stdout}{stderr}");
        assert!(code != 0 && said.contains(expected), "{certificate} {key}: {code} {said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }

    // While it runs a wrong one is said, and the one before stays.
    let node = node(&certificates, &[]).await;
    let tls = certificates.client(&[&TLS13]);
    let (_, before) = connect(&node, "/", &tls).await;
    certificates.write("server.key", &certificates.read("other.key"));
    node.signal(rustix::process::Signal::HUP);
    eventually("the wrong pair is refused", DEADLINE, async || {
        match metric(&node, "carillon_tls_reloads_total{result=\"refused\"}").await.as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(connect(&node, "/", &tls).await.1, before);
    certificates.write("server.pem", &certificates.read("other.pem"));
    node.signal(rustix::process::Signal::HUP);
    eventually("the right pair is taken", DEADLINE, async || {
        let (_, now) = connect(&node, "/", &tls).await;
        if now == before { Err("the one before") } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pair_may_be_given_itself_and_the_http_port_may_speak_tls_too() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.read("server.pem"), certificates.path("server.key"));
    let variables = [("TLS_CERT", certificate.as_str()), ("TLS_KEY_FILE", &key), ("HTTP_TLS", "true")];
    let mut variables = variables.to_vec();
    variables.extend([("WS_HOST", "127.0.0.1"), ("METRICS_PORT", "0")]);
    let mut node = Node::spawn(&variables);
    node.listening().await;
    let tls = certificates.client(&[&TLS12, &TLS13]);
    let (mut client, _) = connect(&node, "/?channel[]=news", &tls).await;
    let stream = TcpStream::connect(node.http()).await.unwrap();
    let stream = TlsConnector::from(tls).connect(node.http().ip().into(), stream).await.unwrap();
    let mut https = Http::over(stream);
    let pushed = https.get("/?action=push&to=channel&channel=news&message=hello").await.unwrap().json();
    assert_eq!(pushed["status"], true);
    client.hears_text("hello").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_ends_its_tls_is_told_the_end_in_tls() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[]).await;
    for version in [&TLS12, &TLS13] {
        let stream = TcpStream::connect(node.ws()).await.unwrap();
        let connector = TlsConnector::from(certificates.client(&[version]));
        let mut stream = connector.connect(node.ws().ip().into(), stream).await.unwrap();
        let request = "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.unwrap());
        }
        assert!(answer.starts_with(b"HTTP/1.1 101"));
        stream.shutdown().await.unwrap();
        // An end that was not said is an error here: the stream may have been cut.
        let rest = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer)).await.unwrap();
        assert!(rest.is_ok(), "{version:?} {rest:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_over_tls_is_closed_and_costs_nobody_else() {
    let certificates = Certificates::new();
    let node = node(&certificates, &[("MAX_UNSENT", "256KiB")]).await;
    let tls = certificates.client(&[&TLS13]);
    let (mut slow, _) = connect(&node, "/?channel[]=news", &tls).await;
    let (mut quick, _) = connect(&node, "/?channel[]=news", &tls).await;
    let long = "x".repeat(8_000);
    let reading = tokio::spawn(async move {
        let mut heard = 0;
        loop {
            match quick.hears().await {
                Heard::Text(text) if text == "end" => return heard,
                Heard::Text(_) => heard += 1,
                other => panic!("{other:?}"),
            }
        }
    });
    let mut pushed = 0;
    eventually("the slow reader is closed", DEADLINE, async || {
        for _ in 0..50 {
            node.api().push("news", &long).await.unwrap();
            pushed += 1;
        }
        match metric(&node, "carillon_slow_consumers_total").await.as_deref() {
            Some("1") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    node.api().push("news", "end").await.unwrap();
    assert_eq!(reading.await.unwrap(), pushed);
    // What it gets when it reads at last is whole frames in order, then its close frame.
    loop {
        match slow.hears().await {
            Heard::Text(text) => assert_eq!(text.len(), long.len()),
            Heard::Closed(code, _) => break assert_eq!(code, 4008),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_asks_the_node_of_this_machine_over_tls_whatever_the_name_in_its_certificate() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let ports = [free_port().to_string(), free_port().to_string()];
    let https = [("TLS_CERT", certificate.as_str()), ("TLS_KEY", &key), ("HTTP_TLS", "true"), ("HTTP_PORT", &ports[0])];
    // Not a name of the certificate's, whose authority the system does not know either.
    let of_its_own = [https[0], https[1], https[2], https[3], ("HTTP_HOST", "127.0.0.2")];
    let with_metrics = [https[0], https[1], https[2], ("METRICS_PORT", &ports[1])];
    let shared =
        [https[0], https[1], https[3], ("HTTP_HOST", "127.0.0.2"), ("WS_HOST", "127.0.0.2"), ("WS_PORT", &ports[0])];
    for environment in [&of_its_own[..], &with_metrics, &shared] {
        let mut node = Node::spawn(environment);
        node.listening().await;
        let Finished { code, stdout, stderr } = finish(carillon(&["health"], environment)).await;
        assert_eq!((code, stdout.as_str()), (0, "ready\n"), "{environment:?} {stderr}");
    }
    // A node that is named is one that has to prove who it is.
    let mut node = Node::spawn(&of_its_own);
    node.listening().await;
    let url = format!("https://127.0.0.2:{}/", ports[0]);
    let ca = certificates.path("ca.pem");
    let named = finish(carillon(&["health", "--api", &url], &[("SSL_CERT_FILE", &ca)])).await;
    assert_eq!(named.code, 3, "{}", named.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_comes_with_attributes_works_and_is_never_shown() {
    let certificates = Certificates::new();
    let key = format!("Bag Attributes\n    friendlyName: server\n{}", certificates.read("server.key"));
    certificates.write("bag.key", &key);
    certificates.write("broken.key", &key.replace("-----END", "END"));
    let (certificate, bag) = (certificates.path("server.pem"), certificates.path("bag.key"));
    let mut node = Node::spawn(&[("TLS_CERT", &certificate), ("TLS_KEY_FILE", &bag), ("WS_HOST", "127.0.0.1")]);
    node.listening().await;
    connect(&node, "/", &certificates.client(&[&TLS13])).await;
    let broken = certificates.path("broken.key");
    let environment =
        [("WS_PORT", "0"), ("HTTP_PORT", "0"), ("TLS_CERT", certificate.as_str()), ("TLS_KEY_FILE", &broken)];
    let Finished { code, stdout, stderr } = finish(carillon(&[], &environment)).await;
    let (said, secret) = (format!("{stdout}{stderr}"), key.lines().nth(3).unwrap());
    assert!(code != 0 && said.contains("no private key in PEM form") && !said.contains(secret), "{code} {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_without_its_first_and_last_line_is_not_shown_as_a_path_that_does_not_exist() {
    let certificates = Certificates::new();
    let key: String = certificates.read("server.key").lines().filter(|line| !line.starts_with('-')).collect();
    let certificate = certificates.path("server.pem");
    for (certificate, key) in [(&certificate, &key), (&key, &key)] {
        let environment = [("WS_PORT", "0"), ("HTTP_PORT", "0"), ("TLS_CERT", certificate), ("TLS_KEY", key)];
        let Finished { code, stdout, stderr } = finish(carillon(&[], &environment)).await;
        let said = format!("{stdout}{stderr}");
        assert!(code != 0 && said.contains("not shown") && !said.contains(&key[..20]), "{code} {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_s_command_speaks_tls_to_the_node_that_has_the_certificate_and_to_no_other() {
    let certificates = Certificates::new();
    certificates.renew("other", 4000);
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let port = free_port().to_string();
    let https = [("TLS_CERT", certificate.as_str()), ("TLS_KEY", &key), ("HTTP_TLS", "true"), ("HTTP_PORT", &port)];
    let environment = [https[0], https[1], https[2], https[3], ("HTTP_TOKEN", "secret"), ("HTTP_HOST", "127.0.0.2")];
    let mut node = Node::spawn(&environment);
    node.listening().await;
    let Finished { code, stdout, stderr } = finish(carillon(&["status", "--lang", "en"], &environment)).await;
    assert!(code == 0 && stdout.contains("PID"), "{code} {stdout} {stderr}");
    let other = [certificates.path("other.pem"), certificates.path("other.key")];
    let mut elsewhere = environment;
    (elsewhere[0].1, elsewhere[1].1) = (&other[0], &other[1]);
    let refused = finish(carillon(&["status", "--lang", "en"], &elsewhere)).await;
    assert_eq!(refused.code, 3, "{} {}", refused.stdout, refused.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_said_to_be_one() {
    let certificates = Certificates::new();
    certificates.renew("server", 2001);
    let node = node(&certificates, &[]).await;
    eventually("it is logged", DEADLINE, async || {
        let said = node.log().iter().any(|line| line.contains("certificate has expired"));
        if said { Ok(()) } else { Err("no line") }
    })
    .await;
}
