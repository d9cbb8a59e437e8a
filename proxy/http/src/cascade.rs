//! The HTTP filters of one connection, one after the other: who sees what, and what becomes of it.
//!
//! Runs on: proxy cores. Allocates: per connection, and for content that is edited. Blocks: never.
//!
//! A cascade knows messages, not how they come and go: the same runs over every version of HTTP.

use std::any::Any;
use std::fmt;
use std::mem;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use crate::filter::{Call, Content, Exchange, Failure, Gateway, HttpFilter, Record, Ticket, Usage, Verdict};
use crate::message::{Answer, Framing, Request, Response};
use crate::websocket::Frame;

/// The filters of a rule, for one connection.
#[derive(Default)]
pub struct Cascade {
    members: Vec<Member>,
    /// The filter that sees the request's head next.
    next: usize,
    /// The filters that a response is for, which it meets from the last to the first.
    way: Range<usize>,
    /// The filter that the server's response ends with; `None`: it reaches the client.
    floor: Option<usize>,
    /// Content on its way from one filter to the next.
    from: Vec<u8>,
    to: Vec<u8>,
}

struct Member {
    name: Arc<str>,
    filter: Box<dyn HttpFilter>,
    /// By stream: what it wants of the content.
    interest: [Interest; 2],
    /// By stream, where more follows of what it was shown: whether that was the content's end.
    more: [Option<bool>; 2],
    /// Whether it was shown this exchange's request.
    involved: bool,
    /// Whether it wants the frames of the WebSocket that the connection has become.
    wants_frames: bool,
    usage: Usage,
    /// How long one call may take.
    budget: Duration,
    /// How long the call took that took longer.
    overrun: Option<Duration>,
}

/// How long one call of a filter may take, unless its section says otherwise: all flows of the core wait for it.
pub const TIME_BUDGET: Duration = Duration::from_secs(1);

/// What somebody wants of a message's content.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Interest {
    #[default]
    None,
    Watch,
    Edit,
}

/// What the filters make of a head, as far as they have seen it.
#[derive(Debug)]
pub enum Step {
    /// It goes on.
    Go,
    /// A filter waits: ask again after its wake-up, or an answer to its ticket.
    Wait,
    /// This filter gives a response.
    Answer(usize, Box<Answer>),
    /// The server is to have this request in the place of the one that it has answered.
    Again(Box<Request>),
    Reset,
    /// A filter took longer than it may: [`Exchange::verdict`] says which.
    Overrun,
}

/// What becomes of content.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Went {
    On,
    /// It goes on, and more follows: [`Cascade::content`] is to be called without bytes before there are new ones.
    More,
    Reset,
    /// As [`Step::Overrun`].
    Overrun,
}

/// What a call works with.
#[derive(Debug)]
pub struct Context<'a> {
    pub now: Instant,
    pub exchange: &'a mut Exchange,
    pub gateway: &'a mut dyn Gateway,
    pub wake: &'a mut Option<Instant>,
}

/// What comes back for a ticket: for whom it is.
struct Given {
    member: usize,
    exchange: u64,
    answer: Box<dyn Any + Send>,
}

impl Cascade {
    pub fn new(filters: impl IntoIterator<Item = (Arc<str>, Box<dyn HttpFilter>)>) -> Self {
        let member = |(name, filter)| Member {
            name,
            filter,
            interest: [Interest::None; 2],
            more: [None; 2],
            involved: false,
            wants_frames: false,
            usage: Usage::default(),
            budget: TIME_BUDGET,
            overrun: None,
        };
        Self { members: filters.into_iter().map(member).collect(), ..Self::default() }
    }

    /// With these budgets of time for one call of each filter, in place of [`TIME_BUDGET`].
    #[must_use]
    pub fn with_budgets(mut self, budgets: impl IntoIterator<Item = Duration>) -> Self {
        for (member, budget) in self.members.iter_mut().zip(budgets) {
            member.budget = budget;
        }
        self
    }

    /// A filter's name.
    pub fn name(&self, place: usize) -> Option<&Arc<str>> {
        self.members.get(place).map(|member| &member.name)
    }

    /// Shows a request's head to the filters, from where they stopped to wait.
    pub fn request(&mut self, context: &mut Context<'_>, request: &mut Request) -> Step {
        if self.has_overrun(context) {
            return Step::Overrun;
        }
        while let Some(member) = self.members.get_mut(self.next) {
            member.involved = true;
            let place = self.next;
            let target = context.exchange.target;
            let verdict = member.call(place, context, |filter, call| filter.request(call, request));
            if context.exchange.target != target {
                context.exchange.redirected_by = Some(Arc::clone(&member.name));
            }
            if verdict != Verdict::Wait {
                self.next += 1;
            }
            match self.judge(place, Stream::First, verdict, context) {
                Step::Go => {}
                step => return step,
            }
        }
        self.way = self.floor.unwrap_or(0)..self.members.len();
        Step::Go
    }

    /// The filter `by` has given a response: it is for those before it. The request goes on no further, unless the response is
    /// for now and another one is to come.
    pub fn answered_by(&mut self, by: usize) {
        self.way = self.floor.unwrap_or(0).min(by)..by;
        // Whatever those behind made of a response that it replaces.
        for member in self.members.iter_mut().skip(by) {
            member.look_away(Stream::Second);
        }
    }

    /// The response that is to come ends with the filter `by`: the client has its answer.
    pub fn goes_on(&mut self, by: usize) {
        self.floor = Some(by);
        for member in &mut self.members {
            member.look_away(Stream::Second);
        }
    }

    /// Another response is to come in the place of the one that filters were shown.
    pub fn asks_again(&mut self) {
        self.way = self.floor.unwrap_or(0)..self.members.len();
        for member in &mut self.members {
            member.look_away(Stream::Second);
        }
    }

    /// Whether the response that is to come, or comes, reaches the client.
    pub const fn reaches_client(&self) -> bool {
        self.floor.is_none()
    }

    /// Shows a response's head to the filters that it is for, from where they stopped to wait. Behind one that edits the content, its
    /// length is known to nobody.
    pub fn response(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        response: &mut Response,
    ) -> Step {
        if self.has_overrun(context) {
            return Step::Overrun;
        }
        let came = response.framing();
        let step = self.show_response(context, request, response);
        // The codec reads the content as it came.
        response.read_framing(came);
        step
    }

    fn show_response(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        response: &mut Response,
    ) -> Step {
        while self.way.end > self.way.start {
            if matches!(response.framing(), Framing::Length(1..)) && self.is_edited_so_far() {
                response.read_framing(Framing::Chunked);
                response.fields_mut().remove("Content-Length");
            }
            let place = self.way.end - 1;
            let member = &mut self.members[place];
            let verdict =
                member.call(place, context, |filter, call| filter.response(call, request, response));
            if verdict != Verdict::Wait {
                self.way.end = place;
            }
            match self.judge(place, Stream::Second, verdict, context) {
                Step::Go => {}
                step => return step,
            }
        }
        Step::Go
    }

    /// Whether a filter that has seen the response's head edits its content.
    fn is_edited_so_far(&self) -> bool {
        let stream = Stream::Second as usize;
        self.members[self.way.end..].iter().any(|member| member.interest[stream] == Interest::Edit)
    }

    /// What the filters want of a message's content.
    pub fn interest(&self, stream: Stream) -> Interest {
        self.members.iter().map(|member| member.interest[stream as usize]).max().unwrap_or_default()
    }

    /// Whether more follows of content that was led through the filters.
    pub fn has_more(&self, stream: Stream) -> bool {
        self.members.iter().any(|member| member.more[stream as usize].is_some())
    }

    /// Leads content through the filters that want it; `end` with the last of it. What they let out is appended to `out`. As long as
    /// there [is more](Cascade::has_more) of what was led before, nothing is let in: `bytes` must be empty, and `end` does not count.
    pub fn content(
        &mut self,
        context: &mut Context<'_>,
        stream: Stream,
        bytes: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Went {
        self.from.clear();
        self.from.extend_from_slice(bytes);
        // Each has room for what the one before lets out: so the last goes first.
        let count = self.members.len();
        let more = |step: usize| self.members[self.place(stream, step)].more[stream as usize];
        let resumed = (0..count).rev().find_map(|step| more(step).map(|end| (step, end)));
        let (first, mut end) = resumed.unwrap_or((0, end));
        for step in first..count {
            let place = self.place(stream, step);
            let Self { members, from, to, .. } = self;
            let member = &mut members[place];
            let interest = member.interest[stream as usize];
            let is_resumed = member.more[stream as usize].is_some();
            if interest == Interest::None || (from.is_empty() && !end && !is_resumed) {
                continue;
            }
            match member.show(place, context, stream, from, end, to) {
                Went::On => {}
                Went::More => end = false,
                went => return went,
            }
            if interest == Interest::Edit {
                member.usage.let_out[stream as usize] += to.len() as u64;
                mem::swap(from, to);
            }
        }
        out.extend_from_slice(&self.from);
        if self.has_more(stream) { Went::More } else { Went::On }
    }

    /// Shows content to filters of which none edits.
    pub fn watch(&mut self, context: &mut Context<'_>, stream: Stream, bytes: &[u8], end: bool) -> Went {
        for (place, member) in self.members.iter_mut().enumerate() {
            if member.interest[stream as usize] == Interest::None {
                continue;
            }
            match member.show(place, context, stream, bytes, end, &mut self.to) {
                Went::On => {}
                went => return went,
            }
        }
        Went::On
    }

    /// The connection becomes a WebSocket: answers whether some filter wants to see its frames.
    pub fn wants_frames(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        response: &Response,
    ) -> bool {
        for (place, member) in self.members.iter_mut().enumerate().rev() {
            member.wants_frames = member.involved
                && member.call(place, context, |filter, call| filter.wants_frames(call, request, response));
        }
        self.members.iter().any(|member| member.wants_frames)
    }

    /// Shows a piece of a frame to the filters that want it.
    pub fn frame(&mut self, context: &mut Context<'_>, sender: Stream, frame: &Frame<'_>) -> Went {
        for step in 0..self.members.len() {
            let place = self.place(sender, step);
            let member = &mut self.members[place];
            if !member.wants_frames {
                continue;
            }
            match member.frame(place, context, sender, frame) {
                Went::On => {}
                went => return went,
            }
        }
        Went::On
    }

    /// The server has failed. Answers whether a filter, the one next to it first, knows another one for the request.
    pub fn elsewhere(&mut self, context: &mut Context<'_>, request: &Request, failure: Failure) -> bool {
        let mut members = self.members.iter_mut().enumerate().rev().filter(|(_, member)| member.involved);
        members.any(|(place, member)| {
            let is_other =
                member.call(place, context, |filter, call| filter.elsewhere(call, request, failure));
            if is_other {
                context.exchange.redirected_by = Some(Arc::clone(&member.name));
            }
            is_other
        })
    }

    /// The server has failed. The filter next to it that has an answer gives it.
    pub fn failed(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        failure: Failure,
    ) -> Option<(usize, Box<Answer>)> {
        for place in (0..self.members.len()).rev() {
            let member = &mut self.members[place];
            if !member.involved {
                continue;
            }
            let answer = member.call(place, context, |filter, call| filter.failed(call, request, failure));
            if let Some(answer) = answer {
                member.usage.answered = true;
                return Some((place, answer));
            }
        }
        None
    }

    /// Hands on what was given for a ticket. Answers whether somebody was waiting for it.
    pub fn given(&mut self, context: &mut Context<'_>, given: Box<dyn Any + Send>) -> bool {
        let Ok(given) = given.downcast::<Given>() else { return false };
        let Given { member: place, exchange, answer } = *given;
        let Some(member) = self.members.get_mut(place).filter(|_| exchange == context.exchange.number) else {
            return false;
        };
        member.call(place, context, |filter, call| filter.answered(call, answer));
        true
    }

    /// Time spent in all filters for this exchange.
    pub fn spent(&self) -> Duration {
        Duration::from_nanos(self.members.iter().map(|member| member.usage.nanos).sum())
    }

    /// The exchange is over: tells the filters that were shown its request, and makes ready for the next one.
    pub fn done(
        &mut self,
        context: &mut Context<'_>,
        request: &Request,
        response: Option<&Response>,
        record: &Record,
    ) {
        for (place, member) in self.members.iter_mut().enumerate() {
            if mem::take(&mut member.involved) {
                member.call(place, context, |filter, call| filter.done(call, request, response, record));
                context.gateway.account(&member.name, &member.usage);
            }
            member.look_away(Stream::First);
            member.look_away(Stream::Second);
            member.wants_frames = false;
            member.usage = Usage::default();
        }
        context.exchange.redirected_by = None;
        self.next = 0;
        self.floor = None;
        self.way = 0..0;
    }

    /// Whether a filter took longer than it may in a call that could not end the connection by itself.
    fn has_overrun(&self, context: &mut Context<'_>) -> bool {
        self.members.iter().any(|member| member.tells_overrun(context.exchange))
    }

    /// The filter that sees a stream after so many others.
    const fn place(&self, stream: Stream, step: usize) -> usize {
        match stream {
            Stream::First => step,
            Stream::Second => self.members.len() - 1 - step,
        }
    }

    /// Notes a filter's verdict on a head.
    fn judge(&mut self, place: usize, stream: Stream, verdict: Verdict, context: &mut Context<'_>) -> Step {
        let member = &mut self.members[place];
        if member.tells_overrun(context.exchange) {
            return Step::Overrun;
        }
        let interest = match verdict {
            Verdict::Pass => Interest::None,
            Verdict::Watch => Interest::Watch,
            Verdict::Edit => Interest::Edit,
            Verdict::Wait => return Step::Wait,
            Verdict::Answer(answer) => {
                member.usage.answered = true;
                name_verdict(&mut context.exchange.verdict, &member.name);
                return Step::Answer(place, answer);
            }
            Verdict::Again(request) => return Step::Again(request),
            Verdict::Reset => {
                member.usage.reset = true;
                name_verdict(&mut context.exchange.verdict, &member.name);
                return Step::Reset;
            }
        };
        member.interest[stream as usize] = interest;
        Step::Go
    }
}

impl Member {
    /// Shows content to the filter; what it writes is in `out` then.
    fn show(
        &mut self,
        place: usize,
        context: &mut Context<'_>,
        stream: Stream,
        bytes: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) -> Went {
        out.clear();
        if self.tells_overrun(context.exchange) {
            return Went::Overrun;
        }
        self.usage.shown[stream as usize] += bytes.len() as u64;
        let verdict = self.call(place, context, |filter, call| match stream {
            Stream::First => filter.request_body(call, bytes, end, out),
            Stream::Second => filter.response_body(call, bytes, end, out),
        });
        let went = self.note(context, verdict);
        if went == Went::More && self.interest[stream as usize] == Interest::Edit {
            self.more[stream as usize] = Some(end);
            return Went::More;
        }
        self.more[stream as usize] = None;
        if went == Went::More { Went::On } else { went }
    }

    /// Shows a piece of a frame to the filter.
    fn frame(&mut self, place: usize, context: &mut Context<'_>, sender: Stream, frame: &Frame<'_>) -> Went {
        self.usage.shown[sender as usize] += frame.payload.len() as u64;
        let verdict = self.call(place, context, |filter, call| filter.frame(call, sender, frame));
        match self.note(context, verdict) {
            Went::More => Went::On,
            went => went,
        }
    }

    /// Notes the filter's verdict on content.
    fn note(&mut self, context: &mut Context<'_>, verdict: Content) -> Went {
        if self.tells_overrun(context.exchange) {
            return Went::Overrun;
        }
        match verdict {
            Content::Go => Went::On,
            Content::More => Went::More,
            Content::Reset => {
                self.usage.reset = true;
                name_verdict(&mut context.exchange.verdict, &self.name);
                Went::Reset
            }
        }
    }

    /// It sees no more of this stream's content.
    const fn look_away(&mut self, stream: Stream) {
        self.interest[stream as usize] = Interest::None;
        self.more[stream as usize] = None;
    }

    /// Whether a call took longer than it may: then the exchange's verdict says so.
    fn tells_overrun(&self, exchange: &mut Exchange) -> bool {
        if let Some(took) = self.overrun {
            exchange.verdict = Some(format!("took {took:.1?}, more than its {:?}", self.budget).into());
            name_verdict(&mut exchange.verdict, &self.name);
        }
        self.overrun.is_some()
    }

    /// Calls the filter, and measures how long it takes. It cannot be interrupted; who overruns its budget is not called again
    /// but to be told the end.
    fn call<R>(
        &mut self,
        place: usize,
        context: &mut Context<'_>,
        call: impl FnOnce(&mut dyn HttpFilter, &mut Call<'_>) -> R,
    ) -> R {
        let Context { now, exchange, gateway, wake } = context;
        let before = gateway.nanos();
        let mut own_wake = None;
        let number = exchange.number;
        let mut addressed = Addressed { gateway: &mut **gateway, member: place, exchange: number };
        let mut own = Call { now: *now, exchange, gateway: &mut addressed, wake: &mut own_wake };
        let result = call(&mut *self.filter, &mut own);
        if let Some(own) = own_wake {
            **wake = Some(wake.map_or(own, |wake| wake.min(own)));
        }
        if let (Some(before), Some(after)) = (before, gateway.nanos()) {
            let took = after.saturating_sub(before);
            self.usage.nanos += took;
            if Duration::from_nanos(took) > self.budget {
                self.usage.overruns += 1;
                self.overrun = Some(Duration::from_nanos(took));
            }
        }
        result
    }
}

/// The gateway in one filter's hands.
#[derive(Debug)]
struct Addressed<'a> {
    gateway: &'a mut dyn Gateway,
    member: usize,
    exchange: u64,
}

impl Gateway for Addressed<'_> {
    fn unix_time(&self) -> Duration {
        self.gateway.unix_time()
    }

    fn log(&mut self, path: &Arc<Path>, line: Vec<u8>) {
        self.gateway.log(path, line);
    }

    fn ticket(&mut self) -> Ticket {
        let (ticket, member, exchange) = (self.gateway.ticket(), self.member, self.exchange);
        Ticket::new(move |answer| ticket.answer(Box::new(Given { member, exchange, answer })))
    }

    fn nanos(&self) -> Option<u64> {
        self.gateway.nanos()
    }

    fn account(&mut self, filter: &Arc<str>, usage: &Usage) {
        self.gateway.account(filter, usage);
    }
}

/// The number of the exchange that something was given for by a filter's ticket.
pub(crate) fn exchange_of(given: &(dyn Any + Send)) -> Option<u64> {
    given.downcast_ref::<Given>().map(|given| given.exchange)
}

/// Writes down which filter decided, before its own sentence if it left one.
pub fn name_verdict(verdict: &mut Option<Box<str>>, filter: &str) {
    *verdict = Some(match verdict.take() {
        Some(sentence) => format!("{filter}: {sentence}").into(),
        None => filter.into(),
    });
}

impl fmt::Debug for Cascade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cascade")
            .field("filters", &self.members.iter().map(|member| &member.name).collect::<Vec<_>>())
            .field("next", &self.next)
            .field("way", &self.way)
            .finish_non_exhaustive()
    }
}
