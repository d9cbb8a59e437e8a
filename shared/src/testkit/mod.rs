//! What tests need: frames on the heap, packet builders, a seeded link. Used by the test code of every crate.

mod frames;
mod link;

pub use frames::{VecFrame, VecPool};
pub use link::{Link, LinkSpec, Pcap, Random};
