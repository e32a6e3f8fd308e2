//! One connection to one Redis server.
//!
//! A fred client that never reconnects and never sends twice: whatever happens to a connection ends it, and whoever
//! needs one makes a new one. So nobody has to know what fred keeps over a reconnect, and a subscription is never
//! believed to be there because it was there before.

use super::connect::Purpose;
use super::metrics::RedisMetrics;
use super::scripts::{self, Script};
use super::topology::Place;
use bytes::Bytes;
use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface, PubsubInterface};
use fred::types::config::{Config, ConnectionConfig, PerformanceConfig};
use fred::types::{ClusterHash, CustomCommand, Message, Value};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{broadcast, watch};
use tokio::task::AbortHandle;

static NEXT_SERIAL: AtomicU64 = AtomicU64::new(1);

/// Why a command has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    /// There was no connection; nothing was sent.
    #[error("redis can't be reached: {0}")]
    Unreachable(String),
    /// The command was perhaps sent and perhaps carried out; its connection is ended.
    #[error("redis did not answer: {0}")]
    Unanswered(String),
    /// Redis refused it; it was not carried out.
    #[error("redis refused: {0}")]
    Refused(String),
    /// Its slot is elsewhere; it was not carried out. `asking`: only this once, as the slot is on its way.
    #[error("slot moved to {place}")]
    Moved { place: Place, asking: bool },
    /// Too many commands wait already; nothing was sent.
    #[error("more than {0} commands wait for redis")]
    Busy(usize),
    /// An answer that can't be: the code or the server is not what it is taken for.
    #[error("redis answered {0} with something unexpected")]
    Unexpected(&'static str),
}

/// One command with its key's slot.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) slot: u16,
    form: Form,
}

#[derive(Clone, Debug)]
enum Form {
    Plain { name: &'static str, args: Vec<Value> },
    Script { script: &'static Script, keys: usize, args: Vec<Value> },
    Publish { topic: String, message: Bytes },
}

impl Command {
    /// A command whose first argument is its key.
    pub(super) fn keyed(name: &'static str, key: &str) -> Self {
        Self { slot: super::keys::slot(key), form: Form::Plain { name, args: vec![key.into()] } }
    }

    /// A command without a key, for a server that has the slot.
    pub(super) fn at(slot: u16, name: &'static str) -> Self {
        Self { slot, form: Form::Plain { name, args: Vec::new() } }
    }

    /// A script over these keys, which share a slot.
    pub(super) fn script(script: &'static Script, keys: &[String]) -> Self {
        let slot = keys.first().map_or(0, |key| super::keys::slot(key));
        let args = keys.iter().map(Value::from).collect();
        Self { slot, form: Form::Script { script, keys: keys.len(), args } }
    }

    /// `PUBLISH`, or `SPUBLISH` in a Cluster.
    pub(super) fn publish(topic: String, message: Bytes) -> Self {
        Self { slot: super::keys::slot(&topic), form: Form::Publish { topic, message } }
    }

    /// Appends an argument. A publication has none.
    pub(super) fn arg(mut self, value: impl Into<Value>) -> Self {
        self.push(value);
        self
    }

    /// The same for a command that is built in a loop.
    pub(super) fn push(&mut self, value: impl Into<Value>) {
        match &mut self.form {
            Form::Plain { args, .. } | Form::Script { args, .. } => args.push(value.into()),
            Form::Publish { .. } => {}
        }
    }
}

/// `INFO`, as far as it is `name:value`.
pub(super) struct Info(String);

impl Info {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
    }

    pub(super) fn number(&self, name: &str) -> u64 {
        self.get(name).and_then(|value| value.parse().ok()).unwrap_or(0)
    }
}

/// One connection.
pub(super) struct Wire {
    client: Client,
    /// Which connection of this process it is; never used again.
    pub(super) serial: u64,
    /// `CLIENT ID` at its server.
    pub(super) id: i64,
    /// Which life of the server it is connected to.
    pub(super) run_id: Arc<str>,
    sharded: bool,
    purpose: Purpose,
    task: AbortHandle,
    dead: Arc<watch::Sender<bool>>,
    metrics: Arc<RedisMetrics>,
}

impl Wire {
    /// Connects, and makes sure that the server has the scripts.
    pub(super) async fn open(
        config: Config,
        performance: PerformanceConfig,
        connection: ConnectionConfig,
        purpose: Purpose,
        sharded: bool,
        metrics: Arc<RedisMetrics>,
    ) -> Result<Arc<Self>, Fault> {
        let client = Client::new(config, Some(performance), Some(connection), None);
        // `wait_for_connect` would miss a failure that comes before it listens.
        let mut connected = client.reconnect_rx();
        let mut running = client.connect();
        // Held from here on, so that giving up (a timeout around this) ends fred's task as well.
        let mut wire = Self {
            task: running.abort_handle(),
            client,
            serial: NEXT_SERIAL.fetch_add(1, Ordering::Relaxed),
            id: 0,
            run_id: "".into(),
            sharded,
            purpose,
            dead: Arc::new(watch::Sender::new(false)),
            metrics,
        };
        tokio::select! {
            biased;
            _ = connected.recv() => {}
            ended = &mut running => return Err(match ended {
                Ok(Err(error)) => match Fault::from(error) {
                    Fault::Refused(why) => Fault::Refused(why),
                    other => Fault::Unreachable(other.text()),
                },
                Ok(Ok(())) | Err(_) => Fault::Unreachable("the connection was given up".to_owned()),
            }),
        }
        let dead = wire.dead.clone();
        tokio::spawn(async move {
            let _ = running.await;
            dead.send_replace(true);
        });
        let name = format!("carillon-{}", purpose.as_str());
        let naming = Command::at(0, "CLIENT").arg("SETNAME").arg(name);
        let number = Command::at(0, "CLIENT").arg("ID");
        let (named, id, info) = tokio::join!(wire.run(&naming), wire.run(&number), wire.info());
        named?;
        wire.id = id?.as_i64().ok_or(Fault::Unexpected("CLIENT ID"))?;
        wire.run_id = info?.get("run_id").ok_or(Fault::Unexpected("INFO"))?.into();
        if purpose != Purpose::Subscriber {
            let load = scripts::ALL.iter().map(|script| Command::at(0, "SCRIPT").arg("LOAD").arg(script.source));
            let load: Vec<Command> = load.collect();
            futures_util::future::try_join_all(load.iter().map(|command| wire.run(command))).await?;
        }
        Ok(Arc::new(wire))
    }

    /// Whether the connection has ended.
    pub(super) fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Waits until the connection has ended.
    pub(super) async fn ended(&self) {
        // The sender lives as long as `self`.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Ends it.
    pub(super) fn end(&self) {
        self.task.abort();
        self.dead.send_replace(true);
    }

    /// What arrives for its subscriptions. To be called before the first one.
    pub(super) fn messages(&self) -> broadcast::Receiver<Message> {
        self.client.message_rx()
    }

    /// Runs a command. An answer that doesn't come in time ends the connection: whoever waits behind it gains nothing.
    pub(super) async fn run(&self, command: &Command) -> Result<Value, Fault> {
        let started = tokio::time::Instant::now();
        let answer = match &command.form {
            Form::Plain { name, args } => self.plain(name, args.clone()).await,
            Form::Publish { topic, message } => self.publish(topic.clone(), message.clone()).await,
            Form::Script { script, keys, args } => self.script(script, *keys, args).await,
        };
        self.metrics.command(self.purpose, started.elapsed(), answer.is_ok());
        if let Err(Fault::Unanswered(_)) = &answer {
            self.end();
        }
        if let Err(Fault::Refused(why)) = &answer
            && (why.starts_with("READONLY") || why.starts_with("MASTERDOWN"))
        {
            // It is not the primary any more; a new connection asks anew who is.
            self.end();
        }
        answer
    }

    /// Runs a command for a slot that is on its way here (`ASK`).
    pub(super) async fn run_asking(&self, command: &Command) -> Result<Value, Fault> {
        let asking = Command::at(command.slot, "ASKING");
        // Both go out in this order before anything else of this task; another task's command between the two would
        // take the permission, so that ours is refused with MOVED, which its caller treats as a failure.
        // Boxed, as it is rare and would double what every command's future takes.
        let both = Box::pin(async { tokio::join!(biased; self.run(&asking), self.run(command)) });
        let (permission, answer) = both.await;
        permission?;
        answer
    }

    async fn plain(&self, name: &'static str, args: Vec<Value>) -> Result<Value, Fault> {
        let command = CustomCommand::new_static(name, ClusterHash::FirstKey, false);
        // Boxed: fred's future has several kilobytes, and would be a part of every future that runs a command.
        self.answer(Box::pin(self.client.custom(command, args))).await
    }

    async fn publish(&self, topic: String, message: Bytes) -> Result<Value, Fault> {
        if self.sharded {
            self.answer(self.client.spublish(topic, message)).await
        } else {
            self.answer(self.client.publish(topic, message)).await
        }
    }

    async fn script(&self, script: &Script, keys: usize, args: &[Value]) -> Result<Value, Fault> {
        let with = |first: &str| {
            let mut all = Vec::with_capacity(args.len() + 2);
            all.push(Value::from(first));
            all.push(Value::Integer(keys as i64));
            all.extend_from_slice(args);
            all
        };
        match self.plain("EVALSHA", with(script.sha())).await {
            // Loaded at connecting, but somebody may have flushed them since.
            Err(Fault::Refused(why)) if why.starts_with("NOSCRIPT") => self.plain("EVAL", with(script.source)).await,
            other => other,
        }
    }

    /// Subscribes to a batch of names; returns when the server has acknowledged all of them, on this connection.
    ///
    /// fred's `subscribe` returns when the bytes are written; the `PING` behind it is answered after the subscriptions
    /// are made. `SSUBSCRIBE` of a single name is answered by itself, with an error where the slot is elsewhere; the
    /// answers that are not one for each command (several names in one) would confuse fred's order of answers.
    pub(super) async fn subscribe(&self, topics: &[Arc<str>]) -> Vec<Result<(), Fault>> {
        if self.sharded {
            let all = topics.iter().map(|topic| async {
                let command = Command::at(0, "SSUBSCRIBE").arg(&**topic);
                self.run(&command).await.map(drop)
            });
            return futures_util::future::join_all(all).await;
        }
        let names: Vec<String> = topics.iter().map(|topic| (**topic).to_owned()).collect();
        let sent = self.answer(self.client.subscribe(names)).await;
        let acknowledged = match sent {
            Ok(()) => self.run(&Command::at(0, "PING")).await.map(drop),
            Err(fault) => Err(fault),
        };
        vec![acknowledged; topics.len()]
    }

    /// Unsubscribes from a batch of names. Nothing waits for it: what arrives in between finds no members.
    pub(super) async fn unsubscribe(&self, topics: &[Arc<str>]) -> Result<(), Fault> {
        let names: Vec<String> = topics.iter().map(|topic| (**topic).to_owned()).collect();
        if !self.sharded {
            return self.answer(self.client.unsubscribe(names)).await;
        }
        for name in names {
            self.answer(self.client.sunsubscribe(name)).await?;
        }
        Ok(())
    }

    /// How many subscriptions the server counts for this connection; `None` where it doesn't say (Redis before 7.0.3
    /// has no such figure for sharded ones).
    pub(super) async fn subscriptions(&self) -> Result<Option<usize>, Fault> {
        let info = self.run(&Command::at(0, "CLIENT").arg("INFO")).await?;
        let field = if self.sharded { "ssub=" } else { "sub=" };
        let text = info.as_string().ok_or(Fault::Unexpected("CLIENT INFO"))?;
        Ok(text.split(' ').find_map(|word| word.strip_prefix(field)).and_then(|count| count.trim().parse().ok()))
    }

    /// What the server says of itself.
    pub(super) async fn info(&self) -> Result<Info, Fault> {
        let answer = self.run(&Command::at(0, "INFO")).await?;
        answer.as_string().map(Info).ok_or(Fault::Unexpected("INFO"))
    }

    /// Waits for an answer, but not longer than the connection is there.
    async fn answer<T>(&self, answer: impl Future<Output = Result<T, Error>>) -> Result<T, Fault> {
        tokio::select! {
            biased;
            answer = answer => answer.map_err(Fault::from),
            () = self.ended() => Err(Fault::Unanswered("the connection was lost".to_owned())),
        }
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.end();
    }
}

impl Fault {
    /// What is wrong, without what follows from it.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Unreachable(why) | Self::Unanswered(why) | Self::Refused(why) => why.clone(),
            Self::Moved { .. } | Self::Busy(_) | Self::Unexpected(_) => self.to_string(),
        }
    }

    /// Whether Redis refused to take more into its memory, which is full.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Refused(why) if why.starts_with("OOM"))
    }

    /// Whether Redis refused a command for where its slot is, or for a Cluster that is not in order: other than for who
    /// asked for what, that changes by itself.
    pub(super) fn is_of_slots(&self) -> bool {
        const CODES: [&str; 4] = ["CLUSTERDOWN", "TRYAGAIN", "MOVED", "ASK"];
        match self {
            Self::Moved { .. } => true,
            Self::Refused(why) => CODES.contains(&why.split(' ').next().unwrap_or_default()),
            _ => false,
        }
    }

    /// Whether a command with this fault is known not to have been carried out.
    pub(super) fn is_certain(&self) -> bool {
        !matches!(self, Self::Unanswered(_) | Self::Unexpected(_))
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        let details = error.details();
        match error.kind() {
            ErrorKind::Backpressure => Self::Busy(super::connect::MAX_COMMANDS_WAITING),
            ErrorKind::Timeout => Self::Unanswered("it took too long".to_owned()),
            ErrorKind::IO | ErrorKind::Canceled => Self::Unanswered(readable(details).to_owned()),
            _ => moved(details).unwrap_or_else(|| {
                // What Redis says begins with a word in capitals (RESP specification, "Simple errors"); what fred says doesn't.
                let code = details.split(' ').next().unwrap_or_default();
                if !code.is_empty() && code.bytes().all(|byte| byte.is_ascii_uppercase()) {
                    Self::Refused(details.to_owned())
                } else {
                    Self::Unanswered(details.to_owned())
                }
            }),
        }
    }
}

/// What the operating system said, out of the form in which fred hands it on.
fn readable(details: &str) -> &str {
    let message = details.split_once("message: \"").and_then(|(_, rest)| rest.split_once('"'));
    message.map_or(details, |(message, _)| message)
}

/// Reads `MOVED 3999 127.0.0.1:6381` and `ASK …` (Redis Cluster specification, "Redirection").
fn moved(details: &str) -> Option<Fault> {
    let mut words = details.split(' ');
    let asking = match words.next()? {
        "MOVED" => false,
        "ASK" => true,
        _ => return None,
    };
    let place = Place::parse(words.nth(1)?)?;
    Some(Fault::Moved { place, asking })
}

/// The fields of a hash, from either form that Redis answers `HGETALL` in.
pub(super) fn fields(value: Value) -> HashMap<String, String> {
    match value {
        Value::Map(map) => {
            let pairs = map.inner().into_iter();
            pairs.filter_map(|(key, value)| Some((key.into_string()?, value.as_string()?))).collect()
        }
        Value::Array(all) => {
            all.chunks_exact(2).filter_map(|pair| Some((pair[0].as_string()?, pair[1].as_string()?))).collect()
        }
        _ => HashMap::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_refused_was_not_done_and_what_was_lost_may_have_been() {
        let cases = [
            (Error::new(ErrorKind::Unknown, "OOM command not allowed"), true),
            (Error::new(ErrorKind::Unknown, "READONLY You can't write"), true),
            (Error::new(ErrorKind::Cluster, "MOVED 1 127.0.0.1:7000"), true),
            (Error::new(ErrorKind::Cluster, "CLUSTERDOWN The cluster is down"), true),
            (Error::new(ErrorKind::Unknown, "Too many failed write attempts."), false),
            (Error::new(ErrorKind::Timeout, ""), false),
            (Error::new(ErrorKind::IO, "Connection closed."), false),
        ];
        for (error, certain) in cases {
            let text = error.to_string();
            assert_eq!(Fault::from(error).is_certain(), certain, "{text}");
        }
    }

    #[test]
    fn redirections_are_read() {
        let place = Place::parse("127.0.0.1:7000").unwrap();
        assert_eq!(moved("MOVED 1 127.0.0.1:7000"), Some(Fault::Moved { place: place.clone(), asking: false }));
        assert_eq!(moved("ASK 1 127.0.0.1:7000"), Some(Fault::Moved { place, asking: true }));
        assert_eq!(moved("MOVED"), None);
        assert_eq!(moved("ERR no"), None);
    }
}
