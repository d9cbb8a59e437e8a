//! Whatever arrives: no panic, right checksums, and every frame accounted for.

use core::net::{Ipv4Addr, SocketAddrV4};

use pnat_shared::config::{Action, Denial};
use pnat_shared::flow::{Handle, WorkerId};
use pnat_shared::frame::L2_LEN;
use pnat_shared::loopback::{FromProxy, mask};
use pnat_shared::time::Duration;
use pnat_shared::verdict::{CloseReason, DropReason};
use proptest::prelude::*;

use crate::text;
use crate::world::{Gateway, INSIDE, MACS, OUTSIDE, ROUTER, World};

#[derive(Clone, Debug)]
enum Event {
    Client {
        last: u8,
        port: u16,
        server: u8,
        dst_port: u16,
        what: usize,
    },
    Server {
        server: u8,
        src_port: u16,
        public: usize,
        what: usize,
    },
    Pair {
        flow: usize,
        second: bool,
        what: usize,
    },
    Closed {
        flow: usize,
    },
    Retarget {
        flow: usize,
        server: u8,
        dst_port: u16,
    },
    /// A client acknowledges a SYN-ACK that it was sent, or nearly.
    Acknowledge {
        nth: usize,
        off: u32,
        len: usize,
    },
    Raw {
        inside: bool,
        bytes: Vec<u8>,
    },
    Bent {
        inside: bool,
        what: usize,
        at: usize,
        to: u8,
        cut: usize,
    },
    Pass(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (2u8..6, 4000u16..4004, 1u8..5, 80u16..82, any::<usize>())
            .prop_map(|(last, port, server, dst_port, what)| Event::Client { last, port, server, dst_port, what }),
        6 => (1u8..5, 80u16..82, any::<usize>(), any::<usize>())
            .prop_map(|(server, src_port, public, what)| Event::Server { server, src_port, public, what }),
        4 => (any::<usize>(), any::<bool>(), any::<usize>())
            .prop_map(|(flow, second, what)| Event::Pair { flow, second, what }),
        1 => any::<usize>().prop_map(|flow| Event::Closed { flow }),
        2 => (any::<usize>(), 0u8..8, 80u16..82)
            .prop_map(|(flow, server, dst_port)| Event::Retarget { flow, server, dst_port }),
        3 => (any::<usize>(), prop_oneof![4 => Just(0), 1 => any::<u32>()], 0usize..50)
            .prop_map(|(nth, off, len)| Event::Acknowledge { nth, off, len }),
        2 => (any::<bool>(), prop::collection::vec(any::<u8>(), 0..120))
            .prop_map(|(inside, bytes)| Event::Raw { inside, bytes }),
        6 => (any::<bool>(), any::<usize>(), 0usize..80, any::<u8>(), 0usize..120)
            .prop_map(|(inside, what, at, to, cut)| Event::Bent { inside, what, at, to, cut }),
        1 => prop_oneof![0u64..3, 30u64..90].prop_map(Event::Pass),
    ]
}

fn packet(src: &str, dst: &str, what: usize) -> String {
    let (src_ip, dst_ip) = (src.split(':').next().unwrap(), dst.split(':').next().unwrap());
    match what % 12 {
        0..3 => format!("tcp {src} > {dst} S"),
        3 => format!("tcp {src} > {dst} SA"),
        4 => format!("tcp {src} > {dst} A len=100"),
        5 => format!("tcp {src} > {dst} FA"),
        6 => format!("tcp {src} > {dst} RA"),
        7 | 8 => format!("udp {src} > {dst} len={}", what % 50),
        9 => format!(
            "icmp {src_ip} > {dst_ip} {} id={} seq=1",
            if what.is_multiple_of(2) { "echo" } else { "reply" },
            what % 5
        ),
        10 => format!("icmp {src_ip} > {dst_ip} unreachable/{} about udp {dst} > {src} len=20", what % 5),
        _ => format!(
            "icmp {src_ip} > {dst_ip} time-exceeded/0 quote={} about tcp {dst} > {src} A",
            20 + what % 30
        ),
    }
}

struct Run {
    gateway: Gateway,
    flows: Vec<Handle>,
    /// Server, client and number of the SYN-ACKs that clients were sent.
    greetings: Vec<(String, String, u32)>,
    /// Whether a packet whose transport checksum may be wrong waits somewhere, and may leave so or be quoted.
    is_bent: bool,
}

impl Run {
    fn frame(&self, inside: bool, what: usize) -> Vec<u8> {
        if inside {
            let addr = Ipv4Addr::new(10, 77, 1, 2 + (what % 3) as u8);
            let text = match what % 7 {
                0 => format!("arp who-has 10.77.1.1 tell {addr}"),
                _ => packet(&format!("{addr}:4000"), "203.0.113.1:80", what),
            };
            text::build(&text, text::mac_of(addr), MACS[0])
        } else {
            let text = match what % 7 {
                0 => format!("arp {ROUTER} is-at 02:aa:c6:12:00:fe target=198.18.0.1"),
                _ => packet("203.0.113.1:80", &format!("198.18.0.1:{}", self.public(what)), what),
            };
            text::build(&text, text::mac_of(ROUTER), MACS[1])
        }
    }

    /// A public port in use, or any.
    fn public(&self, nth: usize) -> u16 {
        let used: Vec<u16> = self.gateway.worker.bindings().map(|view| view.public.port()).collect();
        if used.is_empty() { 2000 } else { used[nth % used.len()] }
    }

    fn step(&mut self, event: Event) {
        let outs = match event {
            Event::Client { last, port, server, dst_port, what } => {
                let addr = Ipv4Addr::new(10, 77, 1, last);
                let text = packet(&format!("{addr}:{port}"), &format!("203.0.113.{server}:{dst_port}"), what);
                self.gateway.receive(INSIDE, &text::build(&text, text::mac_of(addr), MACS[0]))
            }
            Event::Server { server, src_port, public, what } => {
                let to = format!("198.18.0.1:{}", self.public(public));
                let text = packet(&format!("203.0.113.{server}:{src_port}"), &to, what);
                self.gateway.receive(OUTSIDE, &text::build(&text, text::mac_of(ROUTER), MACS[1]))
            }
            Event::Pair { flow, second, what } => {
                let masked = mask(self.handle(flow));
                let from = if second { "127.0.0.2:2" } else { "127.0.0.1:1" };
                let text = packet(from, &masked.to_string(), what);
                self.gateway.packet_from_proxy(&text::build_ip(&text))
            }
            Event::Closed { flow } => {
                let handle = self.handle(flow);
                self.gateway.receive_from_proxy(FromProxy::Closed {
                    handle,
                    reason: CloseReason::Finished,
                    last_words: None,
                })
            }
            // Some of these are no server's.
            Event::Retarget { flow, server, dst_port } => {
                let server = match server {
                    0 => Ipv4Addr::new(198, 18, 0, 1),
                    1 => Ipv4Addr::new(10, 77, 1, 2),
                    2 => Ipv4Addr::new(240, 0, 0, 1),
                    _ => Ipv4Addr::new(203, 0, 113, server),
                };
                let server = SocketAddrV4::new(server, dst_port);
                self.gateway.receive_from_proxy(FromProxy::Retarget { handle: self.handle(flow), server })
            }
            Event::Acknowledge { nth, off, len } => {
                if self.greetings.is_empty() {
                    return;
                }
                let (server, client, seq) = &self.greetings[nth % self.greetings.len()];
                let ack = seq.wrapping_add(1).wrapping_add(off);
                let text = format!("tcp {client} > {server} A seq=2 ack={ack} len={len}");
                let addr = client.split(':').next().unwrap().parse().unwrap();
                self.gateway.receive(INSIDE, &text::build(&text, text::mac_of(addr), MACS[0]))
            }
            Event::Raw { inside, bytes } => {
                self.gateway.receive(if inside { INSIDE } else { OUTSIDE }, &bytes)
            }
            Event::Bent { inside, what, at, to, cut } => {
                let mut frame = self.frame(inside, what);
                if let Some(byte) = frame.get_mut(at) {
                    *byte = to;
                }
                if what % 3 == 0 {
                    frame.truncate(cut);
                }
                // Right checksums let the bent header come further.
                if what.is_multiple_of(2) && frame.len() >= 34 {
                    frame[24..26].fill(0);
                    let sum = pnat_shared::wire::checksum::Sum::ZERO.bytes(&frame[L2_LEN..34]).finish();
                    frame[24..26].copy_from_slice(&sum.to_be_bytes());
                }
                self.gateway.receive(if inside { INSIDE } else { OUTSIDE }, &frame);
                self.is_bent = self.gateway.worker.waiting() > 0;
                Vec::new()
            }
            Event::Pass(seconds) => self.gateway.pass(Duration::from_secs(seconds)),
        };
        for out in outs.iter().filter(|_| !self.is_bent) {
            let told = out.tell();
            assert!(!told.contains("badsum"), "{told}");
            let words: Vec<&str> = told.split_whitespace().collect();
            if let ["inside", "tcp", server, ">", client, "SA", seq, ..] = words[..] {
                let seq = seq.strip_prefix("seq=").unwrap().parse().unwrap();
                self.greetings.push((server.to_owned(), client.to_owned(), seq));
            }
        }
        let handles = self.gateway.worker.bindings().map(|view| view.handle);
        self.flows.extend(handles.collect::<Vec<_>>());
        self.flows.dedup();
    }

    /// A flow that is or was open.
    fn handle(&self, nth: usize) -> Handle {
        let none = Handle { worker: WorkerId(0), slot: 0, generation: 0 };
        if self.flows.is_empty() { none } else { self.flows[nth % self.flows.len()] }
    }

    fn is_conserved(&self) -> Result<(), TestCaseError> {
        let stats = self.gateway.worker.stats();
        let received: u64 = stats.ports.iter().map(|port| port.rx_packets.value()).sum();
        let sent: u64 = stats.ports.iter().map(|port| port.tx_packets.value()).sum();
        let drops: u64 = DropReason::ALL
            .iter()
            .filter(|reason| **reason != DropReason::NoFrame)
            .map(|reason| stats.drops.value(*reason))
            .sum();
        let into = received + stats.from_proxy.value() + stats.handed_in.value() + stats.generated.value();
        let out = sent + stats.to_proxy.value() + stats.handed_out.value() + drops + stats.absorbed.value();
        prop_assert_eq!(into, out + self.gateway.worker.waiting() as u64);
        let open = self.gateway.worker.bindings().count() as u64;
        prop_assert_eq!(stats.active.value(), open);
        let owing = self.gateway.worker.bindings().filter(|view| view.binding.proof.is_owed());
        prop_assert_eq!(stats.half_open.value(), owing.count() as u64);
        let closed: u64 = CloseReason::ALL.iter().map(|reason| stats.closes.value(*reason)).sum();
        prop_assert_eq!(stats.opened.value(), open + closed);
        Ok(())
    }
}

fn world(action: Action, syn_cookies_above: u32) -> World {
    let mut world =
        World { ports: 2000..=2011, flows: 12, flows_per_client: 8, syn_cookies_above, ..World::default() };
    world.policy.default_action = action;
    world
}

fn run(world: &World) -> Run {
    Run { gateway: Gateway::new(world), flows: Vec::new(), greetings: Vec::new(), is_bent: false }
}

proptest! {
    #[test]
    fn every_frame_is_sent_queued_or_counted_and_every_checksum_is_right(
        events in prop::collection::vec(event(), 1..150),
        action in prop_oneof![Just(Action::Nat), Just(Action::Proxy), Just(Action::Deny(Denial::Reset))],
        cookies_above in 0u32..12,
        dead: bool,
    ) {
        let mut run = run(&world(action, cookies_above));
        if dead {
            run.gateway.dead = vec![ROUTER];
        }
        for event in events {
            run.step(event);
            run.is_conserved()?;
        }
    }

    #[test]
    fn when_all_is_silent_all_is_given_back(
        events in prop::collection::vec(event(), 1..100), proxied: bool, cookies_above in 0u32..12,
    ) {
        let action = if proxied { Action::Proxy } else { Action::Nat };
        let mut run = run(&world(action, cookies_above));
        for event in events {
            run.step(event);
        }
        run.gateway.pass(Duration::from_secs(110_000));
        prop_assert_eq!(run.gateway.worker.bindings().count(), 0);
        prop_assert_eq!(run.gateway.worker.waiting(), 0);
        for protocol in [pnat_shared::flow::Protocol::Tcp, pnat_shared::flow::Protocol::Udp] {
            prop_assert_eq!(run.gateway.worker.free_ports(protocol), 12);
        }
        run.is_conserved()?;
    }
}
