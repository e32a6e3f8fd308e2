//! Starts a node of the server.

use super::certificates;
use super::{Child, MESSAGE_LEN, Redis, Server, free_address};
use crate::load::PushRequest;
use anyhow::Result;
use rustls::ClientConfig;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

const ANSWER_LIMIT: Duration = Duration::from_secs(5);

/// What a node's memory is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// What the node and the machine do by themselves.
    AsDeployed,
    /// No transparent huge pages: mimalloc asks for them, and where the kernel gives them, resident memory grows in steps
    /// of 2 MiB and counts what is reserved rather than what is used.
    Small,
}

/// A node that is ready.
pub struct Node {
    process: Child,
    listen: SocketAddr,
    api: SocketAddr,
    tls: Option<Arc<ClientConfig>>,
}

impl Node {
    /// Starts a node on free ports, with no other setting than its Redis, and waits until it says that it is ready.
    pub fn start(program: &Path, redis: Option<String>, pages: Pages) -> Result<Self> {
        let mut command = Command::new(program);
        command.env_clear().envs(redis.map(|url| ("REDIS_URL", url)));
        Self::spawn(TempDir::new()?, command, pages, None)
    }

    /// Starts a program on the library.
    pub fn start_handler(program: &Path, pages: Pages) -> Result<Self> {
        let addresses = (free_address()?, free_address()?);
        let mut command = Command::new(program);
        command.env_clear().args([addresses.0.to_string(), addresses.1.to_string()]);
        Self::ready(TempDir::new()?, command, addresses, pages, None)
    }

    /// The same with TLS on its WebSocket port and without Redis.
    pub fn start_with_tls(program: &Path, pages: Pages) -> Result<Self> {
        let directory = TempDir::new()?;
        let clients = certificates::make(directory.path())?;
        let mut command = Command::new(program);
        // It runs in that directory.
        command.env_clear().env("TLS_CERT", certificates::CERTIFICATE).env("TLS_KEY", certificates::KEY);
        Self::spawn(directory, command, pages, Some(clients))
    }

    fn spawn(directory: TempDir, mut command: Command, pages: Pages, tls: Option<Arc<ClientConfig>>) -> Result<Self> {
        let addresses @ (listen, api) = (free_address()?, free_address()?);
        command.env("LOG", "warn");
        command.env("WS_HOST", listen.ip().to_string()).env("WS_PORT", listen.port().to_string());
        command.env("HTTP_HOST", api.ip().to_string()).env("HTTP_PORT", api.port().to_string());
        Self::ready(directory, command, addresses, pages, tls)
    }

    fn ready(
        directory: TempDir,
        mut command: Command,
        (listen, api): (SocketAddr, SocketAddr),
        pages: Pages,
        tls: Option<Arc<ClientConfig>>,
    ) -> Result<Self> {
        if pages == Pages::Small {
            command.env("MIMALLOC_ALLOW_THP", "0");
        }
        let mut process = Child::spawn_in(directory, "carillon", &mut command)?;
        process.until(|_| is_ready(api).ok().filter(|ready| *ready))?;
        Ok(Self { process, listen, api, tls })
    }

    /// The node's process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The node as a server whose one channel is `bench`.
    pub fn into_server(self, name: &'static str, redis: Option<Redis>) -> Server {
        let push = "/?action=push&to=channel&channel=bench&message=";
        Server {
            name,
            process: self.process,
            listen: self.listen,
            target: "/?channel[]=bench".into(),
            tls: self.tls,
            push: self.api,
            request: PushRequest::get(self.api, push, MESSAGE_LEN, r#""status": true"#),
            redis,
        }
    }
}

fn is_ready(api: SocketAddr) -> Result<bool> {
    let mut stream = TcpStream::connect_timeout(&api, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer.starts_with("HTTP/1.1 200"))
}
