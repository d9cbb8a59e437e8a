//! Frames on the heap.

use crate::frame::{Checksum, Frame, FramePool};

/// A frame whose memory is a `Vec` with an mbuf's usual capacity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VecFrame {
    bytes: Vec<u8>,
    checksum: Checksum,
    /// Text of the segments that follow, and how much of it is in each, where the frame is to be cut.
    following: Vec<u8>,
    size: Option<u16>,
}

impl VecFrame {
    /// What a DPDK mbuf with the default data room holds.
    pub const CAPACITY: usize = 2048;

    pub fn empty() -> Self {
        Self {
            bytes: Vec::with_capacity(Self::CAPACITY),
            checksum: Checksum::Unchecked,
            following: Vec::new(),
            size: None,
        }
    }

    /// A frame that holds `bytes` (from the Ethernet header on).
    pub fn new(bytes: &[u8]) -> Self {
        let mut frame = Self::empty();
        frame.bytes.extend_from_slice(bytes);
        frame
    }

    /// All bytes, of segments that follow, too.
    pub(super) fn whole(&self) -> Vec<u8> {
        [self.bytes.as_slice(), &self.following].concat()
    }
}

impl Frame for VecFrame {
    fn data(&self) -> &[u8] {
        &self.bytes
    }

    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    fn capacity(&self) -> usize {
        Self::CAPACITY
    }

    fn resize(&mut self, len: usize) -> bool {
        if len > Self::CAPACITY {
            return false;
        }
        self.bytes.resize(len, 0);
        true
    }

    fn checksum(&self) -> Checksum {
        self.checksum
    }

    fn set_checksum(&mut self, checksum: Checksum) {
        self.checksum = checksum;
        if checksum != Checksum::Partial {
            (self.following, self.size) = (Vec::new(), None);
        }
    }

    fn cut_into(&mut self, size: u16, following: impl Iterator<Item = Self>) -> bool {
        self.size = Some(size);
        following.for_each(|frame| self.following.extend(frame.bytes));
        true
    }

    fn extent(&self) -> (usize, Option<u16>) {
        (self.bytes.len() + self.following.len(), self.size)
    }
}

/// A pool that makes at most `left` frames.
#[derive(Debug)]
pub struct VecPool {
    pub left: usize,
}

impl VecPool {
    pub fn endless() -> Self {
        Self { left: usize::MAX }
    }
}

impl FramePool<VecFrame> for VecPool {
    fn alloc(&mut self) -> Option<VecFrame> {
        self.left = self.left.checked_sub(1)?;
        Some(VecFrame::empty())
    }
}
