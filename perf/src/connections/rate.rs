//! The search for the highest rate of new connections at which none fails, and few: [`search`] as for frames, where a
//! connection counts as lost that did not go as it should to its end.

use anyhow::Result;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use crate::load::result::Provenance;
use crate::load::scenario::TcpScenario;
use crate::load::tcp::{TcpOutcome, TcpTester, TcpTrial};
use crate::ndr::Found;
use crate::ndr::trials::{FoundLine, Goal, Limit, Line, SearchResult, Searched, Shown, search};

/// What a search has found: at which rate none fails, and few.
pub type RateResult = SearchResult<GoalResult, TrialResult>;

/// What a search has found for one goal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GoalResult {
    /// Of the connections that were meant to be opened, how many may fail, from 0 to 1.
    pub allowed_failed: f64,
    /// `None` where even the lowest rate is too high.
    pub found: Option<FoundRate>,
}

/// The highest rate that is not too high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoundRate {
    /// Connections per second.
    pub connections: f64,
    /// The lowest rate that is too high; `None`: the scenario's highest is not.
    pub too_high: Option<f64>,
    /// The median of its trials' shares of failures.
    pub failed: f64,
    /// Trials that it was judged by.
    pub trials: u32,
    /// Above it the generator fell behind and no more failed than is allowed: the rate is the generator's, and the device may
    /// bear more.
    pub is_the_generators: bool,
}

/// One trial of a search.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialResult {
    /// Connections per second that were to be opened.
    pub rate: f64,
    pub intended: u64,
    pub attempted: u64,
    pub completed: u64,
    /// From when a SYN was meant to be sent to the handshake's end, in nanoseconds: the 99th percentile.
    pub connect_p99: u64,
}

impl TrialResult {
    fn new(rate: f64, outcome: &TcpOutcome) -> Self {
        let all = outcome.all();
        let (counts, connect_p99) = (all.counts, all.connect.value_at_quantile(0.99));
        let (intended, attempted, completed) = (counts.intended, counts.attempted, counts.completed);
        Self { rate, intended, attempted, completed, connect_p99 }
    }
}

impl Shown for TrialResult {
    fn rate(&self) -> f64 {
        self.rate
    }

    fn loss(&self) -> f64 {
        1.0 - self.completed as f64 / self.intended.max(1) as f64
    }

    fn device_loss(&self) -> f64 {
        1.0 - self.completed as f64 / self.attempted.max(1) as f64
    }
}

/// Searches rates for the scenario's classes that have one, all by the same factor; `watch` is told of each trial before it
/// begins.
pub fn rate(
    scenario: &TcpScenario,
    provenance: Provenance,
    tester: &mut dyn TcpTester,
    watch: impl FnMut(u32, f64, Duration),
) -> Result<RateResult> {
    let goals = &scenario.search;
    let Searched { limits, is_complete, trials } = search(goals, watch, |run, rate| {
        let trial = TcpTrial { load: scenario.load.at_rate(rate), ..scenario.trial(run, goals.trial) };
        Ok(TrialResult::new(rate, &tester.run(trial)?))
    })?;
    let trial_seconds = goals.trial.as_secs_f64();
    let goals = goals.losses().into_iter().zip(limits);
    let goals =
        goals.map(|(allowed_failed, limit)| GoalResult { allowed_failed, found: limit.map(FoundRate::new) });
    Ok(RateResult { provenance, goals: goals.collect(), is_complete, trial_seconds, trials })
}

impl FoundRate {
    fn new(limit: Limit) -> Self {
        let Limit { found: Found { rate, too_high, loss, trials }, is_the_generators } = limit;
        Self { connections: rate, too_high, failed: loss, trials, is_the_generators }
    }

    fn line(&self) -> FoundLine {
        FoundLine {
            rate: format!("{:>12.1} cps", self.connections),
            too_high: self.too_high.map(|rate| format!("{rate:.1} cps")),
            trials: self.trials,
            is_the_generators: self.is_the_generators,
        }
    }
}

impl Goal for GoalResult {
    const FILE: &'static str = "connection-rate.json";
    const VERB: &'static str = "open";

    fn line(&self) -> Line {
        let goal = format!("at most {} % fail", self.allowed_failed * 100.0);
        Line { goal, found: self.found.as_ref().map(FoundRate::line) }
    }
}
