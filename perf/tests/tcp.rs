//! The generator's connections against known truth: a wire whose faults are told, and the gateway in memory.

use std::path::Path;
use std::sync::Arc;

use pnat_perf::load::medium::WireMedium;
use pnat_perf::load::scenario::{MediumKind, TcpScenario};
use pnat_perf::load::tcp::{LocalTcp, TcpOutcome, TcpTester as _};
use pnat_perf::load::trial::Progress;

/// A scenario of one class.
fn scenario(class: &str, medium: &str) -> TcpScenario {
    let text = format!(
        "kind = \"tcp\"\nduration = \"1s\"\n[[class]]\nclients = \"10.1.0.0/16\"\nservers = \"203.0.113.1\"\n{class}\n\
         [medium]\n{medium}"
    );
    TcpScenario::parse(Path::new("test.toml"), &text).unwrap_or_else(|error| panic!("{error}"))
}

fn over_wire(class: &str, faults: &str) -> TcpOutcome {
    let scenario = scenario(class, &format!("type = \"wire\"\n{faults}"));
    let MediumKind::Wire(wire) = &scenario.medium else { panic!("a wire") };
    let mut tester = LocalTcp::new(WireMedium::new(wire), &scenario.load, Arc::new(Progress::default()));
    tester.run(scenario.trial(7, scenario.duration)).expect("it runs")
}

/// Within the three digits of a histogram.
fn is_near(nanos: u64, truth: u64) -> bool {
    nanos.abs_diff(truth) <= truth / 1000
}

#[test]
fn over_a_wire_that_loses_nothing_every_connection_is_counted_and_every_time_is_the_wires() {
    let outcome = over_wire("rate = \"2 kcps\"\nrequest = 200\nresponse = 1000", "latency = \"2ms\"");
    let counts = outcome.counts();
    assert_eq!((counts.intended, counts.attempted, counts.established), (2_000, 2_000, 2_000));
    assert_eq!((counts.completed, counts.failed.total(), counts.unfinished), (2_000, 0, 0), "{counts:?}");
    assert_eq!((counts.requests, counts.transactions), (2_000, 2_000));
    assert_eq!((counts.to_servers, counts.to_clients), (400_000, 2_000_000));
    assert_eq!((counts.retransmitted, counts.wrong_requests), ([0, 0], 0));
    let all = outcome.all();
    // SYN and SYN-ACK; request and response behind them; and FINs.
    for (times, millis) in
        [(&all.connect, 4), (&all.first_byte, 8), (&all.last_byte, 8), (&all.request, 4), (&all.duration, 12)]
    {
        assert_eq!(times.len(), 2_000);
        assert!(
            is_near(times.min(), millis * 1_000_000) && is_near(times.max(), millis * 1_000_000),
            "{millis}"
        );
    }
    assert_eq!((outcome.corrupt, outcome.foreign, outcome.open_at_close), (0, 0, outcome.most_open));
}
