//! The simulation: two peers, two links, readers and writers, and a clock that jumps from event to event.

use pnat_proxy::tcp::{Offer, Settings};
use pnat_shared::config::CongestionControl;
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{Link, LinkSpec, Pcap, Random, VecFrame};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::Seq;

use crate::oracle::Smoltcp;
use crate::peer::{Ours, Peer};

/// Which end closes when.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Each closes when it has sent everything.
    Together,
    /// The second end waits for the first one's end, and the other way round.
    FirstThenSecond,
    SecondThenFirst,
    /// Each closes only after it has read everything: the ends know the length beforehand.
    AfterPeer,
}

/// Which end is smoltcp.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Other {
    First,
    Second,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) seeds: u64,
    pub(crate) link: LinkSpec,
    /// Longest IP packet that the links carry; longer ones vanish without a word.
    pub(crate) carries: usize,
    /// What each end sends.
    pub(crate) bytes: [usize; 2],
    pub(crate) close: Close,
    pub(crate) window: u32,
    /// Of both ends.
    pub(crate) congestion: CongestionControl,
    pub(crate) offer: Offer,
    /// Initial sequence numbers; the first one makes its stream cross 2^32.
    pub(crate) iss: [u32; 2],
    /// Most bytes that a reader takes at once, and how long it rests then.
    pub(crate) read: (usize, Duration),
    /// A writer's pieces are shorter than this.
    pub(crate) write: usize,
    /// Longest time that it may take.
    pub(crate) limit: Duration,
    pub(crate) other: Option<Other>,
}

/// One end and its application.
struct End {
    peer: Box<dyn Peer>,
    to_send: Vec<u8>,
    offset: usize,
    got: Vec<u8>,
    /// When the reader looks again.
    next_read: Instant,
    closed: bool,
}

impl Run {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            seeds: 3,
            link: LinkSpec::default(),
            carries: usize::MAX,
            bytes: [200_000, 300_000],
            close: Close::Together,
            window: 256 * 1024,
            congestion: CongestionControl::Cubic,
            offer: Offer {
                mss: 1460,
                window_scale: Some(7),
                sack: true,
                timestamp: Some(u32::MAX - 500),
                ecn: false,
            },
            iss: [u32::MAX - 100_000, 5],
            read: (usize::MAX, Duration::ZERO),
            write: 4000,
            limit: Duration::from_secs(600),
            other: None,
        }
    }

    /// Runs with every seed (`PNAT_SEEDS`: with that many), or with `PNAT_SEED` alone; panics where bytes are lost or the
    /// ends do not end.
    pub(crate) fn check(&self) {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let all = 0..number("PNAT_SEEDS").unwrap_or(self.seeds);
        let seeds = number("PNAT_SEED").map_or(all, |seed| seed..seed + 1);
        for seed in seeds {
            self.measure(seed);
        }
    }

    /// One run; answers how long it took until all bytes had arrived.
    pub(crate) fn measure(&self, seed: u64) -> Duration {
        let mut pcap = Pcap::default();
        self.simulate(seed, &mut pcap).unwrap_or_else(|problem| {
            let path = format!("{}/{}-{seed}.pcap", env!("CARGO_TARGET_TMPDIR"), self.name);
            std::fs::write(&path, pcap.bytes()).expect("a place for the pcap");
            panic!("{}: {problem}\nPNAT_SEED={seed}\npcap: {path}\n{self:?}", self.name);
        })
    }

    fn simulate(&self, seed: u64, pcap: &mut Pcap) -> Result<Duration, String> {
        let start = Instant::from_secs(1);
        let mut now = start;
        let mut random = Random::new(seed ^ 0x5eed);
        let mut links: [Link<VecFrame>; 2] = [0, 1].map(|n| Link::new(self.link.clone(), seed * 2 + n));
        let mut ends = [0, 1].map(|side| self.end(side, seed, now));
        let mut out = Vec::new();
        let mut arrived = None;
        let mut still = 0;
        loop {
            for side in 0..2 {
                let end = &mut ends[side];
                while let Some(frame) = links[1 - side].receive(now) {
                    pcap.record(frame.data(), now);
                    end.peer.arrive(frame, now);
                }
                end.work(self, side, now, &mut random);
                end.peer.transmit(now, &mut out)?;
                for frame in out.drain(..) {
                    pcap.record(frame.data(), now);
                    if frame.data().len() - L2_LEN <= self.carries {
                        links[side].send(frame, now);
                    }
                }
            }
            if arrived.is_none() && (0..2).all(|side| ends[side].got.len() == self.bytes[1 - side]) {
                arrived = Some(now - start);
            }
            if ends.iter().all(|end| end.peer.is_over()) {
                break;
            }
            let arrivals = links.iter().map(Link::next_arrival);
            let next = arrivals.chain(ends.iter().map(|end| end.wake(now))).min().unwrap_or(Instant::FAR);
            still = if next <= now { still + 1 } else { 0 };
            if next == Instant::FAR || next.since(start) > self.limit || still > 1000 {
                let ends: String = ends.iter().map(End::describe).collect();
                return Err(format!("stuck at {now:?}: {ends}"));
            }
            now = next.max(now);
        }
        for side in 0..2 {
            let (receiver, sender) = (&ends[side], &ends[1 - side]);
            if receiver.got != sender.to_send {
                return Err(format!(
                    "{} of {} bytes, or wrong ones",
                    receiver.got.len(),
                    sender.to_send.len()
                ));
            }
            if let Some(error) = receiver.peer.error() {
                return Err(format!("ended with {error}"));
            }
        }
        arrived.ok_or_else(|| "ended early".into())
    }

    fn end(&self, side: usize, seed: u64, now: Instant) -> End {
        let settings = Settings {
            window: self.window,
            // Longer than any retransmission of the last FIN.
            time_wait: Duration::from_secs(240),
            keepalive: Duration::from_secs(60),
            patience: Duration::from_secs(600),
            congestion: self.congestion,
            ..Settings::default()
        };
        let iss = Seq(self.iss[side]);
        let peer: Box<dyn Peer> = match (self.other, side) {
            (Some(Other::First), 0) | (Some(Other::Second), 1) => Box::new(Smoltcp::new(side, seed, now)),
            (_, 0) => Box::new(Ours::connect(settings, self.offer, iss, now)),
            _ => Box::new(Ours::listen(settings, self.offer, iss)),
        };
        let mut random = Random::new(seed * 2 + side as u64);
        let to_send = (0..self.bytes[side]).map(|_| random.number() as u8).collect();
        End { peer, to_send, offset: 0, got: Vec::new(), next_read: Instant::ZERO, closed: false }
    }
}

impl End {
    /// The application: reads, writes, closes.
    fn work(&mut self, run: &Run, side: usize, now: Instant, random: &mut Random) {
        let (most, rest) = run.read;
        if now >= self.next_read {
            let before = self.got.len();
            self.peer.read(most, &mut self.got);
            if self.got.len() > before && !rest.is_zero() {
                self.next_read = now + rest;
            }
        }
        while self.offset < self.to_send.len() {
            let len = (1 + random.below(run.write as u64) as usize).min(self.to_send.len() - self.offset);
            let taken = self.peer.write(&self.to_send[self.offset..self.offset + len]);
            if taken == 0 {
                break;
            }
            self.offset += taken;
        }
        let may_close = match run.close {
            Close::Together => true,
            Close::FirstThenSecond => side == 0 || self.peer.is_read_out(),
            Close::SecondThenFirst => side == 1 || self.peer.is_read_out(),
            Close::AfterPeer => self.got.len() == run.bytes[1 - side],
        };
        if may_close && self.offset == self.to_send.len() && !self.closed {
            self.closed = self.peer.close();
        }
    }

    fn wake(&self, now: Instant) -> Instant {
        let read = if self.next_read > now { self.next_read } else { Instant::FAR };
        self.peer.deadline(now).min(read)
    }

    fn describe(&self) -> String {
        format!("\ngot {}, wrote {}: {}", self.got.len(), self.offset, self.peer.describe())
    }
}
