//! Congestion control: how much may be in the network, and how fast it goes there.

use core::fmt::Debug;

use pnat_shared::config::CongestionControl;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::bbr::Bbr;
use super::cubic::Cubic;
use super::newreno::NewReno;
use super::pacing::Pacer;
use super::recovery::Phase;

/// What one acknowledgment told. All sizes are bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Acked {
    pub(super) now: Instant,
    /// Newly delivered bytes: acknowledged or SACKed for the first time.
    pub(super) delivered: u32,
    /// Bytes for which the window may grow: by how much SND.UNA advanced; on a path that is known to reorder, what was
    /// delivered, or else the window would stand still while something is late, and make a jump when it comes.
    pub(super) progress: u32,
    /// Bytes that this ACK told to be lost.
    pub(super) lost: u32,
    /// In the network (pipe) before this ACK and after it.
    pub(super) prior_flight: u32,
    pub(super) flight: u32,
    /// The window, not the application or the peer's window, ended the last round of sending.
    pub(super) limited: bool,
    /// The round trip that this ACK measured, if it did (never of a retransmission), and the smoothed one; in nanoseconds.
    pub(super) rtt: Option<u64>,
    pub(super) srtt: Option<u64>,
    /// Where the algorithm [takes samples](Algorithm::takes_samples).
    pub(super) rate: Option<Rate>,
    /// SND.UNA after this ACK, and SND.NXT: rounds are counted by them.
    pub(super) una: Seq,
    pub(super) nxt: Seq,
    /// Where recovery stands after this ACK.
    pub(super) phase: Phase,
    /// The peer reports a congestion mark (ECE, RFC 3168), and the connection uses ECN.
    pub(super) ece: bool,
}

impl Acked {
    /// Whether `window` was used, so that there is reason for a larger one. In slow start half of it is enough, since the
    /// other half is what the last round trip has added (RFC 7661 section 4.1).
    pub(super) fn fills(&self, window: u32, slow_start: bool, mss: u32) -> bool {
        let used = if slow_start { 2 * self.prior_flight.min(u32::MAX / 2) } else { self.prior_flight };
        self.limited || used.saturating_add(mss) > window
    }
}

/// A delivery rate sample (draft-ietf-ccwg-bbr section 4.1): of the newest transmission that an ACK told to have arrived.
#[derive(Copy, Clone, Debug)]
pub(super) struct Rate {
    /// Bytes delivered over `interval`.
    pub(super) delivered: u32,
    pub(super) interval: Duration,
    /// All that was delivered on this connection when it was sent, and now.
    pub(super) prior_delivered: u64,
    pub(super) total: u64,
    /// The application, not the window, set the pace when it was sent.
    pub(super) is_app_limited: bool,
    /// What was in flight when it was sent, itself included, and what was found lost since then.
    pub(super) tx_in_flight: u32,
    pub(super) lost: u32,
}

/// What a connection begins with.
#[derive(Copy, Clone, Debug)]
pub(super) struct Start {
    pub(super) mss: u32,
    /// The peer understands SACK, so more than one loss per round trip is seen.
    pub(super) sack: bool,
    pub(super) srtt: Option<Duration>,
    /// SND.NXT.
    pub(super) nxt: Seq,
    pub(super) now: Instant,
}

/// An algorithm and its state for one connection. All sizes are bytes.
///
/// Loss recovery decides what is lost and what is sent again ([`super::recovery`]); an algorithm only says how many bytes
/// may be in the network at once, and how fast they follow each other.
pub(super) trait Congestion: Debug {
    /// Most bytes in the network.
    fn window(&self) -> u32;

    /// Where the window is to be at the end of the recovery that has begun.
    fn ssthresh(&self) -> u32;

    /// Whether proportional rate reduction rules the window during recovery, on its way to `ssthresh`.
    fn uses_prr(&self) -> bool;

    /// What spreads segments over time; `None`: the window alone says when they leave.
    fn pacer(&self) -> Option<&Pacer> {
        None
    }

    fn pacer_mut(&mut self) -> Option<&mut Pacer> {
        None
    }

    /// The segment size is known or has changed.
    fn set_mss(&mut self, mss: u32);

    /// An ACK with news, in every phase.
    fn on_ack(&mut self, acked: &Acked);

    /// Something is about to be sent for the first time, while `flight` bytes are in the network.
    fn on_sent(&mut self, flight: u32, now: Instant);

    /// A recovery begins while `flight` bytes are unacknowledged: once per recovery; likewise the peer reports a congestion
    /// mark: once per round trip (RFC 3168 section 6.1.2).
    fn on_loss(&mut self, flight: u32, now: Instant);

    /// The recovery is over.
    fn on_recovered(&mut self, now: Instant);

    /// The retransmission timer has run out. `first`: not for data that it ran out for before (RFC 5681 section 3.1).
    fn on_timeout(&mut self, flight: u32, first: bool, now: Instant);

    /// The last loss or timeout was none: everything is as it was before.
    fn on_undo(&mut self);

    /// Nothing was sent for longer than the retransmission timeout (RFC 5681 section 4.1).
    fn on_idle(&mut self, now: Instant);
}

/// The algorithms that there are.
#[derive(Debug)]
pub(super) enum Algorithm {
    Cubic(Cubic),
    NewReno(NewReno),
    /// Apart, since few flows use it and its model is three times as large as the others.
    Bbr(Box<Bbr>),
}

/// Calls the method of whichever algorithm it is: a jump by the variant and not through a table of pointers, so that the
/// calls of every segment can be inlined.
macro_rules! dispatch {
    ($algorithm:expr, $it:ident => $call:expr) => {
        match $algorithm {
            Algorithm::Cubic($it) => $call,
            Algorithm::NewReno($it) => $call,
            Algorithm::Bbr($it) => $call,
        }
    };
}

impl Algorithm {
    pub(super) fn new(kind: CongestionControl, start: &Start) -> Self {
        match kind {
            CongestionControl::Cubic => Self::Cubic(Cubic::new(start.mss)),
            CongestionControl::NewReno => Self::NewReno(NewReno::new(start.mss)),
            CongestionControl::Bbr => Self::Bbr(Box::new(Bbr::new(start))),
        }
    }

    /// Whether it makes use of [`Acked::rate`].
    pub(super) const fn takes_samples(&self) -> bool {
        matches!(self, Self::Bbr(_))
    }

    /// The SYN was lost more than once: begin with one segment (RFC 6928 section 2).
    pub(super) fn start_small(&mut self) {
        dispatch!(self, it => it.start_small());
    }
}

impl Congestion for Algorithm {
    fn window(&self) -> u32 {
        dispatch!(self, it => it.window())
    }

    fn ssthresh(&self) -> u32 {
        dispatch!(self, it => it.ssthresh())
    }

    fn uses_prr(&self) -> bool {
        dispatch!(self, it => it.uses_prr())
    }

    fn pacer(&self) -> Option<&Pacer> {
        dispatch!(self, it => it.pacer())
    }

    fn pacer_mut(&mut self) -> Option<&mut Pacer> {
        dispatch!(self, it => it.pacer_mut())
    }

    fn set_mss(&mut self, mss: u32) {
        dispatch!(self, it => it.set_mss(mss));
    }

    fn on_ack(&mut self, acked: &Acked) {
        dispatch!(self, it => it.on_ack(acked));
    }

    fn on_sent(&mut self, flight: u32, now: Instant) {
        dispatch!(self, it => it.on_sent(flight, now));
    }

    fn on_loss(&mut self, flight: u32, now: Instant) {
        dispatch!(self, it => it.on_loss(flight, now));
    }

    fn on_recovered(&mut self, now: Instant) {
        dispatch!(self, it => it.on_recovered(now));
    }

    fn on_timeout(&mut self, flight: u32, first: bool, now: Instant) {
        dispatch!(self, it => it.on_timeout(flight, first, now));
    }

    fn on_undo(&mut self) {
        dispatch!(self, it => it.on_undo());
    }

    fn on_idle(&mut self, now: Instant) {
        dispatch!(self, it => it.on_idle(now));
    }
}

/// The initial window (RFC 6928): ten segments, but not more than 14600 bytes with large ones.
pub(super) fn initial_window(mss: u32) -> u32 {
    (10 * mss).min((2 * mss).max(14_600))
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// An ACK for `bytes` that arrives at `now`, outside of any recovery.
    pub(in crate::tcp) fn ack(bytes: u32, limited: bool, rtt: Option<Duration>, now: Instant) -> Acked {
        let rtt = rtt.map(|rtt| rtt.as_nanos() as u64);
        Acked {
            now,
            delivered: bytes,
            progress: bytes,
            lost: 0,
            prior_flight: bytes,
            flight: 0,
            limited,
            rtt,
            srtt: rtt,
            rate: None,
            una: Seq(0),
            nxt: Seq(0),
            phase: Phase::Open,
            ece: false,
        }
    }
}
