//! What a worker knows of packets that were too long: for the flow that is open, and once it has ended.

use pnat_shared::config::Action;
use pnat_shared::path_mtu::{MtuCause, PathMtu};
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;

use crate::text;
use crate::world::{Gateway, INSIDE, MACS, OUTSIDE, Out, ROUTER, World};

type Found = [Option<PathMtu>; 2];

fn from_client(packet: &str) -> Vec<u8> {
    text::build(packet, text::mac_of("10.77.1.2".parse().unwrap()), MACS[0])
}

fn from_router(packet: &str) -> Vec<u8> {
    text::build(packet, text::mac_of(ROUTER), MACS[1])
}

fn gateway(action: Action, mtus: [u16; 2]) -> Gateway {
    let mut world = World { mtus, ..World::default() };
    world.policy.default_action = action;
    Gateway::new(&world)
}

/// What is known of the only flow; its ending must know the same.
fn found(gateway: &mut Gateway) -> Found {
    let view = gateway.worker.bindings().next().expect("a flow");
    let (handle, found) = (view.handle, view.path_mtus.map_or([None; 2], |found| found.legs()));
    gateway.worker.end(handle, CloseReason::Operator, gateway.now, &mut gateway.outputs);
    let remembered = gateway.worker.history().failures.get(0).expect("remembered");
    assert_eq!(remembered.path_mtus.legs(), found);
    found
}

#[test]
fn packets_that_the_servers_port_does_not_carry_are_counted_whether_they_may_be_cut_or_not() {
    let mut gateway = gateway(Action::Nat, [9000, 1500]);
    let since = gateway.now;
    gateway.receive(INSIDE, &from_client("udp 10.77.1.2:4000 > 203.0.113.53:53 len=1900 df"));
    gateway.pass(Duration::from_secs(1));
    gateway.receive(INSIDE, &from_client("udp 10.77.1.2:4000 > 203.0.113.53:53 len=1900"));
    gateway.receive(INSIDE, &from_client("udp 10.77.1.2:4000 > 203.0.113.53:53 len=100"));
    let port = PathMtu { mtu: 1500, cause: MtuCause::Port, since, packets: 2 };
    assert_eq!(gateway.worker.bindings().next().map(|view| view.mtus), Some([9000, 1500]));
    assert_eq!(found(&mut gateway), [None, Some(port)]);
}

#[test]
fn packets_that_the_clients_port_does_not_carry_concern_the_clients_leg() {
    let mut gateway = gateway(Action::Nat, [1400, 1500]);
    let outs = gateway.receive(INSIDE, &from_client("udp 10.77.1.2:4000 > 203.0.113.53:53"));
    let answer = format!("udp 203.0.113.53:53 > {} len=1450 df", public(&outs));
    gateway.receive(OUTSIDE, &from_router(&answer));
    let port = PathMtu { mtu: 1400, cause: MtuCause::Port, since: gateway.now, packets: 1 };
    assert_eq!(found(&mut gateway), [Some(port), None]);
}

#[test]
fn a_router_that_asks_for_shorter_packets_is_believed_to_be_one_for_either_path() {
    for action in [Action::Nat, Action::Proxy] {
        let mut gateway = gateway(action, [1500, 1500]);
        let outs = gateway.receive(INSIDE, &from_client("udp 10.77.1.2:4000 > 203.0.113.53:53 len=1400 df"));
        let public = match action {
            Action::Nat => public(&outs),
            _ => gateway.worker.bindings().next().map(|view| view.public.to_string()).unwrap(),
        };
        let error = |code: &str| {
            let error = format!(
                "icmp 198.18.0.254 > 198.18.0.1 unreachable/{code} about udp {public} > 203.0.113.53:53 len=1400"
            );
            from_router(&error)
        };
        gateway.receive(OUTSIDE, &error("1"));
        gateway.receive(OUTSIDE, &error("4 mtu=1500"));
        assert!(
            gateway.worker.bindings().all(|view| view.path_mtus.is_none()),
            "nothing new, nothing learnt"
        );
        gateway.receive(OUTSIDE, &error("4 mtu=1280"));
        gateway.receive(OUTSIDE, &error("4 mtu=1280"));
        let router = PathMtu { mtu: 1280, cause: MtuCause::Router, since: gateway.now, packets: 2 };
        assert_eq!(found(&mut gateway), [None, Some(router)], "{action:?}");
    }
}

/// The public address and port of a packet that left for the outside.
fn public(outs: &[Out]) -> String {
    let [out] = outs else { panic!("{outs:?}") };
    out.tell().split_whitespace().nth(2).expect("a source").to_owned()
}
