//! What a NIC does about checksums, in software: for tests of what is left to it.

use super::VecFrame;
use crate::frame::{Checksum, Frame, L2_LEN};
use crate::wire::checksum::Sum;
use crate::wire::{ip, tcp, udp};

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Looks at a received frame's TCP or UDP checksum, and says what it has found.
pub fn verify(frame: &mut VecFrame) {
    let found = read(frame.data()).map(|(header, at)| {
        let body = &frame.data()[L2_LEN + ip::MIN_LEN..L2_LEN + header.total_len];
        let is_absent = header.protocol == UDP && body[at..at + 2] == [0, 0];
        let sum = Sum::pseudo(header.src, header.dst, header.protocol, body.len()).bytes(body);
        match (is_absent, sum.is_valid()) {
            (true, _) => Checksum::Unchecked,
            (false, true) => Checksum::Good,
            (false, false) => Checksum::Bad,
        }
    });
    frame.set_checksum(found.unwrap_or_default());
}

/// Completes the checksum of a frame that is sent, where it is left to the NIC.
///
/// # Panics
/// Where the frame is not as [`Checksum::Partial`] promises: a real NIC would send garbage.
pub fn complete(frame: &mut VecFrame) {
    if frame.checksum() != Checksum::Partial {
        return;
    }
    let (header, at) = read(frame.data()).expect("a packet of TCP or UDP");
    let body = &mut frame.data_mut()[L2_LEN + ip::MIN_LEN..L2_LEN + header.total_len];
    let pseudo = Sum::pseudo(header.src, header.dst, header.protocol, body.len());
    assert_eq!(body[at..at + 2], pseudo.folded().to_be_bytes(), "the sum of the pseudo-header");
    let checksum = match Sum::ZERO.bytes(body).finish() {
        0 => 0xffff,
        checksum => checksum,
    };
    body[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    frame.set_checksum(Checksum::Unchecked);
}

/// The IP header of a packet with a TCP or UDP header, and where in the latter the checksum stands.
fn read(frame: &[u8]) -> Option<(ip::Header, usize)> {
    let header = ip::Header::read(frame.get(L2_LEN..)?).ok()?;
    let (at, len) = match header.protocol {
        TCP => (tcp::CHECKSUM_AT, tcp::MIN_LEN),
        UDP => (udp::CHECKSUM_AT, udp::LEN),
        _ => return None,
    };
    let is_whole = header.header_len == ip::MIN_LEN
        && !header.is_fragment()
        && header.total_len >= ip::MIN_LEN + len
        && frame[12..14] == crate::wire::ethernet::TYPE_IPV4.to_be_bytes();
    is_whole.then_some((header, at))
}
