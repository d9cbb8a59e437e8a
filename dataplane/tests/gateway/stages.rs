//! The stages that the gateway measures add up to the time that packets take from port to port.
//!
//! Production's loops on a clock that moves on by chance whenever somebody looks at it, and only then: so it is known to the
//! nanosecond when each packet came and went.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;
use std::sync::Arc;

use crossbeam_channel::{Sender, bounded};
use pnat_dataplane::control::CoreMessage;
use pnat_dataplane::handoff::Shards;
use pnat_dataplane::launch::{ProxyLoop, Timepiece, WorkerLoop, mesh};
use pnat_dataplane::nat::policy::Snapshot;
use pnat_dataplane::port::{BURST, PortQueue};
use pnat_dataplane::worker::{Worker, WorkerStats};
use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{self, Reactor};
use pnat_shared::capture::TapPoint;
use pnat_shared::config::{Action, Policy};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::stats::{Latency, Stage};
use pnat_shared::testkit::{Random, VecFrame, VecPool};
use pnat_shared::time::Instant;
use pnat_shared::wire::{arp, ethernet, ip, udp};

use crate::world::{self, CORES, INSIDE, OUTSIDE, Run, SERVER, WINDOW, answer, mac, station};

const CLIENTS: u32 = 50;
const DATAGRAMS: u32 = 3_000;

/// What is known of a run: every look at the clock, and by which look each datagram had come and gone.
#[derive(Debug, Default)]
struct Known {
    looks: Vec<Instant>,
    came: BTreeMap<u32, usize>,
    gone: BTreeMap<u32, usize>,
}

#[derive(Clone, Debug)]
struct Jumping(Rc<RefCell<(Known, Random)>>);

impl Timepiece for Jumping {
    fn now(&self) -> Instant {
        let (known, random) = &mut *self.0.borrow_mut();
        let before = known.looks.last().copied().unwrap_or(Instant::from_secs(1));
        let now = before.plus_nanos(1 + random.below(2_000));
        known.looks.push(now);
        now
    }
}

/// One worker's queue of a port; notes which look at the clock comes next as datagrams come and go.
#[derive(Debug)]
struct Port {
    number: usize,
    clock: Jumping,
    incoming: VecDeque<VecFrame>,
}

impl PortQueue<VecFrame> for Port {
    fn receive(&mut self, burst: &mut Vec<VecFrame>) -> usize {
        let known = &mut self.clock.0.borrow_mut().0;
        let count = self.incoming.len().min(BURST);
        for frame in self.incoming.drain(..count) {
            if let Some(number) = number_of(&frame) {
                known.came.insert(number, known.looks.len());
            }
            burst.push(frame);
        }
        count
    }

    fn transmit(&mut self, burst: &mut Vec<VecFrame>) {
        let known = &mut self.clock.0.borrow_mut().0;
        for frame in burst.drain(..) {
            if let Some(number) = number_of(&frame) {
                known.gone.insert(number, known.looks.len());
            } else if let Ok(asked) = arp::Message::read(&frame.data()[L2_LEN..])
                && asked.sender != asked.target
            {
                self.incoming.push_back(answer(self.number, &asked));
            }
        }
    }
}

type Workers = Vec<WorkerLoop<VecFrame, VecPool, Port, Jumping>>;
type Proxies = Vec<ProxyLoop<VecFrame, VecPool, Jumping>>;

struct Gateway {
    clock: Jumping,
    random: Random,
    workers: Workers,
    proxies: Proxies,
    _control: Vec<Sender<CoreMessage>>,
}

impl Gateway {
    fn new(action: Action, seed: u64) -> Self {
        let clock = Jumping(Rc::new(RefCell::new((Known::default(), Random::new(seed)))));
        let now = clock.now();
        let policy = Arc::new(Policy::without_rules(action));
        let shards = Shards::new(CORES as u8, CORES as u8, seed);
        let (worker_ends, proxy_ends) = mesh(CORES, CORES, 1024);
        let mut control = Vec::new();
        let mut messages = || {
            let (sender, inbox) = bounded(1);
            control.push(sender);
            inbox
        };
        let workers = worker_ends.into_iter().enumerate().map(|(me, rings)| {
            let snapshot = Snapshot { generation: 1, policy: policy.clone() };
            let setup = world::setup(me as u8, &shards, snapshot, &Run::default());
            let worker = Worker::new(setup, VecPool::endless(), Arc::new(WorkerStats::new(2)), now);
            let queue = |number| Port { number, clock: clock.clone(), incoming: VecDeque::new() };
            let queues = vec![(queue(INSIDE), TapPoint::Inside), (queue(OUTSIDE), TapPoint::Outside)];
            WorkerLoop::new(worker, clock.clone(), queues, rings, messages())
        });
        let workers = workers.collect();
        let proxies = proxy_ends.into_iter().map(|rings| {
            let stats = Arc::default();
            let mut reactor = Reactor::new(&world::proxy(), CORES, Services::default(), stats, now);
            let chains = Arc::new(Chains::new(Vec::new(), WINDOW));
            reactor.set_policy(reactor::Snapshot { generation: 1, rules: Vec::new(), chains }, 1);
            ProxyLoop::new(reactor, VecPool::endless(), clock.clone(), rings, messages())
        });
        let proxies = proxies.collect();
        Self { random: Random::new(seed), clock, workers, proxies, _control: control }
    }

    /// Sends datagrams in bursts of any length to any worker while the cores turn in any order; all of them come through.
    fn carry(&mut self, numbers: std::ops::Range<u32>) {
        let mut left = numbers.clone();
        let mut patience = 100_000;
        while !self.has_carried(&numbers) {
            patience -= 1;
            assert!(patience > 0, "datagrams are lost");
            let worker = self.random.below(CORES as u64) as usize;
            let burst = self.random.below(20) as usize;
            let frames = left.by_ref().take(burst).map(datagram);
            self.workers[worker].queues_mut()[INSIDE].0.incoming.extend(frames);
            for _ in 0..self.random.below(6) {
                let core = self.random.below(CORES as u64) as usize;
                if self.random.below(2) == 0 {
                    self.workers[core].turn(&mut None);
                } else {
                    self.proxies[core].turn(&mut None);
                }
            }
        }
    }

    fn has_carried(&self, numbers: &std::ops::Range<u32>) -> bool {
        self.clock.0.borrow().0.gone.range(numbers.clone()).count() == numbers.len()
    }

    /// Opens each client's flow, one after the other: neighbors keep few packets waiting.
    fn open(&mut self) {
        (0..CLIENTS).for_each(|number| self.carry(number..number + 1));
    }

    /// Forgets what was measured, and measures from now on, or does not.
    fn measure(&mut self, is_on: bool) {
        self.workers.iter_mut().for_each(|worker| worker.measure(is_on));
        self.proxies.iter_mut().for_each(|proxy| proxy.measure(is_on));
    }

    fn latency(&self) -> Latency {
        let mut all = Latency::default();
        self.workers.iter().for_each(|worker| all.merge(&worker.latency()));
        self.proxies.iter().for_each(|proxy| all.merge(proxy.latency()));
        all
    }

    /// Mean nanoseconds from port to port.
    fn mean(&self, numbers: std::ops::Range<u32>) -> f64 {
        let known = &self.clock.0.borrow().0;
        let count = numbers.len() as f64;
        let took = |number| known.looks[known.gone[&number]].nanos_since(known.looks[known.came[&number]]);
        numbers.map(took).sum::<u64>() as f64 / count
    }
}

/// A datagram of one of the clients, with its number as its content.
fn datagram(number: u32) -> VecFrame {
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, 2 + (number % CLIENTS) as u8), 4000);
    let total_len = ip::MIN_LEN + udp::LEN + 4;
    let mut frame = VecFrame::new(&vec![0; L2_LEN + total_len]);
    let link = ethernet::Header { dst: mac(INSIDE), src: station(INSIDE), ether_type: ethernet::TYPE_IPV4 };
    link.write(frame.data_mut());
    let packet = &mut frame.data_mut()[L2_LEN..];
    ip::Header::new(17, *client.ip(), *SERVER.ip(), total_len).write(packet);
    packet[ip::MIN_LEN + udp::LEN..].copy_from_slice(&number.to_be_bytes());
    let (src, dst) = ((*client.ip(), client.port()), (*SERVER.ip(), SERVER.port()));
    udp::write(&mut packet[ip::MIN_LEN..], src, dst);
    frame
}

fn number_of(frame: &VecFrame) -> Option<u32> {
    let packet = frame.data().get(L2_LEN..)?;
    let is_udp = ip::Header::read(packet).is_ok_and(|header| header.protocol == 17);
    let number = packet.get(ip::MIN_LEN + udp::LEN..)?.first_chunk()?;
    is_udp.then(|| u32::from_be_bytes(*number))
}

/// Lets the gateway carry datagrams of flows that are open, and compares. Histograms know values to two digits.
fn adds_up(action: Action, way: &[Stage]) {
    for seed in 0..5 {
        let mut gateway = Gateway::new(action, seed);
        gateway.open();
        gateway.measure(true);
        gateway.carry(CLIENTS..DATAGRAMS);
        let latency = gateway.latency();
        let counts: Vec<u64> = way.iter().map(|stage| latency.stage(*stage).len()).collect();
        assert_eq!(
            counts,
            vec![u64::from(DATAGRAMS - CLIENTS); way.len()],
            "each packet is in each stage once"
        );
        let sum: f64 = way.iter().map(|stage| latency.stage(*stage).mean()).sum();
        let whole = gateway.mean(CLIENTS..DATAGRAMS);
        assert!((sum / whole - 1.0).abs() < 0.01, "seed {seed}: {sum} of {whole} ns by {latency:?}");
        let others = Stage::ALL.iter().filter(|stage| !way.contains(stage));
        assert_eq!(
            others.map(|stage| latency.stage(*stage).len()).sum::<u64>(),
            0,
            "no other stage is measured"
        );
    }
}

#[test]
fn stages_of_translated_packets_add_up_to_their_way() {
    adds_up(Action::Nat, &[Stage::Nat]);
}

#[test]
fn stages_of_proxied_packets_add_up_to_their_way() {
    adds_up(Action::Proxy, &Stage::PROXIED);
}

#[test]
fn a_gateway_that_does_not_measure_looks_at_the_clock_less_and_carries_as_much() {
    let looks = |is_on| {
        let mut gateway = Gateway::new(Action::Proxy, 1);
        gateway.measure(is_on);
        gateway.open();
        gateway.carry(CLIENTS..DATAGRAMS);
        let measured: u64 = Stage::ALL.iter().map(|stage| gateway.latency().stage(*stage).len()).sum();
        assert_eq!(measured > 0, is_on);
        gateway.clock.0.borrow().0.looks.len()
    };
    assert!(looks(false) < looks(true));
}
