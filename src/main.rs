//! Reads the configuration and runs a node, or a client's command; nothing else.

#![warn(clippy::unwrap_used, clippy::expect_used)]

use carillon::cli::{self, Cli, Command};
use carillon::config::{self, Config};
use carillon::daemon::PidFile;
use carillon::{Server, client, daemon, log};
use clap::Parser;
use mimalloc::MiMalloc;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

/// As fast on musl as on glibc. Without transparent huge pages (its feature `no_thp`), with which a connection costs memory by
/// steps of 2 MiB and a fresh node three times as much.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Exit code for wrong usage, and for a configuration that can't be.
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let language = cli::language(&arguments, config::locale().as_deref());
    let cli = match cli::spelled(arguments) {
        Ok(arguments) => Cli::parse_from(arguments),
        Err(phrase) => {
            eprintln!("{}", phrase.in_language(language));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    match cli.command {
        Some(Command::Client(command)) => client::run(&command),
        Some(Command::Config { markdown }) => client::print(&config::table(markdown)),
        Some(Command::Start(start)) if start.daemon => daemon::launch(&start),
        Some(Command::Start(start)) => serve(start.pid_file(), start.detached),
        Some(Command::Serve) | None => serve(None, false),
    }
}

/// Runs a node; `detached` where this is the process in the background that another one waits for.
fn serve(pid_file: Option<&Path>, detached: bool) -> ExitCode {
    if detached && let Err(error) = daemon::detach() {
        eprintln!("carillon: can't leave the session of the terminal: {error}");
        return ExitCode::FAILURE;
    }
    let config = match Config::from_env() {
        Ok(config) => config,
        Err(faults) => {
            eprintln!("carillon: the configuration has faults:\n{faults}");
            return ExitCode::from(WRONG_USAGE);
        }
    };
    let log = match log::init(config.log_format, &config.reloadable.log) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("carillon: {error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = daemon::raise_limit() {
        tracing::warn!(%error, "the number of open files stays limited as it was");
    }
    // Taken away when this returns, after the ports are closed.
    let _pid_file = match pid_file.map(PidFile::claim).transpose() {
        Ok(pid_file) => pid_file,
        Err(error) => {
            tracing::error!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(config.workers).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => runtime.block_on(run(config, log, detached)),
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

async fn run(config: Config, log: log::LogLevel, detached: bool) -> Result<(), String> {
    let server = Server::configured(config, log).await.map_err(|error| error.to_string())?;
    if detached {
        daemon::ready().map_err(|error| format!("whoever waits for this node can't be told: {error}"))?;
    }
    if let Some(socket) = config::notify_socket()
        && let Err(error) = daemon::listening(&socket)
    {
        tracing::warn!(%error, socket = %socket.display(), "the service manager can't be told that the node listens");
    }
    server.run().await.map_err(|error| format!("signals can't be received: {error}"))
}
