//! A chunk: a run of stream bytes on its way through a pair, usually still in the frame that brought it.
//!
//! Runs on: proxy cores. Allocates: never for frames. Blocks: never.
//!
//! A received frame is handed on as a chunk, through the chain and into the other socket's send queue, without a copy;
//! its payload is copied once, into the frame that is sent. Only what a filter writes lives on the heap, and what a load generator
//! sends is constant.

use core::ops::Range;

use bytes::Bytes;
use pnat_shared::frame::Frame;

/// Bytes that a heap chunk has room for when small chunks are gathered in it: about a frame's worth.
const GATHER: usize = 2048;

/// Where a chunk's bytes are.
#[derive(Debug)]
enum Store<F> {
    Frame(F),
    Heap(Vec<u8>),
    /// Constants of the program.
    Static(&'static [u8]),
    /// What others hold, too.
    Shared(Bytes),
}

/// Bytes `start..end` of what it holds. Never empty inside a queue.
#[derive(Debug)]
pub struct Chunk<F> {
    store: Store<F>,
    start: u32,
    end: u32,
    /// The Internet checksum's sum of these very bytes, where the segment that brought them told it.
    sum: Option<u16>,
}

/// Places in a chunk take four bytes, so that queues of chunks are short: no frame and no queue comes near the limit.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

impl<F: Frame> Chunk<F> {
    /// The bytes `start..end` of a frame, counted from its first byte; cut to what the frame holds.
    pub fn from_frame(frame: F, start: usize, end: usize) -> Self {
        let end = end.min(frame.data().len());
        Self { store: Store::Frame(frame), start: place(start.min(end)), end: place(end), sum: None }
    }

    /// The same, whose bytes have this sum, where it is known.
    #[must_use]
    pub fn with_sum(self, sum: Option<u16>) -> Self {
        Self { sum, ..self }
    }

    pub fn from_vec(bytes: Vec<u8>) -> Self {
        let end = place(bytes.len());
        Self { store: Store::Heap(bytes), start: 0, end, sum: None }
    }

    /// Bytes that others may hold, too: they are not copied, however often they are sent.
    pub fn from_shared(bytes: Bytes) -> Self {
        let end = place(bytes.len());
        Self { store: Store::Shared(bytes), start: 0, end, sum: None }
    }

    /// Bytes that are nobody's: they cost no memory, however many wait.
    pub fn from_static(bytes: &'static [u8]) -> Self {
        Self { store: Store::Static(bytes), start: 0, end: place(bytes.len()), sum: None }
    }

    #[inline]
    pub fn bytes(&self) -> &[u8] {
        let all = match &self.store {
            Store::Frame(frame) => frame.data(),
            Store::Heap(bytes) => bytes,
            Store::Static(bytes) => bytes,
            Store::Shared(bytes) => bytes,
        };
        &all[self.start as usize..self.end as usize]
    }

    /// The sum of [`Chunk::bytes`] for an Internet checksum, where it is known.
    #[inline]
    pub const fn sum(&self) -> Option<u16> {
        self.sum
    }

    #[inline]
    pub const fn len(&self) -> usize {
        (self.end - self.start) as usize
    }

    pub const fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Takes `count` bytes off the front; all of them where there are fewer.
    pub fn advance(&mut self, count: usize) {
        if count > 0 {
            self.start = self.start.saturating_add(place(count)).min(self.end);
            self.sum = None;
        }
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.end = self.start + place(len);
            self.sum = None;
        }
    }

    /// The frame that holds the bytes, and where in it they are; the chunk itself where no frame does.
    pub fn into_frame(self) -> Result<(F, Range<usize>), Self> {
        match self.store {
            Store::Frame(frame) => Ok((frame, self.start as usize..self.end as usize)),
            Store::Heap(_) | Store::Static(_) | Store::Shared(_) => Err(self),
        }
    }

    /// Puts `next` behind `last`: answers it back as the queue's next chunk, or nothing where its bytes went into `last`.
    ///
    /// A chunk that holds four times more memory than bytes would let a peer pin whole frames with single bytes, so where
    /// something waits before it, such a chunk is copied together with its like. A queue's memory is thus a small multiple
    /// of its bytes (eight at worst, when large and small chunks alternate).
    #[inline]
    pub fn gather(last: Option<&mut Self>, next: Self) -> Option<Self> {
        if next.is_empty() {
            return None;
        }
        let Some(last) = last else { return Some(next) };
        if next.is_dense() { Some(next) } else { Self::gather_small(last, &next) }
    }

    /// Whether [`Chunk::gather`] leaves the chunk alone, whatever waits before it: it has bytes, and holds little memory beside.
    #[inline]
    pub fn is_dense(&self) -> bool {
        self.footprint() < 4 * self.len()
    }

    fn gather_small(last: &mut Self, next: &Self) -> Option<Self> {
        if let Store::Heap(bytes) = &mut last.store
            && last.end as usize == bytes.len()
            && bytes.capacity() - bytes.len() >= next.len()
        {
            bytes.extend_from_slice(next.bytes());
            last.end = place(bytes.len());
            last.sum = None;
            return None;
        }
        let mut bytes = Vec::with_capacity(GATHER.max(next.len()));
        bytes.extend_from_slice(next.bytes());
        Some(Self::from_vec(bytes))
    }

    /// The same bytes outside of any frame: copied where one holds them, which is free for others then.
    pub fn out_of_frame(self) -> Self {
        match &self.store {
            Store::Frame(_) => Self { sum: self.sum, ..self.copy_from(0) },
            Store::Heap(_) | Store::Static(_) | Store::Shared(_) => self,
        }
    }

    /// A copy on the heap of the bytes from `start` on, with no memory to spare.
    pub fn copy_from(&self, start: usize) -> Self {
        Self::from_vec(self.bytes()[start.min(self.len())..].to_vec())
    }

    /// Memory that the chunk keeps from others, in bytes: a small segment still holds a whole frame.
    #[inline]
    pub fn footprint(&self) -> usize {
        match &self.store {
            Store::Frame(frame) => frame.capacity(),
            Store::Heap(bytes) => bytes.capacity(),
            Store::Static(_) => 0,
            Store::Shared(bytes) => bytes.len(),
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

    #[test]
    fn a_sum_is_known_as_long_as_the_chunk_is_whole() {
        let chunk = || Chunk::from_frame(VecFrame::new(b"payload"), 0, 7).with_sum(Some(9));
        let mut same = chunk();
        same.advance(0);
        same.truncate(7);
        assert_eq!((same.sum(), same.out_of_frame().sum()), (Some(9), Some(9)));
        let (mut later, mut shorter) = (chunk(), chunk());
        later.advance(1);
        shorter.truncate(6);
        assert_eq!((later.sum(), shorter.sum(), chunk().copy_from(1).sum()), (None, None, None));
    }

    #[test]
    fn constant_bytes_take_no_memory_and_are_never_copied() {
        let chunk = || Chunk::<VecFrame>::from_static(b"constant");
        let mut later = chunk();
        later.advance(3);
        assert_eq!((later.bytes(), later.footprint()), (&b"stant"[..], 0));
        let mut last = Chunk::from_vec(Vec::with_capacity(64));
        let kept = Chunk::gather(Some(&mut last), chunk()).expect("kept as it is");
        assert_eq!(kept.out_of_frame().bytes().as_ptr(), chunk().bytes().as_ptr());
        assert!(chunk().into_frame().is_err());
    }

    #[test]
    fn small_chunks_that_wait_are_gathered_and_large_ones_kept() {
        let small = || Chunk::from_frame(VecFrame::new(b"x"), 0, 1);
        let mut queue: Vec<Chunk<VecFrame>> = Vec::new();
        for _ in 0..5000 {
            if let Some(chunk) = Chunk::gather(queue.last_mut(), small()) {
                queue.push(chunk);
            }
        }
        let footprint: usize = queue.iter().map(Chunk::footprint).sum();
        assert_eq!(queue.iter().map(Chunk::len).sum::<usize>(), 5000);
        assert!(footprint <= 2048 + 3 * GATHER, "{footprint}");
        let large = Chunk::from_frame(VecFrame::new(&[7; 1448]), 0, 1448);
        assert!(
            Chunk::gather(queue.last_mut(), large).is_some_and(|kept| kept.footprint() == VecFrame::CAPACITY)
        );
    }
}
