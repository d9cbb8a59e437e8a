//! Sets of sequence numbers as sorted ranges: what was received out of order, and what the peer said it has.
//!
//! Runs on: proxy cores. Allocates: when more ranges are held than ever before. Blocks: never.
//!
//! All members lie within one window (less than 2^31 apart), so comparing by signed distance is an order.

use pnat_shared::wire::tcp::Seq;

/// Sorted, disjoint, non-adjacent ranges `[left, right)`.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    list: Vec<(Seq, Seq)>,
    bytes: u32,
}

const fn len((left, right): (Seq, Seq)) -> u32 {
    right.0.wrapping_sub(left.0)
}

impl Ranges {
    /// Adds a range that is not empty; answers how many of its bytes are new.
    pub(super) fn insert(&mut self, left: Seq, right: Seq) -> u32 {
        let from = self.list.partition_point(|range| range.1.before(left));
        let touching = self.list[from..].partition_point(|range| !range.0.after(right));
        let gained = if touching == 0 {
            self.list.insert(from, (left, right));
            len((left, right))
        } else {
            let old = &self.list[from..from + touching];
            let merged = (left.min(old[0].0), right.max(old[touching - 1].1));
            let gained = len(merged) - old.iter().copied().map(len).sum::<u32>();
            self.list[from] = merged;
            self.list.drain(from + 1..from + touching);
            gained
        };
        self.bytes += gained;
        gained
    }

    /// Forgets everything before `seq`.
    pub(super) fn remove_below(&mut self, seq: Seq) {
        let gone = self.list.partition_point(|range| !range.1.after(seq));
        self.bytes -= self.list.drain(..gone).map(len).sum::<u32>();
        if let Some(first) = self.list.first_mut()
            && first.0.before(seq)
        {
            self.bytes -= len((first.0, seq));
            first.0 = seq;
        }
    }

    /// The range that `seq` lies in.
    pub(super) fn containing(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let range = *self.list.get(self.list.partition_point(|range| !range.1.after(seq)))?;
        (!range.0.after(seq)).then_some(range)
    }

    /// Where the first range behind `seq` begins.
    pub(super) fn next_left(&self, seq: Seq) -> Option<Seq> {
        self.list.get(self.list.partition_point(|range| !range.0.after(seq))).map(|range| range.0)
    }

    pub(super) fn as_slice(&self) -> &[(Seq, Seq)] {
        &self.list
    }

    /// How many bytes all ranges hold.
    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Bytes held before `seq`.
    pub(super) fn bytes_below(&self, seq: Seq) -> u32 {
        self.list
            .iter()
            .take_while(|range| range.0.before(seq))
            .map(|range| len((range.0, range.1.min(seq))))
            .sum()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.list.clear();
        self.bytes = 0;
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.list.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const BASE: u32 = u32::MAX - 50;

    proptest! {
        #[test]
        fn agrees_with_a_set_of_numbers(steps in prop::collection::vec((0u32..100, 1u32..20, 0u8..4), 1..60)) {
            let mut ranges = Ranges::default();
            let mut oracle = BTreeSet::new();
            for (start, count, kind) in steps {
                let left = Seq(BASE) + start;
                if kind == 0 {
                    ranges.remove_below(left);
                    oracle.retain(|n| *n >= start);
                } else {
                    let before = oracle.len();
                    oracle.extend(start..start + count);
                    prop_assert_eq!(ranges.insert(left, left + count) as usize, oracle.len() - before);
                }
                prop_assert_eq!(ranges.bytes() as usize, oracle.len());
                prop_assert_eq!(ranges.bytes_below(left) as usize, oracle.range(..start).count());
                for n in 0..130 {
                    let found = ranges.containing(Seq(BASE) + n);
                    prop_assert_eq!(found.is_some(), oracle.contains(&n));
                    if let Some((l, r)) = found {
                        prop_assert!(!oracle.contains(&l.0.wrapping_sub(BASE).wrapping_sub(1)));
                        prop_assert!(!oracle.contains(&r.0.wrapping_sub(BASE)));
                    }
                }
            }
        }
    }
}
