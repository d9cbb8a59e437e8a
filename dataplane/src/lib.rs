//! PNAT's packet side, and the binary's parts: control first, then in the order in which a packet meets them.

#![deny(unsafe_code)]

pub mod cli;
pub mod launch;
pub mod control;
pub mod page;
pub mod top;
pub mod filters;
pub mod port;
pub mod worker;
pub mod handoff;
pub mod nat;
pub mod route;
pub mod neighbor;
pub mod loopback;
