//! Neighbors: which link address a next hop has, asked by ARP, aged as RFC 4861 section 7.3 ages.
//!
//! Runs on: worker. Allocates: a queue per neighbor that is being asked for. Blocks: never.
//!
//! ```text
//!              use                  answer                 30 s, use               answer
//!   (unknown) -----> incomplete -----------> reachable -------------> probe ----------------> reachable
//!                     |  ^  asks all, 1/s     ^                       |  asks the old station, 1/s
//!             3 tries |  '--------------------+--------- 3 tries -----'  (packets still go there)
//!                     v                       | answer
//!                   failed (3 s) -------------'          stale: told us by its own question; probed when used
//! ```
//!
//! A known station's link address changes only after that station has stopped answering: a message that claims otherwise
//! is refused, and starts a probe, so a station that really moved is found within seconds. Packets wait in the order in
//! which they came; where too many do, the newest is dropped.

use core::net::Ipv4Addr;
use std::collections::HashMap;

use foldhash::fast::RandomState;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wheel::Wheel;
use pnat_shared::wire::arp;
use pnat_shared::wire::ethernet::Mac;

/// Neighbors per worker.
const CAPACITY: usize = 16_384;
/// Of them, how many may be asked for at a time: a scan of a large prefix must not use up the table.
const MAX_ASKED: usize = CAPACITY / 4;
/// Packets that wait for one neighbor, and for all.
const QUEUE: usize = 32;
const QUEUE_ALL: usize = 1024;
const RETRY: Duration = Duration::from_secs(1);
const TRIES: u8 = 3;
/// How long an answer is trusted, and how long the lack of one.
const REACHABLE: Duration = Duration::from_secs(30);
const NEGATIVE: Duration = Duration::from_secs(3);
/// After this long without use a neighbor is forgotten.
const FORGET: Duration = Duration::from_secs(600);
const TICK: Duration = Duration::from_millis(100);

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Free,
    Incomplete,
    Reachable,
    Stale,
    Probe,
    Failed,
}

#[derive(Debug)]
struct Neighbor<F> {
    addr: Ipv4Addr,
    mac: Mac,
    port: u8,
    state: State,
    /// Questions asked since the last answer.
    tries: u8,
    /// When it answered last.
    confirmed: Instant,
    /// When a packet wanted it last; the beginning of time where none has.
    used: Instant,
    waiting: Vec<F>,
}

/// An ARP question to be sent.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    pub port: u8,
    pub target: Ipv4Addr,
    /// The station asked; broadcast where it is not known.
    pub to: Mac,
}

/// What is known of a next hop.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Its link address, and where it stands in the table: the hint for the next time.
    Known { mac: Mac, slot: u16 },
    /// It is being asked for: [`Neighbors::wait`] takes the packet.
    Asked { slot: u16 },
    /// It did not answer.
    Failed,
    /// The table is full of neighbors in use.
    NoRoom,
}

/// What a message was worth.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Lesson {
    /// It told something, or repeated what is known.
    Believed,
    /// It answers a question that was not asked here.
    Unasked,
    /// It claims a known station's address for another one.
    Refused,
}

/// One worker's neighbors on all ports.
#[derive(Debug)]
pub struct Neighbors<F> {
    table: Vec<Neighbor<F>>,
    slots: HashMap<(u8, Ipv4Addr), u16, RandomState>,
    free: Vec<u16>,
    wheel: Wheel,
    fired: Vec<u32>,
    /// Where the search for one to forget goes on.
    hand: usize,
    asked: usize,
    waiting: usize,
    asks: Vec<Ask>,
}

impl<F> Neighbors<F> {
    pub fn new(now: Instant) -> Self {
        Self {
            table: Vec::new(),
            slots: HashMap::default(),
            free: Vec::new(),
            wheel: Wheel::new(TICK, now),
            fired: Vec::new(),
            hand: 0,
            asked: 0,
            waiting: 0,
            asks: Vec::new(),
        }
    }

    /// Looks a next hop up, and asks for it where it is not known or was not heard of for a while. `hint` is the slot of
    /// the last time, or anything.
    #[inline]
    pub fn resolve(&mut self, port: u8, addr: Ipv4Addr, hint: u16, now: Instant) -> Hop {
        let slot = match self.table.get(usize::from(hint)) {
            Some(n) if n.addr == addr && n.port == port && n.state != State::Free => hint,
            _ => match self.slots.get(&(port, addr)) {
                Some(slot) => *slot,
                None => return self.ask_first(port, addr, now),
            },
        };
        let neighbor = &mut self.table[usize::from(slot)];
        neighbor.used = now;
        match neighbor.state {
            State::Reachable if now.since(neighbor.confirmed) <= REACHABLE => {}
            State::Reachable | State::Stale => self.probe(slot, now),
            State::Probe => {}
            State::Incomplete => return Hop::Asked { slot },
            State::Failed | State::Free => return Hop::Failed,
        }
        Hop::Known { mac: self.table[usize::from(slot)].mac, slot }
    }

    /// Keeps a packet until its next hop ([`Hop::Asked`]) answers; gives it back where too many wait.
    pub fn wait(&mut self, slot: u16, frame: F) -> Result<(), F> {
        match self.table.get_mut(usize::from(slot)) {
            Some(n)
                if n.state == State::Incomplete && n.waiting.len() < QUEUE && self.waiting < QUEUE_ALL =>
            {
                n.waiting.push(frame);
                self.waiting += 1;
                Ok(())
            }
            _ => Err(frame),
        }
    }

    /// Packets that wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Takes the questions that are to be sent.
    pub fn asks(&mut self) -> Vec<Ask> {
        core::mem::take(&mut self.asks)
    }

    pub fn has_asks(&self) -> bool {
        !self.asks.is_empty()
    }

    /// Learns from a message whose sender was found possible. `released` gets the packets that waited for the sender,
    /// and the answer is where they go.
    pub fn learn(&mut self, port: u8, message: &arp::Message, now: Instant, released: &mut Vec<F>) -> Lesson {
        let is_answer = message.operation == arp::Operation::Reply;
        let Some(slot) = self.slots.get(&(port, message.sender)).copied() else {
            // Nobody asked; but who asks for us is about to be answered, so it is worth knowing.
            if is_answer {
                return Lesson::Unasked;
            }
            if let Some(slot) = self.insert(port, message.sender, now) {
                // Until a packet wants it, it is the first to make room: anybody can introduce thousands.
                self.table[usize::from(slot)].used = Instant::ZERO;
                self.settle(slot, State::Stale, message.sender_mac, now);
            }
            return Lesson::Believed;
        };
        let neighbor = &mut self.table[usize::from(slot)];
        match neighbor.state {
            State::Incomplete | State::Failed => {
                let state = if is_answer { State::Reachable } else { State::Stale };
                self.waiting -= neighbor.waiting.len();
                released.append(&mut neighbor.waiting);
                self.settle(slot, state, message.sender_mac, now);
            }
            _ if neighbor.mac != message.sender_mac => {
                if neighbor.state != State::Probe {
                    self.probe(slot, now);
                }
                return Lesson::Refused;
            }
            State::Probe if is_answer => self.settle(slot, State::Reachable, message.sender_mac, now),
            _ => {}
        }
        Lesson::Believed
    }

    /// Asks again, gives up and forgets. `failed` gets the packets (and their port) whose next hop did not answer.
    pub fn on_timer(&mut self, now: Instant, failed: &mut Vec<(u8, F)>) {
        let mut fired = core::mem::take(&mut self.fired);
        self.wheel.expire(now, 256, &mut fired);
        for slot in fired.drain(..).filter_map(|slot| u16::try_from(slot).ok()) {
            let Some(neighbor) = self.table.get_mut(usize::from(slot)) else { continue };
            match neighbor.state {
                State::Incomplete | State::Probe if neighbor.tries < TRIES => self.ask(slot, now),
                State::Probe => {
                    neighbor.state = State::Incomplete;
                    neighbor.tries = 0;
                    self.asked += 1;
                    self.ask(slot, now);
                }
                State::Incomplete => {
                    neighbor.state = State::Failed;
                    self.asked -= 1;
                    self.waiting -= neighbor.waiting.len();
                    failed.extend(neighbor.waiting.drain(..).map(|frame| (neighbor.port, frame)));
                    self.arm(slot, now + NEGATIVE);
                }
                State::Reachable | State::Stale if now.since(neighbor.used) < FORGET => {
                    let until = neighbor.used + FORGET;
                    self.arm(slot, until);
                }
                State::Reachable | State::Stale | State::Failed => self.remove(slot),
                State::Free => {}
            }
        }
        self.fired = fired;
    }

    /// A time before which [`Neighbors::on_timer`] has nothing to do.
    pub fn deadline(&self) -> Option<Instant> {
        self.wheel.next_fire()
    }

    fn arm(&mut self, slot: u16, deadline: Instant) {
        self.wheel.arm(u32::from(slot), deadline);
    }

    fn ask_first(&mut self, port: u8, addr: Ipv4Addr, now: Instant) -> Hop {
        if self.asked >= MAX_ASKED {
            return Hop::NoRoom;
        }
        let Some(slot) = self.insert(port, addr, now) else { return Hop::NoRoom };
        self.ask(slot, now);
        Hop::Asked { slot }
    }

    fn probe(&mut self, slot: u16, now: Instant) {
        let neighbor = &mut self.table[usize::from(slot)];
        neighbor.state = State::Probe;
        neighbor.tries = 0;
        self.ask(slot, now);
    }

    /// Asks, and sets the timer for the next time.
    fn ask(&mut self, slot: u16, now: Instant) {
        let neighbor = &mut self.table[usize::from(slot)];
        neighbor.tries += 1;
        let to = if neighbor.state == State::Probe { neighbor.mac } else { Mac::BROADCAST };
        self.asks.push(Ask { port: neighbor.port, target: neighbor.addr, to });
        self.arm(slot, now + RETRY);
    }

    fn settle(&mut self, slot: u16, state: State, mac: Mac, now: Instant) {
        let neighbor = &mut self.table[usize::from(slot)];
        if neighbor.state == State::Incomplete {
            self.asked -= 1;
        }
        neighbor.state = state;
        neighbor.mac = mac;
        neighbor.confirmed = now;
        self.arm(slot, now + FORGET);
    }

    /// An entry for a new neighbor, counted as asked for; the caller asks or knows the answer.
    fn insert(&mut self, port: u8, addr: Ipv4Addr, now: Instant) -> Option<u16> {
        let slot = if let Some(slot) = self.free.pop() {
            slot
        } else if self.table.len() < CAPACITY {
            self.table.push(Neighbor {
                addr: Ipv4Addr::UNSPECIFIED,
                mac: Mac::default(),
                port: 0,
                state: State::Free,
                tries: 0,
                confirmed: now,
                used: now,
                waiting: Vec::new(),
            });
            (self.table.len() - 1) as u16
        } else {
            self.forget_one(now)?
        };
        let neighbor = &mut self.table[usize::from(slot)];
        (neighbor.addr, neighbor.port, neighbor.state) = (addr, port, State::Incomplete);
        (neighbor.tries, neighbor.used) = (0, now);
        self.asked += 1;
        self.slots.insert((port, addr), slot);
        Some(slot)
    }

    /// Makes room by forgetting a neighbor that is not in use.
    fn forget_one(&mut self, now: Instant) -> Option<u16> {
        for _ in 0..64 {
            self.hand = (self.hand + 1) % self.table.len();
            let neighbor = &self.table[self.hand];
            let is_idle = match neighbor.state {
                State::Failed => true,
                State::Stale | State::Reachable => {
                    neighbor.used == Instant::ZERO || now.since(neighbor.used) > REACHABLE
                }
                State::Incomplete | State::Probe | State::Free => false,
            };
            if is_idle {
                self.remove(self.hand as u16);
                return self.free.pop();
            }
        }
        None
    }

    fn remove(&mut self, slot: u16) {
        let neighbor = &mut self.table[usize::from(slot)];
        self.slots.remove(&(neighbor.port, neighbor.addr));
        neighbor.state = State::Free;
        neighbor.addr = Ipv4Addr::UNSPECIFIED;
        neighbor.waiting = Vec::new();
        self.wheel.cancel(u32::from(slot));
        self.free.push(slot);
    }
}

#[cfg(test)]
mod tests;
