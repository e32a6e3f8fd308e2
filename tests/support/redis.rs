//! Real Redis servers for tests: a single one, a Cluster, a primary with replica and Sentinels.
//!
//! Every server gets a free port of its own, keeps nothing on disk, and dies with the value that started it; should the
//! test process itself be killed, a watchdog that waits for the end of a pipe kills the server.
#![allow(dead_code, unreachable_pub, reason = "each test binary is a crate of its own and uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::io;
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// How long anything that a Redis server has to do at start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a condition that is being waited for.
const LOOK: Duration = Duration::from_millis(10);

/// How often a start is tried again when somebody else took the port that was free a moment ago.
const ATTEMPTS: usize = 5;

/// One `redis-server` on 127.0.0.1.
pub struct RedisServer {
    port: u16,
    args: Vec<String>,
    dir: TempDir,
    running: Option<Running>,
}

/// The process, and the watchdog that outlives a killed test by as long as it takes to kill the process.
struct Running {
    server: Child,
    watchdog: Child,
}

impl Running {
    /// Starts the process, whose files are all in `dir`.
    fn spawn(command: &mut Command, dir: &TempDir) -> io::Result<Self> {
        let mut server = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let end = format!("read _; kill -9 {}; rm -rf \"$0\"", server.id());
        let mut watchdog = Command::new("sh");
        watchdog.arg("-c").arg(end).arg(dir.path()).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        match watchdog.spawn() {
            Ok(watchdog) => Ok(Self { server, watchdog }),
            Err(error) => {
                let _ = server.kill();
                let _ = server.wait();
                Err(error)
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The watchdog goes first: afterwards the process number may belong to somebody else.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

impl RedisServer {
    /// A single empty server, answering.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// As [`start`](Self::start), with more arguments for `redis-server`.
    pub async fn start_with(args: &[&str]) -> Self {
        for _ in 0..ATTEMPTS {
            let mut server = Self {
                port: free_port(),
                args: args.iter().map(|arg| (*arg).to_owned()).collect(),
                dir: tempfile::tempdir().expect("a directory for redis"),
                running: None,
            };
            if server.try_run().await {
                return server;
            }
        }
        panic!("redis-server does not start with {args:?}; is it installed (redis-server on PATH)?");
    }

    /// Whether the server is up on its port; false where it ended at once (the port was taken in the meantime).
    async fn try_run(&mut self) -> bool {
        let mut command = Command::new("redis-server");
        let port = self.port.to_string();
        command.args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.args(["--dir", &self.dir.path().to_string_lossy(), "--daemonize", "no"]).args(&self.args);
        self.running = Some(Running::spawn(&mut command, &self.dir).expect("redis-server is installed"));
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let Some(running) = &mut self.running else { return false };
            if !matches!(running.server.try_wait(), Ok(None)) {
                return false;
            }
            if answers(self.port).await {
                return true;
            }
            tokio::time::sleep(LOOK).await;
        }
        false
    }

    /// The port it listens on; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// What `REDIS_URL` names it by.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// The number of the process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| running.server.id())
    }

    /// What `redis-cli` prints for a command. Panics where it fails.
    pub async fn cli(&self, args: &[&str]) -> String {
        cli(self.port, args).await
    }

    /// `kill -9`: nothing of its data is left.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Starts it again, empty, on the same port.
    pub async fn run_again(&mut self) {
        self.kill();
        let deadline = Instant::now() + PATIENCE;
        while !self.try_run().await {
            assert!(Instant::now() < deadline, "redis-server does not start again on port {}", self.port);
        }
    }

    /// Stops the process where it stands (`SIGSTOP`): connections stay open and nothing is answered.
    pub fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let pid = self.pid().expect("the server runs").to_string();
        // `kill` of the shell, as the one of procps is not everywhere.
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).status().expect("sh is there");
        assert!(sent.success(), "kill -{name} {pid}");
    }
}

/// A Redis Cluster on 127.0.0.1: primaries first, then each primary's replicas.
pub struct RedisCluster {
    /// Its servers.
    pub servers: Vec<RedisServer>,
}

impl RedisCluster {
    /// A Cluster of so many primaries with so many replicas each, in state `ok` at every server.
    pub async fn start(primaries: usize, replicas: usize) -> Self {
        let mut servers = Vec::new();
        for _ in 0..primaries * (1 + replicas) {
            servers.push(Self::server().await);
        }
        let addresses: Vec<String> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let replicas = replicas.to_string();
        let mut args = vec!["--cluster", "create"];
        args.extend(addresses.iter().map(String::as_str));
        args.extend(["--cluster-replicas", &replicas, "--cluster-yes"]);
        // It asks the servers that it is given, not the port of `-p`.
        cli(servers[0].port, &args).await;
        let cluster = Self { servers };
        cluster.wait_until_ok().await;
        cluster
    }

    async fn server() -> RedisServer {
        for _ in 0..ATTEMPTS {
            let bus = free_port().to_string();
            let timeout = "2000";
            let args = ["--cluster-enabled", "yes", "--cluster-node-timeout", timeout, "--cluster-port", &bus]
                .map(str::to_owned);
            let dir = tempfile::tempdir().expect("a directory for redis");
            let mut server = RedisServer { port: free_port(), args: args.to_vec(), dir, running: None };
            if server.try_run().await {
                return server;
            }
        }
        panic!("redis-server does not start as a member of a Cluster");
    }

    /// Waits until every running server says `cluster_state:ok`.
    pub async fn wait_until_ok(&self) {
        let deadline = Instant::now() + PATIENCE;
        for server in self.servers.iter().filter(|server| server.running.is_some()) {
            while !server.cli(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok") {
                assert!(Instant::now() < deadline, "the Cluster does not get into state ok");
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// What `REDIS_URL` names it by.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.servers.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let more: Vec<String> = hosts[1..].iter().map(|host| format!("node={host}")).collect();
        format!("redis-cluster://{}?{}", hosts[0], more.join("&"))
    }
}

/// The name that the Sentinels know their primary by.
pub const SENTINEL_SERVICE: &str = "carillon";

/// A primary, a replica and three Sentinels that fail over after two seconds.
pub struct RedisSentinel {
    /// The primary at start, then its replica.
    pub servers: Vec<RedisServer>,
    /// The Sentinels.
    pub sentinels: Vec<RedisServer>,
}

impl RedisSentinel {
    /// Starts them; returns when every Sentinel knows the replica and the other Sentinels.
    pub async fn start() -> Self {
        let primary = RedisServer::start().await;
        let port = primary.port.to_string();
        let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
        let mut sentinels = Vec::new();
        for _ in 0..3 {
            sentinels.push(Self::sentinel(primary.port).await);
        }
        let group = Self { servers: vec![primary, replica], sentinels };
        let deadline = Instant::now() + PATIENCE;
        for sentinel in &group.sentinels {
            loop {
                let known = sentinel.cli(&["INFO", "sentinel"]).await;
                if known.contains("slaves=1,sentinels=3") {
                    break;
                }
                assert!(Instant::now() < deadline, "the Sentinels do not find each other: {known}");
                tokio::time::sleep(LOOK).await;
            }
        }
        group
    }

    async fn sentinel(primary: u16) -> RedisServer {
        for _ in 0..ATTEMPTS {
            let dir = tempfile::tempdir().expect("a directory for a sentinel");
            let port = free_port();
            // A Sentinel rewrites its file, so every one has its own.
            let file = dir.path().join("sentinel.conf");
            let text = format!(
                "port {port}\nbind 127.0.0.1\ndir {dir}\nsentinel monitor {SENTINEL_SERVICE} 127.0.0.1 {primary} 2\n\
                 sentinel down-after-milliseconds {SENTINEL_SERVICE} 2000\n\
                 sentinel failover-timeout {SENTINEL_SERVICE} 6000\n",
                dir = dir.path().display()
            );
            std::fs::write(&file, text).expect("a file for a sentinel");
            let mut command = Command::new("redis-server");
            command.arg(&file).arg("--sentinel");
            let running = Running::spawn(&mut command, &dir).expect("redis-server is installed");
            let mut sentinel = RedisServer { port, args: Vec::new(), dir, running: Some(running) };
            let deadline = Instant::now() + PATIENCE;
            while Instant::now() < deadline {
                if answers(port).await {
                    return sentinel;
                }
                if !sentinel.running.as_mut().is_some_and(|running| matches!(running.server.try_wait(), Ok(None))) {
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
        panic!("a Sentinel does not start");
    }

    /// What `REDIS_URL` names it by.
    pub fn url(&self) -> String {
        let hosts: Vec<String> = self.sentinels.iter().map(|server| format!("127.0.0.1:{}", server.port)).collect();
        let more: Vec<String> = hosts[1..].iter().map(|host| format!("&node={host}")).collect();
        format!("redis-sentinel://{}?sentinelServiceName={SENTINEL_SERVICE}{}", hosts[0], more.concat())
    }
}

/// Ports for whoever has to be told one. Below those that the system gives out by itself (32768 and up): one of these would be
/// somebody's by the time it is used, if only as the near end of a connection.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// How many of [`PORTS`] were looked at. Each process begins elsewhere and comes back to none before all the others.
static LOOKED_AT: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on just now, and that no other test gets.
pub fn free_port() -> u16 {
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..count {
        // 37 shares no divisor with the count: neighbours among processes are far apart.
        let at = (std::process::id().wrapping_mul(37) + LOOKED_AT.fetch_add(1, Ordering::Relaxed)) % count;
        let port = PORTS.start + u16::try_from(at).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no port in {PORTS:?} is free");
}

/// Whether a server on that port answers `PING` (with `NOAUTH` where it wants a password).
async fn answers(port: u16) -> bool {
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        stream.write_all(b"PING\r\n").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        Ok::<_, io::Error>(&answer == b"+PONG" || &answer == b"-NOAU")
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}

async fn cli(port: u16, args: &[&str]) -> String {
    let mut command = Command::new("redis-cli");
    command.args(["-p", &port.to_string()]).args(args).stdin(Stdio::null());
    let output = tokio::task::spawn_blocking(move || command.output()).await.expect("redis-cli was run");
    let output = output.expect("redis-cli is installed");
    let text = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
    assert!(output.status.success(), "redis-cli {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}
