//! After a restart: what has an image serves at once, the rest is loaded while the node serves.

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_driver::LoadRequest;
use forerun_runtime::Tier;
use forerun_store::{Revision, StorageError};

use super::{FunctionState, Functions, Made, Source};
use crate::pending::{Loading, PendingProgram};
use crate::workshop::{Form, Found, Lineage};

/// A function that is known and not loaded as it should be.
pub(crate) struct Restoring {
    revision: Revision,
    /// Where requests wait for it; `None` if it serves already, with code made in a hurry.
    waiting: Option<tokio::sync::watch::Sender<Loading>>,
}

impl Functions {
    /// Routes everything that is in the store. What has an image is loaded at once, for at most `patience`; the
    /// rest is returned, to be loaded while the node serves. Blocks on the disk.
    pub(crate) fn restore(&self, patience: Duration) -> Result<Vec<Restoring>, StorageError> {
        let began = Instant::now();
        let mut restoring = Vec::new();
        for revision in self.store.active()? {
            let ready = if began.elapsed() < patience { self.load_from_image(&revision) } else { None };
            match ready {
                Some(made) => {
                    let hurried = made.tier == Tier::Quick;
                    self.serve(revision.clone(), made.program, FunctionState::Ready);
                    if hurried {
                        restoring.push(Restoring { revision, waiting: None });
                    }
                }
                None => {
                    let (sender, program) = PendingProgram::new();
                    self.serve(revision.clone(), program, FunctionState::Loading);
                    restoring.push(Restoring { revision, waiting: Some(sender) });
                }
            }
        }
        self.publish();
        Ok(restoring)
    }

    fn load_from_image(&self, revision: &Revision) -> Option<Made> {
        let workshop = self.workshop.as_ref()?;
        let Found { image, variant, .. } =
            workshop.find(revision.digest, Form::Prepared, Lineage::of(&revision.spec))?;
        let request = LoadRequest {
            spec: &revision.spec,
            revision: revision.number,
            digest: revision.digest,
            source: &[],
            host: self.host.clone(),
            image: Some(image),
        };
        match self.driver.load(request) {
            Ok(program) => Some(Made { program, tier: variant.tier, compile_ms: 0 }),
            Err(error) => {
                workshop.reject(revision.digest, variant, &error.to_string());
                None
            }
        }
    }

    /// Loads what `restore` left, one after the other.
    pub(crate) async fn load_all(self: Arc<Self>, restoring: Vec<Restoring>) {
        for Restoring { revision, waiting } in restoring {
            let name = revision.spec.name.clone();
            let Some(sender) = waiting else {
                self.improve_later(&name);
                continue;
            };
            let _changing = self.changing.lock().await;
            if !self.is_active(&revision) {
                continue;
            }
            match self.load(&revision.spec, revision.number, &Source::Stored(revision.digest)).await {
                Ok((_, Made { program, tier, compile_ms: _ })) => {
                    sender.send_replace(Loading::Ready(Arc::clone(&program)));
                    self.serve(revision, program, FunctionState::Ready);
                    self.publish();
                    if tier == Tier::Quick {
                        self.improve_later(&name);
                    }
                }
                Err(failure) => {
                    let reason = failure.to_string();
                    tracing::error!(function = %name, reason, "function cannot be loaded");
                    sender.send_replace(Loading::Failed(reason.as_str().into()));
                    self.set_state(&name, FunctionState::Failed(reason));
                }
            }
        }
    }
}
