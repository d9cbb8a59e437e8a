//! A whole reactor between hosts on both sides, whose segments come in bursts that are cut, mixed and tampered with.
//!
//! What must hold whatever the bytes of a run are: each host reads what its peer wrote, and not more; what the reactor sends
//! is sound, and says of either stream what was written at that place; no pair panics, memory is bounded, no timer spins.
//! Once nobody tampers any more, both streams arrive or the flow is reset, within the timeouts; unless somebody has said in a
//! host's name what that host never meant.

mod flow;
mod tampering;

use std::sync::Arc;

use pnat_shared::config::{CongestionControl, Ecn, Filter, FilterKind, Proxy, ReplaceFilter, Transport};
use pnat_shared::flow::WorkerId;
use pnat_shared::frame::Frame;
use pnat_shared::loopback::{FromProxy, ToProxy};
use pnat_shared::testkit::{VecFrame, VecPool, one_rule};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::Input;
use crate::filter::{Chains, Services};
use crate::reactor::{Outputs, Reactor, Snapshot};
use flow::Flow;
use tampering::{Forgery, Tampering};

/// Flows at most.
const FLOWS: u32 = 3;
/// Packets of a burst at most.
const BURST: usize = 96;
/// Largest receive window of the reactor's sockets, in bytes.
const WINDOW: u32 = 128 * 1024;
/// One way over the honest links.
const LATENCY: Duration = Duration::from_millis(10);
/// Longer than all timeouts one after the other.
const PATIENCE: Duration = Duration::from_secs(3000);
/// More rounds of the honest links than any run needs, and more without any time passing.
const ROUNDS: usize = 50_000;
const STILL: usize = 10_000;

/// Runs the operations in `data`, then lets all flows finish. Panics where a promise is broken.
pub fn pair_bursts(data: &[u8]) {
    let mut input = Input { data };
    let mut world = World::new(&mut input);
    while !input.data.is_empty() {
        world.operate(&mut input);
    }
    world.finish();
}

struct World {
    now: Instant,
    reactor: Reactor<VecFrame>,
    out: Outputs<VecFrame>,
    pool: VecPool,
    flows: Vec<Flow>,
    /// What the workers have for the reactor by now.
    burst: Vec<ToProxy<VecFrame>>,
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Instant::from_secs(1);
        let kind = input.byte();
        let congestion = match kind & 3 {
            0 | 1 => CongestionControl::Cubic,
            2 => CongestionControl::NewReno,
            _ => CongestionControl::Bbr,
        };
        let settings = Proxy {
            pairs: 8,
            idle_timeout: Duration::from_secs(300),
            keepalive: Duration::from_secs(60),
            window: WINDOW,
            transport: Transport { congestion: [congestion; 2], ecn: Ecn::Mirror },
            ..Proxy::default()
        };
        let mut reactor = Reactor::new(&settings, 1, Services::default(), Arc::default(), now);
        let filters = if kind & 4 == 0 { Vec::new() } else { vec![seeks_what_is_not_there()] };
        let chains =
            Arc::new(Chains::compile(&one_rule("all", filters), WINDOW).expect("nothing to search for"));
        reactor.set_policy(Snapshot { generation: 1, rules: vec!["all".into()], chains }, 1);
        if kind & 8 != 0 {
            reactor.keep_frames(40);
        }
        let flows = 1 + u32::from(kind >> 4) % FLOWS;
        Self {
            now,
            reactor,
            out: Outputs::new(1),
            pool: VecPool::endless(),
            flows: (0..flows).map(|slot| Flow::new(slot, input, now)).collect(),
            burst: Vec::new(),
        }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let (operation, whose) = (input.byte(), input.byte());
        let (at, side) = (usize::from(whose) % self.flows.len(), usize::from(whose >> 7));
        let now = self.now;
        let flow = &mut self.flows[at];
        match operation {
            0..=59 => {
                let tampering = Tampering::read(input);
                for _ in 0..=input.byte() % 48 {
                    flow.take(side, tampering, now, &mut self.burst);
                }
            }
            60..=94 => {
                for _ in 0..=input.byte() % 48 {
                    flow.deliver(side, now);
                }
            }
            95..=119 => self.hand_over(),
            120..=144 => {
                let forgery = Forgery::read(input);
                flow.forge(side, forgery, input, now, &mut self.burst);
            }
            145..=154 => flow.hold_back(side, usize::from(input.byte())),
            155..=159 => flow.lose(side, usize::from(input.byte())),
            160..=184 => flow.write(side, input.word() % 40_000, now),
            185..=199 => self.wait(Duration::from_millis(input.byte().into())),
            200..=209 => flow.read(side, now),
            210..=213 => self.pool.left = usize::from(input.byte()) % 8,
            214..=219 => self.pool.left = usize::MAX,
            220..=224 => flow.hold_up(side, input.word() as usize, now),
            225..=234 => flow.intrude(side, input, now, &mut self.burst),
            235..=240 => flow.shut(side, now),
            241 => flow.abort(side, now),
            242 => self.burst.push(ToProxy::Gone { handle: flow.handle, reason: CloseReason::Operator }),
            243..=247 => flow.babble(side, input, now, &mut self.burst),
            _ => self.wait(Duration::from_secs(u64::from(input.byte()) / 4)),
        }
        if self.burst.len() >= BURST {
            self.hand_over();
        }
    }

    /// The reactor takes in what has gathered, and all that follows from it goes where it belongs.
    fn hand_over(&mut self) {
        self.reactor.on_burst(&mut self.burst, &mut self.pool, self.now, &mut self.out);
        self.collect();
        self.run_reactor();
    }

    fn run_reactor(&mut self) {
        let mut turns = 0;
        while self.reactor.deadline() <= self.now {
            self.reactor.on_timer(&mut self.pool, self.now, &mut self.out);
            self.collect();
            turns += 1;
            assert!(turns < STILL, "the reactor wants to be called again and again at {:?}", self.now);
        }
        assert_eq!(self.reactor.stats().panics.value(), 0, "a pair has panicked");
        for view in self.reactor.pairs(self.now) {
            assert!(view.held <= 2 * (WINDOW as usize + 8192), "{view:?}");
        }
    }

    fn collect(&mut self) {
        for message in core::mem::take(self.out.worker(WorkerId(0))) {
            match message {
                FromProxy::Packet { frame, .. } => {
                    let to = flow::addressee(frame.data());
                    let flow = self.flows.iter_mut().find(|flow| Some(flow.handle) == to);
                    flow.expect("a packet for one of the flows").take_out(frame);
                }
                FromProxy::Closed { handle, reason, .. } => {
                    let flow = self.flows.iter_mut().find(|flow| flow.handle == handle);
                    flow.expect("the end of one of the flows").close(reason);
                }
                // What opens anew is another flow, and lost here.
                FromProxy::Again { .. } => {}
                FromProxy::Retarget { .. } => panic!("no filter here chooses servers"),
            }
        }
    }

    fn deadline(&self) -> Instant {
        self.flows.iter().map(Flow::deadline).min().unwrap_or(Instant::FAR).min(self.reactor.deadline())
    }

    /// Timers fire in order, and none may ask to be called at the same time for ever.
    fn wait(&mut self, time: Duration) {
        self.hand_over();
        let until = self.now + time;
        let mut still = 0;
        loop {
            let next = self.deadline();
            if next > until {
                break;
            }
            still = if next > self.now { 0 } else { still + 1 };
            assert!(still < STILL, "time stands still at {:?}", self.now);
            self.now = self.now.max(next);
            for flow in &mut self.flows {
                flow.on_timer(self.now);
            }
            self.run_reactor();
        }
        self.now = until;
    }

    /// From now on nobody tampers, and all applications read everything and close.
    fn finish(&mut self) {
        let end = self.now + PATIENCE;
        let mut rounds = 0;
        self.pool.left = usize::MAX;
        self.hand_over();
        while !self.is_over() && self.now < end {
            for flow in &mut self.flows {
                flow.conclude(self.now);
            }
            let arriving: Vec<_> = self.flows.iter_mut().map(Flow::take_all).collect();
            let idle = arriving.iter().all(flow::Arriving::is_empty);
            let next = self.deadline();
            if idle && next == Instant::FAR {
                break;
            }
            self.wait(if idle { LATENCY.max(next.since(self.now)) } else { LATENCY });
            for (flow, arriving) in self.flows.iter_mut().zip(arriving) {
                flow.arrive(arriving, self.now, &mut self.burst);
            }
            self.hand_over();
            rounds += 1;
            assert!(rounds < ROUNDS, "the flows go on and on: {}", self.describe());
        }
        let tidy = self.reactor.is_empty() && self.reactor.stats().kept.value() == 0;
        let honest = self.flows.iter().all(|flow| !flow.is_deceived());
        assert!(!honest || (self.is_over() && tidy), "no end in sight: {}", self.describe());
        for flow in &mut self.flows {
            flow.check_end(self.now);
        }
    }

    fn is_over(&self) -> bool {
        self.reactor.is_empty() && self.flows.iter().all(Flow::is_over)
    }

    fn describe(&self) -> String {
        let pairs: Vec<_> = self.reactor.pairs(self.now).map(|view| format!("{view:?}")).collect();
        let hosts: Vec<_> = self.flows.iter().map(Flow::describe).collect();
        format!("pairs {pairs:#?}, flows {hosts:#?}, at {:?}", self.now)
    }
}

/// A filter that has to look at each byte, and to hold some back, but finds nothing.
fn seeks_what_is_not_there() -> Filter {
    let replace = ReplaceFilter {
        find: b"these bytes are never written".to_vec(),
        with: b"and these never sent".to_vec(),
        first: true,
        second: true,
    };
    Filter { name: "seeks".to_owned(), kind: FilterKind::Replace(replace) }
}
