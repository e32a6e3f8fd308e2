//! The events API where it says no: tokens, requests that are wrong, too large or for the other API, nodes and a Redis that
//! don't answer.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use support::events::{by_node, refusal};
use support::http::{Answer, Http, request};
use support::{DEADLINE, Events, Fleet, Heard, Listener, Node, eventually};

#[tokio::test]
async fn a_token_is_asked_for_in_query_body_or_header_before_anything_else() {
    let node = Node::start(&[("HTTP_TOKEN", "s3,cret"), ("TOKEN", "12, other"), ("HTTP_PARAM", "hash")]).await;
    let api = Events(node.http());
    let denied = refusal("token error");
    for (query, body) in [
        ("event=getIds", ""),
        ("event=getIds&token=wrong", ""),
        ("event=getIds&token[]=other", ""),
        ("event=getIds&hash=other", ""),
        ("event=", ""),
        ("event[]=x", ""),
        ("event=getIds", "[1]"),
        ("event=getIds&token=other", r#"{"token":"wrong"}"#),
        ("", r#"{"event":"getIds","token":["other"]}"#),
    ] {
        assert_eq!(api.post(query, body).await.text(), denied, "{query} {body}");
    }
    for (query, body) in [
        ("event=getIds&token=other", ""),
        ("event=getIds&token=s3%2Ccret", ""),
        ("event=getIds&token=wrong", r#"{"token":"other"}"#),
        ("event=getIds&token=other", r#"{"token":null}"#),
        ("", r#"{"event":"getIds","token":12}"#),
    ] {
        let answer = api.post(query, body).await;
        assert_eq!(answer.json()["code"], 0, "{query} {body}");
        assert!(!answer.text().contains("other"), "{}", answer.text());
    }
    let mut http = Http::connect(node.http()).await.unwrap();
    let header = [("Authorization", "Bearer s3,cret")];
    assert_eq!(http.request(&request("GET", "/?event=getIds", &header, b"")).await.unwrap().json()["code"], 0);
}

#[tokio::test]
async fn query_and_body_say_which_api_a_request_is_for() {
    let node = Node::start(&[]).await;
    let api = Events(node.http());
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let mut http = Http::connect(node.http()).await.unwrap();
    for (target, body, is_event) in [
        ("/?action=stats&event=getIds", "", false),
        ("/?action=stats", r#"{"event":"getIds"}"#, false),
        ("/?event=getIds", "", true),
        ("/livez?event=getIds", "", true),
        ("/any/path", r#" {"event":"getIds"} "#, true),
        ("/?event=getIds", "not json", true),
        ("/?event=getIds", "null", true),
        ("/?event=getIds", "[ ]", true),
        ("/?event=none", r#"{"event":"getIds","action":"stats"}"#, true),
        ("/", r#"{"event":null,"action":"stats"}"#, false),
        ("/", "action=stats", false),
        ("/", "action=stats&event=getIds", false),
    ] {
        let answer = http.request(&request("POST", target, &form, body.as_bytes())).await.unwrap();
        assert_eq!(answer.status, 200);
        let reply = answer.json();
        assert_eq!((reply["code"] == 0, reply["status"] == true), (is_event, !is_event), "{target} {body}: {reply}");
        assert_eq!(answer.header("access-control-allow-origin").is_some(), is_event, "{target} {body}");
    }
    for (query, body) in [
        ("event=", ""),
        ("event[]=getIds", ""),
        ("", r#"{"event":""}"#),
        ("", r#"{"event":["getIds"]}"#),
        ("", r#"{"event":7}"#),
        ("event=getIds", "[1]"),
        ("event=getIds", r#""text""#),
        ("event=getIds", "7"),
        ("event=getIds", "false"),
    ] {
        assert_eq!(api.post(query, body).await.text(), refusal("event error"), "{query} {body}");
    }
    for (query, body) in [("", ""), ("x=1", r#"{"x":1}"#)] {
        assert_eq!(api.post(query, body).await.json()["message"], "action param must be set", "{query} {body}");
    }
}

#[tokio::test]
async fn what_is_too_large_or_broken_is_refused_in_the_form_of_the_api() {
    let node = Node::start(&[("MAX_BODY", "100000")]).await;
    let api = Events(node.http());
    let events = |count: usize| vec!["getIdCount"; count].join(",");
    assert_eq!(api.get(&format!("event={}", events(1000))).await.json()["code"], 0);
    assert_eq!(api.get(&format!("event={}", events(1001))).await.text(), refusal("event error"));
    let too_long = "x".repeat(100_001);
    for query in ["event=getIds", ""] {
        let refused = refusal("body of 100001 bytes is longer than MAX_BODY, 100000 bytes");
        assert_eq!(api.post(query, &too_long).await.text(), refused, "{query}");
    }
    let of_actions = api.post("action=stats", &too_long).await.json();
    assert!(of_actions["status"] == false && of_actions["message"].as_str().unwrap().contains("MAX_BODY"));
    let deep = format!("event=x&a{}=1", "[b]".repeat(65));
    assert_eq!(api.get(&deep).await.text(), refusal("query has a parameter nests deeper than 64 levels"));
    let mut http = Http::connect(node.http()).await.unwrap();
    let broken = "POST /?event=getIds HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\nno chunk\r\n";
    let answer = http.request(broken.as_bytes()).await.unwrap();
    assert_eq!(answer.status, 200);
    assert!(answer.json()["msg"].as_str().unwrap().starts_with("body could not be read"), "{}", answer.text());
}

#[tokio::test]
async fn more_members_than_the_limit_are_refused() {
    let node = Node::start(&[]).await;
    let members = |count: usize| (0..count).map(|n| format!(r#""{n}":0"#)).collect::<Vec<_>>().join(",");
    let (fits, too_many) = (format!("{{{}}}", members(32_768)), format!("{{{}}}", members(32_769)));
    let api = Events(node.http());
    assert_eq!(api.post("event=getIds", &fits).await.json()["code"], 0);
    let refused = api.post("event=getIds", &too_many).await.json();
    assert!(refused["msg"].as_str().unwrap().contains("more than 32768 members"), "{refused}");
}

#[tokio::test]
async fn what_is_wrong_with_an_event_stands_in_the_place_of_each_nodes_value() {
    let fleet = Fleet::start(2, &[("MAX_PUSH", "10"), ("MAX_GROUPS", "2")]).await;
    let api = Events(fleet.nodes[0].http());
    for (query, body, why) in [
        ("event=broadcast&broadcast[msg]=12345678901", "", "message of 11 bytes is longer than MAX_PUSH, 10 bytes"),
        ("event=broadcast&broadcast[msg]=%ff", "", "broadcast: parameter msg is not UTF-8"),
        ("event=broadcast&broadcast[msg][a]=%ff", "", "broadcast: parameter msg is not UTF-8"),
        ("event=isOnlineId&isOnlineId=u", "", "isOnlineId: parameters must be a list or an object"),
        ("event=isOnlineId", r#"{"isOnlineId":7}"#, "isOnlineId: parameters must be a list or an object"),
        (
            "event=joinGroupById&joinGroupById[]=a,b,c&joinGroupById[]=u",
            "",
            "joinGroupById: 3 groups are more than MAX_GROUPS, 2",
        ),
        ("event=bindId&bindId[]=%ff&bindId[]=x", "", "bindId: parameter id: name is not UTF-8: '\u{fffd}'"),
        ("event=broadcast", r#"{"broadcast":["\ud800"]}"#, "broadcast: parameter msg can't be read"),
        ("event=broadcast", r#"{"broadcast":[{"a":"\ud800"}]}"#, "broadcast: parameter msg can't be read"),
    ] {
        let reply = api.post(query, body).await.json();
        let event = query.split(['=', '&']).nth(1).unwrap();
        let values = by_node(&reply, event);
        assert_eq!(values.len(), 2);
        for value in values.values() {
            assert_eq!((&value["code"], &value["data"]), (&json!(1), &json!([])), "{query} {body}: {value}");
            assert!(value["msg"].as_str().unwrap().starts_with(why), "{query} {body}: {value}");
        }
    }
    // As many as there may be, and one more.
    for (commas, value) in [(32_767, json!(2)), (32_768, Value::Null)] {
        let values = api.values("leaveGroupById", &json!([",".repeat(commas), "u"])).await;
        let why = "leaveGroupById: parameter groupId has more than 32768 names";
        let wanted = if value.is_null() { json!({ "code": 1, "msg": why, "data": [] }) } else { value };
        assert!(values.values().all(|value| *value == wanted), "{values:?}");
    }
    let nobody = api.get("event=isOnlineId&isOnlineId[id]=%ff").await.json();
    assert!(by_node(&nobody, "isOnlineId").values().all(|online| *online == false), "{nobody}");
}

#[tokio::test]
async fn origins_are_the_originals_unless_they_are_narrowed() {
    let (open, narrow) = (Node::start(&[]).await, Node::start(&[("CORS_ORIGINS", "https://a.example")]).await);
    let cors = |answer: &Answer| {
        let headers = answer.headers.iter().filter(|(name, _)| name.starts_with("access-control-") || name == "vary");
        headers.map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let ask = async |node: &Node, method: &str, target: &str, origin: &str| {
        let mut http = Http::connect(node.http()).await.unwrap();
        http.request(&request(method, target, &[("Origin", origin)], b"")).await.unwrap()
    };
    for (method, target, status) in
        [("GET", "/?event=getIds", 200), ("GET", "/?event=", 200), ("OPTIONS", "/", 204), ("OPTIONS", "/?event=x", 204)]
    {
        let answer = ask(&open, method, target, "https://any.example").await;
        assert_eq!((answer.status, cors(&answer)), (status, vec!["*".to_owned(); 4]), "{method} {target}");
    }
    for (method, target) in
        [("GET", "/?action=stats"), ("OPTIONS", "/?action=stats&event=x"), ("GET", "/livez"), ("GET", "/")]
    {
        assert!(cors(&ask(&open, method, target, "https://any.example").await).is_empty(), "{method} {target}");
    }
    for (method, target) in [("GET", "/?action=stats"), ("GET", "/?event=getIds"), ("OPTIONS", "/")] {
        let allowed = cors(&ask(&narrow, method, target, "https://a.example").await);
        assert!(allowed.contains(&"https://a.example".to_owned()), "{method} {target}: {allowed:?}");
        assert_eq!(allowed.len(), 5, "{method} {target}: {allowed:?}");
        assert_eq!(cors(&ask(&narrow, method, target, "https://b.example").await), ["origin"], "{method} {target}");
    }
}

#[tokio::test]
async fn origins_are_read_again_on_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("origins");
    fs::write(&file, "https://a.example").unwrap();
    let node = Node::start(&[("CORS_ORIGINS_FILE", file.to_str().unwrap())]).await;
    fs::write(&file, "https://b.example").unwrap();
    node.signal(Signal::HUP);
    eventually("the new origin is let in", DEADLINE, async || {
        let mut http = Http::connect(node.http()).await.unwrap();
        let answer = http.request(&request("GET", "/?event=getIds", &[("Origin", "https://b.example")], b"")).await;
        let allowed = answer.unwrap().header("access-control-allow-origin").map(str::to_owned);
        if allowed.as_deref() == Some("https://b.example") { Ok(()) } else { Err(format!("{allowed:?}")) }
    })
    .await;
}

#[tokio::test]
async fn a_node_that_does_not_answer_has_an_error_in_its_place() {
    let fleet = Fleet::start(3, &[("ACT_TIMEOUT", "3s"), ("NODE_LEASE", "60s")]).await;
    let api = Events(fleet.nodes[0].http());
    let mut clients = Vec::new();
    for node in &fleet.nodes {
        clients.push(Listener::connect(node.ws(), "/").await);
    }
    let answering = Events(fleet.nodes[2].http()).get("event=get_Ids&scope=node").await.json();
    let frozen_id = answering["data"]["get_Ids"][0].as_str().unwrap();
    let frozen_node = api.ids().await[frozen_id].clone();
    fleet.nodes[2].freeze();
    let batch = json!({
        "event": "broadcast,joinGroupBy_Id,get_IdCount",
        "broadcast": ["m"],
        "joinGroupBy_Id": ["g", frozen_id],
    });
    let reply = api.post("", &batch.to_string()).await.json();
    fleet.nodes[2].thaw();
    for (event, prefix, others) in [("broadcast", "push not accepted: ", 1), ("joinGroupBy_Id", "not available: ", 2)] {
        for (node, value) in by_node(&reply, event) {
            if node == frozen_node {
                assert_eq!((&value["code"], &value["data"]), (&json!(1), &json!([])), "{value}");
                let why = value["msg"].as_str().unwrap();
                assert!(why.starts_with(prefix) && why.contains(&frozen_node), "{value}");
            } else {
                assert_eq!(value, others, "{event}");
            }
        }
    }
    // What is only read asks no node.
    assert!(by_node(&reply, "get_IdCount").values().all(|count| *count == 1), "{reply}");
    for client in &mut clients[..2] {
        assert_eq!(client.hears().await, Heard::Text("m".to_owned()));
    }
}

#[tokio::test]
async fn a_silent_node_is_not_waited_for_again_and_again_in_one_call() {
    // Waited for each time it would be dead before the end, and then have no error any more.
    let fleet = Fleet::start(2, &[("ACT_TIMEOUT", "3s"), ("NODE_LEASE", "10s")]).await;
    let api = Events(fleet.nodes[0].http());
    let mut clients = Vec::new();
    for node in &fleet.nodes {
        clients.push(Listener::connect(node.ws(), "/").await);
    }
    let answering = Events(fleet.nodes[1].http()).get("event=get_Ids&scope=node").await.json();
    let frozen_id = answering["data"]["get_Ids"][0].as_str().unwrap();
    let frozen_node = api.ids().await[frozen_id].clone();
    fleet.nodes[1].freeze();
    let acts = ["bindId", "joinGroupBy_Id", "leaveGroupBy_Id", "leaveAllGroupBy_Id", "unBind_Id", "sendMessageTo_Id"];
    let mut batch = serde_json::Map::new();
    batch.insert("event".to_owned(), acts.map(|act| format!("{act},getIdCount")).join(",").into());
    for act in acts {
        let parameters = json!({"_id": frozen_id, "id": "u", "groupId": "g", "msg": "m"});
        batch.insert(act.to_owned(), parameters);
    }
    let reply = api.post("", &Value::from(batch).to_string()).await.json();
    fleet.nodes[1].thaw();
    for act in acts {
        let value = &by_node(&reply, act)[&frozen_node];
        assert!(value["msg"].as_str().is_some_and(|why| why.contains("did not answer within")), "{act}: {reply}");
    }
}

#[tokio::test]
async fn what_redis_does_not_take_or_answer_is_refused_with_the_reason() {
    let mut fleet = Fleet::start(1, &[]).await;
    let api = Events(fleet.nodes[0].http());
    fleet.redis.kill();
    for (query, prefix) in [
        ("event=broadcast&broadcast[msg]=m", "push not accepted: "),
        ("event=getIds,broadcast&broadcast[msg]=m", "push not accepted: "),
        ("event=getIds", "not available: "),
        ("event=bindId&bindId[]=u&bindId[]=x", "not available: "),
        ("event=unknown", "not available: "),
    ] {
        let answer = api.get(query).await;
        let reply = answer.json();
        assert_eq!((answer.status, &reply["code"], &reply["data"]), (200, &json!(1), &json!([])), "{query}");
        let found = reply["msg"].as_str().unwrap();
        assert!(found.len() > prefix.len() && found.starts_with(prefix), "{query}: {found}");
    }
    // This node is known without Redis, and says it in the place of each value.
    let query = "event=getIds,broadcast,isOnline_Id&broadcast[msg]=m&isOnline_Id[_id]=x&scope=node";
    let reply: Value = api.get(query).await.json();
    for (event, prefix) in [("getIds", "not available: "), ("broadcast", "push not accepted: ")] {
        let value = &reply["data"][event];
        assert!(value["code"] == 1 && value["msg"].as_str().unwrap().starts_with(prefix), "{event}: {value}");
    }
    assert_eq!(reply["data"]["isOnline_Id"], false);
}
