//! One proxy core with a million idle pairs: what each keeps, what the others notice of them, and what their end costs.
//!
//! Time is virtual here, so that hours of idleness take no longer than their timers do.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use allocation_counter::measure;
use pnat_perf::frames::{Pool, PoolFrame};
use pnat_perf::gateway::{self, INSIDE, WINDOW, link_to};
use pnat_perf::host::Host;
use pnat_perf::measure::{Allocations, Bench, Burst, Scene, tell, time};
use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Snapshot};
use pnat_shared::config::{Action, Policy, Proxy};
use pnat_shared::flow::{Handle, NewFlow, Offloads, Protocol, Side, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, ToProxy, mask, side_of, socket, unmask};
use pnat_shared::testkit::Random;
use pnat_shared::time::Instant;
use pnat_shared::wire::ip;

/// Pairs that carry segments, and pairs beside them that carry none.
const ACTIVE: u32 = 100_000;
const IDLE: u32 = 1_000_000;
/// Flows of a burst, and full segments of each.
const FLOWS: usize = 16;
const SEGMENTS: usize = 2;
/// How fast time goes: a million segments per second.
const BURST_TIME: Duration = Duration::from_micros((FLOWS * SEGMENTS) as u64);
const IDLE_TIMEOUT: Duration = Duration::from_secs(7200);
/// How long after its last segment a pair has given its spare memory back.
const SETTLED: Duration = Duration::from_secs(6);
const WORKER: WorkerId = WorkerId(0);

fn main() -> ExitCode {
    let mut bench = Bench::from_args();
    let mut alone = bench.run("scale/active_100k", Allocations::Told, || Core::new(ACTIVE));
    let mut beside = bench.run("scale/active_100k_of_1.1M", Allocations::Told, || Core::new(ACTIVE + IDLE));
    bench.compare(&mut beside, &mut alone);
    drop(alone);
    if let Some((_, mut core)) = beside {
        tell_of_a_binding();
        core.expire();
    }
    bench.finish()
}

/// What the worker keeps for a flow beside its pair.
fn tell_of_a_binding() {
    const FLOWS: u32 = 100_000;
    let policy = Policy::without_rules(Action::Proxy);
    let mut worker = None;
    let counted = measure(|| worker = Some(gateway::worker(policy, FLOWS, Instant::from_secs(1))));
    tell(&format!("a worker's tables take {} bytes per flow", counted.bytes_current / i64::from(FLOWS)));
}

/// A reactor, and the clients and servers of its flows.
struct Core {
    reactor: Reactor<PoolFrame>,
    out: Outputs<PoolFrame>,
    input: Vec<ToProxy<PoolFrame>>,
    now: Instant,
    /// By flow, which is also its slot: client and server.
    hosts: Vec<[Host; 2]>,
    /// The active flows, in an order that no prefetcher guesses, and whose turn it is.
    order: Vec<u32>,
    turn: usize,
    /// Full segments that have come to servers.
    delivered: u64,
    /// The longest single call of the reactor.
    longest: Duration,
}

const fn handle(flow: u32) -> Handle {
    Handle { worker: WORKER, slot: flow, generation: 1 }
}

impl Core {
    /// A core with so many open pairs, of which the first [`ACTIVE`] are to carry segments.
    fn new(pairs: u32) -> Self {
        let now = Instant::from_secs(1);
        let settings = Proxy {
            pairs,
            connect_timeout: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(60),
            idle_timeout: IDLE_TIMEOUT,
            keepalive: Duration::ZERO,
            udp_timeout: Duration::from_secs(60),
            window: WINDOW,
            ring: 4096,
            ..Proxy::default()
        };
        let mut order: Vec<u32> = (0..ACTIVE).collect();
        let mut random = Random::new(1);
        order.sort_by_cached_key(|_| random.number());
        let ends = |flow| {
            [Side::First, Side::Second]
                .map(|side| Host::new(link_to(INSIDE), mask(handle(flow)), socket(side)))
        };
        let hosts = (0..pairs).map(ends).collect();
        let mut core = None;
        let counted = measure(|| {
            let mut reactor = Reactor::new(&settings, 1, Services::default(), Arc::default(), now);
            reactor.set_policy(
                Snapshot {
                    generation: 1,
                    rules: Vec::new(),
                    chains: Arc::new(Chains::new(Vec::new(), WINDOW)),
                },
                1,
            );
            let mut new = Self {
                reactor,
                out: Outputs::new(1),
                input: Vec::new(),
                now,
                hosts,
                order,
                turn: 0,
                delivered: 0,
                longest: Duration::ZERO,
            };
            let took = (0..pairs).map(|flow| new.open(flow)).sum::<Duration>();
            tell(&format!("{pairs} pairs: opening takes {} ns each", took.as_nanos() / u128::from(pairs)));
            // Once round with everybody, so that idle pairs are pairs that have carried something.
            for flow in 0..pairs {
                new.exchange(&[flow]);
            }
            let settling = new.pass(SETTLED);
            tell(&format!("settling takes {} ns each", settling.as_nanos() / u128::from(pairs)));
            core = Some(new);
        });
        tell(&format!("an idle pair keeps {} bytes", counted.bytes_current / i64::from(pairs)));
        let core = core.expect("it was made");
        assert_eq!(core.reactor.len(), pairs as usize, "all of them are open");
        core
    }

    /// Opens a flow; answers how long the reactor took for it.
    fn open(&mut self, flow: u32) -> Duration {
        let handle = handle(flow);
        let addr = |addr: u32, port| (core::net::Ipv4Addr::from_bits(addr), port).into();
        let new = NewFlow {
            handle,
            protocol: Protocol::Tcp,
            client: addr(0x0a00_0000 + flow / 64, 40_000),
            server: addr(0xcb00_7101, 80),
            public: addr(0xc612_0001, 50_000),
            policy: 1,
            rule: None,
            mtu: [1500, 1500],
            offloads: [Offloads::NONE; 2],
            opened: self.now,
            accepted: None,
        };
        let frame = self.hosts[flow as usize][0].syn();
        self.input.push(ToProxy::Open { frame, at: self.now, flow: Box::new(new) });
        let mut took = Duration::ZERO;
        while !self.input.is_empty() {
            took += self.call();
        }
        took
    }

    /// Flows send [`SEGMENTS`] each, and servers answer; what clients and servers say to that waits for the next call.
    fn exchange(&mut self, flows: &[u32]) -> Duration {
        for flow in flows {
            for _ in 0..SEGMENTS {
                let frame = self.hosts[*flow as usize][0].data();
                self.input.push(ToProxy::Packet { frame, at: self.now });
            }
        }
        self.call()
    }

    /// One call of the reactor with what waits for it, as the production loop does it; answers how long it took.
    fn call(&mut self) -> Duration {
        self.now += BURST_TIME;
        let took = time(|| {
            let due = self.reactor.deadline() <= self.now;
            self.reactor.on_burst(&mut self.input, &mut Pool, self.now, &mut self.out);
            if due {
                self.reactor.on_timer(&mut Pool, self.now, &mut self.out);
            }
            self.reactor.handed_on(self.now);
        });
        self.longest = self.longest.max(took);
        let mut sent = std::mem::take(self.out.worker(WORKER));
        for message in sent.drain(..) {
            match message {
                FromProxy::Packet { frame, .. } => self.arrive(&frame),
                FromProxy::Closed { reason, .. } => panic!("a pair ended: {reason}"),
                FromProxy::Again { .. } => panic!("a pair made way"),
                FromProxy::Retarget { .. } => panic!("a pair chose its server"),
            }
        }
        *self.out.worker(WORKER) = sent;
        took
    }

    /// A segment comes to a host, which may answer.
    fn arrive(&mut self, frame: &PoolFrame) {
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).expect("the proxy sends valid packets");
        let ports = &frame.data()[L2_LEN + ip::MIN_LEN..];
        let to = unmask(packet.dst, u16::from_be_bytes([ports[2], ports[3]])).expect("to a masked address");
        let side = side_of(packet.src).expect("from a socket of the proxy");
        let host = &mut self.hosts[to.slot as usize][side as usize];
        let before = host.segments;
        if let Some(frame) = host.on_frame(frame) {
            self.input.push(ToProxy::Packet { frame, at: self.now });
        }
        self.delivered += host.segments - before;
    }

    /// Lets time pass, timer by timer; answers how long the reactor took for it.
    fn pass(&mut self, time: Duration) -> Duration {
        let until = self.now + time;
        let mut took = Duration::ZERO;
        while self.reactor.deadline().max(self.now) < until {
            self.now = self.reactor.deadline().max(self.now);
            took += self.call();
        }
        self.now = self.now.max(until);
        took
    }

    /// Lets all pairs end by their idleness.
    fn expire(&mut self) {
        let pairs = self.reactor.len();
        self.longest = Duration::ZERO;
        // What the hosts are told, RST, nobody takes.
        let until = self.now + IDLE_TIMEOUT + Duration::from_secs(10);
        let (mut took, mut ended) = (Duration::ZERO, 0);
        while !self.reactor.is_empty() && self.now < until {
            self.now = self.reactor.deadline().max(self.now + Duration::from_micros(1));
            let call = time(|| self.reactor.on_timer(&mut Pool, self.now, &mut self.out));
            self.longest = self.longest.max(call);
            took += call;
            let told = self.out.worker(WORKER).drain(..);
            ended += told.filter(|message| matches!(message, FromProxy::Closed { .. })).count();
        }
        assert_eq!(
            (self.reactor.len(), ended),
            (0, pairs),
            "each pair ends by its timer, and its worker hears of it"
        );
        tell(&format!(
            "{pairs} idle pairs end, {} ns each; the longest call takes {} us",
            took.as_nanos() / pairs as u128,
            self.longest.as_micros()
        ));
    }
}

impl Scene for Core {
    fn burst(&mut self) -> Burst {
        let flows: [u32; FLOWS] = std::array::from_fn(|n| self.order[(self.turn + n) % self.order.len()]);
        self.turn = (self.turn + FLOWS) % self.order.len();
        let before = self.delivered;
        let took = self.exchange(&flows);
        Burst { packets: self.delivered - before, took }
    }
}
