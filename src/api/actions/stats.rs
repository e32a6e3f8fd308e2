//! The reply to `stats`: the keys of the original, filled with the cluster's figures.
//!
//! Each figure has its counterpart at `/metrics`, summed over the nodes where the right column says so, so that the one
//! can be given up for the other; keys that are not here have none and are 0 or empty:
//!
//! | `stats` | `/metrics` |
//! |---|---|
//! | `cache_info.num_hits`, `.num_misses` | `carillon_store_hits_total`, `carillon_store_misses_total` |
//! | `cache_info.num_inserts` | sum of `carillon_joins_total` |
//! | `cache_info.num_entries`, length of `channels` and of `cache_list` | `carillon_cluster_channels` |
//! | `cache_info.start_time` | `carillon_store_start_time_seconds` |
//! | `cache_info.mem_size` | `carillon_store_memory_bytes` |
//! | `ws_server.start_time` | least `process_start_time_seconds` |
//! | `ws_server.connection_num` | sum of `carillon_connections_open` |
//! | `ws_server.accept_count` | sum of `carillon_connections_accepted_total` |
//! | `ws_server.close_count` | sum of `carillon_connections_closed_total` |
//! | `ws_server.worker_num` | sum of `carillon_worker_threads` |
//! | `ws_server.idle_worker_num` | `worker_num` less `tasking_num`, at least 0 |
//! | `ws_server.tasking_num` | sum of `carillon_http_requests_active` |
//! | `ws_server.request_count`, `.worker_request_count` | sum of `carillon_http_requests_total` |
//! | `ws_server.worker_dispatch_count` | sum of `carillon_audience_hits_total` and `carillon_audience_misses_total` |
//! | `ws_server.coroutine_num` | sum of `carillon_tasks` |

use crate::cluster::NodeSummary;
use crate::model::{Name, NodeCounters};
use crate::service::Stats;
use serde::Serialize;

/// `response` of a `stats` call, its keys in the original's order.
#[derive(Serialize)]
pub(super) struct StatsResponse<'a> {
    status: bool,
    channels: Vec<&'a str>,
    cache_info: CacheInfo<'a>,
    ws_server: WsServer,
}

#[derive(Serialize)]
struct CacheInfo<'a> {
    num_slots: u64,
    ttl: u64,
    num_hits: u64,
    num_misses: u64,
    num_inserts: u64,
    num_entries: u64,
    expunges: u64,
    start_time: u64,
    mem_size: u64,
    memory_type: &'a str,
    cache_list: Vec<CacheEntry<'a>>,
    deleted_list: [(); 0],
    slot_distribution: NoSlots,
}

#[derive(Serialize)]
struct CacheEntry<'a> {
    info: &'a str,
    ttl: u64,
    num_hits: u64,
    mtime: u64,
    creation_time: u64,
    deletion_time: u64,
    access_time: u64,
    ref_count: u64,
    mem_size: u64,
}

/// An object without keys.
#[derive(Serialize)]
struct NoSlots {}

#[derive(Serialize)]
struct WsServer {
    start_time: u64,
    connection_num: u64,
    accept_count: u64,
    close_count: u64,
    worker_num: u64,
    idle_worker_num: u64,
    tasking_num: u64,
    request_count: u64,
    worker_request_count: u64,
    worker_dispatch_count: u64,
    coroutine_num: u64,
}

impl<'a> From<&'a Stats> for StatsResponse<'a> {
    fn from(stats: &'a Stats) -> Self {
        let sum = |figure: fn(&NodeCounters) -> u64| stats.nodes.iter().map(|node| figure(&node.counters)).sum::<u64>();
        let names = || stats.channels.iter().map(|(name, _)| Name::as_str(name));
        let workers = sum(|counters| counters.workers);
        let requests = sum(|counters| counters.requests);
        let active = sum(|counters| counters.requests_active);
        Self {
            status: true,
            channels: names().collect(),
            cache_info: CacheInfo {
                num_slots: 0,
                ttl: 0,
                num_hits: stats.store.hits,
                num_misses: stats.store.misses,
                num_inserts: sum(|counters| counters.joins),
                num_entries: stats.channels.len() as u64,
                expunges: 0,
                start_time: stats.store.start_time,
                mem_size: stats.store.memory,
                memory_type: stats.store.kind,
                cache_list: names().map(CacheEntry::new).collect(),
                deleted_list: [],
                slot_distribution: NoSlots {},
            },
            ws_server: WsServer {
                start_time: earliest(&stats.nodes),
                connection_num: sum(|counters| counters.connections),
                accept_count: sum(|counters| counters.accepted),
                close_count: sum(|counters| counters.closed),
                worker_num: workers,
                idle_worker_num: workers.saturating_sub(active),
                tasking_num: active,
                request_count: requests,
                worker_request_count: requests,
                worker_dispatch_count: sum(|counters| counters.hits + counters.misses),
                coroutine_num: sum(|counters| counters.tasks),
            },
        }
    }
}

impl<'a> CacheEntry<'a> {
    fn new(info: &'a str) -> Self {
        Self {
            info,
            ttl: 0,
            num_hits: 0,
            mtime: 0,
            creation_time: 0,
            deletion_time: 0,
            access_time: 0,
            ref_count: 0,
            mem_size: 0,
        }
    }
}

fn earliest(nodes: &[NodeSummary]) -> u64 {
    nodes.iter().map(|node| node.start_time).min().unwrap_or(0)
}
