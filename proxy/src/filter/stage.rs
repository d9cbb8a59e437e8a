//! One filter of a stream chain, with what it holds: shows it bytes and carries out its verdict on them.
//!
//! Runs on: proxy cores. Allocates: for held and edited bytes. Blocks: never.

use std::sync::Arc;

use pnat_shared::flow::Stream;
use pnat_shared::frame::Frame;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

use super::held::Held;
use super::{Call, Flow, StreamFilter, Verdict};
use crate::chunk::Chunk;

/// A wake-up comes no sooner than this after the call that asked for it.
pub(super) const SOONEST_WAKE: Duration = Duration::from_micros(50);

/// One filter of a chain.
pub(super) struct Stage {
    pub(super) name: Arc<str>,
    pub(super) filter: Box<dyn StreamFilter>,
    pub(super) halves: [Half; 2],
}

/// What a stage keeps for one stream.
#[derive(Debug)]
pub(super) struct Half {
    /// Whether the filter still sees the stream. I.e. false when released, or when the stream's end has gone on.
    pub(super) watching: bool,
    /// The stream's end has come in: nothing follows what is held.
    pub(super) ending: bool,
    pub(super) held: Held,
    /// When the filter is to be called again; [`Instant::FAR`] for never.
    pub(super) wake: Instant,
}

impl Half {
    const fn new(watching: bool) -> Self {
        Self { watching, ending: false, held: Held::new(), wake: Instant::FAR }
    }

    /// Forgets what is held: the filter sees no more of the stream.
    pub(super) fn stop(&mut self) {
        self.watching = false;
        self.wake = Instant::FAR;
        self.held.clear();
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
pub(super) struct Shown {
    /// Bytes that earlier verdicts had left.
    held: usize,
    /// The stream has ended.
    ending: bool,
    verdict: Verdict,
}

impl Shown {
    /// Whether all comes down to this chunk going on as it is, as nearly all chunks do.
    #[inline]
    pub(super) const fn passes<F: Frame>(&self, chunk: &Chunk<F>) -> bool {
        matches!(self.verdict, Verdict::Pass(count) if count >= chunk.len()) && self.held == 0 && !self.ending
    }
}

impl Stage {
    pub(super) fn new(name: Arc<str>, filter: Box<dyn StreamFilter>) -> Self {
        let halves = [Stream::First, Stream::Second].map(|stream| Half::new(filter.wants(stream)));
        Self { name, filter, halves }
    }

    /// Whether it holds nothing and is not to be woken.
    pub(super) fn is_quiet(&self) -> bool {
        self.halves.iter().all(|half| half.held.is_empty() && half.wake == Instant::FAR)
    }

    pub(super) const fn half(&self, stream: Stream) -> &Half {
        &self.halves[stream as usize]
    }

    pub(super) const fn half_mut(&mut self, stream: Stream) -> &mut Half {
        &mut self.halves[stream as usize]
    }

    /// Shows what is held and `chunk` to the filter.
    #[inline]
    pub(super) fn show<F: Frame>(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        chunk: Option<&Chunk<F>>,
    ) -> Shown {
        let half = &mut self.halves[stream as usize];
        let held = half.held.len();
        let verdict = match chunk {
            Some(chunk) if held == 0 => self.filter.data(call, stream, chunk.bytes(), 0, half.ending),
            _ => {
                if let Some(chunk) = chunk {
                    half.held.append(chunk.bytes());
                }
                self.filter.data(call, stream, half.held.bytes(), held, half.ending)
            }
        };
        half.wake = call.wake.map_or(Instant::FAR, |wake| wake.max(call.now + SOONEST_WAKE));
        Shown { held, ending: half.ending, verdict }
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
        let Shown { held, verdict, .. } = shown;
        let half = &mut self.halves[stream as usize];
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
        let let_out = if half.ending && half.wake == Instant::FAR { total } else { let_out };
        let replacement = match verdict {
            Verdict::Edit(_) if !output.is_empty() => Some(Chunk::from_vec(std::mem::take(output))),
            _ => None,
        };
        let [old, new] = half.split(chunk, held, edited, let_out);
        if may_end && half.held.len() > self.filter.budget() {
            flow.verdict = Some(format!("holds more than {} bytes", self.filter.budget()));
            return Step::Reset(CloseReason::FilterError);
        }
        let ended = half.ending && half.held.is_empty();
        let released = verdict == Verdict::Release;
        if released || ended {
            half.stop();
        }
        Step::Go { passed: [replacement, old, new], released, ended }
    }
}

impl Half {
    /// Cuts out what goes on unchanged, from `start` to `end` of the `before` held bytes and the chunk behind them, and keeps
    /// what follows. The chunk was appended to the held bytes unless there were none.
    fn split<F: Frame>(
        &mut self,
        chunk: Option<Chunk<F>>,
        before: usize,
        start: usize,
        end: usize,
    ) -> [Option<Chunk<F>>; 2] {
        let old = self.held.bytes().get(start..end.min(before)).filter(|old| !old.is_empty());
        let old = old.map(|old| Chunk::from_vec(old.to_vec()));
        let new = chunk.and_then(|mut chunk| {
            let end = end.saturating_sub(before);
            if before == 0 {
                self.held.append(&chunk.bytes()[end..]);
            }
            chunk.truncate(end);
            chunk.advance(start.saturating_sub(before));
            Some(chunk).filter(|chunk| !chunk.is_empty())
        });
        if before > 0 {
            self.held.advance(end);
        }
        [old, new]
    }
}
