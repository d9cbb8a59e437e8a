//! The NAT's state against requirements of RFC 4787, 5382 and 6888.

use super::*;
use pnat_shared::flow::ProxyId;

const NOW: Instant = Instant::from_secs(1000);

fn settings() -> config::Nat {
    config::Nat {
        public: vec![Ipv4Addr::new(198, 18, 0, 1)],
        ports: 1024..=65535,
        flows: 64,
        flows_per_client: 16,
        timeouts: config::Timeouts {
            tcp_established: Duration::from_secs(7440),
            tcp_transitory: Duration::from_secs(240),
            udp: Duration::from_secs(300),
            icmp: Duration::from_secs(60),
        },
    }
}

fn nat(settings: &config::Nat) -> Nat {
    Nat::new(settings, WorkerId(0), 1, Duration::from_secs(90_000), 1, NOW)
}

fn opening(client: u8, port: u16, server: u8) -> Opening {
    Opening {
        inside: Tuple::new(
            Protocol::Udp,
            SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, client), port),
            SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, server), 53),
        ),
        path: Path::Nat,
        egress: [1, 0],
        policy: 0,
        rule: None,
        client: u64::from(client),
        inbound: false,
        proven: false,
    }
}

fn public(nat: &Nat, slot: u32) -> SocketAddrV4 {
    nat.flows().entry(slot).unwrap().0[1].dst()
}

#[test]
fn u01_t01_one_mapping_serves_all_destinations() {
    let mut nat = nat(&settings());
    let a = nat.open(&opening(1, 4000, 1), NOW).unwrap();
    let b = nat.open(&opening(1, 4000, 2), NOW).unwrap();
    let proxied = Opening { path: Path::Proxy(ProxyId(0)), ..opening(1, 4000, 3) };
    let c = nat.open(&proxied, NOW).unwrap();
    assert_eq!(public(&nat, a), public(&nat, b));
    assert_eq!(public(&nat, a), public(&nat, c), "whatever its path, a flow's public port is the same");
    let other = nat.open(&opening(1, 4001, 1), NOW).unwrap();
    assert_ne!(public(&nat, a), public(&nat, other));
}

#[test]
fn u03_two_clients_never_share_a_public_port() {
    let mut nat = nat(&settings());
    let mut seen = std::collections::HashSet::new();
    for client in 1..=30 {
        let slot = nat.open(&opening(client, 4000, 1), NOW).unwrap();
        assert!(seen.insert(public(&nat, slot)));
    }
}

#[test]
fn u08_a_translated_mapping_lets_anyone_in_a_proxied_one_nobody() {
    let mut nat = nat(&settings());
    let slot = nat.open(&opening(1, 4000, 1), NOW).unwrap();
    let addr = public(&nat, slot);
    assert_eq!(nat.client_of(Protocol::Udp, addr), Some(opening(1, 4000, 1).inside.src()));
    assert_eq!(nat.client_of(Protocol::Tcp, addr), None);
    nat.close(slot, NOW).unwrap();
    assert_eq!(nat.client_of(Protocol::Udp, addr), None);
    let proxied = Opening { path: Path::Proxy(ProxyId(0)), ..opening(2, 4000, 1) };
    let slot = nat.open(&proxied, NOW).unwrap();
    assert_eq!(nat.client_of(Protocol::Udp, public(&nat, slot)), None);
}

#[test]
fn c04_a_client_has_a_limit_and_outsiders_may_use_half_of_it() {
    let mut nat = nat(&settings());
    for server in 0..8 {
        nat.open(&opening(1, 4000, server), NOW).unwrap();
    }
    let inbound = Opening { inbound: true, ..opening(1, 4000, 100) };
    assert_eq!(nat.open(&inbound, NOW), Err(DropReason::ClientLimit));
    for server in 8..16 {
        nat.open(&opening(1, 4000, server), NOW).unwrap();
    }
    assert_eq!(nat.open(&opening(1, 4000, 99), NOW), Err(DropReason::ClientLimit));
    assert!(nat.open(&opening(2, 4000, 99), NOW).is_ok(), "other clients are not concerned");
}

#[test]
fn c11d_a_full_table_and_exhausted_ports_leave_nothing_behind() {
    let mut nat = nat(&config::Nat { ports: 2000..=2003, flows: 6, ..settings() });
    let slots: Vec<u32> = (1..=4).map(|n| nat.open(&opening(n, 4000, 1), NOW).unwrap()).collect();
    assert_eq!(nat.open(&opening(5, 4000, 1), NOW), Err(DropReason::PortsExhausted));
    nat.open(&opening(1, 4000, 2), NOW).unwrap();
    nat.open(&opening(1, 4000, 3), NOW).unwrap();
    assert_eq!(nat.open(&opening(1, 4000, 4), NOW), Err(DropReason::TableFull));
    for (n, slot) in (1..=4).zip(&slots) {
        assert_eq!(nat.flows().entry(*slot).unwrap().0[0], opening(n, 4000, 1).inside, "old flows stay");
    }
    let all: Vec<u32> = nat.flows().iter().map(|(slot, _, _)| slot).collect();
    for slot in all {
        nat.close(slot, NOW).unwrap();
    }
    assert_eq!(nat.free_ports(Protocol::Udp), 4);
    assert!(nat.mappings.is_empty() && nat.clients.is_empty());
    assert_eq!(nat.wheel.armed(), 0);
}

#[test]
fn u05_u06_a_flow_lives_as_long_as_it_is_used_and_no_longer() {
    let mut nat = nat(&settings());
    let slot = nat.open(&opening(1, 4000, 1), NOW).unwrap();
    let mut ended = Vec::new();
    let second = |n| NOW + Duration::from_secs(n);
    nat.expire(second(200), |closed, reason| ended.push((closed.handle.slot, reason)));
    nat.pass(slot, Stream::First, Flags::default(), 100, second(250));
    for n in (300..=550).step_by(10) {
        nat.expire(second(n), |closed, reason| ended.push((closed.handle.slot, reason)));
        assert_eq!(ended.is_empty(), n < 550, "at {n}");
    }
    assert_eq!(ended, [(slot, CloseReason::Idle)]);
    assert!(nat.flows().is_empty());
}

#[test]
fn rfc7857_2_2_a_closed_connection_goes_after_the_transitory_time() {
    let mut nat = nat(&settings());
    let inside = opening(1, 4000, 1).inside;
    let inside = Tuple::new(Protocol::Tcp, inside.src(), inside.dst());
    let slot = nat.open(&Opening { inside, ..opening(1, 4000, 1) }, NOW).unwrap();
    nat.pass(slot, Stream::First, Flags::SYN, 40, NOW);
    nat.pass(slot, Stream::Second, Flags::SYN.with(Flags::ACK), 40, NOW);
    let mut ended = Vec::new();
    nat.expire(NOW + Duration::from_secs(1000), |closed, reason| ended.push((closed.handle.slot, reason)));
    assert!(ended.is_empty(), "established: 2 h 4 min");
    let later = NOW + Duration::from_secs(2000);
    for stream in [Stream::First, Stream::Second] {
        nat.pass(slot, stream, Flags::FIN.with(Flags::ACK), 40, later);
    }
    nat.expire(later + Duration::from_secs(239), |_, _| panic!("too early"));
    nat.expire(later + Duration::from_secs(241), |closed, reason| ended.push((closed.handle.slot, reason)));
    assert_eq!(ended, [(slot, CloseReason::Finished)]);
}

#[test]
fn a_handle_of_an_ended_flow_is_stale() {
    let mut nat = nat(&settings());
    let slot = nat.open(&opening(1, 4000, 1), NOW).unwrap();
    let handle = nat.handle(slot);
    assert_eq!(nat.slot(handle), Some(slot));
    nat.close(slot, NOW);
    assert_eq!(nat.open(&opening(1, 4000, 1), NOW), Ok(slot), "the slot is used again");
    assert_eq!(nat.slot(handle), None);
    assert_eq!(nat.slot(Handle { worker: WorkerId(1), ..nat.handle(slot) }), None);
}

#[test]
fn a_proxied_tcp_flow_is_half_open_until_the_client_acknowledges_what_it_was_sent() {
    let mut nat = nat(&settings());
    let tcp = |port| {
        let other = opening(1, port, 1);
        let inside = Tuple::new(Protocol::Tcp, other.inside.src(), other.inside.dst());
        Opening { inside, path: Path::Proxy(ProxyId(0)), ..other }
    };
    let slots = [4000, 4001, 4002].map(|port| nat.open(&tcp(port), NOW).unwrap());
    nat.open(&Opening { proven: true, ..tcp(4003) }, NOW).unwrap();
    nat.open(&Opening { path: Path::Nat, ..tcp(4004) }, NOW).unwrap();
    nat.open(&Opening { path: Path::Proxy(ProxyId(0)), ..opening(1, 4005, 1) }, NOW).unwrap();
    assert_eq!(nat.half_open(), 3, "neither proven, nor translated, nor UDP");
    nat.ask_proof(slots[0], Seq(u32::MAX));
    assert!(!nat.give_proof(slots[0], Seq(1)) && !nat.give_proof(slots[1], Seq(0)));
    assert!(nat.give_proof(slots[0], Seq(0)));
    assert_eq!(nat.half_open(), 2);
    nat.close(slots[0], NOW);
    nat.close(slots[1], NOW);
    assert_eq!(nat.half_open(), 1);
}

#[test]
fn a_flow_fills_two_cache_lines() {
    assert!(size_of::<[Tuple; 2]>() + size_of::<Binding>() <= 120);
}
