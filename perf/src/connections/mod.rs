//! What a device under test bears of connections: how many new ones in a second ([`rate()`]), and how many at a time
//! ([`concurrent()`]).

mod concurrent;
mod rate;

pub use concurrent::{ConcurrentResult, StepResult, concurrent};
pub use rate::{FoundRate, GoalResult, RateResult, TrialResult, rate};
