//! Reads the counters of all cores, ports, pools and rings.

use std::collections::BTreeMap;

use pnat_shared::stats::Counters;
use pnat_shared::time::Duration;
use pnat_shared::verdict::{CloseReason, DropReason};

use super::answer::{CaptureTotals, Group, Reason, Stats};
use super::flows::millis;
use super::server::Server;
use super::{Core, FIRST_GENERATION, Gauge};

pub(super) fn read(server: &Server) -> Stats {
    let gateway = &server.gateway;
    Stats {
        config_file: gateway.config_file.display().to_string(),
        generation: server.live.borrow().generation,
        capture: CaptureTotals { packets: server.captured.value(), lost: server.lost.value() },
        ..count(&gateway.cores, &gateway.gauges, server.began.elapsed())
    }
}

/// What these count, of a gateway with no configuration file.
pub(super) fn count(cores: &[Core], gauges: &[Gauge], up: Duration) -> Stats {
    let mut totals: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
    let mut groups = Vec::with_capacity(cores.len() + gauges.len());
    for core in cores {
        let group = group(core.role.key(), core.index.to_string(), Some(core.cpu), core.counters.as_ref());
        let sums = totals.entry(group.kind.clone()).or_default();
        for (name, value) in &group.counters {
            *sums.entry(name.clone()).or_default() += value;
        }
        groups.push(group);
    }
    for gauge in gauges {
        groups.push(group(gauge.kind, gauge.name.clone(), None, gauge.counters.as_ref()));
    }
    let all = || {
        let cores = cores.iter().map(|core| core.counters.as_ref());
        cores.chain(gauges.iter().map(|gauge| gauge.counters.as_ref()))
    };
    let drops = DropReason::ALL.iter().map(|reason| {
        let of = |counters: &dyn Counters| counters.drops().map_or(0, |drops| drops.value(*reason));
        total(reason.key(), reason.sentence(), all().map(of).sum())
    });
    let closes = CloseReason::ALL.iter().map(|reason| {
        let of = |counters: &dyn Counters| counters.closes().map_or(0, |closes| closes.value(*reason));
        total(reason.key(), reason.sentence(), all().map(of).sum())
    });
    Stats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_file: String::new(),
        generation: FIRST_GENERATION,
        uptime_seconds: up.as_secs(),
        uptime_ms: millis(up),
        totals,
        drops: drops.collect(),
        closes: closes.collect(),
        groups,
        capture: CaptureTotals::default(),
    }
}

fn total(reason: &str, sentence: &str, count: u64) -> Reason {
    Reason { reason: reason.to_owned(), count, sentence: sentence.to_owned() }
}

fn group(kind: &str, name: String, cpu: Option<usize>, owner: &dyn Counters) -> Group {
    let mut counters = BTreeMap::new();
    owner.counters(&mut |metric, value| {
        counters.insert(metric.name.to_owned(), value);
    });
    let occurred = |(key, count): (&str, u64)| (count > 0).then(|| (key.to_owned(), count));
    let drops = owner.drops().map(|drops| {
        DropReason::ALL.iter().filter_map(|reason| occurred((reason.key(), drops.value(*reason)))).collect()
    });
    let closes = owner.closes().map(|closes| {
        CloseReason::ALL.iter().filter_map(|reason| occurred((reason.key(), closes.value(*reason)))).collect()
    });
    Group {
        kind: kind.to_owned(),
        name,
        cpu,
        counters,
        drops: drops.unwrap_or_default(),
        closes: closes.unwrap_or_default(),
    }
}
