//! The trials of a search, whatever is sent in them: frames or connections. They tell the device's limits from the generator's.
//! What was found is told and written the same way, too.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use super::{Found, Goals, Search, Step};
use crate::load::result::{Provenance, write_all};

/// What one trial has shown; shares from 0 to 1.
pub(crate) trait Shown {
    /// What was to be sent in a second.
    fn rate(&self) -> f64;

    /// What did not come of what was to be sent: a rate that was not reached is no rate without loss.
    fn loss(&self) -> f64;

    /// What did not come of what was sent.
    fn device_loss(&self) -> f64;
}

/// A search that is over.
#[derive(Debug)]
pub(crate) struct Searched<T> {
    /// By goal.
    pub(crate) limits: [Option<Limit>; 2],
    /// Whether the search came to its end before its trials did.
    pub(crate) is_complete: bool,
    /// In their order. The first only warms the device up.
    pub(crate) trials: Vec<T>,
}

/// The highest rate that is not too high, and whose limit that is.
#[derive(Copy, Clone, Debug, PartialEq)]
pub(crate) struct Limit {
    pub(crate) found: Found,
    /// Above it the generator fell behind and the device lost no more than is allowed: the rate is the generator's, and the
    /// device may bear more.
    pub(crate) is_the_generators: bool,
}

/// Has `trial` make one after another, each told its number and its rate; `watch` is told of each before it begins.
pub(crate) fn search<T: Shown>(
    goals: &Goals,
    mut watch: impl FnMut(u32, f64, Duration),
    mut trial: impl FnMut(u16, f64) -> Result<T>,
) -> Result<Searched<T>> {
    let mut search = Search::new(goals.clone());
    let mut trials = Vec::new();
    while let Step::Trial(rate) = search.step() {
        let number = search.spent() + 1;
        watch(number, rate, goals.trial);
        // What is left of one trial is a stranger to the next 65,535.
        let shown = trial(number as u16, rate)?;
        search.record(shown.loss());
        trials.push(shown);
    }
    let (found, losses) = (search.found(), goals.losses());
    let limits = [0, 1].map(|goal| found[goal].map(|found| Limit::new(found, losses[goal], &trials)));
    Ok(Searched { limits, is_complete: search.is_complete(), trials })
}

impl Limit {
    fn new(found: Found, allowed: f64, trials: &[impl Shown]) -> Self {
        let above = || trials.iter().skip(1).filter(|trial| Some(trial.rate()) == found.too_high);
        let innocent = above().filter(|trial| trial.device_loss() <= allowed).count();
        Self { found, is_the_generators: found.too_high.is_some() && innocent * 2 > above().count() }
    }
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchResult<G, T> {
    pub provenance: Provenance,
    /// In the order of [`Goals::losses`].
    pub goals: Vec<G>,
    /// Whether the search came to its end before `search.most_trials`.
    pub is_complete: bool,
    pub trial_seconds: f64,
    /// In their order. The first only warms the device up.
    pub trials: Vec<T>,
}

/// What a search has found for one goal, as it is told.
pub trait Goal {
    /// The file that all goals' result is written to.
    const FILE: &'static str;
    /// What the generator does: send, or open.
    const VERB: &'static str;

    fn line(&self) -> Line;
}

/// A goal's line of the table for people.
#[derive(Debug)]
pub struct Line {
    pub goal: String,
    /// `None` where even the lowest rate is too high.
    pub found: Option<FoundLine>,
}

/// The highest rate that is not too high, in words.
#[derive(Debug)]
pub struct FoundLine {
    /// In columns of the same width for each goal.
    pub rate: String,
    pub too_high: Option<String>,
    /// That it was judged by.
    pub trials: u32,
    pub is_the_generators: bool,
}

impl<G: Goal + Serialize, T: Serialize> SearchResult<G, T> {
    /// Writes the result as JSON into `dir`; answers the files written.
    pub fn write(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        write_all(dir, vec![(dir.join(G::FILE), serde_json::to_vec_pretty(self)?)])
    }
}

/// A table for people.
impl<G: Goal, T> fmt::Display for SearchResult<G, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Provenance { scenario, build, .. } = &self.provenance;
        writeln!(f, "{scenario}, {} trials of {} s, {build} build", self.trials.len(), self.trial_seconds)?;
        for Line { goal, found } in self.goals.iter().map(Goal::line) {
            write!(f, "{goal}  ")?;
            let Some(FoundLine { rate, too_high, trials, is_the_generators }) = found else {
                writeln!(f, "none: even the lowest rate is too high")?;
                continue;
            };
            write!(f, "{rate}  ")?;
            match too_high {
                Some(too_high) => write!(f, "{too_high} is too high")?,
                None => f.write_str("the scenario's highest")?,
            }
            writeln!(f, "; by {trials} trials")?;
            if is_the_generators {
                writeln!(f, "  The generator could not {} more: the device may bear it.", G::VERB)?;
            }
        }
        if !self.is_complete {
            writeln!(f, "The search ran out of trials (search.most_trials): the rates are not settled.")?;
        }
        Ok(())
    }
}
