//! PHP's own web server.

use super::redis::free_port;
use super::{DEADLINE, eventually};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use tokio::net::TcpStream;

/// A script that answers every request; killed when dropped.
pub struct Php {
    child: Child,
    address: SocketAddr,
}

impl Php {
    /// Starts `php -S` with this script and these variables, and waits until it listens.
    pub async fn serve(script: &Path, environment: &[(&str, &str)]) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let child = Command::new("php")
            .args(["-d", "display_errors=stderr", "-S", &address.to_string()])
            .arg(script)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("php is there (Debian's package is php-cli)");
        let php = Self { child, address };
        eventually("php listens", DEADLINE, async || TcpStream::connect(address).await.map(drop)).await;
        php
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}/webhook", self.address)
    }
}

impl Drop for Php {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
