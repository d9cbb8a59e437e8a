//! Answers in the server's place: by filters, and by the gateway itself where a request cannot be understood.

use std::collections::VecDeque;

use bytes::Bytes;
use pnat_shared::flow::Stream;

use super::work::Work;
use super::{Connection, Down, End, Pending, SLICE, Up, Why, Writing, has_content};
use crate::cascade::{Interest, Step, Went};
use crate::codec::Fault;
use crate::codec::write::{self, Connection as Persistence};
use crate::message::{Answer, Framing, Version};

/// Slices in which an answer is led through filters where that cannot be put off; filters that never come to an end are stopped.
const MOST_SLICES: usize = 4096;

impl Connection {
    /// Takes up a filter's answer to a request: its response is for the filters before.
    pub(super) fn begin_answer(&mut self, work: &mut Work<'_, '_>, by: usize, answer: Answer) {
        let goes_on = answer.goes_on;
        self.take_up(by, answer, goes_on);
        self.show_answer(work);
    }

    /// What a filter answers is what those before it are shown. To HEAD it tells the length that the content has, as a server's
    /// response does: who edits content takes that away (RFC 9110 section 8.6).
    fn take_up(&mut self, by: usize, answer: Answer, goes_on: bool) {
        let Answer { response, content, .. } = answer;
        self.cascade.answered_by(by);
        self.note_answerer(by);
        self.response = response;
        let length = length(&content);
        let has_content = may_have_content(self.response.status());
        let mut framing = Framing::Length(length);
        if self.request.method() == "HEAD" && has_content {
            framing = Framing::None;
            if length > 0 || !self.response.fields().has("content-length") {
                self.response.fields_mut().set("Content-Length", length.to_string().as_bytes());
            }
        }
        self.response.read_framing(framing);
        self.answer = Some(Pending { by, content, goes_on });
    }

    /// Notes whose answer the client gets.
    fn note_answerer(&mut self, by: usize) {
        if self.cascade.reaches_client() {
            self.progress.answered_by = self.cascade.name(by).cloned();
        }
    }

    /// Shows an answer to the filters before, and writes it once they are through with it.
    pub(super) fn show_answer(&mut self, work: &mut Work<'_, '_>) {
        loop {
            let context = &mut work.context(&mut self.exchange);
            match self.cascade.response(context, &self.request, &mut self.response) {
                Step::Go => break,
                Step::Wait => return,
                Step::Answer(by, answer) => {
                    let goes_on = self.answer.take().is_some_and(|pending| pending.goes_on);
                    self.take_up(by, *answer, goes_on);
                }
                Step::Again(_) => {
                    // It is not the server's.
                    let answer = Answer::status(502, "Bad Gateway");
                    self.response = answer.response;
                    if let Some(pending) = &mut self.answer {
                        pending.content = answer.content;
                    }
                }
                Step::Reset => {
                    self.answer = None;
                    work.end = End::Reset(Why::Filter);
                    return;
                }
                Step::Overrun => {
                    self.answer = None;
                    return self.end_overrun(work);
                }
            }
        }
        let Some(pending) = self.answer.take() else { return };
        if !self.cascade.reaches_client() {
            // The client has its answer: this one ends with the filter that gave that.
            for slice in pending.content.iter().flat_map(|bytes| bytes.chunks(SLICE)) {
                self.show_all_unseen(work, slice, false);
            }
            return self.show_all_unseen(work, &[], true);
        }
        self.goes_on = pending.goes_on.then_some(pending.by);
        self.write_answer(work, pending.content);
    }

    /// Writes an answer for the client: all of it, unless filters are to see more of its content than a slice. Then the rest of that
    /// is for [`Connection::write_more`].
    fn write_answer(&mut self, work: &mut Work<'_, '_>, content: Vec<Bytes>) {
        let status = self.response.status();
        let is_head = self.request.method() == "HEAD";
        let has_content = !is_head && may_have_content(status);
        let length = length(&content);
        let interest = self.cascade.interest(Stream::Second);
        let mut content = VecDeque::from(content);
        let mut framing = Framing::Length(length);
        let mut is_seen = interest == Interest::None;
        if !has_content {
            framing = Framing::None;
            self.forget_edited_length(interest);
        } else if interest == Interest::Edit && length <= SLICE as u64 {
            let whole = content.make_contiguous().concat();
            let mut edited = Vec::new();
            let context = &mut work.context(&mut self.exchange);
            match self.cascade.content(context, Stream::Second, &whole, true, &mut edited) {
                Went::On => {
                    framing = Framing::Length(edited.len() as u64);
                    is_seen = true;
                }
                Went::More => framing = self.edited_framing(),
                went => return self.end_content(work, went),
            }
            content = VecDeque::from([edited.into()]);
        } else if interest == Interest::Edit {
            framing = self.edited_framing();
        }
        self.last |= !self.client_persists() || !self.request_is_whole() || framing == Framing::UntilClose;
        self.closes |= self.last;
        let mut head = Vec::with_capacity(512);
        let persistence = match self.request.version() {
            _ if self.last => Persistence::Close,
            Version::Http10 => Persistence::Keep,
            Version::Http11 | Version::Http2 => Persistence::AsIs,
        };
        write::write_response(&self.response, framing, persistence, &mut head);
        self.progress.begun = true;
        self.progress.status = Some(status);
        work.spend(0);
        work.tell(head.into());
        if !has_content {
            return;
        }
        if is_seen {
            content.into_iter().for_each(|bytes| self.tell_content(work, bytes, framing));
        } else {
            if self.cascade.has_more(Stream::Second) {
                content.drain(..).for_each(|bytes| self.tell_content(work, bytes, framing));
            }
            self.writing = Some(Writing { content, framing });
            self.write_more(work);
        }
    }

    /// Where a filter would edit the content that HEAD does not get, nobody knows the length of what it would make of it.
    pub(super) fn forget_edited_length(&mut self, interest: Interest) {
        if interest == Interest::Edit && self.response.fields().has("content-length") {
            self.response.fields_mut().remove("Content-Length");
        }
    }

    /// How content is framed whose length is not known.
    fn edited_framing(&self) -> Framing {
        match self.request.version() {
            Version::Http10 => Framing::UntilClose,
            Version::Http11 | Version::Http2 => Framing::Chunked,
        }
    }

    /// Goes on writing an answer's content, as far as there is room.
    pub(super) fn write_more(&mut self, work: &mut Work<'_, '_>) {
        while self.writing.is_some() && work.has_room(Stream::Second) {
            self.write_slice(work);
        }
    }

    /// Shows content of an answer to the filters that it ends with.
    fn show_all_unseen(&mut self, work: &mut Work<'_, '_>, content: &[u8], end: bool) {
        self.show_unseen(work, content, end);
        for _ in 0..MOST_SLICES {
            if !self.cascade.has_more(Stream::Second) || !work.goes_on() {
                return;
            }
            self.show_unseen(work, &[], false);
        }
        work.end = End::Reset(Why::Filter);
    }

    fn write_slice(&mut self, work: &mut Work<'_, '_>) {
        let Some(Writing { mut content, framing }) = self.writing.take() else { return };
        let mut slice = Bytes::new();
        if !self.cascade.has_more(Stream::Second)
            && let Some(first) = content.front_mut()
        {
            slice = first.split_to(first.len().min(SLICE));
            content.retain(|bytes| !bytes.is_empty());
        }
        let end = content.is_empty();
        let context = &mut work.context(&mut self.exchange);
        let (went, slice) = match self.cascade.interest(Stream::Second) {
            Interest::Edit => {
                let mut edited = Vec::new();
                (self.cascade.content(context, Stream::Second, &slice, end, &mut edited), edited.into())
            }
            Interest::Watch => (self.cascade.watch(context, Stream::Second, &slice, end), slice),
            Interest::None => (Went::On, slice),
        };
        work.spend(slice.len());
        match went {
            Went::On | Went::More => self.tell_content(work, slice, framing),
            went => return self.end_content(work, went),
        }
        if !end || went == Went::More {
            self.writing = Some(Writing { content, framing });
        } else if framing == Framing::Chunked {
            let mut last = Vec::new();
            write::write_last_chunk(&[], &mut last);
            work.tell(last.into());
        }
    }

    /// Tells the client content of an answer.
    fn tell_content(&mut self, work: &mut Work<'_, '_>, bytes: Bytes, framing: Framing) {
        self.progress.content[1] += bytes.len() as u64;
        if framing == Framing::Chunked {
            let mut chunk = Vec::with_capacity(bytes.len() + 12);
            write::write_chunk(&bytes, &mut chunk);
            work.tell(chunk.into());
        } else {
            work.tell(bytes);
        }
    }

    /// Filters let no more content out.
    pub(super) fn end_content(&mut self, work: &mut Work<'_, '_>, went: Went) {
        match went {
            Went::On | Went::More => {}
            Went::Reset => work.end = End::Reset(Why::Filter),
            Went::Overrun => self.end_overrun(work),
        }
    }

    /// Goes on with an answer that filters wait with, or see bit by bit.
    pub(super) fn go_on_answering(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        if self.writing.is_some() {
            self.write_more(work);
        } else if self.is_held(Stream::First, work) {
            return false;
        } else {
            self.show_answer(work);
        }
        self.after_shown(work, len)
    }

    /// An answer was shown to filters: it is with the client, or is to be gone on with. Answers whether there is a next step.
    pub(super) fn after_shown(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        if self.answer.is_some() {
            return self.hold(Stream::First, work);
        }
        if self.writing.is_some() {
            return work.put_off(Stream::Second);
        }
        self.after_answer(work, len);
        work.goes_on()
    }

    /// What follows an answer that is written: the next exchange, the connection's end, or the server after all.
    fn after_answer(&mut self, work: &mut Work<'_, '_>, len: usize) {
        if work.end != End::Open {
            return;
        }
        if let Some(by) = self.goes_on.take().filter(|_| !self.last && !has_content(self.request.framing())) {
            self.cascade.goes_on(by);
            self.up = Up::Judged(len);
            return;
        }
        work.script.skip(len);
        self.up = Up::Done;
        self.down = Down::Done;
        if self.last {
            work.end = End::Closed(self.why);
            self.conclude(work, true);
        }
    }

    /// Refuses a request that cannot be understood, or in more than one way.
    pub(super) fn refuse_fault(&mut self, work: &mut Work<'_, '_>, fault: Fault) {
        let (status, reason) = fault.status();
        self.refuse(work, status, reason, Why::Request(fault));
    }

    /// A filter took longer than it may: the connection ends, with a word to the client where none of the response is with it.
    pub(super) fn end_overrun(&mut self, work: &mut Work<'_, '_>) {
        if !self.cascade.reaches_client() {
            // It has its answer, which is to arrive.
            self.conclude(work, false);
            work.end = End::Closed(Why::Overrun);
        } else if self.progress.begun {
            work.end = End::Reset(Why::Overrun);
        } else {
            self.refuse(work, 503, "Service Unavailable", Why::Overrun);
        }
    }

    /// Answers a request by the gateway itself, and ends the connection.
    pub(super) fn refuse(&mut self, work: &mut Work<'_, '_>, status: u16, reason: &str, why: Why) {
        let mut answer = Answer::status(status, reason);
        if status == 405 {
            answer.response.fields_mut().push("Allow", b"GET, HEAD, POST, PUT, DELETE, OPTIONS, PATCH");
        }
        self.last = true;
        self.response = answer.response;
        let length = length(&answer.content);
        let mut head = Vec::with_capacity(512);
        write::write_response(&self.response, Framing::Length(length), Persistence::Close, &mut head);
        work.tell(head.into());
        answer.content.into_iter().for_each(|bytes| work.tell(bytes));
        self.progress.status = Some(status);
        self.progress.content[1] = length;
        work.end = End::Closed(why);
        self.conclude(work, true);
    }
}

/// Whether a response of this status may have content (RFC 9110 section 6.4.1).
const fn may_have_content(status: u16) -> bool {
    status >= 200 && status != 204 && status != 304
}

fn length(content: &[Bytes]) -> u64 {
    content.iter().map(|bytes| bytes.len() as u64).sum()
}
