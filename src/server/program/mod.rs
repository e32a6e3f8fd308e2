//! A program's hooks and controllers, as sessions and the cluster know them: before the webhook's, each call bounded.
//!
//! Sessions wait for their own `open` and `message`. A `close` nobody waits for: it has a task of its own, of which [`MOST_CLOSES`]
//! may wait and [`CLOSES_AT_ONCE`] are told at the same time. Beyond that one is given up, counted and logged.

mod metrics;
mod sink;

use super::client::Client;
use super::controllers::{Call, Controller, Controllers, carry_out};
use super::handle::Handle;
use super::hooks::{Entry, Heard, Hooks};
use super::message::{Closed, Message};
use super::profile::Profile;
use crate::hub::End;
use crate::model::{Opcode, json};
use crate::session::handler::panic_text;
use crate::session::hooks::{self, Answer, Memberships, Occasion, Opened, Receipt, Said, Unanswered, Wanted};
use crate::session::profile;
use async_trait::async_trait;
use futures_util::FutureExt;
use hyper::StatusCode;
use metrics::{Event, Metrics};
use prometheus::Registry;
use serde_json::Value;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

pub(super) use sink::Over;

/// Ends that may wait to be told: as many connections as a node has that loses its network.
const MOST_CLOSES: u32 = 1 << 16;

/// Ends that are told at the same time.
const CLOSES_AT_ONCE: usize = 64;

/// The pauses after which the telling of an end that failed is tried again.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(25)];

/// What a client is told that could not be let in, as the hooks have failed.
const FAILED: &str = "on_open has failed";

/// Why a connection ended that the hooks have let in and the webhook has not.
const REFUSED: &str = "refused";

/// What a program has put into its server to be told.
pub(super) struct Told {
    pub(super) hooks: Option<Arc<dyn Hooks>>,
    pub(super) controllers: Controllers,
    /// How long one call may take.
    pub(super) limit: Duration,
    /// Whether the cluster keeps ends that were not told.
    pub(super) kept: bool,
}

impl Told {
    /// Whether there is nobody.
    pub(super) fn is_nobody(&self) -> bool {
        self.hooks.is_none() && self.controllers.is_empty()
    }
}

/// That, at work.
pub(super) struct Program {
    told: Told,
    handle: Handle,
    /// Itself, for what goes on by itself.
    me: Weak<Self>,
    webhook: OnceLock<Arc<dyn hooks::Hooks>>,
    /// The runtime that ends are told on, wherever they are noticed.
    runtime: runtime::Handle,
    /// One for each end that waits.
    slots: Arc<Semaphore>,
    /// One for each that is told.
    turns: Semaphore,
    stopping: watch::Sender<bool>,
    metrics: Metrics,
}

/// Somebody who is to hear of an end.
enum Listener {
    Hooks(Arc<dyn Hooks>),
    Controller(Arc<dyn Controller>),
}

impl Program {
    /// To be called on a tokio runtime.
    ///
    /// # Errors
    /// A metric of the same name is in the registry.
    pub(super) fn new(told: Told, handle: Handle, registry: &Registry) -> prometheus::Result<Arc<Self>> {
        let metrics = Metrics::new(registry)?;
        let runtime = runtime::Handle::current();
        Ok(Arc::new_cyclic(|me| Self {
            told,
            handle,
            me: me.clone(),
            webhook: OnceLock::new(),
            runtime,
            slots: Arc::new(Semaphore::new(MOST_CLOSES as usize)),
            turns: Semaphore::new(CLOSES_AT_ONCE),
            stopping: watch::Sender::new(false),
            metrics,
        }))
    }

    /// What the hooks alone want.
    fn hooks_want(&self, profile: Profile) -> Wanted {
        self.told.hooks.as_ref().map_or(Wanted::NOTHING, |hooks| hooks.wanted(profile))
    }

    /// What hooks and controllers want.
    fn want(&self, profile: Profile) -> Wanted {
        let controllers = match profile {
            Profile::Method if !self.told.controllers.is_empty() => Wanted::MESSAGE.with(Wanted::CLOSE),
            Profile::Channel | Profile::Center | Profile::Device | Profile::Method => Wanted::NOTHING,
        };
        self.hooks_want(profile).with(controllers)
    }

    /// The webhook, if it wants such events.
    fn webhook(&self, profile: Profile, event: Wanted) -> Option<&Arc<dyn hooks::Hooks>> {
        self.webhook.get().filter(|webhook| webhook.wanted(profile.into()).includes(event))
    }

    /// The program's hooks, if they want such events.
    fn hooks(&self, profile: Profile, event: Wanted) -> Option<&Arc<dyn Hooks>> {
        self.told.hooks.as_ref().filter(|hooks| hooks.wanted(profile).includes(event))
    }

    /// What comes of a call; an error where it fails, panics, or takes too long, which is counted and logged.
    async fn bounded<T>(
        &self,
        event: Event,
        call: impl Future<Output = Result<T, Box<dyn Error + Send + Sync>>> + Send,
    ) -> Result<T, ()> {
        let why = match timeout(self.told.limit, AssertUnwindSafe(call).catch_unwind()).await {
            Ok(Ok(Ok(done))) => return Ok(done),
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(panic)) => format!("it panicked: {}", panic_text(&*panic)),
            Err(_) => format!("it took longer than {} ms", self.told.limit.as_millis()),
        };
        self.metrics.failed(event, &why);
        Err(())
    }

    fn client(&self, occasion: Occasion, profile: Profile) -> Client {
        Client::new(occasion, profile, self.handle.clone())
    }

    /// Who is to hear of the end of a connection.
    fn listeners(&self, occasion: &Occasion, profile: Profile) -> Vec<Listener> {
        let hooks = self.hooks(profile, Wanted::CLOSE).cloned().map(Listener::Hooks);
        let Memberships { close_controllers, .. } = occasion.memberships();
        // Others are the webhook's.
        let controllers = close_controllers.into_iter().filter_map(|name| self.told.controllers.named(name));
        hooks.into_iter().chain(controllers.cloned().map(Listener::Controller)).collect()
    }

    /// Tells of an end; those who have not taken it stay.
    async fn tell(&self, listeners: &mut Vec<Listener>, client: &Client, how: &Closed) -> bool {
        // Never closed.
        let _turn = self.turns.acquire().await;
        let mut left = Vec::new();
        for listener in std::mem::take(listeners) {
            let told = self.bounded(Event::Close, async {
                match &listener {
                    Listener::Hooks(hooks) => hooks.on_close(client, how).await,
                    Listener::Controller(controller) => controller.on_close(client, how).await,
                }
            });
            if told.await.is_err() {
                left.push(listener);
            }
        }
        *listeners = left;
        listeners.is_empty()
    }

    /// Has an end told, by a task of its own.
    fn add(&self, occasion: Occasion, profile: Profile, end: &End, receipt: Option<Receipt>) {
        let settle = |receipt: Option<Receipt>| receipt.into_iter().for_each(Receipt::settle);
        let listeners = self.listeners(&occasion, profile);
        if listeners.is_empty() {
            return settle(receipt);
        }
        let (Ok(slot), Some(me)) = (self.slots.clone().try_acquire_owned(), self.me.upgrade()) else {
            self.metrics.given_up("too many wait");
            return settle(receipt);
        };
        self.metrics.closes_waiting.inc();
        let (client, how) = (self.client(occasion, profile), Closed::from(end));
        self.runtime.spawn(async move { me.keep_telling(listeners, client, how, receipt, slot).await });
    }

    async fn keep_telling(
        &self,
        mut listeners: Vec<Listener>,
        client: Client,
        how: Closed,
        receipt: Option<Receipt>,
        slot: OwnedSemaphorePermit,
    ) {
        let mut pauses = PAUSES.iter();
        let mut stopping = self.stopping.subscribe();
        let mut told = self.tell(&mut listeners, &client, &how).await;
        while !told
            && !*stopping.borrow()
            && let Some(pause) = pauses.next()
        {
            // Until the pause is over, or the node stops; then there is one more attempt.
            let _ = timeout(*pause, stopping.wait_for(|stopping| *stopping)).await;
            told = self.tell(&mut listeners, &client, &how).await;
        }
        match receipt {
            // The cluster has another node tell it.
            Some(_) if !told && *stopping.borrow() && self.told.kept => {}
            receipt => {
                if !told {
                    self.metrics.given_up("each attempt failed");
                }
                receipt.into_iter().for_each(Receipt::settle);
            }
        }
        self.metrics.closes_waiting.dec();
        drop(slot);
    }

    /// What the controller that is called says; `None` where there is none of that name.
    async fn call(&self, client: Client, said: &Said) -> Result<Result<Answer, Unanswered>, Client> {
        let found = said.call.as_ref().and_then(|call| Some((call, self.told.controllers.called(call)?)));
        let Some((call, controller)) = found else { return Err(client) };
        // The session has made it of an object.
        let Ok(Value::Object(data)) = json::parse(&said.payload) else { return Err(client) };
        let call = Call::new(client, call.clone(), data);
        let reply = self.bounded(Event::Message, carry_out(&**controller, &call)).await;
        Ok(reply.map(answered).map_err(|()| Unanswered))
    }
}

/// With this text for the client.
fn answered(reply: impl IntoIterator<Item = String>) -> Answer {
    Answer { replies: reply.into_iter().collect(), close: None }
}

/// A client's message, as hooks are told it.
fn message(said: &Said) -> Message {
    match (said.opcode, std::str::from_utf8(&said.payload)) {
        // What a method's data were made of is text, however it came.
        (Opcode::Text, Ok(text)) => Message::from(text),
        (Opcode::Binary, Ok(text)) if said.call.is_some() => Message::from(text),
        (Opcode::Text | Opcode::Binary, _) => Message::Binary(said.payload.clone()),
    }
}

/// The profile of a connection that a node has told of; `None` where it is of another version's.
fn profile(occasion: &Occasion) -> Option<Profile> {
    profile::Profile::named(&occasion.details.profile).and_then(Profile::of)
}

#[async_trait]
impl hooks::Hooks for Program {
    fn wanted(&self, profile: profile::Profile) -> Wanted {
        let webhook = self.webhook.get().map_or(Wanted::NOTHING, |webhook| webhook.wanted(profile));
        // A handler's own connections are nobody else's.
        Profile::of(profile).map_or(Wanted::NOTHING, |profile| self.want(profile)).with(webhook)
    }

    async fn open(&self, mut occasion: Occasion) -> Opened {
        // Of connections of this node it is known.
        let Some(profile) = profile(&occasion) else { return Opened::Failed(FAILED.to_owned()) };
        if let Some(hooks) = self.hooks(profile, Wanted::OPEN) {
            let client = self.client(occasion, profile);
            match self.bounded(Event::Open, async { hooks.on_open(&client).await }).await {
                Ok(Entry::Accept) => occasion = client.into_occasion(),
                Ok(Entry::Refuse(status, text)) => {
                    let fits = status.is_client_error() || status.is_server_error();
                    let status = if fits { status } else { StatusCode::FORBIDDEN };
                    return Opened::Refused(status.as_u16(), text);
                }
                Err(()) => return Opened::Failed(FAILED.to_owned()),
            }
        }
        let Some(webhook) = self.webhook(profile, Wanted::OPEN) else { return Opened::Accepted(Answer::default()) };
        let opened = webhook.open(occasion.clone()).await;
        if matches!(opened, Opened::Refused(..)) && self.hooks(profile, Wanted::OPEN).is_some() {
            // The session tells nobody, and the hooks have let it in.
            let end = End { code: End::NO_FRAME, reason: String::new(), cause: REFUSED.to_owned(), at: 0 };
            self.add(occasion, profile, &end, None);
        }
        opened
    }

    async fn message(&self, occasion: Occasion, said: Said) -> Result<Option<Answer>, Unanswered> {
        let Some(profile) = profile(&occasion) else { return Ok(None) };
        let mut client = self.client(occasion, profile);
        if let Some(hooks) = self.hooks(profile, Wanted::MESSAGE) {
            let message = message(&said);
            match self.bounded(Event::Message, async { hooks.on_message(&client, &message).await }).await {
                Ok(Heard::PassOn) => {}
                Ok(Heard::Done) => return Ok(Some(Answer::default())),
                Ok(Heard::Reply(text)) => return Ok(Some(answered([text]))),
                Err(()) => return Err(Unanswered),
            }
        }
        client = match self.call(client, &said).await {
            Ok(answer) => return answer.map(Some),
            Err(client) => client,
        };
        match self.webhook(profile, Wanted::MESSAGE) {
            Some(webhook) => webhook.message(client.into_occasion(), said).await,
            None => Ok(None),
        }
    }

    fn close(&self, occasion: Occasion, end: End, receipt: Receipt) {
        let Some(profile) = profile(&occasion) else { return receipt.settle() };
        match self.webhook(profile, Wanted::CLOSE) {
            Some(webhook) => {
                let (own, other) = receipt.halves();
                webhook.close(occasion.clone(), end.clone(), other);
                self.add(occasion, profile, &end, Some(own));
            }
            None => self.add(occasion, profile, &end, Some(receipt)),
        }
    }

    /// As long as one call may take, for the program's own and for the webhook's each.
    async fn drain(&self) {
        self.stopping.send_replace(true);
        let own = async {
            // Never closed, so an error is the time that is over.
            if !matches!(timeout(self.told.limit, self.slots.acquire_many(MOST_CLOSES)).await, Ok(Ok(_))) {
                let closes = MOST_CLOSES as usize - self.slots.available_permits();
                let what = if self.told.kept { "left to the other nodes" } else { "given up" };
                tracing::warn!(closes, "ends of connections that hooks have not taken are {what}");
            }
        };
        match self.webhook.get() {
            Some(webhook) => drop(tokio::join!(own, webhook.drain())),
            None => own.await,
        }
    }
}

#[cfg(test)]
mod tests;
