//! Two DPDK ports with a device under test between them, or one port whose frames come back.
//!
//! Runs on: a core of its own (the loop), the calling thread (DPDK's start and end), a thread (whoever orders trials).
//! Allocates: per trial. Blocks: never on the core.
//!
//! All hosts on either side are one station: the generator answers every question for an address with its port's. It begins
//! once the links are up and the gateway has said where frames are to go.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};
use pnat_dataplane::launch::Clock;
use pnat_dataplane::port::capsule::{CorePorts, Idle, Runtime, counters, is_up};
use pnat_dataplane::port::mbuf::{MbufFrame, MbufPool, Queue};
use pnat_dataplane::port::plan::{Plan, PlannedPort};
use pnat_dataplane::port::{BURST, PortInfo, PortQueue};
use pnat_shared::flow::Side;
use pnat_shared::frame::{Frame as _, L2_LEN};
use pnat_shared::time::{Duration, Instant};
use pnat_shared::wire::ethernet::{self, Mac};

use super::neighbor;
use crate::load::scenario::{Device, Dpdk, Station};
use crate::load::sizes::FCS;
use crate::load::tcp::{ClientSockets, Duplex, TcpOutcome, TcpRunning, TcpTester, TcpTrial};
use crate::load::trial::{Medium, Outcome, Progress, Running, Tally, Tester, Trial};

const SEND: &str = "send";
const RECEIVE: &str = "receive";
/// Descriptors of each queue.
const QUEUE_LEN: u16 = 2048;
const FRAME_CACHE: u32 = 256;
/// Bytes of the largest frame that needs no word about it.
const USUAL: u16 = 1518;
/// Bursts that one look at a port brings: more than are sent meanwhile, so that no queue fills up for the generator's sake.
const MOST_BURSTS: usize = 8;
/// How long the links may take to come up, and the gateway to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often both are looked after.
const LOOK: Duration = Duration::from_millis(50);
/// How long the device under test is waited for at the end, where it is to leave first.
const HOLD: Duration = Duration::from_secs(60);
/// Its ports are rings of memory that both ends share: a full one is the receive queue of whoever reads it.
const SHARED_RINGS: &str = "net_memif";

/// Starts DPDK on the calling thread, and lets `trials` run trials from another one. See [`super::with_medium`].
pub(super) fn run<J: Job, T, R: Send>(
    spec: &Dpdk,
    largest: u16,
    progress: Arc<Progress>,
    hold: bool,
    trials: impl FnOnce(&mut Remote<J>) -> Result<T> + Send,
    tell: impl FnOnce(T) -> Result<R> + Send,
) -> Result<R> {
    let mut runtime = Runtime::start(&plan(spec, largest))?;
    let ports = runtime.ports().to_vec();
    let (trials_to_core, orders) = bounded(1);
    let (results, outcomes) = bounded(1);
    let (running, stopped) = bounded(0);
    let (station, mine) = (spec.station, ports.clone());
    runtime.run_on_core(spec.core, Idle::Adaptive, move |queues| {
        let medium = DpdkMedium::new(queues, mine, station);
        let mut generator = Generator { medium, ends: Some((orders, results)), progress, state: State::Idle };
        move || generator.turn()
    })?;
    let stopper = runtime.stopper();
    thread::scope(|scope| {
        let ordering = scope.spawn(move || {
            let mut remote = Remote { orders: trials_to_core, outcomes, stopped };
            let done = trials(&mut remote).and_then(|shown| {
                remote.leave();
                tell(shown)
            });
            if hold && done.is_ok() {
                wait_until_down(&ports);
            }
            stopper.stop();
            done
        });
        let ran = runtime.execute();
        drop(running);
        let done = ordering.join().map_err(|_| anyhow!("the thread that orders trials panicked"))?;
        ran?;
        done
    })
}

/// Waits until no port has a link, a minute at most.
#[expect(clippy::disallowed_methods, reason = "nothing is running any more")]
fn wait_until_down(ports: &[PortInfo]) {
    let looks = HOLD.as_millis() / LOOK.as_millis();
    let up = || ports.iter().any(|port| is_up(port) == Some(true));
    (0..looks).take_while(|_| up()).for_each(|_| thread::sleep(LOOK));
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

/// A trial of one kind or the other, as the core runs it.
pub(super) trait Job: Send + 'static {
    type Running;
    type Outcome: Send + 'static;

    fn begin(self, medium: &mut DpdkMedium, progress: Arc<Progress>) -> Self::Running;

    /// Answers false when it is over.
    fn turn(running: &mut Self::Running, medium: &mut DpdkMedium) -> bool;

    fn end(running: Self::Running, medium: &mut DpdkMedium) -> Self::Outcome;
}

impl Job for Trial {
    type Running = Running<MbufFrame>;
    type Outcome = Outcome;

    fn begin(self, medium: &mut DpdkMedium, progress: Arc<Progress>) -> Self::Running {
        Running::new(self, medium, progress)
    }

    fn turn(running: &mut Self::Running, medium: &mut DpdkMedium) -> bool {
        running.turn(medium)
    }

    fn end(running: Self::Running, medium: &mut DpdkMedium) -> Outcome {
        running.outcome(medium)
    }
}

/// A trial of connections, and the classes' sockets.
pub(super) struct TcpJob(TcpTrial, Vec<ClientSockets>);

impl Job for TcpJob {
    type Running = TcpRunning<MbufFrame>;
    type Outcome = (TcpOutcome, Vec<ClientSockets>);

    fn begin(self, medium: &mut DpdkMedium, progress: Arc<Progress>) -> Self::Running {
        let Self(trial, sockets) = self;
        TcpRunning::new(trial, sockets, medium, progress)
    }

    fn turn(running: &mut Self::Running, medium: &mut DpdkMedium) -> bool {
        running.turn(medium)
    }

    fn end(running: Self::Running, medium: &mut DpdkMedium) -> Self::Outcome {
        running.outcome(medium)
    }
}

/// The generator's loop: runs trials as they are ordered.
struct Generator<J: Job> {
    medium: DpdkMedium,
    /// Where trials are ordered and their outcomes told; `None`: nobody orders any more, and the ports are left alone.
    ends: Option<Ends<J>>,
    progress: Arc<Progress>,
    state: State<J>,
}

type Ends<J> = (Receiver<J>, Sender<Result<<J as Job>::Outcome>>);

enum State<J: Job> {
    Idle,
    /// Until when the medium may take to be ready, and when that is looked after next.
    Ordered {
        trial: J,
        deadline: Instant,
        look: Instant,
    },
    Running(Box<J::Running>),
}

impl<J: Job> Generator<J> {
    fn turn(&mut self) -> bool {
        let Some((orders, results)) = &self.ends else { return false };
        let medium = &mut self.medium;
        let now = medium.now();
        let tell = |result| {
            // Nobody waits for it any more where this fails.
            let _ = results.send(result);
            State::Idle
        };
        self.state = match std::mem::replace(&mut self.state, State::Idle) {
            State::Running(mut running) => {
                if J::turn(&mut running, medium) {
                    State::Running(running)
                } else {
                    tell(Ok(J::end(*running, medium)))
                }
            }
            State::Ordered { trial, deadline, look } if now >= look => match medium.missing() {
                None => State::Running(Box::new(trial.begin(medium, self.progress.clone()))),
                Some(missing) if now >= deadline => tell(Err(anyhow!("{missing}"))),
                Some(_) => State::Ordered { trial, deadline, look: now + LOOK },
            },
            waiting @ State::Ordered { .. } => {
                medium.receive_nothing();
                waiting
            }
            State::Idle => {
                // Between trials somebody may still ask for addresses.
                medium.receive_nothing();
                match orders.try_recv() {
                    Ok(trial) => State::Ordered { trial, deadline: now + PATIENCE, look: now },
                    Err(TryRecvError::Empty) => return false,
                    Err(TryRecvError::Disconnected) => {
                        self.ends = None;
                        return false;
                    }
                }
            }
        };
        true
    }
}

/// Orders trials from the core that has the ports.
pub(super) struct Remote<J: Job> {
    orders: Sender<J>,
    outcomes: Receiver<Result<J::Outcome>>,
    /// Ends when the core does, whyever.
    stopped: Receiver<()>,
}

impl<J: Job> Remote<J> {
    fn order(&self, trial: J) -> Result<J::Outcome> {
        const STOPPED: &str = "stopped before the trial's end";
        self.orders.send(trial).map_err(|_| anyhow!(STOPPED))?;
        select! {
            recv(self.outcomes) -> outcome => outcome.context(STOPPED)?,
            recv(self.stopped) -> _ => Err(anyhow!(STOPPED)),
        }
    }

    /// Returns once the core leaves its ports alone.
    fn leave(self) {
        drop(self.orders);
        select! {
            recv(self.outcomes) -> _ => {}
            recv(self.stopped) -> _ => {}
        }
    }
}

impl Tester for Remote<Trial> {
    fn run(&mut self, trial: Trial) -> Result<Outcome> {
        self.order(trial)
    }
}

/// Orders trials of connections.
pub(super) struct TcpRemote<'a> {
    pub(super) remote: &'a Remote<TcpJob>,
    /// By class: they rest from one trial to the next, too.
    pub(super) sockets: Vec<ClientSockets>,
}

impl TcpTester for TcpRemote<'_> {
    fn run(&mut self, trial: TcpTrial) -> Result<TcpOutcome> {
        let sockets = std::mem::take(&mut self.sockets);
        let (outcome, sockets) = self.remote.order(TcpJob(trial, sockets))?;
        self.sockets = sockets;
        Ok(outcome)
    }
}

/// The generator's core's queues.
pub(super) struct DpdkMedium {
    send: Queue,
    /// `None`: the same.
    receive: Option<Queue>,
    pool: MbufPool,
    clock: Clock,
    /// The sending port, then the receiving one if it is another.
    ports: Vec<PortInfo>,
    to: Mac,
    /// Where the other port's frames are to go: to whoever was the last to send one there.
    back: Mac,
    /// The gateway, as long as it has not answered, and for whom it is asked.
    asked: Option<[Ipv4Addr; 2]>,
    came: Vec<MbufFrame>,
    answers: Vec<MbufFrame>,
}

impl DpdkMedium {
    fn new(mut queues: CorePorts, ports: Vec<PortInfo>, station: Station) -> Self {
        let send = queues.queues.remove(SEND).expect("invariant: the plan gave the core this port");
        let (to, asked) = match station {
            Station::Mac(mac) => (mac, None),
            Station::Gateway { address, asked_by } => (Mac::BROADCAST, Some([address, asked_by])),
        };
        Self {
            send,
            receive: queues.queues.remove(RECEIVE),
            pool: queues.pool,
            clock: Clock::start(),
            ports,
            to,
            back: Mac::BROADCAST,
            asked,
            came: Vec::new(),
            answers: Vec::new(),
        }
    }

    /// What there has to be before frames can be sent, and is not yet. Asks for the gateway.
    fn missing(&mut self) -> Option<String> {
        let is_down = |port: &&PortInfo| is_up(port) != Some(true);
        if let Some(port) = self.ports.iter().find(is_down) {
            return Some(format!("medium.{}: {} has no link", port.name, port.device));
        }
        let [address, asked_by] = self.asked?;
        let from = (self.mac(0), asked_by);
        let question = neighbor::question(&mut self.pool, from, address);
        self.answers.extend(question);
        self.send.transmit(&mut self.answers);
        Some(format!("medium.gateway: nobody answers for {address} on {}", self.ports[0].device))
    }

    fn mac(&self, port: usize) -> Mac {
        Mac(self.ports[port.min(self.ports.len() - 1)].mac)
    }

    /// Takes what neighbors ask and answer out of what has come to a port; the rest goes to `burst`.
    fn sort(&mut self, port: usize, burst: &mut Vec<MbufFrame>) {
        let mac = self.mac(port);
        if port > 0
            && let Some(link) = self.came.last().and_then(|frame| ethernet::Header::read(frame.data()).ok())
        {
            self.back = link.src;
        }
        for frame in self.came.drain(..) {
            match neighbor::message(&frame) {
                Some(message) if self.asked.is_some_and(|[address, _]| address == message.sender) => {
                    (self.to, self.asked) = (message.sender_mac, None);
                }
                Some(message) if neighbor::is_question(&message) => {
                    self.answers.extend(neighbor::answer(&mut self.pool, message, mac));
                }
                _ => burst.push(frame),
            }
        }
    }

    fn receive_nothing(&mut self) {
        let mut nothing = Vec::new();
        self.receive(&mut nothing);
    }
}

/// Takes what waits at a port.
fn fetch(queue: &mut Queue, came: &mut Vec<MbufFrame>) {
    for _ in 0..MOST_BURSTS {
        if queue.receive(came) < BURST {
            return;
        }
    }
}

impl Medium for DpdkMedium {
    type Frame = MbufFrame;
    type Pool = MbufPool;

    fn link(&self) -> ethernet::Header {
        ethernet::Header { dst: self.to, src: self.mac(0), ether_type: ethernet::TYPE_IPV4 }
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
        if let Some(receive) = &mut self.receive {
            fetch(receive, &mut self.came);
            self.sort(1, burst);
            if let Some(receive) = &mut self.receive {
                receive.transmit(&mut self.answers);
            }
        }
        fetch(&mut self.send, &mut self.came);
        if self.receive.is_some() {
            // What comes back to the sending port is no test frame that has passed.
            let passed = burst.len();
            self.sort(0, burst);
            burst.truncate(passed);
        } else {
            self.sort(0, burst);
        }
        self.send.transmit(&mut self.answers);
    }

    fn wait(&mut self, _until: Instant) {
        std::hint::spin_loop();
    }

    fn tally(&mut self) -> Tally {
        let [port, ..] = &*self.ports else { return Tally::default() };
        let untaken = counters(port).map_or(0, |counters| counters.tx_dropped);
        if port.driver == SHARED_RINGS {
            Tally { missed: untaken, ..Tally::default() }
        } else {
            Tally { refused: untaken, ..Tally::default() }
        }
    }
}

/// Where there is one port, it is both sides'.
impl Duplex for DpdkMedium {
    fn link_at(&self, side: Side) -> ethernet::Header {
        if side == Side::First || self.receive.is_none() {
            return self.link();
        }
        ethernet::Header { dst: self.back, src: self.mac(1), ether_type: ethernet::TYPE_IPV4 }
    }

    fn transmit_at(&mut self, side: Side, burst: &mut Vec<MbufFrame>) {
        match &mut self.receive {
            Some(receive) if side == Side::Second => receive.transmit(burst),
            _ => self.send.transmit(burst),
        }
    }

    fn receive_both(&mut self, bursts: &mut [Vec<MbufFrame>; 2]) {
        let [first, second] = bursts;
        fetch(&mut self.send, &mut self.came);
        self.sort(0, first);
        self.send.transmit(&mut self.answers);
        if let Some(receive) = &mut self.receive {
            fetch(receive, &mut self.came);
            self.sort(1, second);
            if let Some(receive) = &mut self.receive {
                receive.transmit(&mut self.answers);
            }
        }
    }
}
