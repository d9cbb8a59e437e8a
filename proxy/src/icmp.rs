//! ICMP errors that the proxy sends to an end of a flow: those that it mirrors, and its own.
//!
//! Runs on: proxy cores. Allocates: never beyond the pool. Blocks: never.
//!
//! An error quotes the head of a packet that the end sent, as that packet stood on the loopback; on the way out the worker
//! translates the quote back with the rest, so the end recognises its own packet.

use core::net::SocketAddrV4;

use pnat_shared::flow::Side;
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::loopback::socket;
use pnat_shared::wire::icmp::{self, Header};
use pnat_shared::wire::ip;

/// What an error must quote at least: an IP header and eight bytes (RFC 792), which hold the ports and, of TCP, the
/// sequence number.
const QUOTE: usize = ip::MIN_LEN + 8;

/// The head of a packet that came from an end of a flow.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Quote([u8; QUOTE]);

impl Quote {
    /// Of a frame that holds a whole TCP or UDP header.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        frame.get(L2_LEN..)?.first_chunk().copied().map(Self)
    }

    /// An error about the quoted packet, from the proxy's socket of `side` to the masked address; `mtu` is 0 except in
    /// "fragmentation needed". `None` where the pool has run dry.
    pub(crate) fn complain<F: Frame>(
        &self,
        pool: &mut impl FramePool<F>,
        side: Side,
        masked: SocketAddrV4,
        kind: u8,
        code: u8,
        mtu: u16,
    ) -> Option<F> {
        let total_len = ip::MIN_LEN + icmp::LEN + QUOTE;
        let mut frame = pool.alloc()?;
        if !frame.resize(L2_LEN + total_len) {
            return None;
        }
        let packet = &mut frame.data_mut()[L2_LEN..];
        packet[ip::MIN_LEN + icmp::LEN..].copy_from_slice(&self.0);
        let [high, low] = mtu.to_be_bytes();
        Header { kind, code, rest: [0, 0, high, low] }.write(&mut packet[ip::MIN_LEN..]);
        let header = ip::Header::new(1, *socket(side).ip(), *masked.ip(), total_len);
        header.write(packet);
        Some(frame)
    }
}

/// Whether it says that the destination cannot be had, in whatever way: during a handshake every such code answers the
/// attempt.
pub(crate) const fn is_refusal(error: &Header) -> bool {
    error.kind == icmp::UNREACHABLE && !error.asks_for_shorter()
}
