//! A Redis of its own, which keeps nothing.

use super::{Child, free_address};
use anyhow::{Context, Result, anyhow};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// A running Redis.
pub struct Redis {
    /// The process.
    pub process: Child,
    address: SocketAddr,
}

impl Redis {
    /// Starts one on a free port and waits until it answers.
    pub fn start(program: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &address.port().to_string()]);
        command.args(["--save", "", "--appendonly", "no", "--loglevel", "warning"]);
        let mut process = Child::spawn("redis", &mut command)?;
        process.until(|_| ask(address, "PING").ok().filter(|answer| answer == "PONG"))?;
        Ok(Self { process, address })
    }

    /// How a node is told of it.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// Bytes that its data and its connections take (`used_memory` of `INFO memory`).
    pub fn used_memory(&self) -> Result<u64> {
        self.figure("memory", "used_memory")?.parse().context("used_memory")
    }

    /// How many commands it has carried out (`total_commands_processed` of `INFO stats`).
    pub fn commands(&self) -> Result<u64> {
        self.figure("stats", "total_commands_processed")?.parse().context("total_commands_processed")
    }

    /// Its version.
    pub fn version(&self) -> Result<String> {
        self.figure("server", "redis_version")
    }

    fn figure(&self, section: &str, name: &str) -> Result<String> {
        let info = ask(self.address, &format!("INFO {section}"))?;
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .map(|value| value.trim().to_owned())
            .ok_or_else(|| anyhow!("INFO {section} has no {name}"))
    }
}

/// Sends one inline command; a simple string or a bulk string comes back.
fn ask(address: SocketAddr, command: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(format!("{command}\r\n").as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end();
    if let Some(simple) = line.strip_prefix('+') {
        return Ok(simple.to_owned());
    }
    let length = line.strip_prefix('$').and_then(|length| length.parse::<usize>().ok());
    let mut bulk = vec![0; length.ok_or_else(|| anyhow!("redis answered {command} with {line:?}"))?];
    reader.read_exact(&mut bulk)?;
    Ok(String::from_utf8(bulk)?)
}
