//! PNAT's load generator, and what PNAT's benches share: frames that are recycled, packets, hosts that make them, a gateway in
//! memory, and the measuring itself. `README.md` beside this crate says what each measures.

#![forbid(unsafe_code)]

pub mod frames;
pub mod packet;
pub mod host;
pub mod gateway;
pub mod measure;
pub mod netsim;
pub mod load;
pub mod ndr;
pub mod method;
pub mod connections;
pub mod report;
mod bar;
pub mod cli;
