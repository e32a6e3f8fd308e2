//! Services for the tests of this module: one over a hub without sockets, one whose cluster fails.

use crate::cluster::embedded::Embedded;
use crate::cluster::{
    About, Act, Answer, Cluster, Life, NamedPages, NodeSummary, Outcome, Pages, Published, Question, State, StoreInfo,
};
use crate::hub::{GapPolicy, Hub, Opening};
use crate::model::{
    Audience, AudienceKind, ConnectionId, Error, Limits, Name, NodeCounters, NodeId, Push, Result, Seq,
};
use crate::service::Service;
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use prometheus::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// A node alone with three connections: 1 in `a`, 2 in `a` and `ж/"`, 3 in nothing.
pub(super) fn service() -> Arc<Service> {
    limited(Limits { max_push: 10, max_channels: 3, ..Limits::default() })
}

/// The same with other limits.
pub(super) fn limited(limits: Limits) -> Arc<Service> {
    let (limits, registry) = (Arc::new(limits), Registry::new());
    let hub = Hub::start(limits.clone(), GapPolicy::Count, 1, &registry).unwrap();
    for channels in [&["a"][..], &["a", "ж/\""], &[]] {
        let audiences = channels.iter().map(|name| Audience::channel(Name::new(name).unwrap())).collect();
        hub.open(Opening { details: "{}".into(), audiences, heartbeat: None }, |_| Vec::new()).unwrap();
    }
    let counters = NodeCounters {
        connections: 3,
        accepted: 4,
        closed: 1,
        workers: 2,
        hits: 5,
        misses: 6,
        ..NodeCounters::default()
    };
    let about = About {
        id: NodeId::random().unwrap(),
        address: String::new(),
        start_time: 7,
        counters: Arc::new(move || counters),
    };
    Service::new(Embedded::new(hub, about), limits, &registry).unwrap()
}

/// A directory that fails after so many pages, and a bus that takes nothing.
struct Failing {
    pages: usize,
}

/// What a [`failing`] directory says.
pub(super) fn broken() -> Error {
    Error::Unavailable("redis is away".to_owned())
}

impl Failing {
    fn listing(&self) -> Pages {
        let page: Vec<_> = (0..20_000).filter_map(ConnectionId::from_u64).collect();
        let pages = (0..self.pages).map(move |_| Ok(page.clone()));
        let failure = stream::once(async {
            // As over a network: what was written until then is sent.
            tokio::task::yield_now().await;
            Err(broken())
        });
        stream::iter(pages).chain(failure).boxed()
    }
}

#[async_trait]
impl Cluster for Failing {
    fn node_id(&self) -> NodeId {
        NodeId::random().unwrap()
    }

    fn seq(&self) -> Seq {
        Seq::EMBEDDED
    }

    fn state(&self) -> watch::Receiver<State> {
        watch::channel(State::Ready).1
    }

    async fn settle(&self, _audiences: &[Audience]) -> Result<()> {
        Err(broken())
    }

    async fn publish(&self, _push: Push) -> Result<Published> {
        Err(broken())
    }

    async fn request(&self, _act: Act, waited: Duration) -> Result<Outcome> {
        Err(Error::NoAnswer { node: "abc".to_owned(), waited })
    }

    async fn lives(&self) -> Result<Vec<Life>> {
        Err(broken())
    }

    async fn look(&self, _lives: &[Life], _questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        Err(broken())
    }

    async fn act(&self, lives: &[Life], acts: &[Act], _timeout: Duration) -> Vec<Vec<Outcome>> {
        lives.iter().map(|_| acts.iter().map(|_| Outcome::Failed("redis is away".to_owned())).collect()).collect()
    }

    async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        Err(broken())
    }

    async fn store(&self) -> Result<StoreInfo> {
        Err(broken())
    }

    async fn exists(&self, _connection: ConnectionId) -> Result<bool> {
        Err(broken())
    }

    async fn count_connections(&self) -> Result<u64> {
        Err(broken())
    }

    async fn count_members(&self, _audience: &Audience) -> Result<u64> {
        Err(broken())
    }

    async fn audiences(&self, _kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        Ok(vec![(Name::new("a").unwrap(), 1)])
    }

    async fn connections(&self) -> Result<Pages> {
        Ok(Failing::listing(self))
    }

    async fn members(&self, _audience: &Audience) -> Result<Pages> {
        Ok(Failing::listing(self))
    }

    async fn listing(&self, _kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages> {
        let name = names.and_then(|names| names.into_iter().next()).unwrap_or_else(|| Name::new("a").unwrap());
        let pages = Failing::listing(self);
        Ok(pages.map(move |page| page.map(|ids| (name.clone(), ids))).boxed())
    }

    async fn leave(&self) {}
}

/// A service whose cluster takes nothing, and whose listings fail after so many pages of 20,000 ids.
pub(super) fn failing(pages: usize) -> Arc<Service> {
    Service::new(Arc::new(Failing { pages }), Arc::new(Limits::default()), &Registry::new()).unwrap()
}
