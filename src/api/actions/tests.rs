//! Calls as they look on the wire, over a hub without sockets.

use super::super::fixture::{broken, failing, service};
use super::*;
use crate::query::Query;
use http_body_util::BodyExt;
use hyper::body::Body;

async fn ask(service: &Arc<Service>, query: &str, body: &str) -> String {
    let read = |text: &str| Query::parse(text.as_bytes()).unwrap();
    let answer = call(service, &Parameters { query: read(query), body: read(body) }, "token").await;
    assert_eq!(answer.headers()["content-type"], "application/json");
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

/// The reply without its `request`, on one line.
async fn gist(service: &Arc<Service>, query: &str, body: &str) -> String {
    let mut reply: serde_json::Value = serde_json::from_str(&ask(service, query, body).await).unwrap();
    reply.as_object_mut().unwrap().shift_remove("request").unwrap();
    reply.to_string()
}

#[tokio::test]
async fn replies_are_written_byte_for_byte() {
    let service = service();
    for (query, expected) in [
        (
            "",
            r#"{
    "status": false,
    "message": "action param must be set",
    "request": []
}"#,
        ),
        (
            "action=push&to=channel&channel=a&message=%D1%97+/%22&token=secret",
            r#"{
    "status": true,
    "request": {
        "action": "push",
        "to": "channel",
        "channel": "a",
        "message": "ї /\""
    }
}"#,
        ),
        (
            "action=getConnections&channel=none&x[]=1&x[]=&y[k]=",
            r#"{
    "status": true,
    "response": {
        "connections": []
    },
    "request": {
        "action": "getConnections",
        "channel": "none",
        "x": [
            "1",
            ""
        ],
        "y": {
            "k": ""
        }
    }
}"#,
        ),
        (
            "action=getConnections&channel=a",
            r#"{
    "status": true,
    "response": {
        "connections": [
            1,
            2
        ]
    },
    "request": {
        "action": "getConnections",
        "channel": "a"
    }
}"#,
        ),
        (
            "action=getChannels",
            r#"{
    "status": true,
    "response": {
        "channels": {
            "a": [
                1,
                2
            ],
            "ж/\"": [
                2
            ]
        }
    },
    "request": {
        "action": "getChannels"
    }
}"#,
        ),
        (
            "action=getChannels&channel=none",
            r#"{
    "status": true,
    "response": {
        "channels": {
            "none": []
        }
    },
    "request": {
        "action": "getChannels",
        "channel": "none"
    }
}"#,
        ),
        (
            "action=countConnections&channel=a",
            r#"{
    "status": true,
    "response": {
        "count": 2
    },
    "request": {
        "action": "countConnections",
        "channel": "a"
    }
}"#,
        ),
    ] {
        assert_eq!(ask(&service, query, "").await, expected, "{query}");
    }
}

#[tokio::test]
async fn every_call_has_its_answer() {
    let service = service();
    let long = "n".repeat(201);
    let done = r#"{"status":true}"#;
    let bare = r#"{"status":false}"#;
    let no = |message: &str| serde_json::json!({"status": false, "message": message}).to_string();
    for (query, body, expected) in [
        ("action=", "action=stats", no("action param must be set")),
        ("action=unknown", "", no("wrong unknown action")),
        ("action=Push", "", no("wrong Push action")),
        ("action[]=push", "", no("action param must be a single value")),
        ("action=push&to=channel&channel=nobody&message=m", "", done.into()),
        ("action=push&to=channel&channel[]=a&channel[]=b&channel[]=a", "", done.into()),
        ("action=push&to=channel&message=m", "", no("need channel param for this action")),
        ("action=push&to=channel&channel=", "", no("need channel param for this action")),
        ("action=push&to=user&user=u&exclude=1", "", done.into()),
        ("action=push&to=group", "", no("need group param for this action")),
        ("action=push&to=all&exclude[]=1&exclude[]=2", "message=m", done.into()),
        ("action=push&to=all&exclude[]=x", "", no("exclude param is no connection id: 'x'")),
        ("action=push&to=connection&connection=1", "", done.into()),
        ("action=push&to=connection&connection=99", "", bare.into()),
        ("action=push&to=connection&connection=01", "", bare.into()),
        ("action=push&to=connection&connection=x", "", bare.into()),
        ("action=push&to=connection", "", bare.into()),
        ("action=push&to=connection&connection[]=1", "", no("connection param must be a single value")),
        ("action=push&message=m", "", no("to param must be channel, connection, all, user or group")),
        ("action=push&to=x", "", no("to param must be channel, connection, all, user or group")),
        ("action=push&to=all&message[]=m", "", no("message param must be a single value")),
        ("action=push&to=all&message=%ff", "", no("message is not UTF-8")),
        ("action=push&to=all&message=12345678901", "", no("message of 11 bytes is longer than MAX_PUSH, 10 bytes")),
        ("action=push&to=all", "message=1234567890", done.into()),
        ("action=push&to=channel&channel[k]=a", "", no("channel param must be one value or a list of values")),
        ("action=push&to=channel&channel[][]=a", "", no("channel param must be one value or a list of values")),
        ("action=getConnections&channel=a%00", "", no("channel param: name has a control character: 'a\\0'")),
        ("action=getChannels&channel=%ff", "", no("channel param: name is not UTF-8: '\u{fffd}'")),
        ("action=getConnections&channel[]=a&channel[]=b", "", no("channel param must be a single value")),
        ("action=close&to=channel", "", no("need channel param for this action")),
        ("action=close&to=user&user=u", "", no("to param must be channel or connection")),
        ("action=close&to=channel&channel=nobody", "", done.into()),
        ("action=close&to=connection&connection=99", "", bare.into()),
        ("action=subscribe&connection=3&channel[]=a&channel[]=c", "", done.into()),
        ("action=countConnections&channel=a", "", r#"{"status":true,"response":{"count":3}}"#.into()),
        ("action=subscribe&connection=99&channel=a", "", bare.into()),
        ("action=subscribe&connection=3", "", no("need channel param for this action")),
        (
            "action=subscribe&connection=3&channel[]=a&channel[]=b&channel[]=c&channel[]=d",
            "",
            no("4 channels are more than MAX_CHANNELS, 3"),
        ),
        (
            "action=subscribe&connection=2&channel[]=c&channel[]=d",
            "",
            no("connection 2: it would be in 4 channels, which are more than MAX_CHANNELS, 3"),
        ),
        ("action=unsubscribe&connection=3&channel=c", "", done.into()),
        ("action=unsubscribe&connection=99&channel=c", "", bare.into()),
        ("action=close&to=connection&connection=3", "", done.into()),
        ("action=countConnections", "", r#"{"status":true,"response":{"count":2}}"#.into()),
        ("action=close", "to=channel&channel[]=a&channel[]=c", done.into()),
        ("action=getConnections", "", r#"{"status":true,"response":{"connections":[]}}"#.into()),
        ("action=getChannels", "", r#"{"status":true,"response":{"channels":[]}}"#.into()),
    ] {
        assert_eq!(gist(&service, query, body).await, expected, "{query} {body}");
    }
    let too_long = gist(&service, &format!("action=close&to=channel&channel={long}"), "").await;
    assert_eq!(too_long, no(&format!("channel param: name is longer than 200 bytes: '{}…'", "n".repeat(60))));
}

#[tokio::test]
async fn stats_has_the_keys_of_the_original_in_their_order() {
    let reply = gist(&service(), "action=stats", "").await;
    let entry = |name: &str| {
        format!(
            r#"{{"info":{},"ttl":0,"num_hits":0,"mtime":0,"creation_time":0,"deletion_time":0,"access_time":0,"ref_count":0,"mem_size":0}}"#,
            serde_json::to_string(name).unwrap()
        )
    };
    let expected = format!(
        concat!(
            r#"{{"status":true,"response":{{"status":true,"channels":["a","ж/\""],"cache_info":{{"num_slots":0,"ttl":0,"#,
            r#""num_hits":5,"num_misses":6,"num_inserts":0,"num_entries":2,"expunges":0,"start_time":7,"mem_size":768,"#,
            r#""memory_type":"embedded","cache_list":[{},{}],"deleted_list":[],"slot_distribution":{{}}}},"#,
            r#""ws_server":{{"start_time":7,"connection_num":3,"accept_count":4,"close_count":1,"worker_num":2,"#,
            r#""idle_worker_num":2,"tasking_num":0,"request_count":0,"worker_request_count":0,"#,
            r#""worker_dispatch_count":11,"coroutine_num":0}}}}}}"#
        ),
        entry("a"),
        entry("ж/\"")
    );
    assert_eq!(reply, expected);
}

#[tokio::test]
async fn what_redis_did_not_take_is_refused_with_the_reason() {
    let service = failing(0);
    for (query, message) in [
        ("action=push&to=all", "push not accepted: redis is away"),
        ("action=getConnections", "not available: redis is away"),
        ("action=getChannels", "not available: redis is away"),
        ("action=countConnections", "not available: redis is away"),
        ("action=stats", "not available: redis is away"),
        ("action=close&to=channel&channel=a", "not available: node abc did not answer within 2000 ms"),
    ] {
        let expected = serde_json::json!({"status": false, "message": message}).to_string();
        assert_eq!(gist(&service, query, "").await, expected, "{query}");
    }
}

#[tokio::test]
async fn a_listing_that_fails_half_way_is_broken_off() {
    for query in ["action=getConnections", "action=getChannels"] {
        let service = failing(3);
        let parameters = Parameters { query: Query::parse(query.as_bytes()).unwrap(), body: Query::default() };
        let mut body = call(&service, &parameters, "token").await.into_body();
        assert_eq!(body.size_hint().exact(), None, "a long listing must be chunked");
        let mut pieces = 0;
        let error = loop {
            match body.frame().await {
                Some(Ok(_)) => pieces += 1,
                Some(Err(error)) => break error,
                None => panic!("{query} came to an end"),
            }
        };
        assert_eq!((pieces, error), (3, broken()), "{query}");
    }
}
