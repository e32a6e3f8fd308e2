//! What the cluster owes to the application: channel events, and the `close` of connections whose node has died.

use super::Webhook;
use super::event::{self, Event};
use super::metrics::{GivenUp, Told};
use crate::cluster::{ChannelEvents, NotTaken, Owed, Sink};
use crate::model::{ConnectionId, Name, NodeId};
use crate::session::hooks::Occasion;
use async_trait::async_trait;
use std::sync::{Arc, OnceLock, Weak};

/// The way from the cluster to a webhook, which needs the cluster itself, so that it is there later.
pub struct OwedSink {
    events: ChannelEvents,
    webhook: OnceLock<Weak<Webhook>>,
}

impl OwedSink {
    /// For an application that wants to be told of these changes of channels, besides closes.
    pub fn new(events: ChannelEvents) -> Arc<Self> {
        Arc::new(Self { events, webhook: OnceLock::new() })
    }

    /// Where it leads from now on; only the first call counts. Until then nothing is taken.
    pub fn lead_to(&self, webhook: &Arc<Webhook>) {
        // The second of two would be the same: there is one webhook.
        let _ = self.webhook.set(Arc::downgrade(webhook));
    }
}

#[async_trait]
impl Sink for OwedSink {
    fn channel_events(&self) -> ChannelEvents {
        self.events
    }

    async fn deliver(&self, owed: &Owed) -> Result<(), NotTaken> {
        let Some(webhook) = self.webhook.get().and_then(Weak::upgrade) else {
            return Err(NotTaken("the webhook is not there yet, or not any more".to_owned()));
        };
        let Ok(_turn) = webhook.senders.acquire().await else {
            return Err(NotTaken("the webhook has ended".to_owned()));
        };
        let taken = match owed {
            Owed::Occupied { channel, version } => webhook.offer_change(Told::Occupied, owed, channel, *version).await,
            Owed::Vacated { channel, version } => webhook.offer_change(Told::Vacated, owed, channel, *version).await,
            Owed::Closed { connection, node, details, found } => {
                webhook.offer_close(*connection, *node, details, *found).await
            }
        };
        if taken { Ok(()) } else { Err(NotTaken("the application did not take it".to_owned())) }
    }
}

impl Webhook {
    async fn offer_change(&self, told: Told, owed: &Owed, channel: &Name, version: u64) -> bool {
        let delivery = owed.id();
        let body = event::channel_json(told.as_str(), &delivery, channel, version);
        self.offer(told, &delivery, body, None).await
    }

    /// Whether it was taken, or has become too old.
    async fn offer_close(&self, connection: ConnectionId, node: NodeId, details: &str, found: u64) -> bool {
        let (occasion, end) = Occasion::owed(connection, node, details, found);
        let delivery = Owed::close_id(occasion.id);
        if u128::from(event::now().saturating_sub(end.at)) > self.config.close_max_age.as_millis() {
            self.metrics.given_up(GivenUp::Age, &delivery);
            return true;
        }
        let body = event::json(&occasion, &delivery, &Event::Close(&end));
        self.offer(Told::Close, &delivery, body, Some(occasion.id)).await
    }
}
