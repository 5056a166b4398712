//! Numbers for names: the engine works on small numbers, and a node keeps them stable across restarts with this.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use thiserror::Error;

/// Longest name.
pub const NAME_BYTES_MAX: usize = 256;
/// Most names; numbers beyond it are reserved.
pub const NAMES_MAX: usize = 2_000_000;

/// Why a name got no number.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum CatalogError {
    /// The name is too long.
    #[error("a name of {bytes} bytes; at most {NAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// There are too many names.
    #[error("more than {NAMES_MAX} names")]
    Full,
}

/// Names and their numbers, in order of first appearance.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Catalog {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

impl Catalog {
    /// Number of a name, given on first sight.
    pub fn number(&mut self, name: &str) -> Result<u32, CatalogError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if name.len() > NAME_BYTES_MAX {
            return Err(CatalogError::TooLong { bytes: name.len() });
        }
        if self.names.len() >= NAMES_MAX {
            return Err(CatalogError::Full);
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        Ok(number)
    }

    /// Number of a name that is known.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.numbers.get(name).copied()
    }

    /// Name of a number.
    pub fn name(&self, number: u32) -> Option<&str> {
        self.names.get(number as usize).map(String::as_str)
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether restored content is consistent.
    pub fn is_sound(&self) -> bool {
        let matches = |(name, number): (&String, &u32)| self.names.get(*number as usize) == Some(name);
        self.numbers.len() == self.names.len() && self.numbers.iter().all(matches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stable_and_names_bounded() {
        let mut catalog = Catalog::default();
        assert_eq!((catalog.number("b"), catalog.number("a"), catalog.number("b")), (Ok(0), Ok(1), Ok(0)));
        assert_eq!(catalog.name(1), Some("a"));
        assert_eq!(catalog.number(&"x".repeat(300)), Err(CatalogError::TooLong { bytes: 300 }));
        assert!(catalog.is_sound());
    }
}
