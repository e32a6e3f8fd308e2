//! A process that does not outlive the value that stands for it.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::{self, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long a process may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// The file in a process's directory that takes what it prints.
const OUTPUT: &str = "output";

/// A child process with a directory of its own.
pub struct Child {
    name: &'static str,
    process: process::Child,
    directory: TempDir,
}

impl Child {
    /// Starts a command in a new directory.
    pub fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        Self::spawn_in(TempDir::new()?, name, command)
    }

    /// Starts a command in a directory, which is removed when the process has ended. What it prints goes into a file
    /// there, and is shown if the process does not come up.
    pub fn spawn_in(directory: TempDir, name: &'static str, command: &mut Command) -> Result<Self> {
        let output = File::create(directory.path().join(OUTPUT))?;
        let process = command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .spawn()
            .with_context(|| format!("{name} could not be started: {:?}", command.get_program()))?;
        Ok(Self { name, process, directory })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the process has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(self.directory.path().join(OUTPUT)).unwrap_or_default()
    }

    /// Asks again and again until there is an answer; an error when the process ends first or takes too long.
    pub fn until<T>(&mut self, mut ask: impl FnMut(&Self) -> Option<T>) -> Result<T> {
        let end = Instant::now() + READY_LIMIT;
        loop {
            if let Some(answer) = ask(self) {
                return Ok(answer);
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("{} ended with {status} before it was ready:\n{}", self.name, self.output());
            }
            if Instant::now() > end {
                bail!("{} was not ready in {READY_LIMIT:?}:\n{}", self.name, self.output());
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself: all the same.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// An address on loopback that nobody listens on at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
