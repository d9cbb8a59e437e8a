//! The bytes of a stream that a filter holds back, in one piece.

/// A queue of bytes that can be read as one slice. Taking from the front costs no move of what stays, most times.
#[derive(Debug)]
pub(super) struct Held {
    bytes: Vec<u8>,
    /// Bytes before this were let out. I.e. 0 when nothing is held.
    start: u32,
}

impl Held {
    /// Memory kept for the next time when nothing is held, in bytes.
    const KEEP: usize = 4096;

    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[self.start as usize..]
    }

    pub(super) const fn len(&self) -> usize {
        self.bytes.len() - self.start as usize
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes `count` bytes off the front; `count` must not exceed the length.
    pub(super) fn advance(&mut self, count: usize) {
        let start = self.start as usize + count;
        self.start = 0;
        if start == self.bytes.len() {
            self.bytes.clear();
            self.bytes.shrink_to(Self::KEEP);
        } else if start > self.bytes.len() / 2 {
            // At least as much was taken as is moved, so a byte is moved once on average.
            self.bytes.drain(..start);
        } else {
            // A chain holds no more than a receive window.
            self.start = start as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_off_the_front_in_order_and_the_memory_stays_bounded() {
        let mut held = Held::new();
        let mut expected = std::collections::VecDeque::new();
        for round in 0..10_000_u32 {
            let new = round.to_be_bytes();
            held.append(&new);
            expected.extend(new);
            let take = (round as usize * 7) % (held.len() + 1).min(9);
            held.advance(take);
            expected.drain(..take);
            assert_eq!(held.bytes(), expected.make_contiguous());
        }
        let most = held.len() * 4 + Held::KEEP;
        assert!(held.bytes.capacity() <= most, "{} bytes for {}", held.bytes.capacity(), held.len());
        held.advance(held.len());
        assert!(held.is_empty());
        assert!(held.bytes.capacity() <= Held::KEEP);
    }
}
