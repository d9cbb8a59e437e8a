//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use core::net::Ipv4Addr;
use std::sync::LazyLock;

use fearless_simd::{Bytes, Level, Simd, SimdBase, SimdIntWiden, dispatch, i16x8, i32x4, u8x16};

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
        if bytes.is_empty() { self } else { Self(self.0 + sum_of(bytes)) }
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

/// Bytes that one turn of the loop sums where there are so many. Each half has a sum of its own: no addition waits for the one
/// before it. It is one vector up to four, by the CPU.
const BLOCK: usize = 128;
const HALF: usize = BLOCK / 2;
/// Bytes of the vectors that all CPUs have, for what is left of a block.
const PIECE: usize = 16;
/// Bytes whose words, taken as signed ones, surely have a sum that 32 bits hold.
const MOST: usize = 1 << 16;
/// How much less a word counts with its highest bit turned and taken as a sign.
const TURNED: i64 = 1 << 15;

fn sum_of(bytes: &[u8]) -> u64 {
    if bytes.len() < BLOCK {
        return sum_of_rest(bytes);
    }
    let (pieces, rest) = bytes.split_at(bytes.len() / PIECE * PIECE);
    sum_of_pieces(pieces) + sum_of_rest(rest)
}

/// Sums as many words at once as this CPU can. The bytes make up whole pieces.
fn sum_of_pieces(bytes: &[u8]) -> u64 {
    static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
    bytes.chunks(MOST).map(|bytes| sum_by(*LEVEL, bytes)).sum()
}

#[inline]
fn sum_by(level: Level, bytes: &[u8]) -> u64 {
    dispatch!(level, simd => sum_in_vectors(simd, bytes))
}

/// Compiled for each kind of CPU, and in the vectors' own words: left to itself, the compiler gathers single words from many
/// blocks where there is an instruction for that, at several times the price.
#[inline(always)]
fn sum_in_vectors<S: Simd>(simd: S, bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    let mut long = [S::i32s::splat(simd, 0); 2];
    for block in blocks {
        for (sum, half) in long.iter_mut().zip(block.as_chunks::<HALF>().0) {
            for vector in half.chunks_exact(S::u8s::LEN) {
                let words: S::i16s = S::u8s::from_slice(simd, vector).bitcast();
                // One instruction adds pairs of words, but only of signed ones.
                *sum += (words ^ i16::MIN).pairwise_widening_add();
            }
        }
    }
    let long = long[0] + long[1];
    let mut short = i32x4::splat(simd, 0);
    for piece in rest.as_chunks::<PIECE>().0 {
        let words: i16x8<S> = u8x16::from_slice(simd, piece).bitcast();
        short += (words ^ i16::MIN).pairwise_widening_add();
    }
    let words = bytes.len() as i64 / 2;
    (i64::from(long.reduce_sum()) + i64::from(short.reduce_sum()) + TURNED * words) as u64
}

/// Sums less than a block.
#[inline]
fn sum_of_rest(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let last = match *rest {
        [a, b, c] => [a, b, c, 0],
        [a, b] => [a, b, 0, 0],
        [a] => [a, 0, 0, 0],
        _ => [0; 4],
    };
    words.iter().chain([&last]).map(|word| u64::from(u32::from_ne_bytes(*word))).sum()
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
            let pieces = &bytes[..bytes.len() / PIECE * PIECE];
            prop_assert_eq!(sum_by(Level::baseline(), pieces), sum_of_pieces(pieces));
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
