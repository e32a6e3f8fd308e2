//! The figures that a node keeps of itself and others read.

/// A node's own counters that `stats` sums up over the cluster (`contract/actions.md`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeCounters {
    /// WebSocket connections open now.
    pub connections: u64,
    /// WebSocket connections accepted since start.
    pub accepted: u64,
    /// WebSocket connections closed since start.
    pub closed: u64,
    /// Worker threads of the runtime.
    pub workers: u64,
    /// HTTP requests taken since start, all dialects.
    pub requests: u64,
    /// Tasks alive in the runtime.
    pub tasks: u64,
    /// Local audience look-ups by a push that found members.
    pub hits: u64,
    /// Local audience look-ups by a push that found nobody.
    pub misses: u64,
    /// Memberships made since start.
    pub joins: u64,
    /// Requests being answered now.
    pub requests_active: u64,
}
