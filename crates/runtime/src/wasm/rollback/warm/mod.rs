//! The warm state: VMs put back to where they were after the function's warm-up requests.
//!
//! What a language runtime loads and works out at the first request of a VM is there for all later ones. That is not the
//! state of a fresh VM, so it takes the owner's word for it (policy `warm` and `warm_up` requests in the manifest), and a
//! test that shows that no request could tell the difference:
//!
//! ```text
//! each warm-up request, to a fresh VM of its own ──► the expected answers
//! two VMs, warmed up ──► nothing drawn from the host (`witness`), no handle left, both alike ──► the state
//! one of them answers the warm-up requests again and again, put back each time
//!     ──► as expected, the first time, the second and the hundredth, and each time as it was
//! ```
//!
//! A guest that has drawn randomness or variables on the way may offer to draw them anew ([`StateExports::renew`]): that is
//! called in each VM that has been put back, and its owner answers for what it leaves out. While VMs are warmed up, random
//! numbers are always the same ones, so that two VMs can be compared.
//!
//! What fails has a name ([`WarmRefusal`]), and VMs are put back to the state in which they were made. A counter that the
//! guest keeps in its memory fails the test, since the warm-up advances it; one that only other requests show does not.
//!
//! Streams to the log may stay open, as runtimes leave them: the state has them, and each request gets its own in the same
//! places.
//!
//! A new VM gets into that state by a copy of it ([`copy`]) or, where that cannot be made, by answering the warm-up requests.
//!
//! Where the state cannot be copied, a VM that is made while a request waits is not warmed up: it serves that request, and a
//! warm one takes its place behind the response. The state is kept in memory only, and belongs to one revision of one function.

mod ask;
mod copy;
mod numbers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use forerun_types::{FunctionSpec, NoCopy, ReusePolicy, VmDiscard, WarmRefusal, WarmUpRequest};

use self::ask::{Answer, ask};
use self::copy::Copy;
use super::baseline::Baseline;
use super::habit::{self, Habit};
use super::{Alike, Kept, MAKE_TIME_MAX, Rollback};
use crate::wasm::log_streams::StreamPlace;
use crate::wasm::vm::{Linked, Template, Vm};
use crate::wasm::witness::Draws;

/// Requests that a warm VM answers in the test at least, and how often each of them is asked at least.
const ASKED_MIN: usize = 100;
const ROUNDS_MIN: usize = 2;
/// Time for a guest to draw anew: it is nobody's request, and happens after each one.
const RENEW_TIME_MAX: Duration = Duration::from_millis(100);
/// Time for the whole test.
const TEST_TIME_MAX: Duration = Duration::from_secs(20);

/// What leads to the warm state.
pub(in super::super) struct WarmUp {
    requests: Vec<WarmUpRequest>,
    /// Time for one of them.
    time_max: Duration,
}

/// The warm state.
pub(in super::super) struct Warm {
    pub(super) baseline: Baseline,
    /// To the log, which the guest has open in it.
    pub(super) streams: Vec<StreamPlace>,
    /// How a new VM gets there, if not by the warm-up.
    copy: Result<Copy, NoCopy>,
    /// What requests write in VMs that begin with it.
    pub(super) habit: Habit,
}

/// What is known of the warm state of VMs with as much room.
#[derive(Default)]
pub(super) enum Standing {
    #[default]
    Untried,
    /// Somebody is at it.
    Tried,
    Accepted(Arc<Warm>),
    Refused(WarmRefusal),
}

/// To which state VMs are put back.
pub(in super::super) enum Warmth {
    /// That in which they were made; and why, if another was wanted.
    AsMade(Option<WarmRefusal>),
    /// The warm state; and why new VMs do not get into it by a copy.
    Warm(Option<NoCopy>),
}

/// Why there is no answer to whether VMs can be warmed up.
enum NoVerdict {
    Refused(WarmRefusal),
    /// There was no place for a VM, or the room of VMs changed meanwhile.
    NotNow,
}

impl From<WarmRefusal> for NoVerdict {
    fn from(refusal: WarmRefusal) -> Self {
        Self::Refused(refusal)
    }
}

impl WarmUp {
    /// Nothing if VMs of the function are not to be warmed up.
    pub(in super::super) fn of(spec: &FunctionSpec) -> Option<Self> {
        let time_max = Duration::from_millis(spec.limits.timeout_ms).min(MAKE_TIME_MAX);
        (spec.reuse == ReusePolicy::Warm).then(|| Self { requests: spec.warm_up.clone(), time_max })
    }

    /// Asks a VM all of it, and gives it a new host's side that `template` makes; beside it, the streams to the log that its
    /// guest has open.
    pub(in super::super) async fn ask_all(
        &self,
        mut vm: Box<Vm>,
        template: &Template,
    ) -> Result<(Box<Vm>, Vec<StreamPlace>), WarmRefusal> {
        for request in &self.requests {
            vm.allow_until(Instant::now() + self.time_max);
            (vm, _) = ask(vm, request).await?;
        }
        let streams = what_remains(&mut vm)?;
        let renewed = vm.renew_state(template, Instant::now() + MAKE_TIME_MAX, &Kept::streams(&streams));
        renewed.map_err(|why| WarmRefusal::Discarded { why })?;
        Ok((vm, streams))
    }

    fn rounds(&self) -> usize {
        ASKED_MIN.div_ceil(self.requests.len().max(1)).max(ROUNDS_MIN)
    }
}

/// Gives the attempt up if it has no verdict by the time it is dropped.
struct Attempt<'a>(&'a Alike);

impl Attempt<'_> {
    /// Nothing if somebody is at it, or it is decided.
    fn begin(alike: &Alike) -> Option<Attempt<'_>> {
        let mut standing = alike.warm.lock();
        matches!(*standing, Standing::Untried).then(|| {
            *standing = Standing::Tried;
            Attempt(alike)
        })
    }

    fn conclude(self, standing: Standing) {
        *self.0.warm.lock() = standing;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let mut standing = self.0.warm.lock();
        if matches!(*standing, Standing::Tried) {
            *standing = Standing::Untried;
        }
    }
}

impl Rollback {
    /// The VM that serves next in the place of `vm`, whose request has ended well: itself, put back, or a warm one.
    pub(in super::super) async fn keep(
        &self,
        mut vm: Box<Vm>,
        template: &Template,
        linked: &Linked,
    ) -> Result<Box<Vm>, VmDiscard> {
        if vm.warm.is_none() && self.warm_up.is_some() {
            self.decide_warmth(template, linked).await;
            if let Some(warm) = self.warm_vm(template, linked).await {
                self.fresh.note(&mut vm).await;
                self.discarded(VmDiscard::NotWarm);
                return Ok(warm);
            }
        }
        self.roll_back(&mut vm, template, linked).await.map(|()| vm)
    }

    /// Runs the test, if VMs are to be warmed up and that has not been done. Never called while a request waits.
    pub(in super::super) async fn decide_warmth(&self, template: &Template, linked: &Linked) {
        let alike = self.alike();
        if let Some(warm_up) = self.warm_up.as_ref().filter(|_| !self.is_refused())
            && let Some(attempt) = Attempt::begin(&alike)
        {
            self.decide(attempt, warm_up, template, linked).await;
        }
    }

    /// A new VM in the warm state, that nobody waits for; nothing if there is no such state, now or at all.
    pub(in super::super) async fn warm_vm(&self, template: &Template, linked: &Linked) -> Option<Box<Vm>> {
        let warm_up = self.warm_up.as_ref()?;
        let (alike, accepted) = self.accepted()?;
        let room_bytes = alike.room_bytes;
        let made = match &accepted.copy {
            Ok(copy) => {
                let deadline = Instant::now() + MAKE_TIME_MAX;
                self.copied(&accepted, copy, (template, linked), room_bytes, deadline).await
            }
            Err(_) => self.warmed_alike(warm_up, &accepted, (template, linked), room_bytes).await,
        };
        let mut vm = self.in_the_state(made, &alike, Arc::clone(&accepted), template).await?;
        if let Ok(copy) = &accepted.copy {
            habit::populate(&mut vm, &self.exports, &accepted.habit.runs()).await;
            self.make_present(&mut vm, copy).await;
        }
        Some(vm)
    }

    /// Whether there is a warm state that can be copied.
    pub(in super::super) fn can_copy(&self) -> bool {
        self.accepted().is_some_and(|(_, accepted)| accepted.copy.is_ok())
    }

    /// A new VM into which the warm state is copied while a request waits that must be done by `deadline`; nothing if that
    /// is not possible.
    pub(in super::super) async fn warm_copy(
        &self,
        template: &Template,
        linked: &Linked,
        deadline: Instant,
    ) -> Option<Box<Vm>> {
        let (alike, accepted) = self.accepted()?;
        let copy = accepted.copy.as_ref().ok()?;
        let made = self.copied(&accepted, copy, (template, linked), alike.room_bytes, deadline).await;
        self.in_the_state(made, &alike, Arc::clone(&accepted), template).await
    }

    /// The state that VMs begin with now, if there is one.
    fn accepted(&self) -> Option<(Arc<Alike>, Arc<Warm>)> {
        self.warm_up.as_ref().filter(|_| !self.is_refused())?;
        let alike = self.alike();
        let accepted = match &*alike.warm.lock() {
            Standing::Accepted(state) => Arc::clone(state),
            Standing::Untried | Standing::Tried | Standing::Refused(_) => return None,
        };
        Some((alike, accepted))
    }

    /// Has a VM that was made in a state belong to it. One that turned out to be in another is the end of that state.
    async fn in_the_state(
        &self,
        made: Result<Box<Vm>, NoVerdict>,
        alike: &Alike,
        accepted: Arc<Warm>,
        template: &Template,
    ) -> Option<Box<Vm>> {
        let mut vm = match made {
            Ok(vm) => vm,
            Err(NoVerdict::NotNow) => return None,
            Err(NoVerdict::Refused(why)) => {
                tracing::warn!(
                    function = %template.spec.name, reason = %why,
                    "VMs are no longer put back to the state after the warm-up requests"
                );
                *alike.warm.lock() = Standing::Refused(why);
                return None;
            }
        };
        vm.warm = Some(accepted);
        self.renew(&mut vm).await.ok()?;
        Some(vm)
    }

    /// A new VM into which the warm state was copied.
    async fn copied(
        &self,
        accepted: &Warm,
        copy: &Copy,
        (template, linked): (&Template, &Linked),
        room_bytes: u32,
        deadline: Instant,
    ) -> Result<Box<Vm>, NoVerdict> {
        let mut vm = template.vm(linked, deadline).await.map(Box::new).map_err(|_| NoVerdict::NotNow)?;
        if vm.room_bytes != room_bytes {
            return Err(NoVerdict::NotNow);
        }
        let Warm { baseline, streams, .. } = accepted;
        let copied = self.copy_into(&mut vm, (baseline, streams), copy, template).await;
        copied.map_err(|_| NoVerdict::NotNow)?;
        if super::wants_check(self.counters.copied()) {
            let memories = self.memories(&mut vm).await.map_err(|_| NoVerdict::NotNow)?;
            if !baseline.equals(&vm.store, &memories) {
                return Err(WarmRefusal::StatesDiffer.into());
            }
        }
        Ok(vm)
    }

    /// A new VM that was warmed up and is as the warm state has it.
    async fn warmed_alike(
        &self,
        warm_up: &WarmUp,
        accepted: &Warm,
        (template, linked): (&Template, &Linked),
        room_bytes: u32,
    ) -> Result<Box<Vm>, NoVerdict> {
        let draws = Draws::default();
        let quiet = template.witnessed(&draws);
        // What may fail once need not fail again.
        let warmed = self.warmed(warm_up, &quiet, linked, room_bytes).await.map_err(|_| NoVerdict::NotNow);
        let (mut vm, streams) = warmed?;
        let memories = self.memories(&mut vm).await.map_err(|_| NoVerdict::NotNow)?;
        let is_alike = streams == accepted.streams && accepted.baseline.equals(&vm.store, &memories);
        if !is_alike || draws.any(self.exports.can_renew()).is_some() {
            return Err(WarmRefusal::StatesDiffer.into());
        }
        let renewed = vm.renew_state(template, Instant::now() + MAKE_TIME_MAX, &Kept::streams(&streams));
        renewed.map_err(|_| NoVerdict::NotNow)?;
        Ok(vm)
    }

    /// Has a VM that begins with the warm state draw anew what it drew on the way there.
    pub(super) async fn renew(&self, vm: &mut Vm) -> Result<(), VmDiscard> {
        if vm.warm.is_none() || !self.exports.can_renew() {
            return Ok(());
        }
        let instance = vm.entered.ok_or(VmDiscard::Unlike)?;
        vm.allow_until(Instant::now() + RENEW_TIME_MAX);
        self.exports.renew(&mut vm.store, &instance).await.map_err(|_| VmDiscard::RenewTrapped)?;
        if vm.is_spent() { Err(VmDiscard::ColdCode) } else { Ok(()) }
    }

    /// To which state VMs are put back.
    pub(in super::super) fn warmth(&self) -> Warmth {
        match &*self.alike().warm.lock() {
            Standing::Accepted(state) => Warmth::Warm(state.copy.as_ref().err().cloned()),
            Standing::Refused(why) => Warmth::AsMade(Some(why.clone())),
            Standing::Untried | Standing::Tried => Warmth::AsMade(None),
        }
    }

    async fn decide(&self, attempt: Attempt<'_>, warm_up: &WarmUp, template: &Template, linked: &Linked) {
        let function = &template.spec.name;
        match self.test(warm_up, template, linked, attempt.0.room_bytes).await {
            Ok(state) => {
                let copied_bytes = state.copy.as_ref().ok().map(Copy::bytes);
                let not_copied = state.copy.as_ref().err().map(tracing::field::display);
                tracing::info!(%function, copied_bytes, not_copied, "VMs are put back to the state after the warm-up requests");
                attempt.conclude(Standing::Accepted(state));
            }
            Err(NoVerdict::Refused(why)) => {
                tracing::warn!(%function, reason = %why, "VMs are not put back to the state after the warm-up requests");
                attempt.conclude(Standing::Refused(why));
            }
            Err(NoVerdict::NotNow) => {}
        }
    }

    /// The test, from the expected answers to the last check.
    async fn test(
        &self,
        warm_up: &WarmUp,
        template: &Template,
        linked: &Linked,
        room_bytes: u32,
    ) -> Result<Arc<Warm>, NoVerdict> {
        let until = Instant::now() + TEST_TIME_MAX;
        let expected = expected(warm_up, template, linked).await?;
        let draws = Draws::default();
        let quiet = template.witnessed(&draws);
        let (mut first, streams) = self.warmed(warm_up, &quiet, linked, room_bytes).await?;
        let (mut second, seconds_streams) = self.warmed(warm_up, &quiet, linked, room_bytes).await?;
        if let Some(what) = draws.any(self.exports.can_renew()) {
            return Err(WarmRefusal::Drew { what }.into());
        }
        let no_state = |why| WarmRefusal::NoState { why: Box::new(why) };
        let memories = self.memories(&mut first).await.map_err(no_state)?;
        let baseline = Baseline::of(&mut first.store, &memories).map_err(no_state)?;
        let memories = self.memories(&mut second).await.map_err(no_state)?;
        if !baseline.equals(&second.store, &memories) || streams != seconds_streams {
            return Err(WarmRefusal::StatesDiffer.into());
        }
        let copy = self.find_copy((&mut first, &mut second), (&baseline, &streams), &quiet, linked).await;
        drop(second);
        let state = Warm { baseline, streams, copy, habit: Habit::default() };
        let mut tested = match &state.copy {
            Ok(copy) => {
                let deadline = Instant::now() + MAKE_TIME_MAX;
                self.copied(&state, copy, (&quiet, linked), room_bytes, deadline).await?
            }
            Err(_) => first,
        };
        let state = Arc::new(state);
        tested.warm = Some(Arc::clone(&state));
        self.probation(warm_up, &expected, tested, (&quiet, linked), until).await?;
        Ok(state)
    }

    /// Asks a warm VM again and again.
    async fn probation(
        &self,
        warm_up: &WarmUp,
        expected: &[Answer],
        mut vm: Box<Vm>,
        (quiet, linked): (&Template, &Linked),
        until: Instant,
    ) -> Result<(), NoVerdict> {
        let all = || warm_up.requests.iter().zip(expected);
        for (after, (request, expected)) in (0..warm_up.rounds()).flat_map(|_| all()).enumerate() {
            let began = Instant::now();
            if began > until {
                let max_ms = u64::try_from(TEST_TIME_MAX.as_millis()).unwrap_or(u64::MAX);
                return Err(WarmRefusal::TookTooLong { max_ms }.into());
            }
            vm.allow_until(began + warm_up.time_max);
            let answer;
            (vm, answer) = ask(vm, request).await?;
            if answer != *expected {
                let after = u32::try_from(after).unwrap_or(u32::MAX);
                return Err(WarmRefusal::AnswersDiffer { request: shown(request), after }.into());
            }
            let refused = |why| match why {
                VmDiscard::RoomChanged => NoVerdict::NotNow,
                why => WarmRefusal::Discarded { why }.into(),
            };
            self.put_back(&mut vm, quiet, linked).await.map_err(refused)?;
            if !is_clean(&mut vm).await {
                return Err(WarmRefusal::CheckFailed.into());
            }
            self.renew(&mut vm).await.map_err(refused)?;
            // Requests come first: half of the time is theirs.
            tokio::time::sleep(began.elapsed()).await;
        }
        Ok(())
    }

    /// A new VM that has answered the warm-up requests, one after the other, and has its globals saved as they are then;
    /// and the streams to the log that its guest has open.
    async fn warmed(
        &self,
        warm_up: &WarmUp,
        quiet: &Template,
        linked: &Linked,
        room_bytes: u32,
    ) -> Result<(Box<Vm>, Vec<StreamPlace>), NoVerdict> {
        let mut vm = new_vm(quiet, linked).await?;
        if vm.room_bytes != room_bytes {
            return Err(NoVerdict::NotNow);
        }
        self.populate(&mut vm).await;
        let (mut vm, streams) = warm_up.ask_all(vm, quiet).await?;
        let unreadable = |error: wasmtime::Error| WarmRefusal::Failed { detail: error.root_cause().to_string() };
        let instance = vm.entered.ok_or(WarmRefusal::CheckFailed)?;
        self.exports.save(&mut vm.store, &instance).await.map_err(unreadable)?;
        // Memory that has grown on the way is part of the state.
        vm.store.data_mut().limiter.made();
        vm.requests = 0;
        Ok((vm, streams))
    }
}

/// Whether a VM that has been put back is exactly as the warm state has it.
async fn is_clean(vm: &mut Vm) -> bool {
    match (&vm.point, &vm.warm) {
        (Some(point), Some(state)) => point.is_clean(&mut vm.store, &state.baseline).await,
        _ => false,
    }
}

/// What fresh VMs answer.
async fn expected(warm_up: &WarmUp, template: &Template, linked: &Linked) -> Result<Vec<Answer>, NoVerdict> {
    let quiet = template.witnessed(&Draws::default());
    let mut answers = Vec::with_capacity(warm_up.requests.len());
    for request in &warm_up.requests {
        let mut vm = new_vm(&quiet, linked).await?;
        vm.allow_until(Instant::now() + warm_up.time_max);
        answers.push(ask(vm, request).await?.1);
    }
    Ok(answers)
}

async fn new_vm(quiet: &Template, linked: &Linked) -> Result<Box<Vm>, NoVerdict> {
    let made = quiet.vm(linked, Instant::now() + MAKE_TIME_MAX).await;
    made.map(Box::new).map_err(|_| NoVerdict::NotNow)
}

/// The streams to the log that the warm-up has left open, or what it has left that cannot be part of a state.
fn what_remains(vm: &mut Vm) -> Result<Vec<StreamPlace>, WarmRefusal> {
    if vm.is_spent() {
        return Err(WarmRefusal::Discarded { why: VmDiscard::ColdCode });
    }
    let state = vm.store.data_mut();
    if state.limiter.table_grew() {
        return Err(WarmRefusal::Discarded { why: VmDiscard::TableGrew });
    }
    state.streams_alone().ok_or(WarmRefusal::HandlesKept)
}

fn shown(request: &WarmUpRequest) -> String {
    format!("{} {}", request.method, request.path)
}
