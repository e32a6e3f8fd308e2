//! Listings: from one look at `leases`, streamed in pages, so that no set is ever held whole but a small one.
//!
//! They cost by the answer. A registration that dies while it is listed stays readable for
//! [`RedisConfig::reap_delay`](super::RedisConfig), which is longer than a listing may take, and counts for the whole
//! listing or not at all. If Redis is emptied meanwhile the listing breaks off.

use super::core::Core;
use super::counters::Counters;
use super::keys::Registration;
use super::leases::LeaseTable;
use super::publishing::unavailable;
use super::reading::lost;
use super::scripts;
use super::wire::{Command, Fault, fields};
use crate::cluster::{NamedPages, Pages};
use crate::model::{Audience, AudienceKind, ConnectionId, Error, Name, Result};
use fred::types::Value;
use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

/// Ids in one page.
const PAGE: usize = 1000;

/// Pages that wait for a reader who is slower than Redis.
const PAGES_AHEAD: usize = 2;

/// Sets that are read side by side, so that thousands of small channels are not as many round trips.
const SETS_AHEAD: usize = 16;

/// Sets up to this size are read in one command.
pub(super) const WHOLE: u64 = 2000;

/// Entries that one scanning command looks at.
pub(super) const SCAN: i64 = 1000;

/// A listing that takes longer breaks off: what it would go on to read may be gone.
pub(super) const LISTING: Duration = Duration::from_secs(4);

/// One registration's part of a list, and what list that is.
struct Set<T> {
    list: T,
    registration: Registration,
    key: String,
    /// The commands that read it whole and that scan it.
    commands: (&'static str, &'static str),
    size: u64,
}

/// Pages of lists, each with the list that it belongs to.
type Sender<T> = mpsc::Sender<Result<(T, Vec<ConnectionId>)>>;

impl Core {
    /// The names of a kind with their numbers of members, sorted.
    pub(super) async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        let deadline = Instant::now() + LISTING;
        let leases = self.live_leases().await?;
        let mut all: BTreeMap<Name, u64> = BTreeMap::new();
        for registration in leases.registrations() {
            let index = timeout_at(deadline, self.index(registration, kind)).await;
            for (name, members) in index.map_err(|_| too_slow())?.map_err(unavailable)? {
                *all.entry(name).or_default() += members;
            }
        }
        if !self.still_stands(&leases).await? {
            return Err(lost());
        }
        Ok(all.into_iter().collect())
    }

    /// One registration's audiences of a kind, with their numbers of members.
    pub(super) async fn index(
        &self,
        registration: &Registration,
        kind: AudienceKind,
    ) -> Result<HashMap<Name, u64>, Fault> {
        let key = self.keys.index(registration, kind);
        let size = self.pools.run(&Command::keyed("HLEN", &key)).await?.as_u64().unwrap_or(0);
        let mut all = HashMap::new();
        let mut take = |entries: Value| {
            let entries = fields(entries).into_iter();
            all.extend(entries.filter_map(|(name, members)| Some((Name::new(&name).ok()?, members.parse().ok()?))));
        };
        if size <= WHOLE {
            take(self.pools.run(&Command::keyed("HGETALL", &key)).await?);
            return Ok(all);
        }
        let mut cursor = "0".to_owned();
        loop {
            let (next, entries) = self.scan("HSCAN", &key, &cursor).await?;
            take(Value::Array(entries));
            if next == "0" {
                return Ok(all);
            }
            cursor = next;
        }
    }

    /// One step of a scan: the next cursor, and what it brought. A connection is held for no longer than the step.
    pub(super) async fn scan(
        &self,
        command: &'static str,
        key: &str,
        cursor: &str,
    ) -> Result<(String, Vec<Value>), Fault> {
        match self.pools.run(&Command::keyed(command, key).arg(cursor).arg("COUNT").arg(SCAN)).await? {
            Value::Array(mut answer) if answer.len() == 2 => match (answer.pop(), answer.pop()) {
                (Some(Value::Array(entries)), Some(next)) => {
                    Ok((next.as_string().ok_or(Fault::Unexpected(command))?, entries))
                }
                _ => Err(Fault::Unexpected(command)),
            },
            _ => Err(Fault::Unexpected(command)),
        }
    }

    /// One step of a listing: the next cursor, and the counters that it brought.
    pub(super) async fn page(&self, step: &Command) -> Result<(String, Vec<u32>), Fault> {
        counters(&Box::pin(self.pools.run(step)).await?)
    }

    pub(super) async fn connections(self: &Arc<Self>) -> Result<Pages> {
        let pages = self.list(|core, leases, pages| async move {
            let count = |registration: &Registration| Command::keyed("HLEN", &core.keys.connections(registration));
            let sizes = core.each(&leases, count).await.map_err(unavailable)?;
            let sets = leases.registrations().zip(sizes).map(|(registration, size)| Set {
                list: (),
                registration: registration.clone(),
                key: core.keys.connections(registration),
                commands: ("HKEYS", "HSCAN"),
                size: size.as_u64().unwrap_or(0),
            });
            core.write(sets.collect(), &pages).await
        });
        Ok(pages.await?.map(|page| page.map(|((), ids)| ids)).boxed())
    }

    pub(super) async fn members(self: &Arc<Self>, audience: &Audience) -> Result<Pages> {
        let pages = self.listing(audience.kind, Some(vec![audience.name.clone()])).await?;
        Ok(pages.map(|page| page.map(|(_, ids)| ids)).boxed())
    }

    /// The members of the audiences that `names` gives, in its order, or of all audiences of the kind, sorted.
    pub(super) async fn listing(self: &Arc<Self>, kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages> {
        self.list(move |core, leases, pages| async move {
            let mut sets = Vec::new();
            let set = |name: &Name, registration: &Registration, size: u64| Set {
                list: name.clone(),
                registration: registration.clone(),
                key: core.keys.members(registration, kind, name.as_str()),
                commands: ("SMEMBERS", "SSCAN"),
                size,
            };
            match names {
                None => {
                    for registration in leases.registrations() {
                        let index = core.index(registration, kind).await.map_err(unavailable)?;
                        sets.extend(index.iter().map(|(name, size)| set(name, registration, *size)));
                    }
                    sets.sort_by(|a, b| a.list.cmp(&b.list));
                }
                Some(names) => {
                    let sizes = |registration: &Registration| {
                        let command = Command::keyed("HMGET", &core.keys.index(registration, kind));
                        names.iter().fold(command, |command, name| command.arg(name.as_str()))
                    };
                    let sizes = core.each(&leases, sizes).await.map_err(unavailable)?;
                    let sizes: Vec<Vec<Value>> = sizes.into_iter().map(Value::into_array).collect();
                    for (at, name) in names.iter().enumerate() {
                        sets.extend(leases.registrations().zip(&sizes).map(|(registration, sizes)| {
                            set(name, registration, sizes.get(at).and_then(Value::as_u64).unwrap_or(0))
                        }));
                    }
                }
            }
            core.write(sets, &pages).await
        })
        .await
    }

    /// Has a listing written by a task of its own, page by page as somebody reads them.
    async fn list<T, F>(
        self: &Arc<Self>,
        write: impl FnOnce(Arc<Self>, Arc<LeaseTable>, Sender<T>) -> F,
    ) -> Result<stream::BoxStream<'static, Result<(T, Vec<ConnectionId>)>>>
    where
        T: Send + 'static,
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let deadline = Instant::now() + LISTING;
        let leases = self.live_leases().await?;
        let (pages, receiver) = mpsc::channel(PAGES_AHEAD);
        let writing = write(self.clone(), leases.clone(), pages.clone()).boxed();
        let core = self.clone();
        tokio::spawn(async move {
            let error = match timeout_at(deadline, writing).await {
                Ok(Ok(())) => match core.still_stands(&leases).await {
                    Ok(true) => return,
                    Ok(false) => lost(),
                    Err(error) => error,
                },
                Ok(Err(error)) => error,
                Err(_) => too_slow(),
            };
            // The reader may be gone, which is why it was slow.
            let _ = pages.send(Err(error)).await;
        });
        Ok(stream::unfold(receiver, |mut pages| async { pages.recv().await.map(|page| (page, pages)) }).boxed())
    }

    /// Writes the sets one after the other, their first pages read ahead. Ends early where nobody reads any more.
    async fn write<T: Clone>(&self, sets: Vec<Set<T>>, pages: &Sender<T>) -> Result<()> {
        let first = |set: Set<T>| async {
            let (whole, scanning) = set.commands;
            let step = Command::script(&scripts::PAGE, std::slice::from_ref(&set.key));
            let step = if set.size <= WHOLE { step.arg(whole) } else { step.arg(scanning).arg("0").arg(SCAN) };
            self.page(&step).await.map(|page| (set, page)).map_err(unavailable)
        };
        let sets = stream::iter(sets).filter(|set| std::future::ready(set.size > 0)).map(first).buffered(SETS_AHEAD);
        let mut sets = std::pin::pin!(sets);
        while let Some((set, (mut cursor, mut counters))) = sets.try_next().await? {
            // A scan may bring an entry twice; the counters seen tell.
            let mut seen = (set.size > WHOLE).then(Counters::default);
            loop {
                if let Some(seen) = &mut seen {
                    counters.retain(|counter| seen.insert(*counter));
                }
                for page in counters.chunks(PAGE) {
                    let ids = page.iter().map(|counter| ConnectionId::new(set.registration.seq, *counter)).collect();
                    if pages.send(Ok((set.list.clone(), ids))).await.is_err() {
                        return Ok(());
                    }
                }
                if seen.is_none() || cursor == "0" {
                    break;
                }
                let step = Command::script(&scripts::PAGE, std::slice::from_ref(&set.key))
                    .arg(set.commands.1)
                    .arg(cursor)
                    .arg(SCAN);
                (cursor, counters) = self.page(&step).await.map_err(unavailable)?;
            }
        }
        Ok(())
    }
}

/// A step of a listing as it came: the next cursor, and the counters that it brought.
pub(super) fn counters(answer: &Value) -> Result<(String, Vec<u32>), Fault> {
    const UNEXPECTED: Fault = Fault::Unexpected("page");
    let Value::Array(answer) = answer else { return Err(UNEXPECTED) };
    let [next, entries] = answer.as_slice() else { return Err(UNEXPECTED) };
    let entries = entries.as_str().ok_or(UNEXPECTED)?;
    let counters = entries.split(',').filter_map(|entry| entry.parse().ok()).collect();
    Ok((next.as_string().ok_or(UNEXPECTED)?, counters))
}

pub(super) fn too_slow() -> Error {
    Error::Unavailable(format!("the listing took longer than {} s", LISTING.as_secs()))
}
