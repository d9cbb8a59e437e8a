//! Other processes' memory, as `/proc` tells it.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::MethodError;

/// A process that is under load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pid: u32,
    name: String,
}

/// A process's memory before and after, in bytes: resident pages and hugepages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessMemory {
    pub name: String,
    pub pid: u32,
    pub before: u64,
    pub after: u64,
}

impl Process {
    /// A process that runs now.
    pub fn find(pid: u32) -> Result<Self, MethodError> {
        let name = fs::read_to_string(format!("/proc/{pid}/comm"))
            .map_err(|source| MethodError::NoProcess { pid, source })?;
        Ok(Self { pid, name: name.trim().to_owned() })
    }

    /// Its memory, in bytes.
    pub(super) fn memory(&self) -> Result<u64, MethodError> {
        let pid = self.pid;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .map_err(|source| MethodError::NoProcess { pid, source })?;
        let kib = |key| {
            let value = status.lines().find_map(|line| line.strip_prefix(key))?;
            value.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        };
        // A process that has ended and is not waited for has none.
        let source = || io::Error::other("it has ended");
        let resident = kib("VmRSS:").ok_or_else(|| MethodError::NoProcess { pid, source: source() })?;
        Ok((resident + kib("HugetlbPages:").unwrap_or(0)) * 1024)
    }

    pub(super) fn memory_since(&self, before: u64) -> Result<ProcessMemory, MethodError> {
        Ok(ProcessMemory { name: self.name.clone(), pid: self.pid, before, after: self.memory()? })
    }
}
