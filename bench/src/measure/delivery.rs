//! CPU per delivery at a moderate rate.

use super::{Bench, Cpu};
use crate::histogram::Quantiles;
use crate::load::{Pace, Subscribers, push_at};
use crate::report::{Table, count, micros, micros_each, quantile};
use crate::stack::{MESSAGE_LEN, Server};
use anyhow::Result;
use std::time::Duration;

const CLIENTS: usize = 1_000;
const RATE: u32 = 200;
/// How long a server's turn is.
const TURN: Duration = Duration::from_millis(2_500);
/// How long the last messages may take after the last push was answered.
const REST_LIMIT: Duration = Duration::from_secs(5);

#[derive(Default)]
struct Tally {
    cpu: Duration,
    redis: Option<Duration>,
    pushes: u64,
    deliveries: u64,
    latencies: Quantiles,
}

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let turns = bench.scaled(4, 1);
    let servers = bench.start_all()?;
    let mut contestants = Vec::new();
    for server in &servers {
        contestants.push((server, Subscribers::connect(server.listeners(CLIENTS, 16))?, Tally::default()));
    }
    for (server, clients, _) in &contestants {
        take_turn(server, clients, TURN / 5, &mut Tally::default())?;
    }
    for _ in 0..turns {
        for (server, clients, tally) in &mut contestants {
            take_turn(server, clients, TURN, tally)?;
        }
    }

    let how = format!(
        "{} subscribers, {RATE} pushes a second of {MESSAGE_LEN} bytes through the HTTP API; {turns} turns of {TURN:?} for \
         each server, alternating; the ratio is to the first of them. CPU time is all of the server's: for accepting the pushes, for Redis's client, for the kernel's \
         half of each send.",
        count(CLIENTS as u64)
    );
    let columns =
        &["server", "CPU per delivery", "ratio", "Redis, per push", "latency p50", "p99", "delivered", "lost"];
    let mut table = Table::new("CPU per delivery", how, columns);
    let mut floor = None;
    for (server, clients, tally) in contestants {
        let each = micros_each(tally.cpu, tally.deliveries);
        let ratio = each / *floor.get_or_insert(each);
        table.row([
            server.name.to_owned(),
            micros(each),
            format!("{ratio:.2}"),
            tally.redis.map_or_else(|| "–".to_owned(), |redis| micros(micros_each(redis, tally.pushes))),
            quantile(&tally.latencies, 0.5),
            quantile(&tally.latencies, 0.99),
            count(tally.deliveries),
            count((tally.pushes * clients.clients()).saturating_sub(tally.deliveries)),
        ]);
    }
    Ok(table)
}

fn take_turn(server: &Server, clients: &Subscribers, length: Duration, tally: &mut Tally) -> Result<()> {
    let had = clients.messages();
    clients.take_latencies();
    let before = Cpu::of(server)?;
    let pushes = push_at(server.push, &server.request, Pace { rate: RATE, length, clients: 1 })?;
    let have = clients.wait_for(had + pushes * clients.clients(), REST_LIMIT);
    let (cpu, redis) = Cpu::of(server)?.since(&before);
    tally.cpu += cpu;
    tally.redis = redis.map(|redis| redis + tally.redis.unwrap_or_default());
    tally.pushes += pushes;
    tally.deliveries += have - had;
    tally.latencies.add(&clients.take_latencies());
    Ok(())
}
