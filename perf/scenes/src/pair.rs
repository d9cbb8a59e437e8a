//! A proxy core alone: a reactor as its loop drives it, with hosts in the place of workers and rings.

use std::sync::Arc;

use crate::frames::{Pool, PoolFrame};
use crate::gateway::{INSIDE, link_to, proxy_settings};
use crate::host::{self, Host};
use crate::measure::{Burst, Scene, time};
use pnat_proxy::filter::{Chains, Services};
use pnat_proxy::reactor::{Outputs, Reactor, Snapshot};
use pnat_shared::flow::{Handle, NewFlow, Offloads, Protocol, WorkerId};
use pnat_shared::loopback::{FIRST, FromProxy, ToProxy, mask, unmask};
use pnat_shared::time::{Duration, Instant};

use crate::{BURST, Turn, VISIT};

/// Virtual time from one burst to the next: about what a burst takes.
const STEP: Duration = Duration::from_micros(5);

/// A reactor, and what one worker has for it.
#[derive(Debug)]
pub(crate) struct Core {
    reactor: Reactor<PoolFrame>,
    out: Outputs<PoolFrame>,
    pub(crate) now: Instant,
    pub(crate) input: Vec<ToProxy<PoolFrame>>,
}

impl Core {
    pub(crate) fn new(flows: usize, chains: Chains) -> Self {
        let now = Instant::from_secs(1);
        let settings = proxy_settings(u32::try_from(flows).expect("flows are 22 bits"));
        let mut reactor = Reactor::new(&settings, 1, Services::default(), Arc::default(), now);
        reactor
            .set_policy(Snapshot { generation: 1, rules: vec!["all".into()], chains: Arc::new(chains) }, 1);
        Self { reactor, out: Outputs::new(1), now, input: Vec::new() }
    }

    /// The first packet of a flow.
    pub(crate) fn open(&mut self, handle: Handle, frame: PoolFrame) {
        let masked = mask(handle).into();
        let flow = NewFlow {
            accepted: None,
            handle,
            protocol: Protocol::Tcp,
            client: masked,
            server: masked,
            public: masked,
            policy: 1,
            rule: Some(0),
            mtu: [1500, 1500],
            offloads: [Offloads::NONE; 2],
            opened: self.now,
        };
        self.input.push(ToProxy::Open { frame, at: self.now, flow: Box::new(flow) });
    }

    pub(crate) fn packet(&mut self, frame: PoolFrame) {
        self.input.push(ToProxy::Packet { frame, at: self.now });
    }

    /// Takes the input, and does what is due: one turn of a proxy core's loop.
    pub(crate) fn turn(&mut self) {
        let Self { reactor, out, now, input } = self;
        let due = reactor.deadline() <= *now;
        reactor.on_burst(input, &mut Pool, *now, out);
        if due {
            reactor.on_timer(&mut Pool, *now, out);
        }
        reactor.handed_on(*now);
    }

    /// What the reactor has put out.
    pub(crate) fn output(&mut self) -> Vec<FromProxy<PoolFrame>> {
        std::mem::take(self.out.worker(WorkerId(0)))
    }

    /// Gives the memory of [`Core::output`] back, so that no burst allocates.
    pub(crate) fn keep(&mut self, mut output: Vec<FromProxy<PoolFrame>>) {
        output.clear();
        *self.out.worker(WorkerId(0)) = output;
    }

    pub(crate) fn pairs(&self) -> usize {
        self.reactor.len()
    }
}

/// Open flows, each with a client that sends and a server that acknowledges.
#[derive(Debug)]
pub struct Pairs {
    core: Core,
    clients: Vec<Host>,
    servers: Vec<Host>,
    /// Data segments that have come to servers.
    delivered: u64,
    turn: Turn,
}

pub(crate) const fn handle(slot: usize, generation: u16) -> Handle {
    Handle { worker: WorkerId(0), slot: slot as u32, generation }
}

impl Pairs {
    pub fn new(flows: usize, chains: Chains) -> Self {
        let core = Core::new(flows, chains);
        let mut pairs =
            Self { core, clients: Vec::new(), servers: Vec::new(), delivered: 0, turn: Turn::new(flows) };
        for flow in 0..flows {
            let handle = handle(flow, 1);
            let mut client = Host::new(link_to(INSIDE), mask(handle), FIRST);
            let syn = client.syn();
            pairs.clients.push(client);
            pairs.core.open(handle, syn);
            // The SYN; the SYN-ACK; the last ACK.
            for _ in 0..3 {
                pairs.core.now += STEP;
                pairs.core.turn();
                pairs.exchange();
            }
            assert_eq!(pairs.servers.len(), flow + 1, "each flow reaches its server");
        }
        pairs
    }

    /// Hosts take what the reactor sent them, and answer.
    fn exchange(&mut self) {
        let mut output = self.core.output();
        for message in output.drain(..) {
            let FromProxy::Packet { frame, .. } = message else { panic!("a flow has ended") };
            let (packet, header, _) = host::read(&frame).expect("a segment");
            let flow = unmask(packet.dst, header.dst_port).expect("a masked address").slot as usize;
            let answer = if packet.src == *FIRST.ip() {
                self.clients[flow].on_frame(&frame)
            } else {
                self.serve(flow, &frame)
            };
            if let Some(answer) = answer {
                self.core.packet(answer);
            }
        }
        self.core.keep(output);
    }

    /// Servers come to be as they are asked, in the order of their flows.
    fn serve(&mut self, flow: usize, frame: &PoolFrame) -> Option<PoolFrame> {
        if flow == self.servers.len() {
            self.servers.push(Host::meeting(link_to(INSIDE), frame));
        }
        let server = &mut self.servers[flow];
        let before = server.segments;
        let answer = server.on_frame(frame);
        self.delivered += server.segments - before;
        answer
    }
}

impl Scene for Pairs {
    fn burst(&mut self) -> Burst {
        self.core.now += STEP;
        for _ in 0..BURST / VISIT {
            let flow = self.turn.advance();
            for _ in 0..VISIT {
                if self.clients[flow].may_send() {
                    let data = self.clients[flow].data();
                    self.core.packet(data);
                }
            }
        }
        // ACKs of the burst before are taken in this turn.
        let took = time(|| self.core.turn());
        let before = self.delivered;
        self.exchange();
        Burst { packets: self.delivered - before, took }
    }
}
