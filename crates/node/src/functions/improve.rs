//! Better code for what serves already: it takes over without a pause, or everything stays as it is.
//!
//! ```text
//! code made in a hurry ─► fully optimised code of the whole component
//!                      ─► a split image, once it is known what requests run; and back, if it does not do
//! ```

use std::sync::Arc;
use std::time::Duration;

use forerun_driver::{AuthenticImage, Host, LoadRequest, Program};
use forerun_gateway::FunctionEntry;
use forerun_runtime::Tier;
use forerun_types::{ComponentDigest, FunctionName, FunctionSpec, RevisionNumber};

use super::{FunctionState, Functions, Running, Source, blocking, followed_program};
use crate::workshop::{Form, Found, MakeFailure, Variant, Workshop};

/// Functions that share a component wait for whoever makes its code. A language runtime takes a minute on a busy machine.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LOOKS_MAX: u32 = 600;

impl Functions {
    /// Begins to make fully optimised code of the active revision; it takes over without a pause when it is made.
    pub(super) fn improve_later(self: &Arc<Self>, name: &FunctionName) {
        self.make_later(name, Variant { tier: Tier::Full, form: Form::Prepared, lineage: None });
    }

    fn make_later(self: &Arc<Self>, name: &FunctionName, variant: Variant) {
        let (Some(workshop), Some(running)) = (self.workshop.clone(), self.running.lock().get(name).cloned()) else {
            return;
        };
        let (own, name) = (Arc::clone(self), name.clone());
        tokio::spawn(async move {
            for _ in 0..LOOKS_MAX {
                match own.made(&workshop, running.digest, variant).await {
                    Ok(Some(found)) => return own.replace_code(&name, &running, found).await,
                    Ok(None) if own.serves(&name, &running) => tokio::time::sleep(LOOK_EVERY).await,
                    Ok(None) => return,
                    Err(reason) => {
                        tracing::warn!(function = %name, reason, "no optimised code: what serves goes on");
                        return;
                    }
                }
            }
            tracing::warn!(function = %name, "no optimised code: others were made all the time");
        });
    }

    /// Code of a component; `None` while it, or as much as may be, is being made for others.
    async fn made(
        &self,
        workshop: &Arc<Workshop>,
        digest: ComponentDigest,
        variant: Variant,
    ) -> Result<Option<Found>, String> {
        let (store, workshop) = (Arc::clone(&self.store), Arc::clone(workshop));
        blocking(move || {
            let source = || store.component(digest).map(Into::into).map_err(|error| error.to_string());
            match workshop.make_of(digest, source, variant, false, None) {
                Ok(found) => Ok(Some(found)),
                Err(MakeFailure::UnderWay) => Ok(None),
                Err(failure) => Err(failure.to_string()),
            }
        })
        .await
    }

    fn serves(&self, name: &FunctionName, running: &Running) -> bool {
        self.running.lock().get(name).is_some_and(|now| Arc::ptr_eq(&now.entry, &running.entry))
    }

    /// Lets `image` serve in the place of `before`, if that still serves.
    async fn replace_code(self: &Arc<Self>, name: &FunctionName, before: &Running, found: Found) {
        let Found { image, variant, is_changed, .. } = found;
        let placed = Placed(before.clone());
        let own = Arc::clone(self);
        let loading = placed.clone();
        match blocking(move || own.driver.load(loading.request(own.host.clone(), Some(image)))).await {
            Ok(program) => {
                if self.replace(&placed, program).await {
                    tracing::info!(function = %name, revision = %placed.revision(), "optimised code serves now");
                }
            }
            Err(error) => {
                if let Some(workshop) = &self.workshop {
                    workshop.reject(placed.digest(), variant, &error.to_string());
                }
                if is_changed {
                    // The component may be fine and a pass at fault.
                    self.make_later(name, Variant { form: Form::AsDeployed, ..variant });
                }
            }
        }
    }

    /// What serves a function now, if it serves.
    pub(crate) fn placed(&self, name: &FunctionName) -> Option<Placed> {
        let running = self.running.lock().get(name).cloned()?;
        (running.state == FunctionState::Ready).then_some(Placed(running))
    }

    /// Lets `program`, another program of the same revision, serve in the place of `before`. Requests under way finish
    /// with the old one. False, and nothing changed, if something else serves by now.
    pub(crate) async fn replace(&self, before: &Placed, program: Arc<dyn Program>) -> bool {
        let _changing = self.changing.lock().await;
        let Placed(before) = before;
        {
            let mut running = self.running.lock();
            let name = &before.entry.spec.name;
            if !running.get(name).is_some_and(|now| Arc::ptr_eq(&now.entry, &before.entry)) {
                return false;
            }
            let called = followed_program(before.followed.as_ref(), Arc::clone(&program));
            let (spec, admission) = (Arc::clone(&before.entry.spec), Arc::clone(&before.entry.admission));
            let entry = Arc::new(FunctionEntry::new(spec, before.entry.revision, called, admission));
            running.insert(name.clone(), Running { entry, program, ..before.clone() });
        }
        self.publish();
        true
    }

    /// Lets the whole component serve in the place of `before`, which is a part of it.
    pub(crate) async fn restore_whole(&self, before: &Placed) -> Result<bool, String> {
        let source = Source::Stored(before.digest());
        let loaded = self.load(before.spec(), before.revision(), &source).await;
        let (_, made) = loaded.map_err(|failure| failure.to_string())?;
        Ok(self.replace(before, made.program).await)
    }
}

/// What serves a function at some moment.
#[derive(Clone)]
pub(crate) struct Placed(Running);

impl Placed {
    pub(crate) fn spec(&self) -> &FunctionSpec {
        &self.0.entry.spec
    }

    pub(crate) fn revision(&self) -> RevisionNumber {
        self.0.entry.revision
    }

    pub(crate) fn digest(&self) -> ComponentDigest {
        self.0.digest
    }

    /// The program, without whoever follows which of its code runs.
    pub(crate) fn program(&self) -> Arc<dyn Program> {
        Arc::clone(&self.0.program)
    }

    /// Size of its machine code and data, in bytes.
    pub(crate) fn code_bytes(&self) -> u64 {
        self.0.entry.program.facts().code_bytes
    }

    /// Whether `other` is the very same, and not only of the same revision.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.entry, &other.0.entry)
    }

    /// Whether `other` is of the same revision.
    pub(crate) fn is_of_revision_of(&self, other: &Self) -> bool {
        self.digest() == other.digest() && self.revision() == other.revision() && self.spec() == other.spec()
    }

    /// To load another program of the same revision.
    pub(crate) fn request(&self, host: Host, image: Option<AuthenticImage>) -> LoadRequest<'_> {
        let (spec, revision, digest) = (self.spec(), self.revision(), self.digest());
        LoadRequest { spec, revision, digest, source: &[], host, image }
    }
}
