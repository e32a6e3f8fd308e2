//! The examples as processes.

use super::node::{Log, watchdog};
use super::{DEADLINE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

/// A running example; killed when dropped.
pub struct Example {
    name: &'static str,
    child: Child,
    watchdog: Child,
    log: Log,
    address: SocketAddr,
}

impl Example {
    /// Starts the example of that name and waits until it has said where it listens: a URL, in its first line.
    ///
    /// Cargo builds examples with all the tests, and leaves them beside the tests' own programs.
    pub async fn start(name: &'static str, arguments: &[&str]) -> Self {
        let test = std::env::current_exe().unwrap();
        let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
        assert!(program.exists(), "{} is not built: cargo build --examples", program.display());
        let mut command = Command::new(program);
        command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let watchdog = watchdog(&child);
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        // From here on it is killed and its log printed, whatever happens.
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut example = Self { name, child, watchdog, log, address: nowhere };
        example.address = eventually("an example says where it listens", DEADLINE, async || {
            if let Some(status) = example.child.try_wait().unwrap() {
                panic!("{name} ended by itself: {status}");
            }
            example.log.lines().iter().find_map(|line| address(line)).ok_or("no line with its address")
        })
        .await;
        example
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the example ends", DEADLINE, async || self.child.try_wait().unwrap().ok_or("it runs")).await
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap(), signal).unwrap();
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("---- output of {} at {}", self.name, self.address);
            self.log.lines().iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The address in a line that is a URL.
fn address(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("://")?;
    rest.split('/').next()?.parse().ok()
}
