//! Scenarios: what an operator wrote about a load, and what it means.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use pnat_shared::config::{Action, ConfigError};
use pnat_shared::testkit::LinkSpec;
use pnat_shared::time::Duration;
use pnat_shared::wire::ethernet::Mac;

use super::schedule::Rate;
use super::source::Content;
use super::trial::Trial;
use crate::ndr::Goals;

pub use tcp::TcpScenario;

mod head;
mod medium;
mod raw;
mod resolve;
mod search;
pub mod tcp;
mod units;
#[cfg(test)]
mod tests;

/// A load and the device under test that it goes through.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: String,
    pub file: PathBuf,
    /// The file, word for word.
    pub text: String,
    pub content: Content,
    pub rate: Rate,
    /// Frames that are due at the same time.
    pub burst: u32,
    pub duration: Duration,
    /// How long the same load runs before, uncounted; zero: not at all.
    pub warm_up: Duration,
    /// How long stragglers are waited for.
    pub drain: Duration,
    pub medium: MediumKind,
    pub search: Goals,
}

/// Where the load goes.
#[derive(Clone, Debug)]
pub enum MediumKind {
    Memory(Memory),
    Wire(Wire),
    Dpdk(Dpdk),
}

/// A whole gateway inside the process.
#[derive(Clone, Debug)]
pub struct Memory {
    pub action: Action,
    /// The chain that proxied flows go through.
    pub filters: Vec<FilterWord>,
    /// Bindings that its worker has room for.
    pub bindings: u32,
}

/// A filter of the gateway in memory: one that looks at what it would look at in earnest, and never has anything against it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum FilterWord {
    /// Searches every byte.
    Replace,
    /// Searches every byte for several patterns.
    Block,
    /// Counts every byte.
    Limit,
    /// Looks for the server's name in the first ones.
    Log,
}

/// A wire in virtual time, whose faults are known.
#[derive(Clone, Debug)]
pub struct Wire {
    pub link: LinkSpec,
    pub seed: u64,
}

/// Two DPDK ports, or one that is both.
#[derive(Clone, Debug)]
pub struct Dpdk {
    pub send: Device,
    /// `None`: what is sent comes back to the port that sent it.
    pub receive: Option<Device>,
    /// The CPU of the generator's loop.
    pub core: usize,
    /// Frames (mbufs) in the pool.
    pub frames: u32,
    /// Further arguments for DPDK's environment layer.
    pub eal: Vec<String>,
    /// Where frames are sent to.
    pub station: Station,
}

/// A station on a link.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Station {
    Mac(Mac),
    /// Whoever answers for `address`, asked in the name of `asked_by`.
    Gateway {
        address: Ipv4Addr,
        asked_by: Ipv4Addr,
    },
}

/// A DPDK device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    pub name: String,
    pub args: Option<String>,
}

/// A scenario of either kind.
#[derive(Debug)]
pub enum AnyScenario {
    /// Frames, each for itself.
    Frames(Box<Scenario>),
    /// Connections.
    Tcp(Box<TcpScenario>),
}

impl AnyScenario {
    /// Reads and checks `file`.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = read(file)?;
        Ok(match head::kind(file, &text, None)? {
            LoadKind::Frames => Self::Frames(Box::new(resolve::resolve(file, &text)?)),
            LoadKind::Tcp => Self::Tcp(Box::new(TcpScenario::parse(file, &text)?)),
        })
    }
}

/// What a scenario's load consists of.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum LoadKind {
    Frames,
    Tcp,
}

fn read(file: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(file).map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })
}

impl Scenario {
    /// Reads and checks `file`, whose load consists of frames.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        Self::parse(file, &read(file)?)
    }

    /// As [`Scenario::load`], with the text of `file` given.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        head::kind(file, text, Some(LoadKind::Frames))?;
        resolve::resolve(file, text)
    }

    /// The scenario's load for so long, at its rate.
    pub fn trial(&self, run: u16, duration: Duration) -> Trial {
        Trial {
            run,
            content: self.content.clone(),
            rate: self.rate,
            burst: self.burst,
            duration,
            then: None,
            drain: self.drain,
        }
    }
}
