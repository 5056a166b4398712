//! Printing: data on stdout as a table or as JSON, messages on stderr, colours where they are welcome.
//!
//! Nothing is decided here but the look. A reader that went away (`| head`) is no error.

use std::io::{self, Write};

use forerun_manifest::{ManifestError, Report};
use serde_json::{Value, json};

use super::args::ColorChoice;
use super::environment::Environment;
use super::table::{Table, printable};
use super::values::UsageError;

/// Red for errors, yellow for warnings, cyan for hints, and back to normal (ECMA-48).
const ERROR: &str = "\u{1b}[1;31m";
const WARNING: &str = "\u{1b}[1;33m";
const HINT: &str = "\u{1b}[1;36m";
const NORMAL: &str = "\u{1b}[0m";

/// Who reads the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// A person.
    Human,
    /// A program.
    Json,
}

/// How data and messages are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Output {
    /// Who reads the data.
    pub(crate) format: Format,
    /// Whether stdout may have colours.
    pub(crate) stdout_colour: bool,
    /// Whether stderr may have colours.
    pub(crate) stderr_colour: bool,
}

impl Output {
    /// As the options and the environment say.
    pub(crate) fn new(json: bool, choice: ColorChoice, environment: &Environment) -> Self {
        let colour = |is_terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => is_terminal && environment.colours_welcome(),
        };
        Self {
            format: if json { Format::Json } else { Format::Human },
            stdout_colour: !json && colour(environment.stdout_is_terminal),
            stderr_colour: !json && colour(environment.stderr_is_terminal),
        }
    }

    /// As the environment of this process says, for a command line whose options make no sense.
    pub(crate) fn of_process() -> Self {
        Self::new(false, ColorChoice::Auto, &Environment::of_process())
    }

    /// Prints a list: a table for people, `empty` on stderr if there is nothing in it, one JSON document for programs.
    ///
    /// # Errors
    /// Those of stdout, but for a reader that went away.
    pub(crate) fn table(&self, table: &Table, json: &Value, empty: &str) -> io::Result<()> {
        match self.format {
            Format::Json => self.json(json),
            Format::Human if table.is_empty() => {
                self.note(empty);
                Ok(())
            }
            Format::Human => to_stdout(&table.render(self.stdout_colour)),
        }
    }

    /// Prints one JSON document over several lines.
    ///
    /// # Errors
    /// Those of stdout, but for a reader that went away.
    pub(crate) fn json(&self, value: &Value) -> io::Result<()> {
        to_stdout(&format!("{value:#}\n"))
    }

    /// Prints one item of a stream: its text for people, one line of JSON for programs.
    ///
    /// # Errors
    /// Those of stdout. A reader that went away is one here: the stream must end.
    pub(crate) fn item(&self, text: &str, json: &Value) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match self.format {
            Format::Human => writeln!(stdout, "{text}"),
            Format::Json => writeln!(stdout, "{json}"),
        }?;
        stdout.flush()
    }

    /// Says something on stderr that is neither data nor wrong. Programs are spared it.
    pub(crate) fn note(&self, text: &str) {
        if self.format == Format::Human {
            to_stderr(&format!("{text}\n"));
        }
    }

    /// Says on stderr that something is odd.
    pub(crate) fn warning(&self, text: &str) {
        match self.format {
            Format::Human => to_stderr(&format!("{}: {text}\n", self.coloured(WARNING, "warning"))),
            Format::Json => to_stderr(&format!("{}\n", json!({ "warning": text }))),
        }
    }

    /// Says on stderr what went wrong and what to do about it.
    pub(crate) fn error(&self, message: &str, hint: &str) {
        to_stderr(&self.error_text(message, hint));
    }

    /// [`Output::error`] for a command line that makes no sense.
    pub(crate) fn usage_error(&self, error: &UsageError) {
        self.error(&error.message, &error.hint);
    }

    /// Says on stderr why a manifest could not be loaded, with the lines it is about.
    pub(crate) fn manifest_error(&self, error: &ManifestError) {
        match error.report() {
            Some(report) => self.report(report),
            None => {
                let text = error.to_string();
                let (message, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
                self.error(message, hint);
            }
        }
    }

    /// Says on stderr what was found in a manifest: warnings of one that was accepted, or all findings.
    pub(crate) fn report(&self, report: &Report) {
        if report.is_empty() {
            return;
        }
        match self.format {
            Format::Human => to_stderr(&format!("{}\n\n", report.render(self.stderr_colour))),
            Format::Json => {
                let records: Vec<Value> = report.records().iter().map(|record| json!(record)).collect();
                to_stderr(&format!("{}\n", json!({ "manifest": records, "left_out": report.left_out() })));
            }
        }
    }

    fn error_text(&self, message: &str, hint: &str) -> String {
        match self.format {
            Format::Human => {
                let lines: Vec<_> = message.lines().map(printable).collect();
                let mut text = format!("{}: {}\n", self.coloured(ERROR, "error"), lines.join("\n"));
                if !hint.is_empty() {
                    text.push_str(&format!("{}: {}\n", self.coloured(HINT, "hint"), printable(hint)));
                }
                text
            }
            Format::Json => format!("{}\n", json!({ "error": message, "hint": hint })),
        }
    }

    fn coloured(&self, colour: &str, word: &str) -> String {
        if self.stderr_colour { format!("{colour}{word}{NORMAL}") } else { word.to_owned() }
    }
}

/// Writes to stdout. A reader that went away has seen what it wanted.
fn to_stdout(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes to stderr. If even that fails, there is nobody left to tell.
fn to_stderr(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal(variables: &[(&str, &str)]) -> Environment {
        Environment {
            variables: variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect(),
            stdout_is_terminal: true,
            stderr_is_terminal: true,
            ..Environment::default()
        }
    }

    #[test]
    fn colours_follow_the_option_then_the_environment_then_the_terminal() {
        let colour = |choice, environment: &Environment| Output::new(false, choice, environment).stdout_colour;
        assert!(colour(ColorChoice::Auto, &terminal(&[])));
        assert!(colour(ColorChoice::Auto, &terminal(&[("NO_COLOR", "")])), "empty is as good as not set");
        assert!(!colour(ColorChoice::Auto, &terminal(&[("NO_COLOR", "1")])));
        assert!(!colour(ColorChoice::Auto, &terminal(&[("TERM", "dumb")])));
        assert!(!colour(ColorChoice::Auto, &Environment::default()));
        assert!(colour(ColorChoice::Always, &terminal(&[("NO_COLOR", "1")])));
        assert!(!colour(ColorChoice::Never, &terminal(&[])));
        assert!(!Output::new(true, ColorChoice::Always, &terminal(&[])).stderr_colour, "JSON has none");
    }

    #[test]
    fn errors_end_with_a_hint_in_both_formats() {
        let human = Output::new(false, ColorChoice::Never, &Environment::default());
        assert_eq!(human.error_text("no node\u{1b}[2J", "start one"), "error: no node\\u{1b}[2J\nhint: start one\n");
        let json = Output::new(true, ColorChoice::Never, &Environment::default());
        let parsed: Value = serde_json::from_str(&json.error_text("a\"b", "c")).unwrap();
        assert_eq!(parsed, json!({ "error": "a\"b", "hint": "c" }));
        let colour = Output::new(false, ColorChoice::Always, &Environment::default());
        assert_eq!(colour.error_text("a", ""), "\u{1b}[1;31merror\u{1b}[0m: a\n");
    }
}
