//! Configuration: what an operator wrote (`raw`), and what it means (`resolve`).
//!
//! The types here are resolved: names are indices, ranges are checked, defaults are filled in. Nothing downstream
//! validates again. Paths are relative to the directory that the process runs in.

use core::net::{Ipv4Addr, SocketAddr};
use core::ops::RangeInclusive;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ipnet::IpNet;

use crate::flow::Protocol;
use crate::time::Duration;

mod raw;
mod resolve;
mod policy;
mod http;
mod sections;
mod value;
mod error;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, Fault, Problem};
pub use raw::{Scalar, Scalars};
pub use value::{Findings, parse_bytes};

/// A whole configuration, ready to run.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    pub ports: Vec<Port>,
    pub cores: Cores,
    pub memory: Memory,
    pub nat: Nat,
    pub proxy: Proxy,
    pub policy: Arc<Policy>,
    pub control: Control,
    pub log: Log,
}

impl Config {
    /// Reads and checks `file` for a machine whose CPUs are numbered below `cpus`. Pages that filters answer with are
    /// read too; no other file is touched.
    pub fn load(file: &Path, cpus: usize) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(file, &text, cpus)
    }

    /// As [`Config::load`], with the text of `file` given.
    pub fn parse(file: &Path, text: &str, cpus: usize) -> Result<Self, ConfigError> {
        resolve::resolve(file, text, cpus)
    }
}

/// A NIC or virtual device.
#[derive(Clone, Debug, PartialEq)]
pub struct Port {
    pub name: String,
    /// A PCI address (`0000:3b:00.0`) or the name of a DPDK virtual device (`net_af_xdp0`).
    pub device: String,
    /// The virtual device's arguments, as DPDK's `--vdev` takes them.
    pub args: Option<String>,
    /// The port's own addresses with their on-link prefixes.
    pub addresses: Vec<(Ipv4Addr, u8)>,
    /// Next hop for whatever is not on-link.
    pub gateway: Option<Ipv4Addr>,
    /// Whether this port carries the public addresses, and so faces the servers.
    pub outside: bool,
    /// Largest IP packet in bytes, 576 to 9000; `None`: what the device says.
    pub mtu: Option<u16>,
    pub offloads: Offloads,
}

/// Whether a port's device works on checksums and segments.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Offloads {
    /// As far as it can.
    #[default]
    Auto,
    /// Not at all: what it says about checksums is not believed either.
    Off,
}

/// CPUs, by the operating system's numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Cores {
    /// Runs control, signals and the tokio side.
    pub main: usize,
    pub workers: Vec<usize>,
    pub proxies: Vec<usize>,
    pub idle: Idle,
}

/// What a core does when there is nothing to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls: lowest latency, the whole CPU.
    Poll,
    /// Pauses, then sleeps for up to some tens of microseconds at a time.
    Adaptive,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    /// Frames (mbufs) in the pool of each NUMA node.
    pub frames: u32,
    pub hugepages: Hugepages,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Hugepages {
    /// Where enough are free; ordinary pages otherwise, with a warning.
    Auto,
    Never,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Nat {
    /// Addresses that stand for clients.
    pub public: Vec<Ipv4Addr>,
    /// Public ports in use, shared out among workers.
    pub ports: RangeInclusive<u16>,
    /// Bindings per worker.
    pub flows: u32,
    /// Bindings per client address.
    pub flows_per_client: u32,
    pub timeouts: Timeouts,
}

/// How long a silent binding lives (RFC 4787 REQ-5, RFC 5382 REQ-5, RFC 5508 REQ-2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Timeouts {
    pub tcp_established: Duration,
    pub tcp_transitory: Duration,
    pub udp: Duration,
    pub icmp: Duration,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Proxy {
    /// Pairs per proxy core.
    pub pairs: u32,
    /// How long a server may take to answer a connection attempt.
    pub connect_timeout: Duration,
    /// How long a client may take to complete a handshake that the server accepted.
    pub half_open_timeout: Duration,
    /// How long an established pair may be silent, and how long a side may keep its window shut.
    pub idle_timeout: Duration,
    /// After how long a silence each side is asked whether it is still there; zero: never. What it answers is no silence.
    pub keepalive: Duration,
    /// How long a UDP pair may be silent.
    pub udp_timeout: Duration,
    /// Largest receive window of a socket, in bytes; also bounds what a stream may have in flight inside the pair. Windows
    /// start smaller and grow by need.
    pub window: u32,
    /// Slots of each ring between a worker and a proxy core.
    pub ring: u32,
    /// While a worker has more half-open proxied flows than this, it answers further SYNs by cookies.
    pub syn_cookies_above: u32,
    pub transport: Transport,
}

/// What holds where the operator says nothing.
impl Default for Proxy {
    fn default() -> Self {
        Self {
            pairs: 65_536,
            connect_timeout: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(30),
            // RFC 5382 REQ-5.
            idle_timeout: Duration::from_secs(2 * 3600 + 4 * 60),
            // RFC 9293 section 3.8.4: no less than two hours unless an operator says so.
            keepalive: Duration::from_secs(2 * 3600),
            udp_timeout: Duration::from_secs(5 * 60),
            window: 4 << 20,
            ring: 4_096,
            syn_cookies_above: 1_024,
            transport: Transport::default(),
        }
    }
}

/// How the two sockets of a pair treat the network.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Transport {
    /// Of the socket on the client's leg, and on the server's.
    pub congestion: [CongestionControl; 2],
    pub ecn: Ecn,
}

impl Transport {
    /// What a rule leaves of it: its own choice where it has one.
    #[must_use]
    pub fn overridden(self, congestion: [Option<CongestionControl>; 2]) -> Self {
        let [inside, outside] = self.congestion;
        let [own_inside, own_outside] = congestion;
        Self { congestion: [own_inside.unwrap_or(inside), own_outside.unwrap_or(outside)], ..self }
    }
}

/// Explicit congestion notification (RFC 3168).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Ecn {
    /// As the client asks, and as the server answers: the legs use it or do without, each by what its own peer can.
    #[default]
    Mirror,
    Off,
}

/// How a socket finds out how fast it may send.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438 with HyStart++ (RFC 9406): what most hosts use, and fair to them.
    #[default]
    Cubic,
    /// RFC 5681 and RFC 6582.
    NewReno,
    /// BBRv3 (draft-ietf-ccwg-bbr): keeps its bandwidth where packets are lost at random, and queues short.
    Bbr,
}

/// What is decided on a flow's first packet, and how its streams are read. Replaced as a whole on reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// In order; the first match decides.
    pub rules: Vec<Rule>,
    /// Where no rule matches.
    pub default_action: Action,
    pub filters: Vec<Filter>,
    pub http: Http,
}

impl Policy {
    /// All flows by this action.
    pub fn without_rules(default_action: Action) -> Self {
        Self { rules: Vec::new(), default_action, filters: Vec::new(), http: Http::default() }
    }
}

/// What clients and servers may say in HTTP. All limits in bytes, apart from `fields_limit`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// Of a head, that of a request or a response: so much is kept until one is whole.
    pub head_limit: u32,
    /// Of a request line or status line.
    pub line_limit: u32,
    /// Header fields of a head, or trailer fields.
    pub fields_limit: u32,
    /// Of trailer fields together, and of the extensions of a chunk.
    pub trailer_limit: u32,
    /// How long a client may take for a request's head.
    pub head_timeout: Duration,
    /// How long a server may take for the head of its response.
    pub response_timeout: Duration,
    /// Whether `CONNECT` is let pass, and what follows it unseen.
    pub connect: bool,
    /// Whether HTTP/2 is spoken to clients and servers, without TLS.
    pub http2: bool,
}

/// What holds where the operator says nothing.
impl Default for Http {
    fn default() -> Self {
        Self {
            head_limit: 64 << 10,
            line_limit: 16 << 10,
            fields_limit: 128,
            trailer_limit: 16 << 10,
            head_timeout: Duration::from_secs(30),
            response_timeout: Duration::from_secs(60),
            connect: false,
            http2: true,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    pub name: String,
    /// Where it begins in the configuration file, counted from 1.
    pub line: usize,
    pub matching: Match,
    pub action: Action,
    /// Only of interest to TCP by [`Action::Proxy`].
    pub accept: Accept,
    /// Indices into [`Policy::filters`], in chain order; only for [`Action::Proxy`].
    pub filters: Vec<usize>,
    /// In place of [`Transport::congestion`]; only for [`Action::Proxy`].
    pub congestion: [Option<CongestionControl>; 2],
}

/// Every field given must match; an empty one matches anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    pub protocol: Option<Protocol>,
    pub src: Vec<IpNet>,
    pub dst: Vec<IpNet>,
    pub src_port: Vec<RangeInclusive<u16>>,
    pub dst_port: Vec<RangeInclusive<u16>>,
}

impl Match {
    /// Whether a packet from `src` to `dst` matches. Ports of ICMP are 0 and match only rules that name no port.
    pub fn matches(&self, protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> bool {
        let addr =
            |nets: &[IpNet], a: SocketAddr| nets.is_empty() || nets.iter().any(|net| net.contains(&a.ip()));
        let port = |ranges: &[RangeInclusive<u16>], p: u16| {
            ranges.is_empty() || ranges.iter().any(|r| r.contains(&p))
        };
        self.protocol.is_none_or(|p| p == protocol)
            && addr(&self.src, src)
            && addr(&self.dst, dst)
            && port(&self.src_port, src.port())
            && port(&self.dst_port, dst.port())
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Through a proxy core, as streams or datagrams.
    Proxy,
    /// Packet by packet, no proxy.
    Nat,
    Deny(Denial),
}

/// When a proxied TCP client's SYN is answered.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum Accept {
    /// As the server answers it.
    #[default]
    Late,
    /// At once, by a SYN cookie. The server is asked once the client has shown that it has the address it names.
    Early,
}

/// How a denied client is told.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Denial {
    /// TCP RST; for other protocols as [`Denial::Icmp`].
    Reset,
    /// ICMP destination unreachable, communication administratively prohibited (code 13).
    Icmp,
    Silent,
}

/// A filter as configured; a chain holds one instance per flow.
#[derive(Clone, Debug, PartialEq)]
pub struct Filter {
    pub name: String,
    pub kind: FilterKind,
}

#[derive(Clone, Debug, PartialEq)]
pub enum FilterKind {
    Log(LogFilter),
    Block(BlockFilter),
    Replace(ReplaceFilter),
    Limit(LimitFilter),
    /// Over HTTP, or of a type that there is not: who makes filters knows.
    Http(Section),
}

/// A filter's section whose keys are read by who makes the filter.
#[derive(Clone, Debug, PartialEq)]
pub struct Section {
    /// The filter's type.
    pub kind: String,
    /// All keys but `name` and `type`.
    pub keys: toml::Table,
    /// Where it stands.
    pub file: PathBuf,
    /// The line of its type, counted from 1.
    pub line: usize,
    /// The line of each key.
    pub lines: BTreeMap<String, usize>,
}

impl Section {
    /// What is wrong with a key, or with the type where `key` is `type`, said as all faults of a configuration are. `name` is
    /// the filter's, `key` may go into a value: `lists[0].path`.
    pub fn problem(&self, name: &str, key: &str, message: &str) -> Problem {
        let outermost = key.split(['.', '[']).next().unwrap_or(key);
        let line = self.lines.get(outermost).copied().unwrap_or(self.line);
        let key = if key.is_empty() || key == "." { String::new() } else { format!(": {key}") };
        Problem {
            file: self.file.clone(),
            line: Some(line),
            key: format!("filter \"{name}\"{key}"),
            fault: Fault::Syntax(message.to_owned()),
        }
    }

    /// That there is no such type of filter, but those.
    pub fn unknown_kind<'a>(&self, name: &str, kinds: impl IntoIterator<Item = &'a str>) -> Problem {
        let mut allowed: Vec<String> = policy::kinds().map(str::to_owned).collect();
        allowed.extend(kinds.into_iter().map(str::to_owned));
        let nearest = error::nearest(&self.kind, allowed.iter().map(String::as_str));
        let fault = Fault::UnknownValue { value: self.kind.clone(), nearest, allowed };
        Problem {
            file: self.file.clone(),
            line: Some(self.line),
            key: format!("filter \"{name}\": type"),
            fault,
        }
    }
}

/// One JSON line per flow at its end.
#[derive(Clone, Debug, PartialEq)]
pub struct LogFilter {
    pub path: PathBuf,
    /// Where to keep what the streams carried, two files per flow; `None`: not kept.
    pub content_dir: Option<PathBuf>,
    /// Bytes kept per stream.
    pub content_cap: u64,
}

/// Ends flows whose content or destination name is unwanted.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockFilter {
    /// Byte sequences, looked for in both streams.
    pub patterns: Vec<Vec<u8>>,
    /// HTTP Host names: exact, or `*.suffix`.
    pub hosts: Vec<String>,
    /// TLS server names: exact, or `*.suffix`.
    pub sni: Vec<String>,
    pub answer: BlockAnswer,
}

#[derive(Clone, Debug, PartialEq)]
pub enum BlockAnswer {
    /// TCP RST to both sides.
    Reset,
    /// An HTTP 403 with this HTML body where the flow is HTTP and nothing was answered yet; else RST.
    Page(Arc<str>),
}

/// Replaces bytes by bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct ReplaceFilter {
    pub find: Vec<u8>,
    pub with: Vec<u8>,
    /// In the client's stream, the server's, or both.
    pub first: bool,
    pub second: bool,
}

/// Token bucket, by delaying.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitFilter {
    pub bytes_per_second: u64,
    /// Bytes that may pass at once after silence.
    pub burst: u64,
    pub by: LimitBy,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum LimitBy {
    Flow,
    Client,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    /// Unix socket of the control API.
    pub socket: PathBuf,
    /// The group whose members may use the socket too; `None`: only its owner may.
    pub group: Option<String>,
    /// Where metrics, health and readiness are served by TCP; `None`: nowhere.
    pub metrics: Option<SocketAddr>,
    /// Whether stages and busy time of cores are measured.
    pub measure: bool,
    /// Where the whole API is served by TCP; `None`: nowhere.
    pub listen: Option<Listen>,
}

/// The control API by TCP, with TLS on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: TlsFiles,
}

/// PEM files. They are named here, and read by whoever uses them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The gateway's own certificate, followed by those that lead to its CA.
    pub certificate: PathBuf,
    /// The private key to it.
    pub key: PathBuf,
    /// CAs that clients' certificates come from.
    pub clients: PathBuf,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Log {
    pub json: bool,
    /// A `tracing` filter: `info`, or `warn,pnat_proxy=debug`.
    pub level: String,
}
