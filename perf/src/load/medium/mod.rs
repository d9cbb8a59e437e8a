//! What a load goes through, by kind.

use std::sync::Arc;

use anyhow::{Result, bail};

use super::scenario::{MediumKind, Scenario, TcpScenario};
use super::tcp::{LocalTcp, TcpTester};
use super::trial::{Local, Progress, Tester};

mod dpdk;
mod memory;
mod wire;

pub use memory::MemoryMedium;
pub use wire::WireMedium;

/// Makes the medium of a scenario of connections, and lets `body` run trials on it.
pub fn with_duplex<T: Send>(
    scenario: &TcpScenario,
    progress: Arc<Progress>,
    body: impl FnOnce(&mut dyn TcpTester) -> Result<T> + Send,
) -> Result<T> {
    let load = &scenario.load;
    match &scenario.medium {
        MediumKind::Memory(memory) => body(&mut LocalTcp::new(MemoryMedium::new(memory), load, progress)),
        MediumKind::Wire(wire) => body(&mut LocalTcp::new(WireMedium::new(wire), load, progress)),
        MediumKind::Dpdk(_) => bail!("medium.type: connections do not go over DPDK ports yet"),
    }
}

/// Makes the scenario's medium, and lets `body` run trials on it.
pub fn with_medium<T: Send>(
    scenario: &Scenario,
    progress: Arc<Progress>,
    body: impl FnOnce(&mut dyn Tester) -> Result<T> + Send,
) -> Result<T> {
    match &scenario.medium {
        MediumKind::Memory(memory) => body(&mut Local { medium: MemoryMedium::new(memory), progress }),
        MediumKind::Wire(wire) => body(&mut Local { medium: WireMedium::new(wire), progress }),
        MediumKind::Dpdk(dpdk) => {
            let (_, largest) = scenario.content.sizes.extremes();
            dpdk::run(dpdk, largest, progress, body)
        }
    }
}
