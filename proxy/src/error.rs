//! What ends a pair, blame first: which side, then what it did.

use pnat_shared::flow::Side;
use pnat_shared::verdict::CloseReason;

use crate::tcp;

/// What went wrong on one side of a pair.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamError {
    pub(crate) side: Side,
    pub(crate) kind: ErrorKind,
}

/// What a side did.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// It answered the SYN with RST.
    Refused,
    /// It answered the SYN with nothing, or the SYN-ACK with nothing.
    Unanswered,
    /// An ICMP error said that it cannot be reached.
    Unreachable,
    /// It sent RST.
    Reset,
    /// It stopped answering.
    Silent,
    /// It answered no keepalive probe.
    Dead,
    /// It kept its window shut for too long.
    Stalled,
}

impl StreamError {
    /// Of an endpoint that gave up; `open` where the handshake of that side was through. `None` where we ended it
    /// ourselves: then the reason is known already.
    pub(crate) fn of(side: Side, error: tcp::Error, open: bool) -> Option<Self> {
        let kind = match error {
            tcp::Error::Refused => ErrorKind::Refused,
            // Between crossed SYNs, too (RFC 9293 section 3.10.7.4).
            tcp::Error::Reset if side == Side::Second && !open => ErrorKind::Refused,
            tcp::Error::Reset => ErrorKind::Reset,
            tcp::Error::Timeout if open => ErrorKind::Silent,
            tcp::Error::Timeout => ErrorKind::Unanswered,
            tcp::Error::Dead => ErrorKind::Dead,
            tcp::Error::Stalled => ErrorKind::Stalled,
            tcp::Error::Aborted => return None,
        };
        Some(Self { side, kind })
    }

    /// The reason in logs and counters.
    pub(crate) const fn reason(self) -> CloseReason {
        match (self.side, self.kind) {
            (Side::Second, ErrorKind::Refused) => CloseReason::Refused,
            (Side::Second, ErrorKind::Unreachable) => CloseReason::Unreachable,
            (Side::Second, ErrorKind::Unanswered) => CloseReason::ConnectTimeout,
            (Side::Second, ErrorKind::Reset) => CloseReason::SecondReset,
            (Side::Second, ErrorKind::Silent) => CloseReason::SecondTimeout,
            (Side::Second, ErrorKind::Dead) => CloseReason::SecondDead,
            (Side::Second, ErrorKind::Stalled) => CloseReason::SecondStalled,
            (Side::First, ErrorKind::Unanswered) => CloseReason::HalfOpen,
            (Side::First, ErrorKind::Reset | ErrorKind::Refused) => CloseReason::FirstReset,
            (Side::First, ErrorKind::Dead) => CloseReason::FirstDead,
            (Side::First, ErrorKind::Stalled) => CloseReason::FirstStalled,
            (Side::First, ErrorKind::Silent | ErrorKind::Unreachable) => CloseReason::FirstTimeout,
        }
    }
}
