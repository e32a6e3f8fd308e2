//! Controllers in PHP, as they are, behind the adapter of `examples/php-controllers`; and the README's example of a webhook.

mod support;

use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};
use support::backend::SECRET;
use support::device::metric;
use support::http::{Http, request};
use support::php::Php;
use support::{DEADLINE, Heard, Listener, Node, RedisServer, eventually};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

async fn adapter(environment: &[(&str, &str)]) -> (Php, Node) {
    let mut variables = vec![("WEBHOOK_SECRET", SECRET)];
    variables.extend_from_slice(environment);
    let php = Php::serve(&Path::new(ROOT).join("examples/php-controllers/webhook.php"), &variables).await;
    let url = php.url();
    let node = Node::start(&[
        ("CLIENT_PROFILES", "/=method"),
        ("WEBHOOK_URL", &url),
        ("WEBHOOK_SECRET", SECRET),
        ("WEBHOOK_TIMEOUT", "30s"),
    ])
    .await;
    (php, node)
}

/// Where the tests' own controllers are.
fn app_root() -> String {
    format!("{ROOT}/tests/php")
}

async fn hears_json(client: &mut Listener) -> Value {
    match client.hears().await {
        Heard::Text(text) => serde_json::from_str(&text).unwrap(),
        other => panic!("no text: {other:?}"),
    }
}

/// Calls a method; what comes after the acknowledgement.
async fn call(client: &mut Listener, message: Value) -> Value {
    client.say(&message.to_string()).await;
    assert_eq!(hears_json(client).await["event"], "receiveMessage");
    hears_json(client).await
}

#[tokio::test]
async fn the_original_s_sample_runs_as_it_is() {
    let (_php, node) = adapter(&[]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    client.say(r#"{"method":"index.index.index","name":"hello"}"#).await;
    client.hears_text(r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#).await;
    client.hears_text(r#"{"status":200,"event":"success","info":"执行完成"}"#).await;
    for (method, status, event) in
        [("INDEX", 200, "success"), ("index.other", 405, "methodNotFound"), ("a.b.c", 404, "controllerNotFound")]
    {
        let reply = call(&mut client, json!({ "method": method })).await;
        assert_eq!((&reply["status"], &reply["event"]), (&json!(status), &json!(event)), "{method}");
    }
}

#[test]
fn the_sample_is_the_original_s_byte_by_byte() {
    // Of the sample in the README of MSwoole, from its namespace to its last brace.
    const ORIGINAL: &str = "2a4ce8458dd7a9a2d1cc62e6b7cd27ceff1d823518cd194775a0485b981a88bc";
    let sample = fs::read(Path::new(ROOT).join("examples/php-controllers/App/Index/Controller/Index.php")).unwrap();
    let sample = sample.strip_prefix(b"<?php\n\n").unwrap();
    assert_eq!(format!("{:x}", Sha256::digest(sample)), ORIGINAL);
}

/// What a client is told of a controller, and of a method, that is not there.
const NO_CONTROLLER: &str = r#"{"status":404,"event":"controllerNotFound","info":"您请求的控制器不存在"}"#;
const NO_METHOD: &str = r#"{"status":405,"event":"methodNotFound","info":"您请求的method方法不存在"}"#;
const FAILED: &str = r#"{"status":500,"event":"controllerError","info":"程序错误"}"#;

#[tokio::test]
async fn clients_reach_public_methods_of_controllers_and_nothing_else() {
    let root = app_root();
    let (_php, node) = adapter(&[("APP_ROOT", &root)]).await;
    let mut client = Listener::connect(node.ws(), "/").await;
    for (method, reply) in [
        ("room.hidden.open", r#"{"status":200,"event":"static","info":""}"#),
        ("room.heir.index", r#"{"status":200,"event":"own","info":""}"#),
        ("room.hidden.kept", NO_METHOD),
        ("room.hidden.secret", NO_METHOD),
        ("room.hidden.__construct", NO_METHOD),
        ("room.hidden.__destruct", NO_METHOD),
        ("room.hidden.onClose", NO_METHOD),
        ("room.user.ONCLOSE", NO_METHOD),
        ("room.hidden.onMessage", NO_METHOD),
        ("room.hidden.open\0", NO_METHOD),
        ("room.hidden.open()", NO_METHOD),
        ("room.hidden.відкрий", NO_METHOD),
        ("room.hidden.leaves", FAILED),
        ("room.user.php.join", r#"{"status":200,"event":"own","info":""}"#),
        ("room.user/.join", NO_CONTROLLER),
        ("room.кімната.join", NO_CONTROLLER),
        ("кімната.user.join", NO_CONTROLLER),
        ("room.user\0.join", NO_CONTROLLER),
        ("room\0.user.join", NO_CONTROLLER),
        ("room/controller.user.join", NO_CONTROLLER),
        ("../app/room.user.join", NO_CONTROLLER),
        ("/../../app/room.user.join", r#"{"status":200,"event":"own","info":""}"#),
        ("room\\controller.user.join", NO_CONTROLLER),
        ("room.\\app\\room\\controller\\user.join", NO_CONTROLLER),
        ("mswoole.app.sendmessage", NO_CONTROLLER),
        ("room.arrayobject.count", NO_CONTROLLER),
    ] {
        client.say(&json!({ "method": method }).to_string()).await;
        assert_eq!(hears_json(&mut client).await["event"], "receiveMessage", "{method}");
        assert_eq!(client.hears().await, Heard::Text(reply.to_owned()), "{method:?}");
    }
}

#[tokio::test]
async fn an_end_that_one_controller_fails_at_is_heard_of_by_the_others_once() {
    let redis = RedisServer::start_with(&["--requirepass", "s3cret@"]).await;
    let url = format!("redis://:s3cret%40@127.0.0.1:{}/3", redis.port());
    let in_set = |command, fd| {
        let redis = &redis;
        async move { redis.cli(&["-a", "s3cret@", "--no-auth-warning", "-n", "3", command, "ROOM_1", fd]).await }
    };
    let root = app_root();
    let (_php, node) = adapter(&[("APP_ROOT", &root), ("APP_REDIS", &url)]).await;
    let (mut one, mut other) = (Listener::connect(node.ws(), "/").await, Listener::connect(node.ws(), "/").await);
    assert_eq!(call(&mut one, json!({ "method": "room.hidden.watch" })).await["event"], "watched");
    let other_fd = call(&mut other, json!({ "method": "room.user.join" })).await["param"]["fd"].to_string();
    in_set("SADD", other_fd.as_str()).await;
    in_set("SADD", "1").await;
    one.close().await;
    assert_eq!(hears_json(&mut other).await["event"], "gone");
    eventually("it is out of the set", DEADLINE, async || {
        if in_set("SISMEMBER", "1").await.trim() == "0" { Ok(()) } else { Err("it is in") }
    })
    .await;
    let taken = r#"carillon_webhook_calls_total{event="close",outcome="answered"}"#;
    eventually("it is taken", DEADLINE, async || if metric(&node, taken).await == 1 { Ok(()) } else { Err("not yet") })
        .await;
}

#[tokio::test]
async fn controllers_keep_rooms_and_hear_of_ends() {
    let root = app_root();
    let (_php, node) = adapter(&[("APP_ROOT", &root)]).await;
    let (mut one, mut other) = (Listener::connect(node.ws(), "/").await, Listener::connect(node.ws(), "/").await);
    let joined = call(&mut one, json!({ "method": "room.user.join" })).await;
    assert_eq!(joined["event"], "joined");
    let other_fd = call(&mut other, json!({ "method": "Room.User.Join" })).await["param"]["fd"].clone();

    one.say(r#"{"method":"room.user.say","text":"hi <all>"}"#).await;
    assert_eq!(hears_json(&mut one).await["event"], "receiveMessage");
    for client in [&mut one, &mut other] {
        let said = hears_json(client).await;
        assert_eq!((&said["event"], &said["param"]), (&json!("said"), &json!("hi <all>")));
    }
    assert_eq!(call(&mut one, json!({ "method": "room.any.thing" })).await["param"], json!({ "method": "taken out" }));
    assert_eq!(call(&mut one, json!({ "method": "room.user.fails" })).await["event"], "before");
    assert_eq!(hears_json(&mut one).await["event"], "controllerError");

    other.close().await;
    let gone = hears_json(&mut one).await;
    assert_eq!((&gone["event"], &gone["param"]["fd"]), (&json!("gone"), &other_fd));
    assert_eq!(call(&mut one, json!({ "method": "room.user.out" })).await["event"], "left");
}

#[tokio::test]
async fn sets_in_redis_lose_whoever_ends() {
    let redis = RedisServer::start().await;
    let (root, address) = (app_root(), format!("127.0.0.1:{}", redis.port()));
    let (_php, node) = adapter(&[("APP_ROOT", &root), ("APP_REDIS", &address)]).await;
    let (mut one, mut other) = (Listener::connect(node.ws(), "/").await, Listener::connect(node.ws(), "/").await);
    for client in [&mut one, &mut other] {
        let fd = call(client, json!({ "method": "room.user.join" })).await["param"]["fd"].to_string();
        redis.cli(&["SADD", "ROOM_1", &fd]).await;
    }
    one.say(r#"{"method":"room.user.say","text":"hi"}"#).await;
    assert_eq!(hears_json(&mut one).await["event"], "receiveMessage");
    for client in [&mut one, &mut other] {
        assert_eq!(hears_json(client).await["event"], "said");
    }
    drop(other);
    eventually("the set has lost it", DEADLINE, async || {
        let left = redis.cli(&["SCARD", "ROOM_1"]).await;
        if left.trim() == "1" { Ok(()) } else { Err(left) }
    })
    .await;
}

#[tokio::test]
async fn a_request_with_another_secret_is_refused() {
    let (_php, node) = adapter(&[("WEBHOOK_SECRET", "another")]).await;
    let refused = Listener::try_connect(node.ws(), "/").await.err().unwrap();
    assert_eq!((refused.status, refused.body.contains("status 401")), (503, true), "{}", refused.body);
}

/// The status that a script answers an event with whose signature was made so many seconds ago.
async fn status(php: &Php, secret: &str, age: u64) -> u16 {
    let body = r#"{"event":"open","query":{"name":"Ann"},"connection":7}"#;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let timestamp = (now - age).to_string();
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{timestamp}.{body}").as_bytes());
    let signature = format!("v1={:x}", mac.finalize().into_bytes());
    let headers = [
        ("Content-Type", "application/json"),
        ("Carillon-Timestamp", timestamp.as_str()),
        ("Carillon-Signature", signature.as_str()),
    ];
    let mut http = Http::connect(php.address()).await.unwrap();
    http.request(&request("POST", "/", &headers, body.as_bytes())).await.unwrap().status
}

#[tokio::test]
async fn what_was_signed_long_ago_or_by_nobody_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let adapter = Path::new(ROOT).join("examples/php-controllers/webhook.php");
    for script in [adapter, readme_example(&directory)] {
        let php = Php::serve(&script, &[("WEBHOOK_SECRET", SECRET)]).await;
        for (secret, age, wanted) in [(SECRET, 0, 200), (SECRET, 200, 200), (SECRET, 400, 401), ("another", 0, 401)] {
            assert_eq!(status(&php, secret, age).await, wanted, "{secret} {age} {}", script.display());
        }
        // Without a secret an empty one would be right.
        let php = Php::serve(&script, &[]).await;
        assert_eq!(status(&php, "", 0).await, 401, "{}", script.display());
    }
}

/// The documentation's example of a webhook, as a file.
fn readme_example(directory: &TempDir) -> PathBuf {
    let readme = fs::read_to_string(Path::new(ROOT).join("docs/webhooks.md")).unwrap();
    let mut scripts = readme.split("```php\n").skip(1).filter_map(|rest| rest.split("```").next());
    let script =
        scripts.find(|script| script.contains("CARILLON_SIGNATURE")).expect("there is an example of a webhook");
    let path = directory.path().join("webhook.php");
    fs::write(&path, script).unwrap();
    path
}

#[tokio::test]
async fn the_readme_s_example_answers() {
    let directory = tempfile::tempdir().unwrap();
    let path = readme_example(&directory);
    let php = Php::serve(&path, &[("WEBHOOK_SECRET", SECRET)]).await;
    let url = php.url();
    let variables = [("WEBHOOK_URL", url.as_str()), ("WEBHOOK_SECRET", SECRET), ("WEBHOOK_TIMEOUT", "30s")];
    let node = Node::start(&variables).await;
    let (mut one, mut other) =
        (Listener::connect(node.ws(), "/?name=Ann").await, Listener::connect(node.ws(), "/?name=Bo").await);
    for client in [&mut one, &mut other] {
        assert_eq!(hears_json(client).await["event"], "welcome");
    }
    one.say("hello").await;
    for client in [&mut one, &mut other] {
        assert_eq!(hears_json(client).await, json!({ "event": "said", "name": "Ann", "text": "hello" }));
    }
    one.close().await;
    assert_eq!(hears_json(&mut other).await, json!({ "event": "left", "name": "Ann" }));
    let refused = Listener::try_connect(node.ws(), "/").await.err().unwrap();
    assert_eq!((refused.status, refused.body.as_str()), (403, "who are you?\n"));
}
