//! How much goes out while losses are repaired: limited transmit (RFC 3042), proportional rate reduction (RFC 6937bis),
//! NewReno (RFC 6582).

use crate::runner::play;

/// Segments of 1000 bytes, ours from 101; a round trip of 100 ms was measured. Ten segments, the initial window, are on
/// their way, and ten more wait.
fn play_ten(sack: &str, script: &str) {
    play(&format!(
        "
        connect iss 100 mss 1000 {sack}
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000 {sack}
        << . 101 ack 301
        send 30000
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
        {script}"
    ));
}

#[test]
fn rfc3042_2_the_first_two_duplicates_let_new_segments_go() {
    play_ten(
        "",
        "
        @0.2
        >> . 301 ack 101 win 60000
        << . 10101+1000 ack 301
        >> . 301 ack 101 win 60000
        << . 11101+1000 ack 301
        >> . 301 ack 101 win 60000
        << . 101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6937bis_5_one_loss_of_ten_takes_three_tenths_off_in_the_course_of_a_round_trip() {
    play_ten(
        "sackok",
        "
        @0.2
        >> . 301 ack 101 sack 1101-2101
        << . 10101+1000 ack 301                 # limited transmit
        >> . 301 ack 101 sack 1101-3101
        << . 11101+1000 ack 301
        >> . 301 ack 101 sack 1101-4101
        << . 101+1000 ack 301
        >> . 301 ack 101 sack 1101-5101
        >> . 301 ack 101 sack 1101-6101
        << -                                    # seven are on their way
        >> . 301 ack 101 sack 1101-7101
        << . 12101+1000 ack 301
        >> . 301 ack 101 sack 1101-8101
        << . 13101+1000 ack 301
        >> . 301 ack 101 sack 1101-9101
        << . 14101+1000 ack 301
        >> . 301 ack 101 sack 1101-10101
        << . 15101+1000 ack 301
        @0.3
        >> . 301 ack 12101
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6937bis_5_where_most_was_lost_what_arrives_says_how_much_may_go() {
    play_ten(
        "sackok",
        "
        @0.2
        >> . 301 ack 101 sack 9101-10101
        << . 10101+1000 ack 301                 # and is lost as well
        @0.226
        << @0.225 . 101+1000 ack 301
        @0.326
        >> . 301 ack 1101 sack 9101-10101
        << . 1101+1000 ack 301                  # one for one, since this told of another loss
        @0.426
        >> . 301 ack 2101 sack 9101-10101
        << . 2101+1000 ack 301                  # two for one
        << . 3101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6582_3_2_partial_acknowledgments_repair_one_hole_each_round_trip() {
    play_ten(
        "",
        "
        @0.2                                    # segments 1, 3 and 5 are lost
        >> . 301 ack 101 win 60000
        << . 10101+1000 ack 301
        >> . 301 ack 101 win 60000
        << . 11101+1000 ack 301
        >> . 301 ack 101 win 60000
        << . 101+1000 ack 301
        >> . 301 ack 101 win 60000
        >> . 301 ack 101 win 60000
        << -
        >> . 301 ack 101 win 60000
        << . 12101+1000 ack 301
        >> . 301 ack 101 win 60000
        << . 13101+1000 ack 301
        @0.3
        >> . 301 ack 2101 win 60000
        << . 2101+1000 ack 301
        << . 14101+1000 ack 301
        @0.4
        >> . 301 ack 4101 win 60000
        << . 4101+1000 ack 301
        << . 15101+1000 ack 301
        @0.5
        >> . 301 ack 12101 win 60000
        << . 16101+1000 ack 301
        << . 17101+1000 ack 301
        << . 18101+1000 ack 301
        ",
    );
}

#[test]
fn rfc6582_3_2_duplicates_of_what_the_timeout_repeated_start_no_recovery() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        send 4000
        << . 101+1000 ack 301
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        << P. 3101+1000 ack 301
        @0.5
        << @0.4 . 101+1000 ack 301
        >> . 301 ack 1101 win 60000
        << . 1101+1000 ack 301
        << . 2101+1000 ack 301
        @0.6
        >> . 301 ack 4101 win 60000
        send 4000
        << . 4101+1000 ack 301
        << . 5101+1000 ack 301
        >> . 301 ack 4101 win 60000
        << . 6101+1000 ack 301
        >> . 301 ack 4101 win 60000
        << P. 7101+1000 ack 301
        >> . 301 ack 4101 win 60000
        >> . 301 ack 4101 win 60000
        << -
        ",
    );
}
