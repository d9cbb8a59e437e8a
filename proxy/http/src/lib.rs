//! HTTP as PNAT's proxy component sees it: messages, the codec that finds them in streams, filters over them.
//!
//! ```text
//!                .------------------ connection ------------------.
//!   client  -->  | codec --> filter 0 --> filter 1 --> filter 2 --> codec |  -->  server      requests
//!           <--  | codec <-- filter 0 <-- filter 1 <-- filter 2 <-- codec |  <--              responses
//!                '-------------------- cascade ---------------------'
//! ```
//!
//! A filter ([`filter::HttpFilter`]) is shown the head of a message, and its content if it asks for that; it lets it pass, edits
//! it, waits, or answers in the server's place. What no filter wants goes on as it came, without a copy.
//!
//! What runs on proxy cores knows no socket, no thread and no clock: streams come in as slices, time as an argument, and what
//! filters may ask of the gateway they ask by [`filter::Gateway`]. Disks and lists belong to threads of their filters.
//!
//! A filter outside of this tree needs nothing but this crate: [`filter::HttpFilter`] for one connection, [`filter::HttpFactory`] for what
//! the operator configured, and a function that makes that from a [`filters::Section`], with which a program adds the type to
//! [`filters::Kinds`]. [`testkit`] calls it by hand. `dataplane/example` is such a program.

#![forbid(unsafe_code)]

pub mod fields;
pub mod message;
pub mod codec;
pub mod coding;
pub mod websocket;
pub mod filter;
pub mod cascade;
pub mod piece;
pub mod connection;
pub mod h2;
pub mod filters;
pub mod testkit;
#[doc(hidden)]
pub mod fuzzing;
