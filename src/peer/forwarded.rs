//! What a proxy's headers say of its client.

use super::TrustedProxies;
use hyper::HeaderMap;
use std::net::{IpAddr, SocketAddr};

const X_REAL_IP: &str = "x-real-ip";
const X_FORWARDED_FOR: &str = "x-forwarded-for";
/// Headers by which a request shows that a proxy has passed it on, beside those that begin like [`FORWARDED`].
const MARKS: [&str; 3] = [X_REAL_IP, "forwarded", "via"];
/// The beginning of `X-Forwarded-For`, `-Host`, `-Proto` and others.
const FORWARDED: &str = "x-forwarded-";

/// The header in which trusted proxies name their client. It has to be one that they set themselves: what a proxy passes on
/// of a header that it doesn't know is its client's own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AddressHeader {
    /// `X-Real-IP`, and `X-Forwarded-For` where that is missing.
    #[default]
    Auto,
    /// `X-Real-IP` alone: one address.
    RealIp,
    /// `X-Forwarded-For` alone: each proxy adds the address that it was reached from at the right.
    ForwardedFor,
    /// None of them.
    Ignored,
}

impl AddressHeader {
    /// The client's address by the headers of a trusted proxy's request; `None` where they don't name one.
    pub(super) fn client(self, headers: &HeaderMap, trusted: &TrustedProxies) -> Option<IpAddr> {
        match self {
            Self::Auto if headers.contains_key(X_REAL_IP) => real_ip(headers),
            Self::Auto | Self::ForwardedFor => forwarded_for(headers, trusted),
            Self::RealIp => real_ip(headers),
            Self::Ignored => None,
        }
    }
}

/// Whether a proxy has passed this request on, or its client says so.
pub(super) fn is_forwarded(headers: &HeaderMap) -> bool {
    headers.keys().any(|name| name.as_str().starts_with(FORWARDED))
        || MARKS.iter().any(|name| headers.contains_key(*name))
}

/// Of several the last, which is the nearest proxy's.
fn real_ip(headers: &HeaderMap) -> Option<IpAddr> {
    address(headers.get_all(X_REAL_IP).iter().next_back()?.to_str().ok()?)
}

/// From the right, as what stands further left was written by whoever is further away: the first address that is no trusted
/// proxy, else the leftmost. What is no address ends the search, since nothing behind it can be believed.
fn forwarded_for(headers: &HeaderMap, trusted: &TrustedProxies) -> Option<IpAddr> {
    let mut nearest = None;
    for line in headers.get_all(X_FORWARDED_FOR).iter().rev() {
        let Ok(line) = line.to_str() else { return nearest };
        for hop in line.rsplit(',').map(str::trim).filter(|hop| !hop.is_empty()) {
            let Some(address) = address(hop) else { return nearest };
            nearest = Some(address);
            if !trusted.contains(address) {
                return nearest;
            }
        }
    }
    nearest
}

/// An address, which some proxies write with a port and IPv6 ones in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse().ok().or_else(|| text.parse().ok().map(|address: SocketAddr| address.ip()));
    found.map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Peer, Peers};
    use hyper::header::{HeaderName, HeaderValue};

    type Headers<'a> = &'a [(&'a str, &'a str)];

    /// A proxy at 10.0.0.1 is asked by `peer`, which sends these headers.
    fn address(header: AddressHeader, peer: &str, headers: &[(&str, &str)]) -> String {
        let peers = Peers { trusted: "10.0.0.0/8".parse().unwrap(), header, proxy_protocol: false };
        peers.address(Peer::direct(SocketAddr::new(peer.parse().unwrap(), 1)), &map(headers)).to_string()
    }

    fn map(headers: &[(&str, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
        headers.iter().map(pair).collect()
    }

    #[test]
    fn the_address_is_what_the_nearest_trusted_proxy_says() {
        use AddressHeader::{Auto, ForwardedFor, Ignored, RealIp};
        let (real, forwarded) = ("x-real-ip", "x-forwarded-for");
        let cases: [(AddressHeader, &str, Headers<'_>, &str); 27] = [
            (Auto, "192.0.2.1", &[], "192.0.2.1"),
            // Not a proxy: whatever it says is ignored.
            (Auto, "192.0.2.1", &[(real, "198.51.100.1"), (forwarded, "198.51.100.2")], "192.0.2.1"),
            (Auto, "::ffff:192.0.2.1", &[], "192.0.2.1"),
            (Auto, "10.0.0.1", &[], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(real, "198.51.100.1")], "198.51.100.1"),
            (Auto, "::ffff:10.0.0.1", &[(real, "::ffff:198.51.100.1")], "198.51.100.1"),
            (Auto, "10.0.0.1", &[(real, "198.51.100.1"), (forwarded, "198.51.100.2")], "198.51.100.1"),
            (Auto, "10.0.0.1", &[(real, "6.6.6.6"), (real, "198.51.100.1")], "198.51.100.1"),
            // A proxy that can't say it is the nearest that is known.
            (Auto, "10.0.0.1", &[(real, "unknown"), (forwarded, "198.51.100.2")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(forwarded, "198.51.100.2")], "198.51.100.2"),
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6, 198.51.100.2")], "198.51.100.2"),
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6, 198.51.100.2,10.9.9.9 , 10.8.8.8")], "198.51.100.2"),
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6"), (forwarded, "198.51.100.2"), (forwarded, "10.9.9.9")], {
                "198.51.100.2"
            }),
            (Auto, "10.0.0.1", &[(forwarded, "10.7.7.7, 10.8.8.8")], "10.7.7.7"),
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6, unknown, 10.8.8.8")], "10.8.8.8"),
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6, _hidden")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(forwarded, "198.51.100.2:4711")], "198.51.100.2"),
            (Auto, "10.0.0.1", &[(forwarded, "[2001:db8::1]:4711,")], "2001:db8::1"),
            (Auto, "10.0.0.1", &[(forwarded, "\"[2001:db8::1]\"")], "2001:db8::1"),
            // A zone means something on the proxy's machine alone.
            (Auto, "10.0.0.1", &[(forwarded, "6.6.6.6, fe80::1%eth0")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(forwarded, "198.51.100.2:99999")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(forwarded, "[198.51.100.2")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(forwarded, ""), (forwarded, " , ,")], "10.0.0.1"),
            (Auto, "10.0.0.1", &[(real, "198.51.100.1, 198.51.100.2")], "10.0.0.1"),
            (ForwardedFor, "10.0.0.1", &[(real, "6.6.6.6"), (forwarded, "198.51.100.2")], "198.51.100.2"),
            (RealIp, "10.0.0.1", &[(forwarded, "6.6.6.6")], "10.0.0.1"),
            (Ignored, "10.0.0.1", &[(real, "6.6.6.6"), (forwarded, "6.6.6.6")], "10.0.0.1"),
        ];
        for (header, peer, headers, wanted) in cases {
            assert_eq!(address(header, peer, headers), wanted, "{header:?} {peer} {headers:?}");
        }
    }

    #[test]
    fn only_what_no_proxy_passed_on_is_local() {
        for (peer, headers, wanted) in [
            ("127.0.0.1:1", &[][..], true),
            ("[::1]:1", &[], true),
            ("[::ffff:127.0.0.1]:1", &[], true),
            ("192.0.2.1:1", &[], false),
            ("127.0.0.1:1", &[("X-Forwarded-For", "127.0.0.1")], false),
            ("127.0.0.1:1", &[("x-real-ip", "")], false),
            ("127.0.0.1:1", &[("via", "1.1 proxy")], false),
            ("127.0.0.1:1", &[("X-Forwarded-Proto", "https")], false),
            ("127.0.0.1:1", &[("X-Forwarded-Host", "example.org")], false),
        ] {
            assert_eq!(Peer::direct(peer.parse().unwrap()).is_local(&map(headers)), wanted, "{peer} {headers:?}");
        }
    }
}
