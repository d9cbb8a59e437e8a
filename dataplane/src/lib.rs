//! PNAT's packet side, and the binary's parts: ports, workers, NAT, the loopback's worker end, control, launch.

pub mod cli;
pub mod launch;
pub mod control;
