//! The management port and `/admin/`: what an operator tells a node, what it is answered, and who is heard.

mod support;

use std::fs;
use support::certificates::Certificates;
use support::http::{Answer, Http, request};
use support::node::{carillon, finish};
use support::raw::{Raw, handshake_with};
use support::ws::Listener;
use support::{DEADLINE, Fleet, Heard, Node, eventually};
use tokio_tungstenite::tungstenite::Message;

/// A free management port.
const PORT: (&str, &str) = ("MANAGER_PORT", "0");

/// What is sent, and what comes back; `PID` and `N` are the node's process and its number of connections, `…` is anything.
const CONVERSATION: [(&str, &str); 16] = [
    (r#"{"method":"status"}"#, "当前服务器共有 N 个连接\n主进程PID: PID\n内存占用量: …MB\n"),
    (
        r#"{"method":"status","lang":"en"}"#,
        "Connections to this server: N\nMain process PID: PID\nMemory in use: …MB\n",
    ),
    (r#"{"method":"reload"}"#, "服务即将重启"),
    (r#"{"lang":"en","method":"reload","more":[1]}"#, "the service is about to reload"),
    (r#"{"method":"say","say":"大家好"}"#, "广播成功"),
    (r#"{"method":"say","say":"hello","lang":"en"}"#, "sent to everybody"),
    (r#"{"method":"say"}"#, "缺少i参数"),
    (r#"{"method":"say","say":""}"#, "缺少i参数"),
    (r#"{"method":"say","lang":"en"}"#, "-i is missing"),
    (r#"{"method":"start"}"#, "s指令仅可用start|stop|reload|status|say"),
    (r#"{"method":"restart","lang":"en"}"#, "-s can only be start|stop|reload|status|say"),
    (r#"{"method":{"a":1}}"#, "s指令仅可用start|stop|reload|status|say"),
    ("{}", "缺少s指令，s指令用于指明具体操作"),
    (r#"{"method":"","lang":"en"}"#, "-s is missing: it names the operation"),
    (r#"{"say":"hello"}"#, "缺少s指令，s指令用于指明具体操作"),
    (r#"{"method":"status","lang":"fr"}"#, "当前服务器共有 N 个连接\n主进程PID: PID\n内存占用量: …MB\n"),
];

fn matches(said: &str, wanted: &str) -> bool {
    match wanted.split_once('…') {
        Some((before, after)) => said
            .strip_prefix(before)
            .and_then(|rest| rest.strip_suffix(after))
            .is_some_and(|memory| memory.parse::<f64>().is_ok_and(|memory| memory > 0.0) && memory.contains('.')),
        None => said == wanted,
    }
}

async fn text(listener: &mut Listener) -> String {
    match listener.hears().await {
        Heard::Text(text) => text,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_message_has_its_answer() {
    let node = Node::start(&[PORT]).await;
    let _clients = Listener::crowd(node.ws(), "/", 3).await;
    // Any path, as the replaced server looked at none.
    for (path, binary) in [("/", false), ("/any/path?x=1", true)] {
        let mut operator = Listener::connect(node.manager(), path).await;
        for (message, wanted) in CONVERSATION {
            operator.send(if binary { Message::binary(message) } else { Message::text(message) }).await;
            let said = text(&mut operator).await;
            let wanted = wanted.replace("PID: PID", &format!("PID: {}", node.id())).replace('N', "3");
            assert!(matches(&said, &wanted), "{message}: {said:?}, not {wanted:?}");
        }
    }
    // Operators are no connections of the node.
    assert_eq!(node.api().count().await.unwrap(), 3);
}

#[tokio::test]
async fn what_is_said_reaches_every_client_of_the_cluster() {
    let fleet = Fleet::start(2, &[PORT]).await;
    let mut here = Listener::connect(fleet.nodes[0].ws(), "/?channel[]=news").await;
    let mut there = Listener::connect(fleet.nodes[1].ws(), "/").await;
    let mut operator = Listener::connect(fleet.nodes[0].manager(), "/").await;
    for (say, param) in [
        (r#""大家好 <b>\"&""#, r#""大家好 <b>\"&""#),
        (r#"{"b":1,"a":[1.50,"x"]}"#, r#"{"b":1,"a":[1.50,"x"]}"#),
        ("0", "0"),
    ] {
        operator.say(&format!(r#"{{"method":"say","say":{say}}}"#)).await;
        assert_eq!(text(&mut operator).await, "广播成功");
        let wanted = format!(r#"{{"status":200,"event":"serverBroadcast","info":"收到服务广播内容","param":{param}}}"#);
        here.hears_text(&wanted).await;
        there.hears_text(&wanted).await;
    }
}

#[tokio::test]
async fn what_redis_does_not_take_is_not_called_said() {
    let away = format!("redis://127.0.0.1:{}", support::redis::free_port());
    let mut node = Node::spawn(&[PORT, ("REDIS_URL", &away)]);
    node.listening().await;
    let mut operator = Listener::connect(node.manager(), "/").await;
    operator.say(r#"{"method":"say","say":"hello"}"#).await;
    let said = text(&mut operator).await;
    assert!(said.starts_with("广播失败: "), "{said}");
    let answer = admin(&node, "say", &[], br#"{"say":"hello","lang":"en"}"#).await;
    assert!(answer.status == 503 && answer.text().starts_with("not sent: "), "{answer:?}");
}

#[tokio::test]
async fn a_text_that_is_too_long_is_the_askers_fault() {
    let node = Node::start(&[("MAX_PUSH", "64")]).await;
    let answer = admin(&node, "say", &[], br#"{"say":"hello"}"#).await;
    assert!(answer.status == 400 && answer.text().contains("longer than MAX_PUSH"), "{answer:?}");
}

#[tokio::test]
async fn what_is_no_object_or_too_long_closes_the_connection() {
    let node = Node::start(&[PORT, ("MAX_MESSAGE", "1KiB")]).await;
    let long = format!(r#"{{"method":"say","say":"{}"}}"#, "x".repeat(1024));
    for (message, code) in [
        (Message::text("status"), 1007),
        (Message::text("[]"), 1007),
        (Message::text(r#"["status"]"#), 1007),
        (Message::text(r#"{"method":"#), 1007),
        (Message::binary(vec![0xff]), 1003),
        (Message::text(long.as_str()), 1009),
    ] {
        let mut operator = Listener::connect(node.manager(), "/").await;
        operator.send(message.clone()).await;
        assert!(matches!(operator.hears().await, Heard::Closed(closed, _) if closed == code), "{message:?}");
    }
}

/// The answer to a handshake on the management port.
async fn handshake(node: &Node, target: &str, lines: &str) -> u16 {
    let mut raw = Raw::connect(node.manager()).await;
    raw.send(handshake_with(target, lines).as_bytes()).await;
    raw.answer().await.unwrap().status
}

/// The answer to a request for an operation over the HTTP port.
async fn admin(node: &Node, operation: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut http = Http::connect(node.http()).await.unwrap();
    http.request(&request("POST", &format!("/admin/{operation}"), headers, body)).await.unwrap()
}

#[tokio::test]
async fn with_a_token_set_it_is_needed() {
    let node = Node::start(&[PORT, ("HTTP_TOKEN", "correct-horse"), ("TOKEN", "battery"), ("HTTP_PARAM", "key")]).await;
    for (target, lines, status) in [
        ("/", "", 401),
        ("/?token=wrong", "", 401),
        ("/?token[]=correct-horse", "", 401),
        ("/", "Authorization: Bearer wrong\r\n", 401),
        ("/?token=correct-horse", "", 101),
        ("/?key=battery", "", 101),
        ("/", "Authorization: Bearer battery\r\n", 101),
        ("/?token=battery", "Origin: https://example.org\r\n", 101),
    ] {
        assert_eq!(handshake(&node, target, lines).await, status, "{target} {lines}");
        let authorization: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once(": ")).collect();
        let operation = target.replacen('/', "status", 1);
        let answer = admin(&node, &operation, &authorization, b"").await;
        assert_eq!(answer.status, if status == 101 { 200 } else { status }, "{operation} {lines}");
    }
    assert!(!node.log().iter().any(|line| line.contains("correct-horse") || line.contains("battery")));
}

#[tokio::test]
async fn without_a_token_web_pages_and_clients_of_a_proxy_are_not_heard() {
    let node = Node::start(&[PORT]).await;
    for (lines, status) in [
        ("", 101),
        ("Origin: https://example.org\r\n", 401),
        ("Origin: null\r\n", 401),
        ("Referer: https://example.org/\r\n", 401),
        ("Sec-Fetch-Site: cross-site\r\n", 401),
        ("X-Forwarded-Proto: https\r\n", 401),
        ("X-Forwarded-For: 127.0.0.1\r\n", 401),
        ("X-Real-IP: 127.0.0.1\r\n", 401),
        ("Via: 1.1 proxy\r\n", 401),
    ] {
        assert_eq!(handshake(&node, "/", lines).await, status, "{lines}");
        let headers: Vec<(&str, &str)> = lines.lines().filter_map(|line| line.split_once(": ")).collect();
        let wanted = if status == 101 { 200 } else { status };
        assert_eq!(admin(&node, "status", &headers, b"").await.status, wanted, "{lines}");
    }
}

#[tokio::test]
async fn over_http_an_operation_is_a_path() {
    let node = Node::start(&[PORT]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for (operation, body, status, wanted) in [
        ("status", "", 200, "当前服务器共有 1 个连接\n主进程PID: PID\n内存占用量: …MB\n"),
        ("reload", r#"{"lang":"en"}"#, 200, "the service is about to reload"),
        ("say", r#"{"say":"hello"}"#, 200, "广播成功"),
        ("say", "", 400, "缺少i参数"),
        ("start", "", 404, "s指令仅可用start|stop|reload|status|say"),
        ("", "", 404, "缺少s指令，s指令用于指明具体操作"),
    ] {
        let answer = admin(&node, operation, &[], body.as_bytes()).await;
        let wanted = wanted.replace("PID: PID", &format!("PID: {}", node.id()));
        assert!(answer.status == status && matches(answer.text(), &wanted), "{operation} {body}: {answer:?}");
    }
    client.hears_text(r#"{"status":200,"event":"serverBroadcast","info":"收到服务广播内容","param":"hello"}"#).await;
    assert_eq!(admin(&node, "status", &[], b"status").await.status, 400);
    let mut http = Http::connect(node.http()).await.unwrap();
    let answer = http.get("/admin/stop").await.unwrap();
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    // The same on the management port, which has nothing else.
    let mut http = Http::connect(node.manager()).await.unwrap();
    assert_eq!(http.request(&request("POST", "/admin/status", &[], b"")).await.unwrap().status, 200);
    assert_eq!(http.get("/?action=getConnections").await.unwrap().status, 426);
    // What names a call of an API is one, on whatever path.
    assert_eq!(support::http::get(node.http(), "/admin/x?action=countConnections").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_reload_takes_over_a_new_token_and_drops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "old").unwrap();
    let node = Node::start(&[PORT, ("HTTP_TOKEN_FILE", file.to_str().unwrap())]).await;
    let mut crowd = Listener::crowd(node.ws(), "/?channel[]=news", 50).await;
    let mut operator = Listener::connect(node.manager(), "/?token=old").await;
    fs::write(&file, "new").unwrap();
    operator.say(r#"{"method":"reload"}"#).await;
    assert_eq!(text(&mut operator).await, "服务即将重启");
    eventually("the new token opens", DEADLINE, async || {
        Listener::try_connect(node.manager(), "/?token=new").await.map(drop).map_err(|refused| refused.status)
    })
    .await;
    assert_eq!(Listener::try_connect(node.manager(), "/?token=old").await.err().unwrap().status, 401);
    support::ws::nobody_is_gone(&mut crowd).await;
    // Who was let in stays in.
    operator.say(r#"{"method":"status"}"#).await;
    assert!(text(&mut operator).await.starts_with("当前服务器共有 50 个连接\n"));
}

#[tokio::test]
async fn a_reload_that_fails_says_why_to_whoever_asked_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (token, limit, level) = (file("token", "old"), file("limit", "1MiB"), file("level", "info"));
    let environment =
        [PORT, ("HTTP_TOKEN_FILE", &token), ("MAX_PUSH_FILE", &limit), ("LOG_FILE", &level), ("DRAIN_DELAY", "1h")];
    let mut node = Node::start(&environment).await;
    let _client = Listener::connect(node.ws(), "/").await;
    let mut operator = Listener::connect(node.manager(), "/?token=old").await;
    let bearer = [("Authorization", "Bearer old")];
    for (broken, content, good, why) in [
        ("limit", "a lot", "1MiB", "MAX_PUSH=\"a lot\""),
        ("token", "", "old", "was set and is gone"),
        ("level", "x=y=z", "info", "LOG=\"x=y=z\""),
    ] {
        // What is right in it is not taken over either.
        file("level", "debug");
        file(broken, content);
        operator.say(r#"{"method":"reload"}"#).await;
        let said = text(&mut operator).await;
        assert!(said.starts_with("重启失败: ") && said.contains(why), "{said}");
        let answer = admin(&node, "reload", &bearer, br#"{"lang":"en"}"#).await;
        assert!(answer.status == 500 && answer.text().starts_with("not reloaded: "), "{answer:?}");
        let command = carillon(&["reload", "-p", &node.http().port().to_string()], &[("CARILLON_TOKEN", "old")]);
        let finished = finish(command).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{}", finished.stderr);
        assert!(finished.stderr.starts_with("重启失败: ") && finished.stderr.contains(why), "{}", finished.stderr);
        file(broken, good);
    }
    assert!(!node.log().iter().any(|line| line.contains("\"DEBUG\"")), "{:?}", node.log());
    file("level", "info");
    operator.say(r#"{"method":"reload"}"#).await;
    assert_eq!(text(&mut operator).await, "服务即将重启");
    // One that is about to end doesn't say that it will.
    assert_eq!(admin(&node, "stop", &bearer, b"").await.text(), "服务即将关闭");
    operator.say(r#"{"method":"reload"}"#).await;
    assert_eq!(text(&mut operator).await, "重启失败: node is stopping");
    node.kill();
}

#[tokio::test]
async fn a_certificate_that_can_not_be_used_is_an_answer_to_a_reload() {
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.path("server.pem"), certificates.path("server.key"));
    let node = Node::start(&[PORT, ("TLS_CERT", &certificate), ("TLS_KEY", &key)]).await;
    let mut operator = Listener::connect(node.manager(), "/").await;
    certificates.write("server.pem", "half of it");
    // Looked at a second time it is as bad.
    for _ in 0..2 {
        operator.say(r#"{"method":"reload","lang":"en"}"#).await;
        let said = text(&mut operator).await;
        assert!(said.starts_with("not reloaded: all but the tls certificate is taken over"), "{said}");
    }
}

#[tokio::test]
async fn a_stop_is_answered_and_drains_the_node() {
    let mut node = Node::start(&[PORT]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    let mut operator = Listener::connect(node.manager(), "/").await;
    operator.say(r#"{"method":"stop"}"#).await;
    assert_eq!(text(&mut operator).await, "服务即将关闭");
    assert!(matches!(client.hears().await, Heard::Closed(1001, _)));
    drop(client);
    assert!(matches!(operator.hears().await, Heard::Closed(1001, _)));
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_stop_that_is_repeated_cuts_nobody_off() {
    let mut node = Node::start(&[PORT, ("DRAIN_DELAY", "1h")]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for _ in 0..3 {
        assert_eq!(admin(&node, "stop", &[], b"").await.text(), "服务即将关闭");
    }
    assert!(!client.is_gone().await);
    node.kill();
}

#[tokio::test]
async fn the_signal_that_follows_an_operators_stop_cuts_nobody_off() {
    let mut node = Node::start(&[PORT, ("DRAIN_DELAY", "1h")]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    assert_eq!(admin(&node, "stop", &[], b"").await.text(), "服务即将关闭");
    // As systemd does when its ExecStop has returned.
    node.terminate();
    eventually("the node has the signal", DEADLINE, async || {
        node.log().iter().any(|line| line.contains("draining goes on")).then_some(()).ok_or("it says nothing")
    })
    .await;
    assert!(!node.has_ended());
    assert!(!client.is_gone().await);
    node.terminate();
    node.ended().await;
}

#[tokio::test]
async fn only_so_many_operators_are_heard_at_a_time() {
    let node = Node::start(&[PORT]).await;
    let mut operators = Listener::crowd(node.manager(), "/", 16).await;
    assert_eq!(Listener::try_connect(node.manager(), "/").await.err().unwrap().status, 503);
    operators.pop().unwrap().close().await;
    eventually("the place of one that left is free", DEADLINE, async || {
        Listener::try_connect(node.manager(), "/").await.map(drop).map_err(|refused| refused.status)
    })
    .await;
}
