//! Scenarios of few lines, and how they are run.

use std::path::Path;
use std::sync::Arc;

use pnat_perf::load::medium::{MemoryMedium, WireMedium};
use pnat_perf::load::scenario::{MediumKind, TcpScenario, Wire};
use pnat_perf::load::tcp::{Duplex, LocalTcp, TcpOutcome, TcpTester as _};
use pnat_perf::load::trial::Progress;
use pnat_shared::frame::{Frame as _, L2_LEN};
use pnat_shared::testkit::{LinkSpec, VecFrame};
use pnat_shared::time::Duration;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::Header;

/// A class from some hosts to others.
pub(crate) fn class(lines: &str) -> String {
    format!("[[class]]\nclients = \"10.1.0.0/16\"\nservers = \"203.0.113.1\"\n{lines}\n")
}

/// A scenario with these lines, of one second unless they say otherwise.
pub(crate) fn scenario(lines: &str, medium: &str) -> TcpScenario {
    let duration = if lines.contains("duration") { "" } else { "duration = \"1s\"\n" };
    let text = format!("kind = \"tcp\"\nmost = 2000\n{duration}{lines}\n[medium]\n{medium}");
    TcpScenario::parse(Path::new("test.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn run(medium: impl Duplex, scenario: &TcpScenario) -> TcpOutcome {
    let mut tester = LocalTcp::new(medium, &scenario.load, Arc::new(Progress::default()));
    tester.run(scenario.trial(7, scenario.duration)).expect("it runs")
}

/// Over a wire with these faults.
pub(crate) fn over_wire(lines: &str, faults: &str) -> TcpOutcome {
    let scenario = scenario(lines, &format!("type = \"wire\"\n{faults}"));
    let MediumKind::Wire(wire) = &scenario.medium else { panic!("a wire") };
    run(WireMedium::new(wire), &scenario)
}

/// Through the gateway in memory, by the machine's clock.
pub(crate) fn through_gateway(lines: &str, medium: &str) -> TcpOutcome {
    let scenario = scenario(lines, medium);
    let MediumKind::Memory(memory) = &scenario.medium else { panic!("memory") };
    run(MemoryMedium::new(memory), &scenario)
}

/// A wire that takes so long and does nothing else.
pub(crate) fn clean_wire(latency: Duration) -> WireMedium {
    WireMedium::new(&Wire { link: LinkSpec { latency, ..LinkSpec::default() }, seed: 1 })
}

/// All connections went as they should.
#[track_caller]
pub(crate) fn assert_flawless(outcome: &TcpOutcome) {
    let counts = outcome.counts();
    assert!(counts.attempted > 0);
    assert_eq!((counts.established, counts.completed), (counts.attempted, counts.attempted), "{counts:?}");
    assert_eq!((counts.failed.total(), counts.unfinished, counts.wrong_requests), (0, 0, 0), "{counts:?}");
    assert_eq!(counts.transactions, counts.requests, "{counts:?}");
}

/// Within the three digits of a histogram.
pub(crate) fn is_near(nanos: u64, truth: Duration) -> bool {
    let truth = truth.as_nanos() as u64;
    nanos.abs_diff(truth) <= truth / 1000
}

/// A segment's headers, and how many bytes of text it has.
pub(crate) fn read(frame: &VecFrame) -> Option<(ip::Header, Header, usize)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let bytes = &frame.data()[L2_LEN + ip::MIN_LEN..];
    let (header, len) = Header::read(bytes).ok()?;
    Some((packet, header, bytes.len() - len))
}
