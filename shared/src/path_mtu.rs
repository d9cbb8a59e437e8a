//! What a flow finds out about the length of packets: that a leg carries no longer ones, who said so, and since when.
//!
//! Runs on: worker and proxy cores. Allocates: a flow's first finding. Blocks: never.

use crate::flow::Side;
use crate::time::Instant;

/// How it was found out that longer packets do not pass.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MtuCause {
    /// The gateway's own port carries no longer ones.
    Port,
    /// A router on the way said so (ICMP "fragmentation needed", RFC 1191).
    Router,
    /// Full segments vanished without a word (RFC 4821 section 7.7).
    BlackHole,
}

impl MtuCause {
    /// The name used in reports.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Port => "port",
            Self::Router => "router",
            Self::BlackHole => "black_hole",
        }
    }

    /// One sentence for people.
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Port => "the gateway's port carries no longer packets",
            Self::Router => "a router said that it carries no longer packets",
            Self::BlackHole => "longer packets vanished without a word",
        }
    }
}

/// What is known of a leg that does not carry every packet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// Longest IP packet that passes, in bytes; 0: a router did not say.
    pub mtu: u16,
    pub cause: MtuCause,
    /// When it was found out.
    pub since: Instant,
    /// Packets that were too long for it, as far as the gateway knows.
    pub packets: u64,
}

/// A flow's findings by leg, the client's and the server's. Most flows have none and keep a null pointer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PathMtus(Option<Box<[Option<PathMtu>; 2]>>);

impl PathMtus {
    /// One more packet was too long for the leg of `side`. The latest word counts.
    pub fn note(&mut self, side: Side, mtu: u16, cause: MtuCause, now: Instant) {
        let leg = &mut self.0.get_or_insert_default()[side as usize];
        match leg {
            Some(known) if (known.mtu, known.cause) == (mtu, cause) => known.packets += 1,
            _ => *leg = Some(PathMtu { mtu, cause, since: now, packets: 1 }),
        }
    }

    /// Of the client's leg and of the server's.
    pub fn legs(&self) -> [Option<PathMtu>; 2] {
        self.0.as_deref().copied().unwrap_or_default()
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<[Option<PathMtu>; 2]> for PathMtus {
    fn from(legs: [Option<PathMtu>; 2]) -> Self {
        Self((legs != [None; 2]).then(|| Box::new(legs)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_word_on_a_leg_counts_and_the_packets_that_it_concerns() {
        let mut found = PathMtus::default();
        assert!(found.is_empty());
        let at = Instant::from_secs;
        found.note(Side::Second, 1400, MtuCause::Router, at(1));
        found.note(Side::Second, 1400, MtuCause::Router, at(2));
        let first = PathMtu { mtu: 1400, cause: MtuCause::Router, since: at(1), packets: 2 };
        assert_eq!(found.legs(), [None, Some(first)]);
        found.note(Side::Second, 1280, MtuCause::Router, at(3));
        let second = PathMtu { mtu: 1280, since: at(3), packets: 1, ..first };
        assert_eq!(found.legs(), [None, Some(second)]);
    }

    #[test]
    fn a_flow_without_findings_keeps_nothing() {
        assert!(PathMtus::from([None; 2]).is_empty());
        assert_eq!(size_of::<PathMtus>(), size_of::<usize>());
    }
}
