//! Reads what comes out of a ring: whose it is, which socket it is for, and whether it is intact.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::Range;

use pnat_shared::flow::{Handle, Protocol, Side};
use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::loopback::{FIRST, SECOND, unmask};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Flags, Seq};
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
    /// The payload's for an Internet checksum, where it had to be looked at.
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
    let is_good = frame.checksum() == Checksum::Good;
    match read_plain(frame.data(), is_good) {
        Some(arrival) => Ok(arrival),
        None => read_any(frame.data(), is_good),
    }
}

/// What nearly all frames hold, in one pass: a segment with timestamps or no options, in an IPv4 packet that is whole and has
/// none. `None` for all others, and wherever something is wrong.
#[inline]
fn read_plain(frame: &[u8], is_good: bool) -> Option<Arrival> {
    let packet = frame.get(L2_LEN..)?;
    let header = ip::Header::read_plain(packet)?;
    if header.protocol != Protocol::Tcp as u8 || header.is_fragment() {
        return None;
    }
    let bytes = packet.get(ip::MIN_LEN..header.total_len)?;
    let (segment, len) = tcp::Header::read_plain(bytes)?;
    let (handle, side) = address((header.src, segment.src_port), (header.dst, segment.dst_port)).ok()?;
    let (head, text) = bytes.split_at_checked(len)?;
    let sum = if is_good { None } else { Some(tcp::verify(head, text, header.src, header.dst)?.folded()) };
    if !segment.flags.are_sane() {
        return None;
    }
    let start = L2_LEN + ip::MIN_LEN + len;
    let marked = header.is_marked();
    let segment = Segment { header: segment, payload: start..start + text.len(), sum, marked };
    Some(Arrival { handle, side, body: Body::Segment(segment) })
}

/// All frames, at length. Apart, so that the usual way is short enough to be put where frames are read.
#[inline(never)]
fn read_any(frame: &[u8], is_good: bool) -> Result<Arrival, DropReason> {
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

/// Bytes of the headers that [`read_next`] knows: IPv4 without options, TCP with timestamps.
const STAMPED: usize = ip::MIN_LEN + 32;

/// The headers of a plain segment with timestamps, for the next one to be compared with.
#[derive(Copy, Clone, Debug)]
pub(super) struct Pattern([u8; STAMPED]);

/// Where two segments that say the same, one behind the other, have the same bytes: not in their lengths and checksums, the
/// packets' identification and time to live, the numbers, PSH, and the urgent pointer that nothing points to.
const SAME: [u8; STAMPED] = {
    let mut same = [0xff; STAMPED];
    let differ = [2, 3, 4, 5, 8, 10, 11, 24, 25, 26, 27, 36, 37, 38, 39];
    let mut at = 0;
    while at < differ.len() {
        same[differ[at]] = 0;
        at += 1;
    }
    same[33] = !Flags::PSH.0;
    same
};

impl Pattern {
    /// The headers of a frame that was read as a segment; `None` where [`read_next`] could not read its like.
    #[inline]
    pub(super) fn of(frame: &[u8], segment: &Segment) -> Option<Self> {
        let stamped =
            segment.payload.start == L2_LEN + STAMPED && segment.header.options.timestamps.is_some();
        frame.get(L2_LEN..)?.first_chunk().filter(|_| stamped).map(|head| Self(*head))
    }

    /// Whether another one's headers say the same, lengths, checksums and numbers aside.
    #[inline]
    fn fits(&self, head: &[u8; STAMPED]) -> bool {
        let word = |bytes: &[u8; STAMPED], at: usize| u32::from_ne_bytes(bytes.as_chunks().0[at]);
        let differs = |at| (word(&self.0, at) ^ word(head, at)) & word(&SAME, at);
        (0..STAMPED / 4).fold(0, |all, at| all | differs(at)) == 0
    }
}

/// Where a frame holds the segment `next`, and it says what the `pattern` does: its text and that one's sum. What it answers
/// to is what [`read`] would have found in it; of other frames nothing is known.
#[inline]
pub(super) fn read_next<F: Frame>(
    frame: &F,
    pattern: &Pattern,
    next: Seq,
) -> Option<(Range<usize>, Option<u16>)> {
    let packet = frame.data().get(L2_LEN..)?;
    let head: &[u8; STAMPED] = packet.first_chunk()?;
    let number = head[ip::MIN_LEN + tcp::SEQ_AT..].first_chunk()?;
    if u32::from_be_bytes(*number) != next.0 || !pattern.fits(head) {
        return None;
    }
    // What it has in common with the pattern need not be looked at again.
    let header = ip::Header::read_plain(packet)?;
    let text = packet.get(STAMPED..header.total_len)?;
    let sum = if frame.checksum() == Checksum::Good {
        None
    } else {
        Some(tcp::verify(&head[ip::MIN_LEN..], text, header.src, header.dst)?.folded())
    };
    let start = L2_LEN + STAMPED;
    Some((start..start + text.len(), sum))
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
    match SocketAddrV4::new(dst.0, dst.1) {
        to if to == FIRST => Ok((handle, Side::First)),
        to if to == SECOND => Ok((handle, Side::Second)),
        _ => Err(DropReason::NoBinding),
    }
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
    use pnat_shared::loopback::{mask, socket};
    use pnat_shared::testkit::VecFrame;
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
            changes in prop::collection::vec((L2_LEN..90, any::<u8>()), 0..3), cut in 0usize..60, sound in 0u8..4, is_good: bool,
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
            let plain = read_plain(&bytes, is_good);
            prop_assert_eq!(plain.map_or_else(|| read_any(&bytes, is_good), Ok), read_any(&bytes, is_good));
            let first = frame(side, stamps, b"first");
            let Ok(Arrival { body: Body::Segment(segment), handle, .. }) = read_any(&first, false) else {
                return Err(TestCaseError::fail("a segment"));
            };
            let Some(pattern) = Pattern::of(&first, &segment) else { return Ok(()) };
            if let Some((payload, sum)) = read_next(&VecFrame::new(&bytes), &pattern, Seq(0)) {
                let Ok(Arrival { body: Body::Segment(read), .. }) = read_any(&bytes, false) else {
                    return Err(TestCaseError::fail("what is read as the next one is a segment"));
                };
                let flags = Flags(read.header.flags.0 & !Flags::PSH.0);
                let same = Segment { payload, sum, header: tcp::Header { urgent: read.header.urgent, ..segment.header }, marked: false };
                prop_assert_eq!(Segment { header: tcp::Header { flags, ..read.header }, ..read }, same);
                prop_assert_eq!(read_any(&bytes, false).unwrap().handle, handle);
            }
        }
    }

    #[test]
    fn plain_segments_go_the_short_way() {
        for stamps in [None, Some((1, 2))] {
            assert!(read_plain(&frame(Side::First, stamps, b"text"), false).is_some());
        }
        let first = frame(Side::First, Some((1, 2)), b"text");
        let Ok(Arrival { body: Body::Segment(segment), .. }) = read_any(&first, false) else {
            panic!("a segment")
        };
        let pattern = Pattern::of(&first, &segment).unwrap();
        assert!(read_next(&VecFrame::new(&first), &pattern, Seq(0)).is_some());
        assert!(read_next(&VecFrame::new(&first), &pattern, Seq(1)).is_none());
        let mut other = frame(Side::First, None, b"text");
        other[L2_LEN + 9] = 17;
        assert_eq!(read_plain(&other, true), None);
    }
}
