//! Several nodes on one Redis of their own.

use super::resp::Resp;
use super::{Node, RedisServer};
use futures_util::future::join_all;

/// The nodes and their Redis. A killed node may stay among them or be taken out.
pub struct Fleet {
    /// The nodes; dropped before the Redis.
    pub nodes: Vec<Node>,
    /// What they share.
    pub redis: RedisServer,
}

impl Fleet {
    /// So many nodes with these variables, all ready.
    pub async fn start(size: usize, environment: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start().await;
        let url = redis.url();
        let mut variables = vec![("REDIS_URL", url.as_str())];
        variables.extend_from_slice(environment);
        let nodes = join_all((0..size).map(|_| Node::start(&variables))).await;
        Self { nodes, redis }
    }

    /// A look into Redis.
    pub async fn resp(&self) -> Resp {
        Resp::connect(self.redis.port()).await
    }
}
