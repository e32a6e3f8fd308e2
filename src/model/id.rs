//! Who is who: the node's life, its place in the cluster, and its connections.

use std::fmt;
use std::str::FromStr;

/// Bits of a node's [`Seq`]: with 32 bits of counter an id stays below 2^53, which JavaScript and PHP read exactly.
pub const SEQ_BITS: u32 = 21;

/// One life of one process: 128 random bits, written as 32 lowercase hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// A new random id, from the operating system's generator.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes)?;
        Ok(Self(bytes))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A node's number in the cluster: 21 random bits claimed in Redis, 0 where the state is embedded.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug, Default)]
pub struct Seq(u32);

impl Seq {
    /// The number of a node that runs alone, with its state embedded.
    pub const EMBEDDED: Seq = Seq(0);

    /// `None` where `value` has more than [`SEQ_BITS`] bits.
    pub const fn new(value: u32) -> Option<Self> {
        if value < 1 << SEQ_BITS { Some(Self(value)) } else { None }
    }

    /// The number itself.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One WebSocket's identity in the cluster: `seq << 32 | counter`, below 2^53.
///
/// It names its owning node by itself: no look-up is needed to know whom to ask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConnectionId(u64);

impl ConnectionId {
    /// The connection that `seq` counted as `counter`.
    pub const fn new(seq: Seq, counter: u32) -> Self {
        Self((seq.0 as u64) << 32 | counter as u64)
    }

    /// `None` where `value` has more than 53 bits and so can't be an id.
    pub const fn from_u64(value: u64) -> Option<Self> {
        if value < 1 << (32 + SEQ_BITS) { Some(Self(value)) } else { None }
    }

    /// The integer that the actions API writes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The node that owns the connection.
    pub const fn seq(self) -> Seq {
        Seq((self.0 >> 32) as u32)
    }

    /// The connection's number on its node.
    pub const fn counter(self) -> u32 {
        self.0 as u32
    }
}

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for ConnectionId {
    type Err = ();

    /// Decimal digits only, as PHP clients send them: no sign, no blanks, no leading zeros.
    fn from_str(text: &str) -> Result<Self, ()> {
        let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
        if !canonical {
            return Err(());
        }
        text.parse().ok().and_then(Self::from_u64).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_id_gives_back_its_parts() {
        let seq = Seq::new((1 << SEQ_BITS) - 1).unwrap();
        let id = ConnectionId::new(seq, u32::MAX);
        assert_eq!((id.seq(), id.counter()), (seq, u32::MAX));
        assert_eq!(id.get(), (1 << 53) - 1);
        assert_eq!(ConnectionId::from_u64(1 << 53), None);
        assert_eq!(Seq::new(1 << SEQ_BITS), None);
    }

    #[test]
    fn only_plain_decimal_digits_are_an_id() {
        assert_eq!("9".parse(), Ok(ConnectionId(9)));
        for text in ["", "09", "+9", "-9", " 9", "9 ", "9.0", "0x9", "٩", "9007199254740992", "99999999999999999999"] {
            assert_eq!(text.parse::<ConnectionId>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn a_node_id_is_32_hex_digits() {
        let id = NodeId::random().unwrap().to_string();
        assert!(id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')), "{id}");
    }
}
