//! What PNAT's benches time and its regression guard counts: frames that are recycled, packets, hosts that make them, a gateway in
//! memory, and the scenes made of these.

#![forbid(unsafe_code)]

use pnat_shared::testkit::Random;

pub mod frames;
pub mod packet;
pub mod host;
pub mod gateway;
pub mod measure;
pub mod nat;
pub mod tcp;
pub mod pair;
pub mod connection;
pub mod filters;
pub mod rows;

/// Packets per burst; where there are more flows than one, each sends [`VISIT`].
pub const BURST: usize = 32;
pub const VISIT: usize = 2;

/// Flows one after the other, in an order that no prefetcher guesses: all of them before the first one comes again.
#[derive(Debug)]
pub struct Turn {
    order: Vec<usize>,
    at: usize,
}

impl Turn {
    pub fn new(flows: usize) -> Self {
        let mut order: Vec<_> = (0..flows).collect();
        let mut random = Random::new(1);
        order.sort_by_cached_key(|_| random.number());
        Self { order, at: 0 }
    }

    pub fn advance(&mut self) -> usize {
        self.at = (self.at + 1) % self.order.len();
        self.order[self.at]
    }
}
