//! Writing a segment into a frame: IPv4 header, TCP header, payload, checksums.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use std::net::SocketAddrV4;

use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::wire::checksum::{Delta, Sum};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Seq};

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

/// Makes a segment that was left to the port ([`Checksum::Partial`]) speak for `more` bytes of text that follow its own.
pub(super) fn lengthen<F: Frame>(frame: &mut F, more: usize) {
    const LEN_AT: usize = L2_LEN + 2;
    const IP_CHECKSUM_AT: usize = L2_LEN + 10;
    const SUM_AT: usize = TCP_AT + tcp::CHECKSUM_AT;
    let bytes = frame.data_mut();
    let word = |bytes: &[u8], at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let len = word(bytes, LEN_AT);
    let change = Delta::NONE.word(len, len + more as u16);
    for (at, new) in [
        (LEN_AT, len + more as u16),
        (IP_CHECKSUM_AT, change.apply(word(bytes, IP_CHECKSUM_AT))),
        (SUM_AT, change.apply_to_sum(word(bytes, SUM_AT))),
    ] {
        bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    }
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
    ip_header(src, dst, ecn, ip::MIN_LEN + header_len + len).write(&mut bytes[L2_LEN..]);
    if sum.is_none() {
        frame.set_checksum(Checksum::Partial);
    }
    true
}

fn ip_header(src: SocketAddrV4, dst: SocketAddrV4, ecn: u8, total_len: usize) -> ip::Header {
    ip::Header {
        header_len: ip::MIN_LEN,
        total_len,
        tos: ecn,
        // Never fragmented, so it needs no identification (RFC 6864 section 4.1).
        id: 0,
        fragment: ip::DONT_FRAGMENT,
        ttl: 64,
        protocol: 6,
        src: *src.ip(),
        dst: *dst.ip(),
    }
}

/// The headers of a run of segments, which differ in number, flags and payload only.
#[derive(Debug)]
pub(super) struct Template {
    /// Of an IPv4 header and a TCP header with timestamps, which are left away where there are none.
    headers: [u8; WITH_STAMPS],
    len: usize,
    /// Of what does not differ.
    ip: Sum,
    tcp: Sum,
    pseudo: Sum,
}

const WITHOUT_STAMPS: usize = ip::MIN_LEN + tcp::MIN_LEN;
const WITH_STAMPS: usize = WITHOUT_STAMPS + 12;

/// Where in the headers those fields are that differ.
const TOTAL_LEN: usize = 2;
const IP_CHECKSUM: usize = 10;
const SEQ: usize = ip::MIN_LEN + 4;
const FLAGS: usize = ip::MIN_LEN + 13;
const CHECKSUM: usize = ip::MIN_LEN + 16;

impl Template {
    /// `header` without number and flags, and of all options with timestamps at most; the rest as with [`write`].
    pub(super) fn new(src: SocketAddrV4, dst: SocketAddrV4, ecn: u8, header: &Header) -> Self {
        let header = Header { seq: Seq(0), flags: Flags(0), ..*header };
        let len = ip::MIN_LEN + header.len();
        let mut headers = [0; WITH_STAMPS];
        let packet = ip_header(src, dst, ecn, 0);
        packet.write(&mut headers);
        headers[IP_CHECKSUM..IP_CHECKSUM + 2].fill(0);
        header.write_with_payload_sum(&mut headers[ip::MIN_LEN..len], *src.ip(), *dst.ip(), Sum::ZERO);
        headers[CHECKSUM..CHECKSUM + 2].fill(0);
        let (ip, tcp) = headers.split_at(ip::MIN_LEN);
        let pseudo = Sum::pseudo(*src.ip(), *dst.ip(), 6, 0);
        Self { headers, len, ip: Sum::ZERO.header(ip), tcp: pseudo.header(tcp), pseudo }
    }

    /// As [`write`].
    #[inline]
    pub(super) fn write<F: Frame>(
        &self,
        frame: &mut F,
        seq: Seq,
        flags: Flags,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<Sum>,
    ) -> bool {
        if !frame.resize(L2_LEN + self.len + len) {
            return false;
        }
        let (headers, payload) = frame.data_mut()[L2_LEN..].split_at_mut(self.len);
        let payload = fill(payload);
        // Lengths that the compiler knows.
        let start = match headers.first_chunk_mut::<WITH_STAMPS>() {
            Some(all) => {
                *all = self.headers;
                all.first_chunk_mut::<WITHOUT_STAMPS>()
            }
            None => headers.first_chunk_mut().map(|start| {
                start.copy_from_slice(&self.headers[..WITHOUT_STAMPS]);
                start
            }),
        };
        let Some(start) = start else { return false };
        let total = (self.len + len) as u16;
        let checksum = self.ip.word(total).finish();
        start[TOTAL_LEN..TOTAL_LEN + 2].copy_from_slice(&total.to_be_bytes());
        start[IP_CHECKSUM..IP_CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        let tcp_len = total - ip::MIN_LEN as u16;
        let checksum = match payload {
            Some(payload) => {
                let rest = Sum::ZERO.words(seq.0).word(flags.0.into()).word(tcp_len);
                self.tcp.and(rest).and(payload).finish()
            }
            None => self.pseudo.word(tcp_len).folded(),
        };
        start[SEQ..SEQ + 4].copy_from_slice(&seq.0.to_be_bytes());
        start[FLAGS] = flags.0;
        start[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum.to_be_bytes());
        if payload.is_none() {
            frame.set_checksum(Checksum::Partial);
        }
        true
    }
}
