//! The worker's end towards ports: next hops, ARP, and answers that go back whence the frame came.

use core::net::Ipv4Addr;

use pnat_shared::flow::{Protocol, Stream};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ethernet::{self, Mac};
use pnat_shared::wire::{arp, icmp, ip};

use super::reply::{self, Answer};
use super::{Outputs, Worker};
use crate::handoff::Handoff;
use crate::nat::icmp::Quote;
use crate::neighbor::{Hop, Lesson};

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// Sends a packet to `dst` by `port`. `hint` is where the next hop stood in the neighbor table last time; answers
    /// where it stands now.
    #[inline]
    pub(super) fn send(
        &mut self,
        mut frame: F,
        port: u8,
        dst: Ipv4Addr,
        hint: u16,
        now: Instant,
        out: &mut Outputs<F>,
    ) -> u16 {
        let Some(hop) = self.routes.next_hop(port, dst) else {
            self.lead_nowhere(frame, now, out);
            return hint;
        };
        match self.neighbors.resolve(port, hop, hint, now) {
            Hop::Known { mac, slot } => {
                self.address(&mut frame, port, mac);
                self.transmit(frame, port, out);
                return slot;
            }
            Hop::Asked { slot } => {
                if self.neighbors.wait(slot, frame).is_err() {
                    self.stats.drops.add(DropReason::ResolveQueueFull, 1);
                }
            }
            Hop::Failed => self.unreachable(frame, port, now, out),
            Hop::NoRoom => self.stats.drops.add(DropReason::Unresolved, 1),
        }
        hint
    }

    /// Drops a packet whose next hop on `port` does not answer.
    pub(super) fn unreachable(&mut self, frame: F, port: u8, now: Instant, out: &mut Outputs<F>) {
        self.fail(frame, port, DropReason::Unresolved, Answer::HOST_UNREACHABLE, now, out);
    }

    /// Drops a packet that was translated already and cannot leave by `port`. One for a server is reported as a router
    /// outside would: by an ICMP error to the public address, which finds its way to the client or the pair as any other
    /// does.
    pub(super) fn fail(
        &mut self,
        mut frame: F,
        port: u8,
        reason: DropReason,
        answer: Answer,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        self.stats.drops.add(reason, 1);
        let is_outside = self.routes.port(port).is_some_and(|info| info.outside);
        let Ok(header) = ip::Header::read_quoted(&frame.data()[L2_LEN..]) else { return };
        // Nobody is told about an error (RFC 1122 section 3.2.2).
        if !is_outside || is_icmp_error(&header, frame.data()) || !self.errors.take(now) {
            return;
        }
        let Some(from) = self.routes.address_toward(port, header.dst) else { return };
        if !reply::error(&mut frame, from, answer) {
            return;
        }
        if let Ok(quote) = Quote::read(&frame.data()[L2_LEN..]) {
            self.stats.generated.add(1);
            self.on_error(frame, Stream::Second, &quote, now, out);
        }
    }

    /// Drops a packet, and tells its sender in the same frame.
    pub(super) fn refuse_packet(
        &mut self,
        mut frame: F,
        port: u8,
        reason: DropReason,
        answer: Answer,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        self.stats.drops.add(reason, 1);
        let Ok(header) = ip::Header::read_quoted(&frame.data()[L2_LEN..]) else { return };
        let is_tcp = Protocol::from_number(header.protocol) == Some(Protocol::Tcp);
        let is_answered = match answer {
            Answer::Silence => false,
            Answer::Reset if is_tcp => self.resets.take(now) && reply::reset(&mut frame),
            Answer::Reset | Answer::Error(..) | Answer::TooBig(_) => {
                let answer = if answer == Answer::Reset { Answer::PROHIBITED } else { answer };
                let from = self.routes.address_toward(port, header.src).unwrap_or(header.dst);
                self.errors.take(now) && reply::error(&mut frame, from, answer)
            }
        };
        if is_answered {
            self.stats.generated.add(1);
            self.transmit(frame, port, out);
        }
    }

    pub(super) fn on_echo(&self, mut frame: F, port: u8, out: &mut Outputs<F>) {
        if reply::echo(&mut frame) {
            self.transmit(frame, port, out);
        } else {
            self.stats.drops.add(DropReason::L4Checksum, 1);
        }
    }

    /// Answers who asks for the gateway, learns from who answers it, and tells the other workers.
    pub(super) fn on_arp(
        &mut self,
        mut frame: F,
        port: u8,
        message: &arp::Message,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let is_probe = message.sender.is_unspecified() && message.operation == arp::Operation::Request;
        if !self.is_plausible(port, message) && !is_probe {
            return self.stats.drops.add(DropReason::ArpStranger, 1);
        }
        let is_for_us = self.routes.answers_for(port, message.target);
        let is_claim = message.sender == message.target || message.operation == arp::Operation::Reply;
        if !is_for_us && !is_claim {
            return self.stats.drops.add(DropReason::NotForUs, 1);
        }
        // Who asks whether an address is free (RFC 5227 section 2.1) has none yet.
        if !is_probe {
            for (worker, burst) in out.handoff.iter_mut().enumerate() {
                if worker != usize::from(self.me.0) {
                    burst.push(Handoff::Arp { port, message: *message });
                }
            }
            match self.learn(port, message, now, out) {
                // One of the others may have asked.
                Lesson::Unasked if self.shards.workers() > 1 => return self.stats.absorbed.add(1),
                Lesson::Unasked | Lesson::Refused => {
                    return self.stats.drops.add(DropReason::ArpStranger, 1);
                }
                Lesson::Believed => {}
            }
        }
        let Some(mac) = self.routes.port(port).map(|info| info.mac) else { return };
        let is_asked = is_for_us && message.operation == arp::Operation::Request;
        let answer = arp::Message {
            operation: arp::Operation::Reply,
            sender_mac: mac,
            sender: message.target,
            target_mac: message.sender_mac,
            target: message.sender,
        };
        if is_asked && reply::arp(&mut frame, message.sender_mac, answer) {
            self.transmit(frame, port, out);
        } else {
            self.stats.absorbed.add(1);
        }
    }

    /// Learns a neighbor's link address, and sends what waited for it.
    pub(super) fn learn(
        &mut self,
        port: u8,
        message: &arp::Message,
        now: Instant,
        out: &mut Outputs<F>,
    ) -> Lesson {
        let mut released = core::mem::take(&mut self.released);
        let learnt = self.neighbors.learn(port, message, now, &mut released);
        for mut frame in released.drain(..) {
            self.address(&mut frame, port, message.sender_mac);
            self.transmit(frame, port, out);
        }
        self.released = released;
        learnt
    }

    /// Sends the questions that came up.
    #[inline]
    pub(super) fn send_asks(&mut self, out: &mut Outputs<F>) {
        if !self.neighbors.has_asks() {
            return;
        }
        for ask in self.neighbors.asks() {
            let Some(sender) = self.routes.address_toward(ask.port, ask.target) else { continue };
            self.send_arp(ask.port, ask.to, sender, ask.target, out);
        }
    }

    pub(super) fn announce_one(&mut self, port: u8, addr: Ipv4Addr, out: &mut Outputs<F>) {
        self.send_arp(port, Mac::BROADCAST, addr, addr, out);
    }

    fn send_arp(&mut self, port: u8, to: Mac, sender: Ipv4Addr, target: Ipv4Addr, out: &mut Outputs<F>) {
        let Some(info) = self.routes.port(port) else { return };
        let target_mac = if to == Mac::BROADCAST { Mac::default() } else { to };
        let operation = arp::Operation::Request;
        let message = arp::Message { operation, sender_mac: info.mac, sender, target_mac, target };
        let mut frame = self.pool.alloc();
        match frame.take_if(|frame| reply::arp(frame, to, message)) {
            Some(frame) => {
                self.stats.generated.add(1);
                self.transmit(frame, port, out);
            }
            // The question is asked again in a second.
            None => self.stats.drops.add(DropReason::NoFrame, 1),
        }
    }

    /// Whether an ARP message's sender can be a neighbor on this port (RFC 5227 section 2.4 for who claims our address).
    fn is_plausible(&self, port: u8, message: &arp::Message) -> bool {
        let mac = message.sender_mac;
        let is_station = !mac.is_group() && mac != Mac::default();
        let is_ours = self.routes.port(port).is_some_and(|info| info.mac == mac);
        is_station
            && !is_ours
            && !self.routes.is_own(message.sender)
            && self.routes.is_on_link(port, message.sender)
    }

    /// Writes the link header.
    #[inline]
    fn address(&self, frame: &mut F, port: u8, to: Mac) {
        if let Some(info) = self.routes.port(port) {
            ethernet::Header { dst: to, src: info.mac, ether_type: ethernet::TYPE_IPV4 }
                .write(frame.data_mut());
        }
    }

    /// The one place where frames leave for a port.
    #[inline]
    pub(super) fn transmit(&self, frame: F, port: u8, out: &mut Outputs<F>) {
        let number = usize::from(port);
        self.stats.ports[number].tx_packets.add(1);
        self.stats.ports[number].tx_bytes.add(frame.extent().0 as u64);
        out.transmit[number].push(frame);
    }
}

/// Whether a packet, unlike a query, must not be answered by an ICMP error.
fn is_icmp_error(header: &ip::Header, frame: &[u8]) -> bool {
    let kind = frame.get(L2_LEN + header.header_len);
    header.protocol == 1 && !matches!(kind, Some(&(icmp::ECHO | icmp::ECHO_REPLY)))
}
