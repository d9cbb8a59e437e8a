//! ICMP messages (RFC 792).

use super::be16;
use super::checksum::Sum;
use crate::verdict::DropReason;

/// Bytes of an ICMP header; an error quotes the offending packet right behind it.
pub const LEN: usize = 8;

pub const ECHO_REPLY: u8 = 0;
pub const UNREACHABLE: u8 = 3;
pub const ECHO: u8 = 8;
pub const TIME_EXCEEDED: u8 = 11;
pub const PARAMETER_PROBLEM: u8 = 12;

/// Codes of [`UNREACHABLE`] (RFC 792, RFC 1812 section 5.2.7.1).
pub const CODE_HOST: u8 = 1;
pub const CODE_PORT: u8 = 3;
pub const CODE_FRAGMENTATION_NEEDED: u8 = 4;
pub const CODE_PROHIBITED: u8 = 13;

/// An ICMP header's fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub kind: u8,
    pub code: u8,
    /// Bytes 4 to 7: identifier and sequence number of a query, next-hop MTU in the low half of "fragmentation needed".
    pub rest: [u8; 4],
}

impl Header {
    /// Reads an IP packet's payload and checks its checksum.
    pub fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        if bytes.len() < LEN {
            return Err(DropReason::Truncated);
        }
        if !Sum::ZERO.bytes(bytes).is_valid() {
            return Err(DropReason::L4Checksum);
        }
        Ok(Self { kind: bytes[0], code: bytes[1], rest: [bytes[4], bytes[5], bytes[6], bytes[7]] })
    }

    /// Writes the header in front of a body that already stands in `bytes`, checksum included.
    pub fn write(self, bytes: &mut [u8]) {
        bytes[..4].copy_from_slice(&[self.kind, self.code, 0, 0]);
        bytes[4..8].copy_from_slice(&self.rest);
        let checksum = Sum::ZERO.bytes(bytes).finish();
        bytes[2..4].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Whether this is a request or its answer, with an identifier.
    pub const fn is_echo(&self) -> bool {
        matches!(self.kind, ECHO | ECHO_REPLY)
    }

    /// Whether this reports a problem with a packet that it quotes.
    pub const fn is_error(&self) -> bool {
        matches!(self.kind, UNREACHABLE | TIME_EXCEEDED | PARAMETER_PROBLEM)
    }

    /// A query's identifier.
    pub const fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.rest[0], self.rest[1]])
    }

    /// Whether it says that a packet was too long for the path.
    pub const fn asks_for_shorter(&self) -> bool {
        self.kind == UNREACHABLE && self.code == CODE_FRAGMENTATION_NEEDED
    }

    /// The next hop's MTU of "fragmentation needed" (RFC 1191).
    pub fn next_hop_mtu(&self) -> u16 {
        be16(&self.rest, 2)
    }
}
