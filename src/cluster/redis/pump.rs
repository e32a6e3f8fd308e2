//! From a link to the hub. Nothing in here waits: what can't be taken now is dropped and counted, never held up.

use super::connect::Purpose;
use super::core::Core;
use super::envelope::{Answer, Envelope, Request, Unreadable};
use super::link::Heard;
use super::subscriber::Topic;
use super::wire::Command;
use crate::cluster::acts;
use crate::hub::Delivery;
use crate::model::Target;
use bytes::Bytes;
use fred::types::{Message, Value};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// Takes what arrives on a link until it ends.
pub(super) async fn run(core: Arc<Core>, mut messages: broadcast::Receiver<Message>, epoch: u64, heard: Arc<Heard>) {
    loop {
        match messages.recv().await {
            Ok(message) => {
                heard.messages.fetch_add(1, Ordering::Relaxed);
                take(&core, message, epoch, &heard);
            }
            Err(RecvError::Lagged(missed)) => {
                core.metrics.lagged.inc_by(missed);
                tracing::warn!(missed, "messages came faster than this node reads them; they are dropped");
                core.hub.gap(None);
            }
            Err(RecvError::Closed) => return,
        }
    }
}

fn take(core: &Arc<Core>, message: Message, epoch: u64, heard: &Heard) {
    core.metrics.received.inc();
    // Unsubscribed in the meantime: nobody here wants it.
    let Some(topic) = core.subscriber.topic(&message.channel) else { return };
    let bytes: Bytes = match message.value {
        Value::Bytes(bytes) => bytes,
        Value::String(text) => text.into_inner(),
        _ => return,
    };
    match Envelope::decode(bytes) {
        Ok(Envelope::Push { push, taken_at }) => {
            // The name that it came by says whom it is for; the header only where one name serves several.
            let right = match (&topic, &push.target) {
                (Topic::Audience(audience), Target::Audience(target)) => audience == target,
                (Topic::All, Target::All | Target::Audiences(_)) | (Topic::Inbox, Target::Connection(_)) => true,
                _ => false,
            };
            if right {
                core.metrics.lag.observe(core.clock.now().saturating_sub(taken_at) as f64 / 1e6);
                core.hub.deliver(Delivery { push, taken_at: core.clock.to_local(taken_at) });
            } else {
                core.metrics.unreadable.inc();
            }
        }
        Ok(Envelope::Act(request)) => act(core, request),
        Ok(Envelope::Answer(answer)) => core.requests.answered(answer),
        Ok(Envelope::Probe { link, number }) => {
            if link == epoch {
                heard.probe.fetch_max(number, Ordering::Relaxed);
            }
        }
        Err(why) => {
            core.metrics.unreadable.inc();
            if why != Unreadable::Foreign {
                tracing::debug!(topic = %message.channel, %why, "message skipped");
            }
        }
    }
}

/// Carries a request out. The sockets are dealt with here and now, behind all pushes that came before; only writing it to
/// the directory and answering takes a task.
fn act(core: &Arc<Core>, request: Request) {
    let Some(left) = request.deadline.checked_sub(core.clock.now()).filter(|left| *left > 0) else {
        core.metrics.acts_refused.inc();
        return;
    };
    let Some(permit) = core.requests.permit() else {
        core.metrics.acts_refused.inc();
        tracing::warn!("too many requests are being carried out: one is left to its time-out");
        return;
    };
    let Request { id, asker, asked_at, acts, .. } = request;
    let outcomes = acts::apply(&core.hub, &acts, core.clock.to_local(asked_at));
    let to_settle = acts::to_settle(&acts, &outcomes);
    let core = core.clone();
    tokio::spawn(async move {
        let _permit = permit;
        let outcomes = match to_settle {
            None => outcomes,
            Some(audiences) => {
                match tokio::time::timeout(Duration::from_micros(left), core.settle(&audiences)).await {
                    Ok(Ok(())) => outcomes,
                    Ok(Err(error)) => acts::unsettled(&acts, outcomes, &error.to_string()),
                    // The asker waits no longer.
                    Err(_) => return,
                }
            }
        };
        let answer = Envelope::Answer(Answer { id, node: core.hub.seq(), outcomes }).encode();
        let command = Command::publish(core.keys.inbox_topic(asker), answer);
        if let Err(fault) = core.lanes.run(&command, Purpose::Publishing).await {
            tracing::debug!(%fault, "an answer could not be sent");
        }
    });
}
