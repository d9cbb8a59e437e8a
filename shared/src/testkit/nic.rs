//! What a NIC does about checksums, in software: for tests of what is left to it.

use super::VecFrame;
use crate::frame::{Checksum, Frame, L2_LEN};
use crate::wire::checksum::Sum;
use crate::wire::tcp::{self, Flags};
use crate::wire::{ip, udp};

const TCP: u8 = 6;
const UDP: u8 = 17;

const TCP_AT: usize = L2_LEN + ip::MIN_LEN;

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

/// What a frame that is sent looks like on the wire, after what is left to the NIC: cut into segments, checksums completed.
///
/// # Panics
/// Where the frame is not as [`Frame::cut_into`] and [`Checksum::Partial`] promise: a real NIC would send garbage.
pub fn send(mut frame: VecFrame) -> Vec<VecFrame> {
    match frame.extent() {
        _ if frame.checksum() != Checksum::Partial => vec![frame],
        (_, None) => {
            complete(&mut frame);
            vec![frame]
        }
        (_, Some(size)) => cut(&frame, size.into()),
    }
}

/// Cuts a large segment; CWR stays on the first piece, FIN and PSH on the last one.
fn cut(frame: &VecFrame, size: usize) -> Vec<VecFrame> {
    let whole = frame.whole();
    let (header, _) = read(&whole).expect("a packet of TCP");
    assert_eq!((header.protocol, whole.len()), (TCP, L2_LEN + header.total_len));
    let (segment, len) = tcp::Header::read(&whole[TCP_AT..]).expect("a whole header");
    assert_eq!(frame.data().len(), TCP_AT + len + size, "the first segment's text");
    let pieces = whole[TCP_AT + len..].chunks(size);
    let last = pieces.len() - 1;
    let piece = |(index, text): (usize, &[u8])| {
        let mut flags = segment.flags.0;
        flags &= if index > 0 { !Flags::CWR.0 } else { 0xff };
        flags &= if index < last { !(Flags::FIN.0 | Flags::PSH.0) } else { 0xff };
        let mut bytes = [&whole[..TCP_AT + len], text].concat();
        let total_len = ip::MIN_LEN + len + text.len();
        ip::Header { total_len, ..header }.write(&mut bytes[L2_LEN..]);
        let seq = segment.seq + (index * size) as u32;
        tcp::Header { seq, flags: Flags(flags), ..segment }.write(
            &mut bytes[TCP_AT..],
            header.src,
            header.dst,
        );
        VecFrame::new(&bytes)
    };
    pieces.enumerate().map(piece).collect()
}

fn complete(frame: &mut VecFrame) {
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
    let is_whole =
        header.header_len == ip::MIN_LEN && !header.is_fragment() && header.total_len >= ip::MIN_LEN + len;
    is_whole.then_some((header, at))
}
