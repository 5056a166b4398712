//! A split image before it serves: loaded, and tried beside the whole component with requests like those that came.

use std::sync::Arc;

use forerun_driver::{Driver, Program};
use forerun_runtime::{ColdFills, ColdLayout, SplitProgram, WasmDriver};
use forerun_types::{ReusePolicy, WarmUpRequest};
use tokio::runtime::Handle;

use super::cold::Cold;
use crate::functions::Placed;
use crate::paths::Shape;
use crate::verify::{Mismatch, Pace, Probe, Stage, Subject, Verdict, compare, pace};
use crate::workshop::{Form, Lineage, SplitImage, Workshop};

/// Largest body a probe has, in bytes.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// A split image, apart from its code.
pub(super) struct Candidate<'a> {
    pub(super) driver: &'a WasmDriver,
    pub(super) image: &'a SplitImage,
    pub(super) cold: &'a Arc<Cold>,
    pub(super) cold_groups_max: u32,
}

/// A comparison that showed no difference.
#[derive(Clone, Copy)]
pub(super) struct Compared {
    /// Requests that were compared.
    pub(super) requests: usize,
    /// Of these, how many could be compared in every detail.
    pub(super) steady: usize,
    /// How long both took.
    pub(super) pace: Pace,
    /// Time it took to make the whole component's code, in milliseconds.
    pub(super) whole_build_ms: u64,
}

/// What trying came to.
pub(super) enum Tried {
    Same(Compared),
    Different(Box<Mismatch>),
    /// It answers the same, and takes longer.
    Slower(Pace),
    NothingToTry,
    /// One of the two could not be loaded.
    NotLoaded(String),
}

impl Candidate<'_> {
    /// Loads it to serve with `host`.
    pub(super) fn load(&self, placed: &Placed, host: forerun_driver::Host) -> Result<Arc<dyn Program>, String> {
        let groups = self.image.index.groups.iter();
        let fills = groups.map(|group| ColdFills { first_slot: group.first_slot, positions: &group.positions });
        let layout = ColdLayout::new(fills, self.image.index.slots).map_err(|error| error.to_string())?;
        let split = SplitProgram {
            layout,
            source: Arc::clone(self.cold) as _,
            listener: Arc::clone(self.cold) as _,
            groups_per_vm_max: self.cold_groups_max,
            interruption: self.image.interruption(),
        };
        let image = self.image.primary.try_clone().map_err(|error| error.to_string())?;
        self.driver.load_split(placed.request(host, Some(image)), split).map_err(|error| error.to_string())
    }

    /// Compares it with the whole component. Blocks; must not be called within a runtime.
    pub(super) fn try_out(&self, placed: &Placed, workshop: &Workshop, shapes: &[Shape], runtime: &Handle) -> Tried {
        let subjects = self.whole(placed, workshop).and_then(|whole| Ok((whole, self.staged(placed)?)));
        let ((whole, whole_build_ms), candidate) = match subjects {
            Ok(subjects) => subjects,
            Err(reason) => return Tried::NotLoaded(reason),
        };
        let warm_up = placed.spec().warm_up.iter().map(warm_up_probe);
        let probes: Vec<Probe> = warm_up.chain(shapes.iter().map(probe)).collect();
        match runtime.block_on(compare(&whole, &candidate, &probes)) {
            Verdict::Same { steady, unsteady } => {
                let pace = runtime.block_on(pace(&whole, &candidate, &probes, || self.cold.counts().misses));
                if pace.is_slower() {
                    return Tried::Slower(pace);
                }
                Tried::Same(Compared { requests: steady + unsteady, steady, pace, whole_build_ms })
            }
            Verdict::Different(mismatch) => Tried::Different(Box::new(mismatch)),
            Verdict::NothingCompared => Tried::NothingToTry,
        }
    }

    /// And how long it took to make its code, in milliseconds.
    fn whole(&self, placed: &Placed, workshop: &Workshop) -> Result<(Subject, u64), String> {
        let found = workshop.find(placed.digest(), Form::Prepared, Lineage::of(placed.spec()));
        let found = found.ok_or("there is no image of the whole component to compare it with")?;
        let stage = Arc::<Stage>::default();
        let request = placed.request(stage.host(), Some(found.image));
        let program = self.driver.load(request).map_err(|error| error.to_string())?;
        Ok((Subject { program, stage }, found.made_in_ms))
    }

    fn staged(&self, placed: &Placed) -> Result<Subject, String> {
        let stage = Arc::<Stage>::default();
        Ok(Subject { program: self.load(placed, stage.host())?, stage })
    }
}

/// Why VMs of a candidate would not be put back to the state after the warm-up requests, though those of the whole
/// component are, or may be; `None` if nothing is lost.
pub(super) async fn loses_warmth(placed: &Placed, candidate: &Arc<dyn Program>) -> Option<String> {
    if placed.spec().reuse != ReusePolicy::Warm || placed.program().isolation().not_warm.is_some() {
        return None;
    }
    // That is decided before the first VM is made ahead.
    let held = Arc::clone(candidate).hold_ready(1).await;
    let _ = Arc::clone(candidate).hold_ready(0).await;
    match held {
        Err(failure) => Some(failure.to_string()),
        Ok(()) => candidate.isolation().not_warm.map(|why| why.to_string()),
    }
}

/// A request that the function's owner says does no harm.
fn warm_up_probe(request: &WarmUpRequest) -> Probe {
    let (method, path, body) = (request.method.clone(), request.path.clone(), request.body.clone().into_bytes());
    Probe { method, path, headers: Vec::new(), body, answer_to_calls: request.answer_to_calls.clone() }
}

/// A request like one that came: the bytes of its body are not those, which nobody kept.
fn probe(shape: &Shape) -> Probe {
    let body = vec![b'a'; usize::try_from(shape.body_bytes.min(BODY_BYTES_MAX)).unwrap_or(0)];
    let (method, path) = (shape.method.clone(), shape.path.clone());
    Probe { method, path, headers: Vec::new(), body, answer_to_calls: None }
}
