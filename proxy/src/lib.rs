//! PNAT's proxy component: what happens to a flow as a stream.
//!
//! Listed in the order in which a frame from the loopback meets them. The crate is generic over
//! [`pnat_shared::frame::Frame`] and takes time as an argument, so all of it runs in tests with plain vectors, a virtual
//! clock and a seeded link; it never sees DPDK, a socket of the operating system or a clock.

#![forbid(unsafe_code)]

pub mod chunk;
pub mod reactor;
mod pair;
pub mod tcp;
mod udp;
pub mod filter;
mod icmp;
mod tally;
mod error;
#[doc(hidden)]
pub mod fuzzing;
