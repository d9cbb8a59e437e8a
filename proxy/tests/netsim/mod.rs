//! The simulation: two endpoints, two links, readers and writers, and a clock that jumps from event to event.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{Link, LinkSpec, Pcap, Random, VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header, Seq};

/// Which end closes when.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// Each closes when it has sent everything.
    Together,
    /// The second end waits for the first one's end, and the other way round.
    FirstThenSecond,
    SecondThenFirst,
    /// Each closes only after it has read everything: the ends agree on the length beforehand.
    AfterPeer,
}

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) name: &'static str,
    pub(crate) seeds: u64,
    pub(crate) link: LinkSpec,
    pub(crate) bytes: [usize; 2],
    pub(crate) close: Close,
    pub(crate) window: u32,
    pub(crate) offer: Offer,
    pub(crate) iss: [u32; 2],
    /// Most bytes that a reader takes at once, and how often it does; 0: at once.
    pub(crate) read: (usize, Duration),
    /// Sizes of the writer's chunks run up to this.
    pub(crate) write: usize,
    /// Longest time that it may take.
    pub(crate) limit: Duration,
}

/// One end with its application.
pub(crate) struct End {
    pub(crate) endpoint: Endpoint<VecFrame>,
    pub(crate) to_send: Vec<u8>,
    pub(crate) offset: usize,
    pub(crate) got: Vec<u8>,
    next_read: Instant,
    shut: bool,
}

const ADDRS: [SocketAddrV4; 2] =
    [SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 1), 4000), SocketAddrV4::new(Ipv4Addr::new(10, 0, 0, 2), 80)];

/// Takes a frame apart as the reactor does; `None` where a checksum is wrong.
pub(crate) fn parse(frame: VecFrame) -> Option<(Header, Chunk<VecFrame>)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
    let segment = &frame.data()[from..to];
    if packet.protocol != 6 || !tcp::is_intact(segment, packet.src, packet.dst) {
        return None;
    }
    let (header, len) = Header::read(segment).ok()?;
    Some((header, Chunk::from_frame(frame, from + len, to)))
}

impl Run {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            seeds: 3,
            link: LinkSpec::default(),
            bytes: [200_000, 300_000],
            close: Close::Together,
            window: 256 * 1024,
            offer: Offer { mss: 1460, window_scale: Some(7), sack: true, timestamp: Some(u32::MAX - 500) },
            iss: [u32::MAX - 100_000, 5],
            read: (usize::MAX, Duration::ZERO),
            write: 4000,
            limit: Duration::from_secs(600),
        }
    }

    /// Runs with every seed, or with `PNAT_SEED` alone; panics where bytes are lost or the ends do not end.
    pub(crate) fn check(&self) {
        let only = std::env::var("PNAT_SEED").ok().and_then(|seed| seed.parse().ok());
        let seeds = only.map_or_else(|| 0..self.seeds, |seed: u64| seed..seed + 1);
        for seed in seeds {
            let mut pcap = Pcap::default();
            if let Err(problem) = self.simulate(seed, &mut pcap) {
                let path = format!("{}/{}-{seed}.pcap", env!("CARGO_TARGET_TMPDIR"), self.name);
                std::fs::write(&path, pcap.bytes()).unwrap();
                panic!("{}: {problem}\nPNAT_SEED={seed}\npcap: {path}\n{self:?}", self.name);
            }
        }
    }

    fn settings(&self) -> Settings {
        Settings {
            window: self.window,
            mtu: 1500,
            open_timeout: Duration::from_secs(120),
            user_timeout: Duration::from_secs(300),
            time_wait: Duration::from_secs(240),
        }
    }

    fn text(&self, seed: u64, side: usize) -> Vec<u8> {
        let mut random = Random::new(seed * 2 + side as u64);
        (0..self.bytes[side]).map(|_| random.number() as u8).collect()
    }

    /// One run; answers how long it took until all bytes had arrived.
    pub(crate) fn simulate(&self, seed: u64, pcap: &mut Pcap) -> Result<Duration, String> {
        let start = Instant::from_secs(1);
        let mut now = start;
        let mut random = Random::new(seed ^ 0x5eed);
        let mut links: [Link<VecFrame>; 2] = [0, 1].map(|n| Link::new(self.link.clone(), seed * 2 + n));
        let first = Endpoint::connect(self.settings(), ADDRS[0], ADDRS[1], Seq(self.iss[0]), self.offer, now);
        let mut ends: [Option<End>; 2] = [Some(End::new(first, self.text(seed, 0))), None];
        let mut pool = VecPool::endless();
        let mut out = Vec::new();
        let mut arrived = None;
        let mut still = 0;
        loop {
            for side in 0..2 {
                while let Some(frame) = links[1 - side].receive(now) {
                    pcap.record(frame.data(), now);
                    let Some((header, payload)) = parse(frame) else { continue };
                    if side == 1 && ends[1].is_none() {
                        let mut endpoint =
                            Endpoint::accept(self.settings(), ADDRS[1], ADDRS[0], &header, now);
                        endpoint.answer(Seq(self.iss[1]), self.offer, now);
                        ends[1] = Some(End::new(endpoint, self.text(seed, 1)));
                    } else if let Some(end) = &mut ends[side] {
                        // Drops are the link's fault here, not of interest.
                        let _ = end.endpoint.on_segment(&header, payload, now);
                    }
                }
                let peer_sends = self.bytes[1 - side];
                let Some(end) = &mut ends[side] else { continue };
                if end.endpoint.deadline() <= now {
                    let before = end.endpoint.deadline();
                    end.endpoint.on_timer(now);
                    if end.endpoint.deadline() <= before {
                        return Err(format!("on_timer did not advance the deadline {before:?}"));
                    }
                }
                self.work(end, side, peer_sends, now, &mut random);
                end.endpoint.transmit(&mut pool, now, usize::MAX, &mut out);
                for frame in out.drain(..) {
                    pcap.record(frame.data(), now);
                    links[side].send(frame, now);
                }
            }
            if let [Some(first), Some(second)] = &ends {
                if first.got.len() == second.to_send.len()
                    && second.got.len() == first.to_send.len()
                    && arrived.is_none()
                {
                    arrived = Some(now - start);
                }
                if first.endpoint.is_over() && second.endpoint.is_over() {
                    break;
                }
            }
            let next = links
                .iter()
                .map(Link::next_arrival)
                .chain(ends.iter().flatten().map(|end| end.wake(now)))
                .min()
                .unwrap();
            still = if next <= now { still + 1 } else { 0 };
            if next == Instant::FAR || next.since(start) > self.limit || still > 1000 {
                return Err(format!("stuck at {now:?}: {}", describe(&ends)));
            }
            now = next.max(now);
        }
        let [Some(first), Some(second)] = ends else { return Err("no second end".into()) };
        for (receiver, sender) in [(&first, &second), (&second, &first)] {
            if receiver.got != sender.to_send {
                return Err(format!(
                    "{} of {} bytes arrived intact",
                    receiver.got.len(),
                    sender.to_send.len()
                ));
            }
            if let Some(error) = receiver.endpoint.error() {
                return Err(format!("ended with {error:?}"));
            }
        }
        arrived.ok_or_else(|| "ended early".into())
    }

    /// The application: reads, writes, closes.
    fn work(&self, end: &mut End, side: usize, peer_sends: usize, now: Instant, random: &mut Random) {
        let (most, pause) = self.read;
        if now >= end.next_read {
            let mut taken = 0;
            while taken < most
                && let Some(chunk) = end.endpoint.receive()
            {
                taken += chunk.len();
                end.got.extend_from_slice(chunk.bytes());
            }
            if taken > 0 && !pause.is_zero() {
                end.next_read = now + pause;
            }
        }
        while end.offset < end.to_send.len() && end.endpoint.queued() < 2 * self.window as usize {
            let len = (1 + random.below(self.write as u64) as usize).min(end.to_send.len() - end.offset);
            let bytes = &end.to_send[end.offset..end.offset + len];
            let chunk = if len < VecFrame::CAPACITY {
                Chunk::from_frame(VecFrame::new(bytes), 0, len)
            } else {
                Chunk::from_vec(bytes.to_vec())
            };
            end.endpoint.send(chunk);
            end.offset += len;
        }
        let wrote = end.offset == end.to_send.len();
        let heard_end = end.endpoint.is_receive_finished();
        let may_close = match self.close {
            Close::Together => true,
            Close::FirstThenSecond => side == 0 || heard_end,
            Close::SecondThenFirst => side == 1 || heard_end,
            Close::AfterPeer => end.got.len() == peer_sends,
        };
        if wrote && may_close && !end.shut {
            end.shut = true;
            end.endpoint.shutdown();
        }
    }
}

impl End {
    fn new(endpoint: Endpoint<VecFrame>, to_send: Vec<u8>) -> Self {
        Self { endpoint, to_send, offset: 0, got: Vec::new(), next_read: Instant::ZERO, shut: false }
    }

    fn wake(&self, now: Instant) -> Instant {
        let read = if self.next_read > now { self.next_read } else { Instant::FAR };
        self.endpoint.deadline().min(read)
    }
}

fn describe(ends: &[Option<End>; 2]) -> String {
    ends.iter()
        .flatten()
        .map(|end| format!("\n{:?} got {} {:#?}", end.endpoint.state(), end.got.len(), end.endpoint))
        .collect()
}
