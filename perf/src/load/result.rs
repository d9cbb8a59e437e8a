//! Results: one JSON file that says all, the HdrHistogram project's files beside it, and a table for people.

use core::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use pnat_dataplane::control::{nanos, report};
use serde::{Deserialize, Serialize};

use super::scenario::Scenario;
use super::trial::{Interval, Outcome};

/// What a run was, so that it can be repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The command line, word by word.
    pub command: Vec<String>,
    pub version: String,
    /// `release`, or `debug`, whose rates mean nothing.
    pub build: String,
    /// Wall-clock time at the start, in milliseconds since 1970.
    pub started_ms: u64,
    pub machine: Machine,
    pub scenario: String,
    pub scenario_file: PathBuf,
    /// The scenario file, word for word.
    pub scenario_text: String,
}

/// Where it ran.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
}

/// What one trial of a load has shown. Sizes and bits count frame check sequences, and nothing between frames.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoadResult {
    pub provenance: Provenance,
    pub seconds: f64,
    pub frames: Frames,
    pub rates: Rates,
    /// Frames lost, of those sent, from 0 to 1.
    pub loss_ratio: f64,
    /// Frames reordered, of those received (RFC 4737 section 3.3), from 0 to 1.
    pub reordered_ratio: f64,
    /// The generator itself fell behind: it sent less than 99.9 % of what was intended.
    pub is_short: bool,
    /// From intended send time to arrival.
    pub latency: Percentiles,
    /// From intended send time to sending: what the generator adds to `latency`.
    pub late: Percentiles,
    /// Second by second, stragglers' time included.
    pub intervals: Vec<Interval>,
}

/// Counts of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frames {
    /// Meant to be sent in the time.
    pub intended: u64,
    pub sent: u64,
    /// Given to the generator's own port, which did not take them; not among those sent.
    pub refused: u64,
    /// Different ones that have come.
    pub received: u64,
    pub lost: u64,
    /// Of those lost, how many found the receive queue of the device under test full: the gateway's in memory, or a memif's.
    pub missed: u64,
    pub duplicated: u64,
    pub reordered: u64,
    /// By how many numbers of its flow a reordered frame lay behind the largest, at most.
    pub farthest: u64,
    /// Too old to be told from duplicates.
    pub stale: u64,
    pub corrupt: u64,
    /// None of the trial's.
    pub foreign: u64,
    /// What a wire was told to do to them: known truth.
    pub injected_losses: u64,
    pub injected_duplicates: u64,
}

/// Per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    pub intended_frames: f64,
    pub sent_frames: f64,
    pub received_frames: f64,
    pub sent_bits: f64,
    pub received_bits: f64,
}

/// A latency's distribution, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    pub count: u64,
    pub min: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
}

impl Provenance {
    /// Of a run of `scenario` by this process, that began at `started`.
    pub fn new(scenario: &Scenario, started: SystemTime) -> Self {
        Self::of((&scenario.name, &scenario.file, &scenario.text), started)
    }

    /// Of a run of the scenario with this name, file and text.
    pub fn of((name, file, text): (&str, &Path, &str), started: SystemTime) -> Self {
        Self {
            command: std::env::args().collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned(),
            started_ms: millis(started),
            machine: Machine::this(),
            scenario: name.to_owned(),
            scenario_file: file.to_owned(),
            scenario_text: text.to_owned(),
        }
    }

    /// Wall-clock time at the start.
    pub fn started(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.started_ms)
    }

    /// Distributions in nanoseconds as an interval log of one interval, each with its tag.
    pub(super) fn log(
        &self,
        distributions: &[(&str, &Histogram<u64>)],
        lasted: Duration,
    ) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut serializer = V2DeflateSerializer::new();
        let started = self.started();
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment("pnat-perf, recorded in nanoseconds, maxima in microseconds")
            .with_start_time(started)
            .with_base_time(started)
            .with_max_value_divisor(1_000.0)
            .begin_log_with(&mut bytes, &mut serializer)?;
        for (name, histogram) in distributions {
            log.write_histogram(histogram, Duration::ZERO, lasted, Tag::new(name))
                .map_err(|error| io::Error::other(format!("{error:?}")))?;
        }
        Ok(bytes)
    }
}

impl Machine {
    fn this() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cpu: model.map_or("unknown", |(_, model)| model.trim()).to_owned(),
            // Not only those that this process may use.
            cpus: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        }
    }
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

impl Percentiles {
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile);
        Self {
            count: histogram.len(),
            min: histogram.min(),
            mean: histogram.mean(),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: histogram.max(),
        }
    }
}

impl LoadResult {
    pub fn new(provenance: Provenance, outcome: &Outcome) -> Self {
        let seconds = outcome.duration.as_secs_f64();
        let rate = |count: u64| count as f64 / seconds;
        let arrived = &outcome.arrived;
        Self {
            provenance,
            seconds,
            frames: Frames {
                intended: outcome.intended,
                sent: outcome.sent,
                refused: outcome.tally.refused,
                received: arrived.received,
                lost: outcome.lost(),
                missed: outcome.tally.missed,
                duplicated: arrived.duplicated,
                reordered: arrived.reordered,
                farthest: arrived.farthest,
                stale: arrived.stale,
                corrupt: outcome.corrupt,
                foreign: outcome.foreign,
                injected_losses: outcome.tally.lost,
                injected_duplicates: outcome.tally.duplicated,
            },
            rates: Rates {
                intended_frames: rate(outcome.intended),
                sent_frames: rate(outcome.sent),
                received_frames: rate(arrived.received),
                sent_bits: rate(outcome.sent_bytes * 8),
                received_bits: rate(outcome.received_bytes * 8),
            },
            loss_ratio: outcome.loss_ratio(),
            reordered_ratio: share(arrived.reordered, arrived.received),
            is_short: outcome.is_short(),
            latency: Percentiles::of(&outcome.latency),
            late: Percentiles::of(&outcome.late),
            intervals: outcome.intervals.clone(),
        }
    }

    /// Writes `result.json`, `latency.hlog` (both distributions, tagged), `latency.hgrm` and `late.hgrm` into `dir`, and
    /// `gateway.json` where the gateway is the medium's own; answers the files written.
    pub fn write(&self, outcome: &Outcome, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let json = serde_json::to_vec_pretty(self)?;
        let distributions = [("latency", &outcome.latency), ("late", &outcome.late)];
        let mut files = vec![
            (dir.join("result.json"), json),
            (dir.join("latency.hlog"), self.provenance.log(&distributions, outcome.duration)?),
        ];
        for (name, histogram) in distributions {
            files.push((dir.join(format!("{name}.hgrm")), report::hgrm(histogram).into_bytes()));
        }
        if let Some(inside) = &outcome.inside {
            files.push((dir.join("gateway.json"), serde_json::to_vec_pretty(&inside.report)?));
        }
        write_all(dir, files)
    }
}

/// Writes files into a directory, which is made where it is missing; answers their paths.
pub fn write_all(dir: &Path, files: Vec<(PathBuf, Vec<u8>)>) -> io::Result<Vec<PathBuf>> {
    let named = |path: &Path| {
        let path = path.display().to_string();
        move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
    };
    fs::create_dir_all(dir).map_err(named(dir))?;
    for (path, bytes) in &files {
        fs::write(path, bytes).map_err(named(path))?;
    }
    Ok(files.into_iter().map(|(path, _)| path).collect())
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A table for people.
impl fmt::Display for LoadResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provenance, frames, rates, .. } = self;
        writeln!(f, "{}, {:.3} s, {} build", provenance.scenario, self.seconds, provenance.build)?;
        let rows = [
            ("intended", frames.intended, rates.intended_frames, None),
            ("sent", frames.sent, rates.sent_frames, Some(rates.sent_bits)),
            ("received", frames.received, rates.received_frames, Some(rates.received_bits)),
        ];
        for (name, count, per_second, bits) in rows {
            write!(f, "{name:<12}{count:>14}  {:>14}", pps(per_second))?;
            writeln!(f, "{}", bits.map_or_else(String::new, |bits| format!("  {:>14}", bit_rate(bits))))?;
        }
        let percent = |ratio: f64| format!("{:.4} %", ratio * 100.0);
        writeln!(f, "{:<12}{:>14}  {:>14}", "lost", frames.lost, percent(self.loss_ratio))?;
        writeln!(f, "{:<12}{:>14}", "duplicated", frames.duplicated)?;
        let (reordered, ratio) = (frames.reordered, percent(self.reordered_ratio));
        writeln!(f, "{:<12}{reordered:>14}  {ratio:>14}  by up to {}", "reordered", frames.farthest)?;
        let others = [
            ("refused", frames.refused, "by the generator's own port"),
            ("missed", frames.missed, "of those lost, by a full receive queue of the device under test"),
            ("corrupt", frames.corrupt, "with a wrong checksum"),
            ("stale", frames.stale, "too late to be told from duplicates"),
            ("foreign", frames.foreign, "none of this trial's"),
            ("told to lose", frames.injected_losses, "by the scenario"),
            ("to double", frames.injected_duplicates, "by the scenario"),
        ];
        for (name, count, what) in others.into_iter().filter(|(_, count, _)| *count > 0) {
            writeln!(f, "{name:<12}{count:>14}  {what}")?;
        }
        writeln!(
            f,
            "\n{:<12}{:>9}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, times) in [("latency", &self.latency), ("sent late", &self.late)] {
            let Percentiles { count, min, p50, p90, p99, p999, max, .. } = *times;
            let cell = |time| if count == 0 { "-".to_owned() } else { nanos(time) };
            write!(f, "{name:<12}{:>9}", cell(min))?;
            [p50, p90, p99, p999, max].into_iter().try_for_each(|time| write!(f, "{:>10}", cell(time)))?;
            writeln!(f)?;
        }
        if self.is_short {
            writeln!(
                f,
                "\nThe generator fell behind: this machine cannot send at the rate that was asked for."
            )?;
        }
        Ok(())
    }
}

/// Frames per second with a fitting unit: `14.88 Mpps`.
pub fn pps(per_second: f64) -> String {
    scaled(per_second, [(1e6, "Mpps"), (1e3, "kpps")], "pps")
}

/// Bits per second with a fitting unit: `2.5 Gbit/s`.
pub fn bit_rate(per_second: f64) -> String {
    scaled(per_second, [(1e9, "Gbit/s"), (1e6, "Mbit/s")], "bit/s")
}

fn scaled(value: f64, units: [(f64, &str); 2], plain: &str) -> String {
    let unit = units.into_iter().find(|(scale, _)| value >= *scale);
    unit.map_or_else(|| format!("{value:.0} {plain}"), |(scale, unit)| format!("{:.3} {unit}", value / scale))
}
