//! A program's hooks over the built-in profiles: what they are told, what they may say, and what becomes of those that fail.

mod support;

use carillon::{
    Builder, Client, Closed, Entry, Heard, Hooks, Message, Outcome, Profile, Server, StatusCode, Wanted, async_trait,
    close_key, group,
};
use serde_json::{Value, json};
use std::error::Error;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use support::backend::{Backend, Reply, SECRET};
use support::eventually::same;
use support::library::Running;
use support::{DEADLINE, Heard as Hears, Listener, RedisServer, eventually, tokens};
use tokio::sync::{Semaphore, mpsc};
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

type Failure = Box<dyn Error + Send + Sync>;

/// Hooks that do what clients ask for, and write down what they are told.
struct Obliging {
    wanted: Wanted,
    told: mpsc::Sender<(String, Value)>,
    /// Attempts at `on_close` that are to fail.
    fail: AtomicUsize,
    /// Which `on_close` has to get.
    gate: Semaphore,
    seen: Mutex<Vec<u64>>,
}

impl Obliging {
    fn new(wanted: Wanted) -> (Self, mpsc::Receiver<(String, Value)>) {
        let (told, receiver) = mpsc::channel(1000);
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        (Self { wanted, told, fail: AtomicUsize::new(0), gate, seen: Mutex::default() }, receiver)
    }

    async fn note(&self, what: &str, client: &Client, more: Value) {
        let facts = json!({
            "id": client.id().get(),
            "profile": client.profile().as_str(),
            "user": client.user(),
            "groups": client.groups(),
            "keys": client.close_keys(),
            "controllers": client.close_controllers(),
            "channels": client.channels().map(|names| names.iter().map(|name| name.as_str()).collect::<Vec<_>>()),
            "claims": client.claims(),
            "address": client.address().unwrap().to_string(),
            "path": client.path(),
            "query": client.query(),
            "more": more,
        });
        // An error: the test has seen enough.
        let _ = self.told.send((what.to_owned(), facts)).await;
    }
}

#[async_trait]
impl Hooks for Obliging {
    fn wanted(&self, _: Profile) -> Wanted {
        self.wanted
    }

    async fn on_open(&self, client: &Client) -> Result<Entry, Failure> {
        self.note("open", client, Value::Null).await;
        match client.path() {
            "/refuse" => return Ok(Entry::Refuse(StatusCode::PAYMENT_REQUIRED, "pay first".to_owned())),
            "/oddly" => return Ok(Entry::Refuse(StatusCode::OK, "no".to_owned())),
            "/fail" => return Err("as the client wished".into()),
            "/panic" => panic!("as the client wished"),
            "/hang" => std::future::pending().await,
            _ => {}
        }
        client.join(group("guests")?).await?;
        client.add_close_key("room 1").await?;
        client.add_close_controller("live.user").await?;
        if client.user().is_none() {
            client.bind(carillon::Name::new("guest")?).await?;
        }
        client.push("welcome").await?;
        client.push_binary(&b"\xff"[..]).await?;
        Ok(Entry::Accept)
    }

    async fn on_message(&self, client: &Client, message: &Message) -> Result<Heard, Failure> {
        self.note("message", client, format!("{message:?}").into()).await;
        match message.as_text() {
            Some("done") => Ok(Heard::Done),
            Some("reply") => Ok(Heard::Reply("a reply".to_owned())),
            Some("fail") => Err("as the client wished".into()),
            Some("panic") => panic!("as the client wished"),
            Some("hang") => std::future::pending().await,
            Some("close me") => {
                client.close(4000, "as you wish").await?;
                Ok(Heard::Done)
            }
            Some("leave") => {
                client.leave(group("guests")?).await?;
                client.remove_close_key("room 1").await?;
                client.remove_close_controller("Live.User").await?;
                client.unbind().await?;
                Ok(Heard::Reply("left".to_owned()))
            }
            _ => Ok(Heard::PassOn),
        }
    }

    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        let _held = self.gate.acquire().await?;
        if self.fail.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_ok() {
            self.note("failed", client, Value::Null).await;
            return Err("as the test wished".into());
        }
        assert!(!client.push("are you there?").await?, "it is gone");
        self.seen.lock().unwrap().push(client.id().get());
        self.note("close", client, json!([how.code, how.reason, how.cause])).await;
        Ok(())
    }
}

async fn told(receiver: &mut mpsc::Receiver<(String, Value)>) -> (String, Value) {
    tokio::time::timeout(DEADLINE, receiver.recv()).await.expect("something is told").expect("the hooks are there")
}

/// A server for clients of the profile `channel`, with these hooks.
fn channels(hooks: Obliging) -> Builder {
    Server::builder().profile("/", Profile::Channel).hooks(hooks)
}

#[tokio::test]
async fn a_client_is_told_of_from_its_opening_to_its_end() {
    let (hooks, mut receiver) = Obliging::new(Wanted::ALL);
    let server = Running::start(channels(hooks).jwt_secret(tokens::SECRET)).await;
    let claims = json!({ "id": "ann", "code": "room1", "type": "wall" });
    let token = tokens::jwt(tokens::SECRET, &claims);
    let target = format!("/live?channel[]=news&name=Ann&auth={token}");
    let mut client = Listener::connect(server.address, &target).await;
    client.hears_text("welcome").await;
    assert_eq!(client.hears().await, Hears::Binary(vec![0xff]));
    let (what, open) = told(&mut receiver).await;
    let id = open["id"].clone();
    assert_eq!(what, "open");
    let at_first = json!({
        "id": id, "profile": "channel", "user": "ann", "groups": ["room1"], "keys": [], "controllers": [],
        "channels": ["news"], "claims": claims, "address": "127.0.0.1", "path": "/live",
        "query": { "channel": ["news"], "name": "Ann" }, "more": null,
    });
    assert_eq!(open, at_first);

    client.say("reply").await;
    client.hears_text("a reply").await;
    let (_, message) = told(&mut receiver).await;
    assert_eq!(message["more"], r#"Text("reply")"#);
    let now = [&message["groups"], &message["keys"], &message["controllers"]];
    assert_eq!(now, [&json!(["guests", "room1"]), &json!(["room 1"]), &json!(["Live.User"])]);
    assert_eq!(server.cluster.count_members(&close_key("room 1").unwrap()).await, Ok(1));

    let frame = CloseFrame { code: CloseCode::Library(4001), reason: "enough".into() };
    client.send(Frame::Close(Some(frame))).await;
    let (what, close) = told(&mut receiver).await;
    assert_eq!((what.as_str(), &close["id"]), ("close", &id));
    assert_eq!(close["more"], json!([4001, "enough", "client"]));
    assert_eq!((&close["keys"], &close["user"]), (&json!(["room 1"]), &json!("ann")));
    assert_eq!(server.cluster.count_members(&close_key("room 1").unwrap()).await, Ok(0));
}

#[tokio::test]
async fn whoever_is_refused_is_told_so_and_nothing_more_is_said_of_it() {
    let (hooks, mut receiver) = Obliging::new(Wanted::ALL);
    let server = Running::start(channels(hooks).hook_timeout(Duration::from_millis(300))).await;
    for (path, status, body) in [
        ("/refuse", 402, "pay first\n"),
        ("/oddly", 403, "no\n"),
        ("/fail", 503, "application can't be asked: on_open has failed\n"),
        ("/panic", 503, "application can't be asked: on_open has failed\n"),
        ("/hang", 503, "application can't be asked: on_open has failed\n"),
    ] {
        let refused = Listener::refused(server.address, path).await;
        assert_eq!((refused.status, refused.body.as_str()), (status, body), "{path}");
        assert_eq!(told(&mut receiver).await.0, "open", "{path}");
        // What could not be asked may have been let in, for all that the program knows.
        if status == 503 {
            assert_eq!(told(&mut receiver).await.0, "close", "{path}");
        }
    }
    assert_eq!(server.cluster.count().await, Ok(0));
}

#[tokio::test]
async fn a_message_is_the_programs_or_the_profiles_and_a_failure_is_its_own_clients_only() {
    let (hooks, _receiver) = Obliging::new(Wanted::MESSAGE);
    let server = Running::start(channels(hooks).hook_timeout(Duration::from_millis(300))).await;
    let mut client = Listener::connect(server.address, "/").await;
    for silent in ["done", "fail", "panic", "hang"] {
        client.say(silent).await;
        client.say("reply").await;
        client.hears_text("a reply").await;
    }
    client.say("passed on").await;
    client.hears_text("passed on").await;
    client.send(Frame::binary(vec![0xfe])).await;
    assert_eq!(client.hears().await, Hears::Binary(vec![0xfe]));
    client.say("leave").await;
    client.hears_text("left").await;
    client.say("close me").await;
    assert_eq!(client.hears().await, Hears::Closed(4000, "as you wish".to_owned()));
}

#[tokio::test]
async fn in_the_profile_method_a_failure_is_the_contract_s() {
    let (hooks, mut receiver) = Obliging::new(Wanted::MESSAGE);
    let server = Running::start(Server::builder().profile("/", Profile::Method).hooks(hooks)).await;
    let mut client = Listener::connect(server.address, "/").await;
    client.say("2").await;
    client.hears_text("3").await;
    client.say(r#"{"method":"index"}"#).await;
    client.hears_text(r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#).await;
    client.hears_text(r#"{"status":200,"event":"success","info":"执行完成"}"#).await;
    let (_, message) = told(&mut receiver).await;
    let id = &message["id"];
    let data = json!({ "method": "index", "code": null, "auth": null, "fd": id }).to_string();
    assert_eq!(message["more"], format!("Text({data:?})"));
}

#[tokio::test]
async fn what_is_not_wanted_is_not_told() {
    let (hooks, mut receiver) = Obliging::new(Wanted::NOTHING);
    let server = Running::start(channels(hooks)).await;
    let mut client = Listener::connect(server.address, "/refuse").await;
    client.say("done").await;
    client.hears_text("done").await;
    client.close().await;
    server.stop().await;
    assert_eq!(receiver.recv().await, None);
}

#[tokio::test]
async fn a_slow_on_close_is_in_nobodys_way_and_all_are_told_before_the_server_has_stopped() {
    let (hooks, mut receiver) = Obliging::new(Wanted::CLOSE);
    hooks.gate.forget_permits(Semaphore::MAX_PERMITS);
    let hooks = std::sync::Arc::new(hooks);
    let server = Running::start(Server::builder().profile("/", Profile::Channel).hooks(Shared(hooks.clone()))).await;
    let crowd = Listener::crowd(server.address, "/", 200).await;
    for client in crowd {
        client.close().await;
    }
    eventually("nobody is there", DEADLINE, async || same(server.cluster.count().await, Ok(0))).await;
    let mut other = Listener::connect(server.address, "/").await;
    other.say("still here?").await;
    other.hears_text("still here?").await;
    assert!(receiver.try_recv().is_err());
    hooks.gate.add_permits(1000);
    server.stop().await;
    assert_eq!(other.hears().await, Hears::Closed(1001, "node is stopping".to_owned()));
    let mut ids = hooks.seen.lock().unwrap().clone();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 201);
    let mut causes: Vec<String> = Vec::new();
    while let Ok((_, close)) = receiver.try_recv() {
        causes.push(close["more"][2].as_str().unwrap().to_owned());
    }
    assert_eq!(causes.iter().filter(|cause| *cause == "going_away").count(), 1);
}

#[tokio::test]
async fn an_on_close_that_fails_is_tried_again() {
    let (hooks, mut receiver) = Obliging::new(Wanted::CLOSE);
    hooks.fail.store(1, Ordering::Release);
    let server = Running::start(channels(hooks)).await;
    Listener::connect(server.address, "/").await.close().await;
    let (what, failed) = told(&mut receiver).await;
    assert_eq!(what, "failed");
    let (what, close) = told(&mut receiver).await;
    assert_eq!((what.as_str(), &close["id"]), ("close", &failed["id"]));
}

/// Hooks that a test shares with its server.
struct Shared(std::sync::Arc<Obliging>);

#[async_trait]
impl Hooks for Shared {
    fn wanted(&self, profile: Profile) -> Wanted {
        self.0.wanted(profile)
    }

    async fn on_close(&self, client: &Client, how: &Closed) -> Outcome {
        self.0.on_close(client, how).await
    }
}

#[tokio::test]
async fn the_webhook_is_asked_after_the_hooks_and_told_what_they_pass_on() {
    let backend = Backend::start(|event| match event["event"].as_str() {
        Some("message") => Reply::Json(json!({ "reply": format!("webhook: {}", event["message"]) })),
        Some("open") if event["path"] == "/webhook-refuses" => Reply::Json(json!({ "accept": false })),
        _ => Reply::Status(204),
    })
    .await;
    let (hooks, mut receiver) = Obliging::new(Wanted::ALL);
    let server = Running::start(channels(hooks).webhook(backend.url(), SECRET)).await;
    assert_eq!(Listener::refused(server.address, "/refuse").await.status, 402);
    assert_eq!(told(&mut receiver).await.0, "open");
    assert!(backend.received().is_empty(), "it is not asked about those that the hooks refuse");

    assert_eq!(Listener::refused(server.address, "/webhook-refuses").await.status, 403);
    assert_eq!(told(&mut receiver).await.0, "open");
    let (what, close) = told(&mut receiver).await;
    assert_eq!((what.as_str(), &close["more"]), ("close", &json!([1006, "", "refused"])));

    let mut client = Listener::connect(server.address, "/").await;
    client.hears_text("welcome").await;
    client.hears().await;
    client.say("reply").await;
    client.hears_text("a reply").await;
    client.say("other").await;
    client.hears_text(r#"webhook: "other""#).await;
    client.close().await;
    let closes = backend.has("close", 1).await;
    assert_eq!((&closes[0]["close_keys"], &closes[0]["cause"]), (&json!(["room 1"]), &json!("client")));
    assert_eq!(backend.has("message", 1).await.len(), 1, "what the hooks have dealt with is theirs");
    server.stop().await;
    let mut last = None;
    while let Ok(told) = receiver.try_recv() {
        last = Some(told.0);
    }
    assert_eq!(last.as_deref(), Some("close"), "both are told of an end");
}

#[tokio::test]
async fn what_a_stopping_server_could_not_tell_another_one_does() {
    let redis = RedisServer::start().await;
    let (failing, mut refused) = Obliging::new(Wanted::CLOSE);
    failing.fail.store(usize::MAX, Ordering::Release);
    let (hooks, mut receiver) = Obliging::new(Wanted::CLOSE);
    let first = channels(failing).redis(redis.url()).hook_timeout(Duration::from_millis(500));
    let (first, second) = (Running::start(first).await, Running::start(channels(hooks).redis(redis.url())).await);
    let client = eventually("a client is let in", DEADLINE, async || {
        Listener::try_connect(first.address, "/?channel[]=a").await.map_err(|refused| refused.status)
    })
    .await;
    let id = first.cluster.connections().await.unwrap()[0].get();
    client.close().await;
    assert_eq!(told(&mut refused).await.0, "failed");
    first.stop().await;
    let (what, close) = told(&mut receiver).await;
    assert_eq!((what.as_str(), &close["id"], &close["channels"]), ("close", &json!(id), &json!(["a"])));
    assert_eq!(close["more"], json!([1005, "", "client"]));
    drop(second);
}

#[tokio::test]
async fn what_can_not_be_is_said_at_the_start() {
    let fails = async |builder: Builder| builder.start().await.err().map(|error| error.to_string()).unwrap();
    let unknown = fails(Server::builder().variable("IDLE_TIMEOUT_METHODS", "1s")).await;
    assert_eq!(unknown, "variable \"IDLE_TIMEOUT_METHODS\" is unknown: `carillon config` lists them");
    let short = fails(Server::builder().jwt_secret("short")).await;
    assert!(short.contains("JWT_SECRET") && !short.contains("\"short\""), "{short}");
    let url = fails(Server::builder().webhook("ftp://x", "secret")).await;
    assert!(url.contains("WEBHOOK_URL"), "{url}");
}
