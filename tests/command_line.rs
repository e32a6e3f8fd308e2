//! The `carillon` command as a client of a running node: what it prints, and its exit codes.

mod support;

use serde_json::Value;
use std::fs::{self, File};
use std::process::{Child, Command};
use support::node::{Finished, carillon, finish, finished};
use support::redis::free_port;
use support::{DEADLINE, Heard, Listener, Node, eventually};

/// A command that is told of the node by `--api`.
fn command(node: &Node, arguments: &[&str]) -> Command {
    let api = format!("http://{}/", node.http());
    let mut all = arguments.to_vec();
    all.extend(["--api", &api]);
    carillon(&all, &[])
}

async fn run(node: &Node, arguments: &[&str]) -> Finished {
    finish(command(node, arguments)).await
}

/// Runs a command that must succeed and say nothing else; what it prints.
async fn prints(node: &Node, arguments: &[&str]) -> String {
    let finished = run(node, arguments).await;
    assert_eq!((finished.code, finished.stderr.as_str()), (0, ""), "{arguments:?}");
    finished.stdout
}

/// Starts `carillon listen` on channel `news` and waits until it is subscribed.
async fn listening(node: &Node, arguments: &[&str]) -> Child {
    let url = format!("ws://{}/", node.ws());
    let mut all = vec!["listen", "--url", &url, "--channel", "news"];
    all.extend_from_slice(arguments);
    let child = carillon(&all, &[]).spawn().unwrap();
    eventually("the command is subscribed", DEADLINE, async || {
        support::eventually::same(node.api().count_members("news").await.unwrap(), 1)
    })
    .await;
    child
}

#[tokio::test]
async fn push_reaches_channels_connections_and_all_but_those_left_out() {
    let node = Node::start(&[]).await;
    let mut a = Listener::connect(node.ws(), "/?channel[]=news").await;
    let id_of_a = node.api().connections().await.unwrap().pop_first().unwrap().to_string();
    let mut b = Listener::connect(node.ws(), "/?channel[]=sport").await;
    for (arguments, a_hears, b_hears) in [
        (&["push", "--channel", "news", "to news"][..], "to news", ""),
        (&["push", "--channel", "news", "--channel", "sport", "to both"], "to both", "to both"),
        (&["push", "--connection", &id_of_a, "to a"], "to a", ""),
        (&["push", "--all", "to all"], "to all", "to all"),
        (&["push", "--all", "--exclude", &id_of_a, "not to a"], "", "not to a"),
        (&["push", "--channel", "sport", "Повідомлення & 100% + \"лапки\""], "", "Повідомлення & 100% + \"лапки\""),
    ] {
        assert_eq!(prints(&node, arguments).await, "", "{arguments:?}");
        node.api().response("action=push&to=all&message=end").await.unwrap();
        for (listener, text) in [(&mut a, a_hears), (&mut b, b_hears)] {
            let wanted: Vec<Heard> =
                Some(text).filter(|text| !text.is_empty()).map(|text| Heard::Text(text.into())).into_iter().collect();
            assert_eq!(listener.hears_until("end").await, wanted, "{arguments:?}");
        }
    }
}

#[tokio::test]
async fn push_reads_a_message_from_the_standard_input() {
    let node = Node::start(&[]).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("message");
    fs::write(&file, "two\nlines\n").unwrap();
    for arguments in [&["push", "--channel", "news"][..], &["push", "--channel", "news", "-"]] {
        let mut command = command(&node, arguments);
        command.stdin(File::open(&file).unwrap());
        let finished = finish(command).await;
        assert_eq!(finished.code, 0, "{}", finished.stderr);
        listener.hears_text("two\nlines").await;
    }
}

#[tokio::test]
async fn channels_and_connections_are_listed_as_lines_and_as_json() {
    let node = Node::start(&[]).await;
    assert_eq!(prints(&node, &["channels"]).await, "");
    assert_eq!(prints(&node, &["channels", "--json"]).await, "{}\n");
    let _a = Listener::connect(node.ws(), "/?channel[]=news&channel[]=sport").await;
    let _b = Listener::connect(node.ws(), "/?channel[]=news").await;
    let ids = node.api().connections().await.unwrap();
    let sport = node.api().members("sport").await.unwrap();
    let lines = |ids: &std::collections::BTreeSet<u64>| ids.iter().map(|id| format!("{id}\n")).collect::<String>();
    let sorted = |text: String| {
        let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
        lines.sort_unstable();
        lines.concat()
    };
    assert_eq!(prints(&node, &["channels"]).await, "news\t2\nsport\t1\n");
    assert_eq!(prints(&node, &["channels", "sport"]).await, "sport\t1\n");
    assert_eq!(prints(&node, &["channels", "unknown"]).await, "unknown\t0\n");
    assert_eq!(sorted(prints(&node, &["connections"]).await), lines(&ids));
    assert_eq!(prints(&node, &["connections", "--channel", "sport"]).await, lines(&sport));
    assert_eq!(prints(&node, &["connections", "--count"]).await, "2\n");
    assert_eq!(prints(&node, &["connections", "--count", "--channel", "sport"]).await, "1\n");
    let json: Value = serde_json::from_str(&prints(&node, &["channels", "--json"]).await).unwrap();
    assert_eq!(json["news"].as_array().map(Vec::len), Some(2), "{json}");
    let json: Value = serde_json::from_str(&prints(&node, &["connections", "--json"]).await).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(2), "{json}");
}

#[tokio::test]
async fn close_closes_a_connection_or_a_channel_and_says_when_there_is_none() {
    let node = Node::start(&[]).await;
    let mut a = Listener::connect(node.ws(), "/?channel[]=news").await;
    let id = node.api().connections().await.unwrap().pop_first().unwrap().to_string();
    assert_eq!(prints(&node, &["close", "--connection", &id]).await, "");
    assert!(matches!(a.hears().await, Heard::Closed(1000, _)));
    let mut b = Listener::connect(node.ws(), "/?channel[]=news").await;
    assert_eq!(prints(&node, &["close", "--channel", "news"]).await, "");
    assert!(matches!(b.hears().await, Heard::Closed(1000, _)));
    let finished = run(&node, &["close", "--connection", &id]).await;
    assert_eq!((finished.code, finished.stdout.as_str()), (1, ""));
    assert!(!finished.stderr.is_empty());
}

#[tokio::test]
async fn stats_are_printed_figure_by_figure_and_as_json() {
    let node = Node::start(&[]).await;
    let _listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    let lines = prints(&node, &["stats"]).await;
    for line in ["channels.0\tnews", "cache_info.num_entries\t1"] {
        assert!(lines.lines().any(|found| found == line), "{line} is not in {lines}");
    }
    let json: Value = serde_json::from_str(&prints(&node, &["stats", "--json"]).await).unwrap();
    assert_eq!(json["cache_info"]["num_entries"], 1);
}

#[tokio::test]
async fn listen_prints_what_arrives_and_ends_after_as_many_messages_as_asked_for() {
    let node = Node::start(&[]).await;
    let child = listening(&node, &["--count", "2"]).await;
    node.api().push("news", "first").await.unwrap();
    node.api().push("news", "другий").await.unwrap();
    let done = finished(child).await;
    assert_eq!((done.code, done.stdout.as_str()), (0, "first\nдругий\n"), "{}", done.stderr);

    eventually("it has left", DEADLINE, async || support::eventually::same(node.api().count().await.unwrap(), 0)).await;
    let child = listening(&node, &["--count", "1", "--json"]).await;
    node.api().push("news", "hello").await.unwrap();
    let done = finished(child).await;
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    assert_eq!((&json["type"], &json["data"]), (&"text".into(), &"hello".into()));
    assert!(json["time"].is_number(), "{json}");
}

#[tokio::test]
async fn listen_tells_why_it_was_closed() {
    let node = Node::start(&[]).await;
    let child = listening(&node, &[]).await;
    node.api().response("action=close&to=channel&channel=news").await.unwrap();
    let done = finished(child).await;
    assert!(done.code == 0 && done.stderr.contains("1000"), "{} {}", done.code, done.stderr);
    let mut node = node;
    eventually("it has left", DEADLINE, async || support::eventually::same(node.api().count().await.unwrap(), 0)).await;
    let child = listening(&node, &[]).await;
    node.kill();
    let done = finished(child).await;
    assert_eq!(done.code, 3, "{}", done.stderr);
}

#[tokio::test]
async fn health_answers_by_its_exit_code() {
    let mut node = Node::start(&[]).await;
    assert_eq!(run(&node, &["health"]).await.code, 0);
    assert_eq!(run(&node, &["health", "--live"]).await.code, 0);
    node.kill();
    assert_eq!(run(&node, &["health"]).await.code, 3);

    let away = format!("redis://127.0.0.1:{}", free_port());
    let mut node = Node::spawn(&[("REDIS_URL", &away)]);
    node.listening().await;
    assert_eq!(run(&node, &["health", "--live"]).await.code, 0);
    let finished = run(&node, &["health"]).await;
    assert!(finished.code == 1 && !finished.stderr.is_empty(), "{} {}", finished.code, finished.stderr);
}

#[tokio::test]
async fn health_finds_the_node_of_its_machine_by_the_nodes_variables() {
    let (shared, own, metrics) = (free_port().to_string(), free_port().to_string(), free_port().to_string());
    for environment in [
        &[("HTTP_HOST", "127.0.0.2"), ("HTTP_PORT", own.as_str())][..],
        &[("HTTP_HOST", "127.0.0.2"), ("METRICS_PORT", &metrics)],
        &[("HTTP_HOST", "127.0.0.2"), ("HTTP_PORT", &shared), ("WS_HOST", "127.0.0.2"), ("WS_PORT", &shared)],
        &[("HTTP_HOST", "0.0.0.0"), ("HTTP_PORT", &shared), ("WS_HOST", "0.0.0.0"), ("WS_PORT", &shared)],
    ] {
        let _node = Node::start(environment).await;
        let finished = finish(carillon(&["health"], environment)).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (0, "ready\n"), "{environment:?} {}", finished.stderr);
    }
    let finished = finish(carillon(&["health"], &[("HTTP_PORT", "http")])).await;
    assert!(finished.code == 2 && finished.stderr.contains("HTTP_PORT"), "{} {}", finished.code, finished.stderr);
}

#[tokio::test]
async fn a_port_of_another_kind_is_called_what_it_is() {
    let node = Node::start(&[]).await;
    let (http_of_ws, ws_of_http) = (format!("http://{}/", node.ws()), format!("ws://{}/", node.http()));
    for (arguments, said) in [
        (&["channels", "--api", &http_of_ws][..], "no Carillon HTTP API answers there"),
        (&["push", "--all", "hello", "--api", &http_of_ws], "no Carillon HTTP API answers there"),
        (&["health", "--api", &http_of_ws], "no Carillon HTTP API answers there"),
        (&["listen", "--reconnect", "--url", &ws_of_http], "is a node's HTTP API"),
    ] {
        let finished = finish(carillon(arguments, &[])).await;
        assert_eq!((finished.code, finished.stdout.as_str()), (1, ""), "{arguments:?} {}", finished.stderr);
        let url = arguments.last().unwrap().trim_end_matches('/');
        assert!(finished.stderr.contains(said) && finished.stderr.contains(url), "{arguments:?} {}", finished.stderr);
    }
}

#[tokio::test]
async fn a_token_is_taken_from_option_environment_or_file_and_shown_nowhere() {
    let node = Node::start(&[("HTTP_TOKEN", "correct-horse")]).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, "correct-horse\n").unwrap();
    let api = format!("http://{}/", node.http());
    let file = file.to_str().unwrap();
    for (arguments, environment, code) in [
        (&["connections", "--token", "correct-horse"][..], &[][..], 0),
        (&["connections"], &[("CARILLON_TOKEN", "correct-horse")], 0),
        (&["connections"], &[("CARILLON_TOKEN_FILE", file)], 0),
        (&["connections", "--token-file", file], &[], 0),
        (&["connections", "--token", "battery-staple"], &[], 1),
        (&["connections"], &[], 1),
        (&["--help"], &[("CARILLON_TOKEN", "correct-horse")], 0),
        (&["connections", "--timeout", "x"], &[("CARILLON_TOKEN", "correct-horse")], 2),
    ] {
        let mut environment = environment.to_vec();
        environment.push(("CARILLON_API", &api));
        let finished = finish(carillon(arguments, &environment)).await;
        assert_eq!(finished.code, code, "{arguments:?} {}", finished.stderr);
        let said = finished.stdout + &finished.stderr;
        assert!(!said.contains("correct-horse") && !said.contains("battery-staple"), "{arguments:?}: {said}");
    }
}

#[tokio::test]
async fn wrong_usage_is_2_and_a_server_that_is_not_there_is_3() {
    let nobody = format!("http://127.0.0.1:{}/", free_port());
    for (arguments, code) in [
        (&["ring"][..], 2),
        // A node that took them without a word would be open.
        (&["serve", "--token", "secret"], 2),
        (&["--token", "secret"], 2),
        (&["config", "--json"], 2),
        (&["push", "hello"], 2),
        (&["close"], 2),
        (&["listen", "--count", "0"], 2),
        (&["push", "--connection", "nine", "hello"], 2),
        (&["channels", "--api", &nobody], 3),
        (&["push", "--all", "hello", "--api", &nobody], 3),
        (&["listen", "--url", &nobody.replace("http", "ws")], 3),
        (&["--version"], 0),
        (&["help"], 0),
    ] {
        let finished = finish(carillon(arguments, &[])).await;
        assert_eq!(finished.code, code, "{arguments:?} {}", finished.stderr);
        assert_eq!(finished.stderr.is_empty(), code == 0, "{arguments:?} {}", finished.stderr);
    }
}
