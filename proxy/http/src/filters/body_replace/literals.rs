//! Texts replaced in a stream, all in one pass.

use aho_corasick::{AhoCorasick, Input, MatchKind};

/// Texts to search for, and what goes in their places.
#[derive(Debug)]
pub(super) struct Literals {
    automaton: AhoCorasick,
    withs: Vec<Vec<u8>>,
    /// What is searched for, in order; in lower case where case does not count.
    sorted: Vec<Vec<u8>>,
    longest: usize,
    ignore_case: bool,
}

impl Literals {
    pub(super) fn new<'a>(
        pairs: impl Iterator<Item = (&'a str, &'a str)>,
        ignore_case: bool,
    ) -> Result<Self, String> {
        let (finds, withs): (Vec<_>, Vec<_>) =
            pairs.map(|(find, with)| (find, with.as_bytes().to_vec())).unzip();
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .ascii_case_insensitive(ignore_case)
            .build(&finds)
            .map_err(|error| error.to_string())?;
        let cased = |find: &&str| if ignore_case { find.to_ascii_lowercase() } else { (*find).to_owned() };
        let mut sorted: Vec<_> = finds.iter().map(cased).map(String::into_bytes).collect();
        sorted.sort();
        let longest = finds.iter().map(|find| find.len()).max().unwrap_or_default();
        Ok(Self { automaton, withs, sorted, longest, ignore_case })
    }

    /// Appends to `out` what becomes of what was held and of `bytes`; holds what could be the beginning of a match.
    pub(super) fn replace(&self, held: &mut Vec<u8>, bytes: &[u8], end: bool, out: &mut Vec<u8>) {
        let mut own = std::mem::take(held);
        let bytes = if own.is_empty() {
            bytes
        } else {
            own.extend_from_slice(bytes);
            &own
        };
        let mut at = 0;
        let mut open = self.open(bytes, at, end);
        while let Some(found) = self.automaton.find(Input::new(bytes).range(at..)) {
            // A longer match could begin there, or one before.
            if found.start() >= open {
                break;
            }
            out.extend_from_slice(&bytes[at..found.start()]);
            out.extend_from_slice(&self.withs[found.pattern().as_usize()]);
            at = found.end();
            if at > open {
                open = self.open(bytes, at, end);
            }
        }
        out.extend_from_slice(&bytes[at..open]);
        held.extend_from_slice(&bytes[open..]);
    }

    /// The first place, from `at` on, where a match could begin that bytes to come complete.
    fn open(&self, bytes: &[u8], at: usize, end: bool) -> usize {
        if end {
            return bytes.len();
        }
        let first = at.max((bytes.len() + 1).saturating_sub(self.longest));
        let mut tail = bytes[first..].to_vec();
        if self.ignore_case {
            tail.make_ascii_lowercase();
        }
        let begins = |place: &usize| {
            let rest = &tail[*place..];
            let next = self.sorted.partition_point(|find| &**find <= rest);
            self.sorted.get(next).is_some_and(|find| find.starts_with(rest))
        };
        first + (0..tail.len()).find(begins).unwrap_or(tail.len())
    }
}
