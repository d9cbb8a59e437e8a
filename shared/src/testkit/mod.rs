//! What tests need: frames on the heap, a seeded link, a NIC's work on checksums, a policy. Used by the test code of every crate.

mod frames;
mod link;
pub mod nic;
mod policy;

pub use frames::{VecFrame, VecPool};
pub use link::{Link, LinkSpec, Pcap, Random};
pub use policy::one_rule;
