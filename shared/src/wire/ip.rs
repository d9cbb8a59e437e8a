//! IPv4 headers (RFC 791).

use core::net::Ipv4Addr;

use super::checksum::{Delta, Sum};
use super::{be16, be32};
use crate::verdict::DropReason;

/// Bytes of an IPv4 header without options.
pub const MIN_LEN: usize = 20;
/// First byte of one: version 4, five words.
const PLAIN: u8 = 0x45;

/// Time to live of what we send (RFC 1700).
pub const TTL: u8 = 64;

/// "Don't fragment" in [`Header::fragment`].
pub const DONT_FRAGMENT: u16 = 0x4000;
const MORE_FRAGMENTS: u16 = 0x2000;
const OFFSET: u16 = 0x1fff;

/// An IPv4 header's fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// 20 to 60 bytes.
    pub header_len: usize,
    /// Bytes of header and payload, at most what the frame holds.
    pub total_len: usize,
    /// DSCP and ECN (RFC 2474, RFC 3168).
    pub tos: u8,
    pub id: u16,
    /// Flags and offset as they stand in the header.
    pub fragment: u16,
    pub ttl: u8,
    /// IP protocol number.
    pub protocol: u8,
    pub src: Ipv4Addr,
    pub dst: Ipv4Addr,
}

impl Header {
    /// Of a packet of ours with `total_len` bytes: not marked, and never fragmented, so that it needs no identification (RFC 6864
    /// section 4.1).
    #[inline]
    pub const fn new(protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, total_len: usize) -> Self {
        let (header_len, fragment) = (MIN_LEN, DONT_FRAGMENT);
        Self { header_len, total_len, tos: 0, id: 0, fragment, ttl: TTL, protocol, src, dst }
    }

    /// Reads and checks what follows the Ethernet header: version, lengths, header checksum.
    #[inline]
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let header = Self::read_quoted(packet)?;
        if header.total_len > packet.len() {
            return Err(DropReason::Truncated);
        }
        if !Sum::ZERO.header(&packet[..header.header_len]).is_valid() {
            return Err(DropReason::IpChecksum);
        }
        Ok(header)
    }

    /// As [`Header::read`], but only for what nearly all packets have: a header without options, intact. `None` for all others.
    #[inline]
    pub fn read_plain(packet: &[u8]) -> Option<Self> {
        let head = packet.first_chunk()?;
        let header = Self::fields(head);
        let fits = header.total_len >= MIN_LEN && header.total_len <= packet.len();
        (head[0] == PLAIN && fits && Sum::ZERO.header(head).is_valid()).then_some(header)
    }

    /// Reads a header quoted by an ICMP error, whose packet may be cut short and whose checksum may have been changed
    /// on the way (RFC 5508 REQ-3).
    #[inline]
    pub fn read_quoted(packet: &[u8]) -> Result<Self, DropReason> {
        let head = packet.first_chunk().ok_or(DropReason::Truncated)?;
        let header = Self::fields(head);
        if head[0] >> 4 != 4 || header.header_len < MIN_LEN {
            return Err(DropReason::IpVersion);
        }
        if header.total_len < header.header_len || packet.len() < header.header_len {
            return Err(DropReason::Truncated);
        }
        Ok(header)
    }

    /// What the fixed part says, be it right or wrong.
    #[inline]
    fn fields(head: &[u8; MIN_LEN]) -> Self {
        Self {
            header_len: usize::from(head[0] & 0xf) * 4,
            total_len: usize::from(be16(head, 2)),
            tos: head[1],
            id: be16(head, 4),
            fragment: be16(head, 6),
            ttl: head[8],
            protocol: head[9],
            src: Ipv4Addr::from_bits(be32(head, 12)),
            dst: Ipv4Addr::from_bits(be32(head, 16)),
        }
    }

    /// Whether this is one piece of a larger packet.
    pub const fn is_fragment(&self) -> bool {
        self.fragment & (MORE_FRAGMENTS | OFFSET) != 0
    }

    /// Whether a router has marked it for congestion (CE, RFC 3168 section 5).
    pub const fn is_marked(&self) -> bool {
        self.tos & 3 == 3
    }

    pub const fn dont_fragment(&self) -> bool {
        self.fragment & DONT_FRAGMENT != 0
    }

    /// A header of [`MIN_LEN`] bytes, word by word, with a checksum of zero; `header_len` is not looked at.
    #[inline]
    pub fn words(&self) -> [u32; MIN_LEN / 4] {
        [
            0x4500_0000 | u32::from(self.tos) << 16 | u32::from(self.total_len as u16),
            u32::from(self.id) << 16 | u32::from(self.fragment),
            u32::from(self.ttl) << 24 | u32::from(self.protocol) << 16,
            self.src.to_bits(),
            self.dst.to_bits(),
        ]
    }

    /// Writes a header of [`MIN_LEN`] bytes, checksum included; `header_len` is not looked at.
    ///
    /// # Panics
    /// Where `packet` is shorter.
    #[inline]
    pub fn write(&self, packet: &mut [u8]) {
        let header = packet.first_chunk_mut::<MIN_LEN>().expect("invariant: the caller has sized the packet");
        let words = self.words();
        let checksum = words.into_iter().fold(Sum::ZERO, Sum::words).finish();
        for (place, word) in header.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Rewrites source and destination in place, header checksum included. Answers the change, for the checksum of the
/// transport, whose pseudo-header covers the addresses.
#[inline]
pub fn rewrite_addrs(packet: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr) -> Delta {
    let old_src = Ipv4Addr::from_bits(be32(packet, 12));
    let old_dst = Ipv4Addr::from_bits(be32(packet, 16));
    let delta = Delta::NONE.addr(old_src, src).addr(old_dst, dst);
    packet[12..16].copy_from_slice(&src.octets());
    packet[16..20].copy_from_slice(&dst.octets());
    let checksum = delta.apply(be16(packet, 10));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    delta
}

/// Lowers the time to live by one in place (RFC 1812 section 5.3.1); answers false, and changes nothing, where it has run
/// out.
#[inline]
pub fn decrement_ttl(packet: &mut [u8]) -> bool {
    if packet[8] <= 1 {
        return false;
    }
    let old = u16::from_be_bytes([packet[8], packet[9]]);
    packet[8] -= 1;
    let new = u16::from_be_bytes([packet[8], packet[9]]);
    let checksum = Delta::NONE.word(old, new).apply(be16(packet, 10));
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header() -> Header {
        Header {
            header_len: 20,
            total_len: 20,
            tos: 0,
            id: 7,
            fragment: DONT_FRAGMENT,
            ttl: 64,
            protocol: 6,
            src: Ipv4Addr::new(10, 0, 0, 1),
            dst: Ipv4Addr::new(192, 0, 2, 1),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut packet = [0; 20];
        header().write(&mut packet);
        assert_eq!(Header::read(&packet), Ok(header()));
    }

    #[test]
    fn rewriting_keeps_the_checksum_right() {
        let mut packet = [0; 20];
        header().write(&mut packet);
        rewrite_addrs(&mut packet, Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(203, 0, 113, 255));
        assert!(decrement_ttl(&mut packet));
        let read = Header::read(&packet).unwrap();
        assert_eq!((read.src, read.ttl), (Ipv4Addr::new(198, 18, 0, 1), 63));
    }

    proptest! {
        #[test]
        fn the_short_way_reads_what_the_long_way_does(
            at in 0usize..20, byte: u8, total_len in 18usize..30, len in 15usize..40, repair: bool,
        ) {
            let mut packet = vec![0; 40];
            Header { total_len, ..header() }.write(&mut packet);
            packet[at] = byte;
            if repair {
                packet[10..12].fill(0);
                let checksum = Sum::ZERO.header(&packet[..20]).finish();
                packet[10..12].copy_from_slice(&checksum.to_be_bytes());
            }
            packet.truncate(len);
            let plain = Header::read_plain(&packet);
            prop_assert_eq!(plain.map_or_else(|| Header::read(&packet), Ok), Header::read(&packet));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(header) = Header::read(&bytes) {
                prop_assert!(header.header_len <= header.total_len && header.total_len <= bytes.len());
            }
        }
    }
}
