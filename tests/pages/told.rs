//! A page's story, told: its commands are run as they stand there, but for ports, files and names that are the test's own.

use super::page::{Deed, Step, fits, steps, variables};
use crate::support::certificates::Certificates;
use crate::support::node::finish;
use crate::support::redis::free_port;
use crate::support::{DEADLINE, Node, RedisServer, eventually};
use rustix::process::{Pid, Signal, kill_process_group};
use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use tempfile::TempDir;
use tokio::net::TcpStream;

/// The Redis that pages name.
const REDIS: &str = "redis://127.0.0.1:6379";
/// The host that they name where TLS needs a name.
const HOST: &str = "yourdomain.com";
/// Where they have its certificate.
const CERTIFICATE: &str = "/etc/letsencrypt/live/yourdomain.com/fullchain.pem";
const KEY: &str = "/etc/letsencrypt/live/yourdomain.com/privkey.pem";

/// Runs a page and checks all that it says is printed.
pub(crate) async fn tell(name: &str, page: &str) {
    let mut story = Story::new(page.contains(REDIS)).await;
    let steps = steps(name, page);
    assert!(!steps.is_empty(), "{name}: nothing is run");
    let mut printed = None;
    for step in &steps {
        let place = format!("{name}:{}", step.line);
        match step.deed {
            Deed::Commands => printed = Some(story.run(&place, step).await),
            Deed::Node => story.node(step).await,
            Deed::Listener => story.listen(&place, step).await,
            Deed::Background => story.background(step).await,
            Deed::Prints => {
                let printed = printed.take().unwrap_or_else(|| panic!("{place}: nothing was run before"));
                assert!(fits(&printed, &step.text), "{place}: printed\n{printed}\nexpected\n{}", step.text);
            }
            Deed::Heard => story.hears(&place, step).await,
            Deed::NotRun => {}
        }
    }
}

struct Story {
    // The first to be dropped: what they need stays until they are gone.
    stay: Vec<Staying>,
    nodes: Vec<Node>,
    redis: Option<RedisServer>,
    files: TempDir,
    certificates: Certificates,
    /// Ports by the ones of the page.
    ports: BTreeMap<String, u16>,
    /// What the last listener has printed, and how many lines of it were expected already.
    heard: Arc<Mutex<Vec<String>>>,
    expected: usize,
}

impl Story {
    async fn new(with_redis: bool) -> Self {
        let redis = if with_redis { Some(RedisServer::start().await) } else { None };
        Self {
            files: tempfile::tempdir().unwrap(),
            certificates: Certificates::new(),
            redis,
            ports: BTreeMap::new(),
            nodes: Vec::new(),
            stay: Vec::new(),
            heard: Arc::default(),
            expected: 0,
        }
    }

    fn port(&mut self, of_page: &str) -> u16 {
        *self.ports.entry(of_page.to_owned()).or_insert_with(free_port)
    }

    /// The block with what is the test's own in the place of the page's.
    fn own(&self, text: &str) -> String {
        let mut text = text.replace("/tmp/", &format!("{}/", self.files.path().display()));
        if let Some(redis) = &self.redis {
            text = text.replace(REDIS, &redis.url());
        }
        text = text.replace(CERTIFICATE, &self.certificates.path("server.pem"));
        text = text.replace(KEY, &self.certificates.path("server.key")).replace(HOST, "127.0.0.1");
        // Cargo has built them along with the tests.
        text = text.replace("cargo run --example ", &format!("{}/examples/", programs().display()));
        for (of_page, own) in &self.ports {
            text = with_port(&text, of_page, *own);
        }
        text
    }

    /// A shell with the program in its path.
    fn shell(&self, text: &str) -> Command {
        let mut path = OsString::from(programs());
        path.push(":");
        path.push(env::var_os("PATH").expect("a path"));
        let mut command = Command::new("bash");
        // In a group of its own, so that what it starts ends with it.
        command.args(["-eu", "-c", &self.own(text)]).process_group(0);
        command.env("PATH", path).env("SSL_CERT_FILE", self.certificates.path("ca.pem")).env_remove("LANG");
        command.current_dir(env!("CARGO_MANIFEST_DIR"));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    async fn node(&mut self, step: &Step) {
        let mut variables = variables(&step.text);
        let has = |variables: &[(String, String)], name: &str| variables.iter().any(|(known, _)| known == name);
        if !has(&variables, "WS_PORT") && !has(&variables, "PORT") {
            variables.push(("WS_PORT".to_owned(), "8090".to_owned()));
        }
        if !has(&variables, "HTTP_PORT") {
            variables.push(("HTTP_PORT".to_owned(), "8080".to_owned()));
        }
        for (name, value) in &mut variables {
            *value = if name.ends_with("PORT") { self.port(value).to_string() } else { self.own(value) };
        }
        let pairs: Vec<(&str, &str)> = variables.iter().map(|(name, value)| (&**name, &**value)).collect();
        self.nodes.push(Node::start(&pairs).await);
    }

    async fn run(&self, place: &str, step: &Step) -> String {
        let finished = finish(self.shell(&step.text)).await;
        assert_eq!(finished.code, 0, "{place}: {}\n{}", finished.stdout, finished.stderr);
        finished.stdout
    }

    async fn listen(&mut self, place: &str, step: &Step) {
        let mut child = self.shell(&step.text).spawn().unwrap();
        let (heard, said) = (Arc::default(), Arc::default());
        follow(child.stdout.take().unwrap(), &heard);
        follow(child.stderr.take().unwrap(), &said);
        self.stay.push(Staying(child));
        (self.heard, self.expected) = (heard, 0);
        eventually(&format!("{place} listens"), DEADLINE, async || {
            let said = said.lock().unwrap();
            if said.iter().any(|line: &String| line.contains("listening on")) { Ok(()) } else { Err(said.join("\n")) }
        })
        .await;
    }

    async fn hears(&mut self, place: &str, step: &Step) {
        for expected in step.text.lines() {
            let at = self.expected;
            eventually(&format!("{place}: {expected} is heard"), DEADLINE, async || {
                let heard = self.heard.lock().unwrap();
                match heard.get(at) {
                    Some(line) if fits(line, expected) => Ok(()),
                    other => Err(format!("{other:?}")),
                }
            })
            .await;
            self.expected += 1;
        }
    }

    async fn background(&mut self, step: &Step) {
        let at = step.text.find("127.0.0.1:").expect("an address") + "127.0.0.1:".len();
        let port: String = step.text[at..].chars().take_while(char::is_ascii_digit).collect();
        let port = self.port(&port);
        let mut child = self.shell(&step.text).spawn().unwrap();
        follow(child.stdout.take().unwrap(), &Arc::default());
        follow(child.stderr.take().unwrap(), &Arc::default());
        self.stay.push(Staying(child));
        eventually("what is in the background listens", DEADLINE, async || {
            TcpStream::connect(("127.0.0.1", port)).await.map(drop)
        })
        .await;
    }
}

/// Where the program is.
fn programs() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_carillon")).parent().expect("a directory")
}

/// The text with another port wherever this one stands behind a colon or an option `-p`.
fn with_port(text: &str, of_page: &str, own: u16) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(of_page) {
        let (before, after) = (&rest[..at], &rest[at + of_page.len()..]);
        let whole = !after.starts_with(|c: char| c.is_ascii_digit());
        let is_port = whole && (before.ends_with(':') || before.ends_with("-p "));
        done.push_str(before);
        done.push_str(&if is_port { own.to_string() } else { of_page.to_owned() });
        rest = after;
    }
    done + rest
}

/// Takes all lines of a stream until it ends.
fn follow(stream: impl Read + Send + 'static, lines: &Arc<Mutex<Vec<String>>>) {
    let lines = Arc::clone(lines);
    thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            lines.lock().unwrap().push(line);
        }
    });
}

/// A process that stays until its story is told.
struct Staying(Child);

impl Drop for Staying {
    fn drop(&mut self) {
        let group = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let _ = group.map(|group| kill_process_group(group, Signal::KILL));
        let _ = self.0.wait();
    }
}
