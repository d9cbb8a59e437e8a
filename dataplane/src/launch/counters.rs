//! Counters of cores and devices under the names that control shows.

use pnat_shared::stats::{Closes, Counter, Counters, Drops};
use pnat_shared::verdict::DropReason;

use crate::port::{PortInfo, capsule};
use crate::worker::WorkerStats;

impl Counters for WorkerStats {
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let sum = |of: fn(&crate::worker::PortStats) -> &Counter| {
            self.ports.iter().map(|port| of(port).value()).sum()
        };
        each("rx_packets", sum(|port| &port.rx_packets));
        each("rx_bytes", sum(|port| &port.rx_bytes));
        each("tx_packets", sum(|port| &port.tx_packets));
        each("tx_bytes", sum(|port| &port.tx_bytes));
        each("flows_opened", self.opened.value());
        each("flows_active", self.active.value());
        each("half_open", self.half_open.value());
        each("cookies_sent", self.cookies_sent.value());
        each("cookies_accepted", self.cookies_accepted.value());
        each("cookies_refused", self.cookies_refused.value());
        each("hits", self.hits.value());
        each("misses", self.misses.value());
        each("handed_out", self.handed_out.value());
        each("handed_in", self.handed_in.value());
        each("to_proxy", self.to_proxy.value());
        each("from_proxy", self.from_proxy.value());
        each("generated", self.generated.value());
        each("absorbed", self.absorbed.value());
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
    /// The device's counts of what it dropped, as of the last look. Only control looks, so there is one writer.
    drops: Drops,
}

impl PortGauge {
    pub(super) fn new(port: PortInfo) -> Self {
        Self { port, drops: Drops::default() }
    }
}

impl Counters for PortGauge {
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let Some(counted) = capsule::counters(&self.port) else { return };
        each("rx_packets", counted.rx_pkts);
        each("tx_packets", counted.tx_pkts);
        each("tx_dropped", counted.tx_dropped);
        each("rx_multi_segment", counted.rx_multi_segment);
        each("rx_missed", counted.rx_missed);
        each("rx_errors", counted.rx_errors);
        each("rx_no_frame", counted.rx_no_buffer);
        each("tx_errors", counted.tx_errors);
        each("rx_checksum_offload", u64::from(self.port.verifies));
        each("tx_checksum_offload", u64::from(self.port.offloads.checksum));
        each("tx_segments_offload", u64::from(self.port.offloads.segments > 1));
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
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        let pools = capsule::pools();
        each("frames", pools.iter().map(|pool| u64::from(pool.capacity)).sum());
        each("frames_available", pools.iter().map(|pool| u64::from(pool.available)).sum());
    }
}

/// Records of one proxy core that found no room on the way to the log writer.
#[derive(Debug, Default)]
pub(super) struct LostRecords(pub(super) std::sync::Arc<Counter>);

impl Counters for LostRecords {
    fn counters(&self, each: &mut dyn FnMut(&'static str, u64)) {
        each("lost_records", self.0.value());
    }
}
