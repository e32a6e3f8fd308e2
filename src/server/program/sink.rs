//! A program's hooks, as a node and its cluster know them.

use super::{Program, profile};
use crate::cluster::{ChannelEvents, NotTaken, Owed, Sink};
use crate::node::Overlay;
use crate::server::message::Closed;
use crate::session::hooks::{Hooks, Occasion, Wanted};
use async_trait::async_trait;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// What the cluster owes to the program, and to the webhook behind it.
struct ProgramSink {
    program: Weak<Program>,
    webhook: Option<Arc<dyn Sink>>,
}

#[async_trait]
impl Sink for ProgramSink {
    fn channel_events(&self) -> ChannelEvents {
        self.webhook.as_ref().map(|webhook| webhook.channel_events()).unwrap_or_default()
    }

    async fn deliver(&self, owed: &Owed) -> Result<(), NotTaken> {
        if let Owed::Closed { connection, node, details, found } = owed {
            let Some(program) = self.program.upgrade() else {
                return Err(NotTaken("the program's hooks are not there any more".to_owned()));
            };
            let (occasion, end) = Occasion::owed(*connection, *node, details, *found);
            if let Some(profile) = profile(&occasion) {
                let mut listeners = program.listeners(&occasion, profile);
                let client = program.client(occasion, profile);
                if !program.tell(&mut listeners, &client, &Closed::from(&end)).await {
                    return Err(NotTaken("on_close has failed".to_owned()));
                }
                let webhook = program.webhook.get();
                if webhook.is_some_and(|webhook| !webhook.wanted(profile.into()).includes(Wanted::CLOSE)) {
                    return Ok(());
                }
            }
        }
        match &self.webhook {
            Some(webhook) => webhook.deliver(owed).await,
            None => Ok(()),
        }
    }
}

/// The program's hooks for a node. Apart from [`Program`], as it hands out what it is.
pub(in crate::server) struct Over(pub(in crate::server) Arc<Program>);

impl Overlay for Over {
    fn sink(&self, webhook: Option<Arc<dyn Sink>>) -> Arc<dyn Sink> {
        Arc::new(ProgramSink { program: Arc::downgrade(&self.0), webhook })
    }

    fn over(&self, webhook: Option<Arc<dyn Hooks>>) -> Arc<dyn Hooks> {
        if let Some(webhook) = webhook {
            // Called once.
            let _ = self.0.webhook.set(webhook);
        }
        self.0.clone()
    }

    fn patience(&self) -> Duration {
        self.0.told.limit
    }
}
