//! Sets of sequence numbers as sorted ranges: what was received out of order.
//!
//! Runs on: proxy cores. Allocates: when more ranges are held than ever before. Blocks: never.
//!
//! All members lie within one window (less than 2^31 apart), so comparing by signed distance is an order.

use pnat_shared::wire::tcp::Seq;

/// Sorted, disjoint, non-adjacent ranges `[left, right)`.
#[derive(Debug, Default)]
pub(super) struct Ranges {
    list: Vec<(Seq, Seq)>,
}

impl Ranges {
    /// Adds a range that is not empty.
    pub(super) fn insert(&mut self, left: Seq, right: Seq) {
        let from = self.list.partition_point(|range| range.1.before(left));
        let touching = self.list[from..].partition_point(|range| !range.0.after(right));
        if touching == 0 {
            self.list.insert(from, (left, right));
        } else {
            let old = &self.list[from..from + touching];
            self.list[from] = (left.min(old[0].0), right.max(old[touching - 1].1));
            self.list.drain(from + 1..from + touching);
        }
    }

    /// Forgets everything before `seq`.
    pub(super) fn remove_below(&mut self, seq: Seq) {
        let gone = self.list.partition_point(|range| !range.1.after(seq));
        self.list.drain(..gone);
        if let Some(first) = self.list.first_mut() {
            first.0 = first.0.max(seq);
        }
    }

    /// The range that `seq` lies in.
    pub(super) fn containing(&self, seq: Seq) -> Option<(Seq, Seq)> {
        let range = *self.list.get(self.list.partition_point(|range| !range.1.after(seq)))?;
        (!range.0.after(seq)).then_some(range)
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
                    oracle.extend(start..start + count);
                    ranges.insert(left, left + count);
                }
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
