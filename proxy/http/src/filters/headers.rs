//! `headers`: adds, appends to, replaces and removes fields of requests and responses.
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier messages is enough, and for what patterns capture. Blocks: never.
//!
//! Rules are followed in order, each on what the one before left. Fields that tell where a message ends, or concern one connection,
//! are the codec's and refused; `Host` can be replaced, and nothing else. Whatever a value is made of, a field stays one field.

use std::sync::Arc;

use regex::bytes::Regex;
use serde::Deserialize;

use super::Section;
use super::text::{Scene, Text};
use crate::fields::Fields;
use crate::filter::{Call, ConfigFault, HttpFactory, HttpFilter, Verdict};
use crate::message::{Request, Response};

/// Bytes that a pattern may make a value of; else it stays as it was.
const LONGEST_VALUE: usize = 16 * 1024;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    request: Vec<RuleSettings>,
    #[serde(default)]
    response: Vec<RuleSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleSettings {
    action: Action,
    /// Of the field.
    name: String,
    /// With variables; what `remove` has none of.
    value: Option<String>,
    /// For `replace` and `remove`: concerns what it matches, within values.
    pattern: Option<String>,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    /// One more field, whatever fields of the name there are.
    Add,
    /// One more member at the end of the last field of the name, or the first field.
    Append,
    /// One field in place of all, also where there was none. With a pattern: other text for what it matches.
    Replace,
    /// All fields of the name. With a pattern: those whose value it matches.
    Remove,
}

/// Makes the filter from its section.
pub(super) fn configure(section: &Section<'_>) -> Result<Arc<dyn HttpFactory>, ConfigFault> {
    let settings: Settings = section.read()?;
    let rules = |list: &str, rules: Vec<RuleSettings>| {
        let rule = |(at, rule)| {
            Rule::new(rule)
                .map_err(|(key, message)| ConfigFault { key: format!("{list}[{at}].{key}"), message })
        };
        rules.into_iter().enumerate().map(rule).collect::<Result<Arc<[Rule]>, _>>()
    };
    Ok(Arc::new(HeadersFactory {
        request: rules("request", settings.request)?,
        response: rules("response", settings.response)?,
    }))
}

#[derive(Debug)]
struct HeadersFactory {
    request: Arc<[Rule]>,
    response: Arc<[Rule]>,
}

impl HttpFactory for HeadersFactory {
    fn filter(&self) -> Box<dyn HttpFilter> {
        Box::new(Headers {
            request: Arc::clone(&self.request),
            response: Arc::clone(&self.response),
            next: Fields::new(),
            value: Vec::new(),
        })
    }
}

/// One connection's instance.
struct Headers {
    request: Arc<[Rule]>,
    response: Arc<[Rule]>,
    /// What a rule makes of the fields, and of a value.
    next: Fields,
    value: Vec<u8>,
}

impl HttpFilter for Headers {
    fn request(&mut self, call: &mut Call<'_>, request: &mut Request) -> Verdict {
        for rule in &*self.request {
            let scene = Scene { exchange: call.exchange, request };
            if !rule.edit(scene, request.fields(), &mut self.next, &mut self.value) {
                continue;
            }
            if rule.is_host() {
                let host = self.next.text("host").filter(|host| is_authority(host));
                if let Some(host) = host {
                    request.set_authority(host);
                }
            } else {
                std::mem::swap(request.fields_mut(), &mut self.next);
            }
        }
        Verdict::Pass
    }

    fn response(&mut self, call: &mut Call<'_>, request: &Request, response: &mut Response) -> Verdict {
        for rule in &*self.response {
            let scene = Scene { exchange: call.exchange, request };
            if rule.edit(scene, response.fields(), &mut self.next, &mut self.value) {
                std::mem::swap(response.fields_mut(), &mut self.next);
            }
        }
        Verdict::Pass
    }
}

/// What may stand in `Host` (RFC 9110 section 7.2), near enough that nobody takes it for something else.
pub(super) fn is_authority(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(&byte);
    !text.is_empty() && text.bytes().all(is_part)
}

/// A rule as configured.
#[derive(Debug)]
struct Rule {
    action: Action,
    name: String,
    value: Text,
    pattern: Option<Regex>,
}

/// The key that is wrong, and what is wrong with it.
type RuleFault = (&'static str, String);

impl Rule {
    fn new(settings: RuleSettings) -> Result<Self, RuleFault> {
        let RuleSettings { action, name, value, pattern } = settings;
        check_name(action, &name).map_err(|message| ("name", message))?;
        if pattern.is_some() && matches!(action, Action::Add | Action::Append) {
            return Err(("pattern", "is for replace and remove".to_owned()));
        }
        let pattern = pattern.map(|text| Regex::new(&text)).transpose();
        let pattern = pattern.map_err(|error| ("pattern", error.to_string()))?;
        let groups = pattern.as_ref().map_or(0, Regex::captures_len);
        let value = match (action, value) {
            (Action::Remove, None) => String::new(),
            (Action::Remove, Some(_)) => return Err(("value", "is not for remove".to_owned())),
            (_, Some(value)) => value,
            (_, None) => return Err(("value", "is missing".to_owned())),
        };
        let value = Text::parse(&value, groups).map_err(|message| ("value", message))?;
        if !value.is_made_of(is_of_value) {
            return Err(("value", "has bytes that no field may have".to_owned()));
        }
        Ok(Self { action, name, value, pattern })
    }

    fn is_host(&self) -> bool {
        self.name.eq_ignore_ascii_case("host")
    }

    /// Writes what is to take the place of all `fields` to `next`; false: nothing changes.
    fn edit(&self, scene: Scene<'_>, fields: &Fields, next: &mut Fields, value: &mut Vec<u8>) -> bool {
        next.clear();
        let count = fields.all(&self.name).count();
        let (mut met, mut is_changed) = (0, false);
        for (name, old) in fields.iter() {
            if !name.eq_ignore_ascii_case(&self.name) {
                next.push(name, old);
                continue;
            }
            met += 1;
            value.clear();
            let is_kept = match (self.action, &self.pattern) {
                (Action::Append, _) if met == count => {
                    value.extend_from_slice(old);
                    value.extend_from_slice(if old.is_empty() { b"" } else { b", " });
                    self.value.write(value, scene, None);
                    false
                }
                (Action::Replace, None) if met == 1 => {
                    self.value.write(value, scene, None);
                    false
                }
                (Action::Replace, None) | (Action::Remove, None) => {
                    is_changed = true;
                    continue;
                }
                (Action::Replace, Some(pattern)) => !self.replace(pattern, scene, old, value),
                (Action::Remove, Some(pattern)) if pattern.is_match(old) => {
                    is_changed = true;
                    continue;
                }
                _ => true,
            };
            next.push(name, if is_kept { old } else { clean(value) });
            is_changed |= !is_kept;
        }
        let is_missing = count == 0 && self.pattern.is_none() && self.action != Action::Remove;
        if is_missing || self.action == Action::Add {
            value.clear();
            self.value.write(value, scene, None);
            next.push(&self.name, clean(value));
            is_changed = true;
        }
        is_changed
    }

    /// Writes the value with other text for what the pattern matches; false: it matches nothing, or too much would come of it.
    fn replace(&self, pattern: &Regex, scene: Scene<'_>, old: &[u8], value: &mut Vec<u8>) -> bool {
        let mut from = 0;
        for groups in pattern.captures_iter(old) {
            let whole = groups.get_match();
            value.extend_from_slice(&old[from..whole.start()]);
            self.value.write(value, scene, Some(&groups));
            from = whole.end();
            if value.len() > LONGEST_VALUE {
                return false;
            }
        }
        value.extend_from_slice(&old[from..]);
        value.len() <= LONGEST_VALUE && *value != old
    }
}

/// What a value may be made of (RFC 9110 section 5.5).
const fn is_of_value(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Puts blanks where a value has what none may have.
fn clean(value: &mut [u8]) -> &[u8] {
    for byte in value.iter_mut().filter(|byte| !is_of_value(**byte)) {
        *byte = b' ';
    }
    value.trim_ascii()
}

/// Fields by which a message's end and its connection are told (RFC 9112 section 6, RFC 9110 section 7.6.1): the codec's.
const FRAMING: [&str; 9] = [
    "connection",
    "content-length",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

fn check_name(action: Action, name: &str) -> Result<(), String> {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_of_token) {
        return Err(format!("{name:?} is not the name of a field"));
    }
    if FRAMING.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(format!("{name} tells how messages are framed, and is not for filters"));
    }
    if name.eq_ignore_ascii_case("host") && action != Action::Replace {
        return Err("a request has one Host: it can only be replaced".to_owned());
    }
    if name.eq_ignore_ascii_case("set-cookie") && action == Action::Append {
        return Err("Set-Cookie is no list: add another one".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
