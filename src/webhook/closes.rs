//! `close` events, kept until the application has taken them.
//!
//! Nobody waits for them, so they wait here: sent at once, and after a failure again and again, later and later, until they are
//! taken, too old, or too many.

use super::Webhook;
use super::metrics::{GivenUp, Told, WebhookMetrics};
use crate::model::HexId;
use crate::session::hooks::Receipt;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

/// What an event costs beyond its bytes.
const OVERHEAD: usize = 256;

/// The longest pause before a second attempt; it doubles with each failure up to the other one.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// The longest pause while the node stops: there is not much time left.
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// An event that is not taken yet.
struct Owed {
    subject: HexId,
    delivery: String,
    body: Bytes,
    since: Instant,
    failures: u32,
    /// By which the cluster's directory forgets it, once nobody has to send it any more.
    receipt: Option<Receipt>,
}

impl Owed {
    fn cost(&self) -> usize {
        self.body.len() + self.delivery.len() + OVERHEAD
    }

    /// It was taken, or nobody will send it.
    fn settle(self) {
        if let Some(receipt) = self.receipt {
            receipt.settle();
        }
    }
}

#[derive(Default)]
struct State {
    /// Those that wait, by their age: the number is given as they come.
    waiting: BTreeMap<u64, Owed>,
    /// When each of them is due.
    due: BTreeSet<(Instant, u64)>,
    next: u64,
    /// Bytes of those that wait.
    bytes: usize,
    /// Those under way.
    flying: usize,
    stopping: bool,
}

impl State {
    fn put(&mut self, number: u64, due: Instant, owed: Owed) {
        self.bytes += owed.cost();
        self.due.insert((due, number));
        self.waiting.insert(number, owed);
    }

    fn remove(&mut self, number: u64) -> Option<Owed> {
        let owed = self.waiting.remove(&number)?;
        self.bytes -= owed.cost();
        Some(owed)
    }
}

/// The queue.
pub(super) struct Closes {
    state: Mutex<State>,
    changed: Notify,
    emptied: Notify,
    /// Bytes that may wait.
    limit: usize,
    max_age: Duration,
    /// The cluster keeps what this node has not sent.
    kept: bool,
    metrics: Arc<WebhookMetrics>,
}

/// What is to be done next.
enum Next {
    Send(u64, Owed),
    Wait(Option<Instant>),
}

impl Closes {
    pub(super) fn new(limit: usize, max_age: Duration, kept: bool, metrics: Arc<WebhookMetrics>) -> Arc<Self> {
        let (state, changed, emptied) = (Mutex::default(), Notify::new(), Notify::new());
        Arc::new(Self { state, changed, emptied, limit, max_age, kept, metrics })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event in. Where too much waits the oldest are given up for it.
    pub(super) fn add(&self, subject: HexId, delivery: String, body: Bytes, receipt: Option<Receipt>) {
        let now = Instant::now();
        let mut given_up = Vec::new();
        let mut state = self.state();
        let number = state.next;
        state.next += 1;
        state.put(number, now, Owed { subject, delivery, body, since: now, failures: 0, receipt });
        while state.bytes > self.limit
            && state.waiting.len() > 1
            && let Some((&oldest, _)) = state.waiting.first_key_value()
        {
            // What is due at another time is passed over when that comes.
            given_up.extend(state.remove(oldest));
        }
        self.tell(&state);
        drop(state);
        self.changed.notify_one();
        for owed in given_up {
            self.metrics.given_up(GivenUp::Overflow, &owed.delivery);
            owed.settle();
        }
    }

    /// To be called after a change.
    fn tell(&self, state: &State) {
        let left = state.waiting.len() + state.flying;
        self.metrics.closes_waiting.set(left as i64);
        if left == 0 {
            self.emptied.notify_waiters();
        }
    }

    fn next(&self) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        while let Some(&(due, number)) = state.due.first() {
            if due > now {
                return Next::Wait(Some(due));
            }
            state.due.pop_first();
            if let Some(owed) = state.remove(number) {
                state.flying += 1;
                return Next::Send(number, owed);
            }
        }
        Next::Wait(None)
    }

    /// An event under way was taken.
    fn taken(&self, owed: Owed) {
        // First: whoever waits for the last of them may go on to end the node.
        owed.settle();
        let mut state = self.state();
        state.flying -= 1;
        self.tell(&state);
    }

    /// An event under way was not taken: it waits, or is given up.
    fn failed(&self, number: u64, mut owed: Owed) {
        let now = Instant::now();
        let due = now + pause(owed.failures, self.state().stopping);
        owed.failures += 1;
        let too_old = due > owed.since + self.max_age;
        let mut waits = Some(owed);
        if too_old && let Some(owed) = waits.take() {
            self.metrics.given_up(GivenUp::Age, &owed.delivery);
            owed.settle();
        }
        let mut state = self.state();
        state.flying -= 1;
        if let Some(owed) = waits {
            state.put(number, due, owed);
        }
        self.tell(&state);
        drop(state);
        self.changed.notify_one();
    }

    /// Sends at once what waits, and waits until all of it was taken or `limit` has passed. What is left is left to the other nodes,
    /// or given up where nothing is kept for them.
    pub(super) async fn drain(&self, limit: Duration) {
        let end = Instant::now() + limit;
        {
            let mut state = self.state();
            state.stopping = true;
            let now = Instant::now();
            state.due = state.waiting.keys().map(|number| (now, *number)).collect();
        }
        self.changed.notify_one();
        loop {
            let emptied = self.emptied.notified();
            let left = {
                let state = self.state();
                state.waiting.len() + state.flying
            };
            if left == 0 {
                return;
            }
            if timeout_at(end, emptied).await.is_err() {
                break;
            }
        }
        let mut state = self.state();
        let left = std::mem::take(&mut state.waiting);
        if self.kept && !left.is_empty() {
            tracing::warn!(
                closes = left.len(),
                "webhook: close events that were not taken are left to the other nodes"
            );
        }
        for owed in left.into_values().filter(|_| !self.kept) {
            self.metrics.given_up(GivenUp::Stopping, &owed.delivery);
        }
        state.due.clear();
        state.bytes = 0;
        self.tell(&state);
    }

    /// Ends [`keep_sending`], once its owner is gone.
    pub(super) fn stop(&self) {
        self.changed.notify_one();
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        self.closes.stop();
    }
}

/// How long to wait after so many failures before: twice as long each time, and a random half of it less, so that what has failed
/// together does not come back together.
fn pause(failures: u32, stopping: bool) -> Duration {
    let longest = if stopping { LAST_PAUSE } else { LONGEST_PAUSE };
    let pause = FIRST_PAUSE.saturating_mul(1 << failures.min(16)).min(longest);
    // Without random numbers it is the whole of it.
    let share = getrandom::u32().map_or(1.0, |random| f64::from(random) / f64::from(u32::MAX));
    pause.mul_f64(0.5 + share / 2.0)
}

/// Sends what is due, for as long as there is a webhook.
pub(super) async fn keep_sending(webhook: Weak<Webhook>) {
    let Some((closes, senders)) = webhook.upgrade().map(|w| (w.closes.clone(), w.senders.clone())) else { return };
    loop {
        let Ok(sender) = senders.clone().acquire_owned().await else { return };
        let changed = closes.changed.notified();
        let Some(alive) = webhook.upgrade() else { return };
        match closes.next() {
            Next::Send(number, owed) => {
                tokio::spawn(async move {
                    send(&alive, number, owed).await;
                    drop(sender);
                });
            }
            Next::Wait(due) => {
                // Held while it waits, it would keep alive what it waits for.
                drop(alive);
                match due {
                    Some(due) => tokio::select! {
                        () = changed => {}
                        () = sleep_until(due) => {}
                    },
                    None => changed.await,
                }
            }
        }
    }
}

async fn send(webhook: &Webhook, number: u64, owed: Owed) {
    if webhook.offer(Told::Close, &owed.delivery, owed.body.clone(), Some(owed.subject)).await {
        webhook.closes.taken(owed);
    } else {
        webhook.closes.failed(number, owed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ConnectionId, NodeId};
    use prometheus::Registry;

    fn closes(limit: usize) -> Arc<Closes> {
        let metrics = Arc::new(WebhookMetrics::new(&Registry::new()).unwrap());
        Closes::new(limit, Duration::from_secs(100), false, metrics)
    }

    fn add(closes: &Closes, name: &str) {
        let node: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let id = HexId::new(node.tag(), ConnectionId::from_u64(7).unwrap());
        closes.add(id, name.to_owned(), Bytes::from_static(&[b'x'; 1000]), None);
    }

    fn sent(closes: &Closes) -> Option<(u64, Owed)> {
        match closes.next() {
            Next::Send(number, owed) => Some((number, owed)),
            Next::Wait(_) => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_comes_again_later_and_later_until_it_is_too_old() {
        let closes = closes(1 << 20);
        add(&closes, "a");
        let (begun, mut attempts) = (Instant::now(), Vec::new());
        while begun.elapsed() < Duration::from_secs(200) {
            if let Some((number, owed)) = sent(&closes) {
                attempts.push(begun.elapsed());
                closes.failed(number, owed);
            }
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert!((6..=9).contains(&attempts.len()), "{attempts:?}");
        for (at, pair) in attempts.windows(2).enumerate() {
            let longest = Duration::from_secs(1 << at).min(LONGEST_PAUSE) + Duration::from_millis(100);
            assert!(pair[1] - pair[0] >= longest / 2 - Duration::from_millis(100), "{attempts:?}");
            assert!(pair[1] - pair[0] <= longest, "{attempts:?}");
        }
        assert!(closes.state().waiting.is_empty() && closes.state().flying == 0);
        assert_eq!(closes.state().bytes, 0);
    }

    #[tokio::test]
    async fn the_oldest_are_given_up_where_too_many_wait() {
        let closes = closes(3000);
        for name in ["a", "b", "c", "d"] {
            add(&closes, name);
        }
        let left = std::iter::from_fn(|| sent(&closes)).map(|(_, owed)| owed.delivery).collect::<Vec<_>>();
        assert_eq!(left, ["c", "d"]);
        assert_eq!(closes.state().bytes, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn draining_waits_for_what_is_under_way_and_gives_up_the_rest() {
        let closes = closes(1 << 20);
        add(&closes, "a");
        let (number, owed) = sent(&closes).unwrap();
        closes.failed(number, owed);
        let draining = {
            let closes = closes.clone();
            tokio::spawn(async move { closes.drain(Duration::from_secs(10)).await })
        };
        tokio::time::sleep(Duration::from_millis(1)).await;
        let (_, owed) = sent(&closes).expect("what waits is due at once");
        closes.taken(owed);
        draining.await.unwrap();

        add(&closes, "b");
        closes.drain(Duration::from_secs(1)).await;
        assert!(closes.state().waiting.is_empty());
    }
}
