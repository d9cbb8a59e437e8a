//! What a reactor counts. It writes, anybody may read.

use pnat_shared::flow::Protocol;
use pnat_shared::stats::{Closes, Counter, Counters, Drops};

/// Counters and gauges of one proxy core.
#[derive(Debug, Default)]
pub struct ReactorStats {
    /// TCP pairs alive.
    pub open_tcp: Counter,
    /// UDP pairs alive.
    pub open_udp: Counter,
    pub opened_tcp: Counter,
    pub opened_udp: Counter,
    /// Pairs and refused flows, by why they ended.
    pub closes: Closes,
    pub drops: Drops,
    /// Payload bytes that entered by the first and by the second stream.
    pub bytes: [Counter; 2],
    /// Chunks that pairs keep, no fewer than the frames: out of order or not acknowledged.
    pub kept: Counter,
    /// Packets that came from clients and from servers.
    pub packets: [Counter; 2],
    /// ICMP errors that changed nothing: soft ones, and those that quote what is not in flight.
    pub icmp_soft: Counter,
    /// New flows refused because their policy snapshot is not (or no longer) known.
    pub unknown_policy: Counter,
    /// Pairs that panicked. Each is a fault of the gateway.
    pub panics: Counter,
}

impl ReactorStats {
    pub(super) fn opened(&self, protocol: Protocol) {
        let (open, opened) = match protocol {
            Protocol::Udp => (&self.open_udp, &self.opened_udp),
            Protocol::Tcp | Protocol::Icmp => (&self.open_tcp, &self.opened_tcp),
        };
        open.set(open.value() + 1);
        opened.add(1);
    }

    pub(super) fn ended(&self, protocol: Protocol) {
        let open = match protocol {
            Protocol::Udp => &self.open_udp,
            Protocol::Tcp | Protocol::Icmp => &self.open_tcp,
        };
        open.set(open.value().saturating_sub(1));
    }
}

impl Counters for ReactorStats {
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("pairs_tcp", self.open_tcp.value());
        each("pairs_udp", self.open_udp.value());
        each("pairs_tcp_opened", self.opened_tcp.value());
        each("pairs_udp_opened", self.opened_udp.value());
        each("kept", self.kept.value());
        each("first_bytes", self.bytes[0].value());
        each("second_bytes", self.bytes[1].value());
        each("first_packets", self.packets[0].value());
        each("second_packets", self.packets[1].value());
        each("icmp_soft", self.icmp_soft.value());
        each("unknown_policy", self.unknown_policy.value());
        each("panics", self.panics.value());
    }

    fn drops(&self) -> Option<&Drops> {
        Some(&self.drops)
    }

    /// Workers count the ends of flows, proxied ones included; counting them here too would double the sums.
    fn closes(&self) -> Option<&Closes> {
        None
    }
}
