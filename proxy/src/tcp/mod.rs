//! TCP, sans-io: segments and time in, segments and wake-up times out (RFC 9293).
//!
//! Runs on: proxy cores. Allocates: per connection, and when queues grow. Blocks: never.

mod endpoint;

pub use endpoint::{Endpoint, Error, Offer, Settings, State};
