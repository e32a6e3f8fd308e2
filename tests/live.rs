//! `examples/live`: every row of the contract's table, on two nodes and a real Redis; and what becomes of a room when one is killed.

mod support;

use serde_json::{Value, json};
use support::eventually::same;
use support::{DEADLINE, Example, Heard, Listener, RedisServer, eventually, http, tokens};

const RECEIVED: &str = r#"{"status":200,"event":"receiveMessage","info":"服务端已收到您的请求内容"}"#;

/// The example on two nodes.
struct Live {
    nodes: Vec<Example>,
    redis: RedisServer,
}

impl Live {
    async fn start() -> Self {
        let redis = RedisServer::start().await;
        let (url, secret) = (redis.url(), format!("JWT_SECRET={}", tokens::SECRET));
        let arguments = ["127.0.0.1:0", &url, "AUTH_KEY=kfw001-websocket", &secret];
        let nodes = vec![Example::start("live", &arguments).await, Example::start("live", &arguments).await];
        Self { nodes, redis }
    }

    /// A client on one of the nodes, whose token says this.
    async fn client(&self, node: usize, claims: Value) -> Client {
        let token = tokens::jwt(tokens::SECRET, &claims);
        self.with_token(node, &token).await
    }

    async fn with_token(&self, node: usize, token: &str) -> Client {
        let (address, target) = (self.nodes[node].address(), format!("/live?auth={token}"));
        // A node that has just started may not be in the cluster yet.
        let listener = eventually("a client is let in", DEADLINE, async || {
            Listener::try_connect(address, &target).await.map_err(|refused| format!("{refused:?}"))
        });
        Client(listener.await)
    }

    async fn user(&self, node: usize, id: u64, code: &str) -> Client {
        let mut user = self
            .client(node, json!({ "id": id, "type": "wechatUser", "code": code, "nickname": format!("n{id}") }))
            .await;
        user.calls("live.user.join", json!({})).await;
        user.hears(r#"{"status":200,"event":"userJoinSuccess","info":"加入房间成功"}"#).await;
        user
    }

    async fn wall(&self, node: usize, code: &str) -> Client {
        let mut wall = self.client(node, json!({ "id": "w", "type": "wall", "code": code, "nickname": "屏" })).await;
        wall.calls("live.wall.join", json!({})).await;
        wall.hears(r#"{"status":200,"event":"wallJoinSuccess","info":"加入房间成功"}"#).await;
        wall
    }

    /// How many are in a room, as a node says.
    async fn room(&self, node: usize, code: &str) -> Value {
        let page = http::get(self.nodes[node].address(), &format!("/rooms?code={code}")).await.unwrap();
        serde_json::from_str(page.text()).unwrap_or_else(|_| page.text().into())
    }
}

/// A client, and what it hears word by word.
struct Client(Listener);

impl Client {
    /// Calls a method, which is acknowledged at once.
    async fn calls(&mut self, method: &str, mut data: Value) {
        data["method"] = method.into();
        self.0.say(&data.to_string()).await;
        self.0.hears_text(RECEIVED).await;
    }

    async fn hears(&mut self, text: &str) {
        self.0.hears_text(text).await;
    }

    /// The next message must have this event and info; its `param`.
    async fn hears_of(&mut self, event: &str, info: &str) -> Value {
        let Heard::Text(text) = self.0.hears().await else { panic!("{event}: no text") };
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            (&message["status"], &message["event"], &message["info"]),
            (&json!(200), &json!(event), &json!(info))
        );
        message["param"].clone()
    }

    /// Nothing has come but what was heard: the answer to a keep-alive is next.
    async fn hears_nothing(&mut self) {
        self.0.say("2").await;
        self.0.hears_text("3").await;
    }
}

#[tokio::test]
async fn only_those_with_a_token_come_in_and_only_where_their_token_is_for() {
    let live = Live::start().await;
    assert_eq!(Listener::refused(live.nodes[0].address(), "/").await.status, 403);
    let mut wall = live.with_token(0, tokens::TRIPLE_DES).await;
    wall.calls("live.user.join", json!({})).await;
    wall.hears(r#"{"status":403,"event":"mustBeWechatUser","info":"仅允许微信用户连入"}"#).await;
    wall.calls("live.user.say", json!({ "say": "hi" })).await;
    wall.hears(r#"{"status":403,"event":"mustBeWechatUser","info":"仅允许微信用户连入"}"#).await;
    wall.calls("live.wall.join", json!({ "code": "forged" })).await;
    wall.hears(r#"{"status":200,"event":"wallJoinSuccess","info":"加入房间成功"}"#).await;
    eventually("it is in its own room", DEADLINE, async || {
        same(live.room(1, "room1").await, json!({ "users": 0, "walls": 1 }))
    })
    .await;
    wall.calls("live.wall.out", json!({})).await;
    wall.hears(r#"{"status":200,"event":"wallOutSuccess","info":"退出房间成功"}"#).await;
    assert_eq!(live.room(0, "room1").await, json!({ "users": 0, "walls": 0 }));

    let mut user = live.client(1, json!({ "id": 1, "type": "wechatUser", "code": "room1" })).await;
    for method in ["join", "out", "say", "recall", "check", "clean", "history"] {
        user.calls(&format!("live.wall.{method}"), json!({ "id": 1, "type": "wall" })).await;
        user.hears(r#"{"status":403,"event":"mustBeWall","info":"仅允许大屏幕用户连入"}"#).await;
    }
    for (kind, method) in [("wechatUser", "live.user.join"), ("wall", "live.wall.join"), ("wall", "live.wall.say")] {
        let mut nowhere = live.client(0, json!({ "id": 1, "type": kind })).await;
        nowhere.calls(method, json!({ "code": "room1" })).await;
        nowhere.hears(r#"{"status":999,"event":"codeIsEmpty","info":"code不能为空"}"#).await;
    }
    user.calls("live.user.dance", json!({})).await;
    user.hears(r#"{"status":405,"event":"methodNotFound","info":"您请求的method方法不存在"}"#).await;
    user.calls("live.band.play", json!({})).await;
    user.hears(r#"{"status":404,"event":"controllerNotFound","info":"您请求的控制器不存在"}"#).await;
}

#[tokio::test]
async fn users_words_are_shown_once_a_wall_lets_them_pass() {
    let live = Live::start().await;
    let (mut ann, mut bo) = (live.user(0, 1, "r").await, live.user(1, 2, "r").await);
    let (mut wall, mut other_wall) = (live.wall(1, "r").await, live.wall(0, "r").await);
    let (mut elsewhere, mut wall_elsewhere) = (live.user(0, 3, "s").await, live.wall(0, "s").await);

    let mut ids = Vec::new();
    for say in ["good", "bad", "twice"] {
        ann.calls("live.user.say", json!({ "say": say })).await;
        let id = ann.hears_of("userSaySuccess", "发布聊天内容成功，等待审核").await;
        for wall in [&mut wall, &mut other_wall] {
            let shown = wall.hears_of("userSayNeedCheck", "收到用户广播内容").await;
            assert_eq!(shown.to_string(), json!({ "id": id, "nickname": "n1", "say": say }).to_string());
        }
        ids.push(id);
    }
    wall.calls("live.wall.history", json!({ "type": "user" })).await;
    let pending = wall.hears_of("userSayHistory", "获取消息历史成功").await;
    let says: Vec<&Value> = pending.as_array().unwrap().iter().map(|message| &message["say"]).collect();
    assert_eq!(says, ["twice", "bad", "good"]);
    assert_eq!(pending[2], json!({ "id": ids[0], "nickname": "n1", "say": "good" }));

    wall.calls("live.wall.check", json!({ "id": ids[0], "status": 1 })).await;
    for user in [&mut ann, &mut bo] {
        let shown = user.hears_of("userSayBroadcast", "用户消息审核通过").await;
        assert_eq!(shown.to_string(), json!({ "id": ids[0], "nickname": "n1", "say": "good" }).to_string());
    }
    assert_eq!(wall.hears_of("wallCheckSuccess", "审核消息成功").await, ids[0]);
    for status in [json!(0), json!("0"), json!("")] {
        wall.calls("live.wall.check", json!({ "id": ids[1].to_string(), "status": status })).await;
        assert_eq!(wall.hears_of("wallCheckSuccess", "审核消息成功").await, ids[1].to_string());
    }
    // Two walls at once: it is shown once.
    for wall in [&mut wall, &mut other_wall] {
        wall.calls("live.wall.check", json!({ "id": ids[2], "status": "1" })).await;
        wall.hears_of("wallCheckSuccess", "审核消息成功").await;
    }
    for user in [&mut ann, &mut bo] {
        user.hears_of("userSayBroadcast", "用户消息审核通过").await;
        user.hears_nothing().await;
    }
    bo.calls("live.user.history", json!({})).await;
    let shown = bo.hears_of("wallSayHistory", "获取历史成功").await;
    let message = |id: &Value, say: &str| json!({ "code": "r", "nickname": "n1", "say": say, "user_id": 1, "id": id });
    assert_eq!(shown, json!([message(&ids[2], "twice"), message(&ids[0], "good")]));

    for client in [&mut elsewhere, &mut wall_elsewhere] {
        client.hears_nothing().await;
    }
    ann.calls("live.user.out", json!({})).await;
    ann.hears(r#"{"status":200,"event":"userOutSuccess","info":"退出房间成功"}"#).await;
    assert_eq!(live.room(0, "r").await, json!({ "users": 1, "walls": 2 }));
    wall.calls("live.wall.say", json!({ "say": "still here?" })).await;
    wall.hears_of("wallSaySuccess", "广播成功").await;
    bo.hears_of("wallSayBroadcast", "收到大屏幕广播内容").await;
    ann.hears_nothing().await;
}

#[tokio::test]
async fn walls_speak_take_back_and_forget() {
    let live = Live::start().await;
    let (mut ann, mut wall) = (live.user(0, 1, "r").await, live.wall(1, "r").await);
    let mut ids = Vec::new();
    for number in 1..=25 {
        wall.calls("live.wall.say", json!({ "say": number })).await;
        let told = wall.hears_of("wallSaySuccess", "广播成功").await;
        let shown = ann.hears_of("wallSayBroadcast", "收到大屏幕广播内容").await;
        let id = shown["id"].clone();
        let message = json!({ "code": "r", "nickname": "屏", "say": number.to_string(), "user_id": "w", "id": id });
        assert_eq!((told.to_string(), shown.to_string()), (message.to_string(), message.to_string()));
        ids.push(id);
    }
    // Pages, the newest first; of whoever asks.
    for (asked, first, last, count) in [
        (json!({}), 25, 16, 10),
        (json!({ "page": 2 }), 15, 6, 10),
        (json!({ "page": "3", "count": "10" }), 5, 1, 5),
        (json!({ "count": 50 }), 25, 6, 20),
        (json!({ "page": 2, "count": 20 }), 5, 1, 5),
        (json!({ "page": 0, "count": 0 }), 25, 16, 10),
        (json!({ "page": 9, "count": 2 }), 9, 8, 2),
    ] {
        let mut typed = asked.clone();
        typed["type"] = "wall".into();
        wall.calls("live.wall.history", typed).await;
        ann.calls("live.user.history", asked.clone()).await;
        for client in [&mut wall, &mut ann] {
            let list = client.hears_of("wallSayHistory", "获取历史成功").await;
            let list = list.as_array().unwrap();
            assert_eq!(list.len(), count, "{asked}");
            assert_eq!(list[0]["say"], first.to_string(), "{asked}");
            assert_eq!(list[count - 1]["say"], last.to_string(), "{asked}");
        }
    }
    wall.calls("live.wall.history", json!({ "type": "wall", "page": u64::MAX })).await;
    wall.hears(r#"{"status":200,"event":"wallSayHistory","info":"获取历史成功"}"#).await;
    for kind in [json!("other"), Value::Null, json!(["wall"])] {
        wall.calls("live.wall.history", json!({ "type": kind })).await;
        wall.hears(r#"{"status":401,"event":"typeError","info":"类型错误"}"#).await;
    }

    wall.calls("live.wall.recall", json!({ "id": ids[24] })).await;
    assert_eq!(wall.hears_of("wallRecallSuccess", "撤回广播成功").await, ids[24]);
    assert_eq!(ann.hears_of("wallSayRecall", "撤回一条大屏幕消息").await, ids[24]);
    for id in [ids[24].clone(), json!("x"), Value::Null, json!(-1)] {
        wall.calls("live.wall.recall", json!({ "id": id })).await;
        wall.hears(r#"{"status":403,"event":"wallRecallFail","info":"撤回广播失败"}"#).await;
    }
    ann.calls("live.user.history", json!({ "count": 1 })).await;
    assert_eq!(ann.hears_of("wallSayHistory", "获取历史成功").await[0]["id"], ids[23]);

    ann.calls("live.user.say", json!({ "say": "hi" })).await;
    ann.hears_of("userSaySuccess", "发布聊天内容成功，等待审核").await;
    wall.hears_of("userSayNeedCheck", "收到用户广播内容").await;
    wall.calls("live.wall.clean", json!({})).await;
    for (kind, event, info) in
        [("wall", "wallSayHistory", "获取历史成功"), ("user", "userSayHistory", "获取消息历史成功")]
    {
        wall.calls("live.wall.history", json!({ "type": kind })).await;
        wall.hears(&json!({ "status": 200, "event": event, "info": info }).to_string()).await;
    }
    ann.calls("live.user.history", json!({})).await;
    ann.hears(r#"{"status":200,"event":"wallSayHistory","info":"获取历史成功"}"#).await;
    assert_eq!(
        live.redis.cli(&["--scan", "--pattern", "live:*"]).await.lines().count(),
        2,
        "numbers, and who is there"
    );
}

#[tokio::test]
async fn a_room_loses_its_users_whoever_ends_them() {
    let mut live = Live::start().await;
    let (ann, mut bo) = (live.user(0, 1, "r").await, live.user(1, 2, "r").await);
    let _on_the_dying = (live.user(0, 3, "r").await, live.wall(0, "r").await);
    assert_eq!(live.room(1, "r").await, json!({ "users": 3, "walls": 1 }));
    ann.0.close().await;
    eventually("who has closed is out", DEADLINE, async || {
        same(live.room(1, "r").await, json!({ "users": 2, "walls": 1 }))
    })
    .await;
    live.nodes[0].kill();
    eventually("who was on a node that is killed is out", DEADLINE, async || {
        same(live.room(1, "r").await, json!({ "users": 1, "walls": 0 }))
    })
    .await;
    bo.hears_nothing().await;
    let _wall = live.wall(1, "r").await;
    assert_eq!(live.room(1, "r").await, json!({ "users": 1, "walls": 1 }));
}
