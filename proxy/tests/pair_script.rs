//! What a pair does, as transcripts (`support/script.rs` explains the lines). The client's initial sequence number is 100,
//! the server's 900.

mod support;

use std::sync::Arc;

use pnat_proxy::filter::Chains;
use pnat_proxy::reactor::Snapshot;
use pnat_shared::config::{BlockAnswer, BlockFilter, FilterKind};
use pnat_shared::flow::Side;
use pnat_shared::loopback::FromProxy;
use pnat_shared::path_mtu::{MtuCause, PathMtu};
use pnat_shared::verdict::{CloseReason, DropReason};
use support::filters::obedient;
use support::script::Script;
use support::{POLICY, Rig, WINDOW, handle, policy_of, settings};

fn script() -> Script {
    Script::new(Rig::new(vec![]))
}

/// The handshake that most transcripts begin with.
const OPEN: &str = "
    >> client SYN seq=100 mss=1460
    << server SYN seq=100
    >> server SYN ACK seq=900 ack=101 mss=1460
    << server ACK seq=101 ack=901
    << client SYN ACK seq=900 ack=101
    >> client ACK seq=101 ack=901
";

fn open() -> Script {
    let mut script = script();
    script.play(OPEN);
    script
}

fn open_obedient() -> (Script, std::sync::mpsc::Receiver<support::filters::End>) {
    let (filter, ends) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(OPEN);
    (script, ends)
}

#[test]
fn a_syn_is_answered_only_after_the_server_answered() {
    script().play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100 mss=1460
        @ 500ms
        >> client SYN seq=100 mss=1460    # impatient
        @ 400ms
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        ",
    );
}

#[test]
fn the_servers_sequence_number_and_options_are_mirrored_to_the_client() {
    script().play(
        "
        >> client SYN seq=100 mss=1400 ws=7 sack ts=5/0
        << server SYN seq=100 mss=1400 ws=7 sack tsecr=0
        >> server SYN ACK seq=900 ack=101 mss=1200 ws=3 sack ts=77/5
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101 mss=1200 ws=3 sack tsecr=5
        ",
    );
}

#[test]
fn options_that_the_server_lacks_are_not_answered_to_the_client() {
    script().play(
        "
        >> client SYN seq=100 mss=1460 ws=7 sack ts=5/0
        << server SYN seq=100 ws=7 sack
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK !tsecr
        << client SYN ACK !sack !ws !tsecr
        ",
    );
}

#[test]
fn options_that_the_client_lacks_are_not_offered_to_the_server() {
    script().play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100 !sack !ws !tsecr
        ",
    );
}

#[test]
fn the_mss_is_clamped_to_the_path_and_never_absurdly_small() {
    script().play(
        "
        >> client SYN seq=100 mss=9000
        << server SYN mss=1460
        >> server SYN ACK seq=900 ack=101 mss=10
        << server ACK
        << client SYN ACK mss=536
        ",
    );
}

#[test]
fn a_closed_port_looks_closed() {
    let (filter, ends) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        >> server RST ACK seq=0 ack=101
        << client RST ACK seq=0 ack=101
        << closed refused
        ",
    );
    assert_eq!(ends.try_recv().unwrap().summary.reason, CloseReason::Refused);
    assert!(script.rig.reactor.is_empty());
}

#[test]
fn rfc9293_figure_8_a_server_that_opens_at_the_same_time_is_connected() {
    script().play(
        "
        >> client SYN seq=100 mss=1400 sack
        << server SYN seq=100 mss=1400 sack
        >> server SYN seq=900 mss=1200 sack
        << server SYN ACK seq=100 ack=901 mss=1400
        >> server SYN ACK seq=900 ack=101 mss=1200 sack
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101 mss=1200
        >> client ACK seq=101 ack=901
        >> client ACK seq=101 ack=901 data=hello
        << server ACK seq=101 ack=901 data=hello
        >> server ACK seq=901 ack=106
        @ 100ms
        << client ACK ack=106
        ",
    );
}

#[test]
fn rfc9293_3_10_7_4_a_reset_between_crossed_syns_refuses() {
    script().play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        >> server SYN seq=900
        << server SYN ACK seq=100 ack=901
        >> server RST seq=901
        << client RST ACK seq=0 ack=101
        << closed refused
        ",
    );
}

#[test]
fn an_unreachable_server_is_reported_to_the_client_by_the_same_icmp_error() {
    for code in ["3/0", "3/1", "3/3", "3/13"] {
        script().play(&format!(
            "
            >> client SYN seq=100
            << server SYN seq=100
            >> server ICMP {code}
            << client ICMP {code} mtu=0 quoted=TCP seq=100
            << closed unreachable
            "
        ));
    }
}

#[test]
fn a_silent_server_stays_silent_to_the_client() {
    let settings = pnat_shared::config::Proxy {
        connect_timeout: pnat_shared::time::Duration::from_millis(2500),
        ..settings()
    };
    Script::new(Rig::with(&settings, vec![])).play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        @ 1100ms
        << server SYN seq=100
        @ 2s
        << closed connect_timeout
        >> server SYN ACK seq=900 ack=101    # too late
        ",
    );
}

#[test]
fn an_icmp_error_about_an_open_connection_changes_nothing() {
    let mut script = open();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hello
        << server ACK seq=101 ack=901 data=hello
        >> server ICMP 3/1
        >> server ACK seq=901 ack=106 data=world
        << client ACK seq=901 data=world
        @ 60ms
        << server ACK ack=906
        >> client ACK seq=106 ack=906
        ",
    );
    assert_eq!(script.rig.reactor.stats().icmp_soft.value(), 1);
}

#[test]
fn a_path_that_a_router_calls_narrow_is_told_while_the_pair_lives_and_at_its_end() {
    let mut script = open();
    script.play(
        "
        >> client ACK seq=101 ack=901 fill=1400
        << server ACK seq=101 ack=901 len=1400
        >> server ICMP 3/4 mtu=1200
        << server ACK seq=101 ack=901 len=1160
        << server ACK seq=1261 ack=901 len=240
        ",
    );
    let view = script.rig.reactor.pair_of(handle(0), script.rig.now).expect("a pair");
    let found = PathMtu { mtu: 1200, cause: MtuCause::Router, since: script.rig.now, packets: 1 };
    assert_eq!((view.mtus, view.path_mtus.legs()), ([1500, 1200], [None, Some(found)]));
    script.rig.gone(handle(0), CloseReason::Operator);
    script.rig.burst();
    let farewell = script.rig.take().into_iter().find_map(|message| match message {
        FromProxy::Closed { last_words, .. } => Some(last_words.map(|words| words.path_mtus.legs())),
        _ => None,
    });
    assert_eq!(farewell, Some(Some([None, Some(found)])));
}

#[test]
fn a_client_that_gives_up_while_the_server_is_asked_ends_the_pair() {
    script().play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        >> client RST seq=101
        << closed first_reset
        ",
    );
}

#[test]
fn a_client_that_never_completes_the_handshake_is_given_up_and_the_server_reset() {
    let settings = pnat_shared::config::Proxy {
        half_open_timeout: pnat_shared::time::Duration::from_millis(900),
        ..settings()
    };
    Script::new(Rig::with(&settings, vec![])).play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101
        << server ACK
        << client SYN ACK
        @ 1s
        << server RST seq=101
        << client RST
        << closed half_open
        ",
    );
}

#[test]
fn bytes_pass_both_ways_by_the_numbers_of_the_other_leg() {
    open().play(
        "
        >> client ACK seq=101 ack=901 data=hello
        << server ACK seq=101 ack=901 data=hello
        >> server ACK seq=901 ack=106 data=world
        << client ACK seq=901 ack=106 data=world
        >> client ACK seq=106 ack=906
        @ 1s
        << server ACK seq=106 ack=906
        ",
    );
}

#[test]
fn a_server_may_speak_first_and_before_the_client_completed_the_handshake() {
    script().play(
        "
        >> client SYN seq=100
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101
        >> server ACK seq=901 ack=101 data=220
        << server ACK
        << client SYN ACK seq=900
        >> client ACK seq=101 ack=901
        << client ACK seq=901 data=220
        >> client ACK seq=101 ack=904
        @ 100ms
        ",
    );
}

#[test]
fn rfc6093_urgent_data_keeps_its_place_in_both_streams() {
    open().play(
        "
        >> client ACK seq=101 ack=901 up=3 data=hello
        << server ACK seq=101 ack=901 up=3 data=hello
        >> server ACK seq=901 ack=106 up=5 data=world
        << client ACK seq=901 ack=106 up=5 data=world
        >> client ACK seq=106 ack=906
        >> client ACK seq=106 ack=906 data=calm
        << server ACK seq=106 ack=906 data=calm
        @ 100ms
        << client ACK ack=110
        ",
    );
}

#[test]
fn rfc6093_a_mark_of_an_edited_stream_lies_behind_what_its_bytes_became() {
    let (mut script, _ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 up=6 data=double
        << server ACK seq=101 up=12 data=doubledouble
        ",
    );
}

#[test]
fn a_burst_is_answered_as_a_burst() {
    open().play(
        "
        >> client ACK seq=101 ack=901 fill=1000
        >> client ACK seq=1101 ack=901 fill=1000
        >> client ACK seq=2101 ack=901 fill=1000
        >> client ACK seq=3101 ack=901 fill=1000
        << client ACK ack=4101
        << server ACK seq=101 len
        << server ACK len
        << server ACK len
        ",
    );
}

#[test]
fn the_client_may_end_its_stream_first() {
    let (mut script, ends) = open_obedient();
    script.play(
        "
        >> client FIN ACK seq=101 ack=901 data=bye
        << server FIN ACK seq=101 data=bye
        << client ACK ack=105
        >> server ACK seq=901 ack=105 data=thanks
        << client ACK seq=901 ack=105 data=thanks
        >> client ACK seq=105 ack=907
        @ 1s
        << server ACK seq=105 ack=907
        >> server FIN ACK seq=907 ack=105
        << server ACK seq=105 ack=908
        << client FIN ACK seq=907 ack=105
        >> client ACK seq=105 ack=908
        ",
    );
    // The record does not wait for TIME-WAIT, and the worker's binding lasts as long as it.
    let end = ends.try_recv().unwrap().summary;
    assert_eq!((end.reason, end.received, end.sent), (CloseReason::Finished, [3, 6], [3, 6]));
    script.play(
        "
        @ 1s
        @ 3s
        << closed finished
        ",
    );
    assert!(script.rig.reactor.is_empty());
}

#[test]
fn a_client_that_uses_its_port_again_is_not_refused_by_the_old_pair() {
    open().play(
        "
        >> client FIN ACK seq=101 ack=901
        << server FIN ACK seq=101
        << client ACK ack=102
        >> server FIN ACK seq=901 ack=102
        << server ACK seq=102 ack=902
        << client FIN ACK seq=901 ack=102
        >> client ACK seq=102 ack=902
        >> client SYN seq=50 mss=1460             # it has waited itself, and may say what it likes
        << again SYN seq=50 mss=1460
        << closed finished
        ",
    );
}

/// The server ends first: it is our socket towards the client that is in TIME-WAIT.
const SERVER_ENDS: &str = "
    >> server FIN ACK seq=901 ack=101
    << server ACK ack=902
    << client FIN ACK seq=901
    >> client FIN ACK seq=101 ack=902
    << server FIN ACK seq=101
    << client ACK ack=102
    >> server ACK seq=902 ack=102
";

#[test]
fn rfc1122_4_2_2_13_a_syn_beyond_the_old_numbers_reopens_and_an_older_one_is_challenged() {
    open().play(SERVER_ENDS).play(
        "
        >> client SYN seq=101 mss=1460            # from before
        << client ACK seq=902 ack=102
        >> client SYN seq=102 mss=1460
        << again SYN seq=102 mss=1460
        << closed finished
        ",
    );
}

#[test]
fn rfc6191_2_a_later_timestamp_reopens_whatever_the_number_and_an_earlier_one_never() {
    let mut script = script();
    script.play(
        "
        >> client SYN seq=100 mss=1460 ts=5/0
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460 ts=70/5
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        >> client ACK seq=101 ack=901 ts=6/70
        >> server FIN ACK seq=901 ack=101 ts=71/5
        << server ACK ack=902
        << client FIN ACK seq=901
        >> client FIN ACK seq=101 ack=902 ts=7/71
        << server FIN ACK seq=101
        << client ACK ack=102
        >> server ACK seq=902 ack=102 ts=72/5
        >> client SYN seq=9999 mss=1460 ts=6/0
        << client ACK seq=902 ack=102
        @ 600ms
        >> client SYN seq=101 mss=1460 ts=7/0     # as late as the last: the number decides
        << client ACK seq=902 ack=102
        >> client SYN seq=50 mss=1460 ts=8/0
        << again SYN seq=50 mss=1460
        << closed finished
        ",
    );
}

#[test]
fn the_server_may_end_its_stream_first() {
    open().play(
        "
        >> server FIN ACK seq=901 ack=101 data=bye
        << server ACK ack=905
        << client FIN ACK seq=901 data=bye
        >> client ACK seq=101 ack=905 data=more
        << server ACK seq=101 ack=905 data=more
        >> server ACK seq=905 ack=105
        @ 1s
        << client ACK seq=905 ack=105
        >> client FIN ACK seq=105 ack=905
        << server FIN ACK seq=105 ack=905
        << client ACK ack=106
        >> server ACK seq=905 ack=106
        @ 3s
        << closed finished
        ",
    );
}

#[test]
fn a_reset_of_the_client_is_mirrored_to_the_server() {
    open().play(
        "
        >> client RST seq=101
        << server RST seq=101
        << closed first_reset
        ",
    );
}

#[test]
fn a_client_that_resets_and_uses_its_port_again_in_one_burst_is_not_refused() {
    open().play(
        "
        >> client RST seq=101
        >> client SYN seq=5000 mss=1460
        << server RST seq=101
        << closed first_reset
        ",
    );
}

#[test]
fn a_reset_of_the_server_is_mirrored_to_the_client() {
    open().play(
        "
        >> server RST seq=901
        << client RST seq=901
        << closed second_reset
        ",
    );
}

#[test]
fn what_the_server_said_before_its_reset_reaches_the_client() {
    open().play(
        "
        >> server ACK seq=901 ack=101 data=last
        >> server RST seq=905
        << client ACK seq=901 data=last
        << client RST seq=905
        << closed second_reset
        ",
    );
}

#[test]
fn back_pressure_closes_the_senders_window_and_opens_it_again() {
    let mut script = open();
    let mut seq = 101;
    // The server acknowledges nothing: all that the client sends stays in the pair.
    let mut window = 65_535;
    while window >= 1000 {
        window = script.client_sends(seq, 1000);
        seq += 1000;
        assert!(seq < 101 + 80_000, "the window never closes");
    }
    let all = seq;
    let view = script.rig.reactor.pairs(script.rig.now).next().unwrap().held;
    assert_eq!(view as u32, all - 101);
    // Once the server has acknowledged it all, the client hears of a window again.
    let windows = script.server_takes_all(all);
    assert!(windows.iter().any(|window| *window > 30_000), "{windows:?}");
}

#[test]
fn a_burst_beyond_one_visits_bound_is_carried_by_the_next() {
    let settings = pnat_shared::config::Proxy { window: 1 << 20, ..settings() };
    let mut script = Script::new(Rig::with(&settings, vec![]));
    script.play(
        "
        >> client SYN seq=100 mss=1460 ws=7
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460 ws=7
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        >> client ACK seq=101 ack=901
        --
        ",
    );
    let mut seq = 101;
    // The window grows with what the server takes.
    for _ in 0..4 {
        for _ in 0..99 {
            script.client_queues(seq, 600);
            seq += 600;
        }
        script.client_sends(seq, 600);
        seq += 600;
        script.server_takes_all(seq);
    }
    for _ in 0..200 {
        script.client_queues(seq, 600);
        seq += 600;
    }
    script.take();
    let view = script.rig.reactor.pairs(script.rig.now).next().unwrap();
    assert_eq!(view.bytes[0], 600 * 600);
}

#[test]
fn what_was_not_acknowledged_does_not_count_as_sent() {
    for (last, reason) in [
        (">> server RST seq=901\n << client RST", CloseReason::SecondReset),
        (">> worker gone\n << server RST\n << client RST", CloseReason::Operator),
    ] {
        let (mut script, ends) = open_obedient();
        script.play(
            "
            >> client ACK seq=101 ack=901 data=hello
            << server data=hello
            >> server ACK seq=901 ack=106
            @ 1s
            << client ACK ack=106
            >> client ACK seq=106 ack=901 data=world
            << server data=world
            ",
        );
        script.play(&format!("{last}\n << closed"));
        let end = ends.try_recv().unwrap().summary;
        assert_eq!((end.reason, end.received, end.sent), (reason, [10, 0], [5, 0]));
    }
}

#[test]
fn an_idle_pair_is_ended_for_both_sides() {
    let settings =
        pnat_shared::config::Proxy { idle_timeout: pnat_shared::time::Duration::from_secs(30), ..settings() };
    let mut script = Script::new(Rig::with(&settings, vec![]));
    script.play(OPEN).play(
        "
        @ 29s
        >> client ACK seq=101 ack=901
        @ 29s
        @ 2s
        << server RST seq=101
        << client RST seq=901
        << closed idle
        ",
    );
}

fn open_with_keepalive() -> Script {
    let settings = pnat_shared::config::Proxy {
        idle_timeout: pnat_shared::time::Duration::from_secs(500),
        keepalive: pnat_shared::time::Duration::from_secs(100),
        ..settings()
    };
    let mut script = Script::new(Rig::with(&settings, vec![]));
    script.play(OPEN);
    script
}

#[test]
fn rfc9293_3_8_4_a_dead_client_is_found_and_the_server_that_answers_is_reset() {
    let mut script = open_with_keepalive();
    script.play(
        "
        @ 101s
        << server ACK seq=100 ack=901 len=0
        << client ACK seq=900 ack=101 len=0
        >> server ACK seq=901 ack=101
        ",
    );
    let told = script.pass_quietly(210);
    let probes = |side: &str| told.iter().filter(|words| words.starts_with(&format!("{side} ACK"))).count();
    assert_eq!([probes("client"), probes("server")], [6, 4], "{told:?}");
    assert!(told.iter().any(|words| words.starts_with("server RST ACK seq=101")), "{told:?}");
    assert_eq!(told.last().unwrap(), "closed first_dead");
}

#[test]
fn rfc9293_3_8_4_a_pair_of_which_both_sides_answer_is_not_idle() {
    let mut script = open_with_keepalive();
    for _ in 0..10 {
        script.play(
            "
            @ 101s
            << server ACK seq=100 ack=901
            << client ACK seq=900 ack=101
            >> server ACK seq=901 ack=101
            >> client ACK seq=101 ack=901
            ",
        );
    }
}

#[test]
fn a_clients_own_keepalives_show_that_the_pair_is_not_idle() {
    let settings =
        pnat_shared::config::Proxy { idle_timeout: pnat_shared::time::Duration::from_secs(30), ..settings() };
    let mut script = Script::new(Rig::with(&settings, vec![]));
    script.play(OPEN);
    for _ in 0..5 {
        script.play("@ 20s\n >> client ACK seq=100 ack=901\n << client ACK seq=901 ack=101");
    }
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Unacceptable), 0);
}

#[test]
fn a_client_that_keeps_its_window_shut_ends_the_pair_in_the_end() {
    let settings =
        pnat_shared::config::Proxy { idle_timeout: pnat_shared::time::Duration::from_secs(30), ..settings() };
    let mut script = Script::new(Rig::with(&settings, vec![]));
    script.play(OPEN).play(
        "
        >> client ACK seq=101 ack=901 win=0
        >> server ACK seq=901 ack=101 data=hello
        @ 20s
        << server ACK ack=906
        << client ACK seq=901 len=1
        << client ACK seq=901 len=1
        << client ACK seq=901 len=1
        << client ACK seq=901 len=1
        << client ACK seq=901 len=1
        << client ACK seq=901 len=1
        >> client ACK seq=101 ack=901 win=0
        ",
    );
    let told = script.pass_quietly(15);
    assert!(told.iter().any(|words| words.starts_with("client RST")), "{told:?}");
    assert_eq!(told.last().unwrap(), "closed first_stalled");
}

#[test]
fn a_server_that_stops_answering_ends_the_pair_and_the_client_is_reset() {
    let mut script = open();
    script.play(">> client ACK seq=101 ack=901 data=hello\n << server data=hello");
    let told = script.pass_quietly(200);
    assert!(told.iter().any(|words| words.starts_with("client RST")), "{told:?}");
    assert_eq!(told.last().unwrap(), "closed second_timeout");
}

#[test]
fn an_operators_word_resets_both_sides() {
    open().play(
        "
        >> worker gone
        << server RST seq=101
        << client RST seq=901
        << closed operator
        ",
    );
}

#[test]
fn a_filter_may_reset_both_sides() {
    let (mut script, ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=reset
        << server RST seq=101
        << client RST seq=901
        << closed blocked
        ",
    );
    let end = ends.try_recv().unwrap().summary;
    assert_eq!((end.reason, end.received, end.sent), (CloseReason::Blocked, [5, 0], [0, 0]));
}

#[test]
fn a_filter_may_answer_the_client_and_reset_the_server() {
    let (mut script, ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=answer
        << server RST seq=101
        << client FIN ACK seq=901 ack=107 data=403
        >> client ACK seq=107 ack=905 data=ignored
        @ 100ms
        << client ACK ack=114
        >> client FIN ACK seq=114 ack=905
        << client ACK ack=115
        ",
    );
    let end = ends.try_recv().unwrap().summary;
    assert_eq!((end.reason, end.received, end.sent), (CloseReason::Blocked, [13, 0], [0, 3]));
    script.play("@ 3s\n << closed blocked");
}

#[test]
fn a_blocked_page_is_answered_by_a_403_and_the_server_sees_nothing_of_the_request() {
    let block = BlockFilter {
        patterns: Vec::new(),
        hosts: vec!["blocked.example".to_owned()],
        sni: Vec::new(),
        answer: BlockAnswer::Page("<p>no</p>".into()),
    };
    let mut script = script();
    let chains = Chains::compile(&policy_of([FilterKind::Block(block)]), WINDOW).unwrap();
    let snapshot = Snapshot { generation: POLICY, rules: vec!["rule".into()], chains: Arc::new(chains) };
    script.rig.reactor.set_policy(snapshot, POLICY);
    script.play(OPEN);
    let told = script.client_says(101, b"GET / HTTP/1.1\r\nHost: blocked.example\r\n\r\n");
    let [server, client] = told.as_slice() else { panic!("{told:?}") };
    assert!(server.starts_with("server RST ACK seq=101"), "{server}");
    assert!(client.starts_with("client FIN ACK seq=901"), "{client}");
    assert!(script.last_payload(Side::First).starts_with(b"HTTP/1.1 403"));
}

#[test]
fn a_client_that_ignores_the_answers_end_is_reset_in_the_end() {
    let (mut script, _ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=answer
        << server RST seq=101
        << client FIN ACK seq=901 ack=107 data=403
        >> client ACK seq=107 ack=905
        @ 11s
        << client RST
        << closed blocked
        ",
    );
}

#[test]
fn an_edit_shifts_the_numbers_of_one_leg_only() {
    let (mut script, _ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=double
        << server ACK seq=101 data=doubledouble
        >> server ACK seq=901 ack=113 data=ok
        << client ACK seq=901 ack=107 data=ok
        >> client FIN ACK seq=107 ack=903
        << server FIN ACK seq=113 ack=903
        << client ACK ack=108
        >> server ACK seq=903 ack=114
        ",
    );
}

#[test]
fn a_stream_ends_only_after_what_a_filter_held_came_out() {
    let (mut script, _ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hold
        @ 1s
        << client ACK ack=105
        >> client FIN ACK seq=105 ack=901
        << server FIN ACK seq=101 data=hold
        << client ACK ack=106
        >> server ACK seq=901 ack=106
        ",
    );
}

#[test]
fn a_filter_that_asked_to_be_woken_is() {
    let (mut script, _ends) = open_obedient();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=delayed
        @ 90ms
        << client ACK ack=108
        @ 15ms
        << server ACK seq=101 data=delayed
        >> server ACK seq=901 ack=108
        ",
    );
}

#[test]
fn a_flow_that_does_not_begin_with_a_syn_is_refused() {
    let mut script = script();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hello
        << closed malformed
        ",
    );
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Unacceptable), 1);
}

#[test]
fn a_pair_waits_for_frames_when_the_pool_is_dry() {
    let mut script = script();
    script.rig.pool.left = 0;
    script.play(
        "
        >> client SYN seq=100
        @ 10ms
        ",
    );
    let dry = script.rig.reactor.stats().drops.value(DropReason::NoFrame);
    assert!((2..20).contains(&dry), "tried {dry} times");
    script.rig.pool.left = 10;
    script.play("@ 2ms\n << server SYN seq=100");
}
