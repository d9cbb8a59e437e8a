//! The send queue: chunks in order, from the first unacknowledged byte on.
//!
//! Runs on: proxy cores. Allocates: where no memory was lent or the queue outgrows it (`lent`), and to gather small chunks. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::wire::checksum::Sum;
use pnat_shared::wire::tcp::Seq;

use super::lent::{Lent, Spare};
use crate::chunk::Chunk;

#[derive(Debug)]
pub(super) struct Piece<F> {
    start: Seq,
    chunk: Chunk<F>,
}

/// The bytes `[base, end)`. A piece lies behind the other without gap, and none is empty.
#[derive(Debug)]
pub(super) struct SendQueue<F> {
    pieces: Lent<Piece<F>>,
    base: Seq,
    len: u32,
    /// Index of the piece in which, or with which, the next read begins if it goes on where the last one ended.
    hint: u32,
}

impl<F: Frame> SendQueue<F> {
    pub(super) const fn new(base: Seq) -> Self {
        Self { pieces: Lent::new(), base, len: 0, hint: 0 }
    }

    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    pub(super) fn chunks(&self) -> usize {
        self.pieces.len()
    }

    /// The sequence number behind the last byte.
    pub(super) fn end(&self) -> Seq {
        self.base + self.len
    }

    #[inline]
    pub(super) fn push(&mut self, chunk: Chunk<F>) {
        let start = self.end();
        self.len += chunk.len() as u32;
        if chunk.is_dense() {
            return self.pieces.push_back(Piece { start, chunk });
        }
        let behind = self.pieces.back_mut().map(|piece| &mut piece.chunk);
        if let Some(chunk) = Chunk::gather(behind, chunk) {
            self.pieces.push_back(Piece { start, chunk });
        }
    }

    /// Drops everything before `seq`, which lies within the queue.
    pub(super) fn release(&mut self, seq: Seq) {
        self.len -= seq.0.wrapping_sub(self.base.0);
        self.base = seq;
        if self.len == 0 {
            self.pieces.clear();
            self.hint = 0;
            return;
        }
        while let Some(front) = self.pieces.front_mut() {
            let gone = seq.0.wrapping_sub(front.start.0) as usize;
            if gone < front.chunk.len() {
                front.chunk.advance(gone);
                front.start = seq;
                return;
            }
            self.pieces.pop_front();
            self.hint = self.hint.saturating_sub(1);
        }
    }

    /// Copies the bytes from `seq` on into `out`, all of which lie within the queue; answers their sum. A chunk that is
    /// copied as it came need not be summed again; and where `needs_sum` is false, nothing is.
    #[inline]
    pub(super) fn copy(&mut self, seq: Seq, out: &mut [u8], needs_sum: bool) -> Option<Sum> {
        // As a rule one segment came as the chunk that leaves as the next one.
        if let Some(Piece { start, chunk }) = self.pieces.get(self.hint as usize)
            && *start == seq
            && chunk.len() == out.len()
            && let Some(sum) = chunk.sum()
        {
            out.copy_from_slice(chunk.bytes());
            self.hint += 1;
            return Some(Sum::ZERO.word(sum));
        }
        self.gather(seq, out, needs_sum)
    }

    /// Copies what lies in chunks otherwise than in segments. Apart, so that the usual copy is short.
    #[inline(never)]
    fn gather(&mut self, seq: Seq, out: &mut [u8], needs_sum: bool) -> Option<Sum> {
        let mut index = self.find(seq);
        let mut skip = self.pieces.get(index).map_or(0, |piece| seq.0.wrapping_sub(piece.start.0) as usize);
        let (mut sum, mut done) = (Sum::ZERO, 0);
        while done < out.len() {
            let Some(piece) = self.pieces.get(index) else { break };
            let bytes = &piece.chunk.bytes()[skip..];
            let count = bytes.len().min(out.len() - done);
            out[done..done + count].copy_from_slice(&bytes[..count]);
            if needs_sum {
                let known = piece.chunk.sum().filter(|_| count == piece.chunk.len());
                let part = known
                    .map_or_else(|| Sum::ZERO.bytes(&out[done..done + count]), |sum| Sum::ZERO.word(sum));
                sum = sum.and(if done.is_multiple_of(2) { part } else { part.odd() });
            }
            done += count;
            if count < bytes.len() {
                break;
            }
            index += 1;
            skip = 0;
        }
        self.hint = index as u32;
        needs_sum.then_some(sum)
    }

    /// Index of the piece that holds `seq`.
    fn find(&self, seq: Seq) -> usize {
        let holds = |index: usize| {
            self.pieces.get(index).is_some_and(|piece| {
                let offset = seq.distance(piece.start);
                offset >= 0 && (offset as usize) < piece.chunk.len()
            })
        };
        let hint = self.hint as usize;
        if holds(hint) {
            return hint;
        }
        self.pieces.partition_point(|piece| !piece.start.after(seq)).saturating_sub(1)
    }

    /// Memory held, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let chunks: usize = self.pieces.iter().map(|piece| piece.chunk.footprint()).sum();
        chunks + self.pieces.capacity() * size_of::<Piece<F>>()
    }

    pub(super) fn clear(&mut self) {
        self.pieces.clear();
        (self.len, self.hint) = (0, 0);
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.pieces.shrink();
    }

    /// Takes memory that another queue gave back, where it has none.
    #[inline]
    pub(super) fn take_place(&mut self, spare: &mut Spare<Piece<F>>) {
        self.pieces.take_place(spare);
    }

    /// Gives its memory back where it is empty. Answers as [`SendQueue::chunks`].
    #[inline]
    pub(super) fn give_back(&mut self, spare: &mut Spare<Piece<F>>) -> usize {
        self.pieces.give_back(spare)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::testkit::VecFrame;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_one_long_buffer(
            steps in prop::collection::vec((0u8..3, 1usize..3000, 0usize..3000), 1..60),
        ) {
            let base = Seq(u32::MAX - 2000);
            let mut queue = SendQueue::<VecFrame>::new(base);
            let mut all = Vec::new();
            let mut released = 0;
            for (kind, a, b) in steps {
                let held = all.len() - released;
                match kind {
                    0 => {
                        let bytes: Vec<u8> = (all.len()..all.len() + a).map(|n| (n % 251) as u8).collect();
                        all.extend_from_slice(&bytes);
                        let sum = Sum::ZERO.bytes(&bytes).folded();
                        queue.push(if a < 2000 { Chunk::from_frame(VecFrame::new(&bytes), 0, a).with_sum(Some(sum)) } else { Chunk::from_vec(bytes) });
                    }
                    1 => {
                        released += a.min(held);
                        queue.release(base + released as u32);
                    }
                    _ => {
                        let from = released + b.min(held);
                        let to = (from + a).min(all.len());
                        let mut out = vec![0; to - from];
                        let sum = queue.copy(base + from as u32, &mut out, a % 2 == 0);
                        prop_assert_eq!(&out, &all[from..to]);
                        prop_assert!(sum.is_some() || a % 2 == 1);
                        if let Some(sum) = sum {
                            prop_assert_eq!(sum.finish(), Sum::ZERO.bytes(&out).finish());
                        }
                    }
                }
                prop_assert_eq!(queue.len() as usize, all.len() - released);
                prop_assert_eq!(queue.end(), base + all.len() as u32);
            }
        }
    }
}
