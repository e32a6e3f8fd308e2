//! `live.wall`: the screens.

use crate::room::{Audience, Result, claim, code, done, is_set, message, page, refuse, settled, tell, users_words};
use crate::store::{History, Store};
use carillon::{Call, Called, Controller, async_trait};
use serde_json::Value;

/// The controller.
pub(crate) struct Wall(pub(crate) Store);

#[async_trait]
impl Controller for Wall {
    async fn call(&self, call: &Call) -> Result {
        settled(match call.method() {
            "join" => join(call).await,
            "out" => out(call).await,
            "say" => self.say(call).await,
            "recall" => self.recall(call).await,
            "check" => self.check(call).await,
            "clean" => self.clean(call).await,
            "history" => self.history(call).await,
            _ => Ok(Called::Unknown),
        })
    }
}

/// The caller's room, where it is a wall.
fn walls_room(call: &Call) -> Result<String> {
    if claim(call, "type") != "wall" {
        return refuse(403, "mustBeWall", "仅允许大屏幕用户连入");
    }
    code(call)
}

/// The message that a call is about.
fn number(call: &Call) -> Option<u64> {
    call.text("id")?.parse().ok()
}

/// The same, as the client wrote it.
fn written(call: &Call) -> Value {
    call.data().get("id").cloned().unwrap_or_default()
}

async fn join(call: &Call) -> Result {
    call.client().add_close_key(&Audience::Walls.key(&walls_room(call)?)).await?;
    done("wallJoinSuccess", "加入房间成功", ())
}

async fn out(call: &Call) -> Result {
    call.client().remove_close_key(&Audience::Walls.key(&walls_room(call)?)).await?;
    done("wallOutSuccess", "退出房间成功", ())
}

impl Wall {
    async fn say(&self, call: &Call) -> Result {
        let code = walls_room(call)?;
        let id = self.0.number(&code).await?;
        let message = message(call, &code, id);
        self.0.add(&code, &[History::Wall, History::Shown], id, &message).await?;
        tell(call, Audience::Users, &code, "wallSayBroadcast", "收到大屏幕广播内容", message.clone()).await?;
        done("wallSaySuccess", "广播成功", message)
    }

    async fn recall(&self, call: &Call) -> Result {
        let code = walls_room(call)?;
        let taken_back = match number(call) {
            Some(id) => self.0.remove(&code, &[History::Wall, History::Shown], id).await?,
            None => false,
        };
        if !taken_back {
            return refuse(403, "wallRecallFail", "撤回广播失败");
        }
        tell(call, Audience::Users, &code, "wallSayRecall", "撤回一条大屏幕消息", written(call)).await?;
        done("wallRecallSuccess", "撤回广播成功", written(call))
    }

    /// Of several walls that check the same words the first one decides.
    async fn check(&self, call: &Call) -> Result {
        let code = walls_room(call)?;
        match number(call) {
            Some(id) if is_set(call, "status") => {
                if let Some(message) = self.0.approve(&code, id).await? {
                    let words = users_words(&message);
                    tell(call, Audience::Users, &code, "userSayBroadcast", "用户消息审核通过", words).await?;
                }
            }
            Some(id) => drop(self.0.remove(&code, &[History::Pending], id).await?),
            None => {}
        }
        done("wallCheckSuccess", "审核消息成功", written(call))
    }

    async fn clean(&self, call: &Call) -> Result {
        self.0.clean(&walls_room(call)?).await?;
        Ok(Called::Done)
    }

    async fn history(&self, call: &Call) -> Result {
        let (code, page) = (walls_room(call)?, page(call));
        match call.text("type").as_deref() {
            Some("wall") => {
                let list = self.0.list(&code, History::Wall, page).await?;
                done("wallSayHistory", "获取历史成功", list)
            }
            Some("user") => {
                let list = self.0.list(&code, History::Pending, page).await?;
                done("userSayHistory", "获取消息历史成功", list.iter().map(users_words).collect::<Vec<_>>())
            }
            _ => refuse(401, "typeError", "类型错误"),
        }
    }
}
