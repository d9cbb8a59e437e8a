//! The loopback's addressing and messages: what crosses the rings between workers and proxy cores.
//!
//! Packets on the loopback are ordinary IPv4 packets. The proxy's end is a fixed address and port per side; the other
//! end is the masked address, which *is* the flow's [`Handle`]:
//!
//! ```text
//!   address  1111 wwww wwss ssss ssss ssss ssss ssss     240.0.0.0/4, w: worker (6 bits), s: slot (22 bits)
//!   port     gggg gggg gggg gggg                         g: generation
//! ```
//!
//! 240.0.0.0/4 is reserved (RFC 1112 section 4) and never routed, so a masked packet that leaked would die at the first
//! router. Worker to proxy: source is masked, destination is [`FIRST`] or [`SECOND`]. Proxy to worker: the reverse.

use core::net::{Ipv4Addr, SocketAddrV4};

use crate::flow::{Handle, LastWords, NewFlow, Side, WorkerId};
use crate::time::Instant;
use crate::verdict::CloseReason;

/// The proxy's first socket, as packets on the loopback name it.
pub const FIRST: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 1), 1);
/// The proxy's second socket.
pub const SECOND: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), 2);

/// The proxy's address for a side.
pub const fn socket(side: Side) -> SocketAddrV4 {
    match side {
        Side::First => FIRST,
        Side::Second => SECOND,
    }
}

/// Which of the proxy's sockets an address means.
pub fn side_of(addr: Ipv4Addr) -> Option<Side> {
    match addr {
        a if a == *FIRST.ip() => Some(Side::First),
        a if a == *SECOND.ip() => Some(Side::Second),
        _ => None,
    }
}

/// The masked address and port of a flow.
pub fn mask(handle: Handle) -> SocketAddrV4 {
    let bits = 0xf000_0000 | u32::from(handle.worker.0 & 0x3f) << 22 | handle.slot & 0x003f_ffff;
    SocketAddrV4::new(Ipv4Addr::from_bits(bits), handle.generation)
}

/// The handle in a masked address; `None` where the address is not a masked one.
pub fn unmask(addr: Ipv4Addr, port: u16) -> Option<Handle> {
    let bits = addr.to_bits();
    if bits >> 28 != 0xf {
        return None;
    }
    let worker = WorkerId(u8::try_from(bits >> 22 & 0x3f).expect("invariant: six bits"));
    Some(Handle { worker, slot: bits & 0x003f_ffff, generation: port })
}

/// What a worker puts into a proxy core's ring.
#[derive(Debug)]
pub enum ToProxy<F> {
    /// A flow's first packet, masked, and what is known of the flow. `at` is when it was put into the ring, as for all packets;
    /// only measurements depend on it.
    Open { frame: F, at: Instant, flow: Box<NewFlow> },
    /// A later packet of a flow, masked. ICMP errors come so too, their inner packet translated likewise.
    Packet { frame: F, at: Instant },
    /// The worker ended the flow (expiry, an operator's word, a reload): the pair is to close.
    Gone { handle: Handle, reason: CloseReason },
    /// The server that was chosen by [`FromProxy::Retarget`] sees this address and port in the client's place from now on, and
    /// not the one of [`NewFlow::public`], which another flow has there.
    Moved { handle: Handle, public: SocketAddrV4 },
}

/// What a proxy core puts into a worker's ring.
#[derive(Debug)]
pub enum FromProxy<F> {
    /// A packet from a socket of the proxy to a masked address. `at` is when it was handed on, [`Instant::FAR`] where that is
    /// still to be.
    Packet { frame: F, at: Instant },
    /// The pair has ended and will send nothing more: the binding may go, by its protocol's rules.
    Closed { handle: Handle, reason: CloseReason, last_words: Option<Box<LastWords>> },
    /// The second socket is about to ask this server, and has said to the one before what it had to say: from here on packets
    /// of the second socket are for this server, and nobody else's are for it. A server that cannot be had is told by an ICMP
    /// error in answer to the SYN. For TCP alone, and for clients that were accepted early.
    Retarget { handle: Handle, server: SocketAddrV4 },
    /// A client's SYN, masked as it came, for which a pair has made way that is over: it is to open its flow anew. The pair's
    /// [`FromProxy::Closed`] follows.
    Again { handle: Handle, frame: F },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_handle_survives_masking(worker in 0u8..64, slot in 0u32..1 << 22, generation: u16) {
            let handle = Handle { worker: WorkerId(worker), slot, generation };
            let masked = mask(handle);
            prop_assert_eq!(unmask(*masked.ip(), masked.port()), Some(handle));
        }
    }

    /// Every packet is such a message.
    #[test]
    fn what_is_told_of_a_flows_end_makes_no_message_larger() {
        assert_eq!(size_of::<FromProxy<Box<u8>>>(), 24);
    }

    #[test]
    fn an_ordinary_address_is_no_handle() {
        assert_eq!(unmask(Ipv4Addr::new(10, 0, 0, 1), 80), None);
    }
}
