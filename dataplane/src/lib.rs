//! PNAT's packet side, in the order in which a packet meets it.

#![deny(unsafe_code)]

pub mod port;
