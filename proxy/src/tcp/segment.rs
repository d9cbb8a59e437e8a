//! Writing a segment into a frame: IPv4 header, TCP header, payload, checksums.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use std::net::SocketAddrV4;

use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::wire::checksum::Sum;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header};

/// Where a segment's TCP header begins in its frame.
const TCP_AT: usize = L2_LEN + ip::MIN_LEN;

/// Bytes of an IPv4 and a TCP header without options: what an MTU exceeds an MSS by (RFC 9293 section 3.7.1).
pub(super) const HEADERS: u16 = (ip::MIN_LEN + tcp::MIN_LEN) as u16;

/// Codepoints of the IP header's ECN field (RFC 3168 section 5): not to be marked, may be marked.
pub(super) const NOT_ECT: u8 = 0;
pub(super) const ECT_0: u8 = 2;

/// Payload bytes that fit into a frame behind `header`.
pub(super) fn room<F: Frame>(frame: &F, header: &Header) -> usize {
    frame.capacity().saturating_sub(TCP_AT + header.len())
}

/// Fills `frame` with a segment from `src` to `dst` whose `len` bytes of payload `fill` writes, and whose sum it answers, or
/// leaves to the port; `ecn` is its codepoint. Answers false where the frame is too small for it.
pub(super) fn write<F: Frame>(
    frame: &mut F,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    ecn: u8,
    header: &Header,
    len: usize,
    fill: impl FnOnce(&mut [u8]) -> Option<Sum>,
) -> bool {
    let header_len = header.len();
    let payload_at = TCP_AT + header_len;
    if !frame.resize(payload_at + len) {
        return false;
    }
    let bytes = frame.data_mut();
    let sum = fill(&mut bytes[payload_at..]);
    match sum {
        Some(sum) => header.write_with_payload_sum(&mut bytes[TCP_AT..], *src.ip(), *dst.ip(), sum),
        None => header.write_partial(&mut bytes[TCP_AT..], *src.ip(), *dst.ip()),
    }
    let packet = ip::Header {
        header_len: ip::MIN_LEN,
        total_len: ip::MIN_LEN + header_len + len,
        tos: ecn,
        // Never fragmented, so it needs no identification (RFC 6864 section 4.1).
        id: 0,
        fragment: ip::DONT_FRAGMENT,
        ttl: 64,
        protocol: 6,
        src: *src.ip(),
        dst: *dst.ip(),
    };
    packet.write(&mut bytes[L2_LEN..]);
    if sum.is_none() {
        frame.set_checksum(Checksum::Partial);
    }
    true
}
