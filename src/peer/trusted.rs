//! Whose word about a client's address counts.

use ipnet::IpNet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The addresses of proxies that are believed; by default those of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TrustedProxies(Vec<IpNet>);

/// A part of the list that names no address.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0:?} is not an ip address such as 10.1.2.3, a network such as 10.0.0.0/8, or none")]
pub struct TrustedError(String);

impl TrustedProxies {
    /// Whether this address is one of them; IPv4 not written as IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A network of IPv4 addresses written as IPv6 ones (`::ffff:10.0.0.0/104`) as what it is.
fn canonical(network: IpNet) -> IpNet {
    match (network.addr().to_canonical(), network.prefix_len().checked_sub(96)) {
        (IpAddr::V4(address), Some(bits)) if matches!(network, IpNet::V6(_)) => {
            IpNet::new(address.into(), bits).unwrap_or(network)
        }
        _ => network,
    }
}

impl Default for TrustedProxies {
    fn default() -> Self {
        let loopback_v4 = IpNet::new_assert(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 0)), 8);
        Self(vec![loopback_v4, IpNet::from(IpAddr::V6(Ipv6Addr::LOCALHOST))])
    }
}

impl FromStr for TrustedProxies {
    type Err = TrustedError;

    /// Addresses and networks (CIDR) with commas between them, or `none`.
    fn from_str(text: &str) -> Result<Self, TrustedError> {
        if text.trim() == "none" {
            return Ok(Self(Vec::new()));
        }
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        let network = |part: &str| match part.parse::<IpAddr>() {
            Ok(address) => Some(IpNet::from(address.to_canonical())),
            Err(_) => part.parse::<IpNet>().ok().map(canonical),
        };
        parts.map(|part| network(part).ok_or_else(|| TrustedError(part.to_owned()))).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_names_addresses_and_networks() {
        let list = " 10.1.2.3,192.168.0.0/16 , 2001:db8::/32,::ffff:172.16.0.1,::ffff:172.17.0.0/112,";
        let trusted: TrustedProxies = list.parse().unwrap();
        for (address, wanted) in [
            ("10.1.2.3", true),
            ("10.1.2.4", false),
            ("192.168.255.255", true),
            ("192.169.0.0", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("172.16.0.1", true),
            ("172.17.255.1", true),
            ("172.18.0.1", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(trusted.contains(address.parse().unwrap()), wanted, "{address}");
        }
    }

    #[test]
    fn unless_told_otherwise_this_machine_is_trusted() {
        for (list, local) in [(TrustedProxies::default(), true), ("none".parse().unwrap(), false)] {
            for (address, wanted) in [("127.0.0.1", local), ("127.9.9.9", local), ("::1", local), ("10.0.0.1", false)] {
                assert_eq!(list.contains(address.parse().unwrap()), wanted, "{list:?} {address}");
            }
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        for (list, part) in [("10.0.0.1,proxy", "proxy"), ("10.0.0.0/33", "10.0.0.0/33"), ("none,::1", "none")] {
            assert_eq!(list.parse::<TrustedProxies>(), Err(TrustedError(part.to_owned())), "{list}");
        }
    }
}
