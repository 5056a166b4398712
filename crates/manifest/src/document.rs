//! Text to typed tables: TOML syntax, then shape, then deserialization.
//!
//! Generic over the format; what the values mean is said by `forerun_toml` and `spin_toml`.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, Deserializer};

use crate::diagnostic::Findings;
use crate::schema;
use crate::shape;
use crate::spanned::Span;
use crate::syntax;

/// Texts longer than this are searched for their first syntax error only: the recovering parser remembers every one
/// of them, which for a megabyte of garbage is a hundred megabytes.
const RECOVERED_BYTES_MAX: usize = 64 << 10;

/// A manifest whose syntax is right.
pub(crate) struct Document<'a> {
    root: Spanned<DeTable<'a>>,
}

/// A manifest whose shape is right, and where its keys stand.
pub(crate) struct Typed<T> {
    pub(crate) value: T,
    pub(crate) positions: HashMap<String, Span>,
}

impl<'a> Document<'a> {
    /// Parses `text`; `None` if its syntax is wrong, with the errors in `findings`.
    pub(crate) fn parse(text: &'a str, findings: &mut Findings) -> Option<Self> {
        let error = match DeTable::parse(text) {
            Ok(root) => return Some(Self { root }),
            Err(error) => error,
        };
        let errors = if text.len() <= RECOVERED_BYTES_MAX { DeTable::parse_recoverable(text).1 } else { vec![error] };
        syntax::report(text, &errors, findings);
        None
    }

    /// The whole number at the top of the file under `key`, for version checks: the number, or `None` inside if it
    /// is there but no such number.
    pub(crate) fn version(&self, key: &str) -> Option<(Option<u64>, Span)> {
        let value = self.root.get_ref().get(key)?;
        let number = value.get_ref().as_integer().and_then(|number| number.as_str().parse().ok());
        Some((number, value.span()))
    }

    /// Whether `key` stands at the top of the file.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.root.get_ref().contains_key(key)
    }

    /// Checks the shape and deserializes; `None` if that is not possible, with the errors in `findings`.
    pub(crate) fn typed<T: DeserializeOwned + JsonSchema>(mut self, findings: &mut Findings) -> Option<Typed<T>> {
        if !shape::check(&mut self.root, &schema::of::<T>(), findings) {
            return None;
        }
        let positions = shape::positions(self.root.get_ref());
        match T::deserialize(Deserializer::from(self.root)) {
            Ok(value) => Some(Typed { value, positions }),
            Err(error) => {
                findings.error(error.span(), error.message());
                None
            }
        }
    }
}
