//! Header fields: in order, spelled as they came (RFC 9110 section 5).
//!
//! Runs on: proxy cores. Allocates: until the memory of earlier messages is enough. Blocks: never.

use std::fmt;

/// The fields of one message. Names are compared without regard to case and kept as they came, in the order in which they came:
/// what nobody edits is passed on as it was.
#[derive(Clone, Default)]
pub struct Fields {
    /// Names and values, one behind the other. What was removed stays until [`Fields::clear`].
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a field's name and value lie; the value follows the name.
#[derive(Copy, Clone, Debug)]
struct Place {
    start: u32,
    name: u32,
    value: u32,
}

impl Fields {
    pub const fn new() -> Self {
        Self { bytes: Vec::new(), places: Vec::new() }
    }

    /// A copy with room for so many fields more, and so many bytes of them.
    #[must_use]
    pub fn with_room(&self, fields: usize, bytes: usize) -> Self {
        let mut copy = Self {
            bytes: Vec::with_capacity(self.bytes.len() + bytes),
            places: Vec::with_capacity(self.places.len() + fields),
        };
        copy.bytes.extend_from_slice(&self.bytes);
        copy.places.extend_from_slice(&self.places);
        copy
    }

    pub const fn len(&self) -> usize {
        self.places.len()
    }

    pub const fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Forgets all fields, not their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.places.clear();
    }

    /// All fields, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.places.iter().map(|place| self.field(*place))
    }

    /// The values of all fields of this name, in order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(move |(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value of the first field of this name.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.places
            .iter()
            .find(|place| {
                place.name as usize == name.len() && self.field(**place).0.eq_ignore_ascii_case(name)
            })
            .map(|place| self.field(*place).1)
    }

    /// As [`Fields::get`], where the value is UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(|value| str::from_utf8(value).ok())
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// The members of a field that is a list (RFC 9110 section 5.6.1), of all lines of this name, without the blanks around
    /// them; empty ones are left out. Commas within quoted strings divide, too: for lists of tokens.
    pub fn list<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        let members = self.all(name).flat_map(|value| value.split(|&byte| byte == b','));
        members.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
    }

    /// Whether a list of tokens has this one, in whatever case.
    pub fn lists(&self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// Appends a field. The caller answers for a name that is a token, and a value without line ends.
    pub fn push(&mut self, name: &str, value: &[u8]) {
        let (start, name_len) = (self.bytes.len(), name.len());
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(value);
        // A head is bounded far below four gigabytes.
        self.places.push(Place { start: start as u32, name: name_len as u32, value: value.len() as u32 });
    }

    /// Puts one field of this name in place of all that there are: where the first one was, or at the end.
    pub fn set(&mut self, name: &str, value: &[u8]) {
        let at = self.places.iter().position(|place| self.field(*place).0.eq_ignore_ascii_case(name));
        self.push(name, value);
        if let Some(at) = at
            && let Some(new) = self.places.pop()
        {
            self.places[at] = new;
            let mut place = 0;
            let bytes = &self.bytes;
            self.places.retain(|other| {
                place += 1;
                place - 1 <= at || !name_of(bytes, *other).eq_ignore_ascii_case(name)
            });
        }
    }

    /// Removes all fields of this name; answers how many there were.
    pub fn remove(&mut self, name: &str) -> usize {
        let before = self.places.len();
        let bytes = &self.bytes;
        self.places.retain(|place| !name_of(bytes, *place).eq_ignore_ascii_case(name));
        before - self.places.len()
    }

    fn field(&self, place: Place) -> (&str, &[u8]) {
        let value = (place.start + place.name) as usize;
        (name_of(&self.bytes, place), &self.bytes[value..value + place.value as usize])
    }
}

/// The name of a field; names come in as text.
fn name_of(bytes: &[u8], place: Place) -> &str {
    let start = place.start as usize;
    str::from_utf8(&bytes[start..start + place.name as usize]).unwrap_or_default()
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.iter().map(|(name, value)| (name, value.escape_ascii().to_string())))
            .finish()
    }
}

/// Whether two messages have the same fields, in the same order and spelling.
impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Fields {}

impl<'a> FromIterator<(&'a str, &'a str)> for Fields {
    fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(fields: I) -> Self {
        let mut all = Self::new();
        for (name, value) in fields {
            all.push(name, value.as_bytes());
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_no_case_and_keep_their_spelling_and_order() {
        let mut fields: Fields =
            [("Host", "a"), ("via", "1.1 x"), ("VIA", "1.0 y, 1.1 z")].into_iter().collect();
        assert_eq!(fields.get("HOST"), Some(&b"a"[..]));
        assert_eq!(fields.list("via").collect::<Vec<_>>(), [&b"1.1 x"[..], b"1.0 y", b"1.1 z"]);
        fields.set("Via", b"none");
        fields.push("X", b"");
        let all: Vec<_> = fields.iter().collect();
        assert_eq!(all, [("Host", &b"a"[..]), ("Via", b"none"), ("X", b"")]);
        assert_eq!((fields.remove("via"), fields.remove("via"), fields.len()), (1, 0, 2));
    }
}
