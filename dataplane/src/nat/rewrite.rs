//! Rewriting a packet's addresses and ports in place, checksums by their change (RFC 3022 section 4.2, RFC 1624).
//!
//! Runs on: worker. Allocates: never. Blocks: never.

use pnat_shared::flow::Protocol;
use pnat_shared::wire::checksum::Delta;
use pnat_shared::wire::{ip, tcp, udp};

use super::tuple::{Tuple, WIRE};

/// What going from one tuple to another does to the checksums of the packets that carry it.
#[derive(Copy, Clone, Debug, Default)]
pub struct Change {
    /// Of the IP header.
    ip: Delta,
    /// Of the transport.
    transport: Delta,
}

impl Change {
    pub fn between(old: &Tuple, new: &Tuple) -> Self {
        let ip = Delta::NONE.addr(*old.src().ip(), *new.src().ip()).addr(*old.dst().ip(), *new.dst().ip());
        let ports =
            Delta::NONE.word(old.src().port(), new.src().port()).word(old.dst().port(), new.dst().port());
        // ICMP has no pseudo-header.
        let transport = if old.protocol() == Protocol::Icmp { ports } else { ip.and(ports) };
        Self { ip, transport }
    }

    /// The change of packets that go the other way.
    #[inline]
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { ip: self.ip.reversed(), transport: self.transport.reversed() }
    }
}

/// Gives `packet` (from its IP header on, without options, its transport header complete) the tuple `to`.
#[inline]
pub fn translate(packet: &mut [u8], to: &Tuple, change: Change) {
    apply(packet, 10, change.ip);
    translate_quoted(packet, ip::MIN_LEN, to, change);
}

/// As [`translate`], for a TCP or UDP packet whose checksum a device completes: the sum that stands in its place is of the
/// addresses alone.
pub fn translate_partial(packet: &mut [u8], to: &Tuple, change: Change) {
    let at = ip::MIN_LEN
        + match to.protocol() {
            Protocol::Tcp => tcp::CHECKSUM_AT,
            Protocol::Udp => udp::CHECKSUM_AT,
            Protocol::Icmp => return translate(packet, to, change),
        };
    apply(packet, 10, change.ip);
    write(packet, ip::MIN_LEN, to);
    let sum = change.ip.apply_to_sum(u16::from_be_bytes([packet[at], packet[at + 1]]));
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// As [`translate`], for a packet that may be cut behind the first eight bytes of its transport header, as ICMP errors
/// quote them; leaves the IP header's checksum alone.
pub(super) fn translate_quoted(packet: &mut [u8], transport: usize, to: &Tuple, change: Change) {
    match to.protocol() {
        Protocol::Icmp => {
            packet[12..20].copy_from_slice(&to.wire()[..8]);
            let identifier = to.src().port() | to.dst().port();
            packet[transport + 4..transport + 6].copy_from_slice(&identifier.to_be_bytes());
            apply(packet, transport + 2, change.transport);
        }
        Protocol::Tcp => {
            write(packet, transport, to);
            if packet.len() >= transport + tcp::CHECKSUM_AT + 2 {
                apply(packet, transport + tcp::CHECKSUM_AT, change.transport);
            }
        }
        Protocol::Udp => {
            write(packet, transport, to);
            let at = transport + udp::CHECKSUM_AT;
            if packet[at..at + 2] != [0, 0] {
                apply(packet, at, change.transport);
                // A sum that comes out as zero is sent as all ones: zero means "none computed" (RFC 768).
                if packet[at..at + 2] == [0, 0] {
                    packet[at..at + 2].copy_from_slice(&[0xff, 0xff]);
                }
            }
        }
    }
}

#[inline]
fn write(packet: &mut [u8], transport: usize, to: &Tuple) {
    if transport == ip::MIN_LEN {
        packet[WIRE].copy_from_slice(to.wire());
    } else {
        packet[12..20].copy_from_slice(&to.wire()[..8]);
        packet[transport..transport + 4].copy_from_slice(&to.wire()[8..]);
    }
}

#[inline]
pub(super) fn apply(packet: &mut [u8], at: usize, delta: Delta) {
    let checksum = delta.apply(u16::from_be_bytes([packet[at], packet[at + 1]]));
    packet[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The IP header's part of a change, for headers whose transport is rewritten on its own.
pub(super) fn apply_ip(packet: &mut [u8], change: Change) {
    apply(packet, 10, change.ip);
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::{Ipv4Addr, SocketAddrV4};
    use pnat_shared::wire::checksum::Sum;
    use pnat_shared::wire::icmp;
    use proptest::prelude::*;

    fn end() -> impl Strategy<Value = SocketAddrV4> {
        (any::<u32>(), any::<u16>()).prop_map(|(addr, port)| SocketAddrV4::new(addr.into(), port))
    }

    /// A packet of `tuple` with right checksums.
    fn packet(tuple: &Tuple, payload: &[u8]) -> Vec<u8> {
        let (src, dst) = (tuple.src(), tuple.dst());
        let mut body = match tuple.protocol() {
            Protocol::Tcp => vec![0; tcp::MIN_LEN],
            Protocol::Udp => vec![0; udp::LEN],
            Protocol::Icmp => vec![0; icmp::LEN],
        };
        body.extend(payload);
        match tuple.protocol() {
            Protocol::Tcp => {
                let header =
                    tcp::Header { src_port: src.port(), dst_port: dst.port(), ..tcp::Header::default() };
                header.write(&mut body, *src.ip(), *dst.ip());
            }
            Protocol::Udp => udp::write(&mut body, (*src.ip(), src.port()), (*dst.ip(), dst.port())),
            Protocol::Icmp => {
                let [a, b] = src.port().to_be_bytes();
                icmp::Header { kind: icmp::ECHO, code: 0, rest: [a, b, 0, 1] }.write(&mut body);
            }
        }
        let header = ip::Header {
            header_len: ip::MIN_LEN,
            total_len: ip::MIN_LEN + body.len(),
            tos: 0,
            id: 9,
            fragment: 0,
            ttl: 64,
            protocol: tuple.protocol() as u8,
            src: *src.ip(),
            dst: *dst.ip(),
        };
        let mut packet = vec![0; ip::MIN_LEN];
        header.write(&mut packet);
        packet.extend(body);
        packet
    }

    proptest! {
        #[test]
        fn a_translated_packet_that_a_device_completes_holds_the_sum_of_its_new_addresses(
            a in end(), b in end(), c in end(), d in end(), is_tcp: bool,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let (protocol, at) = if is_tcp { (Protocol::Tcp, 36) } else { (Protocol::Udp, 26) };
            let (old, new) = (Tuple::new(protocol, a, b), Tuple::new(protocol, c, d));
            let partial = |tuple: &Tuple| {
                let mut packet = packet(tuple, &payload);
                let len = packet.len() - ip::MIN_LEN;
                let sum = Sum::pseudo(*tuple.src().ip(), *tuple.dst().ip(), protocol as u8, len).folded();
                packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
                packet
            };
            let mut translated = partial(&old);
            translate_partial(&mut translated, &new, Change::between(&old, &new));
            prop_assert_eq!(&translated, &partial(&new));
        }

        #[test]
        fn a_translated_packet_is_the_packet_written_anew(
            a in end(), b in end(), c in end(), d in end(), kind in 0usize..3,
            payload in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let protocol = [Protocol::Tcp, Protocol::Udp, Protocol::Icmp][kind];
            // A query has one identifier, on the asker's side.
            let end = |e: SocketAddrV4| if kind == 2 { SocketAddrV4::new(*e.ip(), 0) } else { e };
            let (old, new) = (Tuple::new(protocol, a, end(b)), Tuple::new(protocol, c, end(d)));
            let change = Change::between(&old, &new);
            let mut translated = packet(&old, &payload);
            translate(&mut translated, &new, change);
            prop_assert_eq!(&translated, &packet(&new, &payload));
            translate(&mut translated, &old, change.reversed());
            prop_assert_eq!(&translated, &packet(&old, &payload));
        }
    }

    #[test]
    fn a_datagram_whose_checksum_comes_out_as_zero_says_all_ones() {
        let at = |port| {
            Tuple::new(
                Protocol::Udp,
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), port),
                SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 53),
            )
        };
        let zero = (0..=u16::MAX).find(|port| packet(&at(*port), &[])[26..28] == [0xff, 0xff]).unwrap();
        let mut translated = packet(&at(zero.wrapping_add(1)), &[]);
        let change = Change::between(&at(zero.wrapping_add(1)), &at(zero));
        translate(&mut translated, &at(zero), change);
        assert_eq!(translated[26..28], [0xff, 0xff]);
    }
}
