//! Whole packets in frames: what hosts in benches send.

use std::net::SocketAddrV4;

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::wire::ethernet;
use pnat_shared::wire::tcp;
use pnat_shared::wire::{ip, udp};

use crate::frames::PoolFrame;

/// Payload of a full segment with timestamps, in bytes, where the MTU is 1500.
pub const SEGMENT: usize = 1448;

/// What fills every segment.
const TEXT: [u8; SEGMENT] = [b'p'; SEGMENT];

/// A UDP datagram of `payload` bytes.
pub fn datagram(link: ethernet::Header, src: SocketAddrV4, dst: SocketAddrV4, payload: usize) -> PoolFrame {
    let mut frame = packet(link, 17, src, dst, udp::LEN + payload);
    let bytes = &mut frame.data_mut()[L2_LEN + ip::MIN_LEN..];
    bytes[udp::LEN..].fill(0);
    udp::write(bytes, (*src.ip(), src.port()), (*dst.ip(), dst.port()));
    frame
}

/// A TCP segment with the first `payload` bytes of the text, at most [`SEGMENT`].
pub fn segment(
    link: ethernet::Header,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    header: &tcp::Header,
    payload: usize,
) -> PoolFrame {
    let mut frame = packet(link, 6, src, dst, header.len() + payload);
    let bytes = &mut frame.data_mut()[L2_LEN + ip::MIN_LEN..];
    bytes[header.len()..].copy_from_slice(&TEXT[..payload]);
    header.write(bytes, *src.ip(), *dst.ip());
    frame
}

fn packet(
    link: ethernet::Header,
    protocol: u8,
    src: SocketAddrV4,
    dst: SocketAddrV4,
    len: usize,
) -> PoolFrame {
    let mut frame = PoolFrame::take();
    let total_len = ip::MIN_LEN + len;
    assert!(frame.resize(L2_LEN + total_len), "packets in benches fit into a frame");
    let header = ip::Header::new(protocol, *src.ip(), *dst.ip(), total_len);
    link.write(frame.data_mut());
    header.write(&mut frame.data_mut()[L2_LEN..]);
    frame
}
