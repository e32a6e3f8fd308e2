//! A set of connections' counters that a listing has brought already.
//!
//! Counters of one node follow each other, so most of them share their upper half: for each upper half there is either a
//! short sorted list of lower halves or, from where that would be bigger, one bit for each. A million connections that
//! were opened in a row take 128 KB, and as many that lie scattered 2 bytes each and a little more.

use std::collections::HashMap;

/// From so many entries on, a bitmap of 8 KB is smaller than the list.
const LIST_LIMIT: usize = 4096;

/// Words of a bitmap over 65,536 values.
const WORDS: usize = 65_536 / 64;

enum Block {
    List(Vec<u16>),
    Bits(Box<[u64; WORDS]>),
}

/// The set.
#[derive(Default)]
pub(super) struct Counters(HashMap<u16, Block>);

impl Counters {
    /// Puts a counter in; false where it was there.
    pub(super) fn insert(&mut self, counter: u32) -> bool {
        let (upper, lower) = ((counter >> 16) as u16, counter as u16);
        let block = self.0.entry(upper).or_insert_with(|| Block::List(Vec::new()));
        if let Block::List(list) = block {
            let Err(position) = list.binary_search(&lower) else { return false };
            if list.len() < LIST_LIMIT {
                list.insert(position, lower);
                return true;
            }
            let mut bits = Box::new([0; WORDS]);
            list.iter().for_each(|value| bits[usize::from(value >> 6)] |= 1 << (value & 63));
            *block = Block::Bits(bits);
        }
        let Block::Bits(bits) = block else { return false };
        let (word, bit) = (&mut bits[usize::from(lower >> 6)], 1 << (lower & 63));
        let new = *word & bit == 0;
        *word |= bit;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn it_tells_new_ones_from_known_ones_as_any_set_does() {
        let (mut counters, mut plain) = (Counters::default(), HashSet::new());
        // Dense around a border between two blocks, then scattered over everything, each twice; a step without
        // common factors with 2^32 visits values in no order.
        let dense = (0..10_000_u32).map(|step| 0x0001_f000 + step * 7919 % 10_000);
        let scattered = (0..10_000_u32).map(|step| step.wrapping_mul(2_654_435_769));
        for counter in dense.clone().chain(scattered.clone()).chain(scattered).chain(dense).chain([0, u32::MAX]) {
            assert_eq!(counters.insert(counter), plain.insert(counter), "{counter}");
        }
    }
}
