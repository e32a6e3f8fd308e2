//! Who is listed, node by node; for tests in which a node dies and no answer may show half of it.

use super::api::Api;
use super::{DEADLINE, eventually};
use std::collections::{BTreeMap, BTreeSet};

/// Connections by the number of their node, which is in their ids.
#[derive(Clone, Debug, Default)]
pub struct Census(BTreeMap<u64, BTreeSet<u64>>);

impl Census {
    /// Everybody whom a node lists.
    pub async fn of(api: Api) -> Self {
        Self::group(&api.connections().await.unwrap())
    }

    fn group(ids: &BTreeSet<u64>) -> Self {
        let mut nodes = BTreeMap::<u64, BTreeSet<u64>>::new();
        for id in ids {
            nodes.entry(id >> 32).or_default().insert(*id);
        }
        Self(nodes)
    }

    /// Number of connections.
    pub fn size(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// The number of the only node whose connections these are.
    pub fn only_node(&self) -> u64 {
        assert_eq!(self.0.len(), 1, "connections of several nodes");
        *self.0.keys().next().unwrap()
    }

    /// These without a node's.
    pub fn without(&self, node: u64) -> Self {
        let mut rest = self.clone();
        rest.0.remove(&node);
        rest
    }

    /// Whether a list has the node's connections: all of them or none, and all of everybody else's, or the test fails.
    fn has(&self, node: u64, listed: &BTreeSet<u64>) -> bool {
        let listed = Self::group(listed);
        assert_eq!(listed.0.keys().filter(|key| !self.0.contains_key(key)).count(), 0, "somebody new is listed");
        for (of, connections) in &self.0 {
            let found = listed.0.get(of).map_or(0, |found| found.intersection(connections).count());
            let whole = found == connections.len() && listed.0[of].len() == found;
            let absent = found == 0 && *of == node;
            assert!(whole || absent, "an answer shows {found} of {} connections of node {of}", connections.len());
        }
        listed.0.contains_key(&node)
    }

    /// Asks a node for listings and counts over and over until no answer has anybody of the given node. Each answer
    /// shows all of it or nothing, and once it is gone from an answer it is in none that is asked for later. It has
    /// members in all `channels`, and everybody is a member of the first.
    pub async fn loses(&self, node: u64, api: Api, channels: &[&str]) {
        let mut gone = false;
        eventually("a node that is dead is in no answer", DEADLINE, async || {
            let count = api.count().await.unwrap();
            let whole = self.size() as u64;
            let rest = self.without(node).size() as u64;
            assert!(
                count == whole || count == rest,
                "counted are {count} of {whole} connections, {rest} without the dead"
            );
            let counted = count == whole;
            let listed = self.has(node, &api.connections().await.unwrap());
            let a_member = self.has(node, &api.members(channels[0]).await.unwrap());
            let all = api.channels().await.unwrap();
            let shown =
                |channel: &&str| all.get(*channel).is_some_and(|members| members.iter().any(|id| id >> 32 == node));
            let shown: Vec<bool> = channels.iter().map(shown).collect();
            let in_a_channel = self.has(node, &all[channels[0]]);
            let shown_in = shown.iter().filter(|shown| **shown).count();
            assert!(
                shown_in == if in_a_channel { channels.len() } else { 0 },
                "one answer shows it in {shown_in} of {} channels",
                channels.len()
            );
            let answers = [counted, listed, a_member, in_a_channel];
            assert!(answers.is_sorted_by(|earlier, later| *earlier || !later), "it comes back: {answers:?}");
            assert!(!gone || answers == [false; 4], "it comes back: {answers:?}");
            gone = answers == [false; 4];
            if gone { Ok(()) } else { Err("it is listed or counted") }
        })
        .await;
    }

    /// Waits until a node lists everybody again and nobody else.
    pub async fn is_listed(&self, api: Api) {
        eventually("everybody is listed, and nobody else", DEADLINE, async || {
            let found = Self::group(&api.connections().await.map_err(|error| error.to_string())?);
            let sizes = |census: &Self| census.0.values().map(BTreeSet::len).collect::<Vec<_>>();
            if found.0 == self.0 { Ok(()) } else { Err(format!("{:?} instead of {:?}", sizes(&found), sizes(self))) }
        })
        .await;
    }
}
