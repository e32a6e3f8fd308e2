//! A client's connection: TCP, perhaps with TLS on it.

use anyhow::Result;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

/// A connection that does not block.
pub enum Stream {
    /// TCP alone.
    Plain(TcpStream),
    /// TLS on TCP.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// Connects and sends a request; with TLS when its handshake is done, which goes on whenever something is read.
    pub fn connect(address: SocketAddr, tls: Option<Arc<ClientConfig>>, request: &[u8]) -> Result<Self> {
        // This blocks: on loopback it is done when the call returns, and costs less than an event.
        let stream = std::net::TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        let Some(tls) = tls else {
            // The send buffer is empty and has room for far more.
            stream.write_all(request)?;
            return Ok(Self::Plain(stream));
        };
        let mut connection = ClientConnection::new(tls, address.ip().into())?;
        connection.writer().write_all(request)?;
        connection.write_tls(&mut stream)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(connection, stream))))
    }

    /// Has a poll tell when there is something to read: once, until it is read to its end.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.tcp(), token, Interest::READABLE)
    }

    /// Has it told no more.
    pub fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.deregister(self.tcp())
    }

    /// Whether a read of so many bytes into a buffer of so many says that nothing more is there. That of a socket does
    /// where it is short (epoll(7)); that through TLS ends with a record.
    pub fn is_empty_after(&self, read: usize, buffer: usize) -> bool {
        matches!(self, Self::Plain(_)) && read < buffer
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
