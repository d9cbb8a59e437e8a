//! A seeded link in virtual time: latency, rate, queue, loss, duplication, reordering, corruption.

use std::collections::{BTreeMap, VecDeque};

use crate::frame::{Frame, L2_LEN};
use crate::time::{Duration, Instant};

/// A small, fast, seeded generator (SplitMix64): the same seed gives the same run on every machine.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.number() % limit
    }

    /// True with this probability, from 0 to 1.
    pub fn chance(&mut self, probability: f64) -> bool {
        (self.number() >> 11) as f64 / ((1u64 << 53) as f64) < probability
    }
}

/// What a link does to packets. Probabilities run from 0 to 1.
#[derive(Clone, Debug)]
pub struct LinkSpec {
    /// From one end to the other, once the last bit has left.
    pub latency: Duration,
    /// Bits per second; 0: endless.
    pub rate: u64,
    /// Most packets that wait for a link with a rate; what comes beyond is lost.
    pub queue: usize,
    pub loss: f64,
    pub duplication: f64,
    /// A reordered packet takes up to `reorder_by` longer.
    pub reordering: f64,
    pub reorder_by: Duration,
    /// One bit behind the Ethernet header is turned over.
    pub corruption: f64,
}

impl Default for LinkSpec {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            rate: 0,
            queue: 1000,
            loss: 0.0,
            duplication: 0.0,
            reordering: 0.0,
            reorder_by: Duration::from_millis(2),
            corruption: 0.0,
        }
    }
}

/// One direction of a wire.
#[derive(Debug)]
pub struct Link<F> {
    spec: LinkSpec,
    random: Random,
    /// On their way, by arrival; the number keeps the order of those that arrive together.
    flying: BTreeMap<(Instant, u64), F>,
    sent: u64,
    /// When the last bits of the packets that wait leave.
    waiting: VecDeque<Instant>,
    /// Packets that the link has lost, a full queue included.
    pub lost: u64,
    /// Packets that it has delivered, or will, a second time.
    pub duplicated: u64,
}

impl<F: Frame + Clone> Link<F> {
    pub fn new(spec: LinkSpec, seed: u64) -> Self {
        Self {
            spec,
            random: Random::new(seed),
            flying: BTreeMap::new(),
            sent: 0,
            waiting: VecDeque::new(),
            lost: 0,
            duplicated: 0,
        }
    }

    /// A frame enters the link.
    pub fn send(&mut self, mut frame: F, now: Instant) {
        let mut leaves = now;
        if let Some(nanos) = (frame.data().len() as u64 * 8_000_000_000).checked_div(self.spec.rate) {
            while self.waiting.front().is_some_and(|left| *left <= now) {
                self.waiting.pop_front();
            }
            // A packet that is being sent waits no more.
            if self.waiting.len() > self.spec.queue {
                self.lost += 1;
                return;
            }
            leaves = self.waiting.back().copied().unwrap_or(now) + Duration::from_nanos(nanos);
            self.waiting.push_back(leaves);
        }
        if self.random.chance(self.spec.loss) {
            self.lost += 1;
            return;
        }
        if self.random.chance(self.spec.corruption) && frame.data().len() > L2_LEN {
            let bits = (frame.data().len() - L2_LEN) as u64 * 8;
            let bit = self.random.below(bits) as usize;
            frame.data_mut()[L2_LEN + bit / 8] ^= 1 << (bit % 8);
        }
        if self.random.chance(self.spec.duplication) {
            self.duplicated += 1;
            self.fly(frame.clone(), leaves);
        }
        self.fly(frame, leaves);
    }

    fn fly(&mut self, frame: F, leaves: Instant) {
        let mut arrives = leaves + self.spec.latency;
        if self.random.chance(self.spec.reordering) {
            let extra = self.random.below(self.spec.reorder_by.as_nanos().max(1) as u64);
            arrives += Duration::from_nanos(extra);
        }
        self.sent += 1;
        self.flying.insert((arrives, self.sent), frame);
    }

    /// When the next frame arrives; [`Instant::FAR`] where none is on its way.
    pub fn next_arrival(&self) -> Instant {
        self.flying.keys().next().map_or(Instant::FAR, |(at, _)| *at)
    }

    /// The next frame that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<F> {
        let first = self.flying.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}

/// Packets of a test run in pcap's format (link type Ethernet, nanosecond stamps), for when it fails.
#[derive(Debug)]
pub struct Pcap {
    bytes: Vec<u8>,
}

impl Default for Pcap {
    fn default() -> Self {
        let mut bytes = Vec::new();
        for word in [0xa1b2_3c4d_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            bytes.extend_from_slice(&word.to_le_bytes());
        }
        Self { bytes }
    }
}

impl Pcap {
    /// Writes `frame` down, marked as IPv4 whatever its Ethernet header says.
    pub fn record(&mut self, frame: &[u8], now: Instant) {
        let nanos = now.as_nanos();
        let len = frame.len() as u32;
        for word in [(nanos / 1_000_000_000) as u32, (nanos % 1_000_000_000) as u32, len, len] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(frame);
        if let Some(kind) = self.bytes.get_mut(at + 12..at + 14) {
            kind.copy_from_slice(&[8, 0]);
        }
    }

    /// The file so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testkit::VecFrame;

    fn arrivals(spec: LinkSpec, seed: u64) -> Vec<(Instant, u8)> {
        let mut link = Link::new(spec, seed);
        for n in 0..100 {
            link.send(VecFrame::new(&[n; 100]), Instant::from_millis(u64::from(n)));
        }
        let mut all = Vec::new();
        while link.next_arrival() != Instant::FAR {
            let at = link.next_arrival();
            all.push((at, link.receive(at).unwrap().data()[0]));
        }
        all
    }

    #[test]
    fn a_clean_link_only_delays() {
        let all = arrivals(LinkSpec::default(), 1);
        assert_eq!(all.len(), 100);
        assert_eq!(all[7], (Instant::from_millis(8), 7));
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let spec = LinkSpec { loss: 0.2, duplication: 0.2, reordering: 0.3, ..LinkSpec::default() };
        assert_eq!(arrivals(spec.clone(), 7), arrivals(spec.clone(), 7));
        assert_ne!(arrivals(spec.clone(), 7), arrivals(spec, 8));
    }

    #[test]
    fn a_slow_link_queues_and_then_loses() {
        // 100 bytes at 400 kbit/s take 2 ms, and a packet comes every millisecond.
        let spec = LinkSpec { rate: 400_000, queue: 10, ..LinkSpec::default() };
        let all = arrivals(spec, 1);
        assert!((55..65).contains(&all.len()), "{}", all.len());
    }

    #[test]
    fn a_queue_holds_as_many_packets_whatever_their_size() {
        let spec = LinkSpec { rate: 8_000_000, queue: 3, ..LinkSpec::default() };
        let mut link = Link::new(spec, 1);
        let now = Instant::from_secs(1);
        // One leaves while three wait, long or short.
        for len in [1000, 1000, 1000, 40, 40] {
            link.send(VecFrame::new(&vec![0; len]), now);
        }
        assert_eq!(link.lost, 1);
        link.send(VecFrame::new(&[0; 40]), now + Duration::from_millis(1));
        assert_eq!(link.lost, 1);
    }
}
