//! The command line: what `pnat` is asked to do, and the answers as text.
//!
//! `run` and `check` read the configuration file themselves; the other commands ask the running gateway over its control
//! socket, or by TCP. Exit codes: 0 done, 1 failed, 2 the configuration or the command line is wrong (nothing was touched).

use std::fs::File;
use std::io::{self, IsTerminal as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pnat_shared::config::{Action, Config, ConfigError, Idle, Log};
use pnat_shared::flow::Protocol;
use pnat_shared::time::Duration;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::control::answer::{Explanation, Reloaded, Stats};
use crate::control::client::{Client, ClientError, RemoteError};
use crate::control::explain::{AddressError, explain, parse_client, parse_server};
use crate::control::report::ReportError;
use crate::control::tls::Credentials;
use crate::control::web::{Purged, WebReport};
use crate::filters::{Kinds, rehearse};
use crate::launch::{self, LaunchError};
use crate::port::capsule::RuntimeError;
use crate::port::plan::PlanError;
use crate::top::{self, TopError};
use flows::FlowsArgs;
use reach::Reach;
use report::ReportArgs;

mod flows;
mod reach;
mod report;

/// PNAT, a network gateway: packets are translated by NAT workers, streams pass through filters on proxy cores.
#[derive(Debug, Parser)]
#[command(name = "pnat", version)]
pub struct Cli {
    /// The configuration file; its paths are relative to the current directory.
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/pnat/pnat.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT; SIGHUP reloads policy, rules, filters and http.
    Run,
    /// Read the configuration, say what it means, and touch nothing.
    Check {
        /// Check for a machine with this many CPUs instead of this one.
        #[arg(long, value_name = "N")]
        cpus: Option<usize>,
    },
    /// Show counters: by core, port, pool and ring, and why packets were dropped and flows ended.
    Stats {
        #[command(flatten)]
        ask: Ask,
    },
    /// List live flows, chosen and ordered by what is told of them.
    Flows(Box<FlowsArgs>),
    /// Say which rule decides on a flow, why the earlier ones do not, and what became of such flows lately.
    Explain {
        proto: Proto,
        /// The client, as in 10.0.0.5:4000, or without a port: all its flows to the server.
        src: String,
        /// The server, as in 93.184.216.34:80; without a port for ICMP.
        dst: String,
        #[command(flatten)]
        ask: Ask,
    },
    /// Write what passes through the gateway to a pcap file, until the count, the time or SIGINT ends it.
    Capture {
        /// Where: `inside`, `outside` or both (Ethernet), or `to_proxy`, `from_proxy` or both (inside the loopback).
        #[arg(long, value_name = "POINTS", value_delimiter = ',', default_value = "inside,outside")]
        at: Vec<String>,
        /// The pcap file, or `-` for standard output.
        #[arg(long, value_name = "FILE")]
        write: PathBuf,
        /// End after this many packets.
        #[arg(long, value_name = "N")]
        count: Option<u64>,
        /// End after this many seconds.
        #[arg(long, value_name = "N")]
        seconds: Option<u64>,
        /// Bytes kept of each packet.
        #[arg(long, value_name = "BYTES", default_value_t = 65_535)]
        snaplen: u32,
        #[command(flatten)]
        reach: Reach,
    },
    /// Show latency percentiles by stage, cores, memory, and totals.
    Report(ReportArgs),
    /// Watch ports, cores, latency, drops and clients on the terminal, anew each second; `h` tells the keys.
    Top {
        /// Time between two looks at the gateway, as in "500ms".
        #[arg(long, value_name = "TIME", value_parser = interval, default_value = "1s")]
        interval: Duration,
        /// Print one frame as plain text, with the rates of one interval, and end.
        #[arg(long)]
        once: bool,
        #[command(flatten)]
        reach: Reach,
    },
    /// Show what each HTTP filter did: exchanges, answers, time, bytes; and the numbers of caches.
    Filters {
        #[command(flatten)]
        ask: Ask,
    },
    /// Remove responses from HTTP caches.
    Purge {
        #[command(flatten)]
        what: What,
        /// The name of one `cache` filter; all of them where it is left out.
        #[arg(long, value_name = "FILTER")]
        cache: Option<String>,
        #[command(flatten)]
        ask: Ask,
    },
    /// Read the configuration again and put its policy, rules, filters and http in force: all of them or none.
    Reload {
        #[command(flatten)]
        ask: Ask,
    },
}

/// What to remove.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct What {
    /// One URL, in all of its variants.
    #[arg(long)]
    url: Option<String>,
    /// All URLs that begin like this.
    #[arg(long, value_name = "URL")]
    prefix: Option<String>,
    /// Everything of a host.
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Everything.
    #[arg(long)]
    all: bool,
}

impl What {
    /// As the control API reads it.
    fn question(&self, cache: Option<&str>) -> String {
        let all = self.all.then_some("true");
        let named = [
            ("url", self.url.as_deref()),
            ("prefix", self.prefix.as_deref()),
            ("host", self.host.as_deref()),
            ("all", all),
            ("cache", cache),
        ];
        let given: Vec<_> = named.into_iter().filter_map(|(key, value)| Some((key, value?))).collect();
        serde_urlencoded::to_string(given).unwrap_or_default()
    }
}

#[derive(Debug, Args)]
struct Ask {
    /// Answer in JSON, as the gateway does.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    reach: Reach,
}

#[derive(Copy, Clone, Debug, ValueEnum)]
enum Proto {
    Tcp,
    Udp,
    Icmp,
}

impl From<Proto> for Protocol {
    fn from(proto: Proto) -> Self {
        match proto {
            Proto::Tcp => Self::Tcp,
            Proto::Udp => Self::Udp,
            Proto::Icmp => Self::Icmp,
        }
    }
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Nothing was touched.
    #[error("{}: {source}", file.display())]
    Plan { file: PathBuf, source: PlanError },
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A filter cannot be made as configured.
    #[error("{0}")]
    Filter(String),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("a gateway elsewhere is asked with {option} FILE (or {variable})")]
    NoCredentials { option: &'static str, variable: &'static str },
    #[error(transparent)]
    Remote(#[from] RemoteError),
    #[error(transparent)]
    Report(#[from] ReportError),
    #[error(transparent)]
    Top(#[from] TopError),
    #[error("{}: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Output(#[from] io::Error),
}

impl CliError {
    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Filter(_)
            | Self::Address(_)
            | Self::Plan { .. }
            | Self::NoCredentials { .. }
            | Self::Remote(_)
            | Self::Top(TopError::NoTerminal) => ExitCode::from(2),
            Self::Client(ClientError::Refused { status, .. }) if status.as_u16() == 422 => ExitCode::from(2),
            // Whoever read the output has seen enough, as in `pnat flows | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }
}

/// All of the program `pnat`, with these types of HTTP filters: what a program is made of that brings filters of its own.
pub fn main(kinds: Kinds) -> ExitCode {
    match Cli::parse().run(kinds, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // With standard error closed, the exit code alone has to say it.
            let _ = writeln!(io::stderr(), "{error}");
            error.exit_code()
        }
    }
}

impl Cli {
    /// Does what was asked; answers go to `out`.
    pub fn run(self, kinds: Kinds, out: &mut impl Write) -> Result<(), CliError> {
        let config = self.config.as_path();
        match self.command {
            Command::Run => run(config, kinds),
            Command::Check { cpus } => check(config, cpus.unwrap_or_else(cpus_of_this_machine), &kinds, out),
            Command::Stats { ask } => ask.get::<Stats>(config, "/stats", out),
            Command::Flows(args) => args.run(config, out),
            Command::Explain { proto, src, dst, ask } => {
                explained(config, proto.into(), &src, &dst, &ask, out)
            }
            Command::Capture { at, write, count, seconds, snaplen, reach } => {
                let number = |key, n: Option<u64>| n.map_or_else(String::new, |n| format!("&{key}={n}"));
                let (at, count, seconds) = (at.join(","), number("count", count), number("seconds", seconds));
                let path = format!("/capture?at={at}&snaplen={snaplen}{count}{seconds}");
                capture(&reach.client(config)?, &path, &write, out)
            }
            Command::Report(args) => args.run(config, out),
            Command::Top { interval, once, reach } => {
                let client = reach.client(config)?;
                if once {
                    return Ok(out.write_all(top::once(client, interval)?.as_bytes())?);
                }
                Ok(top::run(client, interval)?)
            }
            Command::Filters { ask } => ask.get::<WebReport>(config, "/filters", out),
            Command::Purge { what, cache, ask } => {
                let path = format!("/purge?{}", what.question(cache.as_deref()));
                let purged: Purged = ask.client(config)?.post(&path)?;
                ask.print(&purged, out)
            }
            Command::Reload { ask } => reload(config, &ask, out),
        }
    }
}

fn run(file: &Path, kinds: Kinds) -> Result<(), CliError> {
    let cpus = cpus_of_this_machine();
    let config = Config::load(file, cpus)?;
    start_log(&config.log);
    launch::run(config, file, cpus, kinds).map_err(|error| match error {
        LaunchError::Filter(problem) => CliError::Filter(problem),
        LaunchError::Config(error) => error.into(),
        LaunchError::Port(RuntimeError::Plan(source)) => CliError::Plan { file: file.to_owned(), source },
        other => other.into(),
    })
}

/// Sends events to standard error, as text or as JSON. capsule and foyer tell each of their steps as "info": unless the level names
/// them, they have a say from "warn" on.
fn start_log(log: &Log) {
    let filter = EnvFilter::new(format!("capsule=warn,foyer=warn,{}", log.level));
    let is_terminal = io::stderr().is_terminal();
    let events =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(is_terminal);
    if log.json { events.json().init() } else { events.init() }
}

fn check(file: &Path, cpus: usize, kinds: &Kinds, out: &mut impl Write) -> Result<(), CliError> {
    let config = Config::load(file, cpus)?;
    let doubts = rehearse(&config.policy, config.proxy.window, kinds).map_err(CliError::Filter)?;
    if let Some(listen) = &config.control.listen {
        Credentials::load(file, &listen.tls)?;
    }
    writeln!(out, "{} is good.", file.display())?;
    for port in &config.ports {
        let addresses: Vec<String> =
            port.addresses.iter().map(|(addr, len)| format!("{addr}/{len}")).collect();
        let gateway = port.gateway.map_or_else(String::new, |gateway| format!(", gateway {gateway}"));
        let faces = if port.outside { "outside, faces the servers" } else { "inside, faces the clients" };
        writeln!(out, "port {}: {}, {}{gateway}; {faces}", port.name, port.device, addresses.join(", "))?;
    }
    let cores = &config.cores;
    let idle = match cores.idle {
        Idle::Adaptive => "adaptive",
        Idle::Poll => "poll",
    };
    let (workers, proxies) = (&cores.workers, &cores.proxies);
    writeln!(out, "cores: workers {workers:?}, proxies {proxies:?}, main {}, idle {idle}", cores.main)?;
    let public: Vec<String> = config.nat.public.iter().map(ToString::to_string).collect();
    let (low, high) = (config.nat.ports.start(), config.nat.ports.end());
    writeln!(
        out,
        "nat: {}, ports {low}-{high}, {} flows per worker, {} per client",
        public.join(", "),
        config.nat.flows,
        config.nat.flows_per_client
    )?;
    let policy = &config.policy;
    let default = match policy.default_action {
        Action::Proxy => "proxy",
        Action::Nat => "nat",
        Action::Deny(_) => "deny",
    };
    writeln!(
        out,
        "policy: {} rules, {} filters, default {default}",
        policy.rules.len(),
        policy.filters.len()
    )?;
    let metrics = config
        .control
        .metrics
        .map_or_else(String::new, |address| format!(", metrics at http://{address}/metrics"));
    let group = config.control.group.map_or_else(String::new, |group| format!(" (and group {group})"));
    let listen =
        config.control.listen.map_or_else(String::new, |listen| format!(", https://{}", listen.address));
    writeln!(out, "control: {}{group}{listen}{metrics}", config.control.socket.display())?;
    for doubt in doubts {
        writeln!(out, "note: {doubt}")?;
    }
    Ok(())
}

impl Ask {
    fn client(&self, config: &Path) -> Result<Client, CliError> {
        self.reach.client(config)
    }

    fn get<T>(&self, config: &Path, path: &str, out: &mut impl Write) -> Result<(), CliError>
    where
        T: DeserializeOwned + Serialize + ToString,
    {
        let answer: T = self.client(config)?.get(path)?;
        self.print(&answer, out)
    }

    fn print<T: Serialize + ToString>(&self, answer: &T, out: &mut impl Write) -> Result<(), CliError> {
        if self.json {
            let json = serde_json::to_string_pretty(answer).map_err(ClientError::Unreadable)?;
            writeln!(out, "{json}")?;
        } else {
            out.write_all(answer.to_string().as_bytes())?;
        }
        Ok(())
    }
}

/// Asks the gateway, or where none runs, the file.
fn explained(
    config: &Path,
    protocol: Protocol,
    src: &str,
    dst: &str,
    ask: &Ask,
    out: &mut impl Write,
) -> Result<(), CliError> {
    let (client, server) = (parse_client(protocol, src)?, parse_server(protocol, dst)?);
    let explanation = match ask.client(config)?.get(&format!("/explain?proto={protocol}&src={src}&dst={dst}"))
    {
        Err(ClientError::NoGateway { .. }) if ask.reach.is_configured() => {
            let policy = Config::load(config, cpus_of_this_machine())?.policy;
            explain(&policy, protocol, client, server)
        }
        answer => answer?,
    };
    ask.print::<Explanation>(&explanation, out)
}

fn capture(client: &Client, path: &str, write: &Path, out: &mut impl Write) -> Result<(), CliError> {
    if write == Path::new("-") {
        return Ok(client.stream(path, |chunk| out.write_all(chunk).and_then(|()| out.flush()))?);
    }
    let before: Stats = client.get("/stats")?;
    let mut file = File::create(write).map_err(|source| CliError::File { path: write.to_owned(), source })?;
    client.stream(path, |chunk| file.write_all(chunk))?;
    let after: Stats = client.get("/stats")?;
    let packets = after.capture.packets - before.capture.packets;
    let lost = after.capture.lost - before.capture.lost;
    writeln!(out, "{packets} packets in {}, {lost} lost because the reader was slow", write.display())?;
    Ok(())
}

fn reload(config: &Path, ask: &Ask, out: &mut impl Write) -> Result<(), CliError> {
    let reloaded: Reloaded = ask.client(config)?.post("/reload")?;
    ask.print(&reloaded, out)
}

/// A terminal does not need more looks, and fewer are no view of now.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    let (least, most) = (Duration::from_millis(100), Duration::from_secs(60));
    (least..=most).contains(&interval).then_some(interval).ok_or_else(|| "allowed: 100ms to 60s".to_owned())
}

/// CPUs are numbered below this. Offline CPUs leave gaps, so the highest number counts, not how many there are.
fn cpus_of_this_machine() -> usize {
    let online = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap_or_default();
    let highest = online.trim().rsplit([',', '-']).next().and_then(|last| last.parse::<usize>().ok());
    highest.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), |highest| highest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_configuration_may_be_named_before_or_after_the_command() {
        for line in [["pnat", "--config", "a.toml", "run"], ["pnat", "run", "--config", "a.toml"]] {
            assert_eq!(Cli::try_parse_from(line).expect("parses").config, Path::new("a.toml"));
        }
    }

    #[test]
    fn a_wrong_configuration_ends_with_2_and_a_closed_pipe_with_0() {
        let code = |error: CliError| format!("{:?}", error.exit_code());
        let config = ConfigError::Invalid(Vec::new());
        assert_eq!(code(config.into()), format!("{:?}", ExitCode::from(2)));
        let pipe = io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(code(pipe.into()), format!("{:?}", ExitCode::SUCCESS));
        assert_eq!(code(CliError::Filter(String::new())), format!("{:?}", ExitCode::from(2)));
    }
}
