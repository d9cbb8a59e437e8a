//! From what was written to what it means: defaults filled in, ranges and relations checked, names turned into indices.
//!
//! Paths are taken relative to the directory that the process runs in, like those on a command line.

use core::net::{Ipv4Addr, SocketAddr};
use core::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::Ipv4Net;
use toml::Spanned;

use super::error::{ConfigError, Fault};
use super::raw::{RawConfig, RawControl, RawCores, RawLog, RawMemory, RawNat, RawPort, RawProxy, Scalar};
use super::value::{CONGESTION_CONTROLS, Findings};
use super::{
    Action, Config, CongestionControl, Control, Cores, Ecn, Hugepages, Idle, Listen, Log, Memory, Nat,
    Offloads, Policy, Port, Proxy, Timeouts, TlsFiles, Transport,
};
use super::{http, policy, sections};
use crate::flow::Handle;
use crate::time::Duration;

/// Longest time that any timer may be set to; the timer wheel's span at a tick of one millisecond is 49 days.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Bytes that the path of a Unix socket may have (`sun_path`, less its final zero).
const SOCKET_PATH: usize = 107;
/// Proxy cores that a [`crate::flow::ProxyId`] can tell apart.
const PROXIES: usize = 255;

/// Parses and resolves `text`, which stands in `file`, for a machine whose CPUs are numbered below `cpus`.
pub(super) fn resolve(file: &Path, text: &str, cpus: usize) -> Result<Config, ConfigError> {
    let (raw, mut findings): (RawConfig, _) = Findings::read(file, text)?;

    let mut ports = ports(&raw.port, &mut findings);
    let virtual_device = ports.iter().any(|port| !is_pci_address(&port.device));
    let cores = cores(&raw.cores, cpus, virtual_device, &mut findings);
    let nat = nat(&raw.nat, cores.workers.len(), &mut findings);
    face(&mut ports, &raw.nat.public, &mut findings);
    let proxy = proxy(&raw.proxy, &mut findings);
    let http = http::resolve(&raw.http, proxy.window, &mut findings);
    let sections = sections::filters(text);
    let policy = policy::resolve(&raw.policy, &raw.rule, &raw.filter, sections, http, &mut findings);
    need_proxies(&policy, &raw.cores, &mut findings);
    let config = Config {
        ports,
        cores,
        memory: memory(&raw.memory, &mut findings),
        nat,
        proxy,
        policy: Arc::new(policy),
        control: control(&raw.control, &mut findings),
        log: log(&raw.log, &mut findings),
    };
    findings.conclude(config)
}

fn ports(raw: &[Spanned<RawPort>], findings: &mut Findings<'_>) -> Vec<Port> {
    findings.unique(raw.iter().map(|port| &port.get_ref().name), "port.name");
    findings.unique(raw.iter().map(|port| &port.get_ref().device), "port.device");
    let mut ports: Vec<Port> = Vec::with_capacity(raw.len());
    for place in raw {
        let port = one_port(place, &ports, findings);
        ports.push(port);
    }
    ports
}

fn one_port(place: &Spanned<RawPort>, earlier: &[Port], findings: &mut Findings<'_>) -> Port {
    let raw = place.get_ref();
    let name = raw.name.get_ref().clone();
    let key = |key: &str| format!("port \"{name}\": {key}");
    findings.name(&raw.name, "port.name");
    findings.parsed(
        &raw.device,
        &key("device"),
        "a PCI address as in \"0000:3b:00.0\", or a DPDK virtual device as in \"net_af_xdp0\"",
        |device| (is_pci_address(device) || is_virtual_device(device)).then_some(()),
    );
    if let Some(args) = raw.args.as_ref().filter(|_| is_pci_address(raw.device.get_ref())) {
        findings.fault(args, &key("args"), Fault::OnlyWith("virtual devices have arguments"));
    }

    let mut addresses: Vec<(Ipv4Addr, u8)> = Vec::new();
    if raw.addresses.is_empty() {
        let allowed = "at least one address with its prefix, as in [\"10.77.1.1/24\"]".to_owned();
        let fault = Fault::NotAllowed { value: "no address".to_owned(), allowed };
        findings.fault(place, &key("addresses"), fault);
    }
    for written in &raw.addresses {
        let net = findings.parsed(written, &key("addresses"), INTERFACE_ADDRESS, parse_interface);
        let Some(net) = net else { continue };
        if let Some(other) = overlapping(net, earlier) {
            let fault = Fault::Collision {
                value: net.to_string(),
                other,
                allowed: "no two ports may reach the same addresses on-link",
            };
            findings.fault(written, &key("addresses"), fault);
        }
        if addresses.iter().any(|(address, _)| *address == net.addr()) {
            findings.fault(written, &key("addresses"), Fault::Duplicate { value: net.addr().to_string() });
        }
        addresses.push((net.addr(), net.prefix_len()));
    }

    let gateway = raw.gateway.as_ref().and_then(|written| {
        let on_link = "an address on-link at this port that is not its own";
        findings.parsed(written, &key("gateway"), on_link, |text| {
            let gateway: Ipv4Addr = text.parse().ok()?;
            let own = addresses.iter().any(|(address, _)| *address == gateway);
            (!own && on_link_at(gateway, &addresses)).then_some(gateway)
        })
    });
    let mtu = raw.mtu.as_ref().and_then(|mtu| findings.integer(mtu, &key("mtu"), 576..=9000));
    let choices = [("auto", Offloads::Auto), ("off", Offloads::Off)];
    let offloads = findings.choice_or(raw.offloads.as_ref(), &key("offloads"), &choices, Offloads::Auto);
    Port {
        device: raw.device.get_ref().clone(),
        args: raw.args.as_ref().map(|args| args.get_ref().clone()),
        addresses,
        gateway,
        outside: false,
        mtu: mtu.and_then(|mtu| u16::try_from(mtu).ok()),
        offloads,
        name,
    }
}

const INTERFACE_ADDRESS: &str = "an IPv4 host address with its prefix, as in \"10.77.1.1/24\"";

fn parse_interface(text: &str) -> Option<Ipv4Net> {
    let net: Ipv4Net = text.parse().ok()?;
    let host = net.prefix_len() >= 31 || (net.addr() != net.network() && net.addr() != net.broadcast());
    (net.prefix_len() > 0 && host && is_host(net.addr())).then_some(net)
}

/// Whether one station may have this address. 240.0.0.0/4 is the loopback's own (see [`crate::loopback`]).
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_loopback()
        || address.is_multicast()
        || address.octets()[0] == 0
        || address.octets()[0] >= 240)
}

fn overlapping(net: Ipv4Net, ports: &[Port]) -> Option<String> {
    ports.iter().find_map(|port| {
        let mut nets = port.addresses.iter().filter_map(|(address, len)| Ipv4Net::new(*address, *len).ok());
        let other = nets.find(|other| other.contains(&net.network()) || net.contains(&other.network()))?;
        Some(format!("{other} of port \"{}\"", port.name))
    })
}

fn on_link_at(address: Ipv4Addr, addresses: &[(Ipv4Addr, u8)]) -> bool {
    let mut nets = addresses.iter().filter_map(|(own, len)| Ipv4Net::new(*own, *len).ok());
    nets.any(|net| net.contains(&address))
}

/// `0000:3b:00.0`: domain, bus, device, function, in hexadecimal.
fn is_pci_address(device: &str) -> bool {
    let hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut parts = device.split([':', '.']);
    let shape = [4, 2, 2, 1].iter().all(|len| parts.next().is_some_and(|part| hex(part, *len)));
    shape && parts.next().is_none() && device.bytes().filter(|byte| *byte == b':').count() == 2
}

fn is_virtual_device(device: &str) -> bool {
    let word = device.strip_prefix("net_").unwrap_or("");
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn cores(raw: &RawCores, cpus: usize, virtual_device: bool, findings: &mut Findings<'_>) -> Cores {
    let highest = u32::try_from(cpus.saturating_sub(1)).unwrap_or(u32::MAX);
    let mut list = |values: &[Spanned<i64>], key: &str, most: usize| -> Vec<usize> {
        findings.unique(values, key);
        if let Some(first_too_many) = values.get(most) {
            let fault = Fault::NotAllowed {
                value: format!("a list of {}", values.len()),
                allowed: format!("at most {most} CPUs"),
            };
            findings.fault(first_too_many, key, fault);
        }
        values.iter().filter_map(|value| cpu(value, key, highest, findings)).collect()
    };
    let workers = list(&raw.workers, "cores.workers", Handle::WORKERS);
    let proxies = list(&raw.proxies, "cores.proxies", PROXIES);
    if raw.workers.is_empty() {
        findings.absent("cores.workers", "a list of at least one CPU, as in [1]");
    }
    let unused = || (0..cpus).find(|cpu| !workers.contains(cpu) && !proxies.contains(cpu)).unwrap_or(0);
    let main =
        raw.main.as_ref().and_then(|main| cpu(main, "cores.main", highest, findings)).unwrap_or_else(unused);
    let default = if virtual_device { Idle::Adaptive } else { Idle::Poll };
    let choices = [("adaptive", Idle::Adaptive), ("poll", Idle::Poll)];
    let idle = findings.choice_or(raw.idle.as_ref(), "cores.idle", &choices, default);
    Cores { main, workers, proxies, idle }
}

fn cpu(value: &Spanned<i64>, key: &str, highest: u32, findings: &mut Findings<'_>) -> Option<usize> {
    let cpu = usize::try_from(*value.get_ref()).ok().filter(|cpu| *cpu <= highest as usize);
    if cpu.is_none() {
        let allowed = format!("CPUs of this machine, 0 to {highest}");
        findings.fault(value, key, Fault::NotAllowed { value: format!("CPU {}", value.get_ref()), allowed });
    }
    cpu
}

fn need_proxies(policy: &Policy, cores: &RawCores, findings: &mut Findings<'_>) {
    let proxied = policy.rules.iter().map(|rule| rule.action).chain([policy.default_action]);
    if cores.proxies.is_empty() && proxied.into_iter().any(|action| action == Action::Proxy) {
        findings.absent(
            "cores.proxies",
            "at least one CPU, as in [1], or no rule and no default_action \"proxy\"",
        );
    }
}

fn memory(raw: &RawMemory, findings: &mut Findings<'_>) -> Memory {
    let choices = [("auto", Hugepages::Auto), ("never", Hugepages::Never)];
    Memory {
        frames: findings.integer_or(raw.frames.as_ref(), "memory.frames", 1_024..=16_777_215, 65_535),
        hugepages: findings.choice_or(raw.hugepages.as_ref(), "memory.hugepages", &choices, Hugepages::Auto),
    }
}

fn nat(raw: &RawNat, workers: usize, findings: &mut Findings<'_>) -> Nat {
    if raw.public.is_empty() {
        findings.absent(
            "nat.public",
            "a list of IPv4 addresses that stand for the clients, as in [\"198.18.0.1\"]",
        );
    }
    findings.unique(&raw.public, "nat.public");
    let allowed = "an IPv4 host address, without a prefix";
    let public = raw.public.iter().filter_map(|written| {
        findings.parsed(written, "nat.public", allowed, |text| {
            text.parse().ok().filter(|address| is_host(*address))
        })
    });
    let public = public.collect();
    let slots = u32::try_from(Handle::SLOTS).expect("invariant: 22 bits");
    let flows = findings.integer_or(raw.flows.as_ref(), "nat.flows", 1..=slots, 262_144);
    let times = &raw.timeouts;
    let mut time = |value: Option<&Spanned<String>>, key: &str, seconds: u64| {
        findings.duration_or(value, key, Duration::from_secs(1)..=LONGEST, Duration::from_secs(seconds))
    };
    let timeouts = Timeouts {
        tcp_established: time(
            times.tcp_established.as_ref(),
            "nat.timeouts.tcp_established",
            2 * 3600 + 4 * 60,
        ),
        tcp_transitory: time(times.tcp_transitory.as_ref(), "nat.timeouts.tcp_transitory", 4 * 60),
        udp: time(times.udp.as_ref(), "nat.timeouts.udp", 5 * 60),
        icmp: time(times.icmp.as_ref(), "nat.timeouts.icmp", 60),
    };
    Nat {
        public,
        ports: public_ports(raw.ports.as_ref(), workers, findings),
        flows,
        flows_per_client: findings.integer_or(
            raw.flows_per_client.as_ref(),
            "nat.flows_per_client",
            1..=slots,
            16_384.min(flows),
        ),
        timeouts,
    }
}

fn public_ports(
    raw: Option<&Spanned<Scalar>>,
    workers: usize,
    findings: &mut Findings<'_>,
) -> RangeInclusive<u16> {
    let default = 1024..=u16::MAX;
    let Some(written) = raw else { return default };
    let Some(range) = findings.port_range(written, "nat.ports") else {
        return default;
    };
    if range.len() < workers {
        let fault = Fault::NotAllowed {
            value: format!("{} ports", range.len()),
            allowed: format!("at least one for each of {workers} workers"),
        };
        findings.fault(written, "nat.ports", fault);
    }
    range
}

/// Decides which ports face the servers: those that reach a public address on-link.
fn face(ports: &mut [Port], public: &[Spanned<String>], findings: &mut Findings<'_>) {
    if ports.is_empty() {
        findings
            .absent("port", "at least one [[port]] that faces the clients and one that faces the servers");
        return;
    }
    for written in public {
        let Ok(address) = written.get_ref().parse::<Ipv4Addr>() else { continue };
        for port in ports.iter_mut().filter(|port| on_link_at(address, &port.addresses)) {
            port.outside = true;
            if port.gateway == Some(address) {
                let fault = Fault::Collision {
                    value: address.to_string(),
                    other: format!("the gateway of port \"{}\"", port.name),
                    allowed: "a public address belongs to nobody else",
                };
                findings.fault(written, "nat.public", fault);
            }
        }
    }
    if !public.is_empty() && ports.iter().all(|port| !port.outside) {
        findings.absent(
            "port",
            "at least one whose addresses reach one of nat.public on-link: it faces the servers",
        );
    }
    if ports.iter().all(|port| port.outside) {
        findings.absent("port", "at least one that reaches none of nat.public on-link: it faces the clients");
    }
}

fn proxy(raw: &RawProxy, findings: &mut Findings<'_>) -> Proxy {
    let default = Proxy::default();
    let mut time = |value: Option<&Spanned<String>>, key: &str, default: Duration| {
        findings.duration_or(value, key, Duration::from_millis(100)..=LONGEST, default)
    };
    let connect_timeout =
        time(raw.connect_timeout.as_ref(), "proxy.connect_timeout", default.connect_timeout);
    let half_open_timeout =
        time(raw.half_open_timeout.as_ref(), "proxy.half_open_timeout", default.half_open_timeout);
    let idle_timeout = time(raw.idle_timeout.as_ref(), "proxy.idle_timeout", default.idle_timeout);
    let udp_timeout = time(raw.udp_timeout.as_ref(), "proxy.udp_timeout", default.udp_timeout);
    let keepalive = findings.duration_or_off(
        raw.keepalive.as_ref(),
        "proxy.keepalive",
        Duration::from_secs(1)..=LONGEST,
        default.keepalive,
    );
    // RFC 7323 section 2.3: a window scaled by 14 at most.
    let window =
        raw.window.as_ref().and_then(|window| findings.bytes(window, "proxy.window", 4_096..=0xffff << 14));
    Proxy {
        pairs: findings.integer_or(raw.pairs.as_ref(), "proxy.pairs", 1..=4_194_304, default.pairs),
        connect_timeout,
        half_open_timeout,
        idle_timeout,
        keepalive,
        udp_timeout,
        window: window.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(default.window),
        ring: findings.integer_or(raw.ring.as_ref(), "proxy.ring", 64..=65_536, default.ring),
        // Half-open flows are few of those that a worker can have: the largest value is never exceeded.
        syn_cookies_above: findings.integer_or(
            raw.syn_cookies_above.as_ref(),
            "proxy.syn_cookies_above",
            0..=u32::try_from(Handle::SLOTS).expect("invariant: 22 bits"),
            default.syn_cookies_above,
        ),
        transport: transport(raw, findings),
    }
}

fn transport(raw: &RawProxy, findings: &mut Findings<'_>) -> Transport {
    let mut control = |written: Option<&Spanned<String>>, key: &str| {
        findings.choice_or(written, key, &CONGESTION_CONTROLS, CongestionControl::default())
    };
    let inside = control(raw.congestion_inside.as_ref(), "proxy.congestion_inside");
    let outside = control(raw.congestion_outside.as_ref(), "proxy.congestion_outside");
    let choices = [("mirror", Ecn::Mirror), ("off", Ecn::Off)];
    Transport {
        congestion: [inside, outside],
        ecn: findings.choice_or(raw.ecn.as_ref(), "proxy.ecn", &choices, Ecn::default()),
    }
}

fn control(raw: &RawControl, findings: &mut Findings<'_>) -> Control {
    let socket = raw.socket.as_ref().and_then(|written| {
        let allowed = format!("a path of 1 to {SOCKET_PATH} bytes");
        findings.parsed(written, "control.socket", &allowed, |path| {
            (1..=SOCKET_PATH).contains(&path.len()).then(|| PathBuf::from(path))
        })
    });
    let group = raw.group.as_ref().and_then(|written| {
        findings.parsed(written, "control.group", "the name or the number of a group", |group| {
            (!group.is_empty()).then(|| group.to_owned())
        })
    });
    Control {
        socket: socket.unwrap_or_else(|| PathBuf::from("/run/pnat/control.sock")),
        group,
        metrics: raw.metrics.as_ref().and_then(|written| address(written, "control.metrics", findings)),
        measure: raw.measure.unwrap_or(true),
        listen: listen(raw, findings),
    }
}

fn address(written: &Spanned<String>, key: &str, findings: &mut Findings<'_>) -> Option<SocketAddr> {
    let allowed = "an IP address of this machine and a port, as in \"127.0.0.1:9100\"";
    findings.parsed(written, key, allowed, |text| {
        text.parse().ok().filter(|address: &SocketAddr| address.port() != 0)
    })
}

/// Without all three files nobody is let in: there is no API by TCP that anybody may use.
fn listen(raw: &RawControl, findings: &mut Findings<'_>) -> Option<Listen> {
    let Some(listen) = &raw.listen else {
        if let Some(tls) = &raw.tls {
            findings.fault(tls, "control.tls", Fault::OnlyWith("with control.listen"));
        }
        return None;
    };
    let tls = raw.tls.as_ref().map(Spanned::get_ref);
    let mut file = |written: Option<&Spanned<String>>, key: &str, allowed: &'static str| {
        let found = written.filter(|written| !written.get_ref().is_empty());
        if found.is_none() {
            findings.fault(listen, key, Fault::Missing { allowed });
        }
        found.map(|written| PathBuf::from(written.get_ref()))
    };
    let certificate = file(
        tls.and_then(|tls| tls.certificate.as_ref()),
        "control.tls.certificate",
        "a PEM file with the gateway's certificate, as control.listen needs it",
    );
    let key = file(
        tls.and_then(|tls| tls.key.as_ref()),
        "control.tls.key",
        "a PEM file with the key of control.tls.certificate",
    );
    let clients = file(
        tls.and_then(|tls| tls.clients.as_ref()),
        "control.tls.clients",
        "a PEM file with the CA that clients' certificates come from",
    );
    let address = address(listen, "control.listen", findings)?;
    Some(Listen { address, tls: TlsFiles { certificate: certificate?, key: key?, clients: clients? } })
}

fn log(raw: &RawLog, findings: &mut Findings<'_>) -> Log {
    let json =
        findings.choice_or(raw.format.as_ref(), "log.format", &[("text", false), ("json", true)], false);
    let allowed = "trace, debug, info, warn, error or off, also per module as in \"warn,pnat_proxy=debug\"";
    let level = raw.level.as_ref().and_then(|written| {
        findings.parsed(written, "log.level", allowed, |text| is_log_filter(text).then(|| text.to_owned()))
    });
    Log { json, level: level.unwrap_or_else(|| "info".to_owned()) }
}

fn is_log_filter(text: &str) -> bool {
    text.split(',').all(|directive| {
        let (module, level) = directive.split_once('=').unwrap_or(("pnat", directive));
        let named =
            !module.is_empty() && module.bytes().all(|b| b.is_ascii_alphanumeric() || b"_:".contains(&b));
        named && ["trace", "debug", "info", "warn", "error", "off"].contains(&level)
    })
}
