//! What size the path carries: as ICMP errors say, with the doubts of RFC 5927; as silence says, where they do not come
//! (RFC 4821 section 7.7); and as probes say, by which it is found again what was lost (RFC 8899 section 5).
//!
//! Runs on: proxy cores. Allocates: while segments are shorter than both ends allow. Blocks: never.
//!
//! ```text
//!                 an ICMP error, or timeouts of full segments only
//!   full size -----------------------------------------------------> shorter, search asleep or at work
//!       ^                                                                |  ^           |
//!       '----------------- a probe of full size arrives -----------------'  '-----------'
//!                                                              after ten minutes, once more
//! ```
//!
//! A probe is a longer segment whose bytes have just been sent in shorter ones: it can be lost without harm, and where it
//! arrives, the peer's D-SACK (RFC 2883) names exactly its bytes. A peer without SACK is simply sent longer segments
//! after ten minutes; where they are lost, timeouts tell. All sizes are MSS: payload and options, without headers.

use pnat_shared::frame::Frame;
use pnat_shared::path_mtu::{MtuCause, PathMtu};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Header, SackBlocks, Seq};

use super::endpoint::Endpoint;
use super::recovery::Phase;
use super::segment::HEADERS;
use super::send::{MIN_MSS, Slice};

/// Packets of 552 bytes pass nearly everywhere: who asks for shorter ones must show it by a timeout (as Linux's `min_pmtu`).
const CAUTIOUS: u16 = 552 - HEADERS;
/// What to go on with where full segments vanish: what Linux's `tcp_base_mss` is, then [`CAUTIOUS`].
const BASES: [u16; 2] = [1024, CAUTIOUS];
/// Timeouts of full segments, one after the other, that prove a black hole: of a size that has passed before or passes
/// nearly everywhere, and of a longer one that never has.
const PROVEN_PATIENCE: u8 = 4;
const UNPROVEN_PATIENCE: u8 = 2;
/// Lengths of packets that networks are known to carry, for routers that do not say (RFC 1191 section 7.1).
const PLATEAUS: [u16; 10] = [32_000, 17_914, 8_166, 4_352, 2_002, 1_492, 1_006, 508, 296, 68];
/// How long a path is believed to be as narrow as it was found (RFC 1191 section 6.3, RFC 8899 section 5.1.1).
const REST: Duration = Duration::from_secs(600);
/// Probes of one size that may be lost (RFC 8899 section 5.1.2: MAX_PROBES).
const TRIES: u8 = 3;
/// A gain that is not worth a probe.
const GRAIN: u16 = 32;

/// What is known of a path's size.
#[derive(Debug, Default)]
pub(super) struct Path {
    /// Size of the longest segments that were acknowledged (RFC 5927 section 7.2: `maxsizeacked`).
    proven: u16,
    /// What an ICMP error asks for, until a timeout proves it right or an acknowledgment proves it wrong; 0 for nothing.
    claim: u16,
    /// How often the timer has run out for full segments since anything was acknowledged.
    timeouts: u8,
    /// End of a full segment: its acknowledgment proves its size. (Where it had been sent before in short ones that have
    /// passed, it proves too much, and a black hole takes two timeouts more to be seen.)
    mark: Option<Seq>,
    search: Option<Box<Search>>,
}

/// While segments are shorter than both ends allow: the way back.
#[derive(Debug)]
struct Search {
    /// Why they are shorter, and since when.
    cause: MtuCause,
    since: Instant,
    /// Segments that were too long, as far as is known.
    refused: u64,
    /// The longest size that may pass.
    high: u16,
    /// The size that is tried now.
    size: u16,
    tries: u8,
    /// The probe that is under way.
    probe: Option<(Seq, Seq)>,
    /// When the next probe may be sent; until then the last one is waited for.
    next: Instant,
}

impl Search {
    const fn new(cause: MtuCause, refused: u64, now: Instant, most: u16, next: Instant) -> Self {
        Self { cause, since: now, refused, high: most, size: most, tries: 0, probe: None, next }
    }

    /// Looks for `most` again, from `next` on.
    const fn restart(&mut self, most: u16, next: Instant) {
        (self.high, self.size, self.tries, self.probe, self.next) = (most, most, 0, None, next);
    }

    /// The last probe got no answer. Answers whether there is something left to try above `low`.
    fn give_up(&mut self, low: u16) -> bool {
        self.probe = None;
        self.tries += 1;
        if self.tries < TRIES {
            return true;
        }
        self.high = self.size - 1;
        self.narrow(low)
    }

    /// Chooses the next size between what passes and what may.
    fn narrow(&mut self, low: u16) -> bool {
        self.tries = 0;
        self.size = low + (self.high.saturating_sub(low)).div_ceil(2);
        self.high.saturating_sub(low) >= GRAIN
    }
}

impl Path {
    /// Whether segments are shorter than they might be, so that there may be a probe to send.
    #[inline]
    pub(super) const fn is_searched(&self) -> bool {
        self.search.is_some()
    }
}

impl<F: Frame> Endpoint<F> {
    /// Longest IP packet that is sent for now, in bytes.
    pub fn longest_packet(&self) -> u16 {
        let mss = if self.peer.is_some() && self.is_open() { self.send.mss } else { self.most_mss() };
        mss + HEADERS
    }

    /// What is known of a path that does not carry all that both ends allow; `None` once it is found that it does.
    pub fn path_mtu(&self) -> Option<PathMtu> {
        let Search { cause, since, refused, .. } = **self.path.search.as_ref()?;
        Some(PathMtu { mtu: self.send.mss + HEADERS, cause, since, packets: refused })
    }

    /// What both ends and the leg's MTU allow.
    pub(super) fn most_mss(&self) -> u16 {
        let fits = self.settings.mtu.saturating_sub(HEADERS);
        self.peer.map_or(fits, |(_, offer)| offer.mss.min(fits)).max(MIN_MSS)
    }

    /// See [`Endpoint::on_mtu`]. Answers whether segments get shorter at once.
    pub(super) fn on_too_long(&mut self, seq: Seq, mtu: u16, now: Instant) -> bool {
        let in_flight = !seq.before(self.send.una) && seq.before(self.send.nxt);
        if !in_flight {
            return false;
        }
        if let Some(search) = &mut self.path.search {
            search.refused += 1;
        }
        let Some(asked) = self.asked_mss(mtu, now) else { return false };
        if asked >= self.send.mss {
            self.on_probe_too_long(asked, now);
            return false;
        }
        let believed = asked.max(CAUTIOUS);
        if self.path.timeouts > 0 {
            return self.lower_mss(asked, seq, now);
        }
        if asked < believed || believed < self.path.proven {
            self.path.claim = asked;
        }
        // Longer ones have passed: the path has changed, or somebody lies (RFC 5927 section 7.2).
        believed >= self.path.proven && believed < self.send.mss && self.lower_mss(believed, seq, now)
    }

    /// Where a probe is under way, it was too long, and this is how long it may be.
    fn on_probe_too_long(&mut self, asked: u16, now: Instant) {
        let (low, most) = (self.send.mss, self.most_mss());
        let Some(search) = self.path.search.as_mut().filter(|search| search.probe.is_some()) else { return };
        let high = asked.min(search.size - 1);
        if high > low {
            search.restart(high, now);
        } else {
            search.restart(most, now + REST);
        }
    }

    /// The MSS that an ICMP error asks for. A router that names no MTU is asked again by the next shorter length that is
    /// known, but not by each of the errors that one flight has caused.
    fn asked_mss(&self, mtu: u16, now: Instant) -> Option<u16> {
        if mtu > 0 {
            return Some(mtu.saturating_sub(HEADERS).max(MIN_MSS));
        }
        let rests_until = self.path.search.as_ref().map_or(now, |search| search.next);
        let just_lowered = rests_until + self.send.rto.current() > now + REST;
        let length = self.send.mss + HEADERS;
        let plateau = PLATEAUS.into_iter().find(|plateau| *plateau < length)?;
        (!just_lowered).then_some(plateau.saturating_sub(HEADERS).max(MIN_MSS))
    }

    fn lower_mss(&mut self, mss: u16, seq: Seq, now: Instant) -> bool {
        self.path.mark = None;
        self.path.claim = if mss > self.path.claim { self.path.claim } else { 0 };
        let refused = self.path.search.as_ref().map_or(1, |search| search.refused);
        let search = Search::new(MtuCause::Router, refused, now, self.most_mss(), now + REST);
        self.path.search = Some(Box::new(search));
        self.send.shrink_mss(seq, mss)
    }

    /// Whether the first segment in flight is as long as segments get, and is so each time that it is sent.
    pub(super) fn is_head_full(&self) -> bool {
        let full = u32::from(self.full_payload());
        !self.send.probing && self.send.flight() >= full && self.send.window >= full
    }

    /// Payload of the longest segment.
    fn full_payload(&self) -> u16 {
        self.send.mss - self.clock.option_len()
    }

    /// The retransmission timer has run out for a full segment. Answers whether it is to be sent again in shorter ones.
    pub(super) fn on_full_timeout(&mut self, now: Instant) -> bool {
        let path = &mut self.path;
        path.mark = None;
        path.timeouts = path.timeouts.saturating_add(1);
        let mss = self.send.mss;
        let claim = std::mem::take(&mut path.claim);
        let is_usual = path.proven >= mss || mss <= BASES[0];
        let patience = if is_usual { PROVEN_PATIENCE } else { UNPROVEN_PATIENCE };
        let (shorter, cause, next) = if (1..mss).contains(&claim) {
            (Some(claim), MtuCause::Router, now + REST)
        } else if path.timeouts >= patience {
            // Nobody has said so: it may have been an outage, so the search begins with the next flight.
            (BASES.into_iter().find(|base| *base < mss), MtuCause::BlackHole, now)
        } else {
            (None, MtuCause::BlackHole, now)
        };
        if let Some(shorter) = shorter {
            let refused = u64::from(std::mem::take(&mut path.timeouts));
            path.proven = shorter;
            let next = if self.send.sack { next } else { now + REST };
            self.path.search = Some(Box::new(Search::new(cause, refused, now, self.most_mss(), next)));
            self.send.set_mss(shorter);
        }
        shorter.is_some()
    }

    /// A slice has left, with `options` bytes of options.
    pub(super) fn on_slice_sent(&mut self, slice: &Slice, options: usize) {
        let path = &mut self.path;
        let is_full = slice.len as usize + options >= usize::from(self.send.mss);
        if path.proven < self.send.mss && path.mark.is_none() && is_full {
            path.mark = Some(slice.end());
        }
    }

    /// Everything before SND.UNA was acknowledged, and more than before.
    pub(super) fn on_path_progress(&mut self, now: Instant) {
        let path = &mut self.path;
        path.timeouts = 0;
        path.claim = 0;
        if path.mark.is_some_and(|mark| !mark.after(self.send.una)) {
            path.mark = None;
            path.proven = path.proven.max(self.send.mss);
        }
        if !self.send.sack && self.path.search.as_ref().is_some_and(|search| search.next <= now) {
            // No answer would tell of a probe: whatever comes next is one.
            self.path.search = None;
            self.send.set_mss(self.most_mss());
        }
    }

    /// The probe that may be sent now; the same answer until [`Endpoint::on_probe_sent`].
    pub(super) fn path_probe(&mut self, now: Instant) -> Option<Slice> {
        if !self.path.is_searched() {
            return None;
        }
        let (low, most) = (self.send.mss, self.most_mss());
        let search = self.path.search.as_mut().filter(|search| search.next <= now && self.send.sack)?;
        if search.probe.is_some() && !search.give_up(low) {
            search.restart(most, now + REST);
            return None;
        }
        let len = u32::from(search.size - self.clock.option_len());
        let text_end = self.send.queue.end().min(self.send.nxt);
        let fits = text_end.distance(self.send.una) >= len as i32;
        let calm = self.send.phase == Phase::Open && self.send.is_clean() && self.path.timeouts == 0;
        (fits && calm).then(|| Slice { seq: text_end - len, len, fin: false, again: true })
    }

    /// The probe has left. Where nothing is heard of it for as long as a timeout takes, it is lost.
    pub(super) fn on_probe_sent(&mut self, slice: &Slice, now: Instant) {
        if let Some(search) = &mut self.path.search {
            search.probe = Some((slice.seq, slice.end()));
            search.next = now + self.send.rto.current();
        }
    }

    /// Looks whether an ACK says that the probe has arrived. Answers the ACK without that: loss recovery would take it for
    /// a retransmission that was not needed.
    pub(super) fn judge_path_probe(&mut self, header: &Header, now: Instant) -> Option<Header> {
        let search = self.path.search.as_ref()?;
        let blocks = header.options.sack.as_slice();
        let (first, rest) = blocks.split_first()?;
        if search.probe != Some(*first) || first.1.after(header.ack) {
            return None;
        }
        let (size, most) = (search.size, self.most_mss());
        self.send.set_mss(size);
        self.path.proven = size;
        self.path.mark = None;
        if size >= most {
            self.path.search = None;
        } else if let Some(search) = &mut self.path.search {
            search.probe = None;
            search.next = now;
            if !search.narrow(size) {
                search.restart(most, now + REST);
            }
        }
        let mut sack = SackBlocks::default();
        for (left, right) in rest {
            sack.push(*left, *right);
        }
        let mut plain = *header;
        plain.options.sack = sack;
        Some(plain)
    }
}
