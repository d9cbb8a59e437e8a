//! Latency under load (RFC 2544 section 26.2, by histograms): at parts of the rate that the device under test bears.

use pnat_dataplane::control::nanos;

use super::*;

/// Parts of the reference rate, in percent.
const LOADS: [u32; 3] = [10, 50, 90];

/// By load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatencyUnderLoad {
    pub reference: Reference,
    pub loads: Vec<AtLoad>,
}

/// At one load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AtLoad {
    /// Part of the reference rate.
    pub percent: u32,
    /// Frames per second that were meant to be sent.
    pub frames: f64,
    /// Of the frames sent, from 0 to 1.
    pub loss_ratio: f64,
    /// The generator itself fell behind.
    pub is_short: bool,
    /// From intended send time to arrival, and how much of it was the generator's.
    pub latency: Percentiles,
    pub late: Percentiles,
}

/// Sends for as long as the scenario says at each load. Answers the trials' own results too.
pub fn latency(
    scenario: &Scenario,
    provenance: &Provenance,
    reference: Reference,
    tester: &mut dyn Tester,
    watch: Watch<'_>,
) -> Result<(LatencyUnderLoad, Vec<(LoadResult, Outcome)>)> {
    let (mut loads, mut results) = (Vec::new(), Vec::new());
    for (percent, run) in LOADS.into_iter().zip(1..) {
        let frames = reference.frames * f64::from(percent) / 100.0;
        let name = format!("{} at {percent} % of {reference}", scenario.name);
        watch(name.clone(), scenario.duration);
        let outcome = tester.run(at_rate(scenario, frames, run))?;
        let provenance = Provenance { scenario: name, ..provenance.clone() };
        let result = LoadResult::new(provenance, &outcome);
        let LoadResult { loss_ratio, is_short, latency, late, .. } = result.clone();
        loads.push(AtLoad { percent, frames, loss_ratio, is_short, latency, late });
        results.push((result, outcome));
    }
    Ok((LatencyUnderLoad { reference, loads }, results))
}

impl fmt::Display for LatencyUnderLoad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "at parts of {}", self.reference)?;
        write!(f, "{:>6}{:>14}{:>12}", "load", "frames", "lost")?;
        writeln!(
            f,
            "{:>10}{:>10}{:>10}{:>10}{:>10}{:>18}",
            "min", "p50", "p99", "p99.9", "max", "sent late, p99"
        )?;
        for AtLoad { percent, frames, loss_ratio, is_short, latency, late } in &self.loads {
            write!(f, "{percent:>4} %{:>14}{:>12}", pps(*frames), super::percent(*loss_ratio))?;
            let times = [latency.min, latency.p50, latency.p99, latency.p999, latency.max];
            times.into_iter().try_for_each(|time| write!(f, "{:>10}", nanos(time)))?;
            let remark = if *is_short { "  the generator fell behind" } else { "" };
            writeln!(f, "{:>18}{remark}", nanos(late.p99))?;
        }
        Ok(())
    }
}
