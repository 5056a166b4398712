//! Making programs from revisions, and calling them.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use forerun_types::{
    ComponentDigest, FunctionSpec, NoCopy, NoRoom, RevisionNumber, RollbackRefusal, VmDiscard, WarmRefusal,
};
use http::Request;

use crate::{AuthenticImage, Body, Host, Invocation, InvokeError, Reply, SampleHook};

/// A future behind a pointer, so that contracts can be trait objects.
pub type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send + 'static>>;

/// One kind of VM.
pub trait Driver: Send + Sync + 'static {
    /// The kind, for display: `wasm`.
    fn kind(&self) -> &'static str;

    /// Checks and prepares a revision. Blocks for as long as a compiler needs: never call it on the request path.
    ///
    /// # Errors
    /// Every way in which `source` is not a program this driver can run, by name.
    fn load(&self, request: LoadRequest<'_>) -> Result<Arc<dyn Program>, LoadError>;

    /// Memory is short: gives up half of the VMs of each program that have served and wait for another request. Says how
    /// many. A driver that keeps none has nothing to give.
    fn give_back_memory(&self) -> usize {
        0
    }
}

/// A revision ready to be called.
pub trait Program: Send + Sync + 'static {
    /// Answers one request. The future ends when the head of the answer is there; the rest of the
    /// guest's work happens while the body is polled. Dropping the future or the body stops the guest.
    fn invoke(self: Arc<Self>, invocation: Invocation, request: Request<Body>)
    -> BoxFuture<Result<Reply, InvokeError>>;

    /// Answers one request as [`Self::invoke`] does and gives `sample` what the program's own instrumentation noted of
    /// it, once the VM has done everything for the request and outside of its latency. A program without
    /// instrumentation, and a request that fails, gives nothing. `is_warm`: whether requests that are not sampled find the
    /// state after the function's warm-up requests, which has passed its test; only then may this one.
    fn invoke_sampled(
        self: Arc<Self>,
        invocation: Invocation,
        request: Request<Body>,
        _is_warm: bool,
        _sample: SampleHook,
    ) -> BoxFuture<Result<Reply, InvokeError>> {
        self.invoke(invocation, request)
    }

    /// What is known of the program from loading it.
    fn facts(&self) -> &ProgramFacts;

    /// The program that this one stands in front of and whose VMs it uses, if it has none of its own: what follows is
    /// that one's.
    fn behind(&self) -> Option<&Arc<dyn Program>> {
        None
    }

    /// Holds VMs ready for requests that are expected: makes what is missing, frees what is too much, and returns
    /// when that is done. Never called on the request path. A program that has nothing to hold ready does nothing.
    fn hold_ready(self: Arc<Self>, vms: u32) -> BoxFuture<Result<(), InvokeError>> {
        match self.behind() {
            Some(program) => Arc::clone(program).hold_ready(vms),
            None => Box::pin(std::future::ready(Ok(()))),
        }
    }

    /// Says how far VMs prepared ahead of their request may be used, from now on. Takes effect at once. A program that
    /// prepares none has nothing to do.
    fn trust(&self, trusts: Trusts) {
        if let Some(program) = self.behind() {
            program.trust(trusts);
        }
    }

    /// What becomes of its VMs when they have served. A program without VMs has nothing to say.
    fn isolation(&self) -> IsolationReport {
        self.behind().map(|program| program.isolation()).unwrap_or_default()
    }

    /// What is held ready at the moment.
    fn held_ready(&self) -> HeldReady {
        self.behind().map(|program| program.held_ready()).unwrap_or_default()
    }
}

/// How far VMs that were prepared ahead of their request may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Trust {
    /// For every request: nobody compares them with anything.
    #[default]
    Full,
    /// For all but one request in so many, which is served by standard initialization though there is one.
    Compared {
        /// At least 2.
        control_one_in: u32,
    },
    /// For none: they turned out to serve worse.
    Withdrawn,
    /// For none: the operator has switched it off.
    SwitchedOff,
}

/// The same for each way of preparing them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Trusts {
    /// VMs made before their request came.
    pub ready: Trust,
    /// VMs put back after an earlier request.
    pub rolled_back: Trust,
    /// New VMs that begin with a copy of the warm state.
    pub specialized: Trust,
}

/// What becomes of a program's VMs when they have served, for display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IsolationReport {
    /// What is done: `fresh`, `rollback`, `warm` or `reuse`; empty if there are no VMs.
    pub policy: &'static str,
    /// Why VMs are not rolled back though the function's policy asks for it.
    pub refusal: Option<RollbackRefusal>,
    /// Why VMs are not rolled back to the warm state though the function's policy asks for it.
    pub not_warm: Option<WarmRefusal>,
    /// Why new VMs get into the warm state by answering the warm-up requests, and not by a copy of it.
    pub no_copy: Option<NoCopy>,
    /// VMs into which the warm state was copied since the program was loaded.
    pub warm_copies: u64,
    /// Room that is made in the memory of new VMs so that requests need not have it grow, in bytes.
    pub room_bytes: u32,
    /// Why that is no more though it would be of use.
    pub no_room: Option<NoRoom>,
    /// Memory that a VM made ready has for itself before its request comes, in bytes: pages that requests usually write.
    pub resident_bytes: u64,
    /// VMs that have served and wait for another request.
    pub idle_vms: u32,
    /// Memory they hold for themselves, in bytes: what they share with the image file does not count.
    pub idle_bytes: u64,
    /// VMs put back since the program was loaded.
    pub rolled_back: u64,
    /// Memory that was restored for that, in bytes.
    pub restored_bytes: u64,
    /// VMs thrown away instead, by reason; reasons that did not occur are left out.
    pub discarded: Vec<(VmDiscard, u64)>,
}

/// VMs that wait for requests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldReady {
    /// How many there are.
    pub vms: u32,
    /// Linear memory they hold, in bytes.
    pub memory_bytes: u64,
    /// Time it took to make the last of them, in microseconds; 0 if none was made.
    pub make_us: u64,
}

/// A revision to be loaded.
pub struct LoadRequest<'a> {
    /// Everything the user asked for.
    pub spec: &'a FunctionSpec,
    /// Which revision this is.
    pub revision: RevisionNumber,
    /// Digest of `source`.
    pub digest: ComponentDigest,
    /// The component's bytes.
    pub source: &'a [u8],
    /// What the program may use of the node.
    pub host: Host,
    /// Machine code of `source`, if there is some; without it, `load` compiles.
    pub image: Option<AuthenticImage>,
}

/// What is known of a program from loading it, for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramFacts {
    /// The world it implements: `wasi:http/proxy@0.2` or `wasi:http/service@0.3`.
    pub world: String,
    /// Time the compiler needed, in milliseconds; 0 if the machine code came from an image.
    pub compile_ms: u64,
    /// Size of the machine code and its data, in bytes.
    pub code_bytes: u64,
}

/// Why a source is no program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The magic number is missing.
    #[error("this is not a WebAssembly file: it does not start with the bytes `\\0asm`")]
    NotWasm,
    /// A core module instead of a component.
    #[error(
        "this is a core WebAssembly module, not a component; build for wasm32-wasip2 or wrap it with `wasm-tools component new`"
    )]
    CoreModule,
    /// Broken or cut off.
    #[error("the component is malformed or cut off: {detail}")]
    Malformed {
        /// What the validator found.
        detail: String,
    },
    /// Larger than a node accepts.
    #[error("the component has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Size found, in bytes.
        bytes: usize,
        /// Size accepted, in bytes.
        max: usize,
    },
    /// It exports no HTTP handler.
    #[error(
        "the component exports no wasi:http handler (wasi:http/incoming-handler@0.2 or wasi:http/handler@0.3); it exports: {exports}"
    )]
    WrongWorld {
        /// Its exports, comma-separated, or `nothing`.
        exports: String,
    },
    /// It imports something that this node does not offer.
    #[error("the component imports `{import}`, which this node does not offer: {detail}")]
    UnknownImport {
        /// The import.
        import: String,
        /// What the linker said.
        detail: String,
    },
    /// It needs more of something than a VM may have.
    #[error("the component needs more than a VM may have: {detail}")]
    OverLimits {
        /// Which resource.
        detail: String,
    },
    /// None of the processors that its function names is there.
    #[error("none of the processors {cpus:?} of `limits.cpus` can be used on this machine")]
    NoProcessor {
        /// Those that it names.
        cpus: Vec<u16>,
    },
    /// A first VM of it could not be made: a start function failed or did not end.
    #[error("the component does not start: {detail}")]
    DoesNotStart {
        /// What happened.
        detail: String,
    },
    /// The machine code is for another engine or machine, or not for this component.
    #[error("the image cannot be used: {detail}")]
    ForeignImage {
        /// What the engine said.
        detail: String,
    },
    /// The compiler gave up.
    #[error("compilation failed: {detail}")]
    Compile {
        /// What it said.
        detail: String,
    },
}
