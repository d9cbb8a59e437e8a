//! Data: segments, acknowledgments, windows on both sides, timestamps.

use crate::runner::play;

/// An established connection: ours from 101, theirs from 301, segments of 1000 bytes.
const OPEN: &str = "
    connect iss 100 mss 1000
    << S 100
    >> S. 300 ack 101 win 20000 mss 1000
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc5681_4_2_the_first_full_segments_are_acknowledged_each() {
    play(
        "
        quick 2
        >> S 300 mss 1000
        answer iss 100 mss 1000
        << S. 100 ack 301
        >> . 301 ack 101
        >> . 301+1000 ack 101
        << . 101 ack 1301
        >> . 1301+500 ack 101                     # a small one waits for the answer that it may ask for
        << -
        @0.04
        << . 101 ack 1801
        >> . 1801+1000 ack 101
        << . 101 ack 2801
        >> . 2801+1000 ack 101
        << -
        >> . 3801+1000 ack 101
        << . 101 ack 4801
        ",
    );
}

#[test]
fn rfc9293_3_8_6_3_every_second_segment_is_acknowledged() {
    play_open(
        "
        >> . 301+1000 ack 101
        << -
        >> . 1301+1000 ack 101
        << . 101 ack 2301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_3_a_single_segment_is_acknowledged_after_40_ms() {
    play_open(
        "
        >> P. 301+10 ack 101
        @1
        << @0.04 . 101 ack 311
        ",
    );
}

#[test]
fn an_acknowledgment_rides_on_data() {
    play_open(
        "
        >> P. 301+10 ack 101
        send 20
        << P. 101+20 ack 311
        >> . 311 ack 121
        @1
        << -
        ",
    );
}

#[test]
fn rfc9293_3_7_1_segments_are_filled_and_the_last_one_pushes() {
    play_open(
        "
        send 300
        << P. 101+300 ack 301
        send 2100
        << . 401+1000 ack 301
        << . 1401+1000 ack 301
        << P. 2401+100 ack 301
        queued 2400
        >> . 301 ack 1401
        queued 1100
        ",
    );
}

#[test]
fn chunks_are_joined_to_full_segments_when_more_is_queued() {
    play_open(
        "
        pool 0
        send 300
        send 300
        send 300
        send 300
        << -
        pool 9
        << . 101+1000 ack 301
        << P. 1101+200 ack 301
        ",
    );
}

#[test]
fn a_dry_pool_loses_nothing() {
    play_open(
        "
        pool 1
        send 2500
        << . 101+1000 ack 301
        pool 0
        >> . 301+10 ack 101
        >> . 311+10 ack 101
        << -
        pool 9
        << . 1101+1000 ack 321
        << P. 2101+500 ack 321
        ",
    );
}

#[test]
fn rfc9293_3_8_6_the_peers_window_is_kept() {
    play_open(
        "
        >> . 301 ack 101 win 2500
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        # 500 bytes are a silly window: neither a segment nor half of the largest window
        >> . 301 ack 1101 win 1500
        << -
        >> . 301 ack 2101 win 1500
        << . 2101+1000 ack 301
        >> . 301 ack 3101 win 1500
        << P. 3101+1000 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_what_is_sent_again_keeps_to_a_window_that_was_taken_back() {
    play_open(
        "
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        >> . 301 ack 101 win 500
        @0.25
        << @0.2 . 101+500 ack 301
        >> . 301 ack 601 win 0
        << -
        >> . 301 ack 601 win 1500
        << . 601+1000 ack 301
        << . 1601+500 ack 301
        >> . 301 ack 2101 win 0
        << -
        @1.1
        << @0.65 . 2101+1 ack 301               # asks for room
        >> . 301 ack 2101 win 3000
        << P. 2101+1000 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_an_older_segment_does_not_change_the_window() {
    play_open(
        "
        >> . 301+10 ack 101 win 5000
        >> . 311+10 ack 101 win 2000
        << . 101 ack 321
        >> . 301+10 ack 101 win 9000            # the first again
        drop unacceptable
        << . 101 ack 321
        send 3000
        << . 101+1000 ack 321
        << . 1101+1000 ack 321
        ",
    );
}

#[test]
fn rfc9293_3_8_6_1_a_shut_window_is_probed_with_back_off() {
    play_open(
        "
        >> . 301 ack 101 win 0
        send 10
        << -
        @1.45
        << @0.2 . 101+1 ack 301
        << @0.6 . 101+1 ack 301
        << @1.4 . 101+1 ack 301
        >> . 301 ack 101 win 0
        @3.1
        << @3 . 101+1 ack 301
        >> . 301 ack 101 win 5000
        << P. 101+10 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_1_a_probe_that_is_taken_moves_on() {
    play_open(
        "
        >> . 301 ack 101 win 0
        send 10
        @0.3
        << @0.2 . 101+1 ack 301
        >> . 301 ack 102 win 0
        << -
        >> . 301 ack 102 win 100
        << P. 102+9 ack 301
        ",
    );
}

#[test]
fn probes_that_are_answered_go_on_for_ever_and_unanswered_ones_end_at_the_user_timeout() {
    play_open(
        "
        >> . 301 ack 101 win 0
        send 10
        @50
        << @0.2 . 101+1 ack 301
        << @0.6 . 101+1 ack 301
        << @1.4 . 101+1 ack 301
        << @3 . 101+1 ack 301
        << @6.2 . 101+1 ack 301
        << @12.6 . 101+1 ack 301
        << @25.4 . 101+1 ack 301
        >> . 301 ack 101 win 0                   # at 50 s: 60 s more
        @109.9
        << @51 . 101+1 ack 301
        << @102.2 . 101+1 ack 301
        @110.1
        << @110 R. 102 ack 301
        error Timeout
        ",
    );
}

#[test]
fn rfc9293_3_8_6_the_window_closes_by_what_waits_and_downstream() {
    play(
        "
        window 4000
        connect iss 100 mss 1000
        << S 100 win 4000
        >> S. 300 ack 101 mss 1000
        << . 101 ack 301 win 4000
        >> . 301+1000 ack 101
        >> . 1301+1000 ack 101
        << . 101 ack 2301 win 2000
        >> . 2301+1000 ack 101
        >> . 3301+1000 ack 101
        << . 101 ack 4301 win 0
        >> . 4301+1000 ack 101                   # nothing fits: the answer says so
        << . 101 ack 4301 win 0
        downstream 4000
        read
        got 4000
        << -
        downstream 3500
        << -                                     # 500 bytes are a silly window
        downstream 3000
        << . 101 ack 4301 win 1000               # the update comes by itself
        downstream 0
        << . 101 ack 4301 win 4000
        ",
    );
}

#[test]
fn the_right_edge_never_moves_back() {
    play(
        "
        window 4000
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 mss 1000
        << . 101 ack 301 win 4000
        downstream 9000                          # a filter made more of it
        >> . 301+1000 ack 101
        >> . 1301+1000 ack 101
        << . 101 ack 2301 win 2000
        >> . 2301+2000 ack 101                   # still taken
        << -
        @0.1
        << . 101 ack 4301 win 0
        ",
    );
}

#[test]
fn without_scaling_the_window_is_at_most_64_k() {
    play(
        "
        window 1000000
        >> S 1000 mss 1460
        answer iss 5000 ws 7
        << S. 5000 ack 1001 win 65535
        >> . 1001 ack 5001
        >> . 1001+10 ack 5001
        >> . 1011+10 ack 5001
        << . 5001 ack 1021 win 65515             # less what waits to be read
        ",
    );
}

#[test]
fn rfc7323_2_3_both_windows_are_scaled_by_what_was_agreed() {
    play(
        "
        window 1048576
        >> S 1000 win 1000 mss 1000 ws 2
        answer iss 5000 mss 1000 ws 7
        << S. 5000 ack 1001 win 65535 ws 7
        >> . 1001 ack 5001 win 1000               # 4000 bytes
        send 9000
        << . 5001+1000 ack 1001 win 512            # 64 KB to begin with
        << . 6001+1000 ack 1001
        << . 7001+1000 ack 1001
        << . 8001+1000 ack 1001
        ",
    );
}

#[test]
fn a_scaled_window_that_was_rounded_up_can_be_filled() {
    play(
        "
        window 100
        >> S 1000 mss 1000 ws 0
        answer iss 5000 mss 1000 ws 5
        << S. 5000 ack 1001 win 96 ws 5
        >> . 1001 ack 5001
        >> . 1001+50 ack 5001
        >> . 1051+30 ack 5001
        << . 5001 ack 1081 win 1                  # 16 bytes are left, but units of 32 must not take back what was said
        >> . 1081+32 ack 5001
        @0.1
        << . 5001 ack 1113 win 0
        ",
    );
}

#[test]
fn rfc7323_2_2_the_window_of_a_syn_is_never_scaled() {
    play(
        "
        window 1048576
        connect iss 100 mss 1000 ws 7
        << S 100 win 65535
        >> S. 300 ack 101 win 3000 mss 1000 ws 10     # 3000 bytes, not 3 MB
        << . 101 ack 301
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        >> . 301 ack 1101 win 3                   # from here on units of 1024
        << P. 3101+1000 ack 301
        ",
    );
}

#[test]
fn rfc7323_2_3_a_shift_of_14_counts_as_such_and_more_is_taken_as_14() {
    for shift in [14, 15, 255] {
        play(&format!(
            "
            connect iss 100 mss 1000 ws 14
            << S 100 ws 14
            >> S. 300 ack 101 win 1 mss 1000 ws {shift}
            << . 101 ack 301
            >> . 301 ack 101 win 1                # 16384 bytes
            send 17000
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
            >> . 301 ack 10101 win 0
            << -
            >> . 301 ack 10101 win 1
            << . 10101+1000 ack 301
            << . 11101+1000 ack 301
            << . 12101+1000 ack 301
            << . 13101+1000 ack 301
            << . 14101+1000 ack 301
            << . 15101+1000 ack 301
            << P. 16101+1000 ack 301
            "
        ));
    }
}

#[test]
fn rfc7323_2_2_a_scale_that_only_one_side_offers_scales_nothing() {
    play(
        "
        window 1048576
        connect iss 100 mss 1000 ws 7
        << S 100
        >> S. 300 ack 101 win 2000 mss 1000
        << . 101 ack 301 win 65535
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        ",
    );
    play(
        "
        window 1048576
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 win 2000 mss 1000 ws 7
        << . 101 ack 301 win 65535
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        ",
    );
}

#[test]
fn rfc7323_3_2_every_segment_but_a_reset_is_stamped() {
    play(
        "
        keepalive 60
        connect iss 100 mss 1000 ts 5
        << S 100 ts 5/0 only mss 1000
        >> S. 300 ack 101 mss 1000 ts 70/5
        << . 101 ack 301 ts 5/70 only
        @1
        send 10
        << P. 101+10 ack 301 ts 1005/70 only
        >> . 301 ack 111 ts 71/1005
        @62
        << @61 . 110 ack 301 ts 61005/71 only     # a keepalive
        >> . 301 ack 111 ts 72/61005
        shutdown
        << F. 111 ack 301 ts 62005/72 only
        abort
        << R. 112 ack 301 only
        ",
    );
}

#[test]
fn rfc7323_5_5_after_24_days_of_silence_any_stamp_is_new() {
    play(
        "
        connect iss 100 mss 1000 ts 5
        << S 100
        >> S. 300 ack 101 mss 1000 ts 4000000000/5
        << . 101 ack 301
        @2073599                                  # 24 days but a second
        >> . 301+10 ack 101 ts 3000000000/5
        drop paws
        << . 101 ack 301
        @2073601
        >> . 301+10 ack 101 ts 3000000000/5
        >> . 311+10 ack 101 ts 3000000001/5
        << . 101 ack 321 ts 2073601005/3000000000
        >> . 321+10 ack 101 ts 2999999999/5
        drop paws
        << . 101 ack 321
        ",
    );
}

#[test]
fn rfc7323_5_3_what_was_late_fills_a_gap_though_a_retransmission_came_before_it() {
    play(
        "
        connect iss 100 mss 1000 sackok ts 5
        << S 100
        >> S. 300 ack 101 mss 1000 sackok ts 1000/5
        << . 101 ack 301
        @0.01
        >> . 311+10 ack 101 ts 1010/5
        << . 101 ack 301
        >> . 331+10 ack 101 ts 1010/5
        << . 101 ack 301
        @0.05
        >> . 301+10 ack 101 ts 1050/5               # lost and sent again
        << . 101 ack 321
        >> . 321+10 ack 101 ts 1009/5               # only late
        << . 101 ack 341 ts 55/1050
        >> . 341+10 ack 101 ts 1049/5               # nothing is missing any more
        drop paws
        << . 101 ack 341
        >> . 351+10 ack 101 ts 1051/5
        << . 101 ack 341
        >> . 341+10 ack 101 ts 985/5                # and this would be very late
        drop paws
        << . 101 ack 341
        >> . 341+10 ack 101 ts 986/5
        << . 101 ack 361
        ",
    );
}

#[test]
fn rfc7323_5_3_the_stamps_go_round() {
    play(
        "
        connect iss 100 mss 1000 ts 4294967290
        << S 100
        >> S. 300 ack 101 mss 1000 ts 4294967295/4294967290
        << . 101 ack 301
        @0.01
        >> . 301+10 ack 101 ts 2/4294967290       # later than 4294967295
        >> . 311+10 ack 101 ts 3/4
        << . 101 ack 321 ts 4/2
        >> . 321+10 ack 101 ts 4294967295/4
        drop paws
        << . 101 ack 321
        ",
    );
}

#[test]
fn rfc7323_4_1_the_round_trip_is_that_of_the_echo_also_after_a_retransmission() {
    play(
        "
        connect iss 100 mss 1000 ts 5
        << S 100
        @0.1
        >> S. 300 ack 101 mss 1000 ts 70/5
        << . 101 ack 301
        send 988
        << P. 101+988 ack 301 ts 105/70
        @0.45
        << @0.4 P. 101+988 ack 301 ts 405/70
        >> . 301 ack 1089 ts 71/405               # the second one, after 50 ms: back-off is over
        send 988
        << P. 1089+988 ack 301
        @0.73
        << -
        @0.76
        << P. 1089+988 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_2_1_a_silly_window_is_used_after_all_when_nothing_else_comes() {
    play_open(
        "
        >> . 301 ack 101 win 300
        send 2000
        << -                                      # neither a segment nor half of the largest window
        @0.25
        << @0.2 . 101+300 ack 301                 # the override timer
        >> . 301 ack 401 win 300
        << -
        @0.6
        << . 401+300 ack 301
        >> . 301 ack 701 win 1000
        << . 701+1000 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_2_1_half_of_the_largest_window_is_worth_a_segment() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 win 400 mss 1000
        << . 101 ack 301
        >> . 301 ack 101 win 199
        send 900
        << -
        >> . 301 ack 101 win 200
        << . 101+200 ack 301
        >> . 301 ack 301 win 400
        << . 301+400 ack 301
        >> . 301 ack 701 win 400
        << P. 701+300 ack 301                     # all that is left is worth one always
        ",
    );
}

#[test]
fn rfc9293_3_8_6_2_2_a_receiver_with_little_room_waits_for_half_of_it() {
    play(
        "
        window 1000
        connect iss 100 mss 1460
        << S 100 win 1000
        >> S. 300 ack 101 mss 1460
        << . 101 ack 301 win 1000
        downstream 1000
        >> . 301+1000 ack 101
        read
        @0.1
        << @0.04 . 101 ack 1301 win 0
        downstream 600
        << -
        downstream 500
        << . 101 ack 1301 win 500
        ",
    );
}

#[test]
fn rfc7323_5_3_an_old_timestamp_is_dropped_and_acknowledged() {
    play(
        "
        >> S 1000 mss 1000 ts 500/0
        answer iss 5000 ts 1
        << S. 5000 ack 1001 ts 1/500
        >> . 1001 ack 5001 ts 501/1
        >> . 1001+10 ack 5001 ts 499/1
        drop paws
        << . 5001 ack 1001 ts 1/501 only
        >> . 1001+10 ack 5001                     # none at all is let through: boxes on the way strip them
        >> . 1011+10 ack 5001 ts 502/1
        << . 5001 ack 1021 ts 1/501 only          # 502 lies behind the last ACK sent (section 4.3)
        ",
    );
}

#[test]
fn rfc7323_4_3_the_echo_is_that_of_the_segment_that_moved_the_window() {
    play(
        "
        >> S 1000 mss 1000 ts 500/0 sackok
        answer iss 5000 ts 1 sackok
        << S. 5000 ack 1001
        >> . 1001 ack 5001 ts 501/1
        >> . 1011+10 ack 5001 ts 503/1            # behind a gap: its stamp is not echoed
        << . 5001 ack 1001 ts 1/501 sack 1011-1021 only
        >> . 1001+10 ack 5001 ts 502/1
        << . 5001 ack 1021 ts 1/502 only
        ",
    );
}

#[test]
fn sequence_numbers_wrap() {
    play(
        "
        connect iss 4294967290 mss 1000
        << S 4294967290
        >> S. 4294967295 ack 4294967291 mss 1000
        << . 4294967291 ack 0
        send 10
        << P. 4294967291+10 ack 0
        >> . 0+10 ack 5
        queued 0
        read
        got 10
        @0.1
        << . 5 ack 10
        ",
    );
}
