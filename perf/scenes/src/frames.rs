//! Frames that are recycled as mbufs are: once enough have been made, taking and dropping one allocates nothing.
//!
//! Runs on: any thread; a frame goes to the free list of the thread that drops it. Allocates: while a thread's list is
//! empty. Blocks: never.

use std::cell::RefCell;

use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::testkit::VecFrame;

/// Frames that a thread's list has room for before it grows.
const LIST: usize = 1 << 16;

thread_local! {
    static FREE: RefCell<Vec<Box<[u8]>>> = RefCell::new(Vec::with_capacity(LIST));
}

/// A frame as large as an mbuf with the default data room.
#[derive(Debug)]
pub struct PoolFrame {
    /// Empty only while the frame is dropped.
    bytes: Box<[u8]>,
    len: usize,
}

impl PoolFrame {
    /// An empty frame, used before if any was. Its bytes are what its last user left.
    pub fn take() -> Self {
        let free = FREE.with_borrow_mut(Vec::pop);
        let bytes = free.unwrap_or_else(|| vec![0; VecFrame::CAPACITY].into_boxed_slice());
        Self { bytes, len: 0 }
    }
}

impl Drop for PoolFrame {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        // A frame that outlives its thread's list is simply freed.
        let _ = FREE.try_with(|free| free.borrow_mut().push(bytes));
    }
}

impl Frame for PoolFrame {
    #[inline]
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    #[inline]
    fn data_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.len]
    }

    #[inline]
    fn capacity(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn resize(&mut self, len: usize) -> bool {
        let fits = len <= self.bytes.len();
        if fits {
            self.len = len;
        }
        fits
    }
}

/// The thread's free list as a pool that never runs dry.
#[derive(Copy, Clone, Debug)]
pub struct Pool;

impl FramePool<PoolFrame> for Pool {
    #[inline]
    fn alloc(&mut self) -> Option<PoolFrame> {
        Some(PoolFrame::take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_taken_after_one_was_dropped_allocates_nothing() {
        drop(PoolFrame::take());
        let counted = allocation_counter::measure(|| {
            for _ in 0..100 {
                let mut frame = PoolFrame::take();
                assert!(frame.resize(1514) && !frame.resize(VecFrame::CAPACITY + 1));
                assert_eq!(frame.data().len(), 1514);
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
