//! When each byte in flight was first sent, and what the connection had seen by then.
//!
//! Runs on: proxy cores. Allocates: when more is in flight than ever since it was last idle. Blocks: never.
//!
//! New data is sent in order, so its records are a queue by sequence number and by time at once; what is sent again is
//! none of theirs. Segments that left at one moment share a record, which is never split: all that tells them apart is
//! how much was in flight with each, and that follows from their places.

use pnat_shared::time::Instant;
use pnat_shared::wire::tcp::Seq;

use super::lent::{Lent, Spare};

/// One transmission (draft-ietf-ccwg-bbr section 4.1.1.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Transmission {
    pub(super) sent: Instant,
    /// What the connection had delivered, and found lost, by then, in bytes modulo 2^32.
    pub(super) delivered: u32,
    pub(super) lost: u32,
    /// Bytes in flight behind it, itself included.
    pub(super) in_flight: u32,
    /// Microseconds since the transmission from which on the rate of sending counts.
    pub(super) send_elapsed: u32,
    /// Microseconds since something was delivered.
    pub(super) ack_age: u32,
    /// The application, not the window, set the pace.
    pub(super) is_app_limited: bool,
}

impl Transmission {
    /// One of which no more is to be known than when it left.
    pub(super) const fn at(sent: Instant) -> Self {
        Self { sent, delivered: 0, lost: 0, in_flight: 0, send_elapsed: 0, ack_age: 0, is_app_limited: false }
    }
}

#[derive(Copy, Clone, Debug)]
pub(super) struct Record {
    end: Seq,
    /// Of its last byte.
    tx: Transmission,
}

/// Part of a record: the bytes up to `end`, sent at once.
#[derive(Copy, Clone, Debug)]
pub(super) struct Part {
    pub(super) end: Seq,
    pub(super) tx: Transmission,
}

/// The bytes from `base` on, without gap.
#[derive(Debug, Default)]
pub(super) struct Records {
    base: Seq,
    queue: Lent<Record>,
}

impl Records {
    /// Nothing is in flight, and `base` is sent next.
    pub(super) fn restart(&mut self, base: Seq) {
        self.base = base;
        self.queue.clear();
    }

    pub(super) const fn base(&self) -> Seq {
        self.base
    }

    /// Behind the last byte sent.
    pub(super) fn end(&self) -> Seq {
        self.queue.back().map_or(self.base, |record| record.end)
    }

    /// Bytes in flight, by their numbers.
    pub(super) fn flight(&self) -> u32 {
        self.end().0.wrapping_sub(self.base.0)
    }

    /// The bytes up to `end` were sent.
    pub(super) fn push(&mut self, end: Seq, tx: Transmission) {
        match self.queue.back_mut() {
            Some(back) if (Transmission { in_flight: back.tx.in_flight, ..tx }) == back.tx => {
                *back = Record { end, tx };
            }
            _ => self.queue.push_back(Record { end, tx }),
        }
    }

    /// Forgets the bytes before `seq`, of which there are some; answers how the last of them was sent.
    pub(super) fn release(&mut self, seq: Seq) -> Option<Transmission> {
        self.base = seq;
        while let Some(front) = self.queue.front() {
            let last = front.until(seq);
            if !front.end.after(seq) {
                self.queue.pop_front();
            }
            if last.end == seq {
                return Some(last.tx);
            }
        }
        None
    }

    /// When the first byte in flight was first sent.
    pub(super) fn oldest(&self) -> Option<Instant> {
        self.queue.front().map(|record| record.tx.sent)
    }

    /// What was sent together with the byte at `seq` and behind it, up to `limit`.
    pub(super) fn part(&self, seq: Seq, limit: Seq) -> Option<Part> {
        let index = self.queue.partition_point(|record| !record.end.after(seq));
        self.queue.get(index).map(|record| record.until(limit))
    }

    /// Gives unused memory back.
    pub(super) fn shrink(&mut self) {
        self.queue.shrink();
    }

    /// Takes memory that others gave back, where there is none.
    #[inline]
    pub(super) fn take_place(&mut self, spare: &mut Spare<Record>) {
        self.queue.take_place(spare);
    }

    /// Gives the memory back where nothing is in flight.
    #[inline]
    pub(super) fn give_back(&mut self, spare: &mut Spare<Record>) {
        self.queue.give_back(spare);
    }
}

impl Record {
    fn until(&self, limit: Seq) -> Part {
        let end = self.end.min(limit);
        let behind = self.end.0.wrapping_sub(end.0);
        Part { end, tx: Transmission { in_flight: self.tx.in_flight.saturating_sub(behind), ..self.tx } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BASE: Seq = Seq(u32::MAX - 3000);

    fn tx((sent, delivered, in_flight): (u64, u32, u32)) -> Transmission {
        let sent = Instant::from_micros(sent);
        Transmission {
            sent,
            delivered,
            lost: 0,
            in_flight,
            send_elapsed: 0,
            ack_age: 0,
            is_app_limited: false,
        }
    }

    proptest! {
        #[test]
        fn agree_with_a_record_of_each_byte(steps in prop::collection::vec((0u8..3, 1u32..40), 1..40)) {
            let mut records = Records::default();
            records.restart(BASE);
            // When each byte was sent, how many were acknowledged by then, and how many in flight with it.
            let mut bytes: Vec<(u64, u32, u32)> = Vec::new();
            let (mut acked, mut now) = (0, 0);
            for (kind, len) in steps {
                let flight = bytes.len() as u32 - acked;
                match kind {
                    // At once with what went before, or later.
                    0 | 1 => {
                        now += u64::from(kind);
                        bytes.extend((1..=len).map(|n| (now, acked, flight + n)));
                        records.push(BASE + bytes.len() as u32, tx((now, acked, flight + len)));
                    }
                    2 if flight > 0 => {
                        acked += len.min(flight);
                        let last = records.release(BASE + acked);
                        prop_assert_eq!(last, Some(tx(bytes[acked as usize - 1])));
                    }
                    _ => {}
                }
                prop_assert_eq!(records.end(), BASE + bytes.len() as u32);
                prop_assert_eq!(records.oldest(), bytes.get(acked as usize).map(|byte| Instant::from_micros(byte.0)));
                for at in acked as usize..bytes.len() {
                    let limit = at as u32 + len;
                    let part = records.part(BASE + at as u32, BASE + limit).expect("it is in flight");
                    let end = part.end.distance(BASE) as usize;
                    prop_assert!(end > at && end <= limit as usize);
                    prop_assert!(bytes[at..end].iter().all(|byte| byte.0 == bytes[at].0));
                    prop_assert_eq!(part.tx, tx(bytes[end - 1]));
                }
            }
        }
    }

    #[test]
    fn a_burst_shares_one_record_and_idle_records_keep_no_memory() {
        let mut records = Records::default();
        records.restart(BASE);
        for n in 1..=32 {
            records.push(BASE + 1448 * n, tx((7, 0, 1448 * n)));
        }
        assert_eq!(records.queue.len(), 1);
        assert!(size_of::<Record>() <= 40);
        records.release(BASE + 1448 * 32);
        records.shrink();
        assert_eq!(records.queue.capacity(), 0);
    }
}
