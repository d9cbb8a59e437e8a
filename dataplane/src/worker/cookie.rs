//! SYN cookies: what a SYN said, kept by the client instead of by us (RFC 4987 section 3.6).
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! The SYN-ACK carries all there is to know; the client's ACK brings it back:
//!
//! ```text
//!   sequence number   mmms hhhh hhhh hhhh hhhh hhhh hhhh hhhh     m: MSS, by MSS_TABLE; s: lowest bit of the time step
//!   TSval             tttt tttt tttt tttt tttt tttt ttek wwww     t: milliseconds; e: ECN; k: SACK permitted; w: window
//!                                                                 scale, 15 for none
//!   h: keyed hash of the step's secret over addresses, ports, the client's initial sequence number, m, e, k and w
//! ```
//!
//! Without timestamps only the MSS comes back, so such clients get no SACK, window scaling or ECN. A cookie is good in the
//! time step in which it was made and in the next one: for 64 to 128 s. Nobody who has not seen it hits it but once in 2^28
//! attempts.

use core::hash::Hasher;

use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Flags, Header, Options, Seq};
use siphasher::sip::SipHasher24;
use siphasher::sip128::{self, Hasher128};

use crate::nat::tuple::Tuple;

/// How long one secret makes cookies.
const STEP: Duration = Duration::from_secs(64);
/// MSS values that a cookie can tell apart; a client's is rounded down: what no stack goes below, what everybody must take,
/// tunnels, PPPoE, Ethernet, jumbo frames.
const MSS_TABLE: [u16; 8] = [88, 256, 536, 1200, 1360, 1440, 1460, 8960];
/// What a SYN without the option means (RFC 9293 section 3.7.1).
const DEFAULT_MSS: u16 = 536;

const MSS_SHIFT: u32 = 29;
const STEP_SHIFT: u32 = 28;
const HASH_MASK: u32 = (1 << STEP_SHIFT) - 1;

/// Low bits of TSval that carry options instead of time: it lags behind the clock by at most 63 ms.
const CODE_MASK: u32 = 0x3f;
const SHIFT_MASK: u8 = 0x0f;
const NO_SHIFT: u8 = 0x0f;
const SACK: u8 = 0x10;
const ECN: u8 = 0x20;
/// Hashed in place of a code where the SYN had no timestamps.
const NO_CODE: u8 = 0xff;

/// What a cookie keeps of a SYN.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The MSS rounded down; TSval is that of the segment that it came with.
    pub(super) options: Options,
    /// Explicit congestion notification was asked for.
    pub(super) ecn: bool,
}

/// What goes into a SYN-ACK.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Cookie {
    pub(super) seq: Seq,
    /// TSval, where the SYN had timestamps.
    pub(super) stamp: Option<u32>,
}

/// What SYN cookies are made and judged with.
#[derive(Debug)]
pub(super) struct Cookies {
    /// From it each step's secret is derived.
    master: (u64, u64),
    /// Secrets of the last two steps, by the steps' lowest bits.
    secrets: [(u64, SipHasher24); 2],
    /// Where each connection's TSval starts, so that they do not tell how long we run (RFC 7323 section 5.4).
    offsets: SipHasher24,
    /// Until when a cookie may come back.
    awaited: Instant,
}

impl Cookies {
    pub(super) fn new(secret: u128) -> Self {
        let master = ((secret >> 64) as u64, secret as u64);
        let secret = |step| (step, derive(master, step));
        Self {
            master,
            secrets: [secret(0), secret(1)],
            offsets: derive(master, u64::MAX),
            awaited: Instant::ZERO,
        }
    }

    /// Whether a cookie that was made may still come back: as long as none may, nobody needs to look for one.
    pub(super) fn are_awaited(&self, now: Instant) -> bool {
        now < self.awaited
    }

    /// The cookie for a SYN from `tuple`'s source.
    pub(super) fn make(&mut self, tuple: &Tuple, irs: Seq, kept: &Kept, now: Instant) -> Cookie {
        let step = step(now);
        self.awaited = now + 2 * STEP;
        let mss = mss_index(kept.options.mss.unwrap_or(DEFAULT_MSS));
        let code = kept.options.timestamps.map(|_| code(kept));
        let hash = self.hash(step, tuple, irs, mss, code.unwrap_or(NO_CODE));
        let stamp = code.map(|code| {
            let time = self.stamp(tuple, now);
            let coded = time & !CODE_MASK | u32::from(code);
            // Never ahead of the clock, or the connection's next stamp would go back.
            if coded > time { coded.wrapping_sub(CODE_MASK + 1) } else { coded }
        });
        Cookie { seq: Seq(mss << MSS_SHIFT | (step as u32 & 1) << STEP_SHIFT | hash), stamp }
    }

    /// What the SYN said whose cookie a client returns by `ack`; `None` where it is none of ours, is too old, or comes with
    /// another handshake than it was made for.
    pub(super) fn redeem(&mut self, tuple: &Tuple, ack: &Header, now: Instant) -> Option<Kept> {
        let cookie = (ack.ack - 1).0;
        let present = step(now);
        let is_present = cookie >> STEP_SHIFT & 1 == present as u32 & 1;
        let step = if is_present { present } else { present.checked_sub(1)? };
        let code = ack.options.timestamps.map_or(NO_CODE, |(_, echo)| (echo & CODE_MASK) as u8);
        let mss = cookie >> MSS_SHIFT;
        if self.hash(step, tuple, ack.seq - 1, mss, code) != cookie & HASH_MASK {
            return None;
        }
        let options = Options {
            mss: Some(MSS_TABLE[mss as usize]),
            timestamps: ack.options.timestamps.map(|(value, _)| (value, 0)),
            ..Options::default()
        };
        if code == NO_CODE {
            return Some(Kept { options, ecn: false });
        }
        let options = Options {
            window_scale: Some(code & SHIFT_MASK).filter(|shift| *shift != NO_SHIFT),
            sack_permitted: code & SACK != 0,
            ..options
        };
        Some(Kept { options, ecn: code & ECN != 0 })
    }

    /// Whether a segment that returns no cookie may follow one that would have, and was lost: it echoes a time of ours at
    /// which cookies that are still good were made.
    pub(super) fn may_follow(&self, tuple: &Tuple, ack: &Header, now: Instant) -> bool {
        let Some((_, echo)) = ack.options.timestamps else { return false };
        let age = self.stamp(tuple, now).wrapping_sub(echo);
        u128::from(age) <= (2 * STEP).as_millis()
    }

    /// Our clock as this client sees it, in milliseconds.
    pub(super) fn stamp(&self, tuple: &Tuple, now: Instant) -> u32 {
        let mut offset = self.offsets;
        offset.write(tuple.wire());
        (now.as_millis() as u32).wrapping_add(offset.finish() as u32)
    }

    fn hash(&mut self, step: u64, tuple: &Tuple, irs: Seq, mss: u32, code: u8) -> u32 {
        let (known, secret) = &mut self.secrets[(step & 1) as usize];
        if *known != step {
            (*known, *secret) = (step, derive(self.master, step));
        }
        let mut said = [0; 18];
        said[..12].copy_from_slice(tuple.wire());
        said[12..16].copy_from_slice(&irs.0.to_be_bytes());
        said[16] = mss as u8;
        said[17] = code;
        let mut hasher = *secret;
        hasher.write(&said);
        hasher.finish() as u32 & HASH_MASK
    }
}

/// What of a SYN survives in a cookie.
pub(super) fn keep(syn: &Header) -> Kept {
    let offered = &syn.options;
    let mss = MSS_TABLE[mss_index(offered.mss.unwrap_or(DEFAULT_MSS)) as usize];
    let has_room = offered.timestamps.is_some();
    let options = Options {
        mss: Some(mss),
        window_scale: offered.window_scale.filter(|_| has_room),
        sack_permitted: offered.sack_permitted && has_room,
        timestamps: offered.timestamps,
        ..Options::default()
    };
    Kept { options, ecn: syn.flags.has(Flags::ECE.with(Flags::CWR)) && has_room }
}

/// The place of the largest value that is no larger; of the smallest one, where the client asks for less.
fn mss_index(mss: u16) -> u32 {
    (MSS_TABLE.partition_point(|known| *known <= mss) as u32).saturating_sub(1)
}

fn code(kept: &Kept) -> u8 {
    let Kept { options, ecn } = kept;
    let flag = |is_on: bool, flag: u8| if is_on { flag } else { 0 };
    options.window_scale.unwrap_or(NO_SHIFT) | flag(options.sack_permitted, SACK) | flag(*ecn, ECN)
}

const fn step(now: Instant) -> u64 {
    now.as_nanos() / STEP.as_nanos() as u64
}

/// A secret of its own for each purpose and time step.
fn derive((high, low): (u64, u64), purpose: u64) -> SipHasher24 {
    let mut hasher = sip128::SipHasher24::new_with_keys(high, low);
    hasher.write(&purpose.to_be_bytes());
    let key = hasher.finish128();
    SipHasher24::new_with_keys(key.h1, key.h2)
}

#[cfg(test)]
mod tests;
