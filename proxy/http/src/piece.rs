//! What becomes of a stream's bytes, in order: the language in which edits are told.

use bytes::Bytes;

/// One step of what is done with bytes that were shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many bytes go on as they are. The longest of them do so without a copy.
    Pass(usize),
    /// So many bytes do not.
    Skip(usize),
    /// These bytes go on.
    Insert(Bytes),
}

impl Piece {
    /// How many of the bytes shown it is about.
    pub const fn taken(&self) -> usize {
        match self {
            Self::Pass(count) | Self::Skip(count) => *count,
            Self::Insert(_) => 0,
        }
    }
}

/// Pieces in order; those that follow each other in kind are one.
#[derive(Debug, Default)]
pub(crate) struct Script {
    pub(crate) pieces: Vec<Piece>,
}

impl Script {
    pub(crate) fn pass(&mut self, count: usize) {
        match self.pieces.last_mut() {
            Some(Piece::Pass(before)) => *before += count,
            _ if count == 0 => {}
            _ => self.pieces.push(Piece::Pass(count)),
        }
    }

    pub(crate) fn skip(&mut self, count: usize) {
        match self.pieces.last_mut() {
            Some(Piece::Skip(before)) => *before += count,
            _ if count == 0 => {}
            _ => self.pieces.push(Piece::Skip(count)),
        }
    }

    pub(crate) fn insert(&mut self, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        if !bytes.is_empty() {
            self.pieces.push(Piece::Insert(bytes));
        }
    }

    pub(crate) fn taken(&self) -> usize {
        self.pieces.iter().map(Piece::taken).sum()
    }
}
