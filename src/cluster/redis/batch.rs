//! From changes and snapshots of the hub to the scripts that write them.

use super::keys::{Keys, Registration};
use super::scripts;
use super::wire::Command;
use crate::hub::{Change, Snapshot};
use crate::model::{Audience, AudienceKind, Name};
use fred::types::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Members and fields in one batch, so that no script keeps Redis busy for long.
pub(super) const BATCH: usize = 300;

/// Bytes of details in one batch, for the same reason.
const BATCH_BYTES: usize = 256 << 10;

/// One command of a batch.
#[derive(Clone, Debug, PartialEq)]
struct Write {
    command: &'static str,
    key: String,
    args: Vec<Value>,
}

/// Writes that go together, in order.
#[derive(Default, Debug)]
pub(super) struct Batch {
    writes: Vec<Write>,
    size: usize,
    bytes: usize,
}

impl Batch {
    /// The script that writes it as number `number` of the registration.
    pub(super) fn command(&self, keys: &Keys, registration: &Registration, number: u64) -> Command {
        let mut names = vec![keys.node(registration)];
        let mut positions: HashMap<&str, usize> = HashMap::new();
        for write in &self.writes {
            positions.entry(&write.key).or_insert_with(|| {
                names.push(write.key.clone());
                names.len()
            });
        }
        let mut command =
            Command::script(&scripts::BATCH, &names).arg(number.to_string()).arg((number - 1).to_string());
        for write in &self.writes {
            command.push(write.command);
            command.push(positions.get(write.key.as_str()).map_or(1, |position| *position as i64));
            command.push(write.args.len() as i64);
            write.args.iter().for_each(|arg| command.push(arg.clone()));
        }
        command
    }

    #[cfg(test)]
    fn texts(&self) -> Vec<String> {
        let text = |write: &Write| {
            let args: Vec<String> = write.args.iter().filter_map(Value::as_string).collect();
            format!("{} {} {}", write.command, write.key, args.join(" "))
        };
        self.writes.iter().map(text).collect()
    }
}

/// Packs writes into batches.
struct Packer<'a> {
    keys: &'a Keys,
    registration: &'a Registration,
    full: Vec<Batch>,
    open: Batch,
}

impl<'a> Packer<'a> {
    fn new(keys: &'a Keys, registration: &'a Registration) -> Self {
        Self { keys, registration, full: Vec::new(), open: Batch::default() }
    }

    fn write(&mut self, command: &'static str, key: String, args: Vec<Value>, bytes: usize) {
        self.open.size += args.len();
        self.open.bytes += bytes;
        match self.open.writes.last_mut() {
            Some(last) if last.command == command && last.key == key => last.args.extend(args),
            _ => self.open.writes.push(Write { command, key, args }),
        }
    }

    /// Ends a batch that is big enough. Between an audience's members and their number it is not called: the two
    /// change in one script.
    fn pack(&mut self) {
        if self.open.size >= BATCH || self.open.bytes >= BATCH_BYTES {
            self.full.push(std::mem::take(&mut self.open));
        }
    }

    fn connection(&mut self, counter: u32, details: Option<&str>) {
        self.entry(self.keys.connections(self.registration), counter, details);
    }

    /// A connection that has ended, whose end is not told yet, or is now.
    fn untold(&mut self, counter: u32, details: Option<&str>) {
        self.entry(self.keys.untold(self.registration), counter, details);
    }

    fn entry(&mut self, key: String, counter: u32, details: Option<&str>) {
        let field = Value::from(counter.to_string());
        match details {
            Some(details) => self.write("HSET", key, vec![field, details.into()], details.len()),
            None => self.write("HDEL", key, vec![field], 0),
        }
        self.pack();
    }

    fn members(&mut self, audience: &Audience, add: &[u32], remove: &[u32], members: u64) {
        let (kind, name) = (audience.kind, audience.name.as_str());
        let texts = |counters: &[u32]| counters.iter().map(|counter| Value::from(counter.to_string())).collect();
        for (command, counters) in [("SADD", add), ("SREM", remove)] {
            for chunk in counters.chunks(BATCH) {
                self.pack();
                self.write(command, self.keys.members(self.registration, kind, name), texts(chunk), 0);
                self.count(kind, name, members);
            }
        }
        self.pack();
    }

    /// Channels put on the list of those that the registration may hold, or struck off it.
    fn list(&mut self, command: &'static str, names: &[Name]) {
        for chunk in names.chunks(BATCH) {
            let bytes = chunk.iter().map(|name| name.as_str().len()).sum();
            let args = chunk.iter().map(|name| Value::from(name.as_str())).collect();
            self.write(command, self.keys.holding(self.registration), args, bytes);
            self.pack();
        }
    }

    fn count(&mut self, kind: AudienceKind, name: &str, members: u64) {
        let key = self.keys.index(self.registration, kind);
        match members {
            0 => self.write("HDEL", key, vec![name.into()], name.len()),
            _ => self.write("HSET", key, vec![name.into(), members.to_string().into()], name.len()),
        }
    }

    fn finish(mut self) -> Vec<Batch> {
        if !self.open.writes.is_empty() {
            self.full.push(self.open);
        }
        self.full
    }
}

/// What one audience's changes come to.
#[derive(Default)]
struct Net {
    present: BTreeMap<u32, bool>,
    members: u64,
}

/// What changes on the list of channels that the registration may hold: first some are struck off, then some put on.
#[derive(Default, Debug)]
pub(super) struct Listing {
    pub(super) off: Vec<Name>,
    pub(super) on: Vec<Name>,
}

/// Changes as batches: of several that undo each other only the last is written.
pub(super) fn of_changes(
    changes: &[Change],
    listing: &Listing,
    keys: &Keys,
    registration: &Registration,
) -> Vec<Batch> {
    let mut connections: BTreeMap<u32, Option<Arc<str>>> = BTreeMap::new();
    let mut untold: BTreeMap<u32, Option<Arc<str>>> = BTreeMap::new();
    let mut audiences: BTreeMap<&Audience, Net> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Opened { counter, details } | Change::Described { counter, details } => {
                connections.insert(*counter, Some(details.clone()));
            }
            Change::Closed { counter, untold: of_it } => {
                connections.insert(*counter, None);
                untold.extend(of_it.iter().map(|details| (*counter, Some(details.clone()))));
            }
            Change::Told { counter } => {
                // What was not written yet need not be.
                if untold.remove(counter).is_none() {
                    untold.insert(*counter, None);
                }
            }
            Change::Joined { counter, audience, members } | Change::Left { counter, audience, members } => {
                let net = audiences.entry(audience).or_default();
                net.present.insert(*counter, matches!(change, Change::Joined { .. }));
                net.members = *members;
            }
        }
    }
    let mut packer = Packer::new(keys, registration);
    packer.list("SREM", &listing.off);
    packer.list("SADD", &listing.on);
    // Before they are no connections any more, so that wherever the writing ends one of the two is there.
    for (counter, details) in &untold {
        packer.untold(*counter, details.as_deref());
    }
    for (counter, details) in &connections {
        packer.connection(*counter, details.as_deref());
    }
    for (audience, net) in audiences {
        let counters = |wanted: bool| -> Vec<u32> {
            net.present.iter().filter(|(_, present)| **present == wanted).map(|(counter, _)| *counter).collect()
        };
        packer.members(audience, &counters(true), &counters(false), net.members);
    }
    packer.finish()
}

/// A snapshot as batches, into an empty namespace.
pub(super) fn of_snapshot(
    snapshot: &Snapshot,
    listed: &[Name],
    keys: &Keys,
    registration: &Registration,
) -> Vec<Batch> {
    let mut packer = Packer::new(keys, registration);
    packer.list("SADD", listed);
    for (counter, details) in &snapshot.untold {
        packer.untold(*counter, Some(details));
    }
    for (counter, details) in &snapshot.connections {
        packer.connection(*counter, Some(details));
    }
    for (audience, counters) in &snapshot.audiences {
        packer.members(audience, counters, &[], counters.len() as u64);
    }
    packer.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Seq;

    fn channel(name: &str) -> Audience {
        Audience::channel(Name::new(name).unwrap())
    }

    fn fixture() -> (Keys, Registration) {
        (Keys::new(""), Registration::new(Seq::new(1).unwrap()).unwrap())
    }

    #[test]
    fn what_came_and_went_within_a_batch_leaves_the_last_state() {
        let (keys, registration) = fixture();
        let changes = [
            Change::Opened { counter: 1, details: "{}".into() },
            Change::Joined { counter: 1, audience: channel("a"), members: 1 },
            Change::Joined { counter: 1, audience: channel("b"), members: 5 },
            Change::Left { counter: 1, audience: channel("a"), members: 0 },
            Change::Opened { counter: 2, details: "{\"user\":1}".into() },
            Change::Closed { counter: 1, untold: None },
        ];
        let batches = of_changes(&changes, &Listing::default(), &keys, &registration);
        let expected = [
            format!("HDEL {} 1", keys.connections(&registration)),
            format!("HSET {} 2 {{\"user\":1}}", keys.connections(&registration)),
            format!("SREM {} 1", keys.members(&registration, AudienceKind::Channel, "a")),
            format!("HDEL {} a", keys.index(&registration, AudienceKind::Channel)),
            format!("SADD {} 1", keys.members(&registration, AudienceKind::Channel, "b")),
            format!("HSET {} b 5", keys.index(&registration, AudienceKind::Channel)),
        ];
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].texts(), expected);
    }

    #[test]
    fn a_snapshot_is_split_into_batches_that_redis_does_not_feel() {
        let (keys, registration) = fixture();
        let counters: Vec<u32> = (0..2300).collect();
        let connections = counters.iter().map(|counter| (*counter, Arc::from("{}"))).collect();
        let audiences = vec![(channel("big"), counters), (channel("small"), vec![1])];
        let snapshot = Snapshot { connections, audiences, ..Snapshot::default() };
        let batches = of_snapshot(&snapshot, &[], &keys, &registration);
        assert!(batches.iter().all(|batch| batch.size <= 2 * BATCH + 4), "{:?}", batches.iter().map(|b| b.size));
        let set = keys.members(&registration, AudienceKind::Channel, "big");
        let written = |batch: &Batch| {
            let adds = batch.writes.iter().filter(|write| write.command == "SADD" && write.key == set);
            adds.map(|write| write.args.len()).sum::<usize>()
        };
        assert_eq!(batches.iter().map(written).sum::<usize>(), 2300);
        let index = keys.index(&registration, AudienceKind::Channel);
        for batch in batches.iter().filter(|batch| written(batch) > 0) {
            assert!(batch.texts().iter().any(|text| text.starts_with(&format!("HSET {index} big 2300"))));
        }
    }

    #[test]
    fn nothing_is_no_batch() {
        let (keys, registration) = fixture();
        assert!(of_changes(&[], &Listing::default(), &keys, &registration).is_empty());
        assert!(of_snapshot(&Snapshot::default(), &[], &keys, &registration).is_empty());
    }
}
