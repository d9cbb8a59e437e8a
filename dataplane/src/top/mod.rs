//! `pnat top`: a live gateway's numbers on a terminal, anew each second.
//!
//! ```text
//!   asking thread    look  --- answers --.
//!   keys thread      keys, new sizes ----+--> this loop: model -> view -> terminal
//!   signals thread   SIGTERM, SIGHUP ----'
//! ```
//!
//! What is shown is a function of two answers ([`model`]) and of what the keys have chosen ([`view`]); only [`screen`] knows
//! that there is a terminal.

use std::io;

use pnat_shared::time::Duration;
use thiserror::Error;

use crate::control::client::{Client, ClientError};
use look::Asker;
use model::Model;
use view::Shown;

mod look;
mod model;
mod screen;
mod section;
mod state;
mod view;
#[cfg(test)]
mod tests;

pub use screen::run;

/// Columns of a frame that is printed where no terminal says how wide it is.
const PLAIN_WIDTH: u16 = 80;

/// Why there is nothing to see, or no longer.
#[derive(Debug, Error)]
pub enum TopError {
    #[error("standard output is not a terminal; --once prints a frame of plain text")]
    NoTerminal,
    #[error("the terminal fails: {0}")]
    Terminal(io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// One frame as plain text, with the rates of one interval.
pub fn once(client: Client, interval: Duration) -> Result<String, TopError> {
    let mut asker = Asker::new(client, interval);
    let before = asker.look()?;
    // Nothing is sent: what is waited for is the time.
    let (_silent, silence) = crossbeam_channel::bounded::<()>(0);
    let _ = silence.recv_timeout(interval);
    let after = asker.look()?;
    let shown = Shown { model: Some(Model::new(Some(&before), &after)), ..Shown::default() };
    Ok(view::plain(&shown, PLAIN_WIDTH))
}
