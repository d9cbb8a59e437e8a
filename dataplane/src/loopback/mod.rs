//! The worker's end of the loopback: masked addressing, and bursts into rings.
//!
//! The addresses themselves and the messages are the agreement of [`pnat_shared::loopback`].

pub mod mask;
pub mod steer;
