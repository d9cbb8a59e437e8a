//! What a UDP association does, as transcripts (`support/script.rs` explains the lines).

mod support;

use pnat_shared::loopback::FromProxy;
use pnat_shared::path_mtu::{MtuCause, PathMtu};
use pnat_shared::verdict::{CloseReason, DropReason};
use support::filters::obedient;
use support::script::Script;
use support::{Rig, handle, settings};

fn script() -> Script {
    Script::new(Rig::new(vec![]))
}

#[test]
fn datagrams_pass_both_ways_with_their_boundaries() {
    script().play(
        "
        >> client UDP data=one
        >> client UDP data=two
        << server UDP data=one
        << server UDP data=two
        >> server UDP data=three
        << client UDP data=three
        ",
    );
}

#[test]
fn empty_and_full_datagrams_pass() {
    script().play(
        "
        >> client UDP
        << server UDP len=0
        >> server UDP fill=1472
        << client UDP len=1472
        ",
    );
}

#[test]
fn a_datagram_longer_than_the_path_is_dropped_and_its_sender_told_the_mtu() {
    let mut script = script();
    script.play(
        "
        >> client UDP fill=1473
        << client ICMP 3/4 mtu=1500 quoted=UDP
        ",
    );
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Oversized), 1);
}

#[test]
fn an_edited_datagram_leaves_with_its_new_length_or_is_dropped_where_it_outgrows_the_path() {
    let (filter, _) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client UDP data=double
        << server UDP len=12 data=doubledouble
        >> client UDP data=grow
        >> client UDP data=last
        << server UDP data=last
        ",
    );
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Oversized), 1);
}

#[test]
fn a_delayed_datagram_keeps_its_place() {
    let (filter, _) = obedient();
    Script::new(Rig::new(vec![filter])).play(
        "
        >> client UDP data=delay
        >> client UDP data=behind
        @ 99ms
        @ 3ms
        << server UDP data=delay
        << server UDP data=behind
        ",
    );
}

#[test]
fn a_dropped_datagram_is_counted() {
    let (filter, _) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(">> client UDP data=drop");
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::Filtered), 1);
}

#[test]
fn a_closed_association_tells_the_client_once_and_passes_nothing_more() {
    let (filter, ends) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client UDP data=fine
        << server UDP data=fine
        >> client UDP data=close
        << client ICMP 3/13 quoted=UDP
        >> client UDP data=fine
        >> server UDP data=fine
        @ 61s
        << closed blocked
        ",
    );
    let end = ends.try_iter().collect::<Vec<_>>();
    assert_eq!(end.len(), 1);
    assert_eq!(end[0].summary.reason, CloseReason::Blocked);
    assert_eq!(end[0].rule.as_deref(), Some("rule"));
}

#[test]
fn an_icmp_error_of_one_side_is_mirrored_to_the_other() {
    script().play(
        "
        >> client UDP data=query
        << server UDP data=query
        >> server ICMP 3/3
        << client ICMP 3/3 mtu=0 quoted=UDP
        >> server ICMP 3/4 mtu=1280
        << client ICMP 3/4 mtu=1280 quoted=UDP
        >> server UDP data=answer
        << client UDP data=answer
        >> client ICMP 3/3
        << server ICMP 3/3 quoted=UDP
        ",
    );
}

#[test]
fn silence_ends_an_association_and_its_record_counts_what_passed() {
    let (filter, ends) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.play(
        "
        >> client UDP data=query
        << server UDP data=query
        @ 40s
        >> server UDP data=answers
        << client UDP data=answers
        @ 59s
        @ 2s
        << closed idle
        ",
    );
    let end = ends.try_recv().unwrap().summary;
    assert_eq!(
        (end.reason, end.received, end.sent, end.packets),
        (CloseReason::Idle, [5, 7], [5, 7], [1, 1])
    );
    assert!(script.rig.reactor.is_empty());
    assert_eq!(script.rig.reactor.stats().open_udp.value(), 0);
}

#[test]
fn the_worker_may_end_an_association() {
    script().play(
        "
        >> client UDP data=query
        << server UDP data=query
        >> worker gone
        << closed operator
        >> server UDP data=late
        ",
    );
}

#[test]
fn an_edit_without_a_frame_is_dropped_and_counted_but_what_passes_needs_none() {
    let (filter, _) = obedient();
    let mut script = Script::new(Rig::new(vec![filter]));
    script.rig.pool.left = 0;
    script.play(
        "
        >> client UDP data=double
        >> client UDP data=fine
        << server UDP data=fine
        ",
    );
    assert_eq!(script.rig.reactor.stats().drops.value(DropReason::NoFrame), 1);
}

#[test]
fn the_idle_timeout_is_the_configured_one() {
    let settings =
        pnat_shared::config::Proxy { udp_timeout: pnat_shared::time::Duration::from_secs(5), ..settings() };
    Script::new(Rig::with(&settings, vec![])).play(
        "
        >> client UDP data=query
        << server UDP data=query
        @ 4s
        @ 2s
        << closed idle
        ",
    );
}

/// What the pair of the script's flow says of its legs, and its farewell says likewise.
fn path_mtus(script: &mut Script) -> ([u16; 2], [Option<PathMtu>; 2]) {
    let view = script.rig.reactor.pair_of(handle(0), script.rig.now).expect("a pair");
    let told = (view.mtus, view.path_mtus.legs());
    script.rig.gone(handle(0), CloseReason::Operator);
    script.rig.burst();
    let farewell = script.rig.take().into_iter().find_map(|message| match message {
        FromProxy::Closed { last_words, .. } => Some(last_words.map(|words| words.path_mtus.legs())),
        _ => None,
    });
    assert_eq!(farewell, Some(Some(told.1)));
    told
}

#[test]
fn datagrams_that_the_servers_port_does_not_carry_are_told_with_its_mtu() {
    let mut script = script();
    let since = script.rig.now;
    script.play(
        "
        >> client UDP fill=1473
        << client ICMP 3/4 mtu=1500 quoted=UDP
        @ 2s
        >> client UDP fill=1473
        << client ICMP 3/4 mtu=1500 quoted=UDP
        ",
    );
    let found = PathMtu { mtu: 1500, cause: MtuCause::Port, since, packets: 2 };
    assert_eq!(path_mtus(&mut script), ([1500; 2], [None, Some(found)]));
}

#[test]
fn a_router_that_asks_for_shorter_datagrams_is_told() {
    let mut script = script();
    let since = script.rig.now;
    script.play(
        "
        >> client UDP fill=1400
        << server UDP len=1400
        >> server ICMP 3/4 mtu=1280
        << client ICMP 3/4 mtu=1280 quoted=UDP
        ",
    );
    let found = PathMtu { mtu: 1280, cause: MtuCause::Router, since, packets: 1 };
    assert_eq!(path_mtus(&mut script), ([1500, 1280], [None, Some(found)]));
}
