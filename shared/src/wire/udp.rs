//! UDP headers (RFC 768).

use core::net::Ipv4Addr;

use super::be16;
use super::checksum::Sum;
use crate::verdict::DropReason;

/// Bytes of a UDP header.
pub const LEN: usize = 8;
/// Where the checksum stands in the header.
pub const CHECKSUM_AT: usize = 6;

/// A UDP header's fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub src_port: u16,
    pub dst_port: u16,
    /// Bytes of header and payload, at most what the packet holds.
    pub len: usize,
    /// Zero: the sender computed none (RFC 768, RFC 1122 section 4.1.3.4).
    pub checksum: u16,
}

impl Header {
    /// Reads an IP packet's payload.
    #[inline]
    pub fn read(bytes: &[u8]) -> Result<Self, DropReason> {
        if bytes.len() < LEN {
            return Err(DropReason::Truncated);
        }
        let len = usize::from(be16(bytes, 4));
        if len < LEN || len > bytes.len() {
            return Err(DropReason::Truncated);
        }
        Ok(Self {
            src_port: be16(bytes, 0),
            dst_port: be16(bytes, 2),
            len,
            checksum: be16(bytes, CHECKSUM_AT),
        })
    }

    /// Whether the checksum is right or absent; `bytes` as given to [`Header::read`].
    pub fn is_intact(&self, bytes: &[u8], src: Ipv4Addr, dst: Ipv4Addr) -> bool {
        self.checksum == 0 || Sum::pseudo(src, dst, 17, self.len).bytes(&bytes[..self.len]).is_valid()
    }
}

/// Writes a header in front of a payload that already stands in `bytes`, checksum included.
#[inline]
pub fn write(bytes: &mut [u8], src: (Ipv4Addr, u16), dst: (Ipv4Addr, u16)) {
    let len = bytes.len();
    bytes[0..2].copy_from_slice(&src.1.to_be_bytes());
    bytes[2..4].copy_from_slice(&dst.1.to_be_bytes());
    bytes[4..6].copy_from_slice(&(len as u16).to_be_bytes());
    bytes[6..8].copy_from_slice(&[0, 0]);
    // An all-zero result is sent as all ones: zero means "none computed".
    let checksum = match Sum::pseudo(src.0, dst.0, 17, len).bytes(bytes).finish() {
        0 => 0xffff,
        checksum => checksum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
}
