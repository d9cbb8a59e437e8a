//! Handshakes: late accept, mirrored options, simultaneous open, SYNs repeated and refused.

use crate::runner::play;

#[test]
fn late_accept_sends_nothing_until_answered_and_then_mirrors() {
    play(
        "
        >> S 1000 win 8192 mss 1400 ws 3 sackok ts 77/0
        << -
        state SynHeld
        @5
        << -
        >> S 1000 win 8192 mss 1400 ws 3 sackok ts 78/0     # the client is impatient
        drop unacceptable
        << -
        answer iss 5000 mss 1380 ws 5 sackok ts 900
        << S. 5000 ack 1001 win 65504 mss 1380 ws 5 sackok ts 900/77 only
        >> . 1001 ack 5001 ts 80/900
        << -
        state Established
        @5.1
        send 1388
        << P. 5001+1388 ack 1001 win 2047 ts 1000/80 only    # 1400 - 12 of options fill one segment
        ",
    );
}

#[test]
fn an_answer_leaves_out_what_the_client_did_not_offer() {
    play(
        "
        >> S 1000
        answer iss 5000 mss 1460 ws 7 sackok ts 900
        << S. 5000 ack 1001 mss 1460 only
        >> . 1001 ack 5001
        send 600
        << . 5001+536 ack 1001 only                          # no MSS option: 536
        << P. 5537+64 ack 1001
        ",
    );
}

#[test]
fn a_client_may_give_up_while_its_syn_is_held() {
    play(
        "
        >> S 1000
        >> R 1001
        state Closed
        error Reset
        over
        ",
    );
}

#[test]
fn aborting_a_held_syn_refuses_it() {
    play(
        "
        >> S 1000
        abort
        << R. 0 ack 1001
        over
        ",
    );
}

#[test]
fn rfc9293_3_5_active_open_mirrors_the_offer() {
    play(
        "
        window 200000
        connect iss 100 mss 1400 ws 2 sackok ts 4294967290
        << S 100 ack 0 win 65535 mss 1400 ws 2 sackok ts 4294967290/0 only
        @0.02
        >> S. 300 ack 101 win 1000 mss 1460 ws 9 sackok ts 50/4294967290
        << . 101 ack 301 win 16384 ts 14/50 only             # 64 KB to begin with
        state Established
        ",
    );
}

#[test]
fn rfc7323_options_missing_in_the_syn_ack_are_off() {
    play(
        "
        window 200000
        connect iss 100 mss 1460 ws 7 sackok ts 1
        << S 100
        >> S. 300 ack 101 mss 1460
        << . 101 ack 301 win 65535 only
        >> . 400+10 ack 101
        << . 101 ack 301 only                                # no SACK either
        ",
    );
}

#[test]
fn rfc6298_a_syn_is_repeated_with_back_off_until_the_open_timeout() {
    play(
        "
        connect iss 100
        << @0 S 100
        @19.9
        << @1 S 100
        << @3 S 100
        << @7 S 100
        << @15 S 100
        @20
        << -
        error Timeout
        over
        ",
    );
}

#[test]
fn a_syn_ack_is_repeated_with_back_off_until_the_open_timeout() {
    play(
        "
        >> S 1000
        @2
        answer iss 5000
        << S. 5000 ack 1001
        @10
        << @3 S. 5000 ack 1001
        << @5 S. 5000 ack 1001
        << @9 S. 5000 ack 1001
        >> S 1000
        << S. 5000 ack 1001                                  # at once, where the client asks
        @22
        << @17 S. 5000 ack 1001
        << R. 5001 ack 1001
        error Timeout
        ",
    );
}

#[test]
fn rfc9293_3_10_7_3_a_reset_that_acknowledges_the_syn_refuses() {
    play(
        "
        connect iss 100
        << S 100
        >> R 0
        drop unacceptable
        >> R. 0 ack 99
        drop unacceptable
        >> R. 0 ack 101
        state Closed
        error Refused
        over
        ",
    );
}

#[test]
fn rfc9293_3_5_2_an_old_duplicate_syn_ack_is_reset_and_the_open_goes_on() {
    play(
        "
        connect iss 100
        << S 100
        >> S. 300 ack 91
        drop unacceptable
        << R 91
        >> S. 300 ack 101 win 100
        << . 101 ack 301
        state Established
        ",
    );
}

#[test]
fn rfc9293_figure_8_simultaneous_open() {
    play(
        "
        connect iss 100 mss 1460 sackok
        << S 100
        >> S 300 mss 1400 sackok
        state SynReceived
        << S. 100 ack 301 mss 1460 sackok only
        >> S. 300 ack 101 mss 1400 sackok
        << . 101 ack 301
        state Established
        ",
    );
}

#[test]
fn rfc9293_figure_8_crossed_syns_are_no_lost_syn() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        @0.1
        >> S 300 mss 1000
        << S. 100 ack 301
        @0.2
        >> S. 300 ack 101 mss 1000                # a round trip of 100 ms from the SYN-ACK on
        << . 101 ack 301
        send 10
        << P. 101+10 ack 301
        @0.55
        << @0.5 P. 101+10 ack 301                 # not three seconds
        ",
    );
}

#[test]
fn rfc9293_3_5_crossed_syns_of_which_one_answer_is_lost() {
    play(
        "
        connect iss 100 mss 1000
        << S 100
        >> S 300 mss 1000
        << S. 100 ack 301
        @1
        << @1 S. 100 ack 301
        >> S 300 mss 1000                         # the peer has not heard ours either
        << S. 100 ack 301
        >> S. 300 ack 101
        << . 101 ack 301
        state Established
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_syn_received_answers_what_is_not_acceptable() {
    play(
        "
        connect iss 100
        << S 100
        >> S 300
        << S. 100 ack 301
        >> . 99999+10 ack 101
        drop out_of_window
        << . 101 ack 301
        state SynReceived
        >> R 400
        << . 101 ack 301
        >> R 400
        << -
        >> R 301
        error Reset
        ",
    );
}

#[test]
fn simultaneous_open_also_ends_by_a_plain_ack() {
    play(
        "
        connect iss 100
        << S 100
        >> S 300
        << S. 100 ack 301
        >> . 301 ack 101
        << -
        state Established
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_a_wrong_ack_of_the_syn_ack_is_reset() {
    play(
        "
        >> S 1000
        answer iss 5000
        << S. 5000 ack 1001
        >> . 1001 ack 5002
        drop unacceptable
        << R 5002
        >> . 1001 ack 5000
        drop unacceptable
        << R 5000
        state SynReceived
        >> R 1001
        error Reset
        ",
    );
}

#[test]
fn the_acknowledgment_of_the_syn_ack_may_carry_text_and_fin() {
    play(
        "
        >> S 1000
        answer iss 5000
        << S. 5000 ack 1001
        >> PF. 1001+10 ack 5001
        << . 5001 ack 1012
        state CloseWait
        read
        got 10
        finished
        ",
    );
}

#[test]
fn rfc6298_5_7_after_a_lost_syn_data_waits_three_seconds() {
    play(
        "
        connect iss 100
        << S 100
        @1
        << @1 S 100
        >> S. 300 ack 101
        << . 101 ack 301
        send 10
        << P. 101+10 ack 301
        @4
        << @4 P. 101+10 ack 301
        ",
    );
}

#[test]
fn what_is_queued_during_the_handshake_follows_it() {
    play(
        "
        connect iss 100
        << S 100
        send 10
        shutdown
        << -
        >> S. 300 ack 101
        << PF. 101+10 ack 301
        state FinWait1
        ",
    );
}
