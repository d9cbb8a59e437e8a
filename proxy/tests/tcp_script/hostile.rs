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
fn rfc5961_5_2_an_acknowledgment_older_than_any_window_is_a_guess() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 win 3000 mss 1000
        << . 101 ack 301
        send 3000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+1000 ack 301
        >> . 301 ack 3101 win 3000
        send 1000
        << P. 3101+1000 ack 301
        >> . 301 ack 4101 win 3000
        >> . 301+10 ack 1101 win 3000             # as old as the window is wide: the text is good
        read
        got 10
        @0.1
        << . 4101 ack 311
        >> . 311+10 ack 1099 win 3000
        drop unacceptable
        << . 4101 ack 311
        read
        got 10
        ",
    );
}

#[test]
fn rfc5961_7_challenges_are_rationed_by_connection_whatever_provokes_them() {
    play_open(
        "
        >> S 500000
        << . 101 ack 301
        >> R 302
        >> . 301 ack 999
        >> S 300
        << -
        @0.5
        >> S 500000
        << . 101 ack 301
        state Established
        ",
    );
}

#[test]
fn rfc5961_3_2_a_reset_in_fin_wait_and_close_wait_must_be_exact_too() {
    play_open(
        "
        shutdown
        << F. 101 ack 301
        >> R 300
        drop unacceptable
        >> R 302
        << . 102 ack 301
        state FinWait1
        >> R 301
        error Reset
        ",
    );
    play_open(
        "
        >> F. 301 ack 101
        << . 101 ack 302
        >> R 303
        << . 101 ack 302
        state CloseWait
        >> R 302
        error Reset
        ",
    );
}

#[test]
fn rfc5961_4_2_a_peer_that_has_forgotten_us_resets_by_the_challenge() {
    play_open(
        "
        send 10
        << P. 101+10 ack 301
        >> S 7000 mss 1000                        # it was restarted, and connects by the same ports
        << . 111 ack 301
        >> R 301
        error Reset
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
