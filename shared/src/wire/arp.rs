//! ARP for IPv4 over Ethernet (RFC 826).

use core::net::Ipv4Addr;

use super::be16;
use super::ethernet::Mac;
use crate::verdict::DropReason;

/// Bytes of an ARP message.
pub const LEN: usize = 28;

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    Request,
    Reply,
}

/// An ARP message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub operation: Operation,
    pub sender_mac: Mac,
    pub sender: Ipv4Addr,
    pub target_mac: Mac,
    pub target: Ipv4Addr,
}

impl Message {
    /// Reads what follows the Ethernet header.
    pub fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        let bytes: &[u8; LEN] = bytes.first_chunk().ok_or(DropReason::Truncated)?;
        // Ethernet (1), IPv4 (0x0800), address lengths 6 and 4.
        if bytes[..6] != [0, 1, 8, 0, 6, 4] {
            return Err(DropReason::ArpStranger);
        }
        let operation = match be16(bytes, 6) {
            1 => Operation::Request,
            2 => Operation::Reply,
            _ => return Err(DropReason::ArpStranger),
        };
        let mac = |at: usize| {
            Mac([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3], bytes[at + 4], bytes[at + 5]])
        };
        let ip = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
        Ok(Self { operation, sender_mac: mac(8), sender: ip(14), target_mac: mac(18), target: ip(24) })
    }

    /// Writes to what follows the Ethernet header: [`LEN`] bytes.
    pub fn write(self, bytes: &mut [u8]) {
        let operation: u8 = match self.operation {
            Operation::Request => 1,
            Operation::Reply => 2,
        };
        bytes[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, operation]);
        bytes[8..14].copy_from_slice(&self.sender_mac.0);
        bytes[14..18].copy_from_slice(&self.sender.octets());
        bytes[18..24].copy_from_slice(&self.target_mac.0);
        bytes[24..28].copy_from_slice(&self.target.octets());
    }
}
