//! What TCP makes of a bad path, in figures: our engine in virtual time, and beside it the Linux kernel in real time, both over
//! the very same model of a link (`pnat_shared::testkit::Link`).
//!
//! ```text
//!   virtual time   our sender ---- Link ---- our receiver             end, flow, split
//!   real time      Linux -- TUN -- Link -- TUN -- Linux               relay, linux, gateway
//! ```
//!
//! Both fill the same rows of `snapshots/netsim.txt` (`table`), one for each [`cell::Cell`] and congestion control.

pub mod cell;
pub mod end;
pub mod flow;
pub mod gateway;
mod kernel;
pub mod linux;
pub mod relay;
pub mod split;
pub mod table;
