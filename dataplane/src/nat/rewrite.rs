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
