//! Cores that are threads and answer what the test says.

use std::net::SocketAddr;

use crossbeam_channel::Receiver;
use pnat_shared::capture::TapPoint;
use pnat_shared::flow::{Handle, Protocol, ProxyId, WorkerId};
use pnat_shared::path_mtu::MtuCause;
use pnat_shared::report::{Fate, FlowRow, NarrowLeg, PairRow, PastKind, PastRow, Traffic};
use pnat_shared::stats::Stage;
use pnat_shared::time::Instant;
use pnat_shared::verdict::{CloseReason, DropReason};

use super::super::*;
use crate::filters::{FilterStats, WebStats};

/// What a core was told, in order over all cores.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told {
    Policy { core: String, generation: u32, oldest: u32, rules: usize },
    Tap { core: String, set: bool },
}

pub(super) fn fake_core(
    role: Role,
    index: usize,
    name: &str,
    refuses: bool,
    inbox: &Receiver<CoreMessage>,
    told: &Sender<Told>,
) {
    let mut newest = FIRST_GENERATION;
    // What of a configuration lasts as long as cores have it.
    let mut _in_force = None;
    for message in inbox {
        match message {
            CoreMessage::Policies(reply) => {
                let _ = reply.send(newest);
            }
            CoreMessage::Policy { generation, oldest, policy, chains, reply } => {
                let rules = policy.rules.len();
                let _ = told.send(Told::Policy { core: name.to_owned(), generation, oldest, rules });
                let refused = refuses && generation > FIRST_GENERATION;
                if !refused {
                    newest = generation;
                    _in_force = Some(chains);
                }
                let _ = reply.send(if refused { Err("no room for filters".to_owned()) } else { Ok(()) });
            }
            CoreMessage::Web(reply) => {
                let _ = reply.send(Box::new(web(role)));
            }
            CoreMessage::Latency(reply) => {
                let mut latency = Box::new(Latency::of(&[Stage::Nat]));
                latency.record(Stage::Nat, Duration::from_nanos(100), 5);
                let _ = reply.send(latency);
            }
            CoreMessage::Flows { query, reply } => {
                let _ = reply.send(one_slot(index, &query));
            }
            CoreMessage::Past { query, reply } => {
                let _ = reply.send(one_past(index, &query));
            }
            CoreMessage::Pairs { handles, reply } => {
                let _ =
                    reply.send(handles.into_iter().filter_map(|handle| pair(role, index, handle)).collect());
            }
            CoreMessage::Capture(tap) => {
                let _ = told.send(Told::Tap { core: name.to_owned(), set: tap.is_some() });
                for nanos in 0..10 {
                    if let Some(tap) = &tap {
                        tap.copy(TapPoint::Inside, Instant::from_nanos(nanos), &[index as u8; 60]);
                    }
                }
            }
            CoreMessage::Drain(_) => return,
        }
    }
}

/// What a router has said.
const ROUTER: NarrowLeg =
    NarrowLeg { mtu: 1400, cause: MtuCause::Router, age: Duration::from_secs(2), packets: 3 };

/// Three slots of a worker, told one at a time; the higher, the older and the more was carried. That of slot 1 is proxied.
fn one_slot(index: usize, query: &FlowQuery) -> FlowPage {
    let slot = query.from;
    let row = FlowRow {
        handle: Handle { worker: WorkerId(index as u8), slot, generation: 7 },
        protocol: Protocol::Tcp,
        client: SocketAddr::from(([10, 77, 1, 5], 4000 + slot as u16)),
        server: SocketAddr::from(([192, 0, 2, 9], 80)),
        target: (slot == 1).then_some(SocketAddr::from(([192, 0, 2, 77], 8080))),
        public: SocketAddr::from(([198, 18, 0, 1], 2000 + slot as u16)),
        policy: FIRST_GENERATION,
        rule: (slot == 1).then_some(0),
        proxy: (slot == 1).then_some(ProxyId(1)),
        state: "established",
        mtus: [9000, 1500],
        path_mtus: [None, (slot < 2).then_some(ROUTER)],
        age: Duration::from_secs(3 + u64::from(slot)),
        idle: Duration::from_millis(20),
        first: Traffic { packets: 1, bytes: 100 },
        second: Traffic { packets: 2, bytes: 3_000 + 100 * u64::from(slot) },
    };
    let rows = if query.admits_row(&row) { vec![row] } else { Vec::new() };
    FlowPage { rows, next: (slot < 2).then_some(slot + 1) }
}

/// Worker 0 remembers two refusals and one ending, told one at a time.
fn one_past(index: usize, query: &PastQuery) -> PastPage {
    let count = match query.kind {
        _ if index > 0 => 0,
        PastKind::Refusals => 2,
        PastKind::Failures => 1,
        PastKind::Endings => 0,
    };
    let Some(number) = query.before.unwrap_or(count).checked_sub(1) else { return PastPage::default() };
    let fate = match query.kind {
        PastKind::Refusals => Fate::Refused { reason: DropReason::PortsExhausted, times: 3 },
        PastKind::Failures | PastKind::Endings => Fate::Ended {
            reason: CloseReason::Blocked,
            target: Some(SocketAddr::from(([192, 0, 2, 77], 8080))),
            public: SocketAddr::from(([198, 18, 0, 1], 2000)),
            proxy: Some(ProxyId(1)),
            lived: Duration::from_millis(1_500),
            first: Traffic { packets: 3, bytes: 300 },
            second: Traffic { packets: 2, bytes: 200 },
            verdict: Some("sites: host www.example".to_owned()),
            name: Some("www.example".to_owned()),
            path_mtus: [Some(NarrowLeg { mtu: 0, packets: 1, ..ROUTER }), None],
        },
    };
    let row = PastRow {
        protocol: Protocol::Tcp,
        client: SocketAddr::from(([10, 77, 1, 5], 5000 + number as u16)),
        server: SocketAddr::from(([192, 0, 2, 9], 80)),
        policy: FIRST_GENERATION,
        rule: (query.kind == PastKind::Failures).then_some(0),
        ago: Duration::from_secs(10 - number * 5),
        fate,
    };
    let is_asked = query.flows.admits(row.protocol, row.client, row.server);
    PastPage { rows: if is_asked { vec![row] } else { Vec::new() }, next: (number > 0).then_some(number) }
}

/// Proxy core 1 has the pair of worker 0's slot 1.
fn pair(role: Role, index: usize, handle: Handle) -> Option<PairRow> {
    let is_there = (role, index) == (Role::Proxy, 1) && handle.worker == WorkerId(0) && handle.slot == 1;
    is_there.then(|| PairRow {
        handle,
        state: "connecting",
        legs: Some(["syn_held", "syn_sent"]),
        name: Some("www.example".to_owned()),
        held: 5,
        mtus: [9000, 1064],
        path_mtus: [None, Some(NarrowLeg { mtu: 1064, cause: MtuCause::BlackHole, ..ROUTER })],
        idle: Duration::from_millis(20),
        first: Traffic { packets: 1, bytes: 10 },
        second: Traffic::default(),
    })
}

/// A proxy core has seen exchanges.
fn web(role: Role) -> WebStats {
    let stats =
        FilterStats { exchanges: 4, answered: 3, nanos: 4_000, shown: [10, 20], ..FilterStats::default() };
    match role {
        Role::Worker => WebStats::default(),
        Role::Proxy => WebStats {
            filters: vec![("cache".into(), stats)],
            faults: vec![("bad_request", 2)],
            connections: [5, 2, 1],
        },
    }
}
