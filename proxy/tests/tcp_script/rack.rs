//! RACK: what left before something that has arrived is lost, with time for reordering (RFC 8985 section 6).

use crate::runner::play;

/// Established with SACK, segments of 1000 bytes, ours from 101; a round trip of 100 ms was measured. Ten segments, the
/// initial window, are on their way, and ten more wait.
const TEN: &str = "
    connect iss 100 mss 1000 sackok
    << S 100
    @0.1
    >> S. 300 ack 101 win 60000 mss 1000 sackok
    << . 101 ack 301
    send 20000
    << . 101+1000 ack 301
    << . 1101+1000 ack 301
    << . 2101+1000 ack 301
    << . 3101+1000 ack 301
    << . 4101+1000 ack 301
    << . 5101+1000 ack 301
    << . 6101+1000 ack 301
    << . 7101+1000 ack 301
    << . 8101+1000 ack 301
    << . 9101+1000 ack 301
";

fn play_ten(script: &str) {
    play(&format!("{TEN}{script}"));
}

#[test]
fn rfc8985_6_2_a_lost_retransmission_is_found_by_what_left_after_it() {
    play_ten(
        "
        @0.2
        >> . 301 ack 101 sack 1101-2101
        << . 10101+1000 ack 301
        >> . 301 ack 101 sack 1101-3101
        << . 11101+1000 ack 301
        >> . 301 ack 101 sack 1101-4101
        << . 101+1000 ack 301                   # and is lost again
        @0.21
        >> . 301 ack 101 sack 1101-10101
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        @0.3
        >> . 301 ack 101 sack 1101-12101        # left in the same moment, but before it
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        @0.31
        >> . 301 ack 101 sack 1101-13101        # left later
        << . 101+1000 ack 301
        << . 18101+1000 ack 301
        ",
    );
}

#[test]
fn rfc8985_6_2_where_segments_were_overtaken_before_three_others_prove_nothing() {
    play_ten(
        "
        @0.2
        >> . 301 ack 101 sack 1101-2101
        << . 10101+1000 ack 301
        @0.21
        >> . 301 ack 2101                       # the first segment was overtaken
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        @0.22
        >> . 301 ack 2101 sack 3101-9101
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        << P. 19101+1000 ack 301
        @0.25
        << @0.245 . 2101+1000 ack 301           # the 120 ms that the others took, and a quarter round trip
        ",
    );
}

#[test]
fn rfc8985_6_2_duplicates_widen_the_reordering_window_by_a_quarter_round_trip() {
    play_ten(
        "
        @0.2
        >> . 301 ack 101 sack 1101-2101
        << . 10101+1000 ack 301
        @0.21
        >> . 301 ack 2101                       # overtaken
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        @0.22
        >> . 301 ack 2101 sack 3101-4101
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        @0.3
        << @0.245 . 2101+1000 ack 301           # a quarter
        >> . 301 ack 4101 sack 2101-3101        # was too short
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        @0.31
        >> . 301 ack 4101 sack 5101-6101
        << P. 19101+1000 ack 301
        @0.359
        << -
        @0.361
        << @0.36 . 4101+1000 ack 301            # two of them
        ",
    );
}

#[test]
fn rfc8985_6_3_a_timeout_does_not_give_up_what_left_of_late() {
    play(
        "
        connect iss 100 mss 1000 sackok
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000 sackok
        << . 101 ack 301
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        @0.55
        << @0.302 P. 3101+1000 ack 301
        send 1000
        << P. 4101+1000 ack 301
        @0.65
        << @0.602 . 101+1000 ack 301
        >> . 301 ack 1101
        << . 1101+1000 ack 301                  # the window is two, and the last segment is still on its way
        ",
    );
}

#[test]
fn rfc8985_6_2_an_ack_that_only_widens_the_reordering_window_starts_no_timeout() {
    play_ten(
        "
        @0.2
        >> . 301 ack 101 sack 1101-2101,3101-6101
        << . 101+1000 ack 301
        << . 2101+1000 ack 301
        << . 10101+1000 ack 301
        @0.21
        >> . 301 ack 101 sack 1101-10101        # the third had only been late
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        @0.3
        >> . 301 ack 10101
        << . 16101+1000 ack 301
        @0.31
        >> . 301 ack 10101 sack 11101-12101     # 10101 has until 0.335
        << . 17101+1000 ack 301
        @0.32
        >> . 301 ack 10101 sack 2101-3101,11101-12101
        @0.4
        << @0.36 . 10101+1000 ack 301           # and now for a quarter round trip longer
        ",
    );
}
