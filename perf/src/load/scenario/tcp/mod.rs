//! Scenarios of connections (`kind = "tcp"`): what an operator wrote, and what it means.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use pnat_shared::config::ConfigError;
use pnat_shared::time::Duration;

use super::MediumKind;
use crate::load::result::Provenance;
use crate::load::tcp::{TcpLoad, TcpTrial};
use crate::ndr::Goals;

mod raw;
mod resolve;
#[cfg(test)]
mod tests;

/// Connections, and the device under test that they go through.
#[derive(Clone, Debug)]
pub struct TcpScenario {
    pub name: String,
    pub file: PathBuf,
    /// The file, word for word.
    pub text: String,
    pub load: TcpLoad,
    pub duration: Duration,
    /// How long the same load runs before, uncounted; zero: not at all.
    pub warm_up: Duration,
    /// How long connections may take to come to their end.
    pub drain: Duration,
    pub medium: MediumKind,
    /// How the highest rate of connections is searched.
    pub search: Goals,
}

/// What a command cannot do without.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Needs {
    /// A class that has a rate.
    Rate,
    /// A class that is concurrent.
    Concurrent,
}

impl TcpScenario {
    /// Reads and checks `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &super::read(file)?)
    }

    /// As [`TcpScenario::load`], for something that needs connections of this kind.
    pub fn load_with(file: &Path, needs: Needs) -> Result<Self, ConfigError> {
        resolve::resolve(file, &super::read(file)?, Some(needs))
    }

    /// As [`TcpScenario::load`], with the text of `file` given.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        resolve::resolve(file, text, None)
    }

    /// Of a run by this process, that began at `started`.
    pub fn provenance(&self, started: SystemTime) -> Provenance {
        Provenance::of((&self.name, &self.file, &self.text), started)
    }

    /// The scenario's load for so long.
    pub fn trial(&self, run: u16, duration: Duration) -> TcpTrial {
        TcpTrial { run, load: self.load.clone(), duration, drain: self.drain }
    }
}
