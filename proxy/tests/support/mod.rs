//! What the pair tests share: a reactor with a worker's place taken by the test, packets by words, transcripts.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]

pub mod filters;
pub mod packet;
pub mod script;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;

use pnat_proxy::filter::{Chains, Factory, Named, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Rule, Snapshot};
use pnat_shared::config::{Accept, Filter, FilterKind, Policy, Proxy};
use pnat_shared::flow::{Accepted, Handle, NewFlow, Offloads, Protocol, WorkerId};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::testkit::{VecFrame, VecPool, one_rule};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

/// Largest receive window in these tests, in bytes.
pub const WINDOW: u32 = 65_535;
/// Policy snapshot of these tests.
pub const POLICY: u32 = 7;

pub fn settings() -> Proxy {
    Proxy {
        pairs: 1000,
        connect_timeout: Duration::from_secs(30),
        half_open_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(3600),
        keepalive: Duration::ZERO,
        udp_timeout: Duration::from_secs(60),
        window: WINDOW,
        ring: 1024,
        ..Proxy::default()
    }
}

pub fn handle(slot: u32) -> Handle {
    Handle { worker: WorkerId(0), slot, generation: 3 }
}

pub fn new_flow(handle: Handle, protocol: Protocol, opened: Instant) -> Box<NewFlow> {
    let addr = |a, port| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::from_bits(a), port));
    Box::new(NewFlow {
        handle,
        protocol,
        client: addr(0x0a00_0001 + handle.slot, 40_000),
        server: addr(0xcb00_7101, 80),
        public: addr(0xc612_0001, 50_000),
        policy: POLICY,
        rule: Some(0),
        mtu: [1500, 1500],
        offloads: [Offloads::NONE; 2],
        opened,
        accepted: None,
    })
}

/// A policy with one rule, named `rule`, and these filters.
pub fn policy(filters: Vec<Arc<dyn Factory>>) -> Snapshot {
    let named = |(n, factory)| -> Named { (Arc::from(format!("filter-{n}")), factory) };
    let chains = Chains::new(vec![filters.into_iter().enumerate().map(named).collect()], WINDOW);
    // Clients that are accepted early are so by the rule.
    let rule = Rule { accept: Accept::Early, .."rule".into() };
    Snapshot { generation: POLICY, rules: vec![rule], chains: Arc::new(chains) }
}

/// A policy with one rule for everything, named `rule`, and filters of these kinds.
pub fn policy_of(kinds: impl IntoIterator<Item = FilterKind>) -> Policy {
    let named = |(n, kind)| Filter { name: format!("filter-{n}"), kind };
    one_rule("rule", kinds.into_iter().enumerate().map(named).collect())
}

/// A reactor, its pool, its clock, and one worker's end of the rings.
pub struct Rig {
    pub reactor: Reactor<VecFrame>,
    pub pool: VecPool,
    pub out: Outputs<VecFrame>,
    pub now: Instant,
    /// What flows that open from now on were accepted with, where it was early.
    pub accepted: Option<Accepted>,
    input: Vec<ToProxy<VecFrame>>,
}

impl Rig {
    pub fn new(filters: Vec<Arc<dyn Factory>>) -> Self {
        Self::with(&settings(), filters)
    }

    pub fn with(settings: &Proxy, filters: Vec<Arc<dyn Factory>>) -> Self {
        let now = Instant::from_secs(1);
        let mut reactor = Reactor::new(settings, 1, Services::default(), Arc::default(), now);
        reactor.set_policy(policy(filters), 1);
        Self {
            reactor,
            pool: VecPool::endless(),
            out: Outputs::new(1),
            now,
            accepted: None,
            input: Vec::new(),
        }
    }

    /// Puts a flow's first packet into the ring.
    pub fn open(&mut self, handle: Handle, protocol: Protocol, frame: VecFrame) {
        let mut flow = new_flow(handle, protocol, self.now);
        flow.accepted = self.accepted;
        self.input.push(ToProxy::Open { frame, at: self.now, flow });
    }

    /// Puts a later packet into the ring.
    pub fn packet(&mut self, frame: VecFrame) {
        self.input.push(ToProxy::Packet { frame, at: self.now });
    }

    pub fn gone(&mut self, handle: Handle, reason: CloseReason) {
        self.input.push(ToProxy::Gone { handle, reason });
    }

    pub fn moved(&mut self, handle: Handle, public: SocketAddrV4) {
        self.input.push(ToProxy::Moved { handle, public });
    }

    /// Lets the reactor take the ring's content as one burst, and go on until it waits.
    pub fn burst(&mut self) {
        self.reactor.on_burst(&mut self.input, &mut self.pool, self.now, &mut self.out);
        while self.reactor.deadline() == Instant::ZERO {
            self.reactor.on_burst(&mut self.input, &mut self.pool, self.now, &mut self.out);
        }
        self.reactor.handed_on(self.now);
    }

    /// Lets the reactor take the ring's content as one burst, and no more.
    pub fn burst_once(&mut self, out: &mut Outputs<VecFrame>) {
        self.reactor.on_burst(&mut self.input, &mut self.pool, self.now, out);
    }

    /// Lets time pass, timer by timer.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let next = self.reactor.deadline().max(self.now + Duration::from_millis(1));
            self.now = next.min(until);
            self.reactor.on_timer(&mut self.pool, self.now, &mut self.out);
            self.burst();
        }
    }

    /// Takes what came out.
    pub fn take(&mut self) -> Vec<FromProxy<VecFrame>> {
        std::mem::take(self.out.worker(WorkerId(0)))
    }

    /// Takes what came out, as words.
    pub fn told(&mut self) -> Vec<String> {
        self.take().iter().map(packet::describe).collect()
    }
}
