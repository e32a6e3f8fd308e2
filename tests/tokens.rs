//! Clients that sign in with a token: who is let in, as whom, and into which channels.

mod support;

use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::process::{Command, Stdio};
use support::device::metric;
use support::node::{carillon, finish};
use support::raw::{Raw, handshake_with};
use support::redis::{RedisCluster, RedisServer, free_port};
use support::tokens::{JWT_SECRET, SECRET, TRIPLE_DES, jwks, jwt, signed, signed_text};
use support::ws::{Refused, nobody_is_gone};
use support::{DEADLINE, Events, Heard, Listener, Node, eventually};

const REQUIRED: (&str, &str) = ("AUTH_REQUIRED", "true");

async fn refused(node: &Node, target: &str) -> Refused {
    Listener::refused(node.ws(), target).await
}

/// How many handshakes were refused for this reason.
async fn counted(node: &Node, reason: &str) -> u64 {
    metric(node, &format!("carillon_connections_refused_total{{reason=\"{reason}\"}}")).await
}

/// What `target` with these header lines is answered, to the end of the connection.
async fn answer(node: &Node, target: &str, lines: &str) -> String {
    let mut raw = Raw::connect(node.ws()).await;
    raw.send(handshake_with(target, lines).as_bytes()).await;
    let mut answer = raw.until(b"\r\n\r\n").await;
    if !answer.starts_with(b"HTTP/1.1 101") {
        answer.extend(raw.rest().await);
    }
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_bad_or_missing_token_is_refused_in_one_form_whatever_the_profile() {
    let profiles = ("CLIENT_PROFILES", "/app=center,/=channel");
    let node = Node::start(&[JWT_SECRET, REQUIRED, profiles]).await;
    let expired = jwt(SECRET, &json!({ "id": 1, "exp": 1000 }));
    let foreign = jwt("another secret that is long enough, too", &json!({ "id": 1 }));
    let none = signed("", &json!({ "alg": "none" }), &json!({ "id": 1 }));
    let bad = ["", "x", "a.b.c", &expired, &foreign, &none, &"a".repeat(9000), TRIPLE_DES]
        .map(|token| format!("auth={token}"));
    let bad = [&bad[..], &[String::new(), "auth[]=x".to_owned()]].concat();
    for path in ["/", "/app/room"] {
        for query in &bad {
            let answer = answer(&node, &format!("{path}?channel[]=news&{query}"), "").await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 403 "), "{path}?{query}: {head}");
            assert!(head.contains("\r\nmessage: error auth"), "{path}?{query}: {head}");
            assert_eq!(body, "", "{path}?{query}");
        }
    }
    assert_eq!(counted(&node, "auth").await, 2 * bad.len() as u64);
    for (reason, tokens) in [
        ("missing", 2),
        ("malformed", 3),
        ("no_key", 2),
        ("expired", 1),
        ("signature", 1),
        ("too_long", 1),
        ("issuer", 0),
    ] {
        let counted = metric(&node, &format!("carillon_tokens_refused_total{{reason=\"{reason}\"}}")).await;
        assert_eq!(counted, 2 * tokens, "{reason}");
    }
    assert_eq!(node.api().count().await.unwrap(), 0);
    let _listener = Listener::connect(node.ws(), &format!("/?auth={}", jwt(SECRET, &json!({ "id": 1 })))).await;
}

#[tokio::test]
async fn a_token_is_taken_from_the_configured_parameter_or_from_the_header() {
    let node = Node::start(&[JWT_SECRET, REQUIRED, ("AUTH_PARAM", "sign-in"), ("AUTH_KEY", "kfw001-websocket")]).await;
    let token = jwt(SECRET, &json!({ "id": 1 }));
    for (target, lines, status) in [
        (format!("/?sign-in={token}"), String::new(), "101"),
        (format!("/?sign-in={TRIPLE_DES}"), String::new(), "101"),
        (format!("/?auth={token}"), String::new(), "403"),
        ("/".to_owned(), format!("Authorization: Bearer {token}\r\n"), "101"),
        ("/?sign-in=".to_owned(), format!("Authorization: bearer {TRIPLE_DES}\r\n"), "101"),
        ("/".to_owned(), "Authorization: Bearer x\r\n".to_owned(), "403"),
        ("/".to_owned(), format!("Authorization: Basic {token}\r\n"), "403"),
        // What the query has counts.
        ("/?sign-in=x".to_owned(), format!("Authorization: Bearer {token}\r\n"), "403"),
    ] {
        let answer = answer(&node, &target, &lines).await;
        assert_eq!(answer.split(' ').nth(1), Some(status), "{target} {lines}");
    }
}

#[tokio::test]
async fn a_port_for_both_asks_for_the_token_too_and_the_command_says_so() {
    let port = free_port().to_string();
    let node = Node::start(&[("WS_PORT", &port), ("HTTP_PORT", &port), JWT_SECRET, REQUIRED]).await;
    let token = jwt(SECRET, &json!({ "id": 1, "code": "room" }));
    let mut listener = Listener::connect(node.http(), &format!("/?channel[]=news&auth={token}")).await;
    node.api().push("news", "hello").await.unwrap();
    listener.hears_text("hello").await;
    assert!(answer(&node, "/?auth=x", "").await.contains("\r\nmessage: error auth"));

    let url = format!("ws://{}/?auth=x", node.ws());
    let refused = finish(carillon(&["listen", "--url", &url, "--channel", "news"], &[])).await;
    assert!(refused.code != 0 && refused.stderr.contains("its token is missing or not taken"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_profile_may_have_a_rule_of_its_own() {
    let environment = [("CLIENT_PROFILES", "/app=center,/=channel"), REQUIRED, ("AUTH_REQUIRED_CHANNEL", "false")];
    let node = Node::start(&[environment[0], environment[1], environment[2], JWT_SECRET]).await;
    let _anybody = Listener::connect(node.ws(), "/").await;
    assert_eq!(refused(&node, "/app").await.status, 403);
    // A token that need not be there, and is bad, is not passed over.
    assert_eq!(refused(&node, "/?auth=x").await.status, 403);
}

#[tokio::test]
async fn without_a_key_tokens_are_ignored() {
    let node = Node::start(&[("PRIVATE_CHANNELS", "staff")]).await;
    let _listener = Listener::connect(node.ws(), "/?channel[]=news&auth=whatever").await;
    assert_eq!(refused(&node, "/?channel[]=staff&auth=whatever").await.status, 403);
}

#[tokio::test]
async fn user_and_group_of_a_token_are_seen_by_every_node_of_a_redis_cluster() {
    let redis = RedisCluster::start(3, 0).await;
    let url = redis.url();
    let environment = [("REDIS_URL", url.as_str()), JWT_SECRET, ("AUTH_KEY", "kfw001-websocket")];
    let (here, there) = (Node::start(&environment).await, Node::start(&environment).await);
    let claims = json!({ "id": 7, "code": "їжаки", "nickname": "n" });
    let mut signed = Listener::connect(here.ws(), &format!("/?auth={}", jwt(SECRET, &claims))).await;
    let mut older = Listener::connect(here.ws(), &format!("/?auth={TRIPLE_DES}")).await;
    let _nobody = Listener::connect(here.ws(), "/").await;

    let events = Events(there.http());
    let all = async |event: &str, parameters: Value| {
        let values = events.values(event, &parameters).await.into_values();
        let mut all: Vec<String> = values.flat_map(|value| value.as_array().unwrap().clone()).map(text).collect();
        all.sort();
        all
    };
    assert_eq!(all("getIds", json!({})).await, ["1", "7"]);
    assert_eq!(all("getGroupIds", json!({})).await, ["room1", "їжаки"]);
    assert_eq!(all("getGroupIdsById", json!({ "id": "7" })).await, ["їжаки"]);

    let said = async |event: &str, parameters: Value| events.values(event, &parameters).await;
    said("sendMessageToId", json!({ "id": "7", "msg": "to the user" })).await;
    signed.hears_text("to the user").await;
    said("sendToGroup", json!({ "groupId": "room1", "msg": "to the group" })).await;
    older.hears_text("to the group").await;

    // Who has a user from its token keeps it.
    let bound = events.values("getBind_IdsById", &json!({ "id": "7" })).await;
    let id = bound.values().find_map(|ids| ids.as_object()?.keys().next().cloned()).unwrap();
    said("bindId", json!({ "id": "8", "_id": id })).await;
    assert_eq!(all("getIds", json!({})).await, ["1", "7"]);
    signed.close().await;
    eventually("the user is gone with its connection", DEADLINE, async || {
        support::eventually::same(all("getIds", json!({})).await, vec!["1".to_owned()])
    })
    .await;
}

fn text(value: Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[tokio::test]
async fn a_private_channel_needs_a_token_that_allows_it() {
    let private = ("PRIVATE_CHANNELS", "staff, room:*");
    let node = Node::start(&[JWT_SECRET, private, ("CLIENT_PROFILES", "/app=center,/=channel")]).await;
    let token = jwt(SECRET, &json!({ "id": 7, "channels": ["room:7", "room:7:*"] }));
    for path in ["/", "/app"] {
        for (query, closed) in [
            ("channel[]=staff".to_owned(), "staff"),
            ("channel[]=news&channel[]=room:7".to_owned(), "room:7"),
            (format!("channel[]=room:7&channel[]=room:8&auth={token}"), "room:8"),
            (format!("channel=staff&auth={token}"), "staff"),
        ] {
            let answer = answer(&node, &format!("{path}?{query}"), "").await;
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with("HTTP/1.1 403 ") && !head.contains("message:"), "{head}");
            assert_eq!(body, format!("channel {closed:?} is private: a token that allows it is needed\n"), "{query}");
        }
    }
    assert_eq!(counted(&node, "private_channel").await, 8);
    let target = format!("/?channel[]=news&channel[]=room:7&channel[]=room:7:a&auth={token}");
    let mut listener = Listener::connect(node.ws(), &target).await;
    for channel in ["news", "room:7", "room:7:a"] {
        node.api().push(channel, channel).await.unwrap();
        listener.hears_text(channel).await;
    }
    // A backend may put anybody anywhere.
    let id = *node.api().connections().await.unwrap().first().unwrap();
    node.api().response(&format!("action=subscribe&connection={id}&channel[]=staff")).await.unwrap();
    node.api().push("staff", "for staff").await.unwrap();
    listener.hears_text("for staff").await;
}

#[tokio::test]
async fn whoever_is_let_in_has_its_user_however_deep_its_claims_nest() {
    let node = Node::start(&[JWT_SECRET]).await;
    let events = Events(node.http());
    for levels in [1, 60, 63, 64, 100, 124, 125, 126, 127, 1000] {
        // Written by hand: as a value it can't be written that deep.
        let claims = format!(r#"{{"id":"u{levels}","x":{}{}}}"#, "[".repeat(levels), "]".repeat(levels));
        let token = signed_text(SECRET, &json!({ "alg": "HS256" }), &claims);
        match Listener::try_connect(node.ws(), &format!("/?auth={token}")).await {
            Err(refused) => assert!(refused.status == 403 && levels > 63, "{levels}: {refused:?}"),
            Ok(listener) => {
                let found = events.values("getBind_IdsById", &json!({ "id": format!("u{levels}") })).await;
                let id = found.values().find_map(|ids| ids.as_object()?.keys().next().cloned()).unwrap();
                let users = events.values("getIdBy_Id", &json!({ "_id": id })).await;
                assert!(users.values().any(|user| *user == json!(format!("u{levels}"))), "{levels}: {users:?}");
                listener.close().await;
            }
        }
    }
}

#[tokio::test]
async fn the_directory_has_the_claims_and_never_the_token() {
    let redis = RedisServer::start().await;
    let environment = [("REDIS_URL", &*redis.url()), JWT_SECRET, ("AUTH_PARAM", "key"), ("LOG", "trace,fred=info")];
    let node = Node::start(&environment).await;
    let claims = json!({ "id": 7, "code": "g", "nickname": "Ж", "nested": { "a": [1, null] } });
    let token = jwt(SECRET, &claims);
    let _listener = Listener::connect(node.ws(), &format!("/?x=1&key={token}")).await;
    assert_eq!(refused(&node, &format!("/?key={token}x")).await.status, 403);
    let keys = redis.cli(&["--scan", "--pattern", "*:connections"]).await;
    let kept = redis.cli(&["HVALS", keys.trim()]).await;
    let details: Value = serde_json::from_str(kept.trim()).unwrap();
    assert_eq!((&details["claims"], &details["query"]), (&claims, &json!({ "x": "1" })), "{kept}");
    assert_eq!((&details["user"], &details["groups"]), (&json!("7"), &json!(["g"])), "{kept}");
    let signature = token.rsplit('.').next().unwrap();
    assert!(!kept.contains(signature), "{kept}");
    for line in node.log() {
        assert!(!line.contains(signature) && !line.contains(SECRET), "{line}");
    }
}

#[tokio::test]
async fn keys_and_rules_are_read_again_on_sighup_and_nobody_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (secret, set, private) = (path("secret"), path("jwks.json"), path("private"));
    let newer = "a newer secret, which is as long as needed";
    fs::write(&secret, SECRET).unwrap();
    fs::write(&set, jwks("1", "the first secret of the set, long enough")).unwrap();
    fs::write(&private, "").unwrap();
    let files = [("JWT_SECRET_FILE", &*secret), ("JWT_JWKS", &*set), ("PRIVATE_CHANNELS_FILE", &*private), REQUIRED];
    let node = Node::start(&files).await;
    let target = |token: String| format!("/?channel[]=news&auth={token}");
    let by_set = |id: &str, secret: &str| signed(secret, &json!({ "alg": "HS256", "kid": id }), &json!({}));
    let mut listeners = vec![
        Listener::connect(node.ws(), &target(jwt(SECRET, &json!({})))).await,
        Listener::connect(node.ws(), &target(by_set("1", "the first secret of the set, long enough"))).await,
    ];
    let logged = async |text: &str| {
        eventually(text, DEADLINE, async || {
            node.log().iter().any(|line| line.contains(text)).then_some(()).ok_or("it is not in the log")
        })
        .await;
    };

    // A set that can't be one: everything stays as it is, the secret too.
    fs::write(&secret, newer).unwrap();
    fs::write(&set, "{").unwrap();
    node.signal(Signal::HUP);
    logged("not a jwk set").await;
    listeners.push(Listener::connect(node.ws(), &target(jwt(SECRET, &json!({})))).await);

    fs::write(&set, jwks("2", "the second secret of the set, long enough")).unwrap();
    fs::write(&private, "staff").unwrap();
    node.signal(Signal::HUP);
    let second = by_set("2", "the second secret of the set, long enough");
    let entered = eventually("the new key is taken", DEADLINE, async || {
        Listener::try_connect(node.ws(), &target(second.clone())).await.map_err(|refused| refused.status)
    });
    listeners.push(entered.await);
    listeners.push(Listener::connect(node.ws(), &target(jwt(newer, &json!({})))).await);
    assert_eq!(refused(&node, &target(jwt(SECRET, &json!({})))).await.status, 403);
    let first = by_set("1", "the first secret of the set, long enough");
    assert_eq!(refused(&node, &target(first)).await.status, 403);
    let staff = refused(&node, &format!("/?channel[]=staff&auth={second}")).await;
    assert!(staff.body.contains("private"), "{staff:?}");

    nobody_is_gone(&mut listeners).await;
    node.api().push("news", "hello").await.unwrap();
    for listener in &mut listeners {
        assert_eq!(listener.hears().await, Heard::Text("hello".to_owned()));
    }
}

#[tokio::test]
async fn a_reload_never_lets_everybody_in_because_a_key_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, SECRET).unwrap();
    let node = Node::start(&[("JWT_SECRET_FILE", file.to_str().unwrap())]).await;
    fs::write(&file, "").unwrap();
    node.signal(Signal::HUP);
    eventually("the log says why nothing has changed", DEADLINE, async || {
        node.log().iter().any(|line| line.contains("not reloaded")).then_some(()).ok_or("it does not")
    })
    .await;
    assert_eq!(refused(&node, "/?auth=x").await.status, 403);
}

#[tokio::test]
async fn a_reload_never_lets_everybody_into_private_channels_because_the_list_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let (channels, level) = (directory.path().join("private"), directory.path().join("level"));
    fs::write(&channels, "staff").unwrap();
    fs::write(&level, "info").unwrap();
    let files = [("PRIVATE_CHANNELS_FILE", channels.to_str().unwrap()), ("LOG_FILE", level.to_str().unwrap())];
    let node = Node::start(&files).await;
    fs::write(&channels, "").unwrap();
    fs::write(&level, "debug").unwrap();
    node.signal(Signal::HUP);
    let said = async |text: &str| {
        eventually(text, DEADLINE, async || {
            node.log().iter().any(|line| line.contains(text)).then_some(()).ok_or("it is not in the log")
        })
        .await;
    };
    said("PRIVATE_CHANNELS was set and is gone").await;
    assert_eq!(refused(&node, "/?channel[]=staff").await.status, 403);
    fs::write(&channels, "team").unwrap();
    node.signal(Signal::HUP);
    said("configuration read again").await;
    let _anybody = Listener::connect(node.ws(), "/?channel[]=staff").await;
    assert_eq!(refused(&node, "/?channel[]=team").await.status, 403);
    said("handshake refused").await;
    // The first refusal is not in there: of what was read first nothing at all was taken over.
    assert_eq!(node.log().iter().filter(|line| line.contains("handshake refused")).count(), 1);
}

#[tokio::test]
async fn faults_of_keys_and_rules_are_named_and_no_key_is_shown() {
    let directory = tempfile::tempdir().unwrap();
    let set = directory.path().join("set.json");
    fs::write(&set, r#"{"keys":[]}"#).unwrap();
    let set = set.to_str().unwrap();
    for (name, value, allowed) in [
        ("JWT_SECRET", "hunter2", "shorter than 32 bytes"),
        ("JWT_SECRET", "-----BEGIN PUBLIC KEY-----hunter2", "may be no secret"),
        ("JWT_PUBLIC_KEY", "hunter2", "not one public key in pem"),
        ("JWT_JWKS", "/nowhere/hunter", "readable file with a jwk set"),
        // A key or a set itself where a path belongs.
        ("JWT_JWKS", "hunter2", "readable file with a jwk set"),
        ("JWT_JWKS", r#"{"keys":[{"kty":"oct","k":"hunter2"}]}"#, "readable file with a jwk set"),
        ("JWT_JWKS_FILE", "hunter2", "readable text file"),
        ("TLS_KEY_FILE", "hunter2", "readable text file"),
        ("JWT_JWKS", set, "no key for HS256"),
        ("AUTH_KEY", "hunter2 hunter2 hunter2 hunter2", "24 bytes"),
        ("AUTH_MAX_AGE", "1h", "whole number"),
        ("AUTH_LEEWAY", "3601", "3600"),
        ("AUTH_PARAM", "channel", "meaning of its own"),
        ("AUTH_PARAM", "a b", "letters"),
        ("AUTH_REQUIRED", "perhaps", "true or false"),
        ("AUTH_REQUIRED", "true", "with a key only"),
        ("AUTH_REQUIRED_CENTER", "true", "with a key only"),
        ("PRIVATE_CHANNELS", "a\u{7}b", "control character"),
    ] {
        let finished = finish(carillon(&[], &[(name, value)])).await;
        assert_eq!(finished.code, 2, "{name}={value}: {}", finished.stderr);
        let lines: Vec<&str> = finished.stderr.lines().filter(|line| line.starts_with(&format!("{name}="))).collect();
        assert!(matches!(lines[..], [line] if line.contains(allowed)), "{name}={value}: {lines:?}");
        assert!(!finished.stderr.contains("hunter2"), "{}", finished.stderr);
    }
}

#[tokio::test]
async fn a_fault_in_the_rule_for_all_profiles_is_one_where_each_has_its_own() {
    let own = ["AUTH_REQUIRED_CHANNEL", "AUTH_REQUIRED_CENTER", "AUTH_REQUIRED_DEVICE"].map(|name| (name, "false"));
    let finished = finish(carillon(&[], &[&own[..], &[("AUTH_REQUIRED", "perhaps")]].concat())).await;
    assert!(finished.code == 2 && finished.stderr.contains("AUTH_REQUIRED=\"perhaps\""), "{}", finished.stderr);
}

/// The documentation's example in PHP, as it stands there.
fn example() -> String {
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/signing-in.md")).unwrap();
    let (_, after) = readme.split_once("<!-- sign-in:begin -->\n```php\n").expect("the example begins");
    after.split_once("```\n<!-- sign-in:end -->").expect("the example ends").0.to_owned()
}

#[tokio::test]
async fn the_example_in_php_makes_tokens_of_both_forms_that_are_taken() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tokens.php");
    fs::write(&file, example()).unwrap();
    let keys = [JWT_SECRET, ("AUTH_KEY", "kfw001-websocket")];
    let mut php = Command::new("php");
    php.arg(&file).envs(keys).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let printed = finish(php).await;
    assert_eq!((printed.code, printed.stderr.as_str()), (0, ""), "{}", printed.stdout);
    let tokens: Vec<&str> =
        printed.stdout.lines().filter_map(|line| line.split_once("?auth=")).map(|at| at.1).collect();
    assert_eq!(tokens.len(), 2, "{}", printed.stdout);

    let node = Node::start(&[keys[0], keys[1], REQUIRED, ("AUTH_MAX_AGE", "600"), ("PRIVATE_CHANNELS", "*")]).await;
    for token in tokens {
        let mut listener = Listener::connect(node.ws(), &format!("/?channel[]=user:5&auth={token}")).await;
        let events = Events(node.http());
        events.values("sendMessageToId", &json!({ "id": "5", "msg": "to the user" })).await;
        listener.hears_text("to the user").await;
        events.values("sendToGroup", &json!({ "groupId": "room1", "msg": "to the group" })).await;
        listener.hears_text("to the group").await;
        node.api().push("user:5", "to the channel").await.unwrap();
        listener.hears_text("to the channel").await;
        listener.close().await;
        eventually("it is gone", DEADLINE, async || match node.api().count().await {
            Ok(0) => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}
