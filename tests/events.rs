//! The events API, as backends use it: the contract's rows as data, and what a row can't say.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use support::events::{self, Way, by_node, refusal};
use support::http::{Http, get, request};
use support::{Events, Fleet, Heard, Listener, Node};

const ROWS: &str = include_str!("data/events.txt");

/// Clients are told their `_id` on `/center`.
const CENTER: (&str, &str) = ("CLIENT_PROFILES", "/=channel,/center=center");

#[tokio::test]
async fn every_row_of_the_page_holds_on_one_embedded_node() {
    let node = [Node::start(&[]).await];
    for way in Way::ALL {
        events::run(ROWS, &node, way).await;
    }
}

#[tokio::test]
async fn every_row_of_the_page_holds_on_three_nodes_with_requests_and_sockets_apart() {
    let fleet = Fleet::start(3, &[]).await;
    for way in Way::ALL {
        events::run(ROWS, &fleet.nodes, way).await;
    }
}

/// A client of a node, and its `_id`.
async fn connect(node: &Node) -> (Listener, String) {
    let mut listener = Listener::connect(node.ws(), "/center?channel[]=news&a[b]=%D1%97%2F&token=secret").await;
    let Heard::Text(open) = listener.hears().await else { panic!("the first message is a text") };
    let open: Value = serde_json::from_str(&open).unwrap();
    (listener, open["_id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_reply_is_what_php_prints_byte_for_byte() {
    let node = Node::start(&[]).await;
    let api = Events(node.http());
    let id = api.nodes().await.remove(0);
    let answer = api.get("event=getIds,Нет,bindId,getids,,getIds&bindId[id]=x").await;
    let class = r"ReactphpX\\ConnectionGroup\\ConnectionGroup";
    let fault = |msg: &str| {
        format!(
            r#"{{
            "{id}": {{
                "code": 1,
                "msg": "{msg}",
                "data": []
            }}
        }}"#
        )
    };
    let nothing = format!("{{\n            \"{id}\": []\n        }}");
    let wanted = format!(
        r#"{{
    "code": 0,
    "msg": "ok",
    "extra": [],
    "master_ids": [
        "{id}"
    ],
    "data": {{
        "getIds": {nothing},
        "Нет": {},
        "bindId": {},
        "getids": {nothing},
        "": {}
    }}
}}
"#,
        fault("Method 'Нет' not found in service 'websocket'"),
        fault(&format!("{class} 方法 bindId 缺少 _id 参数")),
        fault("Method '' not found in service 'websocket'"),
    );
    assert_eq!(answer.text(), wanted);
    assert_eq!(answer.header("content-length"), Some(wanted.len().to_string().as_str()));
}

#[tokio::test]
async fn a_batch_is_as_if_its_events_were_done_one_after_the_other() {
    let fleet = Fleet::start(3, &[CENTER]).await;
    let api = Events(fleet.nodes[0].http());
    let (mut a, a_id) = connect(&fleet.nodes[1]).await;
    let (mut b, b_id) = connect(&fleet.nodes[2]).await;
    let batch = json!({
        "event": "bindId,getIds,BINDID,joinGroupById,isOnlineId,foo,bindid,getGroup_IdCount,sendMessageToGroupByOnlyId,\
                  joinGroupBy_Id,sendMessageToGroupByOnlyid,leaveGroupBy_Id,sendMessageToGroupByOnlyId,getGroupIds,\
                  unBindId,getIds",
        "bindId": ["u", a_id],
        "BINDID": { "id": "v", "_id": b_id },
        "joinGroupById": ["g", "u"],
        "isOnlineId": ["u"],
        // Without what it needs: it fails, and nothing else does.
        "bindid": { "id": "w" },
        "getGroup_IdCount": ["g"],
        "sendMessageToGroupByOnlyId": { "id": "u", "msg": "one" },
        "joinGroupBy_Id": ["g", b_id],
        "sendMessageToGroupByOnlyid": { "id": "v", "msg": "two" },
        "leaveGroupBy_Id": ["g", a_id],
        "unBindId": ["v"],
    });
    let reply = api.post("", &batch.to_string()).await.json();
    let sum = |event: &str| by_node(&reply, event).values().map(|value| value.as_u64().unwrap()).sum::<u64>();
    let all = |event: &str| -> Vec<Value> {
        by_node(&reply, event).values().flat_map(|list| list.as_array().unwrap().clone()).collect()
    };
    let keys: Vec<&String> = reply["data"].as_object().unwrap().keys().collect();
    assert_eq!(keys[..4], ["bindId", "getIds", "BINDID", "joinGroupById"]);
    assert_eq!((sum("bindId"), sum("BINDID"), sum("joinGroupById"), sum("unBindId")), (4, 4, 4, 2));
    // The last of two: after `v` was unbound.
    assert_eq!(all("getIds"), ["u"]);
    assert_eq!(all("getGroupIds"), ["g"]);
    assert_eq!(sum("getGroup_IdCount"), 1);
    for (event, why) in [("foo", "Method 'foo' not found"), ("bindid", "方法 bindid 缺少 _id 参数")] {
        for value in by_node(&reply, event).values() {
            assert!(value["code"] == 1 && value["msg"].as_str().unwrap().contains(why), "{value}");
        }
    }
    // The last message goes to nobody: the only connection of `u` has left its only group.
    assert_eq!((sum("sendMessageToGroupByOnlyId"), sum("sendMessageToGroupByOnlyid")), (0, 2));
    for (listener, id, heard) in [(&mut a, &a_id, &["one", "two"][..]), (&mut b, &b_id, &["two"])] {
        api.values("sendMessageTo_Id", &json!([id, "end"])).await;
        let wanted: Vec<Heard> = heard.iter().map(|text| Heard::Text((*text).to_owned())).collect();
        assert_eq!(listener.hears_until("end").await, wanted);
    }
}

#[tokio::test]
async fn what_a_batch_sends_to_a_group_reaches_those_that_it_has_joined_by_their_user() {
    let fleet = Fleet::start(3, &[CENTER]).await;
    let api = Events(fleet.nodes[0].http());
    let (mut client, id) = connect(&fleet.nodes[1]).await;
    api.values("bindId", &json!(["u", id])).await;
    // No event names a connection, and the directory knows nothing of the group when they are handed over.
    let batch = json!({
        "event": "joinGroupById,sendToGroup,broadcastToGroupOnce",
        "joinGroupById": ["g", "u"],
        "sendToGroup": ["g", "one"],
        "broadcastToGroupOnce": ["g", "two"],
    });
    let reply = api.post("", &batch.to_string()).await.json();
    for (event, here) in [("joinGroupById", json!(0)), ("sendToGroup", json!(1)), ("broadcastToGroupOnce", json!(true))]
    {
        assert_eq!(by_node(&reply, event).values().filter(|value| **value == here).count(), 1, "{event}: {reply}");
    }
    api.values("sendMessageTo_Id", &json!([id, "end"])).await;
    let wanted = ["one", "two"].map(|text| Heard::Text(text.to_owned()));
    assert_eq!(client.hears_until("end").await, wanted);
}

#[tokio::test]
async fn a_message_to_one_of_each_group_waits_once_however_many_groups_there_are() {
    let node = Node::start(&[CENTER, ("HUB_QUEUE", "64KiB")]).await;
    let api = Events(node.http());
    let (mut client, id) = connect(&node).await;
    for group in 0..8 {
        api.values("joinGroupBy_Id", &json!([format!("g{group}"), id])).await;
    }
    let message = "m".repeat(20 << 10);
    let sent = api.values("broadcastToAllGroupOnce", &json!([message])).await;
    assert_eq!(sent.into_values().collect::<Vec<_>>(), [json!(vec![true; 8])]);
    api.values("sendMessageTo_Id", &json!([id, "end"])).await;
    assert_eq!(client.hears_until("end").await, vec![Heard::Text(message); 8]);
}

#[tokio::test]
async fn once_to_any_reaches_one_on_each_node() {
    let fleet = Fleet::start(3, &[CENTER]).await;
    let api = Events(fleet.nodes[0].http());
    let mut clients = Vec::new();
    for node in [1, 1, 2, 2] {
        clients.push(connect(&fleet.nodes[node]).await);
    }
    for (_, id) in &clients {
        for group in ["g", "h"] {
            api.values("joinGroupBy_Id", &json!([group, id])).await;
        }
    }
    for (event, parameters, wanted) in [
        ("randSendToConnection", json!(["m"]), ["false", "true"]),
        ("broadcastToGroupOnce", json!(["g", "m"]), ["false", "true"]),
        ("broadcastToAllGroupOnce", json!(["m"]), ["[]", "[true,true]"]),
    ] {
        let values = api.values(event, &parameters).await;
        let found: BTreeSet<String> = values.values().map(Value::to_string).collect();
        assert_eq!(found, wanted.map(str::to_owned).into(), "{event}");
    }
    let mut heard = [0; 2];
    for (at, (listener, id)) in clients.iter_mut().enumerate() {
        api.values("sendMessageTo_Id", &json!([id, "end"])).await;
        heard[at / 2] += listener.hears_until("end").await.len();
    }
    assert_eq!(heard, [4, 4]);
}

#[tokio::test]
async fn what_a_connection_connected_with_is_told_without_its_token() {
    let fleet = Fleet::start(2, &[CENTER]).await;
    let embedded = Node::start(&[CENTER]).await;
    for (node, asked) in [(&fleet.nodes[1], &fleet.nodes[0]), (&embedded, &embedded)] {
        let (_listener, id) = connect(node).await;
        let values = Events(asked.http()).values("get_IdData", &json!([id])).await;
        let found: Vec<&Value> = values.values().filter(|value| **value != json!([])).collect();
        assert_eq!(found, [&json!({ "channel": ["news"], "a": { "b": "ї/" } })]);
    }
}

#[tokio::test]
async fn one_node_alone_answers_in_its_own_form() {
    let fleet = Fleet::start(2, &[CENTER, ("TOKEN", "t")]).await;
    let (mut own, own_id) = connect(&fleet.nodes[0]).await;
    let (_other, other_id) = connect(&fleet.nodes[1]).await;
    let api = Events(fleet.nodes[0].http());
    let batch = format!(
        "event=get_Ids,foo,isOnline_Id,broadcast,bar&isOnline_Id[_id]={other_id}&broadcast[msg]=m&scope=node&token=t"
    );
    let wanted = format!(
        r#"{{
    "code": 0,
    "msg": "ok",
    "extra": [
        "方法 foo 不存在 或 缺少参数",
        "方法 bar 不存在 或 缺少参数"
    ],
    "data": {{
        "get_Ids": [
            "{own_id}"
        ],
        "isOnline_Id": false,
        "broadcast": 1
    }}
}}
"#
    );
    assert_eq!(api.get(&batch).await.text(), wanted);
    own.hears_text("m").await;
    let by_body = api.post("", r#"{"event":"get_IdCount","scope":"node","token":"t"}"#).await.json();
    assert_eq!(by_body["data"], json!({ "get_IdCount": 1 }));

    // The same on the WebSocket port, where the path's profile is `center`.
    let ws = fleet.nodes[0].ws();
    let center = |query: &str| format!("/center/any?token=t&{query}");
    let answer = get(ws, &center("event=get_IdCount,getIds")).await.unwrap();
    assert_eq!(answer.json()["data"], json!({ "get_IdCount": 1, "getIds": [] }));
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    for (query, why) in [
        ("event=broadcast,bindId,foo&broadcast[msg]=not+sent", "方法 bindId 缺少 id 参数"),
        ("event=broadcast,bindId&broadcast[]=m&bindId[]=&bindId[]=x", "bindId: parameter id: name is empty: ''"),
        ("event=foo,bar", "方法 foo 不存在 或 缺少参数,方法 bar 不存在 或 缺少参数"),
        ("event=", "event error"),
    ] {
        assert_eq!(get(ws, &center(query)).await.unwrap().text(), refusal(why), "{query}");
        assert_eq!(api.get(&format!("{query}&scope=node&token=t")).await.text(), refusal(why), "{query}");
    }
    assert_eq!(get(ws, &center("x=1")).await.unwrap().text(), refusal("event error"));
    assert_eq!(get(ws, "/center?event=getIds").await.unwrap().text(), refusal("token error"));
    assert_ne!(get(ws, "/?event=getIds&token=t").await.unwrap().status, 200);
    let mut http = Http::connect(ws).await.unwrap();
    assert_eq!(http.request(&request("OPTIONS", "/center", &[], b"")).await.unwrap().status, 204);
    let end = format!("event=sendMessageTo_Id&sendMessageTo_Id[]={own_id}&sendMessageTo_Id[]=end&token=t");
    assert_eq!(api.get(&end).await.json()["code"], 0);
    assert!(own.hears_until("end").await.is_empty());
}

#[tokio::test]
async fn what_one_interface_puts_in_the_other_sees() {
    let fleet = Fleet::start(2, &[CENTER]).await;
    let (api, actions) = (Events(fleet.nodes[0].http()), fleet.nodes[0].api());
    let (mut listener, id) = connect(&fleet.nodes[1]).await;
    api.values("bindId", &json!(["u", id])).await;
    api.values("joinGroupBy_Id", &json!(["g", id])).await;
    for to in ["user&user=u", "group&group=g", "channel&channel=news"] {
        actions.response(&format!("action=push&message=m&to={to}")).await.unwrap();
        listener.hears_text("m").await;
    }
    let connection = actions.connections().await.unwrap().pop_first().unwrap();
    actions.response(&format!("action=close&to=connection&connection={connection}")).await.unwrap();
    assert!(matches!(listener.hears().await, Heard::Closed(1000, _)));
    let reply = api.get("event=getIds,getGroupIds,get_IdCount").await.json();
    assert!(by_node(&reply, "getIds").values().all(|users| *users == json!([])), "{reply}");
    assert!(by_node(&reply, "getGroupIds").values().all(|groups| *groups == json!([])), "{reply}");
    assert!(by_node(&reply, "get_IdCount").values().all(|count| *count == 0), "{reply}");
}
