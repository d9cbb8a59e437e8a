//! TCP, sans-io: segments and time in, segments and wake-up times out (RFC 9293).
//!
//! Runs on: proxy cores. Allocates: per connection, and when queues grow. Blocks: never.
//!
//! An [`Endpoint`] is cut by duty; go to the file named after the symptom:
//!
//! ```text
//!  segment in                                                                    segment out
//!    |                                                                              ^
//!  open (handshake)                                                    output, segment (headers, frames)
//!  input (acceptability, RST, ACK) --> recovery (loss), tail --> send (what goes next) ---'
//!    '--> recv (order, window, ACKs)    scoreboard            queue (bytes)
//!           reassembly                  rto, congestion, cubic
//! ```

mod endpoint;
mod open;
mod input;
mod output;
mod recv;
mod reassembly;
mod send;
mod queue;
mod recovery;
mod tail;
mod scoreboard;
mod ranges;
mod congestion;
mod cubic;
mod rto;
mod clock;
mod timer;
mod segment;

pub use endpoint::{Endpoint, Error, Offer, Settings, State};
