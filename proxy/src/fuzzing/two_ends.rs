//! Two endpoints over a link that loses, repeats, reorders, corrupts, cuts and lies, and then turns honest.
//!
//! What must hold whatever the bytes of a run are: what one end reads is what the other wrote, a stream that is said to be
//! complete is complete, memory is bounded, no timer spins. Once the link is honest, both streams arrive or the connection
//! ends with an error, within the timeouts; unless the link has acknowledged in an end's name what that end never got, which
//! no TCP can notice.

use std::collections::VecDeque;

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::testkit::{VecFrame, VecPool};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, SackBlocks, Seq};

use super::{Input, LOCAL, PEER, settings};
use crate::chunk::Chunk;
use crate::tcp::{Endpoint, Offer, State};

/// Most segments sent at once.
const BUDGET: usize = 64;
/// Most segments under way in a direction; what comes beyond is lost.
const FLYING: usize = 256;
/// Most bytes that an application may have waiting.
pub(super) const QUEUED: usize = 200_000;
/// Smallest receive window, in bytes.
const LEAST_WINDOW: u32 = 256;
/// One way over the honest link.
const LATENCY: Duration = Duration::from_millis(10);
/// Longer than all timeouts of [`settings`] one after the other: ten minutes of patience with a shut window are the longest.
const PATIENCE: Duration = Duration::from_secs(900);
/// More rounds of the honest link than any run needs.
const ROUNDS: usize = 50_000;

/// Runs the operations in `data`, then lets the ends finish. Panics where a promise is broken.
pub fn two_ends(data: &[u8]) {
    let mut input = Input { data };
    let mut world = World::new(&mut input);
    while !input.data.is_empty() {
        world.operate(&mut input);
        for side in 0..2 {
            world.transmit(side);
            world.check_memory(side);
        }
    }
    world.finish();
}

/// A segment under way.
#[derive(Clone)]
struct Flying {
    header: Header,
    text: Vec<u8>,
    /// As it left.
    frame: VecFrame,
}

impl Flying {
    /// What a receiver reads in a frame; `None` where a checksum is wrong.
    fn read(frame: VecFrame) -> Option<Self> {
        let packet = ip::Header::read(&frame.data()[L2_LEN..]).ok()?;
        let segment = frame.data().get(L2_LEN + packet.header_len..L2_LEN + packet.total_len)?;
        if !tcp::is_intact(segment, packet.src, packet.dst) {
            return None;
        }
        let (header, len) = Header::read(segment).ok()?;
        let text = segment[len..].to_vec();
        Some(Self { header, text, frame })
    }
}

/// An end and its application.
pub(super) struct Side {
    /// None before the peer's SYN has come.
    pub(super) endpoint: Option<Endpoint<VecFrame>>,
    pub(super) window: u32,
    pub(super) offer: Offer,
    pub(super) iss: Seq,
    pub(super) pool: VecPool,
    pub(super) written: u32,
    pub(super) read: u32,
    pub(super) shut: bool,
}

struct World {
    now: Instant,
    sides: [Side; 2],
    /// From each side to the other.
    flying: [VecDeque<Flying>; 2],
    /// The link has acknowledged what may never have arrived.
    deceived: bool,
    /// Somebody has answered an end's SYN in its peer's name. That peer learns it from what the end acknowledges, and only there.
    usurped: bool,
}

/// The byte that a side writes at a place of its stream.
pub(super) fn byte_at(side: usize, place: u32) -> u8 {
    ((place + 7919 * side as u32).wrapping_mul(0x9e37_79b1) >> 24) as u8
}

impl World {
    fn new(input: &mut Input<'_>) -> Self {
        let now = Instant::from_secs(1);
        let mut sides = [0, 1].map(|_| Side::new(input));
        let [first, _] = &mut sides;
        let (settings, offer) = (settings(first.window), first.offer);
        first.endpoint = Some(Endpoint::connect(settings, PEER, LOCAL, first.iss, offer, now));
        Self { now, sides, flying: [VecDeque::new(), VecDeque::new()], deceived: false, usurped: false }
    }

    fn operate(&mut self, input: &mut Input<'_>) {
        let (operation, side) = (input.byte(), usize::from(input.byte() & 1));
        match operation {
            0..=89 => self.deliver(side, 0),
            90..=109 => self.deliver(side, usize::from(input.byte())),
            110..=119 => drop(self.flying[side].remove(usize::from(input.byte()) % FLYING)),
            120..=129 => self.repeat(side, usize::from(input.byte())),
            130..=139 => self.hold_back(side),
            140..=144 => self.corrupt(side, input),
            145..=149 => self.cut(side, input),
            150..=199 => self.lie(side, operation, input),
            200..=204 => self.intrude(side, input),
            205..=224 => self.wait(Duration::from_millis(u64::from(input.byte()))),
            225..=234 => self.write(side, input.word() % 20_000),
            235..=242 => self.read(side),
            243..=250 => self.trouble(side, operation, input),
            251..=252 => self.shut(side),
            253 => self.abort(side),
            _ => self.wait(Duration::from_secs(u64::from(input.byte()))),
        }
    }

    /// The segment that comes `nth` in a direction arrives.
    fn deliver(&mut self, from: usize, nth: usize) {
        let queue = &mut self.flying[from];
        let nth = nth % queue.len().max(1);
        if let Some(flying) = queue.remove(nth) {
            self.arrive(1 - from, &flying.header, flying.text);
        }
    }

    fn arrive(&mut self, side: usize, header: &Header, text: Vec<u8>) {
        let now = self.now;
        let Side { endpoint, window, offer, iss, .. } = &mut self.sides[side];
        match endpoint {
            // Whatever it says of the segment is right; only what it does then is checked.
            Some(endpoint) => drop(endpoint.on_segment(header, Chunk::from_vec(text), now)),
            None if header.flags.has(Flags::SYN) && !header.flags.has(Flags::ACK) => {
                let mut accepted = Endpoint::accept(settings(*window), LOCAL, PEER, header, now);
                accepted.answer(*iss, *offer, now);
                *endpoint = Some(accepted);
            }
            None => {}
        }
        self.transmit(side);
    }

    fn repeat(&mut self, from: usize, nth: usize) {
        let queue = &mut self.flying[from];
        let nth = nth % queue.len().max(1);
        if let Some(copy) = queue.get(nth).cloned()
            && queue.len() < FLYING
        {
            queue.push_back(copy);
        }
    }

    fn hold_back(&mut self, from: usize) {
        if let Some(flying) = self.flying[from].pop_front() {
            self.flying[from].push_back(flying);
        }
    }

    /// One bit is turned over: a checksum always notices, so the segment is lost.
    fn corrupt(&mut self, from: usize, input: &mut Input<'_>) {
        let Some(Flying { mut frame, .. }) = self.flying[from].pop_front() else { return };
        let bits = (frame.data().len() - L2_LEN) * 8;
        let bit = input.word() as usize % bits;
        frame.data_mut()[L2_LEN + bit / 8] ^= 1 << (bit % 8);
        assert!(Flying::read(frame).is_none(), "a checksum missed bit {bit}");
    }

    /// A middlebox sends the first part of a segment on.
    fn cut(&mut self, from: usize, input: &mut Input<'_>) {
        let len = input.word() as usize;
        if let Some(flying) = self.flying[from].front_mut()
            && len < flying.text.len()
        {
            flying.text.truncate(len);
            flying.header.flags = Flags(flying.header.flags.0 & !Flags::FIN.0);
        }
    }

    /// The next segment's header says something else than it did.
    fn lie(&mut self, from: usize, operation: u8, input: &mut Input<'_>) {
        let Some(Flying { header, .. }) = self.flying[from].front_mut() else { return };
        match operation {
            150..=174 => {
                header.options.sack = SackBlocks::default();
                for _ in 0..1 + input.byte() % 4 {
                    let left = header.ack + input.offset();
                    header.options.sack.push(left, left + input.offset());
                }
            }
            175..=181 if self.usurped => {}
            175..=179 => header.ack = header.ack - input.offset(),
            180..=181 => {
                let further = input.offset();
                header.ack += further;
                self.deceived |= further > 0;
            }
            182..=194 => header.window = input.word() as u16,
            _ => {
                let echo = input.offset();
                if let Some((_, answered)) = &mut header.options.timestamps {
                    *answered = answered.wrapping_sub(echo);
                }
            }
        }
    }

    /// Somebody who has seen the last segment slips in one without text.
    fn intrude(&mut self, from: usize, input: &mut Input<'_>) {
        let Some(seen) = self.flying[from].front() else { return };
        let flags = match input.byte() {
            0..=99 => Flags::RST,
            100..=159 => Flags::SYN,
            160..=199 => Flags::SYN.with(Flags::ACK),
            _ => Flags::ACK,
        };
        let header = Header { seq: seen.header.seq + input.offset(), flags, ..seen.header };
        let addressed = self.sides[1 - from].endpoint.as_ref().map(Endpoint::state);
        self.usurped |= flags.has(Flags::SYN) && addressed == Some(State::SynSent);
        self.arrive(1 - from, &header, Vec::new());
    }

    fn write(&mut self, side: usize, len: u32) {
        let Side { endpoint: Some(endpoint), written, shut: false, .. } = &mut self.sides[side] else {
            return;
        };
        if endpoint.queued() <= QUEUED && endpoint.state() != State::Closed {
            let bytes = (*written..*written + len).map(|place| byte_at(side, place)).collect();
            endpoint.send(Chunk::from_vec(bytes));
            *written += len;
        }
    }

    fn read(&mut self, side: usize) {
        let [first, second] = &mut self.sides;
        let (reader, writer) = if side == 0 { (first, second) } else { (second, first) };
        reader.read_all(side, writer);
    }

    fn trouble(&mut self, side: usize, operation: u8, input: &mut Input<'_>) {
        let now = self.now;
        let Side { endpoint: Some(endpoint), pool, .. } = &mut self.sides[side] else { return };
        match operation {
            243..=244 => pool.left = usize::from(input.byte()) % 4,
            245 => pool.left = usize::MAX,
            246..=248 => endpoint.set_downstream(input.word() as usize),
            _ => {
                let quoted = self.flying[side].front().map(|flying| flying.header.seq);
                endpoint.on_mtu(quoted.unwrap_or(Seq(0)), input.word() as u16, now);
            }
        }
    }

    fn shut(&mut self, side: usize) {
        let side = &mut self.sides[side];
        if let Some(endpoint) = &mut side.endpoint {
            endpoint.shutdown();
            side.shut = true;
        }
    }

    fn abort(&mut self, side: usize) {
        if let Some(endpoint) = &mut self.sides[side].endpoint {
            endpoint.abort();
        }
    }

    /// Timers fire in order, and none may ask to be called again at the same time.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        loop {
            let deadlines = [0, 1].map(|side| self.deadline(side));
            let side = usize::from(deadlines[1] < deadlines[0]);
            let due = deadlines[side];
            if due > until {
                break;
            }
            self.now = self.now.max(due);
            if let Some(endpoint) = &mut self.sides[side].endpoint {
                endpoint.on_timer(self.now);
            }
            self.transmit(side);
            assert!(self.deadline(side) > due, "side {side}: the deadline {due:?} stays");
        }
        self.now = until;
    }

    fn deadline(&self, side: usize) -> Instant {
        self.sides[side].endpoint.as_ref().map_or(Instant::FAR, Endpoint::deadline)
    }

    fn transmit(&mut self, side: usize) {
        let Side { endpoint: Some(endpoint), pool, .. } = &mut self.sides[side] else { return };
        let mut out = Vec::new();
        endpoint.transmit(pool, self.now, BUDGET, &mut out);
        for frame in out {
            let flying = Flying::read(frame).expect("a sound segment");
            if self.flying[side].len() < FLYING {
                self.flying[side].push_back(flying);
            }
        }
    }

    /// Nobody can make an end hold more than a multiple of its window and of what was written.
    fn check_memory(&self, side: usize) {
        let Side { endpoint: Some(endpoint), window, .. } = &self.sides[side] else { return };
        let [received, sent] = endpoint.footprint();
        let bound = 20 * *window as usize + 512 * 1024;
        assert!(received <= bound, "side {side}: {received} bytes are held for a window of {window}");
        assert!(sent <= 8 * (QUEUED + 20_000), "side {side}: {sent} bytes are held to be sent");
    }

    /// From now on the link is honest, and both applications read everything and close.
    fn finish(&mut self) {
        let end = self.now + PATIENCE;
        let mut rounds = 0;
        for side in 0..2 {
            self.sides[side].pool.left = usize::MAX;
            self.transmit(side);
        }
        while !self.is_over() && self.now < end {
            for side in 0..2 {
                if let Some(endpoint) = &mut self.sides[side].endpoint {
                    endpoint.set_downstream(0);
                }
                self.read(side);
                self.shut(side);
                self.transmit(side);
            }
            let arriving = core::mem::take(&mut self.flying);
            let idle = arriving.iter().all(VecDeque::is_empty);
            let next = self.deadline(0).min(self.deadline(1));
            if idle && next == Instant::FAR {
                break;
            }
            self.wait(if idle { LATENCY.max(next.since(self.now)) } else { LATENCY });
            for (from, queue) in arriving.into_iter().enumerate() {
                for flying in queue {
                    self.arrive(1 - from, &flying.header, flying.text);
                }
            }
            rounds += 1;
            assert!(rounds < ROUNDS, "the ends go on and on: {:?}", self.describe());
        }
        if !self.deceived {
            self.check_end();
        }
    }

    fn is_over(&self) -> bool {
        self.sides.iter().all(|side| side.endpoint.as_ref().is_none_or(Endpoint::is_over))
    }

    /// States, and bytes still to be acknowledged.
    fn describe(&self) -> [Option<(State, usize)>; 2] {
        let of = |side: &Side| side.endpoint.as_ref().map(|end| (end.state(), end.queued()));
        [of(&self.sides[0]), of(&self.sides[1])]
    }

    /// Both have ended, and a stream without an error is complete.
    fn check_end(&mut self) {
        for side in 0..2 {
            self.read(side);
        }
        assert!(self.is_over(), "no end in sight: {:?}", self.describe());
        let [first, second] = &self.sides;
        let fine = |side: &Side| side.endpoint.as_ref().is_some_and(|end| end.error().is_none());
        if fine(first) && fine(second) {
            assert_eq!((second.read, first.read), (first.written, second.written), "bytes are missing");
        }
    }
}

impl Side {
    pub(super) fn new(input: &mut Input<'_>) -> Self {
        let kind = input.byte();
        let offer = Offer {
            mss: 88 + (input.word() % 1373) as u16,
            window_scale: (kind & 1 == 0).then_some(kind >> 5),
            sack: kind & 2 == 0,
            timestamp: (kind & 4 == 0).then_some(u32::MAX),
            ecn: kind & 8 != 0,
        };
        Self {
            endpoint: None,
            // Windows of a few bytes would make an honest link take as many round trips as there are bytes.
            window: LEAST_WINDOW + (input.word() << (kind >> 5)),
            offer,
            iss: Seq(u32::MAX - u32::from(input.byte()) * 100),
            pool: VecPool::endless(),
            written: 0,
            read: 0,
            shut: false,
        }
    }

    /// Reads all there is, and compares it with what the other side wrote; this is side 0 or 1.
    pub(super) fn read_all(&mut self, side: usize, writer: &Self) {
        let Some(endpoint) = &mut self.endpoint else { return };
        while let Some(chunk) = endpoint.receive() {
            for byte in chunk.bytes() {
                assert!(self.read < writer.written, "side {side} reads what was never written");
                assert_eq!(*byte, byte_at(1 - side, self.read), "side {side}: a wrong byte at {}", self.read);
                self.read += 1;
            }
        }
        // An error drops what was not read before.
        if endpoint.is_receive_finished() && endpoint.error().is_none() {
            assert!(writer.shut, "side {side}: an end that the other did not send");
            assert_eq!(self.read, writer.written, "side {side}: an early end");
        }
    }
}
