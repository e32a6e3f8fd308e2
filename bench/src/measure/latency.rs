//! From a push on one node to a socket of another.

use super::Bench;
use crate::load::{Pace, Subscribers, push_at};
use crate::process::CpuTime;
use crate::report::{Table, count, lost, micros, micros_each, quantile};
use crate::stack::{MESSAGE_LEN, Node, Pages, Redis};
use anyhow::Result;
use std::time::Duration;

const RATE: u32 = 2_000;
const PUSHERS: u32 = 4;
/// How long the last messages may take after the last push was answered.
const REST_LIMIT: Duration = Duration::from_secs(5);

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let length = bench.scaled(Duration::from_secs(10), Duration::from_secs(2));
    let programs = &bench.programs;
    let redis = Redis::start(&programs.redis)?;
    let from = Node::start(&programs.carillon, Some(redis.url()), Pages::AsDeployed)?.into_server("A", None);
    let to = Node::start(&programs.carillon, Some(redis.url()), Pages::AsDeployed)?.into_server("B", None);
    let clients = Subscribers::connect(to.listeners(1, 1))?;
    let pace = |length| Pace { rate: RATE, length, clients: PUSHERS };
    let warm_up = push_at(from.push, &from.request, pace(Duration::from_secs(1)))?;
    let had = clients.wait_for(warm_up, REST_LIMIT);
    clients.take_latencies();

    let pids = [from.process.pid(), to.process.pid(), redis.process.pid()];
    let (before, commands) = (cpu_of(pids)?, redis.commands()?);
    let pushes = push_at(from.push, &from.request, pace(length))?;
    clients.wait_for(had + pushes, REST_LIMIT);
    let (after, commands) = (cpu_of(pids)?, redis.commands()? - commands);
    let delivered = clients.messages_at_rest() - had;

    let how = format!(
        "{} pushes a second of {MESSAGE_LEN} bytes to node A over {PUSHERS} keep-alive connections for {length:?}, one subscriber \
         on node B: from the request's writing to the subscriber's reading. \
         Redis's commands are all of them, for leases as well.",
        count(RATE.into())
    );
    let columns = &[
        "path",
        "p50",
        "p99",
        "p99.9",
        "CPU per push: A",
        "B",
        "Redis",
        "Redis commands per push",
        "delivered",
        "lost",
    ];
    let mut table = Table::new("Latency across two nodes", how, columns);
    let latencies = clients.take_latencies();
    let [a, b, shared] = [0, 1, 2].map(|index: usize| micros(micros_each(after[index].since(&before[index]), pushes)));
    table.row([
        "A → Redis → B".to_owned(),
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        quantile(&latencies, 0.999),
        a,
        b,
        shared,
        format!("{:.2}", commands as f64 / pushes as f64),
        count(delivered),
        lost(pushes, delivered),
    ]);
    Ok(table)
}

fn cpu_of(pids: [u32; 3]) -> Result<Vec<CpuTime>> {
    pids.into_iter().map(CpuTime::of).collect()
}
