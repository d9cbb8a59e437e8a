//! Reads what comes out of a ring: whose it is, which socket it is for, and whether it is intact.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use core::net::Ipv4Addr;
use core::ops::Range;

use pnat_shared::flow::{Handle, Protocol, Side};
use pnat_shared::frame::{Checksum, Frame, L2_LEN};
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
    /// The payload's, for an Internet checksum; `None` where it had not to be looked at.
    sum: Option<u16>,
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

/// Reads a frame from the loopback. Every checksum is verified here, but for those that the port has found right; nothing
/// behind it looks at one again.
#[inline]
pub(super) fn read<F: Frame>(frame: &F) -> Result<Arrival, DropReason> {
    let packet = frame.data().get(L2_LEN..).ok_or(DropReason::Truncated)?;
    let is_good = frame.checksum() == Checksum::Good;
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
            let sum = if is_good {
                None
            } else {
                let (head, text) = bytes.split_at(len);
                let sum = tcp::verify(head, text, header.src, header.dst).ok_or(DropReason::L4Checksum)?;
                Some(sum.folded())
            };
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
            if !is_good && !datagram.is_intact(bytes, header.src, header.dst) {
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
