//! Taking stock at start: the files that are there are what is stored.
//!
//! Heads are read and checked against themselves here; a file is authenticated when it is first loaded.

use std::fs;
use std::io;
use std::path::Path;

use forerun_types::ImageKey;

use crate::cache::Inner;
use crate::evict::{self, Need};
use crate::files::{self, UNFINISHED};
use crate::flaw::Flaw;
use crate::format;
use crate::index::{self, IndexRead};
use crate::load::{self, LoadError};
use crate::miss::GoneReason;
use crate::record::{State, Stored};

/// Image files looked at. More than any setting allows to be kept in earnest; what is beyond is removed unread, so
/// that a folder filled by somebody else cannot fill our memory.
const FILES_MAX: usize = 65_536;

impl Inner {
    /// Notes every image file, removes leftovers and what cannot be used, and keeps the limits.
    pub(crate) fn take_stock(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if name.ends_with(UNFINISHED) {
                files::remove_if_there(&path)?;
            } else if let Some(key) = format::key_of_file_name(name) {
                self.take_file(&mut state, &path, &key);
            }
            // Anything else is not ours.
        }
        match index::read(&self.directory, &self.index_key, &mut state) {
            IndexRead::Whole | IndexRead::Absent => {}
            IndexRead::Lost => state.counters.index_lost += 1,
        }
        self.keep_limits(&mut state);
        Ok(())
    }

    fn take_file(&self, state: &mut State, path: &Path, key: &ImageKey) {
        let flaw = if !self.can_run(key) {
            Flaw::ForeignEngine
        } else if state.stored_images >= FILES_MAX {
            self.remove(state, key);
            return;
        } else {
            match load::peek(path, key, self.settings.image_bytes_max) {
                Ok((bytes, meta)) => return state.note_stored(key, Stored::new(bytes, meta)),
                Err(LoadError::Flawed(flaw)) => flaw,
                Err(LoadError::Absent | LoadError::Io(_)) => {
                    state.counters.unreadable += 1;
                    return;
                }
            }
        };
        self.remove(state, key);
        state.note_gone(key, GoneReason::Flawed(flaw), self.clock.unix_ms());
    }

    /// The limits may be lower than they were.
    fn keep_limits(&self, state: &mut State) {
        let need = Need {
            bytes: state.stored_bytes.saturating_sub(self.settings.bytes_max),
            images: state.stored_images.saturating_sub(self.settings.images_max),
        };
        // Nothing is leased yet, so there is always enough.
        for key in evict::choose(state.candidates(), need, f64::INFINITY).unwrap_or_default() {
            self.evict(state, &key);
        }
    }

    /// Removes an image that gives way.
    pub(crate) fn evict(&self, state: &mut State, key: &ImageKey) {
        self.remove(state, key);
        let value_ms_per_byte = state.records.get(key).map_or(0.0, |record| record.statistics.value_ms_per_byte);
        state.note_gone(key, GoneReason::Evicted { value_ms_per_byte }, self.clock.unix_ms());
    }
}
