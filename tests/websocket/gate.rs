//! An embedded cluster that confirms new connections when the test says so.

use async_trait::async_trait;
use carillon::cluster::embedded::Embedded;
use carillon::cluster::{
    About, Act, Answer, Cluster, Life, NamedPages, NodeSummary, Outcome, Pages, Published, Question, State, StoreInfo,
};
use carillon::hub::Hub;
use carillon::model::{Audience, AudienceKind, ConnectionId, Error, Name, NodeCounters, NodeId, Push, Result, Seq};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// What comes of a connection's registration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settling {
    /// It is confirmed at once.
    Confirmed,
    /// It waits.
    Waiting,
    /// It fails.
    Failing,
}

pub(crate) struct Gate {
    inner: Arc<Embedded>,
    pub(crate) settling: watch::Sender<Settling>,
}

impl Gate {
    pub(crate) fn new(hub: Arc<Hub>) -> Arc<Self> {
        let about = About {
            id: NodeId::random().unwrap(),
            address: String::new(),
            start_time: 0,
            counters: Arc::new(NodeCounters::default),
        };
        Arc::new(Self { inner: Embedded::new(hub, about), settling: watch::Sender::new(Settling::Confirmed) })
    }
}

#[async_trait]
impl Cluster for Gate {
    async fn settle(&self, audiences: &[Audience]) -> Result<()> {
        let mut settling = self.settling.subscribe();
        let decided = settling.wait_for(|settling| *settling != Settling::Waiting).await.map(|settling| *settling);
        match decided {
            Ok(Settling::Failing) => Err(Error::Unavailable("redis is away".to_owned())),
            _ => self.inner.settle(audiences).await,
        }
    }

    fn node_id(&self) -> NodeId {
        self.inner.node_id()
    }

    fn seq(&self) -> Seq {
        self.inner.seq()
    }

    fn state(&self) -> watch::Receiver<State> {
        self.inner.state()
    }

    async fn publish(&self, push: Push) -> Result<Published> {
        self.inner.publish(push).await
    }

    async fn request(&self, act: Act, timeout: Duration) -> Result<Outcome> {
        self.inner.request(act, timeout).await
    }

    async fn lives(&self) -> Result<Vec<Life>> {
        self.inner.lives().await
    }

    async fn look(&self, lives: &[Life], questions: &[Question]) -> Result<Vec<Vec<Answer>>> {
        self.inner.look(lives, questions).await
    }

    async fn act(&self, lives: &[Life], acts: &[Act], timeout: Duration) -> Vec<Vec<Outcome>> {
        self.inner.act(lives, acts, timeout).await
    }

    async fn nodes(&self) -> Result<Vec<NodeSummary>> {
        self.inner.nodes().await
    }

    async fn store(&self) -> Result<StoreInfo> {
        self.inner.store().await
    }

    async fn exists(&self, connection: ConnectionId) -> Result<bool> {
        self.inner.exists(connection).await
    }

    async fn count_connections(&self) -> Result<u64> {
        self.inner.count_connections().await
    }

    async fn count_members(&self, audience: &Audience) -> Result<u64> {
        self.inner.count_members(audience).await
    }

    async fn audiences(&self, kind: AudienceKind) -> Result<Vec<(Name, u64)>> {
        self.inner.audiences(kind).await
    }

    async fn connections(&self) -> Result<Pages> {
        self.inner.connections().await
    }

    async fn members(&self, audience: &Audience) -> Result<Pages> {
        self.inner.members(audience).await
    }

    async fn listing(&self, kind: AudienceKind, names: Option<Vec<Name>>) -> Result<NamedPages> {
        self.inner.listing(kind, names).await
    }

    async fn leave(&self) {
        self.inner.leave().await;
    }
}
