//! Controllers in PHP, as they are, behind the adapter of `examples/php-controllers`; and the README's example of a webhook.

mod support;

use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use support::backend::SECRET;
use support::php::Php;
use support::{DEADLINE, Heard, Listener, Node, RedisServer, eventually};

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
    for (method, status, event) in [
        ("INDEX", 200, "success"),
        ("index.other", 405, "methodNotFound"),
        ("a.b.c", 404, "controllerNotFound"),
        ("index.index.__construct", 405, "methodNotFound"),
        ("/etc.passwd.x", 404, "controllerNotFound"),
    ] {
        let reply = call(&mut client, json!({ "method": method })).await;
        assert_eq!((&reply["status"], &reply["event"]), (&json!(status), &json!(event)), "{method}");
    }
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

#[tokio::test]
async fn the_readme_s_example_answers() {
    let readme = fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let mut scripts = readme.split("```php\n").skip(1).filter_map(|rest| rest.split("```").next());
    let script =
        scripts.find(|script| script.contains("CARILLON_SIGNATURE")).expect("there is an example of a webhook");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("webhook.php");
    fs::write(&path, script).unwrap();
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
