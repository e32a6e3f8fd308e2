//! How many connections each address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bits of an IPv6 address that say whose it is; the rest a host chooses itself (RFC 4291, section 2.5.1).
const IPV6_NETWORK_BITS: u32 = 64;

/// The connections of each address, an IPv6 network of 64 bits counting as one. Holds an entry for each address that has a
/// connection, so no more than the node has connections.
#[derive(Debug)]
pub struct Places {
    /// Connections that one address may have; 0 is no limit.
    limit: usize,
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// An address has as many connections as it may have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Crowded;

/// One connection of an address; dropping it gives the place back.
#[derive(Debug)]
pub struct Place {
    places: Arc<Places>,
    network: IpAddr,
}

impl Places {
    /// So many places for each address; 0 is no limit, and nothing is counted then.
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// Takes a place; `Ok(None)` where there is no limit.
    pub fn take(self: &Arc<Self>, address: IpAddr) -> Result<Option<Box<Place>>, Crowded> {
        if self.limit == 0 {
            return Ok(None);
        }
        let network = network(address);
        let mut taken = self.taken();
        let count = taken.entry(network).or_default();
        // With a limit of at least 1 an entry that was made just now is not over it, so none of 0 is left behind.
        if *count >= self.limit {
            return Err(Crowded);
        }
        *count += 1;
        Ok(Some(Box::new(Place { places: self.clone(), network })))
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.network);
            }
        }
    }
}

/// What stands for all addresses of one client.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - IPV6_NETWORK_BITS))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_as_many_places_as_it_may_and_gets_them_back() {
        let places = Places::new(2);
        let take = |address: &str| places.take(address.parse().unwrap());
        let held = [take("192.0.2.1"), take("::ffff:192.0.2.1")];
        assert!(held.iter().all(|place| matches!(place, Ok(Some(_)))));
        assert_eq!(take("192.0.2.1").unwrap_err(), Crowded);
        assert!(take("192.0.2.2").is_ok());
        drop(held);
        assert!(take("192.0.2.1").is_ok());
        assert!(places.taken().is_empty(), "{places:?}");
    }

    #[test]
    fn an_ipv6_network_is_one_address() {
        let places = Places::new(1);
        let take = |address: &str| places.take(address.parse().unwrap());
        let _held = take("2001:db8:0:1::1").unwrap();
        assert!(take("2001:db8:0:1:ffff:ffff:ffff:ffff").is_err());
        assert!(take("2001:db8:0:2::1").is_ok());
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let places = Places::new(0);
        for _ in 0..3 {
            assert!(matches!(places.take(IpAddr::from([192, 0, 2, 1])), Ok(None)));
        }
    }
}
