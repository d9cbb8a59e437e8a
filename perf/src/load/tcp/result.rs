//! What a trial of TCP connections has shown: `tcp.json`, the HdrHistogram project's files beside it, and a table for people.

use core::fmt;
use std::io;
use std::path::{Path, PathBuf};

use pnat_dataplane::control::{nanos, report};
use serde::{Deserialize, Serialize};

use super::account::{ClassAccount, Counts};
use super::running::{TcpInterval, TcpOutcome};
use super::spec::{Class, Talk};
use crate::load::result::{Percentiles, Provenance, bit_rate, write_all};

/// What one trial has shown.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TcpResult {
    pub provenance: Provenance,
    /// How long connections were opened, and how long the trial took until all had come to their end.
    pub seconds: f64,
    pub lasted: f64,
    pub kpis: Kpis,
    /// Of all classes, over the whole trial.
    pub counts: Counts,
    pub times: Times,
    /// The generator itself fell behind: it opened less than 99.9 % of the connections that were intended.
    pub is_short: bool,
    pub classes: Vec<ClassResult>,
    pub frames: FrameCounts,
    /// Second by second, until the last connection's end.
    pub intervals: Vec<TcpInterval>,
}

/// RFC 9411's key performance indicators (section 6.3), over the time in which connections were opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kpis {
    /// Connections open at a time, at most.
    pub concurrent_tcp_connections: u64,
    /// Established per second.
    pub tcp_connections_per_second: f64,
    /// Completed per second.
    pub application_transactions_per_second: f64,
    /// Content that came to both sides, in bits per second, headers not counted.
    pub inspected_throughput: f64,
    /// The same to servers, and to clients.
    pub goodput: [f64; 2],
    /// Of the transactions that came to an end, how many came to a bad one, from 0 to 1: a connection that fails is one whose
    /// request was not answered, or could not be sent.
    pub failed_transactions: f64,
    /// Of the connections that were attempted, how many failed, from 0 to 1.
    pub failed_connections: f64,
}

/// Distributions of times in nanoseconds; each from when something was meant to begin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// A connection's handshake.
    pub connect: Percentiles,
    /// From a connection's SYN to the first response's first and last byte (RFC 9411: TTFB, TTLB).
    pub first_byte: Percentiles,
    pub last_byte: Percentiles,
    /// From a request to its response's last byte.
    pub request: Percentiles,
    /// Whole connections, completed ones only.
    pub duration: Percentiles,
    /// What the generator was late with SYNs by: a part of `connect`, `first_byte`, `last_byte` and `duration`.
    pub late: Percentiles,
}

/// One class's part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassResult {
    pub name: String,
    pub counts: Counts,
    pub times: Times,
}

/// Frames that were of no use, and what a wire was told to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameCounts {
    /// With a wrong checksum.
    pub corrupt: u64,
    /// Of no connection.
    pub foreign: u64,
    /// Not taken by the generator's own ports.
    pub refused: u64,
    /// Lost by a full receive queue of the device under test.
    pub missed: u64,
    pub injected_losses: u64,
    pub injected_duplicates: u64,
}

impl Times {
    fn of(account: &ClassAccount) -> Self {
        Self {
            connect: Percentiles::of(&account.connect),
            first_byte: Percentiles::of(&account.first_byte),
            last_byte: Percentiles::of(&account.last_byte),
            request: Percentiles::of(&account.request),
            duration: Percentiles::of(&account.duration),
            late: Percentiles::of(&account.late),
        }
    }
}

impl Kpis {
    fn of(outcome: &TcpOutcome, classes: &[Class]) -> Self {
        let (early, all) = (&outcome.at_close, outcome.counts());
        let seconds = outcome.duration.as_secs_f64();
        let rate = |count: u64| count as f64 / seconds;
        let goodput = [early.to_servers, early.to_clients].map(|bytes| rate(bytes * 8));
        let asks = |class: &Class| !matches!(class.talk, Talk::HalfOpen(_));
        let each = classes.iter().zip(&outcome.classes).filter(|(class, _)| asks(class));
        let failed = each.map(|(_, account)| account.counts.failed.total()).sum();
        Self {
            concurrent_tcp_connections: outcome.most_open,
            tcp_connections_per_second: rate(early.established),
            application_transactions_per_second: rate(early.transactions),
            inspected_throughput: goodput.iter().sum(),
            goodput,
            failed_transactions: share(failed, all.transactions + failed),
            failed_connections: share(all.failed.total(), all.attempted),
        }
    }
}

impl TcpResult {
    /// `classes` are those of the load.
    pub fn new(provenance: Provenance, classes: &[Class], outcome: &TcpOutcome) -> Self {
        let (counts, tally) = (outcome.counts(), outcome.tally);
        let each = classes.iter().zip(&outcome.classes);
        Self {
            provenance,
            seconds: outcome.duration.as_secs_f64(),
            lasted: outcome.lasted.as_secs_f64(),
            kpis: Kpis::of(outcome, classes),
            counts,
            times: Times::of(&outcome.all()),
            is_short: (counts.attempted as f64) < counts.intended as f64 * 0.999,
            classes: each
                .map(|(class, account)| ClassResult {
                    name: class.name.clone(),
                    counts: account.counts,
                    times: Times::of(account),
                })
                .collect(),
            frames: FrameCounts {
                corrupt: outcome.corrupt,
                foreign: outcome.foreign,
                refused: tally.refused,
                missed: tally.missed,
                injected_losses: tally.lost,
                injected_duplicates: tally.duplicated,
            },
            intervals: outcome.intervals.clone(),
        }
    }

    /// Writes `tcp.json`, `tcp.hlog` (all distributions, tagged) and an `.hgrm` of each into `dir`; answers the files written.
    pub fn write(&self, outcome: &TcpOutcome, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let all = outcome.all();
        let distributions = all.distributions();
        let mut files = vec![
            (dir.join("tcp.json"), serde_json::to_vec_pretty(self)?),
            (dir.join("tcp.hlog"), self.provenance.log(&distributions, outcome.lasted)?),
        ];
        for (name, histogram) in distributions {
            files.push((dir.join(format!("tcp-{name}.hgrm")), report::hgrm(histogram).into_bytes()));
        }
        write_all(dir, files)
    }
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

/// A table for people.
impl fmt::Display for TcpResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { provenance, kpis, counts, frames, .. } = self;
        writeln!(f, "{}, {:.3} s, {} build", provenance.scenario, self.seconds, provenance.build)?;
        let rows = [
            ("TCP connections per second", format!("{:.1}", kpis.tcp_connections_per_second)),
            ("concurrent TCP connections", kpis.concurrent_tcp_connections.to_string()),
            (
                "application transactions per second",
                format!("{:.1}", kpis.application_transactions_per_second),
            ),
            ("inspected throughput", bit_rate(kpis.inspected_throughput)),
            ("  to servers", bit_rate(kpis.goodput[0])),
            ("  to clients", bit_rate(kpis.goodput[1])),
            ("failed transactions", format!("{:.4} %", kpis.failed_transactions * 100.0)),
        ];
        for (name, value) in rows {
            writeln!(f, "{name:<36}{value:>16}")?;
        }
        let name = |class: &ClassResult| class.name.len();
        let width = self.classes.iter().map(name).max().unwrap_or(0).max("connections".len()) + 2;
        writeln!(
            f,
            "\n{:<width$}{:>11}{:>12}{:>11}{:>8}{:>11}{:>14}{:>9}",
            "connections",
            "attempted",
            "established",
            "completed",
            "failed",
            "unfinished",
            "transactions",
            "resent"
        )?;
        for class in &self.classes {
            let Counts { attempted, established, completed, failed, unfinished, transactions, .. } =
                class.counts;
            let resent: u64 = class.counts.retransmitted.iter().sum();
            writeln!(
                f,
                "{:<width$}{attempted:>11}{established:>12}{completed:>11}{:>8}{unfinished:>11}{transactions:>14}{resent:>9}",
                class.name,
                failed.total(),
            )?;
        }
        self.fmt_troubles(f)?;
        writeln!(
            f,
            "\n{:<width$}{:<12}{:>9}{:>10}{:>10}{:>10}{:>10}",
            "times", "", "min", "p50", "p90", "p99", "max"
        )?;
        for class in &self.classes {
            let times = &class.times;
            // In a closed loop nothing is due, and nothing late.
            let was_late = times.late.max > 1;
            let rows = [
                ("connect", &times.connect),
                ("TTFB", &times.first_byte),
                ("TTLB", &times.last_byte),
                ("request", &times.request),
                ("duration", &times.duration),
                ("SYN late", &times.late),
            ];
            let told = if was_late { &rows[..] } else { &rows[..rows.len() - 1] };
            for (name, times) in told.iter().filter(|(_, times)| times.count > 0) {
                write!(f, "{:<width$}{name:<12}{:>9}", class.name, nanos(times.min))?;
                let rest = [times.p50, times.p90, times.p99, times.max];
                rest.into_iter().try_for_each(|time| write!(f, "{:>10}", nanos(time)))?;
                writeln!(f)?;
            }
        }
        if frames.refused > 0 || frames.missed > 0 {
            writeln!(
                f,
                "\nFrames lost at full queues: {} by the generator's ports, {} before the device.",
                frames.refused, frames.missed
            )?;
        }
        if self.is_short {
            writeln!(
                f,
                "\nThe generator fell behind: of {} connections it opened {}, and for {} it had no socket or no room.",
                counts.intended, counts.attempted, counts.unstarted
            )?;
        }
        Ok(())
    }
}

impl TcpResult {
    /// What went wrong, by reason.
    fn fmt_troubles(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failed = &self.counts.failed;
        let rows = [
            (failed.refused, "refused"),
            (failed.reset, "reset"),
            (failed.timed_out, "timed out"),
            (failed.closed_early, "closed early by the server"),
            (failed.wrong_content, "with a response other than what was sent"),
            (self.counts.wrong_requests, "requests other than what was sent"),
            (self.frames.corrupt, "frames with a wrong checksum"),
        ];
        rows.into_iter()
            .filter(|(count, _)| *count > 0)
            .try_for_each(|(count, what)| writeln!(f, "{count:>11} {what}"))
    }
}
