//! What has become of a class's connections.
//!
//! Runs on: the generator's core. Allocates: at creation. Blocks: never.

use hdrhistogram::Histogram;
use pnat_shared::time::Duration;
use serde::{Deserialize, Serialize};

use crate::load::new_histogram;

/// Counts of a class, or of all.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Connections that were to be opened by the time that was given, and those that were.
    pub intended: u64,
    pub attempted: u64,
    /// Not opened because no client socket was free, or because there were too many connections already.
    pub unstarted: u64,
    /// Whose handshake came to its end; for half-open ones, whose SYN was answered.
    pub established: u64,
    /// That went as they should to their end.
    pub completed: u64,
    pub failed: Failures,
    /// That were neither completed nor failed when the trial ended.
    pub unfinished: u64,
    /// Requests that were sent, and those whose response came whole. A bulk transfer is one.
    pub requests: u64,
    pub transactions: u64,
    /// Of requests, how many a server has found to be other than what its client sent.
    pub wrong_requests: u64,
    /// Bytes of content that were right: what servers took, and what clients took.
    pub to_servers: u64,
    pub to_clients: u64,
    /// Segments that clients' and servers' ends had to send again, SYNs included.
    pub retransmitted: [u64; 2],
}

/// Connections that failed, by reason.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failures {
    /// RST to the SYN.
    pub refused: u64,
    /// RST to an open connection.
    pub reset: u64,
    /// Nothing came for too long.
    pub timed_out: u64,
    /// The server ended its stream too early.
    pub closed_early: u64,
    /// The response was other than what the server sent.
    pub wrong_content: u64,
}

/// Why a connection failed.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Refused,
    Reset,
    TimedOut,
    ClosedEarly,
    WrongContent,
}

impl Failures {
    pub const fn total(&self) -> u64 {
        self.refused + self.reset + self.timed_out + self.closed_early + self.wrong_content
    }

    pub(super) const fn note(&mut self, failure: Failure) {
        let count = match failure {
            Failure::Refused => &mut self.refused,
            Failure::Reset => &mut self.reset,
            Failure::TimedOut => &mut self.timed_out,
            Failure::ClosedEarly => &mut self.closed_early,
            Failure::WrongContent => &mut self.wrong_content,
        };
        *count += 1;
    }
}

impl Counts {
    /// Adds another class's.
    pub fn add(&mut self, other: &Self) {
        let Self { intended, attempted, unstarted, established, completed, failed, unfinished, .. } = other;
        self.intended += intended;
        self.attempted += attempted;
        self.unstarted += unstarted;
        self.established += established;
        self.completed += completed;
        self.failed.refused += failed.refused;
        self.failed.reset += failed.reset;
        self.failed.timed_out += failed.timed_out;
        self.failed.closed_early += failed.closed_early;
        self.failed.wrong_content += failed.wrong_content;
        self.unfinished += unfinished;
        self.requests += other.requests;
        self.transactions += other.transactions;
        self.wrong_requests += other.wrong_requests;
        self.to_servers += other.to_servers;
        self.to_clients += other.to_clients;
        self.retransmitted[0] += other.retransmitted[0];
        self.retransmitted[1] += other.retransmitted[1];
    }
}

/// What a class's connections have shown. Times are in nanoseconds.
#[derive(Clone, Debug)]
pub struct ClassAccount {
    pub counts: Counts,
    /// From when the SYN was meant to be sent to the handshake's end.
    pub connect: Histogram<u64>,
    /// From when the SYN was meant to be sent to the first response's first and last byte (RFC 9411: TTFB, TTLB).
    pub first_byte: Histogram<u64>,
    pub last_byte: Histogram<u64>,
    /// From when a request was meant to be sent to its response's last byte.
    pub request: Histogram<u64>,
    /// From when the SYN was meant to be sent to the end of a completed connection.
    pub duration: Histogram<u64>,
    /// From when the SYN was meant to be sent to when it was.
    pub late: Histogram<u64>,
}

impl ClassAccount {
    pub(super) fn new() -> Self {
        let [connect, first_byte, last_byte, request, duration, late] =
            std::array::from_fn(|_| new_histogram());
        Self { counts: Counts::default(), connect, first_byte, last_byte, request, duration, late }
    }

    /// The distributions with their names.
    pub fn distributions(&self) -> [(&'static str, &Histogram<u64>); 6] {
        [
            ("connect", &self.connect),
            ("first_byte", &self.first_byte),
            ("last_byte", &self.last_byte),
            ("request", &self.request),
            ("duration", &self.duration),
            ("late", &self.late),
        ]
    }

    /// Adds another class's.
    pub fn add(&mut self, other: &Self) {
        self.counts.add(&other.counts);
        let ours = [
            &mut self.connect,
            &mut self.first_byte,
            &mut self.last_byte,
            &mut self.request,
            &mut self.duration,
            &mut self.late,
        ];
        for (ours, (_, theirs)) in ours.into_iter().zip(other.distributions()) {
            ours.add(theirs).expect("invariant: all have the same bounds");
        }
    }
}

/// Records a time; what is longer than a histogram reaches counts as its longest.
pub(super) fn record(histogram: &mut Histogram<u64>, time: Duration) {
    histogram.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1));
}
