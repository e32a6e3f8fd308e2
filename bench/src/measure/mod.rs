//! The measurements. Each starts what it needs, measures, and returns a table; none of them judges.

mod connect;
mod delivery;
mod http;
mod idle;
mod latency;
mod saturation;
mod start;

use crate::process::CpuTime;
use crate::report::Table;
use crate::stack::{Kind, Programs, Server};
use anyhow::Result;
use clap::ValueEnum;
use std::time::Duration;

/// What can be measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum What {
    /// Memory per connection
    Idle,
    /// CPU per delivery at a rate that leaves the server mostly idle, beside a bare loop of send(2)
    Delivery,
    /// Deliveries per second as fast as the server goes, beside a bare loop of send(2)
    Saturation,
    /// From a push on one node to a socket of another, through Redis
    Latency,
    /// CPU per connect, of the node and of Redis
    Connect,
    /// Pushes per second through the HTTP API
    Http,
    /// Start to ready, size of the binary, memory of a node without connections
    Start,
}

/// What is measured, and how thoroughly.
pub struct Bench {
    /// The programs.
    pub programs: Programs,
    /// The servers that are measured, where a measurement has more than one.
    pub servers: Vec<Kind>,
    /// Seconds instead of minutes: to see that it works, not for figures to keep.
    pub quick: bool,
}

impl Bench {
    /// A number that is smaller in a quick run.
    fn scaled<T>(&self, thorough: T, quick: T) -> T {
        if self.quick { quick } else { thorough }
    }

    /// All the servers, running at once: they take turns.
    fn start_all(&self) -> Result<Vec<Server>> {
        self.servers.iter().map(|kind| kind.start(&self.programs)).collect()
    }

    /// The servers that do more than send, to be started and measured one after the other.
    fn real_servers(&self) -> impl Iterator<Item = Kind> {
        self.servers.iter().copied().filter(|kind| *kind != Kind::Floor)
    }
}

impl What {
    /// Measures.
    pub fn measure(self, bench: &Bench) -> Result<Table> {
        match self {
            Self::Idle => idle::measure(bench),
            Self::Delivery => delivery::measure(bench),
            Self::Saturation => saturation::measure(bench),
            Self::Latency => latency::measure(bench),
            Self::Connect => connect::measure(bench),
            Self::Http => http::measure(bench),
            Self::Start => start::measure(bench),
        }
    }
}

/// CPU time of a server and of its Redis.
struct Cpu {
    server: CpuTime,
    redis: Option<CpuTime>,
}

impl Cpu {
    fn of(server: &Server) -> Result<Self> {
        let redis = server.redis.as_ref().map(|redis| CpuTime::of(redis.process.pid())).transpose()?;
        Ok(Self { server: CpuTime::of(server.process.pid())?, redis })
    }

    /// What the server has used since an earlier moment, and its Redis.
    fn since(&self, before: &Self) -> (Duration, Option<Duration>) {
        let redis = self.redis.as_ref().zip(before.redis.as_ref()).map(|(now, then)| now.since(then));
        (self.server.since(&before.server), redis)
    }
}
