//! What the screen shows, as answers and keys change it.

use core::ops::ControlFlow;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::look::Look;
use super::model::Model;
use super::view::{Shown, Sort};

/// What may happen.
#[derive(Debug)]
pub(super) enum News {
    /// An answer, or why there is none.
    Look(Result<Box<Look>, String>),
    Key(KeyEvent),
    /// What is shown has to be drawn anew.
    Resized,
    /// A signal, or the end of the terminal.
    End,
}

/// What is shown, and what the next rates are made with.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) shown: Shown,
    before: Option<Box<Look>>,
}

impl State {
    /// Answers whether there is more to show.
    pub(super) fn take(&mut self, news: News) -> ControlFlow<()> {
        match news {
            News::Look(Ok(look)) => {
                if !self.shown.paused {
                    self.shown.model = Some(Model::new(self.before.as_deref(), &look));
                }
                self.shown.away = None;
                self.before = Some(look);
            }
            // The last numbers stay, told as such; rates begin anew.
            News::Look(Err(reason)) => {
                self.shown.away = Some(reason);
                self.before = None;
            }
            News::Key(key) if key.kind != KeyEventKind::Release => return self.press(key),
            News::Key(_) | News::Resized => {}
            News::End => return ControlFlow::Break(()),
        }
        ControlFlow::Continue(())
    }

    fn press(&mut self, key: KeyEvent) -> ControlFlow<()> {
        let shown = &mut self.shown;
        match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => {
                return ControlFlow::Break(());
            }
            KeyCode::Esc if shown.help => shown.help = false,
            KeyCode::Char('q') | KeyCode::Esc => return ControlFlow::Break(()),
            KeyCode::Char('p' | ' ') => shown.paused = !shown.paused,
            KeyCode::Char('h' | '?') => shown.help = !shown.help,
            KeyCode::Char('r') => shown.sort = Sort::Rate,
            KeyCode::Char('b') => shown.sort = Sort::Bytes,
            KeyCode::Char('f') => shown.sort = Sort::Flows,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
