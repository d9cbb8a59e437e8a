//! Health checks: what a worker asks of servers on behalf of a filter, and what it finds.

use core::fmt::Debug;
use core::net::SocketAddrV4;
use std::sync::Arc;

use crate::time::{Duration, Instant};

/// Bytes of a request at most: it leaves in one segment, whatever the path.
pub const MOST_REQUEST: usize = 512;

/// A server that is asked again and again whether it is well.
#[derive(Clone, Debug)]
pub struct Check {
    pub server: SocketAddrV4,
    /// One of HTTP/1.1, in whole, at most [`MOST_REQUEST`] bytes. None: it is enough that a connection comes about.
    pub request: Option<Arc<[u8]>>,
    /// From one question to the next one.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Who wants to know. Called on the worker, so it must not block.
    pub told: Arc<dyn Checked>,
}

/// Learns what checks find.
pub trait Checked: Debug + Send + Sync {
    fn checked(&self, server: SocketAddrV4, finding: Finding, now: Instant);
}

/// What one check has found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// A connection came about, and nothing else was asked for.
    Connected,
    /// The status of the response.
    Status(u16),
    /// A reset, in place of a connection or of a response.
    Reset,
    /// A router, or the gateway itself, reports that the server cannot be reached.
    Unreachable,
    /// No answer within the time.
    Silence,
    /// What came is no response of HTTP/1.
    Garbage,
}
