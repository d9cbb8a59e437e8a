//! What DPDK is to be started with: cores, ports, memory; checked before any device is touched.
//!
//! Runs on: launch. Allocates: freely. Blocks: on reading files of `/sys`.

use std::fmt;
use std::fs;
use std::path::Path;

use thiserror::Error;

use super::BURST;

/// Everything that a start needs to know.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Names the process for DPDK and its threads.
    pub app_name: String,
    /// The cores that run loops: workers and proxy cores. A core without a port is given a private one, because capsule
    /// only gives a core with a port a pipeline and a pool.
    pub cores: Vec<usize>,
    /// The core of the main thread, which only waits for signals. `None` takes one that runs no loop if there is one.
    pub main_core: Option<usize>,
    pub ports: Vec<PlannedPort>,
    /// Frame buffers per NUMA node. Costs about [`FRAME_BYTES`] each.
    pub frames: u32,
    /// Frame buffers that each core keeps in a cache of its own, 0 to 512.
    pub frame_cache: u32,
    /// Whether hugepages may be used where enough are free.
    pub hugepages: bool,
    /// Further arguments for DPDK's environment layer.
    pub eal_args: Vec<String>,
}

/// A port to be opened.
#[derive(Clone, Debug)]
pub struct PlannedPort {
    /// The operator's name for it; unique.
    pub name: String,
    /// A PCI address such as `0000:3b:00.0`, or a virtual device such as `net_af_xdp0`.
    pub device: String,
    /// The device's arguments, such as `iface=veth-in`.
    pub args: Option<String>,
    /// The cores that get a queue pair of this port each.
    pub cores: Vec<usize>,
    /// Descriptors in each receive and each transmit queue; the driver adjusts it to what it can do.
    pub queue_len: u16,
    /// Whether it receives frames for other stations too.
    pub promiscuous: bool,
    /// The longest IP packet that it is to carry, in bytes, where the operator says so: buffers are made for it.
    pub mtu: Option<u16>,
    /// Whether its device is to do what it can about checksums.
    pub offloads: bool,
}

/// Memory that one frame buffer of the usual room costs, in bytes, its part of the pool's bookkeeping included.
pub const FRAME_BYTES: u64 = FRAME_ROOM as u64 + FRAME_EXTRA;
const FRAME_EXTRA: u64 = 1024;

/// What a buffer costs more where a PCI device needs it to lie within one page of whatever size.
const PCI_EXTRA: u64 = 1024 + 64;

/// Bytes that a frame holds unless a port carries longer packets.
const FRAME_ROOM: u16 = 2048;

/// What a packet's buffer needs besides the packet: the Ethernet header, and what packet sockets put in front of it.
const PACKET_EXTRA: u16 = 96;

/// The most that AF_XDP can use: buffer and bookkeeping must lie within one page of 4 KiB.
const XDP_FRAME_ROOM: u16 = 3072;

/// Memory that DPDK and its drivers need besides frames, in bytes.
const BASE_BYTES: u64 = 64 << 20;

/// Buffers that a queue pair may hold on to besides its descriptors: AF_XDP fills its ring with 2048 whatever its length,
/// and as many may wait to be completed.
const QUEUE_EXTRA: u64 = 4096;

/// The largest cache that DPDK allows.
const CACHE_MAX: u32 = 512;

const MIB: u64 = 1 << 20;

/// What is wrong with a plan.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PlanError {
    #[error("cores: CPU {core} does not exist or may not be used; this process may use {available:?}")]
    NoSuchCore { core: usize, available: Vec<usize> },
    #[error("port \"{port}\" is given to no core")]
    PortWithoutCore { port: String },
    #[error("port \"{port}\" is given to core {core}, which is neither a worker nor a proxy core")]
    PortOnIdleCore { port: String, core: usize },
    #[error("two ports are named \"{port}\"")]
    DuplicateName { port: String },
    #[error("port.device: two ports use {device}")]
    DuplicateDevice { device: String },
    #[error("port.args: port \"{port}\": there is no network interface {interface}")]
    NoSuchInterface { port: String, interface: String },
    #[error("port.device: port \"{port}\": there is no PCI device {device}")]
    NoSuchPciDevice { port: String, device: String },
    #[error(
        "port.mtu: AF_XDP (port \"{port}\") carries packets of at most {most} bytes; net_af_packet carries longer ones"
    )]
    TooLongForXdp { port: String, most: u16 },
    #[error("memory.frames: {frames} frames are too few; these ports and cores need at least {needed}")]
    TooFewFrames { frames: u32, needed: u64 },
    #[error("a cache of {cache} frames per core is too large: DPDK allows {CACHE_MAX}")]
    CacheTooLarge { cache: u32 },
}

impl Plan {
    /// Checks the plan against the CPUs that this process may use ([`super::capsule::available_cpus`]).
    pub fn check(&self, available: &[usize]) -> Result<(), PlanError> {
        for &core in self.cores.iter().chain(&self.main_core) {
            if !available.contains(&core) {
                return Err(PlanError::NoSuchCore { core, available: available.to_vec() });
            }
        }
        for (index, port) in self.ports.iter().enumerate() {
            if port.cores.is_empty() {
                return Err(PlanError::PortWithoutCore { port: port.name.clone() });
            }
            if let Some(&core) = port.cores.iter().find(|core| !self.cores.contains(core)) {
                return Err(PlanError::PortOnIdleCore { port: port.name.clone(), core });
            }
            if self.ports[..index].iter().any(|other| other.name == port.name) {
                return Err(PlanError::DuplicateName { port: port.name.clone() });
            }
            if self.ports[..index].iter().any(|other| other.device == port.device) {
                return Err(PlanError::DuplicateDevice { device: port.device.clone() });
            }
        }
        if self.frame_room() > XDP_FRAME_ROOM
            && let Some(port) = self.ports.iter().find(|port| port.device.starts_with("net_af_xdp"))
        {
            let most = XDP_FRAME_ROOM - PACKET_EXTRA;
            return Err(PlanError::TooLongForXdp { port: port.name.clone(), most });
        }
        if self.frame_cache > CACHE_MAX {
            return Err(PlanError::CacheTooLarge { cache: self.frame_cache });
        }
        let needed = self.frames_held();
        if u64::from(self.frames) < needed {
            return Err(PlanError::TooFewFrames { frames: self.frames, needed });
        }
        Ok(())
    }

    /// Looks whether the system has what the ports name; DPDK would only say "no such device".
    pub fn check_devices(&self) -> Result<(), PlanError> {
        for port in &self.ports {
            if let Some(interface) = port.kernel_interface()
                && !Path::new("/sys/class/net").join(interface).exists()
            {
                let (port, interface) = (port.name.clone(), interface.to_owned());
                return Err(PlanError::NoSuchInterface { port, interface });
            }
            if port.is_pci() && !Path::new("/sys/bus/pci/devices").join(&port.device).exists() {
                let (port, device) = (port.name.clone(), port.device.clone());
                return Err(PlanError::NoSuchPciDevice { port, device });
            }
        }
        Ok(())
    }

    /// Bytes that every frame holds, whichever port it is for: whole KiB, in which packet sockets can be told them.
    pub(super) fn frame_room(&self) -> u16 {
        let longest = self.ports.iter().filter_map(|port| port.mtu).max().unwrap_or(0);
        longest.saturating_add(PACKET_EXTRA).div_ceil(1024).saturating_mul(1024).max(FRAME_ROOM)
    }

    /// The devices that are to leave checksums alone.
    pub(super) fn refused_devices(&self) -> Vec<String> {
        self.ports.iter().filter(|port| !port.offloads).map(|port| port.device.clone()).collect()
    }

    /// Buffers that may be out of reach while nothing moves: in queues, in core caches (which fill to one and a half of
    /// their size), in one burst per core.
    fn frames_held(&self) -> u64 {
        let queued =
            |port: &PlannedPort| port.cores.len() as u64 * (2 * u64::from(port.queue_len) + QUEUE_EXTRA);
        let per_core = u64::from(self.frame_cache) * 3 / 2 + BURST as u64;
        self.ports.iter().map(queued).sum::<u64>() + (self.cores.len() as u64 + 1) * per_core
    }

    /// The core of the main thread: preferably one that runs no loop.
    pub(super) fn choose_main_core(&self, available: &[usize]) -> usize {
        let spare = || available.iter().find(|core| !self.cores.contains(core)).copied();
        self.main_core.or_else(spare).or_else(|| available.first().copied()).unwrap_or(0)
    }

    /// Cores that run a loop and have no port.
    pub(super) fn cores_without_port(&self) -> Vec<usize> {
        let has_port = |core: &usize| self.ports.iter().any(|port| port.cores.contains(core));
        self.cores.iter().copied().filter(|core| !has_port(core)).collect()
    }

    /// Memory for frames on `nodes` NUMA nodes and all else, in bytes.
    pub(super) fn memory_needed(&self, nodes: usize) -> u64 {
        let pci = if self.ports.iter().any(PlannedPort::is_pci) { PCI_EXTRA } else { 0 };
        let frame = u64::from(self.frame_room()) + FRAME_EXTRA + pci;
        u64::from(self.frames) * frame * nodes as u64 + BASE_BYTES
    }

    /// The arguments for DPDK's environment layer that capsule does not compose itself.
    pub(super) fn eal_arguments(&self, memory: &Memory) -> Vec<String> {
        // Nothing of this process is shared with another one, and nothing is left behind when it dies.
        let mut arguments = vec!["--no-telemetry".to_owned(), "--log-level=lib.eal:error".to_owned()];
        match memory {
            Memory::Huge { .. } => arguments.push("--in-memory".to_owned()),
            // DPDK refuses --in-memory here; this is the part of it that then makes sense.
            Memory::Ordinary { reserved, .. } => {
                let megabytes = reserved.div_ceil(MIB).to_string();
                arguments.extend([
                    "--no-shconf".to_owned(),
                    "--no-huge".to_owned(),
                    "-m".to_owned(),
                    megabytes,
                ]);
            }
        }
        if self.ports.iter().any(PlannedPort::is_pci) {
            let with_args = self.ports.iter().filter(|port| port.is_pci());
            for (port, args) in with_args.filter_map(|port| port.args.as_ref().map(|args| (port, args))) {
                arguments.extend(["-a".to_owned(), format!("{},{args}", port.device)]);
            }
        } else {
            // With physical addresses DPDK would cut the pool into pieces, and AF_XDP needs it whole.
            arguments.extend(["--no-pci".to_owned(), "--iova-mode=va".to_owned()]);
        }
        arguments.extend(self.eal_args.iter().cloned());
        arguments
    }
}

impl PlannedPort {
    /// Whether the device is named by a PCI address.
    fn is_pci(&self) -> bool {
        !self.device.starts_with("net_") && self.device.contains(':')
    }

    /// The device's arguments, with as many queues as the port has cores, and with room for frames of this size, where the
    /// driver wants to be told.
    pub(super) fn device_arguments(&self, frame_room: u16) -> Option<String> {
        let packet_sockets = self.device.starts_with("net_af_packet");
        let queues = match &self.device {
            device if device.starts_with("net_af_xdp") => "queue_count",
            _ if packet_sockets => "qpairs",
            _ => return self.args.clone(),
        };
        let mut arguments: Vec<String> = self.args.iter().cloned().collect();
        let given = self.args.as_deref().unwrap_or_default();
        let is_given = |key: &str| given.split(',').any(|argument| argument.starts_with(key));
        if self.cores.len() > 1 && !is_given(queues) {
            arguments.push(format!("{queues}={}", self.cores.len()));
        }
        if packet_sockets && frame_room > FRAME_ROOM && !is_given("framesz") {
            // A block is a number of whole pages and of whole frames.
            arguments.push(format!("framesz={frame_room},blocksz={}", 4 * u32::from(frame_room)));
        }
        (!arguments.is_empty()).then(|| arguments.join(","))
    }

    /// The kernel interface behind the device, if its arguments name one. (A TAP device's interface comes with the device.)
    pub(super) fn kernel_interface(&self) -> Option<&str> {
        if self.device.starts_with("net_tap") {
            return None;
        }
        self.args.as_deref()?.split(',').find_map(|argument| argument.strip_prefix("iface="))
    }
}

/// Which memory DPDK is given. Displayed as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Hugepages: `free` bytes of them, of which `needed` will be used.
    Huge { needed: u64, free: u64 },
    /// Pages of ordinary size, `reserved` bytes, because only `free` bytes of hugepages were free.
    Ordinary { reserved: u64, free: u64 },
}

impl Memory {
    /// Hugepages where enough are free, ordinary pages otherwise.
    pub(super) fn choose(needed: u64, free: u64) -> Self {
        if free >= needed { Self::Huge { needed, free } } else { Self::Ordinary { reserved: needed, free } }
    }

    /// Bytes of hugepages, of all sizes, that are free now.
    pub(super) fn free_hugepages() -> u64 {
        let Ok(sizes) = fs::read_dir("/sys/kernel/mm/hugepages") else { return 0 };
        let free = |entry: fs::DirEntry| {
            let kib: u64 =
                entry.file_name().to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
            let pages: u64 =
                fs::read_to_string(entry.path().join("free_hugepages")).ok()?.trim().parse().ok()?;
            Some(kib * 1024 * pages)
        };
        sizes.filter_map(Result::ok).filter_map(free).sum()
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Huge { needed, free } => {
                write!(
                    f,
                    "DPDK uses hugepages: {} MiB are free, {} MiB needed.",
                    free / MIB,
                    needed.div_ceil(MIB)
                )
            }
            Self::Ordinary { reserved, free } => write!(
                f,
                "DPDK runs without hugepages, on {needed} MiB of ordinary memory, because only {} MiB of hugepages are \
                 free. To use them: sysctl vm.nr_hugepages={}",
                free / MIB,
                reserved.div_ceil(2 * MIB),
                needed = reserved.div_ceil(MIB),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, device: &str, args: Option<&str>, cores: &[usize]) -> PlannedPort {
        PlannedPort {
            name: name.to_owned(),
            device: device.to_owned(),
            args: args.map(str::to_owned),
            cores: cores.to_vec(),
            queue_len: 1024,
            promiscuous: false,
            mtu: None,
            offloads: true,
        }
    }

    fn plan(cores: &[usize], ports: Vec<PlannedPort>) -> Plan {
        Plan {
            app_name: "test".to_owned(),
            cores: cores.to_vec(),
            main_core: None,
            ports,
            frames: 65_535,
            frame_cache: 256,
            hugepages: true,
            eal_args: Vec::new(),
        }
    }

    #[test]
    fn the_main_core_is_one_that_runs_no_loop_if_there_is_one() {
        assert_eq!(plan(&[0, 1], vec![]).choose_main_core(&[0, 1, 2]), 2);
        assert_eq!(plan(&[1, 0], vec![]).choose_main_core(&[0, 1]), 0);
        assert_eq!(Plan { main_core: Some(1), ..plan(&[1], vec![]) }.choose_main_core(&[0, 1]), 1);
    }

    #[test]
    fn a_core_that_may_not_be_used_is_named_beside_those_that_may() {
        let error = plan(&[7], vec![]).check(&[0, 1]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cores: CPU 7 does not exist or may not be used; this process may use [0, 1]"
        );
    }

    #[test]
    fn ports_need_a_core_of_the_plan_a_name_and_a_device_of_their_own() {
        let check = |ports| plan(&[1], ports).check(&[0, 1]);
        let inside = || port("inside", "net_null0", None, &[1]);
        assert_eq!(check(vec![inside()]), Ok(()));
        assert_eq!(
            check(vec![port("inside", "net_null0", None, &[])]),
            Err(PlanError::PortWithoutCore { port: "inside".to_owned() })
        );
        assert_eq!(
            check(vec![port("inside", "net_null0", None, &[0])]),
            Err(PlanError::PortOnIdleCore { port: "inside".to_owned(), core: 0 })
        );
        assert_eq!(
            check(vec![inside(), port("inside", "net_null1", None, &[1])]),
            Err(PlanError::DuplicateName { port: "inside".to_owned() })
        );
        assert_eq!(
            check(vec![inside(), port("outside", "net_null0", None, &[1])]),
            Err(PlanError::DuplicateDevice { device: "net_null0".to_owned() })
        );
    }

    #[test]
    fn a_device_that_the_system_does_not_have_is_named() {
        let check = |device, args| plan(&[1], vec![port("inside", device, args, &[1])]).check_devices();
        assert_eq!(check("net_af_xdp0", Some("iface=lo")), Ok(()));
        assert_eq!(
            check("net_af_xdp0", Some("iface=no-such,queue_count=1")).unwrap_err().to_string(),
            "port.args: port \"inside\": there is no network interface no-such"
        );
        assert_eq!(check("net_tap0", Some("iface=comes-with-the-device")), Ok(()));
        assert_eq!(
            check("ffff:ff:1f.7", None).unwrap_err().to_string(),
            "port.device: port \"inside\": there is no PCI device ffff:ff:1f.7"
        );
    }

    #[test]
    fn a_pool_that_queues_could_empty_is_refused() {
        let few = Plan { frames: 4096, ..plan(&[1], vec![port("inside", "net_null0", None, &[1])]) };
        assert!(matches!(few.check(&[1]), Err(PlanError::TooFewFrames { frames: 4096, .. })));
    }

    #[test]
    fn proxy_cores_are_the_ones_without_a_port() {
        let plan = plan(&[1, 2, 3], vec![port("inside", "net_null0", None, &[2])]);
        assert_eq!(plan.cores_without_port(), [1, 3]);
    }

    #[test]
    fn virtual_devices_keep_dpdk_from_the_pci_bus() {
        let plan = plan(&[1], vec![port("inside", "net_af_xdp0", Some("iface=a"), &[1])]);
        assert_eq!(
            plan.eal_arguments(&Memory::choose(100 * MIB, 0)),
            [
                "--no-telemetry",
                "--log-level=lib.eal:error",
                "--no-shconf",
                "--no-huge",
                "-m",
                "100",
                "--no-pci",
                "--iova-mode=va"
            ]
        );
    }

    #[test]
    fn arguments_of_a_pci_device_are_passed_on() {
        let plan = plan(&[1], vec![port("inside", "0000:3b:00.0", Some("mprq_en=1"), &[1])]);
        assert_eq!(
            plan.eal_arguments(&Memory::choose(100 * MIB, 200 * MIB)),
            ["--no-telemetry", "--log-level=lib.eal:error", "--in-memory", "-a", "0000:3b:00.0,mprq_en=1"]
        );
    }

    #[test]
    fn kernel_devices_are_told_how_many_queues_to_open() {
        let arguments =
            |device, args, cores: &[usize]| port("p", device, args, cores).device_arguments(FRAME_ROOM);
        assert_eq!(arguments("net_af_xdp0", Some("iface=a"), &[1]).as_deref(), Some("iface=a"));
        assert_eq!(
            arguments("net_af_xdp0", Some("iface=a"), &[1, 2]).as_deref(),
            Some("iface=a,queue_count=2")
        );
        assert_eq!(
            arguments("net_af_packet0", Some("iface=a,qpairs=4"), &[1, 2]).as_deref(),
            Some("iface=a,qpairs=4")
        );
        assert_eq!(arguments("net_null0", None, &[1, 2]), None);
    }

    #[test]
    fn frames_hold_the_longest_packet_and_packet_sockets_are_told() {
        let with_mtu = |device, mtu| {
            let inside = PlannedPort { mtu: Some(mtu), ..port("inside", device, Some("iface=lo"), &[1]) };
            plan(&[1], vec![inside, port("outside", "net_null0", None, &[1])])
        };
        assert_eq!(with_mtu("net_af_packet0", 1500).frame_room(), 2048);
        let jumbo = with_mtu("net_af_packet0", 9000);
        assert_eq!(jumbo.frame_room(), 9216);
        assert_eq!(jumbo.check(&[0, 1]), Ok(()));
        assert_eq!(
            jumbo.ports[0].device_arguments(9216).as_deref(),
            Some("iface=lo,framesz=9216,blocksz=36864")
        );
        assert_eq!(jumbo.memory_needed(1) - BASE_BYTES, 65_535 * (9216 + 1024));
    }

    #[test]
    fn packets_that_do_not_fit_a_page_are_refused_for_af_xdp() {
        let with_mtu = |mtu| {
            let inside =
                PlannedPort { mtu: Some(mtu), ..port("inside", "net_af_xdp0", Some("iface=lo"), &[1]) };
            plan(&[1], vec![inside]).check(&[0, 1])
        };
        assert_eq!(with_mtu(2976), Ok(()));
        assert_eq!(with_mtu(9000), Err(PlanError::TooLongForXdp { port: "inside".to_owned(), most: 2976 }));
    }

    #[test]
    fn memory_says_what_was_chosen_and_what_would_help() {
        assert_eq!(
            Memory::choose(100 * MIB, 0).to_string(),
            "DPDK runs without hugepages, on 100 MiB of ordinary memory, because only 0 MiB of hugepages are free. \
             To use them: sysctl vm.nr_hugepages=50"
        );
        assert_eq!(
            Memory::choose(100 * MIB, 100 * MIB).to_string(),
            "DPDK uses hugepages: 100 MiB are free, 100 MiB needed."
        );
    }
}
