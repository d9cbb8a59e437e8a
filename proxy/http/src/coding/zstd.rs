//! Zstandard (RFC 8878), as a content coding (RFC 9659).

use zstd_safe::zstd_sys::{ZSTD_EndDirective, ZSTD_ErrorCode};
use zstd_safe::{CCtx, CParameter, DCtx, DParameter, InBuffer, OutBuffer};

use super::encode::Flush;
use super::{Coding, Fault, Progress};

/// The greatest window that we write, as a power of two: 512 KB.
const WINDOW: u32 = 19;
/// The smallest that there is.
const LEAST_WINDOW: u32 = 10;
/// The greatest window that content may have: 8 MB (RFC 9659 section 3).
const MOST_WINDOW: u32 = 23;

pub(super) struct Decoder {
    inner: DCtx<'static>,
    whole: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let mut inner = DCtx::create();
        // It is in the range that zstd knows; without it the limit would be its own, which is greater.
        let _ = inner.set_parameter(DParameter::WindowLogMax(MOST_WINDOW));
        Self { inner, whole: false }
    }

    pub(super) fn step(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<Progress, Fault> {
        if self.whole && bytes.is_empty() {
            return Ok(Progress { taken: 0, given: 0, whole: true });
        }
        let between = self.whole;
        let mut input = InBuffer::around(bytes);
        let mut output = OutBuffer::around(room);
        let hint = self.inner.decompress_stream(&mut output, &mut input).map_err(|code| {
            if zstd_safe::is_error_kind(code, ZSTD_ErrorCode::ZSTD_error_frameParameter_windowTooLarge) {
                Fault::Excessive(Coding::Zstd)
            } else if between {
                Fault::Trailing(Coding::Zstd)
            } else {
                Fault::Malformed(Coding::Zstd)
            }
        })?;
        self.whole = hint == 0;
        Ok(Progress { taken: input.pos(), given: output.pos(), whole: self.whole })
    }
}

pub(super) struct Encoder {
    inner: CCtx<'static>,
}

impl Encoder {
    /// For content of this many bytes, where that is known.
    pub(super) fn new(level: u8, size: Option<u64>) -> Result<Self, Fault> {
        let mut inner = CCtx::try_create().ok_or(Fault::Encoder(Coding::Zstd))?;
        let window = size.map_or(WINDOW, |size| size.max(1).ilog2() + 1).clamp(LEAST_WINDOW, WINDOW);
        for parameter in [CParameter::CompressionLevel(level.into()), CParameter::WindowLog(window)] {
            inner.set_parameter(parameter).map_err(|_| Fault::Encoder(Coding::Zstd))?;
        }
        Ok(Self { inner })
    }

    pub(super) fn step(&mut self, bytes: &[u8], flush: Flush, room: &mut [u8]) -> Result<Progress, Fault> {
        let how = match flush {
            Flush::No => ZSTD_EndDirective::ZSTD_e_continue,
            Flush::Sync => ZSTD_EndDirective::ZSTD_e_flush,
            Flush::End => ZSTD_EndDirective::ZSTD_e_end,
        };
        let mut input = InBuffer::around(bytes);
        let mut output = OutBuffer::around(room);
        let left = self
            .inner
            .compress_stream2(&mut output, &mut input, how)
            .map_err(|_| Fault::Encoder(Coding::Zstd))?;
        let (taken, given) = (input.pos(), output.pos());
        let whole = if flush == Flush::No { true } else { left == 0 };
        Ok(Progress { taken, given, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coding::ROOM;
    use crate::coding::encode::Level;

    #[test]
    fn streams_take_no_more_memory_than_is_said() {
        let content = (0..1_000_000_u32).flat_map(|n| (n.wrapping_mul(2_654_435_761) >> 18).to_le_bytes());
        let content: Vec<u8> = content.collect();
        let (mut room, mut coded) = (vec![0; ROOM], Vec::new());
        for (size, most) in [(None, 3_000_000), (Some(4000), 1_000_000)] {
            let mut encoder = Encoder::new(Level::default().zstd, size).unwrap();
            coded.clear();
            for piece in content.chunks(ROOM / 2) {
                let progress = encoder.step(piece, Flush::Sync, &mut room).unwrap();
                assert!(progress.whole && progress.taken == piece.len());
                coded.extend_from_slice(&room[..progress.given]);
            }
            assert!(encoder.inner.sizeof() < most, "{size:?}: {}", encoder.inner.sizeof());
        }
        let greatest = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3, 0x08, 0, 0, b'x'];
        for (bytes, most) in [(&coded[..], 500_000), (&greatest, 9_000_000)] {
            let mut decoder = Decoder::new();
            decoder.step(bytes, &mut room).unwrap();
            assert!(decoder.inner.sizeof() < most, "{}", decoder.inner.sizeof());
        }
    }
}
