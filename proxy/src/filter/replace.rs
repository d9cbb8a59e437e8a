//! `replace`: bytes for bytes of any length, across segment borders.
//!
//! Runs on: proxy cores. Allocates: for segments with a match. Blocks: never.
//!
//! Matches are leftmost and do not overlap; what was put in is not searched again. Only what may be the beginning of a
//! match is held, and not for ever: the last bytes of a message look like such a beginning now and then, and its
//! receiver would wait for them until somebody gave up. So they go on after [`PATIENCE`]; a match whose two parts come
//! further apart than that is missed. Datagrams are searched one by one.

use std::sync::Arc;

use memchr::memmem::Finder;
use pnat_shared::config::ReplaceFilter;
use pnat_shared::flow::Stream;
use pnat_shared::time::Duration;

use super::{Call, DatagramFilter, DatagramVerdict, Factory, StreamFilter, Verdict};

/// How long the beginning of a match waits for its rest.
const PATIENCE: Duration = Duration::from_millis(250);

/// The filter as configured.
#[derive(Debug)]
pub(super) struct ReplaceFactory {
    what: Arc<What>,
}

#[derive(Debug)]
struct What {
    find: Finder<'static>,
    /// For each prefix of `find`: the length of its longest proper suffix that is also a prefix (Knuth, Morris, Pratt).
    borders: Vec<usize>,
    with: Vec<u8>,
    /// Per stream.
    wanted: [bool; 2],
}

impl ReplaceFactory {
    pub(super) fn new(config: &ReplaceFilter) -> Self {
        let what = What {
            find: Finder::new(&config.find).into_owned(),
            borders: borders(&config.find),
            with: config.with.clone(),
            // Nothing to find is nothing to see.
            wanted: [config.first, config.second].map(|wanted| wanted && !config.find.is_empty()),
        };
        Self { what: Arc::new(what) }
    }
}

impl Factory for ReplaceFactory {
    fn stream(&self) -> Box<dyn StreamFilter> {
        Box::new(Replace { what: self.what.clone() })
    }

    fn datagram(&self) -> Box<dyn DatagramFilter> {
        Box::new(Replace { what: self.what.clone() })
    }
}

fn borders(find: &[u8]) -> Vec<usize> {
    let mut borders = vec![0; find.len()];
    let mut border = 0;
    for end in 1..find.len() {
        border = extend(find, &borders, border, find[end]);
        borders[end] = border;
    }
    borders
}

/// The length of the prefix of `find` that a text ends with, after `byte` follows a text that ends with `matched` of them.
/// `matched` must be less than the length of `find`.
fn extend(find: &[u8], borders: &[usize], mut matched: usize, byte: u8) -> usize {
    while matched > 0 && find[matched] != byte {
        matched = borders[matched - 1];
    }
    matched + usize::from(find[matched] == byte)
}

impl What {
    /// Writes `bytes` with all matches replaced to `output`, and answers where the last match ended; `None`, and nothing
    /// written, where there is no match.
    fn replace(&self, bytes: &[u8], output: &mut Vec<u8>) -> Option<usize> {
        let mut done = 0;
        while let Some(at) = self.find.find(&bytes[done..]) {
            output.reserve(bytes.len().saturating_sub(output.len()));
            output.extend_from_slice(&bytes[done..done + at]);
            output.extend_from_slice(&self.with);
            done += at + self.find.needle().len();
        }
        Some(done).filter(|&done| done > 0)
    }

    /// How many of the last bytes may be the beginning of a match; there is no match in `bytes`.
    fn partial(&self, bytes: &[u8]) -> usize {
        let find = self.find.needle();
        let tail = &bytes[bytes.len().saturating_sub(find.len() - 1)..];
        tail.iter().fold(0, |matched, &byte| extend(find, &self.borders, matched, byte))
    }
}

/// One flow's instance.
struct Replace {
    what: Arc<What>,
}

impl StreamFilter for Replace {
    fn data(
        &mut self,
        call: &mut Call<'_>,
        _stream: Stream,
        bytes: &[u8],
        held: usize,
        end: bool,
    ) -> Verdict {
        let matched = self.what.replace(bytes, call.output);
        let done = matched.unwrap_or(0);
        let nothing_new = held == bytes.len();
        let partial = if end || nothing_new { 0 } else { self.what.partial(&bytes[done..]) };
        if partial > 0 {
            *call.wake = Some(call.now + PATIENCE);
        }
        let count = bytes.len() - partial;
        match matched {
            None => Verdict::Pass(count),
            Some(done) => {
                call.output.extend_from_slice(&bytes[done..count]);
                Verdict::Edit(count)
            }
        }
    }

    fn wants(&self, stream: Stream) -> bool {
        self.what.wanted[stream as usize]
    }

    /// A partial match is shorter than what is looked for.
    fn budget(&self) -> usize {
        self.what.find.needle().len()
    }
}

impl DatagramFilter for Replace {
    fn datagram(&mut self, call: &mut Call<'_>, _stream: Stream, bytes: &[u8]) -> DatagramVerdict {
        match self.what.replace(bytes, call.output) {
            None => DatagramVerdict::Pass,
            Some(done) => {
                call.output.extend_from_slice(&bytes[done..]);
                DatagramVerdict::Edit
            }
        }
    }

    fn wants(&self, stream: Stream) -> bool {
        self.what.wanted[stream as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partial(find: &str, text: &str) -> usize {
        let config = ReplaceFilter { find: find.into(), with: Vec::new(), first: true, second: true };
        ReplaceFactory::new(&config).what.partial(text.as_bytes())
    }

    #[test]
    fn the_longest_beginning_of_a_match_is_held_and_no_more() {
        assert_eq!(partial("abc", "xyz"), 0);
        assert_eq!(partial("abc", "xab"), 2);
        assert_eq!(partial("aab", "aaaa"), 2);
        assert_eq!(partial("abacabad", "abacabac"), 4);
        assert_eq!(partial("a", "bbb"), 0);
        assert_eq!(partial("ab", ""), 0);
    }
}
