//! What tests need: frames on the heap, packet builders, a seeded link. Used by the test code of every crate.

mod frames;

pub use frames::{VecFrame, VecPool};
