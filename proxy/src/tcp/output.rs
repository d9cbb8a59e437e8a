//! Segments that leave: which comes next, and what stands in its header.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::time::Instant;
use pnat_shared::wire::checksum::Sum;
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};

use super::ecn;
use super::endpoint::{Endpoint, Reset, State};
use super::recv::Owed;
use super::segment::{self, ECT_0, NOT_ECT, Template};
use super::send::Slice;

/// What to send next.
#[derive(Debug)]
enum Next {
    Reset(Reset),
    Syn,
    Data(Slice),
    /// Bytes that were just sent, in a segment that may be too long for the path.
    PathProbe(Slice),
    KeepAlive,
    Ack,
}

/// What every segment says that leaves at the same time, since nothing comes in meanwhile.
#[derive(Copy, Clone, Debug)]
pub(super) struct Word {
    pub(super) window: u16,
    pub(super) timestamps: Option<(u32, u32)>,
}

/// What an endpoint may send at one time, and where to.
#[derive(Debug)]
pub(super) struct Outlet<'a, F, P> {
    pub(super) pool: &'a mut P,
    pub(super) frames: &'a mut Vec<F>,
    pub(super) now: Instant,
    /// Most segments, from here on.
    pub(super) budget: usize,
}

impl<F: Frame> Endpoint<F> {
    /// Whether there is no text to send, and nothing else of our own: so most visits find one of a pair's sockets, and this
    /// tells for the price of a few comparisons. False wherever in doubt.
    #[inline]
    fn is_quiet(&self) -> bool {
        self.send.is_quiet()
            && self.is_open()
            && self.reset.is_none()
            && !self.syn_due
            && !self.keepalive_due
            && !self.path.is_searched()
    }

    /// Whether the peer is to hear what has come, or how much may come.
    #[inline]
    fn owes(&self) -> bool {
        self.recv.owed == Owed::Now || self.recv.is_update_due()
    }

    /// See [`Endpoint::transmit`].
    #[inline]
    pub(super) fn send_segments(&mut self, outlet: &mut Outlet<'_, F, impl FramePool<F>>) -> bool {
        if self.is_quiet() {
            return self.rests(outlet.now) || self.send_answer(outlet);
        }
        if self.send.is_quiet() {
            return self.send_each(outlet);
        }
        let now = outlet.now;
        if self.is_open() {
            self.send.check_idle(now);
        }
        let (sent_before, frames_before) = (self.send.nxt, outlet.frames.len());
        let complete = self.send_run(outlet) && {
            let segments = self.segments_in(outlet.frames.len() - frames_before, sent_before);
            outlet.budget = outlet.budget.saturating_sub(segments);
            if self.send.nxt != sent_before && self.is_quiet() {
                // As a rule a run leaves nothing behind, and has told the peer all there is.
                self.send.rest();
                debug_assert!(self.next(now).is_none(), "quiet");
                true
            } else {
                self.send_each(outlet)
            }
        };
        self.after_sending(sent_before, now);
        complete
    }

    /// Whether a quiet endpoint owes no answer, either: then it takes note that there is nothing to send.
    #[inline]
    fn rests(&mut self, now: Instant) -> bool {
        if self.owes() {
            return false;
        }
        self.send.rest();
        debug_assert!(self.next(now).is_none(), "quiet");
        true
    }

    /// Sends an ACK. Apart, because most quiet endpoints are only asked whether they owe one.
    #[inline(never)]
    fn send_answer(&mut self, outlet: &mut Outlet<'_, F, impl FramePool<F>>) -> bool {
        if self.recv.has_blocks() || self.urgent.is_some() || outlet.budget == 0 {
            return self.send_each(outlet);
        }
        self.send.rest();
        let Some(mut frame) = outlet.pool.alloc() else { return false };
        let Word { window, timestamps } = self.tell(outlet.now);
        let template = Template::new(self.local, self.remote, NOT_ECT, self.recv.nxt, window, timestamps);
        let flags = Flags::ACK.with(self.send.ecn.echo());
        let written = template.write(&mut frame, self.send.nxt, flags, 0, |_| Some(Sum::ZERO));
        if written {
            outlet.frames.push(frame);
        }
        written
    }

    /// Timers, after something was to be sent.
    #[inline]
    pub(super) fn after_sending(&mut self, sent_before: Seq, now: Instant) {
        if self.send.nxt == sent_before {
            self.watch_shut_window(now);
        } else if self.is_open() {
            self.schedule_retransmit(now);
        }
    }

    /// Looks at each segment by itself.
    pub(super) fn send_each(&mut self, outlet: &mut Outlet<'_, F, impl FramePool<F>>) -> bool {
        let (mut complete, mut word, now) = (true, None, outlet.now);
        for _ in 0..outlet.budget {
            let Some(next) = self.next(now) else { break };
            // Only where there is nothing else to say.
            let is_last = matches!(next, Next::Ack);
            let frame = outlet.pool.alloc();
            let written =
                frame.and_then(|mut frame| self.write(next, &mut frame, &mut word, now).then_some(frame));
            let Some(frame) = written else {
                complete = false;
                break;
            };
            outlet.frames.push(frame);
            if is_last {
                break;
            }
        }
        complete
    }

    fn next(&mut self, now: Instant) -> Option<Next> {
        if let Some(reset) = self.reset {
            return Some(Next::Reset(reset));
        }
        if self.syn_due {
            return Some(Next::Syn);
        }
        if !self.is_open() {
            // What is not acceptable is answered in SYN-RECEIVED, too (RFC 9293 section 3.10.7.4).
            let answers = self.state == State::SynReceived && self.recv.owed == Owed::Now;
            return answers.then_some(Next::Ack);
        }
        if self.send.is_quiet() {
            self.send.rest();
            debug_assert_eq!(self.send.next(u32::from(self.send.mss)), None, "quiet");
        } else {
            let max = usize::from(self.send.mss).saturating_sub(self.options()).max(1);
            let slice = self.send.next(max as u32);
            if let Some(slice) = self.send.pace(slice, now) {
                return Some(Next::Data(slice));
            }
        }
        if !self.recv.has_blocks()
            && let Some(slice) = self.path_probe(now)
        {
            return Some(Next::PathProbe(slice));
        }
        if self.keepalive_due {
            return Some(Next::KeepAlive);
        }
        self.owes().then_some(Next::Ack)
    }

    /// Bytes of options in the next data segment.
    fn options(&self) -> usize {
        let stamp = usize::from(self.clock.option_len());
        if !self.send.sack || !self.recv.has_blocks() {
            return stamp;
        }
        let blocks = self.recv.sack_blocks();
        Options { timestamps: self.clock.on.then_some((0, 0)), sack: blocks, ..Options::default() }.len()
    }

    /// Writes a segment and takes note that it was sent. Answers false, with nothing noted, where the frame is too small
    /// even for the headers. `word` is what the segments of one run of data share, once the first was written.
    fn write(&mut self, next: Next, frame: &mut F, word: &mut Option<Word>, now: Instant) -> bool {
        match next {
            Next::Reset(reset) => {
                let flags = if reset.ack.is_some() { Flags::RST.with(Flags::ACK) } else { Flags::RST };
                let header = Header {
                    ack: reset.ack.unwrap_or(Seq(0)),
                    ..self.header(reset.seq, flags, Options::default())
                };
                let written = self.write_bare(frame, &header);
                if written {
                    self.reset = None;
                }
                written
            }
            Next::Syn => self.write_syn(frame, now),
            Next::Data(slice) => self.write_data(slice, frame, word, now),
            Next::PathProbe(slice) => self.write_path_probe(slice, frame, now),
            Next::KeepAlive => {
                // A number that the peer has acknowledged: whoever is there answers it (RFC 9293 section 3.8.4).
                let header = self.acking(self.send.nxt - 1, Flags::ACK, now);
                let written = self.write_bare(frame, &header);
                self.keepalive_due &= !written;
                written
            }
            Next::Ack => {
                let mut header = self.acking(self.send.nxt, Flags::ACK, now);
                self.add_urgent(&mut header);
                self.write_bare(frame, &header)
            }
        }
    }

    /// Writes a segment without text.
    fn write_bare(&self, frame: &mut F, header: &Header) -> bool {
        segment::write(frame, self.local, self.remote, NOT_ECT, header, 0, |_| Some(Sum::ZERO))
    }

    fn header(&self, seq: Seq, flags: Flags, options: Options) -> Header {
        Header {
            src_port: self.local.port(),
            dst_port: self.remote.port(),
            seq,
            ack: Seq(0),
            flags,
            window: 0,
            urgent: 0,
            options,
        }
    }

    /// A header that tells the peer all we have: ACK, window, timestamps, SACK blocks.
    fn acking(&mut self, seq: Seq, flags: Flags, now: Instant) -> Header {
        let (window, options) = self.tell_all(now);
        let flags = flags.with(self.send.ecn.echo());
        Header { ack: self.recv.nxt, window, ..self.header(seq, flags, options) }
    }

    /// Window and options of a segment that tells the peer all we have: taken for sent from now on.
    #[inline]
    fn tell_all(&mut self, now: Instant) -> (u16, Options) {
        let mut options = Options::default();
        if self.send.sack && self.recv.has_blocks() {
            options.sack = self.recv.sack_blocks();
        }
        let Word { window, timestamps } = self.tell(now);
        options.timestamps = timestamps;
        (window, options)
    }

    /// The same where there are no SACK blocks to tell.
    #[inline]
    pub(super) fn tell(&mut self, now: Instant) -> Word {
        self.timers.ack = Instant::FAR;
        Word { window: self.recv.advertise(false), timestamps: self.clock.stamp(now) }
    }

    fn write_syn(&mut self, frame: &mut F, now: Instant) -> bool {
        let options = self.syn_options(now);
        let answers = self.state == State::SynReceived;
        let mut flags = if answers { Flags::SYN.with(Flags::ACK) } else { Flags::SYN };
        if !answers
            && self.syns > 0
            && let Some(offer) = &mut self.offer
        {
            // Something on the path may drop what it does not know (RFC 3168 section 6.1.1.1).
            offer.ecn = false;
        }
        if self.offer.is_some_and(|offer| offer.ecn) {
            flags = flags.with(ecn::request(answers));
        }
        let header = Header {
            ack: if answers { self.recv.nxt } else { Seq(0) },
            window: self.recv.advertise(true),
            ..self.header(self.send.una, flags, options)
        };
        if !self.write_bare(frame, &header) {
            return false;
        }
        self.syn_due = false;
        self.syns += 1;
        self.send.unanswered = now;
        if self.timers.retransmit == Instant::FAR {
            self.timers.retransmit = now + self.send.rto.current();
        }
        true
    }

    fn write_data(&mut self, mut slice: Slice, frame: &mut F, word: &mut Option<Word>, now: Instant) -> bool {
        let (window, options) = match *word {
            Some(Word { window, timestamps }) => (window, Options { timestamps, ..Options::default() }),
            None => self.tell_all(now),
        };
        // A duplicate is reported only once.
        if options.sack.is_empty() {
            *word = Some(Word { window, timestamps: options.timestamps });
        }
        let mut header = Header { ack: self.recv.nxt, window, ..self.header(slice.seq, Flags::ACK, options) };
        let room = segment::room(frame, &header);
        if slice.len as usize > room {
            slice.len = room as u32;
            slice.fin = false;
            if room == 0 {
                return false;
            }
        }
        let mut flags = Flags::ACK.with(self.send.ecn.echo());
        let mut codepoint = NOT_ECT;
        if self.send.may_be_marked(&slice)
            && let Some(says) = self.send.ecn.stamp()
        {
            flags = flags.with(says);
            codepoint = ECT_0;
        }
        if slice.fin {
            flags = flags.with(Flags::FIN);
        }
        // Nothing follows for now: the peer's application may as well have it.
        if slice.len > 0 && slice.seq + slice.len == self.send.queue.end() {
            flags = flags.with(Flags::PSH);
        }
        header.flags = flags;
        self.add_urgent(&mut header);
        let queue = &mut self.send.queue;
        let len = slice.len as usize;
        let (local, remote) = (self.local, self.remote);
        let needs_sum = !self.settings.offloads.checksum;
        if !segment::write(frame, local, remote, codepoint, &header, len, |out| {
            queue.copy(slice.seq, out, needs_sum)
        }) {
            return false;
        }
        self.send.sent(slice, now);
        self.on_slice_sent(&slice, header.options.len());
        if self.timers.retransmit == Instant::FAR {
            self.timers.started = now;
            // Where new data was sent, the timer waits for the run's end.
            if slice.again {
                self.schedule_retransmit(now);
            }
        }
        true
    }

    fn write_path_probe(&mut self, slice: Slice, frame: &mut F, now: Instant) -> bool {
        // Its size counts: nothing is there to be SACKed, so it carries the options of every segment and no others.
        let header = self.acking(slice.seq, Flags::ACK, now);
        let needs_sum = !self.settings.offloads.checksum;
        let queue = &mut self.send.queue;
        let len = slice.len as usize;
        let written = segment::write(frame, self.local, self.remote, NOT_ECT, &header, len, |out| {
            queue.copy(slice.seq, out, needs_sum)
        });
        self.on_probe_sent(&slice, now);
        written
    }

    /// Where the peer's window keeps us from sending at all, the timer will probe it (RFC 9293 section 3.8.6.1).
    fn watch_shut_window(&mut self, now: Instant) {
        if self.is_open() && self.timers.retransmit == Instant::FAR && self.send.is_shut() {
            self.arm_retransmit(now);
        }
        self.start_patience(now);
    }
}
