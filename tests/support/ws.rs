//! A WebSocket client as a browser is one. Small buffers, so that a test holds thousands of them.

use super::DEADLINE;
use futures_util::stream::{FuturesUnordered, StreamExt};
use futures_util::{SinkExt, future};
use rustls::ClientConfig;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

/// How many handshakes of a crowd are under way at once.
const HANDSHAKES: usize = 64;

/// What a client can see happening.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Heard {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// The server's close frame: code and reason; 1005 where it has none.
    Closed(u16, String),
    /// The connection ended without a close frame, which a browser calls 1006.
    Lost,
}

/// The handshake was answered with something else than 101.
#[derive(Debug)]
pub struct Refused {
    /// Status code; 0 where the connection broke instead.
    pub status: u16,
    /// Names (lower case) and values.
    pub headers: Vec<(String, String)>,
    /// As much of the body as came with the headers.
    pub body: String,
}

/// What a client's bytes go over.
trait Transport: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Transport for T {}

fn broken(error: String) -> Refused {
    Refused { status: 0, headers: Vec::new(), body: error }
}

async fn tcp(to: SocketAddr) -> Result<TcpStream, Refused> {
    let stream = TcpSocket::new_v4().unwrap().connect(to).await.map_err(|error| broken(error.to_string()))?;
    stream.set_nodelay(true).unwrap();
    Ok(stream)
}

/// One client.
pub struct Listener {
    socket: WebSocketStream<Box<dyn Transport>>,
}

impl Listener {
    /// Connects to a path and query of a node.
    pub async fn try_connect(to: SocketAddr, target: &str) -> Result<Self, Refused> {
        let stream = tcp(to).await?;
        Self::over(Box::new(stream), &format!("ws://{to}{target}")).await
    }

    /// Connects with TLS, and says which certificate it was shown.
    pub async fn try_connect_tls(
        to: SocketAddr,
        target: &str,
        tls: Arc<ClientConfig>,
    ) -> Result<(Self, Vec<u8>), Refused> {
        let stream = tcp(to).await?;
        let stream = TlsConnector::from(tls).connect(to.ip().into(), stream).await;
        let stream = stream.map_err(|error| broken(error.to_string()))?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Ok((Self::over(Box::new(stream), &format!("wss://{to}{target}")).await?, shown))
    }

    async fn over(stream: Box<dyn Transport>, url: &str) -> Result<Self, Refused> {
        let config = WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0);
        match timeout(DEADLINE, client_async_with_config(url, stream, Some(config))).await {
            Ok(Ok((socket, _))) => Ok(Self { socket }),
            Ok(Err(Error::Http(answer))) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let headers = answer.headers().iter();
                Err(Refused {
                    status: answer.status().as_u16(),
                    headers: headers.map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect(),
                    body: answer.body().as_deref().map(text).unwrap_or_default(),
                })
            }
            Ok(Err(error)) => Err(broken(error.to_string())),
            Err(_) => Err(broken("the handshake was not answered in time".to_owned())),
        }
    }

    /// Connects where that has to be refused.
    pub async fn refused(to: SocketAddr, target: &str) -> Refused {
        match Self::try_connect(to, target).await {
            Ok(_) => panic!("{target}: let in"),
            Err(refused) => refused,
        }
    }

    /// Connects, or fails the test.
    pub async fn connect(to: SocketAddr, target: &str) -> Self {
        Self::try_connect(to, target).await.unwrap_or_else(|refused| panic!("{to}{target}: {refused:?}"))
    }

    /// So many clients of one node, connected some at a time.
    pub async fn crowd(to: SocketAddr, target: &str, size: usize) -> Vec<Self> {
        let connects = (0..size).map(|_| Self::connect(to, target));
        futures_util::stream::iter(connects).buffer_unordered(HANDSHAKES).collect().await
    }

    /// The next thing that happens, or the failure of the test; control frames are answered and not told.
    pub async fn hears(&mut self) -> Heard {
        timeout(DEADLINE, self.heard()).await.expect("nothing heard within the deadline")
    }

    /// The next thing that happens, however long it takes. Cancel-safe.
    pub async fn heard(&mut self) -> Heard {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Heard::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(bytes))) => return Heard::Binary(bytes.to_vec()),
                Some(Ok(Message::Close(Some(close)))) => {
                    return Heard::Closed(close.code.into(), close.reason.as_str().to_owned());
                }
                Some(Ok(Message::Close(None))) => return Heard::Closed(1005, String::new()),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Heard::Lost,
            }
        }
    }

    /// The next thing must be this text.
    pub async fn hears_text(&mut self, text: &str) {
        assert_eq!(self.hears().await, Heard::Text(text.to_owned()));
    }

    /// Everything up to the text `last`, which is left out; the end of the connection ends it as well.
    pub async fn hears_until(&mut self, last: &str) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            let heard = self.hears().await;
            let ended = matches!(heard, Heard::Closed(..) | Heard::Lost);
            if heard == Heard::Text(last.to_owned()) {
                return all;
            }
            all.push(heard);
            if ended {
                return all;
            }
        }
    }

    /// Whether the server has ended the connection; takes and forgets what is waiting.
    pub async fn is_gone(&mut self) -> bool {
        loop {
            match future::poll_immediate(self.heard()).await {
                None => return false,
                Some(Heard::Closed(..) | Heard::Lost) => return true,
                Some(_) => {}
            }
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) {
        self.socket.send(message).await.unwrap();
    }

    /// Sends a text, if the connection has not ended.
    pub async fn try_say(&mut self, text: &str) {
        let _ = self.socket.send(Message::text(text)).await;
    }

    /// Sends a text.
    pub async fn say(&mut self, text: &str) {
        self.send(Message::text(text)).await;
    }

    /// Closes as a browser does, and waits for the answer.
    pub async fn close(mut self) {
        self.socket.close(None).await.unwrap();
        while !matches!(self.hears().await, Heard::Closed(..) | Heard::Lost) {}
    }
}

/// Every client must hear this text next.
pub async fn all_hear(crowd: &mut [Listener], text: &str) {
    crowd.iter_mut().map(|listener| listener.hears_text(text)).collect::<FuturesUnordered<_>>().collect::<()>().await;
}

/// No client may have been disconnected.
pub async fn nobody_is_gone(crowd: &mut [Listener]) {
    let mut gone = 0;
    for listener in crowd.iter_mut() {
        gone += usize::from(listener.is_gone().await);
    }
    assert_eq!(gone, 0, "of {} clients so many were disconnected", crowd.len());
}
