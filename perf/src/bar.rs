//! The progress bar, on standard error where that is a terminal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use pnat_shared::time::Duration;

use crate::load::result::pps;
use crate::load::trial::Progress;

const REDRAW: Duration = Duration::from_millis(100);

/// Drawn by a thread of its own for as long as the value lives, so that the generator's core only counts.
#[derive(Debug)]
pub(crate) struct Bar {
    bar: ProgressBar,
    is_over: Arc<AtomicBool>,
    drawing: Option<JoinHandle<()>>,
}

impl Bar {
    /// For trials of frames.
    pub(crate) fn new(progress: Arc<Progress>) -> Self {
        Self::telling(progress, |sent, received, rate| {
            format!("{sent} sent ({}), {} under way or lost", pps(rate), sent.saturating_sub(received))
        })
    }

    /// For trials of connections.
    pub(crate) fn of_connections(progress: Arc<Progress>) -> Self {
        Self::telling(progress, |opened, ended, rate| {
            format!("{opened} connections ({rate:.0} cps), {} under way", opened.saturating_sub(ended))
        })
    }

    /// What was sent, what has come of it, and what was sent per second is told as `words` has it.
    fn telling(progress: Arc<Progress>, words: fn(u64, u64, f64) -> String) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{prefix} {wide_bar} {msg}");
        bar.set_style(style.expect("invariant: the template is well formed"));
        let is_over = Arc::new(AtomicBool::new(false));
        let drawing = (!bar.is_hidden()).then(|| {
            let (bar, is_over) = (bar.clone(), is_over.clone());
            thread::spawn(move || draw(&bar, &progress, words, &is_over))
        });
        Self { bar, is_over, drawing }
    }

    /// The bar begins anew, for something that takes so long.
    pub(crate) fn begin(&self, what: String, duration: Duration) {
        self.bar.set_length(duration.as_nanos() as u64);
        self.bar.set_prefix(what);
    }
}

#[expect(clippy::disallowed_methods, reason = "a tool's thread that has nothing else to do")]
fn draw(bar: &ProgressBar, progress: &Progress, words: fn(u64, u64, f64) -> String, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let (sent, received) = (progress.sent.value(), progress.received.value());
        let elapsed = progress.elapsed.value();
        bar.set_position(elapsed.min(bar.length().unwrap_or(0)));
        let rate = sent as f64 / (elapsed.max(1) as f64 / 1e9);
        bar.set_message(words(sent, received, rate));
        thread::sleep(REDRAW);
    }
    bar.finish_and_clear();
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(drawing) = self.drawing.take() {
            // A bar that panicked has nothing more to say.
            let _ = drawing.join();
        }
    }
}
