//! Segments that arrive once sequence numbers are agreed (RFC 9293 section 3.10.7.4, RFC 5961, RFC 7323).
//!
//! Runs on: proxy cores. Allocates: where no memory was lent, or a queue outgrows it (`lent`). Blocks: never.

use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use super::endpoint::{Endpoint, Error, Reset, State};
use super::recv::{Fit, Owed};
use crate::chunk::Chunk;

/// At most one challenge ACK in this time (RFC 5961 section 7; the interval is Linux's).
const CHALLENGE_INTERVAL: Duration = Duration::from_millis(500);

impl<F: Frame> Endpoint<F> {
    pub(super) fn on_segment_synchronized(
        &mut self,
        header: &Header,
        payload: Chunk<F>,
        now: Instant,
    ) -> Result<(), DropReason> {
        let flags = header.flags;
        let opening = self.state == State::SynReceived;
        let repeats_syn = flags.has(Flags::SYN) && self.peer.is_some_and(|(irs, _)| irs == header.seq);
        if opening && repeats_syn && !flags.has(Flags::RST) {
            if self.on_syn_again(header) {
                self.establish(now);
                self.recv.owed = Owed::Now;
            }
            return Ok(());
        }
        if self.is_question(header, payload.len(), now) {
            self.answer_question(header, payload.len(), now);
            return Ok(());
        }
        self.check_sequence(header, payload.len(), now)?;
        if flags.has(Flags::RST) {
            return self.on_reset(header, now);
        }
        if flags.has(Flags::SYN) {
            // Whatever its number: the peer may have forgotten us, and answers this with a RST that we can trust
            // (RFC 5961 section 4).
            self.challenge(now);
            return Err(DropReason::Unacceptable);
        }
        if !flags.has(Flags::ACK) {
            return Err(DropReason::Unacceptable);
        }
        if opening {
            self.check_handshake_ack(header)?;
        }
        if let Some((value, _)) = header.options.timestamps
            && self.clock.on
            && !header.seq.after(self.recv.told_nxt)
        {
            self.clock.remember(value, now);
        }
        if opening {
            self.establish(now);
        }
        self.touch(now);
        self.heed_reduction(header);
        self.on_ack(header, payload.is_empty(), now)?;
        if self.state == State::Closed {
            return Ok(());
        }
        self.on_urgent(header);
        self.on_text(header, payload, now)
    }

    /// The first two checks: PAWS and the window.
    fn check_sequence(&mut self, header: &Header, payload: usize, now: Instant) -> Result<(), DropReason> {
        let flags = header.flags;
        let len = payload as u32 + u32::from(flags.has(Flags::FIN)) + u32::from(flags.has(Flags::SYN));
        // A reset is judged by its number alone, and a SYN is challenged wherever it lies.
        if let Some((value, _)) = header.options.timestamps
            && !flags.has(Flags::RST)
            && !flags.has(Flags::SYN)
            && self.clock.is_old(value, self.recv.has_gap(), now)
        {
            self.acknowledge_stray(len, now);
            return Err(DropReason::Paws);
        }
        let fit = self.recv.fit(header.seq, len);
        if fit == Fit::Acceptable || (flags.has(Flags::SYN) && !flags.has(Flags::RST)) {
            return Ok(());
        }
        if !flags.has(Flags::RST) {
            if fit == Fit::Old && payload > 0 {
                self.recv.note_duplicate(header.seq, payload as u32);
            }
            self.remember_repeated(header, now);
            self.acknowledge_stray(len, now);
            if flags.has(Flags::FIN) && self.state == State::TimeWait {
                self.timers.life = now + self.settings.time_wait();
            }
        }
        Err(if fit == Fit::Beyond { DropReason::OutOfWindow } else { DropReason::Unacceptable })
    }

    /// A retransmission of what we have: our ACK was lost. Its answer must not echo a stamp from before it, or the peer
    /// measures the time that losses took. RFC 7323 section 5.3 leaves such segments out; so close below the window, and
    /// with a plausible ACK, it is no guess from afar.
    pub(super) fn remember_repeated(&mut self, header: &Header, now: Instant) {
        let just_below = (0..=0xffff).contains(&self.recv.nxt.distance(header.seq));
        if let Some((value, _)) = header.options.timestamps
            && self.clock.on
            && just_below
            && (0..=0xffff).contains(&self.send.nxt.distance(header.ack))
        {
            self.clock.remember(value, now);
        }
    }

    /// Answers a segment outside the window. Text and FIN are answered at once: our ACK for them was lost. Anything
    /// else only now and then, or two ends that disagree would answer each other for ever.
    pub(super) fn acknowledge_stray(&mut self, len: u32, now: Instant) {
        if len > 0 {
            self.recv.owed = Owed::Now;
        } else {
            self.challenge(now);
        }
    }

    fn challenge(&mut self, now: Instant) {
        if now >= self.challenge_from {
            self.challenge_from = now + CHALLENGE_INTERVAL;
            self.recv.owed = Owed::Now;
        }
    }

    /// Only the exact next number resets; within the window the peer is asked to say it again (RFC 5961 section 3).
    fn on_reset(&mut self, header: &Header, now: Instant) -> Result<(), DropReason> {
        if self.state == State::TimeWait {
            // All is said; what a late segment of ours provoked must not end the quiet time (RFC 1337).
            return Err(DropReason::Unacceptable);
        }
        if header.seq != self.recv.nxt {
            self.challenge(now);
            return Err(DropReason::Unacceptable);
        }
        match self.state {
            // Both streams have arrived, so nobody is owed an error (RFC 9293 section 3.10.7.4).
            State::Closing | State::LastAck if self.send.queue.len() == 0 => self.close(None),
            _ => self.close(Some(Error::Reset)),
        }
        Ok(())
    }

    /// In SYN-RECEIVED anything but the ACK of our SYN is answered with RST (RFC 9293 section 3.10.7.4).
    fn check_handshake_ack(&mut self, header: &Header) -> Result<(), DropReason> {
        if header.ack == self.send.nxt {
            return Ok(());
        }
        self.reset = Some(Reset { seq: header.ack, ack: None });
        Err(DropReason::Unacceptable)
    }

    pub(super) fn on_ack(&mut self, header: &Header, bare: bool, now: Instant) -> Result<(), DropReason> {
        if header.ack.after(self.send.nxt) {
            self.challenge(now);
            return Err(DropReason::Unacceptable);
        }
        if header.ack.before(self.send.una) {
            // Somewhat old is a reordered segment whose text is good; older than any window, it is a guess (RFC 5961
            // section 5.2). A window probe goes one byte beyond the window.
            let age = self.send.una.0.wrapping_sub(header.ack.0);
            if age <= self.send.max_window + 1 {
                return Ok(());
            }
            self.challenge(now);
            return Err(DropReason::Unacceptable);
        }
        let before = self.send.una;
        let news = if self.send.is_advance(header) {
            self.send.advance(header, now);
            true
        } else {
            self.on_any_ack(header, bare, now)
        };
        if self.send.una != before {
            self.on_path_progress(now);
            self.on_mark_acked();
        }
        if self.send.flight() == 0 {
            self.timers.retransmit = Instant::FAR;
        } else if news {
            self.restart_retransmit(now);
        } else if self.send.reorder_deadline() < self.timers.retransmit {
            self.schedule_retransmit(now);
        }
        self.end_patience();
        if self.send.una != before && self.send.is_fin_acked() {
            self.on_fin_acked(now);
        }
        Ok(())
    }

    /// An acceptable ACK, whatever it says. Answers whether it brings news.
    fn on_any_ack(&mut self, header: &Header, bare: bool, now: Instant) -> bool {
        let bare = bare && !header.flags.has(Flags::FIN);
        let echo = header.options.timestamps.filter(|_| self.clock.on);
        let echoed = echo.and_then(|(_, echo)| self.clock.echoed(echo, now));
        let answered = self.judge_path_probe(header, now);
        self.send.on_any_ack(answered.as_ref().unwrap_or(header), bare, echoed, now)
    }

    fn on_fin_acked(&mut self, now: Instant) {
        match self.state {
            State::FinWait1 => self.state = State::FinWait2,
            State::Closing => self.wait(now),
            State::LastAck => self.close(None),
            _ => {}
        }
    }

    /// The seventh and eighth check: text and FIN.
    fn on_text(&mut self, header: &Header, payload: Chunk<F>, now: Instant) -> Result<(), DropReason> {
        let fin = header.flags.has(Flags::FIN);
        if payload.is_empty() && !fin {
            return Ok(());
        }
        if self.recv.finished {
            // The stream has ended; only our ACK of its end can be missing.
            self.recv.owed = Owed::Now;
            return Err(DropReason::Unacceptable);
        }
        if !payload.is_empty() {
            self.resize_window(header, 1, now);
        }
        if self.recv.take(header.seq, payload, fin)? {
            self.on_fin(now);
        }
        self.timers.ack = self.recv.ack_deadline(now, self.timers.ack);
        Ok(())
    }

    /// Text has come, in so many segments: the window's size may be due to change.
    #[inline]
    pub(super) fn resize_window(&mut self, header: &Header, segments: usize, now: Instant) {
        let echo = header.options.timestamps.filter(|_| self.clock.on);
        let echoed = echo.and_then(|(_, echo)| self.clock.echoed(echo, now));
        // A stamp tells no less than a millisecond, and none is believed that took longer than a minute.
        let rtt =
            echoed.map_or(0, |at| (now.as_nanos().saturating_sub(at.as_nanos()) / 1000).max(1000) as u32);
        let send = &self.send;
        self.recv.resize(rtt, || send.rtt(), now);
        if segments > 1 {
            // The first one may have begun a new round of measuring.
            self.recv.measure(rtt);
        }
    }

    fn on_fin(&mut self, now: Instant) {
        match self.state {
            State::Established => self.state = State::CloseWait,
            // Our FIN's acknowledgment, had it come, would have been seen first.
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.wait(now),
            _ => {}
        }
    }

    fn wait(&mut self, now: Instant) {
        self.state = State::TimeWait;
        self.timers.retransmit = Instant::FAR;
        self.timers.life = now + self.settings.time_wait();
    }

    /// RFC 9293 section 3.10.7.1: what comes when all is over is answered with RST. After an end by the book that would only
    /// disturb the peer's TIME-WAIT: its last ACKs are still under way.
    pub(super) fn on_segment_closed(&mut self, header: &Header, payload: usize) -> Result<(), DropReason> {
        let flags = header.flags;
        if !flags.has(Flags::RST) && self.error.is_some() {
            let len = payload as u32 + u32::from(flags.has(Flags::SYN)) + u32::from(flags.has(Flags::FIN));
            let reset = if flags.has(Flags::ACK) {
                Reset { seq: header.ack, ack: None }
            } else {
                Reset { seq: Seq(0), ack: Some(header.seq + len) }
            };
            self.reset.get_or_insert(reset);
        }
        Err(DropReason::Unacceptable)
    }
}
