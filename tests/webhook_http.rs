//! What an application may do to the requests of a webhook on the level of HTTP, TLS and names.

mod support;

use serde_json::json;
use std::sync::{Arc, Mutex};
use support::certificates::Certificates;
use support::device::metric;
use support::node::{carillon, finish};
use support::redis::free_port;
use support::wire::{Line, Wire};
use support::{DEADLINE, Heard, Listener, Node, eventually};

/// What the profile `method` says of a message that nobody could be told.
const FAILED: &str = r#"{"status":500,"event":"controllerError","info":"程序错误"}"#;

/// A node that tells this application of its clients' messages alone.
async fn node(url: &str, environment: &[(&str, &str)]) -> Node {
    let mut variables = vec![("WEBHOOK_URL", url), ("WEBHOOK_EVENTS", "message"), ("CLIENT_PROFILES", "/=method")];
    variables.extend_from_slice(environment);
    Node::start(&variables).await
}

/// Calls a method with these data; the text that comes after the acknowledgement.
async fn call(client: &mut Listener, data: serde_json::Value) -> String {
    client.say(&data.to_string()).await;
    client.hears_text(r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#).await;
    match client.hears().await {
        Heard::Text(text) => text,
        other => panic!("no text: {other:?}"),
    }
}

async fn calls(node: &Node, outcome: &str) -> u64 {
    metric(node, &format!(r#"carillon_webhook_calls_total{{event="message",outcome="{outcome}"}}"#)).await
}

/// A body of so many bytes that replies `ok`.
fn body_of(bytes: usize) -> String {
    let body = r#"{"reply":"ok"}"#;
    format!("{body}{}", " ".repeat(bytes - body.len()))
}

#[tokio::test]
async fn answers_come_in_every_form_of_http_and_what_is_none_has_failed() {
    let ok = r#"{"reply":"ok"}"#;
    let with_length =
        |status: &str, body: &str| format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let plain = with_length("200 OK", ok);
    let forms: Vec<(&str, String, &str)> = vec![
        ("with a length", plain.clone(), "ok"),
        ("another good status", with_length("202 Accepted", ok), "ok"),
        (
            "in chunks",
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{}\r\n9\r\n{}\r\n0\r\n\r\n",
                &ok[..5],
                &ok[5..]
            ),
            "ok",
        ),
        ("up to the end of the stream", format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{ok}"), "ok"),
        ("of http/1.0", format!("HTTP/1.0 200 OK\r\n\r\n{ok}"), "ok"),
        ("after 100", format!("HTTP/1.1 100 Continue\r\n\r\n{plain}"), "ok"),
        ("after 103", format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{plain}"), "ok"),
        ("as long as it may be", with_length("200 OK", &body_of(1 << 20)), "ok"),
        ("a byte longer", with_length("200 OK", &body_of((1 << 20) + 1)), FAILED),
        (
            "in chunks, longer",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200000\r\n{}\r\n0\r\n\r\n", body_of(1 << 21)),
            FAILED,
        ),
        ("a length that is not kept", format!("HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{ok}"), FAILED),
        ("a redirect", with_length("302 Found\r\nLocation: /hooks", ok), FAILED),
        ("a permanent redirect", with_length("308 Permanent Redirect\r\nLocation: /hooks", ok), FAILED),
        ("not modified", "HTTP/1.1 304 Not Modified\r\n\r\n".to_owned(), FAILED),
        (
            "another protocol",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n".to_owned(),
            FAILED,
        ),
        ("not authorized", with_length("401 Unauthorized", ok), FAILED),
        ("no http at all", "SSH-2.0-OpenSSH_9.2\r\n".to_owned(), FAILED),
        ("a head without end", format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(2 << 20)), FAILED),
        ("the end at once", String::new(), FAILED),
    ];
    let answers: Vec<String> = forms.iter().map(|(_, answer, _)| answer.clone()).collect();
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    let wire = Wire::start(move |_, mut line: Line| {
        let (answers, seen) = (answers.clone(), seen.clone());
        async move {
            // One on each connection, as nothing in the next answer may depend on it.
            if let Some(asked) = line.request().await {
                let number = asked.said("form").as_u64().unwrap() as usize;
                seen.lock().unwrap().push(number);
                line.say(&answers[number]).await;
            }
        }
    })
    .await;
    let node = node(&wire.url(), &[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for (number, (form, _, wanted)) in forms.iter().enumerate() {
        assert_eq!(call(&mut client, json!({ "form": number })).await, *wanted, "{form}");
    }
    assert_eq!(*requests.lock().unwrap(), (0..forms.len()).collect::<Vec<_>>(), "each is asked once");
    // Nothing to say is an answer as well.
    for nothing in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"] {
        let wire = Wire::start(move |_, mut line: Line| async move {
            while line.request().await.is_some() {
                line.say(nothing).await;
            }
        })
        .await;
        let node = self::node(&wire.url(), &[]).await;
        let mut client = Listener::connect(node.ws(), "/").await;
        client.say("{}").await;
        client.say("2").await;
        client.hears().await;
        client.hears_text("3").await;
        assert_eq!(calls(&node, "answered").await, 1);
    }
}

#[tokio::test]
async fn an_answer_that_trickles_has_no_more_time_than_any_other() {
    for head in [
        "HTTP/1.1 200 OK\r\nX: ",
        "HTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "",
    ] {
        let (left, mut is_left) = tokio::sync::mpsc::channel(1);
        let wire = Wire::start(move |_, mut line: Line| {
            let left = left.clone();
            async move {
                line.request().await;
                line.say(head).await;
                let mut ticks = tokio::time::interval(std::time::Duration::from_millis(20));
                let trickle = if head.contains("chunked") { "1\r\nx\r\n" } else { "x" };
                while line.say(if head.is_empty() { "HTTP/1.1 100 Continue\r\n\r\n" } else { trickle }).await {
                    ticks.tick().await;
                }
                left.send(()).await.unwrap();
            }
        })
        .await;
        let node = node(&wire.url(), &[("WEBHOOK_TIMEOUT", "300ms")]).await;
        let mut client = Listener::connect(node.ws(), "/").await;
        assert_eq!(call(&mut client, json!({})).await, FAILED, "{head:?}");
        assert_eq!(calls(&node, "timeout").await, 1, "{head:?}");
        // Nothing of it is kept.
        tokio::time::timeout(DEADLINE, is_left.recv()).await.expect("the node has hung up");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_but_not_one_that_owes_an_answer() {
    let wire = Wire::start(|number, mut line: Line| async move {
        while let Some(asked) = line.request().await {
            if asked.said("never") == true {
                return line.is_left().await;
            }
            line.answer(&json!({ "reply": format!("{} on {number}", asked.said("x")) }).to_string()).await;
        }
    })
    .await;
    let node = node(&wire.url(), &[("WEBHOOK_TIMEOUT", "2s")]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for x in 1..=3 {
        assert_eq!(call(&mut client, json!({ "x": x })).await, format!("{x} on 0"));
    }
    assert_eq!(call(&mut client, json!({ "x": 4, "never": true })).await, FAILED);
    for x in 5..=7 {
        assert_eq!(call(&mut client, json!({ "x": x })).await, format!("{x} on 1"));
    }
    assert_eq!(wire.accepted(), 2);
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_an_idle_connection_is_sent_once_more() {
    let requests = Arc::new(Mutex::new(Vec::new()));
    let seen = requests.clone();
    // Answers one request on each connection, and hangs up on the next.
    let wire = Wire::start(move |_, mut line: Line| {
        let seen = seen.clone();
        async move {
            if line.request().await.is_some() {
                line.answer(r#"{"reply":"ok"}"#).await;
            }
            if let Some(asked) = line.request().await {
                seen.lock().unwrap().push(asked.header("carillon-delivery").to_owned());
            }
        }
    })
    .await;
    let node = node(&wire.url(), &[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for _ in 0..20 {
        assert_eq!(call(&mut client, json!({})).await, "ok");
    }
    assert_eq!((calls(&node, "answered").await, calls(&node, "unreachable").await), (20, 0));
    let lost = requests.lock().unwrap().len();
    assert!(lost >= 15, "the test is about requests that get lost: {lost}");
}

#[tokio::test]
async fn a_request_that_ends_a_new_connection_has_failed() {
    let wire = Wire::start(|_, mut line: Line| async move {
        line.request().await;
    })
    .await;
    let node = node(&wire.url(), &[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for count in 1..=5 {
        assert_eq!(call(&mut client, json!({})).await, FAILED);
        assert_eq!((wire.accepted(), calls(&node, "unreachable").await), (count, count as u64));
    }
}

#[tokio::test]
async fn connections_that_the_application_closes_are_not_missed() {
    // Says nothing of it, and closes after each answer.
    let wire = Wire::start(|_, mut line: Line| async move {
        line.request().await;
        line.answer(r#"{"reply":"ok"}"#).await;
    })
    .await;
    let node = node(&wire.url(), &[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for _ in 0..200 {
        assert_eq!(call(&mut client, json!({})).await, "ok");
    }
    assert_eq!(calls(&node, "answered").await, 200);
}

async fn answers(_: usize, mut line: Line) {
    while line.request().await.is_some() {
        line.answer(r#"{"reply":"ok"}"#).await;
    }
}

#[tokio::test]
async fn an_application_behind_tls_is_checked_by_the_authority_that_is_configured() {
    let certificates = Certificates::new();
    let wire = Wire::start_tls(&certificates, answers).await;
    let ca = certificates.path("ca.pem");
    let trusting = node(&wire.url(), &[("WEBHOOK_CA", &ca)]).await;
    let mut client = Listener::connect(trusting.ws(), "/").await;
    for _ in 0..3 {
        assert_eq!(call(&mut client, json!({})).await, "ok");
    }
    assert_eq!(wire.accepted(), 1);

    // Another authority; and what a stranger is told of it: nothing of names and certificates.
    let others = Certificates::new();
    let (url, ca) = (wire.url(), others.path("ca.pem"));
    let wary = Node::start(&[("WEBHOOK_URL", &url), ("WEBHOOK_CA", &ca)]).await;
    let refused = Listener::try_connect(wary.ws(), "/").await.err().unwrap();
    let text = "application can't be asked: application can't be reached\n";
    assert_eq!((refused.status, refused.body.as_str()), (503, text));
    eventually("the log has the reason", DEADLINE, async || {
        let log = wary.log();
        if log.iter().any(|line| line.contains("invalid peer certificate")) { Ok(()) } else { Err(log.join("\n")) }
    })
    .await;

    // A certificate that has expired.
    certificates.renew("server", 2020);
    let wire = Wire::start_tls(&certificates, answers).await;
    let ca = certificates.path("ca.pem");
    let node = node(&wire.url(), &[("WEBHOOK_CA", &ca)]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    assert_eq!(call(&mut client, json!({})).await, FAILED);
}

#[tokio::test]
async fn a_file_of_authorities_that_is_none_is_said_at_start() {
    let certificates = Certificates::new();
    certificates.write("empty.pem", "");
    for (file, why) in [("empty.pem", "no certificate in it"), ("missing.pem", "the path of a readable file")] {
        let path = certificates.path(file);
        let variables =
            [("WEBHOOK_URL", "https://localhost:9/"), ("WEBHOOK_CA", &path), ("WS_PORT", "0"), ("HTTP_PORT", "0")];
        let ended = finish(carillon(&[], &variables)).await;
        assert!(
            ended.code != 0 && ended.stderr.contains("WEBHOOK_CA") && ended.stderr.contains(why),
            "{}",
            ended.stderr
        );
    }
}

#[tokio::test]
async fn a_name_that_nobody_has_is_an_application_that_can_not_be_reached() {
    let node = node("http://no-such-host.invalid/", &[("WEBHOOK_TIMEOUT", "60s")]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    assert_eq!(call(&mut client, json!({})).await, FAILED);
    assert_eq!(calls(&node, "unreachable").await, 1);
}

#[tokio::test]
async fn secrets_in_its_url_are_shown_nowhere() {
    for bad in ["http://user:hunter2@localhost/", "ftp://localhost/hunter2", "hunter2"] {
        let ended = finish(carillon(&[], &[("WEBHOOK_URL", bad), ("WS_PORT", "x")])).await;
        let said = ended.stdout + &ended.stderr;
        assert!(ended.code == 2 && said.contains("WEBHOOK_URL") && !said.contains("hunter2"), "{said}");
    }
    let url = format!("http://127.0.0.1:{}/hooks?key=hunter2", free_port());
    let node = Node::start(&[("WEBHOOK_URL", &url), ("LOG", "debug")]).await;
    let refused = Listener::try_connect(node.ws(), "/").await.err().unwrap();
    assert_eq!(refused.body, "application can't be asked: application can't be reached\n");
    eventually("the failure is logged", DEADLINE, async || {
        let log = node.log();
        if log.iter().any(|line| line.contains("refused")) { Ok(()) } else { Err(log.join("\n")) }
    })
    .await;
    assert!(!node.log().iter().any(|line| line.contains("hunter2")), "{:?}", node.log());
}
