//! Recoveries that were not needed are taken back: Eifel (RFC 3522, 4015), F-RTO (RFC 5682), D-SACK (RFC 3708).

use crate::runner::play;

/// As in `rack`, with timestamps: a segment of ours that leaves at second t says 1000 t.
const STAMPED: &str = "
    connect iss 100 mss 1012 sackok ts 0
    << S 100
    @0.1
    >> S. 300 ack 101 win 60000 mss 1012 sackok ts 5000/0
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

/// The same without, and six segments in all before the application pauses.
const SIX: &str = "
    connect iss 100 mss 1000 sackok
    << S 100
    @0.1
    >> S. 300 ack 101 win 60000 mss 1000 sackok
    << . 101 ack 301
    send 6000
    << . 101+1000 ack 301
    << . 1101+1000 ack 301
    << . 2101+1000 ack 301
    << . 3101+1000 ack 301
    << . 4101+1000 ack 301
    << P. 5101+1000 ack 301
";

#[test]
fn rfc3522_3_2_an_ack_with_the_stamp_of_the_first_transmission_takes_the_recovery_back() {
    play(&format!(
        "{STAMPED}
        @0.2
        >> . 301 ack 101 sack 2101-5101 ts 5100/0
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        @0.21
        >> . 301 ack 1101 sack 2101-5101 ts 5110/100   # the first segment had only been late
        << . 10101+1000 ack 301                 # ten segments may be on their way, and an eleventh for this ACK
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        "
    ));
}

#[test]
fn rfc8985_6_2_what_is_taken_back_tells_that_the_path_reorders() {
    play(&format!(
        "{STAMPED}
        @0.2
        >> . 301 ack 101 sack 1101-4101 ts 5100/0
        << . 101+1000 ack 301
        @0.21
        >> . 301 ack 4101 ts 5110/100           # it had only been late
        << . 10101+1000 ack 301
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        @0.22
        >> . 301 ack 4101 sack 5101-10101 ts 5120/100
        << . 18101+1000 ack 301
        << P. 19101+1000 ack 301
        @0.25
        << @0.245 . 4101+1000 ack 301           # the 120 ms that the others took, and a quarter round trip
        "
    ));
}

#[test]
fn rfc3522_3_2_an_ack_with_the_stamp_of_the_retransmission_does_not() {
    play(&format!(
        "{STAMPED}
        @0.2
        >> . 301 ack 101 sack 2101-5101 ts 5100/0
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        @0.3
        >> . 301 ack 1101 sack 2101-5101 ts 5200/200
        << . 5101+1000 ack 301                  # it was lost, and so are those that left before what repaired it
        << . 6101+1000 ack 301
        "
    ));
}

#[test]
fn rfc4015_3_a_spurious_timeout_leaves_window_and_timer_as_the_path_needs_them() {
    play(&format!(
        "{STAMPED}
        @0.7                                    # half a second of silence
        << @0.302 . 10101+1000 ack 301
        << @0.602 . 101+1000 ack 301
        >> . 301 ack 1101 ts 5500/100           # and all arrives
        << . 11101+1000 ack 301
        @0.71
        >> . 301 ack 10101 ts 5510/100
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        << P. 19101+1000 ack 301
        @1.9                                    # the round trip is 600 ms from here on
        << -
        @1.92
        << P. 19101+1000 ack 301
        "
    ));
}

#[test]
fn rfc8985_6_2_what_a_spurious_timeout_had_given_up_is_late_again_after_it() {
    play(&format!(
        "{STAMPED}
        @0.7
        << @0.302 . 10101+1000 ack 301
        << @0.602 . 101+1000 ack 301
        >> . 301 ack 1101 sack 4101-5101 ts 5500/100   # all was late by half a second, so that is what it takes
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        @0.9
        << @0.725 . 1101+1000 ack 301           # overdue by a quarter of the shortest round trip
        "
    ));
}

#[test]
fn rfc5682_3_1_originals_that_arrive_after_the_timeout_take_it_back() {
    play(&format!(
        "{SIX}
        @0.31
        << @0.302 P. 5101+1000 ack 301
        @0.61
        << @0.602 . 101+1000 ack 301
        send 4000
        << -
        @0.65
        >> . 301 ack 1101
        << . 6101+1000 ack 301                  # new data before the rest is repeated
        << . 7101+1000 ack 301
        @0.66
        >> . 301 ack 2101                       # that was sent only once
        << . 8101+1000 ack 301
        << P. 9101+1000 ack 301
        @0.67
        >> . 301 ack 8101 sack 5101-6101
        >> . 301 ack 10101
        queued 0
        "
    ));
}

#[test]
fn rfc5682_3_1_duplicates_after_the_timeout_show_that_it_was_not_spurious() {
    play(&format!(
        "{SIX}
        @0.31
        << @0.302 P. 5101+1000 ack 301
        @0.61
        << @0.602 . 101+1000 ack 301
        send 4000
        << -
        @0.7
        >> . 301 ack 1101
        << . 6101+1000 ack 301
        << . 7101+1000 ack 301
        @0.8
        >> . 301 ack 1101 sack 6101-7101
        << . 1101+1000 ack 301
        @0.81
        >> . 301 ack 1101 sack 6101-8101
        << . 2101+1000 ack 301
        "
    ));
}

#[test]
fn rfc3708_when_all_that_was_sent_again_came_twice_nothing_had_been_lost() {
    play(&format!(
        "{SIX}
        @0.2
        >> . 301 ack 101 sack 2101-5101
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        @0.201
        >> . 301 ack 101 sack 2101-6101
        @0.21
        >> . 301 ack 6101
        @0.3
        >> . 301 ack 6101 sack 101-1101
        send 20000
        << . 6101+1000 ack 301                  # what is left of the window
        << . 7101+1000 ack 301
        << . 8101+1000 ack 301
        << . 9101+1000 ack 301
        >> . 301 ack 6101 sack 1101-2101
        << . 10101+1000 ack 301                 # all of it again
        << . 11101+1000 ack 301
        << . 12101+1000 ack 301
        << . 13101+1000 ack 301
        << . 14101+1000 ack 301
        << . 15101+1000 ack 301
        "
    ));
}
