//! Ports: where frames enter and leave the gateway.
//!
//! Runs on: worker cores (queues), launch (everything else). Allocates: see each queue. Blocks: never.
//!
//! A worker sees nothing of a device but its [`PortQueue`]s. [`capsule`] gives it queues of DPDK devices, and is the only
//! module of this crate with unsafe code; [`memory`] gives tests and benches queues that are plain vectors.

pub mod capsule;
pub mod memory;
pub mod plan;

/// Frames that one call of [`PortQueue::receive`] brings at most.
pub const BURST: usize = 32;

/// One core's queue pair of one port.
pub trait PortQueue<F> {
    /// Appends the frames that wait, at most [`BURST`], to `burst`. Answers how many came.
    fn receive(&mut self, burst: &mut Vec<F>) -> usize;

    /// Sends all frames of `burst` in order and leaves it empty. What the device refuses is dropped and counted.
    fn transmit(&mut self, burst: &mut Vec<F>);
}

/// What a port is, as found at start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortInfo {
    /// The name that the operator gave it.
    pub name: String,
    /// PCI address, or the name of a virtual device.
    pub device: String,
    /// DPDK's driver, such as `net_af_xdp`.
    pub driver: String,
    /// Its Ethernet address, in the order of the wire.
    pub mac: [u8; 6],
    /// The largest IP packet that it carries, in bytes.
    pub mtu: u16,
}
