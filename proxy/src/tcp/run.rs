//! A run: new data that may leave at once is decided on once, written by one template, and accounted for together.
//!
//! Runs on: proxy cores. Allocates: when more is in flight than ever since it was last idle. Blocks: never.
//!
//! Nothing happens here that [`Endpoint::send_each`] would not do segment by segment; a test compares the two. What is out
//! of the ordinary is left to it: what is sent again, probes, SACK blocks, urgent data, pacing.

use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::{Flags, Seq};

use super::congestion::Congestion;
use super::endpoint::Endpoint;
use super::output::{Outlet, Word};
use super::recovery::Phase;
use super::segment::{ECT_0, NOT_ECT, Template};
use super::send::{Sender, Slice};
use super::tail::Tail;

/// New data from SND.NXT on, cut into segments of the same size but for the last.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Run {
    /// Payload bytes, at least one.
    pub(super) len: u32,
    /// Of a segment.
    pub(super) size: u32,
    /// FIN follows the last byte.
    pub(super) fin: bool,
}

impl<F: Frame> Endpoint<F> {
    /// Sends what new data may leave at once. Answers false where the pool ran dry.
    #[inline]
    pub(super) fn send_run(&mut self, outlet: &mut Outlet<'_, F, impl FramePool<F>>) -> bool {
        let says_more =
            self.reset.is_some() || self.syn_due || self.urgent.is_some() || self.recv.has_blocks();
        if says_more || !self.is_open() {
            return true;
        }
        let size = self.send.mss.saturating_sub(self.clock.option_len()).max(1);
        match self.send.run(u32::from(size), outlet.budget) {
            Some(run) if self.settings.offloads.segments > 1 => self.write_large_run(&run, outlet),
            Some(run) => self.write_run(&run, outlet),
            None => true,
        }
    }

    pub(super) fn write_run(&mut self, run: &Run, outlet: &mut Outlet<'_, F, impl FramePool<F>>) -> bool {
        self.send.release_held();
        self.send.limited = false;
        let Some(mut frame) = outlet.pool.alloc() else { return false };
        let (template, mut flags) = self.run_template(outlet.now);
        let (first, mut dry) = (self.send.nxt, false);
        let (end, data_end) = (first + run.len, self.send.queue.end());
        let needs_sum = !self.settings.offloads.checksum;
        let mut at = first;
        loop {
            let len = run.size.min(end.0.wrapping_sub(at.0));
            let next = at + len;
            if next == data_end {
                // Nothing follows for now: the peer's application may as well have it.
                flags = flags.with(Flags::PSH);
            }
            if run.fin && next == end {
                flags = flags.with(Flags::FIN);
            }
            let queue = &mut self.send.queue;
            if !template.write(&mut frame, at, flags, len as usize, |out| queue.copy(at, out, needs_sum)) {
                break;
            }
            outlet.frames.push(frame);
            flags = Flags(flags.0 & !Flags::CWR.0);
            at = next;
            if at == end {
                break;
            }
            match outlet.pool.alloc() {
                Some(next) => frame = next,
                None => {
                    dry = true;
                    break;
                }
            }
        }
        if at != first {
            self.on_run_sent(run, at, outlet.now);
        }
        !dry
    }

    /// What the segments of a run have in common, and the flags of the first one.
    #[inline]
    pub(super) fn run_template(&mut self, now: Instant) -> (Template, Flags) {
        let Word { window, timestamps } = self.tell(now);
        let mut flags = Flags::ACK.with(self.send.ecn.echo());
        let mut codepoint = NOT_ECT;
        if let Some(says) = self.send.ecn.stamp() {
            flags = flags.with(says);
            codepoint = ECT_0;
        }
        (Template::new(self.local, self.remote, codepoint, self.recv.nxt, window, timestamps), flags)
    }

    /// The segments of a run have left, or some of them: all bytes before `end`.
    pub(super) fn on_run_sent(&mut self, run: &Run, end: Seq, now: Instant) {
        let first = self.send.nxt;
        let len = run.size.min(end.0.wrapping_sub(first.0));
        let is_all = end == first + run.len;
        let fin = run.fin && is_all;
        let slice = Slice { seq: first, len, fin: fin && len == run.len, again: false };
        self.send.on_run_sent(end + u32::from(fin), now);
        self.on_slice_sent(&slice, usize::from(self.clock.option_len()));
        if self.timers.retransmit == Instant::FAR {
            self.timers.started = now;
        }
    }
}

impl<F: Frame> Sender<F> {
    /// The run of segments with `size` bytes that may leave now; `None` where the next segment is to be looked at by itself.
    #[inline]
    fn run(&self, size: u32, budget: usize) -> Option<Run> {
        let is_usual = self.phase == Phase::Open
            && self.tail != Tail::Due
            && self.dup_acks == 0
            && !self.force
            && !self.probe
            && self.loss.as_ref().is_none_or(|loss| loss.board.is_clean() && loss.prr.is_none())
            && self.congestion.pacer().is_none();
        if !is_usual {
            return None;
        }
        let unsent = self.queue.end().distance(self.nxt).max(0) as u32;
        let usable = self.edge().distance(self.nxt).max(0) as u32;
        let room = self.congestion.window().saturating_sub(self.pipe());
        let most = usable.min(room).min(size.saturating_mul(u32::try_from(budget).unwrap_or(u32::MAX)));
        // Where not all may leave, only full segments do.
        let len = if unsent <= most { unsent } else { most - most % size };
        let fin = self.fin && len == unsent && len < usable;
        (len > 0).then_some(Run { len, size, fin })
    }

    /// New data has left, and all before `end` with it. What [`Sender::sent`] does for each segment, for all of them.
    fn on_run_sent(&mut self, end: Seq, now: Instant) {
        let pipe = self.pipe();
        let tx = self.sampler.stamp(end.0.wrapping_sub(self.nxt.0), pipe, now);
        self.congestion.on_sent(pipe, now);
        self.nxt = end;
        self.records.push(end, tx);
        self.probing = false;
        self.on_sent(now);
    }
}

#[cfg(test)]
mod tests;
