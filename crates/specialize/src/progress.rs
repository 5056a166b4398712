//! The lines a worker writes on stderr: progress in one shape, anything else is log text.
//!
//! `progress <permille> <what>`; the first one of a worker tells about its sandbox. Lines come from a
//! process that is not trusted: they are bounded and nothing is decided by them.

use std::io::Write;

use crate::limits::LINE_BYTES_MAX;

const WORD: &str = "progress ";
/// What `permille` is when all is done.
const PERMILLE_MAX: u16 = 1000;

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Thousandths of the work done, as the work estimates it.
    pub permille: u16,
    /// What it is at.
    pub what: String,
}

impl Progress {
    /// The line for it, with its end.
    pub(crate) fn render(&self) -> String {
        let what: String = self.what.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let mut line = format!("{WORD}{} {what}", self.permille.min(PERMILLE_MAX));
        line.truncate(line.floor_char_boundary(LINE_BYTES_MAX - 1));
        line.push('\n');
        line
    }

    /// Reads a line without its end; `None` if it is log text.
    pub(crate) fn read(line: &str) -> Option<Self> {
        let (permille, what) = line.strip_prefix(WORD)?.split_once(' ')?;
        let permille: u16 = permille.parse().ok()?;
        (permille <= PERMILLE_MAX).then(|| Self { permille, what: what.to_owned() })
    }
}

/// Writes progress lines. All copies write to the same stderr; a line goes out in one piece.
#[derive(Clone, Debug)]
pub struct ProgressSender(());

impl ProgressSender {
    pub(crate) fn new() -> Self {
        Self(())
    }

    /// Says that `permille` thousandths are done and what comes now. That nobody listens is no error.
    pub fn report(&self, permille: u16, what: &str) {
        let line = Progress { permille, what: what.to_owned() }.render();
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn other_lines_are_log_text() {
        for line in ["", "progress", "progress 5", "progress -1 x", "progress 1001 x", "Progress 1 x", "progress 1"] {
            assert_eq!(Progress::read(line), None, "{line}");
        }
    }

    proptest! {
        #[test]
        fn a_line_reads_as_it_was_written(permille in 0u16..=1000, what in "[^\\p{Cc}]{0,40}") {
            let progress = Progress { permille, what };
            let line = progress.render();
            prop_assert_eq!(Progress::read(line.strip_suffix('\n').unwrap()), Some(progress));
        }

        #[test]
        fn any_text_makes_one_bounded_line(what in "\\PC{0,10}[\\x00-\\x1f]\\PC{0,6000}") {
            let line = Progress { permille: 7, what }.render();
            prop_assert!(line.len() <= LINE_BYTES_MAX);
            prop_assert_eq!(line.matches('\n').count(), 1);
        }
    }
}
