//! `live.user`: the audience.

use crate::room::{Audience, Result, claim, code, done, message, page, refuse, settled, tell, users_words};
use crate::store::{History, Store};
use carillon::{Call, Called, Client, Closed, Controller, Outcome, async_trait};

/// The controller, by whose name its users' ends are told.
pub(crate) struct User(pub(crate) Store);

const NAME: &str = "Live.User";

#[async_trait]
impl Controller for User {
    async fn call(&self, call: &Call) -> Result {
        settled(match call.method() {
            "join" => self.join(call).await,
            "out" => self.out(call).await,
            "say" => self.say(call).await,
            "history" => self.history(call).await,
            _ => Ok(Called::Unknown),
        })
    }

    /// The room loses its user, however the connection has ended.
    async fn on_close(&self, client: &Client, _how: &Closed) -> Outcome {
        if let Some(code) = client.claim("code") {
            self.0.leave(&code, client.id().get()).await?;
        }
        Ok(())
    }
}

/// The caller's room, where it is a user.
fn users_room(call: &Call) -> Result<String> {
    if claim(call, "type") != "wechatUser" {
        return refuse(403, "mustBeWechatUser", "仅允许微信用户连入");
    }
    code(call)
}

impl User {
    async fn join(&self, call: &Call) -> Result {
        let (code, client) = (users_room(call)?, call.client());
        client.add_close_key(&Audience::Users.key(&code)).await?;
        // First: who is written down before may stay there for ever.
        if client.add_close_controller(NAME).await? {
            let nickname = claim(call, "nickname").as_str().unwrap_or_default().to_owned();
            self.0.enter(&code, client.id().get(), nickname).await?;
        }
        done("userJoinSuccess", "加入房间成功", ())
    }

    async fn out(&self, call: &Call) -> Result {
        let (code, client) = (code(call)?, call.client());
        client.remove_close_key(&Audience::Users.key(&code)).await?;
        self.0.leave(&code, client.id().get()).await?;
        client.remove_close_controller(NAME).await?;
        done("userOutSuccess", "退出房间成功", ())
    }

    /// Words wait for a wall to check them.
    async fn say(&self, call: &Call) -> Result {
        let code = users_room(call)?;
        let id = self.0.number(&code).await?;
        let message = message(call, &code, id);
        self.0.add(&code, &[History::Pending], id, &message).await?;
        tell(call, Audience::Walls, &code, "userSayNeedCheck", "收到用户广播内容", users_words(&message)).await?;
        done("userSaySuccess", "发布聊天内容成功，等待审核", id)
    }

    async fn history(&self, call: &Call) -> Result {
        let list = self.0.list(&code(call)?, History::Shown, page(call)).await?;
        done("wallSayHistory", "获取历史成功", list)
    }
}
