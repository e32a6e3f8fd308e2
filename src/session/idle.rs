//! Closes connections whose clients send no message for too long.
//!
//! No connection has a timer: all that have such a limit stand in one list by the tick at which they have to be looked at,
//! and one task looks at those that are due. Who has spoken since stands there again, further on.

use super::profile::Profile;
use crate::hub::{CloseReason, Hub, Socket};
use crate::model::ConnectionId;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How finely silence is measured. Limits are in seconds to minutes, and nobody is closed too early: it is rounded up.
const TICK: Duration = Duration::from_millis(250);

/// Code and reason of the close frame.
const CLOSE: (u16, &str) = (4010, "idle timeout");

/// How long a client may be silent; zero: for ever.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct IdleTimeouts {
    /// One of each profile, in the order of [`Profile::ALL`].
    pub profiles: [Duration; Profile::ALL.len()],
    /// One that a program's own handler serves.
    pub handlers: Duration,
}

impl IdleTimeouts {
    fn of(&self, profile: Profile) -> Duration {
        let configured = Profile::ALL.into_iter().zip(self.profiles).find(|(of, _)| *of == profile);
        configured.map_or(self.handlers, |(_, timeout)| timeout)
    }

    fn are_any(&self) -> bool {
        self.profiles.iter().chain([&self.handlers]).any(|timeout| !timeout.is_zero())
    }
}

/// Who is watched for silence.
pub(super) struct Idle {
    timeouts: IdleTimeouts,
    /// Ticks since the start.
    now: AtomicU32,
    /// By the tick at which each is due. Each connection stands in here once, and at most for its limit after its end.
    due: Mutex<BTreeMap<u32, Vec<Watched>>>,
}

struct Watched {
    connection: ConnectionId,
    socket: Weak<Socket>,
    /// Ticks that it may be silent for.
    limit: u32,
}

impl Idle {
    /// Watches for silence, by a task that ends with the hub's or this one's last owner; a task only where any profile has a limit.
    pub(super) fn start(timeouts: IdleTimeouts, hub: &Arc<Hub>) -> Arc<Self> {
        let idle = Arc::new(Self { timeouts, now: AtomicU32::new(1), due: Mutex::default() });
        if timeouts.are_any() {
            tokio::spawn(keep_looking(Arc::downgrade(&idle), Arc::downgrade(hub)));
        }
        idle
    }

    /// Watches a connection from now on, if its profile has a limit.
    pub(super) fn watch(&self, profile: Profile, connection: ConnectionId, socket: &Arc<Socket>) {
        let timeout = self.timeouts.of(profile);
        if timeout.is_zero() {
            return;
        }
        self.spoke(socket);
        // One more, as the tick that is under way counts for nothing.
        let limit = u32::try_from(timeout.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX / 2) + 1;
        let watched = Watched { connection, socket: Arc::downgrade(socket), limit };
        self.add(self.now() + limit, watched);
    }

    /// Notes that a client has sent a message.
    pub(super) fn spoke(&self, socket: &Socket) {
        socket.spoke(self.now());
    }

    fn now(&self) -> u32 {
        self.now.load(Ordering::Relaxed)
    }

    fn add(&self, due: u32, watched: Watched) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).entry(due).or_default().push(watched);
    }

    /// Sets the clock, and gives out who has been silent for too long.
    fn look(&self, now: u32) -> Vec<ConnectionId> {
        self.now.store(now, Ordering::Relaxed);
        let due = {
            let mut all = self.due.lock().unwrap_or_else(PoisonError::into_inner);
            let later = all.split_off(&(now + 1));
            std::mem::replace(&mut *all, later)
        };
        let mut silent = Vec::new();
        for watched in due.into_values().flatten() {
            // Without its socket it has ended.
            let Some(socket) = watched.socket.upgrade() else { continue };
            let last = if socket.is_paused() { now } else { socket.last_spoke() };
            let until = last + watched.limit;
            if until <= now {
                silent.push(watched.connection);
            } else {
                self.add(until, watched);
            }
        }
        silent
    }
}

async fn keep_looking(idle: Weak<Idle>, hub: Weak<Hub>) {
    let started = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (Some(idle), Some(hub)) = (idle.upgrade(), hub.upgrade()) else { return };
        let elapsed = started.elapsed().as_millis() / TICK.as_millis();
        let silent = idle.look(u32::try_from(elapsed).unwrap_or(u32::MAX / 2) + 1);
        let counters: Vec<u32> = silent.iter().filter(|id| id.seq() == hub.seq()).map(|id| id.counter()).collect();
        hub.close_each(&counters, CLOSE.0, CLOSE.1, CloseReason::Idle);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpStream};

    #[tokio::test]
    async fn only_silence_counts_and_only_where_a_profile_has_a_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Socket::new(stream);
        let mut timeouts = IdleTimeouts::default();
        timeouts.profiles[0] = Duration::from_secs(1);
        let idle = Idle { timeouts, now: AtomicU32::new(1), due: Mutex::default() };
        let id = |id| ConnectionId::from_u64(id).unwrap();
        idle.watch(Profile::ALL[0], id(1), &socket);
        idle.watch(Profile::ALL[1], id(2), &socket);
        assert_eq!(idle.look(5), []);
        idle.spoke(&socket);
        assert_eq!(idle.look(6), []);
        assert_eq!(idle.look(9), []);
        assert_eq!(idle.look(10), [id(1)]);
        assert_eq!(idle.look(100), []);

        idle.watch(Profile::ALL[0], id(4), &socket);
        socket.pause(true);
        assert_eq!((idle.look(150), idle.look(152)), (vec![], vec![]));
        idle.spoke(&socket);
        socket.pause(false);
        assert_eq!(idle.look(155), [], "its silence begins when the work is done");
        assert_eq!(idle.look(157), [id(4)]);

        idle.watch(Profile::ALL[0], id(3), &socket);
        drop(socket);
        assert_eq!(idle.look(200), []);
        assert!(idle.due.lock().unwrap().is_empty());
    }
}
