//! After a restart: what has an image serves at once, the rest is loaded while the node serves.
//!
//! Finding images takes longest, since each is read and authenticated: [`find_images`] needs nothing but the store and the
//! workshop, and is done while other parts of the node are made.

use std::sync::Arc;
use std::time::Instant;

use forerun_driver::LoadRequest;
use forerun_runtime::Tier;
use forerun_store::{Revision, StorageError, Store};

use super::{FunctionState, Functions, Made, Source};
use crate::pending::{Loading, PendingProgram};
use crate::workshop::{Form, Found, Lineage, Workshop};

/// A function that is known and not loaded as it should be.
pub(crate) struct Restoring {
    revision: Revision,
    /// Where requests wait for it; `None` if it serves already, with code made in a hurry.
    waiting: Option<tokio::sync::watch::Sender<Loading>>,
}

/// A revision that serves, and its image, if it was found in time.
pub(crate) struct Stored {
    revision: Revision,
    found: Option<Found>,
}

/// Finds the images of everything that is in the store, until `deadline`. Blocks on the disk.
pub(crate) fn find_images(
    store: &Store,
    workshop: Option<&Workshop>,
    deadline: Instant,
) -> Result<Vec<Stored>, StorageError> {
    let find = |revision: Revision| {
        let workshop = workshop.filter(|_| Instant::now() < deadline);
        let found =
            workshop.and_then(|workshop| workshop.find(revision.digest, Form::Prepared, Lineage::of(&revision.spec)));
        Stored { revision, found }
    };
    Ok(store.active()?.into_iter().map(find).collect())
}

impl Functions {
    /// Routes everything that is in the store. What has an image is loaded at once, until `deadline`; the rest is returned,
    /// to be loaded while the node serves.
    pub(crate) fn restore(&self, stored: Vec<Stored>, deadline: Instant) -> Vec<Restoring> {
        let mut restoring = Vec::new();
        for Stored { revision, found } in stored {
            let found = found.filter(|_| Instant::now() < deadline);
            match found.and_then(|found| self.load_from_image(&revision, found)) {
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
        restoring
    }

    fn load_from_image(&self, revision: &Revision, Found { image, variant, .. }: Found) -> Option<Made> {
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
                self.workshop.iter().for_each(|workshop| {
                    workshop.reject(revision.digest, variant, &error.to_string());
                });
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
