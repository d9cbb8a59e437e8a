//! A run that the port cuts into segments: one frame for as many of them as it takes (TCP segmentation offload).
//!
//! Runs on: proxy cores. Allocates: when more is in flight than ever since it was last idle. Blocks: never.
//!
//! What comes out on the wire is what [`Endpoint::write_run`] would send. Only the first segment has headers: PSH and FIN are
//! the last segment's, CWR is the first one's, numbers and lengths follow by themselves.

use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Seq};

use super::endpoint::Endpoint;
use super::output::Outlet;
use super::run::Run;
use super::segment::{self, Template};

/// Text that one IP packet has room for behind the longest headers.
const MOST_TEXT: u32 = (u16::MAX as usize - ip::MIN_LEN - tcp::MAX_LEN) as u32;

/// What one frame is to carry: `len` bytes from `at` on, `size` in each segment but the last.
#[derive(Copy, Clone, Debug)]
struct Piece {
    at: Seq,
    len: u32,
    size: u32,
    flags: Flags,
}

impl<F: Frame> Endpoint<F> {
    /// As [`Endpoint::write_run`], for a port that cuts segments.
    pub(super) fn write_large_run(
        &mut self,
        run: &Run,
        outlet: &mut Outlet<'_, F, impl FramePool<F>>,
    ) -> bool {
        let segments = u32::from(self.settings.offloads.segments).min(MOST_TEXT / run.size.max(1));
        if segments < 2 || run.len <= run.size {
            return self.write_run(run, outlet);
        }
        self.send.release_held();
        self.send.limited = false;
        let Some(frame) = outlet.pool.alloc() else { return false };
        let (template, mut flags) = self.run_template(outlet.now);
        let (first, mut next_frame) = (self.send.nxt, Some(frame));
        let (end, data_end) = (first + run.len, self.send.queue.end());
        let mut at = first;
        while at != end {
            let Some(frame) = next_frame.take().or_else(|| outlet.pool.alloc()) else { break };
            let len = (segments * run.size).min(end.0.wrapping_sub(at.0));
            let next = at + len;
            if next == data_end {
                // Nothing follows for now: the peer's application may as well have it.
                flags = flags.with(Flags::PSH);
            }
            if run.fin && next == end {
                flags = flags.with(Flags::FIN);
            }
            if !self.write_piece(Piece { at, len, size: run.size, flags }, &template, frame, outlet) {
                break;
            }
            flags = Flags(flags.0 & !Flags::CWR.0);
            at = next;
        }
        if at != first {
            self.on_run_sent(run, at, outlet.now);
        }
        at == end
    }

    /// How many segments left with a run that began at `first`, which took so many frames.
    #[inline]
    pub(super) fn segments_in(&self, frames: usize, first: Seq) -> usize {
        if self.settings.offloads.segments <= 1 {
            return frames;
        }
        let size = self.send.mss.saturating_sub(self.clock.option_len()).max(1);
        let text = self.send.nxt.min(self.send.queue.end()).distance(first).max(0) as usize;
        text.div_ceil(size.into())
    }

    /// Appends the frame that begins with `frame`. Answers false, with nothing appended, where the pool runs dry.
    fn write_piece(
        &mut self,
        piece: Piece,
        template: &Template,
        mut frame: F,
        outlet: &mut Outlet<'_, F, impl FramePool<F>>,
    ) -> bool {
        let Outlet { pool, frames: out, .. } = outlet;
        let Piece { at, len, size, flags } = piece;
        let first = size.min(len);
        let queue = &mut self.send.queue;
        let leave_sum = |text: &mut [u8]| {
            queue.copy(at, text, false);
            None
        };
        if !template.write(&mut frame, at, flags, first as usize, leave_sum) {
            return false;
        }
        if len > first {
            segment::lengthen(&mut frame, (len - first) as usize);
            let before = out.len();
            for offset in (first..len).step_by(size as usize) {
                let count = size.min(len - offset) as usize;
                let following = pool.alloc().and_then(|mut frame| frame.resize(count).then_some(frame));
                let Some(mut following) = following else {
                    out.truncate(before);
                    return false;
                };
                queue.copy(at + offset, following.data_mut(), false);
                out.push(following);
            }
            if !frame.cut_into(size as u16, out.drain(before..)) {
                return false;
            }
        }
        out.push(frame);
        true
    }
}
