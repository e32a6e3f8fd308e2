//! CPU per delivery at a moderate rate.

use super::{Bench, Cpu};
use crate::histogram::Quantiles;
use crate::load::{Pace, Subscribers, push_at};
use crate::report::{Table, count, lost, micros, micros_each, quantile};
use crate::stack::{MESSAGE_LEN, Server};
use anyhow::Result;
use std::time::Duration;

const CLIENTS: usize = 1_000;
const RATE: u32 = 200;
/// How long a server's turn is: short, so that whatever else the machine does meets all servers alike.
const TURN: Duration = Duration::from_secs(1);
/// How long the last messages may take after the last push was answered.
const REST_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Tally {
    /// CPU time per delivery of each turn, in microseconds.
    cpu: Vec<f64>,
    redis: Option<Duration>,
    pushes: u64,
    deliveries: u64,
    latencies: Quantiles,
}

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let turns = bench.scaled(10, 3);
    let servers = bench.start_all()?;
    let mut contestants = Vec::new();
    for server in &servers {
        contestants.push((server, Subscribers::connect(server.listeners(CLIENTS, 16))?, Tally::default()));
    }
    for (server, clients, _) in &contestants {
        take_turn(server, clients, TURN, &mut Tally::default())?;
    }
    for _ in 0..turns {
        for (server, clients, tally) in &mut contestants {
            take_turn(server, clients, TURN, tally)?;
        }
    }

    let how = format!(
        "{} subscribers, {RATE} pushes a second of {MESSAGE_LEN} bytes through the HTTP API; {turns} turns of {TURN:?} for \
         each server, alternating: the median of them, its ratio to the first server's, and their range. CPU time is all \
         of the server's: for accepting the pushes, for Redis's client, for the kernel's half of each send.",
        count(CLIENTS as u64)
    );
    let columns = &[
        "server",
        "CPU per delivery",
        "ratio",
        "range of the turns",
        "Redis, per push",
        "latency p50",
        "p99",
        "delivered",
        "lost",
    ];
    let mut table = Table::new("CPU per delivery", how, columns);
    let mut floor = None;
    for (server, clients, mut tally) in contestants {
        tally.cpu.sort_by(f64::total_cmp);
        let [lowest, median, highest] = [0, tally.cpu.len() / 2, tally.cpu.len() - 1].map(|turn| tally.cpu[turn]);
        let ratio = median / *floor.get_or_insert(median);
        table.row([
            server.name.to_owned(),
            micros(median),
            format!("{ratio:.2}"),
            format!("{lowest:.2} – {highest:.2} µs"),
            tally.redis.map_or_else(|| "–".to_owned(), |redis| micros(micros_each(redis, tally.pushes))),
            quantile(&tally.latencies, 0.5),
            quantile(&tally.latencies, 0.99),
            count(tally.deliveries),
            lost(tally.pushes * clients.clients(), tally.deliveries),
        ]);
    }
    Ok(table)
}

fn take_turn(server: &Server, clients: &Subscribers, length: Duration, tally: &mut Tally) -> Result<()> {
    let had = clients.messages();
    clients.take_latencies();
    let before = Cpu::of(server)?;
    let pushes = push_at(server.push, &server.request, Pace { rate: RATE, length, clients: 1 })?;
    clients.wait_for(had + pushes * clients.clients(), REST_LIMIT);
    let (cpu, redis) = Cpu::of(server)?.since(&before);
    let have = clients.messages_at_rest();
    tally.cpu.push(micros_each(cpu, have - had));
    tally.redis = redis.map(|redis| redis + tally.redis.unwrap_or_default());
    tally.pushes += pushes;
    tally.deliveries += have - had;
    tally.latencies.add(&clients.take_latencies());
    Ok(())
}
