//! What is said over connections, and how they end.

use pnat_perf::load::medium::tapped::{Stall, Tapped};
use pnat_shared::time::{Duration, Instant};

use crate::fixture::{
    assert_flawless, class, clean_wire, is_near, over_wire, run, scenario, through_gateway,
};

const MS: Duration = Duration::from_millis(1);

#[test]
fn over_a_wire_that_loses_nothing_every_connection_is_counted_and_every_time_is_the_wires() {
    let outcome = over_wire(&class("rate = \"2 kcps\"\nrequest = 200\nresponse = 1000"), "latency = \"2ms\"");
    assert_flawless(&outcome);
    let counts = outcome.counts();
    assert_eq!((counts.intended, counts.attempted, counts.transactions), (2_000, 2_000, 2_000));
    assert_eq!((counts.to_servers, counts.to_clients), (400_000, 2_000_000));
    assert_eq!(counts.retransmitted, [0, 0]);
    let all = outcome.all();
    // SYN and SYN-ACK; request and response behind them; and FINs.
    let times = [
        (&all.connect, 4),
        (&all.first_byte, 8),
        (&all.last_byte, 8),
        (&all.request, 4),
        (&all.duration, 12),
    ];
    for (times, millis) in times {
        assert_eq!(times.len(), 2_000);
        assert!(is_near(times.min(), millis * MS) && is_near(times.max(), millis * MS), "{millis} ms");
    }
    assert_eq!((outcome.corrupt, outcome.foreign, outcome.most_open), (0, 0, 16), "8 ms long open, 2 each");
    let sum = outcome.intervals.iter().fold([0; 3], |[attempted, transactions, bytes], interval| {
        [attempted + interval.attempted, transactions + interval.transactions, bytes + interval.to_clients]
    });
    assert_eq!(sum, [2_000, 2_000, 2_000_000]);
}

#[test]
fn whoever_is_to_close_closes_over_a_wire_and_through_the_gateway() {
    for closer in ["client", "server", "client-reset", "server-reset"] {
        let class =
            class(&format!("rate = \"200 cps\"\nrequests = 3\nresponse = \"20kB\"\nclose = \"{closer}\""));
        let outcome = over_wire(&class, "");
        assert_flawless(&outcome);
        assert_eq!((outcome.counts().attempted, outcome.counts().transactions), (200, 600), "{closer}");
        let class = format!("duration = \"200ms\"\n{class}");
        for medium in ["action = \"proxy\"", "action = \"nat\""] {
            let outcome = through_gateway(&class, medium);
            assert_flawless(&outcome);
            assert_eq!(outcome.counts().transactions, 3 * outcome.counts().attempted, "{closer}, {medium}");
        }
    }
}

#[test]
fn a_chain_of_filters_lets_all_content_pass() {
    let class = class("rate = \"100 cps\"\nresponse = \"100kB\"");
    let filters =
        "filters = [\"replace\", \"block\", \"limit\", \"log\", \"replace\", \"block\", \"limit\", \"log\"]";
    let outcome = through_gateway(&format!("duration = \"200ms\"\n{class}"), filters);
    assert_flawless(&outcome);
    assert_eq!(outcome.counts().to_clients, 100_000 * outcome.counts().attempted);
}

#[test]
fn a_closed_loop_keeps_as_many_connections_open_as_were_asked_for_and_thinks_between_requests() {
    let class = class("concurrent = 10\nramp = \"1ms\"\nrequests = \"endless\"\nthink = \"10ms\"");
    let outcome = over_wire(&class, "latency = \"5ms\"");
    let counts = outcome.counts();
    assert_eq!((counts.attempted, outcome.most_open, outcome.open_at_close), (10, 10, 10));
    assert_flawless(&outcome);
    // After the handshake's 10 ms, one request in every 20 ms.
    assert!((490..=500).contains(&counts.transactions), "{counts:?}");
    assert!(is_near(outcome.all().request.max(), 10 * MS));
}

#[test]
fn connections_that_end_are_followed_by_others_in_a_closed_loop() {
    let outcome = over_wire(&class("concurrent = 4\nramp = \"1ms\""), "latency = \"5ms\"");
    assert_flawless(&outcome);
    // Each takes 30 ms, until both FINs are acknowledged; then the next begins within a tick.
    assert!((4 * 32..=4 * 35).contains(&outcome.counts().attempted), "{:?}", outcome.counts());
    assert_eq!(outcome.most_open, 4);
}

#[test]
fn an_open_loop_counts_the_wait_of_every_connection_that_was_due_while_the_generator_stood_still() {
    let stall = || Stall { at: Instant::from_millis(500), lasts: 100 * MS };
    let open = scenario(&class("rate = \"1 kcps\""), "type = \"wire\"");
    let outcome = run(Tapped::new(clean_wire(MS), stall()), &open);
    assert_eq!(outcome.counts().attempted, 1_000, "those that were due are opened behind it");
    let long = outcome.all().connect.count_between(50_000_000, 200_000_000);
    assert!((48..=56).contains(&long), "{long} of the 100 that were due waited for half of it");
    assert!(outcome.all().late.max() > 98_000_000);

    let closed = scenario(&class("concurrent = 5\nramp = \"1ms\""), "type = \"wire\"");
    let outcome = run(Tapped::new(clean_wire(MS), stall()), &closed);
    let long = outcome.all().connect.count_between(50_000_000, 200_000_000);
    assert!(long <= 5, "{long}: nobody was due but those that were under way");
}

#[test]
fn weights_share_a_rate() {
    let heavy = class("name = \"heavy\"\nweight = 3");
    let light = class("name = \"light\"\nweight = 1\nresponse = 5").replace("10.1.", "10.2.");
    let outcome = over_wire(&format!("rate = \"1 kcps\"\n{heavy}{light}"), "");
    let attempted = outcome.classes.iter().map(|class| class.counts.attempted).collect::<Vec<_>>();
    assert_eq!(attempted, [750, 250]);
    assert_flawless(&outcome);
    assert_eq!(outcome.classes[1].counts.to_clients, 1_250);
}

#[test]
fn bulk_fills_the_wire_in_the_direction_that_was_asked_for() {
    for (bulk, filled) in [("download", [false, true]), ("upload", [true, false]), ("both", [true, true])] {
        let class = class(&format!("concurrent = 2\nramp = \"1ms\"\nbulk = \"{bulk}\"\nlasts = \"500ms\""));
        let outcome =
            over_wire(&format!("duration = \"400ms\"\n{class}"), "capacity = \"20 Mbit/s\"\nqueue = 100");
        assert_flawless(&outcome);
        let counts = &outcome.at_close;
        for (bytes, filled) in [counts.to_servers, counts.to_clients].into_iter().zip(filled) {
            let rate = bytes as f64 * 8.0 / outcome.duration.as_secs_f64();
            // 1448 of 1514 bytes are content, and ACKs of the other direction take some; slow start takes its time.
            assert_eq!((14e6..19.2e6).contains(&rate), filled, "{bulk}: {rate} bit/s");
        }
    }
}

#[test]
fn a_client_that_reads_slowly_is_served_slowly() {
    let class =
        class("concurrent = 2\nramp = \"1ms\"\nresponse = \"50kB\"\nread_rate = \"50kB\"\nwindow = \"4KiB\"");
    let outcome = over_wire(&format!("duration = \"100ms\"\n{class}"), "");
    assert_flawless(&outcome);
    let [least, most] = [outcome.all().request.min(), outcome.all().request.max()];
    assert!(least > 950_000_000 && most < 1_100_000_000, "{least} to {most} ns");
}

#[test]
fn a_client_that_sends_byte_by_byte_takes_as_many_times_as_long() {
    let class = class("concurrent = 1\nrequest = 51\nbyte_every = \"10ms\"\nramp = \"1ms\"");
    let outcome = over_wire(&format!("duration = \"100ms\"\n{class}"), "latency = \"1ms\"");
    assert_flawless(&outcome);
    let took = outcome.all().request.max();
    assert!((500_000_000..510_000_000).contains(&took), "{took} ns");
}

#[test]
fn half_open_clients_are_answered_and_say_nothing() {
    let class = class("rate = \"100 cps\"\nhalf_open = \"300ms\"");
    let outcome = over_wire(&class, "latency = \"1ms\"");
    let counts = outcome.counts();
    assert_eq!((counts.attempted, counts.established, counts.completed), (100, 100, 100), "{counts:?}");
    assert_eq!((counts.to_servers, counts.failed.total(), counts.requests), (0, 0, 0));
    // Nobody acknowledges the SYN-ACKs, so they come again.
    assert_eq!(counts.retransmitted[0], 0);
    let outcome = through_gateway(&format!("duration = \"300ms\"\n{class}"), "action = \"proxy\"");
    let counts = outcome.counts();
    assert_eq!((counts.established, counts.completed), (counts.attempted, counts.attempted), "{counts:?}");
}
