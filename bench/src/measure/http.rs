//! Pushes per second through the HTTP API.

use super::{Bench, Cpu};
use crate::load::{Pushers, Reuse, Subscribers};
use crate::report::{Table, count, lost, micros, micros_each, quantile, rate};
use crate::stack::{Kind, MESSAGE_LEN, Server};
use anyhow::Result;
use std::time::{Duration, Instant};

const CLIENTS: usize = 16;
const WARM_UP: Duration = Duration::from_millis(500);
/// How long the rest of the messages may take after the last push was answered.
const REST_LIMIT: Duration = Duration::from_secs(10);

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let window = bench.scaled(Duration::from_secs(6), Duration::from_secs(2));
    let how = format!(
        "{CLIENTS} HTTP clients, each of which pushes {MESSAGE_LEN} bytes whenever its last push was answered, for {window:?}; \
         one subscriber, so that it shows what was lost."
    );
    let columns = &["server", "pushes/s", "CPU per push", "Redis, per push", "answer p50", "p99", "refused", "lost"];
    let mut table = Table::new("HTTP API", how, columns);
    // The API is plain HTTP beside TLS: the same as without.
    for kind in bench.real_servers().filter(|kind| *kind != Kind::Tls) {
        let server = kind.start(&bench.programs)?;
        for (reuse, connections) in [(Reuse::KeepAlive, "keep-alive"), (Reuse::NewEach, "a connection each")] {
            let cells = push(&server, reuse, window)?;
            table.row([format!("{}, {connections}", server.name)].into_iter().chain(cells));
        }
    }
    Ok(table)
}

fn push(server: &Server, reuse: Reuse, window: Duration) -> Result<[String; 7]> {
    let subscriber = Subscribers::connect(server.listeners(1, 1))?;
    let pushers = Pushers::start(server.push, &server.request, CLIENTS, reuse)?;
    std::thread::sleep(WARM_UP);
    pushers.take_latencies();
    let (start, earlier, before) = (Instant::now(), pushers.accepted(), Cpu::of(server)?);
    std::thread::sleep(window);
    let (cpu, redis) = Cpu::of(server)?.since(&before);
    let (pushes, time, latencies) = (pushers.accepted() - earlier, start.elapsed(), pushers.take_latencies());

    let (accepted, refused) = pushers.stop()?;
    subscriber.wait_for(accepted, REST_LIMIT);
    let came = subscriber.messages_at_rest();
    Ok([
        rate(pushes, time),
        micros(micros_each(cpu, pushes)),
        redis.map_or_else(|| "–".to_owned(), |redis| micros(micros_each(redis, pushes))),
        quantile(&latencies, 0.5),
        quantile(&latencies, 0.99),
        count(refused),
        lost(accepted, came),
    ])
}
