//! The journal of the history: where events are safe from the death of the process before the database has them.
//!
//! ```text
//! events ──► append: one write(2) a batch ──► segments in history-journal/ ──► read: from where the database stands
//! ```
//!
//! A write into the system's cache costs a small part of what a transaction costs, so that it keeps up with any load, and
//! a thread that stands back can work off at leisure what waits here. The database notes with each transaction how far it
//! has got ([`Position`]): an event is in it once, whenever the process dies. What is settled is removed, a segment at a
//! time. It is no protection from a loss of power: nothing is synced.

mod append;
mod read;
mod record;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

pub use append::HistoryJournal;
pub(super) use read::{Batch, JournalReader};

use crate::directory;
use crate::error::{StorageError, While};

/// Events of one transaction, and of one record.
pub(super) const BATCH_EVENTS_MAX: usize = 512;
/// An event does not wait longer than this for others to share a transaction with.
const BATCH_AGE_MAX: Duration = Duration::from_secs(1);
/// After the database could not be written.
const RETRY_PAUSE: Duration = Duration::from_secs(1);
/// Segments this long are followed by the next: some 20,000 events.
const SEGMENT_BYTES: u64 = 4 << 20;
/// All segments; what comes beyond is dropped and counted. A quarter of a million events or more.
const JOURNAL_BYTES_MAX: u64 = 64 << 20;
/// Its folder in the data directory; a segment's name is its number.
const FOLDER: &str = "history-journal";

/// How far the database has got: all segments before this one, and that many events of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Position {
    pub(super) segment: u32,
    pub(super) events: u32,
}

/// What whoever appends and whoever reads have in common.
pub(super) struct Journal {
    folder: PathBuf,
    state: Mutex<State>,
    changed: Condvar,
    /// Segments from this number on are of this process.
    first_own: u32,
}

struct State {
    /// Oldest first. Only the last grows.
    segments: VecDeque<Segment>,
    /// Events appended and settled by this process.
    appended: u64,
    settled: u64,
    /// Since when the oldest event has been waiting.
    waiting_since: Option<Instant>,
    /// Somebody wants to have everything settled, and not in a second.
    is_urgent: bool,
    /// What the process before has left is not yet settled.
    has_leftovers: bool,
    /// A thread settles.
    is_served: bool,
    has_ended: bool,
}

#[derive(Clone, Copy)]
struct Segment {
    number: u32,
    bytes: u64,
}

/// What the thread that settles does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    Settle,
    /// Nothing more will be appended: settle what is there, and end.
    SettleAndEnd,
}

impl Journal {
    /// The journal in `data_directory`, with what an earlier process has left in it beyond `settled`.
    pub(super) fn open(data_directory: &Path, settled: Position) -> Result<Self, StorageError> {
        let folder = data_directory.join(FOLDER);
        let doing = "opening the history's journal";
        directory::make_directory(&folder).while_doing(doing, &folder)?;
        let mut segments = segments_in(&folder).while_doing(doing, &folder)?;
        let last = segments.back().map_or(settled.segment, |last| last.number.max(settled.segment));
        while let Some(segment) = segments.pop_front_if(|segment| segment.number < settled.segment) {
            let path = file_in(&folder, segment.number);
            directory::remove_if_there(&path).while_doing(doing, &path)?;
        }
        let state = State {
            segments,
            appended: 0,
            settled: 0,
            waiting_since: None,
            is_urgent: false,
            has_leftovers: true,
            is_served: false,
            has_ended: false,
        };
        let first_own = last.saturating_add(1);
        Ok(Self { folder, state: Mutex::new(state), changed: Condvar::new(), first_own })
    }

    fn file(&self, segment: u32) -> PathBuf {
        file_in(&self.folder, segment)
    }

    /// Waits until there is something to do: enough for a transaction, something that has waited for long, something that
    /// is wanted, or the end. `is_failing`: the last attempt failed, so that the next has to wait.
    pub(super) fn next(&self, is_failing: bool) -> Next {
        let mut state = self.state.lock();
        if is_failing && !state.has_ended {
            let again = Instant::now() + RETRY_PAUSE;
            while !state.has_ended && !self.changed.wait_until(&mut state, again).timed_out() {}
            return if state.has_ended { Next::SettleAndEnd } else { Next::Settle };
        }
        loop {
            if state.has_ended {
                return Next::SettleAndEnd;
            }
            if std::mem::take(&mut state.is_urgent) || state.has_leftovers || state.has_a_batch() {
                return Next::Settle;
            }
            match state.waiting_since.map(|since| since + BATCH_AGE_MAX) {
                Some(due) if due <= Instant::now() => return Next::Settle,
                Some(due) => drop(self.changed.wait_until(&mut state, due)),
                None => self.changed.wait(&mut state),
            }
        }
    }

    /// Everything that was read is settled.
    pub(super) fn all_settled(&self) {
        self.state.lock().has_leftovers = false;
        self.changed.notify_all();
    }

    /// The thread that settles is gone.
    pub(super) fn is_left(&self) {
        self.state.lock().is_served = false;
        self.changed.notify_all();
    }

    /// Has everything settled that is there now; waits for it, not longer than `patience`, and not if nobody settles.
    pub(super) fn catch_up(&self, patience: Duration) {
        let until = Instant::now() + patience;
        let mut state = self.state.lock();
        let wanted = state.appended;
        state.is_urgent = true;
        self.changed.notify_all();
        while state.is_served && (state.has_leftovers || state.settled < wanted) {
            if self.changed.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
    }

    /// As soon as possible.
    fn hurry(&self) {
        self.state.lock().is_urgent = true;
        self.changed.notify_all();
    }

    fn end(&self) {
        self.state.lock().has_ended = true;
        self.changed.notify_all();
    }
}

impl State {
    fn waiting(&self) -> u64 {
        self.appended - self.settled
    }

    fn has_a_batch(&self) -> bool {
        self.waiting() >= BATCH_EVENTS_MAX as u64
    }

    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

fn file_in(folder: &Path, segment: u32) -> PathBuf {
    folder.join(format!("{segment:010}"))
}

/// The segments that are there. Files with other names are none of ours and stay.
fn segments_in(folder: &Path) -> io::Result<VecDeque<Segment>> {
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            segments.push(Segment { number, bytes: metadata.len() });
        }
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments.into())
}
