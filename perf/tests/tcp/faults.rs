//! What goes wrong is found, and called by its name.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::SystemTime;

use pnat_perf::load::medium::WireMedium;
use pnat_perf::load::medium::tapped::{Middle, Tapped};
use pnat_perf::load::scenario::Wire;
use pnat_perf::load::tcp::result::TcpResult;
use pnat_shared::flow::Side;
use pnat_shared::frame::{Frame as _, L2_LEN};
use pnat_shared::testkit::{LinkSpec, VecFrame};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::Flags;

use crate::fixture::{assert_flawless, class, clean_wire, over_wire, read, run, scenario, through_gateway};

const MS: Duration = Duration::from_millis(1);

#[test]
fn what_a_wire_loses_is_sent_again_and_all_content_is_right() {
    let outcome =
        over_wire(&class("rate = \"200 cps\"\nresponse = \"30kB\""), "loss = \"1 %\"\nlatency = \"2ms\"");
    assert_flawless(&outcome);
    let (resent, lost) = (outcome.counts().retransmitted, outcome.tally.lost);
    // Of 30 segments and as many others per connection; lost ACKs as a rule need nothing.
    assert!(lost > 40 && resent[1] * 3 > lost && resent[1] < 3 * lost, "{lost} lost, {resent:?} resent");
}

#[test]
fn disorder_and_duplicates_are_no_failure() {
    let outcome = over_wire(
        &class("rate = \"100 cps\"\nresponse = \"30kB\""),
        "reordering = \"5 %\"\nduplication = \"5 %\"",
    );
    assert_flawless(&outcome);
    assert_eq!(outcome.counts().to_clients, 100 * 30_000, "each byte once");
}

#[test]
fn servers_that_refuse_are_told_from_servers_that_are_silent() {
    for (answer, medium) in [("refuse", "type = \"wire\""), ("refuse", ""), ("silent", "type = \"wire\"")] {
        let lines = class(&format!("rate = \"100 cps\"\nanswer = \"{answer}\"\ntimeout = \"500ms\""));
        let outcome = match medium {
            "" => through_gateway(&format!("duration = \"300ms\"\n{lines}"), ""),
            _ => over_wire(&lines, ""),
        };
        let counts = outcome.counts();
        let failed = if answer == "refuse" { counts.failed.refused } else { counts.failed.timed_out };
        assert!(counts.attempted > 0, "{counts:?}");
        assert_eq!(
            (counts.established, failed, counts.failed.total()),
            (0, counts.attempted, failed),
            "{counts:?}"
        );
        assert_eq!((counts.requests, counts.unfinished), (0, 0));
    }
}

#[test]
fn over_a_wire_that_loses_everything_every_connection_times_out() {
    let outcome = over_wire(&class("rate = \"100 cps\"\ntimeout = \"300ms\""), "loss = \"100 %\"");
    let counts = outcome.counts();
    assert_eq!((counts.attempted, counts.failed.timed_out, counts.failed.total()), (100, 100, 100));
    assert_eq!(outcome.most_open, 0);
}

#[test]
fn connections_that_get_no_time_to_end_are_unfinished_and_no_failures() {
    let lines = class("rate = \"100 cps\"\nanswer = \"silent\"");
    let outcome = over_wire(&format!("drain = \"100ms\"\n{lines}"), "");
    let counts = outcome.counts();
    assert_eq!((counts.attempted, counts.unfinished, counts.failed.total()), (100, 100, 0));
}

#[test]
fn frames_with_a_wrong_bit_are_counted_and_harm_no_content() {
    let link = LinkSpec { corruption: 0.01, ..LinkSpec::default() };
    let scenario = scenario(&class("rate = \"100 cps\"\nresponse = \"30kB\""), "type = \"wire\"");
    let outcome = run(WireMedium::new(&Wire { link, seed: 5 }), &scenario);
    assert_flawless(&outcome);
    assert!(outcome.corrupt > 20, "{}", outcome.corrupt);
}

/// Changes a byte of every so many segments with text, and makes their checksums right.
struct Forger {
    side: Side,
    every: u32,
    seen: u32,
    forged: u64,
}

impl Middle for &mut Forger {
    fn pass(&mut self, side: Side, frame: &mut VecFrame, _: Instant) -> bool {
        let Some((packet, header, text)) = read(frame) else { return true };
        if side != self.side || text == 0 {
            return true;
        }
        self.seen += 1;
        if self.seen.is_multiple_of(self.every) {
            self.forged += 1;
            let bytes = &mut frame.data_mut()[L2_LEN + ip::MIN_LEN..];
            // The last byte: in a request, behind what says whose it is.
            *bytes.last_mut().expect("text") ^= 0x20;
            header.write(bytes, packet.src, packet.dst);
        }
        true
    }
}

#[test]
fn content_that_was_changed_is_found_though_its_checksum_is_right() {
    let scenario = scenario(&class("rate = \"100 cps\""), "type = \"wire\"");
    for side in [Side::First, Side::Second] {
        let mut forger = Forger { side, every: 10, seen: 0, forged: 0 };
        let outcome = run(Tapped::new(clean_wire(MS), &mut forger), &scenario);
        let counts = outcome.counts();
        assert_eq!((forger.forged, counts.attempted, counts.completed), (10, 100, 90), "{counts:?}");
        let (requests, responses) = if side == Side::First { (10, 0) } else { (0, 10) };
        assert_eq!((counts.wrong_requests, counts.failed.wrong_content), (requests, responses));
        // A server that is sent nonsense hangs up.
        assert_eq!(counts.failed.reset, requests);
        let provenance = scenario.provenance(SystemTime::UNIX_EPOCH);
        let kpis = TcpResult::new(provenance, &scenario.load.classes, &outcome).kpis;
        assert_eq!((kpis.failed_transactions, kpis.failed_connections), (0.1, 0.1));
    }
}

/// Watches how long each client's socket rests.
#[derive(Default)]
struct Watch {
    /// By socket: when the last segment of it was sent.
    last: HashMap<(Ipv4Addr, u16), Instant>,
    shortest: Option<Duration>,
    reused: u64,
}

impl Middle for &mut Watch {
    fn pass(&mut self, side: Side, frame: &mut VecFrame, now: Instant) -> bool {
        let Some((packet, header, _)) = read(frame).filter(|_| side == Side::First) else { return true };
        let before = self.last.insert((packet.src, header.src_port), now);
        if let Some(before) = before.filter(|_| header.flags.has(Flags::SYN)) {
            self.reused += 1;
            let rest = now.since(before);
            self.shortest = Some(self.shortest.map_or(rest, |shortest| shortest.min(rest)));
        }
        true
    }
}

#[test]
fn no_port_is_used_again_before_its_time_wait_is_over() {
    let lines = "duration = \"5s\"\ntime_wait = \"1s\"\n[[class]]\nrate = \"100 cps\"\nclients = \"10.1.0.1-10.1.0.4\"\n\
                 client_ports = \"2000-2009\"\nservers = \"203.0.113.1\"";
    let scenario = scenario(lines, "type = \"wire\"");
    let mut watch = Watch::default();
    let counts = run(Tapped::new(clean_wire(MS), &mut watch), &scenario).counts();
    assert_eq!(counts.attempted + counts.unstarted, 500);
    assert!(watch.reused > 80 && counts.unstarted > 200, "{} reused, {counts:?}", watch.reused);
    assert!(watch.shortest.expect("some were") >= Duration::from_secs(1), "{:?}", watch.shortest);
}
