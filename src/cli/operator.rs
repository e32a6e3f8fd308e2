//! What the console command can be told.

use super::ClientOptions;
use crate::config;
use crate::operator::Language;
use clap::{ArgAction, Args};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What `carillon start` can be told.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Start {
    /// Run in the background; ends when the node listens, or says why it doesn't
    #[arg(short = 'd', long, requires = "pid_file")]
    pub daemon: bool,
    /// A file for the process's number; a second node with the same one doesn't start
    #[arg(long, value_name = "FILE", env = "CARILLON_PID_FILE")]
    pid_file: Option<OsString>,
    /// A file that the log of a node in the background is appended to [default: beside the pid file, ending with .log]
    #[arg(long, value_name = "FILE", requires = "daemon")]
    pub log_file: Option<PathBuf>,
    /// The language of what is said, zh or en; without it that of the locale: English, else Chinese
    #[arg(long)]
    pub lang: Option<Language>,
    /// This is the process in the background.
    #[arg(long, hide = true, conflicts_with = "daemon", requires = "pid_file")]
    pub detached: bool,
    /// Ignored, as the replaced command did: where a node listens is in its environment
    #[arg(short = 'h', value_name = "HOST", hide = true)]
    host: Option<String>,
    /// Ignored in the same way.
    #[arg(short = 'p', value_name = "PORT", hide = true)]
    port: Option<String>,
    /// Ignored in the same way.
    #[arg(short = 'i', value_name = "TEXT", hide = true, allow_hyphen_values = true)]
    text: Option<String>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
}

/// What `carillon reload`, `stop`, `status` and `say` can be told.
#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub struct Told {
    /// The node's host; without it and --api that of the node of this machine
    #[arg(short = 'h', long, value_name = "HOST", value_parser = host)]
    pub host: Option<String>,
    /// The node's management port or HTTP port; without it and --api that of the node of this machine, by its own variables
    #[arg(short = 'p', long, value_name = "PORT")]
    pub port: Option<u16>,
    /// What everybody is told (say)
    #[arg(short = 'i', long, value_name = "TEXT", allow_hyphen_values = true)]
    pub text: Option<String>,
    /// The language of what is said, zh or en; without it that of the locale: English, else Chinese
    #[arg(long)]
    pub lang: Option<Language>,
    /// Print help
    #[arg(long, action = ArgAction::Help)]
    help: Option<bool>,
    /// How the node is reached.
    #[command(flatten)]
    pub options: ClientOptions,
}

impl Start {
    /// The file for the process's number; an empty name is none.
    pub fn pid_file(&self) -> Option<&Path> {
        self.pid_file.as_deref().filter(|name| !name.is_empty()).map(Path::new)
    }

    /// The language to speak.
    pub fn language(&self) -> Language {
        language(self.lang)
    }
}

impl Told {
    /// The language to speak.
    pub fn language(&self) -> Language {
        language(self.lang)
    }
}

fn language(named: Option<Language>) -> Language {
    named.unwrap_or_else(|| Language::of_locale(&config::locale().unwrap_or_default()))
}

/// A host as URLs have it: IPv6 in brackets.
fn host(text: &str) -> Result<String, String> {
    let host = match text.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]"),
        Err(_) => text.to_owned(),
    };
    url::Host::parse(&host).map(|_| host).map_err(|error| error.to_string())
}
