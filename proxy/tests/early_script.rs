//! What a pair does whose client a worker has accepted early, by a SYN cookie (RFC 4987 section 3.6), as transcripts
//! (`support/script.rs` explains the lines). The client's initial sequence number is 100, the cookie 900, the server's 5000.

mod support;

use std::sync::Arc;

use pnat_proxy::filter::Chains;
use pnat_proxy::reactor::Snapshot;
use pnat_shared::config::{BlockAnswer, BlockFilter, FilterKind, Proxy};
use pnat_shared::flow::{Accepted, Side};
use pnat_shared::time::Duration;
use pnat_shared::wire::tcp::{Options, Seq};
use support::script::Script;
use support::{POLICY, Rig, WINDOW, policy_of, settings};

/// A client that was accepted with these options of its own.
fn accepted_with(theirs: Options, settings: &Proxy) -> Script {
    let mut rig = Rig::with(settings, vec![]);
    let ours = Options { mss: Some(1460), timestamps: theirs.timestamps.map(|_| (7000, 0)), ..theirs };
    rig.accepted = Some(Accepted { iss: Seq(900), irs: Seq(100), ours, theirs, window: 65_535, ecn: false });
    Script::new(rig)
}

fn accepted() -> Script {
    accepted_with(Options { mss: Some(1460), ..Options::default() }, &settings())
}

#[test]
fn the_server_is_asked_with_the_clients_number_and_what_the_cookie_kept() {
    let theirs = Options {
        mss: Some(1360),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((9, 0)),
        ..Options::default()
    };
    accepted_with(theirs, &settings()).play(
        "
        >> client ACK seq=101 ack=901 ts=9/6980
        << server SYN seq=100 mss=1360 ws=7 sack tsecr=0
        >> server SYN ACK seq=5000 ack=101 mss=1200
        << server ACK seq=101 ack=5001 !tsecr
        >> server ACK seq=5001 ack=101 data=hello
        << client ACK seq=901 ack=101 tsecr=9 data=hello
        @ 60ms
        << server ACK seq=101 ack=5006
        >> client ACK seq=101 ack=906 ts=40/7000
        ",
    );
}

#[test]
fn text_waits_for_the_server_and_the_legs_numbers_differ_by_a_constant_one_way() {
    accepted().play(
        "
        >> client ACK seq=101 ack=901 data=hello
        << server SYN seq=100 mss=1460 !ws !sack !tsecr
        @ 60ms
        << client ACK seq=901 ack=106
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=hello
        >> server ACK seq=5001 ack=106 data=world
        << client ACK seq=901 ack=106 data=world
        >> client ACK seq=106 ack=906 data=again
        << server ACK seq=106 ack=5006 data=again
        ",
    );
}

#[test]
fn a_server_that_refuses_is_told_by_a_reset() {
    accepted().play(
        "
        >> client ACK seq=101 ack=901 data=hello
        << server SYN seq=100
        >> server RST ACK seq=0 ack=101
        << client RST ACK seq=901 ack=106
        << closed refused
        ",
    );
}

#[test]
fn a_server_that_cannot_be_reached_is_told_by_a_reset() {
    for code in ["3/0", "3/1", "3/3", "3/13"] {
        accepted().play(&format!(
            "
            >> client ACK seq=101 ack=901
            << server SYN seq=100
            >> server ICMP {code}
            << client RST ACK seq=901 ack=101
            << closed unreachable
            "
        ));
    }
}

#[test]
fn a_silent_server_is_told_by_a_reset_when_the_time_is_over() {
    let settings = Proxy { connect_timeout: Duration::from_millis(2500), ..settings() };
    accepted_with(Options::default(), &settings).play(
        "
        >> client ACK seq=101 ack=901
        << server SYN seq=100
        @ 1100ms
        << server SYN seq=100
        @ 2s
        << client RST ACK seq=901 ack=101
        << closed connect_timeout
        ",
    );
}

#[test]
fn a_client_that_resets_while_the_server_is_asked_ends_the_pair() {
    accepted().play(
        "
        >> client ACK seq=101 ack=901
        << server SYN seq=100
        >> client RST seq=101
        << closed first_reset
        ",
    );
}

#[test]
fn what_a_client_says_and_ends_before_the_server_answers_arrives() {
    accepted().play(
        "
        >> client ACK seq=101 ack=901
        >> client FIN ACK seq=101 ack=901 data=bye
        << server SYN seq=100
        << client ACK seq=901 ack=105
        >> server SYN ACK seq=5000 ack=101
        << server FIN ACK seq=101 ack=5001 data=bye
        >> server FIN ACK seq=5001 ack=105
        << server ACK seq=105 ack=5002
        << client FIN ACK seq=901 ack=105
        >> client ACK seq=105 ack=902
        @ 10s
        << closed finished
        ",
    );
}

#[test]
fn what_waits_for_the_server_is_bounded_by_the_window_and_none_of_it_is_lost() {
    let mut script = accepted();
    script.play(
        "
        >> client ACK seq=101 ack=901
        << server SYN seq=100
        ",
    );
    let (mut seq, mut left) = (101, WINDOW);
    while left > 0 {
        let len = left.min(1460);
        left = script.client_sends(seq, len as usize);
        seq += len;
    }
    assert_eq!(seq, 101 + WINDOW, "the window is used up exactly");
    script.client_queues(seq, 1000);
    let told = script.take();
    assert!(
        told.iter().any(|told| told.starts_with(&format!("client ACK seq=901 ack={seq} win=0"))),
        "{told:?}"
    );

    // Once the server is there it gets all of it, and the client's window opens.
    script.queue("server SYN ACK seq=900 ack=101 mss=1460");
    script.client_sends(seq, 0);
    let windows = script.server_takes_all(seq);
    assert!(windows.last() > Some(&(WINDOW / 2)), "{windows:?}");
}

#[test]
fn a_filters_answer_does_not_wait_for_the_server() {
    let block = BlockFilter {
        patterns: Vec::new(),
        hosts: vec!["blocked.example".to_owned()],
        sni: Vec::new(),
        answer: BlockAnswer::Page("<p>no</p>".into()),
    };
    let mut script = accepted();
    let chains = Chains::compile(&policy_of([FilterKind::Block(block)]), WINDOW).unwrap();
    let snapshot = Snapshot { generation: POLICY, rules: vec!["rule".into()], chains: Arc::new(chains) };
    script.rig.reactor.set_policy(snapshot, POLICY);
    script.play(
        "
        >> client ACK seq=101 ack=901
        << server SYN seq=100
        ",
    );
    let told = script.client_says(101, b"GET / HTTP/1.1\r\nHost: blocked.example\r\n\r\n");
    let [client] = told.as_slice() else { panic!("{told:?}") };
    assert!(client.starts_with("client FIN ACK seq=901"), "{client}");
    assert!(script.last_payload(Side::First).starts_with(b"HTTP/1.1 403"));
    // A server that answers now is refused: nothing was said to it.
    script.play(
        "
        >> server SYN ACK seq=5000 ack=101
        << server RST seq=101
        ",
    );
}

#[test]
fn a_segment_that_does_not_complete_the_handshake_opens_nothing() {
    for first in [
        "SYN seq=100",
        "ACK seq=102 ack=901",
        "ACK seq=101 ack=902",
        "RST seq=101",
        "RST ACK seq=101 ack=901",
        "SYN ACK seq=101 ack=901",
    ] {
        accepted().play(&format!(
            "
            >> client {first}
            << closed malformed
            "
        ));
    }
}

#[test]
fn a_syn_that_comes_again_is_challenged_and_harms_nothing() {
    accepted().play(
        "
        >> client ACK seq=101 ack=901
        << server SYN seq=100
        >> client SYN seq=100
        << client ACK seq=901 ack=101
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001
        ",
    );
}
