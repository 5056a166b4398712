//! What is made of a component beside the code that serves all of it: its twin, its parts. One at a time, in the time
//! that nobody wants, and kept in the cache as any image is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use bytes::Bytes;
use forerun_images::{ImageLabel, ImageLease, ImageMeta, Miss, PassNotes, VerifiedPayload};
use forerun_specialize::passes::Made;
use forerun_specialize::{Job, JobKind};
use forerun_types::{ComponentDigest, ImageKey, ProfileDigest};

use super::{MakeFailure, VALUE_MS_PER_BYTE, Workshop, encoded};
use crate::worker;

/// One thing to be made.
pub(super) struct Product {
    /// The job that makes it.
    pub(super) kind: JobKind,
    /// Its kind, for lists.
    pub(super) label: &'static str,
    /// All that tells it apart from others of the same component.
    pub(super) recipe: String,
    pub(super) parameters: worker::Parameters,
    /// Whether the job says what became of its passes ([`Made`]).
    pub(super) has_reports: bool,
}

impl Workshop {
    pub(super) fn key_of(&self, component: ComponentDigest, product: &Product) -> ImageKey {
        let recipe = format!("{}, {}", product.label, product.recipe);
        ImageKey { component, profile: ProfileDigest::of(recipe.as_bytes()), engine: self.engine }
    }

    /// A product, made now if it is not there. Blocks for as long as that takes.
    pub(super) fn product(
        &self,
        component: ComponentDigest,
        source: &Bytes,
        product: Product,
    ) -> Result<ImageLease, MakeFailure> {
        let key = self.key_of(component, &product);
        if let Ok(lease) = self.cache.get(&key) {
            return Ok(lease);
        }
        let Some(ticket) = super::granted(self.cache.claim(&key))? else {
            return Ok(self.cache.get(&key)?);
        };
        let Product { kind, label, parameters, has_reports, .. } = product;
        let created_unix_ms = crate::functions::unix_ms();
        let job = Job { kind, parameters: encoded(&parameters), component: source.clone() };
        let (ticket, artifact) = self.worked(&self.idle, ticket, job, label)?;
        let build_ms = artifact.usage.wall_ms;
        // Dropping the ticket notes a failed build.
        let (bytes, passes) = if has_reports {
            let made = Made::from_artifact(artifact.bytes)?;
            (made.code, self.noted(component, &made.passes))
        } else {
            (artifact.bytes, PassNotes::default())
        };
        let label = ImageLabel::new(label).expect("a short plain word");
        let meta = ImageMeta { created_unix_ms, build_ms, label, passes };
        self.cache.publish(ticket, VerifiedPayload::vouch(&bytes), &meta, VALUE_MS_PER_BYTE)?;
        Ok(self.cache.get(&key)?)
    }
}

/// The first `bytes_max` bytes of a file, or all of it. Leaves the file's position alone, which all holders of the image
/// share.
pub(super) fn read_beginning(file: &File, bytes_max: u64) -> Result<Vec<u8>, MakeFailure> {
    let read = || -> io::Result<Vec<u8>> {
        let bytes = file.metadata()?.len().min(bytes_max);
        let mut read = vec![0; usize::try_from(bytes).map_err(io::Error::other)?];
        file.read_exact_at(&mut read, 0)?;
        Ok(read)
    };
    read().map_err(|error| MakeFailure::Lost(Miss::Io { detail: error.to_string() }))
}

/// The file of a lease.
pub(super) fn file_of(lease: &ImageLease) -> Result<File, MakeFailure> {
    lease.file_cloned().map_err(|error| MakeFailure::Lost(Miss::Io { detail: error.to_string() }))
}
