//! Loss: what is said about gaps, and how they are repaired.

use crate::runner::play;

/// Established with SACK, segments of 1000 bytes, ours from 101, theirs from 301; a round trip of 100 ms was measured, so
/// the timeout is 300 ms.
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
fn rfc5681_4_2_a_gap_is_reported_at_once_and_so_is_its_end() {
    play_open(
        "
        >> . 1301+1000 ack 101
        << . 101 ack 301 sack 1301-2301
        >> . 3301+1000 ack 101
        << . 101 ack 301 sack 3301-4301,1301-2301
        >> . 2301+1000 ack 101
        << . 101 ack 301 sack 1301-4301
        >> . 301+1000 ack 101
        << . 101 ack 4301 win 61535 only
        read
        got 4000
        ",
    );
}

#[test]
fn what_came_first_wins_where_segments_overlap() {
    play_open(
        "
        >> . 401+100 ack 101
        << . 101 ack 301 sack 401-501
        >> . 301+300 ack 101
        << . 101 ack 601 only
        >> . 501+200 ack 101                    # half of it is new
        @0.2
        << . 101 ack 701
        read
        got 400
        ",
    );
}

#[test]
fn rfc6298_5_the_timer_repeats_the_first_segment_and_doubles() {
    play(
        "
        connect iss 100 mss 1000                # without SACK there is no tail loss probe
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 2000
        << . 101+1000 ack 301
        << P. 1101+1000 ack 301
        @1.05
        << @0.4 . 101+1000 ack 301
        << @1 . 101+1000 ack 301
        >> . 301 ack 1101
        << P. 1101+1000 ack 301
        >> . 301 ack 2101
        queued 0
        @50
        << -
        ",
    );
}

#[test]
fn rfc6298_5_3_progress_restarts_the_timer() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 5000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << P. 4101+1000 ack 301
        @0.2
        >> . 301 ack 1101                       # a second measurement of 100 ms: still 300 ms
        @0.499
        << -
        @0.501
        << @0.5 . 1101+1000 ack 301
        ",
    );
}

#[test]
fn rfc7765_4_with_fewer_than_four_segments_the_timer_counts_from_the_oldest() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        @0.2
        >> . 301 ack 1101
        @0.399
        << -
        @0.401
        << @0.4 . 1101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6675_three_sacked_segments_prove_a_loss() {
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
        send 3000
        << -                                    # ten segments are the initial window
        @0.2
        >> . 301 ack 101 sack 1101-2101
        << . 10101+1000 ack 301                 # limited transmit (RFC 3042)
        >> . 301 ack 101 sack 1101-3101
        << . 11101+1000 ack 301
        >> . 301 ack 101 sack 1101-4101
        << . 101+1000 ack 301                   # lost
        >> . 301 ack 101 sack 1101-5101
        << -
        >> . 301 ack 101 sack 1101-6101         # seven segments are on their way: what is left of the window, 0.7 * 10
        << -
        >> . 301 ack 101 sack 1101-7101
        << P. 12101+1000 ack 301
        @0.3
        >> . 301 ack 12101
        << -
        >> . 301 ack 13101
        queued 0
        ",
    );
}

#[test]
fn rfc6675_5_all_holes_are_filled_in_one_round_trip() {
    play_open(
        "
        send 9000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << . 4101+1000 ack 301
        << . 5101+1000 ack 301
        << . 6101+1000 ack 301
        << . 7101+1000 ack 301
        << P. 8101+1000 ack 301
        @0.2                                    # segments 1, 3 and 5 are lost
        >> . 301 ack 101 sack 1101-2101
        << -
        >> . 301 ack 101 sack 3101-4101,1101-2101
        << -
        >> . 301 ack 101 sack 5101-6101,3101-4101,1101-2101
        << . 101+1000 ack 301
        >> . 301 ack 101 sack 5101-7101,3101-4101,1101-2101
        << . 2101+1000 ack 301
        >> . 301 ack 101 sack 5101-8101,3101-4101,1101-2101
        << . 4101+1000 ack 301
        >> . 301 ack 101 sack 5101-9101,3101-4101,1101-2101
        << -
        @0.3
        >> . 301 ack 9101
        queued 0
        ",
    );
}

#[test]
fn rfc8985_6_2_where_three_can_never_come_a_quarter_round_trip_is_waited_for_stragglers() {
    play_open(
        "
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        @0.2
        >> . 301 ack 101 sack 1101-2101
        >> . 301 ack 101 sack 1101-3101
        @0.224
        << -
        @0.226
        << @0.225 . 101+1000 ack 301
        @0.3
        >> . 301 ack 3101
        queued 0
        ",
    );
}

#[test]
fn rfc5827_3_without_sack_fewer_duplicates_suffice_where_little_is_in_flight() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        @0.2
        >> . 301 ack 101 win 60000
        << -
        >> . 301 ack 101 win 60000
        << . 101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6582_without_sack_a_partial_acknowledgment_shows_the_next_hole() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 6000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << . 4101+1000 ack 301
        << P. 5101+1000 ack 301
        # segments 1 and 3 are lost
        >> . 301 ack 101 win 60000
        >> . 301 ack 101 win 60000
        << -
        >> . 301 ack 101 win 60000
        << . 101+1000 ack 301
        >> . 301 ack 101 win 60000
        << -
        >> . 301 ack 2101 win 60000
        << . 2101+1000 ack 301
        >> . 301 ack 6101 win 60000
        queued 0
        ",
    );
}

#[test]
fn rfc2883_blocks_below_the_acknowledgment_mean_no_loss() {
    play_open(
        "
        send 5000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << . 3101+1000 ack 301
        << P. 4101+1000 ack 301
        >> . 301 ack 3101 sack 101-3101
        >> . 301 ack 3101 sack 99999-200000
        >> . 301 ack 3101 sack 2147486000-3000
        << -
        @0.2
        << -
        ",
    );
}

#[test]
fn rfc2018_8_after_the_timer_only_what_is_not_sacked_is_repeated() {
    play_open(
        "
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        @0.2
        >> . 301 ack 101 sack 1101-2101
        @0.226
        << @0.225 . 101+1000 ack 301            # and is lost again, and so are all tries to hear of it
        @0.728
        << @0.427 . 101+1000 ack 301
        << @0.727 . 101+1000 ack 301            # the timer
        >> . 301 ack 2101
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        ",
    );
}

#[test]
fn rfc2018_8_a_receiver_that_drops_what_it_sacked_gets_it_again_after_the_timer() {
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
        @0.2
        >> . 301 ack 101 sack 1101-3101
        @0.23
        << @0.225 . 101+1000 ack 301
        @0.325
        >> . 301 ack 1101                       # the first byte behind it was SACKed: it is gone
        << P. 3101+1000 ack 301
        @0.45
        << @0.4 . 1101+1000 ack 301
        @0.5
        >> . 301 ack 2101
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        ",
    );
}

#[test]
fn rfc8985_7_a_lost_tail_is_probed_after_two_round_trips() {
    play_open(
        "
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        @0.303
        << @0.302 P. 2101+1000 ack 301           # the last segment again, 202 ms later; the timer would take 300
        @0.402
        >> . 301 ack 101 sack 2101-3101
        << . 101+1000 ack 301                   # the probe has arrived, so all before it is lost
        @0.502
        >> . 301 ack 1101 sack 2101-3101
        << . 1101+1000 ack 301
        @0.602
        >> . 301 ack 3101
        queued 0
        @5
        << -
        ",
    );
}

#[test]
fn rfc8985_7_a_probe_takes_new_data_where_there_is_some() {
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
        send 1000                               # more than the congestion window allows
        << -
        @0.303
        << @0.302 P. 10101+1000 ack 301
        >> . 301 ack 11101
        queued 0
        ",
    );
}

#[test]
fn after_an_unanswered_probe_the_timer_takes_over() {
    play_open(
        "
        send 2000
        << . 101+1000 ack 301
        << P. 1101+1000 ack 301
        @1.3
        << @0.302 P. 1101+1000 ack 301
        << @0.602 . 101+1000 ack 301
        << @1.202 . 101+1000 ack 301
        ",
    );
}

#[test]
fn a_recovery_that_falls_silent_tries_again_after_two_round_trips() {
    play_open(
        "
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        @0.2
        >> . 301 ack 101 sack 1101-4101
        << . 101+1000 ack 301                   # is lost as well
        @0.41
        << @0.402 . 101+1000 ack 301
        >> . 301 ack 4101
        queued 0
        ",
    );
}

#[test]
fn rfc2883_what_comes_twice_is_reported() {
    play_open(
        "
        >> . 301+1000 ack 101
        >> . 1301+1000 ack 101
        << . 101 ack 2301 only
        >> . 301+1000 ack 101
        drop unacceptable
        << . 101 ack 2301 sack 301-1301
        >> . 3301+1000 ack 101
        << . 101 ack 2301 sack 3301-4301
        >> . 1301+1500 ack 101                  # half old, half new
        << . 101 ack 2801 sack 1301-2301,3301-4301
        ",
    );
}

#[test]
fn a_peer_that_is_gone_is_given_up_at_the_user_timeout() {
    play_open(
        "
        send 10
        << P. 101+10 ack 301
        @60
        << @0.4 P. 101+10 ack 301                # a probe instead of the first timeout
        << @0.7 P. 101+10 ack 301
        << @1.3 P. 101+10 ack 301
        << @2.5 P. 101+10 ack 301
        << @4.9 P. 101+10 ack 301
        << @9.7 P. 101+10 ack 301
        << @19.3 P. 101+10 ack 301
        << @38.5 P. 101+10 ack 301
        @61
        << @60.1 R. 111 ack 301
        error Timeout
        over
        ",
    );
}

#[test]
fn rfc5681_4_1_after_a_pause_the_initial_window_applies_again() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.01
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 20
        << P. 101+20 ack 301
        >> . 301 ack 121 win 60000
        @30
        send 11000
        << . 121+1000 ack 301
        << . 1121+1000 ack 301
        << . 2121+1000 ack 301
        << . 3121+1000 ack 301
        << . 4121+1000 ack 301
        << . 5121+1000 ack 301
        << . 6121+1000 ack 301
        << . 7121+1000 ack 301
        << . 8121+1000 ack 301
        << . 9121+1000 ack 301
        ",
    );
}
