//! The rate that other rates are parts of.

use std::fs;
use std::path::Path;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::{MethodError, Watch};
use crate::load::result::pps;
use crate::load::{Scenario, Tester};
use crate::ndr::{self, GoalResult, NdrResult};

/// What a device under test was found to bear, or is said to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// `NDR`; `PDR` where no rate is without loss; `rate` where it was given.
    pub of: String,
    /// Per second.
    pub frames: f64,
}

impl Reference {
    /// What `pnat-perf ndr` has written.
    pub fn read(file: &Path) -> Result<Self, MethodError> {
        let text =
            fs::read(file).map_err(|source| MethodError::Unreadable { file: file.to_owned(), source })?;
        let result: NdrResult = serde_json::from_slice(&text)
            .map_err(|source| MethodError::NoNdr { file: file.to_owned(), source })?;
        Self::of(&result.goals).ok_or_else(|| MethodError::NoRate { file: file.to_owned() })
    }

    /// Searches it.
    pub fn search(scenario: &Scenario, tester: &mut dyn Tester, watch: Watch<'_>) -> Result<Self> {
        let name = &scenario.name;
        let rates = ndr::find(scenario, tester, |number, rate, duration| {
            watch(format!("{name} trial {number} at {}", pps(rate)), duration);
        })?;
        Self::of(&rates.goals).ok_or_else(|| anyhow!("even the lowest rate is too high (search.lowest)"))
    }

    fn of(goals: &[GoalResult]) -> Option<Self> {
        goals.iter().find_map(|goal| {
            let found = goal.found.as_ref()?;
            Some(Self { of: goal.name.clone(), frames: found.frames })
        })
    }
}

/// As in `90 % of 4.100 Mpps (NDR)`.
impl core::fmt::Display for Reference {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({})", pps(self.frames), self.of)
    }
}
