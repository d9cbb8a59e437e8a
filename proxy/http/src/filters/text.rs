//! Text of a configuration with variables in braces, as in `for={client};host={host}`.
//!
//! Runs on: proxy cores. Allocates: while its output grows. Blocks: never.

use std::io::Write as _;

use regex::bytes::Captures;

use crate::filter::Exchange;
use crate::message::Request;

/// Text that is filled in for each message. A brace by itself is written twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Text {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Literal(String),
    Variable(Variable),
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Variable {
    Client,
    ClientPort,
    Server,
    Rule,
    Method,
    Host,
    Authority,
    Path,
    Uri,
    /// What a group of a pattern matched.
    Group(usize),
}

const VARIABLES: [(&str, Variable); 9] = [
    ("client", Variable::Client),
    ("client_port", Variable::ClientPort),
    ("server", Variable::Server),
    ("rule", Variable::Rule),
    ("method", Variable::Method),
    ("host", Variable::Host),
    ("authority", Variable::Authority),
    ("path", Variable::Path),
    ("uri", Variable::Uri),
];

/// What variables stand for.
#[derive(Copy, Clone, Debug)]
pub(super) struct Scene<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) request: &'a Request,
}

impl Text {
    /// `groups` is how many a pattern has, the whole match as number 0 among them. The error says what is wrong.
    pub(super) fn parse(text: &str, groups: usize) -> Result<Self, String> {
        let (mut parts, mut literal, mut rest) = (Vec::new(), String::new(), text);
        while let Some(at) = rest.find(['{', '}']) {
            literal.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                literal.push_str(brace);
                rest = after;
                continue;
            }
            let named = rest.split_once('}').filter(|_| brace == "{");
            let Some((name, after)) = named else {
                return Err(format!("{text:?} has a brace by itself: write it twice"));
            };
            let variable = variable(name, groups)?;
            if !literal.is_empty() {
                parts.push(Part::Literal(std::mem::take(&mut literal)));
            }
            parts.push(Part::Variable(variable));
            rest = after;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(Part::Literal(literal));
        }
        Ok(Self { parts })
    }

    /// Whether all its literal bytes are of this kind.
    pub(super) fn is_made_of(&self, kind: impl Fn(u8) -> bool) -> bool {
        self.parts.iter().all(|part| match part {
            Part::Literal(text) => text.bytes().all(&kind),
            Part::Variable(_) => true,
        })
    }

    /// Appends the text, with what variables stand for as it came from the wire.
    pub(super) fn write(&self, out: &mut Vec<u8>, scene: Scene<'_>, groups: Option<&Captures<'_>>) {
        let Scene { exchange, request } = scene;
        for part in &self.parts {
            let written = match part {
                Part::Literal(text) => out.write_all(text.as_bytes()),
                Part::Variable(variable) => match variable {
                    Variable::Client => write!(out, "{}", exchange.client.ip()),
                    Variable::ClientPort => write!(out, "{}", exchange.client.port()),
                    Variable::Server => write!(out, "{}", exchange.server),
                    Variable::Rule => write!(out, "{}", exchange.rule.as_deref().unwrap_or_default()),
                    Variable::Method => out.write_all(request.method().as_bytes()),
                    Variable::Host => out.write_all(request.host().as_bytes()),
                    Variable::Authority => out.write_all(request.authority().as_bytes()),
                    Variable::Path => out.write_all(request.path().as_bytes()),
                    Variable::Uri => out.write_all(request.path_and_query().as_bytes()),
                    Variable::Group(number) => {
                        let group = groups.and_then(|groups| groups.get(*number));
                        out.write_all(group.map_or(b"", |group| group.as_bytes()))
                    }
                },
            };
            written.expect("invariant: a vector takes everything");
        }
    }
}

fn variable(name: &str, groups: usize) -> Result<Variable, String> {
    if let Ok(number) = name.parse::<usize>() {
        let none = || format!("{{{name}}} is no group of the pattern");
        return (number < groups).then_some(Variable::Group(number)).ok_or_else(none);
    }
    let found = VARIABLES.iter().find(|(own, _)| *own == name);
    found.map(|(_, variable)| *variable).ok_or_else(|| {
        let names: Vec<_> = VARIABLES.iter().map(|(own, _)| *own).collect();
        format!("{{{name}}} is no variable; there are {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use regex::bytes::Regex;

    use super::*;
    use crate::testkit;

    fn filled(text: &str) -> String {
        let exchange = testkit::exchange();
        let request = testkit::request("GET", "/a/b?c", &[("Host", "www.example:81")]);
        let pattern = Regex::new("(x+)(y)?").expect("a pattern");
        let groups = pattern.captures(b"-xx-").expect("a match");
        let mut out = Vec::new();
        let text = Text::parse(text, 3).expect("a text");
        text.write(&mut out, Scene { exchange: &exchange, request: &request }, Some(&groups));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn every_variable_stands_for_what_its_name_says() {
        for (text, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{client}:{client_port} to {server}", "10.0.0.5:40000 to 198.51.100.1:80"),
            ("{method} http://{authority}{uri}", "GET http://www.example:81/a/b?c"),
            ("{host}{path} by {rule}", "www.example/a/b by web"),
            ("{{host}} {0} {1}{2}.", "{host} xx xx."),
        ] {
            assert_eq!(filled(text), expected);
        }
    }

    #[test]
    fn what_is_no_variable_is_a_fault() {
        for text in ["{", "}", "a{b", "{hosts}", "{}", "{3}", "{-1}", "{{host}"] {
            assert!(Text::parse(text, 3).is_err(), "{text}");
        }
    }
}
