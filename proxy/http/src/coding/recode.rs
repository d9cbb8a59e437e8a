//! Content that a filter changes beneath its codings: decoded, changed, and encoded again in the same way.

use std::fmt;

use super::decode::{Decoded, Decoder, Limits};
use super::encode::{Encoder, Level, Pace};
use super::{Codings, Fault};
use crate::message::Framing;

/// The codings of one message's content, undone and applied again.
pub struct Recoder {
    decoder: Decoder,
    /// In the order in which they are applied.
    encoders: Vec<Encoder>,
    pace: Pace,
    plain: Vec<u8>,
}

impl Recoder {
    /// For content with these codings; `framing` is how it was told.
    pub fn new(codings: &Codings, limits: Limits, level: Level, framing: Framing) -> Result<Self, Fault> {
        // What a filter makes of it may be longer.
        let size = Framing::UntilClose;
        let encoders =
            codings.iter().map(|coding| Encoder::new(*coding, level, size)).collect::<Result<_, _>>()?;
        let decoder = Decoder::new(codings, limits);
        Ok(Self { decoder, encoders, pace: Pace::new(framing), plain: Vec::new() })
    }

    /// Appends to `out` what follows from `bytes`, as [`Decoder::decode`] does; `change` appends what becomes of the plain ones.
    pub fn recode(
        &mut self,
        bytes: &[u8],
        end: bool,
        change: impl FnOnce(&[u8], bool, &mut Vec<u8>),
        out: &mut Vec<u8>,
    ) -> Result<Decoded, Fault> {
        if self.encoders.is_empty() {
            change(bytes, end, out);
            return Ok(Decoded::All);
        }
        self.plain.clear();
        let decoded = self.decoder.decode(bytes, end, &mut self.plain)?;
        let end = end && decoded == Decoded::All;
        let mut changed = Vec::new();
        change(&self.plain, end, &mut changed);
        let flush = self.pace.after(changed.len(), end);
        let (last, before) = self.encoders.split_last_mut().expect("invariant: there is one");
        for encoder in before {
            let mut coded = Vec::new();
            encoder.encode(&changed, flush, &mut coded)?;
            changed = coded;
        }
        last.encode(&changed, flush, out)?;
        Ok(decoded)
    }
}

impl fmt::Debug for Recoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recoder").field("encoders", &self.encoders).finish_non_exhaustive()
    }
}
