//! Measures TCP over bad paths and writes what it finds into `perf/snapshots/netsim.txt`.

#![forbid(unsafe_code)]

use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use pnat_perf::netsim::cell::{Algorithm, BULK, Cell, RATE};
use pnat_perf::netsim::linux::{self, Plan};
use pnat_perf::netsim::table::{Table, Whose};
use pnat_perf::netsim::{flow, gateway, split};

const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/snapshots/netsim.txt");

/// Before what a quick run says of itself.
const AGAIN: &str = " | 1.0 20 ordered again: ";

/// TCP over bad paths: our engine in virtual time, Linux over a user-space relay.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// Recompute our rows and write the snapshot (about a minute and a half).
    Ours,
    /// Measure Linux's rows over the relay and write the snapshot. Needs root, and two CPUs that are not busy.
    Linux {
        /// Only the cells that the goals name, less often: about two minutes. Other rows stay as they are.
        #[arg(long)]
        quick: bool,
    },
    /// Measure the split gain of the running program between Linux hosts, in the lab (`scripts/lab`). Needs root, two CPUs that
    /// are not busy, and `cargo build --release`. Writes nothing.
    Gateway {
        /// How often each way has its turn.
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// How long a download lasts, in seconds.
        #[arg(long, default_value_t = 20)]
        seconds: u64,
    },
}

fn main() -> Result<()> {
    let mut table = Table::read(&fs::read_to_string(SNAPSHOT).unwrap_or_default());
    match Arguments::parse().what {
        What::Ours => {}
        What::Linux { quick } => measure_linux(&mut table, quick)?,
        What::Gateway { rounds, seconds } => return measure_gateway(rounds, Duration::from_secs(seconds)),
    }
    // Ours are cheap, and then the goals always hold what they should.
    compute_ours(&mut table);
    fs::create_dir_all(Path::new(SNAPSHOT).parent().expect("invariant: in a folder"))?;
    fs::write(SNAPSHOT, table.to_string()).context(SNAPSHOT)?;
    tell(&table)
}

fn compute_ours(table: &mut Table) {
    table.clear(Whose::Ours);
    for algorithm in Algorithm::ALL {
        for cell in Cell::all() {
            table.put(algorithm, cell, Whose::Ours, flow::measure(algorithm, cell));
        }
        table.put_gain(algorithm, split::measure(algorithm));
    }
}

fn measure_linux(table: &mut Table, quick: bool) -> Result<()> {
    let goal = |cell: &Cell| cell.loss == 10 && cell.rtt == 20 && !cell.reordered;
    let plan = Plan {
        cells: Cell::all().into_iter().filter(|cell| !quick || goal(cell)).collect(),
        algorithms: Algorithm::ALL.to_vec(),
        bulk: BULK,
        transfers: [400, 400, 60],
        load: RATE as f64 * 1.1,
    };
    let measured = linux::measure(&plan)?;
    for (algorithm, cell, figures) in measured.figures {
        table.put(algorithm, cell, Whose::Linux, figures);
    }
    let late = |share| Duration::from_micros(measured.relay.late.value_at_quantile(share));
    let run = format!(
        "{}, Linux {}, in {} s; {} packets passed, {} lost; late by {:?} (median), {:?} (p99), {:?} (p99.9)",
        output("date", "--iso-8601")?,
        output("uname", "-r")?,
        measured.took.as_secs(),
        measured.relay.passed,
        measured.relay.lost,
        late(0.5),
        late(0.99),
        late(0.999),
    );
    // A quick run leaves most rows to the run before it, and so that run's line, too.
    let all = table.measured.split(AGAIN).next().unwrap_or_default().to_owned();
    table.measured = if quick { format!("{all}{AGAIN}{run}") } else { run };
    Ok(())
}

fn measure_gateway(rounds: usize, lasts: Duration) -> Result<()> {
    let measured = gateway::measure(rounds, lasts)?;
    let mut out = stdout();
    for (algorithm, gain) in measured.gains {
        writeln!(out, "split gain of the program, {:<5} on the lossy leg: {gain}", algorithm.name())?;
    }
    for (leg, relay) in ["client's", "server's"].into_iter().zip(measured.relays) {
        let late = Duration::from_micros(relay.late.value_at_quantile(0.99));
        writeln!(
            out,
            "the {leg} leg: {} packets passed, {} lost; late by {late:?} (p99)",
            relay.passed, relay.lost
        )?;
    }
    Ok(())
}

fn output(program: &str, argument: &str) -> Result<String> {
    let output = Command::new(program).arg(argument).output().context(program.to_owned())?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// The goals that were missed.
fn tell(table: &Table) -> Result<()> {
    let mut out = stdout();
    writeln!(out, "written: {SNAPSHOT}")?;
    for goal in table.goals().into_iter().filter(|goal| !goal.met) {
        let reached = goal.reached.map_or_else(|| "not measured".into(), |reached| format!("{reached:.2}"));
        writeln!(out, "missed: {}: {reached}", goal.text)?;
    }
    Ok(())
}
