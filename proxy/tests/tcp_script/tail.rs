//! Tail loss probes (RFC 8985 section 7).

use crate::runner::play;

/// Established with SACK, segments of 1000 bytes, ours from 101; a round trip of 100 ms was measured.
const OPEN: &str = "
    connect iss 100 mss 1000 sackok
    << S 100
    @0.1
    >> S. 300 ack 101 win 60000 mss 1000 sackok
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc8985_7_2_a_single_segment_leaves_time_for_a_delayed_ack() {
    play_open(
        "
        send 1000
        << P. 101+1000 ack 301
        @0.399
        << -
        @0.401
        << @0.4 P. 101+1000 ack 301              # no later than the timeout would be
        ",
    );
}

#[test]
fn rfc8985_7_2_new_data_puts_the_probe_off() {
    play_open(
        "
        send 2000
        << . 101+1000 ack 301
        << P. 1101+1000 ack 301
        @0.15
        send 1000
        << P. 2101+1000 ack 301
        @0.351
        << -
        @0.353
        << @0.352 P. 2101+1000 ack 301
        ",
    );
}

#[test]
fn rfc8985_7_3_there_is_no_second_probe_before_a_round_trip_was_measured() {
    play_open(
        "
        send 2000
        << . 101+1000 ack 301
        << P. 1101+1000 ack 301
        @0.303
        << @0.302 P. 1101+1000 ack 301
        @0.402
        >> . 301 ack 2101 sack 1101-2101        # only the probe's bytes, of which no round trip can be told
        send 2000
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        @0.71
        << @0.702 . 2101+1000 ack 301           # the timeout
        ",
    );
}

#[test]
fn rfc8985_7_4_1_a_probe_that_repaired_a_loss_costs_the_window() {
    play_open(
        "
        send 10000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << . 4101+1000 ack 301
        << . 5101+1000 ack 301
        << . 6101+1000 ack 301
        << . 7101+1000 ack 301
        << . 8101+1000 ack 301
        << P. 9101+1000 ack 301
        @0.2
        >> . 301 ack 9101
        @0.6
        << @0.4 P. 9101+1000 ack 301
        >> . 301 ack 10101
        send 1000
        << P. 10101+1000 ack 301
        @0.7
        >> . 301 ack 11101
        send 20000                              # seven tenths of eighteen segments
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        << . 19101+1000 ack 301
        << . 20101+1000 ack 301
        << . 21101+1000 ack 301
        << . 22101+1000 ack 301
        ",
    );
}

#[test]
fn rfc8985_7_4_2_a_probe_that_came_twice_costs_nothing() {
    play_open(
        "
        send 10000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << . 4101+1000 ack 301
        << . 5101+1000 ack 301
        << . 6101+1000 ack 301
        << . 7101+1000 ack 301
        << . 8101+1000 ack 301
        << P. 9101+1000 ack 301
        @0.2
        >> . 301 ack 9101
        @0.6
        << @0.4 P. 9101+1000 ack 301
        >> . 301 ack 10101
        >> . 301 ack 10101 sack 9101-10101
        send 1000
        << P. 10101+1000 ack 301
        @0.7
        >> . 301 ack 11101
        send 20000
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        << . 19101+1000 ack 301
        << . 20101+1000 ack 301
        << . 21101+1000 ack 301
        << . 22101+1000 ack 301
        << . 23101+1000 ack 301
        << . 24101+1000 ack 301
        << . 25101+1000 ack 301
        << . 26101+1000 ack 301
        << . 27101+1000 ack 301
        << . 28101+1000 ack 301
        ",
    );
}
