//! The last quarter of an hour: what counters said each second, and latency each ten, in bounded memory.
//!
//! Runs on: control. Allocates: up to its bound. Blocks: never.
//!
//! Counters are read in place. Latency is asked of the cores, which clone their histograms for it: so it is asked rarely, and
//! what lies between two answers is the difference of their histograms.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use pnat_shared::stats::{Counters, Latency, Stage};
use pnat_shared::time::Duration;
use pnat_shared::verdict::DropReason;
use serde::{Deserialize, Serialize};
use tokio::time::MissedTickBehavior;

use super::flows::millis;
use super::server::Server;
use super::{CoreMessage, Gateway};

/// Between two looks at the counters.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks that are kept.
const KEPT: usize = 15 * 60;
/// Looks at the counters for one at the latency.
const LATENCY_EVERY: usize = 10;
/// How long a core may take to tell its latency, without keeping the counters waiting for long.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is kept, by kind of owner. Eight workers and proxy cores each, four ports and the reasons for drops make some 150
/// numbers a second: one megabyte in all.
const COUNTERS: [(&str, &[&str]); 4] = [
    ("worker", &["rx_packets", "tx_packets", "flows_opened", "flows_active", "busy_nanoseconds"]),
    ("proxy", &["busy_nanoseconds", "pairs_tcp", "pairs_udp"]),
    ("port", &["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"]),
    ("pool", &["frames", "frames_available"]),
];

/// `GET /history`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// Wall-clock times of the looks at the counters, the oldest first, in milliseconds since 1970.
    pub times_ms: Vec<u64>,
    /// Each with a value for each time.
    pub counters: Vec<CounterHistory>,
    /// Packets dropped by all owners, since the start; reasons that occurred. Each with a value for each time.
    pub drops: Vec<DropHistory>,
    /// Of the ring that was fullest at each time: how full it was, in millionths.
    pub fullest_ring: Vec<u64>,
    pub latency: Vec<LatencyMoment>,
}

/// A counter of one owner as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CounterHistory {
    /// `worker`, `proxy`, `port` or `pool`.
    pub kind: String,
    pub name: String,
    pub counter: String,
    pub values: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DropHistory {
    pub reason: String,
    pub sentence: String,
    pub values: Vec<u64>,
}

/// Latency of what all cores measured between the moment before and this one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatencyMoment {
    /// Wall-clock time, in milliseconds since 1970.
    pub at_ms: u64,
    /// Those that measured anything.
    pub stages: Vec<StageMoment>,
}

/// In nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMoment {
    pub stage: String,
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// Keeps looking, for ever.
pub(super) async fn keep(server: Arc<Server>) {
    let mut ticks = tokio::time::interval(INTERVAL);
    // Where control was held up, what it missed is past.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for look in 0.. {
        ticks.tick().await;
        server.history.lock().await.count(server.began.elapsed(), &owners(&server.gateway));
        if look % LATENCY_EVERY == 0 {
            let asked: Vec<_> =
                server.gateway.cores.iter().map(|core| core.ask(CoreMessage::Latency)).collect();
            let mut answers = Vec::with_capacity(asked.len());
            for asked in asked {
                answers.push(asked.answer_within(PATIENCE).await.ok());
            }
            server.history.lock().await.measure(server.began.elapsed(), answers);
        }
    }
}

/// Who counts.
#[derive(Debug)]
pub(super) struct Owner<'a> {
    kind: &'static str,
    name: String,
    counters: &'a dyn Counters,
}

/// Cores first, then ports, pools and rings.
pub(super) fn owners(gateway: &Gateway) -> Vec<Owner<'_>> {
    let cores = gateway.cores.iter().map(|core| Owner {
        kind: core.role.key(),
        name: core.index.to_string(),
        counters: core.counters.as_ref(),
    });
    let gauges = gateway.gauges.iter().map(|gauge| Owner {
        kind: gauge.kind,
        name: gauge.name.clone(),
        counters: gauge.counters.as_ref(),
    });
    cores.chain(gauges).collect()
}

/// What has been seen, as far back as is kept.
#[derive(Debug)]
pub(super) struct Recorder {
    /// Wall-clock time where times begin.
    began: SystemTime,
    columns: Vec<Column>,
    rows: VecDeque<Row>,
    moments: VecDeque<LatencyMoment>,
    /// What each core told last.
    told: Vec<Option<Box<Latency>>>,
}

/// What one value of each row is.
#[derive(Debug)]
struct Column {
    kind: &'static str,
    name: String,
    counter: &'static str,
}

#[derive(Debug)]
struct Row {
    at: Duration,
    counters: Box<[u64]>,
    drops: [u64; DropReason::COUNT],
    fullest_ring: u64,
}

impl Recorder {
    /// Recording begins, with a first look at the counters.
    pub(super) fn new(owners: &[Owner<'_>], cores: usize, began: SystemTime) -> Self {
        let columns = owners.iter().flat_map(|owner| {
            let column =
                |counter: &&'static str| Column { kind: owner.kind, name: owner.name.clone(), counter };
            kept(owner.kind).iter().map(column)
        });
        let mut recorder = Self {
            began,
            columns: columns.collect(),
            rows: VecDeque::with_capacity(KEPT),
            moments: VecDeque::with_capacity(KEPT / LATENCY_EVERY),
            told: (0..cores).map(|_| None).collect(),
        };
        recorder.count(Duration::ZERO, owners);
        recorder
    }

    /// Looks at all counters, of the owners that there were at the first look.
    fn count(&mut self, at: Duration, owners: &[Owner<'_>]) {
        // What an owner does not tell now is as it was.
        let mut counters: Box<[u64]> = self
            .rows
            .back()
            .map_or_else(|| self.columns.iter().map(|_| 0).collect(), |row| row.counters.clone());
        let mut drops = [0; DropReason::COUNT];
        let mut fullest_ring = 0;
        let mut first = 0;
        for owner in owners {
            let names = kept(owner.kind);
            let (mut slots, mut waiting) = (0, 0);
            owner.counters.counters(&mut |metric, value| {
                if let Some(place) = names.iter().position(|name| *name == metric.name) {
                    counters[first + place] = value;
                }
                match metric.name {
                    "slots" => slots = value,
                    "waiting" => waiting = value,
                    _ => {}
                }
            });
            first += names.len();
            if owner.kind == "ring" && slots > 0 {
                fullest_ring = fullest_ring.max(waiting.saturating_mul(1_000_000) / slots);
            }
            if let Some(dropped) = owner.counters.drops() {
                for (sum, reason) in drops.iter_mut().zip(DropReason::ALL) {
                    *sum += dropped.value(*reason);
                }
            }
        }
        push(&mut self.rows, KEPT, Row { at, counters, drops, fullest_ring });
    }

    /// Takes what the cores told of their latency since the start; `None`: a core that told nothing.
    fn measure(&mut self, at: Duration, answers: Vec<Option<Box<Latency>>>) {
        let mut since = Latency::default();
        for (told, answer) in self.told.iter_mut().zip(answers) {
            let Some(answer) = answer else { continue };
            let news = told.as_ref().map_or_else(|| Some((*answer).clone()), |told| answer.since(told));
            since.merge(&news.unwrap_or_default());
            *told = Some(answer);
        }
        let measured = Stage::ALL.iter().map(|stage| (stage, since.stage(*stage)));
        let stages = measured.filter(|(_, times)| !times.is_empty()).map(|(stage, times)| StageMoment {
            stage: stage.key().to_owned(),
            count: times.len(),
            p50: times.value_at_quantile(0.5),
            p99: times.value_at_quantile(0.99),
            max: times.max(),
        });
        let moment = LatencyMoment { at_ms: self.wall(at), stages: stages.collect() };
        push(&mut self.moments, KEPT / LATENCY_EVERY, moment);
    }

    fn wall(&self, at: Duration) -> u64 {
        millis(self.began.duration_since(UNIX_EPOCH).unwrap_or_default() + at)
    }

    /// Everything that is kept.
    pub(super) fn tell(&self) -> History {
        let counters = self.columns.iter().enumerate().map(|(place, column)| CounterHistory {
            kind: column.kind.to_owned(),
            name: column.name.clone(),
            counter: column.counter.to_owned(),
            values: self.rows.iter().map(|row| row.counters[place]).collect(),
        });
        let occurred =
            |reason: &&DropReason| self.rows.back().is_some_and(|row| row.drops[reason.index()] > 0);
        let drops = DropReason::ALL.iter().filter(occurred).map(|reason| DropHistory {
            reason: reason.key().to_owned(),
            sentence: reason.sentence().to_owned(),
            values: self.rows.iter().map(|row| row.drops[reason.index()]).collect(),
        });
        History {
            times_ms: self.rows.iter().map(|row| self.wall(row.at)).collect(),
            counters: counters.collect(),
            drops: drops.collect(),
            fullest_ring: self.rows.iter().map(|row| row.fullest_ring).collect(),
            latency: self.moments.iter().cloned().collect(),
        }
    }
}

fn kept(kind: &str) -> &'static [&'static str] {
    COUNTERS.iter().find(|(of, _)| *of == kind).map_or(&[], |(_, names)| names)
}

fn push<T>(kept: &mut VecDeque<T>, most: usize, newest: T) {
    if kept.len() == most {
        kept.pop_front();
    }
    kept.push_back(newest);
}

#[cfg(test)]
pub(super) mod tests;
