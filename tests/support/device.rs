//! Backends at the device socket, and the devices they reach.

use super::http::get;
use super::{DEADLINE, Heard, Listener, Node};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// What makes every client of a node a device.
pub const DEVICES: (&str, &str) = ("CLIENT_PROFILES", "/=device");

/// A place for a socket's file, removed when dropped.
pub struct Place(TempDir);

impl Place {
    /// A fresh one.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Where the socket is.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("push.sock")
    }

    /// The same, as a value of `UNIX_SOCKET`.
    pub fn text(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }
}

/// A backend.
pub struct Backend(UnixStream);

impl Backend {
    /// Connects.
    pub async fn connect(path: &Path) -> Self {
        Self::try_connect(path).await.unwrap()
    }

    /// Connects, or says why not.
    pub async fn try_connect(path: &Path) -> io::Result<Self> {
        UnixStream::connect(path).await.map(Self)
    }

    /// Writes all of it.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(DEADLINE, self.0.write_all(bytes.as_ref())).await.expect("the node does not read").unwrap();
    }

    /// Writes until the node closes the connection.
    pub async fn write_until_closed(&mut self, bytes: &[u8]) {
        let writing = async { while self.0.write_all(bytes).await.is_ok() {} };
        timeout(DEADLINE, writing).await.expect("the node does not close the connection");
    }

    /// One read, as PHP's `fread($socket, 8192)`.
    pub async fn read(&mut self) -> String {
        let mut piece = [0; 8192];
        let length = timeout(DEADLINE, self.0.read(&mut piece)).await.expect("no answer").unwrap();
        String::from_utf8(piece[..length].to_vec()).unwrap()
    }

    /// As many bytes as `answers` has, which have to be these.
    pub async fn reads(&mut self, answers: &str) {
        let mut read = vec![0; answers.len()];
        timeout(DEADLINE, self.0.read_exact(&mut read)).await.expect("no answer").unwrap();
        assert_eq!(String::from_utf8_lossy(&read), answers);
    }

    /// A document and its answer.
    pub async fn ask(&mut self, document: impl AsRef<[u8]>) -> String {
        self.write(document).await;
        self.read().await
    }

    /// Ends what it writes, and reads to the end of what it is answered.
    pub async fn end(mut self) -> String {
        self.0.shutdown().await.unwrap();
        self.rest().await
    }

    /// Everything until the node closes the connection; how it does makes no difference.
    pub async fn rest(&mut self) -> String {
        let mut all = Vec::new();
        // A reset comes after all that was read before.
        let _ = timeout(DEADLINE, self.0.read_to_end(&mut all)).await.expect("the node does not close the connection");
        String::from_utf8(all).unwrap()
    }
}

/// A node whose clients are devices, with a socket.
pub async fn node(place: &Place, environment: &[(&str, &str)]) -> Node {
    let path = place.text();
    let mut variables = vec![DEVICES, ("UNIX_SOCKET", path.as_str())];
    variables.extend_from_slice(environment);
    Node::start(&variables).await
}

/// A document that every connection is to hear as `text`.
pub fn to_all(text: &str) -> String {
    format!(r#"{{"action":"multicast","data":"{text}"}}"#)
}

/// One write, one read, no end of the stream: what backends in PHP do.
pub async fn send(path: &Path, document: impl AsRef<[u8]>) -> String {
    Backend::connect(path).await.ask(document).await
}

/// A device that was told its id.
pub async fn device(node: &Node, target: &str) -> (Listener, String) {
    let mut listener = Listener::connect(node.ws(), target).await;
    let Heard::Text(open) = listener.hears().await else { panic!("not a text") };
    let id = open.strip_prefix(r#"{"action":"setDeviceId","data":{"device_id":""#);
    let id = id.and_then(|rest| rest.strip_suffix(r#""}}"#)).unwrap_or_else(|| panic!("not setDeviceId: {open}"));
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    assert!(id.len() == 15 && id.bytes().all(plain), "{id}");
    (listener, id.to_owned())
}

/// The value of a series of a node's metrics.
pub async fn metric(node: &Node, series: &str) -> u64 {
    let page = get(node.http(), "/metrics").await.unwrap();
    let found = page.text().lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{series} is missing")).parse().unwrap()
}

/// How many documents were not carried out for a reason.
pub async fn refused(node: &Node, source: &str, reason: &str) -> u64 {
    metric(node, &format!(r#"carillon_device_documents_refused_total{{reason="{reason}",source="{source}"}}"#)).await
}
