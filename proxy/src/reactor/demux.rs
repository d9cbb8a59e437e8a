//! Reads what comes out of a ring: whose it is, which socket it is for, and whether it is intact.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use core::net::Ipv4Addr;
use core::ops::Range;

use pnat_shared::flow::{Handle, Protocol, Side};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{side_of, socket, unmask};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::Seq;
use pnat_shared::wire::{icmp, ip, tcp, udp};

use crate::chunk::Chunk;

/// A packet for a socket of a pair.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) handle: Handle,
    pub(super) side: Side,
    pub(super) body: Body,
}

/// Ranges count from the frame's first byte.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Body {
    Segment(Segment),
    Datagram { payload: Range<usize> },
    Icmp(Complaint),
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) header: tcp::Header,
    pub(super) payload: Range<usize>,
    /// The payload's, for an Internet checksum.
    sum: u16,
    /// A router has seen congestion (CE, RFC 3168).
    pub(super) marked: bool,
}

impl Segment {
    /// The payload in its frame.
    #[inline]
    pub(super) fn text<F: Frame>(&self, frame: F) -> Chunk<F> {
        Chunk::from_frame(frame, self.payload.start, self.payload.end).with_sum(self.sum)
    }
}

/// An ICMP error about a packet that the socket sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Complaint {
    pub(crate) error: icmp::Header,
    /// The quoted segment's sequence number; `None`: it quotes a datagram.
    pub(crate) seq: Option<Seq>,
}

/// Reads a frame from the loopback. Every checksum is verified here; nothing behind it looks at one again.
#[inline]
pub(super) fn read(frame: &[u8]) -> Result<Arrival, DropReason> {
    match read_plain(frame) {
        Some(arrival) => Ok(arrival),
        None => read_any(frame),
    }
}

/// What nearly all frames hold, in one pass: a segment with timestamps or no options, in an IPv4 packet that is whole and has
/// none. `None` for all others, and wherever something is wrong.
#[inline]
fn read_plain(frame: &[u8]) -> Option<Arrival> {
    let packet = frame.get(L2_LEN..)?;
    let header = ip::Header::read_plain(packet)?;
    if header.protocol != Protocol::Tcp as u8 || header.is_fragment() {
        return None;
    }
    let bytes = packet.get(ip::MIN_LEN..header.total_len)?;
    let (segment, len) = tcp::Header::read_plain(bytes)?;
    let (handle, side) = address((header.src, segment.src_port), (header.dst, segment.dst_port)).ok()?;
    let (head, text) = bytes.split_at_checked(len)?;
    let sum = tcp::verify(head, text, header.src, header.dst)?.folded();
    if !segment.flags.are_sane() {
        return None;
    }
    let start = L2_LEN + ip::MIN_LEN + len;
    let marked = header.is_marked();
    let segment = Segment { header: segment, payload: start..start + text.len(), sum, marked };
    Some(Arrival { handle, side, body: Body::Segment(segment) })
}

fn read_any(frame: &[u8]) -> Result<Arrival, DropReason> {
    let packet = frame.get(L2_LEN..).ok_or(DropReason::Truncated)?;
    let header = ip::Header::read(packet)?;
    if header.header_len != ip::MIN_LEN {
        return Err(DropReason::IpOptions);
    }
    if header.is_fragment() {
        return Err(DropReason::Fragment);
    }
    let bytes = &packet[ip::MIN_LEN..header.total_len];
    let (start, end) = (L2_LEN + ip::MIN_LEN, L2_LEN + header.total_len);
    match Protocol::from_number(header.protocol) {
        Some(Protocol::Tcp) => {
            let (segment, len) = tcp::Header::read(bytes)?;
            let (handle, side) = address((header.src, segment.src_port), (header.dst, segment.dst_port))?;
            let (head, text) = bytes.split_at(len);
            let sum = tcp::verify(head, text, header.src, header.dst).ok_or(DropReason::L4Checksum)?.folded();
            if !segment.flags.are_sane() {
                return Err(DropReason::TcpFlags);
            }
            let marked = header.is_marked();
            let segment = Segment { header: segment, payload: start + len..end, sum, marked };
            Ok(Arrival { handle, side, body: Body::Segment(segment) })
        }
        Some(Protocol::Udp) => {
            let datagram = udp::Header::read(bytes)?;
            let (handle, side) = address((header.src, datagram.src_port), (header.dst, datagram.dst_port))?;
            if !datagram.is_intact(bytes, header.src, header.dst) {
                return Err(DropReason::L4Checksum);
            }
            Ok(Arrival {
                handle,
                side,
                body: Body::Datagram { payload: start + udp::LEN..start + datagram.len },
            })
        }
        Some(Protocol::Icmp) => complaint(bytes),
        None => Err(DropReason::Protocol),
    }
}

/// Whose a frame seems to be, where it is a plain packet of TCP or UDP: nothing is checked.
#[inline]
pub(super) fn peek(frame: &[u8]) -> Option<Handle> {
    let [a, b, c, d, _, _, _, _, e, f] = *frame.get(L2_LEN + 12..)?.first_chunk()?;
    unmask(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([e, f]))
}

/// From a masked address to one of the proxy's sockets.
#[inline]
fn address(src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) -> Result<(Handle, Side), DropReason> {
    let handle = unmask(src.0, src.1).ok_or(DropReason::NoBinding)?;
    let side = side_of(dst.0).filter(|side| socket(*side).port() == dst.1).ok_or(DropReason::NoBinding)?;
    Ok((handle, side))
}

/// An ICMP error. The packet that it quotes, one of ours, names the flow: ICMP itself has no port to carry a generation.
fn complaint(bytes: &[u8]) -> Result<Arrival, DropReason> {
    let error = icmp::Header::read(bytes)?;
    if !error.is_error() {
        return Err(DropReason::IcmpUnrelated);
    }
    let quote = &bytes[icmp::LEN..];
    let inner = ip::Header::read_quoted(quote)?;
    let transport = quote.get(inner.header_len..).and_then(<[u8]>::first_chunk::<8>);
    let Some([s0, s1, d0, d1, n0, n1, n2, n3]) = transport.copied() else {
        return Err(DropReason::Truncated);
    };
    let (src, dst) = (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]));
    // What we sent went from a socket to a masked address: the reverse of what arrives.
    let (handle, side) =
        address((inner.dst, dst), (inner.src, src)).map_err(|_| DropReason::IcmpUnrelated)?;
    let seq = match Protocol::from_number(inner.protocol) {
        Some(Protocol::Tcp) => Some(Seq(u32::from_be_bytes([n0, n1, n2, n3]))),
        Some(Protocol::Udp) => None,
        _ => return Err(DropReason::IcmpUnrelated),
    };
    Ok(Arrival { handle, side, body: Body::Icmp(Complaint { error, seq }) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::flow::WorkerId;
    use pnat_shared::loopback::mask;
    use pnat_shared::wire::checksum::Sum;
    use pnat_shared::wire::tcp::{Flags, Options};
    use proptest::prelude::*;

    const HANDLE: Handle = Handle { worker: WorkerId(1), slot: 77, generation: 9 };

    /// A frame with a segment to a socket.
    fn frame(side: Side, stamps: Option<(u32, u32)>, text: &[u8]) -> Vec<u8> {
        let (src, dst) = (mask(HANDLE), socket(side));
        let options = Options { timestamps: stamps, ..Options::default() };
        let header = tcp::Header {
            src_port: src.port(),
            dst_port: dst.port(),
            flags: Flags::ACK,
            options,
            ..tcp::Header::default()
        };
        let mut bytes = vec![0; L2_LEN + ip::MIN_LEN + header.len()];
        bytes.extend_from_slice(text);
        let packet = &mut bytes[L2_LEN..];
        let total_len = packet.len();
        let (src, dst) = (*src.ip(), *dst.ip());
        header.write(&mut packet[ip::MIN_LEN..], src, dst);
        let header = ip::Header {
            header_len: 20,
            total_len,
            tos: 0,
            id: 1,
            fragment: 0,
            ttl: 64,
            protocol: 6,
            src,
            dst,
        };
        header.write(packet);
        bytes
    }

    /// Makes the checksums right again, as far as there are any.
    fn repair(packet: &mut [u8]) {
        let Some((head, body)) = packet.split_first_chunk_mut::<{ ip::MIN_LEN }>() else { return };
        head[10..12].fill(0);
        let checksum = Sum::ZERO.header(head).finish();
        head[10..12].copy_from_slice(&checksum.to_be_bytes());
        if let (Ok(header), Some([0, 0])) = (ip::Header::read_quoted(head), body.get(16..18)) {
            let checksum = Sum::pseudo(header.src, header.dst, 6, body.len()).bytes(body).finish();
            body[16..18].copy_from_slice(&checksum.to_be_bytes());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn the_short_way_reads_what_the_long_way_does(
            second: bool, stamps: Option<(u32, u32)>, text in prop::collection::vec(any::<u8>(), 0..200),
            changes in prop::collection::vec((L2_LEN..90, any::<u8>()), 0..3), cut in 0usize..60, sound in 0u8..4,
        ) {
            let side = if second { Side::Second } else { Side::First };
            let mut bytes = frame(side, stamps, &text);
            for (at, byte) in changes {
                if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            }
            bytes.truncate(bytes.len() - cut.saturating_sub(50));
            if sound > 0 && bytes.len() > L2_LEN + 38 {
                bytes[L2_LEN + 36..L2_LEN + 38].fill(0);
                repair(&mut bytes[L2_LEN..]);
            }
            prop_assert_eq!(read(&bytes), read_any(&bytes));
        }
    }

    #[test]
    fn plain_segments_go_the_short_way() {
        for stamps in [None, Some((1, 2))] {
            assert!(read_plain(&frame(Side::First, stamps, b"text")).is_some());
        }
        let mut other = frame(Side::First, None, b"text");
        other[L2_LEN + 9] = 17;
        assert_eq!(read_plain(&other), None);
    }
}
