//! Draws findings as compilers do: the line, a caret under the place, and what to do.
//!
//! Only layout; no finding is made or changed here.

use std::borrow::Cow;
use std::path::Path;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Renderer, Snippet};

use crate::diagnostic::{Diagnostic, Severity};
use crate::spanned::Span;

/// Columns to render within. Fixed, so that output does not depend on the terminal it was made in.
const WIDTH: usize = 120;
/// Characters of one source line that are shown; a longer one (legal in TOML) is replaced by its start.
const LINE_BYTES_MAX: usize = 2_000;

/// Draws `diagnostics`, with an empty line between two.
pub(crate) fn report(path: &Path, text: &str, diagnostics: &[Diagnostic], left_out: usize, colour: bool) -> String {
    let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
    let renderer = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH);
    let path = path.display().to_string().replace(char::is_control, "?");
    let text = &harmless(text);
    let mut drawn: Vec<String> = diagnostics.iter().map(|one| draw(&renderer, &path, text, one)).collect();
    if left_out > 0 {
        drawn.push(format!("... and {left_out} more"));
    }
    drawn.join("\n\n")
}

fn draw(renderer: &Renderer, path: &str, text: &str, diagnostic: &Diagnostic) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let mut group = Group::with_title(level.primary_title(diagnostic.message.as_str()));
    group = match &diagnostic.span {
        Some(span) => group.element(snippet(path, text, span, diagnostic)),
        None => group.element(annotate_snippets::Origin::path(path)),
    };
    if !diagnostic.help.is_empty() {
        group = group.element(Level::HELP.message(diagnostic.help.as_str()));
    }
    renderer.render(&[group])
}

fn snippet<'a>(path: &'a str, text: &'a str, span: &Span, diagnostic: &'a Diagnostic) -> Snippet<'a, Annotation<'a>> {
    let spans = std::iter::once(span).chain(diagnostic.related.iter().map(|(span, _)| span));
    if spans.into_iter().any(|span| line_of(text, span.start).len() > LINE_BYTES_MAX) {
        return shortened(path, text, span, diagnostic);
    }
    let primary = AnnotationKind::Primary.span(one_line(text, span));
    let others = diagnostic
        .related
        .iter()
        .map(|(span, label)| AnnotationKind::Context.span(one_line(text, span)).label(label.as_str()));
    Snippet::source(text).path(path).annotation(labelled(primary, diagnostic)).annotations(others)
}

/// The start of an over-long line with the caret at its first character, at the right line number.
fn shortened<'a>(path: &'a str, text: &'a str, span: &Span, diagnostic: &'a Diagnostic) -> Snippet<'a, Annotation<'a>> {
    let (line_number, _) = crate::diagnostic::position(text, span.start);
    let line = line_of(text, span.start);
    let start = &line[..line.floor_char_boundary(WIDTH)];
    let first = start.chars().next().map_or(0, char::len_utf8);
    let primary = AnnotationKind::Primary.span(0..first);
    Snippet::source(start).path(path).line_start(line_number).annotation(labelled(primary, diagnostic))
}

fn labelled<'a>(annotation: Annotation<'a>, diagnostic: &'a Diagnostic) -> Annotation<'a> {
    if diagnostic.label.is_empty() { annotation } else { annotation.label(diagnostic.label.as_str()) }
}

/// `span` within the text, on character boundaries, and cut at its first line's end: a caret, not a box.
fn one_line(text: &str, span: &Span) -> Span {
    let start = text.floor_char_boundary(span.start);
    let end = text.ceil_char_boundary(span.end.max(start));
    let line_end = text[start..end].find(['\n', '\r']).map_or(end, |newline| start + newline);
    start..line_end
}

/// `text` without the control characters of two bytes (C1, such as CSI), each replaced by a dot of two bytes so that
/// no place moves. The renderer itself draws those of one byte as pictures.
fn harmless(text: &str) -> Cow<'_, str> {
    let control = |c: char| ('\u{80}'..='\u{9f}').contains(&c);
    if text.contains(control) { Cow::Owned(text.replace(control, "\u{b7}")) } else { Cow::Borrowed(text) }
}

fn line_of(text: &str, byte: usize) -> &str {
    let byte = text.floor_char_boundary(byte);
    let start = text[..byte].rfind('\n').map_or(0, |newline| newline + 1);
    let end = text[byte..].find('\n').map_or(text.len(), |newline| byte + newline);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Findings;

    #[test]
    fn shows_line_caret_related_place_and_help() {
        let text = "a = 1\nb = 2\n";
        let mut findings = Findings::default();
        findings.error(6..7, "twice").label("again").related(0..1, "first").help("remove one");
        let drawn = findings.into_report(Path::new("f.toml"), text).to_string();
        for part in ["error: twice", "f.toml:2:1", "1 | a = 1", "- first", "2 | b = 2", "^ again", "help: remove one"] {
            assert!(drawn.contains(part), "{part} in\n{drawn}");
        }
    }

    #[test]
    fn an_endless_line_is_shown_by_its_start() {
        let text = format!("a = 1\nb = \"{}\"\n", "x".repeat(1 << 20));
        let mut findings = Findings::default();
        findings.error(10..1 << 20, "too long");
        let drawn = findings.into_report(Path::new("f.toml"), &text).to_string();
        assert!(drawn.len() < 2_000 && drawn.contains("f.toml:2:1"), "{drawn}");
    }

    #[test]
    fn never_panics_on_any_span() {
        let text = "ä = 1\r\nöö";
        for start in 0..text.len() + 3 {
            for end in 0..text.len() + 3 {
                let mut findings = Findings::default();
                findings.warning(start..end, "x").related(end..start, "y");
                assert!(!findings.into_report(Path::new("f"), text).to_string().is_empty());
            }
        }
    }
}
