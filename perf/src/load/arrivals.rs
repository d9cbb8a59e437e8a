//! What has become of the frames of a trial: each arrives for the first time, again, in order or not, or never.
//!
//! Runs on: the generator's core. Allocates: at creation: 8 bytes per flow, and a window of at most 16 MB. Blocks: never.
//!
//! Exact, not sampled. Frames are numbered through all flows, as they are sent, and a bit says of each number in the window
//! whether it has come. The window moves with the newest arrival; what comes from behind it (134 million frames late) is
//! neither new nor a duplicate but counted by itself.

/// Numbers in the window, at most.
const WINDOW: u64 = 1 << 27;

const WORD: u64 = u64::BITS as u64;

/// What an arrival was.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// Not seen before.
    First,
    /// Seen before (RFC 5560): only its first copy counts for everything else.
    Duplicate,
    /// Older than what is remembered.
    Stale,
}

/// Counts of a trial's arrivals.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Different frames that have come.
    pub received: u64,
    pub duplicated: u64,
    /// Of those received, how many came after one of the same flow with a larger number (RFC 4737 section 3: "reordered").
    pub reordered: u64,
    /// By how many numbers of its flow a reordered frame lay behind the largest that had come, at most.
    pub farthest: u64,
    pub stale: u64,
}

/// Accounts for the frames of one trial.
#[derive(Clone, Debug)]
pub struct Arrivals {
    flows: u64,
    /// The bits of numbers from `base` on, in a circle; `base` is a multiple of [`WORD`].
    window: Box<[u64]>,
    base: u64,
    /// By flow, the number expected next: RFC 4737's NextExp.
    expected: Box<[u64]>,
    counts: Counts,
}

impl Arrivals {
    /// For `frames` frames in `flows` flows, sent by turns.
    pub fn new(flows: u32, frames: u64) -> Self {
        Self::with_window(flows, frames.clamp(WORD, WINDOW))
    }

    fn with_window(flows: u32, numbers: u64) -> Self {
        let words = numbers.div_ceil(WORD).next_power_of_two();
        let zeros = |len: u64| vec![0; usize::try_from(len).unwrap_or(usize::MAX)].into_boxed_slice();
        let flows = u64::from(flows.max(1));
        Self { flows, window: zeros(words), base: 0, expected: zeros(flows), counts: Counts::default() }
    }

    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// The last of the first `sent` frames that has not come, numbered through all flows, as far as the window reaches.
    pub fn last_missing(&self, sent: u64) -> Option<u64> {
        let last = sent.checked_sub(1)?;
        let len = self.window.len() as u64;
        let first_word = self.base / WORD;
        if last / WORD >= first_word + len {
            return Some(last);
        }
        // Numbers that have not been sent are not missing.
        let unsent = |word: u64| if word == last / WORD { (u64::MAX - 1) << (last % WORD) } else { 0 };
        (first_word..=last / WORD).rev().find_map(|word| {
            let missing = !(self.window[(word & (len - 1)) as usize] | unsent(word));
            (missing != 0).then(|| word * WORD + u64::from(missing.ilog2()))
        })
    }

    /// Takes note of a frame: number `seq` of a flow, which is one of the trial's.
    #[inline]
    pub fn note(&mut self, flow: u32, seq: u64) -> Arrival {
        let number = seq * self.flows + u64::from(flow);
        if number < self.base {
            self.counts.stale += 1;
            return Arrival::Stale;
        }
        let last_word = number / WORD;
        if last_word - self.base / WORD >= self.window.len() as u64 {
            self.move_to(last_word);
        }
        let mask = self.window.len() as u64 - 1;
        let word = &mut self.window[(last_word & mask) as usize];
        let bit = 1 << (number % WORD);
        if *word & bit != 0 {
            self.counts.duplicated += 1;
            return Arrival::Duplicate;
        }
        *word |= bit;
        self.counts.received += 1;
        let expected = &mut self.expected[flow as usize];
        if seq < *expected {
            self.counts.reordered += 1;
            self.counts.farthest = self.counts.farthest.max(*expected - 1 - seq);
        } else {
            *expected = seq + 1;
        }
        Arrival::First
    }

    /// Moves the window, so that it ends with this word.
    #[cold]
    fn move_to(&mut self, last_word: u64) {
        let len = self.window.len() as u64;
        let old_end = self.base / WORD + len;
        let first = last_word + 1 - len;
        for word in old_end.max(first)..=last_word {
            self.window[(word & (len - 1)) as usize] = 0;
        }
        self.base = first * WORD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{HashMap, HashSet};

    /// The same by sets, as the RFCs' sentences say it.
    fn model(arrivals: &[(u32, u64)]) -> Counts {
        let (mut seen, mut largest) = (HashSet::new(), HashMap::<u32, u64>::new());
        let mut counts = Counts::default();
        for &(flow, seq) in arrivals {
            if !seen.insert((flow, seq)) {
                counts.duplicated += 1;
                continue;
            }
            counts.received += 1;
            match largest.get(&flow) {
                Some(&before) if before > seq => {
                    counts.reordered += 1;
                    counts.farthest = counts.farthest.max(before - seq);
                }
                _ => {
                    largest.insert(flow, seq);
                }
            }
        }
        counts
    }

    /// Frames sent by turns, some of them lost, some of them twice, in any order.
    fn fates() -> impl Strategy<Value = (u32, Vec<(u32, u64)>)> {
        (1u32..20, 1u64..30)
            .prop_flat_map(|(flows, rounds)| {
                let sent: Vec<(u32, u64)> =
                    (0..rounds).flat_map(|seq| (0..flows).map(move |flow| (flow, seq))).collect();
                let copies = prop::collection::vec(
                    prop_oneof![1 => Just(0), 6 => Just(1), 1 => Just(2usize)],
                    sent.len(),
                );
                (Just(flows), Just(sent), copies)
            })
            .prop_flat_map(|(flows, sent, copies)| {
                let arrivals: Vec<_> =
                    sent.into_iter().zip(copies).flat_map(|(frame, copies)| vec![frame; copies]).collect();
                (Just(flows), Just(arrivals).prop_shuffle())
            })
    }

    proptest! {
        #[test]
        fn any_order_with_losses_and_duplicates_is_counted_as_the_model_counts((flows, arrivals) in fates()) {
            let mut account = Arrivals::new(flows, 600);
            for &(flow, seq) in &arrivals {
                account.note(flow, seq);
            }
            prop_assert_eq!(*account.counts(), model(&arrivals));
        }

        #[test]
        fn the_last_frame_that_has_not_come_is_found(sent in 0u64..400, lost in prop::collection::hash_set(0u64..400, 0..5)) {
            let mut account = Arrivals::with_window(1, 512);
            (0..sent).filter(|number| !lost.contains(number)).for_each(|number| {
                account.note(0, number);
            });
            prop_assert_eq!(account.last_missing(sent), lost.into_iter().filter(|number| *number < sent).max());
        }

        #[test]
        fn a_window_that_moves_forgets_only_what_lies_behind_it(steps in prop::collection::vec((0u64..300, 0u64..400), 1..200)) {
            let mut account = Arrivals::with_window(1, 128);
            let (mut seen, mut newest) = (HashSet::new(), 0u64);
            for (ahead, behind) in steps {
                let number = (newest + ahead).saturating_sub(behind);
                // The window ends with the newest number's word and holds two.
                let oldest = (newest / WORD + 1).saturating_sub(2) * WORD;
                let expected = match number {
                    old if old < oldest => Arrival::Stale,
                    number if seen.insert(number) => Arrival::First,
                    _ => Arrival::Duplicate,
                };
                prop_assert_eq!(account.note(0, number), expected, "{} of {}", number, newest);
                newest = newest.max(number);
            }
        }
    }

    #[test]
    fn ten_million_flows_are_accounted_for_without_an_allocation() {
        const FLOWS: u32 = 10_000_000;
        let mut account = Arrivals::new(FLOWS, u64::from(FLOWS) * 2);
        let counted = allocation_counter::measure(|| {
            for flow in (0..FLOWS).step_by(99_991) {
                account.note(flow, 1);
                account.note(flow, 0);
            }
        });
        assert_eq!(counted.count_total, 0);
        assert_eq!((account.counts().received, account.counts().reordered), (202, 101));
    }
}
