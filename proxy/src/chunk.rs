//! A chunk: a run of stream bytes on its way through a pair, usually still in the frame that brought it.
//!
//! Runs on: proxy cores. Allocates: never for frames. Blocks: never.
//!
//! A received frame is handed on as a chunk, through the chain and into the other socket's send queue, without a copy;
//! its payload is copied once, into the frame that is sent. Only what a filter writes lives on the heap.

use core::ops::Range;

use pnat_shared::frame::Frame;

/// Where a chunk's bytes are.
#[derive(Debug)]
enum Store<F> {
    Frame(F),
    Heap(Vec<u8>),
}

/// Bytes `start..end` of what it holds. Never empty inside a queue.
#[derive(Debug)]
pub struct Chunk<F> {
    store: Store<F>,
    start: usize,
    end: usize,
}

impl<F: Frame> Chunk<F> {
    /// The bytes `start..end` of a frame, counted from its first byte; cut to what the frame holds.
    pub fn from_frame(frame: F, start: usize, end: usize) -> Self {
        let end = end.min(frame.data().len());
        Self { store: Store::Frame(frame), start: start.min(end), end }
    }

    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let end = bytes.len();
        Self { store: Store::Heap(bytes), start: 0, end }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let all = match &self.store {
            Store::Frame(frame) => frame.data(),
            Store::Heap(bytes) => bytes,
        };
        &all[self.start..self.end]
    }

    pub const fn len(&self) -> usize {
        self.end - self.start
    }

    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `count` bytes off the front; all of them where there are fewer.
    pub fn advance(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }

    /// The frame that holds the bytes, and where in it they are; the chunk itself where they live on the heap.
    pub fn into_frame(self) -> Result<(F, Range<usize>), Self> {
        match self.store {
            Store::Frame(frame) => Ok((frame, self.start..self.end)),
            Store::Heap(_) => Err(self),
        }
    }

    /// Memory that the chunk keeps from others, in bytes: a small segment still holds a whole frame.
    pub fn footprint(&self) -> usize {
        match &self.store {
            Store::Frame(frame) => frame.capacity(),
            Store::Heap(bytes) => bytes.capacity(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::testkit::VecFrame;

    #[test]
    fn a_chunk_is_a_window_on_its_frame() {
        let mut chunk = Chunk::from_frame(VecFrame::new(b"headers:payload"), 8, 100);
        assert_eq!(chunk.bytes(), b"payload");
        chunk.advance(3);
        chunk.truncate(2);
        assert_eq!(chunk.bytes(), b"lo");
        chunk.advance(9);
        assert!(chunk.is_empty());
    }
}
