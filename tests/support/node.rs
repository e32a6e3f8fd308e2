//! The real binary as a process, with a log that a failed test prints.

use super::api::Api;
use super::{DEADLINE, eventually};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};
use serde_json::Value;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
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

/// What a process has written, line by line.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Takes all lines of a stream until it ends.
    pub(super) fn follow(&self, stream: impl Read + Send + 'static) {
        let lines = self.0.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Kills a process should this one be killed: it waits for the end of a pipe. It has to be ended before the process is.
pub(super) fn watchdog(child: &Child) -> Child {
    let kill = format!("read _; kill -9 {}", child.id());
    Command::new("sh").args(["-c", &kill]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// A node; killed when dropped.
pub struct Node {
    child: Child,
    watchdog: Child,
    log: Log,
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
            node.must_run();
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
        let mut child = carillon(&[], &variables).spawn().unwrap();
        let log = Log::default();
        log.follow(child.stdout.take().unwrap());
        log.follow(child.stderr.take().unwrap());
        let watchdog = watchdog(&child);
        Self { child, watchdog, log, ws: None, http: None }
    }

    /// Waits until the node says where it listens.
    pub async fn listening(&mut self) {
        let found = eventually("a started node says where it listens", DEADLINE, async || {
            self.must_run();
            self.log.lines().iter().find_map(|line| addresses(line)).ok_or("no line with its addresses")
        })
        .await;
        (self.ws, self.http) = (Some(found.0), Some(found.1));
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
        self.log.lines().iter().find_map(|line| address(line, "manager")).expect("the node has a management port")
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its actions API.
    pub fn api(&self) -> Api {
        Api(self.http())
    }

    /// The lines that were read of its log so far; what it has logged just now may be missing.
    pub fn log(&self) -> Vec<String> {
        self.log.lines()
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
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
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
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the node's process ends", DEADLINE, async || self.child.try_wait().unwrap().ok_or("it runs")).await
    }

    /// Whether its process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Memory of its own that is resident, in bytes: heap and stacks, without the program's code, which comes in page by
    /// page as it is first used.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Number of open files.
    pub fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Lets it have so many open files; `None` as many as it may.
    pub fn limit_files(&self, files: Option<u64>) {
        let limit = getrlimit(Resource::Nofile);
        let current = files.or(limit.maximum);
        prlimit(Some(self.pid()), Resource::Nofile, Rlimit { current, maximum: limit.maximum }).unwrap();
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    /// Fails the test where the process has ended by itself.
    fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the node ended by itself: {status}");
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.log.lines();
            let skipped = lines.len().saturating_sub(200);
            eprintln!("---- log of the node at {:?} ({skipped} older lines left out)", self.http);
            lines[skipped..].iter().for_each(|line| eprintln!("{line}"));
        }
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
