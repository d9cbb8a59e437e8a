//! The load generator against known truth: a wire whose faults are told, and the gateway in memory, in virtual time.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::{env, fs, process};

use pnat_perf::frames::{Pool, PoolFrame};
use pnat_perf::load::medium::tapped::{Stall, Tapped};
use pnat_perf::load::medium::{MemoryMedium, WireMedium};
use pnat_perf::load::result::LoadResult;
use pnat_perf::load::scenario::{MediumKind, Wire};
use pnat_perf::load::trial::{Local, Progress, Tally};
use pnat_perf::load::{Medium, Outcome, Scenario, Tester};
use pnat_shared::testkit::LinkSpec;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet;

fn scenario(traffic: &str, flows: u32, medium: &str) -> Scenario {
    let text = format!(
        "duration = \"1s\"\n[traffic]\n{traffic}\n[flows]\ncount = {flows}\nsrc = \"10.1.0.0/16\"\n\
         dst = \"203.0.113.1\"\n[medium]\n{medium}"
    );
    Scenario::parse(Path::new("test.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

fn run(medium: impl Medium, scenario: &Scenario) -> Outcome {
    let mut tester = Local { medium, progress: Arc::new(Progress::default()) };
    tester.run(scenario.trial(7, scenario.duration)).expect("it runs")
}

fn over_wire(traffic: &str, flows: u32, medium: &str) -> Outcome {
    let scenario = scenario(traffic, flows, &format!("type = \"wire\"\n{medium}"));
    let MediumKind::Wire(wire) = &scenario.medium else { panic!("a wire") };
    run(WireMedium::new(wire), &scenario)
}

/// Within the three digits of a histogram.
fn is_near(nanos: u64, truth: u64) -> bool {
    nanos.abs_diff(truth) <= truth / 1000
}

#[test]
fn a_loss_of_1_percent_and_a_delay_of_2_ms_are_reported_as_such() {
    let outcome = over_wire("rate = \"100 kpps\"", 1_000, "loss = \"1 %\"\nlatency = \"2ms\"");
    assert_eq!((outcome.intended, outcome.sent), (100_000, 100_000));
    assert_eq!(outcome.lost(), outcome.tally.lost, "exactly what was injected");
    assert!((outcome.loss_ratio() - 0.01).abs() < 0.001, "{}", outcome.loss_ratio());
    let latency = &outcome.latency;
    assert_eq!(latency.len(), outcome.arrived.received);
    for nanos in [latency.min(), latency.value_at_quantile(0.5), latency.max()] {
        assert!(is_near(nanos, 2_000_000), "{nanos} ns");
    }
    assert_eq!((outcome.arrived.duplicated, outcome.arrived.reordered, outcome.foreign), (0, 0, 0));

    // One second, and the stragglers' time behind it.
    let [second, rest] = outcome.intervals.as_slice() else { panic!("{:?}", outcome.intervals) };
    assert!((second.end - 1.0).abs() < 1e-9 && (rest.end - 1.1).abs() < 1e-3, "{second:?} {rest:?}");
    assert_eq!((second.sent, rest.sent), (100_000, 0));
    assert_eq!(second.received + rest.received, outcome.arrived.received);
    assert_eq!((second.mean_latency, second.max_latency), (2e6, 2_000_000));
}

#[test]
fn duplicates_are_counted_to_the_frame_and_are_no_arrivals() {
    let outcome = over_wire("rate = \"20 kpps\"", 3, "duplication = \"5 %\"\nloss = \"5 %\"");
    assert!(outcome.tally.duplicated > 800);
    assert_eq!(outcome.arrived.duplicated, outcome.tally.duplicated);
    assert_eq!(outcome.lost(), outcome.tally.lost);
    assert_eq!(outcome.latency.len(), outcome.arrived.received, "only first copies are measured");
}

#[test]
fn frames_of_one_flow_that_overtake_each_other_are_reordered_and_those_of_others_are_not() {
    let faults = "reordering = \"10 %\"\nreorder_by = \"1ms\"";
    let one = over_wire("rate = \"20 kpps\"", 1, faults);
    // A delay of up to 1 ms, 20 frames: nearly each delayed one is overtaken.
    assert!((0.08..0.1).contains(&(one.arrived.reordered as f64 / 20_000.0)), "{:?}", one.arrived);
    assert!((15..20).contains(&one.arrived.farthest), "{:?}", one.arrived);
    // A flow's next frame comes 5 ms later.
    let many = over_wire("rate = \"20 kpps\"", 100, faults);
    assert_eq!((many.arrived.reordered, many.lost()), (0, 0));
}

#[test]
fn every_frame_with_a_wrong_bit_is_corrupt_and_lost() {
    for traffic in ["rate = \"20 kpps\"", "rate = \"20 kpps\"\nprotocol = \"tcp\""] {
        let spec = LinkSpec { corruption: 0.05, ..LinkSpec::default() };
        let outcome = run(WireMedium::new(&Wire { link: spec, seed: 3 }), &scenario(traffic, 10, ""));
        assert!(outcome.corrupt > 800);
        assert_eq!((outcome.lost(), outcome.foreign), (outcome.corrupt, 0), "{traffic}");
    }
}

#[test]
fn a_mix_of_sizes_has_its_weights_and_a_rate_in_bits_holds() {
    let outcome = over_wire("rate = \"100 Mbit/s\"\nsizes = \"imix\"", 7, "");
    assert!((outcome.sent_bytes as f64 * 8.0 / 1e8 - 1.0).abs() < 1e-3, "{} bytes", outcome.sent_bytes);
    assert_eq!((outcome.lost(), outcome.received_bytes), (0, outcome.sent_bytes));
}

#[test]
fn a_wire_of_half_the_rate_loses_half() {
    // 60 bytes without the frame check sequence, 480 bits.
    let outcome = over_wire("rate = \"100 kpps\"", 10, "capacity = \"24 Mbit/s\"\nqueue = 10");
    assert!((outcome.loss_ratio() - 0.5).abs() < 0.001, "{}", outcome.loss_ratio());
    assert_eq!(outcome.lost(), outcome.tally.lost);
}

#[test]
fn a_generator_that_stands_still_counts_the_wait_of_every_frame_that_was_due() {
    let wire = Wire { link: LinkSpec { latency: Duration::from_micros(1), ..LinkSpec::default() }, seed: 1 };
    // Right after a frame was sent.
    let stall = Stall { at: Instant::from_nanos(500_000_001), lasts: Duration::from_millis(100) };
    let stalling = Tapped::new(WireMedium::new(&wire), stall);
    let outcome = run(stalling, &scenario("rate = \"10 kpps\"", 10, ""));
    assert_eq!((outcome.sent, outcome.lost()), (10_000, 0));
    // Frames due in the first half of the stall waited for at least the other half: 500 of them.
    let long = outcome.latency.count_between(50_000_000, 200_000_000);
    assert!((495..=505).contains(&long), "{long} frames");
    assert_eq!(outcome.late.max() / 1_000_000, 99);
}

/// The gateway, with the generator's time in its own hands.
struct Stepped {
    memory: MemoryMedium,
    now: Instant,
}

impl Medium for Stepped {
    type Frame = PoolFrame;
    type Pool = Pool;

    fn link(&self) -> ethernet::Header {
        self.memory.link()
    }

    fn now(&mut self) -> Instant {
        self.now
    }

    fn pool(&mut self) -> &mut Pool {
        self.memory.pool()
    }

    fn transmit(&mut self, burst: &mut Vec<PoolFrame>) {
        self.memory.transmit(burst);
    }

    fn receive(&mut self, burst: &mut Vec<PoolFrame>) {
        self.memory.receive(burst);
    }

    fn wait(&mut self, until: Instant) {
        self.now = until;
    }

    fn tally(&mut self) -> Tally {
        self.memory.tally()
    }
}

#[test]
fn every_frame_comes_through_the_gateway_translated_and_proxied() {
    for medium in ["action = \"nat\"", "action = \"proxy\""] {
        let scenario = scenario("rate = \"20 kpps\"\nsizes = [64, 1518]", 200, medium);
        let MediumKind::Memory(memory) = &scenario.medium else { panic!("memory") };
        let medium = Stepped { memory: MemoryMedium::new(memory), now: Instant::ZERO };
        let mut tester = Local { medium, progress: Arc::new(Progress::default()) };
        // The first trial asks for the router's address and opens the flows.
        tester.run(scenario.trial(0, Duration::from_millis(50))).expect("it runs");
        let outcome = tester.run(scenario.trial(1, Duration::from_millis(200))).expect("it runs");
        assert_eq!((outcome.sent, outcome.lost(), outcome.corrupt), (4_000, 0, 0), "{:?}", outcome.arrived);
        assert_eq!((outcome.arrived.reordered, outcome.arrived.duplicated), (0, 0));
    }
}

#[test]
fn what_the_gateways_full_receive_queue_loses_is_told_apart() {
    let scenario = scenario("rate = \"20 kpps\"\nburst = 5000", 10, "action = \"nat\"");
    let MediumKind::Memory(memory) = &scenario.medium else { panic!("memory") };
    let medium = Stepped { memory: MemoryMedium::new(memory), now: Instant::ZERO };
    let mut tester = Local { medium, progress: Arc::new(Progress::default()) };
    tester.run(scenario.trial(0, Duration::from_millis(1))).expect("it runs");
    let outcome = tester.run(scenario.trial(1, Duration::from_millis(500))).expect("it runs");
    assert_eq!((outcome.sent, outcome.lost()), (10_000, outcome.tally.missed));
    // Two bursts. The gateway takes 64 frames while 128 are sent: the queue is full after twice as many as it holds, and of
    // those behind, half are lost.
    let each = (5_000 - 2 * 2_048) / 2;
    assert!((2 * (each - 64)..2 * (each + 64)).contains(&outcome.lost()), "{} lost", outcome.lost());
}

fn pnat_perf(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pnat-perf")).args(arguments).output().expect("it starts")
}

fn directory(name: &str) -> PathBuf {
    let dir = env::temp_dir().join(format!("pnat-perf-{name}-{}", process::id()));
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

fn write_scenario(dir: &Path, medium: &str) -> String {
    let file = dir.join("small.toml");
    let text = format!(
        "duration = \"100ms\"\n[traffic]\nrate = \"50 kpps\"\n[flows]\ncount = 100\nsrc = \"10.1.0.2\"\n\
         dst = \"203.0.113.1\"\n[medium]\n{medium}"
    );
    fs::write(&file, text).expect("written");
    file.display().to_string()
}

#[test]
fn a_run_leaves_its_results_in_files_and_on_standard_output() {
    let dir = directory("load");
    let file = write_scenario(&dir, "type = \"wire\"\nloss = \"1 %\"");
    let out = dir.join("out").display().to_string();
    let ran = pnat_perf(&["load", &file, "--out", &out]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(ran.stderr.is_empty(), "no bar where there is no terminal");

    let json = fs::read(dir.join("out/result.json")).expect("result.json");
    let result: LoadResult = serde_json::from_slice(&json).expect("readable");
    assert_eq!((result.frames.sent, result.frames.lost), (5_000, result.frames.injected_losses));
    assert_eq!(result.provenance.command[1..], ["load", &file, "--out", &out]);
    let text = String::from_utf8_lossy(&ran.stdout).into_owned();
    assert!(text.contains(&format!("received{:>18}", result.frames.received)), "{text}");
    for name in ["latency.hlog", "latency.hgrm", "late.hgrm"] {
        assert!(fs::metadata(dir.join("out").join(name)).expect(name).len() > 100, "{name}");
    }
    fs::remove_dir_all(dir).expect("removed");
}

#[test]
fn a_wrong_scenario_ends_with_2_and_its_line() {
    let dir = directory("wrong");
    let file = write_scenario(&dir, "typ = \"wire\"");
    let ran = pnat_perf(&["load", &file]);
    assert_eq!(ran.status.code(), Some(2));
    let told = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(
        told.starts_with(&format!("{file}:9: medium.typ: no such key; did you mean \"type\"?")),
        "{told}"
    );
    fs::remove_dir_all(dir).expect("removed");
}

/// The device's transmit queue is its receive queue; it holds 1023 frames.
#[test]
fn frames_sent_into_a_dpdk_ring_all_come_back() {
    let dir = directory("dpdk");
    let core = pnat_dataplane::port::capsule::available_cpus().pop().expect("a CPU");
    let file = write_scenario(&dir, &format!("type = \"dpdk\"\nsend.device = \"net_ring0\"\ncore = {core}"));
    let out = dir.join("out").display().to_string();
    let ran = pnat_perf(&["load", &file, "--out", &out]);
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let json = fs::read(dir.join("out/result.json")).expect("result.json");
    let frames = serde_json::from_slice::<LoadResult>(&json).expect("readable").frames;
    // On a machine that is busy the ring may run over, or the time out: then fewer are sent, but what is sent comes back.
    assert!(frames.sent > 0 && frames.sent + frames.refused <= 5_000, "{frames:?}");
    assert_eq!((frames.lost, frames.foreign, frames.duplicated), (0, 0, 0), "{frames:?}");
    fs::remove_dir_all(dir).expect("removed");
}
