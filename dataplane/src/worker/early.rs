//! Early accept: SYNs are answered and forgotten, and flows are opened by the ACKs that bring their cookies back.
//!
//! Runs on: worker. Allocates: never. Blocks: never.
//!
//! ```text
//!   SYN --> policy, route --> cookie --> SYN-ACK, in the same frame
//!   ACK --> policy --> a cookie of ours? --> binding --> to_proxy, with what SYN and SYN-ACK said
//! ```
//!
//! So a spoofed SYN costs a hash, and no binding, public port, place in a ring or pair. This is done where a rule says
//! `accept = "early"`, and for all proxied TCP while too many of a worker's flows are half-open: until their clients have
//! acknowledged what only the holder of their address was sent ([`crate::nat::proof`]). Flows by `nat` are none of it: a
//! translator cannot answer for the server.

use core::net::Ipv4Addr;

use pnat_shared::config::Accept;
use pnat_shared::flow::{Accepted, Protocol};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::time::Instant;
use pnat_shared::verdict::DropReason;
use pnat_shared::wire::ip;
use pnat_shared::wire::tcp::{self, Flags, Header, Options, Seq};

use super::cookie::{self, Cookies, Kept};
use super::parse::{Packet, seq_at};
use super::reply::{self, Answer};
use super::{Outputs, SynCookies, Worker};
use crate::nat::binding::Path;
use crate::nat::tuple::Tuple;

/// Where a TCP header begins in a frame without IP options.
const TCP_AT: usize = L2_LEN + ip::MIN_LEN;
/// Largest shift of a window field (RFC 7323 section 2.3).
const MAX_SHIFT: u8 = 14;

/// What a worker needs to answer SYNs by itself.
#[derive(Debug)]
pub(super) struct Early {
    above: usize,
    window: u32,
    ecn: bool,
    cookies: Cookies,
}

impl Early {
    pub(super) fn new(settings: SynCookies) -> Self {
        let SynCookies { above, window, ecn, secret } = settings;
        Self { above: above as usize, window, ecn, cookies: Cookies::new(secret) }
    }

    /// The options of a SYN-ACK, and the window in it, where the way carries IP packets of `mtu` bytes.
    fn answer(&self, kept: &Options, timestamps: Option<(u32, u32)>, mtu: u16) -> (Options, u16) {
        let options = Options {
            mss: Some(mtu.saturating_sub((ip::MIN_LEN + tcp::MIN_LEN) as u16)),
            window_scale: kept.window_scale.map(|_| shift(self.window)),
            sack_permitted: kept.sack_permitted,
            timestamps,
            ..Options::default()
        };
        // In whole units of the scale, as the pair's socket counts; a SYN-ACK's own window is not scaled.
        let unit = 1 << options.window_scale.unwrap_or(0);
        let window = (self.window / unit * unit).min(0xffff / unit * unit);
        (options, window as u16)
    }
}

impl Early {
    /// The first number of a connection of our own: it runs with time, and starts where nobody outside can tell (RFC 6528).
    pub(super) fn number(&self, tuple: &Tuple, now: Instant) -> Seq {
        Seq(self.cookies.stamp(tuple, now))
    }
}

impl<F: Frame, P: FramePool<F>> Worker<F, P> {
    /// Whether a first packet is a SYN to be answered here.
    pub(super) fn accepts_early(&self, packet: &Packet, path: Path, accept: Accept) -> bool {
        matches!(path, Path::Proxy(_))
            && packet.tuple.protocol() == Protocol::Tcp
            && packet.is_syn()
            && (accept == Accept::Early || self.nat.half_open() > self.early.above)
    }

    /// Turns a SYN into the SYN-ACK that carries its cookie.
    pub(super) fn answer_syn(
        &mut self,
        mut frame: F,
        port: u8,
        packet: &Packet,
        now: Instant,
        out: &mut Outputs<F>,
    ) {
        let syn = match Header::read(&frame.data()[TCP_AT..]) {
            Ok((syn, _)) => syn,
            Err(reason) => return self.stats.drops.add(reason, 1),
        };
        let mut kept = cookie::keep(&syn);
        kept.ecn &= self.early.ecn;
        let cookie = self.early.cookies.make(&packet.tuple, syn.seq, &kept, now);
        let echo = kept.options.timestamps.map_or(0, |(value, _)| value);
        let stamps = cookie.stamp.map(|stamp| (stamp, echo));
        let mtu = self.path_mtu(port, *packet.tuple.dst().ip());
        let (options, window) = self.early.answer(&kept.options, stamps, mtu);
        let answer = Header {
            src_port: syn.dst_port,
            dst_port: syn.src_port,
            seq: cookie.seq,
            ack: syn.seq + 1,
            flags: Flags::SYN.with(Flags::ACK).with(if kept.ecn { Flags::ECE } else { Flags::default() }),
            window,
            urgent: 0,
            options,
        };
        if reply::segment(&mut frame, &answer) {
            self.stats.cookies_sent.add(1);
            self.transmit(frame, port, out);
        } else {
            self.stats.drops.add(DropReason::NoFrame, 1);
        }
    }

    /// The handshake that a packet completes which belongs to no flow and opens none; or why it is refused, and how.
    pub(super) fn redeem(
        &mut self,
        frame: &F,
        port: u8,
        packet: &Packet,
        path: Path,
        now: Instant,
    ) -> Result<Accepted, (DropReason, Answer)> {
        let Packet { flags, ref tuple, .. } = *packet;
        let may_return = matches!(path, Path::Proxy(_))
            && flags.has(Flags::ACK)
            && !flags.has(Flags::SYN)
            && !flags.has(Flags::RST)
            && self.early.cookies.are_awaited(now);
        if !may_return {
            // A client whose flow was lost here learns it at once.
            return Err((DropReason::NoBinding, Answer::Reset));
        }
        let segment = &frame.data()[TCP_AT..];
        let (ack, header_len) = Header::read(segment).map_err(|reason| (reason, Answer::Silence))?;
        let Some(Kept { options: theirs, ecn }) = self.early.cookies.redeem(tuple, &ack, now) else {
            self.stats.cookies_refused.add(1);
            // Text that overtook, or survived, the segment which returns the cookie: that one comes again.
            let is_early = segment.len() > header_len && self.early.cookies.may_follow(tuple, &ack, now);
            return Err((DropReason::BadCookie, if is_early { Answer::Silence } else { Answer::Reset }));
        };
        self.stats.cookies_accepted.add(1);
        let stamps = theirs.timestamps.map(|_| (self.early.cookies.stamp(tuple, now), 0));
        let mtu = self.path_mtu(port, *tuple.dst().ip());
        let (ours, window) = self.early.answer(&theirs, stamps, mtu);
        Ok(Accepted { iss: ack.ack - 1, irs: ack.seq - 1, ours, theirs, window, ecn })
    }

    /// A client's packet, of a proxied flow that is half-open, may show that it has its address.
    pub(super) fn take_proof(&mut self, frame: &F, slot: u32) {
        if let Some(ack) = seq_at(frame.data(), TCP_AT + tcp::ACK_AT)
            && self.nat.give_proof(slot, ack)
        {
            self.stats.half_open.set(self.nat.half_open() as u64);
        }
    }

    /// Largest IP packet that goes from `port` to `dst` and back.
    fn path_mtu(&self, port: u8, dst: Ipv4Addr) -> u16 {
        let mtus = [Some(port), self.routes.outward(dst)].into_iter().flatten();
        let mtus = mtus.filter_map(|port| self.routes.port(port)).map(|info| info.mtu);
        mtus.min().unwrap_or(ip::MIN_LEN as u16)
    }
}

/// The smallest shift by which a window field can tell `window` bytes.
fn shift(window: u32) -> u8 {
    (0..MAX_SHIFT).find(|shift| 0xffff << shift >= window).unwrap_or(MAX_SHIFT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_is_the_smallest_that_can_tell_the_window() {
        let told = [4096, 65_535, 65_536, 131_070, 131_071, 1 << 20, 0xffff << 14].map(shift);
        assert_eq!(told, [0, 0, 1, 1, 2, 5, 14]);
    }

    #[test]
    fn a_syn_ack_tells_no_more_window_than_there_is_in_whole_units() {
        let early = |window| Early::new(SynCookies { above: 0, window, ecn: true, secret: 1 });
        let scaled = Options { window_scale: Some(3), ..Options::default() };
        let told = |window, kept: &Options| {
            let (options, told) = early(window).answer(kept, None, 1500);
            (options.window_scale, told)
        };
        assert_eq!(told(5_000, &scaled), (Some(0), 5_000));
        assert_eq!(told(1 << 20, &scaled), (Some(5), 65_504));
        assert_eq!(told(1 << 20, &Options::default()), (None, 65_535));
    }
}
