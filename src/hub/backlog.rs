//! What one socket is owed and the kernel has not taken yet.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Unsent buffers of one connection, in order. Exists only while there are some, or while there is no socket yet.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Who waits for a frame to be written: the bytes that have to go until then, counted from `gone`.
    waiters: VecDeque<(u64, oneshot::Sender<()>)>,
    /// Bytes written since this backlog began.
    gone: u64,
    /// A task waits for the socket to become writable.
    pub(super) watched: bool,
    /// Something was written since the last look, so the peer reads, if slowly.
    pub(super) progress: bool,
}

impl Backlog {
    pub(super) fn push(&mut self, buffer: Bytes) {
        self.bytes += buffer.len();
        self.queue.push_back(buffer);
    }

    /// `waiter` hears when all that is in here now is written.
    pub(super) fn when_written(&mut self, waiter: oneshot::Sender<()>) {
        self.waiters.push_back((self.gone + self.bytes as u64, waiter));
    }

    /// Unsent bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unsent bytes beyond the buffer that is being written.
    pub(super) fn beyond_front(&self) -> usize {
        self.bytes - self.queue.front().map_or(0, Bytes::len)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The next buffers to write, in order.
    pub(super) fn front(&mut self, at_most: usize) -> &[Bytes] {
        let buffers = self.queue.make_contiguous();
        &buffers[..buffers.len().min(at_most)]
    }

    /// So many bytes were written.
    pub(super) fn advance(&mut self, mut written: usize) {
        self.progress |= written > 0;
        self.bytes -= written;
        self.gone += written as u64;
        while let Some(front) = self.queue.front_mut() {
            if front.len() > written {
                front.advance(written);
                break;
            }
            written -= front.len();
            self.queue.pop_front();
        }
        while self.waiters.front().is_some_and(|(end, _)| *end <= self.gone) {
            if let Some((_, waiter)) = self.waiters.pop_front() {
                // Whoever waited may have left.
                let _ = waiter.send(());
            }
        }
    }

    /// Drops everything but the buffer that is being written, which has to be finished for the stream to stay whole.
    pub(super) fn keep_front(&mut self) {
        self.queue.truncate(1);
        self.bytes = self.queue.front().map_or(0, Bytes::len);
        self.waiters.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waiters_hear_when_the_last_byte_of_theirs_is_gone() {
        let mut backlog = Backlog::default();
        backlog.push(Bytes::from_static(b"abc"));
        let (waiter, mut written) = oneshot::channel();
        backlog.when_written(waiter);
        backlog.push(Bytes::from_static(b"de"));
        assert_eq!((backlog.bytes(), backlog.beyond_front()), (5, 2));
        backlog.advance(2);
        assert!(written.try_recv().is_err());
        assert_eq!(backlog.front(9), [&b"c"[..], b"de"]);
        backlog.advance(2);
        assert!(written.try_recv().is_ok());
        assert_eq!(backlog.front(9), [&b"e"[..]]);
        backlog.advance(1);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }
}
