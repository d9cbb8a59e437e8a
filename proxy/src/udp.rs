//! A UDP association: the proxied conversation of one UDP flow, datagram by datagram.
//!
//! Runs on: proxy cores. Allocates: per association, and for datagrams that filters edit or delay. Blocks: never.
//!
//! One datagram in is one datagram out, or none. One that no filter edits leaves in the frame that brought it, its
//! addresses rewritten in place.

use std::net::SocketAddrV4;
use std::ops::Range;

use pnat_shared::flow::{NewFlow, Side, Stream};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::loopback::{mask, socket};
use pnat_shared::path_mtu::{MtuCause, PathMtus};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::{CloseReason, DropReason};
use pnat_shared::wire::checksum::Delta;
use pnat_shared::wire::{icmp, ip, udp};

use crate::chunk::Chunk;
use crate::filter::{DatagramChain, Datagrams, Flow};
use crate::icmp::Quote;
use crate::reactor::{Complaint, Visit};
use crate::tally::Tally;

/// Where a datagram's payload begins in its frame.
const PAYLOAD_AT: usize = L2_LEN + ip::MIN_LEN + udp::LEN;

/// One proxied UDP conversation.
#[derive(Debug)]
pub(crate) struct Association<F> {
    flow: Flow,
    masked: SocketAddrV4,
    /// `None` once the flow's record is written: then nothing passes any more.
    chain: Option<DatagramChain<F>>,
    /// Largest IP packet that the client's and the server's leg carry, in bytes.
    mtu: [u16; 2],
    /// What they did not carry.
    path_mtus: PathMtus,
    timeout: Duration,
    /// When a datagram last came.
    last_seen: Instant,
    /// Head of the last datagram from each side, for ICMP errors to quote.
    quotes: [Option<Quote>; 2],
    tally: Tally,
    /// Why nothing passes any more.
    closed: Option<CloseReason>,
    over: bool,
}

impl<F: Frame> Association<F> {
    pub(crate) fn open(
        new: &NewFlow,
        flow: Flow,
        chain: DatagramChain<F>,
        timeout: Duration,
        now: Instant,
    ) -> Self {
        Self {
            flow,
            masked: mask(new.handle),
            chain: Some(chain),
            mtu: new.mtu,
            path_mtus: PathMtus::default(),
            timeout,
            last_seen: now,
            quotes: [None; 2],
            tally: Tally::default(),
            closed: None,
            over: false,
        }
    }

    /// Takes in a datagram whose checksum was verified, and appends what that lets out.
    pub(crate) fn on_datagram<P: FramePool<F>>(
        &mut self,
        side: Side,
        frame: F,
        payload: Range<usize>,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        let stream = Stream::entering(side);
        self.tally.packet(side);
        self.last_seen = visit.now;
        self.quotes[side as usize] = Quote::of(frame.data());
        let Some(chain) = &mut self.chain else { return Err(DropReason::Filtered) };
        self.tally.received(stream, payload.len());
        visit.bench.stats.bytes[stream as usize].add(payload.len() as u64);
        let datagram = Chunk::from_frame(frame, payload.start, payload.end);
        chain.push(&mut visit.datagram_turn(&mut self.flow), stream, datagram);
        self.pass(visit);
        Ok(())
    }

    /// An ICMP error about a datagram that the socket of `side` sent: the other side gets it, about the datagram that it
    /// sent last. An association takes no error for its end (RFC 4787 REQ-12). Answers whether it could be passed on.
    pub(crate) fn on_complaint<P: FramePool<F>>(
        &mut self,
        side: Side,
        complaint: &Complaint,
        visit: &mut Visit<'_, F, P>,
    ) -> bool {
        if complaint.seq.is_some() {
            return false;
        }
        let error = &complaint.error;
        // Headers are equally long on both legs, so the MTU of one holds for the other.
        let mtu = if error.asks_for_shorter() { error.next_hop_mtu() } else { 0 };
        if error.asks_for_shorter() {
            self.path_mtus.note(side, mtu, MtuCause::Router, visit.now);
        }
        self.complain(!side, error.kind, error.code, mtu, visit)
    }

    /// Does what is due by time.
    pub(crate) fn on_timer<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        if let Some(chain) = self.chain.as_mut().filter(|chain| chain.deadline() <= visit.now) {
            chain.on_timer(&mut visit.datagram_turn(&mut self.flow));
            self.pass(visit);
        }
        if visit.now >= self.last_seen + self.timeout {
            self.close(CloseReason::Idle, visit);
        }
    }

    /// When [`Association::on_timer`] is to be called next.
    pub(crate) fn deadline(&self) -> Instant {
        let chain = self.chain.as_ref().map_or(Instant::FAR, DatagramChain::deadline);
        chain.min(self.last_seen + self.timeout)
    }

    /// Ends the association. Nothing is sent: UDP has no word for it.
    pub(crate) fn close<P: FramePool<F>>(&mut self, reason: CloseReason, visit: &mut Visit<'_, F, P>) {
        self.record(reason, visit);
        self.over = true;
    }

    /// Why the association ended, once it has.
    pub(crate) const fn over(&self) -> Option<CloseReason> {
        if self.over { self.closed } else { None }
    }

    pub(crate) const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// When a datagram last came.
    pub(crate) const fn last_seen(&self) -> Instant {
        self.last_seen
    }

    /// Longest IP packet that each leg is taken to carry, in bytes.
    pub(crate) fn mtus(&self) -> [u16; 2] {
        let known = self.path_mtus.legs().map(|leg| leg.map_or(u16::MAX, |found| found.mtu));
        [0, 1].map(|leg| if known[leg] == 0 { self.mtu[leg] } else { self.mtu[leg].min(known[leg]) })
    }

    pub(crate) const fn path_mtus(&self) -> &PathMtus {
        &self.path_mtus
    }

    pub(crate) const fn tally(&self) -> &Tally {
        &self.tally
    }

    /// Sends what the chain let out, and does what it said.
    fn pass<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let Datagrams { filtered, overflowed, closed, .. } = &mut visit.bench.datagrams;
        visit.bench.stats.drops.add(DropReason::Filtered, std::mem::take(filtered));
        visit.bench.stats.drops.add(DropReason::NoBuffer, std::mem::take(overflowed));
        let closed = closed.take();
        for stream in [Stream::First, Stream::Second] {
            let mut datagrams = std::mem::take(visit.bench.datagrams.stream(stream));
            for datagram in datagrams.drain(..) {
                if let Err(reason) = self.forward(stream, datagram, visit) {
                    visit.bench.stats.drops.add(reason, 1);
                }
            }
            *visit.bench.datagrams.stream(stream) = datagrams;
        }
        if let Some(reason) = closed {
            self.complain(Side::First, icmp::UNREACHABLE, icmp::CODE_PROHIBITED, 0, visit);
            self.record(reason, visit);
        }
    }

    /// Sends one datagram from the socket by which its stream leaves.
    fn forward<P: FramePool<F>>(
        &mut self,
        stream: Stream,
        datagram: Chunk<F>,
        visit: &mut Visit<'_, F, P>,
    ) -> Result<(), DropReason> {
        let entering = stream.enters();
        let (from, to) = (socket(!entering), self.masked);
        let mtu = self.mtu[!entering as usize];
        let len = datagram.len();
        if ip::MIN_LEN + udp::LEN + len > usize::from(mtu) {
            self.path_mtus.note(!entering, mtu, MtuCause::Port, visit.now);
            if datagram.into_frame().is_ok_and(|(frame, _)| dont_fragment(frame.data())) {
                let code = icmp::CODE_FRAGMENTATION_NEEDED;
                self.complain(entering, icmp::UNREACHABLE, code, mtu, visit);
            }
            return Err(DropReason::Oversized);
        }
        let frame = match datagram.into_frame() {
            Ok((mut frame, payload)) if payload.start == PAYLOAD_AT => {
                redirect(&mut frame, from, to);
                frame
            }
            Ok((frame, payload)) => write(visit.pool, from, to, &frame.data()[payload])?,
            Err(chunk) => write(visit.pool, from, to, chunk.bytes())?,
        };
        visit.bench.frames.push(frame);
        self.tally.sent(stream, len, visit.now.since(self.flow.opened));
        Ok(())
    }

    /// Tells a side that something is wrong with the datagram that it sent last.
    fn complain<P: FramePool<F>>(
        &self,
        side: Side,
        kind: u8,
        code: u8,
        mtu: u16,
        visit: &mut Visit<'_, F, P>,
    ) -> bool {
        let Some(quote) = &self.quotes[side as usize] else { return false };
        let error = quote.complain(visit.pool, side, self.masked, kind, code, mtu);
        let made = error.is_some();
        visit.bench.frames.extend(error);
        made
    }

    /// Tells the filters what became of the flow, once.
    fn record<P: FramePool<F>>(&mut self, reason: CloseReason, visit: &mut Visit<'_, F, P>) {
        let reason = *self.closed.get_or_insert(reason);
        if let Some(mut chain) = self.chain.take() {
            let summary = self.tally.summary(reason, visit.now);
            chain.close(&self.flow, &summary, &mut visit.bench.services);
        }
    }
}

/// Whether the sender of a frame's packet forbade fragmentation.
fn dont_fragment(frame: &[u8]) -> bool {
    frame
        .get(L2_LEN..)
        .and_then(|packet| ip::Header::read_quoted(packet).ok())
        .is_some_and(|ip| ip.dont_fragment())
}

/// Readdresses a datagram in place. Checksums change by what the addresses change; one that the sender left out stays out.
fn redirect<F: Frame>(frame: &mut F, from: SocketAddrV4, to: SocketAddrV4) {
    let packet = &mut frame.data_mut()[L2_LEN..];
    let mut delta = ip::rewrite_addrs(packet, *from.ip(), *to.ip());
    let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    let header = &mut packet[ip::MIN_LEN..][..udp::LEN];
    for (at, port) in [(0, from.port()), (2, to.port())] {
        delta = replace(header, at, port, delta);
    }
    let checksum = u16::from_be_bytes([header[udp::CHECKSUM_AT], header[udp::CHECKSUM_AT + 1]]);
    if checksum != 0 {
        // All zero would mean "none" (RFC 768).
        let checksum = match delta.apply(checksum) {
            0 => 0xffff,
            checksum => checksum,
        };
        header[udp::CHECKSUM_AT..].copy_from_slice(&checksum.to_be_bytes());
    }
    // What a short packet was padded with on the wire is not part of it.
    frame.resize(L2_LEN + total_len);
}

/// Replaces two bytes at `at`; answers the change together with `delta`.
fn replace(bytes: &mut [u8], at: usize, new: u16, delta: Delta) -> Delta {
    let old = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    bytes[at..at + 2].copy_from_slice(&new.to_be_bytes());
    delta.word(old, new)
}

/// A frame for a datagram that a filter wrote.
fn write<F: Frame>(
    pool: &mut impl FramePool<F>,
    from: SocketAddrV4,
    to: SocketAddrV4,
    payload: &[u8],
) -> Result<F, DropReason> {
    let mut frame = pool.alloc().ok_or(DropReason::NoFrame)?;
    let total_len = ip::MIN_LEN + udp::LEN + payload.len();
    if !frame.resize(L2_LEN + total_len) {
        return Err(DropReason::Oversized);
    }
    let packet = &mut frame.data_mut()[L2_LEN..];
    let header = ip::Header::new(17, *from.ip(), *to.ip(), total_len);
    header.write(packet);
    packet[ip::MIN_LEN + udp::LEN..].copy_from_slice(payload);
    udp::write(&mut packet[ip::MIN_LEN..], (*from.ip(), from.port()), (*to.ip(), to.port()));
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pnat_shared::loopback::{FIRST, SECOND};
    use pnat_shared::testkit::{VecFrame, VecPool};

    #[test]
    fn a_readdressed_datagram_has_a_right_checksum_whatever_it_carries() {
        let masked = SocketAddrV4::new(std::net::Ipv4Addr::new(240, 0, 0, 1), 77);
        for payload in 0..=u16::MAX {
            let mut frame: VecFrame =
                write(&mut VecPool::endless(), masked, FIRST, &payload.to_be_bytes()).unwrap();
            redirect(&mut frame, SECOND, masked);
            let packet = ip::Header::read(&frame.data()[L2_LEN..]).unwrap();
            assert_eq!((packet.src, packet.dst), (*SECOND.ip(), *masked.ip()));
            let bytes = &frame.data()[L2_LEN + ip::MIN_LEN..];
            let header = udp::Header::read(bytes).unwrap();
            assert!(header.checksum != 0 && header.is_intact(bytes, packet.src, packet.dst), "{payload:#x}");
            assert_eq!((header.src_port, header.dst_port), (SECOND.port(), masked.port()));
        }
    }

    #[test]
    fn a_datagram_without_a_checksum_stays_without() {
        let masked = SocketAddrV4::new(std::net::Ipv4Addr::new(240, 0, 0, 1), 77);
        let mut frame: VecFrame = write(&mut VecPool::endless(), masked, FIRST, b"x").unwrap();
        let at = L2_LEN + ip::MIN_LEN + udp::CHECKSUM_AT;
        frame.data_mut()[at..at + 2].fill(0);
        redirect(&mut frame, SECOND, masked);
        assert_eq!(frame.data()[at..at + 2], [0, 0]);
    }
}
