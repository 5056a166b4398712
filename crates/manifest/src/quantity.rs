//! Sizes and times: a plain number in the key's own unit, or a text with a unit such as "64 MiB" or "30 s".
//!
//! Whole numbers only. Ranges are checked where the number is used.

use std::fmt;

use schemars::{Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer, Visitor};

/// A number as written: already in the key's unit, or with a unit of its own.
#[derive(Clone, Debug)]
pub(crate) enum Quantity {
    Number(u64),
    Text(String),
}

/// What a number counts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Bytes,
    Milliseconds,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum QuantityError {
    #[error("`{text}` does not start with a whole number")]
    NoNumber { text: String },
    #[error("`{unit}` is not a unit here: use one of {known}")]
    UnknownUnit { unit: String, known: String },
    #[error("`{text}` is larger than any number that can be used")]
    TooLarge { text: String },
}

/// Units of sizes, the powers of 1000 and of 1024 as SI and IEC name them.
const BYTES: [(&str, u64); 9] = [
    ("B", 1),
    ("kB", 1000),
    ("KB", 1000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Units of times.
const MILLISECONDS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("min", 60_000), ("h", 3_600_000)];

impl Unit {
    fn table(self) -> &'static [(&'static str, u64)] {
        match self {
            Self::Bytes => &BYTES,
            Self::Milliseconds => &MILLISECONDS,
        }
    }

    fn known(self) -> String {
        self.table().iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }
}

impl Quantity {
    /// The number in `unit`'s smallest measure: bytes or milliseconds.
    pub(crate) fn resolve(&self, unit: Unit) -> Result<u64, QuantityError> {
        let text = match self {
            Self::Number(number) => return Ok(*number),
            Self::Text(text) => text,
        };
        let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '_').len();
        let (number, name) = text.split_at(digits);
        let name = name.trim();
        let too_large = || QuantityError::TooLarge { text: text.clone() };
        let number = number.replace('_', "");
        if number.is_empty() {
            return Err(QuantityError::NoNumber { text: text.clone() });
        }
        let number: u64 = number.parse().map_err(|_| too_large())?;
        let factor = unit.table().iter().find(|(known, _)| *known == name).map(|(_, factor)| *factor);
        let factor = factor.ok_or_else(|| QuantityError::UnknownUnit { unit: name.to_owned(), known: unit.known() })?;
        number.checked_mul(factor).ok_or_else(too_large)
    }
}

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Quantity;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number or a string with a unit")
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Quantity, E> {
                Ok(Quantity::Number(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Quantity, E> {
                let negative = |_| E::custom("a number that is not negative is expected here");
                u64::try_from(number).map(Quantity::Number).map_err(negative)
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Quantity, E> {
                Ok(Quantity::Text(text.to_owned()))
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

/// JSON schema of a size.
pub(crate) fn bytes_schema(_: &mut SchemaGenerator) -> Schema {
    schema(Unit::Bytes)
}

/// JSON schema of a time.
pub(crate) fn milliseconds_schema(_: &mut SchemaGenerator) -> Schema {
    schema(Unit::Milliseconds)
}

fn schema(unit: Unit) -> Schema {
    let names = unit.table().iter().map(|(name, _)| *name).collect::<Vec<_>>().join("|");
    let pattern = format!("^[0-9][0-9_]* *({names})$");
    schemars::json_schema!({
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": pattern }]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Result<u64, QuantityError> {
        Quantity::Text(text.to_owned()).resolve(Unit::Bytes)
    }

    #[test]
    fn reads_units() {
        assert_eq!(bytes("64 MiB"), Ok(64 << 20));
        assert_eq!(bytes("64MB"), Ok(64_000_000));
        assert_eq!(bytes("1_000 B"), Ok(1000));
        assert_eq!(Quantity::Number(7).resolve(Unit::Bytes), Ok(7));
        assert_eq!(Quantity::Text("30 s".into()).resolve(Unit::Milliseconds), Ok(30_000));
        assert_eq!(Quantity::Text("2min".into()).resolve(Unit::Milliseconds), Ok(120_000));
    }

    #[test]
    fn refuses_by_name() {
        assert!(matches!(bytes("MiB"), Err(QuantityError::NoNumber { .. })));
        assert!(matches!(bytes(""), Err(QuantityError::NoNumber { .. })));
        assert!(matches!(bytes("_ B"), Err(QuantityError::NoNumber { .. })));
        assert!(matches!(bytes("5"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(bytes("1.5 MiB"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(bytes("5 s"), Err(QuantityError::UnknownUnit { .. })));
        assert!(matches!(bytes("99999999999999999999 B"), Err(QuantityError::TooLarge { .. })));
        assert!(matches!(bytes("99999999999 TiB"), Err(QuantityError::TooLarge { .. })));
    }
}
