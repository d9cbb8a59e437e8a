//! DPDK's ports, pools and cores by way of capsule.
//!
//! Runs on: worker and proxy cores (the loop), launch (the rest). Allocates: never on a core. Blocks: never on a core,
//! unless it idles and may sleep.
//!
//! ```text
//!  launch:  Runtime::start(plan) -> run_on_core(core, install)... -> execute() ................. -> drop
//!  core:                            '-> install(CorePorts) -> loop body, 256 turns, yield, ...   |
//!  signal:                                                          on_signal(signal) == true ---'
//! ```
//!
//! [`Runtime::start`] pins the thread that calls it for a while; afterwards that thread, and threads that it starts, may
//! run on every CPU of the process that has no loop. Only where every CPU has one it stays pinned, so start threads that
//! should float before that.

#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::future::Future;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;

use ::capsule::batch::Pipeline;
use ::capsule::config::RuntimeConfig;
use capsule_ffi::{device, offload};
use pnat_shared::flow::Offloads;
use pnat_shared::frame::L2_LEN;
use serde::Deserialize as _;
use thiserror::Error;

use super::PortInfo;
use super::mbuf::{self, MbufPool, Queue};
use super::plan::{Memory, Plan, PlanError, PlannedPort};

pub use ::capsule::UnixSignal as Signal;
pub use capsule_ffi::device::{PoolLevel, PortCounters, pools};

/// What a core's loop is built from, on that core.
#[derive(Debug)]
pub struct CorePorts {
    /// The core's queue of each port that it was given, by the port's name.
    pub queues: HashMap<String, Queue>,
    pub pool: MbufPool,
}

/// What a core does when its loop finds nothing to do.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Keeps polling: the shortest latency, a whole CPU.
    Poll,
    /// Polls for a while, then lets other threads run, then sleeps [`IDLE_SLEEP`] at a time.
    Adaptive,
}

/// The longest that an idle core is away, besides what the kernel adds.
pub const IDLE_SLEEP: Duration = Duration::from_micros(50);

/// Idle turns after which a core lets other threads run.
const IDLE_YIELD: u32 = 32;

/// Idle turns after which a core sleeps.
const IDLE_NAP: u32 = 256;

/// Turns of a core's loop between two looks at capsule's executor, which brings the order to stop.
const TURNS: u32 = 256;

/// Polls of a core's pipeline between two looks at [`Stopper`].
const STOP_LOOK: u32 = 256;

/// Why DPDK could not be started, or did not go on.
#[derive(Debug, Error)]
pub enum RuntimeError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// DPDK has written more about it to standard error.
    #[error("{doing}: {reason}")]
    Dpdk { doing: &'static str, reason: String },
    #[error("port \"{port}\": DPDK cannot open the device {device}; it has said why")]
    NoSuchDevice { port: String, device: String },
    /// The panic's message has gone to standard error.
    #[error("a core's loop panicked")]
    Panicked,
}

impl RuntimeError {
    /// The error that says what capsule was asked for.
    fn when<E: fmt::Display>(doing: &'static str) -> impl FnOnce(E) -> Self {
        move |error| Self::Dpdk { doing, reason: format!("{error:#}") }
    }
}

/// DPDK, started, with its ports open and its cores waiting for their loops. One per process, ever.
pub struct Runtime {
    capsule: ::capsule::Runtime,
    ports: Vec<PortInfo>,
    /// Those whose cores have no loop yet.
    queues: Vec<QueuePair>,
    memory: Memory,
    main_core: usize,
    stopper: Stopper,
}

/// A core's queue pair of a port, as DPDK numbers both.
#[derive(Debug)]
struct QueuePair {
    core: usize,
    name: String,
    port: u16,
    queue: u16,
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("ports", &self.ports)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Checks the plan, starts DPDK and opens the ports.
    pub fn start(plan: &Plan) -> Result<Self, RuntimeError> {
        let available = available_cpus();
        plan.check(&available)?;
        plan.check_devices()?;
        let main_core = plan.choose_main_core(&available);
        let mut nodes: Vec<_> = plan.cores.iter().chain([&main_core]).map(|&core| numa_node(core)).collect();
        nodes.sort_unstable();
        nodes.dedup();
        let free = if plan.hugepages { Memory::free_hugepages() } else { 0 };
        let memory = Memory::choose(plan.memory_needed(nodes.len()), free);

        let room = plan.frame_room();
        mbuf::set_frame_room(room);
        capsule_ffi::set_frame_room(room);
        offload::refuse(plan.refused_devices());
        let config = configuration(plan, main_core, &memory)?;
        let capsule = ::capsule::Runtime::build(config).map_err(|error| {
            unopened(plan).unwrap_or_else(|| RuntimeError::when("cannot start DPDK")(error))
        })?;
        let ports = plan.ports.iter().map(|port| port_info(port, room)).collect::<Result<_, _>>()?;
        let queues = plan.ports.iter().flat_map(queue_pairs).collect();

        let floating: Vec<usize> = available.into_iter().filter(|cpu| !plan.cores.contains(cpu)).collect();
        if !floating.is_empty() {
            allow_cpus(&floating);
        }
        Ok(Self { capsule, ports, queues, memory, main_core, stopper: Stopper::default() })
    }

    /// The ports of the plan, in its order.
    pub fn ports(&self) -> &[PortInfo] {
        &self.ports
    }

    /// Which memory was chosen; displayed as a sentence.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The core of the main thread.
    pub fn main_core(&self) -> usize {
        self.main_core
    }

    /// Ends [`Self::execute`] from any thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Gives a core its loop. When [`Self::execute`] begins, `install` builds it on that core; then it is called for as
    /// long as the process lives, and answers whether it found anything to do.
    pub fn run_on_core<I, L>(&mut self, core: usize, idle: Idle, install: I) -> Result<(), RuntimeError>
    where
        I: FnOnce(CorePorts) -> L + Send + 'static,
        L: FnMut() -> bool + 'static,
    {
        let mine: Vec<QueuePair> = self.queues.extract_if(.., |pair| pair.core == core).collect();
        let stopper = self.stopper.clone();
        let install = OneCall(install);
        let installer = move |_: HashMap<String, ::capsule::PortQueue>| {
            CoreLoop::new(core, idle, stopper, || {
                let queues = mine.into_iter().map(|pair| {
                    // SAFETY: capsule has set it up for this core, and it has been taken out of the list of all.
                    let queue = unsafe { Queue::new(pair.port, pair.queue) };
                    (pair.name, queue)
                });
                let pool = device::pool_on_node(numa_node(core)).map(MbufPool::new);
                let pool = pool.expect("invariant: capsule makes a pool on the node of each core");
                Box::new(install.call(CorePorts { queues: queues.collect(), pool }))
            })
        };
        self.capsule
            .add_pipeline_to_core(core, installer)
            .map_err(RuntimeError::when("cannot install a core's loop"))?;
        Ok(())
    }

    /// Sets what is called, on the main thread, when a signal comes: SIGHUP, SIGINT or SIGTERM. Answering true ends
    /// [`Self::execute`]; without this call every one of them does.
    pub fn on_signal(&mut self, handle: impl Fn(Signal) -> bool + 'static) {
        let stopper = self.stopper.clone();
        self.capsule.set_on_signal(move |signal| stopper.is_asked() || handle(signal));
    }

    /// Starts the ports, lets the cores run their loops, and waits on the calling thread, which must be the one that
    /// called [`Self::start`], for the signal to stop. When it answers, all cores have ended and their loops are dropped.
    /// A loop that panics ends it too, with an error: half a gateway is worse than none.
    pub fn execute(&mut self) -> Result<(), RuntimeError> {
        let ended = self.capsule.execute().map_err(RuntimeError::when("cannot run"));
        // A loop on the main core would otherwise be dropped, frames and all, after the pools are gone.
        for body in BODIES.take() {
            body.take();
        }
        if self.stopper.0.panicked.load(Ordering::Relaxed) {
            return Err(RuntimeError::Panicked);
        }
        ended
    }
}

/// Ends a [`Runtime`]'s execution from any thread.
#[derive(Clone, Debug, Default)]
pub struct Stopper(Arc<Ending>);

#[derive(Debug, Default)]
struct Ending {
    asked: AtomicBool,
    panicked: AtomicBool,
}

impl Stopper {
    /// Asks for the end; it comes some milliseconds later.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Relaxed);
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Relaxed)
    }

    /// What `run` answers; if it panics, nothing, and the end is asked for.
    fn unless_panic<T>(&self, run: impl FnOnce() -> T) -> Option<T> {
        // What `run` may leave half done is dropped by the caller.
        let answer = panic::catch_unwind(AssertUnwindSafe(run)).ok();
        if answer.is_none() {
            self.0.panicked.store(true, Ordering::Relaxed);
            self.stop();
        }
        answer
    }
}

/// What has passed through a port; `None` when DPDK is not up.
pub fn counters(port: &PortInfo) -> Option<PortCounters> {
    device::port_by_device(&port.device).map(device::PortId::counters)
}

/// Whether a port's link is up; `None` when DPDK is not up.
pub fn is_up(port: &PortInfo) -> Option<bool> {
    device::port_by_device(&port.device).map(device::PortId::is_up)
}

type Body = Rc<RefCell<Option<Box<dyn FnMut() -> bool>>>>;

thread_local! {
    /// The loops of this thread.
    static BODIES: RefCell<Vec<Body>> = const { RefCell::new(Vec::new()) };
}

/// A core's loop as a task of capsule's executor.
struct CoreLoop {
    name: String,
    body: Body,
    idle: Idle,
    idle_turns: u32,
    polls: u32,
    stopper: Stopper,
}

impl CoreLoop {
    fn new(
        core: usize,
        idle: Idle,
        stopper: Stopper,
        build: impl FnOnce() -> Box<dyn FnMut() -> bool>,
    ) -> Self {
        let body = Rc::new(RefCell::new(stopper.unless_panic(build)));
        BODIES.with_borrow_mut(|bodies| bodies.push(Rc::clone(&body)));
        if idle == Idle::Adaptive {
            // SAFETY: takes one number and touches no memory. Without it the kernel adds 50 us to every nap.
            unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
        }
        Self { name: format!("core {core}"), body, idle, idle_turns: 0, polls: 0, stopper }
    }

    /// Runs the body until it is time to look at the executor again.
    fn run(&mut self) {
        let mut slot = self.body.borrow_mut();
        let Some(body) = slot.as_mut() else { return nap() };
        let (idle, idle_turns) = (self.idle, &mut self.idle_turns);
        let ran = self.stopper.unless_panic(|| {
            for _ in 0..TURNS {
                if body() {
                    *idle_turns = 0;
                } else if idle == Idle::Adaptive {
                    *idle_turns = idle_turns.saturating_add(1);
                    if *idle_turns > IDLE_NAP {
                        return nap();
                    } else if *idle_turns > IDLE_YIELD {
                        thread::yield_now();
                    }
                }
            }
        });
        if ran.is_none() {
            *slot = None;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "an idle core gives its CPU away")]
fn nap() {
    thread::sleep(IDLE_SLEEP);
}

impl Future for CoreLoop {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.run();
        self.polls = self.polls.wrapping_add(1);
        if self.polls.is_multiple_of(STOP_LOOK) && self.stopper.is_asked() {
            // capsule stops on a signal and on nothing else. Its handler is in place by now: it is set right after the
            // cores are let go. Repeated until it is heard.
            // SAFETY: sends a signal to this process, which is always allowed.
            unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Pipeline for CoreLoop {
    fn name(&self) -> &str {
        &self.name
    }

    fn run_once(&mut self) {
        self.run();
    }
}

/// A function that is called once, by value. capsule asks for `Sync` though it only ever moves the function.
struct OneCall<F>(F);

// SAFETY: nothing can be done with a `&OneCall`, so nothing can be done with it from two threads at once.
unsafe impl<F> Sync for OneCall<F> {}

impl<F> OneCall<F> {
    fn call<A, R>(self, argument: A) -> R
    where
        F: FnOnce(A) -> R,
    {
        (self.0)(argument)
    }
}

/// capsule's configuration; its core numbers can be made in no other way than by deserializing.
fn configuration(plan: &Plan, main_core: usize, memory: &Memory) -> Result<RuntimeConfig, RuntimeError> {
    let planned = plan.ports.iter().map(|port| {
        serde_json::json!({
            "name": port.name, "device": port.device, "args": port.device_arguments(plan.frame_room()), "cores": port.cores,
            "rxd": port.queue_len, "txd": port.queue_len, "promiscuous": port.promiscuous,
        })
    });
    // Only makes its core one of those that capsule gives a pipeline to.
    let private = plan.cores_without_port().into_iter().map(|core| {
        serde_json::json!({
            "name": format!(" core {core}"), "device": format!("net_null_core{core}"), "args": "no-rx=1", "cores": [core],
        })
    });
    let config = serde_json::json!({
        "app_name": plan.app_name,
        "master_core": main_core,
        "cores": plan.cores,
        "mempool": { "capacity": plan.frames, "cache_size": plan.frame_cache },
        "ports": planned.chain(private).collect::<Vec<_>>(),
        "dpdk_args": plan.eal_arguments(memory).join(" "),
    });
    RuntimeConfig::deserialize(config).map_err(RuntimeError::when("cannot configure capsule"))
}

/// A port's queues, which capsule numbers in the order of their cores.
fn queue_pairs(planned: &PlannedPort) -> Vec<QueuePair> {
    let Some(port) = device::port_by_device(&planned.device) else { return Vec::new() };
    let mut cores = planned.cores.clone();
    cores.sort_unstable();
    cores.dedup();
    let pair = |(core, queue)| QueuePair { core, name: planned.name.clone(), port: port.number(), queue };
    cores.into_iter().zip(0..).map(pair).collect()
}

fn port_info(planned: &PlannedPort, frame_room: u16) -> Result<PortInfo, RuntimeError> {
    let unknown =
        || RuntimeError::NoSuchDevice { port: planned.name.clone(), device: planned.device.clone() };
    let port = device::port_by_device(&planned.device).ok_or_else(unknown)?;
    // DPDK's drivers for kernel interfaces do not ask the kernel.
    let kernel_mtu = planned
        .kernel_interface()
        .and_then(|interface| fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok())
        .and_then(|mtu| mtu.trim().parse().ok());
    let frame_mtu = frame_room - L2_LEN as u16;
    // Nor do they know what their frames hold: where the operator asks for more than the usual, ours and the kernel's
    // limits are the ones that count.
    let found = port.offloads();
    let driver_mtu = if planned.mtu.is_some() && kernel_mtu.is_some() { planned.mtu } else { port.mtu() };
    let driver = port.driver().ok_or_else(unknown)?;
    let mtu = [driver_mtu, kernel_mtu].into_iter().flatten().fold(frame_mtu, u16::min);
    // net_tap counts the Ethernet header of what it cuts against the MTU, and refuses what is longer.
    let wanted_mtu = planned.mtu.map_or(mtu, |wanted| wanted.min(mtu));
    let is_too_long = driver == "net_tap" && Some(wanted_mtu + L2_LEN as u16) > port.mtu();
    let segments = if is_too_long { 1 } else { found.tx_segments };
    Ok(PortInfo {
        name: planned.name.clone(),
        device: planned.device.clone(),
        driver,
        mac: port.mac().ok_or_else(unknown)?,
        mtu,
        verifies: found.rx_checksum,
        offloads: Offloads { checksum: found.tx_checksum, segments },
    })
}

/// The first port whose device DPDK could not open; `None` where that is not what went wrong.
fn unopened(plan: &Plan) -> Option<RuntimeError> {
    if !device::is_dpdk_up() {
        return None;
    }
    let missing = plan.ports.iter().find(|port| device::port_by_device(&port.device).is_none())?;
    let arguments = missing
        .device_arguments(plan.frame_room())
        .map_or_else(String::new, |arguments| format!(",{arguments}"));
    Some(RuntimeError::NoSuchDevice {
        port: missing.name.clone(),
        device: format!("{}{arguments}", missing.device),
    })
}

fn numa_node(core: usize) -> i32 {
    i32::try_from(core).map_or(0, capsule_ffi::numa_node_of_cpu)
}

/// The CPUs that the calling thread may run on, in ascending order.
pub fn available_cpus() -> Vec<usize> {
    // SAFETY: a set of bits, for which zero is a value; the kernel writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set);
        set
    };
    let capacity = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: `cpu` is below the set's capacity.
    (0..capacity).filter(|&cpu| unsafe { libc::CPU_ISSET(cpu, &set) }).collect()
}

/// Lets the calling thread, and threads that it starts, run on `cpus`. Where the kernel refuses, all stays as it was.
fn allow_cpus(cpus: &[usize]) {
    // SAFETY: as in `available_cpus`, from which the numbers come; the kernel only reads the set.
    unsafe {
        let mut set: libc::cpu_set_t = mem::zeroed();
        for &cpu in cpus {
            libc::CPU_SET(cpu, &mut set);
        }
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
    }
}
