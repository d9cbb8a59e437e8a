//! What acknowledgments and time-outs say: progress, loss, and what to do about it (RFC 5681, 6298, 6582, 6675).
//!
//! ```text
//!            lost bytes found               all that was in flight then is acknowledged
//!   Open ------------------------> Recovery ------------------------------------------> Open
//!     \                                |                                                 ^
//!      '---------- timer --------------'------> Timeout --------------------------------/
//! ```
//!
//! Runs on: proxy cores. Allocates: when more holes are open than ever before. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Header, Seq};

use super::congestion::{Acked, Congestion};
use super::send::Sender;
use super::tail::Tail;

/// Duplicate ACKs, or separate SACKed ranges, that prove a loss (RFC 5681 section 3.2).
const DUP_THRESHOLD: u32 = 3;

/// Where loss recovery stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Open,
    /// Fast recovery: the window has been reduced once for all that was in flight.
    Recovery {
        until: Seq,
    },
    /// The timer has run out: slow start over everything.
    Timeout {
        until: Seq,
    },
}

impl<F: Frame> Sender<F> {
    /// An acceptable ACK: `una <= ack <= nxt`. `pure`: it carries nothing else. `echo`: the round trip by its timestamp.
    /// Answers whether it brings news: numbers acknowledged, or SACKed for the first time.
    pub(super) fn on_ack(
        &mut self,
        header: &Header,
        pure: bool,
        echo: Option<Duration>,
        now: Instant,
    ) -> bool {
        let acked = header.ack.0.wrapping_sub(self.una.0);
        let flight = self.flight();
        let (prior_flight, sacked_before, lost_before) =
            (self.pipe(), self.scoreboard.sacked_bytes(), self.scoreboard.lost_bytes());
        let window = u32::from(header.window) << self.shift;
        // What answers a window probe tells of the window, not of loss.
        let duplicate = pure && acked == 0 && flight > 0 && window == self.window && !self.probing;
        self.update_window(header, window);
        let mut rtt = None;
        if acked > 0 {
            rtt = self.release(header.ack, echo, now);
        } else if self.window == 0 && flight > 0 {
            // The peer is alive and keeps us waiting: that may last (RFC 9293 section 3.8.6.1).
            self.unanswered = now;
        }
        if self.probing {
            self.end_probe();
        }
        let sacked = self.detect_loss(header, acked, duplicate, now);
        self.judge_tail(header, flight, now);
        self.change_phase(flight, now);
        let news = acked > 0 || sacked;
        if news {
            let acked = Acked {
                now,
                delivered: (acked + self.scoreboard.sacked_bytes()).saturating_sub(sacked_before),
                acked,
                lost: self.scoreboard.lost_bytes().saturating_sub(lost_before),
                prior_flight,
                flight: self.pipe(),
                limited: self.limited || matches!(self.phase, Phase::Timeout { .. }),
                rtt,
                srtt: self.rtt(),
                rate: None,
                una: self.una,
                nxt: self.nxt,
                phase: self.phase,
                ece: false,
            };
            self.congestion.on_ack(&acked);
        }
        news
    }

    /// RFC 9293 section 3.10.7.4: only a newer segment may change the window.
    fn update_window(&mut self, header: &Header, window: u32) {
        let newer = self.wl1.before(header.seq) || (self.wl1 == header.seq && !self.wl2.after(header.ack));
        if newer {
            self.window = window;
            self.wl1 = header.seq;
            self.wl2 = header.ack;
            self.max_window = self.max_window.max(window);
        }
    }

    /// Answers the round trip that this ACK measured.
    fn release(&mut self, ack: Seq, echo: Option<Duration>, now: Instant) -> Option<Duration> {
        // FIN takes a number, but no place in the queue.
        self.queue.release(ack.min(self.queue.end()));
        // The edge stays where the peer's last word on it put it, unless that word came with this ACK.
        if self.wl2.before(ack) {
            self.window = self.window.saturating_sub(ack.0.wrapping_sub(self.una.0));
        }
        self.una = ack;
        self.scoreboard.advance(ack, self.answerable(now));
        let rtt = match self.timed {
            Some((end, sent)) if !end.after(ack) => {
                self.timed = None;
                Some(now.since(sent))
            }
            Some(_) => None,
            // Nothing is being timed after a retransmission, but a timestamp tells the copies apart (RFC 7323 section 4).
            None => echo,
        };
        if let Some(rtt) = rtt {
            self.rto.sample(rtt);
        }
        self.unanswered = if self.nxt == ack { Instant::FAR } else { now };
        rtt
    }

    /// The probe was taken, or the window has opened without it: then it counts as never sent.
    fn end_probe(&mut self) {
        if self.una == self.nxt {
            self.probing = false;
        } else if self.window > 0 {
            self.probing = false;
            self.nxt = self.una;
            self.unanswered = Instant::FAR;
        }
    }

    /// What was sent after this time cannot have been answered.
    fn answerable(&self, now: Instant) -> Instant {
        Instant::ZERO + now.since(Instant::ZERO).saturating_sub(self.rto.shortest() / 2)
    }

    fn detect_loss(&mut self, header: &Header, acked: u32, duplicate: bool, now: Instant) -> bool {
        let mss = u32::from(self.mss);
        if self.sack {
            let mut news = 0;
            let answerable = self.answerable(now);
            for (left, right) in header.options.sack.as_slice() {
                // Blocks at or below the ACK are reports of duplicates (RFC 2883), others must lie in flight. Distances from
                // SND.UNA are compared, not numbers: a forged block may reach half way round the circle.
                let (from, to) = (left.0.wrapping_sub(self.una.0), right.0.wrapping_sub(self.una.0));
                if 0 < from && from < to && to <= self.flight() {
                    news += self.scoreboard.sack(*left, *right, answerable);
                }
            }
            if news > 0 || (acked > 0 && !self.scoreboard.is_clean()) {
                // RFC 8985 section 6.2: a quarter of the shortest round trip may be reordering.
                let reorder = self.rto.shortest() / 4;
                self.scoreboard.detect(self.una, mss, self.dup_threshold(), reorder);
            }
            return news > 0;
        }
        if acked > 0 {
            match self.phase {
                Phase::Recovery { until } if self.una.before(until) => {
                    // A partial ACK: the next segment is missing, too (RFC 6582 section 3.2).
                    self.dup_acks = self.dup_acks.saturating_sub(acked.div_ceil(mss).saturating_sub(1));
                    self.scoreboard.mark_lost(self.una, (self.una + mss).min(self.nxt));
                }
                _ => self.dup_acks = 0,
            }
        } else if duplicate {
            self.dup_acks += 1;
            if self.phase == Phase::Open && self.dup_acks >= self.dup_threshold() {
                self.scoreboard.mark_lost(self.una, (self.una + mss).min(self.nxt));
            }
        }
        false
    }

    /// Three; fewer where so little is in flight that three could never come (RFC 5827).
    fn dup_threshold(&self) -> u32 {
        let segments = self.flight().div_ceil(u32::from(self.mss));
        let more_to_send = self.queue.end().after(self.nxt);
        if more_to_send { DUP_THRESHOLD } else { segments.saturating_sub(1).clamp(1, DUP_THRESHOLD) }
    }

    fn change_phase(&mut self, flight: u32, now: Instant) {
        if let Phase::Recovery { until } | Phase::Timeout { until } = self.phase
            && !self.una.before(until)
        {
            if matches!(self.phase, Phase::Recovery { .. }) {
                self.congestion.on_recovered(now);
            }
            self.phase = Phase::Open;
            self.dup_acks = 0;
        }
        if self.phase == Phase::Open && self.scoreboard.has_lost() {
            self.congestion.on_loss(flight, now);
            self.recover();
            self.force = true;
        }
    }

    /// Fast recovery from here on.
    pub(super) fn recover(&mut self) {
        self.tail = Tail::Idle;
        self.phase = Phase::Recovery { until: self.nxt };
    }

    /// The retransmission timer has run out (RFC 6298 section 5), or the time to probe has come.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        self.rto.back_off();
        self.timed = None;
        self.tail = Tail::Idle;
        if self.unanswered == Instant::FAR {
            self.unanswered = now;
        }
        if self.flight() == 0 || self.probing {
            self.nxt = self.una;
            self.probing = false;
            self.probe = true;
            return;
        }
        let first = !matches!(self.phase, Phase::Timeout { .. });
        self.congestion.on_timeout(self.flight(), first, now);
        self.phase = Phase::Timeout { until: self.nxt };
        self.dup_acks = 0;
        self.scoreboard.mark_all_lost(self.una, self.nxt);
        self.force = true;
    }
}
