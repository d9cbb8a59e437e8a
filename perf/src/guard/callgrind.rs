//! Instructions and cache misses of a row, as valgrind's callgrind counts them: the same on a busy machine as on an idle one.

use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::{env, fs, io};

use anyhow::{Context as _, Result, bail, ensure};

/// Caches as callgrind simulates them, whatever the machine has: size, ways and line in bytes.
const CACHES: [&str; 3] = ["--I1=32768,8,64", "--D1=49152,12,64", "--LL=1048576,16,64"];
/// What is collected, and where it begins anew ([`pnat_scenes::rows`]).
const COLLECTED: &str = "--toggle-collect=pnat_scenes::measure::time*";
const FROM: &str = "--zero-before=pnat_scenes::rows::counted*";

/// What a packet costs.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Cost {
    pub instructions: u32,
    /// As KCachegrind estimates them: one for an instruction, ten for a line that the first level misses, a hundred for one that
    /// the last level misses, too.
    pub cycles: u32,
}

/// The version of the valgrind that is installed.
pub fn version() -> Result<String> {
    let output = Command::new("valgrind").arg("--version").output().map_err(missing)?;
    let version = String::from_utf8_lossy(&output.stdout);
    Ok(version.trim().trim_start_matches("valgrind-").to_owned())
}

/// Has `program` run a row under valgrind.
pub fn count(program: &Path, row: &str) -> Result<Cost> {
    let out = Scratch(env::temp_dir().join(format!("pnat-perf-callgrind.{}", process::id())));
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--cache-sim=yes", COLLECTED, FROM])
        .args(CACHES)
        .arg(format!("--callgrind-out-file={}", out.0.display()))
        .arg(program)
        .arg(row)
        .stdin(Stdio::null())
        .output()
        .map_err(missing)?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} {}: {}\n{said}", program.display(), row, output.status);
    let packets = String::from_utf8_lossy(&output.stdout);
    let packets: u64 =
        packets.trim().parse().with_context(|| format!("not a number of packets: {packets:?}"))?;
    let counted = fs::read_to_string(&out.0).context("callgrind's result")?;
    cost(&counted, packets)
}

fn missing(error: io::Error) -> anyhow::Error {
    anyhow::Error::new(error).context("valgrind (Debian package valgrind)")
}

/// A file that goes when it has been read.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

/// Reads the totals of a callgrind profile.
fn cost(profile: &str, packets: u64) -> Result<Cost> {
    let field = |name: &str| profile.lines().find_map(|line| line.strip_prefix(name));
    let (Some(events), Some(totals)) = (field("events: "), field("totals: ").or_else(|| field("summary: ")))
    else {
        bail!("callgrind's result has no totals");
    };
    let totals: Vec<u64> =
        totals.split_whitespace().map(str::parse).collect::<Result<_, _>>().context("callgrind's totals")?;
    // Events that never happened are left out at the end.
    let total = |wanted: &[&str]| -> u64 {
        let told = events.split_whitespace().zip(&totals);
        told.filter(|(event, _)| wanted.contains(event)).map(|(_, count)| count).sum()
    };
    let instructions = total(&["Ir"]);
    ensure!(instructions > 0 && packets > 0, "callgrind has counted nothing");
    let cycles =
        instructions + 10 * total(&["I1mr", "D1mr", "D1mw"]) + 100 * total(&["ILmr", "DLmr", "DLmw"]);
    let each = |sum: u64| u32::try_from((sum + packets / 2) / packets).context("too many");
    Ok(Cost { instructions: each(instructions)?, cycles: each(cycles)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_told_per_packet_and_misses_weigh() {
        let profile =
            "events: Ir Dr Dw I1mr D1mr D1mw ILmr DLmr DLmw\nfn=(1) a\n1 2 3\ntotals: 1000 5 5 1 2 3 0 4\n";
        let each = cost(profile, 10).expect("totals");
        assert_eq!(each, Cost { instructions: 100, cycles: 100 + 6 + 40 });
        assert!(cost("events: Ir\ntotals: 0\n", 10).is_err());
        assert!(cost("events: Ir\n", 10).is_err());
    }
}
