//! Where a client is, behind whatever stands before this node.
//!
//! - [`TrustedProxies`]: whose word counts
//! - `forwarded`: what a proxy's headers say of its client
//! - `proxy_protocol`: what a proxy says before the first byte of its client
//! - [`Places`]: how many connections each address has
//!
//! Everybody else's word is ignored: a client that writes these headers itself changes nothing.

mod forwarded;
mod places;
mod proxy_protocol;
mod trusted;

pub use forwarded::AddressHeader;
pub use places::{Crowded, Place, Places};
pub use proxy_protocol::ProxyProtocolError;
pub use trusted::{TrustedError, TrustedProxies};

use hyper::HeaderMap;
use proxy_protocol::Said;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::net::TcpStream;

/// Who is believed about where clients are, and how they say it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Peers {
    /// The proxies (`TRUSTED_PROXIES`).
    pub trusted: TrustedProxies,
    /// The header that they put a client's address into (`CLIENT_ADDRESS_HEADER`).
    pub header: AddressHeader,
    /// Whether each of their connections begins with a header of the PROXY protocol (`PROXY_PROTOCOL`).
    pub proxy_protocol: bool,
}

/// Who is at the other end of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its address, or that of whom a proxy names; an IPv4 address is one, however the socket writes it.
    pub address: SocketAddr,
    by: By,
}

/// How an address is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum By {
    /// It is the connection's own.
    Connection,
    /// A proxy names it: its client's.
    Proxy,
    /// It is that of a proxy, which doesn't know its client's.
    Nobody,
}

impl Peer {
    /// Whoever connected from this address, which speaks for itself.
    pub fn direct(address: SocketAddr) -> Self {
        Self { address: canonical(address), by: By::Connection }
    }

    /// Whether its request is from this machine itself and not passed on by a proxy, on it or elsewhere. One that passes on
    /// bytes alone, and says nothing of it, can't be told from a program of this machine.
    pub fn is_local(&self, headers: &HeaderMap) -> bool {
        self.by == By::Connection && self.address.ip().is_loopback() && !forwarded::is_forwarded(headers)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Peers {
    /// Who speaks on a connection that was just accepted from `peer`: itself, or whom a trusted proxy's PROXY protocol
    /// names, in which case the header is taken off the stream and what follows is the client's.
    ///
    /// # Errors
    /// A trusted proxy did not send the header within `limit`, or something else instead. The connection is of no use then.
    pub async fn arrived(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<Peer, ProxyProtocolError> {
        let peer = Peer::direct(peer);
        if !self.proxy_protocol || !self.trusted.contains(peer.address.ip()) {
            return Ok(peer);
        }
        // Boxed: few connections are in here, and for a moment only.
        let said = tokio::time::timeout(limit, Box::pin(proxy_protocol::read(stream))).await;
        Ok(match said.map_err(|_| ProxyProtocolError::TooSlow(limit))?? {
            Said::Client(client) => Peer { address: canonical(client), by: By::Proxy },
            Said::Somebody => Peer { by: By::Nobody, ..peer },
            Said::Itself => peer,
        })
    }

    /// The address of the client that a request is from: that of `peer`, as [`arrived`](Self::arrived) gives it, or the one
    /// that it names in a header where it is a trusted proxy. What a client says whose own address nobody knows is no
    /// proxy's word.
    pub fn address(&self, peer: Peer, headers: &HeaderMap) -> IpAddr {
        let address = peer.address.ip();
        if peer.by == By::Nobody || !self.trusted.contains(address) {
            return address;
        }
        self.header.client(headers, &self.trusted).unwrap_or(address)
    }
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
