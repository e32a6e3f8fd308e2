//! Every key, pub/sub name and hash tag that this program uses in Redis.
//!
//! What one script touches carries one hash tag, so that it lies in one slot of a Cluster: `{nodes}` for what all nodes
//! share, `{n7}` for everything of the node with number 7, its inbox included, `{b7}` for a bucket of channels.

use crate::model::{Audience, AudienceKind, Seq};
use std::fmt;
use std::sync::Arc;

/// The slot of a key or pub/sub name (Redis Cluster specification, "Hash tags"); the same on a single server, unused.
pub(super) fn slot(name: &str) -> u16 {
    fred::util::redis_keyslot(name.as_bytes())
}

/// One registration: everything that Redis knows of a node since the node last wrote itself anew.
///
/// Its text, `7:K`, is the field in `leases` and the member of `reaping`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(super) struct Registration {
    /// The node's number.
    pub(super) seq: Seq,
    /// K: 16 random hex digits, new each time.
    key: Arc<str>,
}

impl Registration {
    /// A new one for the node with this number.
    pub(super) fn new(seq: Seq) -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 8];
        getrandom::fill(&mut bytes)?;
        Ok(Self { seq, key: format!("{:016x}", u64::from_be_bytes(bytes)).into() })
    }

    /// Reads `7:K`; `None` where it is something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (seq, key) = text.split_once(':')?;
        let seq = seq.parse().ok().and_then(Seq::new)?;
        (!key.is_empty()).then(|| Self { seq, key: key.into() })
    }
}

impl fmt::Display for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.seq, self.key)
    }
}

/// The names under one prefix (`REDIS_PREFIX`), which pub/sub names carry too: database numbers don't separate those.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: Arc<str>,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.into() }
    }

    // ---- what all nodes share ----

    /// Hash: registration → renewal counter. What is in here is live.
    pub(super) fn leases(&self) -> String {
        format!("{}{{nodes}}:leases", self.prefix)
    }

    /// Sorted set: registrations that are dead or not yet live → when somebody else may take the reaping over.
    pub(super) fn reaping(&self) -> String {
        format!("{}{{nodes}}:reaping", self.prefix)
    }

    /// Hash: a node's number → the life that holds it, or that held it and when it ended.
    pub(super) fn seqs(&self) -> String {
        format!("{}{{nodes}}:seqs", self.prefix)
    }

    // ---- a registration ----

    fn of(&self, registration: &Registration, what: &str) -> String {
        format!("{}{{n{}}}:{}:{what}", self.prefix, registration.seq, registration.key)
    }

    /// Hash: facts about the node, its subscribers' client ids, and `batch`, the number of the last batch written.
    pub(super) fn node(&self, registration: &Registration) -> String {
        self.of(registration, "node")
    }

    /// Hash: connection's counter → its details.
    pub(super) fn connections(&self, registration: &Registration) -> String {
        self.of(registration, "connections")
    }

    /// Hash: counter of a connection that has ended, whose end has to be told and is not yet → its details.
    pub(super) fn untold(&self, registration: &Registration) -> String {
        self.of(registration, "untold")
    }

    /// Hash: name of an audience of this kind → number of local members.
    pub(super) fn index(&self, registration: &Registration, kind: AudienceKind) -> String {
        let plural = match kind {
            AudienceKind::Channel => "channels",
            AudienceKind::User => "users",
            AudienceKind::Group => "groups",
            AudienceKind::Device => "devices",
        };
        self.of(registration, plural)
    }

    /// Set: counters of the audience's local members.
    pub(super) fn members(&self, registration: &Registration, kind: AudienceKind, name: &str) -> String {
        self.of(registration, &format!("{kind}:{name}"))
    }

    /// Set: the channels that the registration holds or may hold in their buckets.
    pub(super) fn holding(&self, registration: &Registration) -> String {
        self.of(registration, "holding")
    }

    // ---- a bucket of channels ----

    fn of_bucket(&self, bucket: usize, what: &str) -> String {
        format!("{}{{b{bucket}}}:{what}", self.prefix)
    }

    /// Hash: when Redis came to the bucket (`born`), and the last change's `version`.
    pub(super) fn state(&self, bucket: usize) -> String {
        self.of_bucket(bucket, "state")
    }

    /// Hash: registration → the number of its last call.
    pub(super) fn calls(&self, bucket: usize) -> String {
        self.of_bucket(bucket, "calls")
    }

    /// Sorted set, expiring: registrations that may hold nothing any more → when that was entered.
    pub(super) fn dead(&self, bucket: usize) -> String {
        self.of_bucket(bucket, "dead")
    }

    /// Stream: what is to be delivered.
    pub(super) fn out(&self, bucket: usize) -> String {
        self.of_bucket(bucket, "out")
    }

    /// Set: the registrations that hold the channel.
    fn holders(&self, bucket: usize, channel: &str) -> String {
        self.of_bucket(bucket, &format!("h:{channel}"))
    }

    /// What the script touches that holds these channels of a bucket or lets them go.
    pub(super) fn of_channels<'a>(&self, bucket: usize, channels: impl Iterator<Item = &'a str>) -> Vec<String> {
        let mut keys = vec![self.state(bucket), self.calls(bucket), self.dead(bucket), self.out(bucket)];
        keys.extend(channels.map(|channel| self.holders(bucket, channel)));
        keys
    }

    // ---- pub/sub ----

    /// What a node with members of the audience is subscribed to.
    pub(super) fn audience_topic(&self, audience: &Audience) -> String {
        format!("{}{audience}", self.prefix)
    }

    /// What every node is subscribed to.
    pub(super) fn all_topic(&self) -> String {
        format!("{}all", self.prefix)
    }

    /// A node's inbox, in the slot of its registrations.
    pub(super) fn inbox_topic(&self, seq: Seq) -> String {
        format!("{}node:{{n{seq}}}", self.prefix)
    }

    /// The topics that a node publishes to for its own ears, one by one until there is one in the slots wanted.
    pub(super) fn probe_topic(&self, seq: Seq, attempt: u32) -> String {
        format!("{}probe:{{{seq}.{attempt}}}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;

    #[test]
    fn every_name_carries_the_prefix_and_its_hash_tag() {
        let keys = Keys::new("carillon:");
        let registration = Registration::parse("7:00ff").unwrap();
        let channel = Audience::channel(Name::new("a {b} c").unwrap());
        let seq = Seq::new(7).unwrap();
        let names = [
            (keys.leases(), "carillon:{nodes}:leases"),
            (keys.reaping(), "carillon:{nodes}:reaping"),
            (keys.seqs(), "carillon:{nodes}:seqs"),
            (keys.node(&registration), "carillon:{n7}:00ff:node"),
            (keys.connections(&registration), "carillon:{n7}:00ff:connections"),
            (keys.index(&registration, AudienceKind::Channel), "carillon:{n7}:00ff:channels"),
            (keys.index(&registration, AudienceKind::User), "carillon:{n7}:00ff:users"),
            (keys.index(&registration, AudienceKind::Group), "carillon:{n7}:00ff:groups"),
            (keys.index(&registration, AudienceKind::Device), "carillon:{n7}:00ff:devices"),
            (keys.members(&registration, AudienceKind::User, "ann"), "carillon:{n7}:00ff:user:ann"),
            (keys.holding(&registration), "carillon:{n7}:00ff:holding"),
            (keys.state(9), "carillon:{b9}:state"),
            (keys.calls(9), "carillon:{b9}:calls"),
            (keys.dead(9), "carillon:{b9}:dead"),
            (keys.out(9), "carillon:{b9}:out"),
            (keys.holders(9, "a {b} c"), "carillon:{b9}:h:a {b} c"),
            (keys.audience_topic(&channel), "carillon:channel:a {b} c"),
            (keys.all_topic(), "carillon:all"),
            (keys.inbox_topic(seq), "carillon:node:{n7}"),
            (keys.probe_topic(seq, 3), "carillon:probe:{7.3}"),
        ];
        for (name, expected) in names {
            assert_eq!(name, expected);
        }
    }

    #[test]
    fn one_script_s_keys_share_a_slot() {
        let keys = Keys::new("p:");
        let registration = Registration::new(Seq::new(2_000_000).unwrap()).unwrap();
        let inbox = slot(&keys.inbox_topic(registration.seq));
        assert_eq!(slot(&keys.connections(&registration)), inbox);
        assert_eq!(slot(&keys.members(&registration, AudienceKind::Channel, "{other}")), inbox);
        let of_channels = keys.of_channels(63, ["a", "{other}"].into_iter());
        assert!(of_channels.iter().all(|key| slot(key) == slot(&keys.state(63))), "{of_channels:?}");
        assert_eq!(slot(&keys.holding(&registration)), inbox);
        assert_eq!(slot(&keys.leases()), slot(&keys.reaping()));
        assert_eq!(slot(&keys.leases()), slot(&keys.seqs()));
        assert_eq!(slot("123456789"), 0x31c3, "the specification's own example");
    }

    #[test]
    fn a_registration_is_read_back_and_nothing_else_is() {
        let new = Registration::new(Seq::new(9).unwrap()).unwrap();
        assert_eq!(Registration::parse(&new.to_string()), Some(new));
        for text in ["", "7", "7:", ":k", "x:k", "-1:k", "2097152:k"] {
            assert_eq!(Registration::parse(text), None, "{text:?}");
        }
    }
}
