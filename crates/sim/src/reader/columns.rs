//! Comma-separated values: columns found by name, quotes undone, numbers checked.

use super::TraceError;
use super::lines::Lines;
use std::borrow::Cow;

/// Most columns of any format read here (a day of minutes, and four names).
const COLUMNS_MAX: usize = 2_000;

/// Splits a line at its commas; a field in double quotes may contain commas and doubled quotes.
pub fn split(line: &str) -> Vec<Cow<'_, str>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted),
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) if fields.len() < COLUMNS_MAX => rest = next,
            Some(_) | None => return fields,
        }
    }
}

fn quoted_field(quoted: &str) -> (Cow<'_, str>, &str) {
    let mut value = String::new();
    let mut rest = quoted;
    while let Some(end) = rest.find('"') {
        value.push_str(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix('"') {
            Some(next) => {
                value.push('"');
                rest = next;
            }
            None => {
                let comma = rest.find(',').unwrap_or(rest.len());
                return (Cow::Owned(value), &rest[comma..]);
            }
        }
    }
    value.push_str(rest);
    (Cow::Owned(value), "")
}

/// Positions of named columns in a header.
#[derive(Debug)]
pub struct Header {
    names: Vec<String>,
}

impl Header {
    /// Takes the header line.
    pub fn read(lines: &mut Lines<'_>) -> Result<Self, TraceError> {
        let line = lines.next_line()?.ok_or_else(|| lines.error("the file is empty"))?;
        let line = line.trim_start_matches('\u{feff}');
        Ok(Self { names: split(line).iter().map(|name| name.trim().to_owned()).collect() })
    }

    /// Position of a column.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known == name)
    }

    /// Position of a column that must be there.
    pub fn require(&self, name: &str, lines: &Lines<'_>) -> Result<usize, TraceError> {
        self.find(name).ok_or_else(|| lines.error(format!("the header has no column `{name}`")))
    }

    /// Number of columns.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no columns.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// A field that must be there.
pub fn text<'a>(
    fields: &'a [Cow<'_, str>],
    column: usize,
    name: &str,
    lines: &Lines<'_>,
) -> Result<&'a str, TraceError> {
    fields
        .get(column)
        .map(|field| field.trim())
        .ok_or_else(|| lines.error(format!("{} fields, but `{name}` is number {}", fields.len(), column + 1)))
}

/// A whole number that must be there.
pub fn whole(fields: &[Cow<'_, str>], column: usize, name: &str, lines: &Lines<'_>) -> Result<u64, TraceError> {
    let field = text(fields, column, name, lines)?;
    field.parse().map_err(|_| lines.error(format!("`{name}` is `{}`, not a whole number", clip(field))))
}

/// A finite number of seconds, not negative and below [`SECONDS_MAX`].
pub fn seconds(fields: &[Cow<'_, str>], column: usize, name: &str, lines: &Lines<'_>) -> Result<f64, TraceError> {
    let field = text(fields, column, name, lines)?;
    match field.parse::<f64>() {
        Ok(value) if (0.0..SECONDS_MAX).contains(&value) => Ok(value),
        Ok(_) | Err(_) => Err(lines.error(format!("`{name}` is `{}`, not a time in seconds", clip(field)))),
    }
}

/// Times beyond the year 3000 are mistakes of unit.
pub const SECONDS_MAX: f64 = 32_503_680_000.0;

/// The beginning of a value for a message.
pub fn clip(value: &str) -> String {
    const SHOWN: usize = 40;
    if value.chars().count() <= SHOWN {
        return value.to_owned();
    }
    value.chars().take(SHOWN).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_undone() {
        assert_eq!(split(r#"a,"b,""c""",d"#), ["a", "b,\"c\"", "d"]);
        assert_eq!(split("a,,"), ["a", "", ""]);
        assert_eq!(split(r#""open"#), ["open"]);
    }

    proptest! {
        #[test]
        fn splitting_never_fails_and_plain_fields_survive(fields in prop::collection::vec("[a-z0-9 ]{0,8}", 1..20), noise in ".{0,80}") {
            let line = fields.join(",");
            prop_assert_eq!(split(&line), fields);
            prop_assert!(!split(&noise).is_empty());
        }
    }
}
