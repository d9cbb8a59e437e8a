//! Scenarios of connections (`kind = "tcp"`): what an operator wrote, and what it means.

use std::path::{Path, PathBuf};

use pnat_shared::config::ConfigError;
use pnat_shared::time::Duration;

use super::MediumKind;
use crate::load::tcp::{TcpLoad, TcpTrial};

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
}

impl TcpScenario {
    /// Reads and checks `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &super::read(file)?)
    }

    /// As [`TcpScenario::load`], with the text of `file` given.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        resolve::resolve(file, text)
    }

    /// The scenario's load for so long.
    pub fn trial(&self, run: u16, duration: Duration) -> TcpTrial {
        TcpTrial { run, load: self.load.clone(), duration, drain: self.drain }
    }
}
