//! The filters of one TCP flow, and the bytes on their way through them.
//!
//! Runs on: proxy cores. Allocates: per flow, and for held or edited bytes; nothing for bytes that pass. Blocks: never.
//!
//! ```text
//!               stage 0        stage 1        stage 2
//!   client -->  filter  -->    filter  -->    filter  -->  server      first stream
//!           <--         <--            <--            <--              second stream
//! ```
//!
//! While a stage holds nothing, its filter is shown a chunk's own bytes, and what passes moves on in that same chunk. What
//! a filter holds is copied to the stage and shown again with what follows. A filter is called once for each event (new
//! bytes, the time it asked for, the end), so a verdict without progress waits for the next event and cannot spin.
//!
//! A verdict that ends the flow ends the chain: bytes that come later are dropped. Only an answer is still on its way
//! then, back to the sender through the stages between; these may edit, hold and delay it, but not end the flow again.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use pnat_shared::flow::{Side, Stream};
use pnat_shared::frame::Frame;
use pnat_shared::time::Instant;
use pnat_shared::verdict::CloseReason;

use super::stage::{Shown, Stage, Stages, Step};
use super::{Edits, Flow, Services, StreamFilter, Summary, Turn, name_verdict};
use crate::chunk::Chunk;

/// What leaves a chain in one turn. The pair empties it: chunks first, then ends, then the outcome.
#[derive(Debug)]
pub struct Output<F> {
    /// Bytes of the first stream, for the second socket.
    pub to_server: Vec<Chunk<F>>,
    /// Bytes of the second stream, for the first socket.
    pub to_client: Vec<Chunk<F>>,
    /// Per stream ([`Stream`] as index): its end came out, behind all of its bytes; the socket it leaves by sends FIN.
    pub ended: [bool; 2],
    /// A filter ended the flow.
    pub outcome: Option<Outcome>,
    /// What the filter that is being called writes to.
    pub(super) written: Written,
}

/// What one call of a filter may write.
#[derive(Debug, Default)]
pub(super) struct Written {
    pub(super) output: Vec<u8>,
    pub(super) edits: Edits,
}

impl<F> Default for Output<F> {
    fn default() -> Self {
        Self {
            to_server: Vec::new(),
            to_client: Vec::new(),
            ended: [false; 2],
            outcome: None,
            written: Written::default(),
        }
    }
}

impl<F> Output<F> {
    /// The queue of a stream's bytes.
    pub const fn stream(&mut self, stream: Stream) -> &mut Vec<Chunk<F>> {
        match stream {
            Stream::First => &mut self.to_server,
            Stream::Second => &mut self.to_client,
        }
    }

    pub const fn is_empty(&self) -> bool {
        self.to_server.is_empty()
            && self.to_client.is_empty()
            && !self.ended[0]
            && !self.ended[1]
            && self.outcome.is_none()
    }
}

/// How a filter ended a flow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Both sides get RST.
    Reset(CloseReason),
    /// The side opposite to `to` gets RST at once. The answer comes out for `to`, now or in later turns, and then the
    /// stream's end: FIN. What `to` still sends is dropped.
    Answer { to: Side, reason: CloseReason },
}

/// One instance of each filter of a rule.
pub struct StreamChain {
    stages: Stages,
    /// Stages that still watch, per stream.
    watching: [u16; 2],
    /// Most bytes that the whole chain may hold per stream while no filter is to be woken.
    limit: u32,
    /// Streams whose end has gone in.
    finished: [bool; 2],
    /// No filter holds anything or is to be woken. False wherever in doubt.
    quiet: bool,
    /// A filter may answer in the server's place.
    answers: bool,
    state: State,
}

/// Why a chunk does not simply go on ([`StreamChain::look`]).
#[derive(Copy, Clone, Debug)]
pub(crate) enum Stop {
    /// The stream has ended: what still comes is dropped.
    Ended,
    /// It goes on by way of the turn's output, where bytes of its stream wait to go first, or the server is to be chosen.
    Behind,
    /// The filter of this stage has something else in mind.
    At(usize, Shown),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A filter ended the flow with an answer, which goes back as the end of this stream.
    Answering(Stream),
    /// A filter reset the flow.
    Over,
}

impl fmt::Debug for StreamChain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = [self.held(Stream::First), self.held(Stream::Second)];
        f.debug_struct("StreamChain")
            .field("filters", &self.stages.iter().map(|stage| &stage.name).collect::<Vec<_>>())
            .field("watching", &self.watching)
            .field("held", &held)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl StreamChain {
    /// A chain of named filters. `window` is the largest receive window of the pair's sockets, in bytes: a chain that held
    /// all of it, and waited for more, would wait for ever, so that flow is ended with `filter_error`.
    pub fn new(filters: impl IntoIterator<Item = (Arc<str>, Box<dyn StreamFilter>)>, window: u32) -> Self {
        let mut chain = Self {
            stages: (0..)
                .zip(filters)
                .map(|(place, (name, filter))| Stage::new(place, name, filter))
                .collect(),
            watching: [0; 2],
            limit: window - window / 4,
            finished: [false; 2],
            quiet: true,
            answers: false,
            state: State::Open,
        };
        chain.answers = chain.stages.iter().any(|stage| stage.filter.answers());
        chain.count_watching();
        chain
    }

    /// Takes in the next bytes of a stream; what is let out is appended to `turn.out`.
    pub fn push<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>, stream: Stream, chunk: Chunk<F>) {
        if chunk.is_empty() {
            return;
        }
        match self.look(turn, stream, &chunk) {
            None => turn.out.stream(stream).push(chunk),
            Some(stop) => self.stop(turn, stream, chunk, stop),
        }
    }

    /// Looks at the next bytes of a stream, at least one. As a rule nothing comes of it: the chunk goes on at once and as it
    /// came. Otherwise the answer is for [`StreamChain::stop`], which is to follow.
    #[inline]
    pub(crate) fn look<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        chunk: &Chunk<F>,
    ) -> Option<Stop> {
        if self.state != State::Open || self.finished[stream as usize] {
            return Some(Stop::Ended);
        }
        if self.watching[stream as usize] > 0
            && let Some(stop) = self.ask_watchers(turn, stream, chunk)
        {
            return Some(stop);
        }
        (!turn.out.stream(stream).is_empty()).then_some(Stop::Behind)
    }

    /// Takes in a chunk that does not simply go on; what is let out of it is appended to `turn.out`.
    pub(crate) fn stop<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        chunk: Chunk<F>,
        stop: Stop,
    ) {
        match stop {
            Stop::Ended => {}
            Stop::Behind => turn.out.stream(stream).push(chunk),
            Stop::At(stage, shown) => {
                self.carry_out(turn, stream, stage, shown, Some(chunk));
                self.settle(turn, stream);
            }
        }
    }

    /// The stream has ended. Its end comes out ([`Output::ended`]) once everything held has.
    pub fn finish<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>, stream: Stream) {
        if self.state != State::Open || self.finished[stream as usize] {
            return;
        }
        self.finished[stream as usize] = true;
        self.end(turn, stream, self.entrance(stream));
    }

    /// Wakes the filters that asked for it.
    pub fn on_timer<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>) {
        let now = turn.now;
        self.wake(turn, |wake| wake <= now);
    }

    /// Shows filters what they hold where this is so of the time that they want to be woken at.
    fn wake<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>, is_due: impl Fn(Instant) -> bool) {
        for stream in [Stream::First, Stream::Second] {
            let mut next = self.entrance(stream);
            while let Some(at) = next {
                if is_due(self.stages[at].wake(stream)) {
                    self.show(turn, stream, at, None);
                }
                next = self.after(stream, at);
            }
            self.settle(turn, stream);
        }
    }

    /// There is [room](super::Flow::room) again: shows filters that are to be woken some time what they hold.
    pub(crate) fn on_room<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>) {
        self.wake(turn, |wake| wake != Instant::FAR);
    }

    /// When [`StreamChain::on_timer`] is to be called next; [`Instant::FAR`] for never.
    pub fn deadline(&self) -> Instant {
        if self.quiet {
            return Instant::FAR;
        }
        let wakes = self.stages.iter().map(|stage| stage.wake(Stream::First).min(stage.wake(Stream::Second)));
        wakes.min().unwrap_or(Instant::FAR)
    }

    /// Reads something of every cache line that a chunk will need; what, means nothing.
    #[inline]
    pub(crate) fn warm(&self) -> u64 {
        let stages = self.stages.iter().fold(0, |sum, stage| sum ^ stage.name.len());
        (stages ^ self.limit as usize) as u64
    }

    /// Bytes of a stream that are held: they count against the sender's receive window.
    #[inline]
    pub fn held(&self, stream: Stream) -> usize {
        if self.quiet {
            return 0;
        }
        self.stages.iter().map(|stage| stage.held(stream)).sum()
    }

    /// Whether all filters have released this stream and nothing of it is held: bytes go straight through.
    pub const fn is_stream_released(&self, stream: Stream) -> bool {
        self.watching[stream as usize] == 0
    }

    /// Whether all filters have released both streams.
    pub const fn is_released(&self) -> bool {
        self.watching[0] == 0 && self.watching[1] == 0 && matches!(self.state, State::Open)
    }

    /// Whether one of its filters may answer in the server's place ([`StreamFilter::answers`]).
    pub const fn may_answer(&self) -> bool {
        self.answers
    }

    /// Whether a filter is to be heard by the client although no server is ([`StreamFilter::keeps_client`]).
    pub(crate) fn keeps_client(&self) -> bool {
        // What nobody looks at is for the server that there was.
        let may_choose = self.watching[0] > 0 || self.finished[0];
        // What it has said is still on its way to who would speak in its place.
        let mut behind = self.stages.iter().skip(self.speaker().map_or(0, |at| at + 1));
        self.state == State::Open
            && self.answers
            && may_choose
            && behind.all(|stage| stage.held(Stream::Second) == 0)
            && self.stages.iter().any(|stage| stage.filter.keeps_client())
    }

    /// The server failed, and will say nothing more. Answers whether a filter has something to say to the client in its place:
    /// then that is on its way out, as an answer that ends the flow.
    pub(crate) fn server_failed<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        reason: CloseReason,
    ) -> bool {
        if self.state != State::Open || self.finished[Stream::Second as usize] {
            return false;
        }
        let told = (0..self.stages.len()).rev().find(|&at| self.stages[at].server_failed(turn, reason));
        if let Some(at) = told {
            self.answer(turn, Stream::First, at, reason);
        }
        told.is_some()
    }

    /// The server has ended its stream, or failed, and [`StreamChain::keeps_client`]. What comes out for a server from here on is for
    /// another connection.
    pub(crate) fn server_left<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        reason: Option<CloseReason>,
    ) {
        // To filters before it, the one nearest to the server is the server.
        if let Some(at) = self.speaker() {
            self.forget_server();
            let is_shown = self.stages[at].server_left(turn, reason);
            let asked = std::mem::take(&mut turn.out.written.output);
            if !asked.is_empty() {
                self.feed(turn, Stream::First, self.after(Stream::First, at), Chunk::from_vec(asked));
            }
            for stream in [Stream::Second, Stream::First] {
                if is_shown && self.state == State::Open && self.stages[at].watches(stream) {
                    self.show(turn, stream, at, None);
                }
            }
        }
    }

    /// The stage that may speak in the server's place, and is the nearest to it.
    fn speaker(&self) -> Option<usize> {
        (0..self.stages.len()).rev().find(|&at| self.stages[at].filter.answers())
    }

    /// The server has gone, or is left: what filters hold between it and who spoke with it would be taken for words to the next one,
    /// or by it.
    fn forget_server(&mut self) {
        let behind = self.speaker().map_or(0, |at| at + 1);
        for stage in self.stages.iter_mut().skip(behind) {
            stage.forget(Stream::First);
            stage.forget(Stream::Second);
        }
    }

    /// The flow has ended: tells every filter.
    pub fn close(&mut self, flow: &Flow, summary: &Summary, services: &mut Services) {
        for stage in self.stages.iter_mut() {
            stage.filter.close(flow, summary, services);
        }
    }

    /// The stage that sees a stream first.
    fn entrance(&self, stream: Stream) -> Option<usize> {
        match stream {
            Stream::First => Some(0).filter(|_| !self.stages.is_empty()),
            Stream::Second => self.stages.len().checked_sub(1),
        }
    }

    /// The stage that sees a stream after stage `at`.
    fn after(&self, stream: Stream, at: usize) -> Option<usize> {
        match stream {
            Stream::First => Some(at + 1).filter(|&next| next < self.stages.len()),
            Stream::Second => at.checked_sub(1),
        }
    }

    /// The first stage from `at` on that watches the stream.
    fn watcher(&self, stream: Stream, mut at: Option<usize>) -> Option<usize> {
        while let Some(stage) = at {
            if self.stages[stage].watches(stream) {
                break;
            }
            at = self.after(stream, stage);
        }
        at
    }

    fn count_watching(&mut self) {
        self.watching = [Stream::First, Stream::Second]
            .map(|stream| self.stages.iter().filter(|stage| stage.watches(stream)).count() as u16);
    }

    /// Hands bytes to the stage `at`, or to the first one behind it that watches, or out.
    fn feed<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: Option<usize>,
        chunk: Chunk<F>,
    ) {
        // A stage further on may just have ended the flow.
        if !matches!(self.state, State::Open) && self.state != State::Answering(stream) {
            return;
        }
        match self.watcher(stream, at) {
            Some(at) => self.show(turn, stream, at, Some(chunk)),
            None => turn.out.stream(stream).push(chunk),
        }
    }

    /// Hands a stream's end to the stage `at`, or to the first one behind it that watches, or out.
    fn end<F: Frame>(&mut self, turn: &mut Turn<'_, Output<F>>, stream: Stream, at: Option<usize>) {
        if !matches!(self.state, State::Open) && self.state != State::Answering(stream) {
            return;
        }
        match self.watcher(stream, at) {
            Some(at) => {
                self.stages[at].end(stream);
                self.show(turn, stream, at, None);
            }
            None => turn.out.ended[stream as usize] = true,
        }
    }

    /// Shows a chunk to each filter that watches its stream, until one does not let it pass. Apart from what calls it, which is
    /// a loop with much to remember already.
    #[inline(never)]
    fn ask_watchers<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        chunk: &Chunk<F>,
    ) -> Option<Stop> {
        // What is for a server goes by the turn's output, where it may be another one than before.
        let detour = (self.answers && stream == Stream::First).then_some(Stop::Behind);
        // Without a walk through the stages, where there is no more than this one.
        if let Stages::One(stage) = &mut self.stages {
            let objection = stage.ask(turn, stream, Some(chunk));
            self.quiet &= stage.is_quiet();
            return objection.map(|shown| Stop::At(0, shown)).or(detour);
        }
        let mut next = self.watcher(stream, self.entrance(stream));
        while let Some(at) = next {
            if let Some(shown) = self.ask(turn, stream, at, Some(chunk)) {
                return Some(Stop::At(at, shown));
            }
            next = self.watcher(stream, self.after(stream, at));
        }
        if !self.quiet {
            // One filter may have given up a wake-up that another one's held bytes had to wait for.
            self.settle(turn, stream);
        }
        detour
    }

    /// Calls the filter of stage `at` and does what it says.
    fn show<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        chunk: Option<Chunk<F>>,
    ) {
        match (self.ask(turn, stream, at, chunk.as_ref()), chunk) {
            (Some(shown), chunk) => self.carry_out(turn, stream, at, shown, chunk),
            (None, Some(chunk)) => self.feed(turn, stream, self.after(stream, at), chunk),
            (None, None) => {}
        }
    }

    /// Calls the filter of stage `at`. Answers as [`Stage::ask`].
    fn ask<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        chunk: Option<&Chunk<F>>,
    ) -> Option<Shown> {
        let stage = &mut self.stages[at];
        let shown = stage.ask(turn, stream, chunk);
        self.quiet &= stage.is_quiet();
        shown
    }

    /// Does what the filter of stage `at` said about what it was shown.
    fn carry_out<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        shown: Shown,
        chunk: Option<Chunk<F>>,
    ) {
        let may_end = self.state == State::Open;
        let step = self.stages[at].carry_out(turn.flow, &mut turn.out.written, stream, shown, chunk, may_end);
        self.quiet = self.stages.iter().all(Stage::is_quiet);
        match step {
            Step::Go { passed, released, ended } => {
                if released || ended {
                    self.count_watching();
                }
                let next = self.after(stream, at);
                for chunk in passed.into_iter().flatten() {
                    self.feed(turn, stream, next, chunk);
                }
                if ended {
                    self.end(turn, stream, next);
                }
            }
            Step::Script { passed, ended } => self.play(turn, stream, at, passed, ended),
            Step::Reset(reason) => self.reset(turn, at, reason),
            Step::Answer(reason) => self.answer(turn, stream, at, reason),
            Step::Cut { passed, reason } => self.cut(turn, stream, at, passed, reason),
        }
    }

    /// Feeds what a script of the filter of stage `at` let out, and what it puts into the other stream.
    fn play<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        passed: Vec<Chunk<F>>,
        ended: bool,
    ) {
        let (back, again) = (std::mem::take(&mut turn.out.written.edits.back), turn.out.written.edits.again);
        if turn.flow.leaves_server {
            self.forget_server();
        }
        if ended {
            self.count_watching();
        }
        // Nothing can follow a stream's end.
        if self.stages[at].watches(!stream) {
            self.feed_shared(turn, !stream, at, back);
        }
        let next = self.after(stream, at);
        for chunk in passed {
            self.feed(turn, stream, next, chunk);
        }
        if ended {
            self.end(turn, stream, next);
        }
        if again && self.state == State::Open && self.stages[at].has_more(!stream) {
            self.show(turn, !stream, at, None);
        }
    }

    /// Feeds bytes that the filter of stage `at` has of its own.
    fn feed_shared<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        bytes: Vec<Bytes>,
    ) {
        let next = self.after(stream, at);
        for bytes in bytes.into_iter().filter(|bytes| !bytes.is_empty()) {
            self.feed(turn, stream, next, Chunk::from_shared(bytes));
        }
    }

    /// Hands on what was given for a ticket of the filter at this place, which may go on then.
    pub(crate) fn answered<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        place: u16,
        answer: Box<dyn Any + Send>,
    ) {
        let at = usize::from(place);
        if self.state != State::Open || at >= self.stages.len() {
            return;
        }
        let wants_more = self.stages[at].answered(turn, answer);
        for stream in [Stream::First, Stream::Second] {
            let stage = &self.stages[at];
            let is_wanted = wants_more && stream == Stream::First && stage.watches(stream);
            if self.state == State::Open && (is_wanted || stage.has_more(stream)) {
                self.show(turn, stream, at, None);
            }
            self.settle(turn, stream);
        }
    }

    fn reset<F>(&mut self, turn: &mut Turn<'_, Output<F>>, at: usize, reason: CloseReason) {
        name_verdict(&mut turn.flow.verdict, &self.stages[at].name);
        turn.out.outcome = Some(Outcome::Reset(reason));
        self.state = State::Over;
        for stage in self.stages.iter_mut() {
            stage.stop(Stream::First);
            stage.stop(Stream::Second);
        }
        self.count_watching();
    }

    fn answer<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        reason: CloseReason,
    ) {
        let back = !stream;
        if self.finished[back as usize] {
            return self.reset(turn, at, reason);
        }
        let answer = std::mem::take(&mut turn.out.written.edits.back);
        let end = Chunk::from_vec(std::mem::take(&mut turn.out.written.output));
        self.begin_last(turn, back, at, reason);
        self.feed_shared(turn, back, at, answer);
        let next = self.after(back, at);
        if !end.is_empty() {
            self.feed(turn, back, next, end);
        }
        self.end(turn, back, next);
    }

    fn cut<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        at: usize,
        passed: Vec<Chunk<F>>,
        reason: CloseReason,
    ) {
        self.begin_last(turn, stream, at, reason);
        let next = self.after(stream, at);
        for chunk in passed {
            self.feed(turn, stream, next, chunk);
        }
        self.end(turn, stream, next);
    }

    /// From now on nothing goes through but what the filter of stage `at` still lets out of this stream, which is the flow's
    /// end: through the stages between.
    fn begin_last<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        last: Stream,
        at: usize,
        reason: CloseReason,
    ) {
        if reason != CloseReason::Finished {
            name_verdict(&mut turn.flow.verdict, &self.stages[at].name);
        }
        turn.out.outcome = Some(Outcome::Answer { to: !last.enters(), reason });
        self.state = State::Answering(last);
        self.finished[last as usize] = true;
        for (place, stage) in self.stages.iter_mut().enumerate() {
            stage.stop(!last);
            let between = match last {
                Stream::First => place > at,
                Stream::Second => place < at,
            };
            if !between {
                stage.stop(last);
            }
        }
        self.count_watching();
    }

    /// Ends a flow that could only wait for ever: the held bytes close the sender's window, and no filter is to be woken.
    fn settle<F>(&mut self, turn: &mut Turn<'_, Output<F>>, stream: Stream) {
        if self.state != State::Open || self.watching[stream as usize] == 0 {
            return;
        }
        if self.held(stream) <= self.limit as usize
            || self.stages.iter().any(|stage| stage.wake(stream) != Instant::FAR)
        {
            return;
        }
        let largest = (0..self.stages.len()).max_by_key(|&at| self.stages[at].held(stream));
        turn.flow.verdict = Some("holds the whole receive window".into());
        self.reset(turn, largest.unwrap_or(0), CloseReason::FilterError);
    }
}

#[cfg(test)]
mod tests;
