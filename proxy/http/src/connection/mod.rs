//! One HTTP/1 connection: its two streams, read as messages, shown to the filters, and written again where they were edited.
//!
//! Runs on: proxy cores. Allocates: per connection, for what is edited or answered. Blocks: never.
//!
//! ```text
//!   requests    Head --> Judged --> Content --> Done ---.
//!                          |                            +--> next exchange
//!   responses   Idle --> Head --> Judged --> Content -> Done
//! ```
//!
//! One exchange is under way at a time: what a client sends ahead (RFC 9112 section 9.3.2) waits in its window. So responses
//! cannot be mistaken for each other, and a filter's answer has its place among them. What two recipients could read in two
//! ways is refused, and counted. An exchange that makes a WebSocket of the connection lasts as long as that: filters may see its
//! frames.

mod request;
mod response;
mod answer;
mod server;
mod frames;
mod work;

use std::any::Any;
use std::collections::VecDeque;
use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use crate::cascade::{Cascade, Context, Interest, Went};
use crate::codec::{self, Fault, Limits, RequestReader, ResponseReader, write};
use crate::filter::{Exchange, Failure, Gateway, Record};
use crate::message::{Framing, Request, Response};
use crate::piece::Piece;
use crate::websocket::FrameReader;
use server::Server;
use work::{RESPITE, Work};

/// What every connection goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub limits: Limits,
    /// How long a client may take for a request's head, from its first byte on.
    pub head_timeout: Duration,
    /// How long a server may take for the head of its response: from the whole request on, or an interim response.
    pub response_timeout: Duration,
    /// Whether CONNECT is let pass; behind it the streams are no HTTP.
    pub connect: bool,
    /// Whether HTTP/2 is spoken, and an upgrade to it let pass.
    pub http2: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            head_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            connect: false,
            http2: true,
        }
    }
}

/// How long something that waits for the other stream does so before it is looked at again.
const PATIENCE: Duration = Duration::from_secs(30);

/// Most bytes of content that filters which edit are shown at once.
const SLICE: usize = 16 * 1024;

/// Content that is read to be dropped, so that the connection can be kept.
const DRAIN: u64 = 64 * 1024;

/// How a request's content that HTTP/1.0 cannot frame anew is refused.
const NO_CHUNKS: Fault = Fault::Version;

/// What one look at a stream's bytes comes to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// What becomes of the bytes shown, in order; what it does not cover waits.
    pub pieces: Vec<Piece>,
    /// For the other stream: an answer to the client.
    pub back: Vec<Bytes>,
    /// When to look again at what waits, if nothing happens before.
    pub wake: Option<Instant>,
    /// The other stream's bytes that wait can go on now.
    pub again: bool,
    /// It ended for want of [`Look::room`]: it is of use to look again as soon as there is some.
    pub wants_room: bool,
    /// The server's connection is of no use any more: it is to be reset, and what comes out for a server from here on is for another
    /// one.
    pub leaves: bool,
    pub end: End,
}

/// How a connection goes on.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Open,
    /// What follows, in both streams, is no HTTP any more: it passes.
    Released,
    /// What follows, in both streams, is HTTP/2, and the response to the request under way will come by that.
    Upgraded,
    /// Once what is on its way to the client is there, the connection ends in order.
    Closed(Why),
    /// It ends at once.
    Reset(Why),
}

/// Why a connection ends.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has served its time: the client, the server or an answer said so.
    Finished,
    /// A filter decided so.
    Filter,
    /// A filter took longer than it may.
    Overrun,
    /// The client's message.
    Request(Fault),
    /// The server's message.
    Response(Fault),
    /// The client took too long for a request's head.
    Slow,
    /// The server has failed, and the client got an answer in its place, or was told.
    Server(Failure),
}

/// One look at a stream.
#[derive(Debug)]
pub struct Look<'a> {
    pub now: Instant,
    pub gateway: &'a mut dyn Gateway,
    /// What waited, and what is new behind it.
    pub bytes: &'a [u8],
    /// Nothing follows these bytes.
    pub end: bool,
    /// By stream: how many bytes may be written to it before the receiver has taken what is on its way. With none left, filters
    /// edit no more of it; and of those for the client, no further request is looked at. An answer that no filter edits may be longer.
    pub room: [usize; 2],
}

#[derive(Debug)]
pub struct Connection {
    settings: Arc<Settings>,
    cascade: Cascade,
    requests: RequestReader,
    responses: ResponseReader,
    request: Request,
    response: Response,
    exchange: Exchange,
    up: Up,
    down: Down,
    /// Bytes of an incomplete head that were looked at already, per stream.
    seen: [usize; 2],
    /// Per stream: until when a head that filters wait with is not shown to them again.
    hold: [Instant; 2],
    /// What the client is still owed of an answer whose head waits for a filter.
    answer: Option<Pending>,
    /// By stream: where the frames are, once filters see them.
    frames: Option<Box<[FrameReader; 2]>>,
    /// What is left of an answer whose head is with the client.
    writing: Option<Writing>,
    /// The client has its answer by this filter, and the request is to go on all the same.
    goes_on: Option<usize>,
    /// By stream: all content of the message has been read, though filters may let out more that follows from it.
    read: [bool; 2],
    /// Of the response: which framing it is written in, where content is edited; `None`: as it comes.
    written: Option<Framing>,
    /// The connection ends behind this exchange.
    last: bool,
    /// The client was told that it does.
    closes: bool,
    /// The client's stream has ended.
    ended: bool,
    /// It is a stream of HTTP/2.
    is_stream: bool,
    /// The request under way asks for HTTP/2, with these settings of the client's.
    upgrades: Option<Box<[u8]>>,
    /// Where the request goes whose head went on last.
    facing: Option<SocketAddrV4>,
    server: Server,
    /// Until when the server is to answer, once it has the whole request.
    respond_by: Option<Instant>,
    /// Until when the next request waits for a response that only filters wait for.
    patient_until: Option<Instant>,
    /// What filters decided on an exchange that is over.
    decided: Option<Box<str>>,
    /// Why the connection ends, where it ends behind this exchange.
    why: Why,
    progress: Progress,
}

/// How far this exchange's request is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Up {
    Head,
    /// A head of so many bytes is with the filters.
    Judged(usize),
    /// An answer to a head of so many bytes is with the filters.
    Answering(usize),
    Content,
    /// It has come to its end.
    Done,
}

/// How far its response is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Down {
    /// None is due.
    Idle,
    Head,
    Judged(usize),
    /// An answer in place of a response, which came framed so and whose head has so many bytes, is on its way to the client.
    Replacing(usize, Framing),
    Content {
        /// Another response has taken its place, or nobody asked for it.
        dropped: bool,
    },
    Done,
    /// The connection has become a WebSocket whose frames filters see; the client's follow its request.
    Frames,
}

/// An answer that filters still look at.
#[derive(Debug)]
struct Pending {
    by: usize,
    content: Vec<Bytes>,
    goes_on: bool,
}

/// An answer's content that filters see bit by bit.
#[derive(Debug)]
struct Writing {
    content: VecDeque<Bytes>,
    framing: Framing,
}

/// What there is to tell of an exchange.
#[derive(Debug, Default)]
struct Progress {
    status: Option<u16>,
    /// As [`Record::server`].
    server: Option<Result<u16, Failure>>,
    answered_by: Option<Arc<str>>,
    content: [u64; 2],
    forwarded: Option<Duration>,
    responded: Option<Duration>,
    /// A response's head has gone to the client.
    begun: bool,
}

impl Connection {
    /// A connection of which nothing was read yet. `exchange` holds what does not change: client, server, rule.
    pub fn new(settings: Arc<Settings>, cascade: Cascade, exchange: Exchange) -> Self {
        Self {
            settings,
            cascade,
            requests: RequestReader::default(),
            responses: ResponseReader::default(),
            request: Request::new(),
            response: Response::default(),
            exchange,
            up: Up::Head,
            down: Down::Idle,
            seen: [0; 2],
            hold: [Instant::ZERO; 2],
            answer: None,
            frames: None,
            writing: None,
            goes_on: None,
            read: [false; 2],
            written: None,
            last: false,
            closes: false,
            ended: false,
            is_stream: false,
            upgrades: None,
            facing: None,
            server: Server::default(),
            respond_by: None,
            patient_until: None,
            decided: None,
            why: Why::Finished,
            progress: Progress::default(),
        }
    }

    /// A stream of HTTP/2, whose messages are written as HTTP/1.1 has them.
    pub fn of_stream(settings: Arc<Settings>, cascade: Cascade, exchange: Exchange) -> Self {
        Self { is_stream: true, ..Self::new(settings, cascade, exchange) }
    }

    /// The client's settings behind an upgrade to HTTP/2.
    pub fn take_http2_settings(&mut self) -> Box<[u8]> {
        self.upgrades.take().unwrap_or_default()
    }

    /// Whether what comes of the exchange is for the client: it may have had its answer already, while the request goes on.
    pub const fn serves_client(&self) -> bool {
        self.cascade.reaches_client()
    }

    /// Where the bytes go that were let out for a server last; `None`: to the server that the client addressed.
    pub const fn target(&self) -> Option<SocketAddrV4> {
        self.facing
    }

    pub const fn exchange(&self) -> &Exchange {
        &self.exchange
    }

    /// What filters decided on the last exchange that they decided on, once: `filter: sentence`.
    pub const fn take_decision(&mut self) -> Option<Box<str>> {
        self.decided.take()
    }

    /// The host that the last request names; empty where none was read.
    pub fn host(&self) -> &str {
        self.request.host()
    }

    /// Whether the client may hear more although no server speaks to it: a filter may yet answer, or the client ask again, or the
    /// server be asked again; or the client is told that its server has failed.
    pub fn keeps_client(&self) -> bool {
        match self.up {
            Up::Judged(_) | Up::Answering(_) => true,
            Up::Head => self.down == Down::Idle && !self.last && !self.ended,
            Up::Done => {
                (self.is_unseen() && !self.last && !self.ended) || self.may_repeat() || self.is_excused()
            }
            Up::Content => self.is_excused(),
        }
    }

    /// Looks at the client's bytes.
    pub fn on_request(&mut self, look: &mut Look<'_>) -> Outcome {
        self.ended = look.end;
        let mut work = Work::new(look);
        while work.goes_on() && self.request_step(&mut work) {}
        self.watch_server(&mut work);
        // What waits is looked at again, though nothing new may come.
        if work.goes_on() && !work.rest().is_empty() && work.wake.is_none() {
            work.want(work.look.now + PATIENCE);
        }
        work.outcome()
    }

    /// Looks at the server's bytes.
    pub fn on_response(&mut self, look: &mut Look<'_>) -> Outcome {
        let has_ended = look.end;
        look.end |= self.server.left;
        let mut work = Work::new(look);
        self.heed_leaving(&mut work);
        while work.goes_on() && self.response_step(&mut work) {}
        if work.goes_on() && work.look.end && work.rest().is_empty() && !self.cascade.has_more(Stream::Second)
        {
            self.server_ended(&mut work);
        }
        if has_ended && self.server.left && matches!(self.up, Up::Answering(_)) {
            // The end is for the client once it has what took the response's place.
            work.want(work.look.now + RESPITE);
        }
        work.outcome()
    }

    /// What was given for a filter's ticket; a look at both streams is to follow.
    pub fn given(&mut self, now: Instant, gateway: &mut dyn Gateway, given: Box<dyn Any + Send>) {
        let wake = &mut None;
        let context = &mut Context { now, exchange: &mut self.exchange, gateway, wake };
        if self.cascade.given(context, given) {
            self.hold = [Instant::ZERO; 2];
        }
    }

    /// The connection has ended, in whatever way.
    pub fn close(&mut self, now: Instant, gateway: &mut dyn Gateway) {
        let look = &mut Look { now, gateway, bytes: &[], end: true, room: [usize::MAX; 2] };
        let is_closed = self.frames.as_ref().is_some_and(|frames| frames.iter().all(FrameReader::has_closed));
        self.conclude(&mut Work::new(look), is_closed);
    }

    /// Whether filters wait with the head of a stream, and nothing has come for them.
    fn is_held(&self, stream: Stream, work: &mut Work<'_, '_>) -> bool {
        let until = self.hold[stream as usize];
        let is_held = work.look.now < until;
        if is_held {
            work.want(until);
        }
        is_held
    }

    /// Filters wait with the head of a stream: it is shown to them again at the time they asked for. Answers false.
    fn hold(&mut self, stream: Stream, work: &mut Work<'_, '_>) -> bool {
        work.want(work.look.now + PATIENCE);
        self.hold[stream as usize] = work.wake.unwrap_or(Instant::ZERO);
        false
    }

    /// Content of a stream that is to be led through filters now: no more than a slice where one of them edits.
    fn slice<'b>(&self, stream: Stream, rest: &'b [u8]) -> &'b [u8] {
        match self.cascade.interest(stream) {
            Interest::Edit => &rest[..rest.len().min(SLICE)],
            Interest::None | Interest::Watch => rest,
        }
    }

    /// Whether filters are busy with more content of a stream than is to be written, or shown to them, now.
    fn is_put_off(&self, stream: Stream, work: &mut Work<'_, '_>) -> bool {
        match self.cascade.interest(stream) {
            Interest::None => false,
            Interest::Watch => work.is_spent(),
            Interest::Edit => !work.has_room(stream) && !work.put_off(stream),
        }
    }

    /// Whether all content of a stream's message has been read, and filters have let out what follows from it.
    fn is_through(&self, stream: Stream) -> bool {
        self.read[stream as usize] && !self.cascade.has_more(stream)
    }

    /// Leads content through the filters that want it, `taken` bytes of the stream, or none where [`Cascade::has_more`]; answers
    /// whether it goes on.
    fn lead(
        &mut self,
        work: &mut Work<'_, '_>,
        stream: Stream,
        taken: usize,
        content: &[u8],
        end: bool,
        chunked: bool,
    ) -> bool {
        let interest = self.cascade.interest(stream);
        self.read[stream as usize] |= end;
        let context = &mut work.context(&mut self.exchange);
        let went = match interest {
            Interest::None => Went::On,
            Interest::Watch => {
                let went = self.cascade.watch(context, stream, content, end);
                work.spend(0);
                went
            }
            Interest::Edit => {
                let mut edited = Vec::new();
                let went = self.cascade.content(context, stream, content, end, &mut edited);
                work.count(stream, edited.len());
                work.script.skip(taken);
                let mut out = Vec::new();
                if !edited.is_empty() {
                    if stream == Stream::Second {
                        self.progress.content[1] += edited.len() as u64;
                    }
                    if chunked {
                        write::write_chunk(&edited, &mut out);
                    } else {
                        out = edited;
                    }
                }
                if self.read[stream as usize] && chunked && went == Went::On {
                    let trailers = match stream {
                        Stream::First => self.requests.trailers(),
                        Stream::Second => self.responses.trailers(),
                    };
                    write::write_last_chunk(trailers, &mut out);
                }
                work.script.insert(out);
                went
            }
        };
        if !matches!(went, Went::On | Went::More) {
            self.end_content(work, went);
            return false;
        }
        if interest != Interest::Edit {
            work.script.pass(taken);
            if stream == Stream::Second {
                self.progress.content[1] += content.len() as u64;
            }
        }
        true
    }

    /// What follows is no HTTP.
    fn release(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        work.script.pass(len);
        work.script.pass(work.rest().len());
        self.progress.status = Some(self.response.status());
        self.conclude(work, true);
        work.end = End::Released;
        // What the client has sent ahead is no request either.
        work.again = true;
        false
    }

    /// The exchange is over; the next one may begin.
    fn finish(&mut self, work: &mut Work<'_, '_>) {
        self.conclude(work, true);
        self.exchange.number += 1;
        self.exchange.target = None;
        self.exchange.verdict = None;
        self.hold = [Instant::ZERO; 2];
        self.up = Up::Head;
        self.down = Down::Idle;
        self.written = None;
        self.read = [false; 2];
        self.patient_until = None;
        self.respond_by = None;
    }

    /// Tells the filters how the exchange went, once.
    fn conclude(&mut self, work: &mut Work<'_, '_>, is_complete: bool) {
        let progress = std::mem::take(&mut self.progress);
        let measured = work.look.gateway.nanos().is_some();
        let record = Record {
            status: progress.status,
            server: progress.server,
            answered_by: progress.answered_by,
            content: progress.content,
            forwarded: progress.forwarded,
            responded: progress.responded,
            ended: work.look.now.since(self.exchange.began),
            filters: measured.then(|| self.cascade.spent()),
            is_complete,
        };
        if self.exchange.verdict.is_some() {
            self.decided.clone_from(&self.exchange.verdict);
        }
        let response = record.status.is_some().then_some(&self.response);
        self.cascade.done(&mut work.context(&mut self.exchange), &self.request, response, &record);
    }

    /// Whether the client means to go on with the connection (RFC 9112 section 9.3).
    fn client_persists(&self) -> bool {
        codec::persists(self.request.version(), self.request.fields())
    }

    fn server_persists(&self) -> bool {
        codec::persists(self.response.version(), self.response.fields())
    }

    /// Whether nothing of the request is still to come.
    fn request_is_whole(&self) -> bool {
        self.up == Up::Done || !has_content(self.request.framing())
    }

    /// Whether the response makes a tunnel of the connection (RFC 9110 section 9.3.6).
    fn connects(&self) -> bool {
        self.request.method() == "CONNECT" && (200..300).contains(&self.response.status())
    }
}

/// Whether content follows a head.
const fn has_content(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}

#[cfg(test)]
mod tests;
