//! What takes several trials: throughput by frame size, latency under load, recovery after overload (RFC 2544 section 26), soak.
//!
//! Each is a function of a scenario and a [`Tester`]; what it has shown is a [`Method`], and a command's file `trials.json` a
//! [`TrialsResult`]. They know no clock, port or device.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::load::result::{LoadResult, Percentiles, Provenance, pps, write_all};
use crate::load::schedule::Rate;
use crate::load::trial::Outcome;
use crate::load::{Scenario, Tester, Trial};

mod latency;
mod process;
mod recovery;
mod reference;
mod soak;
mod throughput;
#[cfg(test)]
mod tests;

pub use latency::{AtLoad, LatencyUnderLoad, latency};
pub use process::{Process, ProcessMemory};
pub use recovery::{Overload, Recovery, RecoveryTrial, recovery};
pub use reference::Reference;
pub use soak::{Soak, WorstSecond, soak};
pub use throughput::{SizeRates, Throughput, parse_size, throughput};

/// `trials.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrialsResult {
    pub provenance: Provenance,
    #[serde(flatten)]
    pub method: Method,
}

/// What was done, and what it has shown. The file says which by `method`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "lowercase")]
pub enum Method {
    Throughput(Throughput),
    Latency(LatencyUnderLoad),
    Recovery(Recovery),
    Soak(Soak),
}

/// What is wrong with what a command was asked for; nothing was touched.
#[derive(Debug, Error)]
pub enum MethodError {
    #[error("{}: {source}", file.display())]
    Unreadable { file: PathBuf, source: io::Error },
    #[error("{}: not what `pnat-perf ndr` writes: {source}", file.display())]
    NoNdr { file: PathBuf, source: serde_json::Error },
    #[error("{}: the search has found no rate to go by", file.display())]
    NoRate { file: PathBuf },
    #[error("there is no process {pid} whose memory can be read: {source}")]
    NoProcess { pid: u32, source: io::Error },
}

/// Is told what is under way and how long it takes.
pub type Watch<'a> = &'a mut dyn FnMut(String, pnat_shared::time::Duration);

impl TrialsResult {
    /// Writes `trials.json` into `dir`; answers the files written.
    pub fn write(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        write_all(dir, vec![(dir.join("trials.json"), serde_json::to_vec_pretty(self)?)])
    }
}

/// A table for people.
impl fmt::Display for TrialsResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Provenance { scenario, build, .. } = &self.provenance;
        writeln!(f, "{scenario}, {build} build")?;
        match &self.method {
            Method::Throughput(throughput) => throughput.fmt(f),
            Method::Latency(latency) => latency.fmt(f),
            Method::Recovery(recovery) => recovery.fmt(f),
            Method::Soak(soak) => soak.fmt(f),
        }
    }
}

/// The scenario's load at another rate, in frames per second.
fn at_rate(scenario: &Scenario, rate: f64, run: u16) -> Trial {
    Trial { rate: Rate::exactly(rate), ..scenario.trial(run, scenario.duration) }
}

fn percent(ratio: f64) -> String {
    format!("{:.4} %", ratio * 100.0)
}
