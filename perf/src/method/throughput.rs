//! Throughput by frame size (RFC 2544 section 26.1): the search for the highest rates, once for each size.

use super::*;
use crate::load::result::bit_rate;
use crate::load::sizes::{IMIX, Sizes};
use crate::ndr::{self, GoalResult};

/// By frame size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Throughput {
    pub sizes: Vec<SizeRates>,
}

/// What was found for one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizeRates {
    /// In bytes with the frame check sequence, or `imix`.
    pub size: String,
    /// Of a frame, on average.
    pub bits: f64,
    /// NDR, PDR.
    pub goals: Vec<GoalResult>,
    /// Whether the search came to its end before `search.most_trials`.
    pub is_complete: bool,
    pub trials: usize,
}

/// What `--sizes` names: bytes with the frame check sequence, or `imix`.
pub fn parse_size(text: &str) -> Option<Sizes> {
    if text == "imix" {
        return Sizes::new(&IMIX);
    }
    Sizes::new(&[(text.parse().ok()?, 1)])
}

/// Searches each size's rates. Sizes that have no room for the scenario's headers and stamp become the smallest that has.
pub fn throughput(
    scenario: &Scenario,
    sizes: &[(String, Sizes)],
    tester: &mut dyn Tester,
    watch: Watch<'_>,
) -> Result<Throughput> {
    let smallest = scenario.content.transport.smallest_frame();
    let mut found = Vec::with_capacity(sizes.len());
    for (size, sizes) in sizes {
        let mut scenario = scenario.clone();
        scenario.content.sizes = sizes.clone().at_least(smallest);
        let bits = scenario.content.sizes.mean_bits();
        let rates = ndr::find(&scenario, tester, |number, rate, duration| {
            watch(format!("{size}: trial {number} at {}", pps(rate)), duration);
        })?;
        let (goals, is_complete, trials) = (rates.goals, rates.is_complete, rates.trials.len());
        found.push(SizeRates { size: size.clone(), bits, goals, is_complete, trials });
    }
    Ok(Throughput { sizes: found })
}

impl fmt::Display for Throughput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>8}{:>8}{:>16}{:>18}{:>9}", "bytes", "goal", "frames", "bits", "trials")?;
        for SizeRates { size, goals, trials, is_complete, .. } in &self.sizes {
            for GoalResult { name, found, .. } in goals {
                write!(f, "{size:>8}{name:>8}")?;
                let Some(found) = found else {
                    writeln!(f, "  none: even the lowest rate is too high")?;
                    continue;
                };
                write!(f, "{:>16}{:>18}{trials:>9}", pps(found.frames), bit_rate(found.bits))?;
                let remark = match (found.is_the_generators, is_complete) {
                    (true, _) => "  the generator could not send more",
                    (_, false) => "  not settled: search.most_trials",
                    _ => "",
                };
                writeln!(f, "{remark}")?;
            }
        }
        Ok(())
    }
}
