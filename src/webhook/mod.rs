//! An application that lives behind HTTP: told of connections by requests, and answering with replies and operations.
//!
//! | file | what it is about |
//! |---|---|
//! | `event` | what a request says: the JSON of an event |
//! | `signature` | how the application knows that it was this cluster that said it |
//! | `backend` | one request and its answer, within time and size |
//! | `marked` | which connections to it were answered on before |
//! | `gate` | how many requests are under way, and how many may wait |
//! | `answer`, `operation` | what an answer may say, and carrying it out |
//! | `closes` | `close` events, sent again until they are taken |
//! | `owed` | channel events, and `close` events of nodes that have died |
//! | `metrics` | what is counted and logged |
//!
//! Nothing here stands in the way of a push: sessions wait for their own answers, `close` events wait in a queue of their own.
//!
//! Bounds: requests under way by [`WebhookConfig::concurrency`]; `open` and `message` events, waiting and under way, by
//! [`WebhookConfig::queue`] (beyond it the handshake is refused, or the message's client told that it failed); `close` events by as
//! much again (beyond it the oldest are given up and counted); each request by [`WebhookConfig::timeout`]; an answer by 1 MiB.

mod answer;
mod backend;
mod closes;
mod event;
mod gate;
mod marked;
mod metrics;
mod operation;
mod owed;
mod signature;

use crate::cluster::{ChannelEvents, Owed};
use crate::hub::End;
use crate::model::HexId;
use crate::service::Service;
use crate::session::hooks::{Answer, Hooks, Occasion, Opened, Receipt, Said, Unanswered, Wanted};
use crate::session::profile::Profile;
use answer::Answered;
use async_trait::async_trait;
use backend::{Backend, Failure};
use bytes::Bytes;
use closes::Closes;
use event::Event;
use gate::Gate;
use metrics::Told;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

pub use backend::StartError;
pub use metrics::WebhookMetrics;
pub use owed::OwedSink;
pub use signature::Secret;

/// The status of a handshake that the application refuses without one.
const REFUSED: u16 = 403;

/// Which events are told, in the order of [`Profile::ALL`].
pub type ProfileEvents = [Wanted; Profile::ALL.len()];

/// What the operator decides about the application.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WebhookConfig {
    /// Where it is: `http` or `https`.
    pub url: hyper::Uri,
    /// A file (PEM) with the certificate authorities that an `https` one is checked by; `None`: the system's.
    pub ca: Option<PathBuf>,
    /// Which events it is told.
    pub events: ProfileEvents,
    /// Which changes of channels, of all profiles together.
    pub channel_events: ChannelEvents,
    /// How long a request may take, its waiting and its answer's operations each.
    pub timeout: Duration,
    /// Requests under way at once.
    pub concurrency: usize,
    /// Bytes of events that may wait or be under way.
    pub queue: usize,
    /// How old a `close` event may become before it is given up.
    pub close_max_age: Duration,
    /// Whether a connection may not open where the application can't be asked.
    pub open_required: bool,
}

/// The application.
pub struct Webhook {
    config: WebhookConfig,
    backend: Arc<Backend>,
    gate: Arc<Gate>,
    closes: Arc<Closes>,
    /// Turns for what nobody waits for: half of the requests that may be under way at once are left to the others.
    senders: Arc<Semaphore>,
    service: Arc<Service>,
    metrics: Arc<WebhookMetrics>,
}

impl Webhook {
    /// The application at [`WebhookConfig::url`], its requests signed with the current `secret`; where there is none, not at all.
    /// Its `close` events are sent by a task that ends with it; `kept` says that the cluster keeps those that are not sent.
    ///
    /// # Errors
    /// The URL is `https` and there are no certificate authorities to check it by.
    pub fn start(
        config: WebhookConfig,
        secret: watch::Receiver<Option<Secret>>,
        service: Arc<Service>,
        kept: bool,
        metrics: Arc<WebhookMetrics>,
    ) -> Result<Arc<Self>, StartError> {
        let backend = Arc::new(Backend::new(config.url.clone(), config.ca.as_deref(), secret)?);
        let gate = Arc::new(Gate::new(config.concurrency, config.queue));
        let closes = Closes::new(config.queue, config.close_max_age, kept, metrics.clone());
        let senders = Arc::new(Semaphore::new((config.concurrency / 2).max(1)));
        let webhook = Arc::new(Self { config, backend, gate, closes, senders, service, metrics });
        tokio::spawn(closes::keep_sending(Arc::downgrade(&webhook)));
        Ok(webhook)
    }

    /// One request and what its answer says, all of it within the time that a request has.
    async fn ask(&self, told: Told, delivery: &str, body: Bytes) -> Result<Answered, Failure> {
        let begun = Instant::now();
        let deadline = begun + self.config.timeout;
        let asked = async {
            let _entered = self.gate.enter(body.len(), deadline).await?;
            let _flying = self.metrics.flying();
            let answer = timeout_at(deadline, self.backend.post(delivery, body)).await;
            answer.unwrap_or(Err(Failure::Late))
        };
        let answered = asked.await.and_then(|body| Answered::parse(&body));
        self.metrics.called(told, begun.elapsed(), answered.as_ref().err());
        if let Err(failure) = &answered {
            tracing::debug!(delivery, "webhook: {failure}");
        }
        answered
    }

    /// One request that nobody waits for, and what its answer wants done; whether it was taken. It was where the status said so,
    /// whatever came with it.
    async fn offer(&self, told: Told, delivery: &str, body: Bytes, subject: Option<HexId>) -> bool {
        let turn = self.gate.pass().await;
        let begun = Instant::now();
        let flying = self.metrics.flying();
        let answer = timeout(self.config.timeout, self.backend.post(delivery, body)).await;
        drop((turn, flying));
        let answer = answer.unwrap_or(Err(Failure::Late));
        let taken = matches!(answer, Ok(_) | Err(Failure::TooLong));
        let answered = answer.and_then(|body| Answered::parse(&body));
        self.metrics.called(told, begun.elapsed(), answered.as_ref().err());
        if taken && let Ok(answered) = answered {
            let deadline = Instant::now() + self.config.timeout;
            operation::carry_out(&self.service, &self.metrics, subject, answered.operations, deadline).await;
        }
        taken
    }

    /// Carries an answer's operations out, and leaves what concerns the connection itself.
    async fn follow(&self, answered: Answered, subject: HexId) -> Answer {
        let deadline = Instant::now() + self.config.timeout;
        let close =
            operation::carry_out(&self.service, &self.metrics, Some(subject), answered.operations, deadline).await;
        Answer { replies: answered.replies, close }
    }
}

#[async_trait]
impl Hooks for Webhook {
    fn wanted(&self, profile: Profile) -> Wanted {
        let wanted = Profile::ALL.into_iter().zip(self.config.events).find(|(of, _)| *of == profile);
        wanted.map_or(Wanted::NOTHING, |(_, events)| events)
    }

    async fn open(&self, occasion: Occasion) -> Opened {
        let delivery = event::delivery(occasion.id, "open");
        let body = event::json(&occasion, &delivery, &Event::Open);
        match self.ask(Told::Open, &delivery, body).await {
            Ok(Answered { accept: false, status, message, .. }) => {
                let status = status.filter(|status| (400..600).contains(status)).unwrap_or(REFUSED);
                Opened::Refused(status, message.unwrap_or_else(|| "connection is refused".to_owned()))
            }
            Ok(answered) => Opened::Accepted(self.follow(answered, occasion.id).await),
            Err(failure) if self.config.open_required => Opened::Failed(failure.to_strangers()),
            Err(_) => Opened::Accepted(Answer::default()),
        }
    }

    async fn message(&self, occasion: Occasion, said: Said) -> Result<Option<Answer>, Unanswered> {
        let delivery = event::delivery(occasion.id, said.number);
        let body = event::json(&occasion, &delivery, &Event::Message(&said));
        drop(said);
        let answered = self.ask(Told::Message, &delivery, body).await.map_err(|_| Unanswered)?;
        Ok(Some(self.follow(answered, occasion.id).await))
    }

    fn close(&self, occasion: Occasion, end: End, receipt: Receipt) {
        // The same whoever sends it: see [`owed`].
        let delivery = Owed::close_id(occasion.id);
        let body = event::json(&occasion, &delivery, &Event::Close(&end));
        self.closes.add(occasion.id, delivery, body, Some(receipt));
    }

    /// As long as a request may take.
    async fn drain(&self) {
        self.closes.drain(self.config.timeout).await;
    }
}
