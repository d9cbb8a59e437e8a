//! Recovery after overload (RFC 2544 section 26.5): how long a device goes on losing frames once the load is bearable again.

use super::*;
use crate::load::schedule::Schedule;

/// By how much too high the rate is, and what it falls to: parts of the reference rate.
const OVERLOAD: f64 = 1.1;
const AFTER: f64 = 0.5;

/// Trials, one after the other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recovery {
    pub reference: Reference,
    pub overload: Overload,
    pub trials: Vec<RecoveryTrial>,
    /// The median of all trials; `None` where most did not recover in the time.
    pub seconds: Option<f64>,
}

/// What is sent in each trial.
#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Overload {
    /// Frames per second that are too many, and how long they are sent.
    pub frames: f64,
    pub seconds: f64,
    /// Frames per second that follow, and how long they are sent.
    pub frames_after: f64,
    pub seconds_after: f64,
}

#[derive(Copy, Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecoveryTrial {
    pub sent: u64,
    pub received: u64,
    /// From the fall of the rate until the last frame was sent that was lost. 0: none was. `None`: frames were still lost in
    /// the last tenth of the time.
    pub seconds: Option<f64>,
    /// The generator itself fell behind, so that the overload was less than it should be, or later.
    pub is_short: bool,
}

/// Overloads for as long as the scenario says, and then looks on for as long again, `trials` times.
pub fn recovery(
    scenario: &Scenario,
    reference: Reference,
    trials: u16,
    tester: &mut dyn Tester,
    watch: Watch<'_>,
) -> Result<Recovery> {
    let seconds = scenario.duration.as_secs_f64();
    let overload = Overload {
        frames: reference.frames * OVERLOAD,
        seconds,
        frames_after: reference.frames * AFTER,
        seconds_after: seconds,
    };
    let after = Rate::exactly(overload.frames_after);
    let mut done = Vec::new();
    for run in 1..=trials {
        watch(format!("{} overload {run} of {trials}", scenario.name), 2 * scenario.duration);
        let first = at_rate(scenario, overload.frames, run);
        let until_then = Schedule::new(first.rate, first.burst, first.duration).total();
        let outcome = tester.run(Trial { then: Some((after, scenario.duration)), ..first })?;
        // Frames of the second part are numbered from `until_then` on.
        let last = outcome.last_missing.and_then(|last| (last + 1).checked_sub(until_then));
        let lost_for = last.unwrap_or(0) as f64 / after.per_second();
        done.push(RecoveryTrial {
            sent: outcome.sent,
            received: outcome.arrived.received,
            seconds: (lost_for < 0.9 * seconds).then_some(lost_for),
            is_short: outcome.is_short(),
        });
    }
    let seconds = median(&done);
    Ok(Recovery { reference, overload, trials: done, seconds })
}

pub(super) fn median(trials: &[RecoveryTrial]) -> Option<f64> {
    let mut seconds: Vec<f64> = trials.iter().map(|trial| trial.seconds.unwrap_or(f64::INFINITY)).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().filter(|seconds| seconds.is_finite())
}

impl fmt::Display for Recovery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reference, overload, trials, seconds } = self;
        let Overload { frames, seconds: lasts, frames_after, .. } = overload;
        writeln!(
            f,
            "{} for {lasts:.1} s, then {}: 110 and 50 % of {reference}",
            pps(*frames),
            pps(*frames_after)
        )?;
        writeln!(f, "{:>6}{:>14}{:>14}{:>16}", "trial", "sent", "received", "recovered in")?;
        let told = |seconds: Option<f64>| {
            seconds.map_or_else(|| "not".to_owned(), |seconds| format!("{:.3} ms", seconds * 1e3))
        };
        for (trial, number) in trials.iter().zip(1..) {
            let RecoveryTrial { sent, received, seconds, is_short } = trial;
            let remark = if *is_short { "  the generator fell behind" } else { "" };
            writeln!(f, "{number:>6}{sent:>14}{received:>14}{:>16}{remark}", told(*seconds))?;
        }
        writeln!(f, "median{:>44}", told(*seconds))
    }
}
