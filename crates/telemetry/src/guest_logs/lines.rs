//! Making lines of pieces: splitting, cutting what is too long, escaping what a terminal would obey.

use std::collections::HashMap;
use std::fmt::Write;
use std::time::{Duration, Instant, SystemTime};

use forerun_driver::GuestStream;
use forerun_types::{FunctionName, InvocationId};

use super::Piece;

/// Longest line kept, in bytes as the guest wrote them. More is cut with a note of how much.
const LINE_BYTES_MAX: usize = 8 << 10;
/// Lines begun and not ended, of all invocations; bounded because a guest may never end one.
const UNFINISHED_LINES_MAX: usize = 1024;

/// A whole line, ready to be written.
pub(super) struct Line {
    pub(super) function: FunctionName,
    /// Without the end of the line.
    pub(super) text: String,
}

/// Keeps the beginnings of lines whose end has not come yet.
#[derive(Default)]
pub(super) struct LineSplitter {
    unfinished: HashMap<(InvocationId, bool), Unfinished>,
}

struct Unfinished {
    function: FunctionName,
    invocation: InvocationId,
    stream: GuestStream,
    begun: SystemTime,
    touched: Instant,
    bytes: Vec<u8>,
    /// Bytes of this line beyond the longest one kept.
    cut_bytes: u64,
}

impl LineSplitter {
    /// Takes the next piece and adds the lines that end in it to `lines`.
    pub(super) fn take(&mut self, piece: &Piece, now: Instant, lines: &mut Vec<Line>) {
        let key = (piece.invocation, piece.stream == GuestStream::Stderr);
        let mut line = self.unfinished.remove(&key).unwrap_or_else(|| Unfinished::begin(piece, now));
        let mut parts = piece.bytes.split(|byte| *byte == b'\n').peekable();
        while let Some(part) = parts.next() {
            line.extend(part);
            if parts.peek().is_some() {
                lines.push(line.end());
                line = Unfinished::begin(piece, now);
            }
        }
        if line.is_empty() {
            return;
        }
        line.touched = now;
        self.make_room(lines);
        self.unfinished.insert(key, line);
    }

    /// Ends lines that nobody has added to for `age`.
    pub(super) fn finish_older_than(&mut self, age: Duration, now: Instant, lines: &mut Vec<Line>) {
        if self.unfinished.is_empty() {
            return;
        }
        let old = self.unfinished.extract_if(|_, line| now.saturating_duration_since(line.touched) >= age);
        lines.extend(old.map(|(_, line)| line.end()));
    }

    /// Ends all lines.
    pub(super) fn finish(&mut self, lines: &mut Vec<Line>) {
        lines.extend(self.unfinished.drain().map(|(_, line)| line.end()));
    }

    fn make_room(&mut self, lines: &mut Vec<Line>) {
        if self.unfinished.len() < UNFINISHED_LINES_MAX {
            return;
        }
        let oldest = self.unfinished.iter().min_by_key(|(_, line)| line.touched).map(|(key, _)| *key);
        let line = oldest.and_then(|key| self.unfinished.remove(&key));
        lines.extend(line.map(Unfinished::end));
    }
}

impl Unfinished {
    fn begin(piece: &Piece, now: Instant) -> Self {
        Self {
            function: piece.function.clone(),
            invocation: piece.invocation,
            stream: piece.stream,
            begun: piece.written,
            touched: now,
            bytes: Vec::new(),
            cut_bytes: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.cut_bytes == 0
    }

    fn extend(&mut self, part: &[u8]) {
        let room = LINE_BYTES_MAX - self.bytes.len();
        let (kept, cut) = part.split_at(part.len().min(room));
        self.bytes.extend_from_slice(kept);
        self.cut_bytes += cut.len() as u64;
    }

    fn end(self) -> Line {
        let stream = match self.stream {
            GuestStream::Stdout => "stdout",
            GuestStream::Stderr => "stderr",
        };
        let id = self.invocation.to_string();
        let mut text = format!("{} {} {stream} ", time(self.begun), &id[..8]);
        // Lines of the other system end in \r\n.
        let bytes = self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes);
        escape(bytes, &mut text);
        if self.cut_bytes > 0 {
            let _ = write!(text, " [{} bytes cut]", self.cut_bytes);
        }
        Line { function: self.function, text }
    }
}

/// RFC 3339 in UTC with milliseconds. A clock beyond the year 9999 is shown as the epoch.
fn time(time: SystemTime) -> String {
    let timestamp = jiff::Timestamp::try_from(time).unwrap_or_default();
    format!("{timestamp:.3}")
}

/// Appends `bytes` as text in which nothing moves a cursor, rings a bell or turns the direction of reading.
fn escape(bytes: &[u8], text: &mut String) {
    for character in String::from_utf8_lossy(bytes).chars() {
        match character {
            '\t' => text.push('\t'),
            // C0, DEL and C1: the last are escape sequences of one byte to some terminals.
            _ if character.is_control() => {
                let _ = write!(text, "\\x{:02x}", u32::from(character));
            }
            // Line and paragraph separators, marks, embeddings, overrides and isolates of direction.
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                let _ = write!(text, "\\u{{{:x}}}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(invocation: u128, bytes: &[u8]) -> Piece {
        Piece {
            function: "cart".parse().unwrap(),
            invocation: InvocationId::from_random(invocation),
            stream: GuestStream::Stdout,
            written: SystemTime::UNIX_EPOCH,
            bytes: bytes.into(),
        }
    }

    fn texts(lines: &[Line]) -> Vec<&str> {
        lines.iter().map(|line| line.text.strip_prefix("1970-01-01T00:00:00.000Z 00000000 stdout ").unwrap()).collect()
    }

    fn split(pieces: &[&[u8]]) -> Vec<Line> {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for bytes in pieces {
            splitter.take(&piece(1, bytes), Instant::now(), &mut lines);
        }
        splitter.finish(&mut lines);
        lines
    }

    #[test]
    fn escapes_what_a_terminal_would_obey() {
        let check = |given: &[u8], expected: &str| assert_eq!(texts(&split(&[given])), [expected]);
        check(b"\x1b]0;title\x07 \x9b2J\x7f", "\\x1b]0;title\\x07 \u{fffd}2J\\x7f");
        check("\u{9b}2J \u{202e}gnp\u{2066}".as_bytes(), "\\x9b2J \\u{202e}gnp\\u{2066}");
        check("tab\there ünï \u{1f980}".as_bytes(), "tab\there ünï \u{1f980}");
        check(b"over\rwritten\r\n", "over\\x0dwritten");
    }

    #[test]
    fn cuts_long_lines_with_a_note() {
        let long = vec![b'a'; LINE_BYTES_MAX + 5];
        let lines = split(&[&long, b"more\nnext\n"]);
        let expected = format!("{} [9 bytes cut]", "a".repeat(LINE_BYTES_MAX));
        assert_eq!(texts(&lines), [expected.as_str(), "next"]);
    }

    #[test]
    fn invocations_that_never_end_a_line_are_bounded() {
        let (mut splitter, mut lines) = (LineSplitter::default(), Vec::new());
        for invocation in 0..UNFINISHED_LINES_MAX as u128 + 10 {
            splitter.take(&piece(invocation, b"x"), Instant::now(), &mut lines);
        }
        assert_eq!((lines.len(), splitter.unfinished.len()), (10, UNFINISHED_LINES_MAX));
    }

    proptest! {
        #[test]
        fn where_pieces_are_cut_does_not_matter(text in "[a-c\n]{0,60}", cuts in proptest::collection::vec(0..60usize, 0..8)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).chain([0, text.len()]).collect();
            cuts.sort_unstable();
            let pieces: Vec<_> = cuts.windows(2).map(|cut| &text.as_bytes()[cut[0]..cut[1]]).collect();
            let lines = split(&pieces);
            let expected: Vec<_> = text.strip_suffix('\n').unwrap_or(&text).split('\n').collect();
            let expected = if text.is_empty() { Vec::new() } else { expected };
            prop_assert_eq!(texts(&lines), expected);
        }

        #[test]
        fn no_control_character_is_left(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            for line in split(&[&bytes]) {
                prop_assert!(line.text.chars().all(|character| character == '\t' || !character.is_control()));
            }
        }
    }
}
