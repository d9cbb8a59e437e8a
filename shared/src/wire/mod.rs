//! Packet formats: reading and writing headers in place.
//!
//! Runs on: worker and proxy cores. Allocates: never. Blocks: never.
//!
//! Readers take any bytes and answer a [`crate::verdict::DropReason`] where they are not what they should be; none
//! panics. Writers take a slice that the caller has sized and panic only where it is too short for the header written.

pub mod ethernet;
pub mod arp;
pub mod ip;
pub mod tcp;
pub mod udp;
pub mod icmp;
pub mod checksum;

/// Two bytes at `at`, network order.
#[inline]
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at `at`, network order.
#[inline]
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
