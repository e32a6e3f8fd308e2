//! Who is here and in what: the truth about this node's connections and memberships.
//!
//! Plain data under the hub's lock. Members sit in dense arrays, so that joining, leaving and listing cost nothing by
//! the size of an audience; the numbers of audiences given here are the ones the shards use.

use super::departure::{Departures, with_member};
use super::journal::{Change, Journal, Snapshot};
use crate::model::{Audience, AudienceKind, Name, Seq};
use smallvec::SmallVec;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// An audience's number on this node while it has members; used again for another one later.
pub(super) type AudienceNumber = u32;

/// Bytes that the names of a watched connection's channels may take in what the directory keeps of it. It is memory of Redis's,
/// written again with each channel that comes; with more of them they are not kept, and are `null` there.
const MAX_CHANNELS_KEPT: usize = 16 << 10;

/// Numbers of audiences; most connections are in one or two.
pub(super) type Numbers = SmallVec<[AudienceNumber; 4]>;

struct Membership {
    audience: AudienceNumber,
    /// Where the connection stands in the audience's `members`.
    position: u32,
}

struct Entry {
    details: Arc<str>,
    memberships: SmallVec<[Membership; 2]>,
}

struct Members {
    audience: Audience,
    counters: Vec<u32>,
}

/// Connections and memberships of this node.
pub(super) struct Roster {
    seq: Seq,
    next: u32,
    connections: HashMap<u32, Entry>,
    numbers: HashMap<Audience, AudienceNumber>,
    members: Vec<Option<Members>>,
    free: Vec<AudienceNumber>,
    memberships: usize,
    pub(super) journal: Option<Journal>,
    pub(super) departures: Departures,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self {
            seq: Seq::EMBEDDED,
            next: 1,
            connections: HashMap::new(),
            numbers: HashMap::new(),
            members: Vec::new(),
            free: Vec::new(),
            memberships: 0,
            journal: None,
            departures: Departures::default(),
        }
    }

    pub(super) fn seq(&self) -> Seq {
        self.seq
    }

    /// Ids from now on carry `seq`, their counters go on from `first`.
    pub(super) fn set_seq(&mut self, seq: Seq, first: u32) {
        self.seq = seq;
        self.next = first;
        // They were kept under the old number, where they are found; under the new one they would be others.
        self.departures.untold.clear();
    }

    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(super) fn audience_count(&self) -> usize {
        self.numbers.len()
    }

    pub(super) fn memberships(&self) -> usize {
        self.memberships
    }

    pub(super) fn contains(&self, counter: u32) -> bool {
        self.connections.contains_key(&counter)
    }

    pub(super) fn number(&self, audience: &Audience) -> Option<AudienceNumber> {
        self.numbers.get(audience).copied()
    }

    /// Takes a connection in and returns its counter.
    pub(super) fn open(&mut self, details: Arc<str>) -> u32 {
        while self.connections.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let counter = self.next;
        self.next = self.next.wrapping_add(1);
        self.connections.insert(counter, Entry { details: details.clone(), memberships: SmallVec::new() });
        self.note(Change::Opened { counter, details });
        counter
    }

    /// The audiences of a connection; none where it is unknown.
    fn audiences_of(&self, counter: u32) -> impl Iterator<Item = &Audience> {
        let memberships = self.connections.get(&counter).into_iter().flat_map(|entry| &entry.memberships);
        memberships.filter_map(|m| self.members[m.audience as usize].as_ref()).map(|members| &members.audience)
    }

    /// The audiences of a kind that a connection is in.
    pub(super) fn audiences_of_kind(&self, counter: u32, kind: AudienceKind) -> Vec<Audience> {
        self.audiences_of(counter).filter(|audience| audience.kind == kind).cloned().collect()
    }

    /// Those of `named` that a connection is in.
    pub(super) fn audiences_among(&self, counter: u32, named: &HashSet<&Audience>) -> Vec<Audience> {
        self.audiences_of(counter).filter(|audience| named.contains(audience)).cloned().collect()
    }

    /// Whether the connection is a member.
    pub(super) fn is_member(&self, counter: u32, audience: AudienceNumber) -> bool {
        let memberships = self.connections.get(&counter).map(|entry| &entry.memberships);
        memberships.is_some_and(|memberships| memberships.iter().any(|m| m.audience == audience))
    }

    /// In how many audiences of a kind the connection would be with these; `None` if it is unknown.
    pub(super) fn count_with(&self, counter: u32, audiences: &[Audience], kind: AudienceKind) -> Option<usize> {
        self.connections.get(&counter)?;
        let all: HashSet<&Audience> = self.audiences_of(counter).chain(audiences).collect();
        Some(all.into_iter().filter(|audience| audience.kind == kind).count())
    }

    /// What the directory keeps of a connection: what it came with, its user and its groups, and where its end is kept its
    /// channels; `None` if it is unknown.
    pub(super) fn details(&self, counter: u32) -> Option<Arc<str>> {
        let base = &self.connections.get(&counter)?.details;
        let (mut user, mut groups, mut channels) = (None, Vec::new(), Vec::new());
        let kept = self.departures.keeps(counter);
        for audience in self.audiences_of(counter) {
            match audience.kind {
                AudienceKind::User => user = Some(audience.name.as_str()),
                AudienceKind::Group => groups.push(audience.name.as_str()),
                AudienceKind::Channel if kept => channels.push(audience.name.as_str()),
                AudienceKind::Channel | AudienceKind::Device => {}
            }
        }
        let mut details = base.clone();
        let mut add = |name: &str, value: serde_json::Value| {
            details = with_member(&details, name, &value.to_string()).into();
        };
        if let Some(user) = user {
            add("user", user.into());
        }
        if !groups.is_empty() {
            add("groups", groups.into());
        }
        if !channels.is_empty() {
            channels.sort_unstable();
            let bytes: usize = channels.iter().map(|channel| channel.len()).sum();
            let too_many = bytes > MAX_CHANNELS_KEPT;
            add("channels", if too_many { serde_json::Value::Null } else { channels.into() });
        }
        Some(details)
    }

    /// Whether a change of membership in such an audience changes what the directory keeps of the connection.
    pub(super) fn is_described(&self, counter: u32, kind: AudienceKind) -> bool {
        match kind {
            AudienceKind::User | AudienceKind::Group => true,
            AudienceKind::Channel => self.departures.keeps(counter),
            AudienceKind::Device => false,
        }
    }

    /// Notes that a connection's user or groups have changed.
    pub(super) fn describe(&mut self, counter: u32) {
        if self.journal.is_some()
            && let Some(details) = self.details(counter)
        {
            self.note(Change::Described { counter, details });
        }
    }

    /// The audience's number if the connection is a new member; `None` if it is unknown or was one before.
    pub(super) fn join(&mut self, counter: u32, audience: &Audience) -> Option<AudienceNumber> {
        let entry = self.connections.get_mut(&counter)?;
        let known = self.numbers.get(audience).copied();
        if let Some(number) = known
            && entry.memberships.iter().any(|m| m.audience == number)
        {
            return None;
        }
        let number = known.unwrap_or_else(|| {
            let fresh = Some(Members { audience: audience.clone(), counters: Vec::new() });
            let number = match self.free.pop() {
                Some(number) => {
                    self.members[number as usize] = fresh;
                    number
                }
                None => {
                    self.members.push(fresh);
                    (self.members.len() - 1) as AudienceNumber
                }
            };
            self.numbers.insert(audience.clone(), number);
            number
        });
        let members = self.members[number as usize].as_mut()?;
        entry.memberships.push(Membership { audience: number, position: members.counters.len() as u32 });
        members.counters.push(counter);
        self.memberships += 1;
        let count = members.counters.len() as u64;
        self.note(Change::Joined { counter, audience: audience.clone(), members: count });
        Some(number)
    }

    /// The audience's number if the connection was a member.
    pub(super) fn leave(&mut self, counter: u32, audience: &Audience) -> Option<AudienceNumber> {
        let number = self.number(audience)?;
        let memberships = &mut self.connections.get_mut(&counter)?.memberships;
        let at = memberships.iter().position(|m| m.audience == number)?;
        let membership = memberships.swap_remove(at);
        self.strike(counter, membership);
        Some(number)
    }

    /// Takes a connection out of everything; false where it isn't here.
    pub(super) fn close(&mut self, counter: u32) -> bool {
        let Some(entry) = self.connections.remove(&counter) else { return false };
        for membership in entry.memberships {
            self.strike(counter, membership);
        }
        let untold = self.departures.untold.get(&counter).cloned();
        self.note(Change::Closed { counter, untold });
        true
    }

    /// Takes one member out of an audience's array; the last member moves to its place.
    fn strike(&mut self, counter: u32, membership: Membership) {
        let Membership { audience: number, position } = membership;
        let Some(members) = self.members[number as usize].as_mut() else { return };
        members.counters.swap_remove(position as usize);
        self.memberships -= 1;
        if let Some(moved) = members.counters.get(position as usize)
            && let Some(entry) = self.connections.get_mut(moved)
            && let Some(membership) = entry.memberships.iter_mut().find(|m| m.audience == number)
        {
            membership.position = position;
        }
        let (audience, count) = (members.audience.clone(), members.counters.len() as u64);
        if count == 0 {
            self.numbers.remove(&audience);
            self.members[number as usize] = None;
            self.free.push(number);
        }
        self.note(Change::Left { counter, audience, members: count });
    }

    pub(super) fn note(&mut self, change: Change) {
        if let Some(journal) = &mut self.journal {
            journal.push(change);
        }
    }

    pub(super) fn counters(&self) -> Vec<u32> {
        self.connections.keys().copied().collect()
    }

    /// One connection, any, chosen by a random number. Costs by the number of connections.
    pub(super) fn any(&self, random: usize) -> Option<u32> {
        self.connections.keys().nth(random % self.connections.len().max(1)).copied()
    }

    /// One member, any, of each audience of a kind, chosen by a random number.
    pub(super) fn one_of_each(&self, kind: AudienceKind, random: usize) -> impl Iterator<Item = u32> {
        let audiences = self.members.iter().flatten().filter(move |members| members.audience.kind == kind);
        audiences.enumerate().filter_map(move |(at, Members { counters, .. })| {
            counters.get(random.wrapping_add(at) % counters.len().max(1)).copied()
        })
    }

    /// The members of the audience with this number.
    pub(super) fn members_of(&self, number: AudienceNumber) -> &[u32] {
        self.members.get(number as usize).and_then(Option::as_ref).map_or(&[], |members| &members.counters)
    }

    pub(super) fn members(&self, audience: &Audience) -> &[u32] {
        self.number(audience).map_or(&[], |number| self.members_of(number))
    }

    pub(super) fn all_audiences(&self) -> Vec<Audience> {
        self.numbers.keys().cloned().collect()
    }

    pub(super) fn count_audiences(&self, kind: AudienceKind) -> u64 {
        self.members.iter().flatten().filter(|members| members.audience.kind == kind).count() as u64
    }

    pub(super) fn audiences(&self, kind: AudienceKind) -> Vec<(Name, u64)> {
        let mut names: Vec<_> = self
            .members
            .iter()
            .flatten()
            .filter(|members| members.audience.kind == kind)
            .map(|members| (members.audience.name.clone(), members.counters.len() as u64))
            .collect();
        names.sort_unstable();
        names
    }

    pub(super) fn snapshot(&mut self) -> Snapshot {
        Snapshot {
            connections: self
                .connections
                .keys()
                .filter_map(|counter| Some((*counter, self.details(*counter)?)))
                .collect(),
            untold: self.departures.untold.iter().map(|(counter, json)| (*counter, json.clone())).collect(),
            audiences: self.members.iter().flatten().map(|m| (m.audience.clone(), m.counters.clone())).collect(),
            waiters: self.journal.as_mut().map(Journal::restart).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::journal::Changes;
    use prometheus::IntGauge;
    use std::collections::{BTreeMap, BTreeSet};

    fn channel(name: &str) -> Audience {
        Audience::channel(Name::new(name).unwrap())
    }

    /// A small repeatable generator (xorshift), so that a failure can be run again by its seed.
    fn random(state: &mut u64) -> u64 {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        *state
    }

    #[test]
    fn random_changes_leave_the_same_as_a_plain_model_and_the_journal_tells_them_all() {
        let mut roster = Roster::new();
        roster.journal = Some(Journal::new(IntGauge::new("waiting", "w").unwrap()));
        let mut model: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        let mut state = 0x9e37_79b9_7f4a_7c15;
        for _ in 0..20_000 {
            let open: Vec<u32> = model.keys().copied().collect();
            let pick = |state: &mut u64| open.get(random(state) as usize % open.len().max(1)).copied();
            let name = format!("c{}", random(&mut state) % 7);
            match (random(&mut state) % 10, pick(&mut state)) {
                (0, _) | (_, None) => {
                    model.insert(roster.open("{}".into()), BTreeSet::new());
                }
                (1, Some(counter)) => {
                    assert!(roster.close(counter));
                    model.remove(&counter);
                }
                (2..6, Some(counter)) => {
                    let new = model.get_mut(&counter).unwrap().insert(name.clone());
                    assert_eq!(roster.join(counter, &channel(&name)).is_some(), new);
                }
                (_, Some(counter)) => {
                    let was = model.get_mut(&counter).unwrap().remove(&name);
                    assert_eq!(roster.leave(counter, &channel(&name)).is_some(), was);
                }
            }
        }
        let mut expected: BTreeMap<Name, u64> = BTreeMap::new();
        for name in model.values().flatten() {
            *expected.entry(Name::new(name).unwrap()).or_default() += 1;
        }
        assert_eq!(roster.audiences(AudienceKind::Channel), expected.into_iter().collect::<Vec<_>>());
        assert_eq!(roster.counters().into_iter().collect::<BTreeSet<_>>(), model.keys().copied().collect());

        // What the journal tells, replayed, is what the roster holds.
        let Changes::Some { changes, .. } = roster.journal.as_mut().unwrap().take(usize::MAX) else { panic!() };
        let mut replayed: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
        for change in changes {
            match change {
                Change::Opened { counter, .. } => drop(replayed.insert(counter, BTreeSet::new())),
                Change::Described { .. } => panic!("nobody has a user or a group"),
                Change::Told { .. } => panic!("nobody is watched"),
                Change::Closed { counter, .. } => assert_eq!(replayed.remove(&counter), Some(BTreeSet::new())),
                Change::Joined { counter, audience, .. } => {
                    assert!(replayed.get_mut(&counter).unwrap().insert(audience.name.to_string()));
                }
                Change::Left { counter, audience, members } => {
                    assert!(replayed.get_mut(&counter).unwrap().remove(audience.name.as_str()));
                    let left = replayed.values().filter(|names| names.contains(audience.name.as_str())).count();
                    assert_eq!(members, left as u64);
                }
            }
        }
        assert_eq!(replayed, model);
    }
}
