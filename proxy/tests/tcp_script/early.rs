//! Early accept: an endpoint takes over a handshake that a SYN cookie went through (RFC 4987 section 3.6).

use crate::runner::play;

#[test]
fn rfc4987_3_6_a_connection_taken_over_is_established_and_sends_nothing_of_itself() {
    play(
        "
        accepted iss 300 mss 1460 ws 7 sackok ts 1000 from iss 100 mss 1400 ws 3 sackok ts 77
        << -
        state Established
        >> . 101 ack 301 win 100 ts 78/960
        << -
        @5
        << -
        state Established
        ",
    );
}

#[test]
fn rfc4987_3_6_options_that_the_cookie_kept_are_in_force() {
    play(
        "
        window 200000
        accepted iss 300 mss 1460 ws 2 sackok ts 1000 from iss 100 mss 1400 ws 3 sackok ts 77
        >> . 101 ack 301 win 500 ts 78/960
        @0.1
        send 4000
        << . 301+1388 ack 101 win 16384 ts 1100/78 only      # 1400 - 12; a window of 500 << 3
        << . 1689+1388 ack 101 ts 1100/78
        << P. 3077+1224 ack 101 ts 1100/78
        >> . 1101+100 ack 301 win 500 ts 80/1100             # out of order
        << . 4301 ack 101 ts 1100/78 sack 1101-1201 only
        ",
    );
}

#[test]
fn rfc4987_3_6_without_timestamps_there_is_nothing_but_the_mss() {
    play(
        "
        window 200000
        accepted iss 300 mss 1460 from iss 100 mss 536
        >> . 101 ack 301 win 65535
        send 600
        << . 301+536 ack 101 win 65535 only
        << P. 837+64 ack 101
        >> . 201+10 ack 301
        << . 901 ack 101 only
        ",
    );
}

#[test]
fn the_ack_that_returns_the_cookie_may_carry_text() {
    play(
        "
        accepted iss 300 mss 1460 from iss 100 mss 1460
        >> P. 101+500 ack 301
        read
        got 500
        @0.04
        << @0.04 . 301 ack 601
        ",
    );
}

#[test]
fn a_fin_may_follow_at_once() {
    play(
        "
        accepted iss 300 mss 1460 from iss 100 mss 1460
        >> FP. 101+5 ack 301
        << . 301 ack 107
        state CloseWait
        read
        got 5
        finished
        shutdown
        << F. 301 ack 107
        ",
    );
}

#[test]
fn the_window_that_the_syn_ack_told_is_honored() {
    play(
        "
        window 200000
        accepted iss 300 mss 1460 ws 2 ts 1000 win 3000 from iss 100 mss 1460 ws 3 ts 77
        >> . 101+3000 ack 301 ts 78/960
        << . 301 ack 3101 win 15634 ts 1000/78 only          # the first scaled window says all there is
        read
        got 3000
        ",
    );
    play(
        "
        accepted iss 300 mss 1460 win 3000 from iss 100 mss 1460
        >> . 4001+10 ack 301                                 # beyond what anybody was told
        drop out_of_window
        << . 301 ack 101
        ",
    );
}

#[test]
fn rfc7323_5_3_segments_older_than_the_ack_are_refused() {
    play(
        "
        accepted iss 300 mss 1460 ts 1000 from iss 100 mss 1460 ts 77
        >> . 101+5 ack 301 ts 76/960
        drop paws
        << . 301 ack 101 ts 1000/77
        ",
    );
}

#[test]
fn rfc5961_4_a_repeated_syn_is_challenged() {
    play(
        "
        accepted iss 300 mss 1460 from iss 100 mss 1460
        >> S 100 mss 1460
        drop unacceptable
        << . 301 ack 101
        >> R 101
        state Closed
        error Reset
        ",
    );
}

#[test]
fn a_server_that_cannot_be_had_ends_it_by_a_reset_with_the_right_numbers() {
    play(
        "
        accepted iss 300 mss 1460 from iss 100 mss 1460
        >> P. 101+500 ack 301
        abort
        << R. 301 ack 601
        over
        ",
    );
}

#[test]
fn rfc6298_2_text_to_the_client_is_repeated_after_the_initial_timeout() {
    play(
        "
        accepted iss 300 mss 1460 from iss 100 mss 1460
        >> . 101 ack 301
        send 10
        << P. 301+10 ack 101
        @1
        << @1 P. 301+10 ack 101
        ",
    );
}

#[test]
fn rfc3168_6_1_1_congestion_notification_that_the_cookie_kept_is_in_force() {
    play(
        "
        accepted iss 300 mss 1460 ts 1000 ecn from iss 100 mss 1460 ts 77 ecn
        >> . 101 ack 301 ts 78/960
        send 1000
        << P. 301+1000 ack 101 ect
        >> . 101+1000 ack 1301 ts 79/1000 ce
        @0.04
        << @0.04 .E 1301 ack 1101
        ",
    );
}
