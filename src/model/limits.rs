//! Every limit that a client or backend can run into, with its default and its reason.

use std::time::Duration;

/// The limits of one node. For the binary each is an environment variable of the same name. Later versions may have more of them, so a
/// program names those that it changes:
///
/// ```
/// let limits = carillon::Limits { max_message: 64 << 10, ..carillon::Limits::default() };
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one message from a client, fragments together; more closes it with 1009. A handler that does not receive keeps up to
    /// two of them in memory for each of its clients, and what has come of a third.
    pub max_message: usize,
    /// Bytes of one push.
    pub max_push: usize,
    /// Bytes of an HTTP request body.
    pub max_body: usize,
    /// Time from accepting a TCP connection to the end of its request headers.
    pub handshake_timeout: Duration,
    /// Channels one connection may be subscribed to.
    pub max_channels: usize,
    /// Groups one connection may be in.
    pub max_groups: usize,
    /// Bytes a connection may have unsent beyond the frame being written; more closes it with 4008. What its own handler pushes
    /// doesn't count, as that waits.
    pub max_unsent: usize,
    /// Connections of this node; 0 is no limit.
    pub max_connections: usize,
    /// Connections of this node that one address may have, an IPv6 network of 64 bits being one; 0 is no limit.
    pub max_connections_per_address: usize,
    /// Time between two pings to a connection; two unanswered ones end it. Zero: no pings.
    pub ping_interval: Duration,
    /// Bytes of pushes that may wait in the hub before new ones are dropped and counted as a gap.
    pub hub_queue: usize,
    /// How long an act waits for the owning node's answer.
    pub act_timeout: Duration,
    /// How long a handshake waits for Redis to take the connection before it is refused with 503.
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 2 << 20,
            max_push: 1 << 20,
            max_body: 8 << 20,
            handshake_timeout: Duration::from_secs(10),
            max_channels: 1000,
            max_groups: 1000,
            max_unsent: 1 << 20,
            max_connections: 0,
            max_connections_per_address: 0,
            ping_interval: Duration::from_secs(25),
            hub_queue: 64 << 20,
            act_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(5),
        }
    }
}
