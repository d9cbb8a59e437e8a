//! One filter of a stream chain, with what it holds: shows it bytes and carries out its verdict on them.
//!
//! Runs on: proxy cores. Allocates: for held and edited bytes. Blocks: never.

use std::ops::{Deref, DerefMut};
use std::slice;
use std::sync::Arc;

use pnat_shared::flow::Stream;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::held::Held;
use super::{Call, Flow, Output, StreamFilter, Turn, Verdict};
use crate::chunk::Chunk;

/// A wake-up comes no sooner than this after the call that asked for it.
pub(super) const SOONEST_WAKE: Duration = Duration::from_micros(50);

/// One filter of a chain. Small, because a segment needs it: what a filter waits with, and for, lies apart.
pub(super) struct Stage {
    pub(super) name: Arc<str>,
    pub(super) filter: Box<dyn StreamFilter>,
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
    Reset(CloseReason),
    /// The answer is in the filter's output.
    Answer(CloseReason),
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
    pub(super) fn new(name: Arc<str>, filter: Box<dyn StreamFilter>) -> Self {
        let watching = [Stream::First, Stream::Second].map(|stream| filter.wants(stream));
        Self { name, filter, watching, ending: [false; 2], waiting: None }
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

    /// The stream's end has come in.
    pub(super) const fn end(&mut self, stream: Stream) {
        self.ending[stream as usize] = true;
    }

    /// Forgets what is held: the filter sees no more of the stream.
    pub(super) fn stop(&mut self, stream: Stream) {
        self.watching[stream as usize] = false;
        if let Some(waiting) = &mut self.waiting {
            waiting[stream as usize] = Waiting::new();
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
        let output = &mut turn.out.written;
        output.clear();
        let mut call =
            Call { now: turn.now, flow: turn.flow, services: turn.services, output, wake: &mut wake };
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
        output: &mut Vec<u8>,
        stream: Stream,
        shown: Shown,
        chunk: Option<Chunk<F>>,
        may_end: bool,
    ) -> Step<F> {
        let Shown { held, ending, verdict } = shown;
        let total = held + chunk.as_ref().map_or(0, Chunk::len);
        // `edited` bytes are replaced, those from there to `let_out` go on unchanged, those behind are held.
        let (edited, let_out) = match verdict {
            Verdict::Pass(count) => (0, count.min(total)),
            Verdict::Edit(count) => (count.min(total), count.min(total)),
            Verdict::Release => (0, total),
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
        let held = self.held(stream);
        if may_end && held > self.filter.budget() {
            flow.verdict = Some(format!("holds more than {} bytes", self.filter.budget()));
            return Step::Reset(CloseReason::FilterError);
        }
        let ended = ending && held == 0;
        let released = verdict == Verdict::Release;
        if released || ended {
            self.stop(stream);
        }
        Step::Go { passed: [replacement, old, new], released, ended }
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
