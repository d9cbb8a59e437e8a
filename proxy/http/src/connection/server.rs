//! How servers go: by the end of their stream, by a failure, or because nobody waits for them any more.

use bytes::Bytes;
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};

use super::work::Work;
use super::{Connection, Down, End, Look, Up, Why, has_content};
use crate::cascade::Context;
use crate::codec::{Fault, ResponseReader, write};
use crate::filter::{Failure, Gateway};
use crate::message::{Answer, Framing, Request};

/// How long a client's next request waits for a response that only filters wait for.
const GRACE: Duration = Duration::from_millis(200);

/// What is known of the connection to the server.
#[derive(Copy, Clone, Debug, Default)]
pub(super) struct Server {
    /// Something of a response has come by it.
    pub(super) heard: bool,
    /// How it has failed, until the client hears of it.
    failed: Option<Failure>,
    /// It has gone, or is not listened to any more: what still comes of it is dropped, and what comes out is for another one.
    pub(super) left: bool,
    /// The request that is under way went to a server that had been heard.
    reused: bool,
    /// That request was sent once more.
    repeated: bool,
    /// It is the second one of its exchange.
    again: bool,
}

impl Connection {
    /// The server has ended its stream, or failed, and [`Connection::keeps_client`]: what comes out for a server from here on is for
    /// another connection. Answers what does so now; a look at both streams, that of the response first, is to follow. It begins what
    /// the client is told, where a response was due.
    ///
    /// A request that may be asked twice (RFC 9110 section 9.2.2) is sent once more where its server closed a connection that it
    /// had served before: its end and the request have crossed each other (RFC 9112 section 9.3.1); and where a filter knows
    /// another server.
    pub fn server_left(
        &mut self,
        now: Instant,
        gateway: &mut dyn Gateway,
        failure: Option<Failure>,
    ) -> Vec<Bytes> {
        if self.may_repeat() || self.goes_elsewhere(now, gateway, failure) {
            self.server = Server { repeated: true, again: self.server.again, ..Server::default() };
            self.respond_by = None;
            let mut head = Vec::with_capacity(512);
            write::write_request(&self.request, self.request.framing(), &mut head);
            return vec![head.into()];
        }
        if self.is_excused() {
            match (self.down, failure) {
                (Down::Head | Down::Judged(_), failed) => {
                    let failed = match failed {
                        Some(Failure::Unreachable) if self.was_closed() => Some(Failure::Closed),
                        failed => failed,
                    };
                    self.server = Server { left: true, heard: false, failed, ..self.server };
                }
                _ => self.part(),
            }
            return Vec::new();
        }
        self.server = Server { left: true, ..Server::default() };
        if let Some(failure) = failure.filter(|_| self.is_unseen()) {
            self.progress.server.get_or_insert(Err(failure));
            let look = &mut Look { now, gateway, bytes: &[], end: true, room: [usize::MAX; 2] };
            self.abandon(&mut Work::new(look));
        }
        Vec::new()
    }

    /// A request goes to the server.
    pub(super) fn note_asked(&mut self) {
        let is_other = self.exchange.target != self.facing;
        self.facing = self.exchange.target;
        let heard = self.server.heard && !is_other;
        self.server = Server { heard, reused: heard, ..Server::default() };
    }

    /// Sends another request in the place of the one whose response has a head of `len` bytes and is of no use to anybody.
    pub(super) fn ask_again(&mut self, work: &mut Work<'_, '_>, len: usize, request: Request) {
        let is_bare = self.up == Up::Done
            && ![request.framing(), self.response.framing()].map(has_content).contains(&true);
        let stays = self.server_persists() && !work.look.end;
        let is_first = !std::mem::replace(&mut self.server.again, true);
        if !is_bare || !is_first || self.is_stream || !(stays || self.may_leave()) {
            return self.bad_response(work, Fault::Malformed("a response to another question"));
        }
        work.script.skip(len);
        if !work.rest().is_empty() {
            return self.bad_response(work, Fault::Malformed("a response that nobody asked for"));
        }
        work.leaves |= !stays;
        let mut head = Vec::with_capacity(512);
        write::write_request(&request, request.framing(), &mut head);
        // It goes the other way than what these bytes are for.
        work.back.push(head.into());
        self.request = request;
        self.cascade.asks_again();
        self.responses.expect(self.request.method());
        self.down = Down::Head;
        (self.progress.server, self.progress.responded, self.respond_by) = (None, None, None);
        self.server = Server { heard: stays, reused: stays, again: true, ..Server::default() };
        work.again = true;
    }

    /// Whether the request is to be sent once more if the server goes now.
    pub(super) fn may_repeat(&self) -> bool {
        self.was_closed() && self.is_repeatable()
    }

    /// Whether the request can be sent once more, as far as it is up to that.
    fn is_repeatable(&self) -> bool {
        let is_safe = ["GET", "HEAD", "OPTIONS"].contains(&self.request.method());
        let is_whole = self.up == Up::Done && !has_content(self.request.framing());
        is_safe && is_whole && !self.ended && self.may_leave()
    }

    /// Whether a filter has another server for the request, of which the one that has gone has answered nothing.
    fn goes_elsewhere(&mut self, now: Instant, gateway: &mut dyn Gateway, failure: Option<Failure>) -> bool {
        if self.down != Down::Head || self.progress.responded.is_some() || !self.is_repeatable() {
            return false;
        }
        let context = &mut Context { now, exchange: &mut self.exchange, gateway, wake: &mut None };
        let failure = failure.unwrap_or(Failure::Unreachable);
        let is_other = self.cascade.elsewhere(context, &self.request, failure);
        self.facing = self.exchange.target;
        is_other
    }

    /// Whether another connection to a server can be had. A stream of several has no say in that.
    pub(super) const fn may_leave(&self) -> bool {
        self.exchange.may_redirect && !self.is_stream
    }

    /// Whether a server that goes now may just have closed a connection that it had no use for.
    fn was_closed(&self) -> bool {
        let is_awaited = self.down == Down::Head && self.progress.responded.is_none();
        is_awaited && self.server.reused && !self.server.repeated
    }

    /// Whether a response is under way that the client does not see, and the client may ask for more.
    pub(super) fn is_unseen(&self) -> bool {
        self.up == Up::Done && !matches!(self.down, Down::Idle | Down::Done) && !self.cascade.reaches_client()
    }

    /// Whether the next request has waited long enough for a response that the client does not see.
    pub(super) fn is_held_up(&mut self, work: &mut Work<'_, '_>) -> bool {
        if work.rest().is_empty() || !self.is_unseen() || !self.may_leave() {
            return false;
        }
        let until = *self.patient_until.get_or_insert(work.look.now + GRACE);
        if work.look.now < until {
            work.want(until);
            return false;
        }
        true
    }

    /// Leaves a server whose response only filters wait for: that will not come.
    pub(super) fn leave_server(&mut self, work: &mut Work<'_, '_>) {
        work.leaves = true;
        // What waits of the server's goes first.
        work.again = true;
        work.want(work.look.now);
        self.server = Server { left: true, ..Server::default() };
        self.abandon(work);
    }

    /// The response that only filters wait for will not come, or not to its end: the next exchange may begin.
    fn abandon(&mut self, work: &mut Work<'_, '_>) {
        self.responses = ResponseReader::default();
        self.seen[Stream::Second as usize] = 0;
        self.conclude(work, false);
        self.finish(work);
    }

    /// What only filters wait for, and has a fault: they do without.
    pub(super) fn leaves_for_fault(&mut self, work: &mut Work<'_, '_>) -> bool {
        let leaves = self.is_unseen() && self.may_leave();
        if leaves {
            self.leave_server(work);
            work.script.skip(work.rest().len());
        }
        leaves
    }

    /// The server of a stream cannot be asked, or has failed. Answers whether the client is to hear something for it: a look at the
    /// response is to follow then, though nothing comes of it any more.
    pub fn server_failed(&mut self, failure: Failure) -> bool {
        match self.down {
            Down::Head | Down::Judged(_) => {
                self.server.left = true;
                self.server.failed = Some(failure);
                true
            }
            Down::Replacing(..) => {
                self.part();
                true
            }
            _ => false,
        }
    }

    /// Whether the client is owed an answer that needs the server no more, or a word that the server has failed.
    fn is_owed(&self) -> bool {
        let is_owed = matches!(
            self.down,
            Down::Head | Down::Judged(_) | Down::Replacing(..) | Down::Content { dropped: true }
        );
        is_owed && self.cascade.reaches_client()
    }

    /// Whether the client hears something if the server fails now.
    pub(super) fn is_excused(&self) -> bool {
        self.is_owed() && self.may_leave()
    }

    /// The client gets what has taken the response's place, and then the connection's end, whatever the server does.
    fn part(&mut self) {
        self.server.left = true;
        self.last = true;
        self.closes = true;
        self.up = Up::Done;
        self.down = Down::Replacing(0, Framing::None);
    }

    /// Goes by what [`Connection::server_left`] and [`Connection::server_failed`] have noted, before a look at the response.
    pub(super) fn heed_leaving(&mut self, work: &mut Work<'_, '_>) {
        if !self.server.left {
            return;
        }
        if let Some(failure) = self.server.failed.take() {
            work.script.skip(work.rest().len());
            self.fail(work, failure, Why::Server(failure), true);
        } else if matches!(self.down, Down::Idle | Down::Done | Down::Replacing(0, _)) {
            work.script.skip(work.rest().len());
        }
    }

    /// Takes a server that does not answer in time for one that has failed.
    pub(super) fn watch_server(&mut self, work: &mut Work<'_, '_>) {
        if self.up != Up::Done || self.down != Down::Head || !work.goes_on() {
            return;
        }
        let until = *self.respond_by.get_or_insert(work.look.now + self.settings.response_timeout);
        if until <= work.look.now {
            self.time_out(work);
        } else if !work.look.end || !work.rest().is_empty() {
            // A client's end alone is not to wait for the server: who has gone needs no answer.
            work.want(until);
        }
    }

    fn time_out(&mut self, work: &mut Work<'_, '_>) {
        if self.is_unseen() && self.may_leave() {
            self.progress.server = Some(Err(Failure::Timeout));
            return self.leave_server(work);
        }
        if self.begin_excuse(work, Failure::Timeout, Why::Server(Failure::Timeout), true) {
            self.server.left = true;
            (self.up, self.down) = (Up::Answering(0), Down::Done);
            self.after_shown(work, 0);
        }
    }

    /// The server has failed: the client gets an answer in its place, or a word of that where `is_told`, and then the connection's end.
    fn fail(&mut self, work: &mut Work<'_, '_>, failure: Failure, why: Why, is_told: bool) {
        if !self.begin_excuse(work, failure, why, is_told) {
            return;
        }
        if self.answer.take().is_some() {
            // No filter before waits with a response that was given for another one.
            work.end = End::Reset(Why::Filter);
        }
        self.part();
        self.go_on_replacing(work, 0, Framing::None);
        self.look_for_end(work);
    }

    /// Begins an answer in place of a response that will not come; false where there is none.
    fn begin_excuse(&mut self, work: &mut Work<'_, '_>, failure: Failure, why: Why, is_told: bool) -> bool {
        self.progress.server = Some(Err(failure));
        self.last = true;
        self.why = why;
        let failed = self.cascade.failed(&mut work.context(&mut self.exchange), &self.request, failure);
        if !self.cascade.reaches_client() {
            self.conclude(work, false);
            (self.up, self.down) = (Up::Done, Down::Done);
            work.end = End::Closed(why);
            return false;
        }
        match failed {
            Some((by, answer)) => self.begin_answer(work, by, *answer),
            None if is_told => {
                let (status, reason) = match failure {
                    Failure::Timeout => (504, "Gateway Timeout"),
                    Failure::Unreachable | Failure::Closed | Failure::Malformed => (502, "Bad Gateway"),
                };
                self.begin_answer(work, 0, Answer::status(status, reason));
                self.progress.answered_by = None;
            }
            None => {
                // The client may ask again as if the server had been gone before (RFC 9110 section 9.2.2).
                work.end = End::Closed(Why::Finished);
                return false;
            }
        }
        true
    }

    /// The server's stream has ended, and all of it was looked at.
    pub(super) fn server_ended(&mut self, work: &mut Work<'_, '_>) {
        match self.down {
            Down::Head | Down::Judged(_) if self.server.left && self.is_unseen() => {
                self.abandon(work);
                work.again = true;
            }
            Down::Content { dropped } => match self.responses.close() {
                Ok(_) => {
                    if self.lead_response(work, dropped, 0, &[], true) && !self.is_through(Stream::Second) {
                        work.put_off(Stream::Second);
                        return;
                    }
                    self.conclude(work, true);
                    // The client would wait for an end that this server's is not any more.
                    if self.server.left && self.last && work.end == End::Open {
                        work.end = End::Closed(Why::Finished);
                    }
                }
                Err(fault) if self.written == Some(Framing::UntilClose) => {
                    // By an end in order the client would take it for whole.
                    work.end = End::Reset(Why::Response(fault));
                }
                Err(_) if self.server.left && self.is_unseen() => {
                    self.abandon(work);
                    work.again = true;
                }
                // What the client has sent ahead would wait for the next exchange, which there is not.
                Err(fault) => work.end = End::Closed(Why::Response(fault)),
            },
            Down::Head => {
                let failure = if self.was_closed() { Failure::Closed } else { Failure::Unreachable };
                self.fail(work, failure, Why::Finished, false);
            }
            _ => {}
        }
    }

    /// A response that cannot be understood, or in more than one way.
    pub(super) fn bad_response(&mut self, work: &mut Work<'_, '_>, fault: Fault) {
        if self.leaves_for_fault(work) {
            return;
        }
        work.script.skip(work.rest().len());
        self.fail(work, Failure::Malformed, Why::Response(fault), true);
    }
}
