//! A recorder whose time and counters are the test's.

use pnat_shared::stats::{Counter, Drops, Metric};

use super::*;

#[derive(Debug, Default)]
struct Port {
    received: Counter,
    drops: Drops,
}

impl Counters for Port {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        // A device that is asked in vain tells nothing.
        if self.received.value() != 13 {
            each(Metric::count("rx_packets", ""), self.received.value());
            each(Metric::count("of_no_interest", ""), 1);
        }
    }

    fn drops(&self) -> Option<&Drops> {
        Some(&self.drops)
    }
}

#[derive(Debug)]
struct Ring(u64);

impl Counters for Ring {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(Metric::level("slots", ""), 1_000);
        each(Metric::level("waiting", ""), self.0);
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn recorder(owners: &[Owner<'_>]) -> Recorder {
    Recorder::new(owners, 2, UNIX_EPOCH + seconds(1_000))
}

fn latency(nanos: u64, count: u64) -> Option<Box<Latency>> {
    let mut latency = Latency::of(&[Stage::Nat]);
    latency.record(Stage::Nat, Duration::from_nanos(nanos), count);
    Some(Box::new(latency))
}

/// A history that has something of everything.
pub(in crate::control) fn full() -> History {
    let port = Port::default();
    port.drops.add(DropReason::Martian, 3);
    let owners = [
        Owner { kind: "port", name: "inside".to_owned(), counters: &port },
        Owner { kind: "ring", name: "to_proxy 0-0".to_owned(), counters: &Ring(250) },
    ];
    let mut recorder = recorder(&owners);
    for second in 1..=3 {
        port.received.add(1_000_000);
        recorder.count(seconds(second), &owners);
    }
    recorder.measure(seconds(1), vec![latency(700, 10), None]);
    recorder.tell()
}

fn received(history: &History) -> &[u64] {
    &history.counters.iter().find(|counter| counter.counter == "rx_packets").expect("kept").values
}

#[test]
fn a_quarter_of_an_hour_is_kept_and_what_is_older_forgotten() {
    let port = Port::default();
    let owners = [Owner { kind: "port", name: "inside".to_owned(), counters: &port }];
    let mut recorder = recorder(&owners);
    for second in 1..=2_000 {
        port.received.set(second * 100);
        recorder.count(seconds(second), &owners);
        recorder.measure(seconds(second), vec![latency(second, second), None]);
    }
    let history = recorder.tell();
    assert_eq!(history.times_ms.len(), 900);
    assert_eq!((history.times_ms[0], history.times_ms[899]), (2_101_000, 3_000_000));
    assert_eq!((received(&history)[0], received(&history)[899]), (110_100, 200_000));
    assert_eq!(history.latency.len(), 90);
    assert_eq!(history.latency[89].at_ms, 3_000_000);
    assert!(recorder.rows.capacity() <= 1_024 && recorder.moments.capacity() <= 128);
}

#[test]
fn only_what_is_of_interest_is_kept_under_its_owners_name() {
    let history = full();
    let names: Vec<String> =
        history.counters.iter().map(|c| format!("{} {} {}", c.kind, c.name, c.counter)).collect();
    assert_eq!(
        names,
        ["rx_packets", "tx_packets", "rx_bytes", "tx_bytes"].map(|counter| format!("port inside {counter}"))
    );
    assert_eq!(received(&history), [0, 1_000_000, 2_000_000, 3_000_000]);
    assert_eq!(history.fullest_ring, [250_000; 4]);
    let drops: Vec<_> =
        history.drops.iter().map(|drops| (drops.reason.as_str(), &drops.values[..])).collect();
    assert_eq!(drops, [("martian", &[3, 3, 3, 3][..])]);
}

#[test]
fn an_owner_that_tells_nothing_for_once_does_not_seem_to_count_backwards() {
    let port = Port::default();
    let owners = [Owner { kind: "port", name: "inside".to_owned(), counters: &port }];
    let mut recorder = recorder(&owners);
    for (second, count) in [(1, 10), (2, 13), (3, 20)] {
        port.received.set(count);
        recorder.count(seconds(second), &owners);
    }
    assert_eq!(received(&recorder.tell()), [0, 10, 10, 20]);
}

#[test]
fn latency_is_told_of_the_time_between_two_answers_of_each_core() {
    let mut recorder = recorder(&[]);
    let grown = |nanos, count| {
        let mut grown = latency(100, 1_000).expect("some");
        grown.record(Stage::Nat, Duration::from_nanos(nanos), count);
        Some(grown)
    };
    recorder.measure(seconds(0), vec![latency(100, 1_000), latency(100, 1_000)]);
    recorder.measure(seconds(10), vec![grown(5_000, 10), None]);
    recorder.measure(seconds(20), vec![grown(5_000, 10), grown(50, 1)]);
    recorder.measure(seconds(30), vec![None, None]);
    let told: Vec<Vec<(u64, u64)>> = recorder
        .tell()
        .latency
        .iter()
        .map(|moment| moment.stages.iter().map(|stage| (stage.count, stage.p50)).collect())
        .collect();
    assert_eq!(told[0], [(2_000, 100)]);
    // To two digits.
    assert!(matches!(told[1][..], [(10, 4_950..=5_050)]), "{told:?}");
    assert_eq!(told[2], [(1, 50)]);
    assert_eq!(told[3], []);
}

#[test]
fn a_core_that_begins_anew_is_measured_from_there() {
    let mut recorder = recorder(&[]);
    recorder.measure(seconds(0), vec![latency(100, 1_000), None]);
    recorder.measure(seconds(10), vec![latency(100, 10), None]);
    recorder.measure(seconds(20), vec![latency(100, 15), None]);
    let counts: Vec<usize> = recorder.tell().latency.iter().map(|moment| moment.stages.len()).collect();
    assert_eq!(counts, [1, 0, 1]);
}
