//! Filters that the pair tests need and no operator would.

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use pnat_proxy::filter::{
    Call, DatagramFilter, DatagramVerdict, Factory, Flow, Services, StreamFilter, Summary, Verdict,
};
use pnat_shared::flow::Stream;
use pnat_shared::time::{Duration, Instant};
use pnat_shared::verdict::CloseReason;

/// Does what the bytes say: `panic`, `reset`, `answer`, `drop`, `close`, `delay`, `double` at their begin; else they pass.
/// Reports how flows end.
#[derive(Debug)]
pub struct Obedient {
    ends: Sender<End>,
}

/// How a flow ended.
#[derive(Debug)]
pub struct End {
    pub rule: Option<String>,
    pub summary: Summary,
    pub verdict: Option<String>,
    pub target: Option<SocketAddrV4>,
    pub public: SocketAddrV4,
}

impl End {
    fn of(flow: &Flow, summary: &Summary) -> Self {
        Self {
            rule: flow.rule.as_deref().map(str::to_owned),
            summary: *summary,
            verdict: flow.verdict.as_deref().map(str::to_owned),
            target: flow.target,
            public: flow.public,
        }
    }
}

pub fn obedient() -> (Arc<dyn Factory>, Receiver<End>) {
    let (ends, receiver) = channel();
    (Arc::new(Obedient { ends }), receiver)
}

struct Instance {
    ends: Sender<End>,
    delayed_until: Option<Instant>,
}

impl Factory for Obedient {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(Instance { ends: self.ends.clone(), delayed_until: None })
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(Instance { ends: self.ends.clone(), delayed_until: None })
    }
}

impl Instance {
    fn delay(&mut self, now: Instant) -> Instant {
        *self.delayed_until.get_or_insert(now + Duration::from_millis(100))
    }

    fn report(&self, flow: &Flow, summary: &Summary) {
        let _ = self.ends.send(End::of(flow, summary));
    }
}

impl StreamFilter for Instance {
    fn data(&mut self, call: &mut Call<'_>, _: Stream, bytes: &[u8], _: usize, end: bool) -> Verdict {
        match bytes {
            [b'p', b'a', b'n', b'i', b'c', ..] => panic!("as told"),
            [b'r', b'e', b's', b'e', b't', ..] => Verdict::Reset(CloseReason::Blocked),
            [b'a', b'n', b's', b'w', b'e', b'r', ..] => {
                call.output.extend_from_slice(b"403");
                Verdict::Answer(CloseReason::Blocked)
            }
            [b'd', b'o', b'u', b'b', b'l', b'e', ..] => {
                call.output.extend_from_slice(bytes);
                call.output.extend_from_slice(bytes);
                Verdict::Edit(bytes.len())
            }
            [b'd', b'e', b'l', b'a', b'y', ..] if !end && call.now < self.delay(call.now) => {
                *call.wake = self.delayed_until;
                Verdict::Pass(0)
            }
            [b'h', b'o', b'l', b'd', ..] => Verdict::Pass(0),
            _ => Verdict::Pass(bytes.len()),
        }
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, _: &mut Services) {
        self.report(flow, summary);
    }
}

impl DatagramFilter for Instance {
    fn datagram(&mut self, call: &mut Call<'_>, _: Stream, bytes: &[u8]) -> DatagramVerdict {
        match bytes {
            b"panic" => panic!("as told"),
            b"drop" => DatagramVerdict::Drop,
            b"close" => DatagramVerdict::Close(CloseReason::Blocked),
            b"double" => {
                call.output.extend_from_slice(b"doubledouble");
                DatagramVerdict::Edit
            }
            b"grow" => {
                call.output.resize(1473, b'g');
                DatagramVerdict::Edit
            }
            b"delay" if call.now < self.delay(call.now) => DatagramVerdict::Delay(self.delay(call.now)),
            _ => DatagramVerdict::Pass,
        }
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, _: &mut Services) {
        self.report(flow, summary);
    }
}

/// Stands in for servers, as the client's bytes say: `hit` is answered by `served` once the client has ended its stream, `page`
/// at once and for good; anything else is for the server, but `sorry,TEXT` is what the client is to hear if that fails,
/// `to,ADDRESS` is for the server at that address, as all that follows, and `home` for the one that the client named. `stay` keeps
/// the client when the server ends or fails, until it says `done` or ends, too; with `stay,TEXT`, the next server is told TEXT then.
/// `leave` leaves the server, if something else was said before. Reports how flows end.
#[derive(Debug)]
pub struct StandIn {
    ends: Sender<End>,
    is_busy: Arc<AtomicBool>,
}

pub fn stand_in() -> (Arc<dyn Factory>, Receiver<End>) {
    busy_stand_in(Arc::default())
}

/// One whose answers are not ready for as long as that is true.
pub fn busy_stand_in(is_busy: Arc<AtomicBool>) -> (Arc<dyn Factory>, Receiver<End>) {
    let (ends, receiver) = channel();
    (Arc::new(StandIn { ends, is_busy }), receiver)
}

impl Factory for StandIn {
    fn stream(&self) -> Box<dyn StreamFilter> {
        let is_busy = Arc::clone(&self.is_busy);
        Box::new(Stand {
            ends: self.ends.clone(),
            is_busy,
            owes: false,
            excuse: None,
            keeps: false,
            again: None,
        })
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        unreachable!("for streams")
    }
}

struct Stand {
    ends: Sender<End>,
    is_busy: Arc<AtomicBool>,
    /// An answer to the client.
    owes: bool,
    /// What it hears of a server that fails.
    excuse: Option<Vec<u8>>,
    keeps: bool,
    /// What a server is told that is asked anew because the one before went.
    again: Option<Vec<u8>>,
}

impl StreamFilter for Stand {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        bytes: &[u8],
        _held: usize,
        end: bool,
    ) -> Verdict {
        self.keeps &= stream == Stream::Second || !end;
        match (stream, bytes) {
            (Stream::First, [b'h', b'i', b't', ..]) => {
                self.owes = true;
                Verdict::Edit(bytes.len())
            }
            (Stream::First, [b'p', b'a', b'g', b'e', ..]) => {
                call.output.extend_from_slice(b"served");
                Verdict::Answer(CloseReason::Finished)
            }
            (Stream::First, [b'l', b'e', b'a', b'v', b'e', ..]) => {
                call.flow.leaves_server = true;
                Verdict::Edit(bytes.len())
            }
            (Stream::First, [b's', b't', b'a', b'y', again @ ..]) => {
                self.keeps = true;
                self.again = again.strip_prefix(b",").map(<[u8]>::to_vec);
                Verdict::Pass(bytes.len())
            }
            (Stream::First, [b'd', b'o', b'n', b'e', ..]) => {
                self.keeps = false;
                Verdict::Edit(bytes.len())
            }
            (Stream::First, [b't', b'o', b',', target @ ..]) => {
                let target = std::str::from_utf8(target).unwrap();
                call.flow.target = Some(target.parse().unwrap());
                Verdict::Pass(bytes.len())
            }
            (Stream::First, [b'h', b'o', b'm', b'e', ..]) => {
                call.flow.target = None;
                Verdict::Pass(bytes.len())
            }
            (Stream::First, [b's', b'o', b'r', b'r', b'y', b',', excuse @ ..]) => {
                self.excuse = Some(excuse.to_vec());
                Verdict::Pass(bytes.len())
            }
            (Stream::Second, []) if end && std::mem::take(&mut self.owes) => {
                call.output.extend_from_slice(b"served");
                Verdict::Edit(0)
            }
            _ => Verdict::Pass(bytes.len()),
        }
    }

    fn answers(&self) -> bool {
        true
    }

    fn keeps_client(&self) -> bool {
        self.keeps || (self.owes && self.is_busy.load(Ordering::Relaxed))
    }

    fn server_failed(&mut self, call: &mut Call<'_>, reason: CloseReason) -> bool {
        let Some(excuse) = self.excuse.take() else { return false };
        call.output.extend_from_slice(&excuse);
        call.flow.verdict = Some(format!("the server: {reason}").into());
        true
    }

    fn server_left(&mut self, call: &mut Call<'_>, _: Option<CloseReason>) -> bool {
        if let Some(again) = self.again.take() {
            call.output.extend_from_slice(&again);
        }
        false
    }

    fn close(&mut self, flow: &Flow, summary: &Summary, _: &mut Services) {
        let _ = self.ends.send(End::of(flow, summary));
    }
}
