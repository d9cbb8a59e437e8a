//! Explicit congestion notification: who asks, who is marked, who echoes, who slows down.

use crate::runner::play;

/// Opened actively with ECN; ours from 101, theirs from 301, segments of 1000 bytes, a round trip of 100 ms.
const OPEN: &str = "
    connect iss 100 mss 1000 sackok ecn
    << SEC 100
    @0.1
    >> S.E 300 ack 101 win 60000 mss 1000 sackok
    << . 101 ack 301
";

fn play_open(script: &str) {
    play(&format!("{OPEN}{script}"));
}

#[test]
fn rfc3168_6_1_1_a_syn_asks_and_its_answer_agrees() {
    play_open(
        "
        send 1000
        << P. 101+1000 ack 301 ect
        ",
    );
    play(
        "
        >> SEC 300 win 60000 mss 1000
        answer iss 100 mss 1000 ecn
        << S.E 100 ack 301
        >> . 301 ack 101
        send 1000
        << P. 101+1000 ack 301 ect
        ",
    );
}

#[test]
fn rfc3168_6_1_1_without_both_flags_nobody_has_asked() {
    for flags in ["S", "SE", "SC"] {
        play(&format!(
            "
            >> {flags} 300 win 60000 mss 1000
            answer iss 100 mss 1000 ecn
            << S. 100 ack 301
            >> . 301 ack 101
            send 1000
            << P. 101+1000 ack 301
            "
        ));
    }
}

#[test]
fn rfc3168_6_1_1_an_answer_that_repeats_both_flags_agrees_to_nothing() {
    for flags in ["S.", "S.EC", "S.C"] {
        play(&format!(
            "
            connect iss 100 mss 1000 ecn
            << SEC 100
            @0.1
            >> {flags} 300 ack 101 win 60000 mss 1000
            << . 101 ack 301
            send 1000
            << P. 101+1000 ack 301
            "
        ));
    }
}

#[test]
fn rfc3168_6_1_1_1_a_syn_that_is_repeated_asks_no_more() {
    play(
        "
        connect iss 100 mss 1000 ecn
        << SEC 100
        @1
        << S 100
        @1.1
        >> S.E 300 ack 101 win 60000 mss 1000   # the answer to the first one: too late, we cannot know
        << . 101 ack 301
        send 1000
        << P. 101+1000 ack 301
        ",
    );
}

#[test]
fn rfc3168_6_1_2_an_echo_reduces_the_window_once_per_round_trip() {
    play_open(
        "
        send 20000
        << . 101+1000 ack 301 ect
        << . 1101+1000 ack 301 ect
        << . 2101+1000 ack 301 ect
        << . 3101+1000 ack 301 ect
        << . 4101+1000 ack 301 ect
        << . 5101+1000 ack 301 ect
        << . 6101+1000 ack 301 ect
        << . 7101+1000 ack 301 ect
        << . 8101+1000 ack 301 ect
        << . 9101+1000 ack 301 ect
        @0.2
        >> .E 301 ack 2101                      # ten in flight become seven
        << -
        >> .E 301 ack 3101                      # the same marks: no further
        << -
        >> .E 301 ack 4101
        << .C 10101+1000 ack 301 ect            # and the peer is told, once
        >> .E 301 ack 5101
        << . 11101+1000 ack 301 ect
        ",
    );
}

/// The numbers are those of the upper half, where half of all connections begin.
#[test]
fn rfc3168_6_1_2_an_echo_counts_wherever_the_numbers_began() {
    play(
        "
        connect iss 3000000000 mss 1000 sackok ecn
        << SEC 3000000000
        @0.1
        >> S.E 300 ack 3000000001 win 60000 mss 1000 sackok
        << . 3000000001 ack 301
        send 4000
        << . 3000000001+1000 ack 301 ect
        << . 3000001001+1000 ack 301 ect
        << . 3000002001+1000 ack 301 ect
        << P. 3000003001+1000 ack 301 ect
        @0.2
        >> .E 301 ack 3000004001
        send 1000
        << P.C 3000004001+1000 ack 301 ect
        ",
    );
}

#[test]
fn rfc3168_6_1_2_a_loss_is_told_like_a_mark() {
    play_open(
        "
        send 5000
        << . 101+1000 ack 301 ect
        << . 1101+1000 ack 301 ect
        << . 2101+1000 ack 301 ect
        << . 3101+1000 ack 301 ect
        << P. 4101+1000 ack 301 ect
        @0.2
        >> . 301 ack 101 sack 1101-5101
        << . 101+1000 ack 301                   # 6.1.5: what is sent again is not to be marked
        @0.3
        >> . 301 ack 5101
        send 1000
        << P.C 5101+1000 ack 301 ect
        ",
    );
}

#[test]
fn rfc3168_6_1_3_a_mark_is_echoed_until_the_peer_has_slowed_down() {
    play_open(
        "
        >> . 301+1000 ack 101 ect
        >> . 1301+1000 ack 101 ce
        << .E 101 ack 2301
        >> . 2301+1000 ack 101 ect
        >> . 3301+1000 ack 101 ect
        << .E 101 ack 4301
        send 500
        << P.E 101+500 ack 4301 ect
        >> .C 4301+1000 ack 601 ect
        >> . 5301+1000 ack 601 ect
        << . 601 ack 6301
        >> .C 6301+1000 ack 601 ce              # it has, and the next one is marked already
        >> . 7301+1000 ack 601 ect
        << .E 601 ack 8301
        ",
    );
}

#[test]
fn rfc3168_6_1_4_acks_are_not_to_be_marked() {
    play_open(
        "
        >> . 301+1000 ack 101 ect
        >> . 1301+1000 ack 101 ect
        << . 101 ack 2301
        ",
    );
}

#[test]
fn rfc3168_6_1_6_a_window_probe_is_not_to_be_marked() {
    play_open(
        "
        >> . 301+100 ack 101 win 0
        send 1000
        @0.2
        << @0.14 . 101 ack 401
        @0.5
        << @0.4 . 101+1 ack 401
        ",
    );
}

#[test]
fn without_agreement_a_mark_is_no_news() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S. 300 ack 101 win 60000 mss 1000
        << . 101 ack 301
        >> . 301+1000 ack 101 ce
        >> . 1301+1000 ack 101 ce
        << . 101 ack 2301
        ",
    );
}
