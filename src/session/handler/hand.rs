//! From a session into a handler's hands.

use super::stream::Incoming;
use crate::session::decoder::{Decoder, Event};
use bytes::{Buf, Bytes, BytesMut};
use std::ops::ControlFlow;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// How often a session looks whether its connection has ended, while it waits for its handler and does not read.
const LOOK: Duration = Duration::from_secs(1);

/// Where a connection's messages go that a handler has.
pub(in crate::session) struct Hand {
    messages: mpsc::Sender<Incoming>,
    /// Whether the handler gets control frames too, and answers pings.
    control: bool,
}

impl Hand {
    pub(super) fn new(messages: mpsc::Sender<Incoming>, control: bool) -> Self {
        Self { messages, control }
    }

    /// What the handler is to get of what a client did, if anything.
    pub(in crate::session) fn takes(&self, event: &Event<'_>) -> Option<Incoming> {
        match event {
            Event::Message(message) => Some(Incoming::Message(message.opcode, Bytes::copy_from_slice(message.payload))),
            Event::Ping(payload) if self.control => Some(Incoming::Ping(Bytes::copy_from_slice(payload))),
            Event::Pong(payload) if self.control => Some(Incoming::Pong(Bytes::copy_from_slice(payload))),
            Event::Ping(_) | Event::Pong(_) | Event::Part | Event::Close(_) => None,
        }
    }

    /// Hands something over as soon as the handler has a place for it; gives it back where the connection is over meanwhile. A handler
    /// that has dropped the connection, which is being closed then, gets nothing.
    pub(in crate::session) async fn pass(
        &self,
        incoming: Incoming,
        is_over: impl Fn() -> bool,
    ) -> Result<(), Incoming> {
        loop {
            match timeout(LOOK, self.messages.reserve()).await {
                Ok(Ok(place)) => {
                    place.send(incoming);
                    return Ok(());
                }
                Ok(Err(_)) => return Ok(()),
                Err(_) if is_over() => return Err(incoming),
                Err(_) => {}
            }
        }
    }

    /// Has the handler receive, in its own time, what its client had sent before the connection ended: this, and what the bytes that
    /// were read after it mean.
    pub(in crate::session) async fn leave(
        self: Box<Self>,
        incoming: Incoming,
        mut decoder: Decoder,
        mut bytes: BytesMut,
        max_message: usize,
    ) {
        let mut next = Some(incoming);
        while let Some(incoming) = next.take() {
            if self.messages.send(incoming).await.is_err() {
                return;
            }
            let decoded = decoder.decode(&mut bytes, max_message, |event| {
                next = self.takes(&event);
                if next.is_some() || matches!(event, Event::Close(_)) {
                    ControlFlow::Break(())
                } else {
                    ControlFlow::Continue(())
                }
            });
            let Ok(left) = decoded else { return };
            bytes.advance(bytes.len() - left);
        }
    }
}
