//! What a node costs before anybody has connected.

use super::Bench;
use crate::process::resident;
use crate::report::{Table, megabytes};
use crate::stack::{Node, Pages, Redis};
use anyhow::{Context, Result};
use std::fs;
use std::time::{Duration, Instant};

/// How long a node is left alone before its memory is read.
const REST: Duration = Duration::from_secs(1);

pub(super) fn measure(bench: &Bench) -> Result<Table> {
    let starts = bench.scaled(15, 3);
    let program = &bench.programs.carillon;
    let binary = fs::metadata(program).with_context(|| program.display().to_string())?.len();
    let redis = Redis::start(&bench.programs.redis)?;
    let how = format!(
        "{starts} starts: from starting the process to `/readyz` answering 200. Resident memory {REST:?} after \
         the last of them was ready. The binary has {}.",
        megabytes(binary)
    );
    let columns = &["server", "median", "slowest", "RSS"];
    let mut table = Table::new("Start", how, columns);
    for (name, url) in [("Carillon, embedded", None), ("Carillon on Redis", Some(redis.url()))] {
        let mut times = Vec::new();
        let mut memory = 0;
        for start in 1..=starts {
            let began = Instant::now();
            let node = Node::start(program, url.clone(), Pages::AsDeployed)?;
            times.push(began.elapsed());
            if start == starts {
                std::thread::sleep(REST);
                memory = resident(node.pid())?;
            }
        }
        times.sort();
        let at =
            |index: usize| times.get(index).map_or_else(|| "–".to_owned(), |time| format!("{} ms", time.as_millis()));
        table.row([name.to_owned(), at(times.len() / 2), at(times.len() - 1), megabytes(memory)]);
    }
    Ok(table)
}
