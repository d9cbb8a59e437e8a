//! The receive window: how it grows with need, and how it shrinks where memory is short or the other leg is slow.

use crate::runner::play;

#[test]
fn the_window_doubles_with_the_pace_of_the_reader_once_per_round_trip() {
    play(
        "
        window 1048576
        >> S 1000 mss 1000 ws 7
        answer iss 5000 mss 1000 ws 4
        << S. 5000 ack 1001 win 65535
        @0.02                                     # the round trip is 20 ms
        >> . 1001 ack 5001
        >> . 1001+1000 ack 5001
        >> . 2001+1000 ack 5001
        << . 5001 ack 3001 win 3971               # 64 KB to begin with, less what waits to be read
        read
        @0.03
        >> . 3001+30000 ack 5001
        read
        << . 5001 ack 33001 win 4096
        @0.041
        >> . 33001+1000 ack 5001                  # 32000 bytes moved on in the round: twice that and some is needed
        << . 5001 ack 34001 win 8130
        read
        @0.05
        >> . 34001+30000 ack 5001
        read
        @0.0611
        >> . 64001+1000 ack 5001                  # no more than in the round before: enough is enough
        << . 5001 ack 65001 win 8130
        ",
    );
}

#[test]
fn a_reader_that_takes_nothing_gets_no_larger_window() {
    play(
        "
        window 1048576
        >> S 1000 mss 1000 ws 7
        answer iss 5000 mss 1000 ws 4
        << S. 5000 ack 1001 win 65535
        @0.02
        >> . 1001 ack 5001
        >> . 1001+20000 ack 5001
        @0.05
        >> . 21001+20000 ack 5001
        << . 5001 ack 41001 win 1596
        @0.08
        >> . 41001+20000 ack 5001
        @0.11
        >> . 61001+5536 ack 5001
        << . 5001 ack 66537 win 0
        ",
    );
}

#[test]
fn rfc7323_4_timestamps_tell_the_receiver_its_round_trip_time() {
    play(
        "
        window 1048576
        >> S 1000 mss 1000 ws 7 ts 10/0
        answer iss 5000 mss 1000 ws 4 ts 0
        << S. 5000 ack 1001
        >> . 1001 ack 5001 ts 10/0                # the handshake took no time at all, it seems
        @0.1
        >> . 1001+1000 ack 5001 ts 110/0
        >> . 2001+1000 ack 5001 ts 110/0          # 100 ms after the segment that it answers
        << . 5001 ack 3001 win 3971
        read
        @0.12
        >> . 3001+30000 ack 5001 ts 130/20
        >> . 33001+1000 ack 5001 ts 130/20
        << . 5001 ack 34001
        read
        << . 5001 ack 34001 win 4096
        @0.18
        >> . 34001+1000 ack 5001 ts 190/80
        >> . 35001+1000 ack 5001 ts 190/80
        << . 5001 ack 36001 win 3971              # the round is not over
        @0.23
        >> . 36001+1000 ack 5001 ts 240/130
        << . 5001 ack 37001 win 8005              # now it is
        ",
    );
}

#[test]
fn rfc9293_3_8_6_where_memory_is_short_nothing_is_granted_anew_and_nothing_taken_back() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 mss 1000
        << . 101 ack 301 win 65535
        limit 100000 8000
        >> . 301+1000 ack 101
        >> . 1301+1000 ack 101
        << . 101 ack 2301 win 63535               # the right edge stays where it is
        read
        << -
        >> . 2301+60000 ack 101
        >> . 62301+3535 ack 101
        << . 101 ack 65836 win 0                  # all that was promised is taken
        read
        << . 101 ack 65836 win 8000               # but no more is promised than there is
        >> . 65836+8000 ack 101
        @0.04
        << . 101 ack 73836 win 0
        limit 100000 60000                        # there is memory again
        << . 101 ack 73836 win 52000
        read
        got 73535
        ",
    );
}

#[test]
fn what_waits_further_down_beyond_its_use_closes_the_window_until_it_has_gone() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S. 300 ack 101 mss 1000
        << . 101 ack 301 win 65535
        limit 20000 1000000
        >> . 301+65535 ack 101
        downstream 65535
        read
        @0.04
        << . 101 ack 65836 win 0
        downstream 30000
        << -                                      # still more than the other leg can have in flight
        downstream 20000
        << . 101 ack 65836 win 45535
        ",
    );
}
