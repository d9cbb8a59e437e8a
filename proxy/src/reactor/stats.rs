//! What a reactor counts. It writes, anybody may read.

use pnat_shared::flow::Protocol;
use pnat_shared::stats::{Closes, Counter, Counters, Drops, Metric, Turns};

/// Counters and gauges of one proxy core.
#[derive(Debug, Default)]
pub struct ReactorStats {
    /// Of the loop that drives it.
    pub turns: Turns,
    /// TCP pairs alive.
    pub open_tcp: Counter,
    /// UDP pairs alive.
    pub open_udp: Counter,
    pub opened_tcp: Counter,
    pub opened_udp: Counter,
    /// Second sockets that have asked a server: fewer than pairs where filters answer in the servers' place.
    pub servers_asked: Counter,
    /// Those of them that were led to another server than before, or to the same anew.
    pub retargets: Counter,
    /// Servers that filters chose where none could be chosen any more.
    pub targets_ignored: Counter,
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
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        self.turns.counters(each);
        each(Metric::level("pairs_tcp", "TCP pairs alive."), self.open_tcp.value());
        each(Metric::level("pairs_udp", "UDP pairs alive."), self.open_udp.value());
        each(Metric::count("pairs_tcp_opened", "TCP pairs opened."), self.opened_tcp.value());
        each(Metric::count("pairs_udp_opened", "UDP pairs opened."), self.opened_udp.value());
        each(
            Metric::count("servers_asked", "Connections to servers begun for TCP pairs."),
            self.servers_asked.value(),
        );
        each(
            Metric::count("retargets", "Those of them to another server than before, or to the same anew."),
            self.retargets.value(),
        );
        each(
            Metric::count("targets_ignored", "Servers that filters chose where none could be chosen."),
            self.targets_ignored.value(),
        );
        each(
            Metric::level("kept", "Pieces of payload that pairs keep: out of order, or not acknowledged."),
            self.kept.value(),
        );
        each(Metric::count("first_bytes", "Payload bytes received from clients."), self.bytes[0].value());
        each(Metric::count("second_bytes", "Payload bytes received from servers."), self.bytes[1].value());
        each(Metric::count("first_packets", "Packets received from clients."), self.packets[0].value());
        each(Metric::count("second_packets", "Packets received from servers."), self.packets[1].value());
        each(Metric::count("icmp_soft", "ICMP errors that changed nothing."), self.icmp_soft.value());
        each(
            Metric::count("unknown_policy", "Flows refused because their policy is not known, or no longer."),
            self.unknown_policy.value(),
        );
        each(
            Metric::count("panics", "Pairs that panicked; each is a fault of the gateway."),
            self.panics.value(),
        );
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    fn drops(&self) -> Option<&Drops> {
        Some(&self.drops)
    }

    /// Workers count the ends of flows, proxied ones included; counting them here too would double the sums.
    fn closes(&self) -> Option<&Closes> {
        None
    }
}
