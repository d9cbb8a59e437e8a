//! ICMP errors: reading the packet that they quote, and translating both (RFC 5508 section 5, RFC 4787 REQ-12).
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! An error neither refreshes nor ends a flow (RFC 5508 REQ-6, RFC 5927).

use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::flow::Protocol;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::{icmp, ip};

use super::rewrite::{self, Change};
use super::tuple::Tuple;

/// Where the quoted packet begins, from the IP header of the error on (which has no options).
const QUOTE: usize = ip::MIN_LEN + icmp::LEN;
/// Bytes of transport header that must be quoted (RFC 792).
const QUOTED_TRANSPORT: usize = 8;

/// An ICMP error's quoted packet.
#[derive(Copy, Clone, Debug)]
pub struct Quote {
    /// Source and destination as the quoted packet has them.
    pub tuple: Tuple,
    /// Where its transport header begins, from its own IP header on.
    transport: usize,
}

impl Quote {
    /// Reads an error (from its IP header on). Its own checksum must be right; the quoted transport's checksum is not
    /// looked at, and quoted IP options are skipped (RFC 5508 REQ-3).
    pub fn read(packet: &[u8]) -> Result<Self, DropReason> {
        let body = packet.get(ip::MIN_LEN..).ok_or(DropReason::Truncated)?;
        if !icmp::Header::read(body)?.is_error() {
            return Err(DropReason::IcmpUnrelated);
        }
        Self::read_inner(&packet[QUOTE..])
    }

    fn read_inner(quoted: &[u8]) -> Result<Self, DropReason> {
        let header = ip::Header::read_quoted(quoted)?;
        // Later fragments quote no transport header.
        if header.fragment & 0x1fff != 0 {
            return Err(DropReason::Fragment);
        }
        let transport = header.header_len;
        let bytes = quoted.get(transport..transport + QUOTED_TRANSPORT).ok_or(DropReason::Truncated)?;
        let protocol = Protocol::from_number(header.protocol).ok_or(DropReason::Protocol)?;
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (src_port, dst_port) = match (protocol, bytes[0]) {
            (Protocol::Tcp | Protocol::Udp, _) => (word(0), word(2)),
            (Protocol::Icmp, icmp::ECHO) => (word(4), 0),
            (Protocol::Icmp, icmp::ECHO_REPLY) => (0, word(4)),
            // An error about an error would be a loop.
            (Protocol::Icmp, _) => return Err(DropReason::IcmpUnrelated),
        };
        let tuple = Tuple::new(
            protocol,
            SocketAddrV4::new(header.src, src_port),
            SocketAddrV4::new(header.dst, dst_port),
        );
        Ok(Self { tuple, transport })
    }

    /// Gives the error new addresses and its quoted packet the tuple `to`; all checksums follow.
    pub fn translate(&self, packet: &mut [u8], src: Ipv4Addr, dst: Ipv4Addr, to: &Tuple) {
        let quoted = &mut packet[QUOTE..];
        let change = Change::between(&self.tuple, to);
        rewrite::translate_quoted(quoted, self.transport, to, change);
        rewrite::apply_ip(quoted, change);
        // The quote may be cut anywhere and its checksums may be wrong: the outer one is computed anew.
        write_checksum(&mut packet[ip::MIN_LEN..]);
        ip::rewrite_addrs(packet, src, dst);
    }
}

fn write_checksum(body: &mut [u8]) {
    let header = icmp::Header { kind: body[0], code: body[1], rest: [body[4], body[5], body[6], body[7]] };
    header.write(body);
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::flow::WorkerId;
    use proptest::prelude::*;

    /// An error that quotes these bytes.
    fn error(quoted: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; QUOTE];
        packet.extend(quoted);
        icmp::Header { kind: icmp::UNREACHABLE, code: 1, rest: [0; 4] }.write(&mut packet[ip::MIN_LEN..]);
        let header = ip::Header {
            header_len: ip::MIN_LEN,
            total_len: packet.len(),
            tos: 0,
            id: 0,
            fragment: 0,
            ttl: 64,
            protocol: 1,
            src: Ipv4Addr::new(192, 0, 2, 1),
            dst: Ipv4Addr::new(198, 18, 0, 1),
        };
        header.write(&mut packet);
        packet
    }

    proptest! {
        #[test]
        fn whatever_is_quoted_the_error_stays_whole(
            mut quoted in prop::collection::vec(any::<u8>(), 0..80), words in 5u8..8, kind in 0usize..3, dst: u32
        ) {
            // Likely headers, so that most come through to be translated.
            if quoted.len() >= 20 {
                quoted[0] = 0x40 | words;
                quoted[2..4].copy_from_slice(&[0, 100]);
                quoted[6..8].fill(0);
                quoted[9] = [1, 6, 17][kind];
            }
            let mut packet = error(&quoted);
            let Ok(quote) = Quote::read(&packet) else { return Ok(()) };
            let masked = pnat_shared::loopback::mask(pnat_shared::flow::Handle {
                worker: WorkerId(1), slot: 77, generation: 5,
            });
            let end = |addr: SocketAddrV4, port| SocketAddrV4::new(*addr.ip(), if port == 0 { 0 } else { addr.port() });
            let (src, dst_end) = (quote.tuple.src(), SocketAddrV4::new(dst.into(), quote.tuple.dst().port()));
            let to = Tuple::new(quote.tuple.protocol(), end(masked, src.port()), dst_end);
            quote.translate(&mut packet, Ipv4Addr::new(1, 1, 1, 1), *masked.ip(), &to);
            prop_assert!(ip::Header::read(&packet).is_ok());
            prop_assert_eq!(Quote::read(&packet).map(|quote| quote.tuple), Ok(to));
        }
    }
}
