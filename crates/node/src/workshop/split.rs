//! Split images: the code of what a profile expects a component's requests to run, and the rest of it in groups that
//! are loaded when they are called.
//!
//! ```text
//!   profile ─► primary      compiled at once, fully optimised
//!           ─► groups       as modules, and which function is where: enough to serve, a miss compiles
//!           ─► cold code    the groups' machine code, behind the rest
//! ```
//! Each is a pure function of component, profile and build, so that they fit together though each is made by a process
//! of its own. They are kept as any image is.

use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use forerun_driver::AuthenticImage;
use forerun_images::{DiscardReason, ImageLease};
use forerun_runtime::Interruption;
use forerun_specialize::passes::body_hash::BodyHash;
use forerun_specialize::passes::split::{self, BUNDLE_TABLE_BYTES_MAX, Bundle, SplitIndex};
use forerun_types::{ComponentDigest, Coverage, SpecializationProfile};

use super::product::{Product, file_of, read_beginning};
use super::{MERGING, MakeFailure, PREPARING, STATE, Workshop, revisions, vouched};
use crate::worker;

/// A function stays in the primary if so many of a thousand requests are expected to run it.
const HOT_PERMILLE_MIN: u16 = 1;

/// What a component goes through before it is split, behind [`MERGING`]: the same as the whole one.
const BEFORE_SPLIT: [&str; 2] = [STATE, worker::INTERRUPT];

/// A split image that can be loaded.
pub(crate) struct SplitImage {
    pub(crate) primary: AuthenticImage,
    /// Size of its machine code file.
    pub(crate) primary_bytes: u64,
    /// Time it took to make, in milliseconds, whenever that was.
    pub(crate) build_ms: u64,
    pub(crate) index: SplitIndex,
    pub(crate) groups: Arc<Parts>,
}

/// A file with one part for each group.
pub(crate) struct Parts {
    pub(crate) file: Arc<AuthenticImage>,
    pub(crate) parts: Vec<Range<u64>>,
}

impl SplitImage {
    /// For which engine it was compiled.
    pub(crate) fn interruption(&self) -> Interruption {
        if self.index.looks_at_flags { Interruption::Flags } else { Interruption::Epochs }
    }
}

impl Parts {
    /// One part's bytes.
    pub(crate) fn read(&self, group: u32) -> std::io::Result<Bytes> {
        let range = self.parts.get(group as usize).ok_or(std::io::ErrorKind::NotFound)?;
        let mut bytes = vec![0; usize::try_from(range.end - range.start).map_err(std::io::Error::other)?];
        self.file.file().read_exact_at(&mut bytes, range.start)?;
        Ok(bytes.into())
    }
}

impl Workshop {
    /// The split image for a profile, made now if it is not there. Blocks for as long as that takes.
    pub(crate) fn split(
        &self,
        component: ComponentDigest,
        source: &Bytes,
        profile: &SpecializationProfile,
    ) -> Result<SplitImage, MakeFailure> {
        let primary = self.product(component, source, primary(profile)?)?;
        let groups = self.product(component, source, groups(profile)?)?;
        let (bundle, head) = read_bundle(&groups)?;
        let index = SplitIndex::from_json(&head).map_err(|error| MakeFailure::BadComponent(error.to_string()))?;
        if index.groups.len() != bundle.parts.len() {
            return Err(MakeFailure::BadComponent("its index and its groups do not fit together".to_owned()));
        }
        Ok(SplitImage {
            primary_bytes: primary.bytes(),
            build_ms: primary.meta().build_ms,
            primary: vouched(primary)?,
            index,
            groups: Arc::new(Parts { file: Arc::new(vouched(groups)?), parts: bundle.parts }),
        })
    }

    /// The machine code of the groups, made now if it is not there. Blocks for as long as that takes.
    pub(crate) fn cold_code(
        &self,
        component: ComponentDigest,
        source: &Bytes,
        profile: &SpecializationProfile,
    ) -> Result<Parts, MakeFailure> {
        let code = self.product(component, source, cold_code(profile)?)?;
        let (bundle, _) = read_bundle(&code)?;
        Ok(Parts { file: Arc::new(vouched(code)?), parts: bundle.parts })
    }

    /// A split image turned out to be wrong: it goes, and is not made again.
    pub(crate) fn reject_split(&self, component: ComponentDigest, profile: &SpecializationProfile, reason: &str) {
        tracing::warn!(%component, reason, "split image discarded");
        if let Ok(product) = primary(profile) {
            let key = self.key_of(component, &product);
            self.cache.discard(&key, DiscardReason::Misbehaved { detail: reason.to_owned() });
        }
    }
}

fn primary(profile: &SpecializationProfile) -> Result<Product, MakeFailure> {
    Ok(Product { has_reports: true, ..part(worker::SPLIT_PRIMARY, "t1-primary", profile)? })
}

fn groups(profile: &SpecializationProfile) -> Result<Product, MakeFailure> {
    part(worker::SPLIT_GROUPS, "t1-groups", profile)
}

fn cold_code(profile: &SpecializationProfile) -> Result<Product, MakeFailure> {
    part(worker::SPLIT_COLD_CODE, "t1-cold-code", profile)
}

fn part(
    kind: forerun_specialize::JobKind,
    label: &'static str,
    profile: &SpecializationProfile,
) -> Result<Product, MakeFailure> {
    let bad = |detail: String| MakeFailure::BadProfile(detail);
    let digest = profile.digest().map_err(|error| bad(error.to_string()))?;
    let Coverage::Paths { paths } = &profile.build.coverage else {
        return Err(bad("it covers the whole component".to_owned()));
    };
    let known = paths.iter().map(|path| (BodyHash(*path.body.as_bytes()), path.probability.get())).collect();
    let order =
        worker::SplitOrder { known, hot_permille_min: HOT_PERMILLE_MIN, then: BEFORE_SPLIT.map(str::to_owned).into() };
    let parameters = worker::Parameters { passes: vec![MERGING.to_owned()], split: Some(order), bodies_bytes: None };
    let recipe = format!("profile {digest}, split {}, {}", split::REVISION, revisions(PREPARING));
    Ok(Product { kind, label, recipe, parameters, has_reports: false })
}

fn read_bundle(lease: &ImageLease) -> Result<(Bundle, Vec<u8>), MakeFailure> {
    let beginning = read_beginning(&file_of(lease)?, BUNDLE_TABLE_BYTES_MAX as u64)?;
    let bundle = Bundle::find(&beginning, lease.bytes());
    let bundle = bundle.map_err(|error| MakeFailure::BadComponent(error.to_string()))?;
    let head = beginning.get(bundle.head.start as usize..bundle.head.end as usize).unwrap_or_default().to_vec();
    Ok((bundle, head))
}
