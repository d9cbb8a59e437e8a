//! One filter of a stream chain, with what it holds: shows it bytes and carries out its verdict on them.
//!
//! Runs on: proxy cores. Allocates: for held and edited bytes. Blocks: never.

use std::any::Any;
use std::ops::{Deref, DerefMut, Range};
use std::slice;
use std::sync::Arc;

use pnat_shared::flow::Stream;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::chain::Written;
use super::held::Held;
use super::{Call, Edits, Flow, Output, Piece, StreamFilter, Turn, Verdict};
use crate::chunk::Chunk;

/// A wake-up comes no sooner than this after the call that asked for it.
pub(super) const SOONEST_WAKE: Duration = Duration::from_micros(50);

/// One filter of a chain. Small, because a segment needs it: what a filter waits with, and for, lies apart.
pub(super) struct Stage {
    pub(super) name: Arc<str>,
    pub(super) filter: Box<dyn StreamFilter>,
    /// Its place in the chain.
    place: u16,
    /// Per stream: whether the filter still sees it. I.e. false when released, or when the stream's end has gone on.
    watching: [bool; 2],
    /// Per stream: its end has come in, so nothing follows what is held.
    ending: [bool; 2],
    /// `None` until the filter first holds something or asks to be woken, which most never do.
    waiting: Option<Box<[Waiting; 2]>>,
}

/// What a stage keeps for one stream.
#[derive(Debug)]
struct Waiting {
    held: Held,
    /// When the filter is to be called again; [`Instant::FAR`] for never.
    wake: Instant,
}

impl Waiting {
    const fn new() -> Self {
        Self { held: Held::new(), wake: Instant::FAR }
    }
}

/// What comes of one call of a filter.
pub(super) enum Step<F> {
    Go {
        /// What goes on, in order: an edit's output, bytes that were held, bytes of the new chunk.
        passed: [Option<Chunk<F>>; 3],
        released: bool,
        /// The stream's end goes on, too.
        ended: bool,
    },
    /// What a script lets out, in order.
    Script {
        passed: Vec<Chunk<F>>,
        ended: bool,
    },
    Reset(CloseReason),
    /// The answer is in the filter's output.
    Answer(CloseReason),
    /// What a script lets out, and then the stream's end.
    Cut {
        passed: Vec<Chunk<F>>,
        reason: CloseReason,
    },
}

/// A filter's verdict, and on what.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shown {
    /// Bytes that earlier verdicts had left.
    held: usize,
    /// The stream has ended.
    ending: bool,
    verdict: Verdict,
}

impl Shown {
    /// Whether all comes down to this chunk going on as it is.
    const fn passes<F: Frame>(&self, chunk: &Chunk<F>) -> bool {
        matches!(self.verdict, Verdict::Pass(count) if count >= chunk.len()) && self.held == 0 && !self.ending
    }
}

impl Stage {
    pub(super) fn new(place: u16, name: Arc<str>, filter: Box<dyn StreamFilter>) -> Self {
        let watching = [Stream::First, Stream::Second].map(|stream| filter.wants(stream));
        Self { name, filter, place, watching, ending: [false; 2], waiting: None }
    }

    /// Whether the filter still sees a stream.
    pub(super) const fn watches(&self, stream: Stream) -> bool {
        self.watching[stream as usize]
    }

    /// Bytes of a stream that are held.
    pub(super) fn held(&self, stream: Stream) -> usize {
        self.waiting.as_ref().map_or(0, |waiting| waiting[stream as usize].held.len())
    }

    /// When the filter is to be called again for a stream; [`Instant::FAR`] for never.
    pub(super) fn wake(&self, stream: Stream) -> Instant {
        self.waiting.as_ref().map_or(Instant::FAR, |waiting| waiting[stream as usize].wake)
    }

    /// Whether it holds nothing and is not to be woken.
    pub(super) fn is_quiet(&self) -> bool {
        let is_quiet = |waiting: &Waiting| waiting.held.is_empty() && waiting.wake == Instant::FAR;
        self.waiting.as_ref().is_none_or(|waiting| waiting.iter().all(is_quiet))
    }

    /// Whether something of a stream is left that the filter could be shown again: bytes, or the end.
    pub(super) fn has_more(&self, stream: Stream) -> bool {
        self.watches(stream) && (self.held(stream) > 0 || self.ending[stream as usize])
    }

    /// The stream's end has come in.
    pub(super) const fn end(&mut self, stream: Stream) {
        self.ending[stream as usize] = true;
    }

    /// Forgets what is held: the filter sees no more of the stream.
    pub(super) fn stop(&mut self, stream: Stream) {
        self.watching[stream as usize] = false;
        self.forget(stream);
    }

    /// Forgets what is held: nobody is there any more whom it is for. An end behind it is next then.
    pub(super) fn forget(&mut self, stream: Stream) {
        let is_last = self.watches(stream) && self.ending[stream as usize];
        if let Some(waiting) = &mut self.waiting {
            let wake = if is_last { Instant::ZERO } else { Instant::FAR };
            waiting[stream as usize] = Waiting { wake, ..Waiting::new() };
        }
    }

    /// Shows what is held and `chunk` to the filter. Answers `None` where all comes down to this chunk going on as it is, as
    /// nearly always: then little more is done than the filter called, and a call of this would be a third of it.
    #[inline(always)]
    pub(super) fn ask<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        stream: Stream,
        chunk: Option<&Chunk<F>>,
    ) -> Option<Shown> {
        let ending = self.ending[stream as usize];
        let mut wake = None;
        let mut call = call(turn, self.place, &mut wake);
        let shown = match chunk {
            Some(chunk) if self.waiting.is_none() => {
                let verdict = self.filter.data(&mut call, stream, chunk.bytes(), 0, ending);
                if matches!(verdict, Verdict::Pass(count) if count >= chunk.len())
                    && wake.is_none()
                    && !ending
                {
                    return None;
                }
                Shown { held: 0, ending, verdict }
            }
            _ => self.show_all(&mut call, stream, chunk),
        };
        if wake.is_some() || self.waiting.is_some() {
            let wake = wake.map_or(Instant::FAR, |wake| wake.max(turn.now + SOONEST_WAKE));
            self.waiting(stream).wake = wake;
        }
        Some(shown).filter(|shown| !chunk.is_some_and(|chunk| shown.passes(chunk)))
    }

    /// Hands on what was given for one of its filter's tickets; answers whether it is to be shown the first stream in any case.
    pub(super) fn answered<F: Frame>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        answer: Box<dyn Any + Send>,
    ) -> bool {
        let mut wake = None;
        self.filter.answered(&mut call(turn, self.place, &mut wake), answer);
        wake.is_some()
    }

    /// Asks the filter what the client is to hear of a server that failed: it is in the turn's output where the answer is true.
    pub(super) fn server_failed<F>(&mut self, turn: &mut Turn<'_, Output<F>>, reason: CloseReason) -> bool {
        self.filter.server_failed(&mut call(turn, self.place, &mut None), reason)
    }

    /// Tells the filter that the server has gone. What it has for another one is in the turn's output; answers whether it is to be
    /// shown what it holds.
    pub(super) fn server_left<F>(
        &mut self,
        turn: &mut Turn<'_, Output<F>>,
        reason: Option<CloseReason>,
    ) -> bool {
        self.filter.server_left(&mut call(turn, self.place, &mut None), reason)
    }

    /// Shows `chunk` behind what is held, where something may be. Apart, so that what is seldom needed costs nothing.
    #[inline(never)]
    fn show_all<F: Frame>(&mut self, call: &mut Call<'_>, stream: Stream, chunk: Option<&Chunk<F>>) -> Shown {
        let (ending, held) = (self.ending[stream as usize], self.held(stream));
        let bytes = match (chunk, &mut self.waiting) {
            (Some(chunk), _) if held == 0 => chunk.bytes(),
            (_, None) => &[],
            (chunk, Some(waiting)) => {
                let all = &mut waiting[stream as usize].held;
                all.append(chunk.map_or(&[], Chunk::bytes));
                all.bytes()
            }
        };
        Shown { held, ending, verdict: self.filter.data(call, stream, bytes, held, ending) }
    }

    /// Carries out the verdict on what was `shown`, `chunk` behind what was held. `output` is what the filter wrote. Where
    /// the filter may not end the flow, a verdict that does means pass all.
    pub(super) fn carry_out<F: Frame>(
        &mut self,
        flow: &mut Flow,
        written: &mut Written,
        stream: Stream,
        shown: Shown,
        chunk: Option<Chunk<F>>,
        may_end: bool,
    ) -> Step<F> {
        let Shown { held, ending, verdict } = shown;
        let Written { output, edits: Edits { script, .. } } = written;
        let total = held + chunk.as_ref().map_or(0, Chunk::len);
        // `edited` bytes are replaced, those from there to `let_out` go on unchanged, those behind are held.
        let (edited, let_out) = match verdict {
            Verdict::Pass(count) => (0, count.min(total)),
            Verdict::Edit(count) => (count.min(total), count.min(total)),
            Verdict::Release => (0, total),
            Verdict::Script => return self.play(flow, script, stream, shown, chunk, may_end),
            Verdict::Cut(reason) => {
                return match self.play(flow, script, stream, shown, chunk, may_end) {
                    Step::Script { passed, .. } if may_end => Step::Cut { passed, reason },
                    step => step,
                };
            }
            Verdict::Reset(reason) if may_end => return Step::Reset(reason),
            Verdict::Answer(reason) if may_end => return Step::Answer(reason),
            Verdict::Reset(_) | Verdict::Answer(_) => (0, total),
        };
        let let_out = if ending && self.wake(stream) == Instant::FAR { total } else { let_out };
        let replacement = match verdict {
            Verdict::Edit(_) if !output.is_empty() => Some(Chunk::from_vec(std::mem::take(output))),
            _ => None,
        };
        let [old, new] = self.split(stream, chunk, held, edited, let_out);
        if may_end && self.is_over_budget(flow, stream) {
            return Step::Reset(CloseReason::FilterError);
        }
        let ended = ending && self.is_done(stream);
        let released = verdict == Verdict::Release;
        if released || ended {
            self.stop(stream);
        }
        Step::Go { passed: [replacement, old, new], released, ended }
    }

    /// Whether nothing of a stream that has ended is left with the filter: neither bytes nor some that it is yet to write.
    fn is_done(&self, stream: Stream) -> bool {
        self.held(stream) == 0 && self.wake(stream) == Instant::FAR
    }

    fn is_over_budget(&self, flow: &mut Flow, stream: Stream) -> bool {
        let is_over = self.held(stream) > self.filter.budget();
        if is_over {
            flow.verdict = Some(format!("holds more than {} bytes", self.filter.budget()).into());
        }
        is_over
    }

    /// Carries out a script.
    fn play<F: Frame>(
        &mut self,
        flow: &mut Flow,
        script: &mut Vec<Piece>,
        stream: Stream,
        shown: Shown,
        chunk: Option<Chunk<F>>,
        may_end: bool,
    ) -> Step<F> {
        let Shown { held: before, ending, .. } = shown;
        let total = before + chunk.as_ref().map_or(0, Chunk::len);
        let covered: usize = script.iter().map(Piece::taken).sum();
        if ending && self.wake(stream) == Instant::FAR && covered < total {
            script.push(Piece::Pass(total - covered));
        }
        // A frame cannot be in two places: the longest piece of the chunk that passes gets it.
        let mut at = 0;
        let places = script.iter().map(|piece| {
            let start = at;
            at = (at + piece.taken()).min(total);
            start..at
        });
        let places: Vec<_> = places.collect();
        let in_chunk = |place: &Range<usize>| place.end - place.start.max(before).min(place.end);
        let passes = |(_, piece): &(usize, &Piece)| matches!(piece, Piece::Pass(_));
        let longest =
            script.iter().enumerate().filter(passes).max_by_key(|(index, _)| in_chunk(&places[*index]));
        let longest = longest.map(|(index, _)| index);
        let mut passed = Vec::with_capacity(script.len() + 1);
        let mut frame_at = None;
        for (index, piece) in script.drain(..).enumerate() {
            let Range { start, end } = places[index].clone();
            match piece {
                Piece::Skip(_) => {}
                Piece::Insert(bytes) => passed.push(Chunk::from_shared(bytes)),
                Piece::Pass(_) => {
                    if start < before {
                        let held =
                            self.waiting.as_ref().map_or(&[][..], |all| all[stream as usize].held.bytes());
                        passed.push(Chunk::from_vec(held[start..end.min(before)].to_vec()));
                    }
                    let (start, end) = (start.max(before) - before, end.max(before) - before);
                    match &chunk {
                        Some(_) if longest == Some(index) => frame_at = Some((passed.len(), start, end)),
                        Some(chunk) => passed.push(Chunk::from_vec(chunk.bytes()[start..end].to_vec())),
                        None => {}
                    }
                }
            }
        }
        if before > 0 {
            self.waiting(stream).held.advance(at);
        } else if let Some(chunk) = chunk.as_ref().filter(|chunk| at < chunk.len()) {
            self.waiting(stream).held.append(&chunk.bytes()[at..]);
        }
        if let (Some((index, start, end)), Some(mut chunk)) = (frame_at, chunk) {
            chunk.truncate(end);
            chunk.advance(start);
            passed.insert(index, chunk);
        }
        passed.retain(|chunk| !chunk.is_empty());
        if may_end && self.is_over_budget(flow, stream) {
            return Step::Reset(CloseReason::FilterError);
        }
        let ended = ending && self.is_done(stream);
        if ended {
            self.stop(stream);
        }
        Step::Script { passed, ended }
    }

    /// Cuts out what goes on unchanged, from `start` to `end` of the `before` held bytes and the chunk behind them, and keeps
    /// what follows. The chunk was appended to the held bytes unless there were none.
    fn split<F: Frame>(
        &mut self,
        stream: Stream,
        chunk: Option<Chunk<F>>,
        before: usize,
        start: usize,
        end: usize,
    ) -> [Option<Chunk<F>>; 2] {
        let mut old = None;
        if before > 0 {
            let held = &mut self.waiting(stream).held;
            let bytes = held.bytes().get(start..end.min(before)).filter(|old| !old.is_empty());
            old = bytes.map(|old| Chunk::from_vec(old.to_vec()));
            held.advance(end);
        }
        let new = chunk.and_then(|mut chunk| {
            let end = end.saturating_sub(before);
            if before == 0 && end < chunk.len() {
                self.waiting(stream).held.append(&chunk.bytes()[end..]);
            }
            chunk.truncate(end);
            chunk.advance(start.saturating_sub(before));
            Some(chunk).filter(|chunk| !chunk.is_empty())
        });
        [old, new]
    }

    fn waiting(&mut self, stream: Stream) -> &mut Waiting {
        &mut self.waiting.get_or_insert_with(|| Box::new([const { Waiting::new() }; 2]))[stream as usize]
    }
}

/// A call of the filter of this stage.
#[inline(always)]
fn call<'a, F>(turn: &'a mut Turn<'_, Output<F>>, place: u16, wake: &'a mut Option<Instant>) -> Call<'a> {
    let Written { output, edits } = &mut turn.out.written;
    output.clear();
    edits.clear();
    Call { now: turn.now, flow: turn.flow, services: turn.services, output, wake, edits, place }
}

/// The stages of a chain, one after the other. Most chains have one at most, which lies in the chain itself: in cache lines of
/// its pair that a segment needs anyway.
pub(super) enum Stages {
    One(Stage),
    Any(Vec<Stage>),
}

impl FromIterator<Stage> for Stages {
    fn from_iter<I: IntoIterator<Item = Stage>>(stages: I) -> Self {
        let mut stages = stages.into_iter();
        match (stages.next(), stages.next()) {
            (Some(stage), None) => Self::One(stage),
            (first, second) => Self::Any(first.into_iter().chain(second).chain(stages).collect()),
        }
    }
}

impl Deref for Stages {
    type Target = [Stage];

    #[inline]
    fn deref(&self) -> &[Stage] {
        match self {
            Self::One(stage) => slice::from_ref(stage),
            Self::Any(stages) => stages,
        }
    }
}

impl DerefMut for Stages {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Stage] {
        match self {
            Self::One(stage) => slice::from_mut(stage),
            Self::Any(stages) => stages,
        }
    }
}
