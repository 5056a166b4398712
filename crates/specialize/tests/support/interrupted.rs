//! A VM whose host is asked by the checks of the pass `interrupt`, on an engine without epochs.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use forerun_specialize::passes::interrupt::{FLAG, GROWTH_PAGES, INTERRUPT_INTERFACE};
use tokio::runtime::Runtime;
use wasmtime::component::{Component, ComponentNamedList, Func, Instance, Lift, Linker, Lower, WasmList};
use wasmtime::{Config, Engine, ResourceLimiterAsync, Result, Store};

const PAGE_BYTES: usize = 1 << 16;

/// What the host does when a check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Ends the call.
    Stop,
    /// Lets others run, then goes on.
    Yield,
    /// Ends the call when it was asked so often.
    StopAfter(u64),
}

/// The limiter.
struct Host {
    times: u64,
    asked: Asked,
}

/// A component instance in a store of its own.
pub(crate) struct Interrupted {
    store: Store<Host>,
    instance: Instance,
    runtime: Runtime,
}

#[async_trait::async_trait]
impl ResourceLimiterAsync for Host {
    async fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        let growth = GROWTH_PAGES as usize * PAGE_BYTES;
        if (current, desired, maximum) != (PAGE_BYTES, PAGE_BYTES + growth, Some(PAGE_BYTES)) {
            return Ok(true);
        }
        self.times += 1;
        let stops = match self.asked {
            Asked::Stop => true,
            Asked::Yield => false,
            Asked::StopAfter(times) => self.times >= times,
        };
        if stops {
            return Err(wasmtime::Error::msg("stopped by its host"));
        }
        tokio::task::yield_now().await;
        Ok(false)
    }

    async fn table_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> Result<bool> {
        Ok(true)
    }
}

impl Interrupted {
    pub(crate) fn new(component: &[u8], asked: Asked) -> Self {
        Self::started(component, asked).unwrap()
    }

    /// The error of a component whose start function is stopped.
    pub(crate) fn started(component: &[u8], asked: Asked) -> Result<Self> {
        let mut config = Config::new();
        config.wasm_branch_hinting(true);
        config.cranelift_opt_level(wasmtime::OptLevel::None);
        let engine = Engine::new(&config).unwrap();
        let component = Component::new(&engine, component).unwrap();
        let mut store = Store::new(&engine, Host { times: 0, asked });
        store.limiter_async(|host| host);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let linker = Linker::new(&engine);
        let instance = runtime.block_on(linker.instantiate_async(&mut store, &component))?;
        Ok(Self { store, instance, runtime })
    }

    /// How often checks asked.
    pub(crate) fn times(&self) -> u64 {
        self.store.data().times
    }

    /// Calls a function that the component exports at its top level.
    pub(crate) fn call<P, R>(&mut self, name: &str, parameters: P) -> Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let function = self.instance.get_func(&mut self.store, name).expect("it is exported");
        self.call_function(function, parameters)
    }

    /// Calls a top-level function without parameters that gives one number.
    pub(crate) fn number(&mut self, name: &str) -> Result<u32> {
        self.call::<(), (u32,)>(name, ()).map(|(number,)| number)
    }

    /// The flag of that number, and where it is in this process.
    pub(crate) fn flag(&mut self, number: usize) -> (u8, u64) {
        let interface = self.instance.get_export_index(&mut self.store, None, INTERRUPT_INTERFACE).unwrap();
        let name = format!("{FLAG}{number}");
        let index = self.instance.get_export_index(&mut self.store, Some(&interface), &name).unwrap();
        let function = self.instance.get_func(&mut self.store, index).unwrap();
        let (list,) = self.call_function::<(), (WasmList<u8>,)>(function, ()).unwrap();
        let [flag] = list.as_le_slice(&self.store) else { panic!("it is one byte") };
        (*flag, std::ptr::from_ref(flag).addr() as u64)
    }

    /// Writes the flag at its place, as a host does.
    pub(crate) fn set_flag(&mut self, number: usize, value: u8) {
        let (_, address) = self.flag(number);
        // Safe code has no other way to another's memory.
        let memory = OpenOptions::new().write(true).open("/proc/self/mem").unwrap();
        memory.write_all_at(&[value], address).unwrap();
    }

    fn call_function<P, R>(&mut self, function: Func, parameters: P) -> Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let typed = function.typed::<P, R>(&self.store)?;
        self.runtime.block_on(typed.call_async(&mut self.store, parameters))
    }
}
