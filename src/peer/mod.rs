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

impl Peers {
    /// Who speaks on a connection that was just accepted from `peer`: itself, or whom a trusted proxy's PROXY protocol
    /// names, in which case the header is taken off the stream and what follows is the client's. An IPv4 address is one,
    /// however the socket writes it.
    ///
    /// # Errors
    /// A trusted proxy did not send the header within `limit`, or something else instead. The connection is of no use then.
    pub async fn arrived(
        &self,
        stream: &mut TcpStream,
        peer: SocketAddr,
        limit: Duration,
    ) -> Result<SocketAddr, ProxyProtocolError> {
        let peer = canonical(peer);
        if !self.proxy_protocol || !self.trusted.contains(peer.ip()) {
            return Ok(peer);
        }
        // Boxed: few connections are in here, and for a moment only.
        match tokio::time::timeout(limit, Box::pin(proxy_protocol::read(stream))).await {
            Ok(source) => Ok(source?.map_or(peer, canonical)),
            Err(_) => Err(ProxyProtocolError::TooSlow(limit)),
        }
    }

    /// The address of the client that a request is from: that of `peer`, as [`arrived`](Self::arrived) gives it, or the one
    /// that it names in a header where it is a trusted proxy.
    pub fn address(&self, peer: SocketAddr, headers: &HeaderMap) -> IpAddr {
        let peer = peer.ip().to_canonical();
        if self.trusted.contains(peer) { self.header.client(headers, &self.trusted).unwrap_or(peer) } else { peer }
    }
}

/// Whether a request is from this machine itself and not passed on by a proxy on it.
pub fn is_local(peer: SocketAddr, headers: &HeaderMap) -> bool {
    peer.ip().to_canonical().is_loopback() && !forwarded::is_forwarded(headers)
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
