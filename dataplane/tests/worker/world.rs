//! A worker between a client's network and a server's, with neighbors that answer ARP.

use core::net::Ipv4Addr;
use core::ops::RangeInclusive;
use std::sync::Arc;

use pnat_dataplane::handoff::{Handoff, Shards};
use pnat_dataplane::nat::policy::Snapshot;
use pnat_dataplane::route::PortInfo;
use pnat_dataplane::worker::{Outputs, Setup, SynCookies, Worker, WorkerStats};
use pnat_shared::config::{self, Action, Policy};
use pnat_shared::flow::{Accepted, Handle, NewFlow, Offloads, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::{arp, ip};

use crate::text;

pub(crate) const INSIDE: u8 = 0;
pub(crate) const OUTSIDE: u8 = 1;
pub(crate) const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
pub(crate) const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 254);

/// What a case may choose.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) policy: Policy,
    pub(crate) ports: RangeInclusive<u16>,
    pub(crate) flows: u32,
    pub(crate) flows_per_client: u32,
    pub(crate) mtus: [u16; 2],
    pub(crate) offloads: Offloads,
    pub(crate) gateway: bool,
    pub(crate) workers: u8,
    pub(crate) pool: usize,
    pub(crate) syn_cookies_above: u32,
}

impl Default for World {
    fn default() -> Self {
        Self {
            policy: Policy::without_rules(Action::Nat),
            ports: 1024..=65535,
            flows: 1024,
            flows_per_client: 512,
            mtus: [1500; 2],
            offloads: Offloads::NONE,
            gateway: true,
            workers: 1,
            pool: usize::MAX,
            syn_cookies_above: 1024,
        }
    }
}

pub(crate) type TestWorker = Worker<VecFrame, VecPool>;

impl World {
    pub(crate) fn worker(&self, me: u8, shards: &Shards, now: Instant) -> TestWorker {
        let port = |number: usize, addr: [u8; 4], gateway| PortInfo {
            mac: MACS[number],
            mtu: self.mtus[number],
            offloads: self.offloads,
            outside: number == 1,
            addresses: vec![(Ipv4Addr::from(addr), 24)],
            gateway,
        };
        let setup = Setup {
            me: WorkerId(me),
            shards: shards.clone(),
            ports: vec![
                port(0, [10, 77, 1, 1], None),
                port(1, [198, 18, 0, 1], self.gateway.then_some(ROUTER)),
            ],
            nat: config::Nat {
                public: vec![Ipv4Addr::new(198, 18, 0, 1)],
                ports: self.ports.clone(),
                flows: self.flows,
                flows_per_client: self.flows_per_client,
                timeouts: config::Timeouts {
                    tcp_established: Duration::from_secs(7440),
                    tcp_transitory: Duration::from_secs(240),
                    udp: Duration::from_secs(300),
                    icmp: Duration::from_secs(60),
                },
            },
            policy: Snapshot { generation: 1, policy: Arc::new(self.policy.clone()) },
            proxied_idle: Duration::from_secs(100_000),
            cookies: SynCookies { above: self.syn_cookies_above, window: 1 << 20, ecn: true, secret: 7 },
            secret: 11,
        };
        let stats = Arc::new(WorkerStats::new(setup.ports.len()));
        Worker::new(setup, VecPool { left: self.pool }, stats, now)
    }
}

/// Something that came out of a worker.
#[derive(Debug)]
pub(crate) enum Out {
    Port(u8, VecFrame),
    Open(VecFrame, Box<NewFlow>),
    ToProxy(VecFrame),
    /// A message without a packet.
    Word(String),
}

impl Out {
    /// In the words of case files.
    pub(crate) fn tell(&self) -> String {
        let masked = |frame: &VecFrame| text::tell_ip(&frame.data()[L2_LEN..], true);
        match self {
            Self::Port(port, frame) => {
                format!("{} {}", ["inside", "outside"][usize::from(*port)], text::tell(frame.data()))
            }
            Self::Open(frame, flow) => format!(
                "proxy open {} client={} server={} public={}{}",
                masked(frame),
                flow.client,
                flow.server,
                flow.public,
                flow.accepted.as_ref().map_or_else(String::new, tell_accepted),
            ),
            Self::ToProxy(frame) => format!("proxy {}", masked(frame)),
            Self::Word(told) => format!("proxy {told}"),
        }
    }
}

fn tell_accepted(handshake: &Accepted) -> String {
    let Accepted { iss, irs, ours, theirs, window, ecn } = handshake;
    let (ours, theirs) = (text::tell_options(ours, "ours:"), text::tell_options(theirs, "theirs:"));
    format!(" iss={iss:?} irs={irs:?} window={window} ecn={ecn}{ours}{theirs}")
}

/// One worker in its world, and a clock.
pub(crate) struct Gateway {
    pub(crate) worker: TestWorker,
    pub(crate) now: Instant,
    pub(crate) outputs: Outputs<VecFrame>,
    /// Addresses that do not answer ARP.
    pub(crate) dead: Vec<Ipv4Addr>,
    /// Whether ARP is told; otherwise it happens unseen.
    pub(crate) show_arp: bool,
}

impl Gateway {
    pub(crate) fn new(world: &World) -> Self {
        let now = Instant::from_secs(1000);
        let worker = world.worker(0, &Shards::new(1, 1, 3), now);
        Self { worker, now, outputs: Outputs::new(2, 1, 1), dead: Vec::new(), show_arp: false }
    }

    /// A frame that arrives; what came out, ARP answered.
    pub(crate) fn receive(&mut self, port: u8, bytes: &[u8]) -> Vec<Out> {
        self.receive_burst(port, &[bytes.to_vec()])
    }

    pub(crate) fn receive_burst(&mut self, port: u8, frames: &[Vec<u8>]) -> Vec<Out> {
        let mut burst = frames.iter().map(|bytes| VecFrame::new(bytes)).collect();
        self.worker.on_port_burst(port, &mut burst, self.now, &mut self.outputs);
        assert!(burst.is_empty());
        self.collect()
    }

    pub(crate) fn receive_from_proxy(&mut self, message: FromProxy<VecFrame>) -> Vec<Out> {
        self.worker.on_proxy_burst(&mut vec![message], self.now, &mut self.outputs);
        self.collect()
    }

    pub(crate) fn packet_from_proxy(&mut self, packet: &[u8]) -> Vec<Out> {
        let frame = VecFrame::new(&[&[0; L2_LEN], packet].concat());
        self.receive_from_proxy(FromProxy::Packet { frame, at: self.now })
    }

    pub(crate) fn again_from_proxy(&mut self, handle: Handle, packet: &[u8]) -> Vec<Out> {
        let frame = VecFrame::new(&[&[0; L2_LEN], packet].concat());
        self.receive_from_proxy(FromProxy::Again { handle, frame })
    }

    /// Lets time pass, timers running.
    pub(crate) fn pass(&mut self, time: Duration) -> Vec<Out> {
        let end = self.now + time;
        let mut outs = Vec::new();
        while self.now < end {
            let step = match time.as_secs() {
                0..=100 => 100,
                101..=10_000 => 10_000,
                _ => 100_000,
            };
            self.now = (self.now + Duration::from_millis(step)).min(end);
            self.worker.on_timer(self.now, &mut self.outputs);
            outs.extend(self.collect());
        }
        outs
    }

    pub(crate) fn drops(&self) -> Vec<(DropReason, u64)> {
        let drops = &self.worker.stats().drops;
        DropReason::ALL.iter().map(|reason| (*reason, drops.value(*reason))).filter(|(_, n)| *n > 0).collect()
    }

    /// Takes what came out, and answers the questions in it as their neighbors would.
    fn collect(&mut self) -> Vec<Out> {
        let mut outs = Vec::new();
        loop {
            let mut answers = Vec::new();
            for (port, frames) in self.outputs.transmit.iter_mut().enumerate() {
                for frame in frames.drain(..) {
                    let question = question(&frame);
                    if let Some((from, message)) =
                        question.filter(|(_, message)| !self.dead.contains(&message.target))
                    {
                        answers.push((port as u8, answer(from, &message)));
                    }
                    if question.is_none() && !is_arp(&frame) || self.show_arp {
                        outs.push(Out::Port(port as u8, frame));
                    }
                }
            }
            for message in self.outputs.to_proxy[0].drain(..) {
                outs.push(match message {
                    ToProxy::Open { frame, flow, .. } => Out::Open(frame, flow),
                    ToProxy::Packet { frame, .. } => Out::ToProxy(frame),
                    ToProxy::Gone { handle, reason } => {
                        Out::Word(format!("gone {} {reason}", pnat_shared::loopback::mask(handle)))
                    }
                    ToProxy::Moved { handle, public } => {
                        Out::Word(format!("moved {} {public}", pnat_shared::loopback::mask(handle)))
                    }
                });
            }
            assert!(self.outputs.handoff.iter().all(Vec::is_empty), "one worker hands nothing over");
            if answers.is_empty() {
                return outs;
            }
            for (port, bytes) in answers {
                let mut burst = vec![VecFrame::new(&bytes)];
                self.worker.on_port_burst(port, &mut burst, self.now, &mut self.outputs);
            }
        }
    }
}

fn is_arp(frame: &VecFrame) -> bool {
    ethernet::Header::read(frame.data()).is_ok_and(|link| link.ether_type == ethernet::TYPE_ARP)
}

/// The ARP question in a frame of the gateway's, and who asks.
pub(crate) fn question(frame: &VecFrame) -> Option<(Mac, arp::Message)> {
    let link =
        ethernet::Header::read(frame.data()).ok().filter(|link| link.ether_type == ethernet::TYPE_ARP)?;
    let message = arp::Message::read(&frame.data()[L2_LEN..]).ok()?;
    let is_question = message.operation == arp::Operation::Request && message.sender != message.target;
    is_question.then_some((link.src, message))
}

/// The answer of the host that was asked.
pub(crate) fn answer(asker: Mac, question: &arp::Message) -> Vec<u8> {
    let mac = text::mac_of(question.target);
    text::build(&format!("arp {} is-at {mac} target={}", question.target, question.sender), mac, asker)
}

/// Several workers and the rings between them.
pub(crate) struct Cluster {
    pub(crate) workers: Vec<TestWorker>,
    pub(crate) shards: Shards,
    pub(crate) now: Instant,
    pub(crate) handed_over: usize,
}

impl Cluster {
    pub(crate) fn new(world: &World) -> Self {
        let now = Instant::from_secs(1000);
        let shards = Shards::new(world.workers, 1, 3);
        let workers = (0..world.workers).map(|me| world.worker(me, &shards, now)).collect();
        Self { workers, shards, now, handed_over: 0 }
    }

    /// Delivers a frame to worker `to`, whoever owns it, and answers what leaves by ports, by the worker that sent it.
    pub(crate) fn receive(&mut self, to: usize, port: u8, bytes: &[u8]) -> Vec<(usize, u8, VecFrame)> {
        let count = self.workers.len();
        let mut outputs = Outputs::new(2, 1, count);
        let mut left = Vec::new();
        self.workers[to].on_port_burst(port, &mut vec![VecFrame::new(bytes)], self.now, &mut outputs);
        let mut queue: Vec<(usize, Vec<Handoff<VecFrame>>)> = Vec::new();
        let mut sender = to;
        loop {
            for (worker, burst) in outputs.handoff.iter_mut().enumerate() {
                if !burst.is_empty() {
                    assert_ne!(worker, sender, "nobody hands to itself");
                    queue.push((worker, core::mem::take(burst)));
                }
            }
            for (port, frames) in outputs.transmit.iter_mut().enumerate() {
                for frame in frames.drain(..) {
                    match question(&frame) {
                        // A NIC gives every answer to the first worker.
                        Some((asker, message)) => {
                            let mut burst = vec![VecFrame::new(&answer(asker, &message))];
                            let mut more = Outputs::new(2, 1, count);
                            self.workers[0].on_port_burst(port as u8, &mut burst, self.now, &mut more);
                            left.extend(more.transmit.into_iter().enumerate().flat_map(|(port, frames)| {
                                frames.into_iter().map(move |frame| (0, port as u8, frame))
                            }));
                            queue.extend(
                                more.handoff.into_iter().enumerate().filter(|(_, burst)| !burst.is_empty()),
                            );
                        }
                        None => left.push((sender, port as u8, frame)),
                    }
                }
            }
            let Some((worker, mut burst)) = queue.pop() else { return left };
            self.handed_over += burst.iter().filter(|handed| matches!(handed, Handoff::Frame { .. })).count();
            self.workers[worker].on_handoff(&mut burst, self.now, &mut outputs);
            sender = worker;
        }
    }
}

/// Source and destination of a frame's packet.
pub(crate) fn addresses(frame: &VecFrame) -> (Ipv4Addr, Ipv4Addr) {
    let header = ip::Header::read(&frame.data()[L2_LEN..]).unwrap();
    (header.src, header.dst)
}
