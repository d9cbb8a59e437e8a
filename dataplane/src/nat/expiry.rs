//! When a silent binding ends: TCP's states as a translator sees them, and the times of each protocol.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! ```text
//!            SYN from one side            SYN from the other
//!   (new) ---------------------> opening --------------------> established
//!                                                               |        ^
//!                                      RST, or FIN from both    v        | anything but RST, unless
//!                                                             closing ---'  both sides sent FIN
//! ```
//!
//! `opening` and `closing` last for the transitory time, at least 4 minutes, `established` for at least 2 h 4 min
//! (RFC 5382 REQ-5, RFC 7857 section 2). A packet does not touch the timer wheel: it stamps the binding, and a timer that
//! fires early is armed again.

use pnat_shared::config::Timeouts;
use pnat_shared::flow::{Protocol, Stream};
use pnat_shared::time::Duration;
use pnat_shared::verdict::CloseReason;
use pnat_shared::wire::tcp::Flags;

/// What has been seen of a TCP connection: SYN, FIN and RST of either stream, one bit each, and which FIN came first.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Track(u8);

const SYN: u8 = 0b01;
const FIN: u8 = 0b01 << 2;
const RST: u8 = 0b01 << 4;
/// The second stream's FIN came before the first's.
const SECOND_FIRST: u8 = 0b01 << 6;

impl Track {
    /// Notes a segment. Answers whether the binding now ends sooner than its timer says.
    #[inline]
    pub fn see(&mut self, stream: Stream, flags: Flags) -> bool {
        let was_closing = self.is_closing();
        if flags.0 & (Flags::SYN.0 | Flags::FIN.0 | Flags::RST.0) == 0 {
            // A segment after an RST shows that the RST was not believed (RFC 7857 section 2.3).
            self.0 &= !(RST | RST << 1);
            return false;
        }
        let side = stream as u8;
        if flags.has(Flags::RST) {
            self.0 |= RST << side;
        } else {
            self.0 &= !(RST | RST << 1);
        }
        if flags.has(Flags::SYN) {
            self.0 |= SYN << side;
        }
        if flags.has(Flags::FIN) {
            if stream == Stream::Second && self.0 & FIN == 0 {
                self.0 |= SECOND_FIRST;
            }
            self.0 |= FIN << side;
        }
        !was_closing && self.is_closing()
    }

    pub const fn is_established(self) -> bool {
        self.both(SYN) && !self.is_closing()
    }

    /// Whether the connection is over, as far as a translator can tell.
    pub const fn is_closing(self) -> bool {
        self.both(FIN) || self.0 & (RST | RST << 1) != 0
    }

    /// Whether both streams have ended, the second before the first: then TIME-WAIT is with whoever sent the second. No reset
    /// ends that (RFC 1337); one that anybody may have sent must not hide it.
    pub const fn was_closed_by_second(self) -> bool {
        self.both(FIN) && self.0 & SECOND_FIRST != 0
    }

    /// Why the binding ends when its timer fires now.
    pub const fn reason(self) -> CloseReason {
        if self.both(FIN) {
            CloseReason::Finished
        } else if self.0 & RST != 0 {
            CloseReason::FirstReset
        } else if self.0 & RST << 1 != 0 {
            CloseReason::SecondReset
        } else {
            CloseReason::Idle
        }
    }

    const fn both(self, what: u8) -> bool {
        let mask = what | what << 1;
        self.0 & mask == mask
    }
}

/// How long a translated flow may be silent.
pub const fn lifetime(protocol: Protocol, track: Track, timeouts: &Timeouts) -> Duration {
    match protocol {
        Protocol::Tcp if track.is_established() => timeouts.tcp_established,
        Protocol::Tcp => timeouts.tcp_transitory,
        Protocol::Udp => timeouts.udp,
        Protocol::Icmp => timeouts.icmp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACK: Flags = Flags::ACK;

    fn seen(segments: &[(Stream, Flags)]) -> Track {
        let mut track = Track::default();
        for (stream, flags) in segments {
            track.see(*stream, *flags);
        }
        track
    }

    fn open() -> [(Stream, Flags); 3] {
        [(Stream::First, Flags::SYN), (Stream::Second, Flags::SYN.with(ACK)), (Stream::First, ACK)]
    }

    #[test]
    fn t05_a_connection_is_established_by_a_syn_from_each_side() {
        assert!(!seen(&open()[..1]).is_established());
        assert!(seen(&open()[..2]).is_established());
    }

    #[test]
    fn t02a_a_simultaneous_open_is_established() {
        assert!(seen(&[(Stream::Second, Flags::SYN), (Stream::First, Flags::SYN)]).is_established());
    }

    #[test]
    fn rfc7857_2_fin_from_one_side_leaves_the_other_open() {
        let mut track = seen(&open());
        assert!(!track.see(Stream::Second, Flags::FIN.with(ACK)));
        assert!(track.is_established());
        assert!(track.see(Stream::First, Flags::FIN.with(ACK)), "now the timer is to be shortened");
        assert!(track.is_closing());
        track.see(Stream::Second, ACK);
        assert!(track.is_closing(), "the last ACK opens nothing");
    }

    #[test]
    fn rfc1337_who_ended_first_waits_whoever_resets() {
        let fin = Flags::FIN.with(ACK);
        let mut track = seen(&open());
        track.see(Stream::Second, fin);
        assert!(!track.was_closed_by_second());
        track.see(Stream::First, fin);
        assert!(track.was_closed_by_second());
        track.see(Stream::First, Flags::RST);
        assert!(track.was_closed_by_second());
        let mut track = seen(&open());
        track.see(Stream::First, fin);
        track.see(Stream::Second, fin);
        assert!(!track.was_closed_by_second());
    }

    #[test]
    fn rfc7857_2_3_data_after_a_reset_shows_that_the_connection_lives() {
        let mut track = seen(&open());
        assert!(track.see(Stream::Second, Flags::RST));
        assert_eq!(track.reason(), CloseReason::SecondReset);
        track.see(Stream::First, ACK);
        assert!(track.is_established());
    }
}
