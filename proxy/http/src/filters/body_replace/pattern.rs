//! A regular expression's matches replaced in a stream.
//!
//! A match has at most so many bytes. So what the expression matches at a place is: what it would if the content ended that far
//! behind it, except that it still sees what follows (for `\b`, `$`). That is known once those bytes have come; and before, once
//! an automaton that reads on from that place has died. A place is held back for as long as neither is so.
//!
//! Time: linear in the content; per byte at most in the length of a match, where every byte begins what is long nearly a match.

use regex_automata::hybrid::dfa::{self, DFA};
use regex_automata::meta::{self, Regex};
use regex_automata::nfa::thompson;
use regex_automata::util::captures::Captures;
use regex_automata::util::{interpolate, syntax};
use regex_automata::{Anchored, Input, PatternID};

/// Bytes that an expression looks at before and behind a match: one character.
const CONTEXT: usize = 4;
/// Bytes that a compiled expression, and the caches of one stream, may have.
const SIZE: usize = 1 << 20;
const CACHE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Pattern {
    regex: Regex,
    /// Tells whether a match can still come.
    reach: DFA,
    with: Vec<u8>,
    /// There are groups in `with`.
    expands: bool,
    longest: usize,
}

/// A pattern's place in one stream.
#[derive(Debug)]
pub(super) struct Place {
    regex: meta::Cache,
    reach: dfa::Cache,
    captures: Captures,
    /// Bytes at the front of what is held that have gone out: what comes behind them is seen in their light.
    context: usize,
}

impl Pattern {
    pub(super) fn new(regex: &str, with: &str, ignore_case: bool, longest: usize) -> Result<Self, String> {
        let config = syntax::Config::new().utf8(false).case_insensitive(ignore_case);
        let hir = syntax::parse_with(regex, &config).map_err(|error| error.to_string())?;
        match hir.properties().minimum_len() {
            Some(0) => return Err("matches nothing at all, too".to_owned()),
            None => return Err("never matches".to_owned()),
            Some(least) if least > longest => return Err("matches nothing as short as max_match".to_owned()),
            Some(_) => {}
        }
        let config =
            Regex::config().utf8_empty(false).nfa_size_limit(Some(SIZE)).hybrid_cache_capacity(CACHE);
        let found =
            Regex::builder().configure(config).build_from_hir(&hir).map_err(|error| reason(&error))?;
        if let Some(group) = unknown_group(&found, with) {
            return Err(format!("has no group {group}, which stands in with"));
        }
        let config = thompson::Config::new().utf8(false).nfa_size_limit(Some(SIZE));
        let nfa = thompson::Compiler::new().configure(config).build_from_hir(&hir);
        let nfa = nfa.map_err(|error| reason(&error))?;
        let config =
            DFA::config().unicode_word_boundary(true).cache_capacity(CACHE).skip_cache_capacity_check(true);
        let reach = DFA::builder().configure(config).build_from_nfa(nfa).map_err(|error| reason(&error))?;
        Ok(Self { regex: found, reach, with: with.into(), expands: with.contains('$'), longest })
    }

    pub(super) fn place(&self) -> Place {
        Place {
            regex: self.regex.create_cache(),
            reach: self.reach.create_cache(),
            captures: self.regex.create_captures(),
            context: 0,
        }
    }

    /// Appends to `out` what becomes of what was held and of `bytes`; holds what could be the beginning of a match.
    pub(super) fn replace(
        &self,
        place: &mut Place,
        held: &mut Vec<u8>,
        bytes: &[u8],
        end: bool,
        out: &mut Vec<u8>,
    ) {
        let mut own = std::mem::take(held);
        let bytes = if own.is_empty() {
            bytes
        } else {
            own.extend_from_slice(bytes);
            &own
        };
        let mut at = place.context;
        let mut open = self.open(place, bytes, at, end);
        while let Some((start, stop)) = self.find(place, bytes, at, open) {
            out.extend_from_slice(&bytes[at..start]);
            self.expand(place, bytes, start, stop, out);
            at = stop;
            if at > open {
                open = self.open(place, bytes, at, end);
            }
        }
        out.extend_from_slice(&bytes[at..open]);
        place.context = open.min(CONTEXT);
        held.extend_from_slice(&bytes[open - place.context..]);
    }

    /// The first match that begins from `at` on and before `open`.
    fn find(&self, place: &mut Place, bytes: &[u8], at: usize, open: usize) -> Option<(usize, usize)> {
        let mut from = at;
        while from < open {
            // All matches that begin in the first half of these bytes are within them.
            let span = from..bytes.len().min(from + 2 * self.longest);
            let Some(found) = self.regex.search_with(&mut place.regex, &Input::new(bytes).span(span)) else {
                from += self.longest;
                continue;
            };
            if found.start() >= open {
                // It may be another one, but there is none before.
                return None;
            }
            let input = self.anchored(bytes, found.start());
            match self.regex.search_with(&mut place.regex, &input) {
                Some(found) => return Some((found.start(), found.end())),
                // It is longer than a match may be.
                None => from = found.start() + 1,
            }
        }
        None
    }

    /// What is asked of one place.
    fn anchored<'a>(&self, bytes: &'a [u8], start: usize) -> Input<'a> {
        let span = start..bytes.len().min(start + self.longest);
        Input::new(bytes).span(span).anchored(Anchored::Yes)
    }

    /// Appends what goes in a match's place.
    fn expand(&self, place: &mut Place, bytes: &[u8], start: usize, stop: usize, out: &mut Vec<u8>) {
        if !self.expands {
            out.extend_from_slice(&self.with);
            return;
        }
        let Place { regex, captures, .. } = place;
        // The end is known: the groups are those of the match that was found.
        self.regex.search_captures_with(regex, &self.anchored(bytes, start), captures);
        debug_assert_eq!(captures.get_match().map(|found| found.end()), Some(stop));
        let group = |number, out: &mut Vec<u8>| {
            if let Some(span) = captures.get_group(number) {
                out.extend_from_slice(&bytes[span.range()]);
            }
        };
        let number = |name: &str| {
            let pattern = captures.pattern()?;
            captures.group_info().to_index(pattern, name)
        };
        interpolate::bytes(&self.with, group, number, out);
    }

    /// The first place, from `at` on, of which bytes to come could decide whether and what the expression matches there.
    fn open(&self, place: &mut Place, bytes: &[u8], at: usize, end: bool) -> usize {
        if end {
            return bytes.len();
        }
        let first = at.max((bytes.len() + 1).saturating_sub(self.longest + CONTEXT));
        (first..bytes.len()).find(|start| self.lives(&mut place.reach, bytes, *start)).unwrap_or(bytes.len())
    }

    /// Whether, behind all bytes from `start` on, a match that begins there is still possible; true in doubt.
    fn lives(&self, cache: &mut dfa::Cache, bytes: &[u8], start: usize) -> bool {
        let input = Input::new(bytes).range(start..).anchored(Anchored::Yes);
        let Ok(mut state) = self.reach.start_state_forward(cache, &input) else { return true };
        for &byte in &bytes[start..] {
            match self.reach.next_state(cache, state, byte) {
                Ok(next) if next.is_dead() => return false,
                Ok(next) if next.is_quit() => return true,
                Ok(next) => state = next,
                Err(_) => return true,
            }
        }
        true
    }
}

/// The first group in `with` that the expression has not, as it is written there.
fn unknown_group(regex: &Regex, with: &str) -> Option<String> {
    let info = regex.create_captures().group_info().clone();
    let (mut by_number, mut by_name) = (None, None);
    interpolate::string(
        with,
        |number, _| {
            if number >= info.group_len(PatternID::ZERO) {
                by_number.get_or_insert_with(|| format!("${number}"));
            }
        },
        |name| {
            let known = info.to_index(PatternID::ZERO, name);
            if known.is_none() {
                by_name.get_or_insert_with(|| format!("${{{name}}}"));
            }
            known
        },
        &mut String::new(),
    );
    by_number.or(by_name)
}

/// An error with what it came of.
fn reason(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}
