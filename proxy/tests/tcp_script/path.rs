//! What size the path carries: ICMP errors believed and doubted (RFC 1191, RFC 5927), black holes and the way back
//! (RFC 4821, RFC 8899).

use crate::runner::play;

/// An established connection: ours from 101, theirs from 301, segments of 1460 bytes, round trips of 100 ms.
const OPEN: &str = "
    connect iss 100 mss 1460 sackok
    << S 100
    @0.1
    >> S. 300 ack 101 mss 1460 sackok
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

/// As [`play_open`], but without SACK there are no tail probes, and a timeout is a timeout.
fn play_plain(script: &str) {
    play(&format!("{}{script}", OPEN.replace(" sackok", "")));
}

#[test]
fn rfc1191_smaller_packets_follow_an_icmp_message_that_quotes_what_is_in_flight() {
    play_open(
        "
        send 2920
        << . 101+1460 ack 301
        << P. 1561+1460 ack 301
        mtu 99 1000                               # not in flight: forged
        mtu 3021 1000
        << -
        mtu 101 1500                              # no shorter than what is sent
        << -
        mtu 101 1000
        << . 101+960 ack 301
        << . 1061+960 ack 301
        << . 2021+960 ack 301
        << P. 2981+40 ack 301
        mtu 1561 1000                             # the second of that flight: known already
        << -
        path 1000 router 2 @0.1
        ",
    );
}

#[test]
fn rfc1191_5_a_router_that_names_no_mtu_is_asked_again_by_the_next_plateau() {
    play_plain(
        "
        send 2920
        << . 101+1460 ack 301
        << P. 1561+1460 ack 301
        mtu 101 0
        << . 101+1452 ack 301                     # 1492
        << . 1553+1452 ack 301
        << P. 3005+16 ack 301
        mtu 1561 0                                # the second of that flight
        << -
        @0.8                                      # later: the new ones are too long, too
        << @0.4 . 101+1452 ack 301
        mtu 101 0
        << . 101+966 ack 301                      # 1006
        ",
    );
}

#[test]
fn rfc5927_7_2_longer_packets_that_have_passed_speak_against_the_message_until_a_timeout() {
    play_plain(
        "
        send 1460
        << P. 101+1460 ack 301
        @0.2
        >> . 301 ack 1561
        send 1460
        << P. 1561+1460 ack 301
        mtu 1561 1000
        @0.49
        << -                                      # doubted
        path whole
        @0.51
        << @0.5 . 1561+960 ack 301
        path 1000 router 1 @0.5
        ",
    );
}

#[test]
fn rfc5927_7_2_an_acknowledgment_proves_the_message_wrong() {
    play_plain(
        "
        send 1460
        << P. 101+1460 ack 301
        @0.2
        >> . 301 ack 1561
        send 1460
        << P. 1561+1460 ack 301
        mtu 1561 1000
        @0.3
        >> . 301 ack 3021
        send 1460
        << P. 3021+1460 ack 301
        @0.61
        << @0.6 P. 3021+1460 ack 301
        ",
    );
}

#[test]
fn rfc5927_7_2_after_a_timeout_the_message_is_believed_at_once() {
    play_plain(
        "
        send 1460
        << P. 101+1460 ack 301
        @0.2
        >> . 301 ack 1561
        send 2920
        << . 1561+1460 ack 301
        << P. 3021+1460 ack 301
        @0.51
        << @0.5 . 1561+1460 ack 301
        mtu 1561 1000
        << . 1561+960 ack 301
        ",
    );
}

#[test]
fn a_message_about_a_tiny_path_is_believed_to_552_bytes_and_further_only_after_a_timeout() {
    play_plain(
        "
        send 600
        << P. 101+600 ack 301
        mtu 101 68
        << . 101+512 ack 301
        << P. 613+88 ack 301
        @0.41
        << @0.4 . 101+88 ack 301                  # no shorter than this whatever it says
        ",
    );
}

/// Four segments of 1460 bytes vanish, and the first passes in two pieces.
const BLACK_HOLE: &str = "
    send 5840
    << . 101+1460 ack 301
    << . 1561+1460 ack 301
    << . 3021+1460 ack 301
    << P. 4481+1460 ack 301
    @1
    << @0.4 . 101+1460 ack 301
    << @1 . 101+1024 ack 301
    @1.1
    >> . 301 ack 1125
    << . 1125+1024 ack 301
    << . 2149+1024 ack 301
    @1.2
    >> . 301 ack 3173
    << . 3173+1024 ack 301
    << . 4197+1024 ack 301
    << P. 5221+720 ack 301
    @1.3
    >> . 301 ack 5941
";

#[test]
fn rfc4821_7_7_two_timeouts_of_long_segments_find_a_black_hole() {
    play_plain(&format!("{BLACK_HOLE}path 1064 black_hole 2 @1"));
}

#[test]
fn rfc4821_7_7_a_size_that_has_passed_before_is_given_up_after_four() {
    play_plain(
        "
        send 1460
        << P. 101+1460 ack 301
        @0.2
        >> . 301 ack 1561
        send 1460
        << P. 1561+1460 ack 301
        @4.8
        << @0.5 P. 1561+1460 ack 301
        << @1.1 P. 1561+1460 ack 301
        << @2.3 P. 1561+1460 ack 301
        << @4.7 . 1561+1024 ack 301
        @4.9
        >> . 301 ack 2585
        << P. 2585+436 ack 301
        ",
    );
}

#[test]
fn timeouts_of_short_segments_are_no_black_hole() {
    play_plain(
        "
        send 1459
        << P. 101+1459 ack 301
        @10
        << @0.4 P. 101+1459 ack 301
        << @1 P. 101+1459 ack 301
        << @2.2 P. 101+1459 ack 301
        << @4.6 P. 101+1459 ack 301
        << @9.4 P. 101+1459 ack 301
        ",
    );
}

#[test]
fn timeouts_behind_a_window_that_was_taken_back_are_no_black_hole() {
    play_plain(
        "
        send 2920
        << . 101+1460 ack 301
        << P. 1561+1460 ack 301
        @0.2
        >> . 301 ack 101 win 0
        @5
        << @0.4 . 101+1 ack 301
        << @1 . 101+1 ack 301
        << @2.2 . 101+1 ack 301
        << @4.6 . 101+1 ack 301
        >> . 301 ack 101 win 60000
        << . 101+1460 ack 301
        ",
    );
}

#[test]
fn rfc1191_6_3_without_sack_long_segments_are_tried_again_after_ten_minutes() {
    play_plain(&format!(
        "{BLACK_HOLE}
        @600
        send 1460
        << . 5941+1024 ack 301
        << P. 6965+436 ack 301
        >> . 301 ack 7401
        @602
        send 1024
        << P. 7401+1024 ack 301
        @602.1
        >> . 301 ack 8425
        send 1460
        << P. 8425+1460 ack 301
        "
    ));
}

/// A path of which an ICMP error said, wrongly or not for long, that it carries 1000 bytes.
const NARROW: &str = "
    send 1460
    << P. 101+1460 ack 301
    mtu 101 1000
    << . 101+960 ack 301
    << P. 1061+500 ack 301
    @0.2
    >> . 301 ack 1561
    @600
    send 960
    << P. 1561+960 ack 301
    @600.1
    >> . 301 ack 2521
    @601
";

#[test]
fn rfc8899_5_after_ten_minutes_a_probe_of_full_size_repeats_what_was_just_sent() {
    play_open(&format!(
        "{NARROW}
        send 1920
        << . 2521+960 ack 301
        << P. 3481+960 ack 301
        << . 2981+1460 ack 301                    # the probe
        @601.1
        >> . 301 ack 4441
        >> . 301 ack 4441 sack 2981-4441          # it came, and all of it was known
        send 2920
        << . 4441+1460 ack 301
        << P. 5901+1460 ack 301
        path whole
        "
    ));
}

#[test]
fn rfc8899_5_a_report_of_other_duplicates_is_no_answer_to_the_probe() {
    play_open(&format!(
        "{NARROW}
        send 1920
        << . 2521+960 ack 301
        << P. 3481+960 ack 301
        << . 2981+1460 ack 301
        @601.1
        >> . 301 ack 4441 sack 3481-4441
        send 1920
        << . 4441+960 ack 301
        << P. 5401+960 ack 301
        @601.2
        >> . 301 ack 6361
        "
    ));
}

#[test]
fn rfc8899_5_a_lost_probe_is_no_congestion_and_three_of_them_narrow_the_search() {
    play_open(&format!(
        "{NARROW}
        send 1920
        << . 2521+960 ack 301
        << P. 3481+960 ack 301
        << . 2981+1460 ack 301
        @601.1
        >> . 301 ack 4441
        @602
        send 1920
        << . 4441+960 ack 301
        << P. 5401+960 ack 301
        << . 4901+1460 ack 301
        @602.1
        >> . 301 ack 6361
        @603
        send 1920
        << . 6361+960 ack 301
        << P. 7321+960 ack 301
        << . 6821+1460 ack 301
        @603.1
        >> . 301 ack 8281
        @604
        send 1920
        << . 8281+960 ack 301
        << P. 9241+960 ack 301
        << . 8991+1210 ack 301                    # half way
        @604.1
        >> . 301 ack 10201 sack 8991-10201
        send 2420
        << . 10201+1210 ack 301
        << P. 11411+1210 ack 301
        << . 11286+1335 ack 301                   # and half of what is left
        "
    ));
}

#[test]
fn rfc8899_5_an_icmp_message_about_the_probe_says_what_to_try() {
    play_open(&format!(
        "{NARROW}
        send 1920
        << . 2521+960 ack 301
        << P. 3481+960 ack 301
        << . 2981+1460 ack 301
        mtu 2981 1400
        << . 3081+1360 ack 301
        @601.1
        >> . 301 ack 4441 sack 3081-4441
        send 1360
        << P. 4441+1360 ack 301
        "
    ));
}

#[test]
fn rfc8899_5_the_probe_counts_the_options_of_every_segment() {
    play(
        "
        connect iss 100 mss 1460 sackok ts 5
        << S 100
        @0.1
        >> S. 300 ack 101 mss 1460 sackok ts 7/5
        << . 101 ack 301
        send 1448
        << P. 101+1448 ack 301
        mtu 101 1000
        << . 101+948 ack 301
        << P. 1049+500 ack 301
        @0.2
        >> . 301 ack 1549 ts 8/105
        @601
        send 1896
        << . 1549+948 ack 301
        << P. 2497+948 ack 301
        << . 1997+1448 ack 301 ts 601005/8 only
        @601.1
        >> . 301 ack 3445 sack 1997-3445 ts 9/601005
        send 1448
        << P. 3445+1448 ack 301
        ",
    );
}
