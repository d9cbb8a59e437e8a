//! RFC 9293 section 3.10 with RFC 5961 and RFC 1337, in plain words: one flow of control, no timers but TIME-WAIT's, windows
//! that never close, sets of numbers instead of queues.
//!
//! Where PNAT differs from the letter, a line says so ("PNAT:").

use std::collections::BTreeSet;

use pnat_proxy::tcp::State;

/// Bytes that the peer has to say; its FIN stands behind them.
pub(crate) const STREAM: u32 = 6;
/// The initial sequence numbers: ours wraps within the run.
pub(crate) const ISS: u32 = u32::MAX - 20;
pub(crate) const IRS: u32 = 5000;
/// The peer's window, and ours.
pub(crate) const WINDOW: u32 = 65_535;
/// Seconds.
pub(crate) const TIME_WAIT: u64 = 10;

/// Where a segment of the peer lies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// At RCV.NXT, empty.
    Next,
    /// These bytes of the peer's stream, wherever RCV.NXT is.
    Stream(u32, u32),
    /// Behind RCV.NXT, but in the window; empty.
    Ahead,
    /// Ten bytes behind the window.
    Beyond,
    /// Ten bytes far before RCV.NXT.
    Before,
    /// At the peer's initial sequence number, empty.
    Syn,
}

/// What a segment of the peer acknowledges.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ack {
    None,
    /// All that was sent.
    All,
    /// Our SYN and no more.
    First,
    /// One number that was not sent.
    TooMuch,
    /// A number that lies further back than any window.
    LongAgo,
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) syn: bool,
    pub(crate) rst: bool,
    /// Behind the last byte of the stream; elsewhere it means nothing.
    pub(crate) fin: bool,
    pub(crate) place: Place,
    pub(crate) ack: Ack,
}

#[derive(Copy, Clone, Debug)]
pub(crate) enum Event {
    Arrives(Segment),
    /// The held SYN is answered.
    Answer,
    /// Ten bytes are to be sent.
    Send,
    Shutdown,
    Abort,
    /// For longer than TIME-WAIT takes.
    Wait,
}

/// What must be seen of the endpoint at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Nothing,
    /// One or more segments, none with SYN or RST.
    Acks,
    /// As [`Answer::Acks`], or nothing: an ACK may wait, text may be due.
    MayAck,
    SynAck,
    Rst,
}

#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) state: State,
    /// Whether the end was one that the peer is told of by RST, whenever it asks.
    is_error: bool,
    /// SND.UNA, and behind the last byte that was asked to be sent.
    una: u32,
    text_end: u32,
    /// FIN was asked for.
    fin: bool,
    /// Bytes of the peer's stream that have come, and whether its FIN has.
    got: BTreeSet<u32>,
    got_fin: bool,
    /// When TIME-WAIT ends.
    until: u64,
}

impl Model {
    pub(crate) const fn new(active: bool) -> Self {
        Self {
            state: if active { State::SynSent } else { State::SynHeld },
            is_error: false,
            una: ISS,
            text_end: ISS.wrapping_add(1),
            fin: false,
            got: BTreeSet::new(),
            got_fin: false,
            until: 0,
        }
    }

    /// RCV.NXT: behind the first bytes that came without gap.
    pub(crate) fn rcv_nxt(&self) -> u32 {
        let text = (0..STREAM).take_while(|byte| self.got.contains(byte)).count() as u32;
        IRS + 1 + text + u32::from(text == STREAM && self.got_fin)
    }

    fn stream_has_ended(&self) -> bool {
        self.rcv_nxt() == IRS + STREAM + 2
    }

    /// Something happens at `now`, when `nxt` was sent: SND.NXT.
    pub(crate) fn step(&mut self, event: Event, nxt: u32, now: u64) -> Answer {
        match event {
            Event::Arrives(segment) => self.arrives(segment, nxt, now),
            Event::Answer if self.state == State::SynHeld => {
                self.state = State::SynReceived;
                Answer::SynAck
            }
            Event::Answer | Event::Wait => Answer::Nothing,
            Event::Send => {
                let open = !matches!(self.state, State::SynHeld | State::Closed);
                if open && !self.fin {
                    self.text_end = self.text_end.wrapping_add(10);
                }
                Answer::MayAck
            }
            Event::Shutdown => self.shutdown(),
            Event::Abort => self.abort(),
        }
    }

    /// TIME-WAIT ends.
    pub(crate) fn passes(&mut self, now: u64) {
        if self.state == State::TimeWait && now >= self.until {
            self.state = State::Closed;
        }
    }

    /// Section 3.10.4.
    fn shutdown(&mut self) -> Answer {
        if matches!(self.state, State::SynHeld | State::Closed) || self.fin {
            return Answer::Nothing;
        }
        self.fin = true;
        match self.state {
            State::Established => self.state = State::FinWait1,
            State::CloseWait => self.state = State::LastAck,
            _ => return Answer::Nothing,
        }
        Answer::MayAck
    }

    /// Section 3.10.5.
    fn abort(&mut self) -> Answer {
        let told = matches!(
            self.state,
            State::SynHeld
                | State::SynReceived
                | State::Established
                | State::FinWait1
                | State::FinWait2
                | State::CloseWait
        );
        if self.state != State::Closed {
            self.state = State::Closed;
            self.is_error = true;
        }
        if told { Answer::Rst } else { Answer::Nothing }
    }

    fn arrives(&mut self, segment: Segment, nxt: u32, now: u64) -> Answer {
        match self.state {
            State::Closed => self.arrives_closed(segment),
            State::SynHeld => self.arrives_held(segment),
            State::SynSent => self.arrives_syn_sent(segment),
            _ => self.arrives_synchronized(segment, nxt, now),
        }
    }

    /// Section 3.10.7.1. PNAT: after an end by the book the peer is left in peace.
    fn arrives_closed(&self, segment: Segment) -> Answer {
        if segment.rst || !self.is_error { Answer::Nothing } else { Answer::Rst }
    }

    /// PNAT: instead of LISTEN. Only a reset is heard.
    fn arrives_held(&mut self, segment: Segment) -> Answer {
        if segment.rst && matches!(segment.place, Place::Next | Place::Syn | Place::Stream(0, _)) {
            self.state = State::Closed;
            self.is_error = true;
        }
        Answer::Nothing
    }

    /// Section 3.10.7.3.
    fn arrives_syn_sent(&mut self, segment: Segment) -> Answer {
        let Segment { syn, rst, ack, .. } = segment;
        // First: ACK.
        if matches!(ack, Ack::TooMuch | Ack::LongAgo) {
            return if rst { Answer::Nothing } else { Answer::Rst };
        }
        let acks = ack != Ack::None;
        // Second: RST.
        if rst {
            if acks {
                self.state = State::Closed;
                self.is_error = true;
            }
            return Answer::Nothing;
        }
        // Fourth: SYN.
        if !syn {
            return Answer::Nothing;
        }
        if acks {
            self.establish();
            Answer::Acks
        } else {
            self.state = State::SynReceived;
            Answer::SynAck
        }
    }

    fn establish(&mut self) {
        self.una = ISS.wrapping_add(1);
        self.state = if self.fin { State::FinWait1 } else { State::Established };
    }

    /// Section 3.10.7.4.
    fn arrives_synchronized(&mut self, segment: Segment, nxt: u32, now: u64) -> Answer {
        let Segment { syn, rst, ack, .. } = segment;
        let fin = segment.fin && !syn && !rst && matches!(segment.place, Place::Stream(_, STREAM));
        let place = match segment.place {
            // A reset has no text.
            Place::Stream(from, _) if rst => Place::Stream(from, from),
            place => place,
        };
        let opening = self.state == State::SynReceived;
        if opening && syn && place == Place::Syn {
            // Figure 8: the SYNs have crossed, and this is the answer to ours.
            if matches!(ack, Ack::All | Ack::First) {
                self.establish();
                return Answer::Acks;
            }
            // PNAT: whoever asks again is answered again.
            return Answer::SynAck;
        }
        // First: sequence number; RFC 5961 section 4 challenges every SYN, wherever it lies.
        if syn {
            return Answer::Acks;
        }
        if !self.is_acceptable(place, fin) {
            if fin && self.state == State::TimeWait {
                self.until = now + TIME_WAIT;
            }
            return if rst { Answer::Nothing } else { Answer::Acks };
        }
        // Second: RST, by RFC 5961 section 3; RFC 1337 in TIME-WAIT.
        if rst {
            return self.arrives_reset(place);
        }
        // Fifth: ACK.
        if ack == Ack::None {
            return Answer::Nothing;
        }
        if opening {
            if matches!(ack, Ack::TooMuch | Ack::LongAgo) {
                return Answer::Rst;
            }
            self.establish();
        } else if matches!(ack, Ack::TooMuch | Ack::LongAgo) {
            return Answer::Acks;
        }
        if ack == Ack::All {
            self.una = nxt;
        }
        self.acknowledged(now);
        if self.state == State::Closed {
            return Answer::Nothing;
        }
        // Seventh and eighth: text and FIN.
        let Place::Stream(from, to) = place else { return Answer::MayAck };
        let before = self.rcv_nxt();
        let had_ended = self.stream_has_ended();
        self.got.extend(from..to);
        self.got_fin |= fin;
        if self.stream_has_ended() && !had_ended {
            self.finished(now);
            return Answer::Acks;
        }
        let in_order = IRS + 1 + from <= before;
        if in_order || (from == to && !fin) { Answer::MayAck } else { Answer::Acks }
    }

    /// The table of section 3.10.7.4, first check, for a window that is never zero.
    fn is_acceptable(&self, place: Place, fin: bool) -> bool {
        match place {
            Place::Next | Place::Ahead => true,
            Place::Beyond | Place::Before | Place::Syn => false,
            Place::Stream(from, to) => {
                let (start, end) = (IRS + 1 + from, IRS + 1 + to + u32::from(fin));
                start >= self.rcv_nxt() || end > self.rcv_nxt()
            }
        }
    }

    fn arrives_reset(&mut self, place: Place) -> Answer {
        if self.state == State::TimeWait {
            return Answer::Nothing;
        }
        let exact = match place {
            Place::Next => true,
            Place::Stream(from, _) => IRS + 1 + from == self.rcv_nxt(),
            _ => false,
        };
        if !exact {
            return Answer::Acks;
        }
        // Where both streams have arrived nobody is owed an error.
        let all_sent = self.una.wrapping_sub(self.text_end) as i32 >= 0;
        self.is_error = !(matches!(self.state, State::Closing | State::LastAck) && all_sent);
        self.state = State::Closed;
        Answer::Nothing
    }

    /// Whether our FIN is acknowledged, and what follows.
    fn acknowledged(&mut self, now: u64) {
        if !self.fin || self.una != self.text_end.wrapping_add(1) {
            return;
        }
        match self.state {
            State::FinWait1 => self.state = State::FinWait2,
            State::Closing => self.wait(now),
            State::LastAck => self.state = State::Closed,
            _ => {}
        }
    }

    /// The peer's FIN was reached.
    fn finished(&mut self, now: u64) {
        match self.state {
            State::Established => self.state = State::CloseWait,
            State::FinWait1 => self.state = State::Closing,
            State::FinWait2 => self.wait(now),
            _ => {}
        }
    }

    fn wait(&mut self, now: u64) {
        self.state = State::TimeWait;
        self.until = now + TIME_WAIT;
    }
}
