//! `limit`: a token bucket per flow or per client, by delaying.
//!
//! Runs on: proxy cores. Allocates: once per client; and what waits is held by the chain. Blocks: never.
//!
//! Each stream has a bucket of its own, so a client may send and receive at the full rate at once. Bytes that wait close
//! the sender's window; datagrams wait in a bounded queue. A client's flows all land on one proxy core, so its buckets live
//! in that core's [`Services`] and need no lock. They are keyed by the filter's name and outlive a reload.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use pnat_shared::config::{LimitBy, LimitFilter};
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;
use slab::Slab;

use super::{Call, DatagramFilter, DatagramVerdict, Factory, Flow, Services, StreamFilter, Verdict};

/// Clients whose buckets a core keeps; beyond that, a flow of a further client is refused. A bucket that is full again is
/// forgotten: it says no more than a new one.
const CLIENTS: usize = 1 << 16;

/// Bytes that are worth a wake-up: fewer are not let out while more wait.
const SEGMENT: u64 = 1448;

/// What a bucket gains and holds.
#[derive(Debug)]
struct Rate {
    /// At least 1.
    bytes_per_second: u64,
    /// At least 1, and at least 10 ms of the rate: a core that wakes every few milliseconds could not keep the rate else.
    burst: u64,
}

impl Rate {
    const SECOND: u128 = 1_000_000_000;

    /// The time that it takes to gain `bytes`.
    fn time(&self, bytes: u64) -> Duration {
        let nanos = (u128::from(bytes) * Self::SECOND).div_ceil(u128::from(self.bytes_per_second));
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What `time` gains, in bytes.
    fn bytes(&self, time: Duration) -> u64 {
        let bytes = time.as_nanos().saturating_mul(u128::from(self.bytes_per_second)) / Self::SECOND;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    /// What is let out at once while more waits, in bytes: a segment or 5 ms of the rate, but never the whole burst, so
    /// that a late wake-up finds the bucket not yet full.
    fn quantum(&self) -> u64 {
        (self.bytes_per_second / 200).max(SEGMENT).min(self.burst.div_ceil(2))
    }
}

/// A token bucket, told by the one moment at which it will be full again.
#[derive(Copy, Clone, Debug, Default)]
struct Bucket {
    full_at: Instant,
}

impl Bucket {
    /// Bytes that may pass now.
    fn available(&self, rate: &Rate, now: Instant) -> u64 {
        rate.bytes(rate.time(rate.burst).saturating_sub(self.full_at.since(now))).min(rate.burst)
    }

    fn take(&mut self, rate: &Rate, now: Instant, bytes: u64) {
        self.full_at = self.full_at.max(now) + rate.time(bytes);
    }

    /// When `bytes`, at most the burst, may pass.
    fn when(&self, rate: &Rate, bytes: u64) -> Instant {
        let spare = rate.time(rate.burst).saturating_sub(rate.time(bytes));
        Instant::ZERO + self.full_at.since(Instant::ZERO).saturating_sub(spare)
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

/// Names a client's buckets: the hash of the filter's name, and the client.
type Key = (u64, IpAddr);

/// The buckets of a core's clients, one per stream.
#[derive(Debug, Default)]
pub(super) struct Buckets {
    places: HashMap<Key, usize, foldhash::fast::RandomState>,
    slots: Slab<(Key, [Bucket; 2])>,
    /// The slot that was looked at last for being full again.
    cursor: usize,
}

impl Buckets {
    fn of(&mut self, key: Key, now: Instant) -> Option<&mut [Bucket; 2]> {
        let place = match self.places.get(&key) {
            Some(&place) => place,
            None => self.insert(key, now)?,
        };
        self.slots.get_mut(place).map(|(_, buckets)| buckets)
    }

    /// Two old slots are looked at for each new one, so the table follows the number of busy clients at constant cost.
    fn insert(&mut self, key: Key, now: Instant) -> Option<usize> {
        for _ in 0..2 {
            self.cursor = (self.cursor + 1) % self.slots.capacity().max(1);
            let slot = self.slots.get(self.cursor);
            if slot.is_some_and(|(_, buckets)| buckets.iter().all(|bucket| bucket.is_full(now))) {
                let (old, _) = self.slots.remove(self.cursor);
                self.places.remove(&old);
            }
        }
        if self.slots.len() >= CLIENTS {
            return None;
        }
        let place = self.slots.insert((key, [Bucket::default(); 2]));
        self.places.insert(key, place);
        Some(place)
    }
}

/// The filter as configured.
#[derive(Debug)]
pub(super) struct LimitFactory {
    rate: Arc<Rate>,
    by: LimitBy,
    /// Hash of the filter's name.
    name: u64,
}

impl LimitFactory {
    pub(super) fn new(name: &str, config: &LimitFilter) -> Self {
        use std::hash::BuildHasher;
        let bytes_per_second = config.bytes_per_second.max(1);
        let rate = Rate { bytes_per_second, burst: config.burst.max(bytes_per_second / 100).max(1) };
        let name = foldhash::fast::FixedState::default().hash_one(name);
        Self { rate: Arc::new(rate), by: config.by, name }
    }

    fn limit(&self) -> Limit {
        let owner = match self.by {
            LimitBy::Flow => Owner::Flow([Bucket::default(); 2]),
            LimitBy::Client => Owner::Client(self.name),
        };
        Limit { rate: self.rate.clone(), owner }
    }
}

impl Factory for LimitFactory {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(self.limit())
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(self.limit())
    }
}

/// One flow's instance.
struct Limit {
    rate: Arc<Rate>,
    owner: Owner,
}

/// Who owns the buckets.
enum Owner {
    Flow([Bucket; 2]),
    /// The client, under the hash of the filter's name.
    Client(u64),
}

impl Owner {
    /// The stream's bucket, or `None` where the core keeps no more.
    fn bucket<'a>(
        &'a mut self,
        flow: &Flow,
        services: &'a mut Services,
        stream: Stream,
        now: Instant,
    ) -> Option<&'a mut Bucket> {
        let buckets = match self {
            Self::Flow(buckets) => buckets,
            Self::Client(name) => services.buckets.of((*name, (*flow.client.ip()).into()), now)?,
        };
        Some(&mut buckets[stream as usize])
    }
}

const NO_BUCKET: &str = "more clients are limited than the core keeps account of";

impl StreamFilter for Limit {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        bytes: &[u8],
        _held: usize,
        _end: bool,
    ) -> Verdict {
        let Some(bucket) = self.owner.bucket(call.flow, call.services, stream, call.now) else {
            call.flow.verdict = Some(NO_BUCKET.into());
            return Verdict::Reset(CloseReason::Resources);
        };
        let rate = &*self.rate;
        let waiting = bytes.len() as u64;
        let mut passed = waiting.min(bucket.available(rate, call.now));
        if passed < waiting.min(rate.quantum()) {
            passed = 0;
        }
        bucket.take(rate, call.now, passed);
        if passed < waiting {
            *call.wake = Some(bucket.when(rate, (waiting - passed).min(rate.quantum())));
        }
        // What passes was counted as a usize above.
        Verdict::Pass(usize::try_from(passed).unwrap_or(usize::MAX))
    }

    /// What waits is bounded by the sender's receive window, which is what slows the sender down.
    fn budget(&self) -> usize {
        usize::MAX
    }
}

impl DatagramFilter for Limit {
    fn datagram(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8]) -> DatagramVerdict {
        let Some(bucket) = self.owner.bucket(call.flow, call.services, stream, call.now) else {
            call.flow.verdict = Some(NO_BUCKET.into());
            return DatagramVerdict::Close(CloseReason::Resources);
        };
        // A datagram longer than the burst passes when the bucket is full, and leaves a debt.
        let needed = (bytes.len() as u64).min(self.rate.burst);
        if bucket.available(&self.rate, call.now) < needed {
            return DatagramVerdict::Delay(bucket.when(&self.rate, needed));
        }
        bucket.take(&self.rate, call.now, bytes.len() as u64);
        DatagramVerdict::Pass
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { bytes_per_second: 1_000_000, burst: 10_000 };

    #[test]
    fn what_a_bucket_promises_for_a_time_is_there_at_that_time() {
        for bytes_per_second in [1, 7, 1_000_003, 12_500_000_000] {
            let rate = Rate { bytes_per_second, burst: 10_000 };
            let now = Instant::from_secs(100);
            let mut bucket = Bucket::default();
            assert_eq!(bucket.available(&rate, now), 10_000);
            bucket.take(&rate, now, 10_000);
            for bytes in [1, 1448, 10_000] {
                let when = bucket.when(&rate, bytes);
                assert!(bucket.available(&rate, when) >= bytes, "{bytes} at {bytes_per_second}");
            }
        }
    }

    #[test]
    fn a_bucket_that_is_full_again_is_forgotten_and_a_busy_one_is_not() {
        let mut buckets = Buckets::default();
        let key = |host: u32| (0, IpAddr::from(host.to_be_bytes()));
        let mut now = Instant::from_secs(1);
        for host in 0..10_000 {
            buckets.of(key(u32::MAX), now).unwrap()[0].take(&RATE, now, 1_000);
            buckets.of(key(host), now).unwrap()[0].take(&RATE, now, 1_000);
            now += Duration::from_micros(500);
        }
        assert!(buckets.slots.len() < 100, "{} slots", buckets.slots.len());
        assert_eq!(buckets.slots.len(), buckets.places.len());
        assert!(buckets.of(key(u32::MAX), now).unwrap()[0].available(&RATE, now) < 10_000 - 1_000);
    }

    #[test]
    fn clients_beyond_the_table_are_refused_until_one_is_idle() {
        let mut buckets = Buckets::default();
        let now = Instant::from_secs(1);
        let key = |host: usize| (0, IpAddr::from(u32::try_from(host).unwrap().to_be_bytes()));
        for host in 0..CLIENTS {
            buckets.of(key(host), now).unwrap()[0].take(&RATE, now, 1_000);
        }
        assert!(buckets.of(key(CLIENTS), now).is_none());
        assert!(buckets.of(key(CLIENTS), now + Duration::from_secs(1)).is_some());
    }
}
