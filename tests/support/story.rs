//! Stories: requests and their replies, byte for byte, with what the sockets hear of them, as data.
//!
//! A story is a text file of lines; each kind of line is one variant of [`Line`]. A request is sent to the first node,
//! sockets are on the other ones if there are any. In requests and replies `{a}` is the id of the socket `a`; in a
//! reply `…` stands for anything within its line, where the contract leaves the words open. Lists of ids have no order.
//! After each request every open socket has heard exactly what the story says, as the runner then sends each a
//! message of its own and looks at what came before that.

use super::http::{Answer, Http, request};
use super::{DEADLINE, Heard, Listener, Node, eventually};
use std::collections::{BTreeMap, BTreeSet};

/// What the runner sends to see that nothing else came.
const END: &str = "end of what was heard";

/// One line of a story, or several that belong together.
enum Line<'a> {
    /// `# …`: a title; told when the test fails.
    Title(&'a str),
    /// `open NAME TARGET`: a client connects.
    Open(&'a str, &'a str),
    /// `leave NAME`: a client disconnects, and the story goes on when it is in no listing any more.
    Leave(&'a str),
    /// `GET TARGET` or `POST TARGET`, headers as `> Name: value`, a body as `| TEXT`; then the reply.
    Request { method: &'a str, target: &'a str, headers: Vec<(&'a str, &'a str)>, body: &'a str, reply: String },
    /// `NAME hears TEXT`: a text message that came of the request before.
    Hears(&'a str, &'a str),
    /// `NAME is closed CODE`: a close frame that came of the request before.
    Closed(&'a str, u16),
}

/// The variables that the story's nodes are started with: `with NAME=value`.
pub fn variables(story: &str) -> Vec<(&str, &str)> {
    story.lines().filter_map(|line| line.strip_prefix("with ")?.split_once('=')).collect()
}

fn parse(story: &str) -> Vec<Line<'_>> {
    let mut lines = story.lines().filter(|line| !line.is_empty() && !line.starts_with("with ")).peekable();
    let mut parsed = Vec::new();
    while let Some(line) = lines.next() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        parsed.push(match word {
            "#" => Line::Title(rest),
            "open" => {
                let (name, target) = rest.split_once(' ').unwrap();
                Line::Open(name, target)
            }
            "leave" => Line::Leave(rest),
            "GET" | "POST" => {
                let mut headers = Vec::new();
                while let Some(header) = lines.next_if(|line| line.starts_with("> ")) {
                    headers.push(header[2..].split_once(": ").unwrap());
                }
                let body = lines.next_if(|line| line.starts_with("| ")).map_or("", |line| &line[2..]);
                let mut reply = String::new();
                while let Some(line) = lines.next_if(|_| !reply.ends_with("\n}")) {
                    if !reply.is_empty() {
                        reply.push('\n');
                    }
                    reply += line;
                }
                Line::Request { method: word, target: rest, headers, body, reply }
            }
            name if rest.starts_with("hears ") => Line::Hears(name, &rest["hears ".len()..]),
            name if rest.starts_with("is closed ") => Line::Closed(name, rest["is closed ".len()..].parse().unwrap()),
            _ => panic!("not a line of a story: {line:?}"),
        });
    }
    parsed
}

struct Socket {
    id: u64,
    listener: Listener,
}

struct Runner<'a> {
    nodes: &'a [Node],
    token: Option<String>,
    sockets: BTreeMap<String, Socket>,
    /// How many sockets were opened so far; spreads them over the nodes.
    opened: usize,
    /// Where the story is, for failures.
    at: String,
}

/// Runs a story; nothing but it may use the nodes.
pub async fn run(story: &str, nodes: &[Node]) {
    let variable = |wanted| variables(story).into_iter().find(|(name, _)| *name == wanted);
    let token = variable("HTTP_TOKEN").map(|(_, token)| format!("Bearer {token}"));
    let mut runner = Runner { nodes, token, sockets: BTreeMap::new(), opened: 0, at: String::new() };
    let mut heard: BTreeMap<String, Vec<Heard>> = BTreeMap::new();
    let mut lines = parse(story).into_iter().peekable();
    while let Some(line) = lines.next() {
        match line {
            Line::Title(title) => runner.at = title.to_owned(),
            Line::Open(name, target) => runner.open(name, target).await,
            Line::Leave(name) => runner.leave(name).await,
            Line::Request { method, target, headers, body, reply } => {
                runner.request(method, target, &headers, body, &reply).await;
                if !matches!(lines.peek(), Some(Line::Hears(..) | Line::Closed(..))) {
                    runner.heard(&heard).await;
                }
            }
            Line::Hears(name, text) => heard.entry(name.to_owned()).or_default().push(Heard::Text(text.to_owned())),
            Line::Closed(name, code) => {
                heard.entry(name.to_owned()).or_default().push(Heard::Closed(code, String::new()));
            }
        }
        if !heard.is_empty() && !matches!(lines.peek(), Some(Line::Hears(..) | Line::Closed(..))) {
            runner.heard(&heard).await;
            heard.clear();
        }
    }
}

impl Runner<'_> {
    /// Connects a client and finds out its id, which is the one that was not listed before.
    async fn open(&mut self, name: &str, target: &str) {
        let before = self.listed().await;
        let others = self.nodes.len().saturating_sub(1).max(1);
        let node = &self.nodes[(self.nodes.len() - others) + self.opened % others];
        self.opened += 1;
        let listener = Listener::connect(node.ws(), target).await;
        let new: Vec<u64> = self.listed().await.difference(&before).copied().collect();
        assert_eq!(new.len(), 1, "{}: {name} is listed as soon as its handshake is answered", self.at);
        self.sockets.insert(name.to_owned(), Socket { id: new[0], listener });
    }

    async fn leave(&mut self, name: &str) {
        let socket = self.sockets.remove(name).unwrap();
        socket.listener.close().await;
        eventually("a client that has left is in no listing", DEADLINE, async || {
            if self.listed().await.contains(&socket.id) { Err("it is listed") } else { Ok(()) }
        })
        .await;
    }

    async fn request(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str, reply: &str) {
        let answer = self.ask(method, &self.with_ids(target), headers, &self.with_ids(body)).await;
        let asked = format!("{}: {method} {target}", self.at);
        assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{asked}");
        let (found, wanted) = (ordered(answer.text()), ordered(&self.with_ids(reply)));
        let alike = found.split('\n').count() == wanted.split('\n').count()
            && found.split('\n').zip(wanted.split('\n')).all(|(found, wanted)| matches(found, wanted));
        assert!(alike, "{asked}\n--- found\n{found}\n--- wanted\n{wanted}");
    }

    /// Every socket has heard exactly this; the closed ones are taken out.
    async fn heard(&mut self, wanted: &BTreeMap<String, Vec<Heard>>) {
        for (name, mut socket) in std::mem::take(&mut self.sockets) {
            let target =
                format!("/?action=push&to=connection&connection={}&message={END}", socket.id).replace(' ', "+");
            self.own(&target).await;
            let mut found = socket.listener.hears_until(END).await;
            if let Some(Heard::Closed(_, reason)) = found.last_mut() {
                // The contract gives a code and leaves the words open.
                reason.clear();
            }
            let wanted = wanted.get(&name).cloned().unwrap_or_default();
            assert_eq!(found, wanted, "{}: what {name} has heard", self.at);
            if !matches!(found.last(), Some(Heard::Closed(..))) {
                self.sockets.insert(name, socket);
            }
        }
    }

    async fn listed(&self) -> BTreeSet<u64> {
        let answer = self.own("/?action=getConnections").await.json();
        answer["response"]["connections"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap()).collect()
    }

    /// A request of the runner itself.
    async fn own(&self, target: &str) -> Answer {
        let token: Vec<(&str, &str)> = self.token.iter().map(|token| ("Authorization", token.as_str())).collect();
        self.ask("GET", target, &token, "").await
    }

    /// Asks the first node.
    async fn ask(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut http = Http::connect(self.nodes[0].http()).await.unwrap();
        http.request(&request(method, target, headers, body.as_bytes())).await.unwrap()
    }

    fn with_ids(&self, text: &str) -> String {
        self.sockets
            .iter()
            .fold(text.to_owned(), |text, (name, socket)| text.replace(&format!("{{{name}}}"), &socket.id.to_string()))
    }
}

/// The same text with every list of ids in ascending order.
fn ordered(json: &str) -> String {
    let lines: Vec<&str> = json.split('\n').collect();
    let id = |line: &&str| line.trim().trim_end_matches(',').parse::<u64>().ok();
    let runs = lines.chunk_by(|a, b| id(a).is_some() == id(b).is_some());
    let runs = runs.map(|run| {
        let Some(mut ids) = run.iter().map(id).collect::<Option<Vec<u64>>>() else { return run.join("\n") };
        ids.sort_unstable();
        let indent = " ".repeat(run[0].len() - run[0].trim_start().len());
        ids.iter().map(|id| format!("{indent}{id}")).collect::<Vec<_>>().join(",\n")
    });
    runs.collect::<Vec<_>>().join("\n")
}

/// Whether a line is the wanted one, where `…` is anything.
fn matches(found: &str, wanted: &str) -> bool {
    let mut parts = wanted.split('…');
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
