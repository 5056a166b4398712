//! What is wrong with a manifest: severity, place, and what to do about it.
//!
//! Facts only; `render` draws them.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::render;
use crate::spanned::Span;

/// Diagnostics kept of one manifest. Nobody reads more before fixing the first; the rest is counted.
const DIAGNOSTICS_MAX: usize = 50;
/// Characters of one message. A manifest may quote a megabyte at us; a terminal shows this much.
const MESSAGE_CHARACTERS_MAX: usize = 400;

/// Whether a manifest is refused because of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The manifest is refused.
    Error,
    /// The manifest is accepted; what is named here has no effect or a surprising one.
    Warning,
}

/// One finding.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong, in one sentence without a full stop.
    pub message: String,
    /// Bytes of the manifest it is about; `None` if about the file as a whole.
    pub span: Option<Span>,
    /// A word at that place; may be empty.
    pub label: String,
    /// Other places that matter, each with a word, such as the first use of a route.
    pub related: Vec<(Span, String)>,
    /// What to do; may be empty.
    pub help: String,
}

/// A [`Diagnostic`] for machines: places as line and column.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// Error or warning.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The manifest.
    pub path: PathBuf,
    /// From 1; `None` if about the file as a whole.
    pub line: Option<usize>,
    /// In characters, from 1.
    pub column: Option<usize>,
    /// What to do; may be empty.
    pub help: String,
}

/// All findings of one manifest with the text they point into, in the order of the text.
#[derive(Clone, Debug, Default)]
pub struct Report {
    path: PathBuf,
    text: String,
    diagnostics: Vec<Diagnostic>,
    left_out: usize,
}

impl Report {
    /// Findings in the order of the text.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// How many findings were counted but not kept.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// Whether there is nothing to say.
    pub fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// The manifest.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The findings for a terminal, each with its source line and a caret; with ANSI colours if asked for.
    pub fn render(&self, colour: bool) -> String {
        render::report(&self.path, &self.text, &self.diagnostics, self.left_out, colour)
    }

    /// The findings for machines.
    pub fn records(&self) -> Vec<Record> {
        let record = |diagnostic: &Diagnostic| {
            let place = diagnostic.span.as_ref().map(|span| position(&self.text, span.start));
            Record {
                severity: diagnostic.severity,
                message: diagnostic.message.clone(),
                path: self.path.clone(),
                line: place.map(|(line, _)| line),
                column: place.map(|(_, column)| column),
                help: diagnostic.help.clone(),
            }
        };
        self.diagnostics.iter().map(record).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Line and column of a byte, both from 1; the column counts characters. A byte beyond the text is its end.
pub(crate) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Collects findings while a manifest is read.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    diagnostics: Vec<Diagnostic>,
    left_out: usize,
    errors: usize,
}

impl Findings {
    /// Adds an error; the returned finding may be given a label, help and related places.
    pub(crate) fn error(&mut self, span: impl Into<Option<Span>>, message: impl fmt::Display) -> Finding<'_> {
        self.errors += 1;
        Finding::new(self, Severity::Error, span.into(), message)
    }

    /// Adds a warning.
    pub(crate) fn warning(&mut self, span: impl Into<Option<Span>>, message: impl fmt::Display) -> Finding<'_> {
        Finding::new(self, Severity::Warning, span.into(), message)
    }

    /// Whether an error was added.
    pub(crate) fn has_errors(&self) -> bool {
        self.errors > 0
    }

    /// Whether further findings are only counted, so that no work need go into them.
    pub(crate) fn is_full(&self) -> bool {
        self.diagnostics.len() >= DIAGNOSTICS_MAX
    }

    /// All findings, sorted by place.
    pub(crate) fn into_report(mut self, path: &Path, text: &str) -> Report {
        self.diagnostics.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
        Report { path: path.to_owned(), text: text.to_owned(), diagnostics: self.diagnostics, left_out: self.left_out }
    }
}

/// A finding under construction; kept when dropped.
pub(crate) struct Finding<'a> {
    findings: &'a mut Findings,
    diagnostic: Option<Diagnostic>,
}

impl<'a> Finding<'a> {
    fn new(findings: &'a mut Findings, severity: Severity, span: Option<Span>, message: impl fmt::Display) -> Self {
        let (message, label, related, help) = (printable(&message), String::new(), Vec::new(), String::new());
        Self { findings, diagnostic: Some(Diagnostic { severity, message, span, label, related, help }) }
    }

    /// A word at the place.
    pub(crate) fn label(self, text: impl fmt::Display) -> Self {
        self.with(|diagnostic| diagnostic.label = printable(&text))
    }

    /// What to do about it.
    pub(crate) fn help(self, text: impl fmt::Display) -> Self {
        self.with(|diagnostic| diagnostic.help = printable(&text))
    }

    /// Another place that matters.
    pub(crate) fn related(self, span: Span, text: impl fmt::Display) -> Self {
        self.with(|diagnostic| diagnostic.related.push((span, printable(&text))))
    }

    fn with(mut self, change: impl FnOnce(&mut Diagnostic)) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            change(diagnostic);
        }
        self
    }
}

impl Drop for Finding<'_> {
    fn drop(&mut self) {
        let Some(diagnostic) = self.diagnostic.take() else { return };
        if self.findings.is_full() {
            self.findings.left_out += 1;
        } else {
            self.findings.diagnostics.push(diagnostic);
        }
    }
}

/// Cut to a length a terminal can show, control characters written out: a manifest must not steer the terminal.
fn printable(text: &impl fmt::Display) -> String {
    let text = text.to_string();
    let mut shown = String::with_capacity(text.len().min(MESSAGE_CHARACTERS_MAX));
    for (count, character) in text.chars().enumerate() {
        if count == MESSAGE_CHARACTERS_MAX {
            shown.push_str("...");
            break;
        }
        if steers_terminal(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// Control characters, and those that turn the direction of writing.
pub(crate) fn steers_terminal(character: char) -> bool {
    character.is_control() || matches!(character, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_lines_and_characters_from_one() {
        let text = "aä\nb";
        assert_eq!(position(text, 0), (1, 1));
        assert_eq!(position(text, 3), (1, 3));
        assert_eq!(position(text, 4), (2, 1));
        assert_eq!(position(text, 2), (1, 2), "inside a character is its start");
        assert_eq!(position(text, 99), (2, 2));
    }

    #[test]
    fn keeps_a_bounded_number_and_counts_the_rest() {
        let mut findings = Findings::default();
        for index in 0..DIAGNOSTICS_MAX + 7 {
            findings.error(None, format_args!("number {index}"));
        }
        let report = findings.into_report(Path::new("x"), "");
        assert_eq!((report.diagnostics().len(), report.left_out()), (DIAGNOSTICS_MAX, 7));
    }

    #[test]
    fn writes_control_characters_out_and_cuts_long_messages() {
        assert_eq!(printable(&"a\u{1b}[31m"), "a\\u{1b}[31m");
        assert_eq!(printable(&"x".repeat(10_000)).len(), MESSAGE_CHARACTERS_MAX + 3);
    }
}
