//! The whole gateway: from the client's port through worker, ring, reactor and chain to the server's port, and the ACKs
//! back, driven by production's loops.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_perf::frames::PoolFrame;
use pnat_perf::gateway::{Gateway, INSIDE, OUTSIDE, answer_arp, link_to};
use pnat_perf::host::{self, Host};
use pnat_perf::measure::{Burst, Scene, time};
use pnat_proxy::filter::Chains;
use pnat_scenes::{BURST, Turn, VISIT};
use pnat_shared::config::Policy;

/// Open flows through a gateway, each with a client that sends and a server that acknowledges.
pub(crate) struct Whole {
    gateway: Gateway,
    clients: Vec<Host>,
    servers: Vec<Host>,
    /// Data segments that have come to servers.
    delivered: u64,
    turn: Turn,
}

impl Whole {
    /// `chains` are those of the policy's rules.
    pub(crate) fn new(flows: usize, policy: Policy, chains: Chains) -> Self {
        let gateway = Gateway::new(policy, chains, flows as u32);
        let mut pairs =
            Self { gateway, clients: Vec::new(), servers: Vec::new(), delivered: 0, turn: Turn::new(flows) };
        for flow in 0..flows {
            let mut client = Host::new(link_to(INSIDE), client(flow), server(flow));
            let syn = client.syn();
            pairs.clients.push(client);
            pairs.gateway.port(INSIDE).incoming.push_back(syn);
            // The SYN, and two ARP questions and answers; the SYN-ACK; the last ACK.
            for _ in 0..6 {
                pairs.gateway.turn();
                pairs.exchange();
            }
            assert_eq!(pairs.servers.len(), flow + 1, "each flow reaches its server");
        }
        pairs
    }

    /// The same with measuring on or off.
    pub(crate) fn measured(mut self, is_on: bool) -> Self {
        self.gateway.measure(is_on);
        self
    }

    /// Hosts take what the gateway sent them, and answer.
    fn exchange(&mut self) {
        while let Some(frame) = self.gateway.port(INSIDE).outgoing.pop_front() {
            let answer = answer_arp(&frame).or_else(|| self.client_of(&frame).on_frame(&frame));
            self.gateway.port(INSIDE).incoming.extend(answer);
        }
        while let Some(frame) = self.gateway.port(OUTSIDE).outgoing.pop_front() {
            let answer = answer_arp(&frame).or_else(|| self.serve(&frame));
            self.gateway.port(OUTSIDE).incoming.extend(answer);
        }
    }

    fn client_of(&mut self, frame: &PoolFrame) -> &mut Host {
        let (packet, ..) = host::read(frame).expect("a segment");
        &mut self.clients[flow_of(packet.src)]
    }

    /// Servers come to be as they are asked, in the order of their flows.
    fn serve(&mut self, frame: &PoolFrame) -> Option<PoolFrame> {
        let (packet, ..) = host::read(frame).expect("a segment");
        let flow = flow_of(packet.dst);
        if flow == self.servers.len() {
            self.servers.push(Host::meeting(link_to(OUTSIDE), frame));
        }
        let server = &mut self.servers[flow];
        let before = server.segments;
        let answer = server.on_frame(frame);
        self.delivered += server.segments - before;
        answer
    }
}

impl Scene for Whole {
    fn burst(&mut self) -> Burst {
        for _ in 0..BURST / VISIT {
            let flow = self.turn.advance();
            for _ in 0..VISIT {
                if self.clients[flow].may_send() {
                    let data = self.clients[flow].data();
                    self.gateway.port(INSIDE).incoming.push_back(data);
                }
            }
        }
        // ACKs of the burst before are taken in this turn.
        let took = time(|| self.gateway.turn());
        let before = self.delivered;
        self.exchange();
        Burst { packets: self.delivered - before, took }
    }
}

fn client(flow: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 2000 + flow as u16)
}

/// A server's address names its flow.
fn server(flow: usize) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::from_bits(0xcb00_0000 + flow as u32), 80)
}

fn flow_of(server: Ipv4Addr) -> usize {
    (server.to_bits() - 0xcb00_0000) as usize
}
