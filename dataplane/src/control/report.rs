//! The report: what a run measured, merged over all cores, as a text table and as the HdrHistogram project's files.

use core::fmt;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer, V2Serializer};
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::answer::{Reason, Stats};
use super::cores::{self, CoreReport, MemoryReport};
use super::server::Server;
use super::text::{Column, nanos, table};
use super::{Core, CoreMessage, stats};

/// Ticks of a `.hgrm` file for each halving of the distance to 100 %, as the project's tools write it.
const TICKS: u32 = 5;

/// `GET /report`, and what a gateway prints at its end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub version: String,
    pub generation: u32,
    /// Wall-clock time at the start, in milliseconds since 1970.
    pub started_ms: u64,
    pub uptime_seconds: u64,
    /// Cores whose measurements are not in it.
    pub silent: Vec<String>,
    pub stages: Vec<StageReport>,
    /// Workers, then proxy cores.
    pub cores: Vec<CoreReport>,
    /// Ticks of the time stamp counter per second, where the machine has one.
    pub tsc_hz: Option<f64>,
    /// `None` where the kernel does not tell.
    pub memory: Option<MemoryReport>,
    /// Counters of workers and of proxy cores, summed up, as in [`Stats::totals`].
    pub totals: BTreeMap<String, BTreeMap<String, u64>>,
    /// Reasons that occurred.
    pub drops: Vec<Reason>,
    pub closes: Vec<Reason>,
}

/// One stage's latency, in nanoseconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageReport {
    pub stage: String,
    pub count: u64,
    pub mean: f64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p999: u64,
    pub max: u64,
    /// The histogram in HdrHistogram's V2 encoding, base64.
    pub histogram: String,
}

/// Why a report was not written.
#[derive(Debug, Error)]
pub enum ReportError {
    #[error("{}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the histogram of stage {stage} is unreadable: {reason}")]
    Histogram { stage: String, reason: String },
}

/// Asks all cores at once; one that does not answer is named, and the report goes without it.
pub(super) async fn gather(server: &Server) -> Report {
    let asked: Vec<_> = server.gateway.cores.iter().map(|core| core.ask(CoreMessage::Latency)).collect();
    let (mut latency, mut silent) = (Latency::default(), Vec::new());
    for asked in asked {
        match asked.answer().await {
            Ok(part) => latency.merge(&part),
            Err(error) => silent.push(error.to_string()),
        }
    }
    let started = server.gateway.started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let cores = cores::read(&server.gateway.cores, server.began.elapsed());
    compose(&latency, stats::read(server), cores, started, silent)
}

/// The report of loops that somebody drives without control, `uptime` after they were made.
pub fn of_loops(cores: &[Core], latency: &Latency, uptime: Duration, started: SystemTime) -> Report {
    let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    compose(latency, stats::count(cores, &[], uptime), cores::read(cores, uptime), started, Vec::new())
}

fn compose(
    latency: &Latency,
    stats: Stats,
    cores: Vec<CoreReport>,
    started: Duration,
    silent: Vec<String>,
) -> Report {
    let occurred = |reasons: Vec<Reason>| reasons.into_iter().filter(|reason| reason.count > 0).collect();
    Report {
        version: stats.version,
        generation: stats.generation,
        started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        uptime_seconds: stats.uptime_seconds,
        silent,
        stages: Stage::ALL.iter().map(|stage| stage_report(*stage, latency.stage(*stage))).collect(),
        cores,
        tsc_hz: cores::tsc_hz(),
        memory: cores::memory(),
        totals: stats.totals,
        drops: occurred(stats.drops),
        closes: occurred(stats.closes),
    }
}

pub(crate) fn stage_report(stage: Stage, histogram: &Histogram<u64>) -> StageReport {
    let mut encoded = Vec::new();
    V2Serializer::new().serialize(histogram, &mut encoded).expect("invariant: a vector takes every byte");
    StageReport {
        stage: stage.key().to_owned(),
        count: histogram.len(),
        mean: histogram.mean(),
        p50: histogram.value_at_quantile(0.5),
        p90: histogram.value_at_quantile(0.9),
        p99: histogram.value_at_quantile(0.99),
        p999: histogram.value_at_quantile(0.999),
        max: histogram.max(),
        histogram: BASE64.encode(encoded),
    }
}

impl StageReport {
    /// The histogram itself, in nanoseconds.
    pub fn decode(&self) -> Result<Histogram<u64>, ReportError> {
        let unreadable = |reason: String| ReportError::Histogram { stage: self.stage.clone(), reason };
        let encoded = BASE64.decode(&self.histogram).map_err(|error| unreadable(error.to_string()))?;
        Deserializer::new()
            .deserialize(&mut encoded.as_slice())
            .map_err(|error| unreadable(error.to_string()))
    }
}

impl Report {
    /// Writes `report.txt`, `latency.hlog` (all stages, tagged) and one `.hgrm` per stage that measured anything;
    /// answers the files written. Values are in microseconds.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
        let mut files = vec![(dir.join("report.txt"), self.to_string().into_bytes())];
        let mut log = Vec::new();
        self.write_log(&mut log)?;
        files.push((dir.join("latency.hlog"), log));
        for stage in self.stages.iter().filter(|stage| stage.count > 0) {
            files.push((dir.join(format!("{}.hgrm", stage.stage)), hgrm(&stage.decode()?).into_bytes()));
        }
        std::fs::create_dir_all(dir).map_err(|source| ReportError::Write { path: dir.to_owned(), source })?;
        for (path, content) in &files {
            std::fs::write(path, content)
                .map_err(|source| ReportError::Write { path: path.clone(), source })?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }

    fn write_log(&self, out: &mut Vec<u8>) -> Result<(), ReportError> {
        let mut serializer = V2DeflateSerializer::new();
        let started: SystemTime = UNIX_EPOCH + Duration::from_millis(self.started_ms);
        let mut log = IntervalLogWriterBuilder::new()
            .add_comment(&format!("pnat {}, recorded in nanoseconds, maxima in microseconds", self.version))
            .with_start_time(started)
            .with_base_time(started)
            .with_max_value_divisor(1_000.0)
            .begin_log_with(out, &mut serializer)
            .expect("invariant: a vector takes every byte");
        let uptime = Duration::from_secs(self.uptime_seconds);
        for stage in &self.stages {
            let unwritable = |reason: String| ReportError::Histogram { stage: stage.stage.clone(), reason };
            let tag = Tag::new(&stage.stage).ok_or_else(|| unwritable("its name is no tag".to_owned()))?;
            log.write_histogram(&stage.decode()?, Duration::ZERO, uptime, Some(tag))
                .map_err(|error| unwritable(format!("{error:?}")))?;
        }
        Ok(())
    }
}

/// HdrHistogram's percentile distribution of nanoseconds, told in microseconds.
pub fn hgrm(histogram: &Histogram<u64>) -> String {
    const MICRO: f64 = 1_000.0;
    let mut out =
        format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut total = 0;
    for step in histogram.iter_quantiles(TICKS) {
        total += step.count_since_last_iteration();
        let (value, quantile) = (step.value_iterated_to() as f64 / MICRO, step.quantile_iterated_to());
        // Writing to a string cannot fail.
        let _ = write!(out, "{value:>12.3} {quantile:>14.12} {total:>10}");
        let _ =
            if quantile < 1.0 { writeln!(out, " {:>14.2}", 1.0 / (1.0 - quantile)) } else { writeln!(out) };
    }
    let (mean, deviation) = (histogram.mean() / MICRO, histogram.stdev() / MICRO);
    let (max, count) = (histogram.max() as f64 / MICRO, histogram.len());
    let sub_buckets = 2 * 10_u64.pow(u32::from(histogram.sigfig()));
    let _ = writeln!(out, "#[Mean    = {mean:>12.3}, StdDeviation   = {deviation:>12.3}]");
    let _ = writeln!(out, "#[Max     = {max:>12.3}, Total count    = {count:>12}]");
    let _ = writeln!(
        out,
        "#[Buckets = {:>12}, SubBuckets     = {:>12}]",
        histogram.buckets(),
        sub_buckets.next_power_of_two()
    );
    out
}

impl Report {
    fn fmt_cores(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.cores.is_empty() {
            let head = ["core", "CPU", "busy", "CPU idle", "packets", "burst", "time each", "cycles each"];
            let share = |share: f64| format!("{:.1} %", share * 100.0);
            let rows = self.cores.iter().map(|core| {
                let each = core.nanoseconds_per_packet.map(|each| nanos(each.round() as u64));
                let cycles = core.cycles_per_packet.map(|cycles| format!("{cycles:.0}"));
                vec![
                    format!("{} {}", core.kind, core.name),
                    core.cpu.to_string(),
                    share(core.busy_share),
                    share(core.idle_share),
                    core.packets.to_string(),
                    format!("{:.1}", core.mean_burst),
                    each.unwrap_or_else(|| "-".to_owned()),
                    cycles.unwrap_or_else(|| "-".to_owned()),
                ]
            });
            let columns = [Column::Left].into_iter().chain([Column::Right; 7]).collect::<Vec<_>>();
            let head = head.map(str::to_owned).to_vec();
            write!(f, "\n{}", table(&columns, std::iter::once(head).chain(rows)))?;
        }
        if let Some(hz) = self.tsc_hz.filter(|_| !self.cores.is_empty()) {
            writeln!(f, "cycles are ticks of the time stamp counter, {:.3} GHz", hz / 1e9)?;
        }
        if let Some(memory) = self.memory {
            let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
            write!(f, "\nmemory: {} resident", mebibytes(memory.resident))?;
            write!(f, ", at most {} so far", mebibytes(memory.resident_peak))?;
            match memory.hugepages {
                Some(bytes) => writeln!(f, ", and {} in huge pages", mebibytes(bytes))?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = humantime::format_duration(Duration::from_secs(self.uptime_seconds));
        writeln!(f, "pnat {}, policy generation {}, up {up}", self.version, self.generation)?;
        for silent in &self.silent {
            writeln!(f, "not in this report: {silent}")?;
        }
        writeln!(f)?;
        let head = ["latency", "count", "mean", "p50", "p90", "p99", "p99.9", "max"].map(str::to_owned);
        let rows = self.stages.iter().map(|stage| {
            let times = [stage.mean.round() as u64, stage.p50, stage.p90, stage.p99, stage.p999, stage.max];
            let time = |value: u64| if stage.count == 0 { "-".to_owned() } else { nanos(value) };
            [stage.stage.clone(), stage.count.to_string()].into_iter().chain(times.map(time)).collect()
        });
        let columns = [Column::Left].into_iter().chain([Column::Right; 7]).collect::<Vec<_>>();
        f.write_str(&table(&columns, std::iter::once(head.to_vec()).chain(rows)))?;
        self.fmt_cores(f)?;
        for (role, counters) in &self.totals {
            let rows = counters.iter().map(|(name, value)| vec![name.clone(), value.to_string()]);
            let title = match role.as_str() {
                "worker" => "workers",
                "proxy" => "proxy cores",
                other => other,
            };
            write!(f, "\n{title}\n{}", table(&[Column::Left, Column::Right], rows))?;
        }
        for (title, reasons) in [("packets dropped", &self.drops), ("flows ended", &self.closes)] {
            let rows =
                reasons.iter().map(|r| vec![r.reason.clone(), r.count.to_string(), r.sentence.clone()]);
            if reasons.is_empty() {
                writeln!(f, "\n{title}: none")?;
            } else {
                write!(f, "\n{title}\n{}", table(&[Column::Left, Column::Right, Column::Left], rows))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let mut latency = Latency::of(&Stage::ALL);
        for micros in 1..=1_000 {
            latency.record(Stage::Nat, Duration::from_nanos(micros), 10);
            latency.record(Stage::Connect, Duration::from_micros(micros * 20), 1);
        }
        let reason = |reason: &str, count, sentence: &str| Reason {
            reason: reason.to_owned(),
            count,
            sentence: sentence.to_owned(),
        };
        let stats = Stats {
            version: "0.1.0".to_owned(),
            config_file: "lab.toml".to_owned(),
            generation: 2,
            uptime_seconds: 90,
            uptime_ms: 90_000,
            totals: BTreeMap::from([
                ("worker".to_owned(), BTreeMap::from([("rx_packets".to_owned(), 10_000)])),
                ("proxy".to_owned(), BTreeMap::from([("panics".to_owned(), 0)])),
            ]),
            drops: vec![
                reason("martian", 3, "the source cannot be real"),
                reason("land", 0, "same addresses"),
            ],
            closes: Vec::new(),
            groups: Vec::new(),
            capture: super::super::answer::CaptureTotals::default(),
        };
        let core = CoreReport {
            kind: "worker".to_owned(),
            name: "0".to_owned(),
            cpu: 1,
            turns: 5_000,
            idle_turns: 4_000,
            bursts: 1_000,
            packets: 10_000,
            mean_burst: 10.0,
            busy_nanoseconds: 2_500_000,
            busy_share: 0.25,
            idle_share: 0.6,
            nanoseconds_per_packet: Some(250.0),
            cycles_per_packet: None,
        };
        let silent = vec!["proxy 1 has stopped".to_owned()];
        let memory = MemoryReport { resident: 3 << 19, resident_peak: 2 << 20, hugepages: Some(512 << 20) };
        Report {
            tsc_hz: Some(2.6e9),
            memory: Some(memory),
            ..compose(&latency, stats, vec![core], Duration::from_secs(1_700_000_000), silent)
        }
    }

    #[test]
    fn the_text_is_as_printed_here() {
        let expected = "\
pnat 0.1.0, policy generation 2, up 1m 30s
not in this report: proxy 1 has stopped

latency   count     mean      p50      p90      p99    p99.9      max
nat       10000   501 ns   501 ns   903 ns   991 ns   999 ns  1.00 us
nat_in        0        -        -        -        -        -        -
ring_in       0        -        -        -        -        -        -
proxy         0        -        -        -        -        -        -
ring_out      0        -        -        -        -        -        -
nat_out       0        -        -        -        -        -        -
connect    1000  10.0 ms  10.0 ms  18.1 ms  19.9 ms  20.1 ms  20.1 ms

core      CPU    busy  CPU idle  packets  burst  time each  cycles each
worker 0    1  25.0 %    60.0 %    10000   10.0     250 ns            -
cycles are ticks of the time stamp counter, 2.600 GHz

memory: 1.5 MiB resident, at most 2.0 MiB so far, and 512.0 MiB in huge pages

proxy cores
panics  0

workers
rx_packets  10000

packets dropped
martian  3  the source cannot be real

flows ended: none
";
        assert_eq!(report().to_string(), expected);
    }

    #[test]
    fn a_histogram_survives_the_way_through_json() {
        let before = report();
        let json = serde_json::to_string(&before).expect("json");
        let after: Report = serde_json::from_str(&json).expect("json");
        assert_eq!(after, before);
        let histogram = after.stages[0].decode().expect("decodes");
        assert_eq!((histogram.len(), histogram.max()), (after.stages[0].count, after.stages[0].max));
    }

    #[test]
    fn a_damaged_histogram_is_an_error_not_a_panic() {
        let mut report = report();
        report.stages[0].histogram = "AAAA".to_owned();
        let told = report.write(Path::new("target/never-written")).expect_err("damaged").to_string();
        assert!(told.starts_with("the histogram of stage nat is unreadable"), "{told}");
    }

    #[test]
    fn percentiles_are_written_in_microseconds_and_end_at_the_maximum() {
        let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 2).expect("bounds");
        histogram.record_n(1_000, 9).expect("in range");
        histogram.record(64_000).expect("in range");
        let text = hgrm(&histogram);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
        assert_eq!(lines[2], "       1.003 0.000000000000          9           1.00");
        let last = lines.iter().rposition(|line| !line.starts_with('#')).expect("a line");
        assert_eq!(lines[last], "      64.255 1.000000000000         10");
        assert!(lines[last + 2].contains("Total count    =           10]"), "{}", lines[last + 2]);
    }

    #[test]
    fn the_interval_log_reads_back_with_every_stage_under_its_tag() {
        use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

        let mut log = Vec::new();
        report().write_log(&mut log).expect("written");
        let mut tags = Vec::new();
        for entry in IntervalLogIterator::new(&log) {
            if let LogEntry::Interval(interval) = entry.expect("parses") {
                assert_eq!(interval.duration(), Duration::from_secs(90));
                tags.push(interval.tag().expect("tagged").as_str().to_owned());
            }
        }
        assert_eq!(tags, Stage::ALL.map(Stage::key));
    }
}
