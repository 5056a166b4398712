//! Storing an image: room is made first, then the file is there whole or not at all.

use std::io;
use std::sync::Arc;

use crate::cache::{ImageCache, Inner};
use crate::claim::BuildTicket;
use crate::evict::{self, Need, NotEnough};
use crate::files;
use crate::format::{self, CODE_BYTES, HEADER_BYTES};
use crate::meta::ImageMeta;
use crate::record::Stored;

/// Machine code that was checked against the generic path and may be run. The type is here so that the cache takes
/// nothing else; whether it is true is the word of who calls [`VerifiedPayload::vouch`].
#[derive(Clone, Copy)]
pub struct VerifiedPayload<'a>(&'a [u8]);

impl<'a> VerifiedPayload<'a> {
    /// Says that these bytes passed verification. To be called in the one place that verifies.
    pub fn vouch(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

/// An image was stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Published {
    /// Size of its file.
    pub file_bytes: u64,
    /// Images that gave way to it.
    pub evicted: usize,
}

/// Why an image was not stored. The cache is as it was, but for images that gave way before the disk failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PublishError {
    /// There is nothing in it. Counts as a failed build.
    #[error("the image is empty")]
    Empty,
    /// Larger than an image may be. Counts as a failed build.
    #[error("the image needs {bytes} bytes, at most {max} are allowed")]
    TooLarge {
        /// Size of its file.
        bytes: u64,
        /// What the settings allow.
        max: u64,
    },
    /// The cache is full of images in use or worth more. Builds of this key wait a minute.
    #[error("no room for {bytes} bytes: only {evictable_bytes} of {max} are free or may be given up")]
    NoRoom {
        /// Size of its file.
        bytes: u64,
        /// Free, or taken by images that are not in use and not worth more than this one.
        evictable_bytes: u64,
        /// What the settings allow for all.
        max: u64,
    },
    /// No space left, or a quota or size limit of the system is reached. Builds of this key wait a minute.
    #[error("the disk is full")]
    DiskFull,
    /// Anything else the system said. Builds of this key wait a minute.
    #[error("the image cannot be written: {detail}")]
    Io {
        /// What the system said.
        detail: String,
    },
}

impl From<io::Error> for PublishError {
    fn from(error: io::Error) -> Self {
        if files::is_full(&error) { Self::DiskFull } else { Self::Io { detail: error.to_string() } }
    }
}

impl ImageCache {
    /// Stores the image that the ticket is for. It is there for good, even across a loss of power, once this returns.
    /// `value_ms_per_byte` is what it is expected to save; only images worth at most as much give way to it.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(
        &self,
        ticket: BuildTicket,
        payload: VerifiedPayload<'_>,
        meta: &ImageMeta,
        value_ms_per_byte: f64,
    ) -> Result<Published, PublishError> {
        let result = ticket.cache.publish(&ticket, payload.0, meta, sane(value_ms_per_byte));
        match &result {
            Ok(_) => {
                let cache = Arc::clone(&ticket.cache);
                ticket.close();
                cache.save();
            }
            Err(error @ (PublishError::Empty | PublishError::TooLarge { .. })) => {
                self.inner.state.lock().counters.publish_failed += 1;
                ticket.close_failed(&error.to_string());
            }
            Err(error @ (PublishError::NoRoom { .. } | PublishError::DiskFull | PublishError::Io { .. })) => {
                self.inner.state.lock().counters.publish_failed += 1;
                ticket.close_no_room(&error.to_string());
            }
        }
        result
    }
}

/// What no sum or comparison stumbles over.
pub(crate) fn sane(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, f64::MAX) }
}

impl Inner {
    fn publish(
        &self,
        ticket: &BuildTicket,
        payload: &[u8],
        meta: &ImageMeta,
        value_ms_per_byte: f64,
    ) -> Result<Published, PublishError> {
        if payload.is_empty() {
            return Err(PublishError::Empty);
        }
        let key = ticket.key();
        let head = format::head(key, meta, payload.len() as u64);
        let file_bytes = format::file_bytes(head.len() - HEADER_BYTES, payload.len() as u64);
        let max = self.settings.image_bytes_max.min(self.settings.bytes_max);
        if file_bytes > max {
            return Err(PublishError::TooLarge { bytes: file_bytes, max });
        }
        let evicted = self.reserve(file_bytes, value_ms_per_byte)?;
        let code = blake3::Hasher::new_keyed(&self.image_key).update(&head).update(payload).finalize();
        let code: &[u8; CODE_BYTES] = code.as_bytes();
        let path = self.path(key);
        let written =
            files::make_directory(&self.directory).and_then(|()| files::write_whole(&path, &[&head, payload, code]));
        let mut state = self.state.lock();
        state.reserved_bytes -= file_bytes;
        state.reserved_images -= 1;
        if let Err(error) = written {
            // It may have its name already, if only the last sync failed.
            self.remove(&mut state, key);
            return Err(error.into());
        }
        state.note_stored(key, Stored::new(file_bytes, Some(meta.clone())));
        state.counters.published += 1;
        if let Some(record) = state.records.get_mut(key) {
            record.statistics.value_ms_per_byte = value_ms_per_byte;
            record.trouble.note_success();
        }
        Ok(Published { file_bytes, evicted })
    }

    /// Keeps room for a file, removing images that may give way to it; none if that would not be enough.
    fn reserve(&self, file_bytes: u64, value_ms_per_byte: f64) -> Result<usize, PublishError> {
        let mut state = self.state.lock();
        let bytes_max = self.settings.bytes_max;
        let taken_bytes = state.stored_bytes + state.reserved_bytes;
        let taken_images = state.stored_images + state.reserved_images;
        let need = Need {
            bytes: (taken_bytes + file_bytes).saturating_sub(bytes_max),
            images: (taken_images + 1).saturating_sub(self.settings.images_max),
        };
        let victims =
            evict::choose(state.candidates(), need, value_ms_per_byte).map_err(|NotEnough { evictable_bytes }| {
                PublishError::NoRoom {
                    bytes: file_bytes,
                    evictable_bytes: evictable_bytes + bytes_max.saturating_sub(taken_bytes),
                    max: bytes_max,
                }
            })?;
        for key in &victims {
            self.evict(&mut state, key);
        }
        state.reserved_bytes += file_bytes;
        state.reserved_images += 1;
        Ok(victims.len())
    }
}
