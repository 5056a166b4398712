//! A worker's stderr, cut into lines: progress is passed on, of the rest the end is kept.
//!
//! The bytes come from a process that is not trusted; whatever it writes, memory stays bounded.

use std::collections::VecDeque;

use crate::guard::SandboxReport;
use crate::limits::{LINE_BYTES_MAX, LOG_BYTES_MAX, PROGRESS_LINES_MAX};
use crate::progress::Progress;

/// Takes bytes as they come.
pub(super) struct LogReader {
    on_progress: Box<dyn FnMut(Progress)>,
    line: Vec<u8>,
    /// The rest of a line that was too long is skipped.
    skipping: bool,
    kept: VecDeque<u8>,
    progress_lines: u64,
    sandbox: SandboxReport,
    dropped: Dropped,
}

/// What was not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) log_bytes: u64,
    pub(super) progress_lines: u64,
}

impl LogReader {
    pub(super) fn new(on_progress: Box<dyn FnMut(Progress)>) -> Self {
        Self {
            on_progress,
            line: Vec::new(),
            skipping: false,
            kept: VecDeque::new(),
            progress_lines: 0,
            sandbox: SandboxReport::Unknown,
            dropped: Dropped::default(),
        }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (content, ends) = match piece.split_last() {
                Some((b'\n', content)) => (content, true),
                Some(_) | None => (piece, false),
            };
            self.extend_line(content);
            if ends {
                self.end_line();
            }
        }
    }

    /// What is there after the last byte: sandbox, log, what was dropped.
    pub(super) fn finish(mut self) -> (SandboxReport, String, Dropped) {
        if !self.line.is_empty() {
            self.end_line();
        }
        let kept: Vec<u8> = self.kept.into();
        (self.sandbox, String::from_utf8_lossy(&kept).into_owned(), self.dropped)
    }

    fn extend_line(&mut self, content: &[u8]) {
        let room = if self.skipping { 0 } else { LINE_BYTES_MAX - self.line.len() };
        let taken = content.len().min(room);
        self.line.extend_from_slice(&content[..taken]);
        self.dropped.log_bytes += (content.len() - taken) as u64;
        self.skipping |= taken < content.len();
    }

    fn end_line(&mut self) {
        self.skipping = false;
        let line = std::mem::take(&mut self.line);
        match std::str::from_utf8(&line).ok().and_then(Progress::read) {
            Some(progress) => self.pass_on(progress),
            None => self.keep(&line),
        }
    }

    /// The first line of progress tells about the sandbox; a later one that looks like it does not.
    fn pass_on(&mut self, progress: Progress) {
        self.progress_lines += 1;
        if self.progress_lines > PROGRESS_LINES_MAX {
            self.dropped.progress_lines += 1;
            return;
        }
        if self.progress_lines == 1
            && let Some(report) = SandboxReport::read(&progress.what)
        {
            self.sandbox = report;
        }
        (self.on_progress)(progress);
    }

    fn keep(&mut self, line: &[u8]) {
        self.kept.extend(line);
        self.kept.push_back(b'\n');
        let excess = self.kept.len().saturating_sub(LOG_BYTES_MAX);
        self.kept.drain(..excess);
        self.dropped.log_bytes += excess as u64;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::rc::Rc;

    use super::*;
    use crate::guard::Guard;
    use proptest::prelude::*;

    fn reader() -> (LogReader, Rc<RefCell<Vec<Progress>>>) {
        let seen = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&seen);
        (LogReader::new(Box::new(move |progress| sink.borrow_mut().push(progress))), seen)
    }

    #[test]
    fn progress_is_passed_on_and_the_rest_is_kept() {
        let (mut reader, seen) = reader();
        reader.take(b"progress 0 sandbox missing file_system\nhel");
        reader.take(b"lo\nprogress 10 sandbox complete\nprogress x\n\xffend");
        let (sandbox, log, dropped) = reader.finish();
        assert_eq!(sandbox, SandboxReport::Missing(vec![Guard::FileSystem]));
        assert_eq!(log, "hello\nprogress x\n\u{fffd}end\n");
        assert_eq!(dropped, Dropped::default());
        assert_eq!(seen.borrow().iter().map(|progress| progress.permille).collect::<Vec<_>>(), [0, 10]);
    }

    #[test]
    fn a_flood_of_progress_is_counted_not_passed_on() {
        let (mut reader, seen) = reader();
        for _ in 0..PROGRESS_LINES_MAX + 5 {
            reader.take(b"progress 1 on\n");
        }
        assert_eq!(seen.borrow().len() as u64, PROGRESS_LINES_MAX);
        assert_eq!(reader.finish().2.progress_lines, 5);
    }

    #[test]
    fn an_endless_line_is_cut() {
        let (mut reader, _) = reader();
        for _ in 0..100 {
            reader.take(&[b'x'; 1000]);
        }
        reader.take(b"\nnext\n");
        let (_, log, dropped) = reader.finish();
        assert_eq!(log.len(), LINE_BYTES_MAX + "\nnext\n".len());
        assert_eq!(dropped.log_bytes, 100_000 - LINE_BYTES_MAX as u64);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let (mut whole, _) = reader();
            whole.take(&bytes);
            let (mut pieces, _) = reader();
            let (front, back) = bytes.split_at(cut.min(bytes.len()));
            pieces.take(front);
            pieces.take(back);
            prop_assert_eq!(whole.finish(), pieces.finish());
        }
    }
}
