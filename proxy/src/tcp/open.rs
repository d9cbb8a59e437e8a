//! The handshake: late and early accept, active and simultaneous open, options mirrored (RFC 9293 sections 3.5 and 3.10.7).
//!
//! ```text
//!                                prepare
//!                                   |
//!                               SynUnsent
//!                                   | ask
//!   accept                       connect                         accepted
//!     |                             |                               |
//!  SynHeld --answer--> SynReceived <--SYN-- SynSent --SYN-ACK--> Established
//!                          '------------ACK-------------------------^
//! ```
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::flow::Accepted;
use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};

use super::clock::Clock;
use super::ecn;
use super::endpoint::{Endpoint, Error, Offer, Reset, State};
use super::recv::Owed;
use super::send::{DEFAULT_MSS, Sender};

impl Offer {
    fn of_syn(syn: &Header) -> Self {
        Self { ecn: ecn::is_asked_for(syn), ..Self::of(&syn.options) }
    }

    fn of(options: &Options) -> Self {
        Self {
            mss: options.mss.unwrap_or(DEFAULT_MSS),
            window_scale: options.window_scale,
            sack: options.sack_permitted,
            timestamp: options.timestamps.map(|(value, _)| value),
            ecn: false,
        }
    }
}

impl<F: Frame> Endpoint<F> {
    /// Notes what the peer's SYN or SYN-ACK says.
    pub(super) fn meet(&mut self, syn: &Header, now: Instant) {
        let offer = Offer::of_syn(syn);
        if syn.options.excessive_scale {
            tracing::debug!(peer = %self.remote, "a window scale beyond 14 is taken as 14 (RFC 7323 section 2.3)");
        }
        self.peer = Some((syn.seq, offer));
        self.recv.start(syn.seq);
        self.clock.start(offer.timestamp.unwrap_or(0), now);
        self.send.window = u32::from(syn.window);
        self.send.max_window = self.send.window;
        self.send.wl1 = syn.seq;
        self.send.wl2 = syn.ack;
    }

    /// See [`Endpoint::answer`].
    pub(super) fn answer_held(&mut self, iss: Seq, offer: Offer, now: Instant) {
        let (State::SynHeld, Some((irs, theirs))) = (self.state, self.peer) else { return };
        let offer = Offer {
            mss: offer.mss,
            window_scale: offer.window_scale.filter(|_| theirs.window_scale.is_some()),
            sack: offer.sack && theirs.sack,
            timestamp: offer.timestamp.filter(|_| theirs.timestamp.is_some()),
            ecn: offer.ecn && theirs.ecn,
        };
        let window = self.send.window;
        self.send = Sender::new(iss);
        self.send.window = window;
        self.send.max_window = window;
        self.send.wl1 = irs;
        self.start_syn(offer, now);
        self.clock.start(theirs.timestamp.unwrap_or(0), now);
        self.agree();
        self.state = State::SynReceived;
    }

    /// See [`Endpoint::accepted`].
    pub(super) fn take_over(&mut self, handshake: &Accepted, now: Instant) {
        let offer = |options| Offer { ecn: handshake.ecn, ..Offer::of(options) };
        let (ours, theirs) = (offer(&handshake.ours), offer(&handshake.theirs));
        self.offer = Some(ours);
        self.peer = Some((handshake.irs, theirs));
        self.recv.start(handshake.irs);
        self.clock = Clock::new(ours.timestamp, now);
        self.clock.start(theirs.timestamp.unwrap_or(0), now);
        self.agree();
        self.recv.honor(handshake.window);
        self.send.nxt = handshake.iss + 1;
        // Whatever the ACK says of the window is news.
        self.send.wl1 = handshake.irs;
        self.send.wl2 = handshake.iss;
        self.establish(now);
    }

    /// A SYN of ours is to be sent, for as long as `open_timeout`.
    pub(super) fn start_syn(&mut self, offer: Offer, now: Instant) {
        let offer = Offer { window_scale: offer.window_scale.map(|shift| shift.min(14)), ..offer };
        self.offer = Some(offer);
        self.clock = Clock::new(offer.timestamp, now);
        self.send.wl2 = self.send.una;
        self.send.nxt = self.send.una + 1;
        self.syn_due = true;
        self.timers.life = now + self.settings.open_timeout();
    }

    /// Both SYNs are known: an option is on where both carry it.
    fn agree(&mut self) {
        let (Some(ours), Some((_, theirs))) = (self.offer, self.peer) else { return };
        let shifts = ours.window_scale.zip(theirs.window_scale);
        self.recv.agree(self.settings.window, shifts.map_or(0, |(shift, _)| shift), ours.mss);
        self.send.shift = shifts.map_or(0, |(_, shift)| shift.min(14));
        self.send.sack = ours.sack && theirs.sack;
        self.clock.on = ours.timestamp.is_some() && theirs.timestamp.is_some();
        self.send.ecn.agree(ours.ecn && theirs.ecn, self.send.una);
        self.send.mss = self.most_mss();
    }

    /// The options of our SYN or SYN-ACK.
    pub(super) fn syn_options(&self, now: Instant) -> Options {
        let Some(offer) = self.offer else { return Options::default() };
        Options {
            mss: Some(offer.mss),
            window_scale: offer.window_scale,
            sack_permitted: offer.sack,
            timestamps: self.clock.stamp(now),
            ..Options::default()
        }
    }

    /// While the answer is held back, everything but a reset is the client's impatience.
    pub(super) fn on_segment_held(&mut self, header: &Header) -> Result<(), DropReason> {
        let in_window = header.seq == self.recv.nxt || self.peer.is_some_and(|(irs, _)| header.seq == irs);
        if header.flags.has(Flags::RST) && in_window {
            self.close(Some(Error::Reset));
            return Ok(());
        }
        Err(DropReason::Unacceptable)
    }

    /// RFC 9293 section 3.10.7.3.
    pub(super) fn on_segment_syn_sent(&mut self, header: &Header, now: Instant) -> Result<(), DropReason> {
        let acks = header.flags.has(Flags::ACK);
        // Nothing but the SYN was sent: only its number can be acknowledged.
        if acks && header.ack != self.send.nxt {
            if !header.flags.has(Flags::RST) {
                self.reset = Some(Reset { seq: header.ack, ack: None });
            }
            return Err(DropReason::Unacceptable);
        }
        if header.flags.has(Flags::RST) {
            if !acks {
                return Err(DropReason::Unacceptable);
            }
            self.close(Some(Error::Refused));
            return Ok(());
        }
        if !header.flags.has(Flags::SYN) {
            return Err(DropReason::Unacceptable);
        }
        self.meet(header, now);
        self.agree();
        // What our SYN said of the window holds from the peer's number on.
        self.recv.advertise(true);
        if acks {
            self.establish(now);
            self.recv.owed = Owed::Now;
        } else {
            // Both opened at once (RFC 9293 figure 8): from here on our SYN acknowledges theirs.
            self.state = State::SynReceived;
            self.syn_due = true;
            // It is not sent because the first was lost.
            self.syns = 0;
        }
        Ok(())
    }

    /// A SYN that comes again while ours is unanswered: ours, or its answer, was lost, or the SYNs have crossed. Answers
    /// whether it completes the handshake.
    pub(super) fn on_syn_again(&mut self, header: &Header) -> bool {
        let crossed = header.flags.has(Flags::ACK) && header.ack == self.send.nxt;
        if !crossed {
            self.syn_due = true;
        }
        crossed
    }

    /// The peer has acknowledged our SYN.
    pub(super) fn establish(&mut self, now: Instant) {
        // What was sent once was answered once (RFC 6298 section 3).
        if self.syns == 1 {
            self.send.rto.sample(now.nanos_since(self.send.unanswered));
        }
        self.timers.life = Instant::FAR;
        self.timers.retransmit = Instant::FAR;
        self.syn_due = false;
        self.send.start(self.settings.congestion, now, self.syns);
        self.state = if self.send.fin { State::FinWait1 } else { State::Established };
        self.touch(now);
        self.start_keepalive(now);
    }
}
