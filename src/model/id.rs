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

    /// What the spellings of this life's connections carry of it: its first 64 bits.
    pub const fn tag(self) -> LifeTag {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        LifeTag(u64::from_be_bytes([a, b, c, d, e, f, g, h]))
    }
}

impl FromStr for NodeId {
    type Err = ();

    /// Exactly 32 lowercase hex digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        Ok(Self(hex(text)?.to_be_bytes()))
    }
}

/// 128 bits from exactly 32 lowercase hex digits.
fn hex(text: &str) -> Result<u128, ()> {
    let canonical = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if canonical { u128::from_str_radix(text, 16).map_err(drop) } else { Err(()) }
}

/// Tells a node's life from another: so that an id spelled in an earlier life of the cluster names nobody in this one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LifeTag(u64);

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

/// A connection's id as the events API spells it (`_id`): 32 lowercase hex digits, of which the first half is the tag of its
/// node's life and the second the [`ConnectionId`].
///
/// It leads to the owning node by itself; that the node there is (still) in the life of the tag, whoever reads one compares.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HexId(u128);

impl HexId {
    /// The spelling of a connection of the life with this tag.
    pub const fn new(life: LifeTag, connection: ConnectionId) -> Self {
        Self((life.0 as u128) << 64 | connection.0 as u128)
    }

    /// The life that it was spelled in.
    pub const fn life(self) -> LifeTag {
        LifeTag((self.0 >> 64) as u64)
    }

    /// The connection.
    pub const fn connection(self) -> ConnectionId {
        ConnectionId(self.0 as u64)
    }
}

impl fmt::Display for HexId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for HexId {
    type Err = ();

    /// Exactly 32 lowercase hex digits, as they were given out.
    fn from_str(text: &str) -> Result<Self, ()> {
        let bits = hex(text)?;
        ConnectionId::from_u64(bits as u64).map(|_| Self(bits)).ok_or(())
    }
}

/// A connection's id as the device socket spells it (`device_id`): 15 characters out of `A-Z a-z 0-9 - _`, six bits each as in
/// base64url (RFC 4648, section 5): a zero, 36 bits of the tag of its node's life, the 53 bits of the [`ConnectionId`].
///
/// For the zero it begins with `A` to `Z` or `a` to `f`, so that 15 digits, as a device's serial number has them (IMEI), spell
/// no connection. It leads to the owning node by itself; that the node there is (still) in the life of the tag, whoever reads
/// one compares with [`is_of`](Self::is_of).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct DeviceId(u128);

impl DeviceId {
    /// Characters of a spelling.
    const LENGTH: u32 = 15;

    /// Bits of a [`ConnectionId`].
    const CONNECTION_BITS: u32 = 32 + SEQ_BITS;

    /// Bits of a life's tag that there is room for.
    const TAG_BITS: u32 = 6 * Self::LENGTH - Self::CONNECTION_BITS - 1;

    /// The spelling of a connection of the life with this tag.
    pub const fn new(life: LifeTag, connection: ConnectionId) -> Self {
        let tag = life.0 >> (u64::BITS - Self::TAG_BITS);
        Self((tag as u128) << Self::CONNECTION_BITS | connection.0 as u128)
    }

    /// Whether it was spelled in the life with this tag.
    pub fn is_of(self, life: LifeTag) -> bool {
        self == Self::new(life, self.connection())
    }

    /// The connection.
    pub const fn connection(self) -> ConnectionId {
        ConnectionId(self.0 as u64 & ((1 << Self::CONNECTION_BITS) - 1))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        (0..Self::LENGTH).rev().try_for_each(|place| {
            let digit = (self.0 >> (6 * place)) as u8 & 0x3f;
            f.write_char(char::from(match digit {
                0..=25 => b'A' + digit,
                26..=51 => b'a' + (digit - 26),
                52..=61 => b'0' + (digit - 52),
                62 => b'-',
                _ => b'_',
            }))
        })
    }
}

impl FromStr for DeviceId {
    type Err = ();

    /// Exactly 15 characters of the alphabet, the first of them `A` to `Z` or `a` to `f`.
    fn from_str(text: &str) -> Result<Self, ()> {
        if text.len() != Self::LENGTH as usize {
            return Err(());
        }
        let bits = text.bytes().try_fold(0_u128, |bits, character| {
            let digit = match character {
                b'A'..=b'Z' => character - b'A',
                b'a'..=b'z' => character - b'a' + 26,
                b'0'..=b'9' => character - b'0' + 52,
                b'-' => 62,
                b'_' => 63,
                _ => return Err(()),
            };
            Ok(bits << 6 | u128::from(digit))
        })?;
        if bits >> (6 * Self::LENGTH - 1) == 0 { Ok(Self(bits)) } else { Err(()) }
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
        assert_eq!(id.parse::<NodeId>().unwrap().to_string(), id);
        for text in ["", &id[1..], &format!("{id}0"), &"F".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert_eq!(text.parse::<NodeId>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn a_hex_spelling_gives_back_its_connection_and_its_life() {
        let life: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let connection = ConnectionId::new(Seq::new(5).unwrap(), 7);
        let spelled = HexId::new(life.tag(), connection);
        assert_eq!(spelled.to_string(), "98b95842c9e26e8f0000000500000007");
        assert_eq!(spelled.to_string().parse(), Ok(spelled));
        assert_eq!((spelled.life(), spelled.connection()), (life.tag(), connection));
        let beyond = "98b95842c9e26e8f0020000000000000";
        for text in ["", "7", beyond, &spelled.to_string().to_uppercase(), &spelled.to_string()[1..]] {
            assert_eq!(text.parse::<HexId>(), Err(()), "{text:?}");
        }
    }

    #[test]
    fn a_device_spelling_gives_back_its_connection_and_fits_its_life_alone() {
        let life: NodeId = "98b95842c9e26e8fb113cf8342526f5d".parse().unwrap();
        let other: NodeId = "98b95842d9e26e8fb113cf8342526f5d".parse().unwrap();
        let largest = ConnectionId::new(Seq::new((1 << SEQ_BITS) - 1).unwrap(), u32::MAX);
        for connection in [ConnectionId(1), ConnectionId::new(Seq::new(5).unwrap(), 7), largest] {
            let spelled = DeviceId::new(life.tag(), connection);
            assert_eq!(spelled.to_string().len(), 15);
            assert_eq!(spelled.to_string().parse(), Ok(spelled));
            assert_eq!((spelled.connection(), spelled.is_of(life.tag())), (connection, true));
            assert!(!spelled.is_of(other.tag()));
        }
        let all_ones: NodeId = "f".repeat(32).parse().unwrap();
        assert_eq!(DeviceId::new(all_ones.tag(), largest).to_string(), format!("f{}", "_".repeat(14)));
        let zeros: NodeId = "0".repeat(32).parse().unwrap();
        assert_eq!(DeviceId::new(zeros.tag(), ConnectionId(7)).to_string(), "AAAAAAAAAAAAAAH");
    }

    #[test]
    fn what_spells_no_connection_may_be_a_device_of_its_own() {
        assert!("kitchenDisplay1".parse::<DeviceId>().is_err() && "aBcDeFgHiJkLm-_".parse::<DeviceId>().is_ok());
        for text in ["", "1234567", "359881030314356", "gAAAAAAAAAAAAAA", "AAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAA"] {
            assert_eq!(text.parse::<DeviceId>(), Err(()), "{text:?}");
        }
        for text in ["AAAAAAA AAAAAAA", "AAAAAAAAAAAAAA+", "AAAAAAAAAAAAAA/", "AAAAAAAAAAAAAA=", "AAAAAAAAAAAAAé"] {
            assert_eq!(text.parse::<DeviceId>(), Err(()), "{text:?}");
        }
    }
}
