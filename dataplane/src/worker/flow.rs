//! What is done with the packets of flows that ports received: translated or masked; and how a flow opens.

use core::net::{Ipv4Addr, SocketAddr};

use pnat_shared::config::{Action, Denial};
use pnat_shared::flow::{Accepted, NewFlow, Offloads, Protocol, Side, Stream};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::loopback::{self, ToProxy};
use pnat_shared::path_mtu::MtuCause;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::Flags;
use pnat_shared::wire::{icmp, ip};

use super::parse::{self, Packet};
use super::reply::Answer;
use super::{Outputs, Refusal, Worker};
use crate::loopback::mask::masked;
use crate::nat::Opening;
use crate::nat::binding::{Binding, Path};
use crate::nat::icmp::Quote;
use crate::nat::policy::{self, Decision};
use crate::nat::rewrite;
use crate::nat::tuple::Tuple;

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    #[inline]
    pub(super) fn on_packet(
        &mut self,
        frame: F,
        port: u8,
        packet: &Packet,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let flows = self.nat.flows();
        // An earlier packet of the burst may have opened or ended the flow.
        let slot = if flows.holds(packet.slot, packet.stream, &packet.tuple) {
            Some(packet.slot)
        } else {
            flows.find(packet.stream, packet.hash, &packet.tuple)
        };
        match slot {
            Some(slot) => {
                self.stats.hits.add(1);
                self.on_hit(frame, port, slot, packet, now, out);
            }
            None => {
                self.stats.misses.add(1);
                self.on_miss(frame, port, packet, now, out);
            }
        }
    }

    #[inline]
    fn on_hit(
        &mut self,
        mut frame: F,
        port: u8,
        slot: u32,
        packet: &Packet,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Packet { stream, flags, .. } = *packet;
        let Some((keys, binding)) = self.nat.flows().entry(slot) else { return };
        if stream == Stream::First && packet.is_syn() && binding.is_over() && !binding.is_first_waiting() {
            return self.reopen(frame, port, slot, packet, now, out);
        }
        let bytes = frame.data().len() - L2_LEN;
        let egress = binding.egress[stream as usize];
        match binding.path {
            Path::Nat => {
                if let Some(mtu) = self.too_big_for(egress, bytes) {
                    let header = ip::Header::read_quoted(&frame.data()[L2_LEN..]);
                    let answer = header.map_or(Answer::Silence, |header| too_big(&header, mtu));
                    self.note_size(slot, !stream.enters(), mtu, MtuCause::Port, now);
                    return self.refuse_packet(frame, port, DropReason::Oversized, answer, now, out);
                }
                let (to, change) = match stream {
                    Stream::First => (keys[1].reversed(), binding.changes[0]),
                    Stream::Second => (keys[0].reversed(), binding.changes[0].reversed()),
                };
                let data = &mut frame.data_mut()[L2_LEN..];
                rewrite::translate(data, &to, change);
                ip::decrement_ttl(data);
                self.nat.pass(slot, stream, flags, bytes, now);
                self.send_on(frame, slot, stream, *to.dst().ip(), now, out);
            }
            Path::Proxy(core) => {
                let is_proof = stream == Stream::First && binding.proof.is_owed() && flags.has(Flags::ACK);
                self.mask(&mut frame, slot, stream, binding, keys[0].protocol());
                self.nat.pass(slot, stream, flags, bytes, now);
                if is_proof {
                    self.take_proof(&frame, slot);
                }
                self.stats.to_proxy.add(1);
                out.to_proxy[usize::from(core.0)].push(ToProxy::Packet { frame, at: now });
            }
            Path::Own => self.on_checked(&frame, slot, packet, now, out),
        }
    }

    fn on_miss(&mut self, frame: F, port: u8, packet: &Packet, now: Instant, out: &mut Outputs<F>) {
        if !parse::is_intact(&frame) {
            return self.stats.drops.add(DropReason::L4Checksum, 1);
        }
        match packet.stream {
            Stream::First => self.open_outward(frame, port, packet, now, out),
            Stream::Second => self.open_inward(frame, port, packet, now, out),
        }
    }

    /// A client's first packet of a flow: policy decides.
    fn open_outward(&mut self, frame: F, port: u8, packet: &Packet, now: Instant, out: &mut Outputs<F>) {
        let inside = packet.tuple;
        let Decision { rule, action, accept } = policy::decide(&self.policy.policy, &inside);
        let client = *inside.src().ip();
        let path = match action {
            Action::Nat => Path::Nat,
            Action::Proxy => match self.shards.proxy(client) {
                Some(core) => Path::Proxy(core),
                None => return self.stats.drops.add(DropReason::Internal, 1),
            },
            Action::Deny(denial) => {
                let answer = match denial {
                    Denial::Reset => Answer::Reset,
                    Denial::Icmp => Answer::PROHIBITED,
                    Denial::Silent => Answer::Silence,
                };
                self.note_refused(packet, rule, DropReason::Denied, now);
                return self.refuse_packet(frame, port, DropReason::Denied, answer, now, out);
            }
        };
        let accepted = if packet.may_open() {
            None
        } else {
            match self.redeem(&frame, port, packet, path, now) {
                Ok(accepted) => Some(accepted),
                Err((reason, answer)) => return self.refuse_packet(frame, port, reason, answer, now, out),
            }
        };
        // A client that takes its connection for open understands nothing but a reset.
        let or_reset = |answer| if accepted.is_some() { Answer::Reset } else { answer };
        if self.is_draining {
            let answer = or_reset(Answer::PROHIBITED);
            self.note_refused(packet, rule, DropReason::Draining, now);
            return self.refuse_packet(frame, port, DropReason::Draining, answer, now, out);
        }
        let Some(egress) = self.routes.outward(*inside.dst().ip()) else {
            let answer = or_reset(Answer::HOST_UNREACHABLE);
            self.note_refused(packet, rule, DropReason::NoRoute, now);
            return self.refuse_packet(frame, port, DropReason::NoRoute, answer, now, out);
        };
        if self.accepts_early(packet, path, accept) {
            return self.answer_syn(frame, port, packet, now, out);
        }
        let opening = Opening {
            inside,
            path,
            egress: [egress, port],
            policy: self.policy.generation,
            rule,
            client: self.shards.hash(client),
            inbound: false,
            proven: accepted.is_some(),
        };
        match self.nat.open(&opening, now) {
            Ok(slot) => {
                self.count_opened();
                match path {
                    Path::Nat | Path::Own => self.on_hit(frame, port, slot, packet, now, out),
                    Path::Proxy(_) => self.redirect(frame, slot, packet, accepted, now, out),
                }
            }
            // RFC 5508 REQ-8, RFC 6888 REQ-11: dropped, and the client is told.
            Err(reason) => {
                self.note_refused(packet, rule, reason, now);
                self.refuse_packet(frame, port, reason, or_reset(Answer::PROHIBITED), now, out);
            }
        }
    }

    /// A first packet from outside: to a client whose mapping accepts it, unless policy would not translate that flow.
    fn open_inward(&mut self, frame: F, port: u8, packet: &Packet, now: Instant, out: &mut Outputs<F>) {
        let (server, public) = (packet.tuple.src(), packet.tuple.dst());
        let protocol = packet.tuple.protocol();
        let may_open = protocol != Protocol::Icmp && packet.may_open();
        let Some(client) = self.nat.client_of(protocol, public).filter(|_| may_open) else {
            return self.stats.drops.add(DropReason::NoBinding, 1);
        };
        if self.is_draining {
            return self.stats.drops.add(DropReason::Draining, 1);
        }
        let inside = Tuple::new(protocol, client, server);
        let Decision { rule, action, .. } = policy::decide(&self.policy.policy, &inside);
        let egress = self.routes.inward(*client.ip());
        let (Action::Nat, Some(egress)) = (action, egress) else {
            return self.stats.drops.add(DropReason::NoBinding, 1);
        };
        let opening = Opening {
            inside,
            path: Path::Nat,
            egress: [port, egress],
            policy: self.policy.generation,
            rule,
            client: self.shards.hash(*client.ip()),
            inbound: true,
            proven: false,
        };
        match self.nat.open(&opening, now) {
            Ok(slot) => {
                self.count_opened();
                self.on_hit(frame, port, slot, packet, now, out);
            }
            Err(reason) => self.stats.drops.add(reason, 1),
        }
    }

    /// A fresh SYN on a connection that is over: the client has chosen the same port again. The flow is opened anew, by
    /// today's policy, and keeps its public port. (While a pair still has a leg to finish, or its first socket is in
    /// TIME-WAIT, it gets the SYN, and decides.)
    pub(super) fn reopen(
        &mut self,
        frame: F,
        port: u8,
        slot: u32,
        packet: &Packet,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let mapping = self.nat.hold(slot);
        if let Some(closed) = self.nat.close(slot, now) {
            let reason = closed.binding.tracks[0].reason();
            self.tell_proxy(&closed, reason, out);
            self.note_closed(&closed, reason, None, now);
        }
        self.on_miss(frame, port, packet, now, out);
        if let Some(mapping) = mapping {
            self.nat.unhold(mapping, now);
        }
    }

    /// Hands a flow's first packet to its proxy core, with all that is known of the flow.
    fn redirect(
        &mut self,
        mut frame: F,
        slot: u32,
        packet: &Packet,
        accepted: Option<Accepted>,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some((keys, binding)) = self.nat.flows().entry(slot) else { return };
        let Path::Proxy(core) = binding.path else { return };
        let port = |stream: Stream| self.routes.port(binding.egress[stream as usize]);
        let offloads = |stream| port(stream).map_or_else(Offloads::default, |info| info.offloads);
        // A pair whose client was accepted early may come to ask a server behind any port.
        let outward =
            if accepted.is_some() { self.routes.outward_offloads() } else { offloads(Stream::First) };
        let flow = Box::new(NewFlow {
            handle: self.nat.handle(slot),
            protocol: keys[0].protocol(),
            client: SocketAddr::V4(keys[0].src()),
            server: SocketAddr::V4(keys[0].dst()),
            public: SocketAddr::V4(keys[1].dst()),
            policy: binding.policy,
            rule: binding.rule,
            mtu: self.mtus(binding),
            offloads: [offloads(Stream::Second), outward],
            opened: now,
            accepted,
        });
        let bytes = frame.data().len() - L2_LEN;
        self.mask(&mut frame, slot, Stream::First, binding, flow.protocol);
        self.nat.pass(slot, Stream::First, packet.flags, bytes, now);
        self.stats.to_proxy.add(1);
        out.to_proxy[usize::from(core.0)].push(ToProxy::Open { frame, at: now, flow });
    }

    /// An ICMP error, about a packet of the flow that it quotes, from a port.
    pub(super) fn on_error(
        &mut self,
        mut frame: F,
        stream: Stream,
        quote: &Quote,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let key = quote.tuple.reversed();
        let flows = self.nat.flows();
        let Some(slot) = flows.find(stream, flows.hash(&key), &key) else {
            return self.stats.drops.add(DropReason::IcmpUnrelated, 1);
        };
        self.note_error(slot, stream.enters(), &frame, now);
        let Some((keys, binding)) = self.nat.flows().entry(slot) else { return };
        let data = &mut frame.data_mut()[L2_LEN..];
        let Ok(header) = ip::Header::read_quoted(data) else {
            return self.stats.drops.add(DropReason::Truncated, 1);
        };
        match (binding.path, stream) {
            (Path::Nat, Stream::First) => {
                // Whoever reports it inside, outside it is the public address (RFC 5508 REQ-5).
                quote.translate(data, *keys[1].dst().ip(), header.dst, &keys[1]);
            }
            (Path::Nat, Stream::Second) => {
                quote.translate(data, header.src, *keys[0].src().ip(), &keys[0]);
            }
            (Path::Own, _) => return self.on_check_error(&frame, slot, now, out),
            (Path::Proxy(core), _) => {
                let side = stream.enters();
                let quoted = masked(self.nat.handle(slot), keys[0].protocol(), side).reversed();
                quote.translate(data, header.src, *loopback::socket(side).ip(), &quoted);
                self.stats.to_proxy.add(1);
                return out.to_proxy[usize::from(core.0)].push(ToProxy::Packet { frame, at: now });
            }
        }
        ip::decrement_ttl(data);
        let dst = match stream {
            Stream::First => *keys[1].src().ip(),
            Stream::Second => *keys[0].src().ip(),
        };
        self.send_on(frame, slot, stream, dst, now, out);
    }

    /// Rewrites a packet from a host for the socket by which its stream enters the pair.
    #[inline]
    fn mask(&self, frame: &mut F, slot: u32, stream: Stream, binding: &Binding, protocol: Protocol) {
        let to = masked(self.nat.handle(slot), protocol, stream.enters());
        rewrite::translate(&mut frame.data_mut()[L2_LEN..], &to, binding.changes[stream as usize]);
    }

    /// Sends a translated packet of a flow's stream to `dst`.
    #[inline]
    pub(super) fn send_on(
        &mut self,
        frame: F,
        slot: u32,
        stream: Stream,
        dst: Ipv4Addr,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let Some((_, binding)) = self.nat.flows().entry(slot) else {
            return self.stats.drops.add(DropReason::StaleHandle, 1);
        };
        let (egress, hint) = (binding.egress[stream as usize], binding.hops[stream as usize]);
        let known = self.send(frame, egress, dst, hint, now, out);
        if known != hint
            && let Some((_, binding)) = self.nat.flow_mut(slot)
        {
            binding.hops[stream as usize] = known;
        }
    }

    /// Longest IP packet that a flow's ports carry to the client and to the server, in bytes.
    pub(super) fn mtus(&self, binding: &Binding) -> [u16; 2] {
        let mtu = |stream: Stream| self.routes.port(binding.egress[stream as usize]).map(|info| info.mtu);
        [Stream::Second, Stream::First].map(|stream| mtu(stream).unwrap_or(ip::MIN_LEN as u16))
    }

    /// Remembers that a packet was too long for the leg of `side`.
    #[cold]
    pub(super) fn note_size(&mut self, slot: u32, side: Side, mtu: u16, cause: MtuCause, now: Instant) {
        self.sizes.note(self.nat.handle(slot), side, mtu, cause, now);
    }

    /// Remembers an ICMP error by which a router on the leg of `side` asks for shorter packets.
    fn note_error(&mut self, slot: u32, side: Side, frame: &F, now: Instant) {
        let Some(Ok(error)) = frame.data().get(L2_LEN + ip::MIN_LEN..).map(icmp::Header::read) else {
            return;
        };
        let Some((_, binding)) = self.nat.flows().entry(slot) else { return };
        let mtu = error.next_hop_mtu();
        // What our own port carries, its owner need not be told by others.
        if error.asks_for_shorter() && mtu < self.mtus(binding)[side as usize] {
            self.note_size(slot, side, mtu, MtuCause::Router, now);
        }
    }

    #[inline]
    pub(super) fn too_big_for(&self, port: u8, bytes: usize) -> Option<u16> {
        let mtu = self.routes.port(port)?.mtu;
        (bytes > usize::from(mtu)).then_some(mtu)
    }

    /// Remembers that a client's flow was not opened.
    fn note_refused(&mut self, packet: &Packet, rule: Option<u16>, reason: DropReason, now: Instant) {
        let policy = self.policy.generation;
        self.history.refused(Refusal { tuple: packet.tuple, policy, rule, reason, at: now, times: 1 });
    }

    fn count_opened(&self) {
        self.stats.opened.add(1);
        self.tell_flows();
    }
}

/// What the sender of a packet that exceeds an MTU is told (RFC 4787 REQ-13). Without "don't fragment" it is dropped in
/// silence until fragments are carried.
pub(super) fn too_big(header: &ip::Header, mtu: u16) -> Answer {
    if header.dont_fragment() { Answer::TooBig(mtu) } else { Answer::Silence }
}
