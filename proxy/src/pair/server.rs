//! The server on demand: where a filter may answer in its place, it is asked once there is something to send to it, and it may be
//! another one than the client named.
//!
//! ```text
//!   bytes come out for the server:   not asked yet      it is asked in the client's words, as at once elsewhere
//!                                    asked              they are for it
//!                                    it has ended       it is asked anew, by other numbers
//!                                    another is wanted  the one before is reset, and the other asked by numbers of its own
//! ```
//!
//! The worker learns of the other server between the last word to the one and the first to the other: packets of the one find
//! no flow from then on.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddrV4;

use pnat_shared::flow::{Side, Stream};
use pnat_shared::frame::{Frame, FramePool};
use pnat_shared::loopback::SECOND;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;
use pnat_shared::wire::tcp::Seq;

use super::{Pair, Phase, pump};
use crate::filter::StreamChain;
use crate::reactor::{Progress, Visit};
use crate::tcp::{Endpoint, Offer, Settings, State};

/// How long a client may say nothing before its server is asked all the same, where no rule has it accepted early: it may be for
/// the server to speak first.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// How a server is asked that is not asked at once.
#[derive(Debug)]
pub(super) struct Inquiry {
    settings: Settings,
    /// What the client's SYN offered, as it is offered to the server; its timestamp is that of the flow's beginning.
    offer: Offer,
    /// Whom the second socket's packets are for.
    server: SocketAddrV4,
    /// The cookie's number, which no server knows.
    secret: Seq,
    /// When it is asked although the client has said nothing; [`Instant::FAR`] for never.
    ask_by: Instant,
}

impl Inquiry {
    pub(super) const fn new(
        settings: Settings,
        offer: Offer,
        server: SocketAddrV4,
        cookie: Seq,
        ask_by: Instant,
    ) -> Self {
        Self { settings, offer, server, secret: cookie, ask_by }
    }

    /// What a SYN says that is sent so long after the flow began: TSval runs on as if it had been sent then.
    fn offer_after(&self, began: Instant, now: Instant) -> Offer {
        let elapsed = now.since(began).as_millis() as u32;
        Offer { timestamp: self.offer.timestamp.map(|value| value.wrapping_add(elapsed)), ..self.offer }
    }

    /// The initial sequence number of a connection that follows one: behind all of that one's, so that a server which still
    /// remembers it takes the SYN for a new one (RFC 9293 section 3.6.1), and as far as nobody outside can tell (RFC 6528).
    fn next_iss(&self, last: Seq) -> Seq {
        let mut hasher = DefaultHasher::new();
        (self.secret.0, last.0, self.server).hash(&mut hasher);
        last + 1 + (hasher.finish() as u32 >> 2)
    }
}

impl<F: Frame> Pair<F> {
    /// Asks the server where something has come out for it. Where nothing ever will, no answer is to be expected either: the
    /// chain is told so once no filter has anything left to say to the client.
    #[cold]
    pub(super) fn ask_when_due<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        match self.second.state() {
            State::SynUnsent if self.second.queued() > 0 => self.face_server(visit),
            State::Closed if !self.finished[Stream::Second as usize] => self.finish(Stream::Second, visit),
            _ => {}
        }
    }

    /// When [`Pair::ask_in_silence`] is to be called, while no server was asked.
    pub(super) fn silent_until(&self) -> Instant {
        self.inquiry.as_ref().map_or(Instant::FAR, |inquiry| inquiry.ask_by)
    }

    /// Asks the server of a client that has said nothing yet.
    pub(super) fn ask_in_silence<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.ask_by = Instant::FAR;
        }
        if self.tally.bytes() == [0; 2] && self.second.state() == State::SynUnsent {
            self.face_server(visit);
        }
    }

    /// Whether the client is not to learn that nobody speaks to it.
    pub(super) fn keeps_client(&self) -> bool {
        let is_accepted = match self.phase {
            Phase::Waiting | Phase::Open => true,
            // A server that was asked for want of a word from the client is one that it wants to hear.
            Phase::Connecting { .. } => self.tally.bytes()[0] > 0,
            _ => false,
        };
        self.inquiry.is_some() && is_accepted && self.chain.as_ref().is_some_and(StreamChain::keeps_client)
    }

    /// The server has ended its stream, and is told our end: what comes out from here on is for another connection.
    pub(super) fn part<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        if self.phase != Phase::Waiting {
            self.go_on_without(None, visit);
        }
        if self.phase == Phase::Waiting {
            self.second.shutdown();
        }
    }

    /// The server has failed. Answers whether the client is kept all the same.
    #[cold]
    pub(super) fn is_spared<P: FramePool<F>>(
        &mut self,
        reason: CloseReason,
        visit: &mut Visit<'_, F, P>,
    ) -> bool {
        let is_spared = self.keeps_client();
        if is_spared {
            self.go_on_without(Some(reason), visit);
        }
        is_spared
    }

    /// Tells the filters that the server has gone, of whom the client learns nothing.
    fn go_on_without<P: FramePool<F>>(&mut self, reason: Option<CloseReason>, visit: &mut Visit<'_, F, P>) {
        self.phase = Phase::Waiting;
        if let Some(chain) = &mut self.chain {
            chain.server_left(&mut visit.turn(&mut self.flow), reason);
            self.pass(visit);
        }
    }

    /// Resets a server of whom filters want no more.
    #[cold]
    pub(super) fn drop_server(&mut self) {
        if self.inquiry.is_some() && matches!(self.phase, Phase::Connecting { .. } | Phase::Open) {
            self.abort(Side::Second);
            self.phase = Phase::Waiting;
        }
    }

    /// Sees to it that the second socket is one to the server that bytes are for now.
    #[cold]
    pub(super) fn face_server<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let Some(inquiry) = &self.inquiry else { return };
        let wanted = self.flow.target.unwrap_or(self.flow.server);
        let is_other = wanted != inquiry.server;
        let is_unsuited = match self.phase {
            Phase::Waiting => true,
            Phase::Connecting { .. } | Phase::Open => is_other,
            _ => false,
        };
        if !is_unsuited {
            return;
        }
        if self.finished[Stream::Second as usize] {
            // No answer would be heard.
            return visit.bench.passed.to_server.clear();
        }
        let was_asked = self.second.state() != State::SynUnsent;
        if was_asked {
            self.leave_server(visit);
        }
        if is_other || was_asked {
            self.turn_to(wanted, visit);
        }
        self.ask(visit);
    }

    /// Resets the connection to the server that was asked last, where it has not ended; another is to follow.
    fn leave_server<P: FramePool<F>>(&mut self, visit: &mut Visit<'_, F, P>) {
        let last = self.second.next_number();
        self.abort(Side::Second);
        // Where no frame is left for it, it is as if it were lost on its way.
        pump::transmit(&mut self.second, visit, &mut Progress::default());
        if let Some(inquiry) = &self.inquiry {
            let iss = inquiry.next_iss(last);
            self.second = Endpoint::prepare(inquiry.settings, SECOND, self.masked, iss, visit.now);
            self.syn.1 = iss;
        }
    }

    /// From here on the second socket's packets are for this server.
    fn turn_to<P: FramePool<F>>(&mut self, server: SocketAddrV4, visit: &mut Visit<'_, F, P>) {
        if let Some(inquiry) = &mut self.inquiry {
            inquiry.server = server;
            visit.turn_to(server);
            visit.bench.stats.retargets.add(1);
        }
    }

    fn ask<P>(&mut self, visit: &Visit<'_, F, P>) {
        let Some(inquiry) = &self.inquiry else { return };
        self.second.ask(inquiry.offer_after(self.flow.opened, visit.now), visit.now);
        self.phase = Phase::Connecting { early: true, since: visit.now };
        visit.bench.stats.servers_asked.add(1);
    }

    /// The server failed. Answers whether a filter tells the client something in its place: that, and FIN, are on their way then.
    /// Where the client was not accepted early, no filter is asked.
    #[cold]
    pub(super) fn is_excused<P: FramePool<F>>(
        &mut self,
        reason: CloseReason,
        visit: &mut Visit<'_, F, P>,
    ) -> bool {
        let Some(chain) = self.chain.as_mut().filter(|_| self.inquiry.is_some()) else { return false };
        let is_excused = chain.server_failed(&mut visit.turn(&mut self.flow), reason);
        if is_excused {
            self.pass(visit);
        }
        is_excused
    }

    /// Whether the server has not been asked, and may never be.
    pub(crate) fn is_waiting(&self) -> bool {
        self.phase == Phase::Waiting
    }

    /// Leaves in the flow's record, where a filter has chosen a server, the one that was asked last. Answers whether one was
    /// chosen where none could be.
    pub(super) fn settle_target(&mut self) -> bool {
        let is_ignored = self.inquiry.is_none() && self.flow.target.is_some();
        let asked = self.inquiry.as_ref().map(|inquiry| inquiry.server);
        self.flow.target = asked.filter(|asked| *asked != self.flow.server);
        is_ignored
    }
}
