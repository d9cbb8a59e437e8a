//! What devices do about checksums: asked of them where they can, said and read frame by frame.
//!
//! Runs on: launch; the constants: every core. Allocates: names. Blocks: never.

use std::ffi::c_int;
use std::sync::OnceLock;

use crate::bindings;
use crate::device::PortId;
use crate::rte_eth_conf;
#[cfg(doc)]
use crate::rte_mbuf;

pub use bindings::{
    PNAT_RX_L4_BAD as RX_L4_BAD, PNAT_RX_L4_GOOD as RX_L4_GOOD, PNAT_RX_L4_MASK as RX_L4_MASK,
    PNAT_TX_L4_MASK as TX_L4_MASK, PNAT_TX_SEGMENTS as TX_SEGMENTS, PNAT_TX_TCP as TX_TCP,
    PNAT_TX_UDP as TX_UDP, pnat_mbuf_append, pnat_mbuf_cut,
};

/// What a port does, because its device can and nobody has refused it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// It verifies the checksums of IPv4, TCP and UDP that it receives ([`rte_mbuf::ol_flags`]).
    pub rx_checksum: bool,
    /// It completes the checksums of TCP and UDP that are left to it.
    pub tx_checksum: bool,
    /// TCP segments that it cuts from one frame at most, each in a buffer of its own; one: it cuts none.
    pub tx_segments: u8,
}

/// The devices of which nothing is asked.
static REFUSED: OnceLock<Vec<String>> = OnceLock::new();

/// Says of which devices nothing is to be asked, nor believed. To be called once, before capsule opens the ports.
pub fn refuse(devices: Vec<String>) {
    // DPDK starts once in a process, too.
    let _ = REFUSED.set(devices);
}

/// Value of [`rte_mbuf::tx_offload`] for headers of these lengths, in bytes.
pub const fn header_lengths(l2: u8, l3: u8) -> u64 {
    l2 as u64 | (l3 as u64) << bindings::PNAT_TX_L3_SHIFT
}

/// What [`header_lengths`] lacks where a TCP packet is to be cut into segments: the length of the TCP header, and of the text
/// in each segment but the last.
pub const fn segment_lengths(l4: u8, text: u16) -> u64 {
    (l4 as u64) << bindings::PNAT_TX_L4_SHIFT | (text as u64) << bindings::PNAT_TX_TEXT_SHIFT
}

/// The length of the text that was given to [`segment_lengths`].
pub const fn segment_text(tx_offload: u64) -> u16 {
    (tx_offload >> bindings::PNAT_TX_TEXT_SHIFT) as u16
}

/// What capsule calls to configure a port. What its device can do about checksums is asked of it here.
///
/// # Safety
/// `conf` must point to a valid configuration, and DPDK must be up.
pub unsafe fn rte_eth_dev_configure(
    port: u16,
    rx_queues: u16,
    tx_queues: u16,
    conf: *const rte_eth_conf,
) -> c_int {
    let refused = REFUSED.get();
    let is_refused = refused.zip(PortId::new(port).name()).is_some_and(|(all, name)| all.contains(&name));
    // SAFETY: as the caller promises.
    unsafe { bindings::pnat_eth_dev_configure(port, rx_queues, tx_queues, conf, is_refused) }
}
