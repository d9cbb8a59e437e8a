//! Reads the frames that come to the generator's hosts.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.

use core::ops::Range;
use std::net::SocketAddrV4;

use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::wire::ethernet;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Seq};

const PROTOCOL_TCP: u8 = 6;

/// A connection as one end sees it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    pub(super) local: SocketAddrV4,
    pub(super) remote: SocketAddrV4,
}

/// A segment for one of the generator's hosts.
#[derive(Debug)]
pub(super) struct Arrival {
    pub(super) tuple: Tuple,
    pub(super) header: tcp::Header,
    /// Its text, counted from the frame's first byte.
    pub(super) text: Range<usize>,
}

/// Why a frame is no use.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Useless {
    /// No whole TCP segment in an IPv4 packet.
    Foreign,
    /// A checksum is wrong.
    Corrupt,
}

/// Reads a frame, checksums included unless the port has found them right.
pub(super) fn read<F: Frame>(frame: &F) -> Result<Arrival, Useless> {
    let data = frame.data();
    let link = ethernet::Header::read(data).map_err(|_| Useless::Foreign)?;
    if link.ether_type != ethernet::TYPE_IPV4 {
        return Err(Useless::Foreign);
    }
    let packet = &data[L2_LEN..];
    let header = ip::Header::read_plain(packet).map_or_else(|| read_any(packet), Ok)?;
    if header.protocol != PROTOCOL_TCP || header.is_fragment() {
        return Err(Useless::Foreign);
    }
    let bytes = &packet[header.header_len..header.total_len];
    if frame.checksum() != Checksum::Good && !tcp::is_intact(bytes, header.src, header.dst) {
        return Err(Useless::Corrupt);
    }
    let read = tcp::Header::read_plain(bytes).or_else(|| tcp::Header::read(bytes).ok());
    let (segment, len) = read.filter(|(segment, _)| segment.flags.are_sane()).ok_or(Useless::Foreign)?;
    let end = L2_LEN + header.total_len;
    Ok(Arrival {
        tuple: Tuple {
            local: SocketAddrV4::new(header.dst, segment.dst_port),
            remote: SocketAddrV4::new(header.src, segment.src_port),
        },
        header: segment,
        text: end - (bytes.len() - len)..end,
    })
}

#[cold]
fn read_any(packet: &[u8]) -> Result<ip::Header, Useless> {
    use pnat_shared::verdict::DropReason;
    ip::Header::read(packet).map_err(|reason| match reason {
        DropReason::IpChecksum => Useless::Corrupt,
        _ => Useless::Foreign,
    })
}

/// The sequence numbers that a segment of ours takes: the first, and that behind the last.
pub(super) fn extent<F: Frame>(frame: &F) -> Option<(Seq, Seq)> {
    let packet = frame.data().get(L2_LEN..)?;
    let header = ip::Header::read_plain(packet)?;
    let bytes = packet.get(ip::MIN_LEN..header.total_len)?;
    let head = bytes.first_chunk::<{ tcp::MIN_LEN }>()?;
    let seq = Seq(u32::from_be_bytes(*head[tcp::SEQ_AT..].first_chunk()?));
    let flags = Flags(head[13]);
    let text = bytes.len() - usize::from(head[12] >> 4) * 4;
    let numbers = u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
    Some((seq, seq + text as u32 + numbers))
}
