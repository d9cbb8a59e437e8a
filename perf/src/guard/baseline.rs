//! The baselines' file: what each row cost when it was last agreed to, and how far from that it may be.

use core::fmt;
use std::path::Path;

use pnat_scenes::rows::{ROWS, Row};
use pnat_shared::config::{ConfigError, Fault, Findings};
use serde::Deserialize;
use toml::Spanned;

use super::callgrind::Cost;

/// What a row may cost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baseline {
    pub row: String,
    pub cost: Cost,
    /// By how much more or less a row may cost, in percent.
    pub bound: u32,
}

/// The file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Baselines {
    /// The kind of CPU that was counted on ([`super::cpu`]).
    pub cpu: String,
    pub valgrind: String,
    pub rows: Vec<Baseline>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct RawBaselines {
    cpu: String,
    valgrind: String,
    #[serde(default)]
    row: Vec<RawRow>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table")]
struct RawRow {
    name: Spanned<String>,
    instructions: Spanned<i64>,
    cycles: Spanned<i64>,
    bound: Spanned<i64>,
}

impl Baselines {
    /// Reads and checks `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text)
    }

    /// As [`Baselines::load`], with the text of `file` given.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let (raw, mut findings): (RawBaselines, _) = Findings::read(file, text)?;
        findings.unique(raw.row.iter().map(|row| &row.name), "row.name");
        let rows = raw.row.iter().map(|row| resolve(row, &mut findings)).collect();
        findings.conclude(Self { cpu: raw.cpu, valgrind: raw.valgrind, rows })
    }

    pub fn of(&self, row: &str) -> Option<&Baseline> {
        self.rows.iter().find(|baseline| baseline.row == row)
    }
}

fn resolve(row: &RawRow, findings: &mut Findings<'_>) -> Baseline {
    let name = row.name.get_ref();
    if Row::named(name).is_none() {
        let allowed = ROWS.iter().map(|row| row.name.to_owned()).collect();
        let fault = Fault::UnknownValue { value: name.clone(), nearest: None, allowed };
        findings.fault(&row.name, "row.name", fault);
    }
    let mut number = |value, key: &str, allowed| {
        findings.integer(value, &format!("row \"{name}\": {key}"), allowed).unwrap_or(1)
    };
    Baseline {
        row: name.clone(),
        cost: Cost {
            instructions: number(&row.instructions, "instructions", 1..=u32::MAX),
            cycles: number(&row.cycles, "cycles", 1..=u32::MAX),
        },
        bound: number(&row.bound, "bound", 1..=100),
    }
}

/// As the file is written.
impl fmt::Display for Baselines {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "# What a packet, a segment or a connection costs, for `pnat-perf compare` (perf/README.md), which writes this file by\n\
             # `--update`. Instructions and estimated cycles are callgrind's, by scripts/optimized.toml; `bound` is in percent, and may be\n\
             # changed by hand. They hold for the kind of CPU that is named here: what vector instructions it has decides which\n\
             # loops PNAT and libc choose, and valgrind knows no AVX-512.\n\
             cpu = {:?}\nvalgrind = {:?}",
            self.cpu, self.valgrind
        )?;
        self.rows.iter().try_for_each(|Baseline { row, cost, bound }| {
            let Cost { instructions, cycles } = cost;
            write!(
                f,
                "\n[[row]]\nname = {row:?}\ninstructions = {instructions}\ncycles = {cycles}\nbound = {bound}\n"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Baselines, String> {
        Baselines::parse(Path::new("b.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn the_committed_file_is_as_it_would_be_written_and_has_every_row() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines.toml");
        let text = std::fs::read_to_string(&file).expect("committed");
        let committed = Baselines::parse(&file, &text).expect("right");
        assert_eq!(committed.to_string(), text);
        let names: Vec<_> = committed.rows.iter().map(|row| row.row.as_str()).collect();
        assert_eq!(names, ROWS.map(|row| row.name));
    }

    #[test]
    fn a_wrong_value_is_named_with_file_line_and_key() {
        const HEAD: &str = "cpu = \"x\"\nvalgrind = \"3\"\n[[row]]\nname = \"nat_hit/1k\"\n";
        let row = |rest: &str| parse(&format!("{HEAD}{rest}")).expect_err("wrong");
        assert_eq!(
            row("instructions = 0\ncycles = 1\nbound = 500\n"),
            "b.toml:5: row \"nat_hit/1k\": instructions: 0 is not allowed; allowed: 1 to 4294967295\n\
             b.toml:7: row \"nat_hit/1k\": bound: 500 is not allowed; allowed: 1 to 100"
        );
        assert!(
            row("instructions = 1\ncycles = 1\nbounds = 1\n")
                .starts_with("b.toml:7: row.bounds: no such key")
        );
        assert!(
            row("instructions = \"1\"\ncycles = 1\nbound = 1\n").starts_with("b.toml:5: row.instructions:")
        );
        let other =
            "cpu = \"\"\nvalgrind = \"\"\n[[row]]\nname = \"x\"\ninstructions = 1\ncycles = 1\nbound = 1\n";
        assert!(
            parse(other)
                .expect_err("no such row")
                .starts_with("b.toml:4: row.name: \"x\" is not one of \"nat_hit/1k\"")
        );
    }
}
