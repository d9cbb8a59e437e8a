//! Methods on a wire of known capacity, and on one that fails for a known time.

use std::path::Path;
use std::sync::Arc;

use pnat_shared::time::{Duration, Instant};

use super::recovery::median as median_of;
use super::*;
use crate::load::medium::WireMedium;
use crate::load::medium::tapped::{Outage, Tapped};
use crate::load::scenario::MediumKind;
use crate::load::sizes::Sizes;
use crate::load::trial::{Local, Medium, Progress};

fn scenario(medium: &str) -> Scenario {
    let text = format!(
        "duration = \"200ms\"\ndrain = \"20ms\"\n[traffic]\nrate = \"20 kpps\"\n[flows]\ncount = 7\nsrc = \"10.0.0.2\"\n\
         dst = \"203.0.113.1\"\n[search]\ntrial = \"200ms\"\ntrials = 3\nwidth = \"1 %\"\n[medium]\ntype = \"wire\"\n{medium}"
    );
    Scenario::parse(Path::new("wire.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

fn wire(scenario: &Scenario) -> WireMedium {
    let MediumKind::Wire(wire) = &scenario.medium else { panic!("a wire") };
    WireMedium::new(wire)
}

fn tester<M: Medium>(medium: M) -> Local<M> {
    Local { medium, progress: Arc::new(Progress::default()) }
}

fn provenance(scenario: &Scenario) -> Provenance {
    Provenance::new(scenario, std::time::SystemTime::UNIX_EPOCH)
}

/// Shown as JSON and read back, as a report does it.
fn told(scenario: &Scenario, method: Method) -> String {
    let result = TrialsResult { provenance: provenance(scenario), method };
    let json = serde_json::to_string(&result).expect("JSON");
    let read: TrialsResult = serde_json::from_str(&json).expect("readable");
    assert_eq!(read.to_string(), result.to_string());
    result.to_string()
}

#[test]
fn throughput_in_bits_is_a_wires_capacity_whatever_the_size() {
    // Bits on this wire do not count the frame check sequence.
    let scenario = scenario("capacity = \"4.8 Mbit/s\"\nqueue = 1");
    let sizes = ["64", "512", "imix"].map(|size| (size.to_owned(), parse_size(size).expect("a size")));
    let mut tester = tester(wire(&scenario));
    let found = throughput(&scenario, &sizes, &mut tester, &mut |_, _| {}).expect("it runs");
    for (SizeRates { size, bits, goals, is_complete, .. }, (_, sizes)) in found.sizes.iter().zip(&sizes) {
        let ndr = goals[0].found.as_ref().expect("found");
        let capacity = 4.8e6 / (sizes.mean_bits() - 32.0);
        // In a trial's 200 ms a queue of one frame lets two frames more pass than there is room for.
        let most = (capacity * 0.2 + 2.0) / 0.2;
        assert!(*is_complete && (ndr.bits / ndr.frames - bits).abs() < 1e-6, "{size}");
        // A mix arrives in clumps: its large frames find the queue full long before the wire is.
        let least = if size == "imix" { 0.3 } else { 0.98 };
        assert!((capacity * least..=most).contains(&ndr.frames), "{size}: {ndr:?}, {capacity}");
    }
    assert!(told(&scenario, Method::Throughput(found)).contains("imix     NDR"));
}

#[test]
fn sizes_without_room_for_a_stamp_become_the_smallest_that_has_it() {
    assert_eq!(parse_size("64").expect("a size").at_least(76).extremes(), (76, 76));
    assert_eq!(parse_size("imix").expect("a mix").at_least(76).extremes(), (76, 1518));
    assert!(parse_size("large").is_none() && Sizes::new(&[]).is_none());
}

#[test]
fn latency_under_load_is_the_wires_and_the_reference_is_searched_or_given() {
    let scenario = scenario("capacity = \"4.8 Mbit/s\"\nqueue = 1\nlatency = \"3ms\"");
    let mut tester = tester(wire(&scenario));
    let reference = Reference::search(&scenario, &mut tester, &mut |_, _| {}).expect("it runs");
    assert_eq!(reference.of, "NDR");
    assert!((9_900.0..10_011.0).contains(&reference.frames), "{reference:?}");

    let given = Reference { of: "rate".to_owned(), frames: 10_000.0 };
    let (found, results) =
        latency(&scenario, &provenance(&scenario), given, &mut tester, &mut |_, _| {}).expect("it runs");
    for (load, (percent, frames)) in found.loads.iter().zip([(10, 1e3), (50, 5e3), (90, 9e3)]) {
        assert_eq!(
            (load.percent, load.frames, load.loss_ratio, load.is_short),
            (percent, frames, 0.0, false)
        );
        // 100 us of 60 bytes on the wire, then 3 ms, to three digits.
        for nanos in [load.latency.min, load.latency.p50, load.latency.max] {
            assert!(nanos.abs_diff(3_100_000) <= 3_100, "{percent} %: {nanos} ns");
        }
        assert_eq!(load.latency.count, (frames * 0.2) as u64);
    }
    assert_eq!(results[2].0.provenance.scenario, "wire at 90 % of 10.000 kpps (rate)");
    assert!(told(&scenario, Method::Latency(found)).contains("90 %"));
}

/// A wire that loses every frame between these milliseconds of a trial, which begins 1 ms after it was ordered.
fn failing(scenario: &Scenario, [from, until]: [u64; 2]) -> Local<Tapped<Outage>> {
    let [from, until] = [from, until].map(|at| Instant::ZERO + Duration::from_millis(at + 1));
    tester(Tapped::new(wire(scenario), Outage { from, until }))
}

/// One overload of 200 ms, then as long half of 10 kpps, by a wire that loses all frames for `outage` milliseconds of it.
fn recovered(outage: [u64; 2]) -> RecoveryTrial {
    let scenario = scenario("latency = \"1ms\"");
    let mut tester = failing(&scenario, outage);
    let given = Reference { of: "rate".to_owned(), frames: 10_000.0 };
    let found = recovery(&scenario, given, 1, &mut tester, &mut |_, _| {}).expect("it runs");
    assert_eq!((found.overload.frames.round(), found.overload.frames_after), (11_000.0, 5_000.0));
    assert_eq!((found.trials[0].sent, found.trials.len()), (2_200 + 1_000, 1));
    assert_eq!(found.seconds, found.trials[0].seconds);
    told(&scenario, Method::Recovery(found.clone()));
    found.trials[0]
}

#[test]
fn recovery_lasts_until_the_last_frame_is_lost() {
    // Frames of the second part are 0.2 ms apart: the last one lost is sent 29.8 ms after its beginning.
    let trial = recovered([150, 230]);
    assert!((trial.seconds.expect("recovered") - 0.030).abs() < 1e-9, "{trial:?}");
    assert_eq!(trial.received, 3_200 - 550 - 150);
}

#[test]
fn what_is_lost_before_the_rate_falls_is_no_part_of_the_recovery() {
    assert_eq!(recovered([50, 200]).seconds, Some(0.0));
}

#[test]
fn a_device_that_goes_on_losing_has_not_recovered() {
    assert_eq!(recovered([50, 390]).seconds, None);
}

#[test]
fn the_median_of_trials_most_of_which_did_not_recover_is_none() {
    let trial = |seconds| RecoveryTrial { sent: 1, received: 1, seconds, is_short: false };
    let median = |seconds: &[Option<f64>]| median_of(&seconds.iter().map(|s| trial(*s)).collect::<Vec<_>>());
    assert_eq!(median(&[Some(3.0), None, Some(1.0)]), Some(3.0));
    assert_eq!(median(&[None, None, Some(1.0)]), None);
}

#[test]
fn a_soak_tells_its_losses_their_worst_second_and_the_memory_of_processes() {
    let mut scenario = scenario("latency = \"1ms\"");
    scenario.duration = Duration::from_secs(3);
    let mut tester = failing(&scenario, [1_500, 1_600]);
    let this = [Process::find(std::process::id()).expect("it runs")];
    let (found, result, _) =
        soak(&scenario, provenance(&scenario), &this, &mut tester, &mut |_, _| {}).expect("it runs");
    assert_eq!((found.sent, found.lost), (60_000, 2_000));
    assert_eq!(result.intervals.len(), 4);
    let worst = found.worst.expect("a second");
    assert!((worst.end - 2.0).abs() < 0.01 && worst.missing.abs_diff(2_000) < 30, "{worst:?}");
    let [memory] = found.processes.as_slice() else { panic!("one process") };
    assert!(memory.before > 1 << 20 && memory.after > 1 << 20 && !memory.name.is_empty(), "{memory:?}");
    assert!(told(&scenario, Method::Soak(found)).contains("2000 lost"));
}

#[test]
fn wrong_references_and_processes_are_told_by_name() {
    let missing = Reference::read(Path::new("no/ndr.json")).expect_err("missing").to_string();
    assert!(missing.starts_with("no/ndr.json: "), "{missing}");
    let wrong = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let told = Reference::read(&wrong).expect_err("no JSON").to_string();
    assert!(told.contains("not what `pnat-perf ndr` writes"), "{told}");
    let told = Process::find(u32::MAX).expect_err("no process").to_string();
    assert!(told.starts_with("there is no process 4294967295"), "{told}");
}
