//! gzip (RFC 1952), and deflate in zlib's wrapping (RFC 1950) or none (RFC 1951).

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::encode::Flush;
use super::{Coding, Fault, Progress};

const WINDOW_BITS: u8 = 15;
/// A member costs its memory anew.
const MEMBERS: u32 = 1000;

pub(super) struct Decoder {
    state: State,
    members: u32,
}

enum State {
    /// Deflate of which we do not know yet whether it is wrapped; its first byte, once that is there.
    Unknown(Option<u8>),
    Running(Decompress),
    /// A gzip member has ended: another one may follow.
    Between(Decompress),
    Ended,
}

impl Decoder {
    pub(super) fn gzip() -> Self {
        Self { state: State::Running(Decompress::new_gzip(WINDOW_BITS)), members: 1 }
    }

    pub(super) const fn deflate() -> Self {
        Self { state: State::Unknown(None), members: 1 }
    }

    pub(super) fn step(&mut self, coding: Coding, bytes: &[u8], room: &mut [u8]) -> Result<Progress, Fault> {
        match &mut self.state {
            State::Unknown(first) => {
                let mut taken = 0;
                if first.is_none() {
                    *first = bytes.first().copied();
                    taken = bytes.len().min(1);
                }
                let (Some(first), Some(&second)) = (*first, bytes.get(taken)) else {
                    return Ok(Progress { taken, given: 0, whole: false });
                };
                let mut inner = Decompress::new(is_zlib(first, second));
                inflate(&mut inner, &[first], &mut []).map_err(|_| Fault::Malformed(coding))?;
                self.state = State::Running(inner);
                let progress = self.step(coding, &bytes[taken..], room)?;
                Ok(Progress { taken: taken + progress.taken, ..progress })
            }
            State::Between(_) | State::Ended if bytes.is_empty() => {
                Ok(Progress { taken: 0, given: 0, whole: true })
            }
            State::Between(inner) => {
                self.members += 1;
                if self.members > MEMBERS {
                    return Err(Fault::Excessive(coding));
                }
                inner.reset(true);
                let State::Between(inner) = std::mem::replace(&mut self.state, State::Ended) else {
                    return Err(Fault::Malformed(coding));
                };
                self.state = State::Running(inner);
                // What is no member there is what should not be there.
                self.step(coding, bytes, room).map_err(|_| Fault::Trailing(coding))
            }
            State::Running(inner) => {
                let progress = inflate(inner, bytes, room).map_err(|_| Fault::Malformed(coding))?;
                if progress.whole {
                    self.state = match std::mem::replace(&mut self.state, State::Ended) {
                        State::Running(inner) if coding == Coding::Gzip => State::Between(inner),
                        _ => State::Ended,
                    };
                }
                Ok(progress)
            }
            State::Ended => Err(Fault::Trailing(coding)),
        }
    }
}

/// Whether this is how zlib's wrapping begins: the method, a window that there is, no dictionary, and the check of the two.
fn is_zlib(first: u8, second: u8) -> bool {
    let check = u16::from_be_bytes([first, second]).is_multiple_of(31);
    first & 0x0f == 8 && first >> 4 <= 7 && second & 0x20 == 0 && check
}

fn inflate(
    inner: &mut Decompress,
    bytes: &[u8],
    room: &mut [u8],
) -> Result<Progress, flate2::DecompressError> {
    let before = (inner.total_in(), inner.total_out());
    let status = inner.decompress(bytes, room, FlushDecompress::None)?;
    Ok(Progress {
        taken: (inner.total_in() - before.0) as usize,
        given: (inner.total_out() - before.1) as usize,
        whole: status == Status::StreamEnd,
    })
}

pub(super) struct Encoder {
    inner: Compress,
}

impl Encoder {
    pub(super) fn gzip(level: u8) -> Self {
        Self { inner: Compress::new_gzip(Compression::new(level.into()), WINDOW_BITS) }
    }

    pub(super) fn deflate(level: u8) -> Self {
        Self { inner: Compress::new(Compression::new(level.into()), true) }
    }

    pub(super) fn step(
        &mut self,
        coding: Coding,
        bytes: &[u8],
        flush: Flush,
        room: &mut [u8],
    ) -> Result<Progress, Fault> {
        let before = (self.inner.total_in(), self.inner.total_out());
        let how = match flush {
            Flush::No => FlushCompress::None,
            Flush::Sync => FlushCompress::Sync,
            Flush::End => FlushCompress::Finish,
        };
        let status = self.inner.compress(bytes, room, how).map_err(|_| Fault::Encoder(coding))?;
        let taken = (self.inner.total_in() - before.0) as usize;
        let given = (self.inner.total_out() - before.1) as usize;
        // A flush is through when there was room left behind it.
        let whole = if flush == Flush::End { status == Status::StreamEnd } else { given < room.len() };
        Ok(Progress { taken, given, whole })
    }
}
