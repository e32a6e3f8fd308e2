//! What one socket is owed and the kernel has not taken yet.

use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use tokio::sync::oneshot;

/// Unsent buffers of one connection, in order. Exists only while there are some, or while there is no socket yet.
#[derive(Default)]
pub(super) struct Backlog {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// Pushes that wait for the end of a message in fragments, while one is under way.
    held: Option<Vec<Bytes>>,
    held_bytes: usize,
    /// Frames of the connection's own, whose session waits for them.
    replies: VecDeque<Reply>,
    /// Bytes written since this backlog began.
    gone: u64,
    /// A task waits for the socket to become writable.
    pub(super) watched: bool,
    /// Something was written since the last look, so the peer reads, if slowly.
    pub(super) progress: bool,
}

/// A frame that its session waits for before it reads on, so that there is one at a time. It does not count as unread:
/// a client may be sent a long answer while a push is half way.
struct Reply {
    /// Its last byte, counted from where the backlog began.
    end: u64,
    bytes: usize,
    written: oneshot::Sender<()>,
}

impl Backlog {
    pub(super) fn push(&mut self, buffer: Bytes) {
        self.bytes += buffer.len();
        self.queue.push_back(buffer);
    }

    /// The same with a push: behind the message in fragments that is under way, if there is one.
    pub(super) fn push_or_hold(&mut self, buffer: Bytes) {
        match &mut self.held {
            None => self.push(buffer),
            Some(held) => {
                self.bytes += buffer.len();
                self.held_bytes += buffer.len();
                held.push(buffer);
            }
        }
    }

    /// From now on pushes wait.
    pub(super) fn hold(&mut self) {
        self.held.get_or_insert_default();
    }

    /// Whether they do.
    pub(super) fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// They wait no more.
    pub(super) fn let_go(&mut self) {
        self.queue.extend(self.held.take().unwrap_or_default());
        self.held_bytes = 0;
    }

    /// They wait no more, as they are dropped; how many bytes.
    pub(super) fn drop_held(&mut self) -> usize {
        self.held = None;
        self.bytes -= self.held_bytes;
        std::mem::take(&mut self.held_bytes)
    }

    /// The last `bytes` of what is in here and not held are a reply; `written` hears when they are gone.
    pub(super) fn is_reply(&mut self, bytes: usize, written: oneshot::Sender<()>) {
        let queued = self.bytes - self.held_bytes;
        let bytes = bytes.min(queued);
        self.replies.push_back(Reply { end: self.gone + queued as u64, bytes, written });
    }

    /// Unsent bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Unsent bytes of pushes beyond the buffer that is being written.
    pub(super) fn unread(&self) -> usize {
        let replies: usize = self.replies.iter().map(|reply| reply.bytes).sum();
        self.bytes.saturating_sub(self.queue.front().map_or(0, Bytes::len) + replies)
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
        while self.replies.front().is_some_and(|reply| reply.end <= self.gone) {
            if let Some(reply) = self.replies.pop_front() {
                // Whoever waited may have left.
                let _ = reply.written.send(());
            }
        }
    }

    /// Drops everything but the buffer that is being written, which has to be finished for the stream to stay whole, and
    /// those that the first `begun` bytes are in, as they are encrypted already.
    pub(super) fn keep_front(&mut self, begun: usize) {
        let mut kept = 0;
        let needed = self.queue.iter().take_while(|buffer| {
            let needed = kept < begun;
            kept += buffer.len();
            needed
        });
        let needed = needed.count().max(1);
        self.queue.truncate(needed);
        self.drop_held();
        self.bytes = self.queue.iter().map(Bytes::len).sum();
        self.replies.clear();
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
        backlog.is_reply(1, waiter);
        backlog.push(Bytes::from_static(b"def"));
        assert_eq!((backlog.bytes(), backlog.unread()), (6, 2));
        backlog.advance(2);
        assert!(written.try_recv().is_err());
        assert_eq!(backlog.front(9), [&b"c"[..], b"def"]);
        backlog.advance(2);
        assert!(written.try_recv().is_ok());
        assert_eq!(backlog.front(9), [&b"ef"[..]]);
        backlog.advance(2);
        assert!(backlog.is_empty() && backlog.bytes() == 0);
    }

    #[test]
    fn pushes_wait_for_the_end_of_a_message_in_fragments() {
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let mut backlog = Backlog::default();
        backlog.push_or_hold(bytes("ab"));
        backlog.hold();
        backlog.push(bytes("fragment"));
        backlog.push_or_hold(bytes("cd"));
        let (waiter, mut written) = oneshot::channel();
        backlog.push(bytes("last"));
        backlog.is_reply(4, waiter);
        assert_eq!((backlog.bytes(), backlog.unread()), (16, 10));
        backlog.advance(13);
        assert!(written.try_recv().is_err());
        backlog.advance(1);
        assert!(written.try_recv().is_ok() && backlog.is_empty() && backlog.is_holding());
        backlog.push_or_hold(bytes("ef"));
        backlog.let_go();
        assert_eq!(backlog.front(9), [&b"cd"[..], b"ef"]);
        backlog.hold();
        backlog.push_or_hold(bytes("gh"));
        assert_eq!((backlog.drop_held(), backlog.bytes(), backlog.is_holding()), (2, 4, false));
    }

    #[test]
    fn what_is_begun_is_kept() {
        for (begun, kept) in [(0, "abc"), (1, "abc"), (3, "abc"), (4, "abcdef"), (6, "abcdef"), (7, "abcdefghi")] {
            let mut backlog = Backlog::default();
            for text in ["abc", "def", "ghi"] {
                backlog.push(Bytes::from_static(text.as_bytes()));
            }
            backlog.keep_front(begun);
            assert_eq!((backlog.front(9).concat(), backlog.bytes()), (kept.as_bytes().to_vec(), kept.len()));
        }
    }
}
