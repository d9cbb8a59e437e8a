//! The usual ACK: SND.UNA advances within what was sent once, and there is no other news.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! Nothing happens here that [`Sender::on_any_ack`] would not do; a test compares the two.

use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::Header;

use super::congestion::{Acked, Congestion};
use super::recovery::Phase;
use super::send::Sender;
use super::tail::Tail;

impl<F: Frame> Sender<F> {
    /// Whether an acceptable ACK tells of progress and of nothing else. What takes samples of the rate of delivery wants to know more.
    #[inline]
    pub(super) fn is_advance(&self, header: &Header) -> bool {
        header.ack.after(self.una)
            && header.options.sack.is_empty()
            && self.phase == Phase::Open
            && self.loss.is_none()
            && self.dup_acks == 0
            && !self.probing
            && matches!(self.tail, Tail::Idle | Tail::Armed(_))
            && !self.ecn.is_told(header)
            && !self.congestion.takes_samples()
    }

    /// Takes in an ACK that [`Sender::is_advance`].
    #[inline]
    pub(super) fn advance(&mut self, header: &Header, now: Instant) {
        let acked = header.ack.0.wrapping_sub(self.una.0);
        let prior_flight = self.records.flight();
        self.window = u32::from(header.window) << self.shift;
        self.max_window = self.max_window.max(self.window);
        (self.wl1, self.wl2) = (header.seq, header.ack);
        // FIN takes a number, but no place in the queue.
        self.queue.release(header.ack.min(self.queue.end()));
        self.una = header.ack;
        self.rto.on_progress();
        self.unanswered = if self.nxt == header.ack { Instant::FAR } else { now };
        let oldest = self.records.oldest();
        let rtt = self.records.release(header.ack).map(|newest| now.nanos_since(newest.sent));
        if let Some(rtt) = rtt {
            self.rto.on_round_trip(rtt);
            self.tail_measured = true;
        }
        if let Some(oldest) = oldest
            && (!self.una.before(self.measured) || self.rto.is_backed_off())
        {
            self.rto.sample(now.nanos_since(oldest));
            self.measured = self.nxt;
        }
        self.congestion.on_ack(&Acked {
            now,
            delivered: acked,
            progress: acked,
            lost: 0,
            prior_flight,
            flight: self.records.flight(),
            limited: self.limited,
            rtt,
            srtt: self.rto.smoothed_nanos(),
            rate: None,
            una: self.una,
            nxt: self.nxt,
            phase: Phase::Open,
            ece: false,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunk;
    use crate::tcp::fixture::{self, Opening};
    use pnat_shared::config::CongestionControl;
    use pnat_shared::testkit::{Random, VecPool};
    use pnat_shared::time::Duration;
    use pnat_shared::wire::tcp::Flags;

    #[test]
    fn the_usual_ack_does_what_any_would() {
        let mut usual = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let opening = Opening {
                stamps: random.chance(0.5),
                sack: random.chance(0.7),
                ecn: random.chance(0.3),
                congestion: if random.chance(0.8) {
                    CongestionControl::Cubic
                } else {
                    CongestionControl::NewReno
                },
            };
            let mut now = Instant::from_secs(1);
            let mut both = [(); 2].map(|()| fixture::endpoint(opening, now));
            for _ in 0..60 {
                now += Duration::from_micros(random.below(40_000));
                let (una, flight) = (both[0].send.una, u64::from(both[0].send.flight()));
                let acked = if random.chance(0.5) { flight } else { random.below(flight + 1) };
                let mut header = fixture::header(&both[0], una + acked as u32, now);
                if random.chance(0.1) {
                    header.window = random.below(5000) as u16;
                }
                if random.chance(0.02) && acked + 1500 < flight {
                    header.options.sack.push(header.ack + 700, header.ack + 1400);
                }
                if random.chance(0.05) {
                    header.flags = header.flags.with(Flags::ECE);
                }
                let is_usual = both[0].send.is_advance(&header);
                usual += u32::from(is_usual);
                let echoed = opening.stamps.then(|| now.back(Duration::from_millis(5)));
                let brings_news = if is_usual {
                    both[0].send.advance(&header, now);
                    true
                } else {
                    both[0].send.on_any_ack(&header, true, echoed, now)
                };
                assert_eq!(brings_news, both[1].send.on_any_ack(&header, true, echoed, now), "seed {seed}");
                let more = random.below(12) * random.below(600);
                let ends = random.chance(0.005);
                for endpoint in &mut both {
                    endpoint.on_timer(now);
                    endpoint.send(Chunk::from_vec(vec![1; more as usize]));
                    if ends {
                        endpoint.shutdown();
                    }
                    endpoint.transmit(&mut VecPool::endless(), now, 64, &mut Vec::new());
                }
                fixture::assert_same(&both[0], &both[1], &format!("seed {seed}"));
            }
        }
        assert!(usual > 2000, "the usual ACK is hardly tested: {usual}");
    }
}
