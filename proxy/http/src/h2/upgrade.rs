//! HTTP/1.1 that turns into HTTP/2 (RFC 7540 section 3.2): its request is the first stream, without having been sent by HTTP/2.
//!
//! Runs on: proxy cores. Allocates: never. Blocks: never.
//!
//! The crate `h2` knows no such stream. To its role as server a request is shown that nobody has sent, and of its role as client
//! one is taken away that nobody is to see. Neither has fields, so that the compression of later ones is the same on both ends
//! (RFC 7541 section 2.3).

use bytes::BytesMut;
use http::{Request, Uri, Version};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::codec::HTTP2_PREFACE;

/// Length of a frame's head (RFC 9113 section 4.1).
const FRAME_HEAD: usize = 9;

/// Longest frame that may come first, in bytes: as long as any may be that was not agreed upon.
const LONGEST: usize = 16 * 1024;

const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;

/// What `HTTP2-Settings` says to a server in the client's place: no push, and windows and tables as they are by themselves. What
/// differs follows by the first frame.
pub(crate) const PLAIN_SETTINGS: &str = "AAIAAAAA";

/// The settings in a client's `HTTP2-Settings` (RFC 7540 section 3.2.1), as a frame has them. `None`: they are malformed.
pub(crate) fn settings_of(field: &[u8]) -> Option<Box<[u8]>> {
    let settings = URL_SAFE_NO_PAD.decode(field).ok()?;
    (settings.len() % 6 == 0 && settings.len() <= 600).then(|| settings.into())
}

/// `HEADERS` of stream 1, its end: `GET`, `http`, `/`, by their numbers in the static table.
pub(super) const REQUEST: [u8; FRAME_HEAD + 3] = [0, 0, 3, HEADERS, 0x5, 0, 0, 0, 1, 0x82, 0x86, 0x84];

/// The same for the role as client. That it is one of HTTP/1.1 allows it to name no authority.
pub(super) fn request() -> Request<()> {
    let mut request = Request::new(());
    *request.uri_mut() = Uri::from_static("/");
    *request.version_mut() = Version::HTTP_11;
    request
}

/// How long preface and first frame of a client are, behind which [`REQUEST`] is put; `None`: they are not all there. What is no
/// preface has no length: it is for `h2` to refuse.
pub(super) fn beginning(bytes: &[u8]) -> Option<usize> {
    let start = &bytes[..bytes.len().min(HTTP2_PREFACE.len())];
    if start != &HTTP2_PREFACE[..start.len()] {
        return Some(0);
    }
    let rest = bytes.get(HTTP2_PREFACE.len()..)?;
    let length = frame(rest)?;
    if length > LONGEST + FRAME_HEAD {
        return Some(0);
    }
    (rest.len() >= length).then_some(HTTP2_PREFACE.len() + length)
}

/// Preface and first frame of a client, with `settings` before its own: it means both, and its answer is one.
pub(super) fn with_settings(beginning: &[u8], settings: &[u8]) -> Vec<u8> {
    let (preface, frame) = beginning.split_at(beginning.len().min(HTTP2_PREFACE.len()));
    let [_, _, _, SETTINGS, flags, rest @ ..] = frame else { return beginning.to_vec() };
    let length = (settings.len() + frame.len() - FRAME_HEAD) as u32;
    let head = [&length.to_be_bytes()[1..], &[SETTINGS, *flags], &rest[..4]].concat();
    [preface, &head, settings, &rest[4..]].concat()
}

/// What the role as client has said first, without its request. `None`: there is none.
pub(super) fn without_request(mut words: BytesMut) -> Option<BytesMut> {
    let mut at = HTTP2_PREFACE.len();
    loop {
        let rest = words.get(at..)?;
        let length = frame(rest).filter(|&length| length <= rest.len())?;
        if rest[3] == HEADERS {
            let behind = words.split_off(at + length);
            words.truncate(at);
            words.unsplit(behind);
            return Some(words);
        }
        at += length;
    }
}

/// Length of the frame that `bytes` begin with, its head included.
fn frame(bytes: &[u8]) -> Option<usize> {
    let head = bytes.get(..FRAME_HEAD)?;
    Some(FRAME_HEAD + (usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])))
}
