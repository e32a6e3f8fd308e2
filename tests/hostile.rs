//! Clients that mean harm, or don't know better: each gets a clear answer, and nobody else notices.

mod support;

use std::net::SocketAddr;
use std::time::Duration;
use support::api::quoted;
use support::device::{Backend, Place};
use support::http::{Answer, Http};
use support::raw::{Raw, announced, handshake, handshake_with, masked, unmasked};
use support::{DEADLINE, Heard, Listener, Node, eventually};

/// What a few hundred hostile clients may leave behind in a node's memory: caches of the allocator, no more.
const LEFT_BEHIND: u64 = 32 << 20;

/// A client that behaves, to see that it is served while others don't.
struct Bystander<'a> {
    node: &'a Node,
    listener: Listener,
}

impl<'a> Bystander<'a> {
    async fn of(node: &'a Node) -> Self {
        Self { node, listener: Listener::connect(node.ws(), "/?channel[]=bystander").await }
    }

    async fn is_served(&mut self, after: &str) {
        self.node.api().push("bystander", after).await.unwrap();
        assert_eq!(self.listener.hears().await, Heard::Text(after.to_owned()));
    }
}

async fn answer_to(to: SocketAddr, bytes: &[u8]) -> Answer {
    let mut raw = Raw::connect(to).await;
    raw.send(bytes).await;
    raw.answer()
        .await
        .unwrap_or_else(|error| panic!("{error} for {:?}", String::from_utf8_lossy(&bytes[..80.min(bytes.len())])))
}

#[tokio::test]
async fn what_is_no_http_or_no_handshake_has_an_answer_that_says_so() {
    let node = Node::start(&[]).await;
    let mut bystander = Bystander::of(&node).await;
    let plain = "GET / HTTP/1.1\r\nHost: c\r\n";
    let upgrade = "GET / HTTP/1.1\r\nHost: c\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let version = "Sec-WebSocket-Version: 13\r\n";
    let cases: [(&str, Vec<u8>, &[u16]); 11] = [
        ("random bytes", vec![0x00, 0xff, 0x13, 0x37, b'\r', b'\n', b'\r', b'\n'], &[400]),
        ("a TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(), &[400]),
        ("another protocol", b"SSH-2.0-OpenSSH_9.2\r\n\r\n".to_vec(), &[400]),
        ("a colon missing", format!("{plain}no header\r\n\r\n").into_bytes(), &[400]),
        ("no upgrade", format!("{plain}\r\n").into_bytes(), &[400, 426]),
        ("no key", format!("{upgrade}{version}\r\n").into_bytes(), &[400]),
        ("a key that is none", format!("{upgrade}{version}Sec-WebSocket-Key: x\r\n\r\n").into_bytes(), &[400]),
        ("no version", format!("{upgrade}{key}\r\n").into_bytes(), &[400, 426]),
        ("an old version", format!("{upgrade}{key}Sec-WebSocket-Version: 8\r\n\r\n").into_bytes(), &[426]),
        ("a header of 1 MiB", handshake_with("/", &format!("X: {}\r\n", "x".repeat(1 << 20))).into_bytes(), &[431]),
        ("a thousand headers", handshake_with("/", &"X: x\r\n".repeat(1000)).into_bytes(), &[431]),
    ];
    for (what, bytes, statuses) in cases {
        let answer = answer_to(node.ws(), &bytes).await;
        assert!(statuses.contains(&answer.status), "{what}: {answer:?}");
        if what == "an old version" {
            assert_eq!(answer.header("sec-websocket-version"), Some("13"));
        }
        bystander.is_served(what).await;
    }
}

#[tokio::test]
async fn garbage_and_huge_headers_on_the_http_port_have_an_answer() {
    let node = Node::start(&[]).await;
    for (what, bytes, status) in [
        ("random bytes", b"\x00\xff\x13\x37\r\n\r\n".to_vec(), 400),
        (
            "a header of 1 MiB",
            format!("GET / HTTP/1.1\r\nHost: c\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)).into_bytes(),
            431,
        ),
        ("a length that is none", b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: -1\r\n\r\n".to_vec(), 400),
        ("two lengths", b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".to_vec(), 400),
    ] {
        let answer = answer_to(node.http(), &bytes).await;
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert!(node.api().is_ready().await, "{what}");
    }
}

#[tokio::test]
async fn half_a_handshake_held_open_is_hung_up_on_and_leaves_nothing() {
    let node = Node::start(&[("HANDSHAKE_TIMEOUT", "1s")]).await;
    let mut bystander = Bystander::of(&node).await;
    bystander.is_served("before").await;
    let (files, memory) = (node.open_files(), node.resident());
    let mut held = Vec::new();
    for half in ["", "GET", "GET / HTTP/1.1\r\nHost: c\r\n", "GET / HTTP/1.1\r\nUpgrade: websocket\r\nX: "] {
        for port in [node.ws(), node.http()] {
            for _ in 0..50 {
                let mut raw = Raw::connect(port).await;
                raw.send(half.as_bytes()).await;
                held.push(raw);
            }
        }
    }
    bystander.is_served("while they are held").await;
    for raw in &mut held {
        raw.rest().await;
    }
    eventually("their sockets are closed", DEADLINE, async || {
        let open = node.open_files();
        if open <= files + 5 { Ok(()) } else { Err(format!("{open} open files, {files} before")) }
    })
    .await;
    assert!(node.resident() < memory + LEFT_BEHIND, "{} bytes before, {} after", memory, node.resident());
    bystander.is_served("after").await;
}

#[tokio::test]
async fn who_has_asked_for_something_may_be_silent_for_longer_than_who_has_not() {
    let node = Node::start(&[("HANDSHAKE_TIMEOUT", "1s")]).await;
    let mut asked = Http::connect(node.http()).await.unwrap();
    assert_eq!(asked.get("/livez").await.unwrap().status, 200);
    let mut silent = Raw::connect(node.http()).await;
    silent.rest().await;
    // A load balancer's connection: it would lose the push that crosses the node's close.
    assert_eq!(asked.get("/livez").await.unwrap().status, 200);
}

#[tokio::test]
async fn frames_that_break_rfc_6455_close_the_connection_with_the_code_that_says_why() {
    let node = Node::start(&[]).await;
    let mut bystander = Bystander::of(&node).await;
    bystander.is_served("before").await;
    let memory = node.resident();
    let close = |code: u16| masked(0x88, &code.to_be_bytes());
    let cases: [(&str, Vec<u8>, u16); 20] = [
        ("an unmasked text", unmasked(0x81, b"hello"), 1002),
        ("an unmasked ping", unmasked(0x89, b""), 1002),
        ("an unmasked close", unmasked(0x88, &1000u16.to_be_bytes()), 1002),
        ("a reserved bit", masked(0xc1, b"hello"), 1002),
        ("a reserved opcode for data", masked(0x83, b""), 1002),
        ("a reserved opcode for control", masked(0x8b, b""), 1002),
        ("a length of 2^63", announced(0x82, 1 << 63), 1002),
        ("a length of 2^64 - 1", announced(0x82, u64::MAX), 1002),
        ("a length of 2^62", announced(0x82, 1 << 62), 1009),
        ("one byte too many", announced(0x81, (2 << 20) + 1), 1009),
        (
            "fragments that are together too long",
            [masked(0x02, &[0; 1 << 20]), announced(0x80, (1 << 20) + 1)].concat(),
            1009,
        ),
        ("a ping of 126 bytes", masked(0x89, &[0; 126]), 1002),
        ("a fragmented ping", masked(0x09, b""), 1002),
        ("a continuation of nothing", masked(0x80, b"more"), 1002),
        ("a new message within another", [masked(0x01, b"a"), masked(0x81, b"b")].concat(), 1002),
        ("a text that is not UTF-8", masked(0x81, b"\xc3\x28"), 1007),
        ("fragments that are not UTF-8 together", [masked(0x01, b"\xd0"), masked(0x80, b"a")].concat(), 1007),
        ("a close with half a code", masked(0x88, b"\x03"), 1002),
        ("a close with a code that must not be sent", close(1005), 1002),
        ("a close with a reason that is not UTF-8", masked(0x88, b"\x03\xe8\xff"), 1007),
    ];
    for round in 0..10 {
        for (what, frames, code) in &cases {
            let mut raw = Raw::upgraded(node.ws(), "/?channel[]=hostile").await;
            raw.send(frames).await;
            assert_eq!(raw.close_code().await.map(|(code, _)| code), Some(*code), "{what}");
            raw.send(&close(1000)).await;
            raw.rest().await;
            if round == 0 {
                bystander.is_served(what).await;
            }
        }
    }
    eventually("those who were closed are in no listing", DEADLINE, async || {
        support::eventually::same(node.api().count_members("hostile").await.unwrap(), 0)
    })
    .await;
    assert!(node.resident() < memory + LEFT_BEHIND, "{} bytes before, {} after", memory, node.resident());
}

#[tokio::test]
async fn a_length_that_is_announced_takes_no_memory_before_its_bytes_come() {
    let node = Node::start(&[]).await;
    let mut bystander = Bystander::of(&node).await;
    bystander.is_served("before").await;
    let memory = node.resident();
    let mut held = Vec::new();
    for _ in 0..300 {
        let mut raw = Raw::upgraded(node.ws(), "/").await;
        raw.send(&[announced(0x82, 2 << 20), vec![0; 100]].concat()).await;
        held.push(raw);
    }
    // A client sends this after its bytes, so that they have been read by now.
    bystander.is_served("while they are held").await;
    assert!(node.resident() < memory + LEFT_BEHIND, "{} bytes before, {} after", memory, node.resident());
}

#[tokio::test]
async fn channels_too_many_or_with_names_that_are_none_are_refused_with_value_and_limit() {
    let node = Node::start(&[("MAX_CHANNELS", "3")]).await;
    let mut bystander = Bystander::of(&node).await;
    let longest = "n".repeat(200);
    for (target, status, says) in [
        ("/?channel[]=a&channel[]=b&channel[]=c".to_owned(), 101, ""),
        ("/?channel[]=a&channel[]=b&channel[]=a&channel[]=b&channel[]=a".to_owned(), 101, ""),
        ("/?channel[]=a&channel[]=b&channel[]=c&channel[]=d".to_owned(), 400, "3"),
        (format!("/?channel[]={longest}"), 101, ""),
        (format!("/?channel[]={longest}n"), 400, "200"),
        (format!("/?channel[]={}", quoted(&"ї".repeat(101))), 400, "200"),
        ("/?channel[]=%FF%FE".to_owned(), 400, "utf-8"),
        ("/?channel[]=good&channel[]=a%00b".to_owned(), 400, "control"),
        ("/?channel[k][l]=a".to_owned(), 400, "channel"),
    ] {
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(handshake(&target).as_bytes()).await;
        let answer = raw.answer().await.unwrap();
        assert_eq!(answer.status, status, "{target}: {}", answer.text());
        if status == 400 {
            assert!(answer.text().to_lowercase().contains(says), "{target}: {}", answer.text());
        }
        bystander.is_served("still").await;
    }
}

#[tokio::test]
async fn a_connection_is_in_no_more_channels_than_it_may_be_however_many_calls_put_it_there() {
    let node = Node::start(&[("MAX_CHANNELS", "3")]).await;
    let _listener = Listener::connect(node.ws(), "/?channel[]=a&channel[]=b").await;
    let subscribe = async |channels: &str| {
        let answer = node.api().ask(&format!("action=subscribe&connection=1&{channels}")).await.unwrap();
        let answer = answer.json();
        (answer["status"].as_bool().unwrap(), answer["message"].to_string())
    };
    assert!(subscribe("channel[]=b&channel[]=c").await.0);
    let (done, message) = subscribe("channel[]=d").await;
    assert!(!done && message.contains("MAX_CHANNELS") && message.contains('3'), "{message}");
    assert!(subscribe("channel[]=a&channel[]=c").await.0, "where it is already it may be put again");
    assert_eq!(node.api().count_members("d").await.unwrap(), 0);
}

#[tokio::test]
async fn ten_thousand_channels_in_a_handshake_are_refused_and_a_thousand_are_not() {
    let node = Node::start(&[]).await;
    let target = |channels: usize| {
        let names: Vec<String> = (0..channels).map(|n| format!("channel[]={n}")).collect();
        format!("/?{}", names.join("&"))
    };
    for (channels, statuses) in [(1000, &[101][..]), (1001, &[400]), (10_000, &[400, 414, 431])] {
        let mut raw = Raw::connect(node.ws()).await;
        raw.send(handshake(&target(channels)).as_bytes()).await;
        let answer = raw.answer().await.unwrap();
        assert!(statuses.contains(&answer.status), "{channels}: {} {}", answer.status, answer.text());
    }
}

#[tokio::test]
async fn names_that_are_none_are_refused_by_the_api_with_the_reason() {
    let node = Node::start(&[]).await;
    let too_long = "n".repeat(201);
    for call in ["push&to=channel&message=m", "getChannels", "getConnections", "countConnections", "close&to=channel"] {
        for (name, says) in [(too_long.as_str(), "200"), ("%FF", "utf-8"), ("a%0Ab", "control")] {
            let reply = node.api().call(&format!("action={call}&channel={name}")).await.unwrap();
            assert_eq!(reply["status"], false, "{call} {name}");
            let message = reply["message"].as_str().unwrap_or_default();
            assert!(message.contains("channel") && message.to_lowercase().contains(says), "{call} {name}: {message:?}");
        }
    }
}

#[tokio::test]
async fn who_does_not_read_is_cut_off_and_the_others_hear_everything() {
    let node = Node::start(&[("MAX_UNSENT", "256KiB")]).await;
    let _deaf = Raw::upgraded(node.ws(), "/?channel[]=news").await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    let mut http = Http::connect(node.http()).await.unwrap();
    let message = "m".repeat(500_000);
    let body = format!("action=push&to=channel&channel=news&message={message}");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let push = support::http::request("POST", "/", &form, body.as_bytes());
    let mut pushes = 0;
    while node.api().count_members("news").await.unwrap() > 1 {
        let answer = http.request(&push).await.unwrap();
        assert_eq!(answer.json()["status"], true);
        assert!(listener.hears().await == Heard::Text(message.clone()), "push {pushes} arrives");
        pushes += 1;
        assert!(pushes < 1000, "{pushes} pushes of {} bytes are owed to a client that reads nothing", message.len());
    }
    let metrics = support::http::get(node.http(), "/metrics").await.unwrap();
    let counted = metrics.text().lines().any(|line| {
        line.starts_with("carillon_connections_closed_total") && line.contains("slow_consumer") && line.ends_with(" 1")
    });
    assert!(counted, "{}", metrics.text());
}

#[tokio::test]
async fn a_client_that_goes_away_without_a_word_is_forgotten() {
    let node = Node::start(&[("PING_INTERVAL", "1s")]).await;
    // Its socket stays open here, and it answers no ping.
    let _silent = Raw::upgraded(node.ws(), "/?channel[]=silent").await;
    drop(Raw::upgraded(node.ws(), "/?channel[]=dropped").await);
    for channel in ["dropped", "silent"] {
        eventually(channel, DEADLINE, async || {
            support::eventually::same(node.api().count_members(channel).await.unwrap(), 0)
        })
        .await;
    }
}

#[tokio::test]
async fn a_node_that_is_full_says_when_to_come_back() {
    let node = Node::start(&[("MAX_CONNECTIONS", "2")]).await;
    let first = Listener::connect(node.ws(), "/").await;
    let _second = Listener::connect(node.ws(), "/").await;
    let refused = Listener::try_connect(node.ws(), "/").await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert!(refused.headers.iter().any(|(name, _)| name == "retry-after"), "{refused:?}");
    first.close().await;
    eventually("there is room again", Duration::from_secs(30), async || {
        Listener::try_connect(node.ws(), "/").await.map_err(|refused| format!("{refused:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_node_that_is_short_of_files_says_so_once_and_goes_on() {
    let place = Place::new();
    let node = Node::start(&[("UNIX_SOCKET", &place.text())]).await;
    let mut bystander = Bystander::of(&node).await;
    let mut metrics = Http::connect(node.http()).await.unwrap();
    metrics.get("/livez").await.unwrap();
    node.limit_files(Some(0));
    // Each of them waits in the backlog of a listener that can't accept it.
    let mut backend = Backend::connect(&place.path()).await;
    let mut http = Http::connect(node.http()).await.unwrap();
    let mut websocket = Raw::connect(node.ws()).await;
    websocket.send(handshake("/").as_bytes()).await;
    eventually("accepting has been tried again and again", DEADLINE, async || {
        let page = metrics.get("/metrics").await.map_err(|error| error.to_string())?;
        let failed = page.text().lines().find_map(|line| line.strip_prefix("carillon_http_accept_errors_total "));
        let failed: u64 = failed.unwrap().parse().unwrap();
        if failed >= 5 { Ok(()) } else { Err(format!("{failed} times")) }
    })
    .await;
    let said = || {
        let mut said: Vec<String> = node.log().into_iter().filter(|line| line.contains("can be accepted")).collect();
        said.iter_mut()
            .for_each(|line| *line = line.split('"').find(|text| text.starts_with("no ")).unwrap().to_owned());
        said.sort();
        said
    };
    let once = ["connection to the unix socket", "http connection", "websocket connection"]
        .map(|of| format!("no {of} can be accepted; trying again"));
    eventually("each listener has said it", DEADLINE, async || support::eventually::same(said(), once.to_vec())).await;
    bystander.node.limit_files(None);
    assert_eq!(http.get("/livez").await.unwrap().status, 200);
    assert_eq!(websocket.answer().await.unwrap().status, 101);
    backend.write(r#"{"action":"multicast","data":1}"#).await;
    assert_eq!(bystander.listener.hears().await, Heard::Text("1".to_owned()));
    assert_eq!(said(), once);
}
