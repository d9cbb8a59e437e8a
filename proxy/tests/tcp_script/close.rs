//! Endings: FIN in every order, RST, TIME-WAIT.

use crate::runner::play;

/// An established connection: ours from 101, theirs from 301.
const OPEN: &str = "
    connect iss 100 mss 1000
    << S 100
    >> S. 300 ack 101 mss 1000
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc9293_figure_12_we_close_first() {
    play_open(
        "
        shutdown
        << F. 101 ack 301
        state FinWait1
        >> . 301 ack 102
        state FinWait2
        >> . 301+10 ack 102                      # half-closed: data still comes
        read
        got 10
        @0.1
        << . 102 ack 311
        >> F. 311 ack 102
        << . 102 ack 312
        state TimeWait
        >> R 312                                 # RFC 1337: no assassination
        drop unacceptable
        state TimeWait
        finished
        >> F. 311 ack 102                        # our ACK was lost: TIME-WAIT begins anew
        << . 102 ack 312
        @10
        state TimeWait
        @10.2
        state Closed
        over
        ",
    );
}

#[test]
fn rfc9293_figure_12_the_peer_closes_first() {
    play_open(
        "
        >> F. 301 ack 101
        << . 101 ack 302
        state CloseWait
        finished
        send 10
        << P. 101+10 ack 302
        shutdown
        << F. 111 ack 302
        state LastAck
        >> . 302 ack 111
        state LastAck
        >> . 302 ack 112
        over
        >> . 302 ack 112                         # a late repetition from TIME-WAIT is no reason for a RST
        << -
        ",
    );
}

#[test]
fn rfc9293_figure_13_both_close_at_once() {
    play_open(
        "
        shutdown
        << F. 101 ack 301
        >> F. 301 ack 101
        << . 102 ack 302
        state Closing
        >> . 302 ack 102
        state TimeWait
        @20
        over
        ",
    );
}

#[test]
fn fin_and_its_acknowledgment_may_come_in_one_segment() {
    play_open(
        "
        shutdown
        << F. 101 ack 301
        >> F. 301 ack 102
        << . 102 ack 302
        state TimeWait
        ",
    );
}

#[test]
fn fin_rides_on_the_last_bytes_and_is_repeated_with_them() {
    play_open(
        "
        send 10
        << P. 101+10 ack 301
        send 1500
        << . 111+1000 ack 301
        << P. 1111+500 ack 301
        shutdown
        << F. 1611 ack 301
        >> . 301 ack 1111
        @0.25
        << @0.2 PF. 1111+500 ack 301
        >> . 301 ack 1612
        state FinWait2
        ",
    );
}

#[test]
fn a_fin_behind_a_gap_waits_for_it() {
    play_open(
        "
        >> F. 311+10 ack 101
        << . 101 ack 301
        state Established
        >> . 301+10 ack 101
        << . 101 ack 322
        state CloseWait
        read
        got 20
        finished
        ",
    );
}

#[test]
fn bytes_beyond_the_fin_are_no_part_of_the_stream() {
    play_open(
        "
        >> F. 311 ack 101
        << . 101 ack 301
        >> . 301+100 ack 101
        << . 101 ack 312
        read
        got 10
        finished
        >> . 312+10 ack 101
        drop unacceptable
        << . 101 ack 312
        ",
    );
}

#[test]
fn rfc9293_3_10_5_abort_resets() {
    play_open(
        "
        send 10
        << P. 101+10 ack 301
        abort
        << R. 111 ack 301
        error Aborted
        over
        >> . 301+10 ack 111                      # it has not heard yet
        drop unacceptable
        << R 111
        ",
    );
}

#[test]
fn a_reset_that_finds_no_frame_is_not_forgotten() {
    play_open(
        "
        pool 0
        abort
        << -
        pool 1
        << R. 101 ack 301
        over
        ",
    );
}

#[test]
fn a_reset_drops_what_was_not_read() {
    play_open(
        "
        >> . 301+10 ack 101
        >> R 311
        error Reset
        over
        read
        got 0
        ",
    );
}

#[test]
fn the_window_does_not_stop_a_fin_for_ever() {
    play_open(
        "
        >> . 301 ack 101 win 0
        shutdown
        << -
        @0.3
        << @0.2 F. 101 ack 301
        >> . 301 ack 102 win 0
        state FinWait2
        ",
    );
}
