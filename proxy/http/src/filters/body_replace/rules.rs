//! What is replaced by what: rules as configured, and the steps that they become.
//!
//! Texts that follow each other in the configuration are searched for in one step: of the matches that overlap, the leftmost
//! counts, and of those that begin at one place, the longest. Each regular expression is a step of its own. A step sees what the
//! one before let out.
//!
//! A step of texts holds back at most one byte less than its longest text; a step of a regular expression at most `max_match` bytes
//! and eight more.

use std::sync::Arc;

use serde::Deserialize;

use super::literals::Literals;
use super::pattern::{self, Pattern};
use crate::filter::ConfigFault;

/// One rule, as configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    /// A text to search for. Either this or `regex`.
    pub(super) find: Option<String>,
    pub(super) regex: Option<String>,
    /// What goes in its place. With `regex`: `$1`, `${1}`, `$name` and `${name}` are what the groups matched, `$$` is a dollar.
    pub(super) with: String,
    /// In `find`, of ASCII's letters only.
    #[serde(default)]
    pub(super) ignore_case: bool,
}

/// The longest text to search for, in bytes.
const LONGEST: usize = 4096;
/// The greatest `max_match`: the time per byte grows with it.
const MOST_MATCH: usize = 16 << 10;

/// The steps of all rules. Shared by all connections.
#[derive(Debug)]
pub(super) struct Rules {
    steps: Vec<Step>,
}

#[derive(Debug)]
enum Step {
    Literals(Literals),
    Pattern(Box<Pattern>),
}

impl Rules {
    pub(super) fn new(rules: &[Rule], max_match: usize) -> Result<Self, ConfigFault> {
        if rules.is_empty() {
            return Err(fault("replace".to_owned(), "names nothing to replace"));
        }
        if !(1..=MOST_MATCH).contains(&max_match) {
            return Err(fault("max_match".to_owned(), &format!("is not 1 to {MOST_MATCH}")));
        }
        let mut steps = Vec::new();
        let mut texts: Vec<&Rule> = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            let key = |name: &str| format!("replace[{place}]{name}");
            match (&rule.find, &rule.regex) {
                (Some(find), None) => {
                    if !(1..=LONGEST).contains(&find.len()) {
                        return Err(fault(key(".find"), &format!("is not of 1 to {LONGEST} bytes")));
                    }
                    if texts.last().is_some_and(|last| last.ignore_case != rule.ignore_case) {
                        steps.push(literals(&mut texts)?);
                    }
                    texts.push(rule);
                }
                (None, Some(regex)) => {
                    if !texts.is_empty() {
                        steps.push(literals(&mut texts)?);
                    }
                    let pattern = Pattern::new(regex, &rule.with, rule.ignore_case, max_match);
                    let pattern = pattern.map_err(|message| fault(key(".regex"), &message))?;
                    steps.push(Step::Pattern(Box::new(pattern)));
                }
                _ => return Err(fault(key(""), "needs one of find and regex")),
            }
        }
        if !texts.is_empty() {
            steps.push(literals(&mut texts)?);
        }
        Ok(Self { steps })
    }
}

fn fault(key: String, message: &str) -> ConfigFault {
    ConfigFault { key, message: message.to_owned() }
}

/// The step of these rules, which are taken.
fn literals(texts: &mut Vec<&Rule>) -> Result<Step, ConfigFault> {
    let pairs = texts.iter().filter_map(|rule| Some((rule.find.as_deref()?, &*rule.with)));
    let ignore_case = texts.iter().any(|rule| rule.ignore_case);
    let literals =
        Literals::new(pairs, ignore_case).map_err(|message| fault("replace".to_owned(), &message))?;
    texts.clear();
    Ok(Step::Literals(literals))
}

/// The rules at work on one message's content.
#[derive(Debug)]
pub(super) struct Replacer {
    rules: Arc<Rules>,
    places: Vec<Place>,
}

/// One step's place in the content.
#[derive(Debug)]
struct Place {
    held: Vec<u8>,
    /// Of a regular expression.
    pattern: Option<pattern::Place>,
}

impl Replacer {
    pub(super) fn new(rules: Arc<Rules>) -> Self {
        let place = |step: &Step| Place {
            held: Vec::new(),
            pattern: match step {
                Step::Literals(_) => None,
                Step::Pattern(pattern) => Some(pattern.place()),
            },
        };
        let places = rules.steps.iter().map(place).collect();
        Self { rules, places }
    }

    /// Appends to `out` what becomes of `bytes`; `end` with the last ones.
    pub(super) fn replace(&mut self, bytes: &[u8], end: bool, out: &mut Vec<u8>) {
        let last = self.rules.steps.len() - 1;
        let mut between = Vec::new();
        for (number, (step, place)) in self.rules.steps.iter().zip(&mut self.places).enumerate() {
            let mut next = Vec::new();
            let bytes = if number == 0 { bytes } else { &between };
            let out = if number == last { &mut *out } else { &mut next };
            match (step, &mut place.pattern) {
                (Step::Pattern(pattern), Some(own)) => pattern.replace(own, &mut place.held, bytes, end, out),
                (Step::Literals(literals), _) => literals.replace(&mut place.held, bytes, end, out),
                (Step::Pattern(_), None) => {}
            }
            between = next;
        }
    }

    /// Bytes that each step holds back.
    #[cfg(test)]
    pub(super) fn held(&self) -> impl Iterator<Item = usize> {
        self.places.iter().map(|place| place.held.len())
    }
}
