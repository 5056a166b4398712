//! Appending: each batch of events becomes a record of the newest segment, by one write that waits for no disk.
//!
//! It may wait all the same where a disk stalls and the system's cache is full: give it to a
//! [`Detached`](forerun_telemetry::Detached).

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use forerun_telemetry::{EventSink, InvocationEvent};

use super::{BATCH_EVENTS_MAX, JOURNAL_BYTES_MAX, Journal, SEGMENT_BYTES, Segment, record};
use crate::directory;
use crate::error::{StorageError, While};
use crate::history::{Counts, Failing, HistoryWriter};

/// Appending what cannot be settled any more ends after this: the journal keeps it for the next start.
const END_TIMEOUT: Duration = Duration::from_secs(4);

/// Takes events of the history. When dropped, it waits for a while until the database has them.
pub struct HistoryJournal {
    journal: Arc<Journal>,
    counts: Arc<Counts>,
    /// The newest segment, if it can be appended to.
    open: Option<OpenSegment>,
    next_segment: u32,
    record: Vec<u8>,
    failing: Failing,
    settling: Option<JoinHandle<()>>,
}

struct OpenSegment {
    file: File,
    events: u32,
    bytes: u64,
}

/// Why events were not appended.
#[derive(Debug, thiserror::Error)]
enum NotAppended {
    #[error("the database does not keep up and {JOURNAL_BYTES_MAX} bytes wait for it")]
    Full,
    #[error(transparent)]
    Unwritable(#[from] record::Unwritable),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error("there are no numbers left for its segments; move {} away while no node runs", .0.display())]
    Numbers(std::path::PathBuf),
}

const DOING: &str = "writing the history's journal";

impl HistoryJournal {
    pub(in crate::history) fn new(journal: Arc<Journal>, counts: Arc<Counts>) -> Self {
        Self {
            next_segment: journal.first_own,
            journal,
            counts,
            open: None,
            record: Vec::new(),
            failing: Failing::default(),
            settling: None,
        }
    }

    /// Has `writer` settle on a thread of its own what is and what will be in the journal, until this is dropped. The
    /// thread calls `begin` first, which may have it stand back.
    ///
    /// # Errors
    /// What the system says when it gives no thread.
    pub fn settled_by(mut self, writer: HistoryWriter, begin: fn()) -> std::io::Result<Self> {
        let work = move || {
            begin();
            writer.run();
        };
        self.journal.state.lock().is_served = true;
        self.settling = Some(std::thread::Builder::new().name("forerun-history".into()).spawn(work)?);
        Ok(self)
    }

    fn append(&mut self, events: &[InvocationEvent]) -> Result<(), NotAppended> {
        if self.journal.state.lock().bytes() >= JOURNAL_BYTES_MAX {
            return Err(NotAppended::Full);
        }
        let mut open = match self.open.take() {
            Some(open) if open.bytes < SEGMENT_BYTES => open,
            _ => self.begin_segment()?,
        };
        if let Err(error) = record::encode(events, open.events, &mut self.record) {
            self.open = Some(open);
            return Err(error.into());
        }
        let file = self.journal.file(self.next_segment - 1);
        if let Err(error) = open.file.write_all(&self.record).while_doing(DOING, &file) {
            // Half a record may be there. Where it cannot be taken away, the next segment is begun, and readers find
            // that this one ends early.
            if back_to(&mut open, &file).is_ok() {
                self.open = Some(open);
            }
            return Err(error.into());
        }
        open.events += u32::try_from(events.len()).unwrap_or(u32::MAX);
        open.bytes += self.record.len() as u64;
        self.open = Some(open);
        self.journal.has_grown(events.len(), self.record.len());
        Ok(())
    }

    fn begin_segment(&mut self) -> Result<OpenSegment, NotAppended> {
        let number = self.next_segment;
        let next = number.checked_add(1).ok_or_else(|| NotAppended::Numbers(self.journal.folder.clone()))?;
        let path = self.journal.file(number);
        let file = create(&path).while_doing(DOING, &path)?;
        self.journal.state.lock().segments.push_back(Segment { number, bytes: 0 });
        self.next_segment = next;
        Ok(OpenSegment { file, events: 0, bytes: 0 })
    }
}

/// The folder may have been removed by somebody meanwhile.
fn create(path: &Path) -> std::io::Result<File> {
    match directory::create_private(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            path.parent().map_or(Ok(()), directory::make_directory)?;
            directory::create_private(path)
        }
        other => other,
    }
}

fn back_to(open: &mut OpenSegment, file: &Path) -> Result<(), StorageError> {
    use std::io::{Seek, SeekFrom};
    open.file.set_len(open.bytes).while_doing(DOING, file)?;
    open.file.seek(SeekFrom::Start(open.bytes)).map(drop).while_doing(DOING, file)
}

impl Journal {
    fn has_grown(&self, events: usize, bytes: usize) {
        let mut state = self.state.lock();
        let had_a_batch = state.has_a_batch();
        state.appended += events as u64;
        if let Some(newest) = state.segments.back_mut() {
            newest.bytes += bytes as u64;
        }
        let begins_to_wait = state.waiting_since.is_none();
        state.waiting_since.get_or_insert_with(Instant::now);
        if begins_to_wait || (!had_a_batch && state.has_a_batch()) {
            self.changed.notify_all();
        }
    }
}

impl EventSink for HistoryJournal {
    fn take(&mut self, events: &[InvocationEvent]) {
        for batch in events.chunks(BATCH_EVENTS_MAX) {
            let appended = self.append(batch);
            if appended.is_err() {
                self.counts.lost_events.fetch_add(batch.len() as u64, Ordering::Relaxed);
            }
            self.failing.report(appended, "history is not kept; events are lost", "history is kept again");
        }
    }

    fn flush(&mut self) {
        self.journal.hurry();
    }
}

impl Drop for HistoryJournal {
    fn drop(&mut self) {
        self.journal.end();
        let Some(thread) = self.settling.take() else { return };
        let until = Instant::now() + END_TIMEOUT;
        while !thread.is_finished() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !thread.is_finished() {
            tracing::warn!("the history does not finish; what waits in its journal is kept for the next start");
        } else if thread.join().is_err() {
            tracing::error!("the history's thread panicked; what waits in its journal is kept for the next start");
        }
    }
}
