//! The device socket: backends write JSON documents to a unix socket, each of which is one of five actions.
//!
//! | file | what it is about |
//! |---|---|
//! | [`listener`] | the socket file: made, respected, removed; accepting connections |
//! | `connection` | one backend: reads documents, answers each |
//! | `documents`, `scanner` | a stream cut into documents, at whatever bytes it was cut before |
//! | `document`, `refusal` | what a document says, and why it is not carried out |
//! | `metrics` | what is counted and logged |
//!
//! Clients of the profile `device` may send the same documents, where the operator lets them.

mod connection;
mod document;
mod documents;
mod listener;
mod metrics;
mod refusal;
mod scanner;

use crate::cluster::Published;
use crate::model::{Audience, Name, Push, Target, Who};
use crate::service::{Dialect, Service};
use bytes::Bytes;
use document::{Action, Device};
use documents::Documents;
use metrics::{DeviceMetrics, Source};
use prometheus::Registry;
use refusal::Refusal;
use std::sync::Arc;

pub use listener::{BindError, DeviceListener, SocketConfig};

/// Whether who has sent a document may have connections subscribed to a channel.
type MayJoin<'a> = &'a (dyn Fn(&Name) -> bool + Send + Sync);

/// Carries documents out.
pub struct DeviceSocket {
    service: Arc<Service>,
    metrics: DeviceMetrics,
}

impl DeviceSocket {
    /// On `service`, its metrics in `registry`; an error where they are registered there already.
    pub fn new(service: Arc<Service>, registry: &Registry) -> prometheus::Result<Arc<Self>> {
        Ok(Arc::new(Self { service, metrics: DeviceMetrics::new(registry)? }))
    }

    /// Carries out what a WebSocket client has sent, one document after the other; a message ends the document in it. What
    /// comes of them is counted and logged. It can have nobody subscribed to channels that `may_join` is false for.
    pub async fn carry_out_messages(&self, messages: Vec<Bytes>, may_join: MayJoin<'_>) {
        for message in messages {
            let (mut documents, mut rest) = (Documents::default(), &message[..]);
            while let Some(document) = documents.next(&mut rest) {
                // Nobody is answered.
                let _ = match document {
                    Ok(document) => self.carry_out(Source::Client, &document, may_join).await,
                    Err(refusal) => self.refuse(Source::Client, refusal),
                };
            }
            if let Some(refusal) = documents.end() {
                let _ = self.refuse(Source::Client, refusal);
            }
        }
    }

    /// Carries out a document that is one JSON value.
    async fn carry_out(&self, source: Source, document: &[u8], may_join: MayJoin<'_>) -> Result<(), Refusal> {
        let action = match Action::read(document) {
            Ok(Action::Subscribe { channel, .. }) if !may_join(&channel) => {
                return self.refuse(source, Refusal::PrivateChannel(channel));
            }
            Ok(action) => action,
            Err(refusal) => return self.refuse(source, refusal),
        };
        let name = action.name();
        match self.act(action).await {
            Ok(()) => {
                self.metrics.done(source, name);
                Ok(())
            }
            Err(refusal) => self.refuse(source, refusal),
        }
    }

    fn refuse(&self, source: Source, refusal: Refusal) -> Result<(), Refusal> {
        self.metrics.refused(source, &refusal);
        Err(refusal)
    }

    async fn act(&self, action: Action) -> Result<(), Refusal> {
        match action {
            Action::Multicast { data } => self.push(Target::All, data).await,
            Action::SendToChannel { channel, data } => {
                self.push(Target::Audience(Audience::channel(channel)), data).await
            }
            Action::SendToDevice { device, data } => {
                let target = match self.who(&device).await? {
                    Who::Connection(connection) => Target::Connection(connection),
                    Who::Members(audience) => Target::Audience(audience),
                };
                let unknown = || Refusal::UnknownDevice(device.to_string());
                self.push_to(target, data).await?.then_some(()).ok_or_else(unknown)
            }
            Action::Subscribe { device, channel } => {
                let joined = self.service.join(self.who(&device).await?, vec![Audience::channel(channel)]).await?;
                joined.map(drop).ok_or_else(|| Refusal::UnknownDevice(device.to_string()))
            }
            Action::Unsubscribe { device, channel } => {
                let left = self.service.leave(self.who(&device).await?, vec![Audience::channel(channel)]).await?;
                left.map(drop).ok_or_else(|| Refusal::UnknownDevice(device.to_string()))
            }
        }
    }

    /// Whom a document means. An id that was given out in another life names nobody, and no stable id looks like one.
    async fn who(&self, device: &Device) -> Result<Who, Refusal> {
        match device {
            Device::Stable(name) => Ok(Audience::device(name.clone()).into()),
            Device::Connection(id) => match self.service.spelled(*id).await? {
                Some(connection) => Ok(connection.into()),
                None => Err(Refusal::UnknownDevice(id.to_string())),
            },
        }
    }

    async fn push(&self, target: Target, data: String) -> Result<(), Refusal> {
        self.push_to(target, data).await.map(drop)
    }

    /// False where the target is a connection that does not exist.
    async fn push_to(&self, target: Target, data: String) -> Result<bool, Refusal> {
        Ok(match self.service.push(Dialect::Device, Push::text(target, data)).await? {
            Published::Taken => true,
            Published::UnknownConnection => false,
        })
    }
}
