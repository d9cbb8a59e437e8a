//! Disjoint spans of sequence numbers, each with a value: what deviates from "in flight".
//!
//! Runs on: proxy cores. Allocates: with the number of spans. Blocks: never.
//!
//! Every step costs O(log n) and each span it takes away.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use pnat_shared::wire::tcp::Seq;

/// All members lie within one window (less than 2^31 apart), so signed distance is an order.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Place(Seq);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.distance(other.0).cmp(&0)
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Span<T> {
    pub(super) left: Seq,
    pub(super) right: Seq,
    pub(super) value: T,
}

impl<T> Span<T> {
    const fn len(&self) -> u32 {
        self.right.0.wrapping_sub(self.left.0)
    }
}

#[derive(Debug)]
pub(super) struct Spans<T> {
    /// By their left ends.
    spans: BTreeMap<Place, Span<T>>,
    bytes: u32,
}

impl<T> Default for Spans<T> {
    fn default() -> Self {
        Self { spans: BTreeMap::new(), bytes: 0 }
    }
}

impl<T: Copy + PartialEq> Spans<T> {
    /// Adds a span that is not empty and overlaps none; it melts into neighbours of the same value.
    pub(super) fn insert(&mut self, left: Seq, right: Seq, value: T) {
        let mut span = Span { left, right, value };
        self.bytes += span.len();
        if let Some(before) = self.reaching(left, true).filter(|before| before.value == value) {
            self.spans.remove(&Place(before.left));
            span.left = before.left;
        }
        if let Some(behind) = self.spans.get(&Place(right)).filter(|behind| behind.value == value) {
            span.right = behind.right;
            self.spans.remove(&Place(right));
        }
        self.spans.insert(Place(span.left), span);
    }

    /// Takes `[left, right)` out and shows what was there, in order.
    pub(super) fn remove(&mut self, left: Seq, right: Seq, mut each: impl FnMut(Span<T>)) {
        while let Some(span) = self.overlap(left, right) {
            let cut = Span { left: span.left.max(left), right: span.right.min(right), ..span };
            self.spans.remove(&Place(span.left));
            if span.left.before(left) {
                self.spans.insert(Place(span.left), Span { right: left, ..span });
            }
            if span.right.after(right) {
                self.spans.insert(Place(right), Span { left: right, ..span });
            }
            self.bytes -= cut.len();
            each(cut);
        }
    }

    /// The first span that has something of `[left, right)`, which may be empty.
    pub(super) fn overlap(&self, left: Seq, right: Seq) -> Option<Span<T>> {
        self.containing(left).filter(|_| left.before(right)).or_else(|| {
            let behind = self.spans.range(Place(left)..).next();
            behind.map(|(_, span)| *span).filter(|span| span.left.before(right))
        })
    }

    /// The first part of `[left, right)` that belongs to no span.
    pub(super) fn gap(&self, mut left: Seq, right: Seq) -> Option<(Seq, Seq)> {
        while let Some(span) = self.containing(left) {
            left = span.right;
        }
        let end = self.overlap(left, right).map_or(right, |span| span.left);
        left.before(right).then_some((left, end))
    }

    /// The span that `seq` lies in.
    pub(super) fn containing(&self, seq: Seq) -> Option<Span<T>> {
        self.reaching(seq, false)
    }

    /// The span that begins at or before `seq` and ends behind it, or else, where it may `touch`, right at it.
    fn reaching(&self, seq: Seq, touch: bool) -> Option<Span<T>> {
        #[cfg(test)]
        LOOKS.set(LOOKS.get() + 1);
        let (_, span) = self.spans.range(..=Place(seq)).next_back()?;
        (span.right.after(seq) || (touch && span.right == seq)).then_some(*span)
    }

    pub(super) fn first(&self) -> Option<Span<T>> {
        self.spans.first_key_value().map(|(_, span)| *span)
    }

    pub(super) fn last(&self) -> Option<Span<T>> {
        self.spans.last_key_value().map(|(_, span)| *span)
    }

    /// How many spans there are.
    pub(super) fn len(&self) -> usize {
        self.spans.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    /// How many bytes all spans hold.
    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.spans.clear();
        self.bytes = 0;
    }
}

#[cfg(test)]
thread_local! {
    /// Searches by this thread: what every step begins with.
    pub(super) static LOOKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Seq = Seq(u32::MAX - 50);
    const SIZE: usize = 130;

    /// What the spans say of each number.
    fn flat(spans: &Spans<u8>) -> Vec<Option<u8>> {
        (0..SIZE as u32).map(|n| spans.containing(BASE + n).map(|span| span.value)).collect()
    }

    proptest! {
        #[test]
        fn agree_with_an_array(steps in prop::collection::vec((0usize..100, 1usize..20, 0u8..4), 1..80)) {
            let mut spans = Spans::default();
            let mut oracle = vec![None; SIZE];
            for (start, count, value) in steps {
                let (left, right) = (BASE + start as u32, BASE + (start + count) as u32);
                let mut gone = vec![None; SIZE];
                spans.remove(left, right, |span| {
                    let at = span.left.distance(BASE) as usize;
                    gone[at..at + span.len() as usize].fill(Some(span.value));
                });
                for n in 0..SIZE {
                    let inside = (start..start + count).contains(&n);
                    prop_assert_eq!(gone[n], oracle[n].filter(|_| inside));
                }
                oracle[start..start + count].fill(None);
                if value > 0 {
                    spans.insert(left, right, value);
                    oracle[start..start + count].fill(Some(value));
                }
                prop_assert_eq!(flat(&spans), oracle.clone());
                prop_assert_eq!(spans.bytes() as usize, oracle.iter().flatten().count());
                let gap = spans.gap(BASE, BASE + SIZE as u32).map(|(left, right)| (left.distance(BASE) as usize, right.distance(BASE) as usize));
                let from = oracle.iter().position(Option::is_none).expect("the last ones stay free");
                let to = (from..SIZE).find(|n| oracle[*n].is_some()).unwrap_or(SIZE);
                prop_assert_eq!(gap, Some((from, to)));
                let first = oracle.iter().position(Option::is_some).map(|n| BASE + n as u32);
                prop_assert_eq!(spans.first().map(|span| span.left), first);
                let last = oracle.iter().rposition(Option::is_some).map(|n| BASE + n as u32 + 1);
                prop_assert_eq!(spans.last().map(|span| span.right), last);
            }
        }
    }

    #[test]
    fn neighbours_of_the_same_value_are_one() {
        let mut spans = Spans::default();
        spans.insert(Seq(10), Seq(20), 'a');
        spans.insert(Seq(30), Seq(40), 'a');
        spans.insert(Seq(20), Seq(30), 'a');
        spans.insert(Seq(40), Seq(50), 'b');
        assert_eq!((spans.len(), spans.bytes()), (2, 40));
        assert_eq!(spans.first(), Some(Span { left: Seq(10), right: Seq(40), value: 'a' }));
    }
}
