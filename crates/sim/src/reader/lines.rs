//! Lines of an input, numbered, bounded in length, with progress.

use super::{Input, TraceError};
use crate::progress::Progress;
use std::cell::Cell;
use std::io::{BufRead, BufReader, Read};
use std::rc::Rc;

/// Longest line accepted. The widest format, a day of minutes in a row, needs about 10 kB; a sequence a line may need
/// more.
const LINE_BYTES_MAX: u64 = 4 << 20;
/// Progress is reported once in this many lines.
const REPORT_EVERY: u64 = 4_096;

/// Bytes read so far, shared with the progress report.
pub type Position = Rc<Cell<u64>>;

/// Counts the bytes that pass.
#[derive(Debug)]
pub struct Counted<R> {
    inner: R,
    position: Position,
}

impl<R> Counted<R> {
    /// Counts what is read from `inner`.
    pub fn new(inner: R, position: Position) -> Self {
        Self { inner, position }
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.position.set(self.position.get() + count as u64);
        Ok(count)
    }
}

/// The lines.
pub struct Lines<'a> {
    name: String,
    reader: BufReader<Box<dyn Read>>,
    position: Position,
    progress: &'a mut dyn Progress,
    number: u64,
    ahead: Option<String>,
}

impl<'a> Lines<'a> {
    /// Lines of an input.
    pub fn new(input: Input, progress: &'a mut dyn Progress) -> Self {
        progress.stage(&format!("reading {}", input.name), input.len);
        Self {
            name: input.name,
            reader: BufReader::with_capacity(1 << 16, input.reader),
            position: input.position,
            progress,
            number: 0,
            ahead: None,
        }
    }

    /// Name of the input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The next line without taking it.
    pub fn peek(&mut self) -> Result<Option<String>, TraceError> {
        if self.ahead.is_none() {
            self.ahead = self.read_line()?;
        }
        Ok(self.ahead.clone())
    }

    /// The next line that is not blank, without its end.
    pub fn next_line(&mut self) -> Result<Option<String>, TraceError> {
        loop {
            let line = match self.ahead.take() {
                Some(line) => Some(line),
                None => self.read_line()?,
            };
            let Some(line) = line else { return Ok(None) };
            self.number += 1;
            if self.number.is_multiple_of(REPORT_EVERY) {
                self.progress.at(self.position.get());
            }
            if !line.trim().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// An error at the line taken last.
    pub fn error(&self, problem: impl Into<String>) -> TraceError {
        TraceError::Line { name: self.name.clone(), line: self.number, problem: problem.into() }
    }

    /// Number of the line taken last.
    pub fn number(&self) -> u64 {
        self.number
    }

    fn read_line(&mut self) -> Result<Option<String>, TraceError> {
        let mut bytes = Vec::new();
        let read = self.reader.by_ref().take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
        read.map_err(|source| TraceError::Read { name: self.name.clone(), line: self.number, source })?;
        if bytes.is_empty() {
            return Ok(None);
        }
        let fail = |problem: String| TraceError::Line { name: self.name.clone(), line: self.number + 1, problem };
        if bytes.len() as u64 > LINE_BYTES_MAX {
            return Err(fail(format!("longer than {LINE_BYTES_MAX} bytes")));
        }
        while matches!(bytes.last(), Some(b'\n' | b'\r')) {
            bytes.pop();
        }
        // Logs carry whatever clients sent; what is not UTF-8 is replaced rather than refused.
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}
