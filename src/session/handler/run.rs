//! A handler at work.
//!
//! A connection that a handler drops is closed: with 1000, or with 1011 where it was dropped because the handler has failed. That is
//! known only when the handler has given the word back, so what is dropped while it has it waits for that.

use super::stream::Ending;
use super::{Handler, Offer, Outcome};
use crate::model::beginning;
use std::any::Any;
use std::cell::Cell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

thread_local! {
    /// The handler that has the word on this thread; 0: none.
    static RUNNING: Cell<u64> = const { Cell::new(0) };
}

/// Characters of a path in a line of log; a client may send 64 KiB of it.
const SHOWN_PATH: usize = 200;

/// The numbers of handlers at work.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Connections that one handler has dropped while it had the word.
pub(super) struct Dropped {
    handler: u64,
    waiting: Mutex<Vec<Ending>>,
}

impl Dropped {
    fn new() -> Arc<Self> {
        Arc::new(Self { handler: NEXT.fetch_add(1, Ordering::Relaxed), waiting: Mutex::default() })
    }

    /// Closes a connection that was dropped, now or when its handler gives the word back.
    pub(super) fn add(&self, ending: Ending) {
        if RUNNING.get() == self.handler {
            self.waiting().push(ending);
        } else {
            ending.end(std::thread::panicking());
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Ending>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, failed: bool) {
        let waiting = std::mem::take(&mut *self.waiting());
        waiting.into_iter().for_each(|ending| ending.end(failed));
    }
}

/// A handler has the word on this thread for as long as this is there.
struct Word(u64);

impl Word {
    fn give(handler: u64) -> Self {
        Self(RUNNING.replace(handler))
    }
}

impl Drop for Word {
    fn drop(&mut self) {
        RUNNING.set(self.0);
    }
}

/// One more handler at work for as long as this is there.
pub(super) struct AtWork(Arc<AtomicUsize>);

impl AtWork {
    pub(super) fn new(handlers: Arc<AtomicUsize>) -> Self {
        handlers.fetch_add(1, Ordering::AcqRel);
        Self(handlers)
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Has a handler serve a connection, to its end.
pub(super) async fn run(handler: Arc<dyn Handler>, offer: Offer, _at_work: AtWork) {
    let dropped = Dropped::new();
    let asked = offer.asked().clone();
    let number = dropped.handler;
    let offer = offer.of(dropped.clone());
    let begun = catch_unwind(AssertUnwindSafe(|| {
        let _word = Word::give(number);
        handler.handle(offer)
    }));
    let mut serving = match begun {
        Ok(serving) => serving,
        Err(panic) => {
            dropped.close(true);
            return tell(&*handler, Err(panic), &asked.path);
        }
    };
    let outcome = poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| {
            let _word = Word::give(number);
            serving.as_mut().poll(context)
        }));
        match polled {
            Ok(Poll::Pending) => {
                dropped.close(false);
                Poll::Pending
            }
            Ok(Poll::Ready(outcome)) => Poll::Ready(Ok(outcome)),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    })
    .await;
    dropped.close(!matches!(outcome, Ok(Ok(()))));
    tell(&*handler, outcome, &asked.path);
}

/// Logs what has failed. What any client can bring about at any time is nothing to wake anybody for.
fn tell(handler: &dyn Handler, outcome: Result<Outcome, Box<dyn Any + Send>>, path: &str) {
    let path = &*beginning(path, SHOWN_PATH);
    match outcome {
        Ok(Ok(())) => {}
        Ok(Err(error)) if handler.is_usual(&*error) => tracing::debug!(path, "handler ended: {error}"),
        Ok(Err(error)) => tracing::warn!(path, "handler failed: {error}"),
        Err(panic) => tracing::error!(path, "handler panicked: {}", panic_text(&*panic)),
    }
}

/// What a panic says.
pub(crate) fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::Handshake;

    #[test]
    fn a_handler_that_waits_is_a_small_future() {
        fn size<A, F>(_: impl FnOnce(A) -> F) -> usize {
            size_of::<F>()
        }
        async fn wait(handshake: Handshake) -> Outcome {
            let mut connection = handshake.accept().await?;
            while connection.recv().await?.is_some() {}
            Ok(())
        }
        assert!(size(wait) <= 448, "{} bytes", size(wait));
        let around = size(|(handler, offer, at_work)| run(handler, offer, at_work));
        assert!(around <= 160, "{around} bytes");
    }
}
