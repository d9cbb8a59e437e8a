//! Geometric bracketing and bisection, judged by many trials only where it matters.
//!
//! Rates lie on a grid, each `1 + width` times the next one, so that two neighbors are as near as the result needs to be. The
//! grid is searched three times: every 16th rate by one trial each, every 4th by a few, then all by as many as the goals ask
//! for; each time around what was found before. What a rate's trials have shown counts for all goals and to the end.
//!
//! ```text
//!   highest                        upper    lower                                lowest
//!      |  .  .  .  .  .  .  .  .  .  x  .  .  o  .  .  .  .  .  .  .  .  .  .  .  .  |
//!      place 0                       loses   does not          bisected until they are neighbors
//! ```
//!
//! Devices are not monotonic: they may lose at one rate and not at a higher one. The result is below every rate that was
//! found too high.

use std::collections::BTreeMap;

use super::Goals;

/// Each pass: every so many places of the grid, and which part of the goals' trials judges a rate.
const PASSES: [(usize, f64); 3] = [(16, 0.0), (4, 0.2), (1, 1.0)];

/// What comes next.
#[derive(Copy, Clone, Debug, PartialEq)]
pub enum Step {
    /// A trial at so many frames per second. Its result is to be [recorded](Search::record).
    Trial(f64),
    Done,
}

/// What was found for one goal.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Found {
    /// The highest rate that is not too high, in frames per second.
    pub rate: f64,
    /// The lowest one that is; `None` where the highest of all is not.
    pub too_high: Option<f64>,
    /// Loss of the rate's trials: the median.
    pub loss: f64,
    /// Trials that it was judged by.
    pub trials: u32,
}

/// A search in progress.
#[derive(Clone, Debug)]
pub struct Search {
    goals: Goals,
    /// The last place of the grid.
    last: usize,
    /// By place: the loss of each trial.
    losses: BTreeMap<usize, Vec<f64>>,
    pass: usize,
    /// By goal: the place that this pass began with.
    guesses: [usize; 2],
    spent: u32,
    is_warm: bool,
}

/// What trials say about a rate.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Fine,
    TooHigh,
}

impl Search {
    pub fn new(goals: Goals) -> Self {
        let last = ((goals.highest / goals.lowest).ln() / (1.0 + goals.width).ln()).ceil().max(0.0) as usize;
        Self { goals, last, losses: BTreeMap::new(), pass: 0, guesses: [0; 2], spent: 0, is_warm: false }
    }

    /// Trials so far.
    pub const fn spent(&self) -> u32 {
        self.spent
    }

    /// Whether the search came to its end before its trials did.
    pub const fn is_complete(&self) -> bool {
        self.pass == PASSES.len()
    }

    pub fn step(&mut self) -> Step {
        match self.place() {
            Some(place) if self.spent < self.goals.most_trials => Step::Trial(self.rate(place)),
            _ => Step::Done,
        }
    }

    /// The place of the next trial; moves on to the next pass where this one is over.
    fn place(&mut self) -> Option<usize> {
        if self.losses.is_empty() {
            return Some(0);
        }
        while self.pass < PASSES.len() {
            if let Some(place) = (0..self.guesses.len()).find_map(|goal| self.next_of(goal)) {
                return Some(place);
            }
            for goal in 0..self.guesses.len() {
                let (upper, lower) = self.bracket(goal);
                self.guesses[goal] = lower.or(upper).unwrap_or(self.guesses[goal]);
            }
            self.pass += 1;
        }
        None
    }

    /// Takes note of the last trial's loss, from 0 to 1, of the frames that were meant to be sent.
    pub fn record(&mut self, loss: f64) {
        let Some(place) = self.place() else { return };
        self.spent += 1;
        // The first trial warms the device up: neighbors are asked for, flows are opened.
        if !self.is_warm {
            self.is_warm = true;
            return;
        }
        if self.losses.is_empty() {
            // What comes through at most is near what can be sent without loss.
            let forwarded = (1.0 - loss).max(f64::MIN_POSITIVE);
            let place = (-forwarded.ln() / (1.0 + self.goals.width).ln()).ceil();
            self.guesses = [(place as usize).min(self.last); 2];
        }
        self.losses.entry(place).or_default().push(loss);
    }

    /// What was found for each goal, in the order of [`Goals::losses`]; `None` where even the lowest rate is too high.
    pub fn found(&self) -> [Option<Found>; 2] {
        [0, 1].map(|goal| {
            let (upper, lower) = self.bracket(goal);
            let place = lower?;
            let mut losses = self.losses.get(&place)?.clone();
            losses.sort_by(f64::total_cmp);
            Some(Found {
                rate: self.rate(place),
                too_high: upper.map(|place| self.rate(place)),
                loss: losses[losses.len() / 2],
                trials: losses.len() as u32,
            })
        })
    }

    fn rate(&self, place: usize) -> f64 {
        self.goals.highest / (1.0 + self.goals.width).powi(place as i32)
    }

    /// Trials that judge a rate in this pass.
    fn trials(&self) -> u32 {
        let (_, part) = PASSES[self.pass.min(PASSES.len() - 1)];
        ((f64::from(self.goals.trials) * part).ceil() as u32).max(1)
    }

    /// What is known of a rate, once its trials cannot change it any more.
    fn verdict(&self, goal: usize, losses: &[f64]) -> Option<Verdict> {
        let allowed = self.goals.losses()[goal];
        let trials = self.trials();
        let bad = losses.iter().filter(|loss| **loss > allowed).count() as u32;
        let good = losses.len() as u32 - bad;
        if bad > trials / 2 {
            Some(Verdict::TooHigh)
        } else if good >= trials - trials / 2 {
            Some(Verdict::Fine)
        } else {
            None
        }
    }

    /// The lowest rate that is too high, and the highest one below it that is fine.
    fn bracket(&self, goal: usize) -> (Option<usize>, Option<usize>) {
        let judged = || {
            self.losses.iter().filter_map(move |(place, losses)| Some((*place, self.verdict(goal, losses)?)))
        };
        let upper = judged().rev().find(|(_, verdict)| *verdict == Verdict::TooHigh).map(|(place, _)| place);
        let lower = judged()
            .find(|(place, verdict)| *verdict == Verdict::Fine && upper.is_none_or(|upper| *place > upper))
            .map(|(place, _)| place);
        (upper, lower)
    }

    /// Where this goal wants to know more in this pass. Never a place that is judged already, so the search ends.
    fn next_of(&self, goal: usize) -> Option<usize> {
        let (stride, _) = PASSES[self.pass];
        let guess = self.guesses[goal];
        // Each step away from the guess is larger than the one before.
        let stretch = |from: usize| stride.max(2 * from.abs_diff(guess));
        match self.bracket(goal) {
            (None, None) => Some(guess),
            (None, Some(0)) => None,
            (None, Some(lower)) => Some(lower.saturating_sub(stretch(lower))),
            (Some(upper), None) if upper == self.last => None,
            (Some(upper), None) => Some((upper + stretch(upper)).min(self.last)),
            (Some(upper), Some(lower)) if lower - upper <= stride => None,
            (Some(upper), Some(lower)) => Some(upper.midpoint(lower)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::testkit::Random;
    use pnat_shared::time::Duration;
    use proptest::prelude::*;

    fn goals(highest: f64, trials: u32) -> Goals {
        Goals {
            highest,
            lowest: highest / 1000.0,
            partial_loss: 0.005,
            width: 0.005,
            trial: Duration::from_secs(1),
            trials,
            most_trials: 100_000,
        }
    }

    /// Searches a device that answers each rate with a loss.
    fn search(goals: Goals, mut device: impl FnMut(f64) -> f64) -> Search {
        let mut search = Search::new(goals);
        while let Step::Trial(rate) = search.step() {
            search.record(device(rate));
        }
        search
    }

    /// Forwards so many frames per second and drops the others.
    fn limited(capacity: f64) -> impl Fn(f64) -> f64 {
        move |rate| (1.0 - capacity / rate).max(0.0)
    }

    #[test]
    fn a_device_that_never_loses_is_found_to_bear_the_highest_rate() {
        let search = search(goals(1e6, 21), |_| 0.0);
        let [ndr, pdr] = search.found().map(|found| found.expect("found"));
        assert_eq!((ndr.rate, ndr.too_high, pdr.rate), (1e6, None, 1e6));
    }

    #[test]
    fn a_device_that_always_loses_has_no_rate() {
        let search = search(goals(1e6, 21), |_| 0.1);
        assert_eq!(search.found(), [None, None]);
        assert!(search.is_complete());
    }

    #[test]
    fn a_device_that_loses_a_little_at_every_rate_has_a_partial_drop_rate_only() {
        let search = search(goals(1e6, 21), |rate| limited(4e5)(rate).max(1e-4));
        let [ndr, pdr] = search.found();
        assert_eq!(ndr, None);
        assert!((pdr.expect("found").rate / 4e5 - 1.0).abs() < 0.011, "{pdr:?}");
    }

    #[test]
    fn a_search_whose_trials_run_out_says_so() {
        let few = Goals { most_trials: 5, ..goals(1e6, 21) };
        let search = search(few, limited(2e5));
        assert_eq!((search.spent(), search.is_complete()), (5, false));
    }

    proptest! {
        #[test]
        fn a_known_capacity_lies_within_the_bracket(share in 0.0011f64..0.99, trials in 1u32..30) {
            let (highest, capacity) = (14.88e6, 14.88e6 * share);
            let search = search(goals(highest, trials), limited(capacity));
            prop_assert!(search.is_complete());
            let [ndr, pdr] = search.found().map(|found| found.expect("found"));
            for (found, limit) in [(ndr, capacity), (pdr, capacity / (1.0 - 0.005))] {
                let too_high = found.too_high.expect("some rate is too high");
                prop_assert!(found.rate <= limit * (1.0 + 1e-9) && limit < too_high, "{found:?} {limit}");
                prop_assert!(too_high / found.rate < 1.0051, "{found:?}");
            }
            prop_assert!(search.spent() < 40 + 5 * trials, "{} trials", search.spent());
        }

        #[test]
        fn losses_by_chance_never_raise_the_result_and_seldom_lower_it(
            share in 0.01f64..0.99, noise in 0.0f64..0.15, seed: u64,
        ) {
            let (highest, capacity) = (1e6, 1e6 * share);
            let mut random = Random::new(seed);
            let device = limited(capacity);
            let search = search(goals(highest, 21), |rate| {
                if random.chance(noise) { device(rate).max(1e-3) } else { device(rate) }
            });
            prop_assert!(search.is_complete());
            let [ndr, _] = search.found().map(|found| found.expect("found"));
            prop_assert!(ndr.rate <= capacity * (1.0 + 1e-9), "{ndr:?} {capacity}");
            prop_assert!(ndr.rate > capacity / 1.0151, "{ndr:?} {capacity}");
        }

        #[test]
        fn any_device_whatever_ends_the_search(losses in prop::collection::vec(0.0f64..0.02, 1..50), trials in 1u32..8) {
            let mut losses = losses.iter().cycle();
            let goals = Goals { width: 0.05, ..goals(1e6, trials) };
            let search = search(goals, |_| *losses.next().expect("a cycle"));
            prop_assert!(search.is_complete());
            for found in search.found().into_iter().flatten() {
                prop_assert!(found.too_high.is_none_or(|too_high| too_high > found.rate));
            }
        }
    }
}
