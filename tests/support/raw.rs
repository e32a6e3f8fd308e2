//! A client that sends whatever bytes a test wants and shows the bytes that come back.

use super::DEADLINE;
use super::http::{Answer, Http};
use rustls::ClientConfig;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A key for `Sec-WebSocket-Key`; the one of RFC 6455, section 1.3.
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The mask of every frame; any will do (RFC 6455, section 5.3, asks browsers for random ones).
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A TCP connection, perhaps with TLS on it.
pub struct Raw<S = TcpStream>(S);

impl Raw {
    /// Connects.
    pub async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Connects from another address of this machine's.
    pub async fn connect_from(from: IpAddr, to: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(from, 0)).unwrap();
        let stream = socket.connect(to).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Connects and shakes hands for `target`; nothing but 101 will do.
    pub async fn upgraded(to: SocketAddr, target: &str) -> Self {
        Self::connect(to).await.upgrade(target).await
    }

    /// Does TLS over it.
    pub async fn tls(self, tls: Arc<ClientConfig>) -> Raw<TlsStream<TcpStream>> {
        let to = self.0.peer_addr().unwrap();
        Raw(TlsConnector::from(tls).connect(to.ip().into(), self.0).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Shakes hands for `target`; nothing but 101 will do.
    pub async fn upgrade(mut self, target: &str) -> Self {
        self.send(handshake(target).as_bytes()).await;
        let head = self.until(b"\r\n\r\n").await;
        assert!(head.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&head));
        self
    }

    /// Sends bytes; that the server has hung up already is no failure.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.0.write_all(bytes).await;
        let _ = self.0.flush().await;
    }

    /// Sends as many of these bytes as are taken, once any are. Cancel-safe.
    pub async fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes).await.unwrap()
    }

    /// Everything up to and with `end`.
    pub async fn until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut all = Vec::new();
        while !all.ends_with(end) {
            let byte = timeout(DEADLINE, self.0.read_u8()).await.expect("the server says nothing");
            all.push(byte.unwrap_or_else(|error| panic!("{error} after {:?}", String::from_utf8_lossy(&all))));
        }
        all
    }

    /// Everything until the server hangs up; how it does (end or reset) makes no difference.
    pub async fn rest(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match timeout(DEADLINE, self.0.read(&mut piece)).await.expect("the server does not hang up") {
                Ok(0) | Err(_) => return all,
                Ok(length) => all.extend_from_slice(&piece[..length]),
            }
        }
    }

    /// One unmasked frame: its first byte and its payload.
    pub async fn frame(&mut self) -> (u8, Vec<u8>) {
        timeout(DEADLINE, self.read_frame()).await.expect("the server sends no frame").unwrap()
    }

    async fn read_frame(&mut self) -> io::Result<(u8, Vec<u8>)> {
        let first = self.0.read_u8().await?;
        let length = match self.0.read_u8().await? {
            126 => u64::from(self.0.read_u16().await?),
            127 => self.0.read_u64().await?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.0.read_exact(&mut payload).await?;
        Ok((first, payload))
    }

    /// The code of the close frame that comes next, and its reason; `None` where the server hangs up without.
    pub async fn close_code(&mut self) -> Option<(u16, String)> {
        let (first, payload) = timeout(DEADLINE, self.read_frame()).await.expect("the server does nothing").ok()?;
        assert_eq!(first, 0x88, "not a close frame: {payload:?}");
        let (code, reason) = payload.split_first_chunk::<2>().expect("a close frame with a code");
        Some((u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).unwrap()))
    }

    /// One HTTP answer, and the connection for what may follow.
    pub async fn answer(self) -> io::Result<Answer> {
        timeout(DEADLINE, Http::over(self.0).answer()).await.expect("the server does not answer")
    }
}

/// The request of a handshake.
pub fn handshake(target: &str) -> String {
    handshake_with(target, "")
}

/// The request of a handshake with more header lines, each ending with CR LF.
pub fn handshake_with(target: &str, lines: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: carillon.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n{lines}\r\n"
    )
}

/// A frame as a client has to send it. `first` is the byte with FIN, RSV and opcode.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0x80, payload.len() as u64);
    frame.extend_from_slice(&MASK);
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// A frame as no client may send it.
pub fn unmasked(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, 0, payload.len() as u64);
    frame.extend_from_slice(payload);
    frame
}

/// A masked frame's header that announces `length` bytes, whatever follows.
pub fn announced(first: u8, length: u64) -> Vec<u8> {
    let mut frame = header(first, 0x80, length);
    frame.extend_from_slice(&MASK);
    frame
}

/// First byte and length in its shortest form (RFC 6455, section 5.2).
fn header(first: u8, mask: u8, length: u64) -> Vec<u8> {
    let mut header = vec![first];
    match length {
        0..126 => header.push(mask | length as u8),
        126..0x1_0000 => {
            header.push(mask | 126);
            header.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            header.push(mask | 127);
            header.extend_from_slice(&length.to_be_bytes());
        }
    }
    header
}
