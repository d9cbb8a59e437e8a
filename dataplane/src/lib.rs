//! lib

pub mod worker;
pub mod handoff;
pub mod neighbor;
pub mod route;
pub mod nat;
pub mod loopback;
