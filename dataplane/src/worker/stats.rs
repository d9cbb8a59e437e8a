//! What a worker counts. Written by the worker, read by control.

use pnat_shared::stats::{Closes, Counter, Drops, Turns};

/// One port's traffic, as one worker saw it.
#[derive(Debug, Default)]
pub struct PortStats {
    pub rx_packets: Counter,
    /// Bytes of frames, from the Ethernet header on.
    pub rx_bytes: Counter,
    pub tx_packets: Counter,
    pub tx_bytes: Counter,
}

/// One worker's counters. Every frame that came in is accounted for:
///
/// ```text
///   rx_packets + from_proxy + handed_in + generated
///     = tx_packets + to_proxy + handed_out + drops + absorbed + what waits for a neighbor
/// ```
///
/// Not part of it is the drop reason `no_frame`, a frame that there never was; and what does not fit into rings and
/// transmit queues ([`crate::loopback::steer`], the port itself) is counted twice, as handed on and as dropped.
#[derive(Debug)]
pub struct WorkerStats {
    pub ports: Vec<PortStats>,
    /// Of the loop that drives it.
    pub turns: Turns,
    pub drops: Drops,
    /// Flows that ended, by reason; proxied ones as their pair said.
    pub closes: Closes,
    pub opened: Counter,
    /// Flows that are open now.
    pub active: Counter,
    /// Of them proxied TCP flows whose client has not shown yet that it has its address.
    pub half_open: Counter,
    /// SYNs answered by a cookie, and flows that returned ones opened.
    pub cookies_sent: Counter,
    pub cookies_accepted: Counter,
    /// Packets that returned none, or a wrong one, when one was expected.
    pub cookies_refused: Counter,
    /// Servers that filters chose and proxied flows were led to, and those that cannot be had.
    pub retargets: Counter,
    pub retargets_refused: Counter,
    /// Packets of known flows.
    pub hits: Counter,
    /// Packets that belonged to no flow, so policy was asked or they were refused.
    pub misses: Counter,
    /// Frames handed to other workers, and taken from them.
    pub handed_out: Counter,
    pub handed_in: Counter,
    pub to_proxy: Counter,
    pub from_proxy: Counter,
    /// Frames of the gateway's own: resets, ICMP errors, ARP questions and announcements.
    pub generated: Counter,
    /// Frames that told the gateway something and ended there: ARP answers.
    pub absorbed: Counter,
}

impl WorkerStats {
    pub fn new(ports: usize) -> Self {
        Self {
            ports: (0..ports).map(|_| PortStats::default()).collect(),
            turns: Turns::default(),
            drops: Drops::default(),
            closes: Closes::default(),
            opened: Counter::default(),
            active: Counter::default(),
            half_open: Counter::default(),
            cookies_sent: Counter::default(),
            cookies_accepted: Counter::default(),
            cookies_refused: Counter::default(),
            retargets: Counter::default(),
            retargets_refused: Counter::default(),
            hits: Counter::default(),
            misses: Counter::default(),
            handed_out: Counter::default(),
            handed_in: Counter::default(),
            to_proxy: Counter::default(),
            from_proxy: Counter::default(),
            generated: Counter::default(),
            absorbed: Counter::default(),
        }
    }
}
