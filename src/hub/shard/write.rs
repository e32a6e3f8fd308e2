//! Writing to one socket: what the kernel takes now, and what waits in the connection's own backlog.

use super::super::frame;
use super::super::inbox::Part;
use super::super::socket::{CloseReason, MAX_SLICES};
use super::{Shard, Slot};
use bytes::Bytes;
use tokio::sync::oneshot;

/// What is written to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Whose {
    /// A frame of its own, or a control frame.
    Own,
    /// Messages that were pushed to it, which may not come between the fragments of another.
    Pushed,
}

impl Shard {
    /// Writes a frame of the connection's own, as what it is of a message in fragments.
    pub(super) fn send(&mut self, number: u32, frame: Bytes, part: Part, written: oneshot::Sender<()>) {
        let Some(slot) = self.slot(number) else { return };
        if slot.closing {
            // Nothing follows a close frame; dropping `written` says so.
            return;
        }
        if part == Part::More {
            slot.backlog.get_or_insert_default().hold();
        }
        self.reply(number, frame, written);
        let Some(slot) = self.slot(number) else { return };
        let Some(backlog) = &mut slot.backlog else { return };
        if part == Part::Last {
            backlog.let_go();
        }
        // A backlog that is there for what is held alone is not waited with.
        if !backlog.watched {
            self.drain(number);
        }
    }

    /// Drops what waits for the end of a message in fragments.
    pub(super) fn drop_held(&mut self, number: u32) {
        if let Some(slot) = self.slot(number)
            && let Some(backlog) = &mut slot.backlog
        {
            let dropped = backlog.drop_held();
            self.tally.unsent -= dropped as i64;
        }
    }

    /// Writes a frame that somebody waits for.
    pub(super) fn reply(&mut self, number: u32, frame: Bytes, written: oneshot::Sender<()>) {
        let bytes = frame.len();
        self.enqueue(number, &[frame], 0, Whose::Own);
        let Some(slot) = self.slot(number) else { return };
        match &mut slot.backlog {
            Some(backlog) => backlog.is_reply(bytes, written),
            // Whoever waited may have left.
            None => drop(written.send(())),
        }
    }

    /// Writes pushes; a connection that leaves too much unread is closed.
    pub(super) fn write(&mut self, number: u32, buffers: &[Bytes], messages: u64) {
        self.enqueue(number, buffers, messages, Whose::Pushed);
        if let Some(Some(Slot { counter, backlog: Some(backlog), closing: false, .. })) =
            self.slots.get(number as usize)
            && backlog.unread() > self.hub.limits.max_unsent
        {
            self.give_up(number, *counter);
        }
    }

    /// Writes buffers, or what the kernel does not take of them to the slot's own backlog.
    pub(super) fn enqueue(&mut self, number: u32, buffers: &[Bytes], messages: u64, whose: Whose) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        if slot.closing {
            return;
        }
        self.tally.deliveries += messages;
        let mut sent = 0;
        if slot.backlog.is_none()
            && let Some(socket) = &slot.socket
        {
            let total: usize = buffers.iter().map(Bytes::len).sum();
            self.tally.writes += 1;
            match socket.write(buffers) {
                Ok(written) => {
                    self.tally.bytes += written as u64;
                    if written == total {
                        return;
                    }
                    sent = written;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(_) => return self.cut(number),
            }
        }
        let backlog = slot.backlog.get_or_insert_default();
        for buffer in buffers {
            if sent >= buffer.len() {
                sent -= buffer.len();
            } else {
                let rest = buffer.slice(sent..);
                sent = 0;
                self.tally.unsent += rest.len() as i64;
                match whose {
                    Whose::Own => backlog.push(rest),
                    Whose::Pushed => backlog.push_or_hold(rest),
                }
            }
        }
        if let Some(socket) = &slot.socket
            && !backlog.watched
            && !backlog.is_holding()
        {
            backlog.watched = true;
            self.hub.watch_writable(self.number, slot.counter, socket.clone());
        }
    }

    /// A slow reader costs its own buffer, and then its connection.
    fn give_up(&mut self, number: u32, counter: u32) {
        self.hub.metrics.slow_consumers.inc();
        tracing::info!(
            connection = counter,
            limit = self.hub.limits.max_unsent,
            "slow consumer: a connection has more unsent bytes than MAX_UNSENT allows and is closed with 4008"
        );
        if self.hub.strike(counter, CloseReason::SlowConsumer) {
            self.close(number, frame::close(4008, "slow consumer"), CloseReason::SlowConsumer, None);
        }
    }

    /// The socket is writable: writes what waits for it.
    pub(super) fn drain(&mut self, number: u32) {
        let Some(slot) = self.slots[number as usize].as_mut() else { return };
        let (Some(socket), Some(backlog)) = (&slot.socket, &mut slot.backlog) else { return };
        backlog.watched = false;
        while !backlog.is_empty() {
            self.tally.writes += 1;
            match socket.write(backlog.front(MAX_SLICES)) {
                Ok(written) => {
                    self.tally.bytes += written as u64;
                    self.tally.unsent -= written as i64;
                    backlog.advance(written);
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    backlog.watched = true;
                    self.hub.watch_writable(self.number, slot.counter, socket.clone());
                    return;
                }
                Err(_) => return self.cut(number),
            }
        }
        if !backlog.is_holding() {
            slot.backlog = None;
        }
    }
}
