//! The client's bytes: requests, one after the other, to the filters and on to the server.

use pnat_shared::flow::Stream;

use super::work::Work;
use super::{Connection, Down, End, NO_CHUNKS, Up, Why, has_content};
use crate::cascade::{Interest, Step};
use crate::codec::{Fault, Part, write};
use crate::h2::{PLAIN_SETTINGS, settings_of};
use crate::message::{Framing, Version};

impl Connection {
    /// Goes one step further with the client's bytes; false where there is none.
    pub(super) fn request_step(&mut self, work: &mut Work<'_, '_>) -> bool {
        match self.up {
            Up::Head | Up::Judged(_) if !work.rest().is_empty() && !work.has_room(Stream::Second) => {
                work.put_off(Stream::Second)
            }
            // The next request may be for another server: one look lets out bytes for one only.
            Up::Head if work.lets_out() && !work.rest().is_empty() => {
                work.want(work.look.now);
                false
            }
            Up::Head => self.read_request(work),
            Up::Judged(len) => self.judge_request(work, len),
            Up::Answering(len) => self.go_on_answering(work, len),
            Up::Content => self.request_content(work),
            Up::Done if self.down == Down::Done && self.closes => {
                self.conclude(work, true);
                work.end = End::Closed(Why::Finished);
                false
            }
            Up::Done if self.down == Down::Done => {
                self.finish(work);
                true
            }
            Up::Done if self.down == Down::Frames => self.frames_step(work, Stream::First),
            Up::Done => {
                if self.is_held_up(work) {
                    self.leave_server(work);
                }
                false
            }
        }
    }

    pub(super) fn read_request(&mut self, work: &mut Work<'_, '_>) -> bool {
        if work.rest().is_empty() {
            return false;
        }
        if self.seen[0] == 0 {
            self.exchange.began = work.look.now;
        }
        let part = self.requests.next(work.rest(), self.seen[0], &self.settings.limits, &mut self.request);
        match part {
            Ok(Part::Head(len)) => {
                self.seen[0] = 0;
                self.up = Up::Judged(len);
                if self.is_stream {
                    self.request.read_version(Version::Http2);
                }
                if self.request.method() == "CONNECT" && (self.is_stream || !self.settings.connect) {
                    self.up = Up::Done;
                    self.refuse(work, 405, "Method Not Allowed", Why::Request(Fault::BadRequest("CONNECT")));
                }
                true
            }
            Ok(Part::More) if self.exchange.began + self.settings.head_timeout <= work.look.now => {
                self.refuse(work, 408, "Request Timeout", Why::Slow);
                false
            }
            Ok(Part::More) => {
                self.seen[0] = work.rest().len();
                work.want(self.exchange.began + self.settings.head_timeout);
                if work.look.end {
                    // Nobody will learn how this request was to go on.
                    work.script.skip(work.rest().len());
                    self.seen[0] = 0;
                }
                false
            }
            Ok(Part::Content { .. }) => false,
            Err(fault) => {
                self.refuse_fault(work, fault);
                false
            }
        }
    }

    pub(super) fn judge_request(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        if self.is_held(Stream::First, work) {
            return false;
        }
        let step = self.cascade.request(&mut work.context(&mut self.exchange), &mut self.request);
        match step {
            Step::Go => self.forward_request(work, len),
            Step::Wait => return self.hold(Stream::First, work),
            Step::Answer(by, answer) => {
                self.up = Up::Answering(len);
                self.begin_answer(work, by, *answer);
                return self.after_shown(work, len);
            }
            // Nothing was asked yet.
            Step::Again(_) | Step::Reset => work.end = End::Reset(Why::Filter),
            Step::Overrun => self.end_overrun(work),
        }
        work.goes_on()
    }

    /// Lets a request go on to the server.
    pub(super) fn forward_request(&mut self, work: &mut Work<'_, '_>, len: usize) {
        let is_edited = self.cascade.interest(Stream::First) == Interest::Edit;
        let has_content = has_content(self.request.framing());
        if is_edited && has_content && self.request.version() == Version::Http10 {
            return self.refuse_fault(work, NO_CHUNKS);
        }
        self.note_asked();
        let asks = self.request.fields().lists("upgrade", "h2c");
        self.upgrades = if asks { self.http2_settings() } else { None };
        if self.upgrades.is_some() {
            // To the server, the gateway is the client of HTTP/2.
            self.request.fields_mut().set("HTTP2-Settings", PLAIN_SETTINGS.as_bytes());
        } else if asks {
            self.request.fields_mut().remove("upgrade");
            self.request.fields_mut().remove("http2-settings");
        }
        let framing = if is_edited && has_content { Framing::Chunked } else { self.request.framing() };
        if self.request.is_edited() || framing != self.request.framing() {
            let mut head = Vec::with_capacity(len + 64);
            write::write_request(&self.request, framing, &mut head);
            work.script.skip(len);
            work.script.insert(head);
        } else {
            work.script.pass(len);
        }
        self.responses.expect(self.request.method());
        self.progress.forwarded = Some(work.look.now.since(self.exchange.began));
        self.up = if has_content { Up::Content } else { Up::Done };
        self.down = Down::Head;
    }

    /// The client's settings, if the request may ask for HTTP/2 (RFC 7540 section 3.2): one that HTTP/2 has a short word for, and
    /// nothing else is asked for beside.
    fn http2_settings(&self) -> Option<Box<[u8]>> {
        let fields = self.request.fields();
        let may_upgrade = self.settings.http2
            && !self.is_stream
            && self.request.version() == Version::Http11
            && self.request.method() == "GET"
            && !has_content(self.request.framing())
            && fields.list("upgrade").count() == 1
            && fields.lists("connection", "upgrade")
            && fields.lists("connection", "http2-settings")
            && self.cascade.reaches_client();
        fields.get("http2-settings").filter(|_| may_upgrade).and_then(settings_of)
    }

    pub(super) fn request_content(&mut self, work: &mut Work<'_, '_>) -> bool {
        if self.is_put_off(Stream::First, work) {
            return false;
        }
        if self.cascade.has_more(Stream::First) {
            return self.lead(work, Stream::First, 0, &[], false, true) && self.request_led();
        }
        let rest = self.slice(Stream::First, work.rest());
        if rest.is_empty() {
            return false;
        }
        let part = self.requests.next(rest, 0, &self.settings.limits, &mut self.request);
        match part {
            Ok(Part::Content { taken, content, end }) => {
                let content = &rest[content];
                self.progress.content[0] += content.len() as u64;
                self.lead(work, Stream::First, taken, content, end, true) && self.request_led()
            }
            Ok(Part::More | Part::Head(_)) => false,
            Err(fault) => {
                // Its beginning is with the server.
                work.end = End::Reset(Why::Request(fault));
                false
            }
        }
    }

    /// Some of a request's content has been led through the filters. Answers true.
    fn request_led(&mut self) -> bool {
        if self.is_through(Stream::First) {
            self.up = Up::Done;
        }
        true
    }
}
