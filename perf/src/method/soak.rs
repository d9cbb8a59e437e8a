//! Soak: one rate for a long time, and what it does to the memory of the processes under it.

use super::*;

/// What a long load has shown, besides its own result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Soak {
    pub seconds: f64,
    pub sent: u64,
    pub lost: u64,
    /// Of the frames sent, from 0 to 1.
    pub loss_ratio: f64,
    /// The most frames that were sent in one second and did not come in it, and the end of that second.
    pub worst: Option<WorstSecond>,
    pub processes: Vec<ProcessMemory>,
}

#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WorstSecond {
    /// In seconds since the start.
    pub end: f64,
    pub missing: u64,
}

/// Sends for as long as the scenario says; looks at the processes before, once the flows are open, and after.
pub fn soak(
    scenario: &Scenario,
    provenance: Provenance,
    processes: &[Process],
    tester: &mut dyn Tester,
    watch: Watch<'_>,
) -> Result<(Soak, LoadResult, Outcome)> {
    let before: Vec<u64> = processes.iter().map(Process::memory).collect::<Result<_, _>>()?;
    watch(scenario.name.clone(), scenario.duration);
    let outcome = tester.run(scenario.trial(1, scenario.duration))?;
    let memory = processes.iter().zip(before).map(|(process, before)| process.memory_since(before));
    let processes = memory.collect::<Result<_, _>>()?;
    let result = LoadResult::new(provenance, &outcome);
    let full = result.intervals.iter().filter(|interval| interval.sent > 0);
    let worst = full.map(|interval| WorstSecond {
        end: interval.end,
        missing: interval.sent.saturating_sub(interval.received),
    });
    let soak = Soak {
        seconds: result.seconds,
        sent: result.frames.sent,
        lost: result.frames.lost,
        loss_ratio: result.loss_ratio,
        worst: worst.max_by_key(|second| second.missing),
        processes,
    };
    Ok((soak, result, outcome))
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seconds, sent, lost, loss_ratio, worst, processes } = self;
        writeln!(f, "{seconds:.0} s: {sent} sent, {lost} lost ({})", percent(*loss_ratio))?;
        if let Some(WorstSecond { end, missing }) = worst.filter(|second| second.missing > 0) {
            writeln!(f, "worst: {missing} did not come in the second that ended at {end:.0} s")?;
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        for ProcessMemory { name, pid, before, after } in processes {
            let (before, after) = (mib(*before), mib(*after));
            writeln!(f, "{name} ({pid}): {before:.1} MiB before, {after:.1} MiB after")?;
        }
        Ok(())
    }
}
