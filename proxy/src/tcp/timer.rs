//! The timers of an endpoint: the deadlines, and which comes first.

use pnat_shared::time::Instant;

/// Each is [`Instant::FAR`] while it does not run.
#[derive(Debug)]
pub(super) struct Timers {
    /// Repeats a SYN, retransmits data or probes a closed window; ends the connection at the user timeout.
    pub(super) retransmit: Instant,
    /// When `retransmit` was started: no timer.
    pub(super) started: Instant,
    /// Sends a delayed ACK.
    pub(super) ack: Instant,
    /// Ends an open that got no answer, a connection whose peer keeps its window shut, or TIME-WAIT.
    pub(super) life: Instant,
    /// Asks a silent peer whether it is still there.
    pub(super) keepalive: Instant,
    /// Gives memory back that an idle connection does not need.
    pub(super) trim: Instant,
}

impl Timers {
    pub(super) const fn new() -> Self {
        let far = Instant::FAR;
        Self { retransmit: far, started: Instant::ZERO, ack: far, life: far, keepalive: far, trim: far }
    }

    pub(super) fn earliest(&self) -> Instant {
        self.retransmit.min(self.ack).min(self.life).min(self.keepalive).min(self.trim)
    }
}

/// Whether the timer has run out; if so it stops.
pub(super) fn fires(timer: &mut Instant, now: Instant) -> bool {
    let due = *timer <= now && *timer != Instant::FAR;
    if due {
        *timer = Instant::FAR;
    }
    due
}
