//! When the server is asked where a filter may answer in its place, as transcripts (`support/script.rs` explains the lines). The
//! client was accepted early. Its initial sequence number is 100, the cookie 900, the server's 5000.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;

use pnat_proxy::filter::Chains;
use pnat_proxy::reactor::{Rule, Snapshot};
use pnat_shared::config::{Accept, FilterKind, Http, LimitBy, LimitFilter, Policy, Proxy, Section};
use pnat_shared::flow::{Accepted, Side, WorkerId};
use pnat_shared::time::Duration;
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wire::tcp::{Flags, Options, Seq};
use support::filters::{End, busy_stand_in, stand_in};
use support::script::Script;
use support::{POLICY, Rig, WINDOW, handle, policy, policy_of, settings};

/// A pair whose client was accepted with these options of its own, and a filter that stands in for servers.
fn waiting_with(theirs: Options, settings: &Proxy) -> (Script, Receiver<End>) {
    let (filter, ends) = stand_in();
    (accepted(Rig::with(settings, vec![filter]), theirs), ends)
}

/// A client that was accepted early, with these options of its own.
fn accepted(mut rig: Rig, theirs: Options) -> Script {
    let ours = Options { mss: Some(1460), timestamps: theirs.timestamps.map(|_| (7000, 0)), ..theirs };
    rig.accepted = Some(Accepted { iss: Seq(900), irs: Seq(100), ours, theirs, window: 65_535, ecn: false });
    Script::new(rig)
}

fn waiting() -> (Script, Receiver<End>) {
    waiting_with(Options { mss: Some(1460), ..Options::default() }, &settings())
}

fn asked(script: &Script) -> u64 {
    script.rig.reactor.stats().servers_asked.value()
}

#[test]
fn a_server_is_asked_once_there_is_something_for_it_and_not_before() {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901
        @ 40s                                # longer than a server may take to answer
        ",
    );
    assert_eq!(asked(&script), 0);
    script.play(
        "
        >> client ACK seq=101 ack=901 data=miss
        << server SYN seq=100 mss=1460
        @ 60ms
        << client ACK seq=901 ack=105
        @ 40ms
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=miss
        >> server ACK seq=5001 ack=105 data=hello
        << client ACK seq=901 ack=105 data=hello
        >> server RST seq=5006
        << client RST ACK seq=906 ack=105
        << closed second_reset
        ",
    );
    assert_eq!(asked(&script), 1);
    let summary = ends.try_recv().unwrap().summary;
    assert_eq!(summary.connect, Some(Duration::from_millis(100)), "since the server was asked");
}

#[test]
fn the_syn_that_was_put_off_says_what_the_clients_did_and_its_clock_has_run_on() {
    let theirs = Options {
        mss: Some(1360),
        window_scale: Some(7),
        sack_permitted: true,
        timestamps: Some((9, 0)),
        ..Options::default()
    };
    let (mut script, _ends) = waiting_with(theirs, &settings());
    script.play(
        "
        >> client ACK seq=101 ack=901 ts=9/6980
        @ 500ms
        >> client ACK seq=101 ack=901 ts=509/6980 data=miss
        << server SYN seq=100 mss=1360 ws=7 sack tsecr=0
        ",
    );
    let (syn, _) = script.last_segment(Side::Second);
    assert_eq!(syn.options.timestamps, Some((509, 0)));
}

#[test]
fn a_client_that_is_served_by_a_filter_costs_no_server_anything() {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hit
        @ 60ms
        << client ACK seq=901 ack=104
        >> client FIN ACK seq=104 ack=901
        << client FIN ACK seq=901 ack=105 data=served
        >> client ACK seq=105 ack=908
        << closed finished
        ",
    );
    assert_eq!(asked(&script), 0);
    let summary = ends.try_recv().unwrap().summary;
    assert_eq!((summary.reason, summary.connect), (CloseReason::Finished, None));
    assert_eq!(summary.sent, [0, 6]);
    assert!(script.rig.reactor.is_empty());
}

#[test]
fn an_answer_that_takes_long_reaches_a_client_that_ended_long_before() {
    let is_busy = Arc::new(AtomicBool::new(true));
    let (filter, _ends) = busy_stand_in(Arc::clone(&is_busy));
    let mut script = accepted(Rig::new(vec![filter]), Options::default());
    script.play(
        "
        >> client FIN ACK seq=101 ack=901 data=hit
        << client ACK seq=901 ack=105
        @ 5s
        ",
    );
    is_busy.store(false, Ordering::Relaxed);
    script.play(
        "
        >> client ACK seq=105 ack=901        # anything that has the pair looked at
        << client FIN ACK seq=901 ack=105 data=served
        >> client ACK seq=105 ack=908
        << closed finished
        ",
    );
    assert_eq!(asked(&script), 0);
}

#[test]
fn a_filters_last_word_needs_no_server() {
    let (mut script, _ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=page
        << client FIN ACK seq=901 ack=105 data=served
        >> client FIN ACK seq=105 ack=908
        << client ACK seq=908 ack=106
        @ 10s
        << closed finished
        ",
    );
    assert_eq!(asked(&script), 0);
}

#[test]
fn a_client_that_says_nothing_and_ends_is_told_the_end() {
    let (mut script, _ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901
        >> client FIN ACK seq=101 ack=901
        << client FIN ACK seq=901 ack=102
        >> client ACK seq=102 ack=902
        << closed finished
        ",
    );
    assert_eq!(asked(&script), 0);
}

#[test]
fn a_client_that_ends_behind_what_is_for_the_server_has_it_asked() {
    waiting().0.play(
        "
        >> client ACK seq=101 ack=901
        >> client FIN ACK seq=101 ack=901 data=miss
        << server SYN seq=100
        << client ACK seq=901 ack=106
        >> server SYN ACK seq=5000 ack=101
        << server FIN ACK seq=101 ack=5001 data=miss
        >> server FIN ACK seq=5001 ack=106
        << server ACK seq=106 ack=5002
        << client FIN ACK seq=901 ack=106
        >> client ACK seq=106 ack=902
        @ 10s
        << closed finished
        ",
    );
}

#[test]
fn a_client_that_resets_while_no_server_is_asked_ends_the_pair() {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hit
        >> client RST seq=104
        << closed first_reset
        ",
    );
    assert_eq!(ends.try_recv().unwrap().summary.connect, None);
}

#[test]
fn nobody_may_speak_for_a_server_that_was_not_asked() {
    let (mut script, _ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901
        >> server SYN ACK seq=5000 ack=101
        >> server SYN seq=5000
        >> server RST ACK seq=0 ack=101
        >> server ACK seq=1 ack=101 data=forged
        >> client ACK seq=101 ack=901 data=miss
        << server SYN seq=100
        ",
    );
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Unacceptable), 4);
}

#[test]
fn a_client_that_stays_idle_is_let_go_of() {
    let settings = Proxy { idle_timeout: Duration::from_secs(20), ..settings() };
    let (mut script, _ends) = waiting_with(Options::default(), &settings);
    script.play(
        "
        >> client ACK seq=101 ack=901
        @ 21s
        << client RST ACK seq=901 ack=101
        << closed idle
        ",
    );
    assert_eq!(asked(&script), 0);
}

#[test]
fn a_word_from_the_worker_ends_a_pair_that_waits() {
    waiting().0.play(
        "
        >> client ACK seq=101 ack=901
        >> worker gone
        << client RST ACK seq=901 ack=101
        << closed operator
        ",
    );
}

/// A pair whose client was accepted early because there were too many, and not because its rule says so.
fn flooded() -> Script {
    let (filter, _ends) = stand_in();
    let mut snapshot = policy(vec![filter]);
    snapshot.rules = vec!["rule".into()];
    let mut rig = Rig::new(vec![]);
    rig.reactor.set_policy(snapshot, POLICY);
    accepted(rig, Options::default())
}

#[test]
fn rfc4987_under_a_flood_a_server_that_speaks_first_is_heard_all_the_same() {
    flooded().play(
        "
        >> client ACK seq=101 ack=901
        @ 990ms
        @ 20ms
        << server SYN seq=100
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001
        >> server ACK seq=5001 ack=101 data=220
        << client ACK seq=901 ack=101 data=220
        ",
    );
}

#[test]
fn rfc4987_under_a_flood_a_client_that_speaks_first_is_served_without_its_server() {
    let mut script = flooded();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=hit
        @ 5s
        << client ACK seq=901 ack=104
        >> client FIN ACK seq=104 ack=901
        << client FIN ACK seq=901 ack=105 data=served
        ",
    );
    assert_eq!(asked(&script), 0);
}

#[test]
fn a_client_that_is_accepted_late_has_its_server_asked_at_once() {
    let (filter, _ends) = stand_in();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        ",
    );
    assert_eq!(asked(&script), 1);
}

#[test]
fn what_waits_for_a_server_that_is_asked_late_is_all_there_when_it_answers() {
    let (mut script, _ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901
        >> client ACK seq=101 ack=901 data=one
        << server SYN seq=100
        @ 60ms
        << client ACK seq=901 ack=104
        >> client ACK seq=104 ack=901 data=two
        @ 60ms
        << client ACK seq=901 ack=107
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=onetwo
        ",
    );
    assert_eq!(script.last_payload(Side::Second), b"onetwo");
}

/// A pair whose server has been asked, with something to say to the client where it fails.
fn excused() -> (Script, Receiver<End>) {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=sorry,502
        << server SYN seq=100
        @ 60ms
        << client ACK seq=901 ack=110
        ",
    );
    (script, ends)
}

#[test]
fn a_server_that_refuses_is_excused_by_a_filter_and_the_true_reason_recorded() {
    let (mut script, ends) = excused();
    script.play(
        "
        >> server RST ACK seq=0 ack=101
        << client FIN ACK seq=901 ack=110 data=502
        >> client ACK seq=110 ack=905
        >> client FIN ACK seq=110 ack=905
        << client ACK seq=905 ack=111
        @ 10s
        << closed refused
        ",
    );
    let End { summary, verdict, .. } = ends.try_recv().unwrap();
    assert_eq!((summary.reason, summary.sent), (CloseReason::Refused, [0, 3]));
    assert_eq!(verdict.as_deref(), Some("filter-0: the server: refused"));
}

#[test]
fn a_server_that_cannot_be_reached_is_excused_by_a_filter() {
    excused().0.play(
        "
        >> server ICMP 3/1
        << client FIN ACK seq=901 ack=110 data=502
        >> client RST seq=110
        << closed unreachable
        ",
    );
}

#[test]
fn a_silent_server_is_excused_by_a_filter_when_the_time_since_it_was_asked_is_over() {
    let settings = Proxy { connect_timeout: Duration::from_millis(2500), ..settings() };
    waiting_with(Options::default(), &settings).0.play(
        "
        >> client ACK seq=101 ack=901
        @ 5s
        >> client ACK seq=101 ack=901 data=sorry,504
        << server SYN seq=100
        @ 1100ms
        << client ACK seq=901 ack=110
        << server SYN seq=100
        @ 1500ms
        << client FIN ACK seq=901 ack=110 data=504
        >> client RST seq=110
        << closed connect_timeout
        ",
    );
}

#[test]
fn a_server_that_breaks_off_is_excused_behind_what_it_has_said() {
    let (mut script, ends) = excused();
    script.play(
        "
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=sorry,502
        >> server ACK seq=5001 ack=110 data=half
        >> server RST seq=5005
        << client ACK seq=901 ack=110 data=half
        << client FIN ACK seq=905 ack=110 data=502
        >> client FIN ACK seq=110 ack=909
        << client ACK seq=909 ack=111
        @ 10s
        << closed second_reset
        ",
    );
    assert_eq!(ends.try_recv().unwrap().summary.reason, CloseReason::SecondReset);
}

#[test]
fn an_excuse_passes_the_filters_between_and_what_the_client_says_then_is_dropped() {
    let (stand_in, _ends) = stand_in();
    let (obedient, _) = support::filters::obedient();
    accepted(Rig::new(vec![obedient, stand_in]), Options::default()).play(
        "
        >> client ACK seq=101 ack=901 data=sorry,double
        << server SYN seq=100
        @ 60ms
        << client ACK seq=901 ack=113
        >> server RST ACK seq=0 ack=101
        << client FIN ACK seq=901 ack=113 data=doubledouble
        >> client ACK seq=113 ack=914 data=more
        @ 60ms
        << client ACK seq=914 ack=117
        >> client FIN ACK seq=117 ack=914
        << client ACK seq=914 ack=118
        @ 10s
        << closed refused
        ",
    );
}

#[test]
fn a_server_that_no_filter_excuses_is_told_by_a_reset() {
    waiting().0.play(
        "
        >> client ACK seq=101 ack=901 data=miss
        << server SYN seq=100
        >> server RST ACK seq=0 ack=101
        << client RST ACK seq=901 ack=105
        << closed refused
        ",
    );
}

#[test]
fn a_client_that_resets_while_an_excuse_is_on_its_way_ends_the_pair() {
    excused().0.play(
        "
        >> server RST ACK seq=0 ack=101
        << client FIN ACK seq=901 ack=110 data=502
        >> client RST seq=110
        << closed refused
        ",
    );
}

#[test]
fn no_filter_speaks_for_a_server_whose_client_was_accepted_late() {
    let (filter, _ends) = stand_in();
    Script::new(Rig::new(vec![filter])).play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        >> client ACK seq=101 ack=901 data=sorry,502
        << server ACK seq=101 ack=901 data=sorry,502
        >> server RST seq=901
        << client RST
        << closed second_reset
        ",
    );
}

/// The number of the SYN that the server was sent last.
fn iss(script: &Script) -> u32 {
    script.last_segment(Side::Second).0.seq.0
}

#[test]
fn the_first_server_may_be_another_than_the_client_named() {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=to,192.0.2.9:8080
        << server IS 192.0.2.9:8080
        << server SYN seq=100 mss=1460
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=to,192.0.2.9:8080
        >> server ACK seq=5001 ack=118 data=hello
        << client ACK seq=901 ack=118 data=hello
        >> client RST seq=118
        << server RST
        << closed first_reset
        ",
    );
    assert_eq!(asked(&script), 1);
    assert_eq!(script.rig.reactor.stats().retargets.value(), 1);
    assert_eq!(ends.try_recv().unwrap().target, Some("192.0.2.9:8080".parse().unwrap()));
}

/// A pair that has asked the server which the client named, and was answered.
fn served() -> (Script, Receiver<End>) {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=miss
        << server SYN seq=100
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=miss
        >> server ACK seq=5001 ack=105 data=hello
        << client ACK seq=901 ack=105 data=hello
        ",
    );
    (script, ends)
}

/// The same, after which the client says what is for another one.
fn turned() -> (Script, Receiver<End>, u32) {
    let (mut script, ends) = served();
    script.play(
        "
        >> client ACK seq=105 ack=906 data=to,192.0.2.9:8080
        << server RST ACK seq=105 ack=5006
        << server IS 192.0.2.9:8080
        << server SYN mss=1460
        @ 60ms
        << client ACK seq=906 ack=122
        ",
    );
    let iss = iss(&script);
    (script, ends, iss)
}

#[test]
fn another_server_is_asked_by_numbers_of_its_own_and_the_client_never_notices() {
    let (mut script, ends, iss) = turned();
    assert!(iss.wrapping_sub(105) < 1 << 31, "behind all that was said to the one before");
    script.play(&format!(
        "
        >> server SYN ACK seq=70000 ack={a}
        << server ACK seq={a} ack=70001 data=to,192.0.2.9:8080
        >> server ACK seq=70001 ack={b} data=other
        << client ACK seq=906 ack=122 data=other
        >> client FIN ACK seq=122 ack=911
        << server FIN ACK seq={b} ack=70006
        << client ACK seq=911 ack=123
        >> server FIN ACK seq=70006 ack={c}
        << server ACK seq={c} ack=70007
        << client FIN ACK seq=911 ack=123
        >> client ACK seq=123 ack=912
        @ 10s
        << closed finished
        ",
        a = iss + 1,
        b = iss + 18,
        c = iss + 19,
    ));
    assert_eq!(asked(&script), 2);
    let end = ends.try_recv().unwrap();
    assert_eq!(end.target, Some("192.0.2.9:8080".parse().unwrap()));
    assert_eq!(end.summary.sent, [21, 10]);
}

#[test]
fn what_the_server_before_still_says_is_never_heard() {
    let (mut script, _ends, iss) = turned();
    script.play(&format!(
        "
        >> server ACK seq=5006 ack=105 data=stale    # was in the ring already
        << server RST seq=105
        >> server RST seq=5006
        >> server FIN ACK seq=5006 ack=105
        << server RST seq=105
        >> server SYN ACK seq=70000 ack={a}
        << server ACK seq={a} ack=70001 data=to,192.0.2.9:8080
        ",
        a = iss + 1
    ));
}

#[test]
fn the_server_that_the_client_named_may_be_turned_to_again() {
    let (mut script, ends, iss) = turned();
    script.play(&format!(
        "
        >> server SYN ACK seq=70000 ack={a}
        << server ACK seq={a} ack=70001 data=to,192.0.2.9:8080
        >> server ACK seq=70001 ack={b} data=other
        << client ACK seq=906 ack=122 data=other
        >> client ACK seq=122 ack=911 data=home
        << server RST ACK seq={b} ack=70006
        << server IS 203.0.113.1:80
        << server SYN
        ",
        a = iss + 1,
        b = iss + 18,
    ));
    let again = self::iss(&script);
    assert!(again.wrapping_sub(iss + 18) < 1 << 31);
    script.play(&format!(
        "
        >> server RST ACK seq=0 ack={}
        << client RST
        << closed refused
        ",
        again.wrapping_add(1)
    ));
    assert_eq!(ends.try_recv().unwrap().target, None);
    assert_eq!(script.rig.reactor.stats().retargets.value(), 2);
}

#[test]
fn a_server_that_is_left_before_it_answered_hears_no_more() {
    waiting().0.play(
        "
        >> client ACK seq=101 ack=901 data=miss
        << server SYN seq=100
        @ 60ms
        << client ACK seq=901 ack=105
        >> client ACK seq=105 ack=901 data=to,192.0.2.9:80
        << server IS 192.0.2.9:80
        << server SYN mss=1460
        ",
    );
}

#[test]
fn one_more_word_for_the_same_server_changes_nothing() {
    let (mut script, _ends, iss) = turned();
    script.play(&format!(
        "
        >> server SYN ACK seq=70000 ack={a}
        << server ACK seq={a} ack=70001 data=to,192.0.2.9:8080
        >> client ACK seq=122 ack=906 data=to,192.0.2.9:8080
        << server ACK seq={b} ack=70001 data=to,192.0.2.9:8080
        ",
        a = iss + 1,
        b = iss + 18,
    ));
    assert_eq!(asked(&script), 2);
}

#[test]
fn a_server_that_cannot_be_had_is_one_that_cannot_be_reached() {
    let (mut script, ends, _) = turned();
    script.play(
        "
        >> server ICMP 3/1
        << client RST
        << closed unreachable
        ",
    );
    assert_eq!(ends.try_recv().unwrap().summary.reason, CloseReason::Unreachable);
}

#[test]
fn where_the_client_was_accepted_late_no_server_can_be_chosen() {
    let (filter, ends) = stand_in();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client SYN seq=100 mss=1460
        << server SYN seq=100
        >> server SYN ACK seq=900 ack=101 mss=1460
        << server ACK seq=101 ack=901
        << client SYN ACK seq=900 ack=101
        >> client ACK seq=101 ack=901 data=to,192.0.2.9:80
        << server ACK seq=101 ack=901 data=to,192.0.2.9:80
        >> server RST seq=901
        << client RST
        << closed second_reset
        ",
    );
    assert_eq!(ends.try_recv().unwrap().target, None);
    assert_eq!(script.rig.reactor.stats().targets_ignored.value(), 1);
}

#[test]
fn another_public_address_stands_in_the_record() {
    let (mut script, ends, _) = turned();
    script.rig.moved(handle(0), "198.18.0.1:6000".parse().unwrap());
    script.rig.burst();
    script.play(
        "
        >> client RST seq=122
        << closed first_reset
        ",
    );
    assert_eq!(ends.try_recv().unwrap().public, "198.18.0.1:6000".parse().unwrap());
}

/// A pair whose server has answered and ended its stream, which the client was not told.
fn parted() -> (Script, Receiver<End>) {
    let (mut script, ends) = waiting();
    script.play(
        "
        >> client ACK seq=101 ack=901 data=stay
        << server SYN seq=100
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=stay
        >> server ACK seq=5001 ack=105 data=hello
        << client ACK seq=901 ack=105 data=hello
        >> client ACK seq=105 ack=906
        >> server FIN ACK seq=5006 ack=105
        << server FIN ACK seq=105 ack=5007
        ",
    );
    (script, ends)
}

#[test]
fn a_client_that_is_kept_does_not_learn_that_its_server_has_ended_and_has_it_asked_anew() {
    let (mut script, ends) = parted();
    script.play(
        "
        >> server ACK seq=5007 ack=106
        @ 40s
        >> client ACK seq=105 ack=906 data=more
        << server IS 203.0.113.1:80
        << server SYN mss=1460
        @ 60ms
        << client ACK seq=906 ack=109
        ",
    );
    let iss = iss(&script);
    assert!(iss.wrapping_sub(106) < 1 << 31, "behind the connection before: its server may be in TIME-WAIT");
    script.play(&format!(
        "
        >> server SYN ACK seq=9000 ack={a}
        << server ACK seq={a} ack=9001 data=more
        >> server FIN ACK seq=9001 ack={b} data=again
        << server FIN ACK seq={b} ack=9007
        << client ACK seq=906 ack=109 data=again
        >> server ACK seq=9007 ack={c}
        >> client FIN ACK seq=109 ack=911 data=done
        << client FIN ACK seq=911 ack=114
        >> client ACK seq=114 ack=912
        << closed finished
        ",
        a = iss + 1,
        b = iss + 5,
        c = iss + 6,
    ));
    assert_eq!(asked(&script), 2);
    let end = ends.try_recv().unwrap();
    assert_eq!((end.summary.sent, end.target), ([8, 10], None));
    assert!(script.rig.reactor.is_empty());
}

#[test]
fn the_client_may_ask_for_more_before_the_server_has_acknowledged_our_end() {
    let (mut script, _ends) = parted();
    script.play(
        "
        >> client ACK seq=105 ack=906 data=more
        << server IS 203.0.113.1:80
        << server SYN mss=1460
        >> server FIN ACK seq=5006 ack=105     # the end, which it believes to be lost
        << server RST seq=105
        ",
    );
    assert_eq!(asked(&script), 2);
}

#[test]
fn our_end_is_repeated_to_a_server_that_is_not_needed_any_more() {
    parted().0.play(
        "
        @ 300ms
        << server FIN ACK seq=105 ack=5007
        >> server RST seq=5007
        @ 10s
        >> client RST seq=105
        << closed first_reset
        ",
    );
}

/// A pair that asked its server for `word`, and was answered.
fn kept(word: &str) -> (Script, Receiver<End>, usize) {
    let (mut script, ends) = waiting();
    let behind = 101 + word.len();
    script.play(&format!(
        "
        >> client ACK seq=101 ack=901 data={word}
        << server SYN seq=100
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data={word}
        >> server ACK seq=5001 ack={behind} data=hello
        << client ACK seq=901 ack={behind} data=hello
        >> client ACK seq={behind} ack=906
        ",
    ));
    (script, ends, behind)
}

#[test]
fn a_client_that_is_kept_does_not_learn_that_its_server_has_failed_and_has_it_asked_anew() {
    let (mut script, _ends, behind) = kept("stay");
    script.play(&format!(
        "
        >> server RST seq=5006
        @ 40s
        >> client ACK seq={behind} ack=906 data=more
        << server IS 203.0.113.1:80
        << server SYN mss=1460
        @ 60ms
        << client ACK seq=906 ack=109
        ",
    ));
    let iss = iss(&script);
    // Nor that it refuses.
    script.play(&format!(
        "
        >> server RST ACK seq=0 ack={}
        @ 1s
        >> client ACK seq=109 ack=906 data=more
        << server IS 203.0.113.1:80
        << server SYN mss=1460
        @ 60ms
        << client ACK seq=906 ack=113
        ",
        iss + 1
    ));
    let iss = self::iss(&script);
    script.play(&format!(
        "
        >> server SYN ACK seq=9000 ack={a}
        << server ACK seq={a} ack=9001 data=more
        >> server ACK seq=9001 ack={b} data=again
        << client ACK seq=906 ack=113 data=again
        ",
        a = iss + 1,
        b = iss + 5,
    ));
    assert_eq!(asked(&script), 3);
}

#[test]
fn what_a_filter_asks_again_for_goes_to_the_next_server_at_once() {
    for end in
        [">> server RST seq=5006", ">> server FIN ACK seq=5006 ack=111\n<< server RST ACK seq=111 ack=5007"]
    {
        let (mut script, _ends, behind) = kept("stay,again");
        assert_eq!(behind, 111);
        script.play(&format!("{end}\n<< server IS 203.0.113.1:80\n<< server SYN mss=1460\n"));
        let iss = iss(&script);
        script.play(&format!(
            "
            >> server SYN ACK seq=9000 ack={a}
            << server ACK seq={a} ack=9001 data=again
            ",
            a = iss + 1,
        ));
        assert_eq!(asked(&script), 2);
    }
}

#[test]
fn a_server_that_filters_leave_is_reset_and_the_next_word_is_for_another_connection() {
    let (mut script, _ends, behind) = kept("stay");
    script.play(&format!(
        "
        >> client ACK seq={behind} ack=906 data=leave
        << server RST ACK seq=105 ack=5006
        >> server ACK seq=5006 ack=105 data=late
        << server RST seq=105
        >> client ACK seq=110 ack=906 data=more
        << server IS 203.0.113.1:80
        << server SYN mss=1460
        << client ACK seq=906 ack=114
        ",
    ));
    assert_eq!(asked(&script), 2);
}

#[test]
fn a_client_that_is_kept_no_more_is_told_the_end_that_came_long_ago() {
    parted().0.play(
        "
        >> server ACK seq=5007 ack=106
        >> client ACK seq=105 ack=906 data=done
        << client FIN ACK seq=906 ack=109
        >> client FIN ACK seq=109 ack=907
        << client ACK seq=907 ack=110
        @ 10s
        << closed finished
        ",
    );
}

#[test]
fn a_client_that_is_kept_is_let_go_of_when_it_stays_idle() {
    let settings = Proxy { idle_timeout: Duration::from_secs(20), ..settings() };
    waiting_with(Options::default(), &settings).0.play(
        "
        >> client ACK seq=101 ack=901 data=stay
        << server SYN seq=100
        >> server SYN ACK seq=5000 ack=101
        << server ACK seq=101 ack=5001 data=stay
        >> server FIN ACK seq=5001 ack=105
        << server FIN ACK seq=105 ack=5002
        >> server ACK seq=5002 ack=106
        @ 60ms
        << client ACK seq=901 ack=105
        @ 21s
        << client RST ACK seq=901 ack=105
        << closed idle
        ",
    );
}

#[test]
fn a_client_that_ends_while_it_is_kept_is_told_the_end() {
    let (mut script, _ends) = parted();
    script.play(
        "
        >> server ACK seq=5007 ack=106
        >> client FIN ACK seq=105 ack=906
        << client FIN ACK seq=906 ack=106
        >> client ACK seq=106 ack=907
        << closed finished
        ",
    );
    assert_eq!(asked(&script), 1);
}

#[test]
fn word_of_another_server_waits_where_packets_are_dropped() {
    let (mut script, _ends) = waiting();
    script.queue("client ACK seq=101 ack=901 data=to,192.0.2.9:8080");
    script.rig.burst();
    assert_eq!(script.rig.out.shed(WorkerId(0), 0), 1, "the SYN, which will come again");
    assert_eq!(script.rig.told(), ["server IS 192.0.2.9:8080"]);
}

fn web(kind: &str, keys: &str) -> FilterKind {
    FilterKind::Http(Section {
        kind: kind.to_owned(),
        keys: toml::from_str(keys).expect("TOML"),
        file: "pnat.toml".into(),
        line: 1,
        lines: BTreeMap::new(),
    })
}

const TWO: &str = "servers = [{ address = '198.18.0.3:80' }, { address = '198.18.0.4:80' }]";

/// A client of HTTP that was accepted early, through these filters.
fn surfer<const N: usize>(filters: [FilterKind; N]) -> Script {
    let policy = Policy {
        http: Http { response_timeout: Duration::from_secs(2), ..Http::default() },
        ..policy_of(filters)
    };
    let chains = Chains::compile(&policy, WINDOW).expect("the filter can be made");
    let mut rig = Rig::with(&settings(), Vec::new());
    let rule = Rule { accept: Accept::Early, .."rule".into() };
    rig.reactor.set_policy(Snapshot { generation: POLICY, rules: vec![rule], chains: Arc::new(chains) }, 1);
    let mut script = accepted(rig, Options { mss: Some(1460), ..Options::default() });
    script.play(
        "
        >> client ACK seq=101 ack=901
        ",
    );
    script
}

/// The same, whose request goes through a filter of this kind, and its server gets a SYN for it.
fn asking_through(kind: &str, keys: &str) -> Script {
    let mut script = surfer([web(kind, keys)]);
    let told = script.client_says(101, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    assert!(told.iter().any(|told| told.contains("server SYN")), "{told:?}");
    script
}

fn asking() -> Script {
    asking_through("http-log", "path = 'access.log'")
}

fn requested() -> Script {
    requested_through("http-log", "path = 'access.log'")
}

/// The same, and the server has accepted.
fn requested_through(kind: &str, keys: &str) -> Script {
    let mut script = asking_through(kind, keys);
    script.queue("server SYN ACK seq=5000 ack=101");
    let told = script.take();
    assert!(script.last_payload(Side::Second).starts_with(b"GET / "), "{told:?}");
    script.queue("server ACK seq=5001 ack=136");
    script.take();
    script
}

#[test]
fn a_client_of_http_whose_server_breaks_off_is_told_502_and_the_true_reason_recorded() {
    let mut script = requested();
    script.queue("server RST seq=5001");
    script.take();
    let told = script.last_segment(Side::First);
    assert!(told.0.flags.has(Flags::FIN) && told.1.starts_with(b"HTTP/1.1 502 "), "{told:?}");
    let end = 901 + told.1.len() + 1;
    script.play(&format!(
        "
        >> client FIN ACK seq=136 ack={end}
        << client ACK seq={end} ack=137
        @ 10s
        << closed second_reset
        ",
    ));
}

#[test]
fn a_client_of_http_whose_server_cannot_be_reached_is_told_502() {
    let mut script = asking();
    script.queue("server ICMP 3/1");
    script.take();
    let told = script.last_segment(Side::First);
    assert!(told.0.flags.has(Flags::FIN) && told.1.starts_with(b"HTTP/1.1 502 "), "{told:?}");
    let end = 901 + told.1.len() + 1;
    script.play(&format!(
        "
        >> client FIN ACK seq=136 ack={end}
        << client ACK seq={end} ack=137
        @ 10s
        << closed unreachable
        ",
    ));
}

#[test]
fn a_client_of_http_whose_server_says_nothing_is_told_504_in_time_and_the_server_is_reset() {
    let mut script = requested();
    let begun = script.rig.now;
    script.play(
        "
        @ 1900ms
        << client ACK seq=901 ack=136
        ",
    );
    assert_eq!(script.last_payload(Side::First), b"");
    script.play(
        "
        @ 100ms
        << server RST ACK seq=136 ack=5001
        << client FIN ACK seq=901 ack=136 len
        ",
    );
    assert!(script.rig.now >= begun + Duration::from_secs(2));
    let told = script.last_segment(Side::First);
    assert!(told.0.flags.has(Flags::FIN) && told.1.starts_with(b"HTTP/1.1 504 "), "{told:?}");
    let end = 901 + told.1.len() + 1;
    script.play(&format!(
        "
        >> client FIN ACK seq=136 ack={end}
        << client ACK seq={end} ack=137
        @ 10s
        << closed second_timeout
        ",
    ));
}

#[test]
fn a_request_that_another_server_has_got_ends_as_that_one_does() {
    let mut script = requested_through("redirect", TWO);
    script.queue("server RST seq=5001");
    let told = script.take();
    assert!(told.iter().any(|told| told.contains("server IS 198.18.0.4:80")), "{told:?}");
    let iss = iss(&script);
    script.queue(&format!("server SYN ACK seq=70000 ack={}", iss.wrapping_add(1)));
    script.take();
    assert!(script.last_payload(Side::Second).starts_with(b"GET / "));
    script.queue(&format!("server ACK seq=70001 ack={}", iss.wrapping_add(36)));
    script.take();
    script.play(
        "
        @ 60ms
        << client ACK seq=901 ack=136
        @ 2s
        << server RST ACK ack=70001
        << client FIN ACK seq=901 ack=136 len
        ",
    );
    let told = script.last_segment(Side::First);
    assert!(told.1.starts_with(b"HTTP/1.1 504 "), "{told:?}");
    let end = 901 + told.1.len() + 1;
    script.play(&format!(
        "
        >> client FIN ACK seq=136 ack={end}
        << client ACK seq={end} ack=137
        @ 10s
        << closed second_timeout
        ",
    ));
}

#[test]
fn what_of_a_request_had_not_reached_a_server_that_left_is_not_for_the_next_one() {
    let limit = LimitFilter { by: LimitBy::Flow, bytes_per_second: 1000, burst: 10 };
    let mut script = surfer([web("redirect", TWO), FilterKind::Limit(limit)]);
    let request = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    script.client_says(101, request);
    script.queue("server RST ACK seq=0 ack=101");
    script.take();
    let told = script.pass_quietly(1);
    assert!(told.iter().any(|told| told.contains("server IS 198.18.0.4:80")), "{told:?}");
    let mut next = iss(&script).wrapping_add(1);
    script.queue(&format!("server SYN ACK seq=70000 ack={next}"));
    let mut asked = Vec::new();
    for _ in 0..10 {
        script.take();
        let (header, payload) = script.last_segment(Side::Second);
        if header.seq.0 == next {
            next = next.wrapping_add(payload.len() as u32);
            asked.extend(payload);
        }
        script.pass_quietly(0);
        script.rig.now += Duration::from_millis(20);
        script.queue(&format!("server ACK seq=70001 ack={next}"));
    }
    assert_eq!(String::from_utf8_lossy(&asked), String::from_utf8_lossy(request));
}

#[test]
fn a_response_that_a_filter_lets_through_slowly_is_not_lost_with_the_servers_end() {
    let limit = LimitFilter { by: LimitBy::Flow, bytes_per_second: 1000, burst: 10 };
    let mut script = surfer([web("http-log", "path = 'access.log'"), FilterKind::Limit(limit)]);
    script.client_says(101, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    script.queue("server SYN ACK seq=5000 ack=101");
    script.take();
    for _ in 0..10 {
        script.rig.now += Duration::from_millis(20);
        script.queue("server ACK seq=5001 ack=136");
        script.take();
    }
    let response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    script.server_says(5001, 136, response);
    script.queue(&format!("server FIN ACK seq={} ack=136", 5001 + response.len()));
    let mut got = Vec::new();
    for _ in 0..10 {
        script.take();
        let (header, payload) = script.last_segment(Side::First);
        if header.seq.0 == 901 + got.len() as u32 {
            got.extend(payload);
        }
        script.rig.now += Duration::from_millis(20);
        script.queue(&format!("client ACK seq=136 ack={}", 901 + got.len()));
    }
    assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(response));
    assert!(script.last_segment(Side::First).0.flags.has(Flags::FIN));
}

#[test]
fn a_client_that_has_ended_its_stream_is_told_of_its_server_all_the_same() {
    let mut script = surfer([web("redirect", TWO)]);
    script.client_says(101, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n");
    script.queue("client FIN ACK seq=136 ack=901");
    script.take();
    script.queue("server RST ACK seq=0 ack=101");
    let told = script.take();
    let (header, payload) = script.last_segment(Side::First);
    assert!(header.flags.has(Flags::FIN) && payload.starts_with(b"HTTP/1.1 502 "), "{told:?}");
}
