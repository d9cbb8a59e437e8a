//! Behind an upgrade to WebSocket (RFC 6455): frames pass as they came, and the filters that want them see them.
//!
//! The exchange lasts as long as the connection. Other upgrades, and frames that nobody wants, are none of HTTP's business: both
//! streams are released.

use pnat_shared::flow::Stream;

use super::work::Work;
use super::{Connection, Down, End, Why};
use crate::cascade::Went;
use crate::websocket::{Extensions, FrameReader, SCRATCH};

impl Connection {
    /// Whether a 101 makes a WebSocket of the connection, and a filter wants to see its frames.
    pub(super) fn shows_frames(&mut self, work: &mut Work<'_, '_>) -> bool {
        self.request.fields().lists("upgrade", "websocket")
            && self.response.fields().lists("upgrade", "websocket")
            && self.response.status() == 101
            && self.cascade.wants_frames(&mut work.context(&mut self.exchange), &self.request, &self.response)
    }

    /// Lets the 101, a head of so many bytes, go on to the client.
    pub(super) fn begin_frames(&mut self, work: &mut Work<'_, '_>, len: usize) -> bool {
        let extensions = Extensions::agreed(&self.response);
        let readers = [Stream::First, Stream::Second].map(|stream| FrameReader::new(stream, extensions));
        self.frames = Some(Box::new(readers));
        self.down = Down::Frames;
        self.progress.begun = true;
        self.progress.status = Some(self.response.status());
        work.script.pass(len);
        // What the client has sent ahead is frames, too.
        work.again = true;
        true
    }

    /// Shows the frames of one side to the filters.
    pub(super) fn frames_step(&mut self, work: &mut Work<'_, '_>, sender: Stream) -> bool {
        let Some(readers) = &mut self.frames else { return false };
        let scratch = &mut [0; SCRATCH];
        while !work.rest().is_empty() && !work.is_spent() {
            let (taken, frame) = match readers[sender as usize].next(work.rest(), scratch) {
                Ok(read) => read,
                Err(fault) => {
                    let why = match sender {
                        Stream::First => Why::Request(fault),
                        Stream::Second => Why::Response(fault),
                    };
                    work.end = End::Reset(why);
                    return false;
                }
            };
            if let Some(frame) = frame {
                work.spend(0);
                let context = &mut work.context(&mut self.exchange);
                let why = match self.cascade.frame(context, sender, &frame) {
                    Went::On | Went::More => None,
                    Went::Reset => Some(Why::Filter),
                    Went::Overrun => Some(Why::Overrun),
                };
                if let Some(why) = why {
                    work.end = End::Reset(why);
                    return false;
                }
            }
            work.script.pass(taken);
        }
        false
    }
}
