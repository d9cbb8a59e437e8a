//! The sending half: which frames are due, and what they look like.
//!
//! Runs on: the generator's core. Allocates: at creation. Blocks: never.
//!
//! Open loop: a frame is due at its intended time whatever became of those before it. One that could not be sent in time is
//! sent later and carries the time that was intended, so the wait counts as latency (no coordinated omission).

use hdrhistogram::Histogram;
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::time::Instant;
use pnat_shared::wire::ethernet;
use pnat_shared::wire::tcp::{self, Flags, Seq};
use pnat_shared::wire::{ip, udp};

use super::flows::{Flows, Walk};
use super::schedule::Schedule;
use super::sizes::{FCS, Sizes};
use super::stamp::{self, Stamp};
use super::{TcpFlags, Transport, new_histogram};

/// What a source sends, besides when.
#[derive(Clone, Debug)]
pub struct Content {
    pub transport: Transport,
    pub sizes: Sizes,
    pub flows: Flows,
}

/// Sends the frames of one trial.
#[derive(Debug)]
pub struct Source {
    run: u16,
    start: Instant,
    /// When sending ends, whatever is still due then.
    deadline: Instant,
    link: ethernet::Header,
    content: Content,
    schedule: Schedule,
    walk: Walk,
    /// Of the flow at `walk`: how many rounds are complete.
    seq: u64,
    place: usize,
    frames: u64,
    bytes: u64,
    /// How long after its intended time each frame was sent, in nanoseconds.
    late: Histogram<u64>,
}

impl Source {
    /// Sends by `link` what `schedule` says from `start` on; what could not be sent by `deadline` is left out.
    pub fn new(
        run: u16,
        start: Instant,
        deadline: Instant,
        link: ethernet::Header,
        content: Content,
        schedule: Schedule,
    ) -> Self {
        let walk = content.flows.walk();
        Self {
            run,
            start,
            deadline,
            link,
            content,
            schedule,
            walk,
            seq: 0,
            place: 0,
            frames: 0,
            bytes: 0,
            late: new_histogram(),
        }
    }

    /// Frames sent so far.
    pub const fn frames(&self) -> u64 {
        self.frames
    }

    /// Their bytes, frame check sequences included.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How long after their intended times they were sent.
    pub const fn late(&self) -> &Histogram<u64> {
        &self.late
    }

    /// When the next frame is due; `None` where none is left.
    #[inline]
    pub fn due(&self) -> Option<Instant> {
        self.schedule.peek().map(|nanos| self.start.plus_nanos(nanos))
    }

    /// Whether there is nothing left to be sent.
    pub fn is_over(&self, now: Instant) -> bool {
        now >= self.deadline || self.due().is_none()
    }

    /// Appends frames that are due, at most `most`; fewer where the pool runs dry.
    pub fn give<F: Frame, P: FramePool<F>>(
        &mut self,
        now: Instant,
        most: usize,
        pool: &mut P,
        burst: &mut Vec<F>,
    ) {
        if now >= self.deadline {
            return;
        }
        for _ in 0..most {
            let Some(due) = self.due().filter(|due| *due <= now) else { return };
            let Some(mut frame) = pool.alloc() else { return };
            let size = self.content.sizes.at(self.place);
            if !frame.resize(size - FCS) {
                return;
            }
            self.write(&mut frame, due);
            burst.push(frame);
            self.frames += 1;
            self.bytes += size as u64;
            self.late.saturating_record((now - due).as_nanos() as u64);
            self.advance();
        }
    }

    fn write<F: Frame>(&self, frame: &mut F, due: Instant) {
        let ends = self.walk.ends();
        let (src, dst) = (*ends.src.ip(), *ends.dst.ip());
        let total_len = frame.data().len() - L2_LEN;
        let protocol = self.content.transport.protocol();
        self.link.write(frame.data_mut());
        let packet = &mut frame.data_mut()[L2_LEN..];
        ip::Header {
            header_len: ip::MIN_LEN,
            total_len,
            tos: 0,
            id: 0,
            fragment: ip::DONT_FRAGMENT,
            ttl: 64,
            protocol: protocol as u8,
            src,
            dst,
        }
        .write(packet);
        let segment = &mut packet[ip::MIN_LEN..];
        let payload = &mut segment[self.content.transport.header_len()..];
        let text = payload.len();
        let stamp = Stamp {
            run: self.run,
            flow: self.walk.flow(),
            seq: self.seq,
            nanos: (due - self.start).as_nanos() as u64,
        };
        stamp.write(payload);
        payload[stamp::LEN..].fill(0);
        match self.content.transport {
            Transport::Udp => udp::write(segment, (src, ends.src.port()), (dst, ends.dst.port())),
            Transport::Tcp(flags) => {
                let (flags, seq, ack) = match flags {
                    TcpFlags::Syn => (Flags::SYN, 0, 0),
                    // As one stream would go on, as far as sizes are equal.
                    TcpFlags::Ack => (Flags::ACK, 1 + self.seq as u32 * text as u32, 1),
                };
                let header = tcp::Header {
                    src_port: ends.src.port(),
                    dst_port: ends.dst.port(),
                    seq: Seq(seq),
                    ack: Seq(ack),
                    flags,
                    window: 0xffff,
                    ..tcp::Header::default()
                };
                header.write(segment, src, dst);
            }
        }
    }

    #[inline]
    fn advance(&mut self) {
        self.schedule.advance();
        self.place = self.content.sizes.after(self.place);
        if self.walk.advance(&self.content.flows) {
            self.seq += 1;
            // Each round begins one size further, so that every flow has every size.
            self.place = (self.seq % self.content.sizes.round()) as usize;
        }
    }
}
