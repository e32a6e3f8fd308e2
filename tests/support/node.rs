//! The real binary as a process.

use super::api::Api;
use super::process::Process;
use super::{DEADLINE, eventually};
use rustix::process::{Resource, Rlimit, Signal, getrlimit, prlimit};
use serde_json::Value;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

/// Addresses that a node binds: loopback, ports of its own choice.
const ADDRESSES: [(&str, &str); 4] =
    [("WS_HOST", "127.0.0.1"), ("WS_PORT", "0"), ("HTTP_HOST", "127.0.0.1"), ("HTTP_PORT", "0")];

/// A `carillon` command with nothing of this process's environment but these variables.
pub fn carillon(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_carillon"));
    command.env_clear().envs(environment.iter().copied()).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A node; killed when dropped.
pub struct Node {
    process: Process,
    ws: Option<SocketAddr>,
    http: Option<SocketAddr>,
}

impl Node {
    /// Starts a node with these variables and waits until it is ready.
    pub async fn start(environment: &[(&str, &str)]) -> Self {
        let mut node = Self::spawn(environment);
        node.listening().await;
        let api = node.api();
        eventually("a started node is ready", DEADLINE, async || {
            node.process.must_run();
            if api.is_ready().await { Ok(()) } else { Err("/readyz does not say 200") }
        })
        .await;
        node
    }

    /// Starts a node on one Redis and waits until it is ready.
    pub async fn on(redis_url: &str) -> Self {
        Self::start(&[("REDIS_URL", redis_url)]).await
    }

    /// Starts a node and waits for nothing.
    pub fn spawn(environment: &[(&str, &str)]) -> Self {
        let mut variables = ADDRESSES.to_vec();
        variables.extend_from_slice(environment);
        let process = Process::start("a node", &mut carillon(&[], &variables));
        Self { process, ws: None, http: None }
    }

    /// Waits until the node says where it listens.
    pub async fn listening(&mut self) {
        let (ws, http) = self.process.says("a started node says where it listens", addresses).await;
        (self.ws, self.http) = (Some(ws), Some(http));
    }

    /// Where its WebSocket port is.
    pub fn ws(&self) -> SocketAddr {
        self.ws.expect("the node was waited for")
    }

    /// Where its HTTP port is.
    pub fn http(&self) -> SocketAddr {
        self.http.expect("the node was waited for")
    }

    /// Where its management port is.
    pub fn manager(&self) -> SocketAddr {
        self.log().iter().find_map(|line| address(line, "manager")).expect("the node has a management port")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its actions API.
    pub fn api(&self) -> Api {
        Api(self.http())
    }

    /// The lines that were read of its log so far; what it has logged just now may be missing.
    pub fn log(&self) -> Vec<String> {
        self.process.lines()
    }

    /// Waits until a line of its log has this text.
    pub async fn logs(&self, text: &str) {
        eventually(&format!("the log has {text:?}"), DEADLINE, async || {
            let lines = self.log();
            if lines.iter().any(|line| line.contains(text)) { Ok(()) } else { Err(lines.join("\n")) }
        })
        .await;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops the process where it stands: its sockets stay open, and it does nothing.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        self.process.ended().await
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Memory of its own that is resident, in bytes: heap and stacks, without the program's code, which comes in page by
    /// page as it is first used.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Number of open files.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).unwrap().count()
    }

    /// Lets it have so many open files; `None` as many as it may.
    pub fn limit_files(&self, files: Option<u64>) {
        let limit = getrlimit(Resource::Nofile);
        let current = files.or(limit.maximum);
        prlimit(Some(self.process.pid()), Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    }
}

/// The WebSocket and the HTTP address, where the log line tells them.
fn addresses(line: &str) -> Option<(SocketAddr, SocketAddr)> {
    Some((address(line, "ws")?, address(line, "http")?))
}

/// An address that the log line tells.
fn address(line: &str, name: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = if line["fields"].is_object() { &line["fields"] } else { &line };
    if fields["message"] == "listening" { fields[name].as_str()?.parse().ok() } else { None }
}

/// What a command that ended by itself has left.
pub struct Finished {
    /// Its exit code.
    pub code: i32,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

/// Runs a command to its end.
pub async fn finish(mut command: Command) -> Finished {
    finished(command.spawn().unwrap()).await
}

/// Waits for the end of a command; kills it and fails the test where it has not ended after the deadline.
pub async fn finished(mut child: Child) -> Finished {
    let read = |mut stream: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut text = String::new();
            stream.read_to_string(&mut text).map(|_| text)
        })
    };
    let stdout = read(Box::new(child.stdout.take().unwrap()));
    let stderr = read(Box::new(child.stderr.take().unwrap()));
    let end = tokio::time::Instant::now() + DEADLINE;
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if tokio::time::Instant::now() > end => {
                let _ = child.kill();
                panic!("the command does not end");
            }
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    };
    let text = |reader: thread::JoinHandle<std::io::Result<String>>| reader.join().unwrap().unwrap();
    Finished { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
}
