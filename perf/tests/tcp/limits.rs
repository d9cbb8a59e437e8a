//! Searches find what a device of known limits bears.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use pnat_perf::connections;
use pnat_perf::load::medium::tapped::{Middle, Tapped};
use pnat_perf::load::tcp::LocalTcp;
use pnat_perf::load::trial::Progress;
use pnat_shared::flow::Side;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Flags;

use crate::fixture::{class, clean_wire, read, scenario};

/// Lets so many SYNs pass in a second, and as many at once as come in 10 ms.
struct Turnstile {
    interval: Duration,
    full_at: Instant,
}

impl Middle for Turnstile {
    fn pass(&mut self, side: Side, frame: &mut VecFrame, now: Instant) -> bool {
        let is_syn = read(frame).is_some_and(|(_, header, _)| header.flags == Flags::SYN);
        if side == Side::Second || !is_syn {
            return true;
        }
        let full_at = self.full_at.max(now) + self.interval;
        let passes = full_at.since(now) <= Duration::from_millis(10);
        if passes {
            self.full_at = full_at;
        }
        passes
    }
}

#[test]
fn the_rate_of_a_device_that_lets_500_connections_pass_in_a_second_is_found() {
    let lines = class("rate = \"5 kcps\"\ntimeout = \"100ms\"");
    let search = "[search]\ntrial = \"500ms\"\ntrials = 1\nwidth = \"2 %\"";
    let scenario = scenario(&lines, &format!("type = \"wire\"\n{search}"));
    let device = Turnstile { interval: Duration::from_millis(2), full_at: Instant::ZERO };
    let medium = Tapped::new(clean_wire(Duration::from_micros(100)), device);
    let mut tester = LocalTcp::new(medium, &scenario.load, Arc::new(Progress::default()));
    let provenance = scenario.provenance(SystemTime::UNIX_EPOCH);
    let result = connections::rate(&scenario, provenance, &mut tester, |_, _, _| {}).expect("it runs");
    assert!(result.is_complete);
    for goal in &result.goals {
        let found = goal.found.as_ref().expect("found");
        // What passes at once makes it a few more.
        assert!((485.0..520.0).contains(&found.connections) && !found.is_the_generators, "{found:?}");
        assert!(found.too_high.is_some_and(|rate| rate > 500.0), "{found:?}");
    }
    assert!(result.to_string().contains("at most 0 % fail"), "{result}");
}

/// Has room for so many connections.
struct Room {
    most: usize,
    open: HashSet<(Ipv4Addr, u16)>,
}

impl Middle for Room {
    fn pass(&mut self, side: Side, frame: &mut VecFrame, _: Instant) -> bool {
        let Some((packet, header, _)) = read(frame).filter(|_| side == Side::First) else { return true };
        let client = (packet.src, header.src_port);
        if header.flags.has(Flags::FIN) || header.flags.has(Flags::RST) {
            self.open.remove(&client);
        } else if header.flags == Flags::SYN {
            return self.open.len() < self.most && self.open.insert(client);
        }
        true
    }
}

#[test]
fn more_and_more_connections_are_held_until_a_device_has_no_room() {
    let lines = class(
        "concurrent = 800\nramp = \"200ms\"\nrequests = \"endless\"\nthink = \"100ms\"\ntimeout = \"300ms\"",
    );
    let scenario = scenario(&lines, "type = \"wire\"");
    let run = |most| {
        let device = Room { most, open: HashSet::new() };
        let medium = Tapped::new(clean_wire(Duration::from_millis(1)), device);
        let mut tester = LocalTcp::new(medium, &scenario.load, Arc::new(Progress::default()));
        let provenance = scenario.provenance(SystemTime::UNIX_EPOCH);
        connections::concurrent(&scenario, provenance, &mut tester, |_, _| {}).expect("it runs")
    };
    let result = run(300);
    let held: Vec<_> = result.steps.iter().map(|step| (step.connections, step.open)).collect();
    assert_eq!(held, [(50, 50), (100, 100), (200, 200), (400, 300)], "{result}");
    assert_eq!(result.held, Some(200));
    assert!(result.steps.iter().all(|step| step.transactions >= step.open * 5), "{result}");
    let result = run(1_000);
    assert_eq!((result.held, result.steps.len()), (Some(800), 5), "{result}");
    assert!(result.to_string().ends_with("All 800 were held: the scenario has no more.\n"), "{result}");
}
