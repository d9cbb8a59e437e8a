//! A worker: one NAT core's whole duty, from a burst received to bursts handed on, without any device or ring.
//!
//! Runs on: worker. Allocates: one box per proxied flow opened. Blocks: never.
//!
//! ```text
//!   port burst ----> parse --> look up --> act:  translate -----------> neighbor --> port
//!   hand-off burst --^         in stages         mask ----------------> to_proxy
//!                                                other worker's ------> hand-off
//!   proxy burst ---> unmask -----------------------------------------> neighbor --> port
//! ```
//!
//! Whoever drives a worker moves its [`Outputs`] to ports and rings after each call ([`crate::loopback::steer`] says what
//! becomes of what does not fit). A frame that is handed in leaves by exactly one of the outputs, waits for a neighbor, or
//! is dropped with a counted reason ([`WorkerStats`]).
//!
//! The gateway's own addresses serve nothing but ping and ARP: what clients send there is answered by a reset or "port
//! unreachable", what comes from outside is met with silence. A client's flow to one of them is never proxied, which
//! would be a loop.

use core::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use pnat_shared::config;
use pnat_shared::flow::{Handle, LastWords, Protocol, Stream, WorkerId};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::path_mtu::PathMtus;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};

use crate::handoff::{Handoff, Shards};
use crate::nat::binding::{Binding, Path};
use crate::nat::policy::Snapshot;
use crate::nat::retarget::severed;
use crate::nat::tuple::Tuple;
use crate::nat::{Closed, Nat};
use crate::neighbor::Neighbors;
use crate::route::{PortInfo, Routes};
use check::Checks;
use early::Early;
use parse::Kind;
use reply::{Answer, Bucket};
use size::Sizes;

mod flow;
mod check;
mod early;
mod cookie;
mod pair;
mod retarget;
mod link;
mod parse;
mod reply;
mod history;
mod size;
mod stats;

pub use history::{Ending, History, Past, Refusal};
pub use stats::{PortStats, WorkerStats};

/// ICMP errors, and resets, that a worker makes per second: enough for people and path discovery, too few to be a weapon.
const ERRORS_PER_SECOND: u32 = 1000;
const RESETS_PER_SECOND: u32 = 1000;

/// What a worker is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    pub me: WorkerId,
    pub shards: Shards,
    /// By number; every `port` in this module is an index into them.
    pub ports: Vec<PortInfo>,
    pub nat: config::Nat,
    pub policy: Snapshot,
    /// How long a proxied flow may be silent before the worker ends it: longer than any time of the proxy's own, which
    /// decides as a rule.
    pub proxied_idle: Duration,
    pub cookies: SynCookies,
    /// From a good random source, another one for each worker.
    pub secret: u64,
}

/// When SYNs are answered without keeping anything, and what is promised to the client then.
#[derive(Copy, Clone, Debug)]
pub struct SynCookies {
    /// While more proxied TCP flows than this are half-open, no rule accepts late.
    pub above: u32,
    /// Largest receive window of a pair's sockets, in bytes.
    pub window: u32,
    /// Whether clients that ask for explicit congestion notification get it.
    pub ecn: bool,
    /// From the operating system's random source.
    pub secret: u128,
}

/// Where a worker leaves what it has done. Whoever drives it empties the vectors and keeps them.
#[derive(Debug)]
pub struct Outputs<F> {
    /// Per port.
    pub transmit: Vec<Vec<F>>,
    /// Per proxy core.
    pub to_proxy: Vec<Vec<ToProxy<F>>>,
    /// Per worker; the worker's own stays empty.
    pub handoff: Vec<Vec<Handoff<F>>>,
}

impl<F> Outputs<F> {
    pub fn new(ports: usize, proxies: usize, workers: usize) -> Self {
        Self {
            transmit: (0..ports).map(|_| Vec::new()).collect(),
            to_proxy: (0..proxies).map(|_| Vec::new()).collect(),
            handoff: (0..workers).map(|_| Vec::new()).collect(),
        }
    }
}

/// A flow, for listing.
#[derive(Copy, Clone, Debug)]
pub struct BindingView<'a> {
    pub handle: Handle,
    pub protocol: Protocol,
    pub client: SocketAddrV4,
    /// As the client named it.
    pub server: SocketAddrV4,
    /// The server in its place that a filter chose, where it can be had.
    pub target: Option<SocketAddrV4>,
    pub public: SocketAddrV4,
    pub binding: &'a Binding,
    /// Longest IP packet that the client's and the server's port carry, in bytes.
    pub mtus: [u16; 2],
    /// What was found to be longer than a leg carries.
    pub path_mtus: Option<&'a PathMtus>,
}

/// One NAT core.
#[derive(Debug)]
pub struct Worker<F, P> {
    me: WorkerId,
    shards: Shards,
    routes: Routes,
    nat: Nat,
    policy: Snapshot,
    is_draining: bool,
    neighbors: Neighbors<F>,
    /// Where frames for ARP questions come from.
    pool: P,
    stats: Arc<WorkerStats>,
    history: History,
    sizes: Sizes,
    errors: Bucket,
    resets: Bucket,
    early: Early,
    checks: Checks,
    /// The burst in work: what each frame is, and the port that received it.
    kinds: Vec<(Kind, u8)>,
    /// Kept for their capacity.
    burst: Vec<F>,
    released: Vec<F>,
    failed: Vec<(u8, F)>,
    closed: Vec<(Closed, CloseReason)>,
}

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// A worker that counts in `stats`, which must have been made for as many ports.
    pub fn new(setup: Setup, pool: P, stats: Arc<WorkerStats>, now: Instant) -> Self {
        let Setup { me, shards, ports, nat, policy, proxied_idle, cookies, secret } = setup;
        Self {
            me,
            nat: Nat::new(&nat, me, shards.workers(), proxied_idle, secret, now),
            routes: Routes::new(ports, &nat.public),
            shards,
            policy,
            is_draining: false,
            neighbors: Neighbors::new(now),
            pool,
            stats,
            history: History::default(),
            sizes: Sizes::default(),
            errors: Bucket::new(ERRORS_PER_SECOND, now),
            resets: Bucket::new(RESETS_PER_SECOND, now),
            early: Early::new(cookies),
            checks: Checks::default(),
            kinds: Vec::new(),
            burst: Vec::new(),
            released: Vec::new(),
            failed: Vec::new(),
            closed: Vec::new(),
        }
    }

    /// Takes a burst that `port` received, and leaves `frames` empty.
    pub fn on_port_burst(&mut self, port: u8, frames: &mut Vec<F>, now: Instant, out: &mut Outputs<F>) {
        if let Some(counts) = self.stats.ports.get(usize::from(port)) {
            counts.rx_packets.add(frames.len() as u64);
            counts.rx_bytes.add(frames.iter().map(|frame| frame.data().len() as u64).sum());
        }
        for frame in frames.iter_mut() {
            self.parse(port, frame);
        }
        self.look_up();
        self.act(frames, true, now, out);
    }

    /// Takes what other workers handed over, and leaves `burst` empty.
    pub fn on_handoff(&mut self, burst: &mut Vec<Handoff<F>>, now: Instant, out: &mut Outputs<F>) {
        let mut frames = core::mem::take(&mut self.burst);
        for handed in burst.drain(..) {
            match handed {
                Handoff::Frame { port, mut frame, .. } => {
                    self.parse(port, &mut frame);
                    frames.push(frame);
                }
                // The worker that received it has counted what is wrong with it.
                Handoff::Arp { port, message } => {
                    self.learn(port, &message, now, out);
                }
            }
        }
        self.stats.handed_in.add(frames.len() as u64);
        self.look_up();
        self.act(&mut frames, false, now, out);
        self.burst = frames;
    }

    /// Takes what a proxy core sent, and leaves `burst` empty.
    pub fn on_proxy_burst(&mut self, burst: &mut Vec<FromProxy<F>>, now: Instant, out: &mut Outputs<F>) {
        for message in burst.drain(..) {
            match message {
                FromProxy::Packet { frame, .. } => {
                    self.stats.from_proxy.add(1);
                    if let Err(reason) = self.unmask(frame, now, out) {
                        self.stats.drops.add(reason, 1);
                    }
                }
                FromProxy::Retarget { handle, server } => self.retarget(handle, server, now, out),
                FromProxy::Again { handle, frame } => self.take_back(handle, frame, now, out),
                // The worker may have ended the flow by itself in the meantime.
                FromProxy::Closed { handle, reason, last_words } => {
                    if let Some(slot) = self.nat.slot(handle)
                        && let Some(closed) = self.nat.close(slot, now)
                    {
                        self.note_closed(&closed, reason, last_words, now);
                    }
                }
            }
        }
        self.send_asks(out);
    }

    /// Works off the timers that are due.
    pub fn on_timer(&mut self, now: Instant, out: &mut Outputs<F>) {
        let mut closed = core::mem::take(&mut self.closed);
        self.nat.expire(now, |flow, reason| closed.push((flow, reason)));
        for (flow, reason) in closed.drain(..) {
            self.tell_proxy(&flow, reason, out);
            self.note_closed(&flow, reason, None, now);
        }
        self.closed = closed;
        let mut failed = core::mem::take(&mut self.failed);
        self.neighbors.on_timer(now, &mut failed);
        for (port, frame) in failed.drain(..) {
            self.unreachable(frame, port, now, out);
        }
        self.failed = failed;
        self.check(now, out);
        self.send_asks(out);
    }

    /// A time before which [`Worker::on_timer`] has nothing to do.
    pub fn deadline(&self) -> Option<Instant> {
        [self.nat.deadline(), self.neighbors.deadline(), self.checks.deadline()].into_iter().flatten().min()
    }

    /// Tells each port's neighbors which addresses are the gateway's (RFC 5227 section 3). For one worker of each port, at
    /// start.
    pub fn announce(&mut self, out: &mut Outputs<F>) {
        for port in 0..self.routes.ports().len() as u8 {
            let addrs: Vec<Ipv4Addr> = self.routes.announced(port).collect();
            for addr in addrs {
                self.announce_one(port, addr, out);
            }
        }
    }

    /// From now on new flows are decided by this policy; flows that are open stay as they are.
    pub fn set_policy(&mut self, policy: Snapshot) {
        self.policy = policy;
    }

    pub const fn me(&self) -> WorkerId {
        self.me
    }

    /// The policy that decides on new flows.
    pub const fn policy(&self) -> &Snapshot {
        &self.policy
    }

    /// From now on no flow is opened; those that are open stay.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Ends a flow whose first packet did not fit into the ring to its proxy core.
    pub fn refuse(&mut self, handle: Handle, now: Instant) {
        if let Some(slot) = self.nat.slot(handle)
            && let Some(closed) = self.nat.close(slot, now)
        {
            self.note_closed(&closed, CloseReason::Resources, None, now);
        }
    }

    /// Ends a flow by somebody's word. Answers whether there was one.
    pub fn end(&mut self, handle: Handle, reason: CloseReason, now: Instant, out: &mut Outputs<F>) -> bool {
        let Some(slot) = self.nat.slot(handle) else { return false };
        let Some(closed) = self.nat.close(slot, now) else { return false };
        self.tell_proxy(&closed, reason, out);
        self.note_closed(&closed, reason, None, now);
        true
    }

    /// Slots of flows are below this.
    pub fn slots(&self) -> u32 {
        self.nat.flows().slots()
    }

    /// The flow in a slot, if there is one.
    pub fn binding(&self, slot: u32) -> Option<BindingView<'_>> {
        let (keys, binding) = self.nat.flows().entry(slot)?;
        Some(self.view(slot, keys, binding))
    }

    /// The flow between these two, the server as the client named it.
    pub fn find(
        &self,
        protocol: Protocol,
        client: SocketAddrV4,
        server: SocketAddrV4,
    ) -> Option<BindingView<'_>> {
        let (flows, tuple) = (self.nat.flows(), Tuple::new(protocol, client, server));
        self.binding(flows.find(Stream::First, flows.hash(&tuple), &tuple)?)
    }

    /// The flows that are open.
    pub fn bindings(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.nat.flows().iter().map(|(slot, keys, binding)| self.view(slot, keys, binding))
    }

    fn view<'a>(&'a self, slot: u32, keys: &Keys, binding: &'a Binding) -> BindingView<'a> {
        let handle = self.nat.handle(slot);
        BindingView {
            handle,
            protocol: keys[0].protocol(),
            client: keys[0].src(),
            server: keys[0].dst(),
            target: target(keys),
            public: keys[1].dst(),
            binding,
            mtus: self.mtus(binding),
            path_mtus: self.sizes.of(handle),
        }
    }

    /// What is remembered of flows that are no more, or never were.
    pub const fn history(&self) -> &History {
        &self.history
    }

    pub fn stats(&self) -> &Arc<WorkerStats> {
        &self.stats
    }

    /// Public ports that are left for a protocol.
    pub fn free_ports(&self, protocol: Protocol) -> usize {
        self.nat.free_ports(protocol)
    }

    /// Packets that wait for a neighbor.
    pub fn waiting(&self) -> usize {
        self.neighbors.waiting()
    }

    #[inline]
    fn parse(&mut self, port: u8, frame: &mut F) {
        self.kinds.push((parse::parse(frame, port, &self.routes, &self.shards, self.me), port));
    }

    /// Finds the flows of a whole burst, stage by stage, so that their cache misses overlap.
    #[inline]
    fn look_up(&mut self) {
        let flows = self.nat.flows();
        for (kind, _) in &mut self.kinds {
            if let Kind::Flow(packet) = kind {
                packet.hash = flows.hash(&packet.tuple);
                packet.slot = flows.candidate(packet.stream, packet.hash);
            }
        }
        for (kind, _) in &mut self.kinds {
            if let Kind::Flow(packet) = kind
                && !flows.holds(packet.slot, packet.stream, &packet.tuple)
                && let Some(slot) = flows.find(packet.stream, packet.hash, &packet.tuple)
            {
                packet.slot = slot;
            }
        }
    }

    fn act(&mut self, frames: &mut Vec<F>, may_hand_over: bool, now: Instant, out: &mut Outputs<F>) {
        let mut kinds = core::mem::take(&mut self.kinds);
        for (frame, (kind, port)) in frames.drain(..).zip(kinds.drain(..)) {
            match kind {
                Kind::Flow(packet) => self.on_packet(frame, port, &packet, now, out),
                Kind::Error(stream, quote) => self.on_error(frame, stream, &quote, now, out),
                Kind::Arp(message) => self.on_arp(frame, port, &message, now, out),
                Kind::Echo => self.on_echo(frame, port, out),
                Kind::Own(protocol) => self.on_own(frame, port, protocol, now, out),
                Kind::Expired => {
                    self.refuse_packet(frame, port, DropReason::Ttl, Answer::TIME_EXCEEDED, now, out);
                }
                Kind::Foreign(owner) if may_hand_over => {
                    self.stats.handed_out.add(1);
                    out.handoff[usize::from(owner.0)].push(Handoff::Frame { port, frame, at: now });
                }
                Kind::Foreign(_) => self.stats.drops.add(DropReason::Internal, 1),
                Kind::Bad(reason) => self.stats.drops.add(reason, 1),
            }
        }
        self.kinds = kinds;
        self.send_asks(out);
    }

    /// What clients send to the gateway is refused at once; outside it stays silent.
    fn on_own(&mut self, frame: F, port: u8, protocol: Protocol, now: Instant, out: &mut Outputs<F>) {
        let answer = match (self.routes.port(port).is_some_and(|info| info.outside), protocol) {
            (false, Protocol::Tcp) => Answer::Reset,
            (false, Protocol::Udp) => Answer::PORT_UNREACHABLE,
            _ => Answer::Silence,
        };
        self.refuse_packet(frame, port, DropReason::OwnAddress, answer, now, out);
    }

    /// A proxied flow that the worker ended: its pair is told.
    fn tell_proxy(&self, closed: &Closed, reason: CloseReason, out: &mut Outputs<F>) {
        if let Path::Proxy(core) = closed.binding.path {
            let gone = ToProxy::Gone { handle: closed.handle, reason };
            out.to_proxy[usize::from(core.0)].push(gone);
        }
    }

    fn note_closed(
        &mut self,
        closed: &Closed,
        reason: CloseReason,
        last_words: Option<Box<LastWords>>,
        now: Instant,
    ) {
        self.stats.closes.add(reason, 1);
        let path_mtus = self.sizes.take(closed.handle);
        self.history.ended(closed, reason, path_mtus, last_words, now);
        self.tell_flows();
    }

    fn tell_flows(&self) {
        self.stats.active.set(self.nat.flows().len() as u64);
        self.stats.half_open.set(self.nat.half_open() as u64);
    }
}

/// The tuples of a flow: the client's and the server's.
type Keys = [Tuple; 2];

/// The server that a flow's pair talks to, where it is not the one that the client named and can be had.
fn target(keys: &Keys) -> Option<SocketAddrV4> {
    let server = keys[1].src();
    (server != keys[0].dst() && severed(&keys[1]).is_none()).then_some(server)
}
