//! The receiving half: which of the trial's frames have come, and how long they took.
//!
//! Runs on: the generator's core. Allocates: at creation. Blocks: never.

use hdrhistogram::Histogram;
use pnat_shared::flow::Protocol;
use pnat_shared::frame::{Checksum, Frame, L2_LEN};
use pnat_shared::time::Instant;
use pnat_shared::wire::ethernet;
use pnat_shared::wire::{ip, tcp, udp};

use super::arrivals::{Arrival, Arrivals};
use super::new_histogram;
use super::sizes::FCS;
use super::stamp::Stamp;

/// Receives the frames of one trial.
#[derive(Debug)]
pub struct Sink {
    run: u16,
    start: Instant,
    flows: u32,
    arrivals: Arrivals,
    /// From intended send time to arrival, of each frame that has come, in nanoseconds.
    latency: Histogram<u64>,
    /// Sum of latencies since the start, and the longest since somebody asked.
    sum: u128,
    longest: u64,
    bytes: u64,
    corrupt: u64,
    foreign: u64,
}

/// Why a frame is not counted as one of the trial's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Other {
    /// IPv4 with UDP or TCP, and a checksum is wrong.
    Corrupt,
    /// Not ours, or of an earlier trial.
    Foreign,
}

impl Sink {
    /// For a trial that sends `frames` frames in `flows` flows, and that has begun at [`Instant::ZERO`].
    pub fn new(run: u16, flows: u32, frames: u64) -> Self {
        Self {
            run,
            start: Instant::ZERO,
            flows,
            arrivals: Arrivals::new(flows, frames),
            latency: new_histogram(),
            sum: 0,
            longest: 0,
            bytes: 0,
            corrupt: 0,
            foreign: 0,
        }
    }

    /// Says when the trial begins.
    pub const fn begin(&mut self, start: Instant) {
        self.start = start;
    }

    pub const fn arrivals(&self) -> &Arrivals {
        &self.arrivals
    }

    /// From intended send time to arrival, of each frame's first copy.
    pub const fn latency(&self) -> &Histogram<u64> {
        &self.latency
    }

    /// The sum of all latencies so far, in nanoseconds.
    pub const fn latency_sum(&self) -> u128 {
        self.sum
    }

    /// The longest latency since the last call, in nanoseconds.
    pub const fn take_longest(&mut self) -> u64 {
        std::mem::replace(&mut self.longest, 0)
    }

    /// Bytes of the frames that have come, each once, frame check sequences included.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Frames with a wrong checksum.
    pub const fn corrupt(&self) -> u64 {
        self.corrupt
    }

    /// Frames that are none of the trial's.
    pub const fn foreign(&self) -> u64 {
        self.foreign
    }

    /// Takes what has arrived at `now`, where `sent` frames have been sent so far.
    pub fn take<F: Frame>(&mut self, burst: &[F], now: Instant, sent: u64) {
        for frame in burst {
            let stamp = match read(frame) {
                Ok(stamp) if self.is_ours(&stamp, sent) => stamp,
                Ok(_) | Err(Other::Foreign) => {
                    self.foreign += 1;
                    continue;
                }
                Err(Other::Corrupt) => {
                    self.corrupt += 1;
                    continue;
                }
            };
            if self.arrivals.note(stamp.flow, stamp.seq) == Arrival::First {
                self.bytes += (frame.data().len() + FCS) as u64;
                let intended = self.start.plus_nanos(stamp.nanos);
                let took = (now - intended).as_nanos() as u64;
                self.latency.saturating_record(took);
                self.sum += u128::from(took);
                self.longest = self.longest.max(took);
            }
        }
    }

    /// Whether the frame is one that has been sent: anybody may write a stamp.
    fn is_ours(&self, stamp: &Stamp, sent: u64) -> bool {
        let number = stamp.seq.checked_mul(u64::from(self.flows)).map(|first| first + u64::from(stamp.flow));
        stamp.run == self.run && stamp.flow < self.flows && number.is_some_and(|number| number < sent)
    }
}

/// The stamp of a frame whose checksums are right.
fn read<F: Frame>(frame: &F) -> Result<Stamp, Other> {
    let link = ethernet::Header::read(frame.data()).map_err(|_| Other::Foreign)?;
    if link.ether_type != ethernet::TYPE_IPV4 {
        return Err(Other::Foreign);
    }
    let packet = &frame.data()[L2_LEN..];
    let header = ip::Header::read(packet).map_err(|_| Other::Corrupt)?;
    if header.is_fragment() {
        return Err(Other::Foreign);
    }
    let segment = &packet[header.header_len..header.total_len];
    let is_good = frame.checksum() == Checksum::Good;
    let text = match header.protocol {
        protocol if protocol == Protocol::Udp as u8 => {
            let datagram = udp::Header::read(segment).map_err(|_| Other::Corrupt)?;
            if !is_good && !datagram.is_intact(segment, header.src, header.dst) {
                return Err(Other::Corrupt);
            }
            &segment[udp::LEN..datagram.len]
        }
        protocol if protocol == Protocol::Tcp as u8 => {
            let (_, len) = tcp::Header::read(segment).map_err(|_| Other::Corrupt)?;
            if !is_good && !tcp::is_intact(segment, header.src, header.dst) {
                return Err(Other::Corrupt);
            }
            &segment[len..]
        }
        _ => return Err(Other::Foreign),
    };
    Stamp::read(text).ok_or(Other::Foreign)
}
