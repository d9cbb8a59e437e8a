//! Urgent data: marks taken in and set (RFC 9293 section 3.8.5, RFC 6093).

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
fn rfc6093_2_1_the_pointer_names_the_byte_behind_the_urgent_one() {
    play_open(
        "
        >> PU. 301+9 ack 101 up 5
        read
        got 9
        marked 5
        @0.1
        << . 101 ack 310
        ",
    );
}

#[test]
fn rfc9293_3_8_5_a_pointer_may_come_before_its_byte_and_moves_on() {
    play_open(
        "
        >> U. 301+10 ack 101 up 25                # announced
        read
        got 10
        marked 0
        >> U. 311+10 ack 101 up 30                # more urgent data: the mark is at 340 now
        << . 101 ack 321
        >> . 321+30 ack 101
        read
        got 50
        marked 40
        @0.1
        << . 101 ack 351
        ",
    );
}

#[test]
fn rfc9293_3_8_5_a_bare_acknowledgment_may_carry_the_pointer() {
    play_open(
        "
        >> U. 301 ack 101 up 3
        >> . 301+3 ack 101
        read
        marked 3
        @0.1
        << . 101 ack 304
        ",
    );
}

#[test]
fn a_pointer_into_what_was_read_marks_nothing() {
    play_open(
        "
        >> . 301+10 ack 101
        read
        >> U. 311+10 ack 101 up 0
        << . 101 ack 321
        read
        >> U. 316+10 ack 101 up 5                 # its first five bytes are known
        read
        @0.1
        << . 101 ack 326
        got 25
        marked 0
        ",
    );
}

#[test]
fn a_mark_behind_the_end_of_the_stream_keeps_nobody_waiting() {
    play_open(
        "
        >> FU. 301+10 ack 101 up 100
        << . 101 ack 312
        read
        got 10
        marked 0
        finished
        ",
    );
}

#[test]
fn rfc6093_3_1_urgent_data_is_announced_by_every_segment_up_to_the_mark() {
    play_open(
        "
        send 2500
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << P. 2101+500 ack 301
        pool 0
        send 1500
        urgent
        send 200
        pool 9
        << U. 2601+1000 ack 301 up 1500
        << PU. 3601+700 ack 301 up 500
        @0.3
        << @0.2 U. 101+1000 ack 301 up 4000       # sent again: the pointer as it is now
        ",
    );
}

#[test]
fn rfc9293_3_8_5_a_shut_window_does_not_hide_that_there_is_urgent_data() {
    play_open(
        "
        >> . 301 ack 101 win 0
        send 10
        urgent
        << -
        >> . 301+5 ack 101 win 0
        @0.1
        << @0.04 U. 101 ack 306 up 10
        @0.3
        << @0.2 U. 101+1 ack 306 up 10
        >> . 306 ack 102 win 100
        << PU. 102+9 ack 306 up 9
        >> . 306 ack 111
        send 5
        << P. 111+5 ack 306
        ",
    );
}

#[test]
fn a_mark_without_new_bytes_waits_for_the_next() {
    play_open(
        "
        urgent
        << -
        send 10
        << PU. 101+10 ack 301 up 10
        send 10
        << P. 111+10 ack 301
        ",
    );
}

#[test]
fn a_mark_beyond_the_pointers_reach_is_announced_when_it_is_near() {
    play(
        "
        connect iss 100 mss 1000 ws 0
        << S 100
        >> S. 300 ack 101 win 65535 mss 1000 ws 3
        << . 101 ack 301
        pool 0
        send 66000
        urgent
        pool 2
        << . 101+1000 ack 301
        << U. 1101+1000 ack 301 up 65000
        ",
    );
}
