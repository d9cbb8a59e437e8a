//! What control and the driver ask of a worker.

use std::net::SocketAddrV4;
use std::sync::Arc;

use pnat_dataplane::nat::policy::Snapshot;
use pnat_dataplane::worker::Outputs;
use pnat_shared::config::{Action, Denial, Policy};
use pnat_shared::flow::LastWords;
use pnat_shared::loopback::FromProxy;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};

use crate::text;
use crate::world::{Gateway, INSIDE, MACS, OUTSIDE, Out, ROUTER, World};

fn world(action: Action) -> World {
    let mut world = World::default();
    world.policy.default_action = action;
    world
}

fn datagram(port: u16) -> Vec<u8> {
    let client = "10.77.1.2".parse().unwrap();
    text::build(&format!("udp 10.77.1.2:{port} > 203.0.113.53:53 len=4"), text::mac_of(client), MACS[0])
}

fn told(outs: &[Out]) -> Vec<String> {
    outs.iter().map(Out::tell).collect()
}

#[test]
fn a_new_policy_decides_new_flows_and_leaves_open_ones() {
    let mut gateway = Gateway::new(&world(Action::Nat));
    assert_eq!(gateway.receive(INSIDE, &datagram(4000)).len(), 1);
    let policy = Policy::without_rules(Action::Deny(Denial::Silent));
    gateway.worker.set_policy(Snapshot { generation: 2, policy: Arc::new(policy) });
    assert_eq!(gateway.receive(INSIDE, &datagram(4000)).len(), 1, "open flows stay");
    assert!(gateway.receive(INSIDE, &datagram(4001)).is_empty());
    assert_eq!(gateway.drops(), [(DropReason::Denied, 1)]);
}

#[test]
fn while_draining_open_flows_go_on_and_new_ones_are_refused() {
    let mut gateway = Gateway::new(&world(Action::Nat));
    let port = match &gateway.receive(INSIDE, &datagram(4000))[..] {
        [out] => out.tell().split("198.18.0.1:").nth(1).unwrap().split(' ').next().unwrap().to_owned(),
        outs => panic!("{outs:?}"),
    };
    gateway.worker.drain();
    assert_eq!(gateway.receive(INSIDE, &datagram(4000)).len(), 1);
    let refused = told(&gateway.receive(INSIDE, &datagram(4001)));
    assert!(refused[0].starts_with("inside icmp 10.77.1.1 > 10.77.1.2 unreachable/13"), "{refused:?}");
    let stranger = format!("udp 192.0.2.7:9 > 198.18.0.1:{port}");
    assert!(gateway.receive(OUTSIDE, &text::build(&stranger, text::mac_of(ROUTER), MACS[1])).is_empty());
    assert_eq!(gateway.drops(), [(DropReason::Draining, 2)]);
}

#[test]
fn a_flow_listed_can_be_ended_and_its_pair_is_told() {
    let mut gateway = Gateway::new(&world(Action::Proxy));
    gateway.receive(INSIDE, &datagram(4000));
    let view = gateway.worker.bindings().next().unwrap();
    assert_eq!((view.client.port(), view.server.port(), view.binding.packets), (4000, 53, [1, 0]));
    assert_eq!(gateway.worker.slots(), 1);
    let found = gateway.worker.find(view.protocol, view.client, view.server).map(|found| found.handle);
    assert_eq!(found, Some(view.handle));
    let other = SocketAddrV4::new(*view.client.ip(), 4001);
    assert!(gateway.worker.find(view.protocol, other, view.server).is_none());
    let handle = view.handle;
    let mut out = Outputs::new(2, 1, 1);
    assert!(gateway.worker.end(handle, CloseReason::Operator, gateway.now, &mut out));
    assert_eq!(out.to_proxy[0].len(), 1);
    assert!(!gateway.worker.end(handle, CloseReason::Operator, gateway.now, &mut out));
    assert_eq!(gateway.worker.stats().closes.value(CloseReason::Operator), 1);
}

#[test]
fn refused_and_ended_flows_are_remembered_with_who_decided_and_why() {
    let mut gateway = Gateway::new(&world(Action::Proxy));
    gateway.receive(INSIDE, &datagram(4000));
    let handle = gateway.worker.bindings().next().unwrap().handle;
    gateway.pass(Duration::from_secs(2));
    let last_words =
        Some(Box::new(LastWords { verdict: Some("names: no".to_owned()), ..LastWords::default() }));
    gateway.receive_from_proxy(FromProxy::Closed { handle, reason: CloseReason::Blocked, last_words });
    gateway.worker.drain();
    for _ in 0..3 {
        gateway.receive(INSIDE, &datagram(4001));
    }

    let history = gateway.worker.history();
    let ending = history.failures.get(0).expect("remembered");
    assert_eq!((ending.tuple.src().port(), ending.tuple.dst().port(), ending.packets), (4000, 53, [1, 0]));
    assert_eq!(
        (ending.reason, ending.at.since(ending.opened)),
        (CloseReason::Blocked, Duration::from_secs(2))
    );
    let verdict = ending.last_words.as_ref().and_then(|words| words.verdict.as_deref());
    assert_eq!((ending.policy, ending.rule, verdict), (1, None, Some("names: no")));
    let refusal = history.refusals.get(0).expect("remembered");
    assert_eq!((refusal.tuple.src().port(), refusal.reason, refusal.times), (4001, DropReason::Draining, 3));
    assert_eq!([history.refusals.count(), history.failures.count(), history.endings.count()], [1, 1, 0]);
}

#[test]
fn a_flow_that_the_ring_refused_leaves_nothing_behind() {
    let mut gateway = Gateway::new(&world(Action::Proxy));
    gateway.receive(INSIDE, &datagram(4000));
    let handle = gateway.worker.bindings().next().unwrap().handle;
    gateway.worker.refuse(handle, gateway.now);
    assert_eq!(gateway.worker.bindings().count(), 0);
    let outs = gateway.receive(INSIDE, &datagram(4000));
    assert!(matches!(outs[..], [Out::Open(..)]), "the next packet opens it: {outs:?}");
}

#[test]
fn a_lost_notice_of_a_pairs_end_is_made_up_for_by_the_safety_net() {
    let mut gateway = Gateway::new(&world(Action::Proxy));
    gateway.receive(INSIDE, &datagram(4000));
    let outs = gateway.pass(Duration::from_secs(100_200));
    assert_eq!(told(&outs), ["proxy gone 240.0.0.0:0 idle"]);
}

#[test]
fn the_gateway_announces_its_addresses_on_each_port() {
    let mut gateway = Gateway::new(&World::default());
    let mut out = Outputs::new(2, 1, 1);
    gateway.worker.announce(&mut out);
    let told: Vec<Vec<String>> = out
        .transmit
        .iter()
        .map(|frames| frames.iter().map(|f| text::tell(pnat_shared::frame::Frame::data(f))).collect())
        .collect();
    let all = "ff:ff:ff:ff:ff:ff";
    assert_eq!(told[usize::from(INSIDE)], [format!("arp who-has 10.77.1.1 tell 10.77.1.1 to={all}")]);
    assert_eq!(told[usize::from(OUTSIDE)], [format!("arp who-has 198.18.0.1 tell 198.18.0.1 to={all}")]);
}

#[test]
fn packets_of_one_burst_share_the_flow_that_the_first_opens() {
    let mut gateway = Gateway::new(&world(Action::Nat));
    let outs = gateway.receive_burst(INSIDE, &[datagram(4000), datagram(4000), datagram(4000)]);
    assert_eq!(outs.len(), 3);
    assert_eq!(gateway.worker.bindings().count(), 1);
    assert_eq!(gateway.worker.stats().misses.value(), 1);
}

#[test]
fn the_deadline_is_never_later_than_the_next_timer() {
    let mut gateway = Gateway::new(&world(Action::Nat));
    assert_eq!(gateway.worker.deadline(), None, "an idle worker may sleep");
    gateway.receive(INSIDE, &datagram(4000));
    let opened = gateway.now;
    let mut wakes = 0;
    while gateway.worker.bindings().count() > 0 {
        let deadline = gateway.worker.deadline().expect("a flow has a timer");
        let next = deadline.max(gateway.now + Duration::from_millis(1));
        gateway.pass(next - gateway.now);
        wakes += 1;
        assert!(wakes < 1000, "the worker wakes for nothing");
    }
    assert!(gateway.now.since(opened) < Duration::from_secs(302), "{:?}", gateway.now);
    assert_ne!(gateway.now, Instant::ZERO);
}
