//! What a gateway has measured of itself during a trial, beside what the generator has measured of it.
//!
//! The stages tell where packets were from the moment that the gateway fetched their burst to the moment that it had given it
//! away. The generator's latency holds more: the making of a frame after it was due, the wait in the receive queue, and the
//! time until the generator looks at what has come out. A medium with a gateway of its own knows when frames were at its ports,
//! so that the difference is told by its parts.

use core::fmt;

use pnat_dataplane::control::report::{Report, StageReport};
use pnat_shared::stats::Stage;

/// The gateway's own view of a trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Inside {
    pub report: Report,
    /// `None` where not as many frames left as came.
    pub ports: Option<Ports>,
}

/// What the gateway's ports know of frames: mean nanoseconds.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Ports {
    /// In a receive queue.
    pub wait: f64,
    /// From there to the outside of a port: what the stages are to account for.
    pub way: f64,
}

/// Both views as one account, for people.
#[derive(Copy, Clone, Debug)]
pub struct Account<'a> {
    inside: &'a Inside,
    /// Mean nanoseconds from sending to arrival.
    whole: f64,
}

impl Inside {
    /// Beside a generator whose frames took these means from when they were due, and were sent so much later.
    pub const fn account(&self, latency: f64, late: f64) -> Account<'_> {
        Account { inside: self, whole: latency - late }
    }

    /// The stages of the way that packets took, in order: through a proxy core where any did.
    pub fn way(&self) -> Vec<&StageReport> {
        let find = |stage: &Stage| {
            let mut stages = self.report.stages.iter();
            stages.find(|told| told.stage == stage.key() && told.count > 0)
        };
        let proxied: Vec<_> = Stage::PROXIED.iter().filter_map(find).collect();
        if proxied.is_empty() { find(&Stage::Nat).into_iter().collect() } else { proxied }
    }

    /// The sum of their means, in nanoseconds.
    pub fn sum(&self) -> f64 {
        self.way().iter().map(|stage| stage.mean).sum()
    }
}

impl fmt::Display for Account<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inside, whole } = *self;
        let mut row =
            |name: &str, mean: f64| writeln!(f, "{name:<26}{mean:>9.0} ns{:>8.1} %", mean / whole * 100.0);
        for stage in inside.way() {
            row(&stage.stage, stage.mean)?;
        }
        let sum = inside.sum();
        row("sum of the stages", sum)?;
        if let Some(Ports { wait, way }) = inside.ports {
            row("from port to port", way)?;
            row("in the receive queue", wait)?;
            row("made and looked for", whole - way - wait)?;
        }
        row("end to end, sent to seen", whole)?;
        if let Some(Ports { way, .. }) = inside.ports {
            writeln!(f, "the stages account for {:.1} % of the way from port to port", sum / way * 100.0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::{Gateway, WINDOW};
    use pnat_proxy::filter::Chains;
    use pnat_shared::config::{Action, Policy};

    fn inside(means: &[(Stage, f64)], ports: Option<Ports>) -> Inside {
        let policy = Policy::without_rules(Action::Nat);
        let mut report = Gateway::new(policy, Chains::new(Vec::new(), WINDOW), 1).report();
        for (stage, mean) in means {
            let told = report.stages.iter_mut().find(|told| told.stage == stage.key()).expect("all are told");
            (told.count, told.mean) = (1, *mean);
        }
        Inside { report, ports }
    }

    #[test]
    fn the_account_leaves_nothing_out() {
        let proxied = Stage::PROXIED.map(|stage| (stage, 100.0));
        let told =
            inside(&proxied, Some(Ports { wait: 80.0, way: 520.0 })).account(1_000.0, 200.0).to_string();
        let expected = "\
nat_in                          100 ns    12.5 %
ring_in                         100 ns    12.5 %
proxy                           100 ns    12.5 %
ring_out                        100 ns    12.5 %
nat_out                         100 ns    12.5 %
sum of the stages               500 ns    62.5 %
from port to port               520 ns    65.0 %
in the receive queue             80 ns    10.0 %
made and looked for             200 ns    25.0 %
end to end, sent to seen        800 ns   100.0 %
the stages account for 96.2 % of the way from port to port
";
        assert_eq!(told, expected);
    }

    #[test]
    fn translated_packets_have_one_stage() {
        let inside = inside(&[(Stage::Nat, 300.0), (Stage::Connect, 9e9)], None);
        assert_eq!((inside.way().len(), inside.sum()), (1, 300.0));
    }
}
