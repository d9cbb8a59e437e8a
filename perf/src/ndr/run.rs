//! A search on a real device under test, and what it found.

use anyhow::Result;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use super::Found;
use super::trials::{FoundLine, Goal, Limit, Line, SearchResult, Searched, Shown, search};
use crate::load::result::{Provenance, bit_rate, pps};
use crate::load::schedule::Rate;
use crate::load::{Outcome, Scenario, Tester, Trial};

/// What a search has found: NDR, PDR.
pub type NdrResult = SearchResult<GoalResult, TrialResult>;

/// What a search has found for one goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalResult {
    pub name: String,
    pub allowed_loss: f64,
    /// `None` where even the lowest rate is too high.
    pub found: Option<FoundRate>,
}

/// The highest rate that is not too high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRate {
    /// Per second.
    pub frames: f64,
    /// Per second, frame check sequences included.
    pub bits: f64,
    /// The lowest rate that is too high, in frames per second; `None`: the scenario's highest is not.
    pub too_high: Option<f64>,
    /// The median of its trials' losses.
    pub loss: f64,
    /// Trials that it was judged by.
    pub trials: u32,
    /// Above it the generator fell behind and the device lost no more than is allowed: the rate is the generator's, and the
    /// device may bear more.
    pub is_the_generators: bool,
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Frames per second that were to be sent.
    pub rate: f64,
    pub intended: u64,
    pub sent: u64,
    pub received: u64,
}

impl TrialResult {
    fn new(rate: f64, outcome: &Outcome) -> Self {
        Self { rate, intended: outcome.intended, sent: outcome.sent, received: outcome.arrived.received }
    }
}

impl Shown for TrialResult {
    fn rate(&self) -> f64 {
        self.rate
    }

    fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.intended.max(1) as f64
    }

    fn device_loss(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }
}

/// What a search has found, without what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Rates {
    /// NDR, PDR.
    pub goals: Vec<GoalResult>,
    pub is_complete: bool,
    pub trials: Vec<TrialResult>,
}

/// Searches the scenario's rates; `watch` is told of each trial before it begins.
pub fn run(
    scenario: &Scenario,
    provenance: Provenance,
    tester: &mut dyn Tester,
    watch: impl FnMut(u32, f64, Duration),
) -> Result<NdrResult> {
    let Rates { goals, is_complete, trials } = find(scenario, tester, watch)?;
    let trial_seconds = scenario.search.trial.as_secs_f64();
    Ok(NdrResult { provenance, goals, is_complete, trial_seconds, trials })
}

/// As [`run`], for whoever tells the result in his own way.
pub fn find(
    scenario: &Scenario,
    tester: &mut dyn Tester,
    watch: impl FnMut(u32, f64, Duration),
) -> Result<Rates> {
    let goals = &scenario.search;
    let Searched { limits, is_complete, trials } = search(goals, watch, |run, rate| {
        let trial = Trial { rate: Rate::exactly(rate), ..scenario.trial(run, goals.trial) };
        Ok(TrialResult::new(rate, &tester.run(trial)?))
    })?;
    let bits = scenario.content.sizes.mean_bits();
    let named = ["NDR", "PDR"].into_iter().zip(goals.losses()).zip(limits);
    let goals = named.map(|((name, allowed_loss), limit)| GoalResult {
        name: name.to_owned(),
        allowed_loss,
        found: limit.map(|limit| FoundRate::new(limit, bits)),
    });
    Ok(Rates { goals: goals.collect(), is_complete, trials })
}

impl FoundRate {
    fn new(limit: Limit, bits: f64) -> Self {
        let Limit { found: Found { rate, too_high, loss, trials }, is_the_generators } = limit;
        Self { frames: rate, bits: rate * bits, too_high, loss, trials, is_the_generators }
    }

    fn line(&self) -> FoundLine {
        FoundLine {
            rate: format!("{:>14}  {:>14}", pps(self.frames), bit_rate(self.bits)),
            too_high: self.too_high.map(pps),
            trials: self.trials,
            is_the_generators: self.is_the_generators,
        }
    }
}

impl Goal for GoalResult {
    const FILE: &'static str = "ndr.json";
    const VERB: &'static str = "send";

    fn line(&self) -> Line {
        let goal = format!("{} (at most {} % lost)", self.name, self.allowed_loss * 100.0);
        Line { goal, found: self.found.as_ref().map(FoundRate::line) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::load::arrivals::Counts;
    use crate::load::medium::WireMedium;
    use crate::load::new_histogram;
    use crate::load::scenario::MediumKind;
    use crate::load::trial::{Local, Progress, Tally};

    /// Frames of 60 bytes on a wire for 10,000 of them per second.
    const SCENARIO: &str = r#"
        drain = "10ms"
        [traffic]
        rate = "20 kpps"
        [flows]
        src = "10.0.0.2"
        dst = "203.0.113.1"
        [medium]
        type = "wire"
        capacity = "4.8 Mbit/s"
        queue = 1
        [search]
        trial = "200ms"
        trials = 3
        width = "1 %"
    "#;

    fn search(tester: &mut dyn Tester) -> NdrResult {
        let scenario = Scenario::parse(Path::new("wire.toml"), SCENARIO).expect("good");
        let provenance = Provenance::new(&scenario, SystemTime::UNIX_EPOCH);
        run(&scenario, provenance, tester, |_, _, _| {}).expect("it runs")
    }

    #[test]
    fn the_rates_of_a_wire_of_known_capacity_are_found() {
        let scenario = Scenario::parse(Path::new("wire.toml"), SCENARIO).expect("good");
        let MediumKind::Wire(wire) = &scenario.medium else { panic!("a wire") };
        let result =
            search(&mut Local { medium: WireMedium::new(wire), progress: Arc::new(Progress::default()) });
        assert!(result.is_complete);
        let [ndr, pdr] = [0, 1].map(|goal: usize| result.goals[goal].found.clone().expect("found"));
        // The queue lets two frames of 2,000 more pass than the capacity has room for.
        assert!((9_900.0..10_011.0).contains(&ndr.frames), "{ndr:?}");
        assert!((9_950.0..10_062.0).contains(&pdr.frames), "{pdr:?}");
        assert!(ndr.too_high.expect("some rate is") > 10_000.0);
        assert_eq!((ndr.loss, ndr.is_the_generators), (0.0, false));
        assert!(result.to_string().contains("NDR (at most 0 % lost)"), "{result}");
    }

    /// A generator that sends 5,000 frames per second at most, and a device that loses none.
    struct Slow;

    impl Tester for Slow {
        fn run(&mut self, trial: Trial) -> Result<Outcome> {
            let frames = |rate: f64| (rate * trial.duration.as_secs_f64()) as u64;
            let intended = frames(trial.rate.per_second());
            let sent = intended.min(frames(5_000.0));
            Ok(Outcome {
                duration: trial.duration,
                intended,
                sent,
                sent_bytes: sent * 64,
                arrived: Counts { received: sent, ..Counts::default() },
                last_missing: None,
                received_bytes: sent * 64,
                corrupt: 0,
                foreign: 0,
                tally: Tally::default(),
                intervals: Vec::new(),
                latency: new_histogram(),
                late: new_histogram(),
                inside: None,
            })
        }
    }

    #[test]
    fn what_the_generator_cannot_send_is_not_said_to_be_the_devices_limit() {
        let ndr = search(&mut Slow).goals[0].found.clone().expect("found");
        assert!(ndr.is_the_generators && (4_950.0..5_011.0).contains(&ndr.frames), "{ndr:?}");
    }
}
