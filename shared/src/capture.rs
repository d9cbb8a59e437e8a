//! The pcap tap: packets copied out of a running gateway for `pnat capture`.
//!
//! Runs on: every core (copying), control (writing). Allocates: per packet while a capture runs. Blocks: never.
//!
//! A core holds an `Option<Tap>`, so a tap that is not there costs one branch. Copies travel by a bounded channel; when
//! control does not keep up they are lost and counted, the traffic itself is not slowed.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::frame::L2_LEN;
use crate::time::{Duration, Instant};

/// Where packets can be seen.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TapPoint {
    /// Received from or sent to a port that faces the clients.
    Inside,
    /// Received from or sent to a port that faces the servers.
    Outside,
    /// In the loopback, from a worker to a proxy core.
    ToProxy,
    /// In the loopback, from a proxy core to a worker.
    FromProxy,
}

impl TapPoint {
    pub const ALL: [Self; 4] = [Self::Inside, Self::Outside, Self::ToProxy, Self::FromProxy];

    pub const fn key(self) -> &'static str {
        match self {
            Self::Inside => "inside",
            Self::Outside => "outside",
            Self::ToProxy => "to_proxy",
            Self::FromProxy => "from_proxy",
        }
    }

    pub const fn link(self) -> Link {
        match self {
            Self::Inside | Self::Outside => Link::Ethernet,
            Self::ToProxy | Self::FromProxy => Link::RawIp,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for TapPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

impl FromStr for TapPoint {
    type Err = UnknownTapPoint;

    fn from_str(text: &str) -> Result<Self, UnknownTapPoint> {
        Self::ALL
            .into_iter()
            .find(|point| point.key() == text)
            .ok_or_else(|| UnknownTapPoint(text.to_owned()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is not a tap point; allowed: inside, outside, to_proxy, from_proxy")]
pub struct UnknownTapPoint(String);

/// What a packet in a pcap file begins with (the registry of link types at tcpdump.org).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Link {
    Ethernet = 1,
    /// An IP header, nothing before it: what the loopback carries.
    RawIp = 101,
}

/// A core's end of a running capture.
#[derive(Clone, Debug)]
pub struct Tap {
    points: u8,
    snaplen: usize,
    copies: Sender<Captured>,
    lost: Arc<AtomicU64>,
}

/// Control's end of a running capture. Dropping it makes every [`Tap::copy`] a no-op.
#[derive(Debug)]
pub struct Captures {
    copies: Receiver<Captured>,
    lost: Arc<AtomicU64>,
}

/// A packet seen at a tap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub point: TapPoint,
    pub at: Instant,
    /// Length of the whole packet, which may be longer than what was kept of it.
    pub len: u32,
    pub bytes: Box<[u8]>,
}

/// A capture at `points` that keeps up to `snaplen` bytes of a packet, and up to `queue` packets that control has not
/// fetched yet.
pub fn tap(points: &[TapPoint], snaplen: usize, queue: usize) -> (Tap, Captures) {
    let (sender, receiver) = bounded(queue);
    let lost = Arc::new(AtomicU64::new(0));
    let points = points.iter().fold(0, |bits, point| bits | point.bit());
    (Tap { points, snaplen, copies: sender, lost: lost.clone() }, Captures { copies: receiver, lost })
}

impl Tap {
    /// Copies a frame (from its Ethernet header on, also inside the loopback) if `point` is asked for.
    pub fn copy(&self, point: TapPoint, at: Instant, frame: &[u8]) {
        if self.points & point.bit() == 0 {
            return;
        }
        let packet = match point.link() {
            Link::Ethernet => frame,
            // The room in front of the loopback's packets means nothing.
            Link::RawIp => frame.get(L2_LEN..).unwrap_or_default(),
        };
        let kept = &packet[..packet.len().min(self.snaplen)];
        let len = u32::try_from(packet.len()).unwrap_or(u32::MAX);
        if let Err(TrySendError::Full(_)) =
            self.copies.try_send(Captured { point, at, len, bytes: kept.into() })
        {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Captures {
    /// Appends up to `max` packets that wait, and sorts `into` by time: cores deliver independently of each other.
    pub fn fetch(&self, max: usize, into: &mut Vec<Captured>) {
        into.extend(self.copies.try_iter().take(max));
        into.sort_by_key(|packet| packet.at);
    }

    /// Packets that were seen but not kept, because control did not keep up.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Magic number of a pcap file whose times are in nanoseconds; written in our byte order, which tells readers the order.
const MAGIC: u32 = 0xa1b2_3c4d;
const VERSION: [u16; 2] = [2, 4];

/// Appends a pcap file's header.
pub fn write_header(out: &mut Vec<u8>, link: Link, snaplen: u32) {
    out.extend(MAGIC.to_ne_bytes());
    out.extend(VERSION.iter().flat_map(|part| part.to_ne_bytes()));
    // Time zone and accuracy, which are always zero.
    out.extend([0; 8]);
    out.extend(snaplen.to_ne_bytes());
    out.extend((link as u32).to_ne_bytes());
}

/// Appends a packet's record. `epoch` is the wall-clock time at [`Instant::ZERO`], since 1970.
pub fn write_packet(out: &mut Vec<u8>, packet: &Captured, epoch: Duration) {
    let time = epoch + packet.at.since(Instant::ZERO);
    // The format has 32 bits for the seconds; they wrap in 2106.
    let seconds = (time.as_secs() & u64::from(u32::MAX)) as u32;
    let kept = u32::try_from(packet.bytes.len()).unwrap_or(u32::MAX);
    for word in [seconds, time.subsec_nanos(), kept, packet.len] {
        out.extend(word.to_ne_bytes());
    }
    out.extend(&packet.bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(captures: &Captures) -> Vec<Captured> {
        let mut packets = Vec::new();
        captures.fetch(100, &mut packets);
        packets
    }

    #[test]
    fn only_points_that_were_asked_for_are_copied() {
        let (tap, captures) = tap(&[TapPoint::Outside], 100, 8);
        tap.copy(TapPoint::Inside, Instant::ZERO, &[1; 60]);
        tap.copy(TapPoint::Outside, Instant::ZERO, &[2; 60]);
        assert_eq!(fetched(&captures).len(), 1);
    }

    #[test]
    fn loopback_packets_lose_their_ethernet_room_and_ports_keep_it() {
        let (tap, captures) = tap(&TapPoint::ALL, 100, 8);
        let mut frame = vec![0; L2_LEN];
        frame.extend([0x45, 0x00]);
        tap.copy(TapPoint::ToProxy, Instant::ZERO, &frame);
        tap.copy(TapPoint::Inside, Instant::ZERO, &frame);
        tap.copy(TapPoint::FromProxy, Instant::ZERO, &[]);
        let lengths: Vec<u32> = fetched(&captures).iter().map(|packet| packet.len).collect();
        assert_eq!(lengths, [2, 16, 0]);
    }

    #[test]
    fn a_full_queue_loses_and_counts_and_a_closed_one_does_nothing() {
        let (tap, captures) = tap(&TapPoint::ALL, 100, 2);
        for _ in 0..5 {
            tap.copy(TapPoint::Inside, Instant::ZERO, &[0; 60]);
        }
        assert_eq!((fetched(&captures).len(), captures.lost()), (2, 3));
        drop(captures);
        tap.copy(TapPoint::Inside, Instant::ZERO, &[0; 60]);
    }

    #[test]
    fn packets_of_several_cores_come_out_in_order_of_time() {
        let (tap, captures) = tap(&TapPoint::ALL, 100, 8);
        for micros in [30, 10, 20] {
            tap.copy(TapPoint::Inside, Instant::from_micros(micros), &[0; 60]);
        }
        assert!(fetched(&captures).is_sorted_by_key(|packet| packet.at));
    }

    #[test]
    fn a_pcap_record_states_kept_and_whole_length_and_wall_clock_time() {
        let (tap, captures) = tap(&TapPoint::ALL, 4, 8);
        tap.copy(TapPoint::Inside, Instant::from_nanos(1_500_000_000), &[7; 60]);
        let mut file = Vec::new();
        write_header(&mut file, Link::Ethernet, 4);
        assert_eq!(file.len(), 24);
        write_packet(&mut file, &fetched(&captures)[0], Duration::from_secs(1_000));
        let words: Vec<u32> = file[24..40]
            .chunks_exact(4)
            .map(|word| u32::from_ne_bytes(word.try_into().expect("four")))
            .collect();
        assert_eq!(words, [1_001, 500_000_000, 4, 60]);
        assert_eq!(&file[40..], [7; 4]);
    }

    #[test]
    fn every_tap_point_is_found_by_its_key() {
        for point in TapPoint::ALL {
            assert_eq!(point.key().parse(), Ok(point));
        }
        let told = "loop".parse::<TapPoint>().expect_err("no such point").to_string();
        assert_eq!(told, "\"loop\" is not a tap point; allowed: inside, outside, to_proxy, from_proxy");
    }
}
