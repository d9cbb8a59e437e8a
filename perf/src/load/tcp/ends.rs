//! All ends of connections, clients' and servers', and whatever makes one of them act: a segment, a timer, or its application.
//!
//! Runs on: the generator's core. Allocates: a page when there have never been as many ends before, and where queues grow.
//! Blocks: never.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;
use pnat_proxy::chunk::Chunk;
use pnat_proxy::tcp::{Endpoint, Offer, Settings, Spares};
use pnat_shared::flow::Side;
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::slots::Slots;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wheel::Wheel;
use pnat_shared::wire::ethernet;
use pnat_shared::wire::tcp::{Flags, Header, Seq};

use super::account::{ClassAccount, record};
use super::client::{Client, ClientTurn, Gauge};
use super::segment::{self, Tuple, Useless};
use super::server::{Server, ServerTurn};
use super::sockets::ClientSockets;
use super::spec::{Answer, Class, Talk};
use super::talk::Preamble;

/// Resolution of timers.
const TICK: Duration = Duration::from_micros(100);
/// Timers that fire in one call, and ends that are visited, at most.
const BUDGET: usize = 512;
/// Segments that an end sends in one visit, at most.
const MOST_SEGMENTS: usize = 64;
/// What Ethernet carries, without IPv4's and TCP's headers.
const MSS: u16 = 1460;
/// 256 KiB unscaled, which lets windows grow to 16 MiB.
const SCALE: u8 = 8;
/// Endpoints stay so long to acknowledge a FIN that is repeated; their sockets rest longer.
const TIME_WAIT: Duration = Duration::from_millis(500);

#[derive(Debug)]
enum Role {
    Client(Client),
    Server(Server),
}

/// One end of a connection.
#[derive(Debug)]
struct End<F> {
    endpoint: Endpoint<F>,
    tuple: Tuple,
    role: Role,
    /// Behind the last of its sequence numbers that were sent.
    highest: Seq,
    is_ready: bool,
}

impl<F> End<F> {
    const fn side(&self) -> Side {
        match self.role {
            Role::Client(_) => Side::First,
            Role::Server(_) => Side::Second,
        }
    }
}

/// What the trial lends to each call.
#[derive(Debug)]
pub(super) struct Desk<'a> {
    pub(super) run: u16,
    pub(super) classes: &'a [Class],
    pub(super) accounts: &'a mut [ClassAccount],
    pub(super) sockets: &'a mut [ClientSockets],
    pub(super) now: Instant,
    /// How long a server bears with a silent client.
    pub(super) patience: Duration,
    pub(super) is_closing: bool,
}

/// Frames that nobody could make use of.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Strays {
    /// With a wrong checksum.
    pub(super) corrupt: u64,
    /// Of no connection, and no SYN for a server.
    pub(super) foreign: u64,
}

/// Ends by number, found by their addresses.
#[derive(Debug)]
pub(super) struct Ends<F> {
    slots: Slots<End<F>>,
    index: HashMap<Tuple, u32, FixedState>,
    wheel: Wheel,
    ready: VecDeque<u32>,
    fired: Vec<u32>,
    spares: Spares<F>,
    sent: Vec<F>,
    /// Clients whose connections have not come to an end, by class.
    live: Vec<u32>,
    most: usize,
    /// Ends below this number were aborted.
    aborted: u32,
    pub(super) open: Gauge,
    pub(super) strays: Strays,
}

impl<F: Frame> Ends<F> {
    /// For so many ends at a time, at most, of so many classes.
    pub(super) fn new(most: usize, classes: usize, now: Instant) -> Self {
        Self {
            slots: Slots::new(),
            index: HashMap::with_hasher(FixedState::default()),
            wheel: Wheel::new(TICK, now),
            ready: VecDeque::new(),
            fired: Vec::with_capacity(BUDGET),
            spares: Spares::default(),
            sent: Vec::with_capacity(MOST_SEGMENTS),
            live: vec![0; classes],
            most,
            aborted: 0,
            open: Gauge::default(),
            strays: Strays::default(),
        }
    }

    /// Clients whose connections have not come to an end, by class.
    pub(super) fn live(&self) -> &[u32] {
        &self.live
    }

    /// Opens a connection of a class, which was meant to be opened at `intended`. Answers false where no socket is free, or where
    /// there are as many ends as may be.
    pub(super) fn connect(&mut self, preamble: Preamble, intended: Instant, desk: &mut Desk<'_>) -> bool {
        let index = usize::from(preamble.class);
        let (class, now) = (&desk.classes[index], desk.now);
        let taken = if self.slots.len() < self.most { desk.sockets[index].take(now) } else { None };
        let Some((socket, local)) = taken else { return false };
        let account = &mut desk.accounts[index];
        account.counts.attempted += 1;
        record(&mut account.late, now.since(intended));
        let patience = if let Talk::HalfOpen(time) = class.talk { time } else { class.timeout };
        let remote = class.servers.at(preamble.number.into());
        let client = Client::new(preamble, socket, intended, now + patience);
        // What comes later from the same socket begins higher (RFC 6528, RFC 6191).
        let iss = Seq((now.as_nanos() / 4_096) as u32);
        let endpoint = Endpoint::connect(settings(class.window), local, remote, iss, offer(now), now);
        self.live[index] += 1;
        self.insert(End {
            endpoint,
            tuple: Tuple { local, remote },
            role: Role::Client(client),
            highest: iss,
            is_ready: false,
        });
        true
    }

    fn insert(&mut self, end: End<F>) {
        let tuple = end.tuple;
        let key = self.slots.insert(end);
        self.index.insert(tuple, key);
        self.touch(key);
    }

    fn touch(&mut self, key: u32) {
        if let Some(end) = self.slots.get_mut(key).filter(|end| !end.is_ready) {
            end.is_ready = true;
            self.ready.push_back(key);
        }
    }

    /// Makes every end look up: the trial is closing.
    pub(super) fn touch_all(&mut self) {
        (0..self.slots.bound()).for_each(|key| self.touch(key));
    }

    /// A frame has come to the clients' or the servers' port.
    pub(super) fn take(&mut self, frame: F, desk: &mut Desk<'_>) {
        let arrival = match segment::read(&frame) {
            Ok(arrival) => arrival,
            Err(Useless::Corrupt) => return self.strays.corrupt += 1,
            Err(Useless::Foreign) => return self.strays.foreign += 1,
        };
        let segment::Arrival { tuple, header, text } = arrival;
        let Some(&key) = self.index.get(&tuple) else {
            return self.meet(tuple, &header, desk);
        };
        let end = &mut self.slots[key];
        if is_syn(&header) && matches!(end.role, Role::Server(_)) && end.endpoint.may_reopen(&header) {
            self.remove(key, desk);
            return self.meet(tuple, &header, desk);
        }
        if let Role::Client(client) = &mut end.role
            && let Talk::HalfOpen(_) = desk.classes[usize::from(client.class)].talk
        {
            let accepts = header.flags.has(Flags::SYN) && !header.flags.has(Flags::RST);
            let mut turn = client_turn(client.class, &mut self.open, desk);
            client.on_answer(accepts, &mut turn);
            return self.touch(key);
        }
        end.endpoint.lend_to_receive(&mut self.spares);
        // What is of no use to the endpoint is the path's doing, and its peer repeats it.
        let _ = end.endpoint.on_segment(&header, Chunk::from_frame(frame, text.start, text.end), desk.now);
        self.touch(key);
    }

    /// A segment of a connection that is not known.
    fn meet(&mut self, tuple: Tuple, header: &Header, desk: &Desk<'_>) {
        let answer = desk.classes.iter().find(|class| class.servers.holds(tuple.local));
        let Some(class) = answer.filter(|_| is_syn(header)) else {
            self.strays.foreign += 1;
            return;
        };
        if class.answer == Answer::Silent || self.slots.len() >= self.most {
            return;
        }
        let (Tuple { local, remote }, now) = (tuple, desk.now);
        let mut endpoint = Endpoint::accept(settings(class.window), local, remote, header, now);
        let iss = Seq((now.as_nanos() / 4_096) as u32);
        if class.answer == Answer::Refuse {
            endpoint.abort();
        } else {
            endpoint.answer(iss, offer(now), now);
        }
        self.insert(End {
            endpoint,
            tuple,
            role: Role::Server(Server::new()),
            highest: iss,
            is_ready: false,
        });
    }

    /// Finds the ends whose time has come.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut fired = std::mem::take(&mut self.fired);
        self.wheel.expire(now, BUDGET, &mut fired);
        for key in fired.drain(..) {
            self.touch(key);
        }
        self.fired = fired;
    }

    /// When something is to be done; [`Instant::ZERO`] where that is now.
    pub(super) fn due(&self) -> Instant {
        if self.ready.is_empty() { self.wheel.next_fire().unwrap_or(Instant::FAR) } else { Instant::ZERO }
    }

    /// Lets ends act in the order in which they asked for it; appends what they send, by side.
    pub(super) fn visit(
        &mut self,
        desk: &mut Desk<'_>,
        links: &[ethernet::Header; 2],
        pool: &mut impl FramePool<F>,
        out: &mut [Vec<F>; 2],
    ) {
        for _ in 0..self.ready.len().min(BUDGET) {
            let Some(key) = self.ready.pop_front() else { return };
            self.visit_one(key, desk, links, pool, out);
        }
    }

    fn visit_one(
        &mut self,
        key: u32,
        desk: &mut Desk<'_>,
        links: &[ethernet::Header; 2],
        pool: &mut impl FramePool<F>,
        out: &mut [Vec<F>; 2],
    ) {
        let Some(end) = self.slots.get_mut(key) else { return };
        end.is_ready = false;
        let now = desk.now;
        end.endpoint.lend_to_send(&mut self.spares);
        let wake = match &mut end.role {
            Role::Client(client) => {
                let (classes, was_over) = (desk.classes, client.is_over());
                let index = usize::from(client.class);
                let class = &classes[index];
                let mut turn = client_turn(client.class, &mut self.open, desk);
                let wake = if let Talk::HalfOpen(time) = class.talk {
                    client.forget(client.intended() + time, &mut turn)
                } else {
                    if end.endpoint.deadline() <= now {
                        end.endpoint.on_timer(now);
                    }
                    client.turn(&mut end.endpoint, &mut turn)
                };
                self.live[index] -= u32::from(client.is_over() && !was_over);
                wake
            }
            Role::Server(server) => {
                if end.endpoint.deadline() <= now {
                    end.endpoint.on_timer(now);
                }
                let Desk { run, classes, patience, .. } = *desk;
                server.turn(
                    &mut end.endpoint,
                    &mut ServerTurn { run, classes, accounts: desk.accounts, now, patience },
                )
            }
        };
        let side = end.side();
        let complete = end.endpoint.transmit(pool, now, MOST_SEGMENTS, &mut self.sent);
        let class = match &end.role {
            Role::Client(client) => Some(client.class),
            Role::Server(server) => server.class(),
        };
        let more = self.sent.len() >= MOST_SEGMENTS || !complete;
        let mut again = 0;
        for mut frame in self.sent.drain(..) {
            if let Some((first, behind)) = segment::extent(&frame)
                && first != behind
            {
                again += u64::from(!behind.after(end.highest));
                end.highest = end.highest.max(behind);
            }
            links[side as usize].write(frame.data_mut());
            out[side as usize].push(frame);
        }
        if let Some(class) = class {
            desk.accounts[usize::from(class)].counts.retransmitted[side as usize] += again;
        }
        end.endpoint.give_back(&mut self.spares);
        self.settle(key, wake, more, desk);
    }

    /// Ends up to so many connections by RST, the first ones in the table; answers whether there are more.
    pub(super) fn abort(
        &mut self,
        count: usize,
        desk: &mut Desk<'_>,
        links: &[ethernet::Header; 2],
        pool: &mut impl FramePool<F>,
        out: &mut [Vec<F>; 2],
    ) -> bool {
        let bound = self.slots.bound();
        for key in (self.aborted..bound).take(count) {
            if let Some(end) = self.slots.get_mut(key) {
                let side = end.side() as usize;
                end.endpoint.abort();
                end.endpoint.transmit(pool, desk.now, 1, &mut self.sent);
                for mut frame in self.sent.drain(..) {
                    links[side].write(frame.data_mut());
                    out[side].push(frame);
                }
                self.remove(key, desk);
            }
            self.aborted = key + 1;
        }
        self.aborted < bound
    }

    /// What is over goes; what is not waits for its time.
    fn settle(&mut self, key: u32, wake: Instant, more: bool, desk: &mut Desk<'_>) {
        let end = &self.slots[key];
        let is_half_open = matches!(&end.role, Role::Client(client)
            if matches!(desk.classes[usize::from(client.class)].talk, Talk::HalfOpen(_)));
        let is_over = match &end.role {
            Role::Client(client) => client.is_over() && (is_half_open || end.endpoint.is_over()),
            Role::Server(server) => server.is_over() && end.endpoint.is_over(),
        };
        if is_over {
            return self.remove(key, desk);
        }
        let due = if is_half_open { wake } else { wake.min(end.endpoint.deadline()) };
        if due == Instant::FAR {
            self.wheel.cancel(key);
        } else {
            self.wheel.arm(key, due);
        }
        if more {
            self.touch(key);
        }
    }

    fn remove(&mut self, key: u32, desk: &mut Desk<'_>) {
        self.wheel.cancel(key);
        let Some(end) = self.slots.remove(key) else { return };
        self.index.remove(&end.tuple);
        if let Role::Client(client) = end.role {
            desk.sockets[usize::from(client.class)].give_back(client.socket, desk.now);
        }
    }
}

fn client_turn<'a>(class: u16, open: &'a mut Gauge, desk: &'a mut Desk<'_>) -> ClientTurn<'a> {
    let Desk { classes, accounts, now, is_closing, .. } = desk;
    let index = usize::from(class);
    ClientTurn {
        class: &classes[index],
        account: &mut accounts[index],
        open,
        now: *now,
        is_closing: *is_closing,
    }
}

const fn is_syn(header: &Header) -> bool {
    header.flags.has(Flags::SYN) && !header.flags.has(Flags::ACK)
}

fn settings(window: u32) -> Settings {
    Settings { window, time_wait: TIME_WAIT, ..Settings::default() }
}

const fn offer(now: Instant) -> Offer {
    let stamp = now.as_millis() as u32;
    Offer { mss: MSS, window_scale: Some(SCALE), sack: true, timestamp: Some(stamp), ecn: false }
}
