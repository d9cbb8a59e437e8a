//! What splitting a connection gains: a download through a proxy core's pair, beside the same download without it.
//!
//! ```text
//!   split    client <--- lossy leg --- reactor <--- clean leg --- server
//!   direct   client <---------- both legs in a row -------------- server
//! ```

use core::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Snapshot};
use pnat_shared::config::{CongestionControl, Proxy, Transport};
use pnat_shared::flow::{Handle, NewFlow, Offloads, Protocol, Side, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, ToProxy, mask, side_of, socket};
use pnat_shared::testkit::{Link, LinkSpec, VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;

use super::cell::{Algorithm, RATE};
use super::end::{ADDRS, End, control, settings};

/// Round trip of each leg.
const RTT: Duration = Duration::from_millis(20);
/// Packets lost on the client's leg.
const LOSS: f64 = 0.01;
/// How long a download lasts.
const LASTS: Duration = Duration::from_secs(20);
/// How many downloads count, where losses set their pace and where they don't.
const SLOW_RUNS: u64 = 30;
const FAST_RUNS: u64 = 3;
/// Largest receive window of the pair's sockets, in bytes: the production example's.
const WINDOW: u32 = 1 << 20;

/// More rounds without any time passing than any burst needs.
const STILL: usize = 10_000;

const START: Instant = Instant::from_secs(1);
const HANDLE: Handle = Handle { worker: WorkerId(0), slot: 1, generation: 1 };

/// Goodput without the gateway and through it, in Mbit/s.
#[derive(Copy, Clone, Debug, PartialEq)]
pub struct Gain {
    pub direct: f64,
    pub split: f64,
}

impl Gain {
    pub fn factor(self) -> f64 {
        self.split / self.direct
    }
}

impl fmt::Display for Gain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "direct {:.2}, through the pair {:.2} Mbit/s: {:.2} times",
            self.direct,
            self.split,
            self.factor()
        )
    }
}

/// The gain with this congestion control on the gateway's lossy leg; the hosts have CUBIC.
pub fn measure(algorithm: Algorithm) -> Gain {
    let mean = |runs: u64, run: &dyn Fn(u64) -> usize| {
        let bytes: usize = (0..runs).map(run).sum();
        bytes as f64 * 8.0 / runs as f64 / LASTS.as_secs_f64() / 1e6
    };
    let runs = if algorithm == Algorithm::Bbr { FAST_RUNS } else { SLOW_RUNS };
    Gain { direct: mean(SLOW_RUNS, &direct), split: mean(runs, &|seed| split(algorithm, seed)) }
}

fn leg(latency: Duration, loss: f64) -> LinkSpec {
    LinkSpec { latency, rate: RATE, queue: 1000, loss, ..LinkSpec::default() }
}

/// Bytes that the client has read in the end, over one path of both legs.
fn direct(seed: u64) -> usize {
    let [client, server] = ADDRS;
    let hosts = settings(Algorithm::Cubic);
    let mut client = End::connect([client, server], hosts, 0, START);
    let mut server = End::listen([server, ADDRS[0]], hosts, usize::MAX);
    let mut links = [0, 1].map(|n| Link::new(leg(RTT, LOSS), seed * 2 + n));
    let mut now = START;
    let mut out = Vec::new();
    while now < START + LASTS {
        for (side, end) in [&mut client, &mut server].into_iter().enumerate() {
            while let Some(frame) = links[1 - side].receive(now) {
                end.on_frame(frame, now);
            }
            end.run(now, &mut out);
            for frame in out.drain(..) {
                links[side].send(frame, now);
            }
        }
        let links = links.iter().map(Link::next_arrival).min().unwrap_or(Instant::FAR);
        now = links.min(client.deadline()).min(server.deadline()).max(now);
    }
    client.read
}

/// The same through a pair.
fn split(algorithm: Algorithm, seed: u64) -> usize {
    let mut world = World::new(algorithm, seed);
    let mut still = 0;
    while world.now < START + LASTS {
        world.step();
        let next = world.next_event();
        still = if next > world.now { 0 } else { still + 1 };
        assert!(
            still < STILL,
            "time stands still at {:?}; the reactor wakes at {:?}",
            world.now,
            world.reactor.deadline()
        );
        world.now = next.max(world.now + Duration::from_nanos(1));
    }
    world.ends[0].read
}

/// Client, reactor and server, and the legs between them. A worker's part (who is told of the new flow) is played here.
struct World {
    now: Instant,
    ends: [End; 2],
    reactor: Reactor<VecFrame>,
    out: Outputs<VecFrame>,
    /// From each end to the reactor, and back.
    inward: [Link<VecFrame>; 2],
    outward: [Link<VecFrame>; 2],
    is_open: bool,
}

impl World {
    fn new(algorithm: Algorithm, seed: u64) -> Self {
        let proxy = Proxy {
            pairs: 16,
            connect_timeout: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            udp_timeout: Duration::from_secs(60),
            window: WINDOW,
            ring: 1024,
            keepalive: Duration::ZERO,
            transport: Transport {
                congestion: [control(algorithm), CongestionControl::Cubic],
                ..Transport::default()
            },
            ..Proxy::default()
        };
        let mut reactor = Reactor::new(&proxy, 1, Services::default(), Arc::default(), START);
        let chains = Arc::new(Chains::new(Vec::new(), WINDOW));
        reactor.set_policy(Snapshot { generation: 1, rules: vec!["all".into()], chains }, 1);
        let hosts = settings(Algorithm::Cubic);
        let masked = mask(HANDLE);
        let client = End::connect([masked, socket(Side::First)], hosts, 0, START);
        let server = End::listen([masked, socket(Side::Second)], hosts, usize::MAX);
        let link = |loss, n| Link::new(leg(RTT / 2, loss), seed * 4 + n);
        Self {
            now: START,
            ends: [client, server],
            reactor,
            out: Outputs::new(1),
            inward: [link(LOSS, 0), link(0.0, 1)],
            outward: [link(LOSS, 2), link(0.0, 3)],
            is_open: false,
        }
    }

    fn step(&mut self) {
        let mut frames = Vec::new();
        let mut input = Vec::new();
        for side in 0..2 {
            while let Some(frame) = self.outward[side].receive(self.now) {
                self.ends[side].on_frame(frame, self.now);
            }
            self.ends[side].run(self.now, &mut frames);
            for frame in frames.drain(..) {
                self.inward[side].send(frame, self.now);
            }
            while let Some(frame) = self.inward[side].receive(self.now) {
                input.push(self.worker(frame));
            }
        }
        let mut pool = VecPool::endless();
        self.reactor.on_burst(&mut input, &mut pool, self.now, &mut self.out);
        self.reactor.on_timer(&mut pool, self.now, &mut self.out);
        for message in std::mem::take(self.out.worker(WorkerId(0))) {
            if let FromProxy::Packet { frame, .. } = message {
                let packet =
                    ip::Header::read(&frame.data()[L2_LEN..]).expect("invariant: the proxy sends IPv4");
                let side = side_of(packet.src).expect("invariant: from a socket of the proxy");
                self.outward[side as usize].send(frame, self.now);
            }
        }
    }

    /// The flow's first packet opens it.
    fn worker(&mut self, frame: VecFrame) -> ToProxy<VecFrame> {
        let at = self.now;
        if std::mem::replace(&mut self.is_open, true) {
            return ToProxy::Packet { frame, at };
        }
        let addr = SocketAddr::from(([10, 0, 0, 1], 80));
        let flow = NewFlow {
            handle: HANDLE,
            protocol: Protocol::Tcp,
            client: addr,
            server: addr,
            public: addr,
            policy: 1,
            rule: Some(0),
            mtu: [1500, 1500],
            offloads: [Offloads::NONE; 2],
            opened: at,
            accepted: None,
        };
        ToProxy::Open { frame, at, flow: Box::new(flow) }
    }

    fn next_event(&self) -> Instant {
        let links = self.inward.iter().chain(&self.outward).map(Link::next_arrival);
        let ends = self.ends.iter().map(End::deadline);
        links.chain(ends).min().unwrap_or(Instant::FAR).min(self.reactor.deadline())
    }
}
