//! The gateway's numbers as Prometheus reads them: text format 0.0.4.
//!
//! Whatever an owner tells is there without anything being done here: its kind and its name for the number make the
//! metric's name (`worker` and `rx_packets` make `pnat_worker_rx_packets_total`), its own name is the label. Times are in
//! seconds (`busy_nanoseconds` becomes `busy_seconds`), everything else is a number of things or of bytes.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use hdrhistogram::Histogram;
use pnat_shared::stats::{Behavior, Counters, Latency, Metric, Stage};
use pnat_shared::verdict::{CloseReason, DropReason};
use prometheus::proto::{self, LabelPair, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::server::Server;
use super::{CoreMessage, Role, web};

/// The content type of [`gather`]'s answer.
pub(super) const CONTENT_TYPE: &str = TEXT_FORMAT;

/// Upper bounds of the latency buckets, in nanoseconds: 100 ns to 50 s, three to a decade.
const BUCKETS: [u64; 27] = {
    let mut bounds = [0; 27];
    let mut at = 0;
    while at < bounds.len() {
        let decade = 10_u64.pow(2 + at as u32 / 3);
        bounds[at] = decade * [10, 20, 50][at % 3] / 10;
        at += 1;
    }
    bounds
};

const NANOS_PER_SECOND: f64 = 1e9;
/// What names of numbers end with that are told in seconds here.
const NANOSECONDS: &str = "_nanoseconds";

/// Everything that can be told. A core that does not answer is told as such, and has no latency.
pub(super) async fn gather(server: &Server) -> Result<String, prometheus::Error> {
    let cores = &server.gateway.cores;
    let asked: Vec<_> = cores.iter().map(|core| (core, core.ask(CoreMessage::Latency))).collect();
    let mut families = Families::default();
    for (core, asked) in asked {
        let (role, index, cpu) = (core.role.key(), core.index.to_string(), core.cpu.to_string());
        let latency = asked.answer().await.ok();
        let labels = [("kind", role), ("name", index.as_str()), ("cpu", cpu.as_str())];
        let is_up = Metric::level("core_up", "1 where the core answers control.");
        families.add("", is_up, &labels, u64::from(latency.is_some()));
        if let Some(latency) = latency {
            families.latency(core.role, &index, &latency);
        }
        families.owner(role, &index, core.counters.as_ref());
    }
    for gauge in &server.gateway.gauges {
        families.owner(gauge.kind, &gauge.name, gauge.counters.as_ref());
    }
    if let Ok(web) = web::gather(server).await {
        web.tell(&mut families);
    }
    families.gateway(server);
    TextEncoder::new().encode_to_string(&families.0.into_values().collect::<Vec<_>>())
}

/// What is told so far, by name: all samples of a metric stand together.
#[derive(Debug, Default)]
pub(super) struct Families(BTreeMap<String, MetricFamily>);

impl Families {
    fn gateway(&mut self, server: &Server) {
        let build = Metric::level("build_info", "Always 1; the version is the label.");
        self.add("", build, &[("version", env!("CARGO_PKG_VERSION"))], 1);
        let started = server.gateway.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let start = Metric::level("start_time_seconds", "When the gateway started, in seconds since 1970.");
        self.add("", start, &[], started.as_secs());
        let generation =
            Metric::level("policy_generation", "The policy in force; each reload that succeeds counts up.");
        self.add("", generation, &[], u64::from(server.live.borrow().generation));
        let captured = Metric::count("packets", "Packets written to captures.");
        self.add("capture", captured, &[], server.captured.value());
        let lost = Metric::count("lost_packets", "Packets missing in captures because the reader was slow.");
        self.add("capture", lost, &[], server.lost.value());
    }

    /// Everything that one core, port, pool or ring counts.
    fn owner(&mut self, kind: &'static str, name: &str, owner: &dyn Counters) {
        owner.counters(&mut |metric, value| self.add(kind, metric, &[(kind, name)], value));
        if let Some(drops) = owner.drops() {
            let dropped = Metric::count("dropped_packets", "Packets dropped, by who dropped them and why.");
            for reason in DropReason::ALL {
                let labels = [("kind", kind), ("name", name), ("reason", reason.key())];
                self.add("", dropped, &labels, drops.value(*reason));
            }
        }
        if let Some(closes) = owner.closes() {
            let closed = Metric::count("closed_flows", "Flows that ended, by their worker and why.");
            for reason in CloseReason::ALL {
                let labels = [("kind", kind), ("name", name), ("reason", reason.key())];
                self.add("", closed, &labels, closes.value(*reason));
            }
        }
    }

    pub(super) fn add(&mut self, kind: &str, metric: Metric, labels: &[(&str, &str)], value: u64) {
        let mut sample = proto::Metric::from_label(pairs(labels));
        let (name, value) = match metric.name.strip_suffix(NANOSECONDS) {
            Some(name) => (format!("{name}_seconds"), value as f64 / NANOS_PER_SECOND),
            None => (metric.name.to_owned(), value as f64),
        };
        let (suffix, behavior) = match metric.behavior {
            Behavior::Counts => {
                let mut counter = proto::Counter::default();
                counter.set_value(value);
                sample.set_counter(counter);
                ("_total", MetricType::COUNTER)
            }
            Behavior::Varies => {
                let mut gauge = proto::Gauge::default();
                gauge.set_value(value);
                sample.set_gauge(gauge);
                ("", MetricType::GAUGE)
            }
        };
        let separator = if kind.is_empty() { "" } else { "_" };
        self.sample(format!("pnat_{kind}{separator}{name}{suffix}"), behavior, metric.meaning, sample);
    }

    /// The histograms of the stages that a core of this role measures.
    fn latency(&mut self, role: Role, name: &str, latency: &Latency) {
        let stages: &[Stage] = match role {
            Role::Worker => &Stage::OF_WORKERS,
            Role::Proxy => &Stage::OF_PROXIES,
        };
        for stage in stages {
            let labels = [("kind", role.key()), ("name", name), ("stage", stage.key())];
            let mut sample = proto::Metric::from_label(pairs(&labels));
            sample.set_histogram(histogram(latency.stage(*stage)));
            let meaning = "Time that packets spent in a stage, in seconds: nat is the whole way of those that are translated \
                           only, nat_in to nat_out add up to the way of those that are proxied; connect is per \
                           connection.";
            self.sample("pnat_latency_seconds".to_owned(), MetricType::HISTOGRAM, meaning, sample);
        }
    }

    fn sample(&mut self, name: String, behavior: MetricType, meaning: &str, sample: proto::Metric) {
        let family = self.0.entry(name).or_insert_with_key(|name| {
            let mut family = MetricFamily::default();
            family.set_name(name.clone());
            family.set_help(meaning.to_owned());
            family.set_field_type(behavior);
            family
        });
        family.mut_metric().push(sample);
    }
}

fn pairs(labels: &[(&str, &str)]) -> Vec<LabelPair> {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    labels.iter().map(pair).collect()
}

/// Counts at or below each bound. What was recorded is known to two digits: a value counts as the largest that it may have
/// been, so no bucket promises too much.
fn histogram(recorded: &Histogram<u64>) -> proto::Histogram {
    let mut counts = [0; BUCKETS.len()];
    let mut sum = 0.0;
    for step in recorded.iter_recorded() {
        let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
        sum += recorded.median_equivalent(value) as f64 * count as f64;
        if let Some(bucket) = BUCKETS.iter().position(|bound| value <= *bound) {
            counts[bucket] += count;
        }
    }
    let mut cumulative = 0;
    let buckets = BUCKETS.iter().zip(counts).map(|(bound, count)| {
        cumulative += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound as f64 / NANOS_PER_SECOND);
        bucket.set_cumulative_count(cumulative);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(recorded.len());
    histogram.set_sample_sum(sum / NANOS_PER_SECOND);
    histogram
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::time::Duration;

    #[test]
    fn buckets_go_up_from_100_ns_to_50_s() {
        assert_eq!((BUCKETS[0], BUCKETS[1], BUCKETS[2], BUCKETS[3]), (100, 200, 500, 1_000));
        assert_eq!(BUCKETS.last(), Some(&50_000_000_000));
        assert!(BUCKETS.is_sorted());
    }

    #[test]
    fn nanoseconds_are_told_in_seconds() {
        let mut families = Families::default();
        families.add("worker", Metric::count("busy_nanoseconds", "Time."), &[], 1_500_000_000);
        let told = &families.0["pnat_worker_busy_seconds_total"];
        assert_eq!(told.get_metric()[0].get_counter().get_value(), 1.5);
    }

    #[test]
    fn a_measurement_counts_in_every_bucket_that_is_certainly_not_below_it() {
        let mut latency = Latency::of(&[Stage::Nat]);
        latency.record(Stage::Nat, Duration::from_nanos(150), 3);
        latency.record(Stage::Nat, Duration::from_millis(700), 1);
        latency.record(Stage::Nat, Duration::from_secs(59), 1);
        let told = histogram(latency.stage(Stage::Nat));
        let at = |bound: f64| {
            told.get_bucket().iter().find(|b| b.upper_bound() == bound).map(proto::Bucket::cumulative_count)
        };
        assert_eq!([at(1e-7), at(2e-7), at(0.5), at(1.0), at(50.0)], [0, 3, 3, 4, 4].map(Some));
        assert_eq!(told.get_sample_count(), 5);
        assert!((told.get_sample_sum() - 59.7).abs() < 0.6, "{}", told.get_sample_sum());
    }
}
