//! Two DPDK ports with a device under test between them, or one port whose frames come back.
//!
//! Runs on: a core of its own (the loop), the calling thread (DPDK's start and end), a thread (whoever orders trials).
//! Allocates: per trial. Blocks: never on the core.
//!
//! All hosts on either side are one station: the generator answers every question for an address with its port's.

use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, bounded};
use pnat_dataplane::launch::Clock;
use pnat_dataplane::port::capsule::{CorePorts, Idle, Runtime, counters};
use pnat_dataplane::port::mbuf::{MbufFrame, MbufPool, Queue};
use pnat_dataplane::port::plan::{Plan, PlannedPort};
use pnat_dataplane::port::{PortInfo, PortQueue};
use pnat_shared::frame::{Frame, FramePool, L2_LEN};
use pnat_shared::time::Instant;
use pnat_shared::wire::arp;
use pnat_shared::wire::ethernet::{self, Mac};

use crate::load::scenario::{Device, Dpdk};
use crate::load::sizes::FCS;
use crate::load::trial::{Medium, Outcome, Progress, Running, Tally, Tester, Trial};

const SEND: &str = "send";
const RECEIVE: &str = "receive";
/// Descriptors of each queue.
const QUEUE_LEN: u16 = 2048;
const FRAME_CACHE: u32 = 256;
/// Bytes of the largest frame that needs no word about it.
const USUAL: u16 = 1518;

/// Starts DPDK on the calling thread, and lets `body` run trials from another one.
pub(super) fn run<T: Send>(
    spec: &Dpdk,
    largest: u16,
    progress: Arc<Progress>,
    body: impl FnOnce(&mut dyn Tester) -> Result<T> + Send,
) -> Result<T> {
    let mut runtime = Runtime::start(&plan(spec, largest))?;
    let ports = runtime.ports().to_vec();
    let (trials, orders) = bounded(1);
    let (results, outcomes) = bounded(1);
    let mac = spec.mac;
    runtime.run_on_core(spec.core, Idle::Adaptive, move |queues| {
        generate(DpdkMedium::new(queues, ports, mac), orders, results, progress)
    })?;
    let stopper = runtime.stopper();
    thread::scope(|scope| {
        let ordering = scope.spawn(move || {
            let done = body(&mut Remote { trials, outcomes });
            stopper.stop();
            done
        });
        let ran = runtime.execute();
        let done = ordering.join().map_err(|_| anyhow!("the thread that orders trials panicked"))?;
        ran?;
        done
    })
}

fn plan(spec: &Dpdk, largest: u16) -> Plan {
    let port = |name: &str, device: &Device| PlannedPort {
        name: name.to_owned(),
        device: device.name.clone(),
        args: device.args.clone(),
        cores: vec![spec.core],
        queue_len: QUEUE_LEN,
        promiscuous: true,
        mtu: (largest > USUAL).then_some(largest - (L2_LEN + FCS) as u16),
        offloads: true,
    };
    let mut ports = vec![port(SEND, &spec.send)];
    ports.extend(spec.receive.as_ref().map(|device| port(RECEIVE, device)));
    Plan {
        app_name: "pnat-perf".to_owned(),
        cores: vec![spec.core],
        main_core: None,
        ports,
        frames: spec.frames,
        frame_cache: FRAME_CACHE,
        hugepages: true,
        eal_args: spec.eal.clone(),
    }
}

/// The generator's loop: runs trials as they are ordered.
fn generate(
    mut medium: DpdkMedium,
    orders: Receiver<Trial>,
    results: Sender<Outcome>,
    progress: Arc<Progress>,
) -> impl FnMut() -> bool {
    let mut running: Option<Running<MbufFrame>> = None;
    let mut idle = Vec::new();
    move || {
        let Some(trial) = &mut running else {
            running = orders.try_recv().ok().map(|trial| Running::new(trial, &mut medium, progress.clone()));
            // Between trials somebody may still ask for addresses.
            medium.receive(&mut idle);
            idle.clear();
            return running.is_some();
        };
        if !trial.turn(&mut medium)
            && let Some(trial) = running.take()
        {
            // Nobody waits for it any more where this fails.
            let _ = results.send(trial.outcome(&mut medium));
        }
        true
    }
}

/// Orders trials from the core that has the ports.
struct Remote {
    trials: Sender<Trial>,
    outcomes: Receiver<Outcome>,
}

impl Tester for Remote {
    fn run(&mut self, trial: Trial) -> Result<Outcome> {
        const STOPPED: &str = "stopped before the trial's end";
        self.trials.send(trial).map_err(|_| anyhow!(STOPPED))?;
        self.outcomes.recv().context(STOPPED)
    }
}

/// The generator's core's queues.
struct DpdkMedium {
    send: Queue,
    /// `None`: the same.
    receive: Option<Queue>,
    pool: MbufPool,
    clock: Clock,
    /// The sending port, and the stations' addresses: its own, the other port's, the device under test's.
    port: PortInfo,
    macs: [Mac; 2],
    to: Mac,
    came: Vec<MbufFrame>,
    answers: Vec<MbufFrame>,
}

impl DpdkMedium {
    fn new(mut ports: CorePorts, infos: Vec<PortInfo>, to: Mac) -> Self {
        let send = ports.queues.remove(SEND).expect("invariant: the plan gave the core this port");
        let mac = |index: usize| Mac(infos[index.min(infos.len() - 1)].mac);
        Self {
            send,
            receive: ports.queues.remove(RECEIVE),
            pool: ports.pool,
            clock: Clock::start(),
            macs: [mac(0), mac(1)],
            port: infos[0].clone(),
            to,
            came: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// Answers questions for addresses among what has come; the rest goes to `burst`.
    fn sort(&mut self, mac: Mac, burst: &mut Vec<MbufFrame>) {
        for frame in self.came.drain(..) {
            match ask(&frame) {
                Some(question) => self.answers.extend(answer(&mut self.pool, question, mac)),
                None => burst.push(frame),
            }
        }
    }
}

impl Medium for DpdkMedium {
    type Frame = MbufFrame;
    type Pool = MbufPool;

    fn link(&self) -> ethernet::Header {
        ethernet::Header { dst: self.to, src: self.macs[0], ether_type: ethernet::TYPE_IPV4 }
    }

    fn now(&mut self) -> Instant {
        self.clock.now()
    }

    fn pool(&mut self) -> &mut MbufPool {
        &mut self.pool
    }

    fn transmit(&mut self, burst: &mut Vec<MbufFrame>) {
        self.send.transmit(burst);
    }

    fn receive(&mut self, burst: &mut Vec<MbufFrame>) {
        let Self { send, receive, came, .. } = self;
        if let Some(receive) = receive {
            receive.receive(came);
            self.sort(self.macs[1], burst);
            if let Some(receive) = &mut self.receive {
                receive.transmit(&mut self.answers);
            }
            // What comes back to the sending port is no test frame that has passed.
            self.send.receive(&mut self.came);
            let mut dropped = Vec::new();
            self.sort(self.macs[0], &mut dropped);
        } else {
            send.receive(came);
            self.sort(self.macs[0], burst);
        }
        self.send.transmit(&mut self.answers);
    }

    fn wait(&mut self, _until: Instant) {
        std::hint::spin_loop();
    }

    fn tally(&mut self) -> Tally {
        let refused = counters(&self.port).map_or(0, |counters| counters.tx_dropped);
        Tally { refused, ..Tally::default() }
    }
}

/// A neighbor's question for an address, unless it announces its own.
fn ask(frame: &MbufFrame) -> Option<arp::Message> {
    let link =
        ethernet::Header::read(frame.data()).ok().filter(|link| link.ether_type == ethernet::TYPE_ARP)?;
    let asked = arp::Message::read(&frame.data()[L2_LEN..]).ok()?;
    let is_question = asked.operation == arp::Operation::Request && asked.sender != asked.target;
    (is_question && !link.src.is_group()).then_some(asked)
}

fn answer(pool: &mut MbufPool, asked: arp::Message, mac: Mac) -> Option<MbufFrame> {
    let mut frame = pool.alloc()?;
    if !frame.resize(L2_LEN + arp::LEN) {
        return None;
    }
    let link = ethernet::Header { dst: asked.sender_mac, src: mac, ether_type: ethernet::TYPE_ARP };
    link.write(frame.data_mut());
    let message = arp::Message {
        operation: arp::Operation::Reply,
        sender_mac: mac,
        sender: asked.target,
        target_mac: asked.sender_mac,
        target: asked.sender,
    };
    message.write(&mut frame.data_mut()[L2_LEN..]);
    Some(frame)
}
