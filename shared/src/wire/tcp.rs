//! TCP headers and options (RFC 9293 section 3.1, RFC 7323, RFC 2018).

use core::fmt;
use core::net::Ipv4Addr;
use core::ops::{Add, AddAssign, Sub};

use super::checksum::Sum;
use super::{be16, be32};
use crate::verdict::DropReason;

/// Bytes of a TCP header without options.
pub const MIN_LEN: usize = 20;
/// Bytes of the longest TCP header.
pub const MAX_LEN: usize = 60;
/// Where sequence number, acknowledgment and checksum stand in the header.
pub const SEQ_AT: usize = 4;
pub const ACK_AT: usize = 8;
pub const CHECKSUM_AT: usize = 16;

/// A sequence number: arithmetic modulo 2^32, compared by signed distance (RFC 9293 section 3.4).
#[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
pub struct Seq(pub u32);

impl Seq {
    /// How far `self` lies behind `earlier`; negative where it lies before.
    pub const fn distance(self, earlier: Self) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }

    pub const fn before(self, other: Self) -> bool {
        self.distance(other) < 0
    }

    pub const fn after(self, other: Self) -> bool {
        self.distance(other) > 0
    }

    #[must_use]
    pub const fn max(self, other: Self) -> Self {
        if self.before(other) { other } else { self }
    }

    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if self.after(other) { other } else { self }
    }
}

impl Add<u32> for Seq {
    type Output = Self;

    fn add(self, rhs: u32) -> Self {
        Self(self.0.wrapping_add(rhs))
    }
}

impl AddAssign<u32> for Seq {
    fn add_assign(&mut self, rhs: u32) {
        *self = *self + rhs;
    }
}

impl Sub<u32> for Seq {
    type Output = Self;

    fn sub(self, rhs: u32) -> Self {
        Self(self.0.wrapping_sub(rhs))
    }
}

impl fmt::Debug for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The control bits.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    pub const FIN: Self = Self(0x01);
    pub const SYN: Self = Self(0x02);
    pub const RST: Self = Self(0x04);
    pub const PSH: Self = Self(0x08);
    pub const ACK: Self = Self(0x10);
    pub const URG: Self = Self(0x20);
    pub const ECE: Self = Self(0x40);
    pub const CWR: Self = Self(0x80);

    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether some TCP could have sent this: not SYN with FIN or RST, not FIN with RST, not none of SYN, ACK and RST.
    pub const fn are_sane(self) -> bool {
        match (self.has(Self::SYN), self.has(Self::FIN), self.has(Self::RST)) {
            (true, false, false) | (false, false, true) => true,
            (false, _, false) => self.has(Self::ACK),
            _ => false,
        }
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (bit, letter) in "FSRPAUEC".chars().enumerate() {
            if self.0 & 1 << bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Blocks received out of order, most recent first (RFC 2018).
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct SackBlocks {
    blocks: [(Seq, Seq); 4],
    len: u8,
}

impl SackBlocks {
    /// Adds a block `[left, right)`; answers false where four are there already.
    pub fn push(&mut self, left: Seq, right: Seq) -> bool {
        let Some(place) = self.blocks.get_mut(usize::from(self.len)) else { return false };
        *place = (left, right);
        self.len += 1;
        true
    }

    pub fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.blocks[..usize::from(self.len)]
    }

    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Keeps the first `len` blocks.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(u8::try_from(len).unwrap_or(u8::MAX));
    }
}

impl fmt::Debug for SackBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// The options that PNAT understands; others are skipped on reading and never written.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size the sender wants to receive, SYN only.
    pub mss: Option<u16>,
    /// Shift of the sender's window field, 0 to 14, SYN only; larger values read as 14 (RFC 7323 section 2.3).
    pub window_scale: Option<u8>,
    /// The shift that was read was larger.
    pub excessive_scale: bool,
    /// SYN only.
    pub sack_permitted: bool,
    /// (TSval, TSecr).
    pub timestamps: Option<(u32, u32)>,
    pub sack: SackBlocks,
}

impl Options {
    fn read(mut bytes: &[u8]) -> Result<Self, DropReason> {
        let mut options = Self::default();
        while let [kind, rest @ ..] = bytes {
            match kind {
                0 => break,
                1 => {
                    bytes = rest;
                    continue;
                }
                _ => {}
            }
            let len = usize::from(*rest.first().ok_or(DropReason::TcpOptions)?);
            if len < 2 || len > bytes.len() {
                return Err(DropReason::TcpOptions);
            }
            let value = &bytes[2..len];
            match (kind, value.len()) {
                (2, 2) => options.mss = Some(be16(value, 0)),
                (3, 1) => {
                    options.window_scale = Some(value[0].min(14));
                    options.excessive_scale = value[0] > 14;
                }
                (4, 0) => options.sack_permitted = true,
                (5, n) if n % 8 == 0 => {
                    for block in value.chunks_exact(8) {
                        options.sack.push(Seq(be32(block, 0)), Seq(be32(block, 4)));
                    }
                }
                (8, 8) => options.timestamps = Some((be32(value, 0), be32(value, 4))),
                (2..=5 | 8, _) => return Err(DropReason::TcpOptions),
                _ => {}
            }
            bytes = &bytes[len..];
        }
        Ok(options)
    }

    /// Whether there is nothing but timestamps, if that.
    #[inline]
    pub fn are_plain(&self) -> bool {
        self.mss.is_none() && self.window_scale.is_none() && !self.sack_permitted && self.sack.is_empty()
    }

    /// Bytes that [`Options::write`] writes: a multiple of four, at most 40.
    #[inline]
    pub fn len(&self) -> usize {
        let only_stamps = self.mss.is_none()
            && self.window_scale.is_none()
            && self.sack.is_empty()
            && (self.timestamps.is_some() || !self.sack_permitted);
        if only_stamps {
            return self.timestamps.map_or(0, |_| STAMPS_LEN);
        }
        self.len_of_any()
    }

    fn len_of_any(&self) -> usize {
        let plain = self.mss.map_or(0, |_| 4)
            + self.window_scale.map_or(0, |_| 4)
            + if self.sack_permitted && self.timestamps.is_none() { 4 } else { 0 }
            + self.timestamps.map_or(0, |_| 12);
        plain + self.sack_len(plain)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// SACK blocks go last and are cut to what 40 bytes leave.
    fn sack_len(&self, used: usize) -> usize {
        let fit = (40 - used).saturating_sub(4) / 8;
        match self.sack.as_slice().len().min(fit) {
            0 => 0,
            blocks => 4 + 8 * blocks,
        }
    }

    fn write(&self, bytes: &mut [u8]) {
        let mut at = 0;
        let mut put = |piece: &[u8]| {
            bytes[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        };
        if let Some(mss) = self.mss {
            let [a, b] = mss.to_be_bytes();
            put(&[2, 4, a, b]);
        }
        if let Some((value, echo)) = self.timestamps {
            // SACK-permitted takes the place of the two bytes of padding, as everybody does.
            put(if self.sack_permitted { &[4, 2] } else { &[1, 1] });
            put(&[8, 10]);
            put(&value.to_be_bytes());
            put(&echo.to_be_bytes());
        } else if self.sack_permitted {
            put(&[1, 1, 4, 2]);
        }
        if let Some(shift) = self.window_scale {
            put(&[1, 3, 3, shift]);
        }
        let plain = Self { sack: SackBlocks::default(), ..*self }.len();
        let blocks = self.sack_len(plain) / 8;
        if blocks > 0 {
            put(&[1, 1, 5, 2 + 8 * blocks as u8]);
            for (left, right) in &self.sack.as_slice()[..blocks] {
                put(&left.0.to_be_bytes());
                put(&right.0.to_be_bytes());
            }
        }
    }
}

/// A TCP header's fields.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub src_port: u16,
    pub dst_port: u16,
    pub seq: Seq,
    pub ack: Seq,
    pub flags: Flags,
    /// As it stands in the header, not scaled.
    pub window: u16,
    pub urgent: u16,
    pub options: Options,
}

impl Header {
    /// Reads an IP packet's payload; answers the header and its length in bytes. The checksum is not looked at.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<(Self, usize), DropReason> {
        let head = bytes.first_chunk::<MIN_LEN>().ok_or(DropReason::Truncated)?;
        let len = usize::from(head[12] >> 4) * 4;
        if len < MIN_LEN {
            return Err(DropReason::TcpOptions);
        }
        let options = bytes.get(MIN_LEN..len).ok_or(DropReason::Truncated)?;
        Ok((Self::fields(head, Options::read(options)?), len))
    }

    /// As [`Header::read`], but only for what nearly every segment carries: timestamps as RFC 7323 appendix A lays them out,
    /// or no options. `None` for all others.
    #[inline]
    pub fn read_plain(bytes: &[u8]) -> Option<(Self, usize)> {
        let (head, rest) = bytes.split_first_chunk::<MIN_LEN>()?;
        let (timestamps, len) = match head[12] >> 4 {
            5 => (None, MIN_LEN),
            8 => {
                let option =
                    rest.first_chunk::<STAMPS_LEN>().filter(|option| be32(&option[..], 0) == STAMPS)?;
                (Some((be32(option, 4), be32(option, 8))), MIN_LEN + STAMPS_LEN)
            }
            _ => return None,
        };
        Some((Self::fields(head, Options { timestamps, ..Options::default() }), len))
    }

    #[inline]
    fn fields(head: &[u8; MIN_LEN], options: Options) -> Self {
        Self {
            src_port: be16(head, 0),
            dst_port: be16(head, 2),
            seq: Seq(be32(head, 4)),
            ack: Seq(be32(head, 8)),
            flags: Flags(head[13]),
            window: be16(head, 14),
            urgent: be16(head, 18),
            options,
        }
    }

    /// Bytes that [`Header::write`] writes.
    #[inline]
    pub fn len(&self) -> usize {
        MIN_LEN + self.options.len()
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// Writes the header in front of a payload that already stands in `bytes` behind [`Header::len`] bytes, checksum
    /// included.
    #[inline]
    pub fn write(&self, bytes: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) {
        let len = self.len();
        let payload = Sum::ZERO.bytes(&bytes[len..]);
        self.write_with_payload_sum(bytes, src, dst, payload);
    }

    /// As [`Header::write`], where the payload's sum is known already: it came with the payload's first checksum
    /// ([`verify`]), or was folded into the copy.
    ///
    /// # Panics
    /// Where `bytes` is shorter than the header.
    #[inline]
    pub fn write_with_payload_sum(&self, bytes: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr, payload: Sum) {
        let sum = Sum::pseudo(src, dst, 6, bytes.len()).and(payload);
        self.write_before(bytes, |header| header.and(sum).finish());
    }

    /// As [`Header::write`], for a device that completes the checksum: in its place stands the pseudo-header's sum
    /// ([`crate::frame::Checksum::Partial`]).
    #[inline]
    pub fn write_partial(&self, bytes: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) {
        let pseudo = Sum::pseudo(src, dst, 6, bytes.len()).folded();
        self.write_before(bytes, |_| pseudo);
    }

    /// Writes the header, and the checksum that `checksum` makes of its sum.
    #[inline]
    fn write_before(&self, bytes: &mut [u8], checksum: impl FnOnce(Sum) -> u16) {
        let len = self.len();
        let (header, rest) =
            bytes.split_first_chunk_mut::<MIN_LEN>().expect("invariant: the caller has sized the segment");
        let words = [
            u32::from(self.src_port) << 16 | u32::from(self.dst_port),
            self.seq.0,
            self.ack.0,
            (len as u32 / 4) << 28 | u32::from(self.flags.0) << 16 | u32::from(self.window),
            u32::from(self.urgent),
        ];
        let options = &mut rest[..len - MIN_LEN];
        let sum = match (self.options.timestamps, <&mut [u8; STAMPS_LEN]>::try_from(&mut *options)) {
            // What nearly every segment carries.
            (Some((value, echo)), Ok(place)) => {
                let first = if self.options.sack_permitted { SACK_AND_STAMPS } else { STAMPS };
                put(place, [first, value, echo])
            }
            _ => {
                self.options.write(options);
                Sum::ZERO.header(options)
            }
        };
        let checksum = checksum(sum.and(put(header, words)));
        header[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The first four bytes of the timestamps option with its padding, as a word: NOP, NOP, 8, 10.
pub const STAMPS: u32 = 0x0101_080a;
/// Bytes of all of it; and its first four with SACK-permitted in the place of the padding.
const STAMPS_LEN: usize = 12;
const SACK_AND_STAMPS: u32 = 0x0402_080a;

/// Writes words, and answers their sum.
#[inline]
fn put<const N: usize>(bytes: &mut [u8], words: [u32; N]) -> Sum {
    for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *place = word.to_be_bytes();
    }
    words.into_iter().fold(Sum::ZERO, Sum::words)
}

/// The payload's sum, where the checksum of the whole segment is right: header and payload of it.
#[inline]
pub fn verify(header: &[u8], payload: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> Option<Sum> {
    let sum = Sum::ZERO.bytes(payload);
    let whole = Sum::pseudo(src, dst, 6, header.len() + payload.len()).header(header).and(sum);
    whole.is_valid().then_some(sum)
}

/// Whether a segment's checksum is right.
#[inline]
pub fn is_intact(bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> bool {
    Sum::pseudo(src, dst, 6, bytes.len()).bytes(bytes).is_valid()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn options() -> impl Strategy<Value = Options> {
        let block = (any::<u32>(), any::<u32>());
        let sack = prop::collection::vec(block, 0..4);
        (any::<Option<u16>>(), prop::option::of(0u8..=14), any::<bool>(), any::<Option<(u32, u32)>>(), sack)
            .prop_map(|(mss, window_scale, sack_permitted, timestamps, blocks)| {
                let mut options =
                    Options { mss, window_scale, sack_permitted, timestamps, ..Options::default() };
                let room = (40 - options.len()).saturating_sub(4) / 8;
                for (left, right) in blocks.into_iter().take(room) {
                    options.sack.push(Seq(left), Seq(right));
                }
                options
            })
    }

    proptest! {
        #[test]
        fn a_payload_keeps_its_sum_from_one_segment_to_another(
            ports: u32, words: u64, first in options(), second in options(),
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::from_bits(ports));
            let header = |options| Header {
                src_port: ports as u16, seq: Seq(words as u32), window: (words >> 32) as u16, options, ..Header::default()
            };
            let mut bytes = vec![0; header(first).len()];
            bytes.extend_from_slice(&payload);
            header(first).write(&mut bytes, src, dst);
            let (head, text) = bytes.split_at(header(first).len());
            let sum = verify(head, text, src, dst).expect("the segment is intact");
            let mut bytes = vec![0; header(second).len()];
            bytes.extend_from_slice(&payload);
            header(second).write_with_payload_sum(&mut bytes, dst, src, sum);
            prop_assert!(is_intact(&bytes, dst, src));
        }

        #[test]
        fn what_is_written_is_read(
            seq: u32, ack: u32, flags: u8, window: u16, options in options(),
            payload in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let header = Header {
                src_port: 1234, dst_port: 80, seq: Seq(seq), ack: Seq(ack), flags: Flags(flags), window, urgent: 0, options,
            };
            let (src, dst) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
            let mut bytes = vec![0; header.len()];
            bytes.extend_from_slice(&payload);
            header.write(&mut bytes, src, dst);
            prop_assert!(is_intact(&bytes, src, dst));
            prop_assert_eq!(Header::read(&bytes), Ok((header, header.len())));
        }

        #[test]
        fn the_short_way_reads_what_the_long_way_does(
            mut options in options(), stamps: bool, cut in 0usize..3, at in 12usize..100, byte: u8,
        ) {
            if stamps {
                options = Options { timestamps: options.timestamps.or(Some((7, 8))), ..Options::default() };
            }
            let mut bytes = vec![0; MIN_LEN];
            bytes[12] = (5 + options.len() as u8 / 4) << 4;
            bytes.resize(MIN_LEN + options.len(), 0);
            options.write(&mut bytes[MIN_LEN..]);
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(bytes.len().saturating_sub(cut));
            let plain = Header::read_plain(&bytes);
            prop_assert_eq!(plain.map_or_else(|| Header::read(&bytes), Ok), Header::read(&bytes));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok((header, len)) = Header::read(&bytes) {
                prop_assert!(len <= bytes.len());
                prop_assert!(header.options.len() <= 40);
            }
        }
    }

    #[test]
    fn sequence_numbers_wrap() {
        assert!(Seq(5).after(Seq(u32::MAX - 5)));
        assert_eq!(Seq(u32::MAX) + 2, Seq(1));
    }
}
