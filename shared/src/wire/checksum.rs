//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use core::net::Ipv4Addr;
use std::sync::LazyLock;

use fearless_simd::{Level, Simd, dispatch};

/// A sum in progress. Its 16-bit one's complement is what goes into a header.
///
/// A one's complement sum is the same in either byte order but for its bytes' places (RFC 1071 section 2 B), so words are
/// added as they lie in memory, and only the result is turned; and it is the same for longer words (section 2 C), so there
/// is no carry to be looked after before the end.
#[derive(Copy, Clone, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    pub const ZERO: Self = Self(0);

    /// The pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 768): `len` counts header and payload.
    #[inline]
    pub fn pseudo(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Self {
        Self::ZERO.words(src.to_bits()).words(dst.to_bits()).words(u32::from(protocol)).words(len as u32)
    }

    /// Adds bytes, less than 16 GB of them. Every piece but the last must have an even length.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let long = if blocks.is_empty() { 0 } else { sum_of_blocks(blocks) };
        Self(self.0 + long + sum_of_rest(rest))
    }

    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word.to_be()))
    }

    /// Adds a header: some words, an even number of them.
    #[inline]
    #[must_use]
    pub fn header(self, bytes: &[u8]) -> Self {
        let words =
            |words: &[[u8; 4]]| words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum::<u64>();
        let sum = match bytes.first_chunk::<32>() {
            // TCP with timestamps and nothing else: a length that the compiler knows.
            Some(usual) if bytes.len() == usual.len() => words(usual.as_chunks().0),
            _ => words(bytes.as_chunks().0),
        };
        Self(self.0 + sum)
    }

    /// Adds two words at once, the first one in the upper half.
    #[inline]
    #[must_use]
    pub fn words(self, words: u32) -> Self {
        Self(self.0 + u64::from(words.to_be()))
    }

    /// Both sums together; the other's bytes must have begun at an even place.
    #[inline]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The sum folded to 16 bits.
    #[inline]
    pub const fn folded(self) -> u16 {
        u16::from_be(fold(self.0))
    }

    /// The same of bytes that begin at an odd place: all trade places with their neighbors (RFC 1071 section 2 B).
    #[inline]
    #[must_use]
    pub const fn odd(self) -> Self {
        Self(fold(self.0).swap_bytes() as u64)
    }

    /// The checksum: the one's complement of the sum folded to 16 bits.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.folded()
    }

    /// Whether data that includes its checksum sums up right.
    #[inline]
    pub const fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// Bytes that are summed at once where there are so many: what one turn of the loop takes in.
const BLOCK: usize = 128;
/// Sums of words of 32 bits that a block is spread over: four registers of 256 bits.
const LANES: usize = 16;

/// Sums as many words at once as this CPU can.
fn sum_of_blocks(blocks: &[[u8; BLOCK]]) -> u64 {
    static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
    sum_by(*LEVEL, blocks)
}

#[inline]
fn sum_by(level: Level, blocks: &[[u8; BLOCK]]) -> u64 {
    dispatch!(level, simd => sum_in_lanes(simd, blocks))
}

/// Compiled for each kind of CPU: the compiler finds the vectors itself.
#[inline(always)]
fn sum_in_lanes<S: Simd>(_: S, blocks: &[[u8; BLOCK]]) -> u64 {
    let mut lanes = [0u64; LANES];
    for block in blocks {
        for words in block.as_chunks::<{ 4 * LANES }>().0 {
            for (lane, word) in lanes.iter_mut().zip(words.as_chunks::<4>().0) {
                *lane += u64::from(u32::from_ne_bytes(*word));
            }
        }
    }
    lanes.into_iter().sum()
}

/// Sums less than a block.
#[inline]
fn sum_of_rest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    // The carries of longer words are caught by a sum of twice their length.
    let sum = words.iter().map(|word| u128::from(u64::from_ne_bytes(*word))).sum::<u128>();
    let (words, rest) = rest.as_chunks::<2>();
    let mut last = words.iter().map(|word| u64::from(u16::from_ne_bytes(*word))).sum::<u64>();
    if let [byte] = *rest {
        last += u64::from(u16::from_ne_bytes([byte, 0]));
    }
    (sum as u64 >> 32) + u64::from(sum as u32) + (sum >> 64) as u64 + last
}

/// A sum's 16 bits: carries are added at the other end. Each half of the sum is added to the other one, so that what one
/// addition carries goes into the other.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum.wrapping_add(sum.rotate_left(32)) >> 32) as u32;
    (sum.wrapping_add(sum.rotate_left(16)) >> 16) as u16
}

/// A change of header fields, to be applied to each checksum that covers them (RFC 1624 equation 3).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Delta(u32);

impl Delta {
    pub const NONE: Self = Self(0);

    #[inline]
    #[must_use]
    pub fn word(self, old: u16, new: u16) -> Self {
        Self(self.0 + u32::from(!old) + u32::from(new)).folded()
    }

    #[inline]
    #[must_use]
    pub fn addr(self, old: Ipv4Addr, new: Ipv4Addr) -> Self {
        let (old, new) = (old.to_bits(), new.to_bits());
        self.word((old >> 16) as u16, (new >> 16) as u16).word(old as u16, new as u16)
    }

    /// Both changes together.
    #[inline]
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 + other.0).folded()
    }

    /// The change that undoes this one.
    #[inline]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self(u32::from(!(self.folded().folded().0 as u16)))
    }

    /// The checksum after the change.
    #[inline]
    pub fn apply(self, checksum: u16) -> u16 {
        let mut sum = u32::from(!checksum) + self.0;
        sum = (sum & 0xffff) + (sum >> 16);
        sum = (sum & 0xffff) + (sum >> 16);
        !(sum as u16)
    }

    /// A sum after the change: what stands in place of a checksum that a device is to complete.
    #[inline]
    pub fn apply_to_sum(self, sum: u16) -> u16 {
        !self.apply(!sum)
    }

    #[inline]
    fn folded(self) -> Self {
        Self((self.0 & 0xffff) + (self.0 >> 16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 1071 section 4.1, word by word.
    fn oracle(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn no_carry_is_lost_however_long_the_data() {
        let bytes = vec![0xff; 3 << 20];
        assert_eq!(Sum::ZERO.bytes(&bytes).finish(), 0);
    }

    proptest! {
        #[test]
        fn any_length_at_any_place_sums_up_as_the_rfc_says(
            bytes in prop::collection::vec(any::<u8>(), 33 * BLOCK), place in 0usize..64, blocks in 0usize..32, more in 0..=BLOCK,
        ) {
            let bytes = &bytes[place..][..blocks * BLOCK + more];
            prop_assert_eq!(Sum::ZERO.bytes(bytes).finish(), oracle(bytes));
            prop_assert_eq!(sum_by(Level::baseline(), bytes.as_chunks().0), sum_of_blocks(bytes.as_chunks().0));
        }

        #[test]
        fn sum_agrees_with_the_rfc(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
            prop_assert_eq!(Sum::ZERO.bytes(&bytes).finish(), oracle(&bytes));
            let header = &bytes[..bytes.len() / 4 * 4];
            prop_assert_eq!(Sum::ZERO.header(header).finish(), oracle(header));
        }

        #[test]
        fn pieces_of_even_length_add_up(a in prop::collection::vec(any::<u16>(), 0..40), b in prop::collection::vec(any::<u8>(), 0..40)) {
            let a: Vec<u8> = a.iter().flat_map(|w| w.to_be_bytes()).collect();
            let whole = [a.as_slice(), &b].concat();
            prop_assert_eq!(Sum::ZERO.bytes(&a).bytes(&b).finish(), oracle(&whole));
        }

        #[test]
        fn pieces_of_odd_length_add_up_where_the_next_is_turned(
            a in prop::collection::vec(any::<u8>(), 0..80), b in prop::collection::vec(any::<u8>(), 0..80)
        ) {
            let (first, second) = (Sum::ZERO.bytes(&a), Sum::ZERO.bytes(&b));
            let second = if a.len() % 2 == 1 { second.odd() } else { second };
            prop_assert_eq!(first.and(second).finish(), oracle(&[a, b].concat()));
        }

        #[test]
        fn incremental_update_agrees_with_recomputing(
            mut bytes in prop::collection::vec(any::<u8>(), 20..60), new: u32, at in 0usize..4
        ) {
            // All-zero data has two representations of its sum; real headers are never all zero.
            bytes[18] = 1;
            let before = Sum::ZERO.bytes(&bytes).finish();
            let at = at * 4;
            let old = Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
            bytes[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let after = Delta::NONE.addr(old, Ipv4Addr::from_bits(new)).apply(before);
            prop_assert_eq!(after, Sum::ZERO.bytes(&bytes).finish());
        }

        #[test]
        fn a_change_reversed_gives_the_checksum_back(old: u32, new: u32, port: u16, checksum in 0u16..0xffff) {
            let delta = Delta::NONE.addr(Ipv4Addr::from_bits(old), Ipv4Addr::from_bits(new)).word(port, !port);
            let back = delta.reversed().apply(delta.apply(checksum));
            // Zero and all ones are the same number in one's complement.
            prop_assert!(back == checksum || (checksum == 0 && back == 0xffff));
        }
    }
}
