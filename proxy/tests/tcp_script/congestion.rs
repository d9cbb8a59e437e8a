//! Windows and pacing: how much leaves, and when.

use crate::runner::play;

/// Opened actively; ours from 101, theirs from 301, segments of 1000 bytes, a round trip of 100 ms.
fn play_open(congestion: &str, script: &str) {
    play(&format!(
        "
        congestion {congestion}
        connect iss 100 mss 1000 sackok ws 7
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000 sackok ws 7
        << . 101 ack 301
        {script}"
    ));
}

/// Segments of 1000 bytes that are sent one after the other, from the `from`th.
fn segments(from: u32, count: u32) -> String {
    (from..from + count).map(|n| format!("<< . {}+1000 ack 301\n", 101 + 1000 * n)).collect()
}

#[test]
fn rfc3465_2_2_slow_start_grows_by_bytes_and_not_by_acks() {
    for congestion in ["cubic", "newreno"] {
        play_open(
            congestion,
            &format!(
                "
                send 60000
                {}
                @0.2
                >> . 301 ack 4101 win 1000                # one ACK for four segments makes room for eight
                {}
                >> . 301 ack 4201 win 1000                # and one for a tenth of a segment for less than one
                << -
                ",
                segments(0, 10),
                segments(10, 8),
            ),
        );
    }
}

#[test]
fn rfc3465_2_3_one_ack_makes_room_for_eight_segments_more_at_most() {
    play_open(
        "cubic",
        &format!(
            "
            send 60000
            {}
            @0.2
            >> . 301 ack 10101 win 1000
            {}
            ",
            segments(0, 10),
            segments(10, 18),
        ),
    );
}

#[test]
fn rfc5681_3_1_on_a_path_that_reorders_slow_start_goes_on_while_something_is_late() {
    for congestion in ["cubic", "newreno"] {
        play_open(
            congestion,
            &format!(
                "
                send 60000
                {}
                @0.2
                >> . 301 ack 101 win 1000 sack 1101-2101
                {}
                @0.21
                >> . 301 ack 2101 win 1000                  # the first segment was overtaken
                {}
                @0.22
                >> . 301 ack 2101 win 1000 sack 3101-4101   # another is; what has arrived makes room for twice as much
                {}
                >> . 301 ack 2101 win 1000 sack 3101-5101
                {}
                >> . 301 ack 2101 win 1000 sack 3101-6101
                {}
                >> . 301 ack 6101 win 1000                  # and does not count again
                {}
                ",
                segments(0, 10),
                segments(10, 1),
                segments(11, 3),
                segments(14, 2),
                segments(16, 2),
                segments(18, 2),
                segments(20, 2),
            ),
        );
    }
}

#[test]
fn rfc5681_3_1_newreno_halves_what_was_in_flight() {
    play_open(
        "newreno",
        &format!(
            "
            send 60000
            {}
            @0.2
            >> . 301 ack 101 win 1000 sack 1101-10101
            << . 101+1000 ack 301
            {}
            @0.3
            >> . 301 ack 11101 win 1000           # half, and one for the window that was acknowledged meanwhile
            {}
            ",
            segments(0, 10),
            segments(10, 4),
            segments(14, 3),
        ),
    );
}

#[test]
fn bbr_spreads_its_first_window_over_a_third_of_the_round_trip() {
    // 2.77 times ten segments per 100 ms: one every 3.61 ms, in pairs; what a waiting timer may owe leaves at once.
    play_open(
        "bbr",
        "
        send 60000
        << @0.1 . 101+1000 ack 301
        << @0.1 . 1101+1000 ack 301
        @0.104
        ",
    );
}
