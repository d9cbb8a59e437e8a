//! New flows: refused with a counted reason, or opened as a pair.

use std::net::SocketAddr;
use std::sync::Arc;

use pnat_shared::config::Accept;
use pnat_shared::flow::{NewFlow, Protocol, Side};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::Instant;
use pnat_shared::verdict::{CloseReason, DropReason};

use super::Reactor;
use super::demux::{self, Arrival, Body};
use super::pairs::{Conversation, Slot, contain};
use super::residence::Cause;
use super::visit::Round;
use crate::filter::Flow;
use crate::icmp::Quote;
use crate::pair::{Opening, Pair, is_completing, is_opening};
use crate::udp::Association;

impl<F: Frame> Reactor<F> {
    /// A flow's first packet. A refused flow is not told to the client: its worker is, and the client tries again.
    pub(super) fn open<P: FramePool<F>>(&mut self, frame: F, new: &NewFlow, round: &mut Round<'_, F, P>) {
        if self.find(new.handle).is_some() {
            return self.packet(frame, round);
        }
        if let Some(key) = self.index.find(new.handle) {
            // The worker uses the slot again, so the flow that had it is gone, and the word of that was lost.
            self.close(key, CloseReason::Resources, round);
            self.remove(key, CloseReason::Resources, round.out);
        }
        let opened = self.check(&frame, new).and_then(|arrival| {
            let opened = contain(|| self.converse(&arrival, frame.data(), new, round.now));
            let conversation = opened.unwrap_or_else(|| {
                self.stats.panics.add(1);
                tracing::error!(flow = ?new, "a pair panicked as it was opened");
                Err((DropReason::Internal, CloseReason::Internal))
            })?;
            Ok((arrival, conversation))
        });
        let (arrival, conversation) = match opened {
            Ok(opened) => opened,
            Err((dropped, closed)) => {
                self.stats.drops.add(dropped, 1);
                self.stats.closes.add(closed, 1);
                return round.out.closed(new.handle, closed, None);
            }
        };
        // Of a SYN all is known by now.
        let has_more = matches!(conversation, Conversation::Udp(_)) || new.accepted.is_some();
        let cause = Some(Cause::new(round.now));
        let account = self.bench.memory.open(new.client.ip());
        let key = self.slots.insert(Slot {
            handle: new.handle,
            policy: new.policy,
            conversation,
            armed: Instant::FAR,
            touched: false,
            account,
            cause,
        });
        self.index.insert(new.handle, key);
        self.policies.retain(new.policy);
        self.stats.opened(new.protocol);
        tracing::debug!(
            protocol = %new.protocol, client = %new.client, server = %new.server, public = %new.public, "flow opened"
        );
        if has_more {
            self.deliver(&arrival, frame, round);
        } else {
            self.stats.packets[Side::First as usize].add(1);
            self.slots[key].touch(key, &mut self.ready);
        }
    }

    /// Whether a flow may open: what its first packet is, or why it is refused.
    fn check(&self, frame: &F, new: &NewFlow) -> Result<Arrival, (DropReason, CloseReason)> {
        if self.drain.is_some() {
            return Err((DropReason::Draining, CloseReason::Shutdown));
        }
        if self.slots.len() >= self.max_pairs || !self.index.knows(new.handle) {
            return Err((DropReason::PairLimit, CloseReason::Resources));
        }
        if self.policies.find(new.policy).is_none() {
            self.stats.unknown_policy.add(1);
            return Err((DropReason::Internal, CloseReason::Reload));
        }
        let malformed = |reason| (reason, CloseReason::Malformed);
        let arrival = demux::read(frame).map_err(malformed)?;
        let opens = match &arrival.body {
            Body::Segment(segment) => {
                let first = |handshake| is_completing(&segment.header, handshake);
                new.protocol == Protocol::Tcp
                    && new.accepted.as_ref().map_or_else(|| is_opening(&segment.header), first)
            }
            Body::Datagram { .. } => new.protocol == Protocol::Udp,
            Body::Icmp(_) => false,
        };
        if !opens || arrival.handle != new.handle || arrival.side != Side::First {
            return Err(malformed(DropReason::Unacceptable));
        }
        Ok(arrival)
    }

    /// The pair for a first packet that may open one.
    fn converse(
        &mut self,
        arrival: &Arrival,
        frame: &[u8],
        new: &NewFlow,
        now: Instant,
    ) -> Result<Conversation<F>, (DropReason, CloseReason)> {
        let refused = (DropReason::Internal, CloseReason::Internal);
        let (SocketAddr::V4(client), SocketAddr::V4(server), SocketAddr::V4(public)) =
            (new.client, new.server, new.public)
        else {
            return Err(refused);
        };
        let snapshot = self.policies.find(new.policy).ok_or(refused)?;
        self.next_id += 1;
        let flow = Flow {
            id: self.next_id,
            handle: new.handle,
            protocol: new.protocol,
            client,
            server,
            target: None,
            may_retarget: false,
            room: [0; 2],
            wants_room: false,
            leaves_server: false,
            public,
            rule: snapshot.rule(new.rule).map(|rule| Arc::clone(&rule.name)),
            opened: new.opened,
            name: None,
            verdict: None,
            decided: None,
        };
        let Body::Segment(segment) = &arrival.body else {
            let chain = snapshot.chains.datagram(new.rule);
            let association = Association::open(new, flow, chain, self.udp_timeout, now);
            return Ok(Conversation::Udp(Box::new(association)));
        };
        let quote = Quote::of(frame).ok_or(refused)?;
        let transport = snapshot.transport(new.rule, self.transport);
        let chain = snapshot.chains.stream(new.rule);
        let accept = snapshot.rule(new.rule).map_or(Accept::Late, |rule| rule.accept);
        let opening = Opening { new, flow, chain, segment: &segment.header, quote, transport, accept };
        let pair = Pair::open(opening, &self.limits, now);
        self.stats.servers_asked.add(u64::from(!pair.is_waiting()));
        Ok(Conversation::Tcp(self.shells.fill(pair)))
    }
}
