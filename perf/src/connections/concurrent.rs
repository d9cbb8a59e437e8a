//! How many connections a device under test holds at a time: more in each step, until one fails or there are as many as the
//! scenario has.

use core::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use crate::load::result::{Provenance, write_all};
use crate::load::scenario::TcpScenario;
use crate::load::tcp::{TcpOutcome, TcpTester, TcpTrial};

/// The first step has this part of the scenario's connections, and each twice as many as the one before.
const FIRST: u32 = 16;

/// What the steps have shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConcurrentResult {
    pub provenance: Provenance,
    /// Connections of the last step in which none failed; `None` where there is no such.
    pub held: Option<u64>,
    pub steps: Vec<StepResult>,
}

/// So many connections at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StepResult {
    /// That were to be open, and that were when the step's time was over.
    pub connections: u64,
    pub open: u64,
    pub failed: u64,
    pub transactions: u64,
    /// From a request to its response's last byte, in nanoseconds.
    pub request_p50: u64,
    pub request_p99: u64,
    /// Memory of this process when the step's time was over, in bytes.
    pub resident: u64,
    /// By how much each open connection has added to what the process had at first, in bytes: both ends, and where the gateway is
    /// in memory all that it keeps, too.
    pub per_connection: u64,
}

impl StepResult {
    fn new(connections: u32, outcome: &TcpOutcome, before: u64) -> Self {
        let (all, [_, resident]) = (outcome.all(), outcome.resident);
        let open = outcome.open_at_close;
        Self {
            connections: connections.into(),
            open,
            failed: all.counts.failed.total() + all.counts.unstarted,
            transactions: all.counts.transactions,
            request_p50: all.request.value_at_quantile(0.5),
            request_p99: all.request.value_at_quantile(0.99),
            resident,
            per_connection: resident.saturating_sub(before).checked_div(open).unwrap_or(0),
        }
    }

    /// Whether all connections were open at the end, and none had failed.
    pub const fn holds(&self) -> bool {
        self.failed == 0 && self.open >= self.connections
    }
}

/// Opens more and more connections; `watch` is told of each step before it begins.
pub fn concurrent(
    scenario: &TcpScenario,
    provenance: Provenance,
    tester: &mut dyn TcpTester,
    mut watch: impl FnMut(u32, Duration),
) -> Result<ConcurrentResult> {
    let all = scenario.load.concurrent();
    let (mut connections, mut steps, mut before) = (all.div_ceil(FIRST), Vec::<StepResult>::new(), None);
    loop {
        watch(connections, scenario.duration);
        let run = (steps.len() + 1) as u16;
        let load = scenario.load.with_concurrent(connections);
        let outcome = tester.run(TcpTrial { load, ..scenario.trial(run, scenario.duration) })?;
        let [first, _] = outcome.resident;
        steps.push(StepResult::new(connections, &outcome, *before.get_or_insert(first)));
        let holds = steps.last().is_some_and(StepResult::holds);
        if !holds || connections >= all {
            break;
        }
        connections = connections.saturating_mul(2).min(all);
    }
    let held = steps.iter().filter(|step| step.holds()).map(|step| step.connections).max();
    Ok(ConcurrentResult { provenance, held, steps })
}

impl ConcurrentResult {
    /// Writes `concurrent.json` into `dir`; answers the files written.
    pub fn write(&self, dir: &Path) -> std::io::Result<Vec<PathBuf>> {
        write_all(dir, vec![(dir.join("concurrent.json"), serde_json::to_vec_pretty(self)?)])
    }
}

/// A table for people.
impl fmt::Display for ConcurrentResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use pnat_dataplane::control::nanos;
        let Provenance { scenario, build, .. } = &self.provenance;
        writeln!(f, "{scenario}, {build} build")?;
        writeln!(
            f,
            "{:>12}{:>12}{:>9}{:>14}{:>13}{:>13}{:>12}{:>14}",
            "connections", "open", "failed", "transactions", "request p50", "request p99", "memory", "each"
        )?;
        for step in &self.steps {
            let StepResult { connections, open, failed, transactions, resident, per_connection, .. } = step;
            let memory = format!("{} MB", resident / 1_000_000);
            let times = [step.request_p50, step.request_p99].map(nanos);
            writeln!(
                f,
                "{connections:>12}{open:>12}{failed:>9}{transactions:>14}{:>13}{:>13}{memory:>12}{:>14}",
                times[0],
                times[1],
                format!("{per_connection} bytes")
            )?;
        }
        match self.held {
            Some(held) if self.steps.last().is_some_and(StepResult::holds) => {
                writeln!(f, "All {held} were held: the scenario has no more.")
            }
            Some(held) => writeln!(f, "{held} were held."),
            None => writeln!(f, "Even the first step's were not held."),
        }
    }
}
