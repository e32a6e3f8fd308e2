//! The examples as processes.

use super::process::Process;
use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::{Command, ExitStatus, Stdio};

/// A running example; killed when dropped.
pub struct Example {
    process: Process,
    address: SocketAddr,
}

impl Example {
    /// Starts the example of that name and waits until it has said where it listens: a URL, in its first line.
    ///
    /// Cargo builds examples with all the tests, and leaves them beside the tests' own programs.
    pub async fn start(name: &str, arguments: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
        assert!(program.exists(), "{} is not built: cargo build --examples", program.display());
        let mut command = Command::new(program);
        command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = Process::start(name, &mut command);
        let address = process.says("an example says where it listens", address).await;
        Self { process, address }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.process.signal(Signal::TERM);
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }
}

/// The address in a line that is a URL.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("://")?;
    rest.split('/').next()?.parse().ok()
}
