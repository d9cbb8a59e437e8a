//! The Internet checksum (RFC 1071) and its incremental update (RFC 1624).

use core::net::Ipv4Addr;

/// A sum in progress. Its 16-bit one's complement is what goes into a header.
#[derive(Copy, Clone, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    pub const ZERO: Self = Self(0);

    /// The pseudo-header of TCP and UDP (RFC 9293 section 3.1, RFC 768): `len` counts header and payload.
    #[inline]
    pub fn pseudo(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Self {
        Self(u64::from(src.to_bits()) + u64::from(dst.to_bits()) + u64::from(protocol) + len as u64)
    }

    /// Adds bytes. Every piece but the last must have an even length.
    #[inline]
    #[must_use]
    pub fn bytes(self, bytes: &[u8]) -> Self {
        // A one's complement sum is the same in either byte order but for its bytes' places (RFC 1071 section 2 B), so
        // words are added as they lie in memory; and it is the same for longer words (section 2 C), whose carries a sum of
        // twice their length catches.
        let (blocks, rest) = bytes.as_chunks::<64>();
        let word = |word: &[u8; 8]| u128::from(u64::from_ne_bytes(*word));
        let mut lanes = [0u128; LANES];
        for block in blocks {
            for (at, next) in block.as_chunks::<8>().0.iter().enumerate() {
                lanes[at % LANES] += word(next);
            }
        }
        let (words, rest) = rest.as_chunks::<8>();
        let mut sum = lanes.into_iter().sum::<u128>() + words.iter().map(word).sum::<u128>();
        let (words, rest) = rest.as_chunks::<2>();
        sum += words.iter().map(|word| u128::from(u16::from_ne_bytes(*word))).sum::<u128>();
        if let [last] = *rest {
            sum += u128::from(u16::from_ne_bytes([last, 0]));
        }
        let sum = (sum as u64 >> 32) + u64::from(sum as u32) + (sum >> 64) as u64;
        Self(self.0 + u64::from(u16::from_be(fold(sum))))
    }

    #[inline]
    #[must_use]
    pub fn word(self, word: u16) -> Self {
        Self(self.0 + u64::from(word))
    }

    /// Adds a header: some words, an even number of them.
    #[inline]
    #[must_use]
    pub fn header(self, bytes: &[u8]) -> Self {
        let words = |words: &[[u8; 4]]| words.iter().map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
        let sum = match bytes.first_chunk::<32>() {
            // TCP with timestamps and nothing else: a length that the compiler knows.
            Some(usual) if bytes.len() == usual.len() => words(usual.as_chunks().0),
            _ => words(bytes.as_chunks().0),
        };
        Self(self.0 + u64::from(u16::from_be(fold(sum))))
    }

    /// Adds two words at once, the first one in the upper half.
    #[inline]
    #[must_use]
    pub fn words(self, words: u32) -> Self {
        Self(self.0 + u64::from(words))
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
        fold(self.0)
    }

    /// The same of bytes that begin at an odd place: all trade places with their neighbors (RFC 1071 section 2 B).
    #[inline]
    #[must_use]
    pub const fn odd(self) -> Self {
        Self(fold(self.0).swap_bytes() as u64)
    }

    /// The checksum: the one's complement of the sum folded to 16 bits.
    #[inline]
    pub fn finish(self) -> u16 {
        !fold(self.0)
    }

    /// Whether data that includes its checksum sums up right.
    #[inline]
    pub fn is_valid(self) -> bool {
        fold(self.0) == 0xffff
    }
}

/// Sums that do not wait for each other's carries; more of them would not find registers.
const LANES: usize = 4;

/// A sum's 16 bits: carries are added at the other end.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
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
