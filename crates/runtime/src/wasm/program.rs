//! A revision that can be called: get a VM, enter it, answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forerun_driver::{
    AuthenticImage, Body, BoxFuture, EndHook, HeldReady, Invocation, InvocationEnd, InvokeError, IsolationReport,
    Program, ProgramFacts, Reply, SampleHook, Trusts,
};
use forerun_types::{GenericReason, InvocationId, ServePath, VmDiscard};
use http::{HeaderValue, Request, header};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use wasmtime::PoolConcurrencyLimitError;

use super::affinity::Affinity;
use super::answer::{self, Finisher, Unanswered};
use super::aside;
use super::cpu_time::CpuTime;
use super::failure::Failure;
use super::guest::{self, HeadSlot};
use super::isolation::Isolation;
use super::pace::{Pace, PutBack};
use super::ready::{ReadyVms, Taken};
use super::reuse::IdleVms;
use super::sampled::Sample;
use super::trust::{TrustCell, Use};
use super::turns;
use super::used::UsedVms;
use super::vm::{Linked, Template, Vm};
use crate::sys::Tracker;

/// Longer than any idle VM has been idle for.
const IDLE_FOR_EVER: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Time the start functions of a VM may take that nobody waits for.
const MAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Memory that was restored the last time from which on putting a VM back is worth another thread: it takes some 30 µs then.
const ASIDE_BYTES_MIN: u64 = 256 << 10;

/// Who makes the best of a VM whose request has ended.
pub(super) enum Keeper {
    /// The thread that writes the response, behind it: some ten microseconds, a tenth of a millisecond where most is written.
    Writer,
    /// A task of its own.
    Task,
    /// The thread beside those that serve.
    Aside,
}

/// A loaded revision.
pub(super) struct WasmProgram {
    pub(super) template: Template,
    pub(super) linked: Linked,
    pub(super) isolation: Isolation,
    pub(super) idle: IdleVms,
    pub(super) ready: ReadyVms,
    /// VMs that will be put back or freed in a moment.
    pub(super) used: UsedVms,
    /// When and by whom.
    pub(super) pace: Pace,
    pub(super) aside: aside::OfRevision,
    /// How far VMs that were put back may be used.
    pub(super) trust_rolled_back: TrustCell,
    /// The same for those that begin with a copy of the warm state.
    pub(super) trust_specialized: TrustCell,
    pub(super) facts: ProgramFacts,
    /// Where its guests run, if not anywhere.
    pub(super) affinity: Option<Arc<Affinity>>,
    /// Tells which pages of a VM were touched, where the kernel does.
    pub(super) tracker: Option<Arc<Tracker>>,
    /// All programs of the driver, whose idle VMs may have to make room.
    pub(super) programs: Programs,
    /// Holds the image's place in the cache for as long as its code is mapped.
    pub(super) _image: Option<AuthenticImage>,
}

impl Program for WasmProgram {
    fn invoke(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        Box::pin(async move { self.serve(invocation, request).await })
    }

    fn invoke_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        is_warm: bool,
        sample: SampleHook,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        Box::pin(async move { self.serve_sampled(invocation, request, is_warm, sample).await })
    }

    fn facts(&self) -> &ProgramFacts {
        &self.facts
    }

    fn hold_ready(self: Arc<Self>, vms: u32) -> BoxFuture<Result<(), InvokeError>> {
        Box::pin(async move {
            // A VM that was put back is as good as one that was made.
            let idle = match self.isolation {
                Isolation::Rollback(_) => self.idle.held().0 + self.used.count(),
                Isolation::Fresh { .. } | Isolation::Reuse => 0,
            };
            let missing = self.ready.want(vms).saturating_sub(idle);
            if missing > 0 {
                self.isolation.decide_warmth(&self.template, &self.linked).await;
            }
            for _ in 0..missing {
                let began = Instant::now();
                let vm = self.make_ahead(began + MAKE_TIME_MAX).await?;
                self.ready.add(vm, began);
            }
            Ok(())
        })
    }

    fn trust(&self, trusts: Trusts) {
        self.ready.trust.set(trusts.ready);
        self.trust_rolled_back.set(trusts.rolled_back);
        self.trust_specialized.set(trusts.specialized);
        if self.no_rollback() {
            self.sweep(Instant::now() + IDLE_FOR_EVER);
        }
    }

    fn isolation(&self) -> IsolationReport {
        self.isolation.report(self.idle.held())
    }

    fn held_ready(&self) -> HeldReady {
        let held = self.ready.held();
        match self.isolation {
            Isolation::Fresh { .. } | Isolation::Reuse => held,
            Isolation::Rollback(_) => {
                let (vms, bytes) = self.idle.held();
                HeldReady { vms: held.vms + vms + self.used.count(), memory_bytes: held.memory_bytes + bytes, ..held }
            }
        }
    }
}

/// A VM for one request, and how it was come by.
pub(super) struct Deployed {
    pub(super) vm: Box<Vm>,
    pub(super) serve_path: ServePath,
    pub(super) deploy: Duration,
    /// CPU time so far, if it is measured.
    pub(super) cpu: CpuTime,
    /// Reads what the VM noted of the request, if that is wanted.
    pub(super) sample: Option<Sample>,
}

impl WasmProgram {
    async fn serve(self: Arc<Self>, invocation: Invocation, request: Request<Body>) -> Result<Reply, InvokeError> {
        let Invocation { id, trace, chain, https, deadline, end } = invocation;
        let started = Instant::now();
        let mut cpu = CpuTime::of(id);
        let deployed = {
            let mut deploying = pin!(self.deploy(chain.root, deadline));
            poll_fn(|cx| cpu.during(|| deploying.as_mut().poll(cx))).await
        };
        let (vm, serve_path) = match deployed {
            Ok(deployed) => deployed,
            Err(failure) => return Err(refuse(end, failure, started.elapsed())),
        };
        let deployed = Deployed { vm, serve_path, deploy: started.elapsed(), cpu, sample: None };
        let invocation = Invocation { id, trace, chain, https, deadline, end };
        self.serve_deployed(deployed, invocation, request, started).await
    }

    /// Enters a VM with the request, for better or worse.
    pub(super) async fn enter(
        self: Arc<Self>,
        deployed: Deployed,
        invocation: Invocation,
        request: Request<Body>,
    ) -> Result<Reply, InvokeError> {
        self.attempt(deployed, invocation, request).await.map_err(Unanswered::fail)
    }

    /// Enters a VM with the request and waits for the head of its answer.
    pub(super) async fn attempt(
        self: Arc<Self>,
        deployed: Deployed,
        invocation: Invocation,
        request: Request<Body>,
    ) -> Result<Reply, Unanswered> {
        let Deployed { mut vm, serve_path, deploy, cpu, sample } = deployed;
        let Invocation { id, trace, chain, https, deadline, end } = invocation;
        vm.begin(id, trace, chain, deadline);
        let calls = vm.store.data().calls();
        let head_only = request.method() == http::Method::HEAD;
        let put_back = self.put_back_how();
        let slot = HeadSlot::default();
        let guest = guest::enter(vm, with_authority(request), https, slot.clone(), self.affinity.clone());
        let finisher = Finisher::new(self, end, serve_path, (deploy, cpu), (deadline, put_back), calls, sample);
        let response = answer::answer(guest, slot, finisher, head_only).await?;
        Ok(Reply { response, serve_path, deploy })
    }

    /// The deploy decision, total: a VM kept from an earlier request, one made ready for this one, a new one that begins with
    /// the warm state, or one as it is made with the reason for it.
    async fn deploy(&self, root: InvocationId, deadline: Instant) -> Result<(Box<Vm>, ServePath), Failure> {
        let why = match self.take_kept(root) {
            Taken::Vm(vm) => return Ok((vm, self.isolation.kept_path())),
            Taken::Nothing(control @ GenericReason::ControlRolledBack) => control,
            Taken::Nothing(why) => match (self.ready.take(root), why) {
                (Taken::Vm(vm), _) => return Ok((vm, ServePath::Ready)),
                (Taken::Nothing(_), GenericReason::Quarantined) => GenericReason::Quarantined,
                (Taken::Nothing(why), none_kept) => match self.put_back_now(none_kept).await {
                    Some(vm) => return Ok((vm, self.isolation.kept_path())),
                    None => why,
                },
            },
        };
        match self.specialized(why, root, deadline).await {
            Ok(vm) => Ok((vm, ServePath::Specialized)),
            Err(why) => Ok((self.make(deadline).await?, ServePath::Generic(why))),
        }
    }

    /// A new VM that begins with the warm state, or why it is one as it is made; `why` there is no other.
    async fn specialized(
        &self,
        why: GenericReason,
        root: InvocationId,
        deadline: Instant,
    ) -> Result<Box<Vm>, GenericReason> {
        let Isolation::Rollback(rollback) = &self.isolation else { return Err(why) };
        match why {
            GenericReason::NoImage
            | GenericReason::BelowThreshold
            | GenericReason::AllTaken
            | GenericReason::Disabled => {}
            // Something was there and is left alone, or has failed.
            GenericReason::Control
            | GenericReason::ControlRolledBack
            | GenericReason::ControlSpecialized
            | GenericReason::RetriedReady
            | GenericReason::RetriedRolledBack
            | GenericReason::RetriedSpecialized
            | GenericReason::Quarantined
            | GenericReason::Sampled => return Err(why),
        }
        if !rollback.can_copy() {
            return Err(why);
        }
        match self.trust_specialized.of(root) {
            Use::Allowed => {}
            Use::LeftAlone => return Err(GenericReason::ControlSpecialized),
            Use::Withdrawn => return Err(GenericReason::Quarantined),
            Use::SwitchedOff => return Err(GenericReason::Disabled),
        }
        // One that cannot be had is no failure: there is the standard path.
        rollback.warm_copy(&self.template, &self.linked, deadline).await.ok_or(why)
    }

    /// A VM that has served before, or why there is none for a request of the chain that began with `root`.
    fn take_kept(&self, root: InvocationId) -> Taken {
        let left_alone = match (&self.isolation, self.trust_rolled_back.of(root)) {
            (Isolation::Rollback(_), Use::Withdrawn) => return Taken::Nothing(GenericReason::Quarantined),
            (Isolation::Rollback(_), Use::SwitchedOff) => return Taken::Nothing(GenericReason::Disabled),
            (Isolation::Rollback(_), Use::LeftAlone) => !self.idle.is_empty(),
            (Isolation::Rollback(_), Use::Allowed) | (Isolation::Fresh { .. } | Isolation::Reuse, _) => false,
        };
        if left_alone {
            return Taken::Nothing(GenericReason::ControlRolledBack);
        }
        self.idle.take().map_or(Taken::Nothing(GenericReason::NoImage), Taken::Vm)
    }

    /// A VM that waits to be put back, and now is, if that is allowed where `none_kept` is why there is no other.
    async fn put_back_now(&self, none_kept: GenericReason) -> Option<Box<Vm>> {
        let Isolation::Rollback(rollback) = &self.isolation else { return None };
        if none_kept != GenericReason::NoImage || rollback.is_refused() {
            return None;
        }
        let (mut vm, serve_path) = self.used.take_any()?;
        if serve_path == ServePath::Generic(GenericReason::ControlRolledBack) {
            rollback.discarded(VmDiscard::Surplus);
            return None;
        }
        rollback.roll_back(&mut vm, &self.template, &self.linked).await.ok().map(|()| vm)
    }

    /// When and by whom the VM of a request that comes now should be put back or freed.
    fn put_back_how(&self) -> PutBack {
        match self.isolation {
            Isolation::Fresh { .. } | Isolation::Rollback(_) => self.pace.called(Instant::now(), turns::has_room()),
            Isolation::Reuse => PutBack::Here,
        }
    }

    /// Whether VMs could be put back, and must not be.
    fn no_rollback(&self) -> bool {
        match self.isolation {
            Isolation::Rollback(_) => self.trust_rolled_back.is_withdrawn(),
            Isolation::Fresh { .. } | Isolation::Reuse => false,
        }
    }

    /// A new VM that nobody waits for.
    async fn make_ahead(&self, deadline: Instant) -> Result<Box<Vm>, InvokeError> {
        if let Some(vm) = self.isolation.warm_vm(&self.template, &self.linked).await {
            return Ok(vm);
        }
        let made = self.template.vm(&self.linked, deadline).await;
        let mut vm = made.map(Box::new).map_err(|error| {
            let Failure { outcome, detail } = Failure::of_instantiation(&error);
            InvokeError { outcome, detail }
        })?;
        self.isolation.populate(&mut vm).await;
        Ok(vm)
    }

    /// A new VM, for which idle ones make room if need be.
    pub(super) async fn make(&self, deadline: Instant) -> Result<Box<Vm>, Failure> {
        let mut made = self.template.vm(&self.linked, deadline).await;
        if made.as_ref().is_err_and(|error| error.is::<PoolConcurrencyLimitError>())
            && self.programs.give_up_half(VmDiscard::PlaceNeeded) > 0
        {
            made = self.template.vm(&self.linked, deadline).await;
        }
        let mut vm = made.map(Box::new).map_err(|error| Failure::of_instantiation(&error))?;
        self.isolation.populate(&mut vm).await;
        Ok(vm)
    }

    /// Who makes the best of a VM whose request has ended well, where `wanted` is what the function's calls speak for.
    pub(super) fn keeper(self: &Arc<Self>, vm: &Vm, wanted: PutBack, runtime: &Handle) -> Keeper {
        let Isolation::Rollback(_) = self.isolation else {
            return if matches!(self.isolation, Isolation::Reuse) { Keeper::Writer } else { Keeper::Task };
        };
        // The first time takes longer.
        let Some(point) = &vm.point else { return Keeper::Task };
        let is_long = point.restored_bytes >= ASIDE_BYTES_MIN;
        if wanted != PutBack::Aside || !is_long || !turns::has_room() {
            return Keeper::Writer;
        }
        if !self.idle.is_empty() {
            return Keeper::Aside;
        }
        // The next request would not wait for this VM, but for one that must be made first.
        if self.aside.is_done() {
            // Done without it if there is no thread: then nothing is put back there either.
            let _ = self.aside.leave(Box::pin(Arc::clone(self).make_spare()), runtime.clone());
        }
        Keeper::Writer
    }

    /// A second VM, for requests to take while the first is put back. It is retired like any other when they do not.
    async fn make_spare(self: Arc<Self>) {
        if let Ok(vm) = self.make_ahead(Instant::now() + MAKE_TIME_MAX).await
            && !self.idle.put(vm, Instant::now())
        {
            self.isolation.discarded(VmDiscard::Surplus);
        }
    }

    /// Makes the best of a VM whose request has ended well, after a moment.
    pub(super) fn keep_later(
        self: Arc<Self>,
        vm: Box<Vm>,
        serve_path: ServePath,
        put_off: Duration,
    ) -> impl Future<Output = ()> {
        // Requests find it from now on, whenever the future is polled.
        let ticket = self.used.add(vm, serve_path);
        async move {
            if !put_off.is_zero() {
                tokio::time::sleep(put_off).await;
            }
            // A request may have needed it.
            if let Some((vm, serve_path)) = self.used.take(ticket) {
                self.keep(vm, serve_path).await;
            }
        }
    }

    /// Makes the best of a VM whose request has ended well.
    pub(super) async fn keep(&self, mut vm: Box<Vm>, serve_path: ServePath) {
        // One VM more for each request of the control group would be many before long.
        if serve_path == ServePath::Generic(GenericReason::ControlRolledBack) || self.no_rollback() {
            self.isolation.discarded(VmDiscard::Surplus);
            return;
        }
        match &self.isolation {
            Isolation::Fresh { habit, .. } => {
                if let Some(habit) = habit {
                    habit.note_growth(&vm);
                    habit.note(&mut vm).await;
                }
            }
            Isolation::Reuse => {
                self.idle.put(vm, Instant::now());
            }
            // It has turned out that its VMs are not put back.
            Isolation::Rollback(rollback) if rollback.is_refused() => rollback.fresh.note(&mut vm).await,
            Isolation::Rollback(rollback) => {
                let next = match rollback.keep(vm, &self.template, &self.linked).await {
                    Ok(next) => Some(next),
                    // Nothing is wrong with such a VM, and there will be a next request. That one shall not wait for a new
                    // VM: it would be one in a hundred where a runtime keeps handles.
                    Err(VmDiscard::WornOut | VmDiscard::StaleHandles) => {
                        self.make_ahead(Instant::now() + MAKE_TIME_MAX).await.ok()
                    }
                    Err(_) => None,
                };
                if let Some(next) = next
                    && !self.idle.put(next, Instant::now())
                {
                    rollback.discarded(VmDiscard::Surplus);
                }
            }
        }
    }

    /// Retires VMs that have been idle for too long.
    pub(super) fn sweep(&self, now: Instant) {
        for _ in 0..self.idle.sweep(now) {
            self.isolation.discarded(VmDiscard::Surplus);
        }
    }

    /// Gives up half of the idle VMs; says how many.
    fn give_up_half(&self, why: VmDiscard) -> usize {
        let given_up = self.idle.give_up_half();
        for _ in 0..given_up {
            self.isolation.discarded(why);
        }
        given_up
    }
}

/// All programs of a driver that still exist.
#[derive(Clone, Default)]
pub(super) struct Programs(Arc<Mutex<Vec<Weak<WasmProgram>>>>);

impl Programs {
    pub(super) fn add(&self, program: &Arc<WasmProgram>) {
        let mut programs = self.0.lock();
        programs.retain(|program| program.strong_count() > 0);
        programs.push(Arc::downgrade(program));
    }

    /// Retires idle VMs of all programs.
    pub(super) fn sweep(&self, now: Instant) {
        for program in self.alive() {
            program.sweep(now);
        }
    }

    /// Retires those VMs that have been idle for longest, until the others hold no more than `bytes_max`.
    pub(super) fn keep_within(&self, bytes_max: u64) {
        let programs = self.alive();
        let idle = programs.iter().flat_map(|program| program.idle.each()).collect();
        let Some(cutoff) = too_old(idle, bytes_max) else { return };
        for program in programs {
            for _ in 0..program.idle.retire_until(cutoff) {
                program.isolation.discarded(VmDiscard::IdleMemory);
            }
        }
    }

    /// Every program gives up half of its idle VMs, for `why`. Says how many.
    pub(super) fn give_up_half(&self, why: VmDiscard) -> usize {
        self.alive().iter().map(|program| program.give_up_half(why)).sum()
    }

    fn alive(&self) -> Vec<Arc<WasmProgram>> {
        self.0.lock().iter().filter_map(Weak::upgrade).collect()
    }
}

/// Of VMs that are idle since then and hold so much: since when the newest is idle that has no room in `bytes_max` with all newer
/// ones. Nothing if there is room for all.
fn too_old(mut idle: Vec<(Instant, u64)>, bytes_max: u64) -> Option<Instant> {
    idle.sort_unstable_by_key(|(since, _)| std::cmp::Reverse(*since));
    let mut held = 0_u64;
    let first_without_room = idle.into_iter().find(|(_, bytes)| {
        held = held.saturating_add(*bytes);
        held > bytes_max
    });
    first_without_room.map(|(since, _)| since)
}

pub(super) fn refuse(end: EndHook, failure: Failure, deploy: Duration) -> InvokeError {
    end.finish(InvocationEnd {
        outcome: failure.outcome,
        detail: failure.detail.clone(),
        serve_path: ServePath::Generic(GenericReason::NoImage),
        deploy,
        busy: deploy,
        waited_for_calls: Duration::ZERO,
        cpu: None,
        memory_bytes_peak: 0,
    });
    InvokeError { outcome: failure.outcome, detail: failure.detail }
}

/// `wasi:http` wants an authority; HTTP/1.0 requests may come without.
fn with_authority(mut request: Request<Body>) -> Request<Body> {
    if request.uri().authority().is_none() && !request.headers().contains_key(header::HOST) {
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("localhost"));
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_idle_for_longest_have_no_room() {
        let start = Instant::now();
        let at = |second: u64| start + Duration::from_secs(second);
        let idle = || vec![(at(3), 10), (at(1), 10), (at(2), 10)];
        let cutoffs = [0, 9, 10, 29, 30].map(|bytes_max| too_old(idle(), bytes_max));
        assert_eq!(cutoffs, [Some(at(3)), Some(at(3)), Some(at(2)), Some(at(1)), None]);
        assert_eq!(too_old(Vec::new(), 0), None);
    }
}
