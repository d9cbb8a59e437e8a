//! Congestion control: how much may be in the network.

use core::fmt::Debug;

use pnat_shared::time::{Duration, Instant};

/// An algorithm and its state for one connection. All sizes are bytes.
///
/// Loss recovery decides what is lost and what is sent again ([`super::recovery`]); an algorithm only says how many bytes
/// may be in the network at once. CUBIC is the one in use; another one is another type behind this trait.
pub(super) trait Congestion: Debug {
    /// Most bytes in the network.
    fn window(&self) -> u32;

    /// The segment size is known or has changed.
    fn set_mss(&mut self, mss: u32);

    /// `acked` bytes were acknowledged outside of fast recovery. `limited`: the window, not the application, was the limit.
    fn on_ack(&mut self, acked: u32, limited: bool, rtt: Option<Duration>, now: Instant);

    /// Loss was detected while `flight` bytes were unacknowledged: once per recovery.
    fn on_loss(&mut self, flight: u32);

    /// The retransmission timer has run out. `first`: not for data that it ran out for before (RFC 5681 section 3.1).
    fn on_timeout(&mut self, flight: u32, first: bool);

    /// Nothing was sent for longer than the retransmission timeout (RFC 5681 section 4.1).
    fn on_idle(&mut self);
}

/// The initial window (RFC 6928): ten segments, but not more than 14600 bytes with large ones.
pub(super) fn initial_window(mss: u32) -> u32 {
    (10 * mss).min((2 * mss).max(14_600))
}
