//! What a load goes through, by kind.

use std::sync::Arc;

use anyhow::Result;

use super::scenario::{MediumKind, Scenario, TcpScenario};
use super::tcp::{LocalTcp, TcpTester, client_sockets};
use super::trial::{Local, Progress, Tester};

mod dpdk;
mod memory;
mod neighbor;
pub mod tapped;
mod wire;

pub use memory::MemoryMedium;
pub use wire::WireMedium;

/// Largest frame of a connection, frame check sequence included.
const LARGEST: u16 = 1518;

/// Makes the scenario's medium, lets `trials` run trials on it, and `tell` what they have shown. Until it has told, the ports
/// stay open; with `hold`, until the device under test has closed its own: DPDK's memif may crash where it is polled while its
/// peer leaves, so the device has to leave first.
pub fn with_medium<T, R: Send>(
    scenario: &Scenario,
    progress: Arc<Progress>,
    hold: bool,
    trials: impl FnOnce(&mut dyn Tester) -> Result<T> + Send,
    tell: impl FnOnce(T) -> Result<R> + Send,
) -> Result<R> {
    match &scenario.medium {
        MediumKind::Memory(memory) => {
            tell(trials(&mut Local { medium: MemoryMedium::new(memory), progress })?)
        }
        MediumKind::Wire(wire) => tell(trials(&mut Local { medium: WireMedium::new(wire), progress })?),
        MediumKind::Dpdk(dpdk) => {
            let (_, largest) = scenario.content.sizes.extremes();
            dpdk::run(dpdk, largest, progress, hold, |remote| trials(remote), tell)
        }
    }
}

/// As [`with_medium`], for a scenario of connections.
pub fn with_duplex<T, R: Send>(
    scenario: &TcpScenario,
    progress: Arc<Progress>,
    hold: bool,
    trials: impl FnOnce(&mut dyn TcpTester) -> Result<T> + Send,
    tell: impl FnOnce(T) -> Result<R> + Send,
) -> Result<R> {
    let load = &scenario.load;
    match &scenario.medium {
        MediumKind::Memory(memory) => {
            tell(trials(&mut LocalTcp::new(MemoryMedium::new(memory), load, progress))?)
        }
        MediumKind::Wire(wire) => tell(trials(&mut LocalTcp::new(WireMedium::new(wire), load, progress))?),
        MediumKind::Dpdk(dpdk) => {
            let trials = |remote: &mut dpdk::Remote<_>| {
                trials(&mut dpdk::TcpRemote { remote, sockets: client_sockets(load) })
            };
            dpdk::run(dpdk, LARGEST, progress, hold, trials, tell)
        }
    }
}
