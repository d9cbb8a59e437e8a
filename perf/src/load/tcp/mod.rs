//! Real TCP connections at scale, clients and servers both: their ends are PNAT's own engine, and the device under test lies
//! between them.
//!
//! ```text
//!   classes -- Schedule, or so many at a time --> ClientSockets
//!                                                     |
//!   frames in --> segment --> Ends: Endpoint + Client | Endpoint + Server --> frames out
//!                               ^                  |
//!                       Wheel --'                  '--> Account
//! ```
//!
//! [`Ends`](ends) take frames and time and know no clock, port or thread. A [`TcpTrial`] puts them on a [`Duplex`] medium, whose
//! both ports send and receive. A client tells the server in the first bytes of its stream which class it is of and which number
//! it has, so servers need to know nothing of addresses, which the device may translate.

mod spec;
mod pattern;
mod sockets;
mod segment;
mod talk;
mod client;
mod server;
mod account;
mod ends;
mod running;
pub mod result;

pub use account::{ClassAccount, Counts, Failures};
pub use running::{LocalTcp, TcpInterval, TcpOutcome, TcpRunning, TcpTester, TcpTrial, client_sockets};
pub use sockets::{ClientSockets, Sockets};
pub use spec::{Answer, Arrival, Bulk, Class, Closer, Pace, Requests, Talk, TcpLoad};

use pnat_shared::flow::Side;
use pnat_shared::wire::ethernet;

use super::trial::Medium;

/// A medium whose both ports send and receive: clients are at that of [`Side::First`], servers at that of [`Side::Second`].
pub trait Duplex: Medium {
    /// What is written before the packets that leave by a port.
    fn link_at(&self, side: Side) -> ethernet::Header;

    /// Sends all frames in order and leaves `burst` empty.
    fn transmit_at(&mut self, side: Side, burst: &mut Vec<Self::Frame>);

    /// Appends what has arrived at each port, and lets what is under way get further.
    fn receive_both(&mut self, bursts: &mut [Vec<Self::Frame>; 2]);
}
