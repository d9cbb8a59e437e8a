//! `pnat-perf`'s commands.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use pnat_dataplane::port::capsule::RuntimeError;
use pnat_scenes::rows::{ROWS, Row};
use pnat_shared::config::ConfigError;
use pnat_shared::time::Duration;

use crate::bar::Bar;
use crate::guard::baseline::Baselines;
use crate::guard::{self, Comparison};
use crate::load::medium::with_medium;
use crate::load::result::{LoadResult, Provenance, pps};
use crate::load::trial::Progress;
use crate::load::{Outcome, Scenario, Tester};
use crate::ndr;

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
        /// Write result.json, latency.hlog, latency.hgrm and late.hgrm into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Search for the highest rates at which nothing is lost (NDR), and at most a little (PDR).
    Ndr {
        /// The scenario; its rate is the highest that is tried, its section "search" says how.
        scenario: PathBuf,
        /// Write ndr.json into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// Count what a packet costs (by valgrind) and hold it against the baselines; fails where it is too much.
    Compare {
        #[arg(long, value_name = "FILE", default_value = "perf/baselines.toml")]
        baselines: PathBuf,
        /// Only this row; may be given several times.
        #[arg(long = "row", value_name = "NAME", value_parser = row)]
        rows: Vec<&'static Row>,
        /// The program that runs rows; the one beside this one where it is not named.
        #[arg(long, value_name = "FILE")]
        program: Option<PathBuf>,
        /// Write what was counted into the file of baselines.
        #[arg(long)]
        update: bool,
    },
}

fn row(name: &str) -> Result<&'static Row, String> {
    let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    Row::named(name).ok_or_else(|| format!("there are {}", names()))
}

/// What the process ends with.
pub fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_operators = error.is::<ConfigError>()
        || matches!(error.downcast_ref::<RuntimeError>(), Some(RuntimeError::Plan(_)));
    if is_operators { ExitCode::from(2) } else { ExitCode::FAILURE }
}

impl Cli {
    /// Does what was asked; answers go to `out`.
    pub fn run(self, out: &mut impl Write) -> Result<()> {
        match self.command {
            Command::Load { scenario, out: dir } => load(&Scenario::load(&scenario)?, dir.as_deref(), out),
            Command::Ndr { scenario, out: dir } => search(&Scenario::load(&scenario)?, dir.as_deref(), out),
            Command::Compare { baselines, rows, program, update } => {
                compare(&baselines, rows, program, update, out)
            }
        }
    }
}

fn compare(
    file: &Path,
    mut rows: Vec<&'static Row>,
    program: Option<PathBuf>,
    update: bool,
    out: &mut impl Write,
) -> Result<()> {
    let known = if update && !file.exists() { None } else { Some(Baselines::load(file)?) };
    if rows.is_empty() {
        rows.extend(&ROWS);
    }
    let program = match program {
        Some(program) => program,
        None => std::env::current_exe().context("this program")?.with_file_name("pnat-rows"),
    };
    ensure!(program.is_file(), "{} is missing: cargo build --release", program.display());
    let counted = guard::count(&program, rows)?;
    let next = update.then(|| guard::updated(&counted, known.as_ref())).transpose()?;
    if let Some(known) = known.as_ref().or(next.as_ref()) {
        let comparison = Comparison::new(&counted, known, guard::cpu());
        write!(out, "{comparison}")?;
        let worse = comparison.worse();
        ensure!(update || worse.is_empty(), "beyond the bound: {}", worse.join(", "));
    }
    if let Some(next) = next {
        std::fs::write(file, next.to_string()).with_context(|| file.display().to_string())?;
        writeln!(out, "wrote {}", file.display())?;
    }
    Ok(())
}

fn load(scenario: &Scenario, dir: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let provenance = Provenance::new(scenario, now());
    let progress = Arc::new(Progress::default());
    let outcome = with_medium(scenario, progress.clone(), |tester| {
        let bar = Bar::new(progress);
        warm_up(scenario, tester, &bar)?;
        bar.begin(scenario.name.clone(), scenario.duration);
        tester.run(scenario.trial(1, scenario.duration))
    })?;
    let result = LoadResult::new(provenance, &outcome);
    write!(out, "{result}")?;
    for file in dir.map_or_else(|| Ok(Vec::new()), |dir| result.write(&outcome, dir))? {
        writeln!(out, "wrote {}", file.display())?;
    }
    Ok(())
}

fn search(scenario: &Scenario, dir: Option<&Path>, out: &mut impl Write) -> Result<()> {
    let provenance = Provenance::new(scenario, now());
    let progress = Arc::new(Progress::default());
    let result = with_medium(scenario, progress.clone(), |tester| {
        let bar = Bar::new(progress);
        warm_up(scenario, tester, &bar)?;
        ndr::run(scenario, provenance, tester, |number, rate, duration| {
            bar.begin(format!("{} trial {number} at {}", scenario.name, pps(rate)), duration);
        })
    })?;
    write!(out, "{result}")?;
    for file in dir.map_or_else(|| Ok(Vec::new()), |dir| result.write(dir))? {
        writeln!(out, "wrote {}", file.display())?;
    }
    Ok(())
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
