//! PNAT's load generator, and the measuring of its benches; what they measure is [`pnat_scenes`]. `README.md` beside this crate says
//! what each measures.

#![forbid(unsafe_code)]

pub use pnat_scenes::{frames, gateway, host, packet};

pub mod measure;
pub mod guard;
pub mod netsim;
pub mod load;
pub mod ndr;
pub mod method;
pub mod connections;
pub mod report;
mod bar;
pub mod cli;
