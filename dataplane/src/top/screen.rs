//! The terminal: what it is told, what it says, and that it gets back what it was.

use std::io::{self, IsTerminal as _};
use std::thread;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use pnat_shared::time::Duration;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event};
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use super::TopError;
use super::look::Asker;
use super::state::{News, State};
use super::view;
use crate::control::client::Client;

/// News that may wait to be shown. Who brings more waits too.
const WAITING: usize = 16;

/// Shows the gateway until a key or a signal ends it. The terminal is as before then, also after a panic.
pub fn run(client: Client, interval: Duration) -> Result<(), TopError> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        return Err(TopError::NoTerminal);
    }
    let (sender, news) = bounded(WAITING);
    end_on_signal(sender.clone()).map_err(TopError::Terminal)?;
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let started = listen_to_keys(sender.clone()).and_then(|()| ask(client, interval, sender));
    let shown = started.and_then(|()| show(&mut terminal, &news));
    // The threads end with the process: there is nothing that they would have to put in order.
    ratatui::try_restore().and(shown).map_err(TopError::Terminal)
}

fn show(terminal: &mut DefaultTerminal, news: &Receiver<News>) -> io::Result<()> {
    let mut state = State::default();
    loop {
        terminal.draw(|frame| {
            let area = frame.area();
            view::draw(&state.shown, area, frame.buffer_mut());
        })?;
        let Ok(next) = news.recv() else { return Ok(()) };
        // What has come meanwhile is drawn at once.
        for next in std::iter::once(next).chain(news.try_iter()) {
            if state.take(next).is_break() {
                return Ok(());
            }
        }
    }
}

/// Ends the view with the thread that it lives by, should it end, even by a panic.
struct EndWith(Sender<News>);

impl Drop for EndWith {
    fn drop(&mut self) {
        // Nobody listens where the view has ended before.
        let _ = self.0.send(News::End);
    }
}

fn ask(client: Client, interval: Duration, sender: Sender<News>) -> io::Result<()> {
    let work = move || {
        let _end = EndWith(sender.clone());
        let mut asker = Asker::new(client, interval);
        // Nothing is sent: what is waited for is the time.
        let (_silent, silence) = bounded::<()>(0);
        loop {
            let look = asker.look().map(Box::new).map_err(|error| error.to_string());
            if sender.send(News::Look(look)).is_err() {
                return;
            }
            let Err(RecvTimeoutError::Timeout) = silence.recv_timeout(interval) else { return };
        }
    };
    thread::Builder::new().name("ask".to_owned()).spawn(work).map(drop)
}

fn listen_to_keys(sender: Sender<News>) -> io::Result<()> {
    let work = move || {
        let _end = EndWith(sender.clone());
        while let Ok(event) = event::read() {
            let news = match event {
                Event::Key(key) => News::Key(key),
                Event::Resize(..) => News::Resized,
                _ => continue,
            };
            if sender.send(news).is_err() {
                return;
            }
        }
    };
    thread::Builder::new().name("keys".to_owned()).spawn(work).map(drop)
}

/// SIGINT too: it comes by `kill`, as the terminal tells Ctrl-C as a key.
fn end_on_signal(sender: Sender<News>) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (mut terminate, mut interrupt, mut hangup) = {
        let _guard = runtime.enter();
        let caught = |kind| signal(kind);
        (caught(SignalKind::terminate())?, caught(SignalKind::interrupt())?, caught(SignalKind::hangup())?)
    };
    let work = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        });
        let _ = sender.send(News::End);
    };
    thread::Builder::new().name("signals".to_owned()).spawn(work).map(drop)
}
