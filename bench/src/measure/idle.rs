//! Memory per connection.

use super::Bench;
use crate::load::Subscribers;
use crate::process::resident;
use crate::report::{Table, count, kilobytes, megabytes};
use crate::stack::{Kind, Pages, Server};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Connections that are open before a node is looked at first, so that what it allocates once is not counted.
const WARM_UP: usize = 200;
/// How long memory must stay the same, within [`STEADY_WITHIN`], to be read.
const STEADY_FOR: Duration = Duration::from_secs(2);
const STEADY_WITHIN: u64 = 64 * 1024;
/// How long that may take.
const STEADY_LIMIT: Duration = Duration::from_secs(20);

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let (first, next) = bench.scaled((5_000, 10_000), (500, 1_000));
    let how = format!(
        "{} connections in one channel beyond {WARM_UP} that were open before, then {} more: growth of resident memory, \
         and of Redis's `used_memory`, divided by their number. Growth says what a connection costs only where both \
         steps agree; with transparent huge pages memory comes 2 MiB at a time, used or not. The last column, all \
         of the process divided by all connections, is more than a connection costs in any case.",
        count(first as u64),
        count(next as u64)
    );
    let columns =
        &["server", "first", "next", "Redis, first", "Redis, next", "RSS before", "RSS after", "RSS ÷ connections"];
    let mut table = Table::new("Idle memory per connection", how, columns);
    for kind in bench.real_servers() {
        for pages in [Pages::AsDeployed, Pages::Small] {
            if kind == Kind::Nchan && pages == Pages::Small {
                continue;
            }
            let server = kind.start_with(&bench.programs, pages)?;
            table.row(row(&server, pages, first, next)?);
        }
    }
    Ok(table)
}

fn row(server: &Server, pages: Pages, first: usize, next: usize) -> Result<[String; 8]> {
    let _warm_up = Subscribers::connect(server.listeners(WARM_UP, 1))?;
    let before = steady_memory(server)?;
    let first_clients = Subscribers::connect(server.listeners(first, 1))?;
    let between = steady_memory(server)?;
    let next_clients = Subscribers::connect(server.listeners(next, 1))?;
    let after = steady_memory(server)?;
    let closed = first_clients.closed() + next_clients.closed();
    ensure!(closed == 0, "{} closed {closed} idle connections", server.name);
    let redis = |from: Option<u64>, to: Option<u64>, connections| {
        from.zip(to).map_or_else(|| "–".to_owned(), |(from, to)| growth(from, to, connections))
    };
    Ok([
        format!("{}{}", server.name, if pages == Pages::Small { ", small pages" } else { "" }),
        growth(before.0, between.0, first),
        growth(between.0, after.0, next),
        redis(before.1, between.1, first),
        redis(between.1, after.1, next),
        megabytes(before.0),
        megabytes(after.0),
        growth(0, after.0, WARM_UP + first + next),
    ])
}

fn growth(from: u64, to: u64, connections: usize) -> String {
    kilobytes((to as f64 - from as f64) / connections as f64)
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
