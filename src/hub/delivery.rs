//! From a push to the shards that have its sockets.

use super::inbox::{Command, PARCEL_OVERHEAD, Parcel, To};
use super::roster::{self, Roster};
use super::{Hub, Overflow, frame};
use crate::model::{Audience, AudienceKind, Exclusions, Name, Opcode, Push, Target};
use bytes::Bytes;
use std::collections::HashSet;
use std::sync::Arc;

/// A push as it came off the bus.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What to deliver, to the local members of its target.
    pub push: Push,
    /// When its publisher took it, in microseconds since 1970; for the latency histogram.
    pub taken_at: u64,
}

/// The target in this node's own numbers; `None` where nobody of it is here.
fn resolve(roster: &Roster, target: &Target) -> Option<To> {
    match target {
        Target::All => Some(To::All),
        Target::Audience(audience) => roster.number(audience).map(To::Audience),
        Target::Audiences(audiences) => {
            let numbers: roster::Numbers = audiences.iter().filter_map(|a| roster.number(a)).collect();
            (!numbers.is_empty()).then_some(To::Audiences(numbers))
        }
        Target::Connection(id) => {
            (id.seq() == roster.seq() && roster.contains(id.counter())).then_some(To::Connection(id.counter()))
        }
    }
}

/// Whom a push leaves out, in this node's own numbers.
fn left_out(roster: &Roster, exclude: &Exclusions) -> (Vec<u32>, roster::Numbers) {
    let own = exclude.connections.iter().filter(|id| id.seq() == roster.seq()).map(|id| id.counter());
    let user = |name: &Name| roster.number(&Audience::user(name.clone()));
    (own.collect(), exclude.users.iter().filter_map(user).collect())
}

/// To how many connections a parcel goes.
fn reach(roster: &Roster, to: &To, connections: &[u32], users: &[roster::AudienceNumber]) -> u64 {
    let excluded = || -> HashSet<u32> {
        let users = users.iter().flat_map(|user| roster.members_of(*user));
        connections.iter().chain(users).copied().collect()
    };
    let plain = connections.is_empty() && users.is_empty();
    let (all, without) = match to {
        To::All => {
            let without = |out: HashSet<u32>| out.into_iter().filter(|counter| roster.contains(*counter)).count();
            (roster.len(), if plain { 0 } else { without(excluded()) })
        }
        To::Audience(audience) => {
            let without = |out: HashSet<u32>| out.into_iter().filter(|c| roster.is_member(*c, *audience)).count();
            (roster.members_of(*audience).len(), if plain { 0 } else { without(excluded()) })
        }
        To::Audiences(audiences) => {
            let members: HashSet<u32> = audiences.iter().flat_map(|a| roster.members_of(*a)).copied().collect();
            let without = if plain { 0 } else { excluded().intersection(&members).count() };
            (members.len(), without)
        }
        To::Connection(counter) => (1, usize::from(!plain && excluded().contains(counter))),
    };
    (all - without) as u64
}

/// Any number. Without random ones it is always the same, which is as good as any.
fn random() -> usize {
    let mut random = [0; size_of::<usize>()];
    let _ = getrandom::fill(&mut random);
    usize::from_ne_bytes(random)
}

impl Hub {
    /// Gives a push to its local members' sockets. Never waits: what is over the queue's limit is dropped and counted,
    /// and becomes a gap for everybody once there is room again. Order is kept from call to call.
    pub fn deliver(&self, delivery: Delivery) {
        // What was dropped is counted, and told to the sockets as a gap.
        let _ = self.hand_over(delivery, |_, _, _, _| 0);
    }

    /// [`deliver`](Self::deliver), and to how many connections it went.
    pub fn deliver_counted(&self, delivery: Delivery) -> Result<u64, Overflow> {
        self.hand_over(delivery, reach)
    }

    /// [`deliver`](Self::deliver), but to one of the target's local connections alone, any; to how many it went.
    pub fn deliver_to_one(&self, delivery: Delivery) -> Result<u64, Overflow> {
        let random = random();
        let chosen = {
            let roster = self.inner.roster();
            let pick = |members: &[u32]| members.get(random % members.len().max(1)).copied();
            match resolve(&roster, &delivery.push.target) {
                None => None,
                Some(To::All) => roster.any(random),
                Some(To::Audience(audience)) => pick(roster.members_of(audience)),
                Some(To::Audiences(audiences)) => audiences.first().and_then(|first| pick(roster.members_of(*first))),
                Some(To::Connection(counter)) => Some(counter),
            }
            .map(|counter| crate::model::ConnectionId::new(roster.seq(), counter))
        };
        let Some(chosen) = chosen else { return Ok(0) };
        let push = Push { target: Target::Connection(chosen), ..delivery.push };
        self.deliver_counted(Delivery { push, ..delivery })
    }

    /// [`deliver_to_one`](Self::deliver_to_one) for each audience of a kind that has members here, to all or none of them; how
    /// many it were.
    pub fn deliver_to_one_of_each(
        &self,
        kind: AudienceKind,
        payload: &Bytes,
        opcode: Opcode,
        taken_at: u64,
    ) -> Result<u64, Overflow> {
        let inner = &*self.inner;
        let audiences = inner.roster().count_audiences(kind);
        if audiences == 0 {
            inner.metrics.misses.inc();
            return Ok(0);
        }
        let Some(charge) = inner.budget.charge(payload.len() + audiences as usize * PARCEL_OVERHEAD) else {
            return Err(self.overflow());
        };
        let (charge, frame) = (Arc::new(charge), frame::message(opcode, payload));
        let roster = inner.roster();
        let mut sent = 0;
        for counter in roster.one_of_each(kind, random()) {
            let (exclude, exclude_audiences) = (Vec::new(), roster::Numbers::new());
            let (to, frame, _charge) = (To::Connection(counter), frame.clone(), charge.clone());
            let parcel = Parcel { to, exclude, exclude_audiences, frame, taken_at, _charge };
            inner.inbox(counter).push(Command::Deliver(Arc::new(parcel)));
            sent += 1;
        }
        drop(roster);
        inner.metrics.hits.inc_by(sent);
        inner.metrics.queued.set(inner.budget.used() as i64);
        Ok(sent)
    }

    /// Counts a push that is dropped, and says so when it is the first one.
    fn overflow(&self) -> Overflow {
        let inner = &*self.inner;
        if inner.metrics.dropped.get() == 0 {
            tracing::warn!(
                limit = inner.limits.hub_queue,
                "hub queue full: pushes are dropped here because they come faster than this node's sockets take them; \
                 raise HUB_QUEUE, or put the clients on more nodes"
            );
        }
        inner.metrics.dropped.inc();
        Overflow
    }

    fn hand_over(
        &self,
        delivery: Delivery,
        count: impl FnOnce(&Roster, &To, &[u32], &[roster::AudienceNumber]) -> u64,
    ) -> Result<u64, Overflow> {
        let inner = &*self.inner;
        let Delivery { push, taken_at } = delivery;
        // What nobody here wants costs no room and no encoding.
        if resolve(&inner.roster(), &push.target).is_none() {
            inner.metrics.misses.inc();
            return Ok(0);
        }
        let excluded = push.exclude.connections.len() + push.exclude.users.len();
        let charge = inner.budget.charge(push.payload.len() + excluded * size_of::<u32>());
        // Encoded without the lock: it may be a megabyte.
        let frame = if charge.is_some() { frame::message(push.opcode, &push.payload) } else { Bytes::new() };
        let roster = inner.roster();
        let Some(to) = resolve(&roster, &push.target) else {
            inner.metrics.misses.inc();
            return Ok(0);
        };
        inner.metrics.hits.inc();
        let Some(charge) = charge else { return Err(self.overflow()) };
        let (exclude, exclude_audiences) = left_out(&roster, &push.exclude);
        let counted = count(&roster, &to, &exclude, &exclude_audiences);
        let parcel = Arc::new(Parcel { to, exclude, exclude_audiences, frame, taken_at, _charge: Arc::new(charge) });
        // Still under the roster's lock: no membership changes between look-up and queue.
        match parcel.to {
            To::Connection(counter) => inner.inbox(counter).push(Command::Deliver(parcel)),
            To::All | To::Audience(_) | To::Audiences(_) => {
                inner.inboxes.iter().for_each(|inbox| inbox.push(Command::Deliver(parcel.clone())));
            }
        }
        drop(roster);
        inner.metrics.queued.set(inner.budget.used() as i64);
        Ok(counted)
    }

    /// Says that local members of these audiences (`None`: everybody) may have missed pushes.
    pub fn gap(&self, audiences: Option<&[Audience]>) {
        let inner = &*self.inner;
        let roster = inner.roster();
        let numbers = audiences.map(|all| all.iter().filter_map(|a| roster.number(a)).collect::<roster::Numbers>());
        inner.inboxes.iter().for_each(|inbox| inbox.push(Command::Gap(numbers.clone())));
    }

    /// Waits while the queue is more than half full, so that publishers on this node slow down before anything is dropped.
    pub async fn has_room(&self) {
        self.inner.budget.wait_for_room().await;
    }
}
