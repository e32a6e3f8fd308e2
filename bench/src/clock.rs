//! The one clock of pushers and subscribers, and the stamps that travel in messages.

use std::sync::LazyLock;
use std::time::Instant;

/// Bytes of a stamp: a `u64` in lowercase hex, which needs no escaping in a URL.
pub const STAMP_LEN: usize = 16;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds of the monotonic clock since this process first asked for them.
pub fn now() -> u64 {
    u64::try_from(START.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

/// Writes a time as a stamp.
pub fn write_stamp(nanos: u64, to: &mut [u8; STAMP_LEN]) {
    for (place, byte) in to.iter_mut().enumerate() {
        let digit = (nanos >> (4 * (STAMP_LEN - 1 - place))) & 0xf;
        *byte = b"0123456789abcdef"[digit as usize];
    }
}

/// Reads the stamp that a message begins with; `None` where it begins with anything else.
pub fn read_stamp(message: &[u8]) -> Option<u64> {
    message.get(..STAMP_LEN)?.iter().try_fold(0_u64, |nanos, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            _ => return None,
        };
        Some(nanos << 4 | u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_as_it_was_written() {
        for nanos in [0, 1, 0xdead_beef, u64::MAX] {
            let mut stamp = [0; STAMP_LEN];
            write_stamp(nanos, &mut stamp);
            assert_eq!(read_stamp(&stamp), Some(nanos));
        }
        assert_eq!(read_stamp(b"0123"), None);
        assert_eq!(read_stamp(b"0123456789ABCDEF"), None);
    }
}
