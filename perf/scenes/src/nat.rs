//! The worker's step, from parsing to the output queue: packets of known flows, and packets that open flows.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_dataplane::worker::{Outputs, Worker};
use pnat_shared::config::{Action, Policy};
use pnat_shared::testkit::Random;
use pnat_shared::time::{Duration, Instant};

use crate::frames::{Pool, PoolFrame};
use crate::gateway::{self, INSIDE, OUTSIDE, answer_arp, link_to};
use crate::host::Host;
use crate::measure::{Burst, Scene, time};
use crate::packet;

const BURST: u64 = crate::BURST as u64;
/// Flows that a [`Miss`] opens before all of them expire.
const FILL: u64 = 32 * 1024;
/// Client ports per client, as CSIT's NAT tests have it.
const PORTS: u64 = 63;
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 1), 53);

/// A worker with its outputs and its time.
#[derive(Debug)]
struct Nat {
    worker: Worker<PoolFrame, Pool>,
    out: Outputs<PoolFrame>,
    burst: Vec<PoolFrame>,
    now: Instant,
}

impl Nat {
    fn new(action: Action, flows: u64) -> Self {
        let policy = Policy::without_rules(action);
        let now = Instant::from_secs(1000);
        let worker = gateway::worker(policy, u32::try_from(flows).expect("flows are 22 bits"), now);
        Self { worker, out: Outputs::new(2, 1, 1), burst: Vec::new(), now }
    }

    /// Takes the burst in; answers how long that took and how many packets went on. Neighbors answer meanwhile.
    fn step(&mut self) -> Burst {
        self.now += Duration::from_micros(1);
        let Self { worker, out, burst, now } = self;
        let took = time(|| worker.on_port_burst(INSIDE as u8, burst, *now, out));
        let mut packets = 0;
        loop {
            packets += out.to_proxy[0].drain(..).count() as u64;
            for frame in out.transmit[OUTSIDE].drain(..) {
                match answer_arp(&frame) {
                    Some(answer) => burst.push(answer),
                    None => packets += 1,
                }
            }
            if burst.is_empty() {
                return Burst { packets, took };
            }
            worker.on_port_burst(OUTSIDE as u8, burst, *now, out);
        }
    }

    /// Lets time pass until no flow is left and no port rests.
    fn expire(&mut self) {
        self.now += Duration::from_secs(10_000);
        while self.worker.stats().active.value() > 0 {
            self.worker.on_timer(self.now, &mut self.out);
            self.out.to_proxy[0].clear();
            self.out.transmit[OUTSIDE].clear();
        }
        self.now += Duration::from_secs(1000);
    }
}

/// Datagrams of flows that are open, in random order.
#[derive(Debug)]
pub struct Hit {
    nat: Nat,
    flows: u64,
    random: Random,
}

impl Hit {
    pub fn new(flows: u64) -> Self {
        let mut nat = Nat::new(Action::Nat, flows);
        for flow in 0..flows {
            nat.burst.push(datagram(flow));
            if nat.burst.len() as u64 == BURST || flow + 1 == flows {
                nat.step();
            }
        }
        assert_eq!(nat.worker.stats().active.value(), flows, "all flows are open");
        Self { nat, flows, random: Random::new(1) }
    }
}

impl Scene for Hit {
    fn burst(&mut self) -> Burst {
        for _ in 0..BURST {
            self.nat.burst.push(datagram(self.random.below(self.flows)));
        }
        let burst = self.nat.step();
        assert_eq!(burst.packets, BURST, "every packet goes on");
        burst
    }
}

/// First packets: a flow is opened by each.
#[derive(Debug)]
pub struct Miss {
    nat: Nat,
    is_proxied: bool,
    opened: u64,
}

impl Miss {
    pub fn new(action: Action) -> Self {
        let nat = Nat::new(action, FILL);
        let mut scene = Self { nat, is_proxied: action == Action::Proxy, opened: 0 };
        scene.burst();
        scene
    }
}

impl Scene for Miss {
    fn burst(&mut self) -> Burst {
        if self.opened == FILL {
            self.nat.expire();
            self.opened = 0;
        }
        for flow in self.opened..self.opened + BURST {
            self.nat.burst.push(if self.is_proxied {
                Host::new(link_to(INSIDE), client(flow), SERVER).syn()
            } else {
                datagram(flow)
            });
        }
        self.opened += BURST;
        let burst = self.nat.step();
        let active = self.nat.worker.stats().active.value();
        assert_eq!((burst.packets, active), (BURST, self.opened), "every packet opens a flow");
        burst
    }
}

fn client(flow: u64) -> SocketAddrV4 {
    let (host, port) = (flow / PORTS, flow % PORTS);
    SocketAddrV4::new(Ipv4Addr::from_bits(0x0a00_1000 + host as u32), 2000 + port as u16)
}

/// 64 bytes on the wire, as packet rates are told for.
fn datagram(flow: u64) -> PoolFrame {
    packet::datagram(link_to(INSIDE), client(flow), SERVER, 18)
}
