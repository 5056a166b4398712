//! From a component to a program: its code is found or made, and the driver loads it.

use std::sync::Arc;

use bytes::Bytes;
use forerun_driver::{Driver, LoadRequest};
use forerun_runtime::Tier;
use forerun_types::{ComponentDigest, FunctionSpec, RevisionNumber};

use super::{DeployFailure, FunctionState, Functions, Loaded, Made, Source, Wanted, blocking};
use crate::loading::{FromImage, NotLoaded, first_that_loads};
use crate::workshop::{Before, Form, Found, Lineage, MakeFailure, Variant, Workshop};

impl Functions {
    pub(super) async fn load_if_changed(&self, wanted: Wanted) -> Result<Loaded, DeployFailure> {
        let Wanted { spec, source } = wanted;
        let violated = |violation| DeployFailure::Spec { function: spec.name.clone(), violation };
        spec.check().map_err(violated)?;
        let digest = match &source {
            Source::Bytes(bytes) => {
                let bytes = Arc::clone(bytes);
                blocking(move || ComponentDigest::of(&bytes)).await
            }
            Source::Stored(digest) => *digest,
        };
        let same = self.running.lock().get(&spec.name).is_some_and(|running| {
            running.digest == digest
                && *running.entry.spec == spec
                && !matches!(running.state, FunctionState::Failed(_))
        });
        if same {
            return Ok(Loaded { spec, digest, made: None });
        }
        // The number is for display by the driver only; the store decides it when the revision is kept.
        let (digest, made) = self.load(&spec, RevisionNumber(0), &source).await?;
        Ok(Loaded { spec, digest, made: Some(made) })
    }

    /// The component that serves a function now, if it is the same application's: of that one it is known what it left.
    fn before(&self, spec: &FunctionSpec) -> Option<ComponentDigest> {
        let running = self.running.lock();
        running.get(&spec.name).filter(|running| running.entry.spec.app == spec.app).map(|running| running.digest)
    }

    /// Finds or makes the code of a component, off the runtime's threads, and keeps the component.
    pub(super) async fn load(
        &self,
        spec: &FunctionSpec,
        revision: RevisionNumber,
        source: &Source,
    ) -> Result<(ComponentDigest, Made), DeployFailure> {
        let (store, driver, host) = (Arc::clone(&self.store), Arc::clone(&self.driver), self.host.clone());
        let (spec, source, workshop) = (spec.clone(), source.clone(), self.workshop.clone());
        let function = spec.name.clone();
        let before = self.before(&spec);
        let work = move || -> Result<_, DeployFailure> {
            let (digest, source): (_, Bytes) = match source {
                Source::Bytes(bytes) => (ComponentDigest::of(&bytes), Bytes::from_owner(bytes)),
                Source::Stored(digest) => (digest, store.component(digest)?.into()),
            };
            let request =
                |image| LoadRequest { spec: &spec, revision, digest, source: &source, host: host.clone(), image };
            let bad = |reason| DeployFailure::Load { function: spec.name.clone(), reason };
            // Without a worker no pass is applied: what strangers wrote is not rewritten in this process.
            let compiled_here = |driver: &dyn Driver| -> Result<Made, DeployFailure> {
                let program = driver.load(request(None)).map_err(bad)?;
                let compile_ms = program.facts().compile_ms;
                Ok(Made { program, tier: Tier::Full, compile_ms })
            };
            let loaded = first_that_loads(
                |form| code(workshop.as_deref(), &spec, digest, before, &source, form),
                |image| driver.load(request(Some(image))),
                |variant, reason| {
                    workshop.iter().for_each(|workshop| workshop.reject(digest, variant, &reason.to_string()));
                },
            );
            let made = match loaded {
                Ok(Some(FromImage { program, variant, build_ms })) => {
                    Made { program, tier: variant.tier, compile_ms: build_ms }
                }
                Ok(None) => compiled_here(&*driver)?,
                Err(NotLoaded::NoImage(failure)) => return Err(failure),
                Err(NotLoaded::Refused(reason)) => return Err(bad(reason)),
            };
            store.put_component(&source)?;
            Ok((digest, made))
        };
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result,
            Err(_panicked) => {
                Err(DeployFailure::HarmfulComponent { function, detail: "the compiler panicked".to_owned() })
            }
        }
    }
}

/// The code of a component: there already, or made now. `None` where this machine cannot make any in a
/// worker; the driver then compiles by itself, and without passes.
fn code(
    workshop: Option<&Workshop>,
    spec: &FunctionSpec,
    digest: ComponentDigest,
    before: Option<ComponentDigest>,
    source: &Bytes,
    form: Form,
) -> Result<Option<Found>, DeployFailure> {
    let Some(workshop) = workshop else {
        return Ok(None);
    };
    let (function, lineage) = (&spec.name, Lineage::of(spec));
    if let Some(found) = workshop.find(digest, form, lineage) {
        return Ok(Some(found));
    }
    let before = before.filter(|before| *before != digest).map(|component| Before { component, lineage });
    let is_known = before.is_some_and(|before| workshop.has_bodies(before, form));
    let tier = if is_known { Tier::Full } else { Workshop::first_tier(source) };
    match workshop.make(digest, source.clone(), Variant { tier, form, lineage: None }, true, before) {
        Ok(found) => Ok(Some(found)),
        Err(MakeFailure::BadComponent(detail)) => {
            Err(DeployFailure::BadComponent { function: function.clone(), detail })
        }
        Err(failure @ MakeFailure::HarmfulComponent(_)) => {
            Err(DeployFailure::HarmfulComponent { function: function.clone(), detail: failure.to_string() })
        }
        Err(
            failure @ (MakeFailure::Worker(_)
            | MakeFailure::BadProfile(_)
            | MakeFailure::UnderWay
            | MakeFailure::NotNow(_)
            | MakeFailure::Publish(_)
            | MakeFailure::Malformed(_)
            | MakeFailure::Lost(_)),
        ) => {
            tracing::warn!(%function, reason = %failure, "no worker made an image: compiled by the node itself");
            Ok(None)
        }
    }
}
