//! Wires ports, workers, proxy cores and control together and runs them.

use std::path::Path;

use pnat_shared::config::Config;
use thiserror::Error;

/// Why a gateway did not start.
#[derive(Debug, Error)]
pub enum LaunchError {
    #[error("this build has no data path: nothing was started")]
    NoDataPath,
}

/// Runs the gateway until it is told to stop.
pub fn run(_config: Config, _path: &Path) -> Result<(), LaunchError> {
    Err(LaunchError::NoDataPath)
}
