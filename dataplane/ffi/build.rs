//! Finds DPDK by pkg-config, binds the names that capsule and PNAT use, and compiles the shim for DPDK's static inline
//! functions.

use std::path::PathBuf;
use std::process::{Command, exit};
use std::{env, panic};

/// The oldest and the newest DPDK release that this crate is made for.
const SUPPORTED: ((u32, u32), (u32, u32)) = ((22, 11), (24, 11));

const PACKAGES: &str = "On Debian: apt-get install dpdk libdpdk-dev pkg-config clang libclang-dev";

/// What is linked to; drivers are loaded by DPDK itself when it starts.
const LIBRARIES: [&str; 4] = ["rte_ethdev", "rte_mbuf", "rte_mempool", "rte_eal"];

/// DPDK functions that need no help from the shim.
const FUNCTIONS: [&str; 26] = [
    "rte_eal_cleanup",
    "rte_eal_init",
    "rte_eth_allmulticast_disable",
    "rte_eth_allmulticast_enable",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_get_mtu",
    "rte_eth_dev_get_name_by_port",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_disable",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_mempool_avail_count",
    "rte_mempool_free",
    "rte_mempool_lookup",
    "rte_socket_count",
    "rte_socket_id",
    "rte_socket_id_by_idx",
    "rte_strerror",
];

fn main() {
    for path in ["build.rs", "shim/shim.h", "shim/shim.c"] {
        println!("cargo::rerun-if-changed={path}");
    }
    for variable in ["PKG_CONFIG", "PKG_CONFIG_PATH", "PKG_CONFIG_LIBDIR"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    check_version(&pkg_config("--modversion"));
    println!("cargo::rerun-if-changed={}/libdpdk.pc", pkg_config("--variable=pcfiledir"));

    let flags: Vec<String> = pkg_config("--cflags").split_whitespace().map(str::to_owned).collect();
    bind(&flags);
    compile(&flags);
    for path in pkg_config("--libs-only-L").split_whitespace().filter_map(|flag| flag.strip_prefix("-L")) {
        println!("cargo::rustc-link-search=native={path}");
    }
    for library in LIBRARIES {
        println!("cargo::rustc-link-lib=dylib={library}");
    }
}

/// What pkg-config says about libdpdk.
fn pkg_config(question: &str) -> String {
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    match Command::new(&program).args([question, "libdpdk"]).output() {
        Ok(answer) if answer.status.success() => String::from_utf8_lossy(&answer.stdout).trim().to_owned(),
        Ok(answer) => fail(&format!(
            "{program} does not find libdpdk: {}. {PACKAGES}",
            String::from_utf8_lossy(&answer.stderr)
                .lines()
                .next()
                .unwrap_or("no reason given")
                .trim_end_matches('.')
        )),
        Err(error) => fail(&format!("cannot run {program} to find DPDK: {error}. {PACKAGES}")),
    }
}

fn check_version(version: &str) {
    let mut parts = version.split('.').map(|part| part.parse::<u32>().unwrap_or(0));
    let found = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    let (oldest, newest) = SUPPORTED;
    if found < oldest || found > newest {
        fail(&format!(
            "found DPDK {version}, but PNAT needs {}.{:02} to {}.{:02}. {PACKAGES}",
            oldest.0, oldest.1, newest.0, newest.1
        ));
    }
}

fn bind(flags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("shim/shim.h")
        // Without it rte_cpuset_t is not declared.
        .clang_arg("-D_GNU_SOURCE")
        .clang_args(flags)
        .allowlist_var("PNAT_.*|RTE_ETH_NAME_MAX_LEN|ETH_RSS_(IP|TCP|UDP|SCTP)|DEV_TX_OFFLOAD_MBUF_FAST_FREE|RTE_MBUF_DEFAULT_BUF_SIZE|RTE_PKTMBUF_HEADROOM")
        .allowlist_function("_rte_.*|pnat_.*")
        .newtype_enum("rte_eth_rx_mq_mode")
        // Declared by hand in lib.rs: their C form differs between DPDK versions, their layout does not (shim.c checks).
        .blocklist_type("rte_(mbuf|mempool).*")
        .raw_line("use super::{rte_mbuf, rte_mempool};")
        // Seen from outside only, and some are packed and aligned at once, which Rust cannot express.
        .opaque_type("rte_eth_rxconf|rte_eth_txconf|rte_eth_(dcb|vmdq).*|rte_device")
        .derive_default(true)
        .generate_comments(false)
        .formatter(bindgen::Formatter::None)
        .rust_edition(bindgen::RustEdition::Edition2024);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    // bindgen panics, rather than answering an error, where it does not find libclang.
    let bindings = match panic::catch_unwind(panic::AssertUnwindSafe(|| builder.generate())) {
        Ok(Ok(bindings)) => bindings,
        Ok(Err(error)) => fail(&format!("cannot bind DPDK: {error}. {PACKAGES}")),
        Err(_) => fail(&format!("cannot bind DPDK: libclang is missing. {PACKAGES}")),
    };
    let path = PathBuf::from(env::var_os("OUT_DIR").expect("invariant: cargo sets it")).join("bindings.rs");
    if let Err(error) = bindings.write_to_file(&path) {
        fail(&format!("cannot write {}: {error}", path.display()));
    }
}

fn compile(flags: &[String]) {
    let mut build = cc::Build::new();
    build.file("shim/shim.c").define("_GNU_SOURCE", None).std("gnu11");
    // DPDK's inline functions are the hot path, also in a debug build.
    build.opt_level(3);
    for flag in flags {
        // DPDK's headers are not ours to lint.
        match flag.strip_prefix("-I") {
            Some(path) => build.flag("-isystem").flag(path),
            None => build.flag(flag),
        };
    }
    build.compile("pnat_dpdk_shim");
}

fn fail(message: &str) -> ! {
    println!("cargo::error={message}");
    exit(1)
}
