//! A component that is deployed again is compiled again where it differs from the one before it: what the compiler left
//! of that one is kept beside its image and given to the worker.
//!
//! ```text
//!   component before ─► its image, and its bodies ──┐
//!   component now ──────────────────────────────────┴─► worker ─► its image, and its bodies
//! ```
//! A worker that was taken over by a component could leave code of its own, and must not reach another function that way.
//! So what is made with bodies of an earlier component, its image and what it leaves in turn, belongs to a [`Lineage`]: the
//! deployments of one function. What was compiled as a whole is anybody's, as it says nothing but of its own component.
//! Where bodies are missing, or a job fails with them, the component is compiled as a whole.

use std::os::unix::fs::FileExt;

use bytes::Bytes;
use forerun_images::{Claim, DiscardReason, ImageLabel, ImageMeta, PassNotes, VerifiedPayload};
use forerun_runtime::Tier;
use forerun_types::{ComponentDigest, FunctionSpec, ImageKey, ProfileDigest};

use super::{Form, SMALL_COMPONENT_BYTES, VALUE_MS_PER_BYTE, Variant, Workshop};
use crate::worker::INPUT_BYTES_MAX;

/// Raised whenever bodies are something else for the same component and build.
const REVISION: u32 = 1;
/// Bodies save compilation only where the function is deployed again; its image saves it at every start.
const VALUE_SHARE: f64 = 0.1;

/// The deployments of one function of one application, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lineage(ProfileDigest);

impl Lineage {
    pub(crate) fn of(spec: &FunctionSpec) -> Self {
        // Neither holds the character between them: names are plain, and what is before the last one is the application.
        Self(ProfileDigest::of(format!("{}\n{}", spec.app, spec.name).as_bytes()))
    }

    /// A part of the recipe of what belongs to it.
    pub(super) fn recipe(lineage: Option<Self>) -> String {
        lineage.map(|Self(digest)| format!(", for {digest}")).unwrap_or_default()
    }
}

/// The component that a function had before.
#[derive(Clone, Copy)]
pub(crate) struct Before {
    pub(crate) component: ComponentDigest,
    pub(crate) lineage: Lineage,
}

impl Before {
    /// Whose bodies may be used: first what this function's deployments have left.
    fn lineages(self) -> [Option<Lineage>; 2] {
        [Some(self.lineage), None]
    }
}

impl Workshop {
    /// Whether bodies of `before` are there, so that a successor is compiled with full optimisation about as soon as it
    /// would be in a hurry.
    pub(crate) fn has_bodies(&self, before: Before, form: Form) -> bool {
        let holds = |lineage| self.cache.holds(&self.bodies_key(before.component, form, lineage));
        before.lineages().into_iter().any(holds)
    }

    /// Whether bodies of a compilation are kept: those of large components, of the code that stays.
    pub(super) fn keeps_bodies(source: &Bytes, variant: Variant) -> bool {
        variant.tier == Tier::Full && source.len() > SMALL_COMPONENT_BYTES && source.len() < INPUT_BYTES_MAX
    }

    /// Those of `before` that fit into a job beside `source`.
    pub(super) fn bodies(&self, before: Before, form: Form, source: &Bytes) -> Option<Vec<u8>> {
        let keys = before.lineages().map(|lineage| self.bodies_key(before.component, form, lineage));
        // Asked for only if it is there, or the list of images would tell of what was never meant to be.
        let lease = keys.iter().filter(|key| self.cache.holds(key)).find_map(|key| self.cache.get(key).ok())?;
        let file = lease.file_cloned().ok()?;
        let length = usize::try_from(file.metadata().ok()?.len()).ok()?;
        let fits = length.checked_add(source.len()).is_some_and(|sum| sum <= INPUT_BYTES_MAX);
        if !fits {
            return None;
        }
        let mut bodies = vec![0; length];
        file.read_exact_at(&mut bodies, 0).ok()?;
        Some(bodies)
    }

    /// Keeps what a compilation has left. That it cannot be kept costs time at the next deployment and nothing else.
    pub(super) fn keep_bodies(&self, component: ComponentDigest, variant: Variant, bodies: &[u8]) {
        let key = self.bodies_key(component, variant.form, variant.lineage);
        let Claim::Yours(ticket) = self.cache.claim(&key) else { return };
        let label = ImageLabel::new("bodies").expect("a short plain word");
        let created_unix_ms = crate::functions::unix_ms();
        let meta = ImageMeta { created_unix_ms, build_ms: 0, label, passes: PassNotes::default() };
        let value = VALUE_MS_PER_BYTE * VALUE_SHARE;
        if let Err(error) = self.cache.publish(ticket, VerifiedPayload::vouch(bodies), &meta, value) {
            tracing::debug!(%component, %error, "compiled bodies are not kept");
        }
    }

    /// A job failed with these: whatever is at fault, they are not used again.
    pub(super) fn drop_bodies(&self, before: Before, form: Form, reason: &str) {
        tracing::warn!(component = %before.component, reason, "compiled bodies discarded: the component is compiled as a whole");
        for lineage in before.lineages() {
            let why = DiscardReason::Misbehaved { detail: reason.to_owned() };
            self.cache.discard(&self.bodies_key(before.component, form, lineage), why);
        }
    }

    fn bodies_key(&self, component: ComponentDigest, form: Form, lineage: Option<Lineage>) -> ImageKey {
        let passes: Vec<_> = form.passes().collect();
        let passes = forerun_specialize::passes::revision(&passes);
        let recipe = format!("bodies {REVISION}, {passes}{}", Lineage::recipe(lineage));
        ImageKey { component, profile: ProfileDigest::of(recipe.as_bytes()), engine: self.engine }
    }
}
