//! What is kept of rooms in Redis: three histories and who is there.
//!
//! A room's keys begin with `live:{CODE}:` and so are in one slot of a Redis Cluster. A history is a sorted set of messages as JSON
//! by their numbers, of which the newest [`KEPT`] stay; a room that nobody has said anything in for [`LIFETIME`] is forgotten.

use fred::clients::Pipeline;
use fred::error::Error;
use fred::prelude::{
    Builder, Client, ClientLike, Config, HashesInterface, KeysInterface, ReconnectPolicy, SortedSetsInterface,
};
use fred::types::{ClusterHash, CustomCommand, Value as Answer};
use fred::util::redis_keyslot;
use serde_json::Value;
use std::time::Duration;

/// Messages that a history keeps.
const KEPT: i64 = 1000;

/// Seconds that a room is kept for after the last word.
const LIFETIME: i64 = 30 * 24 * 3600;

/// How long Redis may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Moves a message from one history into another, for whoever comes first.
const MOVE: &str = "local found = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[1], 'BYSCORE')[1]
if found then
  redis.call('ZREMRANGEBYSCORE', KEYS[1], ARGV[1], ARGV[1])
  redis.call('ZADD', KEYS[2], ARGV[1], found)
  redis.call('ZREMRANGEBYRANK', KEYS[2], 0, -ARGV[2] - 1)
  redis.call('EXPIRE', KEYS[2], ARGV[3])
end
return found";

/// Which of a room's histories.
#[derive(Clone, Copy)]
pub(crate) enum History {
    /// What walls have said.
    Wall,
    /// What users have said that no wall has checked.
    Pending,
    /// What the room was shown: what walls have said, and users' words that were let pass.
    Shown,
}

impl History {
    fn key(self, code: &str) -> String {
        let name = match self {
            Self::Wall => "wall",
            Self::Pending => "pending",
            Self::Shown => "shown",
        };
        format!("live:{{{code}}}:{name}")
    }
}

/// The connection to Redis. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Store(Client);

impl Store {
    /// Connects, and from then on again by itself.
    pub(crate) async fn connect(url: &str) -> Result<Self, Error> {
        let client = Builder::from_config(Config::from_url(url)?)
            .with_performance_config(|config| config.default_command_timeout = PATIENCE)
            .with_connection_config(|config| config.connection_timeout = PATIENCE)
            .set_policy(ReconnectPolicy::new_exponential(0, 100, 5_000, 2))
            .build()?;
        client.init().await?;
        Ok(Self(client))
    }

    /// A number that no other message of the room has.
    pub(crate) async fn number(&self, code: &str) -> Result<u64, Error> {
        let key = format!("live:{{{code}}}:numbers");
        let number = self.0.incr(&key).await?;
        // A room that is forgotten begins anew.
        let _: i64 = self.0.expire(&key, LIFETIME + 1, None).await?;
        Ok(number)
    }

    /// Puts a message into histories.
    pub(crate) async fn add(&self, code: &str, histories: &[History], id: u64, message: &Value) -> Result<(), Error> {
        let pipeline = self.0.pipeline();
        for history in histories {
            add_to(&pipeline, &history.key(code), id, message).await?;
        }
        let _: Vec<Answer> = pipeline.all().await?;
        Ok(())
    }

    /// Takes a message out of histories; whether it was in one.
    pub(crate) async fn remove(&self, code: &str, histories: &[History], id: u64) -> Result<bool, Error> {
        let pipeline = self.0.pipeline();
        for history in histories {
            let _: () = pipeline.zremrangebyscore(history.key(code), id as f64, id as f64).await?;
        }
        let removed: Vec<i64> = pipeline.all().await?;
        Ok(removed.iter().any(|count| *count > 0))
    }

    /// Has a message that waits shown; it, where it still waited.
    pub(crate) async fn approve(&self, code: &str, id: u64) -> Result<Option<Value>, Error> {
        let (from, to) = (History::Pending.key(code), History::Shown.key(code));
        let eval = CustomCommand::new_static("EVAL", ClusterHash::Custom(redis_keyslot(from.as_bytes())), false);
        let arguments = [MOVE, "2", &from, &to, &id.to_string(), &KEPT.to_string(), &LIFETIME.to_string()];
        let found: Option<String> = self.0.custom(eval, arguments.map(str::to_owned).to_vec()).await?;
        Ok(found.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Messages of a history, the newest first.
    pub(crate) async fn list(
        &self,
        code: &str,
        history: History,
        (first, count): (u64, u64),
    ) -> Result<Vec<Value>, Error> {
        let first = i64::try_from(first).unwrap_or(i64::MAX - KEPT);
        let last = first.saturating_add(count as i64 - 1);
        let texts: Vec<String> = self.0.zrevrange(history.key(code), first, last, false).await?;
        Ok(texts.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
    }

    /// Empties a room's histories.
    pub(crate) async fn clean(&self, code: &str) -> Result<(), Error> {
        self.0.del([History::Wall, History::Pending, History::Shown].map(|history| history.key(code)).to_vec()).await
    }

    /// A user is in a room, by this connection.
    pub(crate) async fn enter(&self, code: &str, connection: u64, nickname: String) -> Result<(), Error> {
        self.0.hset(users(code), (connection.to_string(), nickname)).await
    }

    /// It isn't any more.
    pub(crate) async fn leave(&self, code: &str, connection: u64) -> Result<(), Error> {
        self.0.hdel(users(code), connection.to_string()).await
    }

    /// How many users' connections are in a room.
    pub(crate) async fn users(&self, code: &str) -> Result<u64, Error> {
        self.0.hlen(users(code)).await
    }
}

fn users(code: &str) -> String {
    format!("live:{{{code}}}:users")
}

async fn add_to(pipeline: &Pipeline<Client>, key: &str, id: u64, message: &Value) -> Result<(), Error> {
    let entry = (id as f64, message.to_string());
    let _: () = pipeline.zadd(key, None, None, false, false, entry).await?;
    let _: () = pipeline.zremrangebyrank(key, 0, -KEPT - 1).await?;
    pipeline.expire(key, LIFETIME, None).await
}
