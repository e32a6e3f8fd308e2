//! The actions API, as backends use it: the contract's rows as data, and what a row can't say.

mod support;

use serde_json::Value;
use support::http::{Http, request};
use support::story;
use support::{DEADLINE, Fleet, Listener, Node, eventually};

const ACTIONS: &str = include_str!("data/actions.txt");
const PARAMETERS: &str = include_str!("data/parameters.txt");
const TOKEN: &str = include_str!("data/token.txt");

async fn on_one_embedded_node(story: &str) {
    let node = Node::start(&story::variables(story)).await;
    story::run(story, &[node]).await;
}

async fn on_one_node_with_redis(story: &str) {
    let fleet = Fleet::start(1, &story::variables(story)).await;
    story::run(story, &fleet.nodes).await;
}

async fn on_three_nodes_with_requests_and_sockets_apart(story: &str) {
    let fleet = Fleet::start(3, &story::variables(story)).await;
    story::run(story, &fleet.nodes).await;
}

#[tokio::test]
async fn every_row_of_the_page_holds_on_one_embedded_node() {
    on_one_embedded_node(ACTIONS).await;
}

#[tokio::test]
async fn every_row_of_the_page_holds_on_one_node_with_redis() {
    on_one_node_with_redis(ACTIONS).await;
}

#[tokio::test]
async fn every_row_of_the_page_holds_on_three_nodes_with_requests_and_sockets_apart() {
    on_three_nodes_with_requests_and_sockets_apart(ACTIONS).await;
}

#[tokio::test]
async fn parameters_are_read_as_php_reads_them_from_query_form_and_json() {
    on_one_embedded_node(PARAMETERS).await;
    on_three_nodes_with_requests_and_sockets_apart(PARAMETERS).await;
}

#[tokio::test]
async fn a_token_is_asked_for_and_never_echoed() {
    on_one_embedded_node(TOKEN).await;
}

#[tokio::test]
async fn any_method_is_a_call_but_options_which_has_no_content() {
    let node = Node::start(&[]).await;
    let mut http = Http::connect(node.http()).await.unwrap();
    for method in ["GET", "POST", "PUT", "PATCH", "DELETE"] {
        let answer = http.request(&request(method, "/?action=getConnections", &[], b"")).await.unwrap();
        assert_eq!((answer.status, &answer.json()["status"]), (200, &Value::Bool(true)), "{method}");
    }
    let answer = http.request(&request("OPTIONS", "/?action=getConnections", &[], b"")).await.unwrap();
    assert_eq!(answer.status, 204);
    assert!(answer.headers.iter().all(|(name, _)| !name.starts_with("access-control-")), "{:?}", answer.headers);
}

#[tokio::test]
async fn a_small_answer_has_a_length_and_the_connection_stays_open() {
    let node = Node::start(&[]).await;
    let mut http = Http::connect(node.http()).await.unwrap();
    for _ in 0..3 {
        let answer = http.get("/?action=getChannels").await.unwrap();
        assert_eq!(answer.header("content-length"), Some(answer.body.len().to_string().as_str()));
    }
}

#[tokio::test]
async fn calls_sent_without_waiting_for_answers_are_answered_in_their_order() {
    let node = Node::start(&[]).await;
    let mut http = Http::connect(node.http()).await.unwrap();
    let calls: Vec<u8> = (0..20).flat_map(|n| request("GET", &format!("/?action=none&n={n}"), &[], b"")).collect();
    let mut answers = vec![http.request(&calls).await.unwrap()];
    for _ in 1..20 {
        answers.push(http.answer().await.unwrap());
    }
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(answer.json()["request"]["n"], n.to_string());
    }
}

#[tokio::test]
async fn a_message_up_to_the_limit_is_pushed_and_one_byte_more_is_refused() {
    let node = Node::start(&[("MAX_PUSH", "1000")]).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=news").await;
    let (fits, too_long) = ("m".repeat(1000), "m".repeat(1001));
    node.api().push("news", &fits).await.unwrap();
    let refusal = node.api().push("news", &too_long).await.unwrap_err().to_string();
    assert!(refusal.contains("MAX_PUSH") || refusal.contains("1000"), "{refusal}");
    node.api().push("news", "after").await.unwrap();
    listener.hears_text(&fits).await;
    listener.hears_text("after").await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let node = Node::start(&[("MAX_BODY", "1000")]).await;
    for coding in ["Content-Length: 1001", "Content-Length: 9223372036854775807", "Transfer-Encoding: chunked"] {
        let mut http = Http::connect(node.http()).await.unwrap();
        let kind = "application/x-www-form-urlencoded";
        let head = format!("POST /?action=stats HTTP/1.1\r\nHost: c\r\nContent-Type: {kind}\r\n{coding}\r\n\r\n");
        let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(0x3e9));
        let body = if coding.starts_with("Transfer") { chunk } else { String::new() };
        let answer = http.request((head + &body).as_bytes()).await.unwrap();
        assert!(matches!(answer.status, 200 | 413), "{coding}: {answer:?}");
        assert_eq!(answer.json()["status"], false, "{coding}");
        assert!(answer.json()["message"].as_str().unwrap().contains("1000"), "{coding}: {}", answer.text());
    }
}

#[tokio::test]
async fn ten_thousand_channels_in_one_push_are_taken() {
    let node = Node::start(&[]).await;
    let mut listener = Listener::connect(node.ws(), "/?channel[]=c7&channel[]=c9999").await;
    let channels: String = (0..10_000).map(|n| format!("&channel[]=c{n}")).collect();
    let body = format!("action=push&to=channel&message=many{channels}");
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut http = Http::connect(node.http()).await.unwrap();
    let answer = http.request(&request("POST", "/", &form, body.as_bytes())).await.unwrap();
    assert_eq!(answer.json()["status"], true, "{}", answer.text());
    node.api().push("c7", "after").await.unwrap();
    assert_eq!(listener.hears_until("after").await.len(), 1);
}

/// The keys of an object in their order, each with those of the object in it.
fn shape(value: &Value) -> Vec<String> {
    let inner = |(key, value): (&String, &Value)| {
        let below = match value {
            Value::Array(list) => list.first().map(shape).unwrap_or_default(),
            value => shape(value),
        };
        std::iter::once(key.clone()).chain(below.into_iter().map(|below| format!("{key}.{below}"))).collect::<Vec<_>>()
    };
    value.as_object().map(|map| map.iter().flat_map(inner).collect()).unwrap_or_default()
}

#[tokio::test]
async fn stats_have_the_keys_of_the_original_in_their_order_and_sum_up_the_nodes() {
    let wanted: Value = serde_json::from_str(include_str!("data/stats.json")).unwrap();
    let embedded = Node::start(&[]).await;
    let fleet = Fleet::start(3, &[]).await;
    for nodes in [std::slice::from_ref(&embedded), &fleet.nodes] {
        let mut listeners = Vec::new();
        for node in nodes {
            listeners.push(Listener::connect(node.ws(), "/?channel[]=channel").await);
        }
        Listener::connect(nodes[0].ws(), "/").await.close().await;
        let (accepted, open) = (nodes.len() as u64 + 1, nodes.len() as u64);
        let stats = eventually("the counters of all nodes are in stats", DEADLINE, async || {
            let reply = nodes[0].api().ask("action=stats").await.unwrap().json();
            let server = &reply["response"]["ws_server"];
            let found = ["accept_count", "close_count", "connection_num"].map(|key| server[key].as_u64());
            if found == [Some(accepted), Some(1), Some(open)] { Ok(reply) } else { Err(format!("{found:?}")) }
        })
        .await;
        let names = |value: &Value| {
            let mut names = shape(value);
            // Its keys are numbers of slots.
            names.retain(|name| !name.contains("slot_distribution."));
            names
        };
        assert_eq!(names(&stats), names(&wanted));
        assert_eq!(stats["response"]["status"], true);
        assert_eq!(stats["response"]["channels"], serde_json::json!(["channel"]));
        assert_eq!(stats["response"]["cache_info"]["num_entries"], 1);
        assert_eq!(stats["response"]["cache_info"]["cache_list"][0]["info"], "channel");
        assert!(stats["response"]["cache_info"]["memory_type"].is_string());
        assert!(stats["response"]["cache_info"]["slot_distribution"].is_object());
        assert!(stats["response"]["ws_server"]["worker_num"].as_u64() >= Some(open));
        assert!(stats["response"]["ws_server"]["start_time"].as_u64() > Some(1_700_000_000));
    }
}

#[tokio::test]
async fn what_redis_does_not_take_or_answer_is_refused_with_the_reason() {
    let mut fleet = Fleet::start(1, &[]).await;
    let api = fleet.nodes[0].api();
    fleet.redis.kill();
    for (query, message) in [
        ("action=push&to=channel&channel=news&message=m", "push not accepted: "),
        ("action=push&to=all&message=m", "push not accepted: "),
        ("action=push&to=connection&connection=4294967297&message=m", "push not accepted: "),
        ("action=getChannels", "not available: "),
        ("action=getChannels&channel=news", "not available: "),
        ("action=getConnections", "not available: "),
        ("action=getConnections&channel=news", "not available: "),
        ("action=countConnections", "not available: "),
        ("action=close&to=channel&channel=news", "not available: "),
        ("action=close&to=connection&connection=4294967297", "not available: "),
        ("action=subscribe&connection=4294967297&channel[]=news", "not available: "),
        ("action=stats", "not available: "),
    ] {
        let answer = api.ask(query).await.unwrap();
        let reply = answer.json();
        assert_eq!((answer.status, &reply["status"]), (200, &Value::Bool(false)), "{query}: {reply}");
        let found = reply["message"].as_str().unwrap_or_default();
        assert!(found.len() > message.len() && found.starts_with(message), "{query}: {reply}");
        assert!(reply["request"].is_object(), "{query}: {reply}");
    }
}
