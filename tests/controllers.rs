//! Controllers: what clients of the profile `method` call by name, by the contract's page.

mod support;

use carillon::{
    Builder, Call, Called, Client, Closed, Controller, Heard, Hooks, Message, Outcome, Profile, Push, Reply, Server,
    Wanted, async_trait, close_key,
};
use serde_json::{Value, json};
use std::error::Error;
use std::time::Duration;
use support::backend::{Backend, Reply as Answer, SECRET};
use support::library::Running;
use support::{DEADLINE, Heard as Hears, Listener, tokens};
use tokio::sync::mpsc;

type Failure = Box<dyn Error + Send + Sync>;

const RECEIVED: &str = r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#;
const NO_CONTROLLER: &str = r#"{"status":404,"event":"controllerNotFound","info":"您请求的控制器不存在"}"#;
const NO_METHOD: &str = r#"{"status":405,"event":"methodNotFound","info":"您请求的method方法不存在"}"#;
const FAILED: &str = r#"{"status":500,"event":"controllerError","info":"程序错误"}"#;
const DONE: &str = r#"{"status":200,"event":"success","info":"执行完成"}"#;

/// A room, and whoever is told of ends.
struct User(mpsc::Sender<Value>);

#[async_trait]
impl Controller for User {
    async fn call(&self, call: &Call) -> Result<Called, Failure> {
        let client = call.client();
        let names = format!("{}.{}.{}", call.module(), call.controller(), call.method());
        Ok(match call.method() {
            "names" => Reply::success("names", names).into(),
            "data" => Reply::success("data", "").param(call.data().clone()).into(),
            "join" => {
                client.add_close_key("room").await?;
                client.add_close_controller("live.user").await?;
                client.add_close_controller("Other.One").await?;
                Reply::success("joined", "").into()
            }
            "out" => {
                client.remove_close_key("room").await?;
                client.remove_close_controller("Live.User").await?;
                Reply::success("left", "").into()
            }
            "say" => {
                let said = Reply::success("said", "").param(call.text("say").unwrap_or_default());
                client.cluster().publish(Push::text(close_key("room")?, said.to_string())).await?;
                Called::Done
            }
            "wrong" => {
                client.add_close_controller("a.b.c").await?;
                Called::Done
            }
            "fails" => return Err("on purpose".into()),
            "panics" => panic!("on purpose"),
            "hangs" => std::future::pending().await,
            _ => Called::Unknown,
        })
    }

    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        let told = json!([client.id().get(), client.claims(), client.close_keys(), how.code, how.cause]);
        self.0.send(told).await?;
        Ok(())
    }
}

/// A controller that takes every method.
struct Any;

#[async_trait]
impl Controller for Any {
    async fn call(&self, _: &Call) -> Result<Called, Failure> {
        Ok(Called::Unknown)
    }

    async fn on_message(&self, call: &Call) -> Result<Called, Failure> {
        Ok(Reply::new(999, "any", call.method()).into())
    }
}

fn builder() -> (Builder, mpsc::Receiver<Value>) {
    let (told, receiver) = mpsc::channel(100);
    let server = Server::builder()
        .profile("/", Profile::Method)
        .controller("live.USER", User(told))
        .controller("any", Any)
        .hook_timeout(Duration::from_millis(500));
    (server, receiver)
}

async fn says(client: &mut Listener, message: &Value, replies: &[&str]) {
    client.say(&message.to_string()).await;
    client.hears_text(RECEIVED).await;
    for reply in replies {
        assert_eq!(client.hears().await, Hears::Text((*reply).to_owned()), "{message}");
    }
}

#[tokio::test]
async fn calls_go_to_their_controllers_and_all_others_are_answered() {
    let (builder, _told) = builder();
    let server = Running::start(builder).await;
    let mut client = Listener::connect(server.address, "/any/path").await;
    let names = r#"{"status":200,"event":"names","info":"Live.User.names"}"#;
    for (method, reply) in [
        (json!("live.user.names"), names),
        (json!("LIVE.User.NAMES"), names),
        (json!(".live.user.names."), names),
        (json!("live.user.other"), NO_METHOD),
        (json!("live.user.fails"), FAILED),
        (json!("live.user.panics"), FAILED),
        (json!("live.user.hangs"), FAILED),
        (json!("live.user.wrong"), FAILED),
        (json!("any.thing"), r#"{"status":999,"event":"any","info":"thing"}"#),
        (json!("index.any"), NO_METHOD),
        (json!("live.nobody.join"), NO_CONTROLLER),
        (json!("index.index.index"), DONE),
        (json!("other"), NO_METHOD),
        (json!(null), DONE),
        (json!("a.b.c.d"), DONE),
    ] {
        says(&mut client, &json!({ "method": method }), &[reply]).await;
    }
    client.say("2").await;
    client.hears_text("3").await;
}

#[tokio::test]
async fn data_are_the_clients_but_for_what_its_token_says() {
    let (builder, _told) = builder();
    let server = Running::start(builder.auth_key("kfw001-websocket").variable("METHOD_ESCAPE_HTML", "true")).await;
    assert_eq!(Listener::refused(server.address, "/").await.status, 403);
    let mut client = Listener::connect(server.address, &format!("/?auth={}", tokens::TRIPLE_DES)).await;
    let id = server.cluster.connections().await.unwrap()[0].get();
    let message = json!({ "method": "live.user.data", "z": "<b>", "code": "forged", "auth": 1, "fd": 2 });
    let auth = json!({ "id": "1", "type": "wall", "code": "room1", "nickname": "n", "ctime": 1503650000 });
    let data = json!({ "method": "live.user.data", "z": "&lt;b&gt;", "code": "room1", "auth": auth, "fd": id });
    let reply = format!(r#"{{"status":200,"event":"data","info":"","param":{data}}}"#);
    says(&mut client, &message, &[&reply]).await;
    let members = server.cluster.members(&carillon::group("room1").unwrap()).await.unwrap();
    assert_eq!(members.len(), 1, "its code is its group");
}

#[tokio::test]
async fn close_keys_are_sets_and_close_controllers_hear_of_ends() {
    let (builder, mut told) = builder();
    let server = Running::start(builder.jwt_secret(tokens::SECRET)).await;
    let token = |id: &str| tokens::jwt(tokens::SECRET, &json!({ "id": id }));
    let mut ann = Listener::connect(server.address, &format!("/?auth={}", token("ann"))).await;
    let ann_id = server.cluster.connections().await.unwrap()[0].get();
    let mut bo = Listener::connect(server.address, &format!("/?auth={}", token("bo"))).await;
    for client in [&mut ann, &mut bo] {
        let joined = r#"{"status":200,"event":"joined","info":""}"#;
        says(client, &json!({ "method": "live.user.join" }), &[joined]).await;
    }
    says(&mut ann, &json!({ "method": "live.user.say", "say": 5 }), &[]).await;
    for client in [&mut ann, &mut bo] {
        client.hears_text(r#"{"status":200,"event":"said","info":"","param":"5"}"#).await;
    }
    says(&mut bo, &json!({ "method": "live.user.out" }), &[r#"{"status":200,"event":"left","info":""}"#]).await;
    bo.close().await;
    ann.close().await;
    let close = tokio::time::timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
    assert_eq!(close, json!([ann_id, { "id": "ann" }, ["room"], 1005, "client"]));
    server.stop().await;
    assert_eq!(told.recv().await, None, "who has left the controller is not told");
}

/// Hooks that keep one method for themselves.
struct First;

#[async_trait]
impl Hooks for First {
    fn wanted(&self, _: Profile) -> Wanted {
        Wanted::MESSAGE
    }

    async fn on_message(&self, _: &Client, message: &Message) -> Result<Heard, Failure> {
        let mine = message.as_text().is_some_and(|text| text.contains("mine"));
        Ok(if mine { Heard::Reply("mine".to_owned()) } else { Heard::PassOn })
    }
}

#[tokio::test]
async fn hooks_come_first_and_the_webhook_has_the_controllers_that_the_program_has_not() {
    let backend = Backend::start(|event| match event["event"].as_str() {
        Some("message") => Answer::Json(json!({
            "reply": event["call"],
            "operations": [{ "do": "add_close_controller", "controller": "Live.User" }],
        })),
        _ => Answer::Status(204),
    })
    .await;
    let (builder, mut told) = builder();
    let server = Running::start(builder.hooks(First).webhook(backend.url(), SECRET)).await;
    let mut client = Listener::connect(server.address, "/").await;
    says(&mut client, &json!({ "method": "live.user.mine" }), &["mine"]).await;
    says(&mut client, &json!({ "method": "live.user.other" }), &[NO_METHOD]).await;
    let index = r#"{"module":"Index","controller":"Index","method":"index"}"#;
    says(&mut client, &json!({ "method": "index" }), &[index]).await;
    backend.now(|event| Answer::Status(if event["event"] == "message" { 500 } else { 204 }));
    says(&mut client, &json!({ "method": "a.b.c" }), &[FAILED]).await;
    client.close().await;
    let close = tokio::time::timeout(DEADLINE, told.recv()).await.unwrap().unwrap();
    assert_eq!((&close[1], &close[4]), (&Value::Null, &json!("client")));
    assert_eq!(backend.has("close", 1).await[0]["close_controllers"], json!(["Live.User"]));
}

#[tokio::test]
async fn a_name_that_is_none_is_said_at_the_start() {
    for name in ["", "a.b.c", "a."] {
        let error = Server::builder().controller(name, Any).start().await.err().unwrap().to_string();
        assert_eq!(error, format!("controller {name:?} is not of the form Module.Controller"));
    }
}
