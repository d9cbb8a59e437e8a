//! Cache-Control, read strictly: names without case, quoted strings as one value (RFC 9111 section 5.2).
//!
//! Runs on: proxy cores, when a response is stored or a request has such a field. Allocates: freely. Blocks: never.
//!
//! What is written wrongly restricts more than it would if it were written well, never less: a quote out of place may hide
//! anything, and a directive with blanks around its `=` is there, but its value is none.

use crate::fields::Fields;

/// The directives of one message.
#[derive(Debug, Default)]
pub(super) struct Directives {
    list: Vec<Directive>,
    are_broken: bool,
}

#[derive(Debug)]
struct Directive {
    name: String,
    value: Option<Value>,
}

#[derive(Debug)]
struct Value {
    text: String,
    is_quoted: bool,
}

impl Directives {
    pub(super) fn of(fields: &Fields) -> Self {
        let mut own = Self::default();
        for line in fields.all("cache-control") {
            match members(line) {
                Some(members) => own.list.extend(members.into_iter().filter_map(directive)),
                None => own.are_broken = true,
            }
        }
        own
    }

    /// Whether a quote stands where none may, or has no end: nobody knows what is said there.
    pub(super) const fn are_broken(&self) -> bool {
        self.are_broken
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.list.iter().any(|own| own.name == name)
    }

    /// Whether it is there without a value.
    pub(super) fn has_bare(&self, name: &str) -> bool {
        self.list.iter().any(|own| own.name == name && own.value.is_none())
    }

    /// Whether it is there without a list of fields: `no-cache`, not `no-cache="set-cookie"`. A list that is empty or without
    /// quotes is none.
    pub(super) fn has_whole(&self, name: &str) -> bool {
        self.list.iter().any(|own| own.name == name && own.fields().next().is_none())
    }

    /// The fields that `no-cache` or `private` are limited to.
    pub(super) fn limited_to<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.list.iter().filter(move |own| own.name == name).flat_map(Directive::fields)
    }

    /// Seconds. Where the value is no number, or said twice in two ways, it is 0: what cannot be understood is stale
    /// (RFC 9111 section 4.2.1).
    pub(super) fn seconds(&self, name: &str) -> Option<u64> {
        let mut values = self
            .list
            .iter()
            .filter(|own| own.name == name)
            .map(|own| own.value.as_ref().and_then(|value| seconds(&value.text)).unwrap_or(0));
        let first = values.next()?;
        Some(if values.all(|other| other == first) { first } else { 0 })
    }
}

impl Directive {
    /// The fields that a list in quotes names.
    fn fields(&self) -> impl Iterator<Item = &str> {
        let list = self.value.as_ref().filter(|value| value.is_quoted).map_or("", |value| &value.text);
        list.split(',').map(str::trim).filter(|field| !field.is_empty())
    }
}

/// Delta-seconds: digits and nothing else; what does not fit is as long as can be (RFC 9111 section 1.2.2).
pub(super) fn seconds(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Far beyond any age, and no sum of two of them overflows.
    is_number.then(|| text.parse().unwrap_or(u64::MAX).min(u64::from(u32::MAX)))
}

/// Divides a list at commas that lie in no quoted string; `None`: a quote stands elsewhere than behind `=`, or has no end.
fn members(line: &[u8]) -> Option<Vec<&[u8]>> {
    let (mut members, mut start) = (Vec::new(), 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, &byte) in line.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' if quoted => quoted = false,
            b'"' if line[start..at].trim_ascii_end().ends_with(b"=") => quoted = true,
            b'"' => return None,
            b',' if !quoted => {
                members.push(&line[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    members.push(&line[start..]);
    (!quoted).then_some(members)
}

fn directive(member: &[u8]) -> Option<Directive> {
    let member = String::from_utf8_lossy(member);
    let member = member.trim();
    let (name, value) = match member.split_once('=') {
        // The blank stays with the value, which is none by that.
        Some((name, _)) if name.ends_with(char::is_whitespace) => {
            (name.trim_end(), Some(&member[name.trim_end().len()..]))
        }
        Some((name, value)) => (name, Some(value)),
        None => (member, None),
    };
    (!name.is_empty()).then(|| Directive { name: name.to_ascii_lowercase(), value: value.map(Value::of) })
}

impl Value {
    fn of(value: &str) -> Self {
        let Some(inner) = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')) else {
            return Self { text: value.to_owned(), is_quoted: false };
        };
        let mut text = String::with_capacity(inner.len());
        let mut escaped = false;
        for char in inner.chars() {
            escaped = char == '\\' && !escaped;
            if !escaped {
                text.push(char);
            }
        }
        Self { text, is_quoted: true }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> Directives {
        Directives::of(&lines.iter().map(|line| ("Cache-Control", *line)).collect())
    }

    #[test]
    fn names_have_no_case_and_quoted_strings_hide_nothing() {
        let directives =
            of(&["MaX-AgE=\"60\" , ext=\"a, no-store, \\\", max-age=1\"", "No-Cache=\"Set-Cookie, X\""]);
        assert_eq!(directives.seconds("max-age"), Some(60));
        assert!(
            !directives.has("no-store") && directives.has("no-cache") && !directives.has_whole("no-cache")
        );
        assert_eq!(directives.limited_to("no-cache").collect::<Vec<_>>(), ["Set-Cookie", "X"]);
    }

    #[test]
    fn what_cannot_be_understood_is_stale() {
        for line in [
            "max-age=-1",
            "max-age='60'",
            "max-age=60.0",
            "max-age= 60",
            "max-age =60",
            "max-age=a",
            "max-age",
            "max-age=1, max-age=2",
        ] {
            assert_eq!(of(&[line]).seconds("max-age"), Some(0), "{line}");
        }
        assert_eq!(of(&["max-age=99999999999999999999"]).seconds("max-age"), Some(u64::from(u32::MAX)));
        assert_eq!(of(&["max-age=007", "max-age=7"]).seconds("max-age"), Some(7));
    }

    #[test]
    fn what_is_written_wrongly_restricts_all_the_same() {
        for line in
            ["private", "private=\"\"", "private=\" , \"", "private =x", "private = \"x\"", "private=1"]
        {
            let directives = of(&[line]);
            assert!(directives.has("private") && directives.has_whole("private"), "{line}");
        }
        assert!(of(&["no-store =1"]).has("no-store"));
        assert!(of(&["no-cache=\"\u{e9}\""]).has("no-cache"));
        for line in ["ext=\"x, private", "a\"b, private, \"", "ext=\"x\\\", private", "ext=\"x\"y\", private"]
        {
            assert!(of(&[line]).are_broken(), "{line}");
        }
        assert!(!of(&["ext=\"x, private\", max-age=\"60\""]).are_broken());
    }
}
