//! Reads the configuration and runs a node, or a client's command; nothing else.

#![warn(clippy::unwrap_used, clippy::expect_used)]

use carillon::cli::{Cli, Command};
use carillon::config::{self, Config};
use carillon::node::Node;
use carillon::operator::Order;
use carillon::{client, log};
use clap::Parser;
use mimalloc::MiMalloc;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// As fast on musl as on glibc. Without transparent huge pages (its feature `no_thp`), with which a connection costs memory by
/// steps of 2 MiB and a fresh node three times as much.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Orders that may wait; more of the same kind say nothing new.
const ORDERS: usize = 4;

/// Exit code for a configuration that can't be, as for wrong usage.
const WRONG_CONFIGURATION: u8 = 2;

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Client(command)) => client::run(&command),
        Some(Command::Config { markdown }) => client::print(&config::table(markdown)),
        Some(Command::Serve) | None => serve(),
    }
}

fn serve() -> ExitCode {
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("carillon: the configuration has faults:\n{faults}");
            return ExitCode::from(WRONG_CONFIGURATION);
        }
    };
    let log = match log::init(config.log_format, &config.reloadable.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("carillon: {error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(config.workers).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(config, log)),
        Err(error) => Err(format!("the runtime can't be started: {error}")),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config, log: log::LogLevel) -> Result<(), String> {
    // Before the ports are open, so that no signal of somebody who saw them open is missed.
    let (sender, orders) = orders().map_err(|error| format!("signals can't be received: {error}"))?;
    let node = Node::start(config, Some(log), sender).await.map_err(|error| error.to_string())?;
    node.run(orders).await;
    Ok(())
}

/// The way for orders. SIGTERM and SIGINT stop, SIGHUP reloads.
fn orders() -> std::io::Result<(mpsc::Sender<Order>, mpsc::Receiver<Order>)> {
    let (sender, receiver) = mpsc::channel(ORDERS);
    let kinds = [
        (SignalKind::terminate(), Order::Stop),
        (SignalKind::interrupt(), Order::Stop),
        (SignalKind::hangup(), Order::Reload),
    ];
    for (kind, order) in kinds {
        let (mut signals, sender) = (signal(kind)?, sender.clone());
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                if sender.send(order).await.is_err() {
                    return;
                }
            }
        });
    }
    Ok((sender, receiver))
}
