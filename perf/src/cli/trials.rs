//! The commands that take several trials.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::{Ports, measure, now, tell_files};
use crate::bar::Bar;
use crate::load::result::{LoadResult, Provenance};
use crate::load::sizes::Sizes;
use crate::load::trial::Outcome;
use crate::load::{Scenario, Tester};
use crate::method::{self, Method, Process, Reference, TrialsResult, Watch};

/// RFC 2544 section 9.1, and the mix.
const SIZES: &str = "64,128,256,512,1024,1280,1518,imix";

#[derive(Debug, Subcommand)]
pub(super) enum TrialsCommand {
    /// Search for the highest rates by frame size (RFC 2544 section 26.1).
    Throughput {
        #[command(flatten)]
        common: Common,
        /// Frame sizes in bytes with the frame check sequence, or "imix", in place of the scenario's.
        #[arg(long, value_name = "SIZES", value_delimiter = ',', value_parser = size, default_value = SIZES)]
        sizes: Vec<(String, Sizes)>,
    },
    /// Measure latency at 10, 50 and 90 % of the highest rate without loss, for the scenario's duration each.
    Latency {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        rate: GivenRate,
    },
    /// Overload the device by 110 % of the highest rate without loss for the scenario's duration, then send half of that rate:
    /// how long goes it on losing frames (RFC 2544 section 26.5)?
    Recovery {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        rate: GivenRate,
        /// Trials; the result is their median.
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=1000))]
        trials: u16,
    },
    /// Send a scenario's load for a long time; tell what was lost, and what became of processes' memory.
    Soak {
        #[command(flatten)]
        common: Common,
        /// How long, as in "10m", in place of the scenario's duration.
        #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
        duration: Option<std::time::Duration>,
        /// A process whose memory is looked at before and after; may be given several times.
        #[arg(long = "pid", value_name = "PID")]
        pids: Vec<u32>,
    },
}

#[derive(Debug, Args)]
pub(super) struct Common {
    /// The scenario; its section "search" says how rates are searched.
    scenario: PathBuf,
    /// Write trials.json and the trials' distributions into this directory.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    ports: Ports,
}

/// The rate of which others are parts. Searched for unless given.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub(super) struct GivenRate {
    /// The highest rate without loss, as in 4.1e6, in frames per second.
    #[arg(long, value_name = "FRAMES", value_parser = rate)]
    rate: Option<f64>,
    /// A file that `pnat-perf ndr` has written, which knows it.
    #[arg(long, value_name = "FILE")]
    ndr: Option<PathBuf>,
}

impl GivenRate {
    fn read(self) -> Result<Option<Reference>> {
        let given = self.rate.map(|frames| Reference { of: "rate".to_owned(), frames });
        Ok(match self.ndr {
            Some(file) => Some(Reference::read(&file)?),
            None => given,
        })
    }
}

fn size(text: &str) -> Result<(String, Sizes), String> {
    let sizes = method::parse_size(text).filter(|sizes| (64..=1518).contains(&sizes.extremes().0));
    Ok((text.to_owned(), sizes.ok_or("allowed: 64 to 1518, or imix")?))
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| (1.0..=1e12).contains(rate));
    rate.ok_or_else(|| "allowed: 1 to 1e12 frames per second".to_owned())
}

/// What a command has shown: its result, and the results of trials with the directories below its own that they go to.
struct Shown {
    method: Method,
    loads: Vec<(PathBuf, LoadResult, Outcome)>,
}

impl TrialsCommand {
    pub(super) fn run(self, out: &mut (impl Write + Send)) -> Result<()> {
        match self {
            Self::Throughput { common, sizes } => {
                let scenario = Scenario::load(&common.scenario)?;
                common.run(&scenario, out, |_, tester, watch| {
                    let found = method::throughput(&scenario, &sizes, tester, watch)?;
                    Ok(Shown { method: Method::Throughput(found), loads: Vec::new() })
                })
            }
            Self::Latency { common, rate } => {
                let (scenario, reference) = (Scenario::load(&common.scenario)?, rate.read()?);
                common.run(&scenario, out, |provenance, tester, watch| {
                    let reference = known(reference, &scenario, tester, watch)?;
                    let (found, results) = method::latency(&scenario, provenance, reference, tester, watch)?;
                    let dirs = found.loads.iter().map(|load| format!("{}-percent", load.percent).into());
                    let loads = dirs.zip(results).map(|(dir, (result, outcome))| (dir, result, outcome));
                    Ok(Shown { loads: loads.collect(), method: Method::Latency(found) })
                })
            }
            Self::Recovery { common, rate, trials } => {
                let (scenario, reference) = (Scenario::load(&common.scenario)?, rate.read()?);
                common.run(&scenario, out, |_, tester, watch| {
                    let reference = known(reference, &scenario, tester, watch)?;
                    let found = method::recovery(&scenario, reference, trials, tester, watch)?;
                    Ok(Shown { method: Method::Recovery(found), loads: Vec::new() })
                })
            }
            Self::Soak { common, duration, pids } => {
                let mut scenario = Scenario::load(&common.scenario)?;
                scenario.duration = duration.unwrap_or(scenario.duration);
                let processes = pids.into_iter().map(Process::find).collect::<Result<Vec<_>, _>>()?;
                common.run(&scenario, out, |provenance, tester, watch| {
                    let (found, result, outcome) =
                        method::soak(&scenario, provenance.clone(), &processes, tester, watch)?;
                    let loads = vec![(PathBuf::new(), result, outcome)];
                    Ok(Shown { method: Method::Soak(found), loads })
                })
            }
        }
    }
}

fn known(
    given: Option<Reference>,
    scenario: &Scenario,
    tester: &mut dyn Tester,
    watch: Watch<'_>,
) -> Result<Reference> {
    given.map_or_else(|| Reference::search(scenario, tester, watch), Ok)
}

impl Common {
    /// Runs what `trials` says on the scenario's medium, tells and writes what it has shown.
    fn run(
        self,
        scenario: &Scenario,
        out: &mut (impl Write + Send),
        trials: impl FnOnce(&Provenance, &mut dyn Tester, Watch<'_>) -> Result<Shown> + Send,
    ) -> Result<()> {
        let provenance = Provenance::new(scenario, now());
        let measured = |tester: &mut dyn Tester, bar: &Bar| {
            trials(&provenance, tester, &mut |what, lasts| bar.begin(what, lasts))
        };
        measure(scenario, self.ports.hold, measured, |shown| {
            let result = TrialsResult { provenance: provenance.clone(), method: shown.method };
            write!(out, "{result}")?;
            let Some(dir) = &self.out else { return Ok(()) };
            for (below, load, outcome) in &shown.loads {
                tell_files(out, Some(&dir.join(below)), |dir| load.write(outcome, dir))?;
            }
            // The last file: once it is there, all are.
            tell_files(out, Some(dir), |dir| result.write(dir))
        })
    }
}
