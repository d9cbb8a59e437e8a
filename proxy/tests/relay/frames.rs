//! Frames that are counted: whatever was taken from a pool must come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use pnat_shared::frame::{Checksum, Frame, FramePool};
use pnat_shared::testkit::VecFrame;

/// A frame that counts itself among the living.
#[derive(Debug)]
pub(crate) struct CountedFrame {
    frame: VecFrame,
    living: Arc<AtomicUsize>,
}

impl CountedFrame {
    fn new(frame: VecFrame, living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Ordering::Relaxed);
        Self { frame, living: Arc::clone(living) }
    }
}

impl Clone for CountedFrame {
    fn clone(&self) -> Self {
        Self::new(self.frame.clone(), &self.living)
    }
}

impl Drop for CountedFrame {
    fn drop(&mut self) {
        self.living.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Frame for CountedFrame {
    fn data(&self) -> &[u8] {
        self.frame.data()
    }

    fn data_mut(&mut self) -> &mut [u8] {
        self.frame.data_mut()
    }

    fn capacity(&self) -> usize {
        self.frame.capacity()
    }

    fn resize(&mut self, len: usize) -> bool {
        self.frame.resize(len)
    }

    fn checksum(&self) -> Checksum {
        self.frame.checksum()
    }

    fn set_checksum(&mut self, checksum: Checksum) {
        self.frame.set_checksum(checksum);
    }
}

/// A pool that hands out frames while fewer than `most` live.
#[derive(Debug)]
pub(crate) struct CountingPool {
    pub(crate) most: usize,
    pub(crate) living: Arc<AtomicUsize>,
    /// How often it was dry.
    pub(crate) dry: usize,
}

impl CountingPool {
    pub(crate) fn new(most: usize) -> Self {
        Self { most, living: Arc::default(), dry: 0 }
    }

    pub(crate) fn living(&self) -> usize {
        self.living.load(Ordering::Relaxed)
    }
}

impl FramePool<CountedFrame> for CountingPool {
    fn alloc(&mut self) -> Option<CountedFrame> {
        if self.living() >= self.most {
            self.dry += 1;
            return None;
        }
        Some(CountedFrame::new(VecFrame::empty(), &self.living))
    }
}
