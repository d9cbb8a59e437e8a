//! The simulation: clients, a reactor and servers, with seeded links between them, and a clock that jumps from event to
//! event. A worker's part (bindings, who is told of a new flow) is played in a few lines.
//!
//! ```text
//!   clients --link--> reactor --link--> servers
//!           <--link--         <--link--
//! ```

#![allow(dead_code, reason = "every test binary uses its own part of this")]

mod end;
mod frames;

pub(crate) use end::{End, Task};
pub(crate) use frames::{CountedFrame, CountingPool};

use std::collections::{BTreeSet, HashMap};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Snapshot};
use pnat_shared::config::Proxy;
use pnat_shared::flow::{Handle, NewFlow, Offloads, Protocol, Side, WorkerId};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::{FromProxy, ToProxy, mask, side_of, socket, unmask};
use pnat_shared::testkit::{Link, LinkSpec, Random};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{Flags, Header};

/// Largest receive window of the reactor's sockets, in bytes.
pub(crate) const WINDOW: u32 = 128 * 1024;

const START: Instant = Instant::from_secs(1);

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) link: LinkSpec,
    /// Frames that clients, servers and reactor share.
    pub(crate) frames: usize,
    /// Frames that the reactor may keep.
    pub(crate) keep_frames: usize,
    pub(crate) chains: Arc<Chains>,
    /// What each flow's client and server do.
    pub(crate) tasks: Vec<[Task; 2]>,
    /// A flow starts this long after the one before.
    pub(crate) stagger: Duration,
    /// Largest receive window of the reactor's sockets, in bytes.
    pub(crate) window: u32,
    /// The first so many flows are one client's; each other one has a client of its own.
    pub(crate) greedy: u32,
}

/// What came of it all.
#[derive(Debug)]
pub(crate) struct Report {
    /// By flow.
    pub(crate) outcomes: Vec<Outcome>,
    /// Most frames that lived at a time.
    pub(crate) most_frames: usize,
    /// Most chunks that pairs kept at a time.
    pub(crate) most_kept: u64,
    /// Until nothing was left to happen.
    pub(crate) took: Duration,
}

/// What came of one flow.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What the client and the server have read.
    pub(crate) read: [Vec<u8>; 2],
    /// What the worker was told; a flow of which packets are late may be opened, and end, again.
    pub(crate) closed: Vec<CloseReason>,
    /// When the worker was told first, since the begin of all.
    pub(crate) ended: Duration,
}

/// The simulated world.
struct World {
    now: Instant,
    random: Random,
    pool: CountingPool,
    reactor: Reactor<CountedFrame>,
    out: Outputs<CountedFrame>,
    /// Toward the proxy from clients and servers, then from the proxy to them.
    inward: [Link<CountedFrame>; 2],
    outward: [Link<CountedFrame>; 2],
    ends: HashMap<(u32, usize), End>,
    /// Flows that the worker has a binding for.
    bindings: BTreeSet<u32>,
    closed: HashMap<u32, Vec<CloseReason>>,
    ended: HashMap<u32, Instant>,
    most_frames: usize,
    most_kept: u64,
}

const fn handle(slot: u32) -> Handle {
    Handle { worker: WorkerId(0), slot, generation: 1 }
}

impl Run {
    pub(crate) fn new(tasks: Vec<[Task; 2]>) -> Self {
        Self {
            link: LinkSpec::default(),
            frames: usize::MAX,
            keep_frames: usize::MAX,
            chains: Arc::new(Chains::new(Vec::new(), WINDOW)),
            tasks,
            stagger: Duration::from_millis(1),
            window: WINDOW,
            greedy: 0,
        }
    }

    /// Runs until nothing will ever happen; panics where that takes longer than an hour of simulated time, or a frame is lost.
    pub(crate) fn simulate(&self, seed: u64) -> Report {
        let mut world = World::new(self, seed);
        let mut started = 0;
        while self.advance(&mut world, &mut started) {
            assert!(world.now.since(START) < Duration::from_secs(3600), "does not end: {:#?}", world.stuck());
        }
        world.conclude(self.tasks.len() as u32)
    }

    /// Runs for some time, and shows the reactor after every step.
    pub(crate) fn watch(
        &self,
        seed: u64,
        time: Duration,
        mut look: impl FnMut(Duration, &Reactor<CountedFrame>),
    ) {
        let mut world = World::new(self, seed);
        let mut started = 0;
        while world.now.since(START) < time && self.advance(&mut world, &mut started) {
            look(world.now.since(START), &world.reactor);
        }
    }

    /// Does what is due and goes on to when there is something to do again; answers whether there is. `started` counts
    /// flows.
    fn advance(&self, world: &mut World, started: &mut usize) -> bool {
        while *started < self.tasks.len() && world.now >= START + self.stagger * *started as u32 {
            world.start(*started as u32, self);
            *started += 1;
        }
        world.step(self);
        let mut next = world.next_event();
        if *started < self.tasks.len() {
            next = next.min(START + self.stagger * *started as u32);
        }
        world.now = next.max(world.now + Duration::from_nanos(1));
        next != Instant::FAR
    }
}

impl World {
    fn new(run: &Run, seed: u64) -> Self {
        let now = START;
        let settings = Proxy {
            pairs: 10_000,
            connect_timeout: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(600),
            keepalive: Duration::from_secs(30),
            udp_timeout: Duration::from_secs(60),
            window: run.window,
            ring: 1024,
            ..Proxy::default()
        };
        let mut reactor = Reactor::new(&settings, 1, Services::default(), Arc::default(), now);
        reactor.keep_frames(run.keep_frames);
        let rules = vec!["rule".into()];
        reactor.set_policy(Snapshot { generation: 1, rules, chains: Arc::clone(&run.chains) }, 1);
        let link = |n| Link::new(run.link.clone(), seed * 4 + n);
        Self {
            now,
            random: Random::new(seed),
            pool: CountingPool::new(run.frames),
            reactor,
            out: Outputs::new(1),
            inward: [link(0), link(1)],
            outward: [link(2), link(3)],
            ends: HashMap::new(),
            bindings: BTreeSet::new(),
            closed: HashMap::new(),
            ended: HashMap::new(),
            most_frames: 0,
            most_kept: 0,
        }
    }

    fn start(&mut self, slot: u32, run: &Run) {
        let iss = self.random.number() as u32;
        let task = run.tasks[slot as usize][0].clone();
        let client = End::client(mask(handle(slot)), socket(Side::First), iss, task, self.now);
        self.ends.insert((slot, 0), client);
    }

    fn next_arrival(&self) -> Instant {
        let links = self.inward.iter().chain(&self.outward);
        links.map(Link::next_arrival).min().unwrap_or(Instant::FAR)
    }

    fn next_event(&self) -> Instant {
        let ends = self.ends.values().map(End::deadline).min().unwrap_or(Instant::FAR);
        self.next_arrival().min(ends).min(self.reactor.deadline())
    }

    fn step(&mut self, run: &Run) {
        self.arrive_at_ends(run);
        let mut sent = Vec::new();
        let mut keys: Vec<_> = self.ends.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            let end = self.ends.get_mut(&key).expect("just listed");
            end.run(&mut self.random, &mut self.pool, self.now, &mut sent);
            for frame in sent.drain(..) {
                self.inward[key.1].send(frame, self.now);
            }
        }
        let mut input = Vec::new();
        for side in 0..2 {
            while let Some(frame) = self.inward[side].receive(self.now) {
                input.extend(self.worker(frame, run));
            }
        }
        self.reactor.on_burst(&mut input, &mut self.pool, self.now, &mut self.out);
        self.reactor.on_timer(&mut self.pool, self.now, &mut self.out);
        self.most_frames = self.most_frames.max(self.pool.living());
        self.most_kept = self.most_kept.max(self.reactor.stats().kept.value());
        for view in self.reactor.pairs(self.now).take(20) {
            // A window per stream, and the chunk that reached it.
            assert!(view.held <= 2 * (run.window as usize + 4096), "{view:?}");
        }
        for message in std::mem::take(self.out.worker(WorkerId(0))) {
            match message {
                FromProxy::Packet { frame, .. } => {
                    let packet =
                        ip::Header::read(&frame.data()[L2_LEN..]).expect("the proxy sends valid packets");
                    let side = side_of(packet.src).expect("from a socket of the proxy");
                    self.outward[side as usize].send(frame, self.now);
                }
                FromProxy::Again { .. } => panic!("no client uses a port again"),
                FromProxy::Retarget { .. } => panic!("no filter chooses servers"),
                FromProxy::Closed { handle, reason, .. } => {
                    self.bindings.remove(&handle.slot);
                    self.closed.entry(handle.slot).or_default().push(reason);
                    self.ended.entry(handle.slot).or_insert(self.now);
                }
            }
        }
    }

    /// What a worker makes of a packet from an end: it knows the flow, or opens one for a client's SYN, or drops it.
    fn worker(&mut self, frame: CountedFrame, run: &Run) -> Option<ToProxy<CountedFrame>> {
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
        let bytes = &frame.data()[L2_LEN + ip::MIN_LEN..];
        let (segment, _) = Header::read(bytes).ok()?;
        let handle = unmask(packet.src, segment.src_port)?;
        let at = self.now;
        if self.bindings.contains(&handle.slot) {
            return Some(ToProxy::Packet { frame, at });
        }
        let opens = segment.flags.has(Flags::SYN) && !segment.flags.has(Flags::ACK);
        if !opens || side_of(packet.dst) != Some(Side::First) {
            return None;
        }
        self.bindings.insert(handle.slot);
        let addr = SocketAddr::from(([10, 0, 0, 1], 80));
        let owner = if handle.slot < run.greedy { 0 } else { handle.slot + 1 };
        let flow = NewFlow {
            handle,
            protocol: Protocol::Tcp,
            client: SocketAddr::from((Ipv4Addr::from_bits(0x0a01_0000 + owner), 40_000)),
            server: addr,
            public: addr,
            policy: 1,
            rule: Some(0),
            mtu: [1500, 1500],
            offloads: [Offloads::NONE; 2],
            opened: at,
            accepted: None,
        };
        Some(ToProxy::Open { frame, at, flow: Box::new(flow) })
    }

    fn arrive_at_ends(&mut self, run: &Run) {
        for side in 0..2 {
            while let Some(frame) = self.outward[side].receive(self.now) {
                let Ok(packet) = ip::Header::read(&frame.data()[L2_LEN..]) else { continue };
                let ports = &frame.data()[L2_LEN + ip::MIN_LEN..];
                let port = u16::from_be_bytes([ports[2], ports[3]]);
                let Some(flow) = unmask(packet.dst, port) else { continue };
                let key = (flow.slot, side);
                if let Some(end) = self.ends.get_mut(&key) {
                    end.on_frame(frame, self.now);
                } else if side == 1
                    && let Some(tasks) = run.tasks.get(flow.slot as usize)
                {
                    let (local, peer) = (mask(handle(flow.slot)), socket(Side::Second));
                    let iss = self.random.number() as u32;
                    let server = End::server(local, peer, iss, tasks[1].clone(), frame, self.now);
                    self.ends.extend(server.map(|server| (key, server)));
                }
            }
        }
    }

    fn stuck(&self) -> Vec<String> {
        let pairs = self.reactor.pairs(self.now).map(|view| format!("{view:?}"));
        let ends = self.ends.iter().filter(|(_, end)| !end.is_done());
        let ends = ends.map(|((slot, side), end)| {
            format!(
                "flow {slot}, end {side}: {:?}, the worker was told {:?}",
                end.socket.state(),
                self.closed.get(slot)
            )
        });
        pairs.chain(ends).take(20).collect()
    }

    /// Everything has ended: no pair, no frame may be left.
    fn conclude(mut self, flows: u32) -> Report {
        let took = self.now.since(START);
        let stats = self.reactor.stats();
        assert!(self.reactor.is_empty(), "nothing will ever happen, but it is not over: {:#?}", self.stuck());
        assert_eq!((stats.open_tcp.value(), stats.panics.value()), (0, 0));
        let outcomes = (0..flows)
            .map(|slot| {
                let mut read = |side| self.ends.remove(&(slot, side)).map(|end| end.read).unwrap_or_default();
                let read = [read(0), read(1)];
                let ended = self.ended.get(&slot).map_or(Duration::MAX, |at| at.since(START));
                Outcome { read, closed: self.closed.remove(&slot).unwrap_or_default(), ended }
            })
            .collect();
        drop((self.ends, self.inward, self.outward, self.reactor, self.out));
        assert_eq!(self.pool.living(), 0, "frames that never came back");
        Report { outcomes, most_frames: self.most_frames, most_kept: self.most_kept, took }
    }
}
