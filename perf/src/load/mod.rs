//! The load generator: frames at a fixed rate through a device under test, and each one accounted for.
//!
//! ```text
//!                      .--------------------- Medium ----------------------.
//!   Schedule -.        |                                                   |
//!   Flows ----+-> Source --> port --> device under test --> port --> Sink -+--> Arrivals, latency
//!   Sizes ----'        |          (gateway, wire, or real)                 |
//!                      '---------------------------------------------------'
//! ```
//!
//! [`Source`] and [`Sink`] take packets and time and know no clock, port or thread. A [`Trial`] puts both on a [`Medium`]:
//! the gateway in memory, a wire with known faults in virtual time, or two DPDK ports. Connections that are kept, clients and
//! servers both, are the part of [`tcp`].

use hdrhistogram::Histogram;
use pnat_shared::flow::Protocol;
use pnat_shared::frame::L2_LEN;
use pnat_shared::wire::{self, ip, udp};

pub mod scenario;
pub mod flows;
pub mod sizes;
pub mod schedule;
pub mod stamp;
pub mod source;
pub mod arrivals;
pub mod sink;
pub mod trial;
pub mod medium;
pub mod inside;
pub mod result;
pub mod tcp;

pub use scenario::Scenario;
pub use sink::Sink;
pub use source::Source;
pub use trial::{Medium, Outcome, Tester, Trial};

/// What a frame's payload travels in.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp(TcpFlags),
}

/// Which segments are sent where nobody keeps a connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum TcpFlags {
    /// Each asks for a connection.
    Syn,
    /// Each belongs to one that somebody else has opened, or nobody.
    Ack,
}

impl Transport {
    pub const fn protocol(self) -> Protocol {
        match self {
            Self::Udp => Protocol::Udp,
            Self::Tcp(_) => Protocol::Tcp,
        }
    }

    /// Bytes of its header.
    pub const fn header_len(self) -> usize {
        match self {
            Self::Udp => udp::LEN,
            Self::Tcp(_) => wire::tcp::MIN_LEN,
        }
    }

    /// The smallest frame that has room for a stamp, frame check sequence included.
    pub const fn smallest_frame(self) -> usize {
        L2_LEN + ip::MIN_LEN + self.header_len() + stamp::LEN + sizes::FCS
    }
}

/// For times in nanoseconds, from 1 ns to 60 s, at three significant digits.
pub fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("invariant: bounds are valid")
}
