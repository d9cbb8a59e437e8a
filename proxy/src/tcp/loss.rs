//! What a connection keeps once something was lost or came out of order: most connections never do.
//!
//! Runs on: proxy cores. Allocates: with the number of holes. Blocks: never.

use pnat_shared::wire::tcp::Seq;

use super::prr::Prr;
use super::rack::Rack;
use super::scoreboard::Scoreboard;
use super::undo::{Frto, Undo};

#[derive(Debug, Default)]
pub(super) struct Loss {
    pub(super) board: Scoreboard,
    pub(super) rack: Rack,
    /// Rules the window during fast recovery, where the algorithm asks for it.
    pub(super) prr: Option<Prr>,
    pub(super) undo: Undo,
    pub(super) frto: Frto,
    /// What lies before it was sent again after a timeout and may come twice.
    pub(super) repeated_until: Option<Seq>,
}

impl Loss {
    /// SND.UNA has advanced: forgets what lies too far back to be of any use, before sequence numbers wrap.
    pub(super) fn expire(&mut self, una: Seq) {
        self.undo.expire(una);
        self.repeated_until = self.repeated_until.filter(|until| !una.after(*until));
    }

    /// Whether nothing would be missed without it.
    pub(super) fn is_spent(&self) -> bool {
        self.board.is_clean() && self.rack.is_plain()
    }
}
