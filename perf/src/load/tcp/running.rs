//! One trial of TCP connections: from the first SYN until all have come to their end, or were given up.
//!
//! Runs on: the generator's core. Allocates: at the start, and as there are more connections. Blocks: as the medium does.

use std::sync::Arc;

use anyhow::Result;
use pnat_shared::flow::Side;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use serde::{Deserialize, Serialize};

use super::Duplex;
use super::account::{ClassAccount, Counts};
use super::ends::{Desk, Ends};
use super::sockets::ClientSockets;
use super::spec::{self, Class, Talk, TcpLoad};
use super::talk::Preamble;
use crate::load::schedule::Schedule;
use crate::load::trial::{Progress, Tally};

const SIDES: [Side; 2] = [Side::First, Side::Second];
/// Connections that are opened between two looks at what has arrived, at most.
const MOST_OPENED: usize = 64;
/// Connections that are given up at once, when time is up.
const MOST_ABORTED: usize = 256;
/// Between a trial's creation and its first SYN.
const LEAD: Duration = Duration::from_millis(1);
/// How finely a trial's course is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after the time for opening connections those that are due may still be opened: this part of it.
const GRACE: u32 = 10;
/// How often it is seen to that as many connections are open as are to be.
const REFILL: Duration = Duration::from_micros(100);

/// What is to be done in one trial.
#[derive(Clone, Debug)]
pub struct TcpTrial {
    /// Tells its connections from those of other trials.
    pub run: u16,
    pub load: TcpLoad,
    /// How long connections are opened.
    pub duration: Duration,
    /// How long those that are open then may take to come to their end.
    pub drain: Duration,
}

/// What a trial has shown.
#[derive(Clone, Debug)]
pub struct TcpOutcome {
    /// How long connections were opened.
    pub duration: Duration,
    /// From the first SYN to the end, drain included.
    pub lasted: Duration,
    /// By class, in the scenario's order.
    pub classes: Vec<ClassAccount>,
    /// Of all classes, when `duration` was over.
    pub at_close: Counts,
    /// Connections open at a time, at most and when `duration` was over.
    pub most_open: u64,
    pub open_at_close: u64,
    /// Frames with a wrong checksum, and frames of no connection.
    pub corrupt: u64,
    pub foreign: u64,
    pub tally: Tally,
    /// Memory of the whole process, in bytes, before the first connection and when `duration` was over; 0 where the system does
    /// not tell.
    pub resident: [u64; 2],
    pub intervals: Vec<TcpInterval>,
}

impl TcpOutcome {
    /// All classes together.
    pub fn all(&self) -> ClassAccount {
        let mut all = ClassAccount::new();
        self.classes.iter().for_each(|class| all.add(class));
        all
    }

    pub fn counts(&self) -> Counts {
        total(&self.classes)
    }
}

/// What happened in a second of a trial, or in what was left of one at its end.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TcpInterval {
    /// When it ended, in seconds since the trial's start. It began where the one before ended.
    pub end: f64,
    pub attempted: u64,
    pub established: u64,
    pub failed: u64,
    pub transactions: u64,
    /// Bytes of content that came to servers and to clients.
    pub to_servers: u64,
    pub to_clients: u64,
    /// Connections open at its end.
    pub open: u64,
}

/// Runs trials, one after the other, on the same device under test.
pub trait TcpTester {
    fn run(&mut self, trial: TcpTrial) -> Result<TcpOutcome>;
}

/// A tester whose medium belongs to the calling thread.
#[derive(Debug)]
pub struct LocalTcp<M> {
    medium: M,
    progress: Arc<Progress>,
    /// By class: they rest from one trial to the next, too.
    sockets: Vec<ClientSockets>,
}

impl<M: Duplex> LocalTcp<M> {
    /// For trials of `load`, or of the same classes at other rates.
    pub fn new(medium: M, load: &TcpLoad, progress: Arc<Progress>) -> Self {
        Self { medium, progress, sockets: client_sockets(load) }
    }
}

impl<M: Duplex> TcpTester for LocalTcp<M> {
    fn run(&mut self, trial: TcpTrial) -> Result<TcpOutcome> {
        let sockets = std::mem::take(&mut self.sockets);
        let mut running = TcpRunning::new(trial, sockets, &mut self.medium, self.progress.clone());
        while running.turn(&mut self.medium) {}
        let (outcome, sockets) = running.outcome(&mut self.medium);
        self.sockets = sockets;
        Ok(outcome)
    }
}

/// Each class's, none of them used.
pub fn client_sockets(load: &TcpLoad) -> Vec<ClientSockets> {
    load.classes.iter().map(|class| ClientSockets::new(class.clients.clone(), load.time_wait)).collect()
}

/// When connections of a class are opened.
#[derive(Debug)]
enum Opening {
    Rate(Schedule),
    Concurrent { count: u32, ramp: Duration },
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    /// No connection is opened any more, and those that are open have until then.
    Draining(Instant),
    /// What is left is given up.
    Aborting,
}

/// A trial that is under way.
#[derive(Debug)]
pub struct TcpRunning<F> {
    trial: TcpTrial,
    openings: Vec<Opening>,
    accounts: Vec<ClassAccount>,
    sockets: Vec<ClientSockets>,
    ends: Ends<F>,
    start: Instant,
    now: Instant,
    phase: Phase,
    /// When the last connection was opened, about.
    closed: Instant,
    patience: Duration,
    /// Number of the next connection.
    number: u32,
    at_close: Counts,
    open_at_close: u64,
    before: Tally,
    resident: [u64; 2],
    intervals: Vec<TcpInterval>,
    interval_end: Instant,
    counted: Counts,
    arrived: [Vec<F>; 2],
    out: [Vec<F>; 2],
    progress: Arc<Progress>,
}

impl<F: Frame> TcpRunning<F> {
    /// `sockets` are those of the trial's classes ([`client_sockets`]), as the last trial has left them.
    pub fn new(
        trial: TcpTrial,
        sockets: Vec<ClientSockets>,
        medium: &mut impl Duplex<Frame = F>,
        progress: Arc<Progress>,
    ) -> Self {
        let classes = &trial.load.classes;
        let mut accounts: Vec<_> = classes.iter().map(|_| ClassAccount::new()).collect();
        let opening = |class: &Class| match class.arrival {
            spec::Arrival::Rate(rate) => Opening::Rate(Schedule::new(rate, 1, trial.duration)),
            spec::Arrival::Concurrent { count, ramp } => Opening::Concurrent { count, ramp },
        };
        let openings: Vec<_> = classes.iter().map(opening).collect();
        for (account, opening) in accounts.iter_mut().zip(&openings) {
            if let Opening::Rate(schedule) = opening {
                account.counts.intended = schedule.total();
            }
        }
        let now = medium.now();
        let start = now + LEAD;
        // Both ends of each connection are ours.
        let ends = Ends::new(2 * trial.load.most as usize, classes.len(), now);
        Self {
            patience: classes.iter().map(patience).max().unwrap_or_default(),
            openings,
            accounts,
            sockets,
            ends,
            start,
            now,
            phase: Phase::Opening,
            closed: start,
            number: 0,
            at_close: Counts::default(),
            open_at_close: 0,
            before: medium.tally(),
            resident: [resident(), 0],
            intervals: Vec::with_capacity(trial.duration.as_secs() as usize + 2),
            interval_end: start + INTERVAL,
            counted: Counts::default(),
            arrived: Default::default(),
            out: Default::default(),
            progress,
            trial,
        }
    }

    /// Does what is due and takes what has come; where there is nothing to do, waits. Answers false when the trial is over.
    pub fn turn(&mut self, medium: &mut impl Duplex<Frame = F>) -> bool {
        medium.receive_both(&mut self.arrived);
        self.now = medium.now().max(self.now);
        self.close_in_time();
        // A port learns where its frames are to go while it is in use.
        let links = &SIDES.map(|side| medium.link_at(side));
        let Self { trial, ends, accounts, sockets, out, arrived, .. } = self;
        let mut desk = Desk {
            run: trial.run,
            classes: &trial.load.classes,
            accounts,
            sockets,
            now: self.now,
            patience: self.patience,
            is_closing: self.phase != Phase::Opening,
        };
        for frame in arrived.iter_mut().flat_map(|frames| frames.drain(..)) {
            ends.take(frame, &mut desk);
        }
        ends.expire(self.now);
        if self.phase == Phase::Opening && self.now >= self.start {
            open(&mut self.openings, &mut self.number, self.start, ends, &mut desk);
        }
        let more = match self.phase {
            Phase::Aborting => ends.abort(MOST_ABORTED, &mut desk, links, medium.pool(), out),
            _ => {
                ends.visit(&mut desk, links, medium.pool(), out);
                true
            }
        };
        for (side, burst) in SIDES.into_iter().zip(&mut self.out) {
            medium.transmit_at(side, burst);
        }
        self.tell();
        if more {
            let next = self.next();
            if next > self.now {
                medium.wait(next);
            }
        }
        more
    }

    /// Goes on to the next phase where its time has come.
    fn close_in_time(&mut self) {
        let live: u32 = self.ends.live().iter().sum();
        match self.phase {
            Phase::Opening if self.is_closing_time() => {
                self.closed = self.now;
                self.at_close = total(&self.accounts);
                self.resident[1] = resident();
                self.open_at_close = self.ends.open.now;
                self.ends.touch_all();
                self.phase = Phase::Draining(self.now + self.trial.drain);
            }
            Phase::Draining(until) if live == 0 || self.now >= until => {
                for (account, live) in self.accounts.iter_mut().zip(self.ends.live()) {
                    account.counts.unfinished = u64::from(*live);
                }
                self.phase = Phase::Aborting;
                self.cut();
            }
            _ => {}
        }
    }

    /// Whether the time is up, and all connections that were due then are opened, or too late for it.
    fn is_closing_time(&self) -> bool {
        let end = self.start + self.trial.duration;
        let is_late =
            |opening: &Opening| matches!(opening, Opening::Rate(schedule) if schedule.peek().is_some());
        self.now >= end
            && (self.now >= end + self.trial.duration / GRACE || !self.openings.iter().any(is_late))
    }

    /// When there is something to do again, unless a frame comes before.
    fn next(&self) -> Instant {
        let due = self.ends.due();
        match self.phase {
            Phase::Opening => {
                self.openings.iter().fold(due.min(self.start + self.trial.duration), |due, opening| {
                    due.min(match opening {
                        Opening::Rate(schedule) => {
                            schedule.peek().map_or(Instant::FAR, |at| self.start.plus_nanos(at))
                        }
                        Opening::Concurrent { .. } => self.now + REFILL,
                    })
                })
            }
            Phase::Draining(until) => due.min(until),
            Phase::Aborting => self.now,
        }
    }

    fn tell(&mut self) {
        if self.now >= self.interval_end && self.phase != Phase::Aborting {
            self.cut();
        }
        let counts = total(&self.accounts);
        self.progress.sent.set(counts.attempted);
        self.progress.received.set(counts.completed + counts.failed.total());
        self.progress.elapsed.set((self.now - self.start).as_nanos() as u64);
    }

    /// Ends an interval.
    fn cut(&mut self) {
        let (counts, before) = (total(&self.accounts), self.counted);
        self.intervals.push(TcpInterval {
            end: (self.now - self.start).as_secs_f64(),
            attempted: counts.attempted - before.attempted,
            established: counts.established - before.established,
            failed: counts.failed.total() - before.failed.total(),
            transactions: counts.transactions - before.transactions,
            to_servers: counts.to_servers - before.to_servers,
            to_clients: counts.to_clients - before.to_clients,
            open: self.ends.open.now,
        });
        self.counted = counts;
        while self.interval_end <= self.now {
            self.interval_end += INTERVAL;
        }
    }

    /// What it has shown, and the classes' sockets for the next one.
    pub fn outcome(mut self, medium: &mut impl Duplex<Frame = F>) -> (TcpOutcome, Vec<ClientSockets>) {
        for (account, opening) in self.accounts.iter_mut().zip(&self.openings) {
            if let Opening::Concurrent { .. } = opening {
                account.counts.intended = account.counts.attempted;
            }
        }
        let outcome = TcpOutcome {
            duration: self.closed - self.start,
            lasted: self.now - self.start,
            at_close: self.at_close,
            most_open: self.ends.open.most,
            open_at_close: self.open_at_close,
            corrupt: self.ends.strays.corrupt,
            foreign: self.ends.strays.foreign,
            tally: medium.tally().since(self.before),
            resident: self.resident,
            intervals: self.intervals,
            classes: self.accounts,
        };
        (outcome, self.sockets)
    }
}

/// Opens the connections that are due.
fn open<F: Frame>(
    openings: &mut [Opening],
    number: &mut u32,
    start: Instant,
    ends: &mut Ends<F>,
    desk: &mut Desk<'_>,
) {
    let mut connect = |class: usize, intended, ends: &mut Ends<F>, desk: &mut Desk<'_>| {
        *number = number.wrapping_add(1);
        ends.connect(Preamble { run: desk.run, class: class as u16, number: *number }, intended, desk)
    };
    for (class, opening) in openings.iter_mut().enumerate() {
        match opening {
            Opening::Rate(schedule) => {
                let now = desk.now;
                let due = |schedule: &Schedule| {
                    schedule.peek().map(|at| start.plus_nanos(at)).filter(|at| *at <= now)
                };
                for _ in 0..MOST_OPENED {
                    let Some(intended) = due(schedule) else { break };
                    if !connect(class, intended, ends, desk) {
                        desk.accounts[class].counts.unstarted += 1;
                    }
                    schedule.advance();
                }
            }
            Opening::Concurrent { count, ramp } => {
                let passed = (desk.now - start).as_secs_f64() / ramp.as_secs_f64().max(1e-9);
                let wanted = (f64::from(*count) * passed.min(1.0)).ceil() as u32;
                for _ in 0..MOST_OPENED {
                    if ends.live()[class] >= wanted || !connect(class, desk.now, ends, desk) {
                        break;
                    }
                }
            }
        }
    }
}

fn total(accounts: &[ClassAccount]) -> Counts {
    let mut all = Counts::default();
    accounts.iter().for_each(|account| all.add(&account.counts));
    all
}

/// How long a server must bear with a client of this class that says nothing.
fn patience(class: &Class) -> Duration {
    let between = match class.talk {
        Talk::Requests(requests) => requests.think,
        Talk::Bulk(bulk) => bulk.lasts,
        Talk::HalfOpen(time) => time,
    };
    2 * class.timeout + between
}

/// Bytes of memory that the process has.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
