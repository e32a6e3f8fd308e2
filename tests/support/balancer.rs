//! A real load balancer in front of nodes: nginx or haproxy, with a configuration as it is shipped but for names, ports and
//! what a test changes.

use super::redis::free_port;
use super::{DEADLINE, Node, eventually};
use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;
use tokio::net::TcpStream;

const NGINX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nginx.conf");
const HAPROXY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/haproxy.cfg");

/// Where Debian has programs for the system.
const PATH: &str = "/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin";

/// Which program.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// nginx.
    Nginx,
    /// haproxy.
    Haproxy,
}

/// A running load balancer, killed when dropped.
pub struct Balancer {
    process: Child,
    /// Ends it should this process be killed: it waits for the end of a pipe.
    watchdog: Child,
    /// For clients.
    pub ws: SocketAddr,
    /// For backends.
    pub http: SocketAddr,
    _directory: TempDir,
}

/// A text in which every change has to find what it replaces.
pub struct Configuration(String);

impl Configuration {
    /// Puts `new` wherever `old` stands, which has to be somewhere.
    #[must_use]
    pub fn with(self, old: &str, new: &str) -> Self {
        assert!(self.0.contains(old), "no {old:?} in {}", self.0);
        Self(self.0.replace(old, new))
    }
}

impl Balancer {
    /// One of the kind with the shipped configuration, in front of three nodes.
    pub async fn before(kind: Kind, nodes: &[Node]) -> Self {
        Self::changed(kind, nodes, |configuration| configuration).await
    }

    /// The same with changes of the test's.
    pub async fn changed(kind: Kind, nodes: &[Node], change: impl FnOnce(Configuration) -> Configuration) -> Self {
        let nodes: Vec<_> = nodes.iter().map(|node| (node.ws(), node.http())).collect();
        Self::at(kind, &nodes, change).await
    }

    /// The same in front of whatever listens there: for WebSockets, and for the HTTP API.
    pub async fn at(
        kind: Kind,
        nodes: &[(SocketAddr, SocketAddr)],
        change: impl FnOnce(Configuration) -> Configuration,
    ) -> Self {
        let file = match kind {
            Kind::Nginx => NGINX,
            Kind::Haproxy => HAPROXY,
        };
        let mut configuration = change(Configuration(fs::read_to_string(file).unwrap()));
        // A test with fewer nodes names some of them more than once.
        for (number, (ws, api)) in (1..=3).zip(nodes.iter().cycle()) {
            let (ws, http) = (ws.to_string(), api.to_string());
            let check = format!("{ws} port {}", api.port());
            configuration = configuration.with(&format!("node{number}:8080"), &http).with(
                &format!("node{number}:80"),
                match kind {
                    Kind::Nginx => &ws,
                    Kind::Haproxy => &check,
                },
            );
        }
        let [ws, http] = [(), ()].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        match kind {
            Kind::Nginx => {
                let configuration = configuration
                    .with("listen 80;", &format!("listen {ws};"))
                    .with("listen 8080;", &format!("listen {http};"))
                    // What nginx has from 1.27.3 on, for names that Docker knows.
                    .with(" resolve ", " ")
                    .with("resolver 127.0.0.11 valid=5s;", "")
                    .with("worker_rlimit_nofile 65536;", "")
                    .with("worker_connections 32768;", "worker_connections 1024;");
                Self::nginx(&configuration.0, ws, http).await
            }
            Kind::Haproxy => {
                let configuration = configuration
                    .with("bind :8080", &format!("bind {http}"))
                    .with("bind :80\n", &format!("bind {ws}\n"))
                    .with(" check port 8080 ", " check ")
                    .with(" resolvers docker init-addr libc,none", "")
                    .with("maxconn 30000", "maxconn 1000");
                let directory = tempfile::tempdir().unwrap();
                fs::write(directory.path().join("haproxy.cfg"), configuration.0).unwrap();
                let mut command = Command::new("haproxy");
                command.args(["-db", "-f", "haproxy.cfg"]);
                Self::run(command, directory, ws, http).await
            }
        }
    }

    /// An nginx with this configuration, which says where it listens.
    pub async fn nginx(configuration: &str, ws: SocketAddr, http: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let paths =
            ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|what| format!("{what}_temp_path {what};"));
        let configuration = configuration.replacen("http {", &format!("http {{ {}", paths.concat()), 1);
        let head = "daemon off; master_process off; pid nginx.pid; error_log error.log;\n";
        fs::write(directory.path().join("nginx.conf"), format!("{head}{configuration}")).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-p", directory.path().to_str().unwrap(), "-c", "nginx.conf", "-e", "error.log"]);
        Self::run(command, directory, ws, http).await
    }

    async fn run(mut command: Command, directory: TempDir, ws: SocketAddr, http: SocketAddr) -> Self {
        command.current_dir(directory.path()).env("PATH", PATH).stdin(Stdio::null()).stdout(Stdio::null());
        let process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}; is it installed?"));
        let end = format!("read _; kill -9 {}; rm -rf \"$0\"", process.id());
        let mut watchdog = Command::new("sh");
        watchdog.args(["-c", &end]).arg(directory.path()).stdin(Stdio::piped()).stderr(Stdio::null());
        let watchdog = watchdog.spawn().unwrap();
        let balancer = Self { process, watchdog, ws, http, _directory: directory };
        eventually("the load balancer listens", DEADLINE, async || {
            TcpStream::connect(ws).await?;
            TcpStream::connect(http).await.map(drop)
        })
        .await;
        balancer
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
