//! Peers that say nothing: keepalive both ways, and windows that stay shut (RFC 9293 sections 3.8.4 and 3.8.6.1).

use crate::runner::play;

/// An established connection that asks after a minute and waits a hundred seconds for a window: ours from 101, theirs from 301.
const OPEN: &str = "
    keepalive 60
    patience 100
    connect iss 100 mss 1000 ts 5
    << S 100
    >> S. 300 ack 101 mss 1000 ts 7/5
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc9293_3_8_4_a_silent_peer_is_asked_seven_times_and_then_reset() {
    play_open(
        "
        @240
        << @60 . 100 ack 301 ts 60005/7 only
        << @90 . 100 ack 301
        << @120 . 100 ack 301
        << @150 . 100 ack 301
        << @180 . 100 ack 301
        << @210 . 100 ack 301
        << @240 . 100 ack 301
        @270
        << @270 R. 101 ack 301
        error Dead
        over
        ",
    );
}

#[test]
fn rfc9293_3_8_4_an_answer_begins_the_silence_anew() {
    play_open(
        "
        @90
        << @60 . 100 ack 301
        << @90 . 100 ack 301
        @91
        >> . 301 ack 101 ts 98/95
        << -
        @150
        << -
        @151
        << @151 . 100 ack 301
        >> . 301+10 ack 101 ts 99/95                # so do bytes
        @210
        << @151.04 . 101 ack 311
        << -
        @211
        << @211 . 100 ack 311
        state Established
        ",
    );
}

#[test]
fn rfc9293_3_8_4_a_keepalive_is_off_unless_asked_for() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 mss 1000
        << . 101 ack 301
        @100000
        << -
        state Established
        ",
    );
}

#[test]
fn what_is_not_acknowledged_is_repeated_and_no_keepalive_asked_meanwhile() {
    play_open(
        "
        @59
        send 10
        << P. 101+10 ack 301
        @61
        << @59.2 P. 101+10 ack 301
        << @59.6 P. 101+10 ack 301
        << @60.4 P. 101+10 ack 301
        >> . 301 ack 111 ts 70/7
        @120
        << -
        @121
        << @121 . 110 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_4_a_half_closed_peer_is_asked_too() {
    play_open(
        "
        shutdown
        << F. 101 ack 301
        >> . 301 ack 102 ts 8/5
        state FinWait2
        @60
        << @60 . 101 ack 301
        ",
    );
}

#[test]
fn a_peers_keepalive_is_answered_with_or_without_its_byte_and_shows_that_it_lives() {
    play_open(
        "
        @30
        >> . 300 ack 101 ts 30/5
        << . 101 ack 301 ts 30005/30
        @60
        >> . 300+1 ack 101 ts 60/5
        << . 101 ack 301
        @119
        << -
        @120
        << @120 . 100 ack 301
        read
        got 0
        ",
    );
}

#[test]
fn a_keepalive_that_nobody_could_have_sent_shows_nothing() {
    play_open(
        "
        @30
        >> . 300 ack 99999999 ts 30/5               # acknowledges what was never sent
        drop unacceptable
        << . 101 ack 301
        @40
        >> . 300 ack 101 ts 6/5                     # a stamp from before
        drop paws
        << . 101 ack 301
        @60
        << @60 . 100 ack 301
        ",
    );
}

#[test]
fn rfc9293_3_8_6_1_patience_with_a_window_that_stays_shut_ends() {
    play_open(
        "
        @10
        >> . 301 ack 101 win 0 ts 9/5
        send 10
        << -
        @10.3
        << @10.2 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 10/5
        @10.7
        << @10.6 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 11/5
        @60
        << @11.4 . 101+1 ack 301
        << @13 . 101+1 ack 301
        << @16.2 . 101+1 ack 301
        << @22.6 . 101+1 ack 301
        << @35.4 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 60/5
        @111
        << @61 . 101+1 ack 301
        << @110 R. 102 ack 301
        error Stalled
        ",
    );
}

#[test]
fn rfc9293_3_8_6_1_patience_ends_with_a_window_that_was_taken_back_from_what_is_in_flight() {
    play_open(
        "
        send 1976
        << . 101+988 ack 301
        << P. 1089+988 ack 301
        >> . 301 ack 101 win 0 ts 9/5
        @0.3
        << @0.2 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 10/5
        @40
        << @0.6 . 101+1 ack 301
        << @1.4 . 101+1 ack 301
        << @3 . 101+1 ack 301
        << @6.2 . 101+1 ack 301
        << @12.6 . 101+1 ack 301
        << @25.4 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 40/5
        @90
        << @51 . 101+1 ack 301
        >> . 301 ack 101 win 0 ts 90/5
        @111
        << @100.2 R. 2077 ack 301
        error Stalled
        over
        ",
    );
}

#[test]
fn rfc9293_3_8_6_1_a_window_that_opens_gets_all_patience_back() {
    play_open(
        "
        >> . 301 ack 101 win 0 ts 9/5
        send 10
        @0.25
        << @0.2 . 101+1 ack 301
        @50
        << @0.6 . 101+1 ack 301
        << @1.4 . 101+1 ack 301
        << @3 . 101+1 ack 301
        << @6.2 . 101+1 ack 301
        << @12.6 . 101+1 ack 301
        << @25.4 . 101+1 ack 301
        >> . 301 ack 101 win 10 ts 80/5
        << P. 101+10 ack 301
        >> . 301 ack 111 win 0 ts 80/5
        send 10
        @109
        << @50.2 . 111+1 ack 301
        << @50.6 . 111+1 ack 301
        << @51.4 . 111+1 ack 301
        << @53 . 111+1 ack 301
        << @56.2 . 111+1 ack 301
        << @62.6 . 111+1 ack 301
        << @75.4 . 111+1 ack 301
        << @101 . 111+1 ack 301
        state Established
        ",
    );
}
