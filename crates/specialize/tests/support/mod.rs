//! Components for the tests of the passes, and a VM to run them in: the real engine, without a host behind it.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub(crate) mod generated;
pub(crate) mod interrupted;

use wasmtime::component::{Component, ComponentNamedList, Func, Instance, Lift, Linker, Lower, Resource, ResourceType};
use wasmtime::{Config, Engine, Store};

/// A component instance in a store of its own.
pub(crate) struct Vm {
    /// What the host was told: see [`Vm::logging`].
    pub(crate) store: Store<Vec<u32>>,
    pub(crate) instance: Instance,
}

/// The component that `text` describes.
pub(crate) fn component(text: &str) -> Vec<u8> {
    wat::parse_str(text).expect("the test's own text is right")
}

/// An engine as small as it goes: machine code of tests runs once.
pub(crate) fn engine() -> Engine {
    let mut config = Config::new();
    config.cranelift_opt_level(wasmtime::OptLevel::None);
    Engine::new(&config).unwrap()
}

impl Vm {
    pub(crate) fn new(engine: &Engine, component: &[u8]) -> Self {
        Self::started(engine, component).unwrap()
    }

    /// The error of a component whose start function traps.
    pub(crate) fn started(engine: &Engine, component: &[u8]) -> wasmtime::Result<Self> {
        Self::linked(engine, component, &Linker::new(engine))
    }

    /// A VM whose component imports `log: func(number: u32)`; the store keeps the numbers.
    pub(crate) fn logging(engine: &Engine, component: &[u8]) -> Self {
        let mut linker = Linker::new(engine);
        let log = |mut store: wasmtime::StoreContextMut<'_, Vec<u32>>, (number,): (u32,)| {
            store.data_mut().push(number);
            Ok(())
        };
        linker.root().func_wrap("log", log).unwrap();
        Self::linked(engine, component, &linker).unwrap()
    }

    /// A VM whose component imports `wasi:cli/stdout`. Streams are in the host's places 100, 101, ...; the store keeps those
    /// that were let go.
    pub(crate) fn with_stdout(engine: &Engine, component: &[u8]) -> Self {
        struct OutputStream;
        let mut linker = Linker::new(engine);
        let mut stdout = linker.instance("wasi:cli/stdout@0.2.6").unwrap();
        let let_go = |mut store: wasmtime::StoreContextMut<'_, Vec<u32>>, place: u32| {
            store.data_mut().push(place);
            Ok(())
        };
        stdout.resource("output-stream", ResourceType::host::<OutputStream>(), let_go).unwrap();
        let next = std::sync::atomic::AtomicU32::new(100);
        let open = move |_: wasmtime::StoreContextMut<'_, Vec<u32>>, (): ()| {
            let place = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok((Resource::<OutputStream>::new_own(place),))
        };
        stdout.func_wrap("get-stdout", open).unwrap();
        Self::linked(engine, component, &linker).unwrap()
    }

    fn linked(engine: &Engine, component: &[u8], linker: &Linker<Vec<u32>>) -> wasmtime::Result<Self> {
        let component = Component::new(engine, component).unwrap();
        let mut store = Store::new(engine, Vec::new());
        let instance = linker.instantiate(&mut store, &component)?;
        Ok(Self { store, instance })
    }

    /// A function that the component exports at its top level.
    pub(crate) fn top(&mut self, name: &str) -> Func {
        self.instance.get_func(&mut self.store, name).unwrap_or_else(|| panic!("no export `{name}`"))
    }

    /// A function of an exported instance.
    pub(crate) fn of(&mut self, instance: &str, name: &str) -> Func {
        let instance =
            self.instance.get_export_index(&mut self.store, None, instance).expect("the instance is exported");
        let index =
            self.instance.get_export_index(&mut self.store, Some(&instance), name).expect("it has the function");
        self.instance.get_func(&mut self.store, index).expect("it is a function")
    }

    /// Calls a function whose types are known here.
    pub(crate) fn call<P, R>(&mut self, function: Func, parameters: P) -> wasmtime::Result<R>
    where
        P: ComponentNamedList + Lower + Send + Sync,
        R: ComponentNamedList + Lift + Send + Sync + 'static,
    {
        let typed = function.typed::<P, R>(&self.store)?;
        typed.call(&mut self.store, parameters)
    }

    /// Calls a top-level function without parameters that gives one number.
    pub(crate) fn number(&mut self, name: &str) -> wasmtime::Result<u32> {
        let function = self.top(name);
        self.call::<(), (u32,)>(function, ()).map(|(number,)| number)
    }
}
