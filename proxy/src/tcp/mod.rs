//! TCP, sans-io: segments and time in, segments and wake-up times out (RFC 9293).
//!
//! Runs on: proxy cores. Allocates: per connection, and when queues grow. Blocks: never.
//!
//! An [`Endpoint`] is cut by duty; go to the file named after the symptom:
//!
//! ```text
//!  segment in                                                                segment out
//!    |                                                                            ^
//!  open (handshake)                                               output, segment (headers, frames)
//!  fast (what was expected)                                       large (cut by the port)
//!  input (acceptability, RST, ACK) --> recovery (news, loss) ----> send (what goes next), pacing (when)
//!    |                                 advance (no news but ACK)    run (what goes together)
//!    '--> recv (order, window, ACKs)   rack, tail, undo, prr       queue (bytes), lent (their memory)
//!           reassembly, ranges         scoreboard, records, spans  path (MTU), timer, clock, liveness
//!           sizing, urgent             rate, rto, ecn
//!                                      congestion: cubic (hystart), newreno, bbr
//! ```

mod endpoint;
mod open;
mod fast;
mod input;
mod output;
mod run;
mod large;
mod recv;
mod sizing;
mod reassembly;
mod send;
mod queue;
mod lent;
mod advance;
mod recovery;
mod news;
mod loss;
mod rack;
mod tail;
mod prr;
mod undo;
mod scoreboard;
mod records;
mod spans;
mod rate;
mod ranges;
mod congestion;
mod cubic;
mod hystart;
mod newreno;
mod bbr;
mod pacing;
mod ecn;
mod rto;
mod clock;
mod timer;
mod liveness;
mod path;
mod urgent;
mod segment;

#[cfg(test)]
mod fixture;

pub use endpoint::{Endpoint, Error, Offer, Settings, State};
pub use lent::Spares;

#[cfg(test)]
mod tests {
    use pnat_shared::testkit::VecFrame;

    /// Two of them and their pair are to stay below 1.5 KiB while idle.
    #[test]
    fn an_endpoint_without_queues_is_small() {
        assert!(size_of::<super::Endpoint<VecFrame>>() <= 600);
    }
}
