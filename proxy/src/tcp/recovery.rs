//! What acknowledgments and time-outs say: progress, loss, and what to do about it (RFC 5681, 6298, 6582, 6675, 8985).
//!
//! ```text
//!            lost bytes found               all that was in flight then is acknowledged
//!   Open ------------------------> Recovery ------------------------------------------> Open
//!     \                                |                or none of it was lost            ^
//!      '---------- timer --------------'------> Timeout ---------------------------------/
//! ```
//!
//! Runs on: proxy cores. Allocates: with the number of holes. Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Header, Seq};

use super::congestion::{Acked, Congestion};
use super::news::News;
use super::prr::Prr;
use super::send::Sender;
use super::tail::Tail;
use super::undo::Frto;

/// Duplicate ACKs, or separate SACKed ranges, that prove a loss (RFC 5681 section 3.2).
const DUP_THRESHOLD: u32 = 3;

/// The finest that timestamps tell, in nanoseconds.
const TICK: u64 = 1_000_000;

/// Segments in flight or waiting below which the timer does not start anew (RFC 7765 section 4, rrthresh).
const RESTART_THRESHOLD: u32 = 4;

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
    /// An acceptable ACK: `una <= ack <= nxt`. `pure`: it carries nothing else. `echoed`: it answers, by its timestamp,
    /// something that left then or before. Answers whether it brings news: numbers acknowledged, or SACKed for the first
    /// time.
    pub(super) fn on_any_ack(
        &mut self,
        header: &Header,
        pure: bool,
        echoed: Option<Instant>,
        now: Instant,
    ) -> bool {
        let (una, flight) = (self.una, self.flight());
        let acked = header.ack.0.wrapping_sub(una.0);
        let window = u32::from(header.window) << self.shift;
        // What answers a window probe tells of the window, not of loss.
        let duplicate = pure && acked == 0 && flight > 0 && window == self.window && !self.probing;
        let mut news = News::new(now, una, acked, flight, self.pipe(), echoed);
        self.update_window(header, window);
        if acked > 0 {
            self.release(header.ack, &mut news);
        } else if self.window == 0 && flight > 0 {
            // The peer is alive and keeps us waiting: that may last (RFC 9293 section 3.8.6.1).
            self.unanswered = now;
        }
        if self.probing {
            self.end_probe();
        }
        if self.sack {
            self.take_sacks(header, &mut news);
        } else {
            self.count_duplicates(duplicate, &mut news);
        }
        self.judge_tail(header, &news);
        if news.bytes > 0 {
            self.measure(&mut news);
        }
        // What a recovery has SACKed counts when it ends.
        let by_sack = self.phase == Phase::Open && self.is_reordering();
        if self.loss.is_some() || self.dup_acks > 0 || self.phase != Phase::Open {
            self.recover(&mut news);
        }
        news.marked = self.heed_mark(header, flight, now);
        if news.bytes > 0 {
            self.tell(&news, by_sack);
        }
        acked > 0 || (self.sack && news.bytes > 0)
    }

    /// What the news mean for what was lost, or believed to be.
    fn recover(&mut self, news: &mut News) {
        if let Some((left, right)) = news.repeated {
            self.on_repeated(left, right);
        }
        news.lost = self.detect_loss(news);
        if self.judge_recovery(news) && self.sack {
            self.await_late(news.now);
        }
        self.change_phase(news.flight, news.pipe, news.now);
        if news.bytes > 0 {
            self.reduce(news.bytes, news.acked > 0 && news.lost == 0);
        }
    }

    /// Congestion control hears of it. `by_sack`: what is SACKed is progress, too.
    fn tell(&mut self, news: &News, by_sack: bool) {
        self.congestion.on_ack(&Acked {
            now: news.now,
            delivered: news.bytes,
            progress: if by_sack { news.bytes } else { news.acked },
            lost: news.lost,
            prior_flight: news.pipe,
            flight: self.pipe(),
            limited: self.limited || matches!(self.phase, Phase::Timeout { .. }),
            rtt: news.rtt,
            srtt: self.rto.smoothed_nanos(),
            rate: news.rate,
            una: self.una,
            nxt: self.nxt,
            phase: self.phase,
            ece: news.marked,
        });
    }

    /// The path is known to reorder.
    fn is_reordering(&self) -> bool {
        self.sack && self.loss.as_ref().is_some_and(|loss| loss.rack.is_reordering())
    }

    /// RFC 9293 section 3.10.7.4: only a newer segment may change the window.
    fn update_window(&mut self, header: &Header, window: u32) {
        let newer = self.wl1.before(header.seq) || (self.wl1 == header.seq && !self.wl2.after(header.ack));
        // What acknowledges something is no old segment, whatever numbers a forged one has claimed before it.
        if newer || header.ack.after(self.una) {
            self.window = window;
            self.wl1 = header.seq;
            self.wl2 = header.ack;
            self.max_window = self.max_window.max(window);
        }
    }

    fn release(&mut self, ack: Seq, news: &mut News) {
        // FIN takes a number, but no place in the queue.
        self.queue.release(ack.min(self.queue.end()));
        // The edge stays where the peer's last word on it put it, unless that word came with this ACK.
        if self.wl2.before(ack) {
            self.window = self.window.saturating_sub(ack.0.wrapping_sub(self.una.0));
        }
        self.una = ack;
        match self.loss.as_mut().filter(|loss| !loss.board.is_clean()) {
            Some(loss) => {
                // The timestamp, where there is one, tells copies apart.
                let answerable = news.now.back(self.rto.shortest());
                let answerable = news.echoed.map_or(answerable, |at| answerable.min(at));
                loss.board.advance(&mut self.records, ack, answerable, news);
                loss.expire(ack);
            }
            None => news.take(&mut self.records, ack),
        }
        self.rto.on_progress();
        self.unanswered = if self.nxt == ack { Instant::FAR } else { news.now };
    }

    /// The probe was taken, or the window has opened without it: then it counts as never sent.
    fn end_probe(&mut self) {
        if self.una == self.nxt {
            self.probing = false;
        } else if self.window > 0 {
            self.unsend();
        }
    }

    /// The probe in flight counts as never sent.
    fn unsend(&mut self) {
        self.probing = false;
        self.nxt = self.una;
        self.records.restart(self.una);
        if let Some(loss) = &mut self.loss {
            loss.board.clear();
        }
        self.unanswered = Instant::FAR;
    }

    fn take_sacks(&mut self, header: &Header, news: &mut News) {
        let blocks = header.options.sack.as_slice();
        let Some(first) = blocks.first() else { return };
        news.repeated = self.is_report_of_duplicate(*first, blocks.get(1)).then_some(*first);
        // What was sent again less than the shortest round trip ago cannot have been answered (RFC 8985 section 6.2,
        // step 2).
        let answerable = news.now.back(self.rto.shortest());
        let mss = u32::from(self.mss);
        for (left, right) in blocks {
            // Distances from SND.UNA are compared, not numbers: a forged block may reach half way round the circle.
            let (from, to) = (left.0.wrapping_sub(self.una.0), right.0.wrapping_sub(self.una.0));
            if 0 < from && from < to && to <= self.records.flight() {
                let board = &mut self.loss.get_or_insert_default().board;
                board.sack(&self.records, (*left, *right), mss, answerable, news);
            }
        }
    }

    /// Whether the first block names what came twice: it lies below SND.UNA, or within the second (RFC 2883 section 4).
    fn is_report_of_duplicate(&self, (left, right): (Seq, Seq), second: Option<&(Seq, Seq)>) -> bool {
        let len = right.0.wrapping_sub(left.0);
        let below = self.una.0.wrapping_sub(right.0);
        let inside = second.is_some_and(|second| !left.before(second.0) && !right.after(second.1));
        let in_flight = right.0.wrapping_sub(self.una.0) <= self.records.flight();
        0 < len && len <= self.max_window && (below <= self.max_window || (inside && in_flight))
    }

    /// Without SACK, each duplicate ACK stands for a segment that has arrived (RFC 6675 has it better).
    fn count_duplicates(&mut self, duplicate: bool, news: &mut News) {
        let (mss, acked) = (u32::from(self.mss), news.acked);
        if acked > 0 {
            let counted = match self.phase {
                Phase::Recovery { until } if self.una.before(until) => {
                    self.dup_acks.min(acked.div_ceil(mss).saturating_sub(1))
                }
                _ => self.dup_acks,
            };
            self.dup_acks -= counted;
            news.bytes = acked.saturating_sub(counted * mss).max(1);
        } else if duplicate && self.dup_acks < self.flight() / mss {
            self.dup_acks += 1;
            news.bytes = mss;
        }
    }

    /// The round trip is that of something that was sent only once (Karn, RFC 6298 section 3). The averages take one in per
    /// round trip.
    fn measure(&mut self, news: &mut News) {
        let (now, newest) = (news.now, news.newest);
        let tx = newest.as_ref().map(|newest| &newest.tx);
        news.rate = self.sampler.on_delivered(news.bytes, tx, self.rto.shortest(), now);
        news.rtt = newest.filter(|newest| !newest.again).map(|newest| now.nanos_since(newest.tx.sent));
        if let Some(rtt) = news.rtt {
            self.rto.on_round_trip(rtt);
            self.tail_measured = true;
        }
        if self.una.before(self.measured) && !self.rto.is_backed_off() {
            return;
        }
        // A timestamp tells copies apart (RFC 7323 section 4).
        let stamped = news.echoed.filter(|_| news.acked > 0).map(|at| now.nanos_since(at).max(TICK));
        if let Some(sample) = news.oldest.map(|sent| now.nanos_since(sent)).or(news.rtt).or(stamped) {
            self.rto.sample(sample);
            self.measured = self.nxt;
        }
    }

    /// `[left, right)` came twice. Where a recovery has sent it again, that was too soon; probes may well come twice.
    fn on_repeated(&mut self, left: Seq, right: Seq) {
        let Some(loss) = self.loss.as_mut().filter(|loss| loss.undo.is_open(left)) else { return };
        loss.rack.on_duplicate(self.una, self.nxt);
        if loss.undo.on_duplicate(left, right) {
            self.take_back(None);
        }
    }

    /// Answers how many bytes this ACK tells to be lost.
    fn detect_loss(&mut self, news: &News) -> u32 {
        if !self.sack {
            return self.detect_by_duplicates(news.acked);
        }
        let Some(loss) = &mut self.loss else { return 0 };
        if let Some(newest) = &news.newest {
            loss.rack.on_arrival(newest, news.reordered, news.now);
        }
        if loss.board.is_clean() {
            loss.rack.deadline = Instant::FAR;
            return 0;
        }
        self.detect_late(news.now)
    }

    /// RFC 8985 section 6.2, step 5.
    fn detect_late(&mut self, now: Instant) -> u32 {
        let window = self.reordering_window();
        let Some(loss) = &mut self.loss else { return 0 };
        let wait = loss.rack.rtt() + window;
        let (lost, deadline) = loss.board.detect(&self.records, loss.rack.newest(), wait, now);
        loss.rack.deadline = deadline.unwrap_or(Instant::FAR);
        self.sampler.on_lost(lost);
        lost
    }

    /// What counts as in flight again is given the time to arrive, should no ACK tell of it.
    fn await_late(&mut self, now: Instant) {
        let window = self.reordering_window();
        if let Some(loss) = self.loss.as_mut().filter(|loss| !loss.board.is_clean()) {
            loss.rack.deadline = now + window;
        }
    }

    fn reordering_window(&self) -> Duration {
        let Some(loss) = &self.loss else { return Duration::ZERO };
        let certain =
            self.phase != Phase::Open || loss.board.is_sacked_enough(DUP_THRESHOLD, u32::from(self.mss));
        loss.rack.window(certain, self.rto.shortest(), self.rtt().unwrap_or_default())
    }

    /// When segments that are late now are lost.
    pub(super) fn reorder_deadline(&self) -> Instant {
        self.loss.as_ref().map_or(Instant::FAR, |loss| loss.rack.deadline)
    }

    fn detect_by_duplicates(&mut self, acked: u32) -> u32 {
        let partial = acked > 0 && matches!(self.phase, Phase::Recovery { until } if self.una.before(until));
        // What was sent again after a timeout may come twice and be answered by duplicates (RFC 6582 section 3.2, step 1).
        let proven = self.phase == Phase::Open
            && acked == 0
            && self.dup_acks >= self.dup_threshold()
            && self.loss.as_ref().is_none_or(|loss| loss.repeated_until.is_none());
        if !partial && !proven {
            return 0;
        }
        // A partial ACK: the next segment is missing, too (step 3).
        let board = &mut self.loss.get_or_insert_default().board;
        let lost = board.lose_first(&self.records, u32::from(self.mss));
        self.sampler.on_lost(lost);
        lost
    }

    /// Three; fewer where so little is in flight that three could never come (RFC 5827). With SACK, RACK does better.
    fn dup_threshold(&self) -> u32 {
        let segments = self.flight().div_ceil(u32::from(self.mss));
        let more_to_send = self.queue.end().after(self.nxt);
        if more_to_send { DUP_THRESHOLD } else { segments.saturating_sub(1).clamp(1, DUP_THRESHOLD) }
    }

    /// Takes the recovery back where the ACK tells that it was not needed; answers whether it does.
    fn judge_recovery(&mut self, news: &News) -> bool {
        let Some(loss) = &self.loss else { return false };
        if news.acked > 0 && loss.undo.is_refuted(news.una, news.echoed, news.unrepaired) {
            self.take_back(news.rtt.or_else(|| news.echoed.map(|at| news.now.nanos_since(at))));
            return true;
        }
        match self.phase {
            Phase::Timeout { until } => self.judge_timeout(until, news),
            _ => false,
        }
    }

    /// F-RTO (RFC 5682): after the first segment was sent again and something was acknowledged, new data goes out; if then
    /// the next ACK tells that something arrived that was sent only once, before the timeout, all the rest is on its way,
    /// too.
    fn judge_timeout(&mut self, until: Seq, news: &News) -> bool {
        let more = self.fresh(u32::from(self.mss)).is_some();
        let Some(loss) = &mut self.loss else { return false };
        loss.frto = match loss.frto {
            Frto::First if news.acked > 0 && self.una.before(until) && more => Frto::Second,
            Frto::First if news.acked == 0 && self.sack => Frto::First,
            Frto::Second if news.has_original_before(until) => {
                self.take_back(news.rtt);
                return true;
            }
            Frto::Second if news.bytes == 0 && self.sack => Frto::Second,
            _ => Frto::Off,
        };
        false
    }

    /// The present recovery, or the last one, was not needed. `rtt`: what a segment that was given up in truth took,
    /// in nanoseconds.
    fn take_back(&mut self, rtt: Option<u64>) {
        if let (Phase::Timeout { .. }, Some(rtt)) = (self.phase, rtt) {
            self.rto.on_spurious(rtt);
        }
        self.congestion.on_undo();
        let loss = self.loss.get_or_insert_default();
        loss.undo.end();
        if matches!(self.phase, Phase::Recovery { .. }) {
            loss.rack.on_refuted();
        }
        if self.phase != Phase::Open {
            loss.board.forgive(self.una);
            self.open();
        }
    }

    fn open(&mut self) {
        self.phase = Phase::Open;
        self.dup_acks = 0;
        self.force = false;
        let loss = self.loss.get_or_insert_default();
        loss.frto = Frto::Off;
        loss.prr = None;
        loss.rack.on_recovered();
        loss.undo.close(self.nxt);
    }

    /// `flight` and `pipe` are those before the news.
    fn change_phase(&mut self, flight: u32, pipe: u32, now: Instant) {
        if let Phase::Recovery { until } | Phase::Timeout { until } = self.phase
            && !self.una.before(until)
        {
            if matches!(self.phase, Phase::Recovery { .. }) {
                self.congestion.on_recovered(now);
            } else if !self.sack {
                self.loss.get_or_insert_default().repeated_until = Some(until);
            }
            self.open();
        }
        if self.phase == Phase::Open && self.loss.as_ref().is_some_and(|loss| loss.board.has_lost()) {
            self.congestion.on_loss(flight, now);
            self.begin_recovery();
            self.ecn.on_reduced(self.nxt);
            let loss = self.loss.get_or_insert_default();
            loss.undo.begin(self.una, loss.board.resent_bytes());
            loss.prr = self.congestion.uses_prr().then(|| Prr::new(pipe));
        }
    }

    /// Fast recovery from here on.
    pub(super) fn begin_recovery(&mut self) {
        self.tail = Tail::Idle;
        self.phase = Phase::Recovery { until: self.nxt };
    }

    /// The window during fast recovery.
    fn reduce(&mut self, delivered: u32, safe: bool) {
        let (pipe, ssthresh) = (self.pipe(), self.congestion.ssthresh());
        if let Some(prr) = self.loss.as_mut().and_then(|loss| loss.prr.as_mut()) {
            prr.on_ack(delivered, pipe, ssthresh, safe, u32::from(self.mss));
        }
    }

    /// Segments that were late are lost by now (RFC 8985 section 6.3); answers whether the timer ran for them.
    pub(super) fn on_reorder_timer(&mut self, now: Instant) -> bool {
        if self.reorder_deadline() > now {
            return false;
        }
        let (flight, pipe) = (self.flight(), self.pipe());
        self.detect_late(now);
        self.change_phase(flight, pipe, now);
        self.reduce(0, false);
        true
    }

    /// The retransmission timer has run out (RFC 6298 section 5), or the time to probe has come.
    pub(super) fn on_timeout(&mut self, now: Instant) {
        self.rto.back_off();
        self.tail = Tail::Idle;
        if self.unanswered == Instant::FAR {
            self.unanswered = now;
        }
        if self.flight() == 0 || self.probing {
            let unanswered = self.unanswered;
            self.unsend();
            self.unanswered = unanswered;
            self.probe = true;
            return;
        }
        let first = !matches!(self.phase, Phase::Timeout { .. });
        self.congestion.on_timeout(self.flight(), first, now);
        self.ecn.on_reduced(self.nxt);
        self.phase = Phase::Timeout { until: self.nxt };
        self.dup_acks = 0;
        self.force = true;
        let window = self.reordering_window();
        let rtt = self.rtt().unwrap_or_default();
        let loss = self.loss.get_or_insert_default();
        if first {
            loss.undo.begin(self.una, loss.board.resent_bytes());
        }
        loss.frto = if first { Frto::First } else { Frto::Off };
        loss.prr = None;
        loss.rack.deadline = Instant::FAR;
        loss.board.check_reneging(self.una);
        // RFC 8985 section 6.3: what left so recently that no answer is overdue stays in flight. Without SACK nothing would
        // ever tell what became of it.
        let lost = if self.sack {
            let overdue = now.back(loss.rack.rtt().max(rtt) + window);
            loss.board.lose_until(&self.records, overdue, u32::from(self.mss))
        } else {
            loss.board.lose_all(&self.records)
        };
        self.sampler.on_lost(lost);
    }

    /// When the retransmission timer counts from after news: from now, or from when the first segment in flight was sent
    /// where few are, so that a loss which few duplicates could tell is repaired in time (RFC 7765).
    pub(super) fn timer_start(&self, now: Instant) -> Instant {
        let waiting = self.queue.end().distance(self.nxt).max(0) as u32;
        // No more than three segments, the last of which may be short.
        let few = self.flight() + waiting <= (RESTART_THRESHOLD - 1) * u32::from(self.mss);
        if !few {
            return now;
        }
        let oldest = match &self.loss {
            Some(loss) => loss.board.oldest(&self.records),
            None => self.records.oldest(),
        };
        oldest.filter(|sent| now.since(*sent) < self.rto.current()).unwrap_or(now)
    }
}
