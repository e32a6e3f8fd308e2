//! What the directory says of each node: many short questions at once, for callers who want it node by node.
//!
//! All questions to all nodes go out together; what turns out to be a long list is then read in steps that Redis does not
//! feel. So a look costs two or three round trips by hundreds of questions, and others only by the length of what is listed.

use super::core::Core;
use super::counters::Counters;
use super::keys::Registration;
use super::leases::LeaseTable;
use super::listing::{LISTING, SCAN, WHOLE, too_slow};
use super::publishing::unavailable;
use super::reading::lost;
use super::scripts;
use super::wire::{Command, Fault, fields};
use crate::cluster::{Answer, Details, Life, Question};
use crate::model::{Audience, AudienceKind, Name, Result};
use fred::types::Value;
use std::collections::{BTreeMap, BTreeSet};
use tokio::time::timeout;

/// Questions that are asked of all nodes at once.
const AT_ONCE: usize = 256;

/// Members whose details one script reads: about a millisecond, where clients have connected with short queries.
const GATHERED: u64 = 300;

/// Bytes of details after which that script stops, as they hold queries that clients have chosen and up to a thousand
/// groups: one to two milliseconds whatever they hold, five where it ends with the longest that a connection can have.
const ENOUGH: i64 = 32 << 10;

/// Small sets that one command unites; together they have no more than [`WHOLE`] members.
const UNITED: usize = 500;

/// How often a look is taken that finds Redis emptied in its midst.
const LOOKS: usize = 3;

/// What is sent first for a question.
enum First {
    /// Nothing, as the node has nothing of it.
    Nothing,
    /// What answers it.
    Whole(Command),
    /// What says how long the answer is.
    Size(Command),
}

impl Core {
    /// See [`Cluster::look`](crate::cluster::Cluster::look).
    pub(super) async fn look_at(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        let mut all: Vec<Vec<Answer>> = lives.iter().map(|_| Vec::with_capacity(questions.len())).collect();
        for questions in questions.chunks(AT_ONCE) {
            let answers = timeout(LISTING, self.look_once(lives, questions)).await.map_err(|_| too_slow())??;
            all.iter_mut().zip(answers).for_each(|(all, answers)| all.extend(answers));
        }
        Ok(all)
    }

    async fn look_once(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        for _ in 0..LOOKS {
            let leases = self.live_leases().await?;
            let answers = self.answers(&leases, lives, questions).await.map_err(unavailable)?;
            if self.still_stands(&leases).await? {
                return Ok(answers);
            }
        }
        Err(lost())
    }

    async fn answers(
        &self,
        leases: &LeaseTable,
        lives: &[Life],
        questions: &[Question],
    ) -> Result<Vec<Vec<Answer>>, Fault> {
        let asked: Vec<(&Question, Option<&Registration>, First)> = lives
            .iter()
            .flat_map(|life| {
                let registration = leases.of(life.seq);
                questions.iter().map(move |question| (question, registration))
            })
            .map(|(question, registration)| {
                let first = registration.map_or(First::Nothing, |registration| self.first(registration, question));
                (question, registration, first)
            })
            .collect();
        let commands = asked.iter().filter_map(|(_, _, first)| match first {
            First::Nothing => None,
            First::Whole(command) | First::Size(command) => Some(command.clone()),
        });
        let mut firsts = self.all(commands.collect()).await?.into_iter();

        // Short lists go out together, long ones after them, step by step.
        let mut answers: Vec<Option<Answer>> = Vec::with_capacity(asked.len());
        let (mut short, mut long) = (Vec::new(), Vec::new());
        for (at, (question, registration, first)) in asked.iter().enumerate() {
            let answer = match (first, registration) {
                (First::Nothing, _) | (_, None) => Some(nothing(question)),
                (First::Whole(_), Some(_)) => firsts.next().map(|value| whole(question, value)),
                (First::Size(_), Some(registration)) => {
                    let size = firsts.next().and_then(|size| size.as_u64()).unwrap_or(0);
                    match (size, self.short(registration, question, size)) {
                        (0, _) => Some(nothing(question)),
                        (_, Some(command)) => {
                            short.push((at, *question, *registration, command));
                            None
                        }
                        (_, None) => {
                            long.push((at, *question, *registration));
                            None
                        }
                    }
                }
            };
            answers.push(answer);
        }
        if !short.is_empty() {
            let values = self.all(short.iter().map(|(.., command)| command.clone()).collect()).await?;
            for ((at, question, registration, _), value) in short.into_iter().zip(values) {
                match listed(question, value)? {
                    Some(answer) => answers[at] = Some(answer),
                    None => long.push((at, question, registration)),
                }
            }
        }
        for (at, question, registration) in long {
            answers[at] = Some(self.long(registration, question).await?);
        }
        let mut answers = answers.into_iter().zip(&asked).map(|(answer, (question, _, _))| {
            // Each has been given one above.
            answer.unwrap_or_else(|| nothing(question))
        });
        Ok(lives.iter().map(|_| answers.by_ref().take(questions.len()).collect()).collect())
    }

    fn first(&self, registration: &Registration, question: &Question) -> First {
        let keys = &self.keys;
        let size_of = |audience: &Audience| {
            Command::keyed("HGET", &keys.index(registration, audience.kind)).arg(audience.name.as_str())
        };
        let set = |audience: &Audience| keys.members(registration, audience.kind, audience.name.as_str());
        let connections = keys.connections(registration);
        match question {
            Question::Connections => First::Whole(Command::keyed("HLEN", &connections)),
            Question::ConnectionIds => First::Size(Command::keyed("HLEN", &connections)),
            Question::Members(audience) => First::Whole(size_of(audience)),
            Question::MemberIds(audience) | Question::AudiencesOfMembers(audience, _) => First::Size(size_of(audience)),
            Question::MemberIdsOfAll(kind) | Question::Audiences(kind) => {
                First::Size(Command::keyed("HLEN", &keys.index(registration, *kind)))
            }
            Question::SharedMember(one, other) => {
                let (one, other) = (set(one), set(other));
                let command = Command::at(super::keys::slot(&one), "SINTERCARD");
                First::Whole(command.arg(2).arg(one).arg(other).arg("LIMIT").arg(1))
            }
            Question::AudienceCount(kind) => First::Whole(Command::keyed("HLEN", &keys.index(registration, *kind))),
            Question::Details(connection) if connection.seq() == registration.seq => {
                First::Whole(Command::keyed("HGET", &connections).arg(connection.counter().to_string()))
            }
            Question::Details(_) => First::Nothing,
        }
    }

    /// The command that reads a list of that size whole; `None` where it is too long for one.
    fn short(&self, registration: &Registration, question: &Question, size: u64) -> Option<Command> {
        let keys = &self.keys;
        let page =
            |key: String, command: &str| (size <= WHOLE).then(|| Command::script(&scripts::PAGE, &[key]).arg(command));
        match question {
            Question::ConnectionIds => page(keys.connections(registration), "HKEYS"),
            Question::MemberIds(audience) => {
                page(keys.members(registration, audience.kind, audience.name.as_str()), "SMEMBERS")
            }
            Question::Audiences(kind) => {
                (size <= WHOLE).then(|| Command::keyed("HGETALL", &keys.index(registration, *kind)))
            }
            Question::AudiencesOfMembers(audience, kind) => {
                (size <= GATHERED).then(|| self.gather(registration, audience, *kind))
            }
            Question::MemberIdsOfAll(_)
            | Question::Connections
            | Question::Members(_)
            | Question::SharedMember(..)
            | Question::AudienceCount(_)
            | Question::Details(_) => None,
        }
    }

    fn gather(&self, registration: &Registration, audience: &Audience, kind: AudienceKind) -> Command {
        let set = self.keys.members(registration, audience.kind, audience.name.as_str());
        let field = match kind {
            AudienceKind::User => "user",
            // What the directory keeps of a connection has no others.
            AudienceKind::Group | AudienceKind::Channel | AudienceKind::Device => "groups",
        };
        Command::script(&scripts::GATHER, &[set, self.keys.connections(registration)]).arg(field).arg(ENOUGH)
    }

    /// Reads a long list step by step.
    async fn long(&self, registration: &Registration, question: &Question) -> Result<Answer, Fault> {
        match question {
            Question::ConnectionIds => self.long_ids(&self.keys.connections(registration), "HSCAN").await,
            Question::MemberIds(audience) => {
                let set = self.keys.members(registration, audience.kind, audience.name.as_str());
                self.long_ids(&set, "SSCAN").await
            }
            Question::MemberIdsOfAll(kind) => self.union_of_all(registration, *kind).await,
            Question::Audiences(kind) => {
                let names: BTreeMap<Name, u64> = self.index(registration, *kind).await?.into_iter().collect();
                Ok(Answer::Names(names.into_iter().collect()))
            }
            Question::AudiencesOfMembers(audience, kind) => {
                let gather = || self.gather(registration, audience, *kind);
                let mut names = BTreeSet::new();
                let mut cursor = "0".to_owned();
                loop {
                    let step = gather().arg(cursor).arg(GATHERED as i64);
                    let mut gathered = self::gathered(self.pools.run(&step).await?)?;
                    let next = gathered.next;
                    names.extend(gathered.names);
                    while !gathered.left.is_empty() {
                        let step = gathered.left.into_iter().fold(gather().arg("these"), Command::arg);
                        gathered = self::gathered(self.pools.run(&step).await?)?;
                        names.extend(gathered.names);
                    }
                    if next == "0" {
                        return Ok(Answer::Names(names.into_iter().map(|name| (name, 0)).collect()));
                    }
                    cursor = next;
                }
            }
            Question::Connections
            | Question::Members(_)
            | Question::SharedMember(..)
            | Question::AudienceCount(_)
            | Question::Details(_) => Ok(nothing(question)),
        }
    }

    /// The members of all audiences of a kind: of many small ones at once, of each large one step by step.
    async fn union_of_all(&self, registration: &Registration, kind: AudienceKind) -> Result<Answer, Fault> {
        let key = |name: &Name| self.keys.members(registration, kind, name.as_str());
        let (mut seen, mut ids) = (Counters::default(), Vec::new());
        let mut take = |counters: Vec<u32>| ids.extend(counters.into_iter().filter(|counter| seen.insert(*counter)));
        let (mut small, mut size) = (Vec::new(), 0);
        for (name, members) in self.index(registration, kind).await? {
            if members > WHOLE {
                if let Answer::Ids(counters) = self.long_ids(&key(&name), "SSCAN").await? {
                    take(counters);
                }
                continue;
            }
            if !small.is_empty() && (small.len() == UNITED || size + members > WHOLE) {
                take(self.union(&std::mem::take(&mut small)).await?);
                size = 0;
            }
            small.push(key(&name));
            size += members;
        }
        if !small.is_empty() {
            take(self.union(&small).await?);
        }
        Ok(Answer::Ids(ids))
    }

    async fn union(&self, sets: &[String]) -> Result<Vec<u32>, Fault> {
        Ok(self.page(&Command::script(&scripts::PAGE, sets).arg("SUNION")).await?.1)
    }

    async fn long_ids(&self, key: &str, command: &'static str) -> Result<Answer, Fault> {
        // A scan may bring an entry twice.
        let (mut seen, mut ids) = (Counters::default(), Vec::new());
        let mut cursor = "0".to_owned();
        loop {
            let step = Command::script(&scripts::PAGE, &[key.to_owned()]).arg(command).arg(cursor).arg(SCAN);
            let (next, counters) = self.page(&step).await?;
            ids.extend(counters.into_iter().filter(|counter| seen.insert(*counter)));
            if next == "0" {
                return Ok(Answer::Ids(ids));
            }
            cursor = next;
        }
    }
}

/// The answer of a node that has nothing of it.
fn nothing(question: &Question) -> Answer {
    match question {
        Question::Connections | Question::Members(_) | Question::SharedMember(..) | Question::AudienceCount(_) => {
            Answer::Count(0)
        }
        Question::ConnectionIds | Question::MemberIds(_) | Question::MemberIdsOfAll(_) => Answer::Ids(Vec::new()),
        Question::Audiences(_) | Question::AudiencesOfMembers(..) => Answer::Names(Vec::new()),
        Question::Details(_) => Answer::Details(None),
    }
}

/// The answer to a question that one command answers.
fn whole(question: &Question, value: Value) -> Answer {
    match question {
        Question::Details(_) => Answer::Details(value.as_str().map(|details| Box::new(Details::parse(&details)))),
        Question::Connections
        | Question::ConnectionIds
        | Question::Members(_)
        | Question::MemberIds(_)
        | Question::MemberIdsOfAll(_)
        | Question::SharedMember(..)
        | Question::AudienceCount(_)
        | Question::Audiences(_)
        | Question::AudiencesOfMembers(..) => Answer::Count(value.as_u64().unwrap_or(0)),
    }
}

/// A short list; `None` where it turns out to be a long one.
fn listed(question: &Question, value: Value) -> Result<Option<Answer>, Fault> {
    Ok(Some(match question {
        Question::Audiences(_) => {
            let named = |(name, members): (String, String)| Some((Name::new(&name).ok()?, members.parse().ok()?));
            let mut names: Vec<(Name, u64)> = fields(value).into_iter().filter_map(named).collect();
            names.sort_unstable();
            Answer::Names(names)
        }
        Question::AudiencesOfMembers(..) => {
            let Gathered { names, left, .. } = gathered(value)?;
            if !left.is_empty() {
                return Ok(None);
            }
            let names: BTreeSet<Name> = names.into_iter().collect();
            Answer::Names(names.into_iter().map(|name| (name, 0)).collect())
        }
        Question::ConnectionIds | Question::MemberIds(_) | Question::MemberIdsOfAll(_) => {
            Answer::Ids(super::listing::counters(&value)?.1)
        }
        Question::Connections
        | Question::Members(_)
        | Question::SharedMember(..)
        | Question::AudienceCount(_)
        | Question::Details(_) => whole(question, value),
    }))
}

/// One step of gathering.
struct Gathered {
    /// The next cursor.
    next: String,
    names: Vec<Name>,
    /// Members that were not looked at.
    left: Vec<String>,
}

fn gathered(value: Value) -> Result<Gathered, Fault> {
    const UNEXPECTED: Fault = Fault::Unexpected("gather");
    let Value::Array(answer) = value else { return Err(UNEXPECTED) };
    let [next, names, left] = answer.as_slice() else { return Err(UNEXPECTED) };
    let texts = |list: &Value| list.clone().into_array().into_iter().filter_map(|text| text.as_string());
    Ok(Gathered {
        next: next.as_string().ok_or(UNEXPECTED)?,
        names: texts(names).filter_map(|name| Name::new(&name).ok()).collect(),
        left: texts(left).collect(),
    })
}
