//! The NAT's state on one worker: flows, the mappings that they share, public ports, limits, timers.
//!
//! Runs on: worker. Allocates: at creation, and a page of timers when a slot in it is first used. Blocks: never.
//!
//! ```text
//!   mapping  (protocol, client address and port) <-> (public address and port)     one per client port, whatever the
//!      ^                                                                           destination (RFC 4787 REQ-1)
//!      | many                                                                      (endpoint-independent mapping)
//!   binding  client tuple <-> public tuple, path, timers, counters                 one per flow, found by both tuples
//! ```
//!
//! Packets are found by their binding alone; mappings are asked when a flow opens. While a mapping carries a flow on the
//! `nat` path, anyone outside may open a flow to it (endpoint-independent filtering, RFC 4787 REQ-8, RFC 6888 REQ-7),
//! unless a rule denies it or the client has used up half of its flows; a mapping that carries proxied flows only lets
//! in nothing but their answers.
//!
//! When a mapping's last flow has ended, its public port rests before it may serve another client ([`alloc`]).

use core::net::{Ipv4Addr, SocketAddrV4};
use std::collections::HashMap;

use foldhash::SharedSeed;
use foldhash::quality::SeedableRandomState;
use pnat_shared::config;
use pnat_shared::flow::{Handle, Protocol, Side, Stream, WorkerId};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wheel::Wheel;
use pnat_shared::wire::tcp::{Flags, Seq};

use alloc::Ports;
use binding::{Binding, Path};
use expiry::Track;
use proof::Proof;
use rewrite::Change;
use table::Table;
use tuple::Tuple;

use crate::loopback::mask;

pub mod policy;
pub mod tuple;
pub mod table;
pub mod alloc;
pub mod binding;
pub mod retarget;
pub mod expiry;
pub mod proof;
pub mod rewrite;
pub mod icmp;

/// Resolution of the expiry timers.
const TICK: Duration = Duration::from_secs(1);
/// Timers looked at per call, so that an expiry storm does not stop the packets.
const EXPIRE_BUDGET: usize = 256;
const NOBODY: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// A client's port and the public port that stands for it.
#[derive(Copy, Clone, Debug)]
struct Mapping {
    /// Bindings that use it, and holds ([`Nat::hold`]).
    users: u32,
    /// Bindings on [`Path::Nat`]: while there are any, it accepts new flows from outside.
    translated: u32,
}

/// A flow to be opened.
#[derive(Copy, Clone, Debug)]
pub struct Opening {
    /// Client to server.
    pub inside: Tuple,
    pub path: Path,
    /// The port by which each stream leaves.
    pub egress: [u8; 2],
    pub policy: u32,
    pub rule: Option<u16>,
    /// Hash of the client's address; chooses its public address.
    pub client: u64,
    /// Whether the server sent the first packet.
    pub inbound: bool,
    /// Whether the client has shown that it has its address: the flow is not half-open, even to begin with.
    pub proven: bool,
}

/// A binding that was taken out.
#[derive(Clone, Debug)]
pub struct Closed {
    pub handle: Handle,
    /// Client's and server's tuple.
    pub keys: [Tuple; 2],
    pub binding: Binding,
}

/// One worker's shard.
#[derive(Debug)]
pub struct Nat {
    me: WorkerId,
    flows: Table<Tuple, Binding>,
    mappings: Table<Tuple, Mapping>,
    ports: Ports,
    /// Flows per client.
    clients: HashMap<Ipv4Addr, u32, SeedableRandomState>,
    flows_per_client: u32,
    /// Flows whose client owes a proof of its address.
    half_open: usize,
    timeouts: config::Timeouts,
    /// How long a proxied flow may be silent: only a safety net, its pair decides.
    proxied_idle: Duration,
    wheel: Wheel,
    fired: Vec<u32>,
}

impl Nat {
    /// A shard for worker `me` of `workers`. `secret` keys hashes and the choice of ports.
    pub fn new(
        settings: &config::Nat,
        me: WorkerId,
        workers: u8,
        proxied_idle: Duration,
        secret: u64,
        now: Instant,
    ) -> Self {
        let capacity = (settings.flows as usize).clamp(1, Handle::SLOTS);
        let hasher = SeedableRandomState::with_seed(secret, SharedSeed::global_random());
        Self {
            me,
            flows: Table::new(capacity, secret ^ 1),
            mappings: Table::new(capacity, secret ^ 2),
            ports: Ports::new(&settings.public, &settings.ports, me, workers, secret ^ 3),
            clients: HashMap::with_capacity_and_hasher(capacity, hasher),
            flows_per_client: settings.flows_per_client,
            half_open: 0,
            timeouts: settings.timeouts,
            proxied_idle,
            wheel: Wheel::new(TICK, now),
            fired: Vec::with_capacity(EXPIRE_BUDGET),
        }
    }

    /// The flows, to look up and to list.
    #[inline]
    pub fn flows(&self) -> &Table<Tuple, Binding> {
        &self.flows
    }

    /// A live flow's tuples and binding.
    #[inline]
    pub fn flow_mut(&mut self, slot: u32) -> Option<(&[Tuple; 2], &mut Binding)> {
        self.flows.entry_mut(slot)
    }

    /// What names the flow in `slot` on the loopback.
    #[inline]
    pub fn handle(&self, slot: u32) -> Handle {
        Handle { worker: self.me, slot, generation: self.flows.generation(slot) }
    }

    /// The slot of a handle, unless its flow has ended or was another worker's.
    #[inline]
    pub fn slot(&self, handle: Handle) -> Option<u32> {
        let is_mine = handle.worker == self.me && self.flows.is_current(handle.slot, handle.generation);
        is_mine.then_some(handle.slot)
    }

    /// Opens a flow. On failure nothing is left behind, and no flow is lost for it.
    pub fn open(&mut self, opening: &Opening, now: Instant) -> Result<u32, DropReason> {
        let Opening { inside, path, egress, policy, rule, .. } = *opening;
        let client = *inside.src().ip();
        let limit = if opening.inbound { self.flows_per_client / 2 } else { self.flows_per_client };
        if self.clients.get(&client).is_some_and(|flows| *flows >= limit) || limit == 0 {
            return Err(DropReason::ClientLimit);
        }
        if self.flows.is_full() {
            return Err(DropReason::TableFull);
        }
        let (mapping, public) = self.take_mapping(inside.protocol(), inside.src(), opening.client, now)?;
        let outside = Tuple::new(inside.protocol(), inside.dst(), public);
        let is_half_open =
            matches!(path, Path::Proxy(_)) && inside.protocol() == Protocol::Tcp && !opening.proven;
        let binding = Binding {
            last_seen: now,
            changes: [Change::between(&inside, &outside.reversed()), Change::default()],
            opened: now,
            packets: [0; 2],
            bytes: [0; 2],
            mapping,
            policy,
            rule,
            hops: [0; 2],
            path,
            egress,
            tracks: [Track::default(); 2],
            proof: if is_half_open { Proof::OWED } else { Proof::GIVEN },
        };
        let Ok(slot) = self.flows.insert([inside, outside], binding) else {
            self.release_mapping(mapping, now);
            return Err(DropReason::TableFull);
        };
        match path {
            Path::Proxy(_) => {
                let changes = mask::changes(self.handle(slot), &inside, &outside);
                if let Some((_, binding)) = self.flows.entry_mut(slot) {
                    binding.changes = changes;
                }
            }
            Path::Nat => self.count_translated(mapping, 1),
            Path::Own => {}
        }
        *self.clients.entry(client).or_insert(0) += 1;
        self.half_open += usize::from(is_half_open);
        self.wheel.arm(slot, now + self.lifetime(inside.protocol(), path, Track::default()));
        Ok(slot)
    }

    /// Ends the flow in `slot`.
    pub fn close(&mut self, slot: u32, now: Instant) -> Option<Closed> {
        let handle = self.handle(slot);
        let (keys, binding) = self.flows.remove(slot)?;
        self.wheel.cancel(slot);
        self.half_open -= usize::from(binding.proof.is_owed());
        if binding.path == Path::Nat {
            self.count_translated(binding.mapping, -1);
        }
        self.release_mapping(binding.mapping, now);
        let client = *keys[0].src().ip();
        if let Some(flows) = self.clients.get_mut(&client) {
            *flows -= 1;
            if *flows == 0 {
                self.clients.remove(&client);
            }
        }
        Some(Closed { handle, keys, binding })
    }

    /// Notes a packet of `bytes` that came from one of the hosts; `flags` are none for other protocols than TCP.
    #[inline]
    pub fn pass(&mut self, slot: u32, stream: Stream, flags: Flags, bytes: usize, now: Instant) {
        let Some((_, binding)) = self.flows.entry_mut(slot) else { return };
        binding.packets[stream as usize] += 1;
        binding.bytes[stream as usize] += bytes as u64;
        // A reset keeps nothing alive (RFC 7857 section 7.1).
        if !flags.has(Flags::RST) {
            binding.last_seen = now;
        }
        let leg = if binding.path == Path::Nat { Side::First } else { stream.enters() };
        if binding.tracks[leg as usize].see(stream, flags) && binding.path == Path::Nat {
            self.wheel.arm(slot, now + self.timeouts.tcp_transitory);
        }
    }

    /// Notes a packet that a pair's socket of `side` sent.
    pub fn pass_from_pair(&mut self, slot: u32, side: Side, flags: Flags, now: Instant) {
        let Some((_, binding)) = self.flows.entry_mut(slot) else { return };
        binding.last_seen = now;
        // What leaves by the first socket is the second stream, and the other way round.
        binding.tracks[side as usize].see(!Stream::entering(side), flags);
    }

    /// Notes that a pair's first socket sent a SYN-ACK with this number.
    pub fn ask_proof(&mut self, slot: u32, iss: Seq) {
        if let Some((_, binding)) = self.flows.entry_mut(slot) {
            binding.proof.ask(iss);
        }
    }

    /// Notes what a client acknowledges that owes a proof of its address. Answers whether its flow is half-open no more.
    pub fn give_proof(&mut self, slot: u32, ack: Seq) -> bool {
        let given = self.flows.entry_mut(slot).is_some_and(|(_, binding)| binding.proof.give(ack));
        self.half_open -= usize::from(given);
        given
    }

    /// Proxied TCP flows whose client has not shown yet that it has the address it names.
    pub fn half_open(&self) -> usize {
        self.half_open
    }

    /// The client that a mapping stands for, where a new flow from outside may be opened to it.
    pub fn client_of(&self, protocol: Protocol, public: SocketAddrV4) -> Option<SocketAddrV4> {
        let key = Tuple::new(protocol, NOBODY, public);
        let slot = self.mappings.find(Stream::Second, self.mappings.hash(&key), &key)?;
        let (keys, mapping) = self.mappings.entry(slot)?;
        (mapping.translated > 0).then(|| keys[0].src())
    }

    /// Keeps a flow's mapping while the flow itself is replaced, to be given back by [`Nat::unhold`].
    pub fn hold(&mut self, slot: u32) -> Option<u32> {
        let mapping = self.flows.entry(slot)?.1.mapping;
        self.mappings.entry_mut(mapping)?.1.users += 1;
        Some(mapping)
    }

    pub fn unhold(&mut self, mapping: u32, now: Instant) {
        self.release_mapping(mapping, now);
    }

    /// Ends flows that were silent for too long and hands them to `ended`; at most some hundreds per call.
    pub fn expire(&mut self, now: Instant, mut ended: impl FnMut(Closed, CloseReason)) {
        let mut fired = core::mem::take(&mut self.fired);
        self.wheel.expire(now, EXPIRE_BUDGET, &mut fired);
        for slot in fired.drain(..) {
            let Some((keys, binding)) = self.flows.entry(slot) else { continue };
            let track = binding.tracks[0];
            let due = binding.last_seen + self.lifetime(keys[0].protocol(), binding.path, track);
            if now < due {
                self.wheel.arm(slot, due);
            } else if let Some(closed) = self.close(slot, now) {
                ended(closed, track.reason());
            }
        }
        self.fired = fired;
    }

    /// A time before which no flow expires.
    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.next_fire()
    }

    /// Public ports left for a protocol.
    pub fn free_ports(&self, protocol: Protocol) -> usize {
        self.ports.free(protocol)
    }

    fn lifetime(&self, protocol: Protocol, path: Path, track: Track) -> Duration {
        match path {
            Path::Nat | Path::Own => expiry::lifetime(protocol, track, &self.timeouts),
            Path::Proxy(_) => self.proxied_idle,
        }
    }

    fn take_mapping(
        &mut self,
        protocol: Protocol,
        client: SocketAddrV4,
        choice: u64,
        now: Instant,
    ) -> Result<(u32, SocketAddrV4), DropReason> {
        let key = Tuple::new(protocol, client, NOBODY);
        if let Some(slot) = self.mappings.find(Stream::First, self.mappings.hash(&key), &key)
            && let Some((keys, mapping)) = self.mappings.entry_mut(slot)
        {
            mapping.users += 1;
            return Ok((slot, keys[1].dst()));
        }
        let public =
            self.ports.take(protocol, choice, client.port(), now).ok_or(DropReason::PortsExhausted)?;
        let keys = [key, Tuple::new(protocol, NOBODY, public)];
        match self.mappings.insert(keys, Mapping { users: 1, translated: 0 }) {
            Ok(slot) => Ok((slot, public)),
            Err(table::Full) => {
                self.ports.put(protocol, public, now);
                Err(DropReason::TableFull)
            }
        }
    }

    fn release_mapping(&mut self, slot: u32, now: Instant) {
        let Some((_, mapping)) = self.mappings.entry_mut(slot) else { return };
        mapping.users -= 1;
        if mapping.users == 0
            && let Some((keys, _)) = self.mappings.remove(slot)
        {
            self.ports.put(keys[1].protocol(), keys[1].dst(), now);
        }
    }

    fn count_translated(&mut self, slot: u32, by: i32) {
        if let Some((_, mapping)) = self.mappings.entry_mut(slot) {
            mapping.translated = mapping.translated.saturating_add_signed(by);
        }
    }
}

#[cfg(test)]
mod tests;
