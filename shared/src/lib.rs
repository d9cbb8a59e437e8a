//! The words and tools that every part of PNAT shares.
//!
//! Listed in the order in which a packet meets them. Nothing here knows DPDK, TCP's state machine or a filter; the
//! crate may be read alone.

#![forbid(unsafe_code)]

pub mod time;
pub mod flow;
pub mod path_mtu;
pub mod frame;
pub mod wire;
pub mod verdict;
pub mod loopback;
pub mod ring;
pub mod paged;
pub mod slots;
pub mod wheel;
pub mod stats;
pub mod report;
pub mod capture;
pub mod check;
pub mod config;
pub mod testkit;
