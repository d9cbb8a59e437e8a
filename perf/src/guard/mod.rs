//! The regression guard: what a packet costs now, beside what it cost when that was last agreed to.
//!
//! Costs are counted, not timed ([`callgrind`]): a machine that is busy with something else counts the same. What may differ
//! from one machine to another is the kind of CPU, where nothing is judged, and the C library, for which the bounds leave room.

use core::fmt;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

pub mod baseline;
pub mod callgrind;

use baseline::{Baseline, Baselines};
use callgrind::Cost;
use pnat_scenes::rows::{ROWS, Row};

/// Percent by which a row may be off that has no bound yet.
const USUAL_BOUND: u32 = 5;

/// What the command line says.
#[derive(Debug, clap::Args)]
pub struct Compare {
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
}

fn row(name: &str) -> Result<&'static Row, String> {
    let names = || ROWS.iter().map(|row| row.name).collect::<Vec<_>>().join(", ");
    Row::named(name).ok_or_else(|| format!("there are {}", names()))
}

impl Compare {
    /// Counts and compares; fails where a row is beyond its bound, unless that is what it costs from now on.
    pub fn run(self, out: &mut impl Write) -> Result<()> {
        let Self { baselines: file, mut rows, program, update } = self;
        let known = if update && !file.exists() { None } else { Some(Baselines::load(&file)?) };
        if rows.is_empty() {
            rows.extend(&ROWS);
        }
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe().context("this program")?.with_file_name("pnat-rows"),
        };
        ensure!(program.is_file(), "{} is missing: build it as perf/README.md says", program.display());
        let counted = count(&program, rows)?;
        let next = update.then(|| updated(&counted, known.as_ref())).transpose()?;
        if let Some(known) = known.as_ref().or(next.as_ref()) {
            let comparison = Comparison::new(&counted, known, cpu());
            write!(out, "{comparison}")?;
            let worse = comparison.worse();
            ensure!(update || worse.is_empty(), "beyond the bound: {}", worse.join(", "));
        }
        if let Some(next) = next {
            std::fs::write(&file, next.to_string()).with_context(|| file.display().to_string())?;
            writeln!(out, "wrote {}", file.display())?;
        }
        Ok(())
    }
}

/// The kind of this CPU, as far as it decides which loops run under valgrind.
pub fn cpu() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        if std::arch::is_x86_feature_detected!("avx2") { "x86_64, AVX2" } else { "x86_64" }
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        std::env::consts::ARCH
    }
}

/// A row, and what it costs now.
pub type Counted = (&'static Row, Cost);

/// Has `program` run rows under valgrind.
pub fn count(program: &Path, rows: impl IntoIterator<Item = &'static Row>) -> Result<Vec<Counted>> {
    rows.into_iter().map(|row| Ok((row, callgrind::count(program, row.name)?))).collect()
}

/// What was counted as the next baselines: bounds stay, and so do rows that were not counted.
pub fn updated(counted: &[Counted], former: Option<&Baselines>) -> Result<Baselines> {
    let rows = ROWS.iter().filter_map(|row| {
        let known = former.and_then(|former| former.of(row.name));
        let now = counted.iter().find(|(counted, _)| counted.name == row.name).map(|(_, cost)| *cost);
        let cost = now.or_else(|| known.map(|known| known.cost))?;
        let bound = known.map_or(USUAL_BOUND, |known| known.bound);
        Some(Baseline { row: row.name.to_owned(), cost, bound })
    });
    Ok(Baselines { cpu: cpu().to_owned(), valgrind: callgrind::version()?, rows: rows.collect() })
}

/// What becomes of a row.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Good,
    /// It costs more than its bound allows.
    Worse,
    /// It costs so much less that the baseline is of no use any more.
    Better,
    /// There is no baseline for it.
    New,
    /// The baseline is another kind of CPU's.
    OtherCpu,
}

impl Verdict {
    const fn words(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Worse => "WORSE",
            Self::Better => "better: --update",
            Self::New => "no baseline: --update",
            Self::OtherCpu => "not judged: another CPU's baseline",
        }
    }
}

/// Rows beside their baselines.
#[derive(Debug)]
pub struct Comparison<'a> {
    counted: &'a [Counted],
    baselines: &'a Baselines,
    cpu: &'a str,
}

impl<'a> Comparison<'a> {
    /// Of what was counted on a CPU of this kind.
    pub const fn new(counted: &'a [Counted], baselines: &'a Baselines, cpu: &'a str) -> Self {
        Self { counted, baselines, cpu }
    }

    /// Names of the rows that are beyond their bounds in the bad direction.
    pub fn worse(&self) -> Vec<&'static str> {
        let worse = self.counted.iter().filter(|(row, cost)| self.judge(row.name, *cost) == Verdict::Worse);
        worse.map(|(row, _)| row.name).collect()
    }

    fn judge(&self, row: &str, now: Cost) -> Verdict {
        let Some(Baseline { cost, bound, .. }) = self.baselines.of(row) else { return Verdict::New };
        if self.baselines.cpu != self.cpu {
            return Verdict::OtherCpu;
        }
        let bound = f64::from(*bound);
        let off = [off(cost.instructions, now.instructions), off(cost.cycles, now.cycles)];
        if off.iter().any(|off| *off > bound) {
            Verdict::Worse
        } else if off.iter().any(|off| *off < -bound) {
            Verdict::Better
        } else {
            Verdict::Good
        }
    }
}

/// How much more it is now, in percent.
fn off(before: u32, now: u32) -> f64 {
    100.0 * (f64::from(now) - f64::from(before)) / f64::from(before)
}

impl fmt::Display for Comparison<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<20} {:>28} {:>28} {:>6}",
            "", "instructions: was, is", "cycles (estimated): was, is", "bound"
        )?;
        for (row, now) in self.counted {
            let baseline = self.baselines.of(row.name);
            let column = |was: Option<u32>, is: u32| {
                let was_and_off = was.map_or_else(
                    || ["-".to_owned(), String::new()],
                    |was| [was.to_string(), format!("{:+.1} %", off(was, is))],
                );
                let [was, off] = was_and_off;
                format!("{was:>8} {is:>8} {off:>9}")
            };
            writeln!(
                f,
                "{:<20} {} {} {:>6}  {}",
                row.name,
                column(baseline.map(|baseline| baseline.cost.instructions), now.instructions),
                column(baseline.map(|baseline| baseline.cost.cycles), now.cycles),
                baseline.map_or_else(String::new, |baseline| format!("{} %", baseline.bound)),
                self.judge(row.name, *now).words()
            )?;
        }
        if self.baselines.cpu != self.cpu {
            writeln!(f, "the baselines are those of {}, and this is {}", self.baselines.cpu, self.cpu)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All rows, as the baselines have them, but for the first one's cost.
    fn counted(baselines: &Baselines, first: Cost) -> Vec<Counted> {
        let mut counted: Vec<_> =
            ROWS.iter().zip(&baselines.rows).map(|(row, known)| (row, known.cost)).collect();
        counted[0].1 = first;
        counted
    }

    fn baselines() -> Baselines {
        let cost = Cost { instructions: 1_000, cycles: 2_000 };
        let rows = ROWS.map(|row| Baseline { row: row.name.to_owned(), cost, bound: 5 });
        Baselines { cpu: "one".to_owned(), valgrind: "3".to_owned(), rows: rows.to_vec() }
    }

    #[test]
    fn a_row_is_judged_by_both_its_figures_and_its_bound() {
        let baselines = baselines();
        let rows = [
            ((1_000, 2_000), Verdict::Good),
            ((1_050, 1_900), Verdict::Good),
            ((1_051, 2_000), Verdict::Worse),
            ((900, 2_101), Verdict::Worse),
            ((949, 2_000), Verdict::Better),
        ];
        for ((instructions, cycles), expected) in rows {
            let cost = Cost { instructions, cycles };
            let counted = counted(&baselines, cost);
            let comparison = Comparison::new(&counted, &baselines, "one");
            assert_eq!(comparison.judge(ROWS[0].name, cost), expected, "{instructions} {cycles}");
            let worse = if expected == Verdict::Worse { vec!["nat_hit/1k"] } else { Vec::new() };
            assert_eq!(comparison.worse(), worse);
        }
    }

    #[test]
    fn another_kind_of_cpu_is_told_and_not_judged() {
        let baselines = baselines();
        let counted = counted(&baselines, Cost { instructions: 5_000, cycles: 5_000 });
        let comparison = Comparison::new(&counted, &baselines, "other");
        assert!(comparison.worse().is_empty());
        let told = comparison.to_string();
        assert!(told.contains("+400.0 %") && told.contains("another CPU's baseline"), "{told}");
        assert!(told.ends_with("the baselines are those of one, and this is other\n"), "{told}");
    }
}
