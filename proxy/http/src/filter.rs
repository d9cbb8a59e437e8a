//! What a filter over HTTP is, and what it may know and ask for.
//!
//! Runs on: proxy cores. Allocates: by filter. Blocks: never.
//!
//! A filter sees one exchange after the other: a request, then its response. Requests meet the filters of a rule in the order of
//! the configuration, responses in reverse, and each filter sees what the one before made of a message. An answer that a filter
//! gives in the server's place goes back through the filters before it, like any response; those behind it never learn of it.
//!
//! ```text
//!   request ---> request_body* ---.
//!      |  ^                       |      `*`: as far as asked for by `Verdict::Watch` or `Verdict::Edit`
//!      |  '-- Wait: shown again   v
//!      |         response ---> response_body* ---> done
//!      '-- Answer: done by itself, without a response
//! ```
//!
//! A call that takes longer than the filter's budget of time ([`crate::cascade::TIME_BUDGET`], the key `time_budget`) ends the
//! connection: with 503 where no response has begun.
//!
//! Nothing here could not cross a border of processes or sandboxes: messages are text and bytes, verdicts are data. What a filter
//! takes long for (disk, other threads) is handed to whom it may, with a [`Ticket`], and waited for by [`Verdict::Wait`].

use std::any::Any;
use std::fmt;
use std::net::SocketAddrV4;
use std::path::Path;
use std::sync::Arc;

use pnat_shared::check::Check;
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use crate::message::{Answer, Request, Response};
use crate::websocket::Frame;

/// What becomes of a message whose head a filter was shown.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on, head and content, as far as this filter is concerned: it sees no more of it.
    Pass,
    /// It goes on, and its content is shown as it passes.
    Watch,
    /// The head goes on as edited; the content goes on as the filter writes it, of whatever length: the codec frames it anew. The filter
    /// sees it in the coding that the sender chose (`Content-Encoding`), unless a `decompress` filter behind it in the rule has undone
    /// that, and takes from the head what held for the sender's bytes ([`crate::coding::representation::forget_bytes`]).
    Edit,
    /// It is held, and shown again once [`Call::wake`] has come or a ticket of this call has been answered; in half a minute in
    /// any case.
    Wait,
    /// To a request: this is its response, and no server is asked (unless [`Answer::goes_on`]). To a response: this takes its
    /// place, and what comes of its content is dropped.
    Answer(Box<Answer>),
    /// To a response without content, to a request without content: it is of use to nobody, and this request goes to the server
    /// in the place of the one that it answers. Once per exchange, and not in HTTP/2: else the client gets 502.
    Again(Box<Request>),
    /// The connection ends by reset, on both sides. [`Exchange::verdict`] tells why.
    Reset,
}

/// What a filter may read and leave behind in one call.
#[derive(Debug)]
pub struct Call<'a> {
    pub now: Instant,
    pub exchange: &'a mut Exchange,
    pub gateway: &'a mut dyn Gateway,
    /// Set it to have a message that waits shown again at that time.
    pub wake: &'a mut Option<Instant>,
}

/// What filters may know of an exchange, and leave for others.
#[derive(Clone, Debug)]
pub struct Exchange {
    pub client: SocketAddrV4,
    /// The server as the client addressed it.
    pub server: SocketAddrV4,
    /// Name of the rule that chose the filters.
    pub rule: Option<Arc<str>>,
    /// Counted from 0 on each connection.
    pub number: u64,
    /// When the first byte of the request came.
    pub began: Instant,
    /// Where this request is to go instead of [`Exchange::server`]: [`HttpFilter::request`] may set it where
    /// [`Exchange::may_redirect`], and [`HttpFilter::elsewhere`]. It holds for this request alone.
    pub target: Option<SocketAddrV4>,
    /// The filter that set [`Exchange::target`] last.
    pub redirected_by: Option<Arc<str>>,
    /// Whether the server can still be chosen: the client was accepted early.
    pub may_redirect: bool,
    /// Which filter decided on the exchange and why, where one did: `filter: sentence`. A filter sets the sentence by itself.
    pub verdict: Option<Box<str>>,
}

/// How an exchange went: to [`HttpFilter::done`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Status that the client got; `None`: the connection ended before.
    pub status: Option<u16>,
    /// What became of the server's own part, whatever the client got: the status of its final response (or of what made another
    /// protocol of the connection), or how it failed; `None`: it was not asked, or has not said before the end.
    pub server: Option<Result<u16, Failure>>,
    /// The filter that gave the response in the server's place.
    pub answered_by: Option<Arc<str>>,
    /// Bytes of content, without transfer coding: of the request as the client sent it, of the response as the client got it.
    pub content: [u64; 2],
    /// Since [`Exchange::began`]: until the request's head had passed all filters; `None`: it did not.
    pub forwarded: Option<Duration>,
    /// Until the first byte of the server's response; `None`: none came.
    pub responded: Option<Duration>,
    /// Until the last byte of the response was handed on, or the connection ended.
    pub ended: Duration,
    /// Time spent in filters, all together; `None` where that is not measured.
    pub filters: Option<Duration>,
    /// Both messages came to their ends; of a WebSocket whose frames were seen: both sides have closed it (RFC 6455 section 7.1.4).
    pub is_complete: bool,
}

/// One filter of one connection (of one stream, in HTTP/2): it sees one exchange at a time.
pub trait HttpFilter: Send {
    /// The head of a request. Shown again after [`Verdict::Wait`], with the edits made so far.
    fn request(&mut self, _call: &mut Call<'_>, _request: &mut Request) -> Verdict {
        Verdict::Pass
    }

    /// The next bytes of a request's content, without transfer coding; `end` with the last ones, which may be none. With
    /// [`Verdict::Edit`], what is to go on is appended to `out`; with [`Verdict::Watch`], `out` is ignored.
    fn request_body(
        &mut self,
        _call: &mut Call<'_>,
        _bytes: &[u8],
        _end: bool,
        _out: &mut Vec<u8>,
    ) -> Content {
        Content::Go
    }

    /// The head of a response: the server's, or that of a filter further on. `request` is what all filters together let go on. Interim
    /// responses (1xx) are not shown.
    fn response(&mut self, _call: &mut Call<'_>, _request: &Request, _response: &mut Response) -> Verdict {
        Verdict::Pass
    }

    /// The next bytes of a response's content. As [`HttpFilter::request_body`].
    fn response_body(
        &mut self,
        _call: &mut Call<'_>,
        _bytes: &[u8],
        _end: bool,
        _out: &mut Vec<u8>,
    ) -> Content {
        Content::Go
    }

    /// The connection becomes a WebSocket (RFC 6455), by a 101 that goes to the client next: whether this filter wants to see the
    /// frames of both sides. Where none does they pass unseen, and the exchange is over. To have text that can be read, take
    /// `Sec-WebSocket-Extensions` out of the request: nothing is compressed then.
    fn wants_frames(&mut self, _call: &mut Call<'_>, _request: &Request, _response: &Response) -> bool {
        false
    }

    /// The next piece of a frame, before it passes as it came. `sender` is [`Stream::First`] for the client. What is no frame is shown
    /// to nobody, and ends the connection by reset. [`HttpFilter::done`] follows when the connection has ended.
    fn frame(&mut self, _call: &mut Call<'_>, _sender: Stream, _frame: &Frame<'_>) -> Content {
        Content::Go
    }

    /// What somebody gave for a ticket of this filter. Then the message that waits is shown again.
    fn answered(&mut self, _call: &mut Call<'_>, _answer: Box<dyn Any + Send>) {}

    /// The server cannot be asked, or has gone before its response began, and the request may be sent once more (RFC 9110 section
    /// 9.2.2; it has no content): whether this filter has set [`Exchange::target`] to another server, which is to have it now.
    fn elsewhere(&mut self, _call: &mut Call<'_>, _request: &Request, _failure: Failure) -> bool {
        false
    }

    /// The server cannot be asked, or failed before its response began. An answer goes to the client in place of 502 or 504.
    fn failed(&mut self, _call: &mut Call<'_>, _request: &Request, _failure: Failure) -> Option<Box<Answer>> {
        None
    }

    /// The exchange is over, in whatever way. Called once for each request whose head this filter was shown.
    fn done(
        &mut self,
        _call: &mut Call<'_>,
        _request: &Request,
        _response: Option<&Response>,
        _record: &Record,
    ) {
    }
}

/// Whether content goes on.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It goes on: as it came, or what was written to `out`.
    Go,
    /// It goes on, and more follows from what was shown than is to be let out in one call ([`PORTION`]): the filter is called again,
    /// without bytes and with the same `end`, before it is shown anything else. Only with [`Verdict::Edit`].
    More,
    /// The connection ends by reset: the head has gone on, and nothing else would tell that the content is not whole.
    Reset,
}

/// How many bytes a filter that edits should let out in one call, more or less. All flows of the core wait while it does.
pub const PORTION: usize = 64 * 1024;

/// How a server failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It refused, or cannot be reached: 502. Or it ended the connection without a response: unless a filter answers, the client
    /// sees that end.
    Unreachable,
    /// It ended a connection by which it had answered before, without a byte: its end and the request may have crossed each other. As
    /// [`Failure::Unreachable`], but it says nothing about how the server does.
    Closed,
    /// It did not answer in time: 504.
    Timeout,
    /// What it sent is not HTTP, or not in one way only: 502.
    Malformed,
}

/// What a filter may ask of the gateway.
pub trait Gateway: fmt::Debug {
    /// The Unix time at [`Call::now`].
    fn unix_time(&self) -> Duration;

    /// Appends a line, which ends in a line feed, to a file, some time; loses and counts it where the writer is too busy.
    fn log(&mut self, path: &Arc<Path>, line: Vec<u8>);

    /// A ticket for the filter that is being called.
    fn ticket(&mut self) -> Ticket;

    /// A clock to measure filters by, in nanoseconds; `None`: they are not measured.
    fn nanos(&self) -> Option<u64> {
        None
    }

    /// What an exchange has cost one filter, when it is over.
    fn account(&mut self, _filter: &Arc<str>, _usage: &Usage) {}
}

/// What an exchange has cost one filter.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time spent in it; 0 where that is not measured.
    pub nanos: u64,
    /// Bytes of content that it was shown, of the request and of the response.
    pub shown: [u64; 2],
    /// Bytes of content that it let out in their place, where it edits.
    pub let_out: [u64; 2],
    /// It gave the response in the server's place.
    pub answered: bool,
    /// It ended the connection.
    pub reset: bool,
    /// Calls that took longer than its budget of time, which ends the connection.
    pub overruns: u32,
}

/// Leads back to the filter that drew it, from any thread, once. Where the connection is gone by then, or the exchange over, the
/// answer is dropped.
pub struct Ticket {
    deliver: Box<dyn FnOnce(Box<dyn Any + Send>) + Send>,
}

impl Ticket {
    pub fn new(deliver: impl FnOnce(Box<dyn Any + Send>) + Send + 'static) -> Self {
        Self { deliver: Box::new(deliver) }
    }

    /// Hands `answer` to [`HttpFilter::answered`].
    pub fn answer(self, answer: Box<dyn Any + Send>) {
        (self.deliver)(answer);
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").finish_non_exhaustive()
    }
}

/// A filter as configured, from which each connection gets its own. Shared by all proxy cores.
pub trait HttpFactory: fmt::Debug + Send + Sync {
    /// One for a connection that begins.
    fn filter(&self) -> Box<dyn HttpFilter>;

    /// Servers that are to be asked whether they are well, as long as this filter is in a rule of the policy.
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }

    /// Whether it does nothing for clients that were not accepted early, which the operator of such a rule is told.
    fn needs_early(&self) -> bool {
        false
    }
}

/// Why a filter cannot be made as configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {message}")]
pub struct ConfigFault {
    /// The key within the filter's section, as in `lists[0].path`.
    pub key: String,
    /// What is wrong with its value and what is allowed.
    pub message: String,
}
