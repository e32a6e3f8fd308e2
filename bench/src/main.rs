//! Measures Carillon: real nodes, a real Redis and a load generator on one machine.
//!
//! The cores are shared with the load generator, so the figures to look at are the server's CPU time per unit of work,
//! from what the kernel has booked for its process, and the ratio to a bare loop of `send(2)` in the same run. Wall-clock
//! figures say as much about the machine.
//!
//! `stack` starts what is measured, `load` makes the load, `process` asks the kernel what it cost, `measure` has a file for
//! each table, `report` prints it. `carillon-floor` is the bare loop, `carillon-handler` a program on the library.

mod clock;
mod histogram;
mod load;
mod measure;
mod process;
mod report;
mod stack;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use measure::{Bench, What};
use stack::{Kind, Programs, Redis};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Measure Carillon and print tables in Markdown
#[derive(Parser)]
#[command(name = "carillon-bench")]
struct Options {
    /// What to measure; everything where nothing is given
    #[arg(value_enum)]
    what: Vec<What>,
    /// Take seconds, not minutes: to see that it works, not for figures to keep
    #[arg(long)]
    quick: bool,
    /// The servers to measure, separated by commas; ratios are to the first of them
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SERVER", default_value = "floor,embedded,tls,redis")]
    servers: Vec<Kind>,
    /// The server's program; the one beside this program where it isn't given
    #[arg(long, value_name = "PATH")]
    carillon: Option<PathBuf>,
    /// Redis's server
    #[arg(long, value_name = "PATH", default_value = "redis-server")]
    redis: PathBuf,
    /// nginx, for the comparison with nchan
    #[arg(long, value_name = "PATH", default_value = "nginx")]
    nginx: PathBuf,
}

fn main() -> Result<()> {
    let options = Options::parse();
    let own = std::env::current_exe()?;
    let beside = own.parent().context("the program's own directory")?;
    let programs = Programs {
        carillon: located(options.carillon.unwrap_or_else(|| beside.join("carillon")))?,
        handler: beside.join("carillon-handler"),
        floor: beside.join("carillon-floor"),
        redis: located(options.redis)?,
        nginx: located(options.nginx)?,
    };
    println!("{}", heading(&programs)?);
    let bench = Bench { programs, servers: options.servers, quick: options.quick };
    let all = What::value_variants();
    for what in if options.what.is_empty() { all } else { &options.what } {
        let name = what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        eprintln!("measuring {name} …");
        println!("{}", what.measure(&bench).with_context(|| format!("measuring {name}"))?);
    }
    Ok(())
}

/// A path that holds in every directory; a bare name is left to `PATH`.
fn located(program: PathBuf) -> Result<PathBuf> {
    let bare = program.components().count() == 1;
    Ok(if bare { program } else { std::path::absolute(program)? })
}

/// Date, machine and versions.
fn heading(programs: &Programs) -> Result<String> {
    let date = output(Path::new("date"), &["-u", "+%Y-%m-%d"])?;
    let kernel = output(Path::new("uname"), &["-sr"])?;
    let cores = std::thread::available_parallelism()?;
    let cpu = std::fs::read_to_string("/proc/cpuinfo")?
        .lines()
        .find_map(|line| Some(line.strip_prefix("model name")?.split_once(':')?.1.trim().to_owned()))
        .unwrap_or_else(|| "unknown processor".to_owned());
    let carillon = output(&programs.carillon, &["--version"])?;
    let redis = Redis::start(&programs.redis)?.version()?;
    Ok(format!("## Carillon's benchmark, {date}\n\n{cores} cores ({cpu}), {kernel}; {carillon}, Redis {redis}.\n"))
}

/// The first line that a program prints.
fn output(program: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.display().to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().trim().to_owned();
    anyhow::ensure!(output.status.success(), "{} ended with {}", program.display(), output.status);
    Ok(text)
}
