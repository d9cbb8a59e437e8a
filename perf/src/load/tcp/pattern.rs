//! What streams carry: bytes that are computed, so that whoever reads them knows each before it comes.
//!
//! Runs on: the generator's core. Allocates: 128 KiB, once in the process. Blocks: never.
//!
//! Every stream begins at a place of its own in one long circle of random bytes. So a byte that was changed, lost, doubled or
//! moved is found, and so is one that belongs to another connection or direction.

use std::sync::LazyLock;

use pnat_shared::testkit::Random;

/// Bytes after which the circle begins anew: a prime, so that no usual size of segments, buffers or windows divides it.
const PERIOD: usize = 65_521;
/// Longest piece that is handed out at once, in bytes.
pub(super) const PIECE: usize = 1 << 16;

static CIRCLE: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut random = Random::new(0x706e_6174);
    let round: Vec<u8> = (0..PERIOD).map(|_| random.number() as u8).collect();
    (0..PERIOD + PIECE).map(|at| round[at % PERIOD]).collect()
});

/// A place in a stream.
#[derive(Copy, Clone, Debug)]
pub(super) struct Place {
    /// In the circle, below [`PERIOD`].
    at: u32,
    /// Bytes of the stream before it.
    offset: u64,
}

impl Place {
    /// The beginning of the stream with this number.
    pub(super) fn new(stream: u64) -> Self {
        Self { at: (Random::new(stream).number() % PERIOD as u64) as u32, offset: 0 }
    }

    pub(super) const fn offset(&self) -> u64 {
        self.offset
    }

    /// The next bytes, up to `len` of them and [`PIECE`]; goes on behind them.
    pub(super) fn take(&mut self, len: u64) -> &'static [u8] {
        let len = len.min(PIECE as u64) as usize;
        let piece = &CIRCLE[self.at as usize..self.at as usize + len];
        self.skip(len);
        piece
    }

    /// Goes on behind `bytes`, where these are what comes next.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        bytes.chunks(PIECE).all(|bytes| self.take(bytes.len() as u64) == bytes)
    }

    /// Goes on behind the next `len` bytes, which are something else.
    pub(super) fn skip(&mut self, len: usize) {
        self.at = ((self.at as usize + len) % PERIOD) as u32;
        self.offset += len as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_in_any_pieces_is_read_in_any_others(
            stream: u64, written in prop::collection::vec(0u64..70_000, 1..8), read in 1usize..3_000,
        ) {
            let mut writer = Place::new(stream);
            let bytes: Vec<u8> = written.iter().flat_map(|len| writer.take(*len).to_vec()).collect();
            prop_assert_eq!(writer.offset(), bytes.len() as u64);
            let mut reader = Place::new(stream);
            prop_assert!(bytes.chunks(read).all(|bytes| reader.read(bytes)));
        }

        #[test]
        fn a_segment_that_is_changed_lost_doubled_moved_or_another_streams_is_found(
            stream: u64, other in 1u64..1_000_000, victim in 0usize..40, bit in 0usize..8 * 1_448,
        ) {
            let bytes = Place::new(stream).take(60_000).to_vec();
            let segments: Vec<Vec<u8>> = bytes.chunks(1_448).map(<[u8]>::to_vec).collect();
            let is_good = |segments: &[Vec<u8>]| {
                let mut reader = Place::new(stream);
                segments.iter().all(|bytes| reader.read(bytes))
            };
            prop_assert!(is_good(&segments));
            let mut changed = segments.clone();
            changed[victim][bit / 8] ^= 1 << (bit % 8);
            let mut lost = segments.clone();
            lost.remove(victim);
            let mut doubled = segments.clone();
            doubled.insert(victim, segments[victim].clone());
            let mut moved = segments.clone();
            moved.swap(victim, victim + 1);
            for wrong in [changed, lost, doubled, moved] {
                prop_assert!(!is_good(&wrong));
            }
            let mut stranger = Place::new(stream.wrapping_add(other));
            prop_assume!(stranger.at != Place::new(stream).at);
            prop_assert!(!stranger.read(&segments[0]));
        }
    }
}
