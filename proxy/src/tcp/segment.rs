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

/// The headers of plain segments with an ACK, which differ in number, flags and payload only: no options but timestamps.
#[derive(Debug)]
pub(super) struct Template {
    /// Of an IPv4 header and a TCP header, as they stand there; the last three only where there are timestamps.
    words: [[u8; 4]; PLAIN_WORDS + STAMP_WORDS],
    is_stamped: bool,
    /// Of what does not differ.
    ip: Sum,
    tcp: Sum,
    pseudo: Sum,
}

const IP_WORDS: usize = ip::MIN_LEN / 4;
const PLAIN_WORDS: usize = IP_WORDS + tcp::MIN_LEN / 4;
const STAMP_WORDS: usize = 3;
/// The words that those fields are in that differ.
const TOTAL_LEN: usize = 0;
const IP_CHECKSUM: usize = 2;
const SEQ: usize = IP_WORDS + 1;
const FLAGS: usize = IP_WORDS + 3;
const CHECKSUM: usize = IP_WORDS + 4;

impl Template {
    /// What segments from `src` to `dst` have in common; `ecn` is their codepoint.
    #[inline]
    pub(super) fn new(
        src: SocketAddrV4,
        dst: SocketAddrV4,
        ecn: u8,
        ack: Seq,
        window: u16,
        timestamps: Option<(u32, u32)>,
    ) -> Self {
        let (value, echo) = timestamps.unwrap_or_default();
        let header_words = PLAIN_WORDS - IP_WORDS + timestamps.map_or(0, |_| STAMP_WORDS);
        let [version, fragment, protocol, from, to] = ip_header(src, dst, ecn, 0).words();
        let words = [
            version,
            fragment,
            protocol,
            from,
            to,
            u32::from(src.port()) << 16 | u32::from(dst.port()),
            0,
            ack.0,
            (header_words as u32) << 28 | u32::from(window),
            0,
            tcp::STAMPS,
            value,
            echo,
        ];
        // Lengths that the compiler knows.
        let sum = |words: &[u32]| words.iter().copied().fold(Sum::ZERO, Sum::words);
        let (ip, tcp) = (sum(&words[..IP_WORDS]), sum(&words[IP_WORDS..PLAIN_WORDS]));
        let stamps = timestamps.map_or(Sum::ZERO, |_| sum(&words[PLAIN_WORDS..]));
        let pseudo = Sum::pseudo(*src.ip(), *dst.ip(), 6, 0);
        Self {
            words: words.map(u32::to_be_bytes),
            is_stamped: timestamps.is_some(),
            ip,
            tcp: tcp.and(stamps).and(pseudo),
            pseudo,
        }
    }

    /// As [`write()`].
    #[inline]
    pub(super) fn write<F: Frame>(
        &self,
        frame: &mut F,
        seq: Seq,
        flags: Flags,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<Sum>,
    ) -> bool {
        let headers = 4 * (PLAIN_WORDS + if self.is_stamped { STAMP_WORDS } else { 0 });
        if !frame.resize(L2_LEN + headers + len) {
            return false;
        }
        let (place, payload) = frame.data_mut()[L2_LEN..].split_at_mut(headers);
        let payload = fill(payload);
        let total = (headers + len) as u16;
        let tcp_len = total - ip::MIN_LEN as u16;
        let checksum = match payload {
            Some(payload) => {
                let differs = Sum::ZERO.words(seq.0).word(u16::from(flags.0)).word(tcp_len);
                self.tcp.and(differs).and(payload).finish()
            }
            None => self.pseudo.word(tcp_len).folded(),
        };
        // Lengths that the compiler knows.
        let Some((plain, stamps)) = place.as_chunks_mut::<4>().0.split_first_chunk_mut::<PLAIN_WORDS>()
        else {
            return false;
        };
        plain.copy_from_slice(&self.words[..PLAIN_WORDS]);
        if let Some(stamps) = stamps.first_chunk_mut::<STAMP_WORDS>() {
            stamps.copy_from_slice(&self.words[PLAIN_WORDS..]);
        }
        plain[TOTAL_LEN][2..].copy_from_slice(&total.to_be_bytes());
        plain[IP_CHECKSUM][2..].copy_from_slice(&self.ip.word(total).finish().to_be_bytes());
        plain[SEQ] = seq.0.to_be_bytes();
        plain[FLAGS][1] = flags.0;
        plain[CHECKSUM][..2].copy_from_slice(&checksum.to_be_bytes());
        if payload.is_none() {
            frame.set_checksum(Checksum::Partial);
        }
        true
    }
}
