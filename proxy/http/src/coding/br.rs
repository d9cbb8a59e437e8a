//! Brotli (RFC 7932).

use brotli::enc::StandardAlloc;
use brotli::enc::encode::{BrotliEncoderOperation, BrotliEncoderParameter, BrotliEncoderStateStruct};
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};

use super::encode::Flush;
use super::{Coding, Fault, Progress};

/// The greatest window that we write, as a power of two: 256 KB.
const WINDOW: u32 = 18;
/// The smallest that there is.
const LEAST_WINDOW: u32 = 10;

pub(super) struct Decoder {
    state: BrotliState<StandardAlloc, StandardAlloc, StandardAlloc>,
    whole: bool,
}

impl Decoder {
    pub(super) fn new() -> Self {
        let alloc = StandardAlloc::default;
        // Strict: no window beyond 16 MB.
        Self { state: BrotliState::new_strict(alloc(), alloc(), alloc()), whole: false }
    }

    pub(super) fn step(&mut self, bytes: &[u8], room: &mut [u8]) -> Result<Progress, Fault> {
        if self.whole {
            return match bytes {
                [] => Ok(Progress { taken: 0, given: 0, whole: true }),
                _ => Err(Fault::Trailing(Coding::Br)),
            };
        }
        let (mut available_in, mut taken) = (bytes.len(), 0);
        let (mut available_out, mut given) = (room.len(), 0);
        let result = BrotliDecompressStream(
            &mut available_in,
            &mut taken,
            bytes,
            &mut available_out,
            &mut given,
            room,
            &mut 0,
            &mut self.state,
        );
        match result {
            BrotliResult::ResultFailure => return Err(Fault::Malformed(Coding::Br)),
            BrotliResult::ResultSuccess => self.whole = true,
            BrotliResult::NeedsMoreInput | BrotliResult::NeedsMoreOutput => {}
        }
        Ok(Progress { taken, given, whole: self.whole })
    }
}

pub(super) struct Encoder {
    state: BrotliEncoderStateStruct<StandardAlloc>,
}

impl Encoder {
    /// For content of this many bytes, where that is known.
    pub(super) fn new(level: u8, size: Option<u64>) -> Self {
        let mut state = BrotliEncoderStateStruct::new(StandardAlloc::default());
        let window = size.map_or(WINDOW, |size| size.max(1).ilog2() + 1).clamp(LEAST_WINDOW, WINDOW);
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_QUALITY, level.into());
        state.set_parameter(BrotliEncoderParameter::BROTLI_PARAM_LGWIN, window);
        Self { state }
    }

    pub(super) fn step(&mut self, bytes: &[u8], flush: Flush, room: &mut [u8]) -> Result<Progress, Fault> {
        let operation = match flush {
            Flush::No => BrotliEncoderOperation::BROTLI_OPERATION_PROCESS,
            Flush::Sync => BrotliEncoderOperation::BROTLI_OPERATION_FLUSH,
            Flush::End => BrotliEncoderOperation::BROTLI_OPERATION_FINISH,
        };
        let (mut available_in, mut taken) = (bytes.len(), 0);
        let (mut available_out, mut given) = (room.len(), 0);
        let went = self.state.compress_stream(
            operation,
            &mut available_in,
            bytes,
            &mut taken,
            &mut available_out,
            room,
            &mut given,
            &mut None,
            &mut |_, _, _, _| (),
        );
        if !went {
            return Err(Fault::Encoder(Coding::Br));
        }
        let whole = match flush {
            Flush::End => self.state.is_finished(),
            Flush::No | Flush::Sync => !self.state.has_more_output(),
        };
        Ok(Progress { taken, given, whole })
    }
}
