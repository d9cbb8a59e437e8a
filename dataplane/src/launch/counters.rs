//! Counters of cores and devices under the names that control shows.

use std::sync::Arc;

use pnat_shared::stats::{Closes, Counter, Counters, Drops, Metric, Turns};
use pnat_shared::verdict::DropReason;

use crate::port::{PortInfo, capsule};
use crate::worker::{PortStats, WorkerStats};

impl Counters for WorkerStats {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        self.turns.counters(each);
        let sum = |of: fn(&PortStats) -> &Counter| self.ports.iter().map(|port| of(port).value()).sum();
        each(Metric::count("rx_packets", "Frames received from ports."), sum(|port| &port.rx_packets));
        each(
            Metric::count("rx_bytes", "Bytes of frames received from ports, from the Ethernet header on."),
            sum(|port| &port.rx_bytes),
        );
        each(Metric::count("tx_packets", "Frames handed to ports."), sum(|port| &port.tx_packets));
        each(
            Metric::count("tx_bytes", "Bytes of frames handed to ports, from the Ethernet header on."),
            sum(|port| &port.tx_bytes),
        );
        each(Metric::count("flows_opened", "Flows opened."), self.opened.value());
        each(Metric::level("flows_active", "Flows that are open."), self.active.value());
        each(
            Metric::level("half_open", "Proxied TCP flows whose client has not proven its address yet."),
            self.half_open.value(),
        );
        each(Metric::count("cookies_sent", "SYNs answered by a cookie."), self.cookies_sent.value());
        each(
            Metric::count("cookies_accepted", "Flows opened by a returned cookie."),
            self.cookies_accepted.value(),
        );
        each(
            Metric::count(
                "cookies_refused",
                "Packets that returned no cookie, or a wrong one, when one was expected.",
            ),
            self.cookies_refused.value(),
        );
        each(
            Metric::count("retargets", "Servers that filters chose and proxied flows were led to."),
            self.retargets.value(),
        );
        each(
            Metric::count("retargets_refused", "Servers that filters chose and that cannot be had."),
            self.retargets_refused.value(),
        );
        each(Metric::count("hits", "Packets of known flows."), self.hits.value());
        each(Metric::count("misses", "Packets of no known flow."), self.misses.value());
        each(Metric::count("handed_out", "Frames handed to other workers."), self.handed_out.value());
        each(Metric::count("handed_in", "Frames taken from other workers."), self.handed_in.value());
        each(Metric::count("to_proxy", "Packets handed to proxy cores."), self.to_proxy.value());
        each(Metric::count("from_proxy", "Packets taken from proxy cores."), self.from_proxy.value());
        each(
            Metric::count("generated", "Frames of the gateway's own: resets, ICMP errors, ARP."),
            self.generated.value(),
        );
        each(
            Metric::count("absorbed", "Frames that ended at the gateway: ARP answers."),
            self.absorbed.value(),
        );
    }

    fn turns(&self) -> Option<&Turns> {
        Some(&self.turns)
    }

    fn drops(&self) -> Option<&Drops> {
        Some(&self.drops)
    }

    fn closes(&self) -> Option<&Closes> {
        Some(&self.closes)
    }
}

/// A port as its device counts.
#[derive(Debug)]
pub(super) struct PortGauge {
    port: PortInfo,
    /// Which one it is to workers.
    number: usize,
    /// Who count its bytes, as devices do not all do it alike.
    workers: Vec<Arc<WorkerStats>>,
    /// The device's counts of what it dropped, as of the last look. Only control looks, so there is one writer.
    drops: Drops,
}

impl PortGauge {
    pub(super) fn new(port: PortInfo, number: usize, workers: Vec<Arc<WorkerStats>>) -> Self {
        Self { port, number, workers, drops: Drops::default() }
    }

    fn sum(&self, of: fn(&PortStats) -> &Counter) -> u64 {
        let ports = self.workers.iter().filter_map(|worker| worker.ports.get(self.number));
        ports.map(|port| of(port).value()).sum()
    }
}

impl Counters for PortGauge {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        let Some(counted) = capsule::counters(&self.port) else { return };
        let is_up = capsule::is_up(&self.port) == Some(true);
        each(Metric::level("link_up", "1 while the port's link is up."), u64::from(is_up));
        each(Metric::count("rx_packets", "Frames received by the device and handed on."), counted.rx_pkts);
        each(Metric::count("tx_packets", "Frames that the device took to send."), counted.tx_pkts);
        each(
            Metric::count("rx_bytes", "Bytes of frames that workers received, from the Ethernet header on."),
            self.sum(|port| &port.rx_bytes),
        );
        each(
            Metric::count("tx_bytes", "Bytes of frames that workers handed over to be sent."),
            self.sum(|port| &port.tx_bytes),
        );
        each(
            Metric::count("tx_dropped", "Frames dropped because the device did not take them."),
            counted.tx_dropped,
        );
        each(
            Metric::count(
                "rx_multi_segment",
                "Frames dropped at receive because they came in more than one buffer.",
            ),
            counted.rx_multi_segment,
        );
        each(
            Metric::count(
                "rx_missed",
                "Frames that the device dropped because they were not fetched in time.",
            ),
            counted.rx_missed,
        );
        each(Metric::count("rx_errors", "Frames that the device received damaged."), counted.rx_errors);
        each(
            Metric::count("rx_no_frame", "Times that the device found no free frame to receive into."),
            counted.rx_no_buffer,
        );
        each(Metric::count("tx_errors", "Frames that the device failed to send."), counted.tx_errors);
        each(
            Metric::level("rx_checksum_offload", "1 where the device verifies checksums."),
            u64::from(self.port.verifies),
        );
        each(
            Metric::level("tx_checksum_offload", "1 where the device completes checksums."),
            u64::from(self.port.offloads.checksum),
        );
        each(
            Metric::level("tx_segments_offload", "1 where the device cuts large segments."),
            u64::from(self.port.offloads.segments > 1),
        );
    }

    fn drops(&self) -> Option<&Drops> {
        let counted = capsule::counters(&self.port)?;
        self.drops.set(DropReason::TxFull, counted.tx_dropped);
        self.drops.set(DropReason::Oversized, counted.rx_multi_segment);
        Some(&self.drops)
    }
}

/// All frame pools together.
#[derive(Debug)]
pub(super) struct PoolGauge;

impl Counters for PoolGauge {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        let pools = capsule::pools();
        each(
            Metric::level("frames", "Frames that the pools have."),
            pools.iter().map(|pool| u64::from(pool.capacity)).sum(),
        );
        each(
            Metric::level("frames_available", "Frames that are free."),
            pools.iter().map(|pool| u64::from(pool.available)).sum(),
        );
    }
}

/// Records of one proxy core that found no room on the way to the log writer.
#[derive(Debug, Default)]
pub(super) struct LostRecords(pub(super) Arc<Counter>);

impl Counters for LostRecords {
    fn counters(&self, each: &mut dyn FnMut(Metric, u64)) {
        each(
            Metric::count("lost_records", "Log records that found no room on the way to the log writer."),
            self.0.value(),
        );
    }
}
