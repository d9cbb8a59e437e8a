//! One stream of HTTP/2: an exchange on an HTTP/1 connection of its own, in memory.
//!
//! Runs on: proxy cores. Allocates: for what waits, within bounds. Blocks: never.

use std::net::SocketAddrV4;
use std::pin::Pin;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{ResponseFuture, SendRequest};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use pnat_shared::flow;
use pnat_shared::time::{Duration, Instant};

use super::content::{Backlog, Inlet, MOST_WAITING, Outlet};
use super::server::ServerSide;
use super::transport::unwoken;
use super::{RESPITE, translate};
use crate::codec::{Fault, Limits, Part, RequestReader, ResponseReader, write};
use crate::connection::{Connection, End, Look, Outcome, Why};
use crate::filter::{Failure, Gateway};
use crate::message::{Framing, Request, Response};
use crate::piece::Piece;

/// How long a request waits for a server, where another one is in use or it is just leaving.
const PATIENCE: Duration = Duration::from_millis(500);

/// How long a stream of which the client has all is kept for the server's part in it.
const LINGER: Duration = Duration::from_secs(30);

/// What heads may have that were written here: what filters add comes on top of what clients and servers may say.
const LIMITS: Limits = Limits { head: 4 << 20, fields: 128, line: 4 << 20, extra: 1 << 20 };

/// What a stream may use in one turn, and leaves behind.
pub(super) struct Turn<'a> {
    pub(super) now: Instant,
    pub(super) gateway: &'a mut dyn Gateway,
    /// When to look again, if nothing happens before.
    pub(super) wake: Option<Instant>,
    /// Why streams were refused or ended.
    pub(super) ends: Vec<Why>,
    /// A stream was refused that the client may open anew by another connection.
    pub(super) refused: bool,
}

impl<'a> Turn<'a> {
    pub(super) const fn new(now: Instant, gateway: &'a mut dyn Gateway) -> Self {
        Self { now, gateway, wake: None, ends: Vec::new(), refused: false }
    }

    pub(super) fn want(&mut self, at: Instant) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }
}

pub(super) struct Stream {
    /// Of its exchange; the connection's own goes on counting.
    number: u64,
    connection: Box<Connection>,
    up: Up,
    down: Down,
    /// By direction: the connection has something to do without new bytes.
    is_busy: [bool; 2],
    /// Since when the client has all of it, and the server has not.
    lingers: Option<Instant>,
    /// The client wants no more of it.
    was_reset: bool,
    is_over: bool,
}

/// The request's way.
struct Up {
    inlet: Option<Inlet>,
    /// What the connection has let on.
    text: Backlog,
    reader: RequestReader,
    request: Request,
    outlet: Option<Outlet>,
    awaited: Option<ResponseFuture>,
    /// Since when it waits for a server.
    waits_since: Option<Instant>,
    /// The server takes no more of it, whatever it answers.
    is_unwanted: bool,
}

/// The response's way.
struct Down {
    inlet: Option<Inlet>,
    text: Backlog,
    reader: ResponseReader,
    response: Response,
    /// `None` for the stream of an upgrade until the client has begun with HTTP/2.
    respond: Option<SendResponse<Bytes>>,
    outlet: Option<Outlet>,
    /// The connection has nothing more to say.
    is_last: bool,
}

/// A stream that cannot go on, with what its client is told.
#[derive(Debug)]
pub(super) struct Broken {
    reason: Reason,
    why: Option<Why>,
    /// The server asks for no more (RFC 9113 section 6.8).
    has_left: bool,
}

impl Broken {
    pub(super) const HERE: Self = Self { reason: Reason::INTERNAL_ERROR, why: None, has_left: false };
    /// A message, as filters left it, that has no form in HTTP/2.
    pub(super) const UNSAYABLE: Self = Self {
        reason: Reason::INTERNAL_ERROR,
        why: Some(Why::Response(Fault::Malformed("a message that HTTP/2 cannot say"))),
        has_left: false,
    };
    /// The request was not looked at, and may be sent again by another connection (RFC 9113 section 8.7).
    const REFUSED: Self = Self { reason: Reason::REFUSED_STREAM, why: None, has_left: false };
}

impl From<h2::Error> for Broken {
    fn from(error: h2::Error) -> Self {
        // Who leaves has not looked at what was opened since, or has not said so.
        let has_left = error.is_go_away() && error.is_remote();
        Self { reason: error.reason().unwrap_or(Reason::INTERNAL_ERROR), why: None, has_left }
    }
}

impl From<Fault> for Broken {
    fn from(fault: Fault) -> Self {
        Self { reason: Reason::INTERNAL_ERROR, why: Some(Why::Response(fault)), has_left: false }
    }
}

impl Stream {
    /// A stream that the client has opened.
    pub(super) fn new(
        connection: Connection,
        request: http::Request<RecvStream>,
        respond: SendResponse<Bytes>,
    ) -> Result<Self, SendResponse<Bytes>> {
        let (head, content) = request.into_parts();
        let Some(request) = translate::request_of(&head, !content.is_end_stream()) else {
            return Err(respond);
        };
        let mut text = Vec::with_capacity(512);
        write::write_request(&request, request.framing(), &mut text);
        let inlet = Inlet::new(content, request.framing(), &text);
        Ok(Self::with(Box::new(connection), Some(inlet), None, Some(respond), request.method()))
    }

    /// The stream of a request that was an upgrade's: it has gone on to the server, and its response is to come by HTTP/2
    /// (RFC 7540 section 3.2).
    pub(super) fn upgraded(connection: Box<Connection>, awaited: ResponseFuture) -> Self {
        Self::with(connection, None, Some(awaited), None, "GET")
    }

    fn with(
        connection: Box<Connection>,
        inlet: Option<Inlet>,
        awaited: Option<ResponseFuture>,
        respond: Option<SendResponse<Bytes>>,
        method: &str,
    ) -> Self {
        let mut reader = ResponseReader::default();
        reader.expect(method);
        let up = Up {
            inlet,
            text: Backlog::default(),
            reader: RequestReader::default(),
            request: Request::new(),
            outlet: None,
            awaited,
            waits_since: None,
            is_unwanted: false,
        };
        let down = Down {
            inlet: None,
            text: Backlog::default(),
            reader,
            response: Response::default(),
            respond,
            outlet: None,
            is_last: false,
        };
        let number = connection.exchange().number;
        Self {
            number,
            connection,
            up,
            down,
            is_busy: [false; 2],
            lingers: None,
            was_reset: false,
            is_over: false,
        }
    }

    /// Where the response of an upgrade's request goes.
    pub(super) fn respond_by(&mut self, respond: SendResponse<Bytes>) {
        self.down.respond = Some(respond);
    }

    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    pub(super) const fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The number of its exchange.
    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether another server can be had: the client was accepted early.
    pub(super) const fn may_leave(&self) -> bool {
        self.connection.exchange().may_redirect
    }

    /// Whether its client has reset it.
    pub(super) const fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Whether its client has begun to hear a response.
    pub(super) const fn has_begun(&self) -> bool {
        self.down.outlet.is_some()
    }

    /// Where its request is to go, if that waits for a server; the server that the client addressed is `Some(None)`.
    pub(super) fn wants_server(&self) -> Option<Option<SocketAddrV4>> {
        let up = &self.up;
        let wants = !self.is_over && !up.text.is_empty() && up.outlet.is_none() && !up.is_unwanted;
        wants.then(|| self.connection.target())
    }

    /// Whether something of it is still to go to a server, or to come from there.
    pub(super) fn is_with_server(&self) -> bool {
        let Self { up, down, .. } = self;
        up.awaited.is_some()
            || up.outlet.as_ref().is_some_and(|outlet| !outlet.is_over())
            || down.inlet.as_ref().is_some_and(|inlet| !inlet.has_ended())
    }

    /// Does what can be done; answers whether something has changed.
    pub(super) fn run(&mut self, turn: &mut Turn<'_>, server: Option<&mut ServerSide>) -> bool {
        if self.is_over {
            return false;
        }
        if self.lingers.is_none() && self.down.is_unwanted() {
            self.was_reset = true;
            self.end(turn);
            return true;
        }
        let result = self.go_up(turn, server).and_then(|up| Ok(up | self.go_down(turn)?));
        result.unwrap_or_else(|broken| {
            self.break_off(turn, broken);
            true
        })
    }

    /// The server cannot be asked, or has failed.
    pub(super) fn server_failed(&mut self, turn: &mut Turn<'_>, failure: Failure) {
        if self.is_over || self.down.is_last || (!self.is_with_server() && self.wants_server().is_none()) {
            return;
        }
        self.leave_server();
        if self.connection.server_failed(failure) {
            self.is_busy[flow::Stream::Second as usize] = true;
        } else {
            self.break_off(turn, Broken::HERE);
        }
    }

    /// It is over, in whatever way: the filters are told.
    pub(super) fn end(&mut self, turn: &mut Turn<'_>) {
        self.is_over = true;
        self.leave_server();
        self.connection.close(turn.now, turn.gateway);
    }

    fn break_off(&mut self, turn: &mut Turn<'_>, broken: Broken) {
        turn.ends.extend(broken.why);
        turn.refused |= broken.reason == Reason::REFUSED_STREAM;
        match &mut self.down.respond {
            Some(respond) => respond.send_reset(broken.reason),
            // Nothing can be told to a client that has not begun yet; it will be told that its stream is no more.
            None => self.down.is_last = true,
        }
        self.end(turn);
    }

    /// What a server still says or is to be told is of no interest: dropping its ends resets that stream.
    fn leave_server(&mut self) {
        self.up.inlet = None;
        self.up.outlet = None;
        self.up.awaited = None;
        self.up.text.clear();
        self.down.inlet = None;
    }

    fn go_up(&mut self, turn: &mut Turn<'_>, server: Option<&mut ServerSide>) -> Result<bool, Broken> {
        let mut progress = self.take_request(turn)?;
        let wanted = self.wants_server();
        let server = server.filter(|server| wanted.is_none_or(|target| server.suits(target)));
        if self.up.is_unwanted {
            self.up.text.clear();
        } else if let Some(requests) = server.and_then(ServerSide::requests) {
            progress |= self.send_request(requests)?;
        } else if wanted.is_some() {
            let since = *self.up.waits_since.get_or_insert(turn.now);
            if since + PATIENCE <= turn.now {
                return Err(Broken::REFUSED);
            }
            turn.want(turn.now + RESPITE);
        }
        if let Some(outlet) = &mut self.up.outlet {
            match outlet.push() {
                Ok(pushed) => progress |= pushed,
                // It may have answered all the same (RFC 9113 section 8.1).
                Err(_) => {
                    self.up.outlet = None;
                    self.up.is_unwanted = true;
                    progress = true;
                }
            }
        }
        Ok(progress)
    }

    /// Takes what the client has sent through the filters.
    fn take_request(&mut self, turn: &mut Turn<'_>) -> Result<bool, Broken> {
        let up = &mut self.up;
        let Some(inlet) = &mut up.inlet else { return Ok(false) };
        let mut progress = inlet.pull()?;
        let is_idle = inlet.text.is_empty() && !self.is_busy[0];
        if is_idle || up.text.len() >= MOST_WAITING || self.down.is_last {
            return Ok(progress);
        }
        let room = [&up.text, &self.down.text].map(|text| MOST_WAITING.saturating_sub(text.len()));
        let look = &mut Look { now: turn.now, gateway: turn.gateway, bytes: &inlet.text, end: false, room };
        let mut outcome = self.connection.on_request(look);
        progress |= apply(&outcome, &mut inlet.text, &mut up.text);
        for bytes in outcome.back.drain(..) {
            self.down.text.push(bytes);
            progress = true;
        }
        self.heed(turn, flow::Stream::First, &outcome)?;
        Ok(progress)
    }

    fn send_request(&mut self, server: &mut SendRequest<Bytes>) -> Result<bool, Broken> {
        let up = &mut self.up;
        let (mut progress, mut most) = (false, MOST_WAITING);
        while let room @ 1.. = up.outlet.as_ref().map_or(most, Outlet::room)
            && !up.text.is_empty()
        {
            if up.outlet.is_none() {
                match server.poll_ready(&mut unwoken()) {
                    Poll::Ready(ready) => ready?,
                    Poll::Pending => break,
                }
            }
            let (text, has_more) = up.text.next(room);
            let part = up.reader.next(text, 0, &LIMITS, &mut up.request)?;
            let taken = match part {
                Part::More if has_more => {
                    most *= 2;
                    0
                }
                Part::More => break,
                Part::Head(length) => {
                    let head = translate::to_request(&up.request).ok_or(Broken::UNSAYABLE)?;
                    let is_end = !has_content(up.request.framing());
                    let (awaited, frames) = server.send_request(head, is_end)?;
                    up.awaited = Some(awaited);
                    up.outlet = Some(Outlet::new(frames, BytesMut::new(), is_end));
                    length
                }
                Part::Content { taken, content, end } => {
                    let outlet = up.outlet.as_mut().ok_or(Broken::HERE)?;
                    outlet.put(&text[content]);
                    if end {
                        outlet.end(up.reader.trailers())?;
                    }
                    taken
                }
            };
            up.text.advance(taken);
            progress = true;
        }
        Ok(progress)
    }

    fn go_down(&mut self, turn: &mut Turn<'_>) -> Result<bool, Broken> {
        let mut progress = match self.hear_server(turn) {
            Ok(progress) => progress,
            // The client may ask again by another connection.
            Err(broken) if !self.has_begun() && self.is_refused(&broken) => return Err(Broken::REFUSED),
            // Its client may learn of it by a response, unless one has begun.
            Err(_) => {
                self.server_failed(turn, Failure::Unreachable);
                true
            }
        };
        progress |= self.take_response(turn)?;
        progress |= self.send_response()?;
        if self.down.outlet.as_ref().is_some_and(Outlet::is_over) {
            progress |= self.linger(turn);
        } else if self.down.is_cut_off() {
            return Err(Broken::HERE);
        }
        Ok(progress)
    }

    /// Whether a server has not looked at the request, or it does no harm to ask twice (RFC 9110 section 9.2.1).
    fn is_refused(&self, broken: &Broken) -> bool {
        let is_safe = matches!(self.up.request.method(), "GET" | "HEAD" | "OPTIONS");
        broken.reason == Reason::REFUSED_STREAM || broken.has_left && is_safe
    }

    /// The client has all of it. It is over, unless the request goes on without the client, or the server is yet to say that this was
    /// all: it would take our leaving for a reset. Answers whether it is over.
    fn linger(&mut self, turn: &mut Turn<'_>) -> bool {
        let since = *self.lingers.get_or_insert(turn.now);
        let goes_on = !self.connection.serves_client() && (self.is_with_server() || !self.up.text.is_empty());
        let awaits_end =
            self.down.inlet.as_ref().is_some_and(|inlet| inlet.is_complete() && !inlet.has_ended());
        let may_linger = turn.now < since + LINGER && (goes_on || awaits_end);
        if !may_linger {
            self.end(turn);
            return true;
        }
        if !goes_on && self.down.inlet.as_mut().is_some_and(|inlet| inlet.discard().is_err()) {
            self.end(turn);
            return true;
        }
        turn.want(since + LINGER);
        false
    }

    /// Takes in what the server has sent.
    fn hear_server(&mut self, turn: &mut Turn<'_>) -> Result<bool, Broken> {
        let mut progress = false;
        while let Some(interim) = self.up.interim()? {
            let mut text = BytesMut::from(&*interim);
            let look = &mut Look {
                now: turn.now,
                gateway: turn.gateway,
                bytes: &interim,
                end: false,
                room: [MOST_WAITING; 2],
            };
            let outcome = self.connection.on_response(look);
            apply(&outcome, &mut text, &mut self.down.text);
            self.heed(turn, flow::Stream::Second, &outcome)?;
            progress = true;
        }
        let (up, down) = (&mut self.up, &mut self.down);
        if let Some(awaited) = &mut up.awaited
            && let Poll::Ready(response) = Pin::new(awaited).poll(&mut unwoken())
        {
            let (head, content) = response?.into_parts();
            let head = http::Response::from_parts(head, ());
            let response = translate::response_of(&head, up.request.method(), !content.is_end_stream());
            let text = written(&response);
            down.inlet = Some(Inlet::new(content, response.framing(), &text));
            up.awaited = None;
            progress = true;
        }
        if let Some(inlet) = &mut down.inlet {
            progress |= inlet.pull()?;
        }
        Ok(progress)
    }

    /// Takes what the server has sent through the filters.
    fn take_response(&mut self, turn: &mut Turn<'_>) -> Result<bool, Broken> {
        let down = &mut self.down;
        // Without a server there may be an answer in its place.
        let nothing = &mut BytesMut::new();
        let text = down.inlet.as_mut().map_or(nothing, |inlet| &mut inlet.text);
        let is_idle = text.is_empty() && !self.is_busy[1];
        if is_idle || down.text.len() >= MOST_WAITING || down.is_last {
            return Ok(false);
        }
        let room = [&self.up.text, &down.text].map(|text| MOST_WAITING.saturating_sub(text.len()));
        let look = &mut Look { now: turn.now, gateway: turn.gateway, bytes: text, end: false, room };
        let outcome = self.connection.on_response(look);
        let progress = apply(&outcome, text, &mut down.text);
        self.heed(turn, flow::Stream::Second, &outcome)?;
        Ok(progress)
    }

    /// Goes by what a look has come to, besides its bytes.
    fn heed(&mut self, turn: &mut Turn<'_>, stream: flow::Stream, outcome: &Outcome) -> Result<(), Broken> {
        self.is_busy[stream as usize] = outcome.wake.is_some();
        if let Some(wake) = outcome.wake {
            turn.want(wake);
        }
        match outcome.end {
            End::Open => {}
            End::Closed(why) => {
                turn.ends.push(why);
                self.down.is_last = true;
                self.leave_server();
            }
            End::Reset(why) => return Err(Broken { why: Some(why), ..Broken::HERE }),
            End::Released | End::Upgraded => return Err(Broken::HERE),
        }
        Ok(())
    }

    fn send_response(&mut self) -> Result<bool, Broken> {
        let down = &mut self.down;
        let Some(respond) = &mut down.respond else { return Ok(false) };
        let (mut progress, mut most) = (false, MOST_WAITING);
        while let room @ 1.. = down.outlet.as_ref().map_or(most, Outlet::room)
            && !down.text.is_empty()
        {
            let (text, has_more) = down.text.next(room);
            let part = down.reader.next(text, 0, &LIMITS, &mut down.response)?;
            let taken = match part {
                Part::More if has_more => {
                    most *= 2;
                    0
                }
                Part::More => break,
                Part::Head(length) => {
                    let head = translate::to_response(&down.response).ok_or(Broken::UNSAYABLE)?;
                    if down.response.is_interim() {
                        respond.send_informational(head)?;
                    } else {
                        let is_end = !has_content(down.response.framing());
                        let frames = respond.send_response(head, is_end)?;
                        down.outlet = Some(Outlet::new(frames, BytesMut::new(), is_end));
                    }
                    length
                }
                Part::Content { taken, content, end } => {
                    let outlet = down.outlet.as_mut().ok_or(Broken::HERE)?;
                    outlet.put(&text[content]);
                    if end {
                        outlet.end(down.reader.trailers())?;
                    }
                    taken
                }
            };
            down.text.advance(taken);
            progress = true;
        }
        if let Some(outlet) = &mut down.outlet {
            progress |= outlet.push()?;
        }
        Ok(progress)
    }
}

impl Up {
    /// The next interim response of the server.
    fn interim(&mut self) -> Result<Option<Vec<u8>>, Broken> {
        let Some(awaited) = &mut self.awaited else { return Ok(None) };
        match awaited.poll_informational(&mut unwoken()) {
            Poll::Ready(Some(interim)) => Ok(Some(written(&translate::response_of(&interim?, "", false)))),
            _ => Ok(None),
        }
    }
}

impl Down {
    /// Whether it has begun and cannot be ended: what is missing will never come.
    fn is_cut_off(&self) -> bool {
        self.is_last && self.text.is_empty() && !self.outlet.as_ref().is_some_and(Outlet::has_end)
    }

    /// Whether the client has reset the stream.
    fn is_unwanted(&mut self) -> bool {
        match (&mut self.outlet, &mut self.respond) {
            (Some(outlet), _) => outlet.reset().is_some(),
            (None, Some(respond)) => respond.poll_reset(&mut unwoken()).is_ready(),
            (None, None) => false,
        }
    }
}

fn written(response: &Response) -> Vec<u8> {
    let mut text = Vec::with_capacity(512);
    write::write_response(response, response.framing(), write::Connection::AsIs, &mut text);
    text
}

/// Does with the bytes shown what the connection wants; answers whether there was something to be done.
fn apply(outcome: &Outcome, bytes: &mut BytesMut, out: &mut Backlog) -> bool {
    for piece in &outcome.pieces {
        match piece {
            Piece::Pass(count) => out.push(bytes.split_to(*count).freeze()),
            Piece::Skip(count) => bytes.advance(*count),
            Piece::Insert(bytes) => out.push(bytes.clone()),
        }
    }
    !outcome.pieces.is_empty()
}

const fn has_content(framing: Framing) -> bool {
    !matches!(framing, Framing::None | Framing::Length(0))
}
