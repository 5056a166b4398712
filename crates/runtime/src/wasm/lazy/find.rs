//! From a VM's store to the core instance that cold code belongs to.
//!
//! wasmtime gives no handle on a core instance inside a component. There are two ways to one:
//!
//! - **A trap** ([`ProbeTrap`], used here): with core dumps switched on, a trap in any instance of a store comes with
//!   handles on all of them. It needs nothing but the published engine. It takes some tens of microseconds, and the
//!   engine lets nobody enter a component in that store again: the call in progress ends as usual, but the VM is good
//!   for this request only.
//! - **A patch** of the engine, one public method: under a microsecond, and the VM can be used again. It would have to
//!   be carried over to every security release.
//!
//! A VM serves one request as a rule, a miss is rare, and the patch would be for ever. So it is the first way, behind
//! a trait that the second fits as well.

use std::pin::Pin;

use wasmtime::{AsContextMut, Engine, Extern, Instance, Module, StoreContextMut, WasmCoreDump};

use super::failure::LazyFailure;
use crate::wasm::vm::VmState;

/// Name under which the primary of a split component exports its table of cold functions.
const COLD_TABLE: &str = "__cold";

/// `(module (func unreachable) (start 0))`
const PROBE: &[u8] = &[
    0, b'a', b's', b'm', 1, 0, 0, 0, // header
    1, 4, 1, 0x60, 0, 0, // one type: no parameters, no results
    3, 2, 1, 0, // one function of it
    8, 1, 0, // which is the start
    10, 5, 1, 3, 0, 0x00, 0x0b, // unreachable, end
];

pub(super) type Finding<'a> = Pin<Box<dyn Future<Output = Result<Instance, LazyFailure>> + Send + 'a>>;

/// A way to the instance with the table of cold functions.
pub(in crate::wasm) trait FindInstance: Send + Sync {
    /// Whether a store in which it was used may be entered again.
    fn spends_store(&self) -> bool;

    /// Finds it, while the guest waits in a call to the host.
    fn find<'a>(&'a self, store: StoreContextMut<'a, VmState>) -> Finding<'a>;
}

/// Finds it by a trap.
pub(in crate::wasm) struct ProbeTrap {
    probe: Module,
}

impl ProbeTrap {
    /// Compiles the module that traps.
    pub(in crate::wasm) fn new(engine: &Engine) -> wasmtime::Result<Self> {
        Ok(Self { probe: Module::from_binary(engine, PROBE)? })
    }
}

impl FindInstance for ProbeTrap {
    fn spends_store(&self) -> bool {
        true
    }

    fn find<'a>(&'a self, mut store: StoreContextMut<'a, VmState>) -> Finding<'a> {
        Box::pin(async move {
            let no_primary = |detail: &str| LazyFailure::NoPrimary(detail.to_owned());
            let Err(trap) = Instance::new_async(store.as_context_mut(), &self.probe, &[]).await else {
                return Err(no_primary("the probe did not trap"));
            };
            let Some(dump) = trap.downcast_ref::<WasmCoreDump>() else {
                return Err(LazyFailure::NoPrimary(format!("{:#}", trap)));
            };
            let mut found = None;
            for instance in dump.instances() {
                if let Some(Extern::Table(_)) = instance.get_export(&mut store, COLD_TABLE)
                    && found.replace(*instance).is_some()
                {
                    return Err(no_primary("more than one instance has the table of cold functions"));
                }
            }
            found.ok_or_else(|| no_primary("no instance has the table of cold functions"))
        })
    }
}
