//! Ports: where frames enter and leave the gateway.
//!
//! Runs on: worker cores (queues), launch (everything else). Allocates: see each queue. Blocks: never.
//!
//! A worker sees nothing of a device but its [`PortQueue`]s. [`capsule`] gives it queues of DPDK devices ([`mbuf`]), and these
//! two are the only modules of this crate with unsafe code; [`memory`] gives tests and benches queues that are plain vectors.

use std::fmt;

use pnat_shared::flow::Offloads;

pub mod capsule;
pub mod mbuf;
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
    /// Whether it verifies the checksums of the packets that it receives.
    pub verifies: bool,
    /// What it does for the packets that it sends.
    pub offloads: Offloads,
}

/// One line about the port, for people.
impl fmt::Display for PortInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, device, driver, mtu, .. } = self;
        write!(f, "port \"{name}\" is {device} ({driver}), for packets of {mtu} bytes; the device ")?;
        let Offloads { checksum, segments } = self.offloads;
        let done = [
            (self.verifies, "verifies checksums"),
            (checksum, "completes checksums"),
            (segments > 1, "cuts segments"),
        ];
        let mut done = done.iter().filter_map(|(does, what)| does.then_some(*what));
        let Some(first) = done.next() else { return f.write_str("does nothing about checksums") };
        f.write_str(first)?;
        done.try_for_each(|what| write!(f, ", {what}"))
    }
}
