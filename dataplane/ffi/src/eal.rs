//! Starting DPDK's environment layer from the arguments that capsule composes for DPDK 19.11.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fs;
#[expect(clippy::disallowed_types, reason = "guards start and stop; no core comes near it")]
use std::sync::{PoisonError, RwLock};

use crate::bindings;

/// Whether DPDK is up, all ports and pools included: most of its functions crash when it is not.
#[expect(clippy::disallowed_types, reason = "as above")]
static RUNNING: RwLock<bool> = RwLock::new(false);

/// Starts DPDK. capsule's arguments are first brought to what DPDK calls them today.
///
/// # Safety
/// `argv` must point to `argc` zero-terminated strings.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let given = (0..usize::try_from(argc).unwrap_or(0)).map(|index| {
        // SAFETY: the caller promises `argc` valid strings at `argv`.
        unsafe { CStr::from_ptr(*argv.add(index)) }.to_owned()
    });
    // DPDK keeps pointers into the strings for as long as the process lives, and permutes the pointers.
    let arguments: Vec<&'static CStr> = modernize(given.collect())
        .into_iter()
        .map(|argument| &*Box::leak(argument.into_boxed_c_str()))
        .collect();
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let count = c_int::try_from(pointers.len()).unwrap_or(0);
    let mut running = RUNNING.write().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: `pointers` holds `count` strings that live for ever, and DPDK does not write into them.
    let answer = unsafe { bindings::rte_eal_init(count, pointers.as_mut_ptr()) };
    *running = answer >= 0;
    answer
}

/// Closes a port. capsule does this first of all when it ends, so from here on DPDK is not up.
///
/// # Safety
/// No core may use the port any more.
pub unsafe fn rte_eth_dev_close(port: u16) -> c_int {
    *RUNNING.write().unwrap_or_else(PoisonError::into_inner) = false;
    // SAFETY: the caller promises that the port is not in use.
    unsafe { bindings::rte_eth_dev_close(port) }
}

/// What `ask` answers, or `None` while DPDK is not up. It does not go down while `ask` runs.
pub(crate) fn while_running<T>(ask: impl FnOnce() -> T) -> Option<T> {
    let running = RUNNING.read().unwrap_or_else(PoisonError::into_inner);
    running.then(ask)
}

/// The NUMA node of a CPU, 0 where the system does not say.
pub fn numa_node_of_cpu(cpu: c_int) -> c_int {
    let Ok(entries) = fs::read_dir(format!("/sys/devices/system/cpu/cpu{cpu}")) else { return 0 };
    entries
        .filter_map(Result::ok)
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
        .unwrap_or(0)
}

/// Renames options that DPDK has renamed since 19.11, and repairs two things that capsule does to PCI devices: those with
/// a letter in their address it takes for virtual ones, and a device's arguments it drops. The latter come as a later
/// `-a ADDRESS,ARGUMENTS`, which replaces the earlier `-a ADDRESS`.
fn modernize(arguments: Vec<CString>) -> Vec<CString> {
    let mut out: Vec<CString> = Vec::with_capacity(arguments.len());
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        match argument.to_bytes() {
            b"--master-lcore" => out.push(c"--main-lcore".to_owned()),
            option @ (b"--pci-whitelist" | b"--vdev" | b"-a") => {
                let Some(value) = arguments.next() else {
                    out.push(argument);
                    break;
                };
                if option == b"--vdev" && !is_pci_address(device(&value)) {
                    out.extend([argument, value]);
                    continue;
                }
                let allowed = |pair: &[CString]| &*pair[0] == c"-a" && device(&pair[1]) == device(&value);
                match out.windows(2).position(allowed) {
                    Some(position) => out[position + 1] = value,
                    None => out.extend([c"-a".to_owned(), value]),
                }
            }
            _ => out.push(argument),
        }
    }
    out
}

/// A device argument up to its first comma.
fn device(value: &CStr) -> &[u8] {
    value.to_bytes().split(|&byte| byte == b',').next().unwrap_or_default()
}

/// Whether `text` reads `0000:3b:00.0`.
fn is_pci_address(text: &[u8]) -> bool {
    text.len() == 12
        && text.iter().enumerate().all(|(index, byte)| match index {
            4 | 7 => *byte == b':',
            10 => *byte == b'.',
            _ => byte.is_ascii_hexdigit(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn modernized(arguments: &[&str]) -> Vec<String> {
        let given = arguments.iter().map(|&argument| CString::new(argument).unwrap()).collect();
        modernize(given).into_iter().map(|argument| argument.into_string().unwrap()).collect()
    }

    #[test]
    fn capsules_arguments_get_their_present_names() {
        let given = ["pnat", "--pci-whitelist", "0000:02:00.0", "--master-lcore", "0", "-l", "0"];
        assert_eq!(modernized(&given), ["pnat", "-a", "0000:02:00.0", "--main-lcore", "0", "-l", "0"]);
    }

    #[test]
    fn a_pci_address_with_a_letter_is_not_a_virtual_device() {
        let given = ["--vdev", "0000:3b:00.0", "--vdev", "net_null0,no-rx=1"];
        assert_eq!(modernized(&given), ["-a", "0000:3b:00.0", "--vdev", "net_null0,no-rx=1"]);
    }

    #[test]
    fn arguments_of_a_pci_device_replace_its_bare_mention() {
        let given = ["--pci-whitelist", "0000:02:00.0", "--no-telemetry", "-a", "0000:02:00.0,rxq_comp_en=0"];
        assert_eq!(modernized(&given), ["-a", "0000:02:00.0,rxq_comp_en=0", "--no-telemetry"]);
    }

    #[test]
    fn an_option_without_its_value_stays_for_dpdk_to_refuse() {
        assert_eq!(modernized(&["pnat", "--vdev"]), ["pnat", "--vdev"]);
    }

    #[test]
    fn a_cpu_that_does_not_exist_lies_on_node_zero() {
        assert_eq!(numa_node_of_cpu(1_000_000), 0);
    }
}
