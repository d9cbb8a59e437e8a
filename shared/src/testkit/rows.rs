//! Rows of text files that say which bytes come and what becomes of them; the formats are at the heads of `proxy/http/corpus`.

use std::str::FromStr;

/// What becomes of one message.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on with so many bytes of content.
    Content(u64),
    /// It does not; the client is told this status.
    Refused(u16),
    /// It is not yet complete.
    Unfinished,
    /// It went on and ended early.
    Cut,
    /// After it, both sides speak another protocol.
    Switch,
}

impl FromStr for Outcome {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let outcome = match word {
            "..." => Some(Self::Unfinished),
            "cut" => Some(Self::Cut),
            "switch" => Some(Self::Switch),
            _ => match word.strip_prefix('=') {
                Some(status) => status.parse().ok().map(Self::Refused),
                None => word.parse().ok().map(Self::Content),
            },
        };
        outcome.ok_or_else(|| format!("no outcome: {word:?}"))
    }
}

/// The alternatives of an outcome field, each of one word per message.
///
/// # Panics
/// Where a word means nothing.
pub fn outcomes(field: &str) -> Vec<Vec<Outcome>> {
    let words = |alternative: &str| {
        alternative
            .split_whitespace()
            .map(|word| word.parse().unwrap_or_else(|error| panic!("{error}")))
            .collect()
    };
    field.split(" or ").map(words).collect()
}

/// The rows of a file: lines that are neither empty nor comments, of `N` fields.
///
/// # Panics
/// Where a line has another number of fields.
pub fn rows<const N: usize>(text: &str) -> Vec<[&str; N]> {
    text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(fields).collect()
}

fn fields<const N: usize>(line: &str) -> [&str; N] {
    let fields: Vec<&str> = line.split(" | ").collect();
    fields
        .try_into()
        .unwrap_or_else(|fields: Vec<_>| panic!("{} fields instead of {N}: {line}", fields.len()))
}

/// Bytes as they are written in a row, and whether their sender closes behind them.
///
/// # Panics
/// Where an escape is none.
pub fn bytes(field: &str) -> (Vec<u8>, bool) {
    match field.strip_suffix('$') {
        Some(field) => (unescaped(field), true),
        None => (unescaped(field), false),
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let escape = &rest[at + 1..];
        rest = match escape.as_bytes().first() {
            Some(b'x') => {
                out.push(u8::from_str_radix(&escape[1..3], 16).expect("two hex digits"));
                &escape[3..]
            }
            Some(b'{') => {
                let (repeated, behind) = escape[1..].split_once('}').expect("a closing brace");
                let (times, what) = repeated.split_once('*').expect("how often, and what");
                out.extend(unescaped(what).repeat(times.parse().expect("a number of times")));
                behind
            }
            Some(&letter) => {
                out.push(control(letter));
                &escape[1..]
            }
            None => panic!("a backslash ends {text}"),
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

fn control(letter: u8) -> u8 {
    match letter {
        b'r' => b'\r',
        b'n' => b'\n',
        b't' => b'\t',
        b'0' => 0,
        b'\\' => b'\\',
        other => panic!("no escape: \\{}", char::from(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_bytes() {
        assert_eq!(bytes(r"a\r\n\t\0\\\x7c\xff"), (b"a\r\n\t\0\\|\xff".to_vec(), false));
        assert_eq!(bytes(r"\{3*a\x41}b$"), (b"aAaAaAb".to_vec(), true));
    }

    #[test]
    fn rows_are_read_without_comments() {
        let text = "# nothing\n\nname |  two | three\n";

        assert_eq!(rows::<3>(text), [["name", " two", "three"]]);
    }

    #[test]
    fn outcomes_have_alternatives() {
        let expected = vec![vec![Outcome::Content(5), Outcome::Refused(400)], vec![Outcome::Cut]];

        assert_eq!(outcomes("5 =400 or cut"), expected);
    }
}
