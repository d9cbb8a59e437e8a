//! A client or a server: a socket, and an application that writes, reads and closes.

use std::net::SocketAddrV4;

use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings, State};
use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::Random;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Header, Seq};

use super::frames::{CountedFrame, CountingPool};

/// What an application does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Task {
    /// Bytes that it writes.
    pub(crate) text: Vec<u8>,
    /// How many times it writes them again.
    pub(crate) repeats: usize,
    /// Closes its stream only after it has read the other's end.
    pub(crate) closes_last: bool,
    /// Aborts once it has read this many bytes.
    pub(crate) aborts_after: Option<usize>,
    /// Reads at most this much every 10 ms; 0: everything at once.
    pub(crate) reads: usize,
    /// Largest receive window, in bytes; 0: as large as hosts have it.
    pub(crate) window: u32,
}

/// One end of a flow with its application.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) socket: Endpoint<CountedFrame>,
    task: Task,
    written: usize,
    pub(crate) read: Vec<u8>,
    next_read: Instant,
    closed: bool,
}

/// What hosts in these tests offer.
pub(crate) const OFFER: Offer =
    Offer { mss: 1460, window_scale: Some(7), sack: true, timestamp: Some(5), ecn: false };

fn settings(task: &Task) -> Settings {
    let usual = Settings::default();
    Settings { window: if task.window == 0 { usual.window } else { task.window }, ..usual }
}

/// A segment out of a frame; `None` where a checksum is wrong.
fn segment(frame: CountedFrame) -> Option<(Header, Chunk<CountedFrame>)> {
    let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
    let (from, to) = (L2_LEN + packet.header_len, L2_LEN + packet.total_len);
    let bytes = &frame.data()[from..to];
    if packet.protocol != 6 || !tcp::is_intact(bytes, packet.src, packet.dst) {
        return None;
    }
    let (header, len) = Header::read(bytes).ok()?;
    Some((header, Chunk::from_frame(frame, from + len, to)))
}

impl End {
    pub(crate) fn client(
        local: SocketAddrV4,
        peer: SocketAddrV4,
        iss: u32,
        task: Task,
        now: Instant,
    ) -> Self {
        Self::new(Endpoint::connect(settings(&task), local, peer, Seq(iss), OFFER, now), task, now)
    }

    /// A server that meets a first segment; `None` where it is no SYN.
    pub(crate) fn server(
        local: SocketAddrV4,
        peer: SocketAddrV4,
        iss: u32,
        task: Task,
        frame: CountedFrame,
        now: Instant,
    ) -> Option<Self> {
        let (syn, _) = segment(frame)?;
        if !syn.flags.has(tcp::Flags::SYN) || syn.flags.has(tcp::Flags::ACK) {
            return None;
        }
        let mut socket = Endpoint::accept(settings(&task), local, peer, &syn, now);
        socket.answer(Seq(iss), OFFER, now);
        Some(Self::new(socket, task, now))
    }

    fn new(socket: Endpoint<CountedFrame>, task: Task, now: Instant) -> Self {
        Self { socket, task, written: 0, read: Vec::new(), next_read: now, closed: false }
    }

    pub(crate) fn on_frame(&mut self, frame: CountedFrame, now: Instant) {
        if let Some((header, payload)) = segment(frame) {
            // What is of no use is the link's fault, and not of interest here.
            let _ = self.socket.on_segment(&header, payload, now);
        }
    }

    /// Lets the application and the socket do what they can.
    pub(crate) fn run(
        &mut self,
        random: &mut Random,
        pool: &mut CountingPool,
        now: Instant,
        out: &mut Vec<CountedFrame>,
    ) {
        if self.socket.deadline() <= now {
            self.socket.on_timer(now);
        }
        self.write(random);
        self.read(now);
        if self.task.aborts_after.is_some_and(|bytes| self.read.len() >= bytes) {
            self.socket.abort();
        }
        if self.written == self.task.text.len() && self.task.repeats > 0 {
            self.task.repeats -= 1;
            self.written = 0;
        }
        let all_written = self.written == self.task.text.len();
        if all_written && !self.closed && (!self.task.closes_last || self.socket.is_receive_finished()) {
            self.closed = true;
            self.socket.shutdown();
        }
        self.socket.transmit(pool, now, usize::MAX, out);
    }

    fn write(&mut self, random: &mut Random) {
        while self.written < self.task.text.len() && self.socket.queued() < 128 * 1024 {
            let left = self.task.text.len() - self.written;
            let count = left.min(1 + random.below(5000) as usize);
            let bytes = self.task.text[self.written..][..count].to_vec();
            self.socket.send(Chunk::from_vec(bytes));
            self.written += count;
        }
    }

    fn read(&mut self, now: Instant) {
        if self.task.reads == 0 {
            while let Some(chunk) = self.socket.receive() {
                self.read.extend_from_slice(chunk.bytes());
            }
            return;
        }
        if now < self.next_read {
            return;
        }
        let before = self.read.len();
        while self.read.len() - before < self.task.reads {
            let Some(chunk) = self.socket.receive() else { break };
            self.read.extend_from_slice(chunk.bytes());
        }
        self.next_read = now + Duration::from_millis(10);
    }

    pub(crate) fn deadline(&self) -> Instant {
        let waits = self.task.reads > 0 && !self.is_done();
        self.socket.deadline().min(if waits { self.next_read } else { Instant::FAR })
    }

    /// Whether the conversation is through, from this end.
    pub(crate) fn is_done(&self) -> bool {
        let through = matches!(self.socket.state(), State::TimeWait | State::Closed);
        through && (self.socket.error().is_some() || self.socket.is_receive_finished())
    }
}
