//! What every test frame carries in its payload, so that its receiver needs no table to know it.
//!
//! Runs on: the generator's core. Allocates: never. Blocks: never.
//!
//! ```text
//!   0        2                6                    11                             18
//!   +--------+----------------+--------------------+------------------------------+
//!   |  run   |      flow      |  sequence number   |  intended send time, ns      |   network byte order
//!   +--------+----------------+--------------------+------------------------------+
//! ```
//!
//! It fills the payload of a UDP datagram in a frame of 64 bytes to the last one.

/// Bytes of a stamp.
pub const LEN: usize = 18;

/// Largest sequence number of a flow, and largest time in nanoseconds: 2.28 years.
const MAX_SEQ: u64 = (1 << 40) - 1;
const MAX_NANOS: u64 = (1 << 56) - 1;

/// Says which frame this is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Tells the frames of one trial from those of another.
    pub run: u16,
    pub flow: u32,
    /// Counted from 0 in each flow, below 2^40.
    pub seq: u64,
    /// When the frame was meant to be sent, in nanoseconds since the trial's start, below 2^56.
    pub nanos: u64,
}

impl Stamp {
    /// What stands at the beginning of a payload.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Self> {
        let [r0, r1, f0, f1, f2, f3, s0, s1, s2, s3, s4, t0, t1, t2, t3, t4, t5, t6] =
            *payload.first_chunk::<LEN>()?;
        Some(Self {
            run: u16::from_be_bytes([r0, r1]),
            flow: u32::from_be_bytes([f0, f1, f2, f3]),
            seq: u64::from_be_bytes([0, 0, 0, s0, s1, s2, s3, s4]),
            nanos: u64::from_be_bytes([0, t0, t1, t2, t3, t4, t5, t6]),
        })
    }

    /// Writes it to the beginning of a payload.
    ///
    /// # Panics
    /// Where that is shorter than [`LEN`].
    #[inline]
    pub fn write(self, payload: &mut [u8]) {
        debug_assert!(self.seq <= MAX_SEQ && self.nanos <= MAX_NANOS, "{self:?} is out of range");
        payload[..2].copy_from_slice(&self.run.to_be_bytes());
        payload[2..6].copy_from_slice(&self.flow.to_be_bytes());
        payload[6..11].copy_from_slice(&self.seq.to_be_bytes()[3..]);
        payload[11..LEN].copy_from_slice(&self.nanos.to_be_bytes()[1..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(run: u16, flow: u32, seq in 0..=MAX_SEQ, nanos in 0..=MAX_NANOS) {
            let stamp = Stamp { run, flow, seq, nanos };
            let mut payload = [0; LEN];
            stamp.write(&mut payload);
            prop_assert_eq!(Stamp::read(&payload), Some(stamp));
            prop_assert_eq!(Stamp::read(&payload[1..]), None);
        }
    }
}
