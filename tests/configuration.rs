//! What a node is told by its environment.

mod support;

use rustix::process::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use support::device::metric;
use support::eventually::same;
use support::http::get;
use support::node::{carillon, finish};
use support::redis::free_port;
use support::{DEADLINE, Listener, Node, eventually};
use tempfile::TempDir;

#[tokio::test]
async fn every_fault_is_reported_at_once_with_name_value_and_what_is_allowed() {
    let faults = [
        ("WS_HOST", "nowhere", "IP address"),
        ("WS_PORT", "eighty", "0 to 65535"),
        ("HTTP_PORT", "70000", "0 to 65535"),
        ("METRICS_PORT", "-1", "0 to 65535"),
        ("MAX_PUSH", "a lot", "1MiB"),
        ("MAX_CHANNELS", "0", "from 1"),
        ("MAX_CONNECTIONS", "-5", "whole number"),
        ("PING_INTERVAL", "often", "25s"),
        ("NODE_LEASE", "10ms", "2s"),
        ("DRAIN_PERIOD", "1.5 fortnights", "10s"),
        ("CLIENT_PROFILES", "/=nonsense", "channel"),
        ("LOG", "a=b=c", "debug"),
        ("LOG_FORMAT", "xml", "json"),
        ("REDIS_ALLOW_EVICTION", "perhaps", "true"),
        ("WORKERS", "many", "whole number"),
        ("REDIS_CA", "/nowhere/ca.pem", "readable file"),
        ("REDIS_PREFIX", "a{b}", "braces"),
        ("HTTP_PARAM", "a b&", "letters"),
        ("ALLOWED_ORIGINS", "example.org", "scheme://host"),
        ("HEARTBEAT_INTERVAL", "seldom", "25s"),
        ("HEARTBEAT_INTERVAL_DEVICE", "10ms", "500ms"),
        ("UNIX_SOCKET_MODE", "0999", "octal"),
        ("UNIX_SOCKET_STRICT", "very", "true"),
        ("DEVICE_CLIENT_ACTIONS", "some", "true"),
        ("CORS_ORIGINS", "https://a.example,*", "scheme://host"),
    ];
    let environment: Vec<(&str, &str)> = faults.iter().map(|(name, value, _)| (*name, *value)).collect();
    let finished = finish(carillon(&[], &environment)).await;
    assert_eq!(finished.code, 2, "{}", finished.stderr);
    for (name, value, allowed) in faults {
        let line = finished.stderr.lines().find(|line| line.contains(&format!("{name}=")));
        let line = line.unwrap_or_else(|| panic!("{name} is not reported: {}", finished.stderr));
        assert!(line.contains(value) && line.contains(allowed), "{name}: {line}");
    }
}

#[tokio::test]
async fn what_is_no_value_of_its_kind_is_a_fault() {
    for (name, value, allowed) in [
        ("LOG", "information", "debug"),
        ("LOG", "info,carilon", "debug"),
        ("PING_INTERVAL", "1ms", "500ms"),
        ("HTTP_PARAM", "action", "not action"),
        ("CLIENT_PROFILES", "live=channel", "does not begin with /"),
        ("REDIS_URL", "redis://127.0.0.1/abc", "number of a database"),
        ("METRICS_PORT", "8080", "not WS_PORT or HTTP_PORT"),
        ("PORT", "eighty", "0 to 65535"),
        ("WS_PORT", "tcp://10.96.0.7:8090", "enableServiceLinks: false"),
        ("HTTP_PORT", "tcp://10.96.0.7:8080", "enableServiceLinks: false"),
        ("METRICS_PORT", "tcp://10.96.0.7:9090", "enableServiceLinks: false"),
        ("CLIENT_PROFILES", "/=centre", "known are: channel, center"),
        ("CLIENT_PROFILES", "/=devices", "known are: channel, center, device"),
        ("UNIX_SOCKET_MODE", "1660", "0777"),
        ("UNIX_SOCKET_MODE", "+660", "0777"),
        ("GAP_CLOSE", "maybe", "true or false"),
    ] {
        let finished = finish(carillon(&[], &[(name, value)])).await;
        assert_eq!(finished.code, 2, "{name}={value}: {}", finished.stderr);
        let line = finished.stderr.lines().find(|line| line.starts_with(name)).unwrap();
        assert!(line.contains(allowed), "{name}={value}: {line}");
    }
}

#[tokio::test]
async fn a_port_for_both_has_one_address_and_without_a_token_that_is_loopback() {
    let port = free_port().to_string();
    let both = [("WS_PORT", port.as_str()), ("HTTP_PORT", port.as_str())];
    let mut node = Node::spawn(&[("WS_HOST", ""), ("HTTP_HOST", ""), both[0], both[1]]);
    node.listening().await;
    assert!(node.http().ip().is_loopback() && node.ws() == node.http(), "{} {}", node.ws(), node.http());
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    node.api().push("news", "hello").await.unwrap();
    listener.hears_text("hello").await;

    let finished = finish(carillon(&[], &[("WS_HOST", "0.0.0.0"), both[0], both[1]])).await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("WS_HOST") && finished.stderr.contains("HTTP_TOKEN"), "{}", finished.stderr);
}

#[tokio::test]
async fn what_an_operator_should_know_is_in_the_log() {
    let mut node = Node::spawn(&[("HTTP_HOST", "0.0.0.0"), ("WS_PORT", "0"), ("PORT", "00")]);
    node.listening().await;
    for warning in ["HTTP_TOKEN", "PORT wins"] {
        assert!(node.log().iter().any(|line| line.contains("WARN") && line.contains(warning)), "{:?}", node.log());
    }
}

#[tokio::test]
async fn port_is_the_websocket_port_and_wins() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("port");
    for variable in ["PORT", "PORT_FILE"] {
        let (other, port) = (free_port().to_string(), free_port());
        fs::write(&file, format!("{port}\n")).unwrap();
        let value = if variable == "PORT" { port.to_string() } else { file.to_str().unwrap().to_owned() };
        let mut node = Node::spawn(&[("WS_PORT", &other), (variable, &value)]);
        node.listening().await;
        assert_eq!(node.ws().port(), port, "{variable}");
        let warned = node.log().iter().filter(|line| line.contains("PORT wins")).count();
        assert_eq!(warned, 1, "{:?}", node.log());
    }
    // A fault is one in the value that doesn't count as well.
    let finished = finish(carillon(&[], &[("PORT", "0"), ("WS_PORT", "tcp://10.96.0.7:8090")])).await;
    assert_eq!(finished.code, 2, "{}", finished.stderr);
}

#[tokio::test]
async fn ports_of_registration_centres_are_ignored_with_one_warning_each() {
    let names = ["REGISTER_CENTER_PORT", "OTHER_REGISTER_CENTER_PORT"];
    let mut node = Node::spawn(&[(names[0], "8010"), (names[1], "tcp://10.96.0.7:8012,x")]);
    node.listening().await;
    for name in names {
        // The quotation mark keeps one name from being found in the other.
        let warning = format!("\"{name} is ignored: ");
        let about = |line: &&String| line.contains("WARN") && line.contains(&warning) && line.contains("REDIS_URL");
        assert_eq!(node.log().iter().filter(about).count(), 1, "{name}: {:?}", node.log());
    }
}

#[tokio::test]
async fn events_on_a_websocket_port_for_everybody_want_a_token() {
    let warned = async |environment: &[(&str, &str)]| {
        let mut node = Node::spawn(environment);
        node.listening().await;
        node.log().iter().any(|line| line.contains("WARN") && line.contains("set TOKEN"))
    };
    let (center, anywhere) = (("CLIENT_PROFILES", "/app=center,/=channel"), ("WS_HOST", "0.0.0.0"));
    assert!(warned(&[center, anywhere]).await);
    assert!(!warned(&[center]).await, "the port is this machine's alone");
    assert!(!warned(&[center, anywhere, ("TOKEN", "secret")]).await, "a token guards it");
    assert!(!warned(&[anywhere]).await, "no path has events");
}

#[tokio::test]
async fn a_reload_never_opens_what_a_token_guarded() {
    let (node, file, _directory) = with_token_file("old").await;
    fs::write(&file, "").unwrap();
    node.signal(Signal::HUP);
    eventually("the log says why nothing has changed", DEADLINE, async || {
        node.log().iter().any(|line| line.contains("not reloaded")).then_some(()).ok_or("it does not")
    })
    .await;
    assert_eq!(node.api().call("action=getConnections").await.unwrap()["message"], "access deny");
    node.api().response("action=getConnections&token=old").await.unwrap();
}

#[tokio::test]
async fn a_faulty_value_that_may_hold_a_secret_is_not_shown() {
    let environment = [("REDIS_URL", "ftp://user:hunter2@host/"), ("WS_PORT", "x")];
    let finished = finish(carillon(&[], &environment)).await;
    assert_eq!(finished.code, 2);
    assert!(finished.stderr.contains("REDIS_URL") && finished.stderr.contains("redis-cluster"), "{}", finished.stderr);
    assert!(!finished.stderr.contains("hunter2") && !finished.stdout.contains("hunter2"), "{}", finished.stderr);
}

#[tokio::test]
async fn a_variable_may_be_a_file_with_its_value() {
    let (node, _, _directory) = with_token_file("12345\n").await;
    assert_eq!(node.api().call("action=getConnections").await.unwrap()["message"], "access deny");
    node.api().response("action=getConnections&token=12345").await.unwrap();
}

#[tokio::test]
async fn a_file_that_can_not_be_read_or_is_one_of_two_is_a_fault() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("port");
    fs::write(&file, "0").unwrap();
    let file = file.to_str().unwrap();
    let missing = directory.path().join("missing");
    let environment = [("WS_PORT", "0"), ("WS_PORT_FILE", file), ("LOG_FILE", missing.to_str().unwrap())];
    let finished = finish(carillon(&[], &environment)).await;
    assert_eq!(finished.code, 2);
    for name in ["WS_PORT_FILE", "LOG_FILE"] {
        assert!(finished.stderr.contains(name), "{name}: {}", finished.stderr);
    }
    assert!(finished.stderr.contains(missing.to_str().unwrap()), "{}", finished.stderr);
}

#[tokio::test]
async fn an_empty_variable_is_an_unset_one() {
    let empty =
        ["HTTP_TOKEN", "HTTP_PARAM", "REDIS_URL", "MAX_PUSH", "CLIENT_PROFILES", "LOG", "TOKEN", "HTTP_TOKEN_FILE"];
    let environment: Vec<(&str, &str)> = empty.iter().map(|name| (*name, "")).collect();
    let node = Node::start(&environment).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    node.api().push("news", "hello").await.unwrap();
    listener.hears_text("hello").await;
}

#[tokio::test]
async fn a_file_is_read_again_on_sighup_and_no_connection_drops() {
    let (node, file, _directory) = with_token_file("old").await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    fs::write(&file, "new").unwrap();
    node.signal(Signal::HUP);
    eventually("the new token is taken", DEADLINE, async || {
        node.api().response("action=push&to=channel&channel=news&message=hello&token=new").await
    })
    .await;
    assert_eq!(node.api().call("action=getConnections&token=old").await.unwrap()["message"], "access deny");
    listener.hears_text("hello").await;
}

/// Writes a file as Kubernetes does those of a mounted secret: beside it, then in its place.
fn exchange(file: &Path, content: &str) {
    let fresh = file.with_extension("fresh");
    fs::write(&fresh, content).unwrap();
    fs::rename(&fresh, file).unwrap();
}

/// Waits until the metrics say that the last reload was done (1), or had a fault (0).
async fn last_reload_is(node: &Node, wanted: u64) {
    eventually("the metrics say so of the last reload", DEADLINE, async || {
        same(metric(node, "carillon_config_last_reload_successful").await, wanted)
    })
    .await;
}

/// A node whose token is in a file, which is given with the directory that it is in.
async fn with_token_file(token: &str) -> (Node, PathBuf, TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, token).unwrap();
    let node = Node::start(&[("HTTP_TOKEN_FILE", file.to_str().unwrap())]).await;
    (node, file, directory)
}

#[tokio::test]
async fn a_file_is_followed_without_a_word_to_the_node() {
    let directory = tempfile::tempdir().unwrap();
    let [token, level] = ["token", "level"].map(|name| directory.path().join(name));
    fs::write(&token, "old").unwrap();
    fs::write(&level, "info").unwrap();
    let files = [("HTTP_TOKEN_FILE", token.to_str().unwrap()), ("LOG_FILE", level.to_str().unwrap())];
    let node = Node::start(&files).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;

    exchange(&token, "new\n");
    eventually("the new token is taken", DEADLINE, async || {
        node.api().response("action=push&to=channel&channel=news&message=hello&token=new").await
    })
    .await;
    assert_eq!(node.api().call("action=getConnections&token=old").await.unwrap()["message"], "access deny");
    listener.hears_text("hello").await;

    exchange(&level, "nonsense=nonsense");
    last_reload_is(&node, 0).await;
    node.logs("not reloaded").await;
    let said = |what: &str| node.log().iter().filter(|line| line.contains(what)).count();
    assert_eq!(said("not reloaded"), 1);
    exchange(&level, "info");
    last_reload_is(&node, 1).await;
    // Several looks were the same fault.
    assert_eq!(said("not reloaded"), 1);
    node.api().response("action=push&to=channel&channel=news&message=again&token=new").await.unwrap();
    listener.hears_text("again").await;
}

#[tokio::test]
async fn a_followed_file_never_opens_what_it_guarded() {
    let (node, token, _directory) = with_token_file("old").await;
    exchange(&token, "");
    last_reload_is(&node, 0).await;
    assert_eq!(node.api().call("action=getConnections").await.unwrap()["message"], "access deny");
    node.api().response("action=getConnections&token=old").await.unwrap();
}

#[tokio::test]
async fn a_changed_file_that_takes_a_restart_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let [limit, token] = ["limit", "token"].map(|name| directory.path().join(name));
    fs::write(&limit, "1000").unwrap();
    fs::write(&token, "old").unwrap();
    let files = [("MAX_PUSH_FILE", limit.to_str().unwrap()), ("HTTP_TOKEN_FILE", token.to_str().unwrap())];
    let node = Node::start(&files).await;
    exchange(&limit, "2000");
    exchange(&token, "new");
    eventually("the log says what takes a restart", DEADLINE, async || {
        let named = "all is taken over but MAX_PUSH, which takes a restart";
        node.log().iter().any(|line| line.contains(named)).then_some(()).ok_or("it does not")
    })
    .await;
    last_reload_is(&node, 0).await;
    eventually("the rest is taken over", DEADLINE, async || {
        node.api().response("action=getConnections&token=new").await
    })
    .await;
}

#[tokio::test]
async fn a_redis_that_is_not_there_is_waited_for_and_never_done_without() {
    let url = format!("redis://127.0.0.1:{}", free_port());
    let mut node = Node::spawn(&[("REDIS_URL", &url), ("CONNECT_TIMEOUT", "500ms")]);
    node.listening().await;
    assert_eq!(get(node.http(), "/livez").await.unwrap().status, 200);
    assert_eq!(get(node.http(), "/readyz").await.unwrap().status, 503);
    let refusal = node.api().push("news", "hello").await.unwrap_err().to_string();
    assert!(refusal.contains("push not accepted: "), "{refusal}");
    let refused = Listener::try_connect(node.ws(), "/?channel[]=news").await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.headers.iter().any(|(name, _)| name == "retry-after"), "{refused:?}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let environment = [("WS_HOST", "127.0.0.1"), ("WS_PORT", port.as_str()), ("HTTP_PORT", "0")];
    let finished = finish(carillon(&[], &environment)).await;
    assert!(finished.code != 0 && finished.code != 2, "{}", finished.code);
    let said = finished.stderr + &finished.stdout;
    assert!(said.contains(&port), "{said}");
}

#[tokio::test]
async fn no_token_or_password_is_ever_logged() {
    let url = format!("redis://:hunter2@127.0.0.1:{}", free_port());
    let mut node = Node::spawn(&[("REDIS_URL", &url), ("HTTP_TOKEN", "correct-horse"), ("LOG", "trace,fred=info")]);
    node.listening().await;
    node.api().call("action=getConnections&token=correct-horse").await.unwrap();
    node.api().call("action=getConnections&token=battery-staple").await.unwrap();
    assert_eq!(get(node.http(), "/readyz").await.unwrap().status, 503);
    for line in node.log() {
        for secret in ["hunter2", "correct-horse", "battery-staple"] {
            assert!(!line.contains(secret), "{line}");
        }
    }
}
