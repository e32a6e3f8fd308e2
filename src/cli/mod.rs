//! The command line: what can be typed, with its help. What the words do is in [`crate::client`] and the node.

mod operator;
mod spelling;

pub use operator::{Start, Told};
pub use spelling::{language, spelled};

use crate::model::{ConnectionId, Name};
use crate::operator::Operation;
use crate::release;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::num::NonZeroU64;
use std::sync::LazyLock;
use std::time::Duration;
use url::Url;

/// Where a node's HTTP API is on a developer's machine.
pub(crate) const DEFAULT_API: &str = "http://127.0.0.1:8080/";
/// Where a node's WebSockets are on a developer's machine.
const DEFAULT_URL: &str = "ws://127.0.0.1:8090/";

/// The program's version, with its commit where that is known.
static VERSION: LazyLock<String> = LazyLock::new(|| match release::COMMIT {
    Some(commit) => format!("{} ({commit})", release::VERSION),
    None => release::VERSION.to_owned(),
});

const AFTER_HELP: &str = "\
Examples:
  carillon                                        run a node: WebSocket 8090, HTTP 8080
  carillon listen --channel news                  print what is pushed to channel news
  carillon push --channel news 'Hello'            push to it
  date | carillon push --all                      push the standard input to every connection
  carillon channels                               who is where
  carillon close --connection 17                  close one connection
  carillon -s status -h 127.0.0.1 -p 9501         ask a node how it is; the same as carillon status -h … -p …

Exit codes:
  0  done
  1  refused by the server; a node that could not start; output that could not be written
  2  wrong usage, or a node's configuration with faults
  3  not reachable: no server there, no answer in time, or the connection was lost

The options of a client command follow it: carillon COMMAND --help shows them.";

/// A WebSocket push server: backends push over HTTP, browsers and devices listen.
///
/// Without a command a node is run. The other commands are clients of a running node.
#[derive(Debug, Parser)]
#[command(name = "carillon", version = VERSION.as_str(), after_help = AFTER_HELP)]
pub struct Cli {
    /// What to do; `None` runs a node.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Everything that `carillon` can be told to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a node (what happens without a command)
    ///
    /// Everything a node can be told comes from the environment; `carillon config` lists it.
    Serve,
    /// Run a node, in the background with --daemon
    Start(Start),
    /// List every variable of a node's configuration, with its default and meaning
    Config {
        /// As a Markdown table
        #[arg(long)]
        markdown: bool,
    },
    /// A client's command.
    #[command(flatten)]
    Client(Box<ClientCommand>),
}

/// How a client reaches a node, and how it prints. Options of the client commands alone: what a node is told is in its
/// environment, and one that took `--token` without a word would be open.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all client commands")]
pub struct ClientOptions {
    /// The node's HTTP API
    #[arg(long, value_name = "URL", env = "CARILLON_API", value_parser = http_url, default_value = DEFAULT_API)]
    pub api: Url,
    /// The node's HTTP_TOKEN; others on this machine can see it in the list of processes, so prefer --token-file
    #[arg(long, env = "CARILLON_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// A file with the token; goes before --token
    #[arg(long, value_name = "FILE", env = "CARILLON_TOKEN_FILE")]
    pub token_file: Option<OsString>,
    /// How to print results
    #[arg(long, value_enum, default_value_t = Format::Lines)]
    pub format: Format,
    /// The same as --format json
    #[arg(long)]
    pub json: bool,
    /// How long to wait for an answer, in seconds
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "10")]
    pub timeout: Duration,
}

impl ClientOptions {
    /// The format that was asked for in either way.
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.format }
    }
}

/// How a client prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people, `cut` and `while read`: one thing a line, fields with a tab between
    Lines,
    /// One JSON value a line
    Json,
}

/// A command to a running node.
#[derive(Debug, Subcommand)]
pub enum ClientCommand {
    /// Open a WebSocket and print what arrives, until it is closed or interrupted
    ///
    /// Each message is one line, or with --json an object: "time" (seconds since 1970), "type" (text or binary) and
    /// "data" (binary as base64). On a terminal control characters are shown as escapes. Everything else that
    /// happens is told on standard error. A close with code 1000 ends it with exit code 0, any other with 1.
    Listen(Listen),
    /// Push a message
    Push(Push),
    /// List the channels that somebody is subscribed to, with the number of their connections
    ///
    /// Lines: name and number. JSON: an object with every channel's connection ids.
    Channels(Channels),
    /// List the ids of the open connections
    Connections(Connections),
    /// Close a connection, or every connection of a channel
    Close(Close),
    /// Print the cluster's figures
    Stats(ClientOptions),
    /// Ask a node whether it is ready; the exit code is the answer (for health checks of containers)
    ///
    /// Without --api and CARILLON_API it asks the node of this machine, where that listens by its own variables
    /// (METRICS_PORT, HTTP_HOST, HTTP_PORT …), or on 127.0.0.1:8080.
    Health(Health),
    /// Have a node read again what can change (what SIGHUP does); no connection is dropped
    Reload(Told),
    /// Have a node drain and end (what SIGTERM does)
    Stop(Told),
    /// Print a node's number of connections, its process and its memory
    Status(Told),
    /// Tell every client of the cluster a text
    Say(Told),
}

impl ClientCommand {
    /// How the node is reached and results are printed.
    pub fn options(&self) -> &ClientOptions {
        match self {
            Self::Listen(command) => &command.options,
            Self::Push(command) => &command.options,
            Self::Channels(command) => &command.options,
            Self::Connections(command) => &command.options,
            Self::Close(command) => &command.options,
            Self::Stats(options) => options,
            Self::Health(command) => &command.options,
            Self::Reload(told) | Self::Stop(told) | Self::Status(told) | Self::Say(told) => &told.options,
        }
    }

    /// What an operator tells the node, where it is that.
    pub fn operation(&self) -> Option<(Operation, &Told)> {
        match self {
            Self::Reload(told) => Some((Operation::Reload, told)),
            Self::Stop(told) => Some((Operation::Stop, told)),
            Self::Status(told) => Some((Operation::Status, told)),
            Self::Say(told) => Some((Operation::Say, told)),
            _ => None,
        }
    }
}

/// What `carillon listen` can be told.
#[derive(Debug, Args)]
pub struct Listen {
    /// Where the WebSockets are (ws or wss)
    #[arg(long, env = "CARILLON_URL", value_parser = websocket_url, default_value = DEFAULT_URL)]
    pub url: Url,
    /// A channel to subscribe to; may be repeated
    #[arg(long = "channel", value_name = "NAME", value_parser = name)]
    pub channels: Vec<Name>,
    /// End after this many messages
    #[arg(long, value_name = "N")]
    pub count: Option<NonZeroU64>,
    /// Connect again when the connection is lost or could not be made
    ///
    /// After 0.5 s, then twice as long each time up to 30 s, less a random part. It ends where coming back would be
    /// wrong: after a close with code 1000 or 1008, and when the handshake is answered with any status but 101, 408, 429
    /// and 5xx.
    #[arg(long)]
    pub reconnect: bool,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What `carillon push` can be told.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["channels", "connection", "all", "user", "group"]))]
pub struct Push {
    /// To this channel; may be repeated, each connection then gets the message once
    #[arg(long = "channel", value_name = "NAME", value_parser = name)]
    pub channels: Vec<Name>,
    /// To one connection
    #[arg(long, value_name = "ID", value_parser = connection)]
    pub connection: Option<ConnectionId>,
    /// To every connection
    #[arg(long)]
    pub all: bool,
    /// To every connection of a user
    #[arg(long, value_name = "ID", value_parser = name)]
    pub user: Option<Name>,
    /// To every connection in a group
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub group: Option<Name>,
    /// But not to this connection; may be repeated
    #[arg(long, value_name = "ID", value_parser = connection)]
    pub exclude: Vec<ConnectionId>,
    /// The message, UTF-8; without one, or as -, it is read from the standard input, less one newline at its end
    pub message: Option<String>,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What `carillon channels` can be told.
#[derive(Debug, Args)]
pub struct Channels {
    /// Only this channel
    #[arg(value_parser = name)]
    pub name: Option<Name>,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What `carillon connections` can be told.
#[derive(Debug, Args)]
pub struct Connections {
    /// Only those that are subscribed to this channel
    #[arg(long, value_parser = name)]
    pub channel: Option<Name>,
    /// Print only how many there are
    #[arg(long)]
    pub count: bool,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What `carillon close` can be told.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("target").required(true).args(["connection", "channel"]))]
pub struct Close {
    /// The connection
    #[arg(long, value_name = "ID", value_parser = connection)]
    pub connection: Option<ConnectionId>,
    /// The channel whose connections are closed
    #[arg(long, value_name = "NAME", value_parser = name)]
    pub channel: Option<Name>,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

/// What `carillon health` can be told.
#[derive(Debug, Args)]
pub struct Health {
    /// Ask only whether the process is alive, not whether it is ready
    #[arg(long)]
    pub live: bool,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

fn http_url(text: &str) -> Result<Url, String> {
    url(text, DEFAULT_API, ["http", "https"])
}

fn websocket_url(text: &str) -> Result<Url, String> {
    url(text, DEFAULT_URL, ["ws", "wss"])
}

/// An empty text means the default, as an empty environment variable is an unset one.
fn url(text: &str, default: &str, schemes: [&str; 2]) -> Result<Url, String> {
    let text = if text.is_empty() { default } else { text };
    let url = Url::parse(text).map_err(|error| format!("{error}; a URL such as {default} is needed"))?;
    if schemes.contains(&url.scheme()) {
        Ok(url)
    } else {
        Err(format!("its scheme is {}, not {} or {}", url.scheme(), schemes[0], schemes[1]))
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn connection(text: &str) -> Result<ConnectionId, String> {
    text.parse().map_err(|()| "a connection id is a whole number from 0 to 9007199254740991".to_owned())
}

fn seconds(text: &str) -> Result<Duration, String> {
    text.parse::<f64>()
        .ok()
        .filter(|&seconds| seconds > 0.0 && seconds <= 86_400.0)
        .map(Duration::from_secs_f64)
        .ok_or_else(|| "a number of seconds above 0, at most 86400, is needed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use clap::error::ErrorKind;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    fn client(line: &str) -> ClientCommand {
        match parse(line).unwrap().command {
            Some(Command::Client(command)) => *command,
            other => panic!("{line} is {other:?}"),
        }
    }

    #[test]
    fn the_definitions_hold_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_a_command_a_node_is_run() {
        assert!(parse("carillon").unwrap().command.is_none());
        assert!(matches!(parse("carillon serve").unwrap().command, Some(Command::Serve)));
    }

    #[test]
    fn options_follow_a_client_command() {
        for line in ["carillon stats --json --timeout 1.5", "carillon push --timeout 1.5 --all --format json a"] {
            let command = client(line);
            let options = command.options();
            assert_eq!((options.format(), options.timeout), (Format::Json, Duration::from_millis(1500)), "{line}");
        }
    }

    #[test]
    fn a_node_takes_no_option_of_a_client() {
        for option in ["--token secret", "--token-file file", "--api http://127.0.0.1/", "--json", "--timeout 1"] {
            for line in
                [format!("carillon {option}"), format!("carillon serve {option}"), format!("carillon config {option}")]
            {
                assert_eq!(parse(&line).map(|_| ()).unwrap_err().kind(), ErrorKind::UnknownArgument, "{line}");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_wrong_usage() {
        let cases = [
            ("carillon ring", ErrorKind::InvalidSubcommand),
            ("carillon push hello", ErrorKind::MissingRequiredArgument),
            ("carillon push --all --channel news hello", ErrorKind::ArgumentConflict),
            ("carillon push --connection nine hello", ErrorKind::ValueValidation),
            ("carillon close", ErrorKind::MissingRequiredArgument),
            ("carillon close --connection 1 --channel a", ErrorKind::ArgumentConflict),
            ("carillon listen --count 0", ErrorKind::ValueValidation),
            ("carillon listen --url http://127.0.0.1/", ErrorKind::ValueValidation),
            ("carillon stats --api 127.0.0.1:8080", ErrorKind::ValueValidation),
            ("carillon stats --timeout 0", ErrorKind::ValueValidation),
            ("carillon stats --timeout inf", ErrorKind::ValueValidation),
        ];
        for (line, kind) in cases {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
        }
    }

    #[test]
    fn an_empty_value_is_the_default() {
        let command = client("carillon listen --api= --url=");
        assert_eq!(command.options().api.as_str(), DEFAULT_API);
        assert!(matches!(command, ClientCommand::Listen(listen) if listen.url.as_str() == DEFAULT_URL));
    }
}
