//! Wires ports, workers, proxy cores and control together and runs them: the only module that knows all of them.
//!
//! ```text
//!   main thread      starts DPDK, waits for signals
//!   worker CPUs      worker_loop:  ports <-> worker <-> rings
//!   proxy CPUs       proxy_loop:   rings <-> reactor          (a CPU named twice runs one, then the other)
//!   control thread   API, reload, report                      (tokio)
//!   log writer       files of `log` filters
//! ```

mod clock;
mod counters;
mod drain;
mod listing;
mod mesh;
mod meter;
mod proxy_loop;
mod worker_loop;

pub use clock::{Clock, Timepiece};
pub use mesh::{ProxyEnds, WorkerEnds, mesh};
pub use proxy_loop::{ProxyLoop, snapshot};
pub use worker_loop::WorkerLoop;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, bounded};
use pnat_proxy::reactor::{Reactor, ReactorStats};
use pnat_shared::capture::TapPoint;
use pnat_shared::config::{Config, ConfigError, Ecn, Hugepages, Idle, Offloads};
use pnat_shared::flow::WorkerId;
use pnat_shared::stats::Counter;
use pnat_shared::time::Duration;
use pnat_shared::wire::ethernet::Mac;
use thiserror::Error;
use tracing::info;

use crate::control::tls::Credentials;
use crate::control::{self, CORE_QUEUE, Control, Core, CoreMessage, FIRST_GENERATION, Gateway, Gauge, Role};
use crate::filters::{Compiled, Filters, Kinds};
use crate::handoff::Shards;
use crate::nat::policy;
use crate::port::capsule::{self, CorePorts, Runtime, RuntimeError, Signal};
use crate::port::mbuf::{MbufFrame, MbufPool, Queue};
use crate::port::plan::{Plan, PlannedPort};
use crate::route::PortInfo;
use crate::worker::{Setup, SynCookies, Worker, WorkerStats};
use counters::{LostRecords, PoolGauge, PortGauge};

/// Descriptors of each receive and transmit queue.
const QUEUE_LEN: u16 = 2048;
/// Frames that each core keeps for itself.
const FRAME_CACHE: u32 = 256;
/// Longer than any timeout of the proxy's own: a worker ends a proxied flow only if its pair never did.
const SAFETY_NET: Duration = Duration::from_secs(15 * 60);

/// Why a gateway did not start, or did not run to its end.
#[derive(Debug, Error)]
pub enum LaunchError {
    #[error(transparent)]
    Port(#[from] RuntimeError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Control(#[from] control::ControlError),
    #[error("{0}")]
    Filter(String),
    #[error("cannot start the log writer: {0}")]
    LogWriter(std::io::Error),
    #[error("the operating system gives no random numbers: {0}")]
    Random(#[from] getrandom::Error),
}

/// Runs the gateway until it is told to stop. `cpus` is how many CPUs the machine has, `kinds` which HTTP filters there are.
pub fn run(config: Config, path: &Path, cpus: usize, kinds: Kinds) -> Result<(), LaunchError> {
    let clock = Clock::start();
    let (filters, log_thread) =
        Filters::start(config.proxy.window, kinds, clock).map_err(LaunchError::LogWriter)?;
    let chains = filters.compile(&config.policy).map_err(LaunchError::Filter)?;
    let listen = config.control.listen.as_ref();
    let credentials = listen.map(|listen| Credentials::load(path, &listen.tls)).transpose()?;
    let mut runtime = Runtime::start(&plan(&config))?;
    info!("{}", runtime.memory());
    for port in runtime.ports() {
        info!("{port}");
    }

    let mut cores = Vec::new();
    let mut gauges = vec![
        Gauge { kind: "pool", name: "frames".to_owned(), counters: Arc::new(PoolGauge) },
        Gauge { kind: "log", name: "writer".to_owned(), counters: log_thread.counters() },
    ];
    let (worker_ends, proxy_ends) =
        mesh(config.cores.workers.len(), config.cores.proxies.len(), config.proxy.ring as usize);
    let levels = mesh::levels(&worker_ends, &proxy_ends).into_iter();
    let mut seats: BTreeMap<usize, Seat> = BTreeMap::new();
    let setup = WorkerSetup::new(&config, runtime.ports())?;
    let mut workers = Vec::new();
    for (index, (&cpu, rings)) in config.cores.workers.iter().zip(worker_ends).enumerate() {
        let (messages, inbox) = bounded(CORE_QUEUE);
        let stats = Arc::new(WorkerStats::new(config.ports.len()));
        cores.push(Core { role: Role::Worker, index, cpu, messages, counters: stats.clone() });
        workers.push(stats.clone());
        let first = (index == 0).then(|| chains.clone());
        let plan = WorkerPlan { setup: setup.of(index)?, stats, rings, inbox, first };
        seats.entry(cpu).or_default().worker = Some(plan);
    }
    gauges.extend(runtime.ports().iter().enumerate().map(|(number, port)| Gauge {
        kind: "port",
        name: port.name.clone(),
        counters: Arc::new(PortGauge::new(port.clone(), number, workers.clone())),
    }));
    gauges.extend(levels.map(|(name, level)| Gauge { kind: "ring", name, counters: level }));
    let mut pairs = Vec::new();
    for (index, (&cpu, rings)) in config.cores.proxies.iter().zip(proxy_ends).enumerate() {
        let (messages, inbox) = bounded(CORE_QUEUE);
        let lost = Arc::new(Counter::default());
        let services = filters.services(lost.clone());
        let stats = Arc::new(ReactorStats::default());
        pairs.push(stats.clone());
        cores.push(Core { role: Role::Proxy, index, cpu, messages, counters: stats.clone() });
        gauges.push(Gauge {
            kind: "log",
            name: format!("proxy {index}"),
            counters: Arc::new(LostRecords(lost)),
        });
        let mut reactor = Reactor::new(&config.proxy, rings.to_proxy.len(), services, stats, clock.now());
        reactor.keep_frames(frame_budget(&config));
        reactor.set_policy(snapshot(FIRST_GENERATION, &config.policy, chains.clone()), FIRST_GENERATION);
        seats.entry(cpu).or_default().proxy = Some(ProxyPlan { reactor, rings, inbox });
    }
    drop(chains);

    let idle = match config.cores.idle {
        Idle::Poll => capsule::Idle::Poll,
        Idle::Adaptive => capsule::Idle::Adaptive,
    };
    let port_names: Arc<[(String, TapPoint)]> = config
        .ports
        .iter()
        .map(|port| (port.name.clone(), if port.outside { TapPoint::Outside } else { TapPoint::Inside }))
        .collect();
    let measures = config.control.measure;
    for (cpu, seat) in seats {
        let names = port_names.clone();
        runtime.run_on_core(cpu, idle, move |ports| seat.take(ports, &names, clock, measures))?;
    }

    let control = control::start(Gateway {
        config_file: path.to_owned(),
        config,
        cpus,
        started: clock.started(),
        cores,
        gauges,
        filters,
        credentials,
    })?;
    stop_on_signal(&mut runtime, control, pairs);
    info!("running");
    runtime.execute()?;
    // The cores and control are gone, and with them all that could still write.
    drop(runtime);
    log_thread.finish();
    Ok(())
}

/// The first SIGTERM or SIGINT drains, a second one ends what is left without patience, a third one stops dead. SIGHUP is
/// control's.
fn stop_on_signal(runtime: &mut Runtime, control: Control, pairs: Vec<Arc<ReactorStats>>) {
    let stopper = runtime.stopper();
    let waiting = RefCell::new(Some((control, pairs)));
    let hurry = Arc::new(AtomicBool::new(false));
    runtime.on_signal(move |signal| {
        if matches!(signal, Signal::SIGHUP) {
            return false;
        }
        let Some((control, pairs)) = waiting.borrow_mut().take() else {
            return hurry.swap(true, Ordering::Relaxed);
        };
        let (stopper, hurry) = (stopper.clone(), hurry.clone());
        let drained = thread::Builder::new()
            .name("drain".to_owned())
            .spawn(move || drain::drain(control, &pairs, &hurry, &stopper));
        drained.is_err()
    });
}

fn plan(config: &Config) -> Plan {
    let mut cores = [config.cores.workers.as_slice(), &config.cores.proxies].concat();
    cores.sort_unstable();
    cores.dedup();
    let port = |port: &pnat_shared::config::Port| PlannedPort {
        name: port.name.clone(),
        device: port.device.clone(),
        args: port.args.clone(),
        cores: config.cores.workers.clone(),
        queue_len: QUEUE_LEN,
        promiscuous: false,
        mtu: port.mtu,
        offloads: port.offloads == Offloads::Auto,
    };
    Plan {
        app_name: "pnat".to_owned(),
        cores,
        main_core: Some(config.cores.main),
        ports: config.ports.iter().map(port).collect(),
        frames: config.memory.frames,
        frame_cache: FRAME_CACHE,
        hugepages: config.memory.hugepages == Hugepages::Auto,
        eal_args: Vec::new(),
    }
}

/// Frames that one proxy core's pairs may keep: half of the pool, shared out, so that they leave the ports enough to
/// receive into.
fn frame_budget(config: &Config) -> usize {
    config.memory.frames as usize / 2 / config.cores.proxies.len().max(1)
}

/// What all workers have in common.
struct WorkerSetup {
    setup: Setup,
}

impl WorkerSetup {
    fn new(config: &Config, devices: &[crate::port::PortInfo]) -> Result<Self, LaunchError> {
        let workers = config.cores.workers.len() as u8;
        let proxies = config.cores.proxies.len() as u8;
        let ports = config.ports.iter().zip(devices);
        let idle = config.proxy.idle_timeout.max(config.proxy.udp_timeout);
        let (above, window) = (config.proxy.syn_cookies_above, config.proxy.window);
        let ecn = config.proxy.transport.ecn == Ecn::Mirror;
        Ok(Self {
            setup: Setup {
                me: WorkerId(0),
                shards: Shards::new(workers, proxies, getrandom::u64()?),
                ports: ports
                    .map(|(port, device)| PortInfo::new(port, Mac(device.mac), device.mtu, device.offloads))
                    .collect(),
                nat: config.nat.clone(),
                policy: policy::Snapshot { generation: FIRST_GENERATION, policy: config.policy.clone() },
                proxied_idle: idle + SAFETY_NET,
                cookies: SynCookies { above, window, ecn, secret: 0 },
                secret: 0,
            },
        })
    }

    /// A worker's own, with secrets that nobody else has.
    fn of(&self, index: usize) -> Result<Setup, LaunchError> {
        let secret = u128::from(getrandom::u64()?) << 64 | u128::from(getrandom::u64()?);
        Ok(Setup {
            me: WorkerId(index as u8),
            secret: getrandom::u64()?,
            cookies: SynCookies { secret, ..self.setup.cookies },
            ..self.setup.clone()
        })
    }
}

/// What one CPU is to run.
#[derive(Default)]
struct Seat {
    worker: Option<WorkerPlan>,
    proxy: Option<ProxyPlan>,
}

struct WorkerPlan {
    setup: Setup,
    stats: Arc<WorkerStats>,
    rings: WorkerEnds<MbufFrame>,
    inbox: Receiver<CoreMessage>,
    /// What the first worker does for all: it tells the neighbors who the gateway is, and checks these chains' servers.
    first: Option<Compiled>,
}

struct ProxyPlan {
    reactor: Reactor<MbufFrame>,
    rings: ProxyEnds<MbufFrame>,
    inbox: Receiver<CoreMessage>,
}

impl Seat {
    /// Builds the CPU's loop, on that CPU.
    fn take(
        self,
        ports: CorePorts,
        names: &[(String, TapPoint)],
        clock: Clock,
        measures: bool,
    ) -> impl FnMut() -> bool + use<> {
        let CorePorts { mut queues, pool } = ports;
        let mut worker = self.worker.map(|plan| {
            let queues = names
                .iter()
                .map(|(name, point)| {
                    (queues.remove(name).expect("invariant: each worker has a queue of each port"), *point)
                })
                .collect();
            let worker = Worker::new(plan.setup, pool, plan.stats, clock.now());
            let mut worker: WorkerLoop<MbufFrame, MbufPool, Queue> =
                WorkerLoop::new(worker, clock, queues, plan.rings, plan.inbox);
            worker.measure(measures);
            if let Some(chains) = plan.first {
                worker.announce();
                worker.check(&chains);
            }
            worker
        });
        let mut proxy = self.proxy.map(|plan| {
            let mut proxy = ProxyLoop::new(plan.reactor, pool, clock, plan.rings, plan.inbox);
            proxy.measure(measures);
            proxy
        });
        let mut since = None;
        move || {
            let worked = worker.as_mut().is_some_and(|worker| worker.turn(&mut since));
            let worked = proxy.as_mut().is_some_and(|proxy| proxy.turn(&mut since)) || worked;
            if !worked {
                // The core may sleep before the next turn.
                since = None;
            }
            worked
        }
    }
}
