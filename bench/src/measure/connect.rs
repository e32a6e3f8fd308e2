//! CPU per connect.

use super::{Bench, Cpu};
use crate::load::Subscribers;
use crate::report::{Table, count, micros, micros_each, rate};
use anyhow::Result;
use std::time::Instant;

/// Connections that are opened before the clock starts.
const WARM_UP: usize = 500;

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let clients = bench.scaled(10_000, 2_000);
    let mut how = String::new();
    let mut rows = Vec::new();
    for kind in bench.real_servers() {
        let server = kind.start(&bench.programs)?;
        let _warm_up = Subscribers::connect(server.listeners(WARM_UP, 1))?;
        let listen = server.listeners(clients, 1);
        how = format!(
            "{} connects into one channel after {WARM_UP} for warming up, {} handshakes under way at once; \
             on Redis a handshake is answered when the connection is registered there.",
            count(clients as u64),
            listen.in_flight
        );
        let (before, start) = (Cpu::of(&server)?, Instant::now());
        let connected = Subscribers::connect(listen)?;
        let (time, (cpu, redis)) = (start.elapsed(), Cpu::of(&server)?.since(&before));
        let each = |cpu| micros(micros_each(cpu, connected.clients()));
        let redis = redis.map_or_else(|| "–".to_owned(), each);
        rows.push([server.name.to_owned(), each(cpu), redis, rate(connected.clients(), time)]);
    }
    let mut table = Table::new("CPU per connect", how, &["server", "node", "Redis", "connects/s"]);
    rows.into_iter().for_each(|row| table.row(row));
    Ok(table)
}
