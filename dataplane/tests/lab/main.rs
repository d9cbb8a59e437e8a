//! The gateway between real clients and real servers: `pnat` on AF_XDP ports in network namespaces, made by
//! `scripts/lab`. Needs root: `cargo test --config scripts/optimized.toml --workspace --test lab -- --test-threads=1`.
//!
//! A test's client and server are plain blocking sockets of this process, opened inside the namespace of the host that
//! they belong to (`hosts`), or programs such as curl that run there. Every test has a lab of its own (`fixture`).

// Real hosts live in real time.
#![allow(clippy::disallowed_methods)]

mod capture;
mod exchange;
mod fixture;
mod hosts;
mod policy;

mod arrangements;
mod disguise;
mod filters;
mod flood;
mod flow_log;
mod http;
mod interop;
mod offloads;
mod observation;
mod operation;
mod ports;
mod ways;
