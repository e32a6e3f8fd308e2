//! Deliveries per second when pushes come as fast as they are taken.

use super::{Bench, Cpu};
use crate::histogram::Quantiles;
use crate::load::{Pushers, Reuse, Subscribers};
use crate::process::CpuTime;
use crate::report::{Table, count, lost, micros, micros_each, quantile, rate};
use crate::stack::{MESSAGE_LEN, Server};
use anyhow::Result;
use std::time::{Duration, Instant};

const CLIENTS: usize = 1_000;
const PUSHERS: usize = 8;
const WARM_UP: Duration = Duration::from_secs(1);
/// How long the rest of the messages may take after the last push was answered.
const REST_LIMIT: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Tally {
    time: Duration,
    cpu: Duration,
    redis: Duration,
    generator: Duration,
    pushes: u64,
    deliveries: u64,
    refused: u64,
    owed: u64,
    latencies: Quantiles,
}

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let (turns, window) = bench.scaled((2, Duration::from_secs(5)), (1, Duration::from_secs(2)));
    let servers = bench.start_all()?;
    let mut contestants = Vec::new();
    for server in &servers {
        contestants.push((server, Subscribers::connect(server.listeners(CLIENTS, 16))?, Tally::default()));
    }
    for _ in 0..turns {
        for (server, clients, tally) in &mut contestants {
            take_turn(server, clients, window, tally)?;
        }
    }

    let how = format!(
        "{} subscribers, {PUSHERS} publishers with a keep-alive connection each, which push {MESSAGE_LEN} bytes whenever \
         their last push was answered; {turns} turns of {:?} for each server, alternating. Time and CPU time are from the \
         first push to the last delivery. Latency is from the request's writing to the subscriber's reading, waiting in \
         sockets' buffers included, after {WARM_UP:?}.",
        count(CLIENTS as u64),
        WARM_UP + window
    );
    let columns = &[
        "server",
        "deliveries/s",
        "CPU per delivery",
        "pushes/s",
        "server, cores",
        "Redis, cores",
        "generator, cores",
        "latency p50",
        "p99",
        "refused",
        "lost",
        "disconnected",
    ];
    let mut table = Table::new("Saturation", how, columns);
    for (server, clients, tally) in contestants {
        let cores = |cpu: Duration| format!("{:.2}", cpu.as_secs_f64() / tally.time.as_secs_f64());
        table.row([
            server.name.to_owned(),
            rate(tally.deliveries, tally.time),
            micros(micros_each(tally.cpu, tally.deliveries)),
            rate(tally.pushes, tally.time),
            cores(tally.cpu),
            cores(tally.redis),
            cores(tally.generator),
            quantile(&tally.latencies, 0.5),
            quantile(&tally.latencies, 0.99),
            count(tally.refused),
            lost(tally.owed, tally.deliveries),
            count(clients.closed()),
        ]);
    }
    Ok(table)
}

/// Everything from the first push to the last delivery counts, the warm-up as well: what a server has taken in and not yet
/// sent, or sent and the subscribers not yet read, would else be work of one window and deliveries of another.
fn take_turn(server: &Server, clients: &Subscribers, window: Duration, tally: &mut Tally) -> Result<()> {
    let had = clients.messages();
    let (start, before, generator) = (Instant::now(), Cpu::of(server)?, CpuTime::of(std::process::id())?);
    let pushers = Pushers::start(server.push, &server.request, PUSHERS, Reuse::KeepAlive)?;
    std::thread::sleep(WARM_UP);
    clients.take_latencies();
    std::thread::sleep(window);
    tally.latencies.add(&clients.take_latencies());
    let (accepted, refused) = pushers.stop()?;
    let owed = accepted * clients.clients();
    clients.wait_for(had + owed, REST_LIMIT);

    tally.time += start.elapsed();
    let (cpu, redis) = Cpu::of(server)?.since(&before);
    tally.cpu += cpu;
    tally.redis += redis.unwrap_or_default();
    tally.generator += CpuTime::of(std::process::id())?.since(&generator);
    tally.pushes += accepted;
    tally.refused += refused;
    tally.owed += owed;
    tally.deliveries += clients.messages_at_rest() - had;
    Ok(())
}
