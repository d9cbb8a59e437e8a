//! Filters: what a rule does to the streams or datagrams of a flow.
//!
//! Runs on: proxy cores. Allocates: per flow, and for what filters edit or hold. Blocks: never.
//!
//! A filter is one of two traits, [`StreamFilter`] or [`DatagramFilter`]; a chain ([`StreamChain`], [`DatagramChain`])
//! holds one instance of each of a rule's filters per flow and calls them in order: the first stream (client to server)
//! meets them first to last, the second last to first, and each sees what the one before let out. A filter never blocks
//! and never sees a socket.
//!
//! To add one: a file here that implements both traits and [`Factory`], a line in `registry`, a section of
//! configuration, a transcript in `tests/filter_script.rs` and a perf scenario. `limit` is the one to read first.

use std::any::Any;
use std::fmt::Debug;
use std::net::SocketAddrV4;
use std::sync::Arc;

use bytes::Bytes;
use pnat_http::cascade::name_verdict;
use pnat_http::filter::Ticket;
pub use pnat_http::piece::Piece;
use pnat_shared::check::Check;
use pnat_shared::flow::{Handle, Protocol, Stream};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

mod registry;
mod chain;
mod stage;
mod held;
mod datagram;
mod services;
mod log;
pub mod log_writer;
mod block;
mod replace;
mod limit;
mod sniff;
mod http;
mod tls;
mod web;

pub use chain::{Outcome, Output, StreamChain};
pub use datagram::{DatagramChain, Datagrams};
pub use registry::{Chains, CompileError, Named, Needs};
pub(crate) use services::Given;
pub use services::Services;
pub use web::{FilterStats, Spoken, WebStats};

/// What a filter may know of its flow, and what it may leave for others.
#[derive(Debug)]
pub struct Flow {
    /// Unique on its proxy core for as long as the gateway runs.
    pub id: u64,
    /// By which its worker and its proxy core find it.
    pub handle: Handle,
    pub protocol: Protocol,
    pub client: SocketAddrV4,
    /// The server as the client named it.
    pub server: SocketAddrV4,
    /// The server that is to be asked in its place, where [`Flow::may_retarget`]; `None`: the one that the client named. A filter
    /// sets it before it lets out the first byte that is for it, and not while an answer of the one before is awaited: that is
    /// never heard. In the record, the one that was asked last.
    pub target: Option<SocketAddrV4>,
    /// Whether the server may be chosen: the client was accepted early, and a filter of the chain
    /// [answers](StreamFilter::answers).
    pub may_retarget: bool,
    /// The address and port that the server sees.
    pub public: SocketAddrV4,
    /// Name of the rule that chose the chain; `None` where the default action did.
    pub rule: Option<Arc<str>>,
    /// When the first packet came, on PNAT's clock.
    pub opened: Instant,
    /// By stream: how many bytes of their own filters may put into it to good purpose, beyond what its receiver has not taken yet.
    /// Known on each of the pair's turns.
    pub room: [u32; 2],
    /// A filter waits for room: it is shown again what it holds as soon as there is some.
    pub wants_room: bool,
    /// A filter of a client that was accepted early has no use for the server's connection any more: it is reset, and what comes out
    /// for a server from here on is for another one.
    pub leaves_server: bool,
    /// What the client calls the server, once a filter has found out: TLS server name or HTTP host.
    pub name: Option<Box<str>>,
    /// Which filter ended the flow and why, where one did: `filter: sentence`.
    pub verdict: Option<Box<str>>,
    /// What HTTP filters decided last on an exchange, while the flow went on: `filter: sentence`.
    pub decided: Option<Box<str>>,
}

impl Flow {
    /// Notes that a filter has put so many bytes into a stream.
    fn take_room(&mut self, stream: Stream, bytes: usize) {
        let room = &mut self.room[stream as usize];
        *room = room.saturating_sub(u32::try_from(bytes).unwrap_or(u32::MAX));
    }

    /// What there is to tell of filters' decisions: the one that ended the flow, else the last one on an exchange.
    pub fn told_verdict(&self) -> Option<&str> {
        self.verdict.as_deref().or(self.decided.as_deref())
    }
}

/// One turn of the reactor for one flow: what a chain needs besides the bytes. `out` is [`Output`] for streams and
/// [`Datagrams`] for datagrams.
#[derive(Debug)]
pub struct Turn<'a, O> {
    pub now: Instant,
    pub flow: &'a mut Flow,
    pub services: &'a mut Services,
    pub out: &'a mut O,
}

/// What one call may read and leave behind.
#[derive(Debug)]
pub struct Call<'a> {
    pub now: Instant,
    /// To say why it ends a flow, a filter sets [`Flow::verdict`]; the chain puts the filter's name before it.
    pub flow: &'a mut Flow,
    pub services: &'a mut Services,
    /// What [`Verdict::Edit`] puts in place of the bytes it consumes, and what [`Verdict::Answer`] sends back. Empty at
    /// each call.
    pub output: &'a mut Vec<u8>,
    /// Set it to have [`StreamFilter::data`] called again with what is held, as soon as that time has come. Each call
    /// starts with `None` and replaces what the one before asked for. Datagram filters have
    /// [`DatagramVerdict::Delay`] instead.
    pub wake: &'a mut Option<Instant>,
    /// Of use with [`Verdict::Script`], [`Verdict::Answer`] and [`Verdict::Cut`] only. Empty at each call.
    pub edits: &'a mut Edits,
    /// Which filter of the chain is being called.
    place: u16,
}

impl Call<'_> {
    /// A ticket for the filter that is being called: what is given for it comes to [`StreamFilter::answered`].
    pub fn ticket(&self) -> Ticket {
        self.services.ticket(self.flow.handle, self.place)
    }
}

/// What a filter writes down besides one edit of the bytes it was shown.
#[derive(Debug, Default)]
pub struct Edits {
    /// What becomes of the bytes shown, in order. What it does not cover is held.
    pub script: Vec<Piece>,
    /// Put at the end of what this filter has let out of the other stream.
    pub back: Vec<Bytes>,
    /// Shows this filter what it holds of the other stream, next.
    pub again: bool,
}

impl Edits {
    fn clear(&mut self) {
        self.script.clear();
        self.back.clear();
        self.again = false;
    }
}

/// What a filter says about the bytes it was shown. Counts beyond what was shown mean all of it. Bytes that are held
/// are shown again when there is something new: more bytes, the time asked for, or the end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first `n` bytes go on unchanged; the rest is held and shown again, followed by what comes next.
    Pass(usize),
    /// The first `n` bytes are replaced by what was written to [`Call::output`]; the rest is held and shown again.
    /// (`n` may be 0: an insertion; or the output empty: a removal.)
    Edit(usize),
    /// As [`Edits::script`] says.
    Script,
    /// The filter needs to see no more of this stream: all of it goes on unchanged from here.
    Release,
    /// Ends the flow with a reset to both sides.
    Reset(CloseReason),
    /// Ends the flow: [`Edits::back`] and [`Call::output`] go back to the side that sent these bytes, followed by a FIN; the
    /// other side gets a reset. Where the stream back has ended already, it is a reset to both sides.
    Answer(CloseReason),
    /// Ends the flow the other way: what [`Edits::script`] lets out goes on, followed by a FIN; the side that sent these bytes
    /// gets a reset.
    Cut(CloseReason),
}

/// What was sent and how it ended.
#[derive(Copy, Clone, Debug)]
pub struct Summary {
    pub reason: CloseReason,
    /// Payload bytes received from the client and from the server.
    pub received: [u64; 2],
    /// Payload bytes sent to the server (first stream) and to the client (second stream), each byte counted once.
    pub sent: [u64; 2],
    /// Packets received from the client and from the server.
    pub packets: [u64; 2],
    /// From the first packet, or from where the server was asked later, to the server's answer; `None` where none came.
    pub connect: Option<Duration>,
    /// From the first packet to the first byte of the second stream; `None` where none came.
    pub first_byte: Option<Duration>,
    pub ended: Instant,
}

/// A filter over the two byte streams of a TCP flow.
pub trait StreamFilter: Send {
    /// Shows the bytes of a stream that wait: first the `held` bytes that earlier verdicts left, then new ones. Never
    /// called with nothing new, except after [`Call::wake`] or, with `end` set, when the stream has ended: then what is
    /// not passed or edited goes on unchanged (a filter cannot hold beyond the end, nor the end, unless it asks to be woken).
    fn data(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8], held: usize, end: bool) -> Verdict;

    /// Whether it wants to see this stream at all; asked once, before the first byte. A stream that it does not want
    /// counts as released.
    fn wants(&self, _stream: Stream) -> bool {
        true
    }

    /// Whether it may answer in the server's place, or choose another server; asked once, before the first byte. Where the
    /// client was accepted early, the server is then asked no sooner than the chain lets out the first byte for it. (One that
    /// speaks first is heard where clients are accepted early only because there are too many: it is asked once the client has
    /// said nothing for a second.) A client that ends its stream without a byte for the server is told the end of the other once
    /// no filter says [`StreamFilter::keeps_client`].
    fn answers(&self) -> bool {
        false
    }

    /// Whether the client is to hear more although no server speaks to it: an answer of this filter's is under way, or the client
    /// may ask for more. Asked of filters that [answer](StreamFilter::answers), where the client was accepted early: when the
    /// server has ended its stream; and while there is no server, when the client has. As long as one says so, nobody learns that
    /// the second stream has ended; the server is asked anew when something comes out for it. One that awaits the server's answer
    /// says false, and so does one that has nothing more to say to a client whose stream has ended.
    fn keeps_client(&self) -> bool {
        false
    }

    /// The server of a client that was accepted early refused, cannot be reached, did not answer, or broke off: `reason` says
    /// which. Asked of the filters from the server's side to the client's, until one answers true: what it has written to
    /// [`Call::output`] goes to the client through the filters between, followed by a FIN, behind what the client has got already.
    /// Where none does, the client is reset. The flow's record tells the true reason in either case.
    fn server_failed(&mut self, _call: &mut Call<'_>, _reason: CloseReason) -> bool {
        false
    }

    /// The server has ended its stream, or failed as `reason` says, and the client is [kept](StreamFilter::keeps_client). Told to the
    /// one nearest to the server that [answers](StreamFilter::answers). What one has written to [`Call::output`] goes to a server that is asked
    /// anew. Answers whether it is to be shown again what it holds of both streams, be it nothing.
    fn server_left(&mut self, _call: &mut Call<'_>, _reason: Option<CloseReason>) -> bool {
        false
    }

    /// Most bytes that may be held per stream; more ends the flow with `filter_error`. Until then they close the sender's
    /// receive window.
    fn budget(&self) -> usize {
        64 * 1024
    }

    /// What somebody gave for a ticket of this filter. Then it is shown again what it holds of both streams; with [`Call::wake`]
    /// set, the first one also where it holds nothing.
    fn answered(&mut self, _call: &mut Call<'_>, _answer: Box<dyn Any + Send>) {}

    /// The flow has ended.
    fn close(&mut self, _flow: &Flow, _summary: &Summary, _services: &mut Services) {}
}

/// What a filter says about a datagram.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum DatagramVerdict {
    Pass,
    /// [`Call::output`] goes in its place; longer than the path carries means dropped and counted.
    Edit,
    /// It waits, and with it all that follow in this stream, until this time; then it is shown again.
    Delay(Instant),
    Drop,
    /// Passes this one and all that follow in this stream, unseen.
    Release,
    /// Drops it and all that follow, in both streams; the client is told by ICMP (administratively prohibited).
    Close(CloseReason),
}

/// A filter over the datagrams of a UDP flow.
pub trait DatagramFilter: Send {
    fn datagram(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8]) -> DatagramVerdict;

    /// Whether it wants to see this stream at all; asked once, before the first datagram.
    fn wants(&self, _stream: Stream) -> bool {
        true
    }

    /// The flow has ended.
    fn close(&mut self, _flow: &Flow, _summary: &Summary, _services: &mut Services) {}
}

/// A filter as configured, from which each flow gets its own instance. Shared by all proxy cores.
pub trait Factory: Debug + Send + Sync {
    fn stream(&self) -> Box<dyn StreamFilter>;
    fn datagram(&self) -> Box<dyn DatagramFilter>;

    /// Servers that are to be asked whether they are well.
    fn checks(&self) -> Vec<Check> {
        Vec::new()
    }
}
