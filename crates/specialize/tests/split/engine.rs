//! A small host: runs one call of a component, whole or split, and tells all that can be seen of it.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use forerun_specialize::passes::split::{ASKING, COLD_TABLE, PRIMARY, Split};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, Linker, Type, Val};
use wasmtime::{
    AsContextMut, CallHook, Config, Engine, Extern, Instance, Module, ResourceLimiter, Store, StoreContextMut, Trap,
    WasmCoreDump,
};

/// One engine for all tests.
pub(crate) static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    let mut config = Config::new();
    config.coredump_on_trap(true);
    // Two compilations of one body may differ in what a NaN looks like.
    config.cranelift_nan_canonicalization(true);
    config.cranelift_opt_level(wasmtime::OptLevel::None);
    Engine::new(&config).unwrap()
});

/// `(module (func unreachable) (start 0))`: the trap's core dump has the instances of the store.
static PROBE: LazyLock<Module> = LazyLock::new(|| {
    let sections = [&[1, 4, 1, 0x60, 0, 0][..], &[3, 2, 1, 0], &[8, 1, 0], &[10, 5, 1, 3, 0, 0x00, 0x0b]].concat();
    Module::from_binary(&ENGINE, &[b"\0asm\x01\0\0\0", &sections[..]].concat()).unwrap()
});

/// What the host knows of a run.
#[derive(Default)]
pub(crate) struct Host {
    /// Numbers that the guest logged.
    log: Vec<u64>,
    groups: Groups,
    /// Slots and positions that were missed.
    pub(crate) misses: Vec<u32>,
    /// What the guest has asked for.
    asked: Option<u32>,
}

impl ResourceLimiter for Host {
    fn memory_growing(&mut self, _: usize, _: usize, _: Option<usize>) -> wasmtime::Result<bool> {
        Ok(true)
    }

    /// A split component lets its table grow, which is full, by the slot that it means.
    fn table_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let asked = (desired - current).checked_sub(ASKING as usize);
        if maximum == Some(current) && current == self.groups.slots {
            self.asked = asked.map(|slot| u32::try_from(slot).unwrap());
        }
        Ok(self.asked.is_none())
    }
}

/// The modules of a split, by the slots and positions that they fill.
#[derive(Default, Clone)]
struct Groups {
    modules: Vec<Module>,
    of_slot: BTreeMap<u32, usize>,
    slots: usize,
}

impl Groups {
    fn of(split: &Split) -> Self {
        let mut groups = Self { slots: split.report.slots as usize, ..Self::default() };
        for (number, group) in split.groups.iter().enumerate() {
            groups.modules.push(Module::new(&ENGINE, &group.module).unwrap());
            let slots = group.first_slot..group.first_slot + u32::try_from(group.entries.len()).unwrap();
            let positions = group.positions.iter().map(|position| split.report.slots + position);
            for slot in slots.chain(positions) {
                assert_eq!(groups.of_slot.insert(slot, number), None, "{slot} is filled twice");
            }
        }
        groups
    }

    fn of_slot(&self, slot: u32) -> &Module {
        &self.modules[self.of_slot[&slot]]
    }
}

/// All that can be seen of one call.
#[derive(Debug, PartialEq)]
pub(crate) struct Seen {
    /// What the call gave, or how it trapped.
    pub(crate) result: Result<String, String>,
    pub(crate) log: Vec<u64>,
    /// Memories and globals that the largest module exports, afterwards.
    pub(crate) state: BTreeMap<String, String>,
}

/// A component that can be run.
pub(crate) struct Runnable {
    component: Component,
    groups: Groups,
    /// The original names of the main module's exports.
    exports: Vec<String>,
}

impl Runnable {
    /// Compiles a component as it is. `exports` are the names of the main module's exports.
    pub(crate) fn whole(bytes: &[u8], exports: &[String]) -> Self {
        Self {
            component: Component::new(&ENGINE, bytes).unwrap(),
            groups: Groups::default(),
            exports: exports.to_vec(),
        }
    }

    pub(crate) fn split(split: &Split, exports: &[String]) -> Self {
        Self {
            component: Component::new(&ENGINE, &split.primary).unwrap(),
            groups: Groups::of(split),
            exports: exports.to_vec(),
        }
    }

    /// Names of exported functions.
    pub(crate) fn functions(&self) -> Vec<String> {
        let ty = self.component.component_type();
        let functions = ty.exports(&ENGINE).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        functions.map(|(name, _)| name.to_owned()).collect()
    }

    /// The types of a function's parameters.
    pub(crate) fn parameters(&self, function: &str) -> Vec<Type> {
        let ty = self.component.component_type();
        match ty.get_export(&ENGINE, function).unwrap().ty {
            ComponentItem::ComponentFunc(function) => function.params().map(|(_, ty)| ty).collect(),
            other => panic!("{other:?} is no function"),
        }
    }

    /// A store with nothing in it but the groups.
    pub(crate) fn store(&self) -> Store<Host> {
        let mut store = Store::new(&ENGINE, Host { groups: self.groups.clone(), ..Host::default() });
        store.limiter(|host| host);
        store.call_hook(|mut context, call| match (call, context.data_mut().asked) {
            (CallHook::ReturningFromHost, Some(slot)) => load(&mut context, slot),
            _ => Ok(()),
        });
        store
    }

    pub(crate) fn instantiate(&self, store: &mut Store<Host>) -> wasmtime::Result<wasmtime::component::Instance> {
        linker().instantiate(store, &self.component)
    }

    /// Makes an instance and calls one function; the slots that were missed come with what was seen.
    pub(crate) fn call(&self, function: &str, arguments: &[Val]) -> (Seen, Vec<u32>) {
        let mut store = self.store();
        let result = self.try_call(&mut store, function, arguments).map_err(|error| describe(&error));
        let state = self.state(&mut store);
        let mut host = store.into_data();
        (Seen { result, log: std::mem::take(&mut host.log), state }, host.misses)
    }

    pub(crate) fn try_call(
        &self,
        store: &mut Store<Host>,
        function: &str,
        arguments: &[Val],
    ) -> wasmtime::Result<String> {
        let instance = self.instantiate(store)?;
        let function = instance.get_func(&mut *store, function).unwrap();
        let mut results = vec![Val::Bool(false); function.ty(&*store).results().len()];
        function.call(&mut *store, arguments, &mut results)?;
        Ok(format!("{results:?}"))
    }

    /// Looks into the instance that exports what the main module does.
    pub(crate) fn state(&self, store: &mut Store<Host>) -> BTreeMap<String, String> {
        let mut state = BTreeMap::new();
        for instance in instances(&mut *store) {
            let has = |store: &mut Store<Host>, name: &String| instance.get_export(store, name).is_some();
            if !self.exports.iter().all(|name| has(store, name)) {
                continue;
            }
            for name in &self.exports {
                match instance.get_export(&mut *store, name) {
                    Some(Extern::Memory(memory)) => {
                        let mut hash = blake3::Hasher::new();
                        hash.update(memory.data(&*store));
                        state.insert(name.clone(), format!("{} {}", memory.size(&*store), hash.finalize()));
                    }
                    Some(Extern::Global(global)) => {
                        let value = match global.get(&mut *store) {
                            wasmtime::Val::FuncRef(function) => format!("a function: {}", function.is_some()),
                            value => format!("{value:?}"),
                        };
                        state.insert(name.clone(), value);
                    }
                    Some(Extern::Table(table)) => {
                        state.insert(name.clone(), table.size(&*store).to_string());
                    }
                    _ => {}
                }
            }
        }
        state
    }
}

/// How a call ended, without the names and places of functions, which a split changes.
fn describe(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    }
}

fn linker() -> Linker<Host> {
    let mut linker = Linker::new(&ENGINE);
    let mut host = linker.instance("test:host/host").unwrap();
    host.func_wrap("log", |mut store: StoreContextMut<'_, Host>, (value,): (u64,)| {
        store.data_mut().log.push(value);
        Ok(())
    })
    .unwrap();
    linker
}

/// The loader, as plain as it can be.
fn load(store: &mut StoreContextMut<'_, Host>, slot: u32) -> wasmtime::Result<()> {
    store.data_mut().asked = None;
    store.data_mut().misses.push(slot);
    let module = store.data().groups.of_slot(slot).clone();
    let primary = instances(&mut *store).into_iter().find(|i| i.get_export(&mut *store, COLD_TABLE).is_some());
    let primary = primary.expect("the table is there");
    let imports: Vec<Extern> = module
        .imports()
        .map(|import| {
            assert_eq!(import.module(), PRIMARY);
            primary.get_export(&mut *store, import.name()).expect("everything that a group imports is exported")
        })
        .collect();
    Instance::new(store, &module, &imports).map(drop)
}

fn instances(mut store: impl AsContextMut) -> Vec<Instance> {
    let error = Instance::new(&mut store, &PROBE, &[]).expect_err("the probe traps");
    error.downcast_ref::<WasmCoreDump>().expect("core dumps are switched on").instances().to_vec()
}
