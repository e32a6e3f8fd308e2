//! A plain HTTP/1.1 client that hides nothing: what came is what a test sees.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The longest that a single answer may take before the test counts it as none.
const PATIENCE: Duration = Duration::from_secs(30);

/// An answer, as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Names (lower case) and values, in their order.
    pub headers: Vec<(String, String)>,
    /// The body, chunks put together.
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that (lower case) name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A connection that stays open between requests.
pub struct Http<S = TcpStream> {
    stream: BufReader<S>,
}

impl Http {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        Ok(Self::over(stream))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Http<S> {
    /// Speaks over a stream that is there.
    pub fn over(stream: S) -> Self {
        Self { stream: BufReader::new(stream) }
    }

    /// Asks for `target` and waits for the whole answer.
    pub async fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.request(&request("GET", target, &[], b"")).await
    }

    /// Sends these very bytes and reads one answer. A body that was cut short is an error.
    pub async fn request(&mut self, bytes: &[u8]) -> io::Result<Answer> {
        timeout(PATIENCE, async {
            self.stream.get_mut().write_all(bytes).await?;
            self.answer().await
        })
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "no whole answer in time"))?
    }

    /// Reads one answer.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        let head = self.line().await?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("not a status line: {head:?}")))?;
        let mut answer = Answer { status, headers: Vec::new(), body: Vec::new() };
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            answer.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        if status == 204 || status == 101 {
        } else if answer.header("transfer-encoding") == Some("chunked") {
            while self.chunk(&mut answer.body).await? {}
        } else if let Some(length) = answer.header("content-length") {
            answer.body.resize(length.parse().map_err(io::Error::other)?, 0);
            self.stream.read_exact(&mut answer.body).await?;
        } else {
            self.stream.read_to_end(&mut answer.body).await?;
        }
        Ok(answer)
    }

    /// Appends one chunk; false after the last.
    async fn chunk(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let size = self.line().await?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size, 0);
        self.stream.read_exact(&mut body[start..]).await?;
        let end = self.line().await?;
        if end.is_empty() { Ok(size > 0) } else { Err(io::Error::other(format!("chunk ends with {end:?}"))) }
    }

    /// One line without its CR LF; the end of the stream is an error.
    async fn line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        loop {
            match self.stream.read_u8().await? {
                b'\n' => break,
                byte => line.push(byte),
            }
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        String::from_utf8(line).map_err(io::Error::other)
    }
}

/// The bytes of a request.
pub fn request(method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: carillon.test\r\n");
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    bytes += "\r\n";
    let mut bytes = bytes.into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// One GET on a connection of its own.
pub async fn get(to: SocketAddr, target: &str) -> io::Result<Answer> {
    Http::connect(to).await?.get(target).await
}
