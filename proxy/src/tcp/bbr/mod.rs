//! BBR version 3 (draft-ietf-ccwg-bbr): sends as fast as the path delivers, by a model of its bandwidth and its delay.
//!
//! A loss is no order to halve the window here: what matters is how much was lost while how much was in flight. Up to two
//! percent cost nothing when bandwidth is probed, so on a path with random loss BBR keeps the bandwidth where CUBIC and
//! Reno fall to a few Mbit/s. Section numbers in this directory are those of the draft.
//!
//! ```text
//!   Startup ----------> Drain -------> Down ----------> Cruise ---------> Refill ---------> Up
//!     bandwidth no        queue is      ^   queue is      |   time to       |   a round       | loss, or bandwidth
//!     longer grows,       gone          |   gone          |   probe         |   later         | no longer grows
//!     or much is lost                   '---------------------------------------------------- '
//!
//!   from any of them: five seconds without a shorter round trip --> ProbeRtt --200 ms later--> Cruise, or Startup
//! ```
//!
//! | File | What it knows |
//! |---|---|
//! | `sample` | what an ACK measured |
//! | `path` | bandwidth and delay of the path, rounds, aggregation |
//! | `startup` | Startup and Drain; when the pipe is full |
//! | `cycle` | Down, Cruise, Refill, Up |
//! | `probe_rtt` | ProbeRtt, and the shortest round trip that asks for it |
//! | `bounds` | what losses say, and how a loss that was none is undone |
//! | `control` | pacing rate and window |
//!
//! Runs on: proxy cores. Allocates: once per connection. Blocks: never.

mod sample;
mod path;
mod startup;
mod cycle;
mod probe_rtt;
mod bounds;
mod control;
#[cfg(test)]
mod tests;

use pnat_shared::time::Instant;

use super::congestion::{Acked, Congestion, Start, initial_window};
use super::pacing::Pacer;
use super::recovery::Phase;
use bounds::{Bounds, Undo};
use cycle::Cycle;
use path::{Aggregation, Bandwidth, Rounds};
use probe_rtt::Delay;
use sample::Sample;
use startup::FullPipe;

/// No bound, in bytes.
const ENDLESS: u32 = u32::MAX;

/// Where the state machine stands (section 5.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    /// Doubles the rate every round until bandwidth no longer grows.
    Startup,
    /// Lets the queue run dry that Startup has made.
    Drain,
    /// Sends slower than the path, so that the queue of the last probe runs dry.
    Down,
    /// Sends as fast as the path.
    Cruise,
    /// Fills the pipe without a queue, so that the probe that follows measures the path.
    Refill,
    /// Sends faster than the path: is there more bandwidth?
    Up,
    /// Sends half as much as fits, so that the shortest round trip shows.
    ProbeRtt,
}

impl State {
    /// Pacing rate by bandwidth, in percent.
    const fn pacing_gain(self) -> u64 {
        match self {
            // 4 ln 2: the least that doubles the rate every round.
            Self::Startup => 277,
            Self::Drain => 50,
            Self::Down => 90,
            Self::Cruise | Self::Refill | Self::ProbeRtt => 100,
            Self::Up => 125,
        }
    }

    /// Window by bandwidth-delay product, in percent.
    const fn window_gain(self) -> u64 {
        match self {
            Self::Up => 225,
            Self::ProbeRtt => 50,
            _ => 200,
        }
    }

    /// One of the four states in turn.
    const fn is_in_cycle(self) -> bool {
        matches!(self, Self::Down | Self::Cruise | Self::Refill | Self::Up)
    }

    /// Sends more than the path is known to carry: loss then tells the path's size, not that it has shrunk.
    const fn probes_bandwidth(self) -> bool {
        matches!(self, Self::Startup | Self::Refill | Self::Up)
    }
}

#[derive(Debug)]
pub(super) struct Bbr {
    mss: u32,
    sack: bool,
    state: State,
    window: u32,
    /// The pacing rate rests on a round trip that was measured.
    has_rtt: bool,
    rounds: Rounds,
    bandwidth: Bandwidth,
    aggregation: Aggregation,
    delay: Delay,
    full_pipe: FullPipe,
    cycle: Cycle,
    bounds: Bounds,
    undo: Undo,
    /// The last window that neither recovery nor ProbeRtt has made small.
    prior_window: u32,
    recovering: bool,
    /// Data was sent out of idle, and nothing of it has arrived yet.
    idle_restart: bool,
    /// Samples of what was sent before this much was delivered are as low as ProbeRtt has made them.
    low_until: u64,
    pacer: Pacer,
    /// State of a small generator of random numbers.
    random: u32,
}

impl Bbr {
    pub(super) fn new(start: &Start) -> Self {
        let mut bbr = Self {
            mss: start.mss,
            sack: start.sack,
            state: State::Startup,
            window: initial_window(start.mss),
            has_rtt: false,
            rounds: Rounds::default(),
            bandwidth: Bandwidth::default(),
            aggregation: Aggregation::new(start.now),
            delay: Delay::new(start.srtt, start.now),
            full_pipe: FullPipe::default(),
            cycle: Cycle::new(start.now),
            bounds: Bounds::default(),
            undo: Undo::default(),
            prior_window: 0,
            recovering: false,
            idle_restart: false,
            low_until: 0,
            pacer: Pacer::default(),
            // No two connections probe in step.
            random: (start.nxt.0 ^ start.now.as_nanos() as u32) | 1,
        };
        bbr.init_pacing_rate(start.srtt);
        bbr
    }

    /// The SYN was lost more than once: begin with one segment (RFC 6928 section 2).
    pub(super) fn start_small(&mut self) {
        self.window = self.mss;
    }

    /// Model and state follow the measurement (section 5.2.3).
    fn update_model(&mut self, sample: &Sample) {
        self.bounds.begin_ack(sample);
        self.rounds.update(sample);
        self.update_bandwidth(sample);
        self.adapt_to_congestion();
        self.update_aggregation(sample);
        self.check_full_pipe(sample);
        self.check_startup_done(sample);
        self.check_drain_done(sample);
        self.update_cycle(sample);
        self.update_delay(sample);
        self.check_probe_rtt(sample);
        self.bounds.end_ack(sample);
    }

    /// A number below `limit`, evenly enough spread (xorshift).
    fn random_below(&mut self, limit: u32) -> u32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random % limit
    }

    fn save_window(&mut self) {
        let modulated = self.recovering || self.state == State::ProbeRtt;
        self.prior_window = if modulated { self.prior_window.max(self.window) } else { self.window };
    }

    fn restore_window(&mut self) {
        self.window = self.window.max(self.prior_window);
    }
}

impl Congestion for Bbr {
    fn window(&self) -> u32 {
        self.window
    }

    fn ssthresh(&self) -> u32 {
        self.window
    }

    fn uses_prr(&self) -> bool {
        false
    }

    fn pacer(&self) -> Option<&Pacer> {
        Some(&self.pacer)
    }

    fn pacer_mut(&mut self) -> Option<&mut Pacer> {
        Some(&mut self.pacer)
    }

    fn set_mss(&mut self, mss: u32) {
        self.mss = mss;
        self.window = self.window.max(mss);
    }

    fn on_ack(&mut self, acked: &Acked) {
        if self.recovering && acked.phase == Phase::Open {
            self.recovering = false;
            self.restore_window();
        }
        self.rounds.note_window_use(acked, self.window, self.mss);
        if let Some(sample) = Sample::new(acked, self) {
            if sample.newly_lost > 0 || sample.marked {
                self.note_loss(sample.total);
            }
            self.update_model(&sample);
        }
        self.update_control(acked);
    }

    /// Section 5.4.1.
    fn on_sent(&mut self, flight: u32, now: Instant) {
        if flight > 0 {
            return;
        }
        self.idle_restart = true;
        self.aggregation.restart(now);
        if self.state.is_in_cycle() {
            self.set_pacing_rate(100);
        } else if self.state == State::ProbeRtt {
            self.check_probe_rtt_done(now);
        }
    }

    fn on_loss(&mut self, _flight: u32, _now: Instant) {
        self.save_state();
        self.recovering = true;
        // The timer may have found the loss, of which no ACK tells.
        self.note_loss(self.rounds.total());
    }

    fn on_recovered(&mut self, _now: Instant) {
        self.recovering = false;
        self.restore_window();
    }

    fn on_timeout(&mut self, _flight: u32, first: bool, _now: Instant) {
        if first {
            self.save_state();
        }
        self.recovering = true;
        self.window = self.mss;
    }

    fn on_undo(&mut self) {
        self.undo_loss();
    }

    /// The model holds: what follows is paced (section 5.4.1).
    fn on_idle(&mut self, _now: Instant) {}
}
