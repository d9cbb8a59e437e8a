//! Ethernet II headers.

use core::fmt;

use super::be16;
use crate::frame::L2_LEN;
use crate::verdict::DropReason;

/// A link address.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    pub const BROADCAST: Self = Self([0xff; 6]);

    /// Whether it names a group of stations, broadcast included.
    pub const fn is_group(self) -> bool {
        self.0[0] & 1 != 0
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

pub const TYPE_IPV4: u16 = 0x0800;
pub const TYPE_ARP: u16 = 0x0806;

/// An Ethernet header's fields.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Header {
    pub dst: Mac,
    pub src: Mac,
    pub ether_type: u16,
}

impl Header {
    #[inline]
    pub fn read(frame: &[u8]) -> Result<Self, DropReason> {
        let Some(header) = frame.first_chunk::<L2_LEN>() else { return Err(DropReason::Truncated) };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
        Ok(Self {
            dst: Mac([d0, d1, d2, d3, d4, d5]),
            src: Mac([s0, s1, s2, s3, s4, s5]),
            ether_type: be16(header, 12),
        })
    }

    #[inline]
    pub fn write(self, frame: &mut [u8]) {
        frame[..6].copy_from_slice(&self.dst.0);
        frame[6..12].copy_from_slice(&self.src.0);
        frame[12..14].copy_from_slice(&self.ether_type.to_be_bytes());
    }
}
