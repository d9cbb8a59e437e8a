//! How a pair ends: by both streams, by one side's fault, by a filter, by time, by somebody's word; and the record of it.

use pnat_shared::flow::{Side, Stream};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::open::TIME_WAIT;
use super::{Pair, Phase};
use crate::error::{ErrorKind, StreamError};
use crate::reactor::Visit;

/// How long a side may be silent to which the last words of a pair are on their way: an answer's bytes and FIN, repeated where
/// they are lost.
const LINGER: Duration = Duration::from_secs(10);
/// How long a RST may wait for a frame.
const RESET_PATIENCE: Duration = Duration::from_secs(1);

/// A side that left a handshake unanswered.
const fn unanswered(side: Side) -> StreamError {
    StreamError { side, kind: ErrorKind::Unanswered }
}

impl<F: Frame> Pair<F> {
    /// Ends the pair: what is queued is dropped, RST goes where there is something to reset. Where the pair has ended, it
    /// lingers no more. [`Pair::pump`] is to follow.
    pub(crate) fn close(&mut self, reason: CloseReason, now: Instant) {
        if let Phase::Ending(ended, _) | Phase::Gone(ended) = self.phase {
            return self.vanish(ended);
        }
        self.abort(Side::First);
        self.abort(Side::Second);
        self.phase = Phase::Ending(reason, now + RESET_PATIENCE);
    }

    /// A filter ended the flow with an answer: one side gets RST at once, the other what the chain still lets out, and FIN.
    pub(super) fn close_with_answer(&mut self, to: Side, reason: CloseReason, now: Instant) {
        self.abort(!to);
        self.phase = Phase::Answering(to, reason, now + LINGER);
    }

    /// Ends the pair without a word from its sockets.
    pub(super) const fn vanish(&mut self, reason: CloseReason) {
        self.phase = Phase::Gone(reason);
    }

    /// Looks at what the sockets found out. Answers whether that ended the pair.
    pub(super) fn settle<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) -> bool {
        let (first_open, second_open) = match self.phase {
            Phase::Waiting => (true, false),
            Phase::Connecting { early, .. } => (early, false),
            Phase::Accepting(_) => (false, true),
            Phase::Open | Phase::Answering(..) => (true, true),
            Phase::Ending(..) | Phase::Gone(_) => return false,
        };
        let of = |side, error: Option<_>, open| {
            let is_heard = match self.phase {
                // Of the side that has failed, or was reset, nothing more is expected once the other is answered.
                Phase::Answering(to, ..) => to == side,
                // Whatever becomes of a connection that is of no use any more.
                Phase::Waiting => side == Side::First,
                _ => true,
            };
            error.filter(|_| is_heard).and_then(|error| StreamError::of(side, error, open))
        };
        let Some(error) = of(Side::Second, self.second.error(), second_open)
            .or_else(|| of(Side::First, self.first.error(), first_open))
        else {
            return false;
        };
        self.blame(error, visit);
        true
    }

    /// Ends the pair for what a side did; the other side is told in kind, or as a filter wants it.
    pub(super) fn blame<P: FramePool<F>>(&mut self, error: StreamError, visit: &mut Visit<'_, F, P>) {
        let now = visit.now;
        match self.phase {
            // The reason is settled already.
            Phase::Answering(_, reason, _) => self.close(reason, now),
            // The client learns of a silent server by silence, unless it was accepted already.
            Phase::Connecting { early: false, .. } if error == unanswered(Side::Second) => {
                self.vanish(error.reason());
            }
            _ => {
                let reason = error.reason();
                let is_forgiven = error.side == Side::Second
                    && (self.is_spared(reason, visit) || self.is_excused(reason, visit));
                if !is_forgiven {
                    self.close(reason, now);
                }
            }
        }
    }

    /// What the pair's own clocks say.
    pub(super) fn expire<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let now = visit.now;
        if now < self.expiry() {
            return;
        }
        match self.phase {
            Phase::Connecting { .. } => self.blame(unanswered(Side::Second), visit),
            Phase::Accepting(_) => self.blame(unanswered(Side::First), visit),
            Phase::Waiting if now < self.last_seen + self.limits.idle => self.ask_in_silence(visit),
            Phase::Waiting | Phase::Open => self.close(CloseReason::Idle, now),
            // As long as it takes what it is told, it gets it all.
            Phase::Answering(to, reason, _) if now < self.last_seen + LINGER => {
                self.phase = Phase::Answering(to, reason, self.last_seen + LINGER);
            }
            Phase::Answering(_, reason, _) => self.close(reason, now),
            Phase::Ending(reason, _) => self.vanish(reason),
            Phase::Gone(_) => {}
        }
    }

    /// When [`Pair::expire`] has something to say.
    pub(super) fn expiry(&self) -> Instant {
        match self.phase {
            Phase::Connecting { since, .. } => since + self.limits.connect,
            Phase::Accepting(since) => since + self.limits.half_open,
            Phase::Waiting => self.silent_until().min(self.last_seen + self.limits.idle),
            Phase::Open => self.last_seen + self.limits.idle,
            Phase::Answering(_, _, until) | Phase::Ending(_, until) => until,
            Phase::Gone(_) => Instant::FAR,
        }
    }

    /// Writes the record once both conversations are through, and lets go once the sockets have nothing left to say. A
    /// socket in TIME-WAIT holds back the latter, not the former.
    pub(super) fn conclude<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let through = self.is_through();
        match self.phase {
            Phase::Waiting | Phase::Open if through => {
                self.phase = Phase::Ending(CloseReason::Finished, visit.now + 2 * TIME_WAIT);
            }
            Phase::Answering(_, reason, until) if through => self.phase = Phase::Ending(reason, until),
            _ => {}
        }
        if let Phase::Ending(reason, _) = self.phase {
            self.record(reason, visit);
            if self.first.is_over() && self.second.is_over() {
                self.vanish(reason);
            }
        }
        if let Phase::Gone(reason) = self.phase {
            self.record(reason, visit);
        }
    }

    /// Tells the filters what became of the flow, once.
    fn record<P: FramePool<F>>(&mut self, reason: CloseReason, visit: &mut Visit<'_, F, P>) {
        if let Some(mut chain) = self.chain.take() {
            if self.settle_target() {
                visit.bench.stats.targets_ignored.add(1);
            }
            let summary = self.tally.summary(reason, visit.now);
            chain.close(&self.flow, &summary, &mut visit.bench.services);
        }
    }

    /// Resets one side.
    pub(super) fn abort(&mut self, side: Side) {
        let queued = self.socket(side).queued();
        self.socket(side).abort();
        self.note_loss(side, queued);
    }

    /// Where a socket has just failed, what it had `queued` never arrives.
    pub(super) fn note_loss(&mut self, side: Side, queued: usize) {
        if self.socket(side).error().is_some() {
            self.tally.lost(!Stream::entering(side), queued);
        }
    }
}
