//! TLS on the node's own ports: who is let in, how the certificate is exchanged, what is said of a wrong one.

mod support;

use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind};
use std::sync::Arc;
use support::certificates::Certificates;
use support::http::Http;
use support::node::{Finished, carillon, finish};
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
