//! Segments that came out of order, until the gap before them is filled.
//!
//! Runs on: proxy cores. Allocates: when more is held than ever before, and for overlapping or very small segments.
//! Blocks: never.
//!
//! Bytes that came first win: what a later segment says about a byte that is here already is ignored, so filters and the
//! other socket see one truth whatever overlaps were sent to confuse them.

use std::collections::VecDeque;

use pnat_shared::frame::Frame;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{SackBlocks, Seq};

use super::ranges::Ranges;
use crate::chunk::Chunk;

#[derive(Debug)]
struct Piece<F> {
    start: Seq,
    chunk: Chunk<F>,
}

impl<F: Frame> Piece<F> {
    fn end(&self) -> Seq {
        self.start + self.chunk.len() as u32
    }
}

/// What came out of order. Most connections never see anything of the kind, and pay for a pointer.
#[derive(Debug)]
pub(super) struct Reassembly<F> {
    held: Option<Box<Held<F>>>,
}

impl<F: Frame> Reassembly<F> {
    pub(super) const fn new() -> Self {
        Self { held: None }
    }

    #[inline]
    pub(super) const fn has_memory(&self) -> bool {
        self.held.is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held.as_ref().is_none_or(|held| held.pieces.is_empty())
    }

    pub(super) fn pieces(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.pieces.len())
    }

    /// Behind the last byte held.
    pub(super) fn end(&self) -> Option<Seq> {
        self.held.as_ref()?.pieces.back().map(Piece::end)
    }

    /// Takes in what of `chunk` is not here yet, in at most `limit` pieces altogether.
    pub(super) fn insert(&mut self, seq: Seq, chunk: Chunk<F>, limit: usize) -> Result<(), DropReason> {
        self.held.get_or_insert_with(|| Box::new(Held::new())).insert(seq, chunk, limit)
    }

    /// The first piece, if it begins at or before `next`: what of it lies behind `next`, perhaps nothing.
    pub(super) fn pop(&mut self, next: Seq) -> Option<Chunk<F>> {
        self.held.as_mut()?.pop(next)
    }

    /// The blocks for the next ACK.
    pub(super) fn sack_blocks(&self) -> SackBlocks {
        self.held.as_ref().map_or_else(SackBlocks::default, |held| held.sack_blocks())
    }

    /// Memory held, in bytes.
    pub(super) fn footprint(&self) -> usize {
        self.held.as_ref().map_or(0, |held| size_of::<Held<F>>() + held.footprint())
    }

    pub(super) fn clear(&mut self) {
        self.held = None;
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        if self.is_empty() {
            self.held = None;
        } else if let Some(held) = &mut self.held {
            held.pieces.shrink_to_fit();
            held.runs.shrink();
        }
    }
}

/// Sorted, disjoint pieces, none of them empty, all beyond the next expected byte.
#[derive(Debug)]
struct Held<F> {
    pieces: VecDeque<Piece<F>>,
    /// What `pieces` cover.
    runs: Ranges,
    /// One place in each run that a SACK block is to name, most recently received first (RFC 2018 section 4).
    recent: [Option<Seq>; 4],
}

impl<F: Frame> Held<F> {
    fn new() -> Self {
        Self { pieces: VecDeque::new(), runs: Ranges::default(), recent: [None; 4] }
    }

    fn insert(&mut self, seq: Seq, chunk: Chunk<F>, limit: usize) -> Result<(), DropReason> {
        let mut rest = Some((seq, chunk));
        let mut index = match self.pieces.back() {
            Some(back) if back.end().after(seq) => {
                self.pieces.partition_point(|piece| !piece.end().after(seq))
            }
            _ => self.pieces.len(),
        };
        while let Some((start, mut chunk)) = rest.take() {
            let end = start + chunk.len() as u32;
            let next = self.pieces.get(index).map(|piece| (piece.start, piece.end()));
            let tail = match next {
                Some((left, right)) if !left.after(start) => {
                    chunk.advance(right.0.wrapping_sub(start.0) as usize);
                    if !chunk.is_empty() {
                        rest = Some((right, chunk));
                    }
                    index += 1;
                    continue;
                }
                Some((left, right)) if left.before(end) => {
                    let tail = chunk.copy_from(right.0.wrapping_sub(start.0) as usize);
                    chunk.truncate(left.0.wrapping_sub(start.0) as usize);
                    (!tail.is_empty()).then_some((right, tail))
                }
                _ => None,
            };
            if self.pieces.len() >= limit {
                return Err(DropReason::NoBuffer);
            }
            self.runs.insert(start, start + chunk.len() as u32);
            self.place(index, start, chunk);
            rest = tail;
            index += 2;
        }
        self.note(seq);
        Ok(())
    }

    fn place(&mut self, index: usize, start: Seq, chunk: Chunk<F>) {
        // A few bytes must not keep a whole frame from its pool for as long as a gap lasts.
        let chunk = if chunk.footprint() >= 4 * chunk.len() { chunk.copy_from(0) } else { chunk };
        self.pieces.insert(index, Piece { start, chunk });
    }

    /// The run around `seq` is the most recent one.
    fn note(&mut self, seq: Seq) {
        let Some((left, right)) = self.runs.containing(seq) else { return };
        let older = self.recent;
        let others = older.into_iter().flatten().filter(|at| at.before(left) || !at.before(right));
        let mut recent = [None; 4];
        for (place, at) in recent.iter_mut().zip(std::iter::once(seq).chain(others)) {
            *place = Some(at);
        }
        self.recent = recent;
    }

    fn pop(&mut self, next: Seq) -> Option<Chunk<F>> {
        if self.pieces.front()?.start.after(next) {
            return None;
        }
        let mut piece = self.pieces.pop_front()?;
        self.runs.remove_below(piece.end());
        piece.chunk.advance(next.0.wrapping_sub(piece.start.0) as usize);
        if self.pieces.is_empty() {
            self.recent = [None; 4];
        }
        Some(piece.chunk)
    }

    fn sack_blocks(&self) -> SackBlocks {
        let mut blocks = SackBlocks::default();
        for at in self.recent.into_iter().flatten() {
            if let Some((left, right)) = self.runs.containing(at)
                && !blocks.as_slice().contains(&(left, right))
            {
                blocks.push(left, right);
            }
        }
        blocks
    }

    fn footprint(&self) -> usize {
        let chunks: usize = self.pieces.iter().map(|piece| piece.chunk.footprint()).sum();
        chunks + self.pieces.capacity() * size_of::<Piece<F>>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::testkit::VecFrame;
    use proptest::prelude::*;

    fn chunk(bytes: &[u8]) -> Chunk<VecFrame> {
        Chunk::from_frame(VecFrame::new(bytes), 0, bytes.len())
    }

    #[test]
    fn rfc2018_the_first_block_holds_the_latest_segment() {
        let mut reassembly = Reassembly::new();
        for start in [10, 30, 50, 70, 90, 35] {
            reassembly.insert(Seq(start), chunk(&[0; 5]), 100).unwrap();
        }
        let blocks = reassembly.sack_blocks();
        let expected = [(30, 40), (90, 95), (70, 75), (50, 55)].map(|(l, r)| (Seq(l), Seq(r)));
        assert_eq!(blocks.as_slice(), expected);
    }

    #[test]
    fn the_number_of_pieces_is_bounded() {
        let mut reassembly = Reassembly::new();
        let refused = (0..1000).filter(|n| reassembly.insert(Seq(n * 2), chunk(b"x"), 64).is_err()).count();
        assert_eq!((reassembly.pieces(), refused), (64, 936));
    }

    proptest! {
        #[test]
        fn the_first_byte_to_arrive_at_a_place_wins(
            segments in prop::collection::vec((0u32..200, 1usize..60, any::<u8>()), 1..40),
        ) {
            let base = Seq(u32::MAX - 100);
            let mut reassembly = Reassembly::new();
            let mut oracle = [None; 260];
            for (start, len, fill) in segments {
                reassembly.insert(base + start, chunk(&vec![fill; len]), 1000).unwrap();
                for place in &mut oracle[start as usize..start as usize + len] {
                    place.get_or_insert(fill);
                }
                for (left, right) in reassembly.sack_blocks().as_slice() {
                    let (l, r) = (left.0.wrapping_sub(base.0) as usize, right.0.wrapping_sub(base.0) as usize);
                    prop_assert!(oracle[l..r].iter().all(Option::is_some));
                    prop_assert!(l == 0 || oracle[l - 1].is_none());
                    prop_assert!(oracle[r].is_none());
                }
            }
            let mut at = 0;
            while at < oracle.len() {
                match reassembly.pop(base + at as u32) {
                    Some(chunk) => {
                        let expected: Vec<u8> = oracle[at..at + chunk.len()].iter().map(|b| b.unwrap()).collect();
                        prop_assert_eq!(chunk.bytes(), &expected);
                        at += chunk.len();
                    }
                    None => {
                        prop_assert!(oracle[at].is_none());
                        at += 1;
                    }
                }
            }
            prop_assert!(reassembly.is_empty() && reassembly.sack_blocks().is_empty());
        }
    }
}
