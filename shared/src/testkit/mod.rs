//! What tests need: frames on the heap, a seeded link, a NIC's work on checksums, a policy, rows of bytes. Used by the test code of every crate.

mod frames;
mod link;
pub mod nic;
mod policy;
pub mod rows;

pub use frames::{VecFrame, VecPool};
pub use link::{Link, LinkSpec, Pcap, Random};
pub use policy::one_rule;
