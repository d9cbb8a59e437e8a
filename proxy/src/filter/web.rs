//! The bridge from streams to HTTP: all HTTP filters that follow each other in a rule are one filter of its chain.
//!
//! Runs on: proxy cores. Allocates: per flow, and as those filters do. Blocks: never.
//!
//! What the client says first decides: a stream that is no HTTP, or a server that speaks first, is let go unseen.

use std::any::Any;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use pnat_http::cascade::Cascade;
use pnat_http::codec::is_http2_preface;
use pnat_http::connection::{Connection, End, Look, Outcome, Settings, Why};
use pnat_http::filter::{Exchange, Failure, Gateway, HttpFactory, Ticket, Usage};
use pnat_http::h2::{Multiplex, stream_settings};
use pnat_shared::check::Check;
use pnat_shared::flow::{Handle, Stream};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::log_writer::Record;
use super::sniff::{Guess, guess};
use super::{
    Call, DatagramFilter, DatagramVerdict, Factory, Flow, Piece, Services, StreamFilter, Summary, Verdict,
};

/// How long a server that speaks first, and HTTP/2, waits for its client before it is looked at again.
const RESPITE: Duration = Duration::from_millis(10);

#[derive(Debug)]
pub(super) struct WebFactory(Arc<Kit>);

/// What the HTTP filters of a flow are made from.
#[derive(Debug)]
struct Kit {
    settings: Arc<Settings>,
    /// Of streams of HTTP/2.
    of_streams: Arc<Settings>,
    /// In the order of the rule.
    filters: Vec<Web>,
}

/// A filter over HTTP as configured.
#[derive(Clone, Debug)]
pub(super) struct Web {
    pub(super) name: Arc<str>,
    pub(super) factory: Arc<dyn HttpFactory>,
    /// How long one of its calls may take.
    pub(super) budget: Duration,
}

impl Kit {
    fn cascade(&self) -> Cascade {
        let filters = self.filters.iter().map(|filter| (Arc::clone(&filter.name), filter.factory.filter()));
        Cascade::new(filters).with_budgets(self.filters.iter().map(|filter| filter.budget))
    }
}

impl WebFactory {
    pub(super) fn new(settings: Arc<Settings>, filters: Vec<Web>) -> Self {
        let of_streams = Arc::new(stream_settings(&settings));
        Self(Arc::new(Kit { settings, of_streams, filters }))
    }
}

impl Factory for WebFactory {
    fn stream(&self) -> Box<dyn StreamFilter> {
        let Self(kit) = self;
        Box::new(WebStream {
            state: State::Guessing(kit.cascade()),
            until: None,
            failed: None,
            target: None,
            kit: Arc::clone(kit),
        })
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(NoHttp)
    }

    fn checks(&self) -> Vec<Check> {
        self.0.filters.iter().flat_map(|filter| filter.factory.checks()).collect()
    }
}

/// HTTP is not looked for in datagrams.
struct NoHttp;

impl DatagramFilter for NoHttp {
    fn datagram(&mut self, _call: &mut Call<'_>, _stream: Stream, _bytes: &[u8]) -> DatagramVerdict {
        DatagramVerdict::Release
    }

    fn wants(&self, _stream: Stream) -> bool {
        false
    }
}

/// The HTTP filters of one flow.
struct WebStream {
    state: State,
    /// Until when the client may leave open what it speaks.
    until: Option<Instant>,
    /// How the server has failed that was asked last.
    failed: Option<CloseReason>,
    /// Where its filters have sent requests last.
    target: Option<SocketAddrV4>,
    kit: Arc<Kit>,
}

enum State {
    /// The client has not said enough to tell what it speaks.
    Guessing(Cascade),
    Http(Box<Connection>),
    Http2(Box<Multiplex>),
    /// What passes is no HTTP, or no more.
    Released,
}

/// What a flow's streams are.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Spoken {
    Http,
    Http2,
    Other,
}

impl Spoken {
    pub const ALL: [Self; 3] = [Self::Http, Self::Http2, Self::Other];

    /// The name used in counters and reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Http => "http1",
            Self::Http2 => "http2",
            Self::Other => "other",
        }
    }
}

impl StreamFilter for WebStream {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        bytes: &[u8],
        _held: usize,
        end: bool,
    ) -> Verdict {
        if matches!(self.state, State::Guessing(_)) {
            let spoken = match stream {
                Stream::First => self.spoken(call, bytes, end),
                Stream::Second if may_be_http2_server(bytes) && self.may_go_on(call.now, end) => {
                    *call.wake = Some(call.now + RESPITE);
                    None
                }
                Stream::Second => Some(Spoken::Other),
            };
            let Some(spoken) = spoken else { return Verdict::Pass(0) };
            call.services.web.connections[spoken as usize] += 1;
            self.begin(spoken, call.flow);
        }
        let now = call.now;
        let room = call.flow.room.map(|room| room as usize);
        let look = &mut Look { now, gateway: &mut Desk::new(call), bytes, end, room };
        let mut outcome = match (&mut self.state, stream) {
            (State::Http(connection), Stream::First) => connection.on_request(look),
            (State::Http(connection), Stream::Second) => connection.on_response(look),
            (State::Http2(multiplex), Stream::First) => multiplex.on_request(look),
            (State::Http2(multiplex), Stream::Second) => multiplex.on_response(look),
            (State::Guessing(_) | State::Released, _) => return Verdict::Release,
        };
        self.note(call, stream, &outcome);
        match outcome.end {
            End::Released => self.state = State::Released,
            End::Upgraded => {
                call.services.web.connections[Spoken::Http2 as usize] += 1;
                self.upgrade(call.flow, &mut outcome, now);
            }
            _ => {}
        }
        carry_out(call, stream, outcome, self.failed, || match &self.state {
            State::Http(connection) => connection.exchange().verdict.clone(),
            _ => None,
        })
    }

    fn answers(&self) -> bool {
        true
    }

    fn keeps_client(&self) -> bool {
        match &self.state {
            State::Http(connection) => connection.keeps_client(),
            State::Http2(multiplex) => multiplex.keeps_client(),
            State::Guessing(_) | State::Released => false,
        }
    }

    fn server_failed(&mut self, call: &mut Call<'_>, reason: CloseReason) -> bool {
        // A connection of HTTP/1 that has something to say for it keeps its client.
        let State::Http2(multiplex) = &mut self.state else { return false };
        let told = multiplex.server_failed(call.now, &mut Desk::new(call), failure(reason));
        for bytes in &told {
            call.output.extend_from_slice(bytes);
        }
        true
    }

    fn server_left(&mut self, call: &mut Call<'_>, reason: Option<CloseReason>) -> bool {
        self.failed = reason;
        let (now, desk) = (call.now, &mut Desk::new(call));
        let asked = match &mut self.state {
            State::Http(connection) => {
                let asked = connection.server_left(now, desk, reason.map(failure));
                if connection.target() != self.target {
                    self.target = connection.target();
                    call.flow.target = self.target;
                }
                asked
            }
            State::Http2(multiplex) => {
                multiplex.parted();
                return false;
            }
            State::Guessing(_) | State::Released => return false,
        };
        if !asked.is_empty() {
            self.failed = None;
        }
        for bytes in asked {
            call.output.extend_from_slice(&bytes);
        }
        true
    }

    /// What is held waits for the other stream or for time, and only as much as a receive window holds.
    fn budget(&self) -> usize {
        usize::MAX
    }

    fn answered(&mut self, call: &mut Call<'_>, answer: Box<dyn Any + Send>) {
        let (now, desk) = (call.now, &mut Desk::new(call));
        match &mut self.state {
            State::Http(connection) => connection.given(now, desk, answer),
            State::Http2(multiplex) => {
                multiplex.given(now, desk, answer);
                *call.wake = Some(now);
            }
            State::Guessing(_) | State::Released => {}
        }
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, services: &mut Services) {
        let now = summary.ended;
        let desk = &mut Desk { services, handle: flow.handle, place: u16::MAX, now };
        match &mut self.state {
            State::Http(connection) => connection.close(now, desk),
            State::Http2(multiplex) => multiplex.close(now, desk),
            State::Guessing(_) | State::Released => {}
        }
    }
}

impl WebStream {
    /// Whether it may still be left open what the client speaks.
    fn may_go_on(&mut self, now: Instant, end: bool) -> bool {
        !end && now < *self.until.get_or_insert(now + self.kit.settings.head_timeout)
    }

    /// What the client speaks; `None`: it has said too little, and may go on.
    fn spoken(&mut self, call: &mut Call<'_>, bytes: &[u8], end: bool) -> Option<Spoken> {
        let may_go_on = self.may_go_on(call.now, end);
        let settings = &self.kit.settings;
        let spoken = match guess(bytes, end) {
            Guess::More if may_go_on => None,
            // Whoever takes so long for a line may well mean a request: the codec has the last word.
            Guess::More => Some(Spoken::Http),
            Guess::Http => match is_http2_preface(bytes) {
                None if settings.http2 && may_go_on => None,
                Some(true) if settings.http2 => Some(Spoken::Http2),
                _ => Some(Spoken::Http),
            },
            Guess::Tls | Guess::Other => Some(Spoken::Other),
        };
        if spoken.is_none() {
            *call.wake = self.until;
        }
        spoken
    }

    fn begin(&mut self, spoken: Spoken, flow: &Flow) {
        let State::Guessing(cascade) = std::mem::replace(&mut self.state, State::Released) else { return };
        let exchange = exchange(flow);
        self.state = match spoken {
            Spoken::Http => {
                let connection = Connection::new(Arc::clone(&self.kit.settings), cascade, exchange);
                State::Http(Box::new(connection))
            }
            Spoken::Http2 => {
                State::Http2(Box::new(Multiplex::new(&self.kit.settings, self.streams(exchange))))
            }
            Spoken::Other => return,
        };
    }

    /// What makes the streams of HTTP/2, each with filters of its own.
    fn streams(&self, exchange: Exchange) -> Box<dyn Fn(u64) -> Connection + Send> {
        let kit = Arc::clone(&self.kit);
        Box::new(move |number| {
            let exchange = Exchange { number, ..exchange.clone() };
            Connection::of_stream(Arc::clone(&kit.of_streams), kit.cascade(), exchange)
        })
    }

    /// Both sides go on by HTTP/2.
    fn upgrade(&mut self, flow: &Flow, outcome: &mut Outcome, now: Instant) {
        let State::Http(connection) = std::mem::replace(&mut self.state, State::Released) else { return };
        let streams = self.streams(exchange(flow));
        match Multiplex::upgraded(&self.kit.settings, connection, streams) {
            Ok(multiplex) => {
                self.state = State::Http2(Box::new(multiplex));
                (outcome.end, outcome.wake) = (End::Open, Some(now));
            }
            Err(connection) => {
                self.state = State::Http(connection);
                outcome.end = End::Reset(Why::Finished);
            }
        }
    }

    /// Leaves with the flow what a look has brought to light.
    fn note(&mut self, call: &mut Call<'_>, stream: Stream, outcome: &Outcome) {
        let (decided, target) = match &mut self.state {
            State::Http(connection) => (connection.take_decision(), connection.target()),
            State::Http2(multiplex) => {
                multiplex.take_ends().into_iter().for_each(|why| call.services.web.note(why));
                (multiplex.take_decision(), multiplex.target())
            }
            State::Guessing(_) | State::Released => return,
        };
        let host = match &self.state {
            State::Http(connection) => connection.host(),
            State::Http2(multiplex) => multiplex.host(),
            State::Guessing(_) | State::Released => "",
        };
        if call.flow.name.is_none() && !host.is_empty() {
            call.flow.name = Some(host.to_ascii_lowercase().into());
        }
        if decided.is_some() {
            call.flow.decided = decided;
        }
        let is_let_out = match stream {
            Stream::First => outcome.pieces.iter().any(|piece| !matches!(piece, Piece::Skip(_))),
            Stream::Second => matches!(self.state, State::Http2(_)) && !outcome.back.is_empty(),
        };
        if is_let_out && stream == Stream::First {
            self.failed = None;
        }
        // Another stage of this kind may have chosen one.
        if is_let_out && target != self.target {
            self.target = target;
            call.flow.target = target;
            // What the one before says yet, or has said unasked, is no response of the other.
            call.flow.leaves_server = true;
        }
    }
}

/// What HTTP filters learn of a flow.
fn exchange(flow: &Flow) -> Exchange {
    Exchange {
        client: flow.client,
        server: flow.server,
        rule: flow.rule.clone(),
        number: 0,
        began: flow.opened,
        target: None,
        redirected_by: None,
        may_redirect: flow.may_retarget,
        verdict: None,
    }
}

/// Whether a server that speaks first may be one of HTTP/2, whose first frame is one of settings (RFC 9113 section 3.4): its client
/// will begin with HTTP/2, too.
fn may_be_http2_server(bytes: &[u8]) -> bool {
    const BEHIND_LENGTH: [u8; 6] = [4, 0, 0, 0, 0, 0];
    let head = bytes.get(3..).unwrap_or_default();
    let known = head.len().min(BEHIND_LENGTH.len());
    bytes.first().is_none_or(|&length| length == 0) && head[..known] == BEHIND_LENGTH[..known]
}

const fn failure(reason: CloseReason) -> Failure {
    match reason {
        CloseReason::ConnectTimeout | CloseReason::SecondTimeout | CloseReason::SecondDead => {
            Failure::Timeout
        }
        _ => Failure::Unreachable,
    }
}

/// Says in the chain's words what a look at a stream came to.
fn carry_out(
    call: &mut Call<'_>,
    stream: Stream,
    outcome: Outcome,
    failed: Option<CloseReason>,
    verdict: impl FnOnce() -> Option<Box<str>>,
) -> Verdict {
    let Outcome { pieces, back, wake, again, wants_room, leaves, end } = outcome;
    *call.wake = wake;
    // The sockets have them only after this turn.
    let written = |piece: &Piece| if let Piece::Insert(bytes) = piece { bytes.len() } else { 0 };
    call.flow.take_room(stream, pieces.iter().map(written).sum());
    call.flow.take_room(!stream, back.iter().map(Bytes::len).sum());
    call.flow.wants_room |= wants_room;
    call.flow.leaves_server |= leaves;
    // Who leaves a server says so by a script.
    if end == End::Open && back.is_empty() && !again && !call.flow.leaves_server {
        match *pieces {
            [] => return Verdict::Pass(0),
            [Piece::Pass(count)] => return Verdict::Pass(count),
            _ => {}
        }
    }
    call.edits.script = pieces;
    call.edits.back = back;
    call.edits.again = again;
    let (why, closes) = match end {
        End::Open | End::Released | End::Upgraded => return Verdict::Script,
        End::Closed(why) => (why, true),
        End::Reset(why) => (why, false),
    };
    call.flow.verdict = match why {
        Why::Filter | Why::Overrun => verdict(),
        Why::Request(fault) | Why::Response(fault) => Some(fault.sentence().into()),
        Why::Slow => Some("a request head that takes too long".into()),
        Why::Server(_) | Why::Finished => None,
    };
    call.services.web.note(why);
    let reason = match why {
        Why::Finished => CloseReason::Finished,
        Why::Server(_) => failed.unwrap_or(CloseReason::SecondTimeout),
        Why::Filter => CloseReason::Blocked,
        Why::Overrun => CloseReason::FilterError,
        Why::Request(_) | Why::Response(_) | Why::Slow => CloseReason::BadMessage,
    };
    match (closes, stream) {
        (false, _) => Verdict::Reset(reason),
        (true, Stream::First) => Verdict::Answer(reason),
        (true, Stream::Second) => Verdict::Cut(reason),
    }
}

/// The gateway as an HTTP filter sees it.
struct Desk<'a> {
    services: &'a mut Services,
    handle: Handle,
    place: u16,
    now: Instant,
}

impl<'a> Desk<'a> {
    fn new(call: &'a mut Call<'_>) -> Self {
        Self { handle: call.flow.handle, place: call.place, now: call.now, services: call.services }
    }
}

impl fmt::Debug for Desk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk")
            .field("handle", &self.handle)
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

impl Gateway for Desk<'_> {
    fn unix_time(&self) -> Duration {
        self.services.unix_time(self.now)
    }

    fn log(&mut self, path: &Arc<Path>, line: Vec<u8>) {
        if let Some(log) = &self.services.log {
            log.send(Record::Line { path: Arc::clone(path), line });
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.services.ticket(self.handle, self.place)
    }

    fn nanos(&self) -> Option<u64> {
        self.services.nanos()
    }

    fn account(&mut self, filter: &Arc<str>, usage: &Usage) {
        self.services.web.account(filter, usage);
    }
}

/// What HTTP filters did on one proxy core.
#[derive(Clone, Debug, Default)]
pub struct WebStats {
    /// By filter name, in the order in which they were first used.
    pub filters: Vec<(Arc<str>, FilterStats)>,
    /// Connections that ended by a message that was no HTTP, or HTTP in more than one way: by what was wrong.
    pub faults: Vec<(&'static str, u64)>,
    /// Connections by what they speak ([`Spoken`] as index); an upgraded one speaks both kinds of HTTP.
    pub connections: [u64; 3],
}

/// What one filter did.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct FilterStats {
    pub exchanges: u64,
    /// Responses given in the server's place.
    pub answered: u64,
    /// Connections ended.
    pub resets: u64,
    /// Calls that took longer than its budget of time, which ends the connection.
    pub overruns: u64,
    /// Time spent in it, in nanoseconds.
    pub nanos: u64,
    /// Bytes of content that it was shown, of requests and of responses.
    pub shown: [u64; 2],
    /// Bytes of content that it let out where it edits, of requests and of responses.
    pub let_out: [u64; 2],
}

impl WebStats {
    fn account(&mut self, filter: &Arc<str>, usage: &Usage) {
        let at = self.filters.iter().position(|(name, _)| Arc::ptr_eq(name, filter) || name == filter);
        let at = at.unwrap_or_else(|| {
            self.filters.push((Arc::clone(filter), FilterStats::default()));
            self.filters.len() - 1
        });
        let stats = &mut self.filters[at].1;
        stats.exchanges += 1;
        stats.answered += u64::from(usage.answered);
        stats.resets += u64::from(usage.reset);
        stats.overruns += u64::from(usage.overruns);
        stats.nanos += usage.nanos;
        for stream in 0..2 {
            stats.shown[stream] += usage.shown[stream];
            stats.let_out[stream] += usage.let_out[stream];
        }
    }

    fn note(&mut self, why: Why) {
        let key = match why {
            Why::Request(fault) | Why::Response(fault) => fault.key(),
            Why::Slow => "slow_head",
            Why::Finished | Why::Filter | Why::Overrun | Why::Server(_) => return,
        };
        match self.faults.iter_mut().find(|(own, _)| *own == key) {
            Some((_, count)) => *count += 1,
            None => self.faults.push((key, 1)),
        }
    }
}
