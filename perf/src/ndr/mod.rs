//! The search for the highest rates at which a device under test loses nothing (NDR), and little (PDR).
//!
//! In the manner of RFC 2544 section 26.1 and of MLRsearch (draft-ietf-bmwg-mlrsearch). [`Search`] names the rate of the next
//! trial and is told what came of it; it knows nothing of frames. [`run()`] has the trials run.

use pnat_shared::time::Duration;

mod run;
mod search;
pub(crate) mod trials;

pub use run::{FoundRate, GoalResult, NdrResult, Rates, TrialResult, find, run};
pub use search::{Found, Search, Step};
pub use trials::{FoundLine, Goal, Line, SearchResult};

/// What is searched for, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct Goals {
    /// Rates between which is searched, in frames per second.
    pub highest: f64,
    pub lowest: f64,
    /// The loss that is allowed at the partial-drop rate, from 0 to 1.
    pub partial_loss: f64,
    /// By how much the next rate above the one that is found is higher, as a share of it.
    pub width: f64,
    /// How long each trial takes.
    pub trial: Duration,
    /// Trials that a rate is judged by in the end: it is too high where more than half of them lose more than is allowed.
    pub trials: u32,
    /// Trials of the whole search.
    pub most_trials: u32,
}

impl Goals {
    /// The loss that is allowed, by goal, in the order of [`Found`]s: NDR, PDR.
    pub const fn losses(&self) -> [f64; 2] {
        [0.0, self.partial_loss]
    }
}
