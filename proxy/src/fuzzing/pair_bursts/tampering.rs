//! What is done to a flow's segments on their way into the burst: cut, repeated, overtaken, given other headers, forged.

use pnat_shared::frame::{Frame, L2_LEN};
use pnat_shared::loopback::ToProxy;
use pnat_shared::testkit::VecFrame;
use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::{Flags, Header, Options};

use super::super::Input;
use super::super::two_ends::byte_at;
use super::flow::{Binding, CE, Flow, Flying};

/// What happens to a segment on its way into the burst.
#[derive(Copy, Clone)]
pub(super) struct Tampering {
    kind: u8,
    by: u32,
}

impl Tampering {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        Self { kind: input.byte(), by: input.offset() }
    }
}

/// Text that a host has sent before, sent again, in other pieces and under other headers.
#[derive(Copy, Clone)]
pub(super) struct Forgery {
    style: u8,
    count: u8,
    len: u32,
    start: u32,
}

impl Forgery {
    pub(super) fn read(input: &mut Input<'_>) -> Self {
        Self {
            style: input.byte(),
            count: input.byte() % 64,
            len: 1 + input.word() % 1448,
            start: input.offset(),
        }
    }
}

impl Flow {
    /// The next segment from a host goes into the burst, with whatever is done to it.
    pub(super) fn take(
        &mut self,
        side: usize,
        tampering: Tampering,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let Tampering { kind, by } = tampering;
        let Some(mut flying) = self.inward[side].pop_front() else { return };
        let header = &mut flying.header;
        match kind {
            0..=99 => {}
            100..=109 => burst.extend(self.enter(side, flying.clone(), 0, now)),
            110..=119 => {
                // The one behind it overtakes.
                if let Some(next) = self.inward[side].pop_front() {
                    burst.extend(self.enter(side, next, 0, now));
                }
            }
            120..=139 => {
                let (head, tail) = split(flying, by as usize);
                burst.extend(head.and_then(|head| self.enter(side, head, 0, now)));
                flying = tail;
            }
            140..=149 => flying.tos |= CE,
            150..=159 => header.window = by as u16,
            160..=169 => header.ack = header.ack - by,
            170..=171 => {
                header.ack += by;
                self.deceived |= by > 0;
            }
            172..=184 => {
                if let Some((value, echo)) = &mut header.options.timestamps {
                    *value = value.wrapping_sub(by);
                    // A stamp from the future makes all that is honest look old.
                    self.deceived |= (by as i32) < 0;
                    *echo = echo.wrapping_add(by % 3);
                }
            }
            185..=189 => header.options.timestamps = None,
            190..=199 => {
                for n in 0..1 + by % 3 {
                    let left = header.ack + by.wrapping_mul(n + 1);
                    header.options.sack.push(left, left + by % 3000);
                }
            }
            200..=214 => {
                header.flags =
                    header.flags.with(Flags(by as u8 & (Flags::PSH.0 | Flags::ECE.0 | Flags::CWR.0)))
            }
            215..=219 => {
                header.flags = header.flags.with(Flags::URG);
                header.urgent = by as u16;
            }
            // Fifty bytes behind the packet, as short frames have them.
            220..=239 => return burst.extend(self.enter(side, flying, 50, now)),
            _ => return,
        }
        burst.extend(self.enter(side, flying, 0, now));
    }

    /// Says again what a host has said: in pieces of other lengths, overlapping or with gaps, by headers that differ from
    /// each other.
    pub(super) fn forge(
        &mut self,
        side: usize,
        forgery: Forgery,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let Forgery { style, count, len, start } = forgery;
        let (Some(last), Some(acked)) = (self.last[side], self.acked[side]) else { return };
        let first = self.hosts[side].iss + 1;
        let mut place = (acked - start).0.wrapping_sub(first.0);
        for _ in 0..=count {
            if place > self.left[side] {
                return;
            }
            let len = if style & 1 == 0 { len } else { 1 + input.word() % 1448 };
            let end = (place + len).min(self.left[side]);
            let mut header = Header { seq: first + place, ..last };
            header.flags = Flags(header.flags.0 & !Flags::FIN.0);
            if end == self.hosts[side].written && self.ended[side] && style & 2 != 0 {
                header.flags = header.flags.with(Flags::FIN);
            }
            if let Some((value, _)) = &mut header.options.timestamps
                && style & 4 != 0
            {
                *value = value.wrapping_sub(u32::from(input.byte()));
            }
            if style & 8 != 0 {
                header.window = input.word() as u16;
            }
            if style & 16 != 0 {
                header.ack = header.ack - input.offset() % 4000;
            }
            if style & 32 != 0 {
                header.flags =
                    header.flags.with(Flags(input.byte() & (Flags::PSH.0 | Flags::ECE.0 | Flags::CWR.0)));
            }
            let text = (place..end).map(|at| byte_at(side, at)).collect();
            let tos = if style & 64 == 0 { 2 } else { input.byte() & CE };
            burst.extend(self.enter(side, Flying { tos, header, text }, 0, now));
            place = if style & 128 == 0 { end } else { (end + input.offset() % 40).saturating_sub(20) };
        }
    }

    /// A segment leaves its place and comes last, in either direction.
    pub(super) fn hold_back(&mut self, side: usize, which: usize) {
        let queue = if which & 1 == 0 { &mut self.inward[side] } else { &mut self.outward[side] };
        if let Some(flying) = queue.remove(which / 2) {
            queue.push_back(flying);
        }
    }

    pub(super) fn lose(&mut self, side: usize, which: usize) {
        let queue = if which & 1 == 0 { &mut self.inward[side] } else { &mut self.outward[side] };
        drop(queue.remove(which / 2));
    }

    /// Somebody who has seen the last segment slips in one without text.
    pub(super) fn intrude(
        &mut self,
        side: usize,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let flags = match input.byte() {
            0..=99 => Flags::RST,
            100..=119 => Flags::RST.with(Flags::ACK),
            120..=159 => Flags::SYN,
            160..=199 => Flags::SYN.with(Flags::ACK),
            _ => Flags::ACK,
        };
        let offset = input.offset();
        if let Some(seen) = self.last[side] {
            let header = Header { seq: seen.seq + offset, flags, options: Options::default(), ..seen };
            burst.extend(self.enter(side, Flying { tos: 0, header, text: Vec::new() }, 0, now));
        }
    }

    /// A frame that says nothing sensible: bytes of a real one were overwritten, or it ends early.
    pub(super) fn babble(
        &self,
        side: usize,
        input: &mut Input<'_>,
        now: Instant,
        burst: &mut Vec<ToProxy<VecFrame>>,
    ) {
        let (Some(flying), Binding::Open) = (self.inward[side].front().cloned(), self.binding) else {
            return;
        };
        let mut frame = self.masked(side, &flying, 0);
        let len = frame.data().len();
        match input.byte() {
            // A checksum notices a bit that is turned over, wherever it is.
            bit @ 0..=127 => {
                let at = L2_LEN + input.word() as usize % (len - L2_LEN);
                frame.data_mut()[at] ^= 1 << (bit % 8);
            }
            cut => {
                let kept = len.saturating_sub(1 + usize::from(cut) % len);
                assert!(frame.resize(kept));
            }
        }
        burst.push(ToProxy::Packet { frame, at: now });
    }
}

/// The first bytes of a segment's text, at most so many, and the rest; the flags that end it stay with the rest.
fn split(flying: Flying, at: usize) -> (Option<Flying>, Flying) {
    let Flying { tos, header, mut text } = flying;
    if text.is_empty() {
        return (None, Flying { tos, header, text });
    }
    let rest = text.split_off(at % text.len());
    let ending = Flags::FIN.with(Flags::PSH);
    let head = Header { flags: Flags(header.flags.0 & !ending.0), ..header };
    let tail = Header { seq: header.seq + text.len() as u32, ..header };
    (Some(Flying { tos, header: head, text }), Flying { tos, header: tail, text: rest })
}
