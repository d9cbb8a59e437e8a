//! The key of a flow: protocol, source and destination, laid out as they stand in a packet.

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::flow::Protocol;

/// Where source address, destination address, source port and destination port stand together in an IPv4 packet without
/// options.
pub(crate) const WIRE: core::ops::Range<usize> = 12..24;

/// Protocol, source and destination of a packet. An ICMP query's identifier is the port of the side that asked; the
/// other port is 0.
///
/// The first twelve bytes are those of the packet, so reading and writing one is a copy.
#[derive(Copy, Clone, PartialEq, Eq)]
#[repr(align(8))]
pub struct Tuple([u8; 16]);

impl Tuple {
    pub fn new(protocol: Protocol, src: SocketAddrV4, dst: SocketAddrV4) -> Self {
        let mut bytes = [0; 16];
        bytes[0..4].copy_from_slice(&src.ip().octets());
        bytes[4..8].copy_from_slice(&dst.ip().octets());
        bytes[8..10].copy_from_slice(&src.port().to_be_bytes());
        bytes[10..12].copy_from_slice(&dst.port().to_be_bytes());
        bytes[12] = protocol as u8;
        Self(bytes)
    }

    /// From a TCP or UDP packet without IP options that holds at least [`WIRE`].
    #[inline]
    pub(crate) fn read(protocol: Protocol, packet: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..12].copy_from_slice(&packet[WIRE]);
        bytes[12] = protocol as u8;
        Self(bytes)
    }

    /// Addresses and ports as they stand in a packet from offset 12.
    #[inline]
    pub(crate) fn wire(&self) -> &[u8] {
        &self.0[..12]
    }

    pub fn protocol(&self) -> Protocol {
        Protocol::from_number(self.0[12]).unwrap_or(Protocol::Icmp)
    }

    pub fn src(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.addr(0), self.word(8))
    }

    pub fn dst(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.addr(4), self.word(10))
    }

    /// The tuple of the packet that answers.
    #[inline]
    #[must_use]
    pub fn reversed(&self) -> Self {
        let mut bytes = self.0;
        bytes[0..4].copy_from_slice(&self.0[4..8]);
        bytes[4..8].copy_from_slice(&self.0[0..4]);
        bytes[8..10].copy_from_slice(&self.0[10..12]);
        bytes[10..12].copy_from_slice(&self.0[8..10]);
        Self(bytes)
    }

    #[inline]
    fn addr(&self, at: usize) -> Ipv4Addr {
        Ipv4Addr::new(self.0[at], self.0[at + 1], self.0[at + 2], self.0[at + 3])
    }

    #[inline]
    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.0[at], self.0[at + 1]])
    }
}

impl Hash for Tuple {
    #[inline]
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u128(u128::from_ne_bytes(self.0));
    }
}

impl fmt::Debug for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} > {}", self.protocol(), self.src(), self.dst())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tuple_reads_back_and_reverses() {
        let (a, b) =
            (SocketAddrV4::new([10, 1, 2, 3].into(), 4000), SocketAddrV4::new([9, 8, 7, 6].into(), 80));
        let tuple = Tuple::new(Protocol::Tcp, a, b);
        assert_eq!((tuple.protocol(), tuple.src(), tuple.dst()), (Protocol::Tcp, a, b));
        assert_eq!(tuple.reversed(), Tuple::new(Protocol::Tcp, b, a));
        let mut packet = [0; 24];
        packet[WIRE].copy_from_slice(tuple.wire());
        assert_eq!(Tuple::read(Protocol::Tcp, &packet), tuple);
    }
}
