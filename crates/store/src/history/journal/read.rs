//! Reading from where the database stands: what makes a transaction, and where the database stands after it.
//!
//! Nothing that is read is gone until [`JournalReader::settle`] says that the database has it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::row::Row;
use super::record::{BODY_BYTES_MAX, HEADER_BYTES, Header, rows};
use super::{BATCH_EVENTS_MAX, Journal, Position, Segment};
use crate::directory;
use crate::error::{StorageError, While};

/// Reads a [`Journal`].
pub(in crate::history) struct JournalReader {
    journal: Arc<Journal>,
    settled: Cursor,
    /// The segment that was read last, still open.
    open: Option<(u32, File)>,
}

/// A place in the journal: that many events of a segment, which take so many bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Cursor {
    position: Position,
    offset_bytes: u64,
}

/// What one transaction writes.
pub(in crate::history) struct Batch {
    records: Vec<Record>,
    events: usize,
    /// Of them, those that this process appended.
    own_events: u64,
    end: Cursor,
}

struct Record {
    body: Vec<u8>,
    /// Rows at its begin that the database has already.
    settled: usize,
}

/// What is found at a place.
enum Found {
    Record(Header, Vec<u8>),
    /// Bytes that are no record, this many; behind them there may be one.
    Damage(u64),
    /// Nothing that makes sense, up to the end.
    CutOff,
}

const DOING: &str = "reading the history's journal";

impl JournalReader {
    pub(in crate::history) fn new(journal: Arc<Journal>, settled: Position) -> Self {
        // Where the events of the segment end is found by reading it from its start.
        Self { journal, settled: Cursor { position: settled, offset_bytes: 0 }, open: None }
    }

    pub(in crate::history) fn journal(&self) -> &Arc<Journal> {
        &self.journal
    }

    /// The next records, together at least a batch if there are so many; `None` if there is nothing more.
    pub(in crate::history) fn next(&mut self) -> Result<Option<Batch>, StorageError> {
        let mut batch = Batch { records: Vec::new(), events: 0, own_events: 0, end: self.settled };
        while batch.events < BATCH_EVENTS_MAX
            && let Some(segment) = self.segment_at(&mut batch.end)
        {
            let offset_bytes = batch.end.offset_bytes;
            match self.look(segment, offset_bytes)? {
                Found::Record(header, body) => batch.add(header, body, segment.number >= self.journal.first_own),
                Found::Damage(bytes) => {
                    tracing::warn!(
                        segment = segment.number,
                        offset_bytes,
                        bytes,
                        "a record of the history's journal is damaged and left out"
                    );
                    batch.end.offset_bytes += bytes;
                }
                Found::CutOff => {
                    let bytes = segment.bytes - offset_bytes;
                    tracing::warn!(segment = segment.number, offset_bytes, bytes, "the history's journal was cut off");
                    batch.end.offset_bytes = segment.bytes;
                }
            }
        }
        if batch.records.is_empty() {
            // What is damaged is passed, and said, once.
            self.settled = batch.end;
            return Ok(None);
        }
        Ok(Some(batch))
    }

    /// The database has the events of `batch`: segments before its end go.
    pub(in crate::history) fn settle(&mut self, batch: &Batch) {
        self.settled = batch.end;
        for number in self.journal.has_settled(batch.own_events, batch.end.position.segment) {
            // One that stays is behind the database's position at the next start, and goes then.
            let _ = directory::remove_if_there(&self.journal.file(number));
        }
    }

    /// The segment in which there is something to read at `cursor`, which is moved to the begin of a later one if its own
    /// has nothing more.
    fn segment_at(&self, cursor: &mut Cursor) -> Option<Segment> {
        let state = self.journal.state.lock();
        for segment in &state.segments {
            if segment.number > cursor.position.segment {
                *cursor = Cursor { position: Position { segment: segment.number, events: 0 }, offset_bytes: 0 };
            }
            if segment.number == cursor.position.segment && cursor.offset_bytes < segment.bytes {
                return Some(*segment);
            }
        }
        None
    }

    fn look(&mut self, segment: Segment, offset_bytes: u64) -> Result<Found, StorageError> {
        let path = self.journal.file(segment.number);
        let file = match self.open.take() {
            Some((number, file)) if number == segment.number => file,
            _ => match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::CutOff),
                Err(error) => return Err(error).while_doing(DOING, &path),
            },
        };
        let found = look_at(&file, segment.bytes, offset_bytes, &path);
        self.open = Some((segment.number, file));
        found
    }
}

fn look_at(file: &File, segment_bytes: u64, offset_bytes: u64, path: &Path) -> Result<Found, StorageError> {
    let left = segment_bytes.saturating_sub(offset_bytes);
    let mut header = [0; HEADER_BYTES];
    if left < HEADER_BYTES as u64 || !is_read(file, &mut header, offset_bytes).while_doing(DOING, path)? {
        return Ok(Found::CutOff);
    }
    let header = Header::of(&header);
    let bytes = HEADER_BYTES as u64 + u64::from(header.body_bytes);
    let Some(body_bytes) = usize::try_from(header.body_bytes).ok().filter(|bytes| *bytes <= BODY_BYTES_MAX) else {
        return Ok(Found::CutOff);
    };
    if bytes > left {
        return Ok(Found::CutOff);
    }
    let mut body = vec![0; body_bytes];
    if !is_read(file, &mut body, offset_bytes + HEADER_BYTES as u64).while_doing(DOING, path)? {
        return Ok(Found::CutOff);
    }
    Ok(if header.fits(&body) { Found::Record(header, body) } else { Found::Damage(bytes) })
}

/// Whether the file is long enough for `bytes` to be filled from there on.
fn is_read(file: &File, bytes: &mut [u8], offset_bytes: u64) -> io::Result<bool> {
    match file.read_exact_at(bytes, offset_bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(error),
    }
}

impl Journal {
    /// Notes that so many events of this process are settled, and all segments before that one; those that are gone with
    /// that.
    fn has_settled(&self, own_events: u64, segment: u32) -> Vec<u32> {
        let mut state = self.state.lock();
        state.settled += own_events;
        state.waiting_since = (state.waiting() > 0).then(Instant::now);
        if segment >= self.first_own {
            state.has_leftovers = false;
        }
        let count = state.segments.partition_point(|kept| kept.number < segment);
        let gone = state.segments.drain(..count).map(|segment| segment.number).collect();
        drop(state);
        self.changed.notify_all();
        gone
    }
}

impl Batch {
    fn add(&mut self, header: Header, body: Vec<u8>, is_own: bool) {
        let position = &mut self.end.position;
        self.end.offset_bytes += (HEADER_BYTES + body.len()) as u64;
        let settled = position.events.saturating_sub(header.first).min(header.events);
        let events = header.events - settled;
        if events == 0 {
            return;
        }
        position.events = header.first.saturating_add(header.events);
        self.events += events as usize;
        self.own_events += if is_own { u64::from(events) } else { 0 };
        self.records.push(Record { body, settled: settled as usize });
    }

    /// The rows that the database does not have yet, record by record. A record is an error where its rows are none of
    /// ours, whatever its checksum says.
    pub(in crate::history) fn rows(&self) -> impl Iterator<Item = Result<Vec<Row<'_>>, postcard::Error>> {
        self.records.iter().map(|record| {
            let mut rows = rows(&record.body)?;
            rows.drain(..record.settled.min(rows.len()));
            Ok(rows)
        })
    }

    /// Where the database stands when it has them.
    pub(in crate::history) fn end(&self) -> Position {
        self.end.position
    }
}
