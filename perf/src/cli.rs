//! `pnat-perf`'s commands.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use pnat_dataplane::port::capsule::RuntimeError;
use pnat_shared::config::ConfigError;
use pnat_shared::time::Duration;

use crate::bar::Bar;
use crate::load::medium::with_medium;
use crate::load::result::{LoadResult, Provenance, pps};
use crate::load::scenario::AnyScenario;
use crate::load::trial::Progress;
use crate::load::{Outcome, Scenario, Tester};
use crate::method::MethodError;
use crate::{guard, ndr, report};

mod connections;
mod trials;

use connections::ConnectionsCommand;
use trials::TrialsCommand;

/// PNAT's load generator: sends a scenario's load through a device under test and accounts for every frame.
#[derive(Debug, Parser)]
#[command(name = "pnat-perf", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a scenario's load once and say what became of it.
    Load {
        /// The scenario, as in perf/scenarios/nat-64b.toml.
        scenario: PathBuf,
        /// Write result.json (of connections: tcp.json) and the distributions into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        ports: Ports,
    },
    /// Search for the highest rates at which nothing is lost (NDR), and at most a little (PDR).
    Ndr {
        /// The scenario; its rate is the highest that is tried, its section "search" says how.
        scenario: PathBuf,
        /// Write ndr.json into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        ports: Ports,
    },
    #[command(flatten)]
    Trials(TrialsCommand),
    #[command(flatten)]
    Connections(ConnectionsCommand),
    /// Tell what runs have shown: report.html with charts, report.md with tables. The first run is what the others are
    /// compared with.
    Report {
        /// Directories that runs were written into.
        #[arg(required = true, value_name = "RUN")]
        runs: Vec<PathBuf>,
        /// Write into this directory.
        #[arg(long, value_name = "DIR", default_value = ".")]
        out: PathBuf,
    },
    /// Count what a packet costs (by valgrind) and hold it against the baselines; fails where it is too much.
    Compare(guard::Compare),
}

#[derive(Debug, Args)]
struct Ports {
    /// When the results are written, keep the DPDK ports open until the device under test has closed its own, a minute at
    /// most: a device whose memif is polled may crash when its peer leaves.
    #[arg(long)]
    hold: bool,
}

/// What the process ends with.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_operators = error.is::<ConfigError>()
        || error.is::<MethodError>()
        || matches!(error.downcast_ref::<RuntimeError>(), Some(RuntimeError::Plan(_)));
    if is_operators { ExitCode::from(2) } else { ExitCode::FAILURE }
}

impl Cli {
    /// Does what was asked; answers go to `out`.
    pub fn run(self, out: &mut (impl Write + Send)) -> Result<()> {
        match self.command {
            Command::Load { scenario, out: dir, ports } => match AnyScenario::load(&scenario)? {
                AnyScenario::Frames(scenario) => load(&scenario, dir.as_deref(), ports.hold, out),
                AnyScenario::Tcp(scenario) => connections::load(&scenario, dir.as_deref(), ports.hold, out),
            },
            Command::Ndr { scenario, out: dir, ports } => {
                search(&Scenario::load(&scenario)?, dir.as_deref(), ports.hold, out)
            }
            Command::Trials(command) => command.run(out),
            Command::Connections(command) => command.run(out),
            Command::Report { runs, out: dir } => {
                let page = report::page(&report::read(&runs)?)?;
                tell_files(out, Some(&dir), |dir| report::write(&page, dir))
            }
            Command::Compare(compare) => compare.run(out),
        }
    }
}

fn load(scenario: &Scenario, dir: Option<&Path>, hold: bool, out: &mut (impl Write + Send)) -> Result<()> {
    let provenance = Provenance::new(scenario, now());
    let trial = |tester: &mut dyn Tester, bar: &Bar| {
        bar.begin(scenario.name.clone(), scenario.duration);
        tester.run(scenario.trial(1, scenario.duration))
    };
    measure(scenario, hold, trial, |outcome| {
        let result = LoadResult::new(provenance, &outcome);
        write!(out, "{result}")?;
        if let Some(inside) = &outcome.inside {
            write!(out, "\n{}", inside.account(result.latency.mean, result.late.mean))?;
        }
        tell_files(out, dir, |dir| result.write(&outcome, dir))
    })
}

fn search(scenario: &Scenario, dir: Option<&Path>, hold: bool, out: &mut (impl Write + Send)) -> Result<()> {
    let provenance = Provenance::new(scenario, now());
    let trials = |tester: &mut dyn Tester, bar: &Bar| {
        ndr::run(scenario, provenance, tester, |number, rate, duration| {
            bar.begin(format!("{} trial {number} at {}", scenario.name, pps(rate)), duration);
        })
    };
    measure(scenario, hold, trials, |result| {
        write!(out, "{result}")?;
        tell_files(out, dir, |dir| result.write(dir))
    })
}

/// Has trials made of frames on the scenario's medium, after its warm-up, and told.
fn measure<T>(
    scenario: &Scenario,
    hold: bool,
    trials: impl FnOnce(&mut dyn Tester, &Bar) -> Result<T> + Send,
    tell: impl FnOnce(T) -> Result<()> + Send,
) -> Result<()> {
    let progress = Arc::new(Progress::default());
    let measured = |tester: &mut dyn Tester| {
        let bar = Bar::new(progress.clone());
        warm_up(scenario, tester, &bar)?;
        trials(tester, &bar)
    };
    with_medium(scenario, progress.clone(), hold, measured, tell)
}

/// Has files written into the directory, where one is given, and tells them.
fn tell_files(
    out: &mut impl Write,
    dir: Option<&Path>,
    write: impl FnOnce(&Path) -> io::Result<Vec<PathBuf>>,
) -> Result<()> {
    for file in dir.map_or_else(|| Ok(Vec::new()), write)? {
        writeln!(out, "wrote {}", file.display())?;
    }
    Ok(out.flush()?)
}

/// Opens flows and lets neighbors find each other, where the scenario asks for it. What it shows is not looked at.
fn warm_up(scenario: &Scenario, tester: &mut dyn Tester, bar: &Bar) -> Result<Option<Outcome>> {
    if scenario.warm_up == Duration::ZERO {
        return Ok(None);
    }
    bar.begin("warm-up".to_owned(), scenario.warm_up);
    tester.run(scenario.trial(0, scenario.warm_up)).map(Some)
}

#[expect(clippy::disallowed_methods, reason = "a result says when it was made")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }
}
