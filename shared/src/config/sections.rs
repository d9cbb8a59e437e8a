//! The sections of filters, key by key: which there are, on which line, with what in them.
//!
//! Each type of filter has keys of its own, and there are types that this crate does not know.

use core::ops::Range;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IntoDeserializer;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::line_of;

/// One `[[filter]]`, without `name` and `type`.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    section: Spanned<DeTable<'a>>,
}

impl<'a> Keys<'a> {
    /// Where each key stands, in bytes from the beginning of the file.
    pub(super) fn places(&self) -> impl Iterator<Item = (&str, Range<usize>)> {
        self.section.get_ref().keys().map(|key| (key.get_ref().as_ref(), key.span()))
    }

    /// The line of each key, counted from 1.
    pub(super) fn lines(&self, text: &str) -> BTreeMap<String, usize> {
        self.places().map(|(key, place)| (key.to_owned(), line_of(text, place.start))).collect()
    }

    /// The keys as a type that knows them.
    pub(super) fn read<T: Deserialize<'a>>(self) -> Result<T, toml::de::Error> {
        T::deserialize(self.section.into_deserializer())
    }
}

/// The sections of a file that was read already, in order.
pub(super) fn filters(text: &str) -> Vec<Keys<'_>> {
    let Ok(file) = DeTable::parse(text) else { return Vec::new() };
    let mut file = file.into_inner();
    let Some(DeValue::Array(sections)) = file.remove("filter").map(Spanned::into_inner) else {
        return Vec::new();
    };
    sections.into_iter().map(section).collect()
}

fn section(value: Spanned<DeValue<'_>>) -> Keys<'_> {
    let span = value.span();
    let mut table = match value.into_inner() {
        DeValue::Table(table) => table,
        _ => DeTable::new(),
    };
    table.remove("name");
    table.remove("type");
    Keys { section: Spanned::new(span, table) }
}
