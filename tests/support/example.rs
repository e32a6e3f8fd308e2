//! The examples as processes. Cargo builds them with the tests, into a directory beside theirs.

use super::node::Log;
use super::{DEADLINE, eventually};
use std::env;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

/// One that runs; killed when dropped.
pub struct Example {
    child: Child,
    /// Ends it should this process be killed: it waits for the end of a pipe.
    watchdog: Child,
    log: Log,
    /// Where clients connect.
    pub address: SocketAddr,
}

impl Example {
    /// Starts one with these arguments, and waits until it has printed the URL that it listens at.
    pub async fn start(name: &str, arguments: &[&str]) -> Self {
        let tests = env::current_exe().unwrap();
        let program = tests.parent().unwrap().with_file_name("examples").join(name);
        let mut command = Command::new(&program);
        command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| {
            panic!(
                "{}: {error}; `cargo test` as a whole builds it, else `cargo build --examples` does",
                program.display()
            )
        });
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let kill = format!("read _; kill -9 {}", child.id());
        let watchdog =
            Command::new("sh").args(["-c", &kill]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let address = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut example = Self { child, watchdog, log, address };
        example.address = eventually("an example says where it listens", DEADLINE, async || {
            let ended = example.child.try_wait().unwrap();
            assert!(ended.is_none(), "{name} has ended: {:?}", example.log.lines());
            example.log.lines().iter().find_map(|line| listens_at(line)).ok_or("no line with its address")
        })
        .await;
        example
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The address in a line that is a URL.
fn listens_at(line: &str) -> Option<SocketAddr> {
    let rest = line.strip_prefix("ws://").or_else(|| line.strip_prefix("http://"))?;
    rest.split('/').next()?.parse().ok()
}

impl Drop for Example {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for line in self.log.lines() {
                eprintln!("{}: {line}", self.address);
            }
        }
    }
}
