//! The cache's own thread: it finds what is not in memory, lets one request go where many ask for the same, and stores.
//!
//! Runs on: a thread of its own. Allocates: freely. Blocks: for jobs.
//!
//! ```text
//!   Look --> in memory? --yes--> Found
//!              | no                                  .-- first: Lead, and goes to the server
//!            on disk? --yes--> Loaded --> Found      |
//!              | no                                  |   Store, Uncacheable or Land, in the end
//!              '------------> a flight for the key --+-- others: wait for that
//! ```

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::Shared;
use super::counters::Count;
use super::fetch::Taken;
use super::key::{self, Key};
use super::purge::{AHEAD, Pattern, PurgeFault, Rules};
use super::store::Store;
use super::stored::{Record, Stored, Variants};
use crate::filter::Ticket;

/// How long an invalidation is remembered: longer than any response takes that was asked for before it.
const REMEMBERED: Duration = Duration::from_secs(3600);

/// Invalidations remembered at most; beyond that, nothing is stored that was asked for before the last one.
const MOST_INVALIDATED: usize = 1 << 16;

/// What proxy cores and the control API want of a cache.
#[derive(Debug)]
pub(super) enum Job {
    Look(Look),
    /// What lay on disk.
    Loaded(Key, Option<Record>),
    Store(Box<Arrival>),
    /// What came for this key is not to be stored, so nobody should wait for it until then.
    Uncacheable {
        key: Key,
        now: Duration,
        until: Duration,
        flight: Option<Flight>,
    },
    /// The response of a flight was not stored, for whatever reason.
    Land {
        key: Key,
        number: u64,
    },
    /// What lies under this resource's key does not hold any more.
    Invalidate {
        key: Key,
        now: Duration,
    },
    Touch(Key),
    Purge {
        pattern: Pattern,
        now: Duration,
        removed: Sender<Result<u64, PurgeFault>>,
    },
    /// Everything before this is done.
    Sync(Sender<()>),
    Stop,
}

/// Somebody looks for what lies under a key.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) key: Key,
    /// What they have found there already, and cannot use.
    pub(super) known: Option<Record>,
    /// Whether they would ask the server for all, or wait for who does.
    pub(super) can_lead: bool,
    pub(super) patience: Patience,
    pub(super) now: Duration,
    pub(super) ticket: Ticket,
}

/// How long, and how many wait for one response.
#[derive(Copy, Clone, Debug)]
pub(super) struct Patience {
    pub(super) longest: Duration,
    pub(super) most: usize,
}

/// What they are told.
#[derive(Debug)]
pub(super) enum Reply {
    Found(Record),
    /// What they waited for: the response to another request.
    Landed(Record),
    /// There is nothing, and others wait for the response that they get.
    Lead(Flight),
    /// There is nothing, and no reason to wait.
    Go,
}

/// A complete response to be stored.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Of the resource.
    pub(super) key: Key,
    /// Names of the fields that it varies by, and their values in the request.
    pub(super) variant: Option<(Vec<String>, String)>,
    pub(super) stored: Arc<Stored>,
    /// What its content takes until it lies in the store.
    pub(super) room: Option<Taken>,
    pub(super) flight: Option<Flight>,
}

/// The duty to tell what became of the one request that many wait for. Dropped, it tells that nothing did.
#[derive(Debug)]
pub(super) struct Flight {
    key: Key,
    number: u64,
    jobs: Option<Sender<Job>>,
}

impl Flight {
    fn landed(mut self) -> (Key, u64) {
        self.jobs = None;
        (self.key.clone(), self.number)
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(jobs) = self.jobs.take() {
            // At the end of the cache nobody waits.
            let _ = jobs.send(Job::Land { key: self.key.clone(), number: self.number });
        }
    }
}

#[derive(Debug)]
struct InFlight {
    number: u64,
    /// Since when somebody waits for it.
    began: Duration,
    waiting: Vec<Look>,
}

#[derive(Debug)]
pub(super) struct Service {
    store: Store,
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    flights: HashMap<Key, InFlight>,
    flights_begun: u64,
    /// Who waits for the disk, by key.
    loading: HashMap<Key, Vec<Look>>,
    rules: Rules,
    /// By hashes of keys, which are long: one taken for another costs a response that might have been stored.
    invalidated: HashMap<u64, Duration>,
    hasher: RandomState,
    /// Nothing is stored that was asked for before this.
    floor: Duration,
    /// When somebody looked for something last.
    now: Duration,
}

impl Service {
    pub(super) fn new(store: Store, shared: Arc<Shared>, jobs: Sender<Job>, rules: Rules) -> Self {
        Self {
            store,
            shared,
            jobs,
            flights: HashMap::new(),
            flights_begun: 0,
            loading: HashMap::new(),
            rules,
            invalidated: HashMap::new(),
            hasher: RandomState::new(),
            floor: Duration::ZERO,
            now: Duration::ZERO,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        for job in jobs {
            match job {
                Job::Look(look) => self.look(look),
                Job::Loaded(key, record) => self.loaded(&key, record),
                Job::Store(arrival) => self.store(*arrival),
                Job::Uncacheable { key, now, until, flight } => self.uncacheable(key, now, until, flight),
                Job::Land { key, number } => self.land(&key, number, None),
                Job::Invalidate { key, now } => self.invalidate(key, now),
                Job::Touch(key) => self.store.touch(&key),
                Job::Purge { pattern, now, removed } => {
                    // Who asked may be gone; the purge stands.
                    let _ = removed.send(self.purge(pattern, now));
                }
                Job::Sync(done) => {
                    let _ = done.send(());
                }
                Job::Stop => break,
            }
            self.shared.gauge(&self.store);
        }
        self.store.close();
    }

    fn look(&mut self, look: Look) {
        self.now = look.now;
        self.rules.set_right(look.now);
        match self.shared.front.get(look.key.as_str()) {
            Some(record) if !look.known.as_ref().is_some_and(|known| known.is(&record)) => {
                answer(look, Reply::Found(record));
            }
            None if look.known.is_none() && self.store.may_be_on_disk(&look.key) => self.load(look),
            _ => self.fly(look),
        }
    }

    fn load(&mut self, look: Look) {
        let key = look.key.clone();
        let waiting = self.loading.entry(key.clone()).or_default();
        waiting.push(look);
        if waiting.len() == 1 {
            let jobs = self.jobs.clone();
            self.store.load(&key.clone(), move |record| {
                let _ = jobs.send(Job::Loaded(key, record));
            });
        }
    }

    fn loaded(&mut self, key: &Key, record: Option<Record>) {
        let requested = match &record {
            Some(Record::Response(stored)) => stored.moments.requested,
            Some(Record::Variants(variants)) => variants.requested,
            // Never outdated.
            Some(Record::Uncacheable(_)) | None => Duration::MAX,
        };
        // By a clock that has been set right since: it would be fresh for as much longer, and purges of that time are now of today.
        let is_ahead = requested < Duration::MAX && requested > self.now + AHEAD;
        let mut found = record;
        if let Some(newer) = self.shared.front.get(key.as_str()) {
            found = Some(newer);
        } else if self.is_outdated(key, requested) || is_ahead {
            self.store.remove(key);
            found = None;
        } else if let Some(record) = &found {
            self.store.publish(key.clone(), record.clone());
        }
        for look in self.loading.remove(key).unwrap_or_default() {
            match &found {
                Some(record) => answer(look, Reply::Found(record.clone())),
                None => self.fly(look),
            }
        }
    }

    /// Somebody has to ask the server: for others, after them, or by themselves.
    fn fly(&mut self, look: Look) {
        if !look.can_lead {
            return answer(look, Reply::Go);
        }
        match self.flights.get_mut(&look.key) {
            None => self.lead(look, Vec::new()),
            Some(flight) => {
                let is_late = look.now > flight.began + look.patience.longest;
                if is_late || flight.waiting.len() >= look.patience.most {
                    return answer(look, Reply::Go);
                }
                flight.waiting.push(look);
            }
        }
    }

    fn lead(&mut self, look: Look, waiting: Vec<Look>) {
        self.flights_begun += 1;
        let number = self.flights_begun;
        self.flights.insert(look.key.clone(), InFlight { number, began: look.now, waiting });
        let flight = Flight { key: look.key.clone(), number, jobs: Some(self.jobs.clone()) };
        answer(look, Reply::Lead(flight));
    }

    /// A flight is over. Without a reply for those who wait, the first of them goes in its place.
    fn land(&mut self, key: &Key, number: u64, reply: Option<&Landed>) {
        if self.flights.get(key).is_none_or(|flight| flight.number != number) {
            return;
        }
        let Some(mut flight) = self.flights.remove(key) else { return };
        match reply {
            Some(Landed::With(record)) => {
                for look in flight.waiting {
                    self.shared.counters.add(Count::Collapsed);
                    answer(look, Reply::Landed(record.clone()));
                }
            }
            Some(Landed::Uncacheable) => {
                for look in flight.waiting {
                    answer(look, Reply::Go);
                }
            }
            None if flight.waiting.is_empty() => {}
            None => {
                let next = flight.waiting.remove(0);
                self.lead(next, flight.waiting);
            }
        }
    }

    fn store(&mut self, arrival: Arrival) {
        let Arrival { key, variant, stored, room: _room, flight } = arrival;
        let landed = flight.map(Flight::landed);
        let requested = stored.moments.requested;
        if self.is_outdated(&key, requested) {
            self.shared.counters.add(Count::Outdated);
            if let Some((key, number)) = landed {
                self.land(&key, number, Some(&Landed::Uncacheable));
            }
            return;
        }
        let record = Record::Response(Arc::clone(&stored));
        let (own, record, resource) = match variant {
            None => (key.clone(), self.put(key, record, requested), None),
            Some((names, selected)) => {
                let generation = u64::try_from(stored.moments.received.as_nanos()).unwrap_or(u64::MAX);
                match self.variants(&key, Variants { names, generation, requested }) {
                    Record::Variants(variants) => {
                        let own = key::variant(key.as_str(), variants.generation, &selected);
                        let own = Key::from(own.as_str());
                        (own.clone(), self.put(own, record, requested), Some(Record::Variants(variants)))
                    }
                    later => (key, later, None),
                }
            }
        };
        if let Some((flown, number)) = landed {
            let record = resource.filter(|_| flown != own).unwrap_or(record);
            self.land(&flown, number, Some(&Landed::With(record)));
        }
    }

    /// What lies under a resource's key, with variants as `wanted` if nothing was asked for later than they.
    fn variants(&self, key: &Key, wanted: Variants) -> Record {
        match self.shared.front.get(key.as_str()) {
            Some(Record::Variants(there)) if there.names == wanted.names => Record::Variants(there),
            _ => {
                let requested = wanted.requested;
                self.put(key.clone(), Record::Variants(Arc::new(wanted)), requested)
            }
        }
    }

    /// Stores a record that was asked for at that time, unless one lies there that was asked for later, as by a reload; answers what
    /// lies there then.
    fn put(&self, key: Key, record: Record, requested: Duration) -> Record {
        // What is dated far ahead is from another clock.
        let is_later = |at: Duration| at > requested && at <= self.now + AHEAD;
        let later = self.shared.front.get(key.as_str()).filter(|there| match there {
            Record::Response(stored) => is_later(stored.moments.requested),
            Record::Variants(variants) => is_later(variants.requested),
            Record::Uncacheable(_) => false,
        });
        if let Some(later) = later {
            self.shared.counters.add(Count::Outdated);
            return later;
        }
        if matches!(record, Record::Response(_)) {
            self.shared.counters.add(Count::Stored);
        }
        self.store.insert(key, record.clone());
        record
    }

    fn uncacheable(&mut self, key: Key, now: Duration, until: Duration, flight: Option<Flight>) {
        let holds = match self.shared.front.get(key.as_str()) {
            // Somebody has asked for more than freshness; for others it is as good as before.
            Some(Record::Response(stored)) => stored.is_fresh(now),
            Some(Record::Variants(_)) => true,
            Some(Record::Uncacheable(_)) | None => false,
        };
        if !holds {
            if self.store.may_be_on_disk(&key) {
                self.store.remove(&key);
            }
            self.store.insert(key, Record::Uncacheable(until));
        }
        if let Some((key, number)) = flight.map(Flight::landed) {
            self.land(&key, number, Some(&Landed::Uncacheable));
        }
    }

    fn invalidate(&mut self, key: Key, now: Duration) {
        if self.store.contains(&key) {
            self.shared.counters.add(Count::Purged);
        }
        self.store.remove(&key);
        if self.invalidated.len() >= MOST_INVALIDATED {
            self.invalidated.retain(|_, at| *at + REMEMBERED > now);
            if self.invalidated.len() >= MOST_INVALIDATED {
                self.invalidated.clear();
                self.floor = now;
            }
        }
        self.invalidated.insert(self.hasher.hash_one(key.as_str()), now);
    }

    fn purge(&mut self, pattern: Pattern, now: Duration) -> Result<u64, PurgeFault> {
        let mut removed = 0;
        for (key, is_response) in self.shared.front.keys(|key| pattern.matches(key.as_str())) {
            self.store.remove(&key);
            removed += u64::from(is_response);
        }
        for _ in 0..removed {
            self.shared.counters.add(Count::Purged);
        }
        self.rules.add(pattern, now).map_err(|error| {
            self.shared.counters.add(Count::IoError);
            PurgeFault::Unwritten(error.to_string())
        })?;
        Ok(removed)
    }

    /// Whether what was asked for at that time has been removed since.
    fn is_outdated(&self, key: &Key, requested: Duration) -> bool {
        requested <= self.floor
            || self.shared.distrusts(requested)
            || self.invalidated.get(&self.hasher.hash_one(key.as_str())).is_some_and(|at| requested <= *at)
            || self.rules.match_any(key.as_str(), requested)
    }
}

/// What those get who waited.
#[derive(Debug)]
enum Landed {
    With(Record),
    Uncacheable,
}

fn answer(look: Look, reply: Reply) {
    look.ticket.answer(Box::new(reply));
}
