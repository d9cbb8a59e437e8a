//! Safe questions about ports and pools, for operators and start-up; never on a packet's way.

use std::ffi::{CStr, CString, c_char};
use std::ptr::NonNull;

use crate::bindings;
use crate::eal::while_running;
use crate::offload::Offloads;
use crate::{rte_eth_dev_info, rte_ether_addr, rte_mempool};

/// A port as DPDK numbers it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PortId(u16);

/// What has passed through a port. All counts start with the process.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PortCounters {
    /// Frames received and handed on.
    pub rx_pkts: u64,
    /// Frames that the device took to send.
    pub tx_pkts: u64,
    /// Frames freed because the device did not take them.
    pub tx_dropped: u64,
    /// Frames freed at receive because they came in more than one segment.
    pub rx_multi_segment: u64,
    /// Frames that the device dropped because they were not fetched in time.
    pub rx_missed: u64,
    /// Frames that the device received damaged.
    pub rx_errors: u64,
    /// Times that the device found no empty buffer for a frame.
    pub rx_no_buffer: u64,
    /// Frames that the device failed to send. Some drivers count here each attempt that `tx_dropped` counts once.
    pub tx_errors: u64,
}

/// A pool of frame buffers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolLevel {
    pub name: String,
    pub capacity: u32,
    /// Buffers that are free now, those in core caches included.
    pub available: u32,
    /// Whether all buffers lie in one piece of memory, which DPDK's AF_XDP driver takes for granted.
    pub contiguous: bool,
}

/// The port of a device: a PCI address, or a virtual device's name such as `net_af_xdp0`. `None` also while DPDK is not up.
pub fn port_by_device(device: &str) -> Option<PortId> {
    let device = CString::new(device).ok()?;
    let mut port = 0;
    // SAFETY: both pointers are valid for the call, and DPDK is up.
    let find = || unsafe { bindings::rte_eth_dev_get_port_by_name(device.as_ptr(), &raw mut port) };
    (while_running(find)? == 0).then_some(PortId(port))
}

/// Whether DPDK is up, so that it can be asked for devices.
pub fn is_dpdk_up() -> bool {
    while_running(|| ()).is_some()
}

impl PortId {
    pub(crate) const fn new(number: u16) -> Self {
        Self(number)
    }

    /// DPDK's number for the port, which its burst functions take.
    pub const fn number(self) -> u16 {
        self.0
    }

    /// The device's name: a PCI address, or a virtual device's.
    pub(crate) fn name(self) -> Option<String> {
        let mut name = [0 as c_char; bindings::RTE_ETH_NAME_MAX_LEN as usize];
        // SAFETY: DPDK writes a zero-terminated name of at most this length, and is up.
        let ask = || unsafe { bindings::rte_eth_dev_get_name_by_port(self.0, name.as_mut_ptr()) };
        (while_running(ask)? == 0).then(|| {
            // SAFETY: as just said.
            unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned()
        })
    }

    /// What was asked of the device when the port was configured.
    pub fn offloads(self) -> Offloads {
        let mut found = bindings::pnat_port_offloads::default();
        // SAFETY: `found` is valid for the call, which only reads the shim's own memory.
        unsafe { bindings::pnat_port_offloads(self.0, &raw mut found) };
        Offloads {
            rx_checksum: found.rx_checksum,
            tx_checksum: found.tx_checksum,
            tx_segments: found.tx_segments,
        }
    }

    /// The name of the driver, such as `net_af_xdp`.
    pub fn driver(self) -> Option<String> {
        let mut info = rte_eth_dev_info::default();
        while_running(|| {
            // SAFETY: `info` is valid for the call, and DPDK is up.
            let answer = unsafe { bindings::rte_eth_dev_info_get(self.0, &raw mut info) };
            if answer != 0 || info.driver_name.is_null() {
                return None;
            }
            // SAFETY: DPDK answers a zero-terminated name that lives as long as it is up.
            Some(unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned())
        })?
    }

    /// The address of the device, in the order of the wire.
    pub fn mac(self) -> Option<[u8; 6]> {
        let mut mac = rte_ether_addr::default();
        // SAFETY: `mac` is valid for the call, and DPDK is up.
        let ask = || unsafe { bindings::rte_eth_macaddr_get(self.0, &raw mut mac) };
        (while_running(ask)? == 0).then_some(mac.addr_bytes)
    }

    /// The largest IP packet that the device carries, in bytes, as its driver says it.
    pub fn mtu(self) -> Option<u16> {
        let mut mtu = 0;
        // SAFETY: `mtu` is valid for the call, and DPDK is up.
        let ask = || unsafe { bindings::rte_eth_dev_get_mtu(self.0, &raw mut mtu) };
        (while_running(ask)? == 0).then_some(mtu)
    }

    /// Whether the port's link is up: never before the port starts, nor after DPDK has ended.
    pub fn is_up(self) -> bool {
        // SAFETY: any number may be asked for, and DPDK is up.
        while_running(|| unsafe { bindings::pnat_port_is_up(self.0) }) == Some(true)
    }

    /// What has passed through the port, by our own count and by the device's. The device's are zero once DPDK has ended.
    pub fn counters(self) -> PortCounters {
        let mut ours = bindings::pnat_port_counters::default();
        // SAFETY: `ours` is valid for the call, which only reads the shim's own memory.
        unsafe { bindings::pnat_port_counters(self.0, &raw mut ours) };
        let mut device = bindings::rte_eth_stats::default();
        // SAFETY: `device` is valid for the call, and DPDK is up. Where it fails, the counts stay zero.
        while_running(|| unsafe { bindings::rte_eth_stats_get(self.0, &raw mut device) });
        PortCounters {
            rx_pkts: ours.rx_pkts,
            tx_pkts: ours.tx_pkts,
            tx_dropped: ours.tx_dropped,
            rx_multi_segment: ours.rx_multi_segment,
            rx_missed: device.imissed,
            rx_errors: device.ierrors,
            rx_no_buffer: device.rx_nombuf,
            tx_errors: device.oerrors,
        }
    }
}

/// The pools that capsule has made, one per NUMA node in use. None while DPDK is not up.
pub fn pools() -> Vec<PoolLevel> {
    let level = |index: u32| {
        // SAFETY: pools live until just before DPDK ends.
        let pool = unsafe { pool(index)?.as_ref() };
        // SAFETY: the pool was just found.
        let (available, pieces) =
            unsafe { (bindings::rte_mempool_avail_count(pool), bindings::pnat_mempool_chunks(pool)) };
        Some(PoolLevel { name: pool_name(index), capacity: pool.size, available, contiguous: pieces == 1 })
    };
    while_running(|| (0..).map_while(level).collect()).unwrap_or_default()
}

/// The pool on a NUMA node; `None` also while DPDK is not up. Valid for as long as DPDK is.
pub fn pool_on_node(node: i32) -> Option<NonNull<rte_mempool>> {
    // SAFETY: pools live until just before DPDK ends.
    let is_there = |found: &NonNull<rte_mempool>| unsafe { found.as_ref() }.socket_id == node;
    while_running(|| (0..).map_while(pool).find(is_there))?
}

/// One of the pools that capsule makes.
fn pool(index: u32) -> Option<NonNull<rte_mempool>> {
    let name = CString::new(pool_name(index)).ok()?;
    // SAFETY: the name is zero-terminated.
    NonNull::new(unsafe { bindings::rte_mempool_lookup(name.as_ptr()) })
}

/// As capsule names them.
fn pool_name(index: u32) -> String {
    format!("mempool{index}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_before_dpdk_is_up_are_answered_with_nothing() {
        assert_eq!(port_by_device("net_null0"), None);
        assert_eq!(PortId(0).mac(), None);
        assert_eq!(PortId(u16::MAX).counters(), PortCounters::default());
        assert!(!PortId(0).is_up());
        assert!(pools().is_empty());
    }
}
