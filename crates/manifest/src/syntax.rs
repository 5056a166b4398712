//! Syntax errors of TOML as findings: without their echoes, and with both places of a key that stands twice.
//!
//! The parser is the TOML library's; here its errors are only told.

use toml::de::Error;

use crate::diagnostic::Findings;
use crate::spanned::Span;

/// What the TOML library calls a key or table that stands twice.
const DUPLICATE: &str = "duplicate key";

/// Adds `errors`, in the order of the text, to `findings`.
pub(crate) fn report(text: &str, errors: &[Error], findings: &mut Findings) {
    let mut last_line = None;
    let mut doubled_table = None;
    for error in errors {
        let place = error.span().unwrap_or(0..0);
        let (line, start) = line_at(text, place.start);
        // What follows an error on its own line is mostly an echo of it.
        if last_line == Some(start) {
            continue;
        }
        last_line = Some(start);
        if error.message() != DUPLICATE {
            findings.error(place, format_args!("not valid TOML: {}", error.message()));
            continue;
        }
        // In a table that stands twice, each key stands twice as well.
        if doubled_table.and_then(|from| text.get(from..place.start)).is_some_and(|between| !between.contains("\n[")) {
            continue;
        }
        let is_header = line.trim_start().starts_with('[');
        doubled_table = is_header.then_some(place.start);
        duplicate(text, place, is_header, findings);
    }
}

fn duplicate(text: &str, place: Span, is_header: bool, findings: &mut Findings) {
    let first = if findings.is_full() { None } else { first_place(text, &place, is_header) };
    let what = if is_header { "table" } else { "key" };
    let name = text.get(place.clone()).unwrap_or("");
    let finding = findings.error(place, format_args!("the {what} `{name}` stands twice")).label("again here");
    let finding = finding.help("rename or remove one of them");
    if let Some(first) = first {
        finding.related(first, "first here");
    }
}

/// Where the doubled key stands first: for a table, the first line like its header; for a key, the first line of the
/// same table that begins with it. `None` if it is written differently there.
fn first_place(text: &str, place: &Span, is_header: bool) -> Option<Span> {
    let (own_line, own_start) = line_at(text, place.start);
    let name = text.get(place.clone())?;
    let mut end = own_start;
    let mut found = None;
    while let Some(newline) = end.checked_sub(1) {
        let (line, start) = line_at(text, newline);
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if is_header {
            if trimmed.trim_end() == own_line.trim() {
                found = Some(start + indent..start + line.trim_end().len());
            }
        } else if trimmed.starts_with('[') {
            break;
        } else if trimmed.strip_prefix(name).is_some_and(|rest| rest.trim_start().starts_with(['=', '.'])) {
            found = Some(start + indent..start + indent + name.len());
        }
        end = start;
    }
    found
}

/// The line around a byte, without its newline, and where it starts.
fn line_at(text: &str, byte: usize) -> (&str, usize) {
    let byte = text.floor_char_boundary(byte);
    let start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[byte..].find('\n').map_or(text.len(), |newline| byte + newline);
    (&text[start..end], start)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn said(text: &str) -> String {
        let (_, errors) = toml::de::DeTable::parse_recoverable(text);
        let mut findings = Findings::default();
        report(text, &errors, &mut findings);
        findings.into_report(Path::new("f"), text).to_string()
    }

    #[test]
    fn a_doubled_table_is_one_finding_with_both_lines() {
        let said = said("[a.b]\nx = 1\n[c]\n[a.b]\nx = 2\n");
        assert_eq!(said.matches("error:").count(), 1, "{said}");
        assert!(said.contains("1 | [a.b]") && said.contains("f:4:"), "{said}");
    }

    #[test]
    fn a_doubled_key_is_found_in_its_own_table() {
        let said = said("x = 0\n[a]\n  x = 1\ny = 1\nx = 2\n");
        assert!(said.contains("3 |   x = 1") && !said.contains("x = 0"), "{said}");
    }
}
