//! Asking other nodes to act.
//!
//! One act that somebody else has to carry out goes to the owner's inbox, or by the name of the audience that it is about,
//! behind the pushes that were made to it. Several go to the inboxes of all nodes that they concern, each with its share
//! of them as one list, and come back as one list: what a batch costs does not grow with its length.

use super::core::Core;
use super::envelope::{Envelope, Request};
use super::keys::Registration;
use super::leases::LeaseTable;
use super::publishing::{ToConnection, unavailable};
use super::reading::lost;
use super::wire::Command;
use crate::cluster::acts::Subject;
use crate::cluster::{Act, Life, Outcome, impatience};
use crate::model::{Audience, ConnectionId, Error, NodeId, Result, Seq, Target};
use bytes::Bytes;
use futures_util::future::join_all;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Acts in one list.
const LIST: usize = 256;

/// Bytes of payloads and names in one list; a single act with more still goes.
const LIST_BYTES: usize = 1 << 20;

/// How often a look is taken that finds Redis emptied in its midst.
const LOOKS: usize = 3;

/// The ids of lives whose registrations were seen; a registration has one for ever.
#[derive(Default)]
pub(super) struct LifeIds(Mutex<HashMap<Registration, NodeId>>);

impl LifeIds {
    fn get(&self, registration: &Registration) -> Option<NodeId> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(registration).copied()
    }

    /// Takes a new one in, and forgets those that are not live any more.
    fn insert(&self, registration: &Registration, id: NodeId, live: &LeaseTable) {
        let mut ids = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ids.retain(|known, _| live.0.contains_key(known));
        ids.insert(registration.clone(), id);
    }
}

/// Where the acts are cut into lists.
fn lists(acts: &[Act]) -> Vec<Range<usize>> {
    let mut all = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, act) in acts.iter().enumerate() {
        let size = payload(act) + named(act);
        if at > start && (at - start >= LIST || bytes + size > LIST_BYTES) {
            all.push(start..at);
            (start, bytes) = (at, 0);
        }
        bytes += size;
    }
    if start < acts.len() {
        all.push(start..acts.len());
    }
    all
}

fn payload(act: &Act) -> usize {
    match act {
        Act::Deliver(push) | Act::DeliverToOne(push) => push.payload.len(),
        Act::DeliverToOneOfEach { payload, .. } => payload.len(),
        Act::Close { .. } | Act::Join { .. } | Act::Leave { .. } | Act::LeaveAll { .. } | Act::Bind { .. } => 0,
    }
}

/// Bytes of the names and ids in an act, which a message of hundreds of acts carries hundreds of times.
fn named(act: &Act) -> usize {
    let audiences = |all: &[Audience]| all.iter().map(|audience| audience.name.as_str().len()).sum::<usize>();
    match act {
        Act::Deliver(push) | Act::DeliverToOne(push) => {
            let target = if let Target::Audiences(all) = &push.target { audiences(all) } else { 0 };
            let users = push.exclude.users.iter().map(|user| user.as_str().len()).sum::<usize>();
            target + users + push.exclude.connections.len() * size_of::<ConnectionId>()
        }
        Act::Join { audiences: all, .. } | Act::Leave { audiences: all, .. } => audiences(all),
        Act::Close { .. } | Act::LeaveAll { .. } | Act::Bind { .. } | Act::DeliverToOneOfEach { .. } => 0,
    }
}

/// What several nodes' outcomes of one act come to.
fn summed_up(outcomes: impl Iterator<Item = Outcome>) -> Outcome {
    outcomes.fold(Outcome::Unknown, |sum, next| match (sum, next) {
        (worse @ (Outcome::NoAnswer(_) | Outcome::Failed(_) | Outcome::Refused(_)), _) => worse,
        (_, worse @ (Outcome::NoAnswer(_) | Outcome::Failed(_) | Outcome::Refused(_))) => worse,
        (Outcome::Done(one), Outcome::Done(other)) => Outcome::Done(one + other),
        (done @ Outcome::Done(_), _) | (_, done @ Outcome::Done(_)) => done,
        (Outcome::NoAudience, _) | (_, Outcome::NoAudience) => Outcome::NoAudience,
        (Outcome::Unknown, Outcome::Unknown) => Outcome::Unknown,
    })
}

fn failed(error: Error) -> Outcome {
    match error {
        Error::Unavailable(why) => Outcome::Failed(why),
        Error::NoAnswer { .. } => Outcome::NoAnswer(error.to_string()),
        Error::Limit(why) => Outcome::Refused(why),
    }
}

impl Core {
    /// The live nodes, in the order of their numbers.
    pub(super) async fn lives(&self) -> Result<Vec<Life>> {
        for _ in 0..LOOKS {
            let leases = self.live_leases().await?;
            let new: Vec<&Registration> = leases.registrations().filter(|it| self.life_ids.get(it).is_none()).collect();
            let ids = new.iter().map(|it| Command::keyed("HGET", &self.keys.node(it)).arg("id")).collect();
            for (registration, id) in new.into_iter().zip(self.all(ids).await.map_err(unavailable)?) {
                if let Some(id) = id.as_str().and_then(|id| id.parse().ok()) {
                    self.life_ids.insert(registration, id, &leases);
                }
            }
            let life = |it: &Registration| Some(Life { seq: it.seq, id: self.life_ids.get(it)? });
            let lives: Vec<Option<Life>> = leases.registrations().map(life).collect();
            if lives.iter().all(Option::is_some) || self.still_stands(&leases).await? {
                // One whose id can't be read was taken out meanwhile.
                let mut lives: Vec<Life> = lives.into_iter().flatten().collect();
                lives.sort_unstable_by_key(|life| life.seq);
                return Ok(lives);
            }
        }
        Err(lost())
    }

    /// The live node of this number. The copy of the leases will do: a registration is of one life for ever, and who acts on
    /// the answer finds out whether it still stands. A miss reads them again.
    pub(super) async fn life(&self, seq: Seq) -> Result<Option<Life>> {
        if let Some(id) = self.leases.copy().of(seq).and_then(|registration| self.life_ids.get(registration)) {
            return Ok(Some(Life { seq, id }));
        }
        Ok(self.lives().await?.into_iter().find(|life| life.seq == seq))
    }

    /// Asks whoever must act, and waits for all of them; what is counted is summed up.
    pub(super) async fn ask(&self, act: Act, wait: Duration) -> Result<Outcome> {
        if let Subject::Connection(connection) = act.subject() {
            let outcomes = self.ask_owner(connection, std::slice::from_ref(&act), wait).await?;
            return Ok(summed_up(outcomes.into_iter()));
        }
        let lives = self.lives().await?;
        let outcomes = self.act_once(&lives, std::slice::from_ref(&act), wait).await?.into_iter().flatten();
        let outcomes: Vec<Outcome> = outcomes.collect();
        match summed_up(outcomes.into_iter()) {
            Outcome::NoAnswer(why) => Err(Error::Unavailable(why)),
            Outcome::Unknown => Ok(act.nobody()),
            other => Ok(other),
        }
    }

    /// See [`Cluster::act`](crate::cluster::Cluster::act).
    pub(super) async fn act(&self, lives: &[Life], acts: &[Act], wait: Duration) -> Vec<Vec<Outcome>> {
        let mut all: Vec<Vec<Outcome>> = lives.iter().map(|_| Vec::with_capacity(acts.len())).collect();
        let mut wait = wait;
        for list in lists(acts) {
            let list = &acts[list];
            match self.act_once(lives, list, wait).await {
                Ok(outcomes) => {
                    if outcomes.iter().flatten().any(|outcome| matches!(outcome, Outcome::NoAnswer(_))) {
                        wait = wait.min(impatience(wait));
                    }
                    all.iter_mut().zip(outcomes).for_each(|(all, outcomes)| all.extend(outcomes));
                }
                Err(error) => {
                    let outcome = failed(error);
                    all.iter_mut().for_each(|all| all.extend(list.iter().map(|_| outcome.clone())));
                }
            }
        }
        all
    }

    fn request(&self, id: u64, acts: Vec<Act>, wait: Duration) -> Bytes {
        let asked_at = self.clock.now();
        let deadline = asked_at + wait.as_micros() as u64;
        Envelope::Act(Request { id, asker: self.hub.seq(), asked_at, deadline, acts }).encode()
    }

    /// Asks the owner of a connection.
    async fn ask_owner(&self, connection: ConnectionId, acts: &[Act], wait: Duration) -> Result<Vec<Outcome>> {
        let owner = connection.seq();
        let nobody = || acts.iter().map(Act::nobody).collect();
        let mut place = self.requests.begin(BTreeSet::from([owner]));
        let request = self.request(place.id, acts.to_vec(), wait);
        match self.to_connection(connection, request).await? {
            ToConnection::Unknown => return Ok(nobody()),
            ToConnection::Taken => {}
        }
        place.wait(wait).await;
        let (missing, mut answers) = place.take();
        if !missing.contains(&owner) {
            return Ok(answers.remove(&owner).unwrap_or_else(nobody));
        }
        // A dead owner's connections are gone with it.
        match self.live_leases().await?.of(owner) {
            Some(_) => Err(Error::NoAnswer { node: self.name_of(owner), waited: wait }),
            None => Ok(nobody()),
        }
    }

    /// Asks all lives that are concerned by a list that fits one message.
    async fn act_once(&self, lives: &[Life], acts: &[Act], wait: Duration) -> Result<Vec<Vec<Outcome>>> {
        let (leases, concerned) = self.concerned(lives, acts).await?;
        let seqs = |lives: &[Life]| lives.iter().map(|life| life.seq).collect::<BTreeSet<Seq>>();
        let asked: BTreeSet<Seq> =
            lives.iter().zip(&concerned).filter(|(_, acts)| !acts.is_empty()).map(|(life, _)| life.seq).collect();
        let mut place = self.requests.begin(asked.clone());
        let mut unreachable: BTreeMap<Seq, String> = BTreeMap::new();
        let everybody = leases.registrations().all(|registration| seqs(lives).contains(&registration.seq));
        let topic = match acts {
            [act @ (Act::Deliver(_) | Act::Close { .. })] if everybody => self.topic(act.subject()),
            _ => None,
        };
        let bytes = acts.iter().map(payload).sum();
        if bytes > 0 {
            self.hub.has_room().await;
        }
        let _room = self.outgoing.room(bytes).await?;
        match topic {
            // By the audience's own name, behind the pushes that were made to it before; one message for all nodes.
            Some(topic) if !asked.is_empty() => {
                let request = self.request(place.id, acts.to_vec(), wait);
                self.hand_to_bus(&Command::publish(topic, request)).await?;
            }
            Some(_) => {}
            None => {
                let shares = lives.iter().zip(&concerned).filter(|(_, share)| !share.is_empty());
                let sent = shares.map(|(life, share)| {
                    let acts = share.iter().map(|at| acts[*at].clone()).collect();
                    let request = self.request(place.id, acts, wait);
                    let command = Command::publish(self.keys.inbox_topic(life.seq), request);
                    async move { (life.seq, self.hand_to_bus(&command).await) }
                });
                for (seq, receivers) in join_all(sent).await {
                    let why = match receivers {
                        Ok(receivers) if receivers.as_i64() == Some(0) => "is not subscribed just now".to_owned(),
                        Ok(_) => continue,
                        Err(error) => format!("could not be asked: {error}"),
                    };
                    unreachable.insert(seq, why);
                    place.give_up(seq);
                }
            }
        }
        if acts.iter().any(|act| matches!(act, Act::Deliver(_))) && !asked.is_empty() {
            self.metrics.published.inc();
        }
        place.wait(wait).await;
        let (missing, answers) = place.take();
        // Those that are dead by now have nothing, as in every other answer.
        let live = if missing.is_empty() && unreachable.is_empty() { leases } else { self.live_leases().await? };
        let of_life = |(life, share): (&Life, &Vec<usize>)| {
            let mut outcomes: Vec<Outcome> = acts.iter().map(Act::nobody).collect();
            let trouble = if live.of(life.seq).is_none() {
                None
            } else if missing.contains(&life.seq) {
                Some(failed(Error::NoAnswer { node: life.id.to_string(), waited: wait }))
            } else {
                unreachable.get(&life.seq).map(|why| Outcome::Failed(format!("node {} {why}", life.id)))
            };
            let answer = answers.get(&life.seq);
            // By a topic a node may answer that was not expected to have anything.
            let share: &[usize] = if share.is_empty() && answer.is_some() { &[0] } else { share };
            for (at, act) in share.iter().enumerate() {
                match (&trouble, answer.and_then(|answer| answer.get(at))) {
                    (Some(trouble), _) => outcomes[*act] = trouble.clone(),
                    (None, Some(outcome)) => outcomes[*act] = outcome.clone(),
                    (None, None) => {}
                }
            }
            outcomes
        };
        Ok(lives.iter().zip(&concerned).map(of_life).collect())
    }

    /// Which of the acts concern which life: for each the acts' places in the list. An audience's members may be where the
    /// directory shows some, where an act before it makes some, and where one of the connections lives that the list names,
    /// as it may have joined just before.
    async fn concerned(&self, lives: &[Life], acts: &[Act]) -> Result<(Arc<LeaseTable>, Vec<Vec<usize>>)> {
        let named: BTreeSet<Seq> = acts.iter().filter_map(|act| act.subject().owner()).collect();
        let audiences: BTreeSet<&Audience> = acts
            .iter()
            .filter_map(|act| match act.subject() {
                Subject::Audience(audience) => Some(audience),
                Subject::Connection(_) | Subject::Everybody => None,
            })
            .collect();
        for _ in 0..LOOKS {
            let leases = self.live_leases().await?;
            let live: Vec<Option<&Registration>> = lives.iter().map(|life| leases.of(life.seq)).collect();
            let questions: Vec<(Seq, &Audience, Command)> = live
                .iter()
                .flatten()
                .filter(|registration| !named.contains(&registration.seq))
                .flat_map(|registration| {
                    audiences.iter().map(|audience| {
                        let index = self.keys.index(registration, audience.kind);
                        (registration.seq, *audience, Command::keyed("HEXISTS", &index).arg(audience.name.as_str()))
                    })
                })
                .collect();
            let shown = if questions.is_empty() {
                BTreeSet::new()
            } else {
                let commands = questions.iter().map(|(_, _, command)| command.clone()).collect();
                let answers = self.all(commands).await.map_err(unavailable)?;
                if !self.still_stands(&leases).await? {
                    continue;
                }
                let shown = questions.iter().zip(answers).filter(|(_, there)| there.as_i64() == Some(1));
                shown.map(|((seq, audience, _), _)| (*seq, *audience)).collect()
            };
            let share = |registration: Option<&Registration>| {
                let Some(seq) = registration.map(|registration| registration.seq) else { return Vec::new() };
                // What the directory doesn't show yet, as an act before it in the list brings it about.
                let mut joined = BTreeSet::new();
                let concerns = |at: &usize| {
                    let act = &acts[*at];
                    let concerned = match act.subject() {
                        Subject::Connection(connection) => connection.seq() == seq,
                        Subject::Audience(audience) => {
                            named.contains(&seq) || shown.contains(&(seq, audience)) || joined.contains(audience)
                        }
                        Subject::Everybody => true,
                    };
                    if concerned {
                        joined.extend(act.subscribed());
                    }
                    concerned
                };
                (0..acts.len()).filter(concerns).collect()
            };
            let concerned = live.into_iter().map(share).collect();
            return Ok((leases, concerned));
        }
        Err(lost())
    }

    /// The name that everybody concerned listens to.
    fn topic(&self, subject: Subject<'_>) -> Option<String> {
        match subject {
            Subject::Audience(audience) => Some(self.keys.audience_topic(audience)),
            Subject::Everybody => Some(self.keys.all_topic()),
            Subject::Connection(_) => None,
        }
    }

    /// A node's id, or its number where the id is not known.
    fn name_of(&self, seq: Seq) -> String {
        let leases = self.leases.copy();
        let id = leases.of(seq).and_then(|registration| self.life_ids.get(registration));
        id.map_or_else(|| seq.to_string(), |id| id.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Exclusions, Name, Push};

    fn text(bytes: usize) -> Act {
        Act::Deliver(Push::text(Target::All, "x".repeat(bytes)))
    }

    #[test]
    fn acts_are_cut_by_number_and_by_bytes() {
        assert_eq!(lists(&[]), []);
        assert_eq!(lists(&vec![text(0); LIST + 1]), [0..LIST, LIST..LIST + 1]);
        let large = [text(LIST_BYTES + 1), text(1), text(LIST_BYTES), text(0)];
        assert_eq!(lists(&large), [0..1, 1..2, 2..4]);
        let users = (0..LIST_BYTES / 10).map(|n| Name::new(&format!("{n:>10}")).unwrap()).collect();
        let exclude = Exclusions { users, connections: Vec::new() };
        let without = Act::Deliver(Push { exclude, ..Push::text(Target::All, "x") });
        assert_eq!(lists(&[without.clone(), without]), [0..1, 1..2]);
    }

    #[test]
    fn several_nodes_outcomes_are_summed_up_and_the_worst_one_is_told() {
        let sum = |outcomes: &[Outcome]| summed_up(outcomes.iter().cloned());
        let (no_answer, failed) = (Outcome::NoAnswer("n".into()), Outcome::Failed("f".into()));
        assert_eq!(sum(&[]), Outcome::Unknown);
        assert_eq!(sum(&[Outcome::Unknown, Outcome::Done(1), Outcome::Done(2)]), Outcome::Done(3));
        assert_eq!(sum(&[Outcome::Unknown, Outcome::NoAudience]), Outcome::NoAudience);
        assert_eq!(sum(&[Outcome::Done(1), no_answer.clone(), failed]), no_answer);
    }
}
