//! A filter that chooses each flow's server, by its client.

use std::net::{Ipv4Addr, SocketAddrV4};

use pnat_proxy::filter::{Call, DatagramFilter, Factory, StreamFilter, Verdict};
use pnat_shared::flow::Stream;
use pnat_shared::time::Duration;

/// The other server.
pub(crate) const OTHER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 7), 8080);
/// What one server is told before the other is asked, where both are.
const SHARE: usize = 1_000;

/// Who serves a client.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// The server that it named.
    Named,
    /// The other one.
    Other,
    /// First the one, then the other.
    Both,
    /// Nobody but the filter.
    Filter,
}

impl Way {
    pub(crate) const fn of(client: SocketAddrV4) -> Self {
        match client.port() % 4 {
            0 => Self::Named,
            1 => Self::Other,
            2 => Self::Both,
            _ => Self::Filter,
        }
    }

    /// How many servers a client meets that says this.
    pub(crate) const fn servers(self, text: &[u8]) -> usize {
        match self {
            Self::Filter => 0,
            _ if text.is_empty() => 0,
            Self::Both if text.len() > SHARE => 2,
            _ => 1,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Chooser;

impl Factory for Chooser {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::<Choice>::default()
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        unreachable!("for streams")
    }
}

/// Echoes, too, where it is the one that serves.
#[derive(Default)]
struct Choice {
    text: Vec<u8>,
    said: usize,
    heard: usize,
}

impl Choice {
    /// Bytes for both servers: the second one is asked when the first has answered.
    fn share(&mut self, call: &mut Call<'_>, bytes: &[u8]) -> Verdict {
        let left = SHARE - self.said.min(SHARE);
        if left == 0 && self.heard >= SHARE {
            call.flow.target = Some(OTHER);
            return Verdict::Pass(bytes.len());
        }
        let count = left.min(bytes.len());
        self.said += count;
        if count < bytes.len() {
            *call.wake = Some(call.now + Duration::from_millis(1));
        }
        Verdict::Pass(count)
    }
}

impl StreamFilter for Choice {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        stream: Stream,
        bytes: &[u8],
        _held: usize,
        _end: bool,
    ) -> Verdict {
        match (Way::of(call.flow.client), stream) {
            (Way::Filter, Stream::First) => {
                self.text.extend_from_slice(bytes);
                Verdict::Edit(bytes.len())
            }
            (Way::Filter, Stream::Second) => {
                call.output.append(&mut self.text);
                Verdict::Edit(0)
            }
            (Way::Both, Stream::First) => self.share(call, bytes),
            (_, Stream::Second) => {
                self.heard += bytes.len();
                Verdict::Pass(bytes.len())
            }
            (way, Stream::First) => {
                call.flow.target = (way == Way::Other).then_some(OTHER);
                Verdict::Pass(bytes.len())
            }
        }
    }

    fn answers(&self) -> bool {
        true
    }

    fn budget(&self) -> usize {
        1 << 20
    }
}
