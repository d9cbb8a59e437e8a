//! The mirrored handshake: the server is asked as the client asks, the client is answered as the server answers. Where the
//! client was accepted early, only the first half is left of it.

use std::sync::Arc;

use pnat_shared::config::{Accept, Ecn, Transport};
use pnat_shared::flow::{Accepted, NewFlow, Side};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::{FIRST, SECOND, mask};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::tcp::{Flags, Header};

use super::server::{Inquiry, SILENCE};
use super::{Limits, Pair, Phase};
use crate::error::{ErrorKind, StreamError};
use crate::filter::{Flow, StreamChain};
use crate::icmp::{self, Quote};
use crate::reactor::{Complaint, Visit};
use crate::tally::Tally;
use crate::tcp::{Endpoint, Offer, Settings, State};

/// How long a socket goes on repeating what is not acknowledged (RFC 9293 section 3.8.3: at least 100 s).
const USER_TIMEOUT: Duration = Duration::from_secs(120);

/// Long enough to acknowledge a repeated FIN or two. That old duplicates cannot meet a new flow, which is what TIME-WAIT
/// is for, is seen to by the worker: it decides when a public port may serve again.
pub(super) const TIME_WAIT: Duration = Duration::from_secs(2);

/// As many as in Linux: with fewer, the last segment of a sender's first flights waits for the timer, and its slow start loses
/// a round trip.
const QUICK_ACKS: u8 = 16;

/// IPv4 and TCP header without options: what the MTU leaves is the MSS (RFC 9293 section 3.7.1).
const HEADERS: u16 = 40;
/// What any host must take (RFC 9293 section 3.7.1). A smaller MSS is not mirrored: a server that follows it would send
/// hundreds of tiny segments for what the client alone wanted so.
const MIN_MSS: u16 = 536;

/// What opens a pair.
#[derive(Debug)]
pub(crate) struct Opening<'a> {
    pub(crate) new: &'a NewFlow,
    pub(crate) flow: Flow,
    pub(crate) chain: StreamChain,
    /// The flow's first segment: the client's SYN, or the ACK of a SYN-ACK that went out early.
    pub(crate) segment: &'a Header,
    pub(crate) quote: Quote,
    pub(crate) transport: Transport,
    /// When the flow's rule has its clients accepted.
    pub(crate) accept: Accept,
}

/// Whether a first segment asks for a connection.
pub(crate) fn is_opening(syn: &Header) -> bool {
    syn.flags.has(Flags::SYN) && !syn.flags.has(Flags::ACK)
}

/// Whether a first segment is the ACK that completes this handshake.
pub(crate) fn is_completing(ack: &Header, handshake: &Accepted) -> bool {
    let others = ack.flags.0 & (Flags::SYN.0 | Flags::RST.0);
    ack.flags.has(Flags::ACK) && others == 0 && ack.seq == handshake.irs + 1 && ack.ack == handshake.iss + 1
}

impl<F: Frame> Pair<F> {
    /// Asks the server in the client's words, and holds the client's SYN until there is an answer. The ACK of a client that
    /// was accepted early is to follow by [`Pair::on_segment`]; there the server may not be asked yet.
    pub(crate) fn open(opening: Opening<'_>, limits: &Arc<Limits>, now: Instant) -> Self {
        let Opening { new, mut flow, chain, segment, quote, transport, accept } = opening;
        let masked = mask(new.handle);
        let settings = |side: Side, open_timeout| Settings {
            window: limits.window,
            mtu: new.mtu[side as usize],
            offloads: new.offloads[side as usize],
            open_timeout,
            user_timeout: USER_TIMEOUT,
            time_wait: TIME_WAIT,
            keepalive: limits.keepalive,
            patience: limits.idle,
            congestion: transport.congestion[side as usize],
            quick_acks: QUICK_ACKS,
        };
        let (mut tally, at_first) = (Tally::default(), settings(Side::First, limits.half_open));
        let first = match &new.accepted {
            None => {
                tally.packet(Side::First);
                Endpoint::accept(at_first, FIRST, masked, segment, now)
            }
            Some(handshake) => Endpoint::accepted(at_first, FIRST, masked, handshake, now),
        };
        let (irs, offer) = match first.peer() {
            Some(said) => said,
            None => (
                segment.seq,
                Offer { mss: MIN_MSS, window_scale: None, sack: false, timestamp: None, ecn: false },
            ),
        };
        let path = new.mtu[0].min(new.mtu[1]);
        // What the server is not asked for, the client does not get.
        let asked = Offer { ecn: offer.ecn && transport.ecn == Ecn::Mirror, ..clamp(offer, path) };
        let at_second = settings(Side::Second, limits.connect);
        let handshake = new.accepted.as_ref().filter(|_| chain.may_answer());
        let (phase, second, inquiry) = if let Some(handshake) = handshake {
            let second = Endpoint::prepare(at_second, SECOND, masked, irs, now);
            let ask_by = if accept == Accept::Early { Instant::FAR } else { now + SILENCE };
            let inquiry = Inquiry::new(at_second, asked, flow.server, handshake.iss, ask_by);
            flow.may_retarget = true;
            (Phase::Waiting, second, Some(Box::new(inquiry)))
        } else {
            let phase = Phase::Connecting { early: new.accepted.is_some(), since: flow.opened };
            (phase, Endpoint::connect(at_second, SECOND, masked, irs, asked, now), None)
        };
        Self {
            flow,
            masked,
            limits: Arc::clone(limits),
            phase,
            path,
            first,
            second,
            chain: Some(chain),
            syn: (quote, irs),
            inquiry,
            finished: [false; 2],
            tally,
            last_seen: now,
        }
    }

    /// Moves on where a handshake has come through. Answers how long the server took, when it has just answered.
    pub(super) fn advance(&mut self, now: Instant) -> Option<Duration> {
        let mut connected = None;
        if let Phase::Connecting { early, since } = self.phase
            && !matches!(self.second.state(), State::SynSent | State::SynReceived | State::Closed)
            && let Some((iss, offer)) = self.second.peer()
        {
            if early {
                self.phase = Phase::Open;
            } else {
                self.first.answer(iss, clamp(offer, self.path), now);
                self.phase = Phase::Accepting(now);
            }
            let took = now.since(since);
            self.tally.connected(took);
            connected = Some(took);
        }
        if matches!(self.phase, Phase::Accepting(_))
            && !matches!(self.first.state(), State::SynHeld | State::SynReceived | State::Closed)
        {
            self.phase = Phase::Open;
        }
        connected
    }

    /// An ICMP error about a segment that the socket of `side` sent. Answers whether it changed anything: an open
    /// connection does not end by one (RFC 5461, RFC 5927), but a path's MTU is believed where the quoted segment is in
    /// flight. [`Pair::pump`] is to follow.
    pub(crate) fn on_complaint<P: FramePool<F>>(
        &mut self,
        side: Side,
        complaint: &Complaint,
        visit: &mut Visit<'_, F, P>,
    ) -> bool {
        let Some(seq) = complaint.seq else { return false };
        let error = &complaint.error;
        if error.asks_for_shorter() {
            self.socket(side).on_mtu(seq, error.next_hop_mtu(), visit.now);
            return true;
        }
        let (quote, iss) = self.syn;
        let Phase::Connecting { early, .. } = self.phase else { return false };
        if side != Side::Second || seq != iss || !icmp::is_refusal(error) {
            return false;
        }
        let failure = StreamError { side: Side::Second, kind: ErrorKind::Unreachable };
        if early {
            // The client takes its connection for open: no ICMP error would end it.
            self.abort(Side::Second);
            self.blame(failure, visit);
            return true;
        }
        visit.bench.frames.extend(quote.complain(
            visit.pool,
            Side::First,
            self.masked,
            error.kind,
            error.code,
            0,
        ));
        self.vanish(failure.reason());
        true
    }
}

/// What one leg's peer offered, as the other leg repeats it: all the same, but no segment may outgrow either leg's MTU.
fn clamp(offer: Offer, path: u16) -> Offer {
    let most = path.saturating_sub(HEADERS);
    Offer { mss: offer.mss.max(MIN_MSS).min(most), ..offer }
}
