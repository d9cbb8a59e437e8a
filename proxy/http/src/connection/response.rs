//! The server's bytes: the response to the request under way, to the filters and on to the client.

use pnat_shared::flow::Stream;

use super::work::Work;
use super::{Connection, DRAIN, Down, End, PATIENCE, Up, Why, has_content};
use crate::cascade::{Interest, Step, Went};
use crate::codec::write::{self, Connection as Persistence};
use crate::codec::{Fault, Part, ResponseReader};
use crate::message::{Answer, Framing, Version};

impl Connection {
    /// Goes one step further with the server's bytes; false where there is none.
    pub(super) fn response_step(&mut self, work: &mut Work<'_, '_>) -> bool {
        match self.down {
            Down::Content { dropped } if self.cascade.has_more(Stream::Second) => {
                self.response_content(work, dropped)
            }
            Down::Replacing(len, came) => {
                self.go_on_replacing(work, len, came);
                self.look_for_end(work);
                work.goes_on() && !matches!(self.down, Down::Replacing(..))
            }
            _ if work.rest().is_empty() => false,
            Down::Head => self.read_response(work),
            Down::Judged(len) => self.judge_response(work, len),
            Down::Content { dropped } => self.response_content(work, dropped),
            Down::Frames => self.frames_step(work, Stream::Second),
            // A server that speaks unasked is about to leave (RFC 9110 section 15.5.9): nobody could tell what it answers.
            Down::Idle | Down::Done => {
                work.end = End::Closed(Why::Response(Fault::Malformed("a response that nobody asked for")));
                false
            }
        }
    }

    pub(super) fn read_response(&mut self, work: &mut Work<'_, '_>) -> bool {
        self.server.heard = true;
        if self.progress.responded.is_none() {
            self.progress.responded = Some(work.look.now.since(self.exchange.began));
        }
        let part = self.responses.next(work.rest(), self.seen[1], &self.settings.limits, &mut self.response);
        match part {
            Ok(Part::Head(len)) => {
                self.seen[1] = 0;
                if self.response.status() == 101
                    && self.upgrades.is_some()
                    && self.response.fields().lists("upgrade", "h2c")
                {
                    self.responses = ResponseReader::default();
                    self.responses.expect(self.request.method());
                    work.script.pass(len);
                    work.end = End::Upgraded;
                    // The client may have begun already.
                    work.again = true;
                    return false;
                }
                if self.response.status() == 101 && !self.request.fields().has("upgrade") {
                    self.bad_response(work, Fault::Malformed("another protocol that nobody asked for"));
                    return false;
                }
                if !self.response.is_interim() || self.response.status() == 101 {
                    self.progress.server = Some(Ok(self.response.status()));
                }
                if self.response.status() == 101 || self.connects() {
                    if self.leaves_for_fault(work) {
                        return false;
                    }
                    if !self.cascade.reaches_client() {
                        let fault = Fault::Malformed("another protocol that nobody waits for");
                        work.end = End::Reset(Why::Response(fault));
                        return false;
                    }
                    return if self.shows_frames(work) {
                        self.begin_frames(work, len)
                    } else {
                        self.release(work, len)
                    };
                }
                if self.response.is_interim() {
                    let again = work.look.now + self.settings.response_timeout;
                    self.respond_by = self.respond_by.map(|_| again);
                    if self.cascade.reaches_client() {
                        work.script.pass(len);
                    } else {
                        work.script.skip(len);
                    }
                    return true;
                }
                self.down = Down::Judged(len);
                true
            }
            Ok(Part::More) if work.look.end => {
                self.bad_response(work, Fault::Malformed("a head that is cut off"));
                false
            }
            Ok(Part::More) => {
                self.seen[1] = work.rest().len();
                work.want(work.look.now + PATIENCE);
                false
            }
            Ok(Part::Content { .. }) => false,
            Err(fault) => {
                self.bad_response(work, fault);
                false
            }
        }
    }

    pub(super) fn judge_response(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        if self.is_held(Stream::Second, work) {
            return false;
        }
        let reaches_client = self.cascade.reaches_client();
        let context = &mut work.context(&mut self.exchange);
        match self.cascade.response(context, &self.request, &mut self.response) {
            Step::Go if reaches_client => self.forward_response(work, len),
            Step::Go => {
                work.script.skip(len);
                self.down = self.after_response_head(true);
            }
            Step::Wait => return self.hold(Stream::Second, work),
            Step::Answer(by, answer) => self.replace_response(work, len, by, *answer),
            Step::Again(request) => {
                self.ask_again(work, len, *request);
                return false;
            }
            Step::Reset => work.end = End::Reset(Why::Filter),
            Step::Overrun => {
                self.end_overrun(work);
                work.tell_onward();
            }
        }
        self.look_for_end(work);
        work.goes_on()
    }

    /// Lets a response go on to the client.
    pub(super) fn forward_response(&mut self, work: &mut Work<'_, '_>, len: usize) {
        let came = self.response.framing();
        let interest = self.cascade.interest(Stream::Second);
        let is_edited = interest == Interest::Edit && has_content(came);
        if self.request.method() == "HEAD" {
            self.forget_edited_length(interest);
        }
        let is_old = self.request.version() == Version::Http10;
        let framing = match came {
            _ if is_edited && is_old => Framing::UntilClose,
            _ if is_edited => Framing::Chunked,
            came => came,
        };
        self.written = is_edited.then_some(framing);
        self.closes |= framing == Framing::UntilClose && came != framing;
        self.last |= framing == Framing::UntilClose || !self.client_persists() || !self.server_persists();
        if self.response.is_edited() || framing != came {
            let persistence =
                if framing == Framing::UntilClose { Persistence::Close } else { Persistence::AsIs };
            let mut head = Vec::with_capacity(len + 64);
            write::write_response(&self.response, framing, persistence, &mut head);
            work.script.skip(len);
            work.script.insert(head);
        } else {
            work.script.pass(len);
        }
        self.progress.begun = true;
        self.progress.status = Some(self.response.status());
        self.down = self.after_response_head(false);
    }

    pub(super) const fn after_response_head(&self, dropped: bool) -> Down {
        if has_content(self.response.framing()) { Down::Content { dropped } } else { Down::Done }
    }

    /// A filter has put a response in place of the server's.
    pub(super) fn replace_response(
        &mut self,
        work: &mut Work<'_, '_>,
        len: usize,
        by: usize,
        answer: Answer,
    ) {
        let came = self.response.framing();
        self.last |= !is_short(came);
        self.begin_answer(work, by, answer);
        if self.answer.take().is_some() {
            // No filter before waits with a response that was given for another one.
            work.end = End::Reset(Why::Filter);
            return;
        }
        self.go_on_replacing(work, len, came);
    }

    /// Goes on with an answer in place of a response whose head has `len` bytes, and drops that once it is written.
    pub(super) fn go_on_replacing(&mut self, work: &mut Work<'_, '_>, len: usize, came: Framing) {
        self.write_more(work);
        work.tell_onward();
        if self.writing.is_some() {
            self.down = Down::Replacing(len, came);
            work.put_off(Stream::Second);
            return;
        }
        work.script.skip(len);
        self.down = if has_content(came) { Down::Content { dropped: true } } else { Down::Done };
        self.read[Stream::Second as usize] = false;
        if !is_short(came) && work.end == End::Open {
            self.conclude(work, true);
            work.end = End::Closed(Why::Finished);
        }
    }

    pub(super) fn response_content(&mut self, work: &mut Work<'_, '_>, dropped: bool) -> bool {
        if self.is_put_off(Stream::Second, work) {
            return false;
        }
        if self.cascade.has_more(Stream::Second) {
            return self.lead_response(work, dropped, 0, &[], false);
        }
        let rest = self.slice(Stream::Second, work.rest());
        let part = self.responses.next(rest, 0, &self.settings.limits, &mut self.response);
        match part {
            Ok(Part::Content { taken, content, end }) => {
                self.lead_response(work, dropped, taken, &rest[content], end)
            }
            Ok(Part::More | Part::Head(_)) => false,
            Err(fault) => {
                if self.leaves_for_fault(work) {
                    return false;
                }
                // Its beginning is with the client, who must not take this for its end.
                work.end = End::Reset(Why::Response(fault));
                false
            }
        }
    }

    /// Leads content of a response where it is to go, `taken` bytes of the stream; answers whether there is a next step.
    pub(super) fn lead_response(
        &mut self,
        work: &mut Work<'_, '_>,
        dropped: bool,
        taken: usize,
        content: &[u8],
        end: bool,
    ) -> bool {
        if dropped {
            self.show_unseen(work, content, end);
            work.script.skip(taken);
        } else {
            let chunked = self.written == Some(Framing::Chunked);
            if !self.lead(work, Stream::Second, taken, content, end, chunked) {
                return false;
            }
        }
        if self.is_through(Stream::Second) {
            self.down = Down::Done;
        }
        self.look_for_end(work);
        work.goes_on()
    }

    /// Shows content to the filters that a response ends with.
    pub(super) fn show_unseen(&mut self, work: &mut Work<'_, '_>, content: &[u8], end: bool) {
        self.read[Stream::Second as usize] |= end;
        if self.cascade.reaches_client() {
            return;
        }
        let context = &mut work.context(&mut self.exchange);
        let went = match self.cascade.interest(Stream::Second) {
            Interest::None => Went::On,
            Interest::Watch => {
                let went = self.cascade.watch(context, Stream::Second, content, end);
                work.spend(0);
                went
            }
            Interest::Edit => {
                let mut out = Vec::new();
                let went = self.cascade.content(context, Stream::Second, content, end, &mut out);
                work.count(Stream::Second, out.len());
                went
            }
        };
        self.end_content(work, went);
    }

    /// Where both messages are through: the connection's end, or the next exchange.
    pub(super) fn look_for_end(&mut self, work: &mut Work<'_, '_>) {
        if self.down != Down::Done || self.up != Up::Done || work.end != End::Open {
            return;
        }
        if self.closes {
            self.conclude(work, true);
            work.end = End::Closed(self.why);
        } else {
            self.finish(work);
            work.again = true;
        }
    }
}

/// Whether what follows a response's head is read to be dropped, so that the connection can be kept.
const fn is_short(framing: Framing) -> bool {
    !has_content(framing) || matches!(framing, Framing::Length(length) if length <= DRAIN)
}
