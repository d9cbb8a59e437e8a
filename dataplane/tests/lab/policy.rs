//! The gateway's configuration in tests: the lab's ports and cores, and a policy that each test chooses.

use std::path::Path;

/// Where the log filter writes, relative to the lab's state directory.
pub(crate) const FLOW_LOG: &str = "flows.jsonl";

/// Where the gateway serves its metrics, in its own namespace.
pub(crate) const METRICS: &str = "127.0.0.1:9100";

const LOG: &str = r#"
    [[filter]]
    name = "log"
    type = "log"
    path = "flows.jsonl"
"#;

/// Everything by the proxy, and logged.
pub(crate) fn proxied() -> String {
    format!(
        r#"
        {LOG}
        [[rule]]
        name = "everything"
        match = {{}}
        action = "proxy"
        filters = ["log"]
        "#
    )
}

/// The same, and TCP clients are accepted before the server is asked.
pub(crate) fn accepted_early() -> String {
    proxied().replace("action = \"proxy\"", "action = \"proxy\"\naccept = \"early\"")
}

/// Everything by packet translation.
pub(crate) fn translated() -> String {
    "[policy]\ndefault_action = \"nat\"".to_owned()
}

/// One proxy rule for `port` whose chain is one filter: `filter` holds its type and the type's keys.
pub(crate) fn filtered(port: u16, filter: &str) -> String {
    format!(
        r#"
        {LOG}
        [[filter]]
        name = "under-test"
        {filter}

        [[rule]]
        name = "filtered"
        match = {{ proto = "tcp", dst_port = [{port}] }}
        action = "proxy"
        filters = ["log", "under-test"]
        "#
    )
}

/// Denies `proto` to `port` in this way; everything else is proxied.
pub(crate) fn denied(proto: &str, port: u16, deny_with: &str) -> String {
    format!(
        r#"
        [[rule]]
        name = "denied"
        match = {{ proto = "{proto}", dst_port = [{port}] }}
        action = "deny"
        deny_with = "{deny_with}"
        "#
    )
}

/// The gateway's ports, cores and memory.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Arrangement {
    pub(crate) driver: &'static str,
    pub(crate) workers: &'static [usize],
    pub(crate) proxies: &'static [usize],
    pub(crate) hugepages: &'static str,
    /// Frames of the pool.
    pub(crate) frames: u32,
    /// The longest packet that the wires carry, and the longest that the gateway is told to, in bytes.
    pub(crate) wire_mtu: u16,
    pub(crate) mtu: u16,
    /// [`pnat_shared::config::Ecn`], in words.
    pub(crate) ecn: &'static str,
    /// Whether the inside and the outside port work on checksums.
    pub(crate) offloads: [&'static str; 2],
    /// More keys of `[nat]` and of `[proxy]`.
    pub(crate) nat: &'static str,
    pub(crate) proxy: &'static str,
}

impl Default for Arrangement {
    fn default() -> Self {
        Self {
            driver: "net_af_xdp",
            workers: &[1],
            proxies: &[1],
            hugepages: "auto",
            frames: 65_535,
            wire_mtu: 1500,
            mtu: 1500,
            ecn: "mirror",
            offloads: ["auto"; 2],
            nat: "",
            proxy: "",
        }
    }
}

/// A whole configuration: the gateway between the lab's two wires, with this policy. Idle UDP flows end soon, so that
/// the flow log shows them.
pub(crate) fn gateway(state: &Path, arrangement: Arrangement, policy: &str) -> String {
    let Arrangement { driver, workers, proxies, hugepages, frames, mtu, ecn, nat, proxy, .. } = arrangement;
    let interface = if driver == "net_tap" { "tap" } else { "veth" };
    let [offloads_inside, offloads_outside] = arrangement.offloads;
    let socket = state.join("control.sock");
    format!(
        r#"
        [[port]]
        name = "inside"
        device = "{driver}0"
        args = "iface={interface}-in"
        offloads = "{offloads_inside}"
        addresses = ["10.77.1.1/24"]
        mtu = {mtu}

        [[port]]
        name = "outside"
        device = "{driver}1"
        args = "iface={interface}-out"
        offloads = "{offloads_outside}"
        addresses = ["198.18.0.1/24"]
        mtu = {mtu}
        gateway = "198.18.0.2"

        [cores]
        workers = {workers:?}
        proxies = {proxies:?}
        idle = "adaptive"

        [memory]
        hugepages = "{hugepages}"
        frames = {frames}

        [nat]
        public = ["198.18.0.1"]
        {nat}

        [proxy]
        udp_timeout = "2s"
        ecn = "{ecn}"
        {proxy}

        [control]
        socket = "{}"
        metrics = "{METRICS}"

        [log]
        format = "text"
        level = "info"

        {policy}
        "#,
        socket.display()
    )
}
