//! Runs a capture: sets the tap in all cores, streams what they see as a pcap file, takes the tap out again.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use pnat_shared::capture::{Captures, Tap, TapPoint, UnknownTapPoint, tap, write_header, write_packet};
use pnat_shared::time::Duration;
use thiserror::Error;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::server::Server;
use super::{CoreError, CoreMessage};

/// Packets that may wait between two fetches.
const QUEUE: usize = 16_384;
/// How often packets are fetched. Cores never wake control, so it comes to look.
const FETCH: Duration = Duration::from_millis(10);
/// Fetches' worth of bytes that may wait for a slow reader.
const CHUNKS: usize = 16;
/// Bytes kept of a packet unless asked otherwise: all of them.
const SNAPLEN: u32 = 65_535;

/// When a capture ends, apart from its reader going away.
#[derive(Copy, Clone, Debug)]
pub(super) struct Limits {
    pub(super) count: Option<u64>,
    pub(super) seconds: Option<u64>,
    pub(super) snaplen: Option<u32>,
}

/// Why a capture does not start.
#[derive(Debug, Error)]
pub(super) enum CaptureError {
    #[error(transparent)]
    Point(#[from] UnknownTapPoint),
    #[error(
        "a pcap file holds packets of one kind: either of inside and outside, or of to_proxy and from_proxy"
    )]
    MixedLinks,
    #[error("another capture runs")]
    Busy,
    #[error(transparent)]
    Core(#[from] CoreError),
}

/// Starts a capture at a comma-separated list of points; the response's body is the pcap file.
pub(super) fn start(server: Arc<Server>, at: &str, limits: Limits) -> Result<Response, CaptureError> {
    let points = at.split(',').map(str::parse).collect::<Result<Vec<TapPoint>, _>>()?;
    let link = points.first().map(|point| point.link()).ok_or(CaptureError::MixedLinks)?;
    if points.iter().any(|point| point.link() != link) {
        return Err(CaptureError::MixedLinks);
    }
    let alone = server.capturing.clone().try_lock_owned().map_err(|_| CaptureError::Busy)?;
    let snaplen = limits.snaplen.unwrap_or(SNAPLEN).clamp(1, SNAPLEN);
    let (tap, captures) = tap(&points, snaplen as usize, QUEUE);
    let running = Running { server, captures, _alone: alone };
    running.set(&tap)?;
    info!(at, "capture starts");

    let (chunks, body) = mpsc::channel(CHUNKS);
    let mut head = Vec::new();
    write_header(&mut head, link, snaplen);
    tokio::spawn(running.stream(chunks, head, limits));
    Ok(([(header::CONTENT_TYPE, "application/vnd.tcpdump.pcap")], Body::new(Chunks(body))).into_response())
}

/// A capture; its end takes the tap out of the cores.
#[derive(Debug)]
struct Running {
    server: Arc<Server>,
    captures: Captures,
    _alone: OwnedMutexGuard<()>,
}

impl Running {
    fn set(&self, tap: &Tap) -> Result<(), CoreError> {
        self.server
            .gateway
            .cores
            .iter()
            .try_for_each(|core| core.tell(CoreMessage::Capture(Some(tap.clone()))))
    }

    async fn stream(self, chunks: mpsc::Sender<Bytes>, head: Vec<u8>, limits: Limits) {
        let epoch = self.server.gateway.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let end = limits.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        let mut left = limits.count.unwrap_or(u64::MAX);
        let mut fetches = interval(FETCH);
        fetches.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut packets, mut chunk) = (Vec::new(), head);
        loop {
            if !chunk.is_empty() && chunks.send(std::mem::take(&mut chunk).into()).await.is_err() {
                return;
            }
            if left == 0 || end.is_some_and(|end| end <= Instant::now()) {
                return;
            }
            tokio::select! {
                _ = fetches.tick() => {}
                () = chunks.closed() => return,
            }
            self.captures.fetch(usize::try_from(left).unwrap_or(usize::MAX).min(QUEUE), &mut packets);
            left -= packets.len() as u64;
            self.server.captured.add(packets.len() as u64);
            for packet in packets.drain(..) {
                write_packet(&mut chunk, &packet, epoch);
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for core in &self.server.gateway.cores {
            if let Err(error) = core.tell(CoreMessage::Capture(None)) {
                warn!(%error, "the tap stays until the next capture; it copies nothing");
            }
        }
        self.server.lost.add(self.captures.lost());
        info!(lost = self.captures.lost(), "capture has ended");
    }
}

/// A response body that goes on as long as somebody sends.
#[derive(Debug)]
struct Chunks(mpsc::Receiver<Bytes>);

impl HttpBody for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.poll_recv(cx).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    }
}
