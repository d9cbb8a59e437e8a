//! Filters that the pair tests need and no operator would.

use std::sync::Arc;
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
        let rule = flow.rule.as_deref().map(str::to_owned);
        let _ = self.ends.send(End { rule, summary: *summary });
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
