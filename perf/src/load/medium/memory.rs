//! The whole gateway in memory, on the generator's own thread: worker, rings and proxy core by turns with it.
//!
//! Time is the machine's. What is sent waits in a receive queue as long as a NIC's; the gateway takes a burst of it at each
//! turn, and what comes to a full queue is lost, as it would be in a NIC.

use std::path::PathBuf;

use pnat_dataplane::launch::Clock;
use pnat_proxy::filter::Chains;
use pnat_shared::config::{
    Accept, BlockAnswer, BlockFilter, Filter, FilterKind, LimitBy, LimitFilter, LogFilter, Match, Policy,
    ReplaceFilter, Rule,
};
use pnat_shared::flow::Side;
use pnat_shared::time::Instant;
use pnat_shared::wire::ethernet;

use crate::frames::{Pool, PoolFrame};
use crate::gateway::{Gateway, INSIDE, OUTSIDE, WINDOW, answer_arp, link_to};
use crate::load::inside::{Inside, Ports};
use crate::load::scenario::{FilterWord, Memory};
use crate::load::tcp::Duplex;
use crate::load::trial::{Medium, Tally};

/// What filters look for in vain: the generator's streams consist of random bytes.
const NEVER: &[u8] = b"nothing that anybody says";
/// Descriptors of a receive queue: production's.
const QUEUE: usize = 2048;

/// Clients at the gateway's inside port and servers at its outside port.
#[derive(Debug)]
pub struct MemoryMedium {
    gateway: Gateway,
    clock: Clock,
    pool: Pool,
    missed: u64,
    /// Frames of the trial that came to the gateway's receive queues, were taken from them, and left it.
    doors: [Door; 3],
}

/// Frames that came through, and the sum of the times when, in nanoseconds.
#[derive(Copy, Clone, Debug, Default)]
struct Door {
    frames: u64,
    at: u128,
}

impl Door {
    fn pass(&mut self, frames: usize, now: Instant) {
        self.frames += frames as u64;
        self.at += u128::from(now.as_nanos()) * frames as u128;
    }

    /// Mean nanoseconds to a later door, where as many came through that.
    fn until(&self, later: &Self) -> Option<f64> {
        let is_whole = self.frames == later.frames && self.frames > 0;
        is_whole.then(|| later.at.saturating_sub(self.at) as f64 / self.frames as f64)
    }
}

impl MemoryMedium {
    pub fn new(spec: &Memory) -> Self {
        let policy = policy(spec);
        let chains =
            Chains::compile(&policy, WINDOW).expect("invariant: our own patterns can be searched for");
        let gateway = Gateway::new(policy, chains, spec.bindings);
        let clock = gateway.clock();
        Self { gateway, clock, pool: Pool, missed: 0, doors: [Door::default(); 3] }
    }
}

impl Medium for MemoryMedium {
    type Frame = PoolFrame;
    type Pool = Pool;

    fn link(&self) -> ethernet::Header {
        link_to(INSIDE)
    }

    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn transmit(&mut self, burst: &mut Vec<PoolFrame>) {
        self.transmit_at(Side::First, burst);
    }

    fn receive(&mut self, burst: &mut Vec<PoolFrame>) {
        // To a client goes an ICMP error, as a rule.
        let mut bursts = [Vec::new(), std::mem::take(burst)];
        self.receive_both(&mut bursts);
        [_, *burst] = bursts;
    }

    fn wait(&mut self, _until: Instant) {
        std::hint::spin_loop();
    }

    fn tally(&mut self) -> Tally {
        Tally { missed: self.missed, ..Tally::default() }
    }

    fn begin(&mut self) {
        self.gateway.measure(true);
        self.doors = [Door::default(); 3];
    }

    /// As a NIC that takes the time of every frame would tell it: when the queue had it, when that was read, when it was out.
    fn inside(&mut self) -> Option<Inside> {
        let [came, fetched, left] = &self.doors;
        let between = came.until(fetched).zip(fetched.until(left));
        Some(Inside { report: self.gateway.report(), ports: between.map(|(wait, way)| Ports { wait, way }) })
    }
}

impl Duplex for MemoryMedium {
    fn link_at(&self, side: Side) -> ethernet::Header {
        link_to(port_of(side))
    }

    fn transmit_at(&mut self, side: Side, burst: &mut Vec<PoolFrame>) {
        let queue = &mut self.gateway.port(port_of(side)).incoming;
        let room = QUEUE.saturating_sub(queue.len()).min(burst.len());
        queue.extend(burst.drain(..room));
        self.doors[0].pass(room, self.clock.now());
        self.missed += burst.len() as u64;
        burst.clear();
    }

    fn receive_both(&mut self, bursts: &mut [Vec<PoolFrame>; 2]) {
        let [_, fetched, left] = &mut self.doors;
        self.gateway
            .turn_until_output(|frames, now| fetched.pass(frames, now), |frames, now| left.pass(frames, now));
        for (side, burst) in [Side::First, Side::Second].into_iter().zip(bursts) {
            let port = self.gateway.port(port_of(side));
            while let Some(frame) = port.outgoing.pop_front() {
                match answer_arp(&frame) {
                    Some(answer) => port.incoming.push_back(answer),
                    None => burst.push(frame),
                }
            }
        }
    }
}

const fn port_of(side: Side) -> usize {
    match side {
        Side::First => INSIDE,
        Side::Second => OUTSIDE,
    }
}

/// One rule for all flows.
fn policy(spec: &Memory) -> Policy {
    let filter = |(number, word): (usize, &FilterWord)| Filter {
        name: format!("filter-{number}"),
        kind: match word {
            FilterWord::Replace => FilterKind::Replace(ReplaceFilter {
                find: NEVER.to_vec(),
                with: NEVER.to_vec(),
                first: true,
                second: true,
            }),
            FilterWord::Block => FilterKind::Block(BlockFilter {
                patterns: vec![NEVER.to_vec(), NEVER.repeat(2)],
                hosts: vec!["*.invalid".to_owned()],
                sni: vec!["*.invalid".to_owned()],
                answer: BlockAnswer::Reset,
            }),
            FilterWord::Limit => FilterKind::Limit(LimitFilter {
                bytes_per_second: 1 << 40,
                burst: 1 << 40,
                by: LimitBy::Flow,
            }),
            // Nobody writes the lines: there is no log writer in memory.
            FilterWord::Log => FilterKind::Log(LogFilter {
                path: PathBuf::from("/dev/null"),
                content_dir: None,
                content_cap: 0,
            }),
        },
    };
    let filters: Vec<Filter> = spec.filters.iter().enumerate().map(filter).collect();
    let rule = Rule {
        name: "all".to_owned(),
        line: 1,
        matching: Match::default(),
        action: spec.action,
        accept: Accept::default(),
        filters: (0..filters.len()).collect(),
        congestion: [None; 2],
    };
    Policy { rules: vec![rule], filters, ..Policy::without_rules(spec.action) }
}
