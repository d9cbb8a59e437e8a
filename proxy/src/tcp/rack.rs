//! RACK: what left well before something that has arrived is lost (RFC 8985 section 6).
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use super::news::Arrival;

/// Recoveries after which the reordering window shrinks again (section 6.2, step 4).
const PERSIST: u8 = 16;

/// Of the transmissions that have arrived, that which left last: when it did, and where it ended (RACK.xmit_ts, end_seq).
#[derive(Copy, Clone, Debug)]
pub(super) struct Newest {
    pub(super) sent: Instant,
    pub(super) end: Seq,
    /// Its bytes had been sent before.
    pub(super) again: bool,
}

#[derive(Debug)]
pub(super) struct Rack {
    newest: Newest,
    /// How long that one took.
    rtt: Duration,
    /// Segments were seen to arrive in another order than they left in.
    reordering: bool,
    /// The reordering window, in quarters of the shortest round trip.
    quarters: u8,
    /// In so many recoveries it is back at one.
    persist: u8,
    /// The window has grown already for D-SACKs of what was sent before this.
    round: Option<Seq>,
    /// When what is late by then is lost; [`Instant::FAR`] while nothing is late.
    pub(super) deadline: Instant,
}

impl Default for Rack {
    fn default() -> Self {
        Self {
            newest: Newest { sent: Instant::ZERO, end: Seq(0), again: false },
            rtt: Duration::ZERO,
            reordering: false,
            quarters: 1,
            persist: 0,
            round: None,
            deadline: Instant::FAR,
        }
    }
}

impl Rack {
    /// Whether it knows nothing of the path but what any connection begins with.
    pub(super) const fn is_plain(&self) -> bool {
        !self.reordering && self.quarters == 1
    }

    /// Segments were seen to arrive in another order than they left in.
    pub(super) const fn is_reordering(&self) -> bool {
        self.reordering
    }

    pub(super) const fn newest(&self) -> &Newest {
        &self.newest
    }

    pub(super) const fn rtt(&self) -> Duration {
        self.rtt
    }

    /// Steps 2 and 3.
    pub(super) fn on_arrival(&mut self, arrival: &Arrival, reordered: bool, now: Instant) {
        if arrival.is_after(self.newest.sent, self.newest.end) {
            self.newest = Newest { sent: arrival.tx.sent, end: arrival.end, again: arrival.again };
            self.rtt = now.since(arrival.tx.sent);
        }
        self.reordering |= reordered;
    }

    /// What was found lost had not been lost: it came behind what left later. By then it had been sent again, so that its
    /// arrival alone (step 3) does not tell.
    pub(super) const fn on_refuted(&mut self) {
        self.reordering = true;
    }

    /// Step 4: an ACK that says that something came twice, which was sent again too soon.
    pub(super) fn on_duplicate(&mut self, una: Seq, nxt: Seq) {
        if self.round.is_none_or(|round| !una.before(round)) {
            self.round = Some(nxt);
            self.quarters = self.quarters.saturating_add(1);
            self.persist = PERSIST;
        }
    }

    /// Step 4: a recovery is over.
    pub(super) fn on_recovered(&mut self) {
        self.persist = self.persist.saturating_sub(1);
        if self.persist == 0 {
            self.quarters = 1;
        }
    }

    /// How much later than expected a segment may come (RACK_update_reo_wnd). `certain`: recovery has begun, or enough
    /// segments are SACKed to begin one.
    pub(super) fn window(&self, certain: bool, shortest: Duration, smoothed: Duration) -> Duration {
        if certain && !self.reordering {
            return Duration::ZERO;
        }
        (shortest / 4 * u32::from(self.quarters)).min(smoothed)
    }
}
