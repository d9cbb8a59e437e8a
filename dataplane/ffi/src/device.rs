//! Safe questions about ports and pools, for operators and start-up; never on a packet's way.

use std::ffi::{CStr, CString, c_char};
use std::mem::MaybeUninit;

use crate::bindings;
use crate::{rte_eth_dev_info, rte_ether_addr};

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

/// The port of a device: a PCI address, or a virtual device's name such as `net_af_xdp0`.
pub fn port_by_device(device: &str) -> Option<PortId> {
    let device = CString::new(device).ok()?;
    let mut port = 0;
    // SAFETY: both pointers are valid for the call.
    let answer = unsafe { bindings::rte_eth_dev_get_port_by_name(device.as_ptr(), &raw mut port) };
    (answer == 0).then_some(PortId(port))
}

impl PortId {
    /// The name of the driver, such as `net_af_xdp`; empty where DPDK does not say.
    pub fn driver(self) -> String {
        let mut info = rte_eth_dev_info::default();
        // SAFETY: `info` is valid for the call.
        if unsafe { bindings::rte_eth_dev_info_get(self.0, &raw mut info) } != 0 || info.driver_name.is_null()
        {
            return String::new();
        }
        // SAFETY: DPDK answers a zero-terminated name that lives as long as the driver.
        unsafe { CStr::from_ptr(info.driver_name) }.to_string_lossy().into_owned()
    }

    /// The address of the device, in the order of the wire.
    pub fn mac(self) -> [u8; 6] {
        let mut mac = rte_ether_addr::default();
        // SAFETY: `mac` is valid for the call; where it fails, `mac` stays zero.
        unsafe { bindings::rte_eth_macaddr_get(self.0, &raw mut mac) };
        mac.addr_bytes
    }

    /// The largest IP packet that the device carries, in bytes, as its driver says it.
    pub fn mtu(self) -> Option<u16> {
        let mut mtu = 0;
        // SAFETY: `mtu` is valid for the call.
        (unsafe { bindings::rte_eth_dev_get_mtu(self.0, &raw mut mtu) } == 0).then_some(mtu)
    }

    /// What has passed through the port, by our own count and by the device's.
    pub fn counters(self) -> PortCounters {
        let mut ours = MaybeUninit::<bindings::pnat_port_counters>::uninit();
        // SAFETY: the shim writes the whole struct.
        let ours = unsafe {
            bindings::pnat_port_counters(self.0, ours.as_mut_ptr());
            ours.assume_init()
        };
        let mut device = bindings::rte_eth_stats::default();
        // SAFETY: `device` is valid for the call; where it fails, the counts stay zero.
        unsafe { bindings::rte_eth_stats_get(self.0, &raw mut device) };
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

/// The pools that capsule has made, one per NUMA node in use.
pub fn pools() -> Vec<PoolLevel> {
    let named = |index: u32| {
        let name = format!("mempool{index}");
        let c_name = CString::new(name.as_str()).ok()?;
        let c_name: *const c_char = c_name.as_ptr();
        // SAFETY: the name is zero-terminated; the pools live until DPDK is shut down.
        let pool = unsafe { bindings::rte_mempool_lookup(c_name).as_ref() }?;
        // SAFETY: the pool was just found.
        let available = unsafe { bindings::rte_mempool_avail_count(pool) };
        // SAFETY: as before.
        let contiguous = unsafe { bindings::pnat_mempool_chunks(pool) } == 1;
        Some(PoolLevel { name, capacity: pool.size, available, contiguous })
    };
    (0..).map_while(named).collect()
}
