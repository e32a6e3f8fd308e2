//! The PROXY protocol, versions 1 and 2: what a proxy says of its client before the client's first byte.
//!
//! Read off the stream to its last byte and no further, before anything else looks at it, TLS included.

use ppp::{v1, v2};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes that both versions have at least: the signature of version 2, or of version 1 the beginning of a line.
const FIRST: usize = 12;

/// Bytes of version 2 before its addresses: signature, version and command, family, length.
const V2_HEAD: usize = 16;

/// Where version and command of version 2 are, and both where the proxy speaks for itself.
const V2_COMMAND: usize = 12;
const V2_LOCAL: u8 = 0x20;

/// What the addresses and further fields of version 2 may take. Proxies send some ten to some hundred bytes; the field could
/// announce 64 KiB.
const V2_REST: usize = 2 << 10;

/// The beginning of a line of version 1 that names nobody.
const V1_UNKNOWN: &[u8] = b"PROXY UNKNOWN";

/// The longest line of version 1, with its end.
const V1_LINE: usize = 107;

/// Why a trusted proxy's connection is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ProxyProtocolError {
    /// The stream ended or broke before the header did.
    #[error("proxy protocol header could not be read: {0}")]
    Broken(#[from] io::Error),
    /// It did not come in time.
    #[error("proxy protocol header did not come within {} ms", .0.as_millis())]
    TooSlow(Duration),
    /// It is none, or not a well-formed one.
    #[error("not a proxy protocol header: {0}")]
    Malformed(String),
}

/// Whom a header says that what follows is from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said {
    /// A client with this address.
    Client(SocketAddr),
    /// A client whose address the proxy doesn't know as one of TCP.
    Somebody,
    /// The proxy itself: its own health check.
    Itself,
}

/// Takes the header off the stream.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Said, ProxyProtocolError> {
    let mut header = vec![0; FIRST];
    stream.read_exact(&mut header).await?;
    if header == v2::PROTOCOL_PREFIX {
        header.resize(V2_HEAD, 0);
        stream.read_exact(&mut header[FIRST..]).await?;
        let rest = usize::from(u16::from_be_bytes([header[V2_HEAD - 2], header[V2_HEAD - 1]]));
        if rest > V2_REST {
            return Err(ProxyProtocolError::Malformed(format!("{rest} bytes are more than {V2_REST}")));
        }
        header.resize(V2_HEAD + rest, 0);
        stream.read_exact(&mut header[V2_HEAD..]).await?;
        return version_2(&header);
    }
    if !header.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(ProxyProtocolError::Malformed("it begins with other bytes".to_owned()));
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == V1_LINE {
            return Err(ProxyProtocolError::Malformed(format!("no end of line within {V1_LINE} bytes")));
        }
        // One by one, as what follows the line is the client's; it is a system call for each, for a connection that is new.
        header.push(stream.read_u8().await?);
    }
    version_1(&header)
}

fn version_1(line: &[u8]) -> Result<Said, ProxyProtocolError> {
    // Whatever else is in the line is to be ignored.
    if line.starts_with(V1_UNKNOWN) && matches!(line.get(V1_UNKNOWN.len()), Some(b' ' | b'\r')) {
        return Ok(Said::Somebody);
    }
    let header = v1::Header::try_from(line).map_err(|error| ProxyProtocolError::Malformed(error.to_string()))?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(tcp) => Said::Client((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Tcp6(tcp) => Said::Client((tcp.source_address, tcp.source_port).into()),
        v1::Addresses::Unknown => Said::Somebody,
    })
}

fn version_2(header: &[u8]) -> Result<Said, ProxyProtocolError> {
    // Whatever else is in it is to be ignored, addresses that are cut short included.
    if header[V2_COMMAND] == V2_LOCAL {
        return Ok(Said::Itself);
    }
    let header = v2::Header::try_from(header).map_err(|error| ProxyProtocolError::Malformed(error.to_string()))?;
    Ok(match (header.command, header.addresses) {
        (v2::Command::Local, _) => Said::Itself,
        (v2::Command::Proxy, v2::Addresses::IPv4(tcp)) => Said::Client((tcp.source_address, tcp.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::IPv6(tcp)) => Said::Client((tcp.source_address, tcp.source_port).into()),
        (v2::Command::Proxy, v2::Addresses::Unspecified | v2::Addresses::Unix(_)) => Said::Somebody,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    /// What is read, and what is left of `bytes` after it.
    async fn read_of(bytes: &[u8]) -> (Result<Said, String>, Vec<u8>) {
        let mut stream = bytes;
        (read(&mut stream).await.map_err(|error| error.to_string()), stream.to_vec())
    }

    #[tokio::test]
    async fn the_clients_address_is_taken_and_nothing_behind_the_header() {
        let v4 = [192, 0, 2, 1, 10, 0, 0, 1, 0x12, 0x34, 0, 80];
        let mut v6 = [0; 36];
        (v6[0], v6[1], v6[15], v6[33]) = (0x20, 0x01, 1, 9);
        let client = |address: &str| Said::Client(address.parse().unwrap());
        let unix = [&b"/run/proxy.sock"[..], &[0; 201]].concat();
        let unknown = format!("PROXY UNKNOWN {}\r\n", "a ".repeat(45));
        for (header, wanted) in [
            (b"PROXY TCP4 192.0.2.1 10.0.0.1 4660 80\r\n".to_vec(), client("192.0.2.1:4660")),
            (b"PROXY TCP6 2001::1 2001::2 9 80\r\n".to_vec(), client("[2001::1]:9")),
            (b"PROXY UNKNOWN\r\n".to_vec(), Said::Somebody),
            (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n".to_vec(), Said::Somebody),
            (unknown.into_bytes(), Said::Somebody),
            (version_2(0x21, 0x11, &v4), client("192.0.2.1:4660")),
            // Further fields follow the addresses.
            (version_2(0x21, 0x11, &[&v4[..], &[4, 0, 3, 1, 2, 3]].concat()), client("192.0.2.1:4660")),
            (version_2(0x21, 0x11, &[&v4[..], &[0xea; 2000]].concat()), client("192.0.2.1:4660")),
            (version_2(0x21, 0x21, &v6), client("[2001::1]:9")),
            (version_2(0x21, 0x31, &unix), Said::Somebody),
            (version_2(0x21, 0x31, &[&unix[..], &[4, 0, 1, 9]].concat()), Said::Somebody),
            (version_2(0x21, 0x00, &[]), Said::Somebody),
            (version_2(0x21, 0x00, &[1; 40]), Said::Somebody),
            // A health check of the proxy's own, whose addresses mean nothing.
            (version_2(0x20, 0x11, &v4), Said::Itself),
            (version_2(0x20, 0x11, &[]), Said::Itself),
            (version_2(0x20, 0xff, &[1; 3]), Said::Itself),
        ] {
            let (found, left) = read_of(&[&header[..], b"GET / HTTP/1.1\r\n"].concat()).await;
            assert_eq!(found, Ok(wanted), "{header:?}");
            assert_eq!(left, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused_before_much_of_it_is_read() {
        let endless = [b"PROXY TCP4 ", &[b'1'; 500][..]].concat();
        let announced = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        for bytes in [
            b"GET / HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.1\r\n".to_vec(),
            b"PROXY TCP4 here there 1 2\r\n".to_vec(),
            endless,
            announced,
            version_2(0x31, 0x11, &[0; 12]),
            version_2(0x21, 0x11, &[0; 3]),
            version_2(0x21, 0x11, &[0; 12])[..20].to_vec(),
            b"PROXY".to_vec(),
        ] {
            let (found, _) = read_of(&bytes).await;
            assert!(found.is_err(), "{bytes:?} {found:?}");
        }
    }
}
