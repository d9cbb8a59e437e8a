//! What is shown, made of two answers: levels from the later one, rates from both.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::look::{ClientsLook, Look};
use crate::control::answer::{Client, Group, Reason};
use crate::control::report::StageReport;

/// Something per second; `None` where nothing is known of before.
pub(super) type Rate = Option<f64>;

/// A gateway's numbers as of one look.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) version: String,
    pub(super) config_file: String,
    pub(super) generation: u32,
    pub(super) uptime_seconds: u64,
    /// Why the gateway carries no traffic; empty while it does.
    pub(super) unready: Vec<String>,
    pub(super) flows: Flows,
    pub(super) ports: Vec<Port>,
    pub(super) cores: Vec<Core>,
    pub(super) buffers: Vec<Buffer>,
    pub(super) stages: Vec<Stage>,
    /// Those that occurred, the most frequent first.
    pub(super) drops: Vec<Occurred>,
    pub(super) closes: Vec<Occurred>,
    pub(super) clients: Vec<ClientRow>,
    /// Clients that have live flows, shown or not.
    pub(super) clients_known: usize,
}

/// Flows and pairs of all cores.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Flows {
    pub(super) active: u64,
    pub(super) opened: Rate,
    pub(super) half_open: u64,
    pub(super) pairs_tcp: u64,
    pub(super) pairs_udp: u64,
    pub(super) pairs_opened: Rate,
}

#[derive(Clone, Debug)]
pub(super) struct Port {
    pub(super) name: String,
    pub(super) is_up: bool,
    pub(super) rx: Traffic,
    pub(super) tx: Traffic,
    pub(super) drops: Drops,
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Traffic {
    pub(super) packets: Rate,
    pub(super) bits: Rate,
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Drops {
    pub(super) rate: Rate,
    /// Since the start.
    pub(super) total: u64,
}

/// A worker or a proxy core.
#[derive(Clone, Debug)]
pub(super) struct Core {
    /// As in `worker 0`.
    pub(super) name: String,
    pub(super) cpu: Option<usize>,
    /// Taken from ports and rings.
    pub(super) packets: Rate,
    /// The share of the time that the loop had something to do, from 0 to 1.
    pub(super) busy: Option<f64>,
    /// What all loops of its CPU together leave of the time.
    pub(super) idle: Option<f64>,
    /// Busy nanoseconds by packets.
    pub(super) each: Option<f64>,
    pub(super) drops: Drops,
    /// Flows of a worker, pairs of a proxy core.
    pub(super) flows: u64,
    pub(super) opened: Rate,
}

/// A ring, or all frame pools.
#[derive(Clone, Debug)]
pub(super) struct Buffer {
    pub(super) name: String,
    pub(super) used: u64,
    /// The most that was ever used, where that is known.
    pub(super) most: Option<u64>,
    pub(super) room: u64,
}

/// Latency of a stage.
#[derive(Clone, Debug)]
pub(super) struct Stage {
    pub(super) name: String,
    pub(super) rate: Rate,
    /// Of what was measured between the two looks; `None` where nothing was.
    pub(super) lately: Option<Percentiles>,
    /// Since the start.
    pub(super) ever: Option<Percentiles>,
}

/// In nanoseconds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

/// Why packets were dropped or flows ended.
#[derive(Clone, Debug)]
pub(super) struct Occurred {
    pub(super) reason: String,
    pub(super) sentence: String,
    pub(super) rate: Rate,
    pub(super) total: u64,
}

/// A client and its live flows.
#[derive(Copy, Clone, Debug)]
pub(super) struct ClientRow {
    pub(super) client: Client,
    /// From the client and to it; unknown where flows have ended and taken their bytes with them.
    pub(super) bits: [Rate; 2],
}

impl Model {
    /// The gateway as of `after`. Where `before` is of another gateway, or of an earlier life of this one, it is as if it
    /// were not given.
    pub(super) fn new(before: Option<&Look>, after: &Look) -> Self {
        let before = before.filter(|before| {
            before.report.started_ms == after.report.started_ms
                && before.stats.uptime_ms < after.stats.uptime_ms
        });
        let seconds = before.map_or(0.0, |before| {
            (after.stats.uptime_ms - before.stats.uptime_ms) as f64 / MILLIS_PER_SECOND
        });
        let groups = Groups::new(before, after, seconds);
        // Most gateways measure some of them only, and the terminal is small.
        let measured = after.report.stages.iter().filter(|stage| stage.count > 0);
        let stages = measured.map(|stage| {
            let earlier =
                before.and_then(|before| before.report.stages.iter().find(|b| b.stage == stage.stage));
            self::stage(earlier, stage, seconds)
        });
        let reasons = |of: fn(&Look) -> &[Reason]| {
            let mut occurred = occurred(before.map(of), of(after), seconds);
            let frequency = |reason: &Occurred| (reason.rate.unwrap_or(0.0), reason.total);
            occurred.sort_by(|one, other| {
                frequency(other).partial_cmp(&frequency(one)).unwrap_or(core::cmp::Ordering::Equal)
            });
            occurred
        };
        Self {
            version: after.stats.version.clone(),
            config_file: after.stats.config_file.clone(),
            generation: after.stats.generation,
            uptime_seconds: after.stats.uptime_seconds,
            unready: after.ready.reasons.clone(),
            flows: groups.flows(),
            ports: groups.of("port").map(|group| groups.port(group)).collect(),
            cores: groups.of("worker").chain(groups.of("proxy")).map(|group| groups.core(group)).collect(),
            buffers: groups.of("pool").chain(groups.of("ring")).filter_map(buffer).collect(),
            stages: stages.collect(),
            drops: reasons(|look| &look.stats.drops),
            closes: reasons(|look| &look.stats.closes),
            clients: clients(after.earlier_clients.as_ref(), &after.clients),
            clients_known: after.clients.answer.known,
        }
    }
}

const MILLIS_PER_SECOND: f64 = 1_000.0;
const NANOS_PER_SECOND: f64 = 1e9;
const BITS_PER_BYTE: f64 = 8.0;

/// The groups of both looks, and the time between them; 0 where there is no earlier one.
struct Groups<'a> {
    before: BTreeMap<(&'a str, &'a str), &'a Group>,
    after: &'a [Group],
    seconds: f64,
}

impl<'a> Groups<'a> {
    fn new(before: Option<&'a Look>, after: &'a Look, seconds: f64) -> Self {
        let groups = before.map_or(&[][..], |before| &before.stats.groups);
        let named = groups.iter().map(|group| ((group.kind.as_str(), group.name.as_str()), group));
        Self { before: named.collect(), after: &after.stats.groups, seconds }
    }

    fn of(&self, kind: &'static str) -> impl Iterator<Item = &'a Group> {
        self.after.iter().filter(move |group| group.kind == kind)
    }

    /// How fast the sum of these counters of a group grows.
    fn rate(&self, group: &Group, counters: &[&str]) -> Rate {
        let sum = |group: &Group| counters.iter().map(|counter| level(group, counter)).sum();
        let before = self.before.get(&(group.kind.as_str(), group.name.as_str()));
        rate(before.map(|before| sum(before)), sum(group), self.seconds)
    }

    fn drops(&self, group: &Group) -> Drops {
        let sum = |group: &Group| group.drops.values().sum::<u64>();
        let before = self.before.get(&(group.kind.as_str(), group.name.as_str()));
        Drops { rate: rate(before.map(|before| sum(before)), sum(group), self.seconds), total: sum(group) }
    }

    fn port(&self, group: &Group) -> Port {
        let traffic = |packets, bytes| Traffic {
            packets: self.rate(group, &[packets]),
            bits: self.rate(group, &[bytes]).map(|bytes| bytes * BITS_PER_BYTE),
        };
        Port {
            name: group.name.clone(),
            is_up: level(group, "link_up") > 0,
            rx: traffic("rx_packets", "rx_bytes"),
            tx: traffic("tx_packets", "tx_bytes"),
            drops: self.drops(group),
        }
    }

    fn core(&self, group: &Group) -> Core {
        let (flows, opened): (&[&str], &[&str]) = match group.kind.as_str() {
            "worker" => (&["flows_active"], &["flows_opened"]),
            _ => (&["pairs_tcp", "pairs_udp"], &["pairs_tcp_opened", "pairs_udp_opened"]),
        };
        let packets = self.rate(group, &["burst_packets"]);
        let busy = self.busy(group);
        let of_cpu = self.after.iter().filter(|other| other.cpu.is_some() && other.cpu == group.cpu);
        let all_busy: Option<f64> = of_cpu.map(|other| self.busy(other)).sum();
        let each = busy.zip(packets).filter(|(busy, packets)| *busy > 0.0 && *packets > 0.0);
        Core {
            name: format!("{} {}", group.kind, group.name),
            cpu: group.cpu,
            packets,
            busy,
            idle: all_busy.map(|busy| (1.0 - busy).max(0.0)),
            each: each.map(|(busy, packets)| busy * NANOS_PER_SECOND / packets),
            drops: self.drops(group),
            flows: flows.iter().map(|counter| level(group, counter)).sum(),
            opened: self.rate(group, opened),
        }
    }

    /// Unknown where nothing is measured, though there is something to do.
    fn busy(&self, group: &Group) -> Option<f64> {
        let is_measured = level(group, "busy_nanoseconds") > 0 || level(group, "burst_packets") == 0;
        if !is_measured {
            return None;
        }
        self.rate(group, &["busy_nanoseconds"]).map(|nanos| nanos / NANOS_PER_SECOND)
    }

    fn flows(&self) -> Flows {
        let sum = |kind, counter| self.of(kind).map(|group| level(group, counter)).sum();
        let rate = |kind, counters: &[&str]| self.of(kind).map(|group| self.rate(group, counters)).sum();
        Flows {
            active: sum("worker", "flows_active"),
            opened: rate("worker", &["flows_opened"]),
            half_open: sum("worker", "half_open"),
            pairs_tcp: sum("proxy", "pairs_tcp"),
            pairs_udp: sum("proxy", "pairs_udp"),
            pairs_opened: rate("proxy", &["pairs_tcp_opened", "pairs_udp_opened"]),
        }
    }
}

fn level(group: &Group, counter: &str) -> u64 {
    group.counters.get(counter).copied().unwrap_or(0)
}

/// What a number that only goes up has grown by, per second.
fn rate(before: Option<u64>, after: u64, seconds: f64) -> Rate {
    let grown = after.checked_sub(before?)?;
    (seconds > 0.0).then(|| grown as f64 / seconds)
}

fn buffer(group: &Group) -> Option<Buffer> {
    let name = group.name.clone();
    let (room, used) = if group.kind == "pool" {
        let frames = level(group, "frames");
        (frames, frames.saturating_sub(level(group, "frames_available")))
    } else {
        (level(group, "slots"), level(group, "waiting"))
    };
    let most = group.counters.get("most_waiting").copied();
    (room > 0).then_some(Buffer { name, used, most, room })
}

fn stage(before: Option<&StageReport>, after: &StageReport, seconds: f64) -> Stage {
    let lately = before.and_then(|before| {
        let mut grown = after.decode().ok()?;
        grown.subtract(before.decode().ok()?).ok()?;
        percentiles(&grown)
    });
    let ever = Percentiles { p50: after.p50, p99: after.p99, max: after.max };
    Stage {
        name: after.stage.clone(),
        rate: rate(before.map(|before| before.count), after.count, seconds),
        lately,
        ever: (after.count > 0).then_some(ever),
    }
}

fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    (!histogram.is_empty()).then(|| Percentiles {
        p50: histogram.value_at_quantile(0.5),
        p99: histogram.value_at_quantile(0.99),
        max: histogram.max(),
    })
}

fn occurred(before: Option<&[Reason]>, after: &[Reason], seconds: f64) -> Vec<Occurred> {
    let earlier = |reason: &Reason| {
        let before = before?.iter().find(|before| before.reason == reason.reason);
        Some(before.map_or(0, |before| before.count))
    };
    after
        .iter()
        .filter(|reason| reason.count > 0)
        .map(|reason| Occurred {
            reason: reason.reason.clone(),
            sentence: reason.sentence.clone(),
            rate: rate(earlier(reason), reason.count, seconds),
            total: reason.count,
        })
        .collect()
}

fn clients(before: Option<&ClientsLook>, after: &ClientsLook) -> Vec<ClientRow> {
    let earlier: BTreeMap<_, &Client> = before
        .map_or(&[][..], |before| &before.answer.clients)
        .iter()
        .map(|client| (client.address, client))
        .collect();
    let seconds = before.map_or(0.0, |before| after.at.saturating_sub(before.at).as_secs_f64());
    let row = |client: &Client| {
        let earlier = earlier.get(&client.address);
        let bits =
            |before: Option<u64>, after| rate(before, after, seconds).map(|bytes| bytes * BITS_PER_BYTE);
        let first = bits(earlier.map(|earlier| earlier.first.bytes), client.first.bytes);
        let second = bits(earlier.map(|earlier| earlier.second.bytes), client.second.bytes);
        ClientRow { client: *client, bits: [first, second] }
    };
    after.answer.clients.iter().map(row).collect()
}
