//! Memory per connection.

use super::Bench;
use crate::load::Subscribers;
use crate::process::resident;
use crate::report::{Table, count, kilobytes, megabytes};
use crate::stack::Server;
use anyhow::Result;
use std::time::{Duration, Instant};

/// Connections that are open before memory is first read, so that what a node allocates once is not counted.
const WARM_UP: usize = 200;
/// How long memory must stay the same, within [`STEADY_WITHIN`], to be read.
const STEADY_FOR: Duration = Duration::from_secs(2);
const STEADY_WITHIN: u64 = 64 * 1024;
/// How long that may take.
const STEADY_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let clients = bench.scaled(10_000, 1_000);
    let how = format!(
        "{} connections in one channel, beyond {WARM_UP} that were open before: growth of resident memory, \
         and of Redis's `used_memory`, divided by their number.",
        count(clients as u64)
    );
    let mut table = Table::new(
        "Idle memory per connection",
        how,
        &["server", "per connection", "Redis, per connection", "RSS before", "RSS after"],
    );
    for kind in bench.real_servers() {
        let server = kind.start(&bench.programs)?;
        let _warm_up = Subscribers::connect(server.listeners(WARM_UP, 1))?;
        let before = steady_memory(&server)?;
        let _clients = Subscribers::connect(server.listeners(clients, 1))?;
        let after = steady_memory(&server)?;
        let each = |after: u64, before: u64| kilobytes((after as f64 - before as f64) / clients as f64);
        table.row([
            server.name.to_owned(),
            each(after.0, before.0),
            after.1.zip(before.1).map_or_else(|| "–".to_owned(), |(after, before)| each(after, before)),
            megabytes(before.0),
            megabytes(after.0),
        ]);
    }
    Ok(table)
}

/// The server's resident memory and what its Redis uses, once the former has come to rest.
fn steady_memory(server: &Server) -> Result<(u64, Option<u64>)> {
    let end = Instant::now() + STEADY_LIMIT;
    let (mut since, mut memory) = (Instant::now(), resident(server.process.pid())?);
    while since.elapsed() < STEADY_FOR && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(100));
        let now = resident(server.process.pid())?;
        if now.abs_diff(memory) > STEADY_WITHIN {
            (since, memory) = (Instant::now(), now);
        }
    }
    let redis = server.redis.as_ref().map(|redis| redis.used_memory()).transpose()?;
    Ok((resident(server.process.pid())?, redis))
}
