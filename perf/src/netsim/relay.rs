//! The user-space relay: a wire between two TUN devices that treats each flow's packets as the simulation's link does, by the
//! real clock.
//!
//! Runs on: a thread of its own, best with a CPU of its own. Allocates: per packet. Blocks: until a packet comes or is due.
//!
//! Every flow has a link pair to itself, so flows that run at the same time don't disturb each other: only the relay's own
//! pace bounds how much may pass at once. [`Report::late`] tells whether it kept up.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant as RealTime;

use hdrhistogram::Histogram;
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{Link, VecFrame};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

/// Packets taken from a device before the other gets its turn.
const BURST: usize = 32;
/// Shortest sleep. While packets are due all the time the relay would else never sleep, and the kernel takes the CPU from a
/// real-time thread like that for 50 ms of each second.
const NAP: Duration = Duration::from_micros(50);
/// Longest sleep: how long a stop may go unseen.
const PATIENCE: Duration = Duration::from_millis(50);

/// How well the relay kept the link's times.
#[derive(Debug)]
pub struct Report {
    /// Packets that were passed on.
    pub passed: u64,
    /// Packets that the links lost, at random or from a full queue.
    pub lost: u64,
    /// How much later than due packets were passed on, in microseconds.
    pub late: Histogram<u64>,
}

/// The relay between the connecting ends' device and the listening ends'.
#[expect(missing_debug_implementations, reason = "a TUN device has none")]
pub struct Relay<L> {
    devices: [SyncDevice; 2],
    /// The links of a flow, there and back, by the ports that it was connected from and to.
    links: L,
    flows: Vec<[Link<VecFrame>; 2]>,
    by_ports: HashMap<[u8; 4], usize>,
    /// When a flow's link has something to pass on; may name a time that is past.
    due: BinaryHeap<Reverse<(Instant, usize, usize)>>,
    start: RealTime,
    report: Report,
}

impl<L: Fn([u16; 2]) -> [Link<VecFrame>; 2]> Relay<L> {
    /// # Errors
    /// Where a device cannot be made non-blocking.
    pub fn new(devices: [SyncDevice; 2], links: L) -> io::Result<Self> {
        for device in &devices {
            device.set_nonblocking(true)?;
        }
        let late = Histogram::new_with_bounds(1, 10_000_000, 2).expect("invariant: sound bounds");
        Ok(Self {
            devices,
            links,
            flows: Vec::new(),
            by_ports: HashMap::new(),
            due: BinaryHeap::new(),
            start: now(),
            report: Report { passed: 0, lost: 0, late },
        })
    }

    /// Relays until told to stop.
    ///
    /// # Errors
    /// What a device answers other than that it has nothing or no room.
    pub fn run(mut self, stop: &Arc<AtomicBool>) -> io::Result<Report> {
        while !stop.load(Ordering::Relaxed) {
            let taken = self.take(0)? + self.take(1)?;
            let passed = self.pass()?;
            if taken + passed == 0 {
                self.rest()?;
            }
        }
        self.report.lost = self.flows.iter().flatten().map(|link| link.lost).sum();
        Ok(self.report)
    }

    fn clock(&self) -> Instant {
        Instant::from_nanos(now().duration_since(self.start).as_nanos() as u64)
    }

    /// Takes a burst from a device into the links.
    fn take(&mut self, side: usize) -> io::Result<usize> {
        for count in 0..BURST {
            let mut frame = VecFrame::empty();
            frame.resize(VecFrame::CAPACITY);
            match self.devices[side].recv(&mut frame.data_mut()[L2_LEN..]) {
                Ok(len) => frame.resize(L2_LEN + len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error),
            };
            let now = self.clock();
            if let Some(flow) = self.flow_of(&frame, side) {
                let link = &mut self.flows[flow][side];
                let before = link.next_arrival();
                link.send(frame, now);
                let next = link.next_arrival();
                if next < before {
                    self.due.push(Reverse((next, flow, side)));
                }
            }
        }
        Ok(BURST)
    }

    /// The flow that a TCP packet belongs to; none for anything else.
    fn flow_of(&mut self, frame: &VecFrame, side: usize) -> Option<usize> {
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok().filter(|packet| packet.protocol == 6)?;
        let ports = frame.data()[L2_LEN + packet.header_len..].first_chunk::<4>()?;
        let [a, b, c, d] = *ports;
        let key = if side == 0 { [a, b, c, d] } else { [c, d, a, b] };
        if let Some(flow) = self.by_ports.get(&key) {
            return Some(*flow);
        }
        let flow = self.flows.len();
        let [from, to] = [[key[0], key[1]], [key[2], key[3]]].map(u16::from_be_bytes);
        self.flows.push((self.links)([from, to]));
        self.by_ports.insert(key, flow);
        Some(flow)
    }

    /// Passes on what is due.
    fn pass(&mut self) -> io::Result<usize> {
        let mut count = 0;
        let mut now = self.clock();
        while count < BURST
            && let Some(Reverse((due, flow, side))) = self.due.peek().copied()
            && due <= now
        {
            self.due.pop();
            let link = &mut self.flows[flow][side];
            if let Some(frame) = link.receive(now) {
                match self.devices[1 - side].send(&frame.data()[L2_LEN..]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                self.report.passed += 1;
                self.report.late.saturating_record(now.since(due).as_micros() as u64);
                count += 1;
                now = self.clock();
            }
            let next = self.flows[flow][side].next_arrival();
            if next != Instant::FAR {
                self.due.push(Reverse((next, flow, side)));
            }
        }
        Ok(count)
    }

    /// Sleeps until shortly before the next packet is due, or until one comes.
    fn rest(&self) -> io::Result<()> {
        let next = self.due.peek().map_or(Instant::FAR, |Reverse((due, _, _))| *due);
        let sleep = next.since(self.clock()).clamp(NAP, PATIENCE);
        let [a, b] = &self.devices;
        let mut fds = [PollFd::new(a, PollFlags::IN), PollFd::new(b, PollFlags::IN)];
        let sleep = Timespec { tv_sec: 0, tv_nsec: i64::from(sleep.subsec_nanos()) };
        match poll(&mut fds, Some(&sleep)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the relay's clock is the kernel ends' clock")]
fn now() -> RealTime {
    RealTime::now()
}
