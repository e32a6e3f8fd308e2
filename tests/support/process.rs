//! A process that a test has started, with a log that a failed test prints.

use super::{DEADLINE, eventually};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

/// Lines of its log that a failed test prints.
const SHOWN_LINES: usize = 200;

/// A process; killed when dropped, and with this one.
pub struct Process {
    name: String,
    child: Child,
    watchdog: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts a command whose standard output and error are piped; `name` is for people.
    pub fn start(name: &str, command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        let watchdog = watchdog(&child);
        let lines = Arc::default();
        follow(&lines, child.stdout.take().unwrap());
        follow(&lines, child.stderr.take().unwrap());
        Self { name: name.to_owned(), child, watchdog, lines }
    }

    /// What it has written so far, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits until it has written a line in which `found` finds something. Fails the test where it ends before.
    pub async fn says<T>(&mut self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        eventually(what, DEADLINE, async || {
            self.must_run();
            self.lines().iter().find_map(|line| found(line)).ok_or("no such line")
        })
        .await
    }

    /// Its number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The same, for system calls.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.id()).unwrap()).unwrap()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        eventually("the process ends", DEADLINE, async || self.child.try_wait().unwrap().ok_or("it runs")).await
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Fails the test where it has ended by itself.
    pub fn must_run(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("{} ended by itself: {status}", self.name);
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let lines = self.lines.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let skipped = lines.len().saturating_sub(SHOWN_LINES);
            eprintln!("---- log of {}, process {} ({skipped} older lines left out)", self.name, self.child.id());
            lines[skipped..].iter().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// Takes all lines of a stream until it ends.
fn follow(lines: &Arc<Mutex<Vec<String>>>, stream: impl Read + Send + 'static) {
    let lines = lines.clone();
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// Kills a process should this one be killed: it waits for the end of a pipe. It has to be ended before the process is.
fn watchdog(child: &Child) -> Child {
    let kill = format!("read _; kill -9 {}", child.id());
    Command::new("sh").args(["-c", &kill]).stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}
