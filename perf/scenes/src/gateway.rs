//! A gateway in memory: a worker with its addresses; and one worker and one proxy core with the rings between them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use pnat_dataplane::control::report::{self, Report};
use pnat_dataplane::control::{Core, CoreMessage, Role};
use pnat_dataplane::handoff::Shards;
use pnat_dataplane::launch::{Clock, ProxyLoop, WorkerLoop, mesh};
use pnat_dataplane::nat::policy::Snapshot;
use pnat_dataplane::port::memory::MemoryPort;
use pnat_dataplane::route::PortInfo;
use pnat_dataplane::worker::{Setup, SynCookies, Worker, WorkerStats};
use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{self, Reactor};
use pnat_shared::capture::TapPoint;
use pnat_shared::config::{self, Policy};
use pnat_shared::flow::{Offloads, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::stats::Counters;
use pnat_shared::time::Instant;
use pnat_shared::wire::arp;
use pnat_shared::wire::ethernet::{self, Mac};

use crate::frames::{Pool, PoolFrame};

/// Numbers of the two ports.
pub const INSIDE: usize = 0;
pub const OUTSIDE: usize = 1;

/// Largest receive window of a pair's sockets, in bytes: the production example's.
pub const WINDOW: u32 = 1 << 20;

/// Public addresses, so that a million client ports find one each.
const PUBLIC: u8 = 32;
const MACS: [Mac; 2] = [Mac([2, 0, 0, 0, 0, 1]), Mac([2, 0, 0, 0, 0, 2])];
/// All hosts on either side are one station.
const STATION: Mac = Mac([2, 0, 0, 0, 0, 9]);

/// The link header of packets from hosts to a port.
pub const fn link_to(port: usize) -> ethernet::Header {
    ethernet::Header { dst: MACS[port], src: STATION, ether_type: ethernet::TYPE_IPV4 }
}

/// A worker with room for this many flows, inside network 10.0.0.0/8, outside one 198.18.0.0/24 with a router.
pub fn worker(policy: Policy, flows: u32, now: Instant) -> Worker<PoolFrame, Pool> {
    let port = |number: usize, addr: [u8; 4], len, gateway| PortInfo {
        mac: MACS[number],
        mtu: 1500,
        offloads: Offloads::NONE,
        outside: number == OUTSIDE,
        addresses: vec![(Ipv4Addr::from(addr), len)],
        gateway,
    };
    let router = Ipv4Addr::new(198, 18, 0, 254);
    let setup = Setup {
        me: WorkerId(0),
        shards: Shards::new(1, 1, 3),
        ports: vec![port(INSIDE, [10, 0, 0, 1], 8, None), port(OUTSIDE, [198, 18, 0, 1], 24, Some(router))],
        nat: config::Nat {
            public: (1..=PUBLIC).map(|last| Ipv4Addr::new(198, 18, 0, last)).collect(),
            ports: 1024..=65535,
            flows,
            flows_per_client: flows,
            timeouts: config::Timeouts {
                tcp_established: Duration::from_secs(7440),
                tcp_transitory: Duration::from_secs(240),
                udp: Duration::from_secs(300),
                icmp: Duration::from_secs(60),
            },
        },
        policy: Snapshot { generation: 1, policy: Arc::new(policy) },
        proxied_idle: Duration::from_secs(7440),
        // However many flows are half-open, none is left to a cookie.
        cookies: SynCookies { above: flows, window: WINDOW, ecn: true, secret: 7 },
        secret: 11,
    };
    let stats = Arc::new(WorkerStats::new(setup.ports.len()));
    Worker::new(setup, Pool, stats, now)
}

/// A proxy core's settings, with room for this many pairs.
pub fn proxy_settings(pairs: u32) -> config::Proxy {
    config::Proxy {
        pairs,
        connect_timeout: Duration::from_secs(60),
        half_open_timeout: Duration::from_secs(60),
        idle_timeout: Duration::from_secs(7200),
        keepalive: Duration::ZERO,
        udp_timeout: Duration::from_secs(60),
        window: WINDOW,
        ring: 1024,
        ..config::Proxy::default()
    }
}

/// The neighbors' answer where a frame asks for one of them.
pub fn answer_arp(frame: &PoolFrame) -> Option<PoolFrame> {
    let link =
        ethernet::Header::read(frame.data()).ok().filter(|link| link.ether_type == ethernet::TYPE_ARP)?;
    let asked = arp::Message::read(&frame.data()[L2_LEN..]).ok()?;
    if asked.operation != arp::Operation::Request || asked.sender == asked.target {
        return None;
    }
    let message = arp::Message {
        operation: arp::Operation::Reply,
        sender_mac: STATION,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    let mut answer = PoolFrame::take();
    answer.resize(L2_LEN + arp::LEN);
    ethernet::Header { dst: link.src, src: STATION, ether_type: ethernet::TYPE_ARP }.write(answer.data_mut());
    message.write(&mut answer.data_mut()[L2_LEN..]);
    Some(answer)
}

/// One worker, one proxy core, and their rings, driven by the loops that drive them in production.
#[derive(Debug)]
pub struct Gateway {
    worker: WorkerLoop<PoolFrame, Pool, MemoryPort<PoolFrame>>,
    proxy: ProxyLoop<PoolFrame, Pool>,
    clock: Clock,
    /// The proxy core was passed over.
    owes_proxy: bool,
    /// As control would see them; nobody asks them anything.
    cores: [Core; 2],
}

impl Gateway {
    /// `chains` are those of the policy's rules.
    pub fn new(policy: Policy, chains: Chains, flows: u32) -> Self {
        let clock = Clock::start();
        let now = clock.now();
        let settings = proxy_settings(flows);
        let (mut worker_ends, mut proxy_ends) = mesh(1, 1, settings.ring as usize);
        let (worker_ends, proxy_ends) = (worker_ends.remove(0), proxy_ends.remove(0));
        let mut reactor = Reactor::new(&settings, 1, Services::default(), Arc::default(), now);
        let rules = policy.rules.iter().map(Into::into).collect();
        reactor.set_policy(reactor::Snapshot { generation: 1, rules, chains: Arc::new(chains) }, 1);
        let queues =
            vec![(MemoryPort::default(), TapPoint::Inside), (MemoryPort::default(), TapPoint::Outside)];
        let (to_worker, worker_messages) = bounded(1);
        let (to_proxy, proxy_messages) = bounded(1);
        let worker = worker(policy, flows, now);
        let core = |role, messages: Sender<CoreMessage>, counters: Arc<dyn Counters>| Core {
            role,
            index: 0,
            cpu: 0,
            messages,
            counters,
        };
        let cores = [
            core(Role::Worker, to_worker, worker.stats().clone()),
            core(Role::Proxy, to_proxy, reactor.stats()),
        ];
        Self {
            worker: WorkerLoop::new(worker, clock, queues, worker_ends, worker_messages),
            proxy: ProxyLoop::new(reactor, Pool, clock, proxy_ends, proxy_messages),
            clock,
            owes_proxy: false,
            cores,
        }
    }

    pub fn port(&mut self, port: usize) -> &mut MemoryPort<PoolFrame> {
        &mut self.worker.queues_mut()[port].0
    }

    /// Forgets what was measured of the stages, and measures from now on, or does not.
    pub fn measure(&mut self, is_on: bool) {
        self.worker.measure(is_on);
        self.proxy.measure(is_on);
    }

    /// What it says of itself: of the stages as they were measured, of the cores since they were made.
    pub fn report(&self) -> Report {
        let mut latency = self.worker.latency();
        latency.merge(self.proxy.latency());
        let uptime = Duration::from_nanos(self.clock.now().as_nanos());
        report::of_loops(&self.cores, &latency, uptime, self.clock.started())
    }

    /// As [`Gateway::turn`], but where nothing more waits at the ports no further than something has come out of one: whoever
    /// looks at it then sees it at once. The proxy core has a turn in at least every second call. `fetched` is told how many
    /// frames the worker takes from the ports and since when it has been about to, `sent` how many came out and by when.
    pub fn turn_until_output(
        &mut self,
        mut fetched: impl FnMut(usize, Instant),
        mut sent: impl FnMut(usize, Instant),
    ) {
        let mut since = None;
        let mut work = |worker: &mut WorkerLoop<PoolFrame, Pool, MemoryPort<PoolFrame>>, since: &mut _| {
            let (waiting, out) = (waiting(worker), out(worker));
            let now = self.clock.now();
            worker.turn(since);
            let then = self.clock.now();
            fetched(waiting - self::waiting(worker), now);
            sent(self::out(worker) - out, then);
        };
        work(&mut self.worker, &mut since);
        self.owes_proxy = out(&self.worker) > 0 && waiting(&self.worker) == 0 && !self.owes_proxy;
        if !self.owes_proxy {
            self.proxy.turn(&mut since);
            work(&mut self.worker, &mut since);
        }
    }

    /// The clock that its cores look at.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// A burst's whole way: from the ports to the reactor, and back to the ports.
    pub fn turn(&mut self) {
        let mut since = None;
        self.worker.turn(&mut since);
        self.proxy.turn(&mut since);
        self.worker.turn(&mut since);
    }
}

/// Frames in the receive queues.
fn waiting(worker: &WorkerLoop<PoolFrame, Pool, MemoryPort<PoolFrame>>) -> usize {
    worker.queues().iter().map(|(port, _)| port.incoming.len()).sum()
}

/// Frames that have come out.
fn out(worker: &WorkerLoop<PoolFrame, Pool, MemoryPort<PoolFrame>>) -> usize {
    worker.queues().iter().map(|(port, _)| port.outgoing.len()).sum()
}
