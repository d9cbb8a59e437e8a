//! One trial: a source and a sink on a medium, from the first frame to the last straggler.
//!
//! Runs on: the generator's core. Allocates: at the start. Blocks: as the medium does.

use std::sync::Arc;

use anyhow::Result;
use hdrhistogram::Histogram;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::stats::Counter;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet;
use serde::{Deserialize, Serialize};

use super::arrivals::Counts;
use super::inside::Inside;
use super::schedule::{Rate, Schedule};
use super::source::Content;
use super::{Sink, Source};

/// Frames that are given to a medium at a time.
const BURST: usize = 32;
/// Bursts between two looks at what has arrived, where the generator is late. Few, or what comes back meanwhile fills queues.
const MOST_BURSTS: usize = 4;
/// Between a trial's creation, when tables are made, and its first frame.
const LEAD: Duration = Duration::from_millis(1);
/// How finely a trial's course is told.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long after a trial's end frames that are due may still be sent: this part of its duration.
const GRACE: u32 = 10;

/// What lies between the generator's two ports, and what time it is there.
pub trait Medium {
    type Frame: Frame;
    type Pool: FramePool<Self::Frame>;

    /// What is written before the packets that it carries.
    fn link(&self) -> ethernet::Header;

    fn now(&mut self) -> Instant;

    fn pool(&mut self) -> &mut Self::Pool;

    /// Sends all frames in order and leaves `burst` empty.
    fn transmit(&mut self, burst: &mut Vec<Self::Frame>);

    /// Appends what has arrived, and lets what is under way get further.
    fn receive(&mut self, burst: &mut Vec<Self::Frame>);

    /// Nothing is due before `until`: a medium with a clock of its own may jump there, but not over an arrival.
    fn wait(&mut self, until: Instant);

    /// What the medium itself has counted since it exists.
    fn tally(&mut self) -> Tally;

    /// A trial begins: what the gateway has measured before is no more of interest.
    fn begin(&mut self) {}

    /// What the gateway has measured since then, where the medium has one of its own.
    fn inside(&mut self) -> Option<Inside> {
        None
    }
}

/// What a medium knows by itself.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Frames that the generator's own port did not take: they were never sent.
    pub refused: u64,
    /// Frames that found the receive queue of the device under test full, where the generator can see that.
    pub missed: u64,
    /// Frames that a wire was told to lose and to double.
    pub lost: u64,
    pub duplicated: u64,
}

impl Tally {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            refused: self.refused - before.refused,
            missed: self.missed - before.missed,
            lost: self.lost - before.lost,
            duplicated: self.duplicated - before.duplicated,
        }
    }
}

/// What is to be sent in one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// Tells its frames from those of other trials.
    pub run: u16,
    pub content: Content,
    pub rate: Rate,
    /// Frames that are due at the same time.
    pub burst: u32,
    pub duration: Duration,
    /// At which rate it goes on, and for how long.
    pub then: Option<(Rate, Duration)>,
    /// How long stragglers are waited for after the last frame.
    pub drain: Duration,
}

/// What a trial has shown.
#[derive(Clone, Debug)]
pub struct Outcome {
    pub duration: Duration,
    /// Frames that were meant to be sent.
    pub intended: u64,
    /// Frames that the generator's port took, and the bytes of all that were given to it, frame check sequences included.
    pub sent: u64,
    pub sent_bytes: u64,
    pub arrived: Counts,
    /// The last frame that was given to the port and has not come, counted from 0.
    pub last_missing: Option<u64>,
    pub received_bytes: u64,
    pub corrupt: u64,
    pub foreign: u64,
    pub tally: Tally,
    /// Second by second.
    pub intervals: Vec<Interval>,
    /// From intended send time to arrival, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From intended send time to when the frame was sent.
    pub late: Histogram<u64>,
    /// What the gateway itself has measured, where it is the medium's.
    pub inside: Option<Box<Inside>>,
}

impl Outcome {
    /// Frames that were sent and have not come.
    pub const fn lost(&self) -> u64 {
        self.sent.saturating_sub(self.arrived.received)
    }

    /// Of the frames sent, from 0 to 1.
    pub fn loss_ratio(&self) -> f64 {
        if self.sent == 0 { 0.0 } else { self.lost() as f64 / self.sent as f64 }
    }

    /// Whether the generator itself fell behind: it sent less than 99.9 % of what was intended.
    pub fn is_short(&self) -> bool {
        (self.sent as f64) < self.intended as f64 * 0.999
    }
}

/// What happened in a second of a trial, or in what was left of one at its end.
#[derive(Copy, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// When it ended, in seconds since the trial's start. It began where the one before ended.
    pub end: f64,
    /// Frames given to the generator's port, and different frames that came.
    pub sent: u64,
    pub received: u64,
    /// Of the frames that came, in nanoseconds.
    pub mean_latency: f64,
    pub max_latency: u64,
}

/// Cuts a trial into intervals.
#[derive(Debug)]
struct Intervals {
    /// When the one that is under way ends.
    end: Instant,
    /// What had been counted where it began: frames sent and received, and the sum of latencies.
    before: (u64, u64, u128),
    done: Vec<Interval>,
}

impl Intervals {
    fn new(start: Instant, lasts: Duration) -> Self {
        let most = lasts.as_secs() as usize + 2;
        Self { end: start + INTERVAL, before: (0, 0, 0), done: Vec::with_capacity(most) }
    }

    fn cut(&mut self, start: Instant, now: Instant, source: &Source, sink: &mut Sink) {
        let counted = (source.frames(), sink.arrivals().counts().received, sink.latency_sum());
        let received = counted.1 - self.before.1;
        let sum = counted.2 - self.before.2;
        self.done.push(Interval {
            end: (now - start).as_secs_f64(),
            sent: counted.0 - self.before.0,
            received,
            mean_latency: if received == 0 { 0.0 } else { sum as f64 / received as f64 },
            max_latency: sink.take_longest(),
        });
        self.before = counted;
        // A stall makes one long interval of several.
        while self.end <= now {
            self.end += INTERVAL;
        }
    }
}

/// How far a trial has come, for whoever watches.
#[derive(Debug, Default)]
pub struct Progress {
    pub sent: Counter,
    pub received: Counter,
    /// Nanoseconds since the trial's start.
    pub elapsed: Counter,
}

/// Runs trials, one after the other, on the same device under test.
pub trait Tester {
    fn run(&mut self, trial: Trial) -> Result<Outcome>;
}

/// A tester whose medium belongs to the calling thread.
#[derive(Debug)]
pub struct Local<M> {
    pub medium: M,
    pub progress: Arc<Progress>,
}

impl<M: Medium> Tester for Local<M> {
    fn run(&mut self, trial: Trial) -> Result<Outcome> {
        let mut running = Running::new(trial, &mut self.medium, self.progress.clone());
        while running.turn(&mut self.medium) {}
        Ok(running.outcome(&mut self.medium))
    }
}

/// A trial that is under way.
#[derive(Debug)]
pub struct Running<F> {
    source: Source,
    sink: Sink,
    start: Instant,
    duration: Duration,
    drain: Duration,
    intended: u64,
    /// When stragglers are not waited for any longer; set once the last frame is sent.
    end: Option<Instant>,
    before: Tally,
    intervals: Intervals,
    burst: Vec<F>,
    progress: Arc<Progress>,
}

impl<F: Frame> Running<F> {
    pub fn new(trial: Trial, medium: &mut impl Medium<Frame = F>, progress: Arc<Progress>) -> Self {
        let Trial { run, content, rate, burst, duration, then, drain } = trial;
        let schedule = Schedule::new(rate, burst, duration);
        let (schedule, duration) = match then {
            Some((rate, further)) => (schedule.then(rate, further), duration + further),
            None => (schedule, duration),
        };
        let intended = schedule.total();
        let flows = content.flows.count;
        // Tables are made before the clock is read, for that takes time.
        let mut sink = Sink::new(run, flows, intended);
        medium.begin();
        let start = medium.now() + LEAD;
        sink.begin(start);
        let deadline = start + duration + duration / GRACE;
        let source = Source::new(run, start, deadline, medium.link(), content, schedule);
        Self {
            source,
            sink,
            start,
            duration,
            drain,
            intended,
            end: None,
            before: medium.tally(),
            intervals: Intervals::new(start, duration + drain),
            burst: Vec::with_capacity(BURST),
            progress,
        }
    }

    /// Sends what is due and takes what has come. Answers false when the trial is over.
    pub fn turn(&mut self, medium: &mut impl Medium<Frame = F>) -> bool {
        for _ in 0..MOST_BURSTS {
            let now = medium.now();
            self.source.give(now, BURST, medium.pool(), &mut self.burst);
            if self.burst.is_empty() {
                break;
            }
            medium.transmit(&mut self.burst);
        }
        medium.receive(&mut self.burst);
        let now = medium.now();
        self.sink.take(&self.burst, now, self.source.frames());
        let came = !self.burst.is_empty();
        self.burst.clear();
        self.tell(now);
        if now >= self.intervals.end {
            self.intervals.cut(self.start, now, &self.source, &mut self.sink);
        }
        if self.end.is_none() && self.source.is_over(now) {
            self.end = Some(now + self.drain);
        }
        let next = match self.end {
            // What waits at the port has arrived, however late the generator looks; strangers' frames are not waited for.
            Some(end) if now >= end && (!came || now >= end + self.drain) => {
                self.intervals.cut(self.start, now, &self.source, &mut self.sink);
                return false;
            }
            Some(end) => end,
            None => self.source.due().unwrap_or(now),
        };
        if !came && next > now {
            medium.wait(next);
        }
        true
    }

    fn tell(&self, now: Instant) {
        self.progress.sent.set(self.source.frames());
        self.progress.received.set(self.sink.arrivals().counts().received);
        self.progress.elapsed.set((now - self.start).as_nanos() as u64);
    }

    pub fn outcome(self, medium: &mut impl Medium<Frame = F>) -> Outcome {
        let tally = medium.tally().since(self.before);
        Outcome {
            duration: self.duration,
            intended: self.intended,
            sent: self.source.frames() - tally.refused,
            sent_bytes: self.source.bytes(),
            arrived: *self.sink.arrivals().counts(),
            last_missing: self.sink.arrivals().last_missing(self.source.frames()),
            received_bytes: self.sink.bytes(),
            corrupt: self.sink.corrupt(),
            foreign: self.sink.foreign(),
            tally,
            intervals: self.intervals.done,
            latency: self.sink.latency().clone(),
            late: self.source.late().clone(),
            inside: medium.inside().map(Box::new),
        }
    }
}
