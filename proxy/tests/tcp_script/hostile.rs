//! Segments that do not belong: blind attacks, confusion, nonsense (RFC 5961, RFC 9293 section 3.10.7.4).

use crate::runner::play;

/// An established connection: ours from 101, theirs from 301.
const OPEN: &str = "
    connect iss 100 mss 1000 sackok
    << S 100
    >> S. 300 ack 101 mss 1000 sackok
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc5961_3_2_only_the_exact_number_resets() {
    play_open(
        "
        >> R 400
        drop unacceptable
        << . 101 ack 301                         # the challenge
        >> R 401
        << -                                     # not more than one in half a second
        >> R 300
        drop unacceptable
        >> R 99999
        drop out_of_window
        << -
        state Established
        @0.6
        >> R 401
        << . 101 ack 301
        >> R 301
        error Reset
        ",
    );
}

#[test]
fn rfc5961_4_2_a_syn_is_challenged_wherever_it_lies() {
    play_open(
        "
        >> S 500000
        drop unacceptable
        << . 101 ack 301
        @1
        >> S 300
        drop unacceptable
        << . 101 ack 301
        state Established
        ",
    );
}

#[test]
fn rfc5961_5_2_an_acknowledgment_of_what_was_not_sent_is_answered() {
    play_open(
        "
        >> . 301+10 ack 102
        drop unacceptable
        << . 101 ack 301
        @1
        >> . 301+10 ack 3000000000               # far below
        drop unacceptable
        << . 101 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_text_outside_the_window_is_acknowledged() {
    play_open(
        "
        >> . 99999+10 ack 101
        drop out_of_window
        << . 101 ack 301
        >> . 291+10 ack 101
        drop unacceptable
        << . 101 ack 301
        read
        got 0
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_text_is_cut_to_the_window() {
    play(
        "
        window 2000
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101
        << . 101 ack 301
        >> PF. 1301+1200 ack 101                 # its last 200 bytes and the FIN lie beyond
        << . 101 ack 301
        >> . 301+1000 ack 101
        << . 101 ack 2301 win 0
        read
        got 2000
        << . 101 ack 2301 win 2000
        state Established
        ",
    );
}

#[test]
fn a_segment_without_ack_is_dropped() {
    play_open(
        "
        >> P 301+10
        drop unacceptable
        << -
        ",
    );
}

#[test]
fn bare_segments_outside_the_window_are_answered_now_and_then_only() {
    play_open(
        "
        >> . 299 ack 101
        drop unacceptable
        << . 101 ack 301
        >> . 299 ack 101
        << -
        @0.6
        >> . 299 ack 101
        << . 101 ack 301
        ",
    );
}

#[test]
fn a_tiny_mss_is_not_believed() {
    play(
        "
        connect iss 100
        << S 100
        >> S. 300 ack 101 mss 1
        << . 101 ack 301
        send 100
        << . 101+88 ack 301
        << P. 189+12 ack 301
        ",
    );
}
