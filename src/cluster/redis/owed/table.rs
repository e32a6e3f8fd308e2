//! What this node holds of the channels that have members here, and what is left to do about it. Plain data: [`Call`]s go out,
//! their outcomes come in.
//!
//! A channel's holders in Redis are registrations; it is occupied from the first to the last of them. In each bucket one call
//! at a time is under way, and each has a number, by which one that comes late is refused. So whatever becomes of a call, doing
//! the same again in the next one is right.

use super::bucket::{BUCKETS, bucket_of};
use crate::cluster::redis::keys::Registration;
use crate::hub::{Change, Snapshot};
use crate::model::{Audience, AudienceKind, Name};
use std::collections::{HashMap, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

/// Operations in one call, so that no script keeps Redis busy for long.
pub(super) const MOST_OPERATIONS: usize = 100;

/// How long a channel that was let go stays in the registration's list. A replica that lagged and was promoted may not know
/// that it was let go; until then it is told again.
const LINGER: Duration = Duration::from_secs(10);

/// Channels that may linger; with more the oldest are struck off the list early.
const MOST_LINGERING: usize = 65_536;

/// Names that may wait in a bucket beyond twice those that it has.
const SLACK: usize = 1024;

/// The pause after a call that failed, and after one that found the bucket young.
const PAUSE: Duration = Duration::from_millis(250);

/// What is done about one channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    /// Hold it; who is the first occupies it.
    Hold,
    /// Hold it as before: the bucket has lost that, and nothing has become occupied by it.
    HoldAgain,
    /// Let it go; who is the last vacates it.
    LetGo,
}

/// One call to be made.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) bucket: usize,
    /// Whose it is.
    pub(super) registration: Registration,
    pub(super) number: u64,
    pub(super) acknowledged: u64,
    pub(super) born: String,
    pub(super) operations: Vec<(Operation, Name)>,
}

/// How a call went.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Went {
    /// All was done.
    Done,
    /// Only holding again was done.
    Young,
    /// The registration is dead; nothing was done.
    Dead,
    /// The bucket is not what the caller took it for; nothing was done.
    Lost,
    /// Nobody knows.
    Unknown,
}

/// Whether the registration is among a channel's holders.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Held {
    No,
    Yes,
    Unsure,
}

struct Entry {
    /// The channel has members here, and the registration's list has it.
    wanted: bool,
    held: Held,
    /// It was held by this node, under whatever registration, and not let go since.
    counted: bool,
    /// The bucket has lost it: it is held again before anything else.
    again: bool,
    queued: bool,
    /// When it was let go, while it waits to be struck off the list.
    let_go: Option<Instant>,
}

impl Entry {
    fn new() -> Self {
        Self { wanted: false, held: Held::No, counted: false, again: false, queued: false, let_go: None }
    }

    fn next(&self) -> Option<Operation> {
        match (self.wanted, self.held) {
            _ if self.again => Some(Operation::HoldAgain),
            (true, Held::No | Held::Unsure) => Some(Operation::Hold),
            (false, Held::Yes | Held::Unsure) => Some(Operation::LetGo),
            // Under an earlier registration, which is dropped by whoever reaps it; this call finds out whether it is known.
            (false, Held::No) if self.counted => Some(Operation::LetGo),
            (true, Held::Yes) | (false, Held::No) => None,
        }
    }
}

#[derive(Default)]
struct Bucket {
    entries: HashMap<Name, Entry>,
    /// Those to look at, each once.
    queue: VecDeque<Name>,
    number: u64,
    acknowledged: u64,
    born: String,
    under_way: bool,
    not_before: Option<Instant>,
}

impl Bucket {
    fn queue(&mut self, name: &Name) {
        if let Some(entry) = self.entries.get_mut(name)
            && entry.next().is_some()
            && !std::mem::replace(&mut entry.queued, true)
        {
            self.queue.push_back(name.clone());
            // Names that were struck off while they waited are still in it; they must not pile up.
            if self.queue.len() > 2 * self.entries.len() + SLACK {
                self.queue.clear();
                self.entries.values_mut().for_each(|entry| entry.queued = false);
                self.queue_all();
            }
        }
    }

    fn queue_all(&mut self) {
        let names: Vec<Name> = self.entries.keys().cloned().collect();
        names.iter().for_each(|name| self.queue(name));
    }

    /// Redis does not have what was told to it: all is told again. With another `born` it has nothing of it.
    fn lost(&mut self, born: &str) {
        let emptied = !self.born.is_empty() && self.born != born;
        self.acknowledged = 0;
        born.clone_into(&mut self.born);
        for entry in self.entries.values_mut() {
            if !emptied {
                (entry.held, entry.let_go) = (Held::Unsure, None);
            } else {
                entry.held = Held::No;
                if entry.counted {
                    (entry.again, entry.let_go) = (true, None);
                }
            }
        }
        self.queue_all();
    }
}

/// The table.
pub(super) struct Table {
    buckets: Vec<Bucket>,
    /// The registration that calls are made for, while it stands.
    standing: Option<Registration>,
    /// Everything that was there when it began is held.
    whole: bool,
    lingering: VecDeque<(Instant, Name)>,
}

impl Table {
    pub(super) fn new() -> Self {
        let buckets = (0..BUCKETS).map(|_| Bucket::default()).collect();
        Self { buckets, standing: None, whole: false, lingering: VecDeque::new() }
    }

    // ---- the registration ----

    /// A new registration is being written from `snapshot`: which channels its list must have before it may stand. No call
    /// is made until then.
    pub(super) fn begin(&mut self, snapshot: &Snapshot) -> Vec<Name> {
        (self.standing, self.whole) = (None, false);
        self.lingering.clear();
        for bucket in &mut self.buckets {
            (bucket.number, bucket.acknowledged, bucket.under_way, bucket.not_before) = (0, 0, false, None);
            bucket.queue.clear();
            bucket.entries.retain(|_, entry| entry.counted);
            for entry in bucket.entries.values_mut() {
                *entry = Entry { counted: true, again: entry.again, ..Entry::new() };
            }
        }
        for (audience, _) in snapshot.audiences.iter().filter(|(audience, _)| audience.kind == AudienceKind::Channel) {
            let entries = &mut self.buckets[bucket_of(&audience.name)].entries;
            entries.entry(audience.name.clone()).or_insert_with(Entry::new).wanted = true;
        }
        self.buckets.iter_mut().for_each(Bucket::queue_all);
        self.buckets.iter().flat_map(|bucket| bucket.entries.keys().cloned()).collect()
    }

    /// The registration stands.
    pub(super) fn stands(&mut self, registration: Registration) {
        self.standing = Some(registration);
        self.see_whether_whole();
    }

    /// How far the registration's channels are held, for whoever reaps an earlier one: empty before it stands, then `part`, and
    /// `whole` from when everything was held that there was at its beginning.
    pub(super) const fn extent(&self) -> &'static str {
        match (&self.standing, self.whole) {
            (None, _) => "",
            (Some(_), false) => "part",
            (Some(_), true) => "whole",
        }
    }

    fn see_whether_whole(&mut self) {
        let idle = |bucket: &Bucket| !bucket.under_way && bucket.queue.is_empty();
        self.whole |= self.standing.is_some() && self.buckets.iter().all(idle);
    }

    /// The channels that got their first local member: the registration's list must have them before these changes are
    /// [followed](Self::follow).
    pub(super) fn to_list(changes: &[Change]) -> Vec<Name> {
        let mut names: Vec<Name> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Joined { audience: Audience { kind: AudienceKind::Channel, name }, members: 1, .. } => {
                    Some(name.clone())
                }
                _ => None,
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// These changes are written.
    pub(super) fn follow(&mut self, changes: &[Change]) {
        for change in changes {
            let (audience, wanted) = match change {
                Change::Joined { audience, members: 1, .. } => (audience, true),
                Change::Left { audience, members: 0, .. } => (audience, false),
                _ => continue,
            };
            if audience.kind != AudienceKind::Channel {
                continue;
            }
            let bucket = &mut self.buckets[bucket_of(&audience.name)];
            let entry = bucket.entries.entry(audience.name.clone()).or_insert_with(Entry::new);
            entry.wanted = wanted;
            if wanted {
                entry.let_go = None;
            } else if entry.next().is_none() && entry.let_go.is_none() {
                // It came and went before it was held; the list has it all the same.
                let now = Instant::now();
                entry.let_go = Some(now);
                self.lingering.push_back((now, audience.name.clone()));
            }
            bucket.queue(&audience.name);
        }
    }

    /// Channels that were let go long enough ago to be struck off the registration's list, before anything else is written to
    /// it; at most so many.
    pub(super) fn strike(&mut self, at_most: usize, now: Instant) -> Vec<Name> {
        let mut names = Vec::new();
        let mut looks = self.lingering.len();
        while names.len() < at_most
            && looks > 0
            && let Some((when, name)) = self.lingering.pop_front()
        {
            looks -= 1;
            if now.saturating_duration_since(when) < LINGER && self.lingering.len() < MOST_LINGERING {
                self.lingering.push_front((when, name));
                break;
            }
            let bucket = &mut self.buckets[bucket_of(&name)];
            // Another time: it was wanted again since.
            let Some(entry) = bucket.entries.get_mut(&name).filter(|entry| entry.let_go == Some(when)) else {
                continue;
            };
            if bucket.under_way || entry.next().is_some() {
                entry.let_go = Some(now);
                self.lingering.push_back((now, name));
            } else {
                bucket.entries.remove(&name);
                names.push(name);
            }
        }
        names
    }

    // ---- calls ----

    /// The registration that calls are made for.
    pub(super) fn registration(&self) -> Option<Registration> {
        self.standing.clone()
    }

    /// When the next call can be made, if there is one to make: now, or later.
    pub(super) fn due(&self) -> Option<Instant> {
        let waits = |bucket: &&Bucket| !bucket.under_way && !bucket.queue.is_empty();
        let now = Instant::now();
        let due = self.buckets.iter().filter(waits).map(|bucket| bucket.not_before.unwrap_or(now));
        if self.standing.is_some() { due.min() } else { None }
    }

    /// The next call of a bucket, if there is something to do and none is under way. What comes of it must be
    /// [told](Self::went).
    pub(super) fn call(&mut self, bucket: usize, now: Instant) -> Option<Call> {
        let registration = self.standing.clone()?;
        let state = &mut self.buckets[bucket];
        if state.under_way || state.not_before.is_some_and(|then| then > now) {
            return None;
        }
        let mut operations = Vec::new();
        while operations.len() < MOST_OPERATIONS
            && let Some(name) = state.queue.pop_front()
        {
            let Some(entry) = state.entries.get_mut(&name) else { continue };
            entry.queued = false;
            if let Some(operation) = entry.next() {
                entry.held = Held::Unsure;
                operations.push((operation, name));
            }
        }
        if operations.is_empty() {
            self.see_whether_whole();
            return None;
        }
        state.under_way = true;
        state.not_before = None;
        state.number += 1;
        let (number, acknowledged, born) = (state.number, state.acknowledged, state.born.clone());
        Some(Call { bucket, registration, number, acknowledged, born, operations })
    }

    /// What came of a call, and the bucket's birth as it was told.
    pub(super) fn went(&mut self, call: &Call, went: Went, born: &str, now: Instant) {
        if self.standing.as_ref() != Some(&call.registration) {
            return;
        }
        let bucket = &mut self.buckets[call.bucket];
        bucket.under_way = false;
        if matches!(went, Went::Done | Went::Young) {
            bucket.acknowledged = call.number;
            born.clone_into(&mut bucket.born);
        }
        for (operation, name) in &call.operations {
            let Some(entry) = bucket.entries.get_mut(name) else { continue };
            match (went, operation) {
                (Went::Done, Operation::Hold) | (Went::Done | Went::Young, Operation::HoldAgain) => {
                    (entry.held, entry.counted, entry.again) = (Held::Yes, true, false);
                }
                (Went::Done, Operation::LetGo) => {
                    (entry.held, entry.counted) = (Held::No, false);
                    if !entry.wanted {
                        entry.let_go = Some(now);
                        self.lingering.push_back((now, name.clone()));
                    }
                }
                // Held or not as before, which is not known here; doing it (again) does no harm.
                (Went::Young | Went::Unknown | Went::Lost | Went::Dead, _) => {}
            }
            bucket.queue(name);
        }
        match went {
            Went::Done => {}
            Went::Young | Went::Unknown => bucket.not_before = Some(now + PAUSE),
            Went::Lost => bucket.lost(born),
            Went::Dead => self.standing = None,
        }
        self.see_whether_whole();
    }

    /// The bucket was seen with this birth, and this number of the registration's last call. True where that is not what was
    /// told to it.
    pub(super) fn seen(&mut self, bucket: usize, registration: &Registration, born: &str, number: u64) -> bool {
        let state = &mut self.buckets[bucket];
        let known = !state.born.is_empty();
        if self.standing.as_ref() != Some(registration)
            || state.under_way
            || !known
            || (state.born == born && number >= state.acknowledged)
        {
            return false;
        }
        // Its birth is left to the next call: nobody may have been here since it was emptied.
        state.entries.values_mut().for_each(|entry| entry.held = Held::Unsure);
        state.queue_all();
        true
    }
}
