//! Bursts into rings, and what becomes of what does not fit. (A port counts for itself what it does not take.)
//!
//! Runs on: worker. Allocates: never beyond the vectors' capacity. Blocks: never.
//!
//! A full ring is an answer: a new flow is refused, an old flow loses a packet and its transport recovers; notices of a
//! flow's end stay queued until they fit.

use pnat_shared::flow::Handle;
use pnat_shared::loopback::ToProxy;
use pnat_shared::ring::Producer;
use pnat_shared::stats::Drops;
use pnat_shared::verdict::DropReason;

use crate::handoff::Handoff;

/// Moves a burst into a proxy core's ring. What did not fit is dropped and counted, except what no packet makes good
/// ([`ToProxy::Gone`], [`ToProxy::Moved`]), which stays in `burst` for the next time; the flows of refused [`ToProxy::Open`]s are appended to `refused`, and the caller ends
/// them ([`crate::worker::Worker::refuse`]). Answers how many went.
pub fn push_to_proxy<F>(
    ring: &mut Producer<ToProxy<F>>,
    burst: &mut Vec<ToProxy<F>>,
    refused: &mut Vec<Handle>,
    drops: &Drops,
) -> usize {
    let went = ring.push_burst(burst);
    burst.retain(|message| match message {
        ToProxy::Open { flow, .. } => {
            refused.push(flow.handle);
            drops.add(DropReason::RingFullNew, 1);
            false
        }
        ToProxy::Packet { .. } => {
            drops.add(DropReason::RingFull, 1);
            false
        }
        ToProxy::Gone { .. } | ToProxy::Moved { .. } => true,
    });
    went
}

/// Moves a burst into another worker's ring; what did not fit is dropped and counted. An ARP message that is lost so is
/// asked for again within a second.
pub fn push_handoff<F>(ring: &mut Producer<Handoff<F>>, burst: &mut Vec<Handoff<F>>, drops: &Drops) -> usize {
    let went = ring.push_burst(burst);
    drops.add(DropReason::RingFull, burst.len() as u64);
    burst.clear();
    went
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::net::SocketAddr;
    use pnat_shared::flow::{NewFlow, Offloads, Protocol, WorkerId};
    use pnat_shared::ring::ring;
    use pnat_shared::time::Instant;
    use pnat_shared::verdict::CloseReason;
    use pnat_shared::wire::{arp, ethernet::Mac};

    const AT: Instant = Instant::ZERO;

    fn handle(slot: u32) -> Handle {
        Handle { worker: WorkerId(0), slot, generation: 0 }
    }

    fn open(slot: u32) -> ToProxy<u8> {
        let addr: SocketAddr = "10.0.0.1:1".parse().unwrap();
        let flow = NewFlow {
            handle: handle(slot),
            protocol: Protocol::Tcp,
            client: addr,
            server: addr,
            public: addr,
            policy: 0,
            rule: None,
            mtu: [1500; 2],
            offloads: [Offloads::NONE; 2],
            opened: AT,
            accepted: None,
        };
        ToProxy::Open { frame: 0, at: AT, flow: Box::new(flow) }
    }

    #[test]
    fn a_full_ring_refuses_new_flows_loses_packets_and_keeps_notices() {
        let (mut producer, mut consumer) = ring(2);
        let drops = Drops::default();
        let gone = || ToProxy::Gone { handle: handle(9), reason: CloseReason::Idle };
        let packet = || ToProxy::Packet { frame: 1, at: AT };
        let moved = ToProxy::Moved { handle: handle(8), public: "10.0.0.1:2".parse().unwrap() };
        let mut burst = vec![open(1), packet(), packet(), open(2), gone(), moved];
        let mut refused = Vec::new();
        assert_eq!(push_to_proxy(&mut producer, &mut burst, &mut refused, &drops), 2);
        assert_eq!(refused, [handle(2)]);
        assert_eq!((drops.value(DropReason::RingFull), drops.value(DropReason::RingFullNew)), (1, 1));
        assert!(matches!(burst[..], [ToProxy::Gone { .. }, ToProxy::Moved { .. }]));
        consumer.pop_burst(2, &mut Vec::new());
        assert_eq!(push_to_proxy(&mut producer, &mut burst, &mut refused, &drops), 2);
        assert!(burst.is_empty());
    }

    #[test]
    fn what_another_worker_cannot_take_is_counted() {
        let (mut producer, _consumer) = ring(1);
        let drops = Drops::default();
        let message = arp::Message {
            operation: arp::Operation::Reply,
            sender_mac: Mac::default(),
            sender: [10, 0, 0, 1].into(),
            target_mac: Mac::default(),
            target: [10, 0, 0, 2].into(),
        };
        let mut burst: Vec<Handoff<u8>> =
            vec![Handoff::Frame { port: 0, frame: 1, at: AT }, Handoff::Arp { port: 0, message }];
        assert_eq!(push_handoff(&mut producer, &mut burst, &drops), 1);
        assert!(burst.is_empty());
        assert_eq!(drops.value(DropReason::RingFull), 1);
    }
}
