//! Answers made in place of the frame that caused them: echo replies, ICMP errors, resets, ARP.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! Each function takes a frame that has been parsed and found whole; the answer goes back to the station that sent it.

use core::net::Ipv4Addr;

use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::tcp::{self, Flags, Seq};
use pnat_shared::wire::{arp, icmp, ip};

use super::parse::seq_at;

/// An ICMP error is at most this long, its IP header included (RFC 1812 section 4.3.2.3).
const ERROR_LEN: usize = 576;
/// An Ethernet frame without checksum is at least this long (IEEE 802.3); not every device pads.
const MIN_FRAME: usize = 60;

/// What a refused packet's sender is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Silence,
    /// TCP RST; to other protocols "administratively prohibited".
    Reset,
    /// An ICMP error of this type and code.
    Error(u8, u8),
    /// "Fragmentation needed", with the next hop's MTU.
    TooBig(u16),
}

impl Answer {
    pub(super) const PROHIBITED: Self = Self::Error(icmp::UNREACHABLE, icmp::CODE_PROHIBITED);
    pub(super) const HOST_UNREACHABLE: Self = Self::Error(icmp::UNREACHABLE, icmp::CODE_HOST);
    pub(super) const PORT_UNREACHABLE: Self = Self::Error(icmp::UNREACHABLE, icmp::CODE_PORT);
    pub(super) const TIME_EXCEEDED: Self = Self::Error(icmp::TIME_EXCEEDED, 0);
}

/// A token bucket: `rate` per second, and as many at once after a second of silence.
#[derive(Debug)]
pub(super) struct Bucket {
    rate: u32,
    tokens: u32,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(rate: u32, now: Instant) -> Self {
        Self { rate, tokens: rate, filled: now }
    }

    /// Takes a token, if there is one.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let rate = u128::from(self.rate);
        let gained = now.since(self.filled).as_nanos() * rate / 1_000_000_000;
        if gained >= rate {
            (self.tokens, self.filled) = (self.rate, now);
        } else if gained > 0 {
            self.tokens = (self.tokens + gained as u32).min(self.rate);
            // Exactly as much time as the tokens stand for, so that nothing is lost between calls.
            self.filled += Duration::from_nanos((gained * 1_000_000_000 / rate) as u64);
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// Turns an echo request into its reply.
pub(super) fn echo<F: Frame>(frame: &mut F) -> bool {
    let data = frame.data_mut();
    let Some(packet) = data.get(L2_LEN..) else { return false };
    let Ok(header) = ip::Header::read(packet) else { return false };
    let Some(body) = packet.get(header.header_len..header.total_len) else { return false };
    let Ok(query) = icmp::Header::read(body) else { return false };
    let (at, end) = (L2_LEN + header.header_len, L2_LEN + header.total_len);
    icmp::Header { kind: icmp::ECHO_REPLY, ..query }.write(&mut data[at..end]);
    ip::Header { ttl: ip::TTL, src: header.dst, dst: header.src, ..header }.write(&mut data[L2_LEN..]);
    turn_link(data);
    true
}

/// Turns a packet into an ICMP error about it, sent by `from`. Answers false, and changes nothing, where the frame has no
/// room.
pub(super) fn error<F: Frame>(frame: &mut F, from: Ipv4Addr, answer: Answer) -> bool {
    let (kind, code, mtu) = match answer {
        Answer::Error(kind, code) => (kind, code, 0),
        Answer::TooBig(mtu) => (icmp::UNREACHABLE, icmp::CODE_FRAGMENTATION_NEEDED, mtu),
        Answer::Reset | Answer::Silence => return false,
    };
    let Ok(about) = ip::Header::read_quoted(frame.data().get(L2_LEN..).unwrap_or_default()) else {
        return false;
    };
    let quote = L2_LEN + ip::MIN_LEN + icmp::LEN;
    let quoted = (frame.data().len() - L2_LEN).min(about.total_len).min(ERROR_LEN - ip::MIN_LEN - icmp::LEN);
    let len = quote + quoted;
    let grown = len.max(frame.data().len());
    if !frame.resize(grown) {
        return false;
    }
    frame.data_mut().copy_within(L2_LEN..L2_LEN + quoted, quote);
    frame.resize(len);
    frame.set_checksum(Checksum::Unchecked);
    let data = frame.data_mut();
    let [a, b] = mtu.to_be_bytes();
    icmp::Header { kind, code, rest: [0, 0, a, b] }.write(&mut data[L2_LEN + ip::MIN_LEN..]);
    let header = ip::Header { fragment: 0, ..ip::Header::new(1, from, about.src, len - L2_LEN) };
    header.write(&mut data[L2_LEN..]);
    turn_link(data);
    true
}

/// Turns a TCP segment into the reset that answers it (RFC 9293 section 3.10.7.1); false for a reset, which gets none.
pub(super) fn reset<F: Frame>(frame: &mut F) -> bool {
    let Ok(about) = ip::Header::read(frame.data().get(L2_LEN..).unwrap_or_default()) else { return false };
    let bytes = &frame.data()[L2_LEN + about.header_len..L2_LEN + about.total_len];
    let Some(fixed) = bytes.get(..tcp::MIN_LEN) else { return false };
    let flags = Flags(fixed[13]);
    if flags.has(Flags::RST) {
        return false;
    }
    let word = |at: usize| u16::from_be_bytes([fixed[at], fixed[at + 1]]);
    let number = |at: usize| seq_at(fixed, at).unwrap_or_default();
    let payload = bytes.len().saturating_sub(usize::from(fixed[12] >> 4) * 4);
    let len = payload as u32 + u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
    let (seq, ack, out) = if flags.has(Flags::ACK) {
        (number(tcp::ACK_AT), Seq(0), Flags::RST)
    } else {
        (Seq(0), number(tcp::SEQ_AT) + len, Flags::RST.with(Flags::ACK))
    };
    let header =
        tcp::Header { src_port: word(2), dst_port: word(0), seq, ack, flags: out, ..tcp::Header::default() };
    segment(frame, &header)
}

/// Turns a TCP segment into one that goes back, without text. Answers false, and changes nothing, where the frame has no
/// room.
pub(super) fn segment<F: Frame>(frame: &mut F, header: &tcp::Header) -> bool {
    let Ok(about) = ip::Header::read_quoted(frame.data().get(L2_LEN..).unwrap_or_default()) else {
        return false;
    };
    let total_len = ip::MIN_LEN + header.len();
    if !frame.resize(L2_LEN + total_len) {
        return false;
    }
    frame.set_checksum(Checksum::Unchecked);
    let data = frame.data_mut();
    let (src, dst) = (about.dst, about.src);
    header.write(&mut data[L2_LEN + ip::MIN_LEN..], src, dst);
    let header = ip::Header::new(6, src, dst, total_len);
    header.write(&mut data[L2_LEN..]);
    turn_link(data);
    true
}

/// Makes `frame` an ARP message. Answers false where the frame has no room.
pub(super) fn arp<F: Frame>(frame: &mut F, to: Mac, message: arp::Message) -> bool {
    if !frame.resize(MIN_FRAME) {
        return false;
    }
    let data = frame.data_mut();
    ethernet::Header { dst: to, src: message.sender_mac, ether_type: ethernet::TYPE_ARP }.write(data);
    message.write(&mut data[L2_LEN..]);
    data[L2_LEN + arp::LEN..].fill(0);
    true
}

/// Sends a frame back to the station that it came from.
fn turn_link(data: &mut [u8]) {
    let (dst, rest) = data.split_at_mut(6);
    dst.swap_with_slice(&mut rest[..6]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_rate_and_not_more() {
        let mut now = Instant::from_secs(5);
        let mut bucket = Bucket::new(100, now);
        assert_eq!((0..200).filter(|_| bucket.take(now)).count(), 100);
        for pause in [1, 7, 13] {
            let mut taken = 0;
            for _ in 0..2000 / pause {
                now += Duration::from_millis(pause);
                taken += (0..5).filter(|_| bucket.take(now)).count();
            }
            assert!((195..=205).contains(&taken), "{taken} with pauses of {pause} ms");
        }
    }
}
