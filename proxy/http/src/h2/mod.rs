//! HTTP/2, with prior knowledge (RFC 9113 section 3.3) or by an upgrade of HTTP/1.1 (RFC 7540 section 3.2): each of its streams is
//! an exchange that filters see as they see HTTP/1's.
//!
//! Runs on: proxy cores. Allocates: per stream, and for what waits: some 100 KB for each of a hundred, 2 MB for a connection; what
//! filters answer with is shared. Blocks: never.
//!
//! ```text
//!   client ==> h2, as a server -- HTTP/1 --> Connection, with its filters -- HTTP/1 --> h2, as a client ==> server
//!          <==                 <-----------                               <-----------                  <==
//! ```
//!
//! The crate `h2` keeps the frames, both windows and HPACK. It is driven by hand: bytes go in and out of memory, and everything
//! is polled anew after each input, with a waker that does nothing. Between its two roles each stream is written as HTTP/1 and
//! read by the strict codec: what HTTP/2 can say and HTTP/1 cannot ends there, and filters, limits and answers are the same.
//!
//! The server is asked once a stream has something for it. All streams share one connection to it. One that is to go to another server
//! waits a moment for the others to be through, and is refused then, with a word that the client's next streams are welcome by another
//! connection (RFC 9113 sections 6.8 and 8.7).

mod client;
mod content;
mod pace;
mod server;
mod stream;
mod translate;
mod transport;
mod upgrade;

use std::any::Any;
use std::fmt;
use std::net::SocketAddrV4;

use bytes::{Bytes, BytesMut};
use pnat_shared::flow;
use pnat_shared::time::{Duration, Instant};

use crate::cascade;
use crate::codec::{Fault, MOST_FIELDS};
use crate::connection::{Connection, End, Look, Outcome, Settings, Why};
use crate::filter::{Failure, Gateway};
use crate::piece::Script;
use client::ClientSide;
use pace::Pace;
use server::ServerSide;
use stream::{Stream, Turn};
pub(crate) use upgrade::{PLAIN_SETTINGS, settings_of};

/// Content that may wait with either role, of one stream and of all, in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const WINDOW: u32 = 1024 * 1024;

/// How long a look waits for what gives no sign: a server that is leaving, a client that takes what is left.
const RESPITE: Duration = Duration::from_millis(20);

/// How long it waits for who takes what is sent, which is told.
const PATIENCE: Duration = Duration::from_secs(1);

/// Streams that a client may reset before they are answered, unless that are fewer than half of them.
const MOST_RESETS: u64 = 200;

/// Fields that filters may add to what a client or server may say: what leaves them is read once more.
const FIELDS_LEFT: usize = 16;

/// What the connections of streams go by.
pub fn stream_settings(settings: &Settings) -> Settings {
    let mut settings = settings.clone();
    settings.limits.fields = settings.limits.fields.min(MOST_FIELDS - FIELDS_LEFT);
    settings
}

/// One connection of HTTP/2, between a client and a server that both speak it. Looked at as a [`Connection`] is.
pub struct Multiplex {
    client: ClientSide,
    server: Option<ServerSide>,
    streams: Vec<Stream>,
    /// Makes the connection, with filters of its own, of the stream of this number.
    make: Box<dyn Fn(u64) -> Connection + Send>,
    /// Streams that the client has opened so far.
    opened: u64,
    /// Largest field section, in bytes, as both roles announce it.
    largest_head: u32,
    /// Where the bytes go that were let out for a server last.
    target: Option<SocketAddrV4>,
    host: String,
    decided: Option<Box<str>>,
    ends: Vec<Why>,
    /// The server has ended its stream of the flow: nothing can be had from one any more.
    has_ended: bool,
    /// A server has been spoken to, or heard.
    has_met: bool,
    /// When bytes were let out for a server last: those of one turn are for one server.
    spoke_at: Instant,
    /// Bytes of the server that were shown and not taken; and how many of the next ones are of a server that was left.
    untaken: usize,
    outdated: usize,
    /// The connection to a server is of no more use, and is to be dropped.
    leaves: bool,
    /// Streams that the client reset.
    resets: u64,
    pace: Pace,
}

/// What goes out by one look.
#[derive(Default)]
struct Sent {
    to_client: BytesMut,
    to_server: BytesMut,
}

impl Multiplex {
    /// For a client that begins with HTTP/2. `make` makes the connection of each stream: [`Connection::of_stream`].
    pub fn new(settings: &Settings, make: Box<dyn Fn(u64) -> Connection + Send>) -> Self {
        let largest_head = u32::try_from(settings.limits.head).unwrap_or(u32::MAX);
        Self {
            client: ClientSide::new(largest_head),
            largest_head,
            server: None,
            streams: Vec::new(),
            make,
            opened: 0,
            target: None,
            host: String::new(),
            decided: None,
            ends: Vec::new(),
            has_ended: false,
            has_met: false,
            spoke_at: Instant::ZERO,
            untaken: 0,
            outdated: 0,
            leaves: false,
            resets: 0,
            pace: Pace::new(settings.head_timeout),
        }
    }

    /// For a connection of HTTP/1.1 that both sides have just upgraded ([`End::Upgraded`]); the response to its request is yet to
    /// come. An error: that cannot be.
    pub fn upgraded(
        settings: &Settings,
        mut connection: Box<Connection>,
        make: Box<dyn Fn(u64) -> Connection + Send>,
    ) -> Result<Self, Box<Connection>> {
        let target = connection.target();
        let mut new = Self::new(settings, make);
        let Some((server, awaited)) = ServerSide::upgraded(target, new.largest_head) else {
            return Err(connection);
        };
        new.client.await_upgraded(connection.take_http2_settings());
        new.server = Some(server);
        new.has_met = true;
        new.opened = connection.exchange().number + 1;
        new.target = target;
        new.streams.push(Stream::upgraded(connection, awaited));
        Ok(new)
    }

    /// Where the bytes go that were let out for a server last; `None`: to the server that the client addressed.
    pub const fn target(&self) -> Option<SocketAddrV4> {
        self.target
    }

    /// What filters decided on the last exchange that they decided on, once: `filter: sentence`.
    pub const fn take_decision(&mut self) -> Option<Box<str>> {
        self.decided.take()
    }

    /// Why streams were refused or ended, since this was asked last.
    pub fn take_ends(&mut self) -> Vec<Why> {
        std::mem::take(&mut self.ends)
    }

    /// The host that a request named; empty before.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the client may hear more although no server speaks to it. Where one had to do with a stream, that one's end is the
    /// stream's.
    pub fn keeps_client(&self) -> bool {
        self.client.is_open() && !self.streams.iter().any(Stream::is_with_server)
    }

    /// The server has ended its connection, or failed, without the client being told: another one is asked when something is for it.
    pub fn parted(&mut self) {
        self.server = None;
        self.outdated = self.untaken;
    }

    /// Looks at the client's bytes.
    pub fn on_request(&mut self, look: &mut Look<'_>) -> Outcome {
        let (taken, sent, mut outcome) = self.look(look, flow::Stream::First);
        if self.has_ended {
            // The last word is that of the look at the server's stream, behind what is on its way there.
            outcome.end = End::Open;
            outcome.again = self.streams.is_empty();
        } else if look.end && outcome.end == End::Open {
            // Whoever speaks HTTP/2 and ends its stream has left.
            self.end_streams(look.now, look.gateway);
            outcome.end = End::Closed(Why::Finished);
        }
        let mut script = Script::default();
        script.skip(taken);
        script.insert(sent.to_server.freeze());
        Outcome { pieces: script.pieces, back: pieces(sent.to_client), ..outcome }
    }

    /// Looks at the server's bytes.
    pub fn on_response(&mut self, look: &mut Look<'_>) -> Outcome {
        let (taken, mut sent, mut outcome) = self.look(look, flow::Stream::Second);
        if look.end && taken == look.bytes.len() && outcome.end == End::Open {
            if !std::mem::replace(&mut self.has_ended, true) {
                // What has come of it may still be on its way to a client that takes its time.
                self.server = None;
                self.client.part();
            }
            if self.streams.is_empty() {
                self.say_goodbye(look, &mut sent.to_client);
                outcome.end = End::Closed(Why::Finished);
            } else {
                want(&mut outcome, look.now + PATIENCE);
            }
        }
        let mut script = Script::default();
        script.skip(taken);
        script.insert(sent.to_client.freeze());
        Outcome { pieces: script.pieces, back: pieces(sent.to_server), ..outcome }
    }

    /// What was given for a filter's ticket; a look is to follow.
    pub fn given(&mut self, now: Instant, gateway: &mut dyn Gateway, given: Box<dyn Any + Send>) {
        let number = cascade::exchange_of(&*given);
        let stream = self.streams.iter_mut().find(|stream| Some(stream.number()) == number);
        if let Some(stream) = stream {
            stream.connection().given(now, gateway, given);
        }
    }

    /// The server cannot be asked, or has failed; answers what the client is told. The connection ends behind it.
    pub fn server_failed(&mut self, now: Instant, gateway: &mut dyn Gateway, failure: Failure) -> Vec<Bytes> {
        self.server = None;
        let look = &mut Look { now, gateway, bytes: &[], end: false, room: [usize::MAX; 2] };
        self.fail_streams(look, failure);
        let mut told = BytesMut::new();
        self.say_goodbye(look, &mut told);
        pieces(told)
    }

    /// The connection has ended, in whatever way.
    pub fn close(&mut self, now: Instant, gateway: &mut dyn Gateway) {
        self.end_streams(now, gateway);
    }

    fn end_streams(&mut self, now: Instant, gateway: &mut dyn Gateway) {
        let mut turn = Turn::new(now, gateway);
        for mut stream in self.streams.drain(..) {
            stream.end(&mut turn);
            self.decided = stream.connection().take_decision().or_else(|| self.decided.take());
        }
    }

    fn fail_streams(&mut self, look: &mut Look<'_>, failure: Failure) {
        let mut turn = Turn::new(look.now, look.gateway);
        self.streams.iter_mut().for_each(|stream| stream.server_failed(&mut turn, failure));
        self.ends.append(&mut turn.ends);
    }

    /// Sends what can be sent to a client whose connection ends, and that it ends.
    fn say_goodbye(&mut self, look: &mut Look<'_>, to_client: &mut BytesMut) {
        let look =
            &mut Look { now: look.now, gateway: look.gateway, bytes: &[], end: false, room: [usize::MAX; 2] };
        let (_, sent, _) = self.look(look, flow::Stream::First);
        to_client.unsplit(sent.to_client);
        self.client.leave(to_client);
    }

    /// Does what can be done with the bytes that this stream of the flow has brought; answers how many of them were taken.
    fn look(&mut self, look: &mut Look<'_>, from: flow::Stream) -> (usize, Sent, Outcome) {
        let (mut taken, mut sent, mut outcome) = (0, Sent::default(), Outcome::default());
        loop {
            let count = self.take_in(look, from, taken);
            taken += count;
            let mut progress = count > 0;
            loop {
                match self.accept() {
                    Ok(true) => progress = true,
                    Ok(false) => break,
                    Err(why) => {
                        outcome.end = End::Closed(why);
                        break;
                    }
                }
            }
            if self.server.as_mut().is_some_and(ServerSide::drive) {
                // The next ones are welcome by another connection, to a server that may be well again.
                self.ends.push(Why::Response(Fault::Malformed("HTTP/2 that breaks its rules")));
                self.client.part();
            }
            progress |= self.run_streams(look, &sent, &mut outcome);
            let room = [look.room[0] - sent.to_server.len(), look.room[1] - sent.to_client.len()];
            if self.server.as_mut().is_some_and(|server| server.take(room[0], &mut sent.to_server)) {
                progress = true;
                self.spoke_at = look.now;
            }
            progress |= self.client.take(room[1], &mut sent.to_client);
            if !progress || outcome.end != End::Open {
                break;
            }
        }
        if from == flow::Stream::Second {
            self.untaken = look.bytes.len() - taken;
        } else if outcome.end == End::Open {
            self.keep_pace(look.now, &mut outcome);
        }
        outcome.leaves = std::mem::take(&mut self.leaves);
        if outcome.leaves {
            sent.to_server.clear();
            want(&mut outcome, look.now);
        }
        let is_full = sent.to_server.len() == look.room[0] || sent.to_client.len() == look.room[1];
        if is_full || taken < look.bytes.len() {
            outcome.wants_room = true;
            want(&mut outcome, look.now + PATIENCE);
        }
        (taken, sent, outcome)
    }

    /// Hands the bytes behind those taken already to the role that they are for; answers how many it took.
    fn take_in(&mut self, look: &Look<'_>, from: flow::Stream, taken: usize) -> usize {
        let rest = &look.bytes[taken..];
        if from == flow::Stream::First {
            let count = self.client.put(rest);
            self.pace.note(&rest[..count], look.now);
            return count;
        }
        let outdated = std::mem::take(&mut self.outdated).min(rest.len());
        if outdated > 0 {
            return outdated;
        }
        if self.server.is_none() && !rest.is_empty() && !std::mem::replace(&mut self.has_met, true) {
            // One that speaks first.
            self.server = Some(ServerSide::new(None, self.largest_head));
        }
        // What a server still says with which nobody has to do any more is dropped.
        self.server.as_mut().map_or(rest.len(), |server| server.put(rest))
    }

    /// Ends the connection of a client that takes too long for a head, or opens streams only to reset them.
    fn keep_pace(&self, now: Instant, outcome: &mut Outcome) {
        if let Some(until) = self.pace.until() {
            if until <= now {
                outcome.end = End::Closed(Why::Slow);
                return;
            }
            want(outcome, until);
        }
        if self.resets > MOST_RESETS && self.resets > self.opened / 2 {
            outcome.end =
                End::Closed(Why::Request(Fault::BadRequest("streams that are reset as they are opened")));
        }
    }

    /// Takes up streams that the client has opened; answers whether there was one, and why the connection ends if it does.
    fn accept(&mut self) -> Result<bool, Why> {
        let Some((request, mut respond)) = self.client.accept()? else { return Ok(false) };
        if self.client.was_upgraded() {
            // The request that is made up for the first stream stands for the one of HTTP/1.1.
            match self.streams.first_mut() {
                Some(stream) => stream.respond_by(respond),
                None => respond.send_reset(h2::Reason::INTERNAL_ERROR),
            }
            return Ok(true);
        }
        let connection = (self.make)(self.opened);
        self.opened += 1;
        match Stream::new(connection, request, respond) {
            Ok(stream) => self.streams.push(stream),
            Err(mut respond) => {
                respond.send_reset(h2::Reason::PROTOCOL_ERROR);
                self.ends.push(Why::Request(Fault::BadRequest("a request that HTTP/1 cannot say")));
            }
        }
        Ok(true)
    }

    /// Answers whether something has changed.
    fn run_streams(&mut self, look: &mut Look<'_>, sent: &Sent, outcome: &mut Outcome) -> bool {
        let mut turn = Turn::new(look.now, look.gateway);
        let mut progress = false;
        for at in 0..self.streams.len() {
            let wanted = self.streams[at].wants_server();
            if let Some(target) = wanted {
                let may_leave = self.streams[at].may_leave();
                progress |= self.face_server(target, may_leave, sent, look.now);
            }
            let stream = &mut self.streams[at];
            if wanted.is_some() && self.has_ended {
                stream.server_failed(&mut turn, Failure::Unreachable);
            }
            progress |= stream.run(&mut turn, self.server.as_mut());
            if let Some(decided) = stream.connection().take_decision() {
                self.decided = Some(decided);
            }
            if self.host.is_empty() {
                self.host.push_str(stream.connection().host());
            }
        }
        if let Some(wake) = turn.wake {
            want(outcome, wake);
        }
        self.ends.append(&mut turn.ends);
        if turn.refused {
            self.client.part();
        }
        self.resets += self.streams.iter().filter(|stream| stream.was_reset()).count() as u64;
        self.streams.retain(|stream| !stream.is_over());
        progress
    }

    /// Sees to it that there is a connection to the server that a stream is for, unless other streams are with another one. Answers
    /// whether it was opened just now.
    fn face_server(
        &mut self,
        target: Option<SocketAddrV4>,
        may_leave: bool,
        sent: &Sent,
        now: Instant,
    ) -> bool {
        let may_open = match &self.server {
            // What goes out in one turn is for one server only.
            Some(server) => server.may_be_left(target) && sent.to_server.is_empty() && self.spoke_at != now,
            None => !self.has_ended,
        };
        if self.leaves || self.streams.iter().any(Stream::is_with_server) {
            return false;
        }
        if may_leave && self.server.as_ref().is_some_and(ServerSide::is_leaving) {
            // Why wait for its end?
            self.parted();
            self.leaves = true;
            return false;
        }
        if !may_open {
            return false;
        }
        if self.server.is_some() {
            self.outdated = self.untaken;
        }
        self.server = Some(ServerSide::new(target, self.largest_head));
        self.has_met = true;
        self.target = target;
        true
    }
}

impl fmt::Debug for Multiplex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Multiplex").field("streams", &self.streams.len()).finish_non_exhaustive()
    }
}

fn want(outcome: &mut Outcome, at: Instant) {
    outcome.wake = Some(outcome.wake.map_or(at, |wake| wake.min(at)));
}

fn pieces(bytes: BytesMut) -> Vec<Bytes> {
    if bytes.is_empty() { Vec::new() } else { vec![bytes.freeze()] }
}

#[cfg(test)]
mod tests;
