//! The device socket as backends meet it: a real unix socket, one write, one read.

mod support;

use futures_util::future::join_all;
use std::process::{Command, Stdio};
use support::device::{Backend, DEVICES, Place, device, metric, node, refused, send, to_all};
use support::node::finish;
use support::{DEADLINE, Fleet, Listener, Node, eventually};

/// Bytes of the longest document.
const MAX_DOCUMENT: usize = 2 << 20;

/// A device in the channel `news` with the stable id 1234567.
async fn subscribed(node: &Node) -> (Listener, String) {
    device(node, "/?channel[]=news&device=1234567").await
}

#[tokio::test]
async fn every_document_has_its_answer_and_its_effect() {
    let rows = include_str!("data/device.txt");
    for strict in ["false", "true"] {
        let place = Place::new();
        let node = node(&place, &[("UNIX_SOCKET_STRICT", strict)]).await;
        let (mut listener, id) = subscribed(&node).await;
        let blocks = rows.split("\n\n").map(|block| block.lines().filter(|line| !line.starts_with('#')));
        let mut count = 0;
        for mut block in blocks {
            let Some(document) = block.next() else { continue };
            let document = document.replace("$ID", &id);
            let (mut answer, mut heard) = ("", Vec::new());
            for line in block {
                match line.split_once(' ').unwrap() {
                    ("answer", text) => answer = text,
                    ("strict", text) if strict == "true" => answer = text,
                    ("strict", _) => {}
                    ("heard", text) => heard.push(support::Heard::Text(text.to_owned())),
                    _ => panic!("{line}"),
                }
            }
            assert_eq!(send(&place.path(), &document).await, answer, "{document}");
            assert_eq!(send(&place.path(), to_all("next")).await, "OK");
            assert_eq!(listener.hears_until("\"next\"").await, heard, "{document}");
            count += 1;
        }
        assert!(count > 40, "{count} rows were read");
    }
}

#[tokio::test]
async fn the_function_that_php_backends_have_keeps_working() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let (mut listener, id) = subscribed(&node).await;
    let function = r#"
        function sendViaWebsocket($json) {
            $socket = stream_socket_client('unix://' . getenv('SOCKET'));
            fwrite($socket, $json);
            return fread($socket, 8192);
        }
        $id = getenv('ID');
        $data = ['action' => 'someAction', 'data' => ['text' => "é/\u{1f514}", 'list' => [1, 2.5, null]]];
        $pretty = JSON_PRETTY_PRINT;
        $long = str_repeat('x', 500000);
        echo sendViaWebsocket(json_encode(['action' => 'sendToDevice', 'device' => '1234567', 'data' => $data], $pretty));
        echo ' ', sendViaWebsocket(json_encode(['action' => 'subscribe', 'device' => $id, 'channel' => 'php']));
        echo ' ', sendViaWebsocket(json_encode(['action' => 'sendToChannel', 'channel' => 'php', 'data' => $long]));
        echo ' ', sendViaWebsocket('{"action": "multicast", "data":'), ' ', sendViaWebsocket('nonsense');
    "#;
    let mut php = Command::new("php");
    php.args(["-n", "-r", function]).env("SOCKET", place.path()).env("ID", &id);
    php.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let finished = finish(php).await;
    assert_eq!(finished.stdout, "OK OK OK ERR ERR", "{}", finished.stderr);
    // Byte for byte what json_encode would have written.
    let data = r#"{"action":"someAction","data":{"text":"\u00e9\/\ud83d\udd14","list":[1,2.5,null]}}"#;
    listener.hears_text(data).await;
    listener.hears_text(&format!("\"{}\"", "x".repeat(500_000))).await;
}

#[tokio::test]
async fn a_document_may_be_cut_at_every_byte() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let (mut listener, _) = subscribed(&node).await;
    let document = r#"{"action":"multicast","data":"\"\u00e9é😀{"}"#.as_bytes();
    let (mut cut, mut other) = (Backend::connect(&place.path()).await, Backend::connect(&place.path()).await);
    for at in 1..document.len() {
        cut.write(&document[..at]).await;
        // By the time that this is answered the first part has most likely been read.
        assert_eq!(other.ask("{}").await, "OK");
        cut.write(&document[at..]).await;
        assert_eq!(cut.read().await, "OK", "cut at {at}");
        listener.hears_text(r#""\"\u00e9é😀{""#).await;
    }
    for byte in document {
        cut.write([*byte]).await;
    }
    assert_eq!(cut.read().await, "OK");
    listener.hears_text(r#""\"\u00e9é😀{""#).await;
}

#[tokio::test]
async fn one_long_write_that_is_malformed_has_one_answer() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let mut backend = Backend::connect(&place.path()).await;
    for _ in 0..20 {
        // More than the kernel takes at once, so that most of it is written after the node has seen what is wrong.
        backend.write(format!("{{\"action\":\"multicast\",\"data\":}}{}", "x".repeat(MAX_DOCUMENT - 100))).await;
        assert_eq!(backend.read().await, "ERR");
        assert_eq!(backend.ask("{}").await, "OK");
    }
    // The limit is the same for what is no document.
    backend.write_until_closed(&vec![b'}'; MAX_DOCUMENT]).await;
    assert_eq!(backend.rest().await, "ERR");
    assert_eq!(refused(&node, "unix", "malformed").await, 21);
}

#[tokio::test]
async fn several_documents_in_one_write_are_answered_and_carried_out_in_their_order() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let (mut listener, _) = subscribed(&node).await;
    let mut backend = Backend::connect(&place.path()).await;
    let texts: Vec<String> = (0..500).map(|number| number.to_string()).collect();
    let documents: String = texts.iter().map(|text| to_all(text)).collect();
    backend.write(format!("{documents} null\n{{}}")).await;
    backend.reads(&format!("{}ERROK", "OK".repeat(500))).await;
    for text in texts {
        listener.hears_text(&format!("\"{text}\"")).await;
    }
    assert_eq!(backend.end().await, "");
}

#[tokio::test]
async fn what_is_malformed_is_one_error_and_the_rest_of_it_is_dropped() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let (mut listener, _) = subscribed(&node).await;
    let mut backend = Backend::connect(&place.path()).await;
    for malformed in
        [&b"<html>{\"action\":\"multicast\",\"data\":\"html\"}"[..], b"{\"a\":\"\xff\"}", b"{\"a\":\"\xc3\"}"]
    {
        assert_eq!(backend.ask(malformed).await, "ERR");
        assert_eq!(backend.ask(to_all("good")).await, "OK");
        listener.hears_text("\"good\"").await;
    }
    assert_eq!(refused(&node, "unix", "malformed").await, 3);
}

#[tokio::test]
async fn depth_and_size_have_limits() {
    let place = Place::new();
    let node = node(&place, &[("MAX_PUSH", "4MiB"), ("MAX_UNSENT", "16MiB")]).await;
    let (mut listener, _) = subscribed(&node).await;
    let mut backend = Backend::connect(&place.path()).await;
    // The document itself is a level too.
    let nested = |depth: usize| {
        let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
        (format!(r#"{{"action":"multicast","data":{open}{close}}}"#), format!("{open}{close}"))
    };
    let (document, data) = nested(512);
    assert_eq!(backend.ask(document).await, "OK");
    listener.hears_text(&data).await;
    assert_eq!(backend.ask(nested(513).0).await, "ERR");
    assert_eq!(backend.ask("[".repeat(100_000)).await, "ERR");

    let around = to_all("").len();
    let text = "x".repeat(MAX_DOCUMENT - around);
    assert_eq!(backend.ask(to_all(&text)).await, "OK");
    listener.hears_text(&format!("\"{text}\"")).await;
    backend.write(to_all(&format!("{text}x"))).await;
    assert_eq!(backend.rest().await, "ERR");
    assert_eq!(refused(&node, "unix", "too_long").await, 1);
}

#[tokio::test]
async fn a_push_over_its_limit_is_never_a_yes() {
    let place = Place::new();
    let node = node(&place, &[("MAX_PUSH", "10")]).await;
    assert_eq!(send(&place.path(), to_all("12345678")).await, "OK");
    assert_eq!(send(&place.path(), to_all("123456789")).await, "ERR");
    assert_eq!(refused(&node, "unix", "limit").await, 1);
}

#[tokio::test]
async fn what_stays_incomplete_or_is_nothing_is_an_error() {
    let place = Place::new();
    let _node = node(&place, &[]).await;
    let path = place.path();
    for nothing in ["", " \n"] {
        let mut backend = Backend::connect(&path).await;
        backend.write(nothing).await;
        assert_eq!(backend.end().await, "ERR", "{nothing:?}");
    }
    let mut backend = Backend::connect(&path).await;
    // Silence is the answer to neither: the second of these is white space behind a document.
    assert_eq!(backend.ask(" ").await, "ERR");
    assert_eq!(backend.ask("{}\n").await, "OK");
    backend.write(" ").await;
    assert_eq!(backend.ask(r#"{"action":"#).await, "ERR");
    assert_eq!(backend.ask("{}").await, "OK");
    backend.write(r#"{"action""#).await;
    assert_eq!(backend.end().await, "ERR");
}

#[tokio::test]
async fn a_backend_that_never_reads_is_given_up_and_holds_nobody_up() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let mut deaf = Backend::connect(&place.path()).await;
    let documents = "{}".repeat(1000);
    let others = async {
        let mut backend = Backend::connect(&place.path()).await;
        for _ in 0..100 {
            assert_eq!(backend.ask("{}").await, "OK");
        }
    };
    tokio::join!(deaf.write_until_closed(documents.as_bytes()), others);
    eventually("the node has nobody at its socket any more", DEADLINE, async || {
        support::eventually::same(metric(&node, "carillon_device_socket_connections").await, 0)
    })
    .await;
}

#[tokio::test]
async fn a_backend_that_leaves_without_its_answers_has_its_documents_carried_out() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let (mut listener, _) = subscribed(&node).await;
    for round in 0..20 {
        let mut backend = Backend::connect(&place.path()).await;
        let documents: String = (0..50).map(|number| to_all(&format!("{round}/{number}"))).collect();
        backend.write(documents).await;
        drop(backend);
        for number in 0..50 {
            listener.hears_text(&format!("\"{round}/{number}\"")).await;
        }
    }
}

#[tokio::test]
async fn many_backends_are_served_at_once_and_those_over_the_limit_are_told() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let path = place.path();
    let mut backends = join_all((0..1024).map(|_| Backend::connect(&path))).await;
    let answers = join_all(backends.iter_mut().map(|backend| backend.ask("{}"))).await;
    assert!(answers.iter().all(|answer| answer == "OK"));
    assert_eq!(metric(&node, "carillon_device_socket_connections").await, 1024);
    for _ in 0..20 {
        assert_eq!(Backend::connect(&path).await.rest().await, "ERR");
    }
    assert_eq!(metric(&node, "carillon_device_socket_connections_refused_total").await, 20);
    let lines = || node.log().iter().filter(|line| line.contains("as many as there may be")).count();
    eventually("it is logged", DEADLINE, async || if lines() > 0 { Ok(()) } else { Err("no line") }).await;
    assert!(lines() < 20, "{} lines of log", lines());
    drop(backends);
    eventually("there is room again", DEADLINE, async || match send(&path, "{}").await.as_str() {
        "OK" => Ok(()),
        answer => Err(answer.to_owned()),
    })
    .await;
}

#[tokio::test]
async fn more_long_documents_than_there_is_memory_for_take_turns() {
    let place = Place::new();
    let _node = node(&place, &[]).await;
    let path = place.path();
    let document = format!(r#"{{"more":"{}"}}"#, "x".repeat(200_000));
    let answers = join_all((0..100).map(|_| send(&path, &document))).await;
    assert!(answers.iter().all(|answer| answer == "OK"), "{answers:?}");
}

#[tokio::test]
async fn what_is_overlooked_is_counted_and_logged_but_not_line_by_line() {
    let place = Place::new();
    let node = node(&place, &[]).await;
    let mut backend = Backend::connect(&place.path()).await;
    backend.write("[]".repeat(1000)).await;
    backend.reads(&"OK".repeat(1000)).await;
    assert_eq!(refused(&node, "unix", "not_an_object").await, 1000);
    node.logs("is not an object").await;
    let lines = node.log().iter().filter(|line| line.contains("is not an object")).count();
    assert!((1..100).contains(&lines), "{lines} lines of log");
    assert_eq!(backend.ask(r#"{"action":"multicast","data":1}"#).await, "OK");
    assert_eq!(metric(&node, r#"carillon_device_actions_total{action="multicast",source="unix"}"#).await, 1);
    assert_eq!(metric(&node, r#"carillon_pushes_total{dialect="device",target="all"}"#).await, 1);
}

#[tokio::test]
async fn every_action_reaches_devices_of_other_nodes() {
    let place = Place::new();
    let path = place.text();
    let fleet = Fleet::start(3, &[DEVICES]).await;
    let url = fleet.redis.url();
    let node =
        Node::start(&[("REDIS_URL", &url), DEVICES, ("UNIX_SOCKET", &path), ("UNIX_SOCKET_STRICT", "true")]).await;
    let (mut one, id) = device(&fleet.nodes[0], "/?device=1234567").await;
    let (mut two, _) = device(&fleet.nodes[1], "/?device=1234567").await;
    let (mut stranger, stranger_id) = device(&fleet.nodes[2], "/?device=7654321").await;
    let (mut near, _) = device(&node, "/?device=1234567").await;
    let mut backend = Backend::connect(&place.path()).await;
    let mut ask = async |document: String| assert_eq!(backend.ask(&document).await, "OK", "{document}");

    ask(r#"{"action":"subscribe","device":"1234567","channel":"all three"}"#.to_owned()).await;
    ask(format!(r#"{{"action":"subscribe","device":"{id}","channel":"one"}}"#)).await;
    ask(r#"{"action":"sendToChannel","channel":"all three","data":1}"#.to_owned()).await;
    ask(r#"{"action":"sendToDevice","device":"1234567","data":2}"#.to_owned()).await;
    ask(r#"{"action":"multicast","data":"next"}"#.to_owned()).await;
    for listener in [&mut one, &mut two, &mut near] {
        for text in ["1", "2", "\"next\""] {
            listener.hears_text(text).await;
        }
    }
    ask(r#"{"action":"sendToChannel","channel":"one","data":3}"#.to_owned()).await;
    ask(format!(r#"{{"action":"sendToDevice","device":"{id}","data":4}}"#)).await;
    ask(format!(r#"{{"action":"sendToDevice","device":"{stranger_id}","data":5}}"#)).await;
    ask(r#"{"action":"unsubscribe","device":"1234567","channel":"all three"}"#.to_owned()).await;
    ask(r#"{"action":"sendToChannel","channel":"all three","data":6}"#.to_owned()).await;
    ask(r#"{"action":"multicast","data":"last"}"#.to_owned()).await;
    for (listener, texts) in
        [(&mut one, &["3", "4"][..]), (&mut two, &[]), (&mut near, &[]), (&mut stranger, &["\"next\"", "5"])]
    {
        for text in texts {
            listener.hears_text(text).await;
        }
        listener.hears_text("\"last\"").await;
    }
    // What the other interfaces see is the same thing.
    ask(format!(r#"{{"action":"subscribe","device":"{stranger_id}","channel":"news"}}"#)).await;
    assert_eq!(fleet.nodes[1].api().count_members("news").await.unwrap(), 1);
    fleet.nodes[0].api().push("news", "hello").await.unwrap();
    stranger.hears_text("hello").await;
}

#[tokio::test]
async fn an_id_of_an_earlier_life_names_nobody() {
    let place = Place::new();
    let path = place.text();
    let mut fleet = Fleet::start(2, &[DEVICES]).await;
    let url = fleet.redis.url();
    let _node =
        Node::start(&[("REDIS_URL", &url), DEVICES, ("UNIX_SOCKET", &path), ("UNIX_SOCKET_STRICT", "true")]).await;
    let (listener, id) = device(&fleet.nodes[0], "/").await;
    let document = format!(r#"{{"action":"sendToDevice","device":"{id}","data":1}}"#);
    assert_eq!(send(&place.path(), &document).await, "OK");
    drop(listener);
    let unknown = format!("ERR: device \"{id}\" is unknown");
    eventually("a device that has left is unknown", DEADLINE, async || {
        support::eventually::same(send(&place.path(), &document).await, unknown.clone())
    })
    .await;
    let (_, id) = device(&fleet.nodes[1], "/").await;
    fleet.nodes[1].kill();
    let unknown = format!("ERR: device \"{id}\" is unknown");
    let document = format!(r#"{{"action":"subscribe","device":"{id}","channel":"news"}}"#);
    eventually("a device of a killed node is unknown", DEADLINE, async || {
        support::eventually::same(send(&place.path(), &document).await, unknown.clone())
    })
    .await;
}

#[tokio::test]
async fn without_redis_it_is_never_a_yes() {
    let place = Place::new();
    let path = place.text();
    let mut fleet = Fleet::start(1, &[DEVICES, ("UNIX_SOCKET", &path)]).await;
    let (mut listener, id) = device(&fleet.nodes[0], "/").await;
    let documents = [
        to_all("away"),
        format!(r#"{{"action":"sendToDevice","device":"{id}","data":1}}"#),
        format!(r#"{{"action":"subscribe","device":"{id}","channel":"news"}}"#),
        format!(r#"{{"action":"unsubscribe","device":"{id}","channel":"news"}}"#),
    ];
    for document in &documents {
        assert_eq!(send(&place.path(), document).await, "OK", "{document}");
    }
    assert_eq!(listener.hears_until("1").await.len(), 1);
    fleet.redis.kill();
    for document in &documents {
        assert_eq!(send(&place.path(), document).await, "ERR", "{document}");
    }
    // What is wrong with it can be said without Redis.
    assert_eq!(send(&place.path(), "{}").await, "OK");
    fleet.redis.run_again().await;
    eventually("documents are taken again", DEADLINE, async || {
        support::eventually::same(send(&place.path(), to_all("back")).await.as_str(), "OK")
    })
    .await;
    listener.hears_text("\"back\"").await;
}
