//! The search for the highest rate of new connections at which none fails, and few: [`Search`] as for frames, where a
//! connection counts as lost that did not go as it should to its end.

use core::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use crate::load::result::{Provenance, write_all};
use crate::load::scenario::TcpScenario;
use crate::load::tcp::{TcpOutcome, TcpTester, TcpTrial};
use crate::ndr::{Found, Search, Step};

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RateResult {
    pub provenance: Provenance,
    /// None may fail; few may.
    pub goals: Vec<GoalResult>,
    /// Whether the search came to its end before `search.most_trials`.
    pub is_complete: bool,
    pub trial_seconds: f64,
    /// In their order. The first only warms the device up.
    pub trials: Vec<TrialResult>,
}

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

    /// What did not come to its end of what was meant to be opened: a rate that was not reached is no rate without failures.
    fn failed(&self) -> f64 {
        1.0 - self.completed as f64 / self.intended.max(1) as f64
    }

    /// What did not come to its end of what was opened.
    fn devices_failed(&self) -> f64 {
        1.0 - self.completed as f64 / self.attempted.max(1) as f64
    }
}

/// Searches rates for the scenario's classes that have one, all by the same factor; `watch` is told of each trial before it
/// begins.
pub fn rate(
    scenario: &TcpScenario,
    provenance: Provenance,
    tester: &mut dyn TcpTester,
    mut watch: impl FnMut(u32, f64, Duration),
) -> Result<RateResult> {
    let goals = &scenario.search;
    let mut search = Search::new(goals.clone());
    let mut trials = Vec::new();
    while let Step::Trial(rate) = search.step() {
        watch(search.spent() + 1, rate, goals.trial);
        // What is left of one trial is no request of the next 65,535.
        let run = (search.spent() + 1) as u16;
        let trial = TcpTrial { load: scenario.load.at_rate(rate), ..scenario.trial(run, goals.trial) };
        let trial = TrialResult::new(rate, &tester.run(trial)?);
        search.record(trial.failed());
        trials.push(trial);
    }
    let goals = goals.losses().into_iter().zip(search.found()).map(|(allowed_failed, found)| GoalResult {
        allowed_failed,
        found: found.map(|found| FoundRate::new(found, allowed_failed, &trials)),
    });
    Ok(RateResult {
        provenance,
        goals: goals.collect(),
        is_complete: search.is_complete(),
        trial_seconds: scenario.search.trial.as_secs_f64(),
        trials,
    })
}

impl FoundRate {
    fn new(found: Found, allowed: f64, trials: &[TrialResult]) -> Self {
        let Found { rate, too_high, loss, trials: judged_by } = found;
        let above = || trials.iter().skip(1).filter(|trial| Some(trial.rate) == too_high);
        let is_innocent = |trial: &&TrialResult| trial.devices_failed() <= allowed;
        let is_the_generators =
            too_high.is_some() && above().filter(is_innocent).count() * 2 > above().count();
        Self { connections: rate, too_high, failed: loss, trials: judged_by, is_the_generators }
    }
}

impl RateResult {
    /// Writes `connection-rate.json` into `dir`; answers the files written.
    pub fn write(&self, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
        write_all(dir, vec![(dir.join("connection-rate.json"), serde_json::to_vec_pretty(self)?)])
    }
}

/// A table for people.
impl fmt::Display for RateResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Provenance { scenario, build, .. } = &self.provenance;
        writeln!(f, "{scenario}, {} trials of {} s, {build} build", self.trials.len(), self.trial_seconds)?;
        for GoalResult { allowed_failed, found } in &self.goals {
            write!(f, "at most {} % fail  ", allowed_failed * 100.0)?;
            let Some(found) = found else {
                writeln!(f, "none: even the lowest rate is too high")?;
                continue;
            };
            write!(f, "{:>12.1} cps  ", found.connections)?;
            match found.too_high {
                Some(too_high) => write!(f, "{too_high:.1} cps is too high")?,
                None => f.write_str("the scenario's highest")?,
            }
            writeln!(f, "; by {} trials", found.trials)?;
            if found.is_the_generators {
                writeln!(f, "  The generator could not open more: the device may bear it.")?;
            }
        }
        if !self.is_complete {
            writeln!(f, "The search ran out of trials (search.most_trials): the rates are not settled.")?;
        }
        Ok(())
    }
}
