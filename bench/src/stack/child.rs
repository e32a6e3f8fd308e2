//! A process that does not outlive the value that stands for it.

use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{self, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long a process may take until it serves.
const READY_LIMIT: Duration = Duration::from_secs(20);

/// A child process with its output in a file.
pub struct Child {
    name: &'static str,
    process: process::Child,
    log: PathBuf,
}

impl Child {
    /// Starts a command; what it prints goes into a file, which is shown if it does not come up.
    pub fn spawn(name: &'static str, command: &mut Command) -> Result<Self> {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let serial = STARTED.fetch_add(1, Relaxed);
        let log = std::env::temp_dir().join(format!("carillon-bench-{}-{serial}.log", process::id()));
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::from(output.try_clone()?))
            .stderr(Stdio::from(output))
            .spawn()
            .with_context(|| format!("{name} could not be started: {:?}", command.get_program()))?;
        Ok(Self { name, process, log })
    }

    /// The process's id.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// What the process has printed.
    pub fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
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
        // It may have ended by itself, and its file may be gone: all the same.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_file(&self.log);
    }
}

/// An address on loopback that nobody listens on at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
