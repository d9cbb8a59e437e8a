//! What the cores make of their time, and what the process takes of memory.

use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::Core;

/// One core's loop. A CPU that runs a worker and a reactor by turns has two.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CoreReport {
    /// `worker` or `proxy`.
    pub kind: String,
    /// Its number among its kind.
    pub name: String,
    pub cpu: usize,
    /// Turns of the poll loop, and those of them that found nothing.
    pub turns: u64,
    pub idle_turns: u64,
    /// Bursts taken from ports and rings, packets in them, and how many a burst had on average.
    pub bursts: u64,
    pub packets: u64,
    pub mean_burst: f64,
    /// Nanoseconds of the turns that found something.
    pub busy_nanoseconds: u64,
    /// The same by the gateway's uptime, from 0 to 1.
    pub busy_share: f64,
    /// What all loops of its CPU together leave of the uptime, from 0 to 1.
    pub idle_share: f64,
    /// Busy nanoseconds by packets; `None` where there were none, or no time is measured.
    pub nanoseconds_per_packet: Option<f64>,
    /// The same in ticks of the time stamp counter ([`Report::tsc_hz`](super::report::Report::tsc_hz)), which a core's own
    /// clock may outrun: `None` where there is no such counter, too.
    pub cycles_per_packet: Option<f64>,
}

/// The process's memory, in bytes.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Resident in ordinary pages, now and at most so far.
    pub resident: u64,
    pub resident_peak: u64,
    /// In huge pages, where the frames are; not among `resident`. `None` where the kernel does not tell.
    pub hugepages: Option<u64>,
}

/// Reads what the loops count.
pub(super) fn read(cores: &[Core], uptime: Duration) -> Vec<CoreReport> {
    let uptime = uptime.as_nanos().max(1) as f64;
    let busy = |core: &Core| core.counters.turns().map_or(0, |turns| turns.busy.value());
    let mut by_cpu: BTreeMap<usize, u64> = BTreeMap::new();
    for core in cores {
        *by_cpu.entry(core.cpu).or_default() += busy(core);
    }
    let told = cores.iter().filter_map(|core| {
        let turns = core.counters.turns()?;
        let (busy, bursts, packets) = (turns.busy.value(), turns.bursts.value(), turns.packets.value());
        let each = (busy > 0 && packets > 0).then(|| busy as f64 / packets as f64);
        Some(CoreReport {
            kind: core.role.key().to_owned(),
            name: core.index.to_string(),
            cpu: core.cpu,
            turns: turns.all.value(),
            idle_turns: turns.idle.value(),
            bursts,
            packets,
            mean_burst: if bursts == 0 { 0.0 } else { packets as f64 / bursts as f64 },
            busy_nanoseconds: busy,
            busy_share: (busy as f64 / uptime).min(1.0),
            idle_share: (1.0 - by_cpu[&core.cpu] as f64 / uptime).max(0.0),
            nanoseconds_per_packet: each,
            cycles_per_packet: each.zip(tsc_hz()).map(|(each, hz)| each * hz / 1e9),
        })
    });
    told.collect()
}

/// Ticks of the time stamp counter per second, where there is one that runs at one rate. The first call measures it, which
/// takes about a millisecond.
pub(super) fn tsc_hz() -> Option<f64> {
    const TICKS: u64 = 1_000_000_000;
    static HZ: LazyLock<Option<f64>> = LazyLock::new(|| {
        let nanos = quanta::Clock::new().delta_as_nanos(0, TICKS);
        // Elsewhere quanta's ticks are nanoseconds of the operating system.
        (cfg!(target_arch = "x86_64") && nanos > 0 && nanos != TICKS)
            .then(|| TICKS as f64 * 1e9 / nanos as f64)
    });
    *HZ
}

/// What the kernel says of this process.
pub(super) fn memory() -> Option<MemoryReport> {
    parse_status(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn parse_status(status: &str) -> Option<MemoryReport> {
    let bytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    Some(MemoryReport {
        resident: bytes("VmRSS")?,
        resident_peak: bytes("VmHWM")?,
        hugepages: bytes("HugetlbPages"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Role;
    use crate::worker::WorkerStats;
    use crossbeam_channel::bounded;
    use pnat_shared::time::Instant;
    use std::sync::Arc;

    fn core(role: Role, cpu: usize, busy: u64, bursts: &[usize]) -> Core {
        let stats = WorkerStats::new(0);
        for packets in bursts {
            stats.turns.burst(*packets);
        }
        stats.turns.worked(Some((Instant::from_nanos(500), Instant::from_nanos(500 + busy))));
        stats.turns.idled();
        Core { role, index: 0, cpu, messages: bounded(1).0, counters: Arc::new(stats) }
    }

    #[test]
    fn what_two_loops_of_one_cpu_leave_is_idle_for_both() {
        let cores = [
            core(Role::Worker, 1, 300, &[2, 4]),
            core(Role::Proxy, 1, 500, &[]),
            core(Role::Worker, 2, 100, &[1]),
        ];
        let told = read(&cores, Duration::from_nanos(1_000));
        let shares: Vec<_> =
            told.iter().map(|core| (core.busy_share, (core.idle_share * 10.0).round())).collect();
        assert_eq!(shares, [(0.3, 2.0), (0.5, 2.0), (0.1, 9.0)]);
        let each: Vec<_> = told.iter().map(|core| (core.mean_burst, core.nanoseconds_per_packet)).collect();
        assert_eq!(each, [(3.0, Some(50.0)), (0.0, None), (1.0, Some(100.0))]);
        assert_eq!((told[0].turns, told[0].idle_turns, told[0].packets), (2, 1, 6));
        let hz = tsc_hz();
        assert_eq!(told[0].cycles_per_packet, hz.map(|hz| 50.0 * hz / 1e9));
        assert!(hz.is_none_or(|hz| (1e8..1e11).contains(&hz)), "{hz:?}");
    }

    #[test]
    fn memory_is_read_in_bytes_with_huge_pages_apart() {
        let status = "Name:\tpnat\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\nHugetlbPages:\t  524288 kB\n";
        let told = MemoryReport { resident: 1 << 20, resident_peak: 2 << 20, hugepages: Some(512 << 20) };
        assert_eq!(parse_status(status), Some(told));
        assert_eq!(parse_status("VmHWM: 1 kB\n"), None);
        assert!(memory().is_some_and(|memory| memory.resident > 1 << 16), "Linux tells");
    }
}
