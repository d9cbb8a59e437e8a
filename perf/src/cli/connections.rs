//! Commands whose load consists of connections.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use clap::Subcommand;
use pnat_shared::time::Duration;

use super::{Ports, now, tell_files};
use crate::bar::Bar;
use crate::connections;
use crate::load::medium::with_duplex;
use crate::load::scenario::TcpScenario;
use crate::load::scenario::tcp::Needs;
use crate::load::tcp::TcpTester;
use crate::load::tcp::result::TcpResult;
use crate::load::trial::Progress;

#[derive(Debug, Subcommand)]
pub(super) enum ConnectionsCommand {
    /// Search for the highest rates of new connections at which none fails, and few.
    ConnectionRate {
        /// The scenario, of connections; its classes that have a rate have it multiplied, up to search.highest.
        scenario: PathBuf,
        /// Write connection-rate.json into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        ports: Ports,
    },
    /// Hold more and more connections open at a time, until one fails or there are as many as the scenario has.
    Concurrent {
        /// The scenario, of connections; its concurrent classes are what grows.
        scenario: PathBuf,
        /// Write concurrent.json into this directory.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
        #[command(flatten)]
        ports: Ports,
    },
}

impl ConnectionsCommand {
    pub(super) fn run(self, out: &mut (impl Write + Send)) -> Result<()> {
        match self {
            Self::ConnectionRate { scenario, out: dir, ports } => {
                rate(&TcpScenario::load_with(&scenario, Needs::Rate)?, dir.as_deref(), ports.hold, out)
            }
            Self::Concurrent { scenario, out: dir, ports } => {
                let scenario = TcpScenario::load_with(&scenario, Needs::Concurrent)?;
                concurrent(&scenario, dir.as_deref(), ports.hold, out)
            }
        }
    }
}

/// Opens a scenario's connections once.
pub(super) fn load(
    scenario: &TcpScenario,
    dir: Option<&Path>,
    hold: bool,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let provenance = scenario.provenance(now());
    let trial = |tester: &mut dyn TcpTester, bar: &Bar| {
        warm_up(scenario, tester, bar)?;
        bar.begin(scenario.name.clone(), scenario.duration);
        tester.run(scenario.trial(1, scenario.duration))
    };
    measure(scenario, hold, trial, |outcome| {
        let result = TcpResult::new(provenance, &scenario.load.classes, &outcome);
        write!(out, "{result}")?;
        tell_files(out, dir, |dir| result.write(&outcome, dir))
    })
}

fn rate(scenario: &TcpScenario, dir: Option<&Path>, hold: bool, out: &mut (impl Write + Send)) -> Result<()> {
    let provenance = scenario.provenance(now());
    let trials = |tester: &mut dyn TcpTester, bar: &Bar| {
        warm_up(scenario, tester, bar)?;
        connections::rate(scenario, provenance, tester, |number, rate, duration| {
            bar.begin(format!("{} trial {number} at {rate:.0} cps", scenario.name), duration);
        })
    };
    measure(scenario, hold, trials, |result| {
        write!(out, "{result}")?;
        tell_files(out, dir, |dir| result.write(dir))
    })
}

fn concurrent(
    scenario: &TcpScenario,
    dir: Option<&Path>,
    hold: bool,
    out: &mut (impl Write + Send),
) -> Result<()> {
    let provenance = scenario.provenance(now());
    let steps = |tester: &mut dyn TcpTester, bar: &Bar| {
        connections::concurrent(scenario, provenance, tester, |connections, duration| {
            bar.begin(format!("{} with {connections}", scenario.name), duration);
        })
    };
    measure(scenario, hold, steps, |result| {
        write!(out, "{result}")?;
        tell_files(out, dir, |dir| result.write(dir))
    })
}

/// Has trials made of connections on the scenario's medium, and told.
fn measure<T>(
    scenario: &TcpScenario,
    hold: bool,
    trials: impl FnOnce(&mut dyn TcpTester, &Bar) -> Result<T> + Send,
    tell: impl FnOnce(T) -> Result<()> + Send,
) -> Result<()> {
    let progress = Arc::new(Progress::default());
    let measured = |tester: &mut dyn TcpTester| trials(tester, &Bar::of_connections(progress.clone()));
    with_duplex(scenario, progress.clone(), hold, measured, tell)
}

fn warm_up(scenario: &TcpScenario, tester: &mut dyn TcpTester, bar: &Bar) -> Result<()> {
    if scenario.warm_up > Duration::ZERO {
        bar.begin("warm-up".to_owned(), scenario.warm_up);
        tester.run(scenario.trial(0, scenario.warm_up))?;
    }
    Ok(())
}
