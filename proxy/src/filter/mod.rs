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

use std::fmt::Debug;
use std::net::SocketAddrV4;
use std::sync::Arc;

use pnat_shared::flow::{Protocol, Stream};
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

pub use chain::{Outcome, Output, StreamChain};
pub use datagram::{DatagramChain, Datagrams};
pub use registry::{Chains, CompileError, Named};
pub use services::Services;

/// What a filter may know of its flow, and what it may leave for others.
#[derive(Debug)]
pub struct Flow {
    /// Unique on its proxy core for as long as the gateway runs.
    pub id: u64,
    pub protocol: Protocol,
    pub client: SocketAddrV4,
    /// The server as the client named it.
    pub server: SocketAddrV4,
    /// The address and port that the server sees.
    pub public: SocketAddrV4,
    /// Name of the rule that chose the chain; `None` where the default action did.
    pub rule: Option<Arc<str>>,
    /// When the first packet came, on PNAT's clock.
    pub opened: Instant,
    /// What the client calls the server, once a filter has found out: TLS server name or HTTP host.
    pub name: Option<String>,
    /// Which filter ended the flow and why, where one did: `filter: sentence`.
    pub verdict: Option<String>,
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
    /// The filter needs to see no more of this stream: all of it goes on unchanged from here.
    Release,
    /// Ends the flow with a reset to both sides.
    Reset(CloseReason),
    /// Ends the flow: [`Call::output`] goes back to the side that sent these bytes, followed by a FIN; the other side
    /// gets a reset. Where the stream back has ended already, it is a reset to both sides.
    Answer(CloseReason),
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
    /// From the first packet to the server's answer; `None` where none came.
    pub connect: Option<Duration>,
    /// From the first packet to the first byte of the second stream; `None` where none came.
    pub first_byte: Option<Duration>,
    pub ended: Instant,
}

/// A filter over the two byte streams of a TCP flow.
pub trait StreamFilter: Send {
    /// Shows the bytes of a stream that wait: first the `held` bytes that earlier verdicts left, then new ones. Never
    /// called with nothing new, except after [`Call::wake`] or, with `end` set, when the stream has ended: then what is
    /// not passed or edited goes on unchanged (a filter cannot hold beyond the end, unless it asks to be woken).
    fn data(&mut self, call: &mut Call<'_>, stream: Stream, bytes: &[u8], held: usize, end: bool) -> Verdict;

    /// Whether it wants to see this stream at all; asked once, before the first byte. A stream that it does not want
    /// counts as released.
    fn wants(&self, _stream: Stream) -> bool {
        true
    }

    /// Most bytes that may be held per stream; more ends the flow with `filter_error`. Until then they close the sender's
    /// receive window.
    fn budget(&self) -> usize {
        64 * 1024
    }

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
}

/// Writes down which filter ended a flow, before the filter's own sentence if it left one.
fn name_verdict(flow: &mut Flow, filter: &str) {
    let sentence = flow.verdict.take();
    flow.verdict = Some(match sentence {
        Some(sentence) => format!("{filter}: {sentence}"),
        None => filter.to_owned(),
    });
}
