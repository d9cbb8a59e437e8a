//! Sizes of test frames: one, or a mix by weights that repeats itself, well spread.
//!
//! Runs on: the generator's core. Allocates: at creation. Blocks: never.

/// Bytes of the frame check sequence, which counts in a frame's size (RFC 2544) and which no one here ever sees.
pub const FCS: usize = 4;

/// The simple IMIX: seven frames of 64 bytes, four of 570, one of 1518.
pub const IMIX: [(u16, u32); 3] = [(64, 7), (570, 4), (1518, 1)];

/// Frames in one round of a mix, at most.
pub const MAX_ROUND: u32 = 4096;

/// A cycle of frame sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// In bytes, frame check sequence included.
    cycle: Vec<u16>,
}

impl Sizes {
    /// Each size with its weight; `None` where all weights together are 0 or more than [`MAX_ROUND`].
    pub fn new(weights: &[(u16, u32)]) -> Option<Self> {
        let round: u32 = weights.iter().try_fold(0u32, |sum, (_, weight)| sum.checked_add(*weight))?;
        if round == 0 || round > MAX_ROUND {
            return None;
        }
        // The size that lags furthest behind its share comes next.
        let mut lag: Vec<i64> = vec![0; weights.len()];
        let cycle = (0..round).filter_map(|_| {
            for (lag, (_, weight)) in lag.iter_mut().zip(weights) {
                *lag += i64::from(*weight);
            }
            let next = (0..lag.len()).rev().max_by_key(|&index| lag[index])?;
            lag[next] -= i64::from(round);
            Some(weights[next].0)
        });
        Some(Self { cycle: cycle.collect() })
    }

    /// The same, with `smallest` in place of all that is smaller.
    pub fn at_least(mut self, smallest: usize) -> Self {
        let smallest = u16::try_from(smallest).unwrap_or(u16::MAX);
        self.cycle.iter_mut().for_each(|size| *size = smallest.max(*size));
        self
    }

    /// Frames after which the sizes repeat themselves.
    pub fn round(&self) -> u64 {
        self.cycle.len() as u64
    }

    /// Bits of one round.
    pub fn bits(&self) -> u64 {
        self.cycle.iter().map(|size| u64::from(*size) * 8).sum()
    }

    /// Bits of a frame, on average.
    pub fn mean_bits(&self) -> f64 {
        self.bits() as f64 / self.round() as f64
    }

    /// The size at this place of the cycle, in bytes.
    #[inline]
    pub fn at(&self, place: usize) -> usize {
        usize::from(self.cycle[place])
    }

    /// The place after `place`.
    #[inline]
    pub fn after(&self, place: usize) -> usize {
        if place + 1 < self.cycle.len() { place + 1 } else { 0 }
    }

    /// The smallest and the largest.
    pub fn extremes(&self) -> (u16, u16) {
        let mut sizes = self.cycle.iter().copied();
        let first = sizes.next().unwrap_or(0);
        sizes.fold((first, first), |(low, high), size| (low.min(size), high.max(size)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_each_size_as_often_as_it_weighs_and_well_spread() {
        let sizes = Sizes::new(&IMIX).expect("a mix");
        for (size, weight) in IMIX {
            assert_eq!(sizes.cycle.iter().filter(|s| **s == size).count(), weight as usize);
        }
        assert!(sizes.cycle.windows(4).all(|four| four.iter().any(|size| *size > 64)), "{sizes:?}");
        assert_eq!((sizes.round(), sizes.extremes()), (12, (64, 1518)));
        assert_eq!(sizes.bits(), 8 * (7 * 64 + 4 * 570 + 1518));
    }

    #[test]
    fn weights_of_nothing_or_of_too_much_are_refused() {
        assert_eq!(Sizes::new(&[]), None);
        assert_eq!(Sizes::new(&[(64, 0)]), None);
        assert_eq!(Sizes::new(&[(64, u32::MAX), (65, 2)]), None);
    }
}
