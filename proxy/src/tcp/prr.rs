//! Proportional rate reduction (RFC 6937bis): the window goes down to its target in the course of a recovery, not at once.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.

/// The window during one recovery. All sizes are bytes.
#[derive(Copy, Clone, Debug)]
pub(super) struct Prr {
    /// Delivered since the recovery began.
    delivered: u32,
    /// Sent since then.
    out: u32,
    /// In flight when it began, without what was SACKed by then (RecoverFS).
    flight: u32,
    window: u32,
}

impl Prr {
    pub(super) const fn new(flight: u32) -> Self {
        Self { delivered: 0, out: 0, flight, window: 0 }
    }

    pub(super) const fn window(&self) -> u32 {
        self.window
    }

    /// An ACK told that `delivered` bytes have arrived, and leaves `pipe` bytes in the network. `safe`: SND.UNA has
    /// advanced and no more losses were found.
    pub(super) fn on_ack(&mut self, delivered: u32, pipe: u32, ssthresh: u32, safe: bool, mss: u32) {
        self.delivered = self.delivered.saturating_add(delivered);
        let count = if pipe > ssthresh {
            let share = u64::from(self.delivered) * u64::from(ssthresh);
            let share = share.div_ceil(u64::from(self.flight.max(1)));
            u32::try_from(share).unwrap_or(u32::MAX).saturating_sub(self.out)
        } else {
            // The conservative bound; while all goes well, slow start.
            let bound = self.delivered.saturating_sub(self.out).max(delivered);
            (bound + if safe { mss } else { 0 }).min(ssthresh - pipe)
        };
        // The first retransmission goes in any case.
        let least = if self.out == 0 { mss } else { 0 };
        self.window = pipe + count.max(least);
    }

    pub(super) const fn on_sent(&mut self, len: u32) {
        self.out = self.out.saturating_add(len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1000;

    /// How many segments each of `acks` lets go, all of which find `pipe` as they leave it.
    fn sent(prr: &mut Prr, mut pipe: u32, ssthresh: u32, safe: bool, acks: usize) -> Vec<u32> {
        (0..acks)
            .map(|_| {
                pipe -= MSS;
                prr.on_ack(MSS, pipe, ssthresh, safe, MSS);
                let segments = (prr.window() - pipe) / MSS;
                prr.on_sent(segments * MSS);
                pipe += segments * MSS;
                segments
            })
            .collect()
    }

    #[test]
    fn rfc6937bis_5_the_reduction_is_spread_over_the_recovery() {
        let mut prr = Prr::new(20 * MSS);
        // Down to seven tenths: the first goes at once, then seven for ten ACKs.
        assert_eq!(sent(&mut prr, 20 * MSS, 14 * MSS, false, 12), [1, 0, 1, 0, 1, 1, 0, 1, 1, 1, 0, 1]);
    }

    #[test]
    fn rfc6937bis_5_below_the_target_no_more_is_sent_than_was_delivered() {
        let mut prr = Prr::new(20 * MSS);
        assert_eq!(sent(&mut prr, 8 * MSS, 14 * MSS, false, 4), [1; 4]);
    }

    #[test]
    fn rfc6937bis_5_acks_that_find_no_loss_let_one_more_go_until_the_target() {
        let mut prr = Prr::new(20 * MSS);
        assert_eq!(sent(&mut prr, 11 * MSS, 14 * MSS, true, 5), [2, 2, 2, 1, 1]);
    }
}
