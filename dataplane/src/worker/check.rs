//! Health checks of servers ([`pnat_shared::check`]): connections that the gateway opens by itself, on its first worker.
//!
//! Runs on: worker. Allocates: when the policy changes. Blocks: never.
//!
//! ```text
//!               SYN, again each second          request, again each second
//!   (resting) ------------------------> calling ---------------------------> asked ---status line---> (resting)
//!       ^                                  |  no request: enough                |                         |
//!       '---- RST, ICMP error, time over --+------------------------------------'          a reset is sent at each end
//! ```
//!
//! A check is a flow like others, with a public port of its own; its client is the gateway's own address, and what comes for that
//! ends here. Nothing but the beginning of the response is wanted, and the rest of it is never acknowledged, so a few numbers are
//! all the state that such a connection needs.

use core::net::Ipv4Addr;
use core::net::SocketAddrV4;

use pnat_shared::check::{Check, Finding, MOST_REQUEST};
use pnat_shared::flow::{Handle, Protocol, Stream};
use pnat_shared::frame::{Checksum, Frame, FramePool, L2_LEN};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::tcp::{self, Flags, Header, Seq};
use pnat_shared::wire::{icmp, ip};

use super::parse::{self, Packet};
use super::{Outputs, Worker};
use crate::nat::Opening;
use crate::nat::binding::Path;
use crate::nat::tuple::Tuple;

/// When what was not answered is sent again.
const AGAIN: Duration = Duration::from_secs(1);
/// What every response of HTTP/1 begins with: `HTTP/1.1 200`.
const BEGIN: usize = 12;
/// What a server may send at once: no more is wanted.
const WINDOW: u16 = 4096;
/// The checks' ports on the gateway's own address.
const FIRST_PORT: u16 = 1024;

/// All checks of a policy.
#[derive(Debug, Default)]
pub(super) struct Checks {
    runs: Vec<Run>,
    /// When the first of them is due.
    due: Option<Instant>,
}

impl Checks {
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.due
    }

    fn find(&self, handle: Handle) -> Option<usize> {
        self.runs.iter().position(|run| run.call.as_ref().is_some_and(|call| call.handle == handle))
    }

    fn reckon(&mut self) {
        self.due = self.runs.iter().map(|run| run.due).min();
    }
}

#[derive(Debug)]
struct Run {
    check: Check,
    /// `None` while it rests.
    call: Option<Call>,
    /// When there is something to be done for it.
    due: Instant,
}

/// A connection to the server.
#[derive(Copy, Clone, Debug)]
struct Call {
    handle: Handle,
    began: Instant,
    iss: Seq,
    /// The server's, once it has answered.
    irs: Option<Seq>,
    /// The response's beginning, as far as it has come.
    said: [u8; BEGIN],
    heard: usize,
}

impl Call {
    /// What is to come next.
    fn next(&self, irs: Seq) -> Seq {
        irs + 1 + self.heard as u32
    }

    /// Takes a segment of the response; as soon as enough of it is there, what it says. What comes out of order, or was lost, comes
    /// again: none of it is acknowledged.
    fn hear(mut self, irs: Seq, header: &Header, text: &[u8]) -> Result<Self, Finding> {
        let next = self.next(irs);
        if header.flags.has(Flags::RST) {
            // At the exact number only (RFC 5961 section 3.2).
            return if header.seq == next { Err(Finding::Reset) } else { Ok(self) };
        }
        let known = usize::try_from(next.distance(header.seq));
        let fresh = known.ok().and_then(|known| text.get(known..));
        let Some(fresh) = fresh.filter(|_| !header.flags.has(Flags::SYN)) else { return Ok(self) };
        let count = fresh.len().min(BEGIN - self.heard);
        self.said[self.heard..self.heard + count].copy_from_slice(&fresh[..count]);
        self.heard += count;
        if self.heard == BEGIN {
            return Err(self.status().map_or(Finding::Garbage, Finding::Status));
        }
        if header.flags.has(Flags::FIN) { Err(Finding::Garbage) } else { Ok(self) }
    }

    /// The status that the response's beginning tells.
    fn status(&self) -> Option<u16> {
        let status = self.said.strip_prefix(b"HTTP/1.")?.split_at_checked(2)?;
        let digits = str::from_utf8(status.1).ok().filter(|_| status.0[1] == b' ')?;
        digits.parse().ok()
    }
}

/// A segment of ours.
struct Words<'a> {
    flags: Flags,
    seq: Seq,
    ack: Option<Seq>,
    text: &'a [u8],
}

impl Words<'_> {
    const fn new(flags: Flags, seq: Seq, ack: Option<Seq>) -> Self {
        Self { flags, seq, ack, text: &[] }
    }
}

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// From now on these servers are asked. For one worker.
    pub fn set_checks(&mut self, checks: Vec<Check>, now: Instant, out: &mut Outputs<F>) {
        for index in 0..self.checks.runs.len() {
            self.hang_up(index, now, out);
        }
        self.checks.runs = checks.into_iter().map(|check| Run { check, call: None, due: now }).collect();
        self.checks.reckon();
    }

    /// Does what is due.
    pub(super) fn check(&mut self, now: Instant, out: &mut Outputs<F>) {
        if self.checks.due.is_none_or(|due| now < due) {
            return;
        }
        for index in 0..self.checks.runs.len() {
            if self.checks.runs[index].due <= now {
                self.go_on(index, now, out);
            }
        }
        self.checks.reckon();
    }

    fn go_on(&mut self, index: usize, now: Instant, out: &mut Outputs<F>) {
        let run = &self.checks.runs[index];
        let Some(call) = run.call else { return self.begin(index, now, out) };
        let until = call.began + run.check.timeout;
        // Its flow may have been ended by somebody.
        if until <= now || self.nat.slot(call.handle).is_none() {
            return self.conclude(index, Finding::Silence, now, out);
        }
        self.checks.runs[index].due = (now + AGAIN).min(until);
        match call.irs {
            None => self.say(&call, Words::new(Flags::SYN, call.iss, None), now, out),
            Some(irs) => self.ask(index, irs, now, out),
        }
    }

    fn begin(&mut self, index: usize, now: Instant, out: &mut Outputs<F>) {
        let check = &self.checks.runs[index].check;
        let (server, interval, timeout) = (check.server, check.interval, check.timeout);
        self.checks.runs[index].due = now + interval;
        if self.is_draining {
            return;
        }
        let Some(handle) = self.open_check(index, server, now) else {
            let told = &self.checks.runs[index].check.told;
            return told.checked(server, Finding::Unreachable, now);
        };
        // A number that nobody outside can tell (RFC 6528), so that nobody answers in the server's name.
        let Some(tuple) =
            self.nat.slot(handle).and_then(|slot| self.nat.flows().entry(slot)).map(|(keys, _)| keys[1])
        else {
            return;
        };
        let iss = self.early.number(&tuple, now);
        let call = Call { handle, began: now, iss, irs: None, said: [0; BEGIN], heard: 0 };
        self.checks.runs[index].call = Some(call);
        self.checks.runs[index].due = now + AGAIN.min(timeout);
        self.say(&call, Words::new(Flags::SYN, iss, None), now, out);
    }

    /// Opens a flow from the gateway's own address.
    fn open_check(&mut self, index: usize, server: SocketAddrV4, now: Instant) -> Option<Handle> {
        let egress = self.routes.outward(*server.ip())?;
        let own = self.routes.address_toward(egress, *server.ip())?;
        let client = SocketAddrV4::new(own, FIRST_PORT.wrapping_add(index as u16));
        let opening = Opening {
            inside: Tuple::new(Protocol::Tcp, client, server),
            path: Path::Own,
            egress: [egress; 2],
            policy: self.policy.generation,
            rule: None,
            client: self.shards.hash(own),
            inbound: false,
            proven: true,
        };
        match self.nat.open(&opening, now) {
            Ok(slot) => Some(self.nat.handle(slot)),
            Err(reason) => {
                self.stats.drops.add(reason, 1);
                None
            }
        }
    }

    /// Sends the request.
    fn ask(&mut self, index: usize, irs: Seq, now: Instant, out: &mut Outputs<F>) {
        let run = &self.checks.runs[index];
        let (Some(call), Some(request)) = (run.call, run.check.request.clone()) else { return };
        let words = Words::new(Flags::ACK.with(Flags::PSH), call.iss + 1, Some(irs + 1));
        self.say(&call, Words { text: &request, ..words }, now, out);
    }

    fn say(&mut self, call: &Call, words: Words<'_>, now: Instant, out: &mut Outputs<F>) {
        let Words { flags, seq, ack, text } = words;
        let Some(slot) = self.nat.slot(call.handle) else { return };
        let Some((keys, _)) = self.nat.flows().entry(slot) else { return };
        let to = keys[1].reversed();
        let (src, dst): (Ipv4Addr, Ipv4Addr) = (*to.src().ip(), *to.dst().ip());
        let mut options = tcp::Options::default();
        if flags.has(Flags::SYN) {
            options.mss = Some(MOST_REQUEST as u16);
        }
        let header = Header {
            src_port: to.src().port(),
            dst_port: to.dst().port(),
            seq,
            ack: ack.unwrap_or(Seq(0)),
            flags,
            window: WINDOW,
            urgent: 0,
            options,
        };
        let whole = ip::MIN_LEN + header.len() + text.len();
        let Some(mut frame) = self.pool.alloc() else {
            return self.stats.drops.add(DropReason::NoFrame, 1);
        };
        if !frame.resize(L2_LEN + whole) {
            return self.stats.drops.add(DropReason::NoFrame, 1);
        }
        frame.set_checksum(Checksum::Unchecked);
        let packet = &mut frame.data_mut()[L2_LEN..];
        let segment = &mut packet[ip::MIN_LEN..];
        segment[header.len()..].copy_from_slice(text);
        header.write(segment, src, dst);
        ip::Header::new(6, src, dst, whole).write(packet);
        self.stats.generated.add(1);
        self.nat.pass(slot, Stream::First, flags, whole, now);
        self.send_on(frame, slot, Stream::First, dst, now, out);
    }

    /// A segment from a server that is checked.
    #[cold]
    pub(super) fn on_checked(
        &mut self,
        frame: &F,
        slot: u32,
        packet: &Packet,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        if !parse::is_intact(frame) {
            return self.stats.drops.add(DropReason::L4Checksum, 1);
        }
        self.stats.absorbed.add(1);
        let whole = frame.data().len() - L2_LEN;
        self.nat.pass(slot, packet.stream, packet.flags, whole, now);
        let segment = &frame.data()[L2_LEN + ip::MIN_LEN..];
        let Ok((header, len)) = Header::read(segment) else { return };
        let Some(index) = self.checks.find(self.nat.handle(slot)) else { return };
        let Some(call) = self.checks.runs[index].call else { return };
        match call.irs {
            None => self.on_answer(index, &call, &header, now, out),
            Some(irs) => match call.hear(irs, &header, &segment[len..]) {
                Ok(call) => self.checks.runs[index].call = Some(call),
                Err(finding) => self.conclude(index, finding, now, out),
            },
        }
        self.checks.reckon();
    }

    fn on_answer(&mut self, index: usize, call: &Call, header: &Header, now: Instant, out: &mut Outputs<F>) {
        if !header.flags.has(Flags::ACK) || header.ack != call.iss + 1 {
            return;
        }
        if header.flags.has(Flags::RST) {
            return self.conclude(index, Finding::Reset, now, out);
        }
        if !header.flags.has(Flags::SYN) {
            return;
        }
        let run = &mut self.checks.runs[index];
        run.call = Some(Call { irs: Some(header.seq), ..*call });
        if run.check.request.is_none() {
            return self.conclude(index, Finding::Connected, now, out);
        }
        run.due = (now + AGAIN).min(call.began + run.check.timeout);
        self.ask(index, header.seq, now, out);
    }

    /// An ICMP error about a check's packet.
    #[cold]
    pub(super) fn on_check_error(&mut self, frame: &F, slot: u32, now: Instant, out: &mut Outputs<F>) {
        self.stats.absorbed.add(1);
        let error = frame.data().get(L2_LEN + ip::MIN_LEN..).map(icmp::Header::read);
        let is_unreachable =
            |error: &icmp::Header| error.kind == icmp::UNREACHABLE && !error.asks_for_shorter();
        if error.and_then(Result::ok).as_ref().is_some_and(is_unreachable)
            && let Some(index) = self.checks.find(self.nat.handle(slot))
        {
            self.conclude(index, Finding::Unreachable, now, out);
            self.checks.reckon();
        }
    }

    /// A check is over until the next time.
    fn conclude(&mut self, index: usize, finding: Finding, now: Instant, out: &mut Outputs<F>) {
        let Some(call) = self.checks.runs[index].call else { return };
        self.hang_up(index, now, out);
        let run = &mut self.checks.runs[index];
        run.due = (call.began + run.check.interval).max(now);
        run.check.told.checked(run.check.server, finding, now);
    }

    /// Resets a connection, where there is one.
    fn hang_up(&mut self, index: usize, now: Instant, out: &mut Outputs<F>) {
        let run = &mut self.checks.runs[index];
        let Some(call) = run.call.take() else { return };
        if let Some(irs) = call.irs {
            let asked = run.check.request.as_ref().map_or(0, |request| request.len());
            let (seq, ack) = (call.iss + 1 + asked as u32, call.next(irs));
            self.say(&call, Words::new(Flags::RST.with(Flags::ACK), seq, Some(ack)), now, out);
        }
        if let Some(slot) = self.nat.slot(call.handle) {
            self.nat.close(slot, now);
        }
    }
}
